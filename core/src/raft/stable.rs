//! What must be on stable storage, and how much of it is.
//!
//! Writes are pipelined: several may be open at once, and the log may be truncated and rewritten while older writes are
//! still on their way. So each open write remembers up to where the log **as it is now** is durable once the write is;
//! a truncation lowers that mark in all of them. A late report can then never cover an entry that replaced the one which
//! was written.

use super::message::LogPosition;
use super::output::{HardState, LogView, Persist, Restored, Token};
use super::terms::TermRuns;
use crate::config::MAX_OPEN_WRITES;
use crate::id::{Index, Term};
use core::cmp::Ordering;
use heapless::Deque;

/// The log's ends and the hard state: `durable <= written <= last`.
#[derive(Clone, Debug)]
pub(super) struct Stable {
    hard_state: HardState,
    hard_state_durable: HardState,
    hard_state_changed: bool,
    terms: TermRuns,
    /// The store is asked of no entry before this one, which was the last of a snapshot, or of what the log has lost.
    base: LogPosition,
    last: LogPosition,
    /// Entries up to here are part of a write that was handed out.
    written: Index,
    /// Entries up to here are on stable storage.
    durable: Index,
    /// The next write makes the log begin after this entry.
    install: Option<LogPosition>,
    /// The next write removes the entries from here on.
    truncate_from: Option<Index>,
    open: Deque<OpenWrite, MAX_OPEN_WRITES>,
    issued: Token,
}

/// A write that was handed out and not yet reported.
#[derive(Clone, Copy, Debug)]
struct OpenWrite {
    token: Token,
    hard_state: Option<HardState>,
    /// Entries up to here are durable when the write is, and are still those that were written.
    durable: Index,
}

impl Stable {
    pub(super) fn new(restored: &Restored) -> Self {
        let mut terms = TermRuns::default();
        if restored.last.index > Index::ZERO {
            // Of what lies between only the store knows the terms.
            terms.push(restored.last.index, restored.last.term);
        }
        let suspect = restored.suspect || restored.hard_state.suspect;
        Self {
            hard_state: HardState { suspect, ..restored.hard_state },
            hard_state_durable: restored.hard_state,
            hard_state_changed: suspect != restored.hard_state.suspect,
            terms,
            base: restored.base,
            last: restored.last,
            written: restored.last.index,
            durable: restored.last.index,
            install: None,
            truncate_from: None,
            open: Deque::new(),
            issued: Token::default(),
        }
    }

    pub(super) fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// The entry before the first that the log may hold.
    pub(super) fn base(&self, view: &impl LogView) -> LogPosition {
        let told = view.base();
        if told.index > self.base.index { told } else { self.base }
    }

    pub(super) fn last(&self) -> LogPosition {
        self.last
    }

    pub(super) fn written(&self) -> Index {
        self.written
    }

    pub(super) fn durable(&self) -> Index {
        self.durable
    }

    /// Whether the term is on stable storage: what is promised in it will not be forgotten.
    pub(super) fn term_is_durable(&self) -> bool {
        self.hard_state_durable.term == self.hard_state.term
    }

    /// Whether term and vote are on stable storage.
    pub(super) fn vote_is_durable(&self) -> bool {
        self.hard_state_durable == self.hard_state
    }

    pub(super) fn set_hard_state(&mut self, hard_state: HardState) {
        let before = self.hard_state;
        let same_term = hard_state.term == before.term && before.vote.is_none_or(|vote| hard_state.vote == Some(vote));
        assert!(
            hard_state.term > before.term || same_term,
            "a term does not decrease and a vote does not change: {before:?} to {hard_state:?}"
        );
        assert!(before.suspect || !hard_state.suspect, "only a start makes a member suspect");
        self.hard_state = hard_state;
        self.hard_state_changed = true;
    }

