//! One log, entry by entry: whole, in order, and what it means.

use super::Meter;
use super::meaning::{Meaning, Shown};
use super::violation::{Findings, Invariant, Place};
use crate::checksum::CRC;
use crate::storage::{LogItem, StoreError, SyncedPoint, Terms};
use core::ops::ControlFlow;
use eventstream_core::id::{Index, LogTime, ShardId, Term};
use eventstream_core::raft::{HardState, LogPosition};
use eventstream_core::wire::{Frame, Header, Kind};

/// After this many entries a log is noted down, so that logs can be compared without reading them again.
pub(super) const BLOCK: u64 = 1_024;

/// What was seen of a log.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    pub(super) first: Index,
    pub(super) last: LogPosition,
    pub(super) hard_state: HardState,
    /// Up to here every entry is there and whole, and follows the one before.
    pub(super) sound: Index,
    /// Where each term begins, as far as the log is sound.
    pub(super) terms: Vec<(Term, Index)>,
    /// After every [`BLOCK`]th sound entry.
    pub(super) blocks: Vec<Block>,
}

impl Log {
    /// What a witness has of a log.
    pub(super) fn of_terms(terms: &Terms) -> Self {
        Self {
            first: terms.runs().first().map_or(Index::ZERO, |run| run.index),
            last: terms.last(),
            hard_state: terms.hard_state(),
            sound: terms.last().index,
            terms: terms.runs().iter().map(|run| (run.term, run.index)).collect(),
            blocks: Vec::new(),
        }
    }

    /// The term of an entry, as far as the log is sound.
    pub(super) fn term(&self, index: Index) -> Term {
        let after = self.terms.partition_point(|&(_, begin)| begin <= index);
        after.checked_sub(1).map_or(Term::ZERO, |at| self.terms[at].0)
    }
}

/// A log up to some entry, in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// The checksum over the headers of all entries, which hold those of the payloads.
    pub(super) chain: u32,
    /// The hash of the state that they give.
    pub(super) state_hash: u64,
}

