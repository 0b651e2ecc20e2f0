//! All entries that any leader of a schedule ever made. Members, disks and messages hold their numbers only, so that
//! the bytes of an entry exist once and comparing two logs is comparing numbers.

use crate::violation::{Checked, ensure};
use eventstream_core::id::{Index, Term};
use eventstream_core::raft::{Configuration, LogPosition, Placed};
use eventstream_core::wire::Kind;

/// The number of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryId(u32);

/// What stands in a frame's header, and where its payload lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    pub(crate) index: u64,
    pub(crate) term: u64,
    /// The term of the entry before it, in the log of the leader that made it.
    pub(crate) prev_term: u64,
    pub(crate) log_time: u64,
    pub(crate) events: u16,
    payload: (u32, u32),
    /// The entry made before this one at the same index.
    older: Option<EntryId>,
}

impl Entry {
    pub(crate) const fn position(&self) -> LogPosition {
        LogPosition { index: Index(self.index), term: Term(self.term) }
    }
}

/// Several entries on their way: consecutive in a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    start: u32,
    len: u32,
}

impl Span {
    pub(crate) const fn len(self) -> usize {
        self.len as usize
    }
}

/// What a leader writes into a frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamped<'a> {
    pub(crate) position: LogPosition,
    pub(crate) log_time: u64,
    pub(crate) kind: Kind,
    pub(crate) events: u16,
    pub(crate) payload: &'a [u8],
}

/// The entries of a schedule.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    entries: Vec<Entry>,
    bytes: Vec<u8>,
    /// By index, the entry made last.
    newest: Vec<Option<EntryId>>,
    /// What [`Span`]s refer to.
    spans: Vec<EntryId>,
}

impl Entries {
    /// What the entry holds, if that is a configuration.
    pub(crate) fn configuration(&self, id: EntryId) -> Option<Placed> {
        let entry = self.get(id);
        (entry.kind == Kind::Configuration).then(|| {
            let configuration = Configuration::decode(self.payload(id)).expect("a machine has made it");
            Placed { index: Index(entry.index), configuration }
        })
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.bytes.clear();
        self.newest.clear();
        self.spans.clear();
    }

    /// Makes an entry behind `prev`, the last one of the leader's log.
    ///
    /// Index and term name an entry and all before it (Raft paper, figure 3, log matching): every entry is made here,
    /// and a second one of the same index and term is refused. That a log continues with an entry only behind the one
    /// that it was made behind is for [`check_link`](Self::check_link); both together are log matching by induction.
    pub(crate) fn create(&mut self, prev: Option<EntryId>, stamped: &Stamped<'_>) -> Checked<EntryId> {
        let (index, term) = (stamped.position.index.0, stamped.position.term.0);
        let prev = prev.map(|prev| self.get(prev));
        let (prev_index, prev_term, prev_time) = prev.map_or((0, 0, 0), |it| (it.index, it.term, it.log_time));
        ensure!(index == prev_index + 1, Contract, "a leader put entry {index} behind entry {prev_index}");
        ensure!(term >= prev_term, Contract, "a leader put an entry of term {term} behind one of term {prev_term}");
        let log_time = stamped.log_time;
        ensure!(log_time >= prev_time, LogTime, "entry {index} has log time {log_time}, the one before {prev_time}");

        let at = index as usize;
        if self.newest.len() <= at {
            self.newest.resize(at + 1, None);
        }
        let older = self.newest[at];
        let mut same_index = older;
        while let Some(id) = same_index {
            let other = self.get(id);
            ensure!(other.term != term, LogMatching, "a second entry {index} was made in term {term}");
            same_index = other.older;
        }

        let id = EntryId(self.entries.len() as u32);
        let payload = (self.bytes.len() as u32, stamped.payload.len() as u32);
        self.bytes.extend_from_slice(stamped.payload);
        self.entries.push(Entry {
            kind: stamped.kind,
            index,
            term,
            prev_term,
            log_time,
            events: stamped.events,
            payload,
            older,
        });
        self.newest[at] = Some(id);
        Ok(id)
    }

    /// Checks that `id` may follow `prev` in a log.
    pub(crate) fn check_link(&self, prev: Option<EntryId>, id: EntryId) -> Checked {
        let (entry, prev) = (self.get(id), prev.map(|prev| self.get(prev)));
        let (index, term) = prev.map_or((0, 0), |prev| (prev.index, prev.term));
        ensure!(
            (entry.index, entry.prev_term) == (index + 1, term),
            LogMatching,
            "entry {} of term {} follows entry {index} of term {term}, but was made behind one of term {}",
            entry.index,
            entry.term,
            entry.prev_term
        );
        Ok(())
    }

    pub(crate) fn get(&self, id: EntryId) -> &Entry {
        &self.entries[id.0 as usize]
    }

    pub(crate) fn payload(&self, id: EntryId) -> &[u8] {
        let (start, len) = self.get(id).payload;
        &self.bytes[start as usize..][..len as usize]
    }

    /// Copies a part of a log, so that it stays what it is when the log changes.
    pub(crate) fn span(&mut self, entries: &[EntryId]) -> Span {
        let span = Span { start: self.spans.len() as u32, len: entries.len() as u32 };
        self.spans.extend_from_slice(entries);
        span
    }

    pub(crate) fn of(&self, span: Span) -> &[EntryId] {
        &self.spans[span.start as usize..][..span.len()]
    }
}