    /// The term of the entry at `index`; of index zero it is zero. `None` if the log does not reach so far, or does not
    /// hold it any more.
    pub(super) fn term(&self, index: Index, view: &impl LogView) -> Option<Term> {
        if index == Index::ZERO {
            return Some(Term::ZERO);
        }
        if index > self.last.index {
            return None;
        }
        if let Some(term) = self.terms.term(index) {
            return Some(term);
        }
        // What is not remembered here is durable, so the store has it as it is now: see `can_append`.
        let base = self.base(view);
        match index.cmp(&base.index) {
            Ordering::Less => None,
            Ordering::Equal => Some(base.term),
            Ordering::Greater => view.term(index),
        }
    }

    /// The last entry at or before `index` with a term of at most `term`, but none before `floor`, at which the other
    /// log is known to agree: if the store does not say `floor`'s term, it is given as `term`.
    pub(super) fn last_at_most(&self, index: Index, term: Term, floor: Index, view: &impl LogView) -> LogPosition {
        let index = index.min(self.last.index).max(floor);
        let remembered = self.terms.last_at_most(index, term);
        if let Some((index, term)) = remembered.filter(|&(index, _)| index >= floor) {
            return LogPosition { index, term };
        }
        // Terms grow along the log: search the older part for the last one that is low enough.
        let mut high = self.terms.first().map_or(index, |first| index.min(first.prev())).max(floor);
        // Of what the store has forgotten nothing is known.
        let base = self.base(view);
        let begins_low_enough = base.index <= high && base.term <= term;
        let mut low = if begins_low_enough { floor.max(base.index) } else { floor };
        high = if begins_low_enough { high } else { high.min(base.index).max(floor) };
        while low < high {
            let middle = Index(low.0 + (high.0 - low.0).div_ceil(2));
            match view.term(middle) {
                Some(found) if found <= term => low = middle,
                _ => high = middle.prev(),
            }
        }
        LogPosition { index: low, term: self.term(low, view).map_or(term, |found| found.min(term)) }
    }

    /// Whether an entry of `term` can be appended now. It cannot while the term of an entry that is not durable would be
    /// forgotten for it, since neither memory nor the store could tell it then.
    pub(super) fn can_append(&self, term: Term) -> bool {
        self.terms.forgets(term).is_none_or(|forgotten| forgotten <= self.durable)
    }

    /// Adds an entry of `term`; its index is the next.
    pub(super) fn append(&mut self, term: Term) -> LogPosition {
        assert!(term >= self.last.term && term <= self.hard_state.term, "an entry of {term} after {:?}", self.last);
        let index = self.last.index.next();
        self.terms.push(index, term);
        self.last = LogPosition { index, term };
        self.last
    }

    /// Adds all entries up to and with `last`, of one `term`.
    pub(super) fn append_run(&mut self, last: Index, term: Term) {
        assert!(last > self.last.index && term >= self.last.term && term <= self.hard_state.term, "a run to {last}");
        self.terms.push(self.last.index.next(), term);
        self.last = LogPosition { index: last, term };
    }

    /// The last entry up to `last` that has the same term as the one at `first`, with that term; `None` if it is not known.
    pub(super) fn run(&self, first: Index, last: Index, view: &impl LogView) -> Option<LogPosition> {
        let term = self.term(first, view).filter(|_| first <= last)?;
        Some(LogPosition { term, ..self.last_at_most(last, term, first, view) })
    }

    /// Removes the entries after `last`, which stays. `late_reports` is the planted mistake.
    pub(super) fn truncate(&mut self, last: LogPosition, late_reports: bool) {
        assert!(last.index < self.last.index, "truncation to {last:?} of a log that ends at {:?}", self.last);
        let from = last.index.next();
        if self.written >= from {
            self.truncate_from = Some(self.truncate_from.map_or(from, |earlier| earlier.min(from)));
            self.written = last.index;
        }
        self.durable = self.durable.min(last.index);
        for write in self.open.iter_mut().filter(|_| !late_reports) {
            write.durable = write.durable.min(last.index);
        }
        self.terms.truncate(from);
        if self.terms.is_empty() && last.index > Index::ZERO {
            self.terms.push(last.index, last.term);
        }
        self.last = last;
    }