/// Goes along a log.
pub(super) struct Walk<'a> {
    name: &'a str,
    meter: &'a Meter,
    findings: &'a mut Findings,
    meaning: Meaning<'a>,
    /// What the log reached on stable storage, at least.
    floor: Option<SyncedPoint>,
    log: Log,
    last_time: LogTime,
    /// Nothing was found yet that keeps the log from being replayed.
    is_sound: bool,
    /// Damage was found in the batch that is being read: that its checksum is wrong too is no news.
    is_damage_known: bool,
    /// The last end of a synced batch, ...
    synced: Index,
    /// ... and its number.
    batches: u64,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        name: &'a str,
        meaning: Meaning<'a>,
        floor: Option<SyncedPoint>,
        meter: &'a Meter,
        findings: &'a mut Findings,
    ) -> Self {
        Self {
            name,
            meter,
            findings,
            meaning,
            floor,
            log: Log::default(),
            last_time: LogTime::ZERO,
            is_sound: true,
            is_damage_known: false,
            synced: Index::ZERO,
            batches: 0,
        }
    }

    /// Takes the next thing in the log.
    pub(super) fn item(&mut self, item: &LogItem<'_>) -> ControlFlow<()> {
        match *item {
            LogItem::Entry { index, frame, chain } => {
                self.entry(index, frame, chain);
                self.meter.add(1);
            }
            LogItem::Synced { last, number, hard_state, is_whole } => {
                self.synced(last, hard_state, is_whole);
                self.batches = number;
            }
        }
        ControlFlow::Continue(())
    }

    /// There is no more, or no more can be read.
    pub(super) fn end(mut self, scanned: Result<(), StoreError>) -> (Log, Shown) {
        let (last, batches) = (self.log.last, self.batches);
        if let Err(error) = scanned {
            self.is_sound = false;
            let place = Place::at(self.name).index(last.index.next());
            self.findings.add(Invariant::Whole, place, format_args!("the log cannot be read from here on: {error}"));
        } else if self.synced < last.index {
            self.damage(
                self.synced.next(),
                format_args!("the entries from here to {} belong to no whole batch", last.index),
            );
        } else if let Some(floor) = self.floor.filter(|floor| last.index < floor.index || batches < floor.batches) {
            let what = format_args!(
                "the log has lost its end: it reaches entry {} in batch {batches}, and entry {} in batch {} was on stable storage",
                last.index, floor.index, floor.batches
            );
            self.damage(last.index.next(), what);
        } else if self.log.hard_state.term < last.term {
            let (term, place) = (self.log.hard_state.term, Place::at(self.name).index(last.index));
            let what = format_args!(
                "the node's own term is {term}, below {} of its last entry: it could vote twice",
                last.term
            );
            self.findings.add(Invariant::OneLeader, place, what);
        }
        let shown = self.meaning.end(last, self.is_sound, self.findings);
        (self.log, shown)
    }

    fn entry(&mut self, index: Index, bytes: &[u8], chain: u32) {
        if self.log.first == Index::ZERO {
            self.log.first = index;
        }
        self.hole(index.prev());
        match check(index, bytes) {
            Ok(frame) => self.whole_entry(&frame, chain),
            Err(what) => {
                self.damage(index, what);
                self.log.last.index = index;
            }
        }
    }

    fn whole_entry(&mut self, frame: &Frame<'_>, chain: u32) {
        let header = frame.header();
        let (index, before) = (header.index(), self.log.last);
        let place = || Place::at(self.name).index(index);
        if header.term < before.term || header.log_time() < self.last_time {
            let what = format_args!(
                "term {} and log time {} come after term {} and log time {}",
                header.term,
                header.log_time(),
                before.term,
                self.last_time
            );
            self.findings.add(Invariant::LogOrder, place(), what);
            self.is_sound = false;
        }
        if self.is_sound {
            let begins = header.kind == Kind::Empty;
            if header.term > before.term {
                self.log.terms.push((header.term, index));
                if !begins {
                    let what = format_args!("term {} begins without the empty entry of its leader", header.term);
                    self.findings.add(Invariant::OneLeader, place(), what);
                }
            } else if begins {
                let what = format_args!("another leader begins in term {}, which has one already", header.term);
                self.findings.add(Invariant::OneLeader, place(), what);
            }
            self.is_sound = self.meaning.apply(frame, self.findings);
        }
        if let Some(floor) = self.floor.filter(|floor| self.is_sound && floor.index == index)
            && floor.chain != chain
        {
            self.damage(index, "the entries up to here are not those that the floor names");
        }
        if self.is_sound {
            self.log.sound = index;
            if index.0.is_multiple_of(BLOCK) {
                self.log.blocks.push(Block { chain, state_hash: self.meaning.state_hash() });
            }
        }
        self.log.last = LogPosition { index, term: header.term };
        self.last_time = header.log_time();
    }

    fn synced(&mut self, last: Index, hard_state: HardState, is_whole: bool) {
        self.hole(last);
        if !is_whole && !self.is_damage_known {
            let first = self.synced.next();
            self.damage(last, format_args!("the entries from {first} to {last} are not those that were synced"));
        }
        if hard_state.term < self.log.hard_state.term {
            let what =
                format_args!("the node's own term falls from {} to {}", self.log.hard_state.term, hard_state.term);
            self.findings.add(Invariant::LogOrder, Place::at(self.name).index(last), what);
        }
        (self.log.hard_state, self.synced, self.is_damage_known) = (hard_state, last, false);
    }

    /// The log is to hold every entry up to `last`.
    fn hole(&mut self, last: Index) {
        let first = self.log.last.index.next();
        if first > last {
            return;
        }
        if first == last {
            self.damage(first, "the entry is missing");
        } else {
            self.damage(first, format_args!("the entries from {first} to {last} are missing"));
        }
        self.log.last.index = last;
    }

    fn damage(&mut self, index: Index, what: impl core::fmt::Display) {
        (self.is_sound, self.is_damage_known) = (false, true);
        self.findings.add(Invariant::Whole, Place::at(self.name).index(index), what);
    }
}

/// The frame of the entry at `index`, or what is wrong with it.
fn check(index: Index, bytes: &[u8]) -> Result<Frame<'_>, String> {
    let frame = Frame::check(bytes, CRC).map_err(|error| format!("what is stored is no frame: {error}"))?;
    let &Header { shard, .. } = frame.header();
    if !frame.header().is_logged() || frame.header().index() != index || shard != ShardId(0) {
        let header = frame.header();
        return Err(format!(
            "what is stored is another frame: {:?} {}, term {}",
            header.kind, header.batch_id, header.term
        ));
    }
    Ok(frame)
}