    /// The log begins after `last` and holds nothing: a snapshot has taken the place of what it had. Of that, the entries up to
    /// `committed` are part of the snapshot, and count as durable until it is. `early` is the planted mistake.
    pub(super) fn install(&mut self, last: LogPosition, committed: Index, early: bool) {
        (self.install, self.truncate_from) = (Some(last), None);
        self.terms = TermRuns::default();
        self.terms.push(last.index, last.term);
        (self.base, self.last, self.written) = (last, last, last.index);
        self.durable = if early { last.index } else { self.durable.min(committed) };
        for write in self.open.iter_mut() {
            write.durable = write.durable.min(committed);
        }
    }

    /// Whether a write can be handed out now.
    pub(super) fn has_room(&self) -> bool {
        !self.open.is_full()
    }

    /// The next write: all that has changed since the one before. `None` if nothing has, or if [`MAX_OPEN_WRITES`] are
    /// open.
    pub(super) fn poll(&mut self) -> Option<Persist> {
        let has_entries = self.written < self.last.index;
        let changes_log = has_entries || self.truncate_from.is_some() || self.install.is_some();
        if !changes_log && !self.hard_state_changed || self.open.is_full() {
            return None;
        }
        self.issued = Token(self.issued.0 + 1);
        let hard_state = core::mem::take(&mut self.hard_state_changed).then_some(self.hard_state);
        let append = has_entries.then(|| (self.written.next(), self.last.index));
        self.written = self.last.index;
        let write = OpenWrite { token: self.issued, hard_state, durable: self.written };
        assert!(self.open.push_back(write).is_ok(), "there is room");
        let (install, truncate_from) = (self.install.take(), self.truncate_from.take());
        Some(Persist { token: self.issued, hard_state, install, truncate_from, append })
    }

    /// Takes the report that `token` and all writes before it are on stable storage. A repeated report changes nothing.
    pub(super) fn persisted(&mut self, token: Token) {
        assert!(token <= self.issued, "{token:?} was never handed out");
        while let Some(write) = self.open.pop_front_if(|write| write.token <= token) {
            self.hard_state_durable = write.hard_state.unwrap_or(self.hard_state_durable);
            self.durable = self.durable.max(write.durable);
        }
        assert!(self.durable <= self.written, "durable before it was written");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::NodeId;

    /// The term of an entry is a tenth of its index, as far as the store goes.
    struct Tenth(u64);

    impl LogView for Tenth {
        fn term(&self, index: Index) -> Option<Term> {
            (index.0 >= 10 && index.0 <= self.0).then_some(Term(index.0 / 10))
        }
    }

    fn at(index: u64, term: u64) -> LogPosition {
        LogPosition { index: Index(index), term: Term(term) }
    }

    fn voted(term: u64, node: u16) -> HardState {
        HardState { term: Term(term), vote: Some(NodeId(node)), suspect: false }
    }

    fn stable(last: LogPosition) -> Stable {
        let hard_state = HardState { term: Term(100), ..HardState::default() };
        Stable::new(&Restored { hard_state, last, suspect: false, ..Restored::default() })
    }

    #[test]
    fn a_write_holds_all_that_changed_and_is_handed_out_once() {
        let mut stable = stable(at(5, 3));
        assert_eq!(stable.poll(), None);
        stable.set_hard_state(voted(101, 2));
        stable.append(Term(4));
        stable.append(Term(4));
        let write = stable.poll().unwrap();
        assert_eq!(write.hard_state, Some(voted(101, 2)));
        assert_eq!((write.truncate_from, write.append), (None, Some((Index(6), Index(7)))));
        assert_eq!(stable.poll(), None);
        assert!(!stable.term_is_durable() && stable.durable() == Index(5));
        stable.persisted(write.token);
        assert!(stable.vote_is_durable() && stable.durable() == Index(7));
    }

    #[test]
    fn that_a_node_is_suspect_is_the_first_thing_it_writes() {
        let hard_state = HardState { term: Term(100), ..HardState::default() };
        let mut stable = Stable::new(&Restored { hard_state, ..Restored::default() });
        let write = stable.poll().unwrap();
        assert_eq!(write.hard_state, Some(HardState { suspect: true, ..hard_state }));
        assert!(!stable.vote_is_durable());
        stable.persisted(write.token);
        assert!(stable.vote_is_durable());
        let hard_state = HardState { suspect: true, ..hard_state };
        let known = Restored { hard_state, suspect: false, ..Restored::default() };
        assert_eq!(Stable::new(&known).poll(), None);
    }

    #[test]
    fn a_late_report_does_not_cover_entries_that_were_rewritten_since() {
        let mut stable = stable(at(5, 3));
        (0..4).for_each(|_| _ = stable.append(Term(4)));
        let old = stable.poll().unwrap();
        stable.truncate(at(6, 4), false);
        (0..3).for_each(|_| _ = stable.append(Term(9)));
        let new = stable.poll().unwrap();
        assert_eq!((new.truncate_from, new.append), (Some(Index(7)), Some((Index(7), Index(9)))));
        stable.persisted(old.token);
        assert_eq!(stable.durable(), Index(6));
        stable.persisted(new.token);
        assert_eq!(stable.durable(), Index(9));
        stable.persisted(old.token);
        assert_eq!(stable.durable(), Index(9));
    }

    #[test]
    fn entries_that_were_never_handed_out_need_no_truncation() {
        let mut stable = stable(at(5, 3));
        stable.append(Term(4));
        stable.append(Term(4));
        stable.truncate(at(5, 3), false);
        assert_eq!(stable.poll(), None);
        stable.append(Term(5));
        assert_eq!(stable.poll().unwrap().truncate_from, None);
        stable.truncate(at(4, 3), false);
        stable.truncate(at(2, 3), false);
        let write = stable.poll().unwrap();
        assert_eq!((write.truncate_from, write.append), (Some(Index(3)), None));
    }

    #[test]
    fn open_writes_are_bounded_and_what_waits_is_written_together() {
        let mut stable = stable(at(0, 0));
        let mut writes = 0;
        for _ in 0..MAX_OPEN_WRITES + 3 {
            stable.append(Term(1));
            writes += usize::from(stable.poll().is_some());
        }
        assert_eq!(writes, MAX_OPEN_WRITES);
        stable.persisted(Token(2));
        assert_eq!(stable.durable(), Index(2));
        let first = MAX_OPEN_WRITES as u64 + 1;
        assert_eq!(stable.poll().unwrap().append, Some((Index(first), Index(first + 2))));
    }

    #[test]
    fn old_terms_are_asked_of_the_store() {
        let stable = stable(at(99, 9));
        let view = Tenth(99);
        assert_eq!(stable.term(Index::ZERO, &view), Some(Term::ZERO));
        assert_eq!(stable.term(Index(55), &view), Some(Term(5)));
        assert_eq!(stable.term(Index(5), &view), None);
        assert_eq!(stable.term(Index(100), &Tenth(200)), None);
    }

    #[test]
    fn the_last_entry_of_a_term_is_searched_in_memory_and_store_but_not_below_the_floor() {
        let mut stable = stable(at(99, 9));
        stable.append(Term(20));
        stable.append(Term(30));
        let search = |index, term, floor| stable.last_at_most(Index(index), Term(term), Index(floor), &Tenth(99));
        assert_eq!(search(200, 40, 0), at(101, 30));
        assert_eq!(search(101, 25, 0), at(100, 20));
        assert_eq!(search(101, 9, 0), at(99, 9));
        assert_eq!(search(98, 40, 0), at(98, 9));
        assert_eq!(search(101, 4, 0), at(49, 4));
        assert_eq!(search(45, 7, 0), at(45, 4));
        assert_eq!(search(101, 4, 70), at(70, 4), "the floor is known to agree");
        assert_eq!(search(60, 0, 5), at(5, 0), "the store does not say");
    }

    #[test]
    #[should_panic(expected = "never handed out")]
    fn a_token_that_was_never_handed_out_is_a_bug_of_the_host() {
        stable(at(0, 0)).persisted(Token(1));
    }

    #[test]
    #[should_panic(expected = "a vote does not change")]
    fn a_vote_does_not_change() {
        let mut stable = stable(at(0, 0));
        stable.set_hard_state(voted(101, 1));
        stable.set_hard_state(voted(101, 2));
    }
}
