//! A member's disk: what is on stable storage, and what is only on its way there.
//!
//! The host's store is a write-ahead log of atomic batches: writes become durable in order, all that wait at a time
//! with one sync. What a crash leaves is the beginning of what was not synced, up to the first write that is missing.

use crate::entries::{Entries, EntryId, Span};
use crate::rng::Rng;
use crate::violation::{Checked, ensure};
use eventstream_core::id::{Index, Term};
use eventstream_core::raft::{HardState, LogView, Persist, Token};
use std::collections::VecDeque;

/// One atomic write.
#[derive(Clone, Copy, Debug)]
enum Write {
    Log {
        token: Token,
        hard_state: Option<HardState>,
        truncate_from: Option<u64>,
        append: Span,
    },
    /// A checkpoint: the first `rows` of the rows that wait.
    Checkpoint {
        rows: u32,
    },
}

/// A row of a checkpoint: key and value.
type Row = ([u8; 5], Vec<u8>);

/// How a crash treats what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Survival {
    /// The power stays: what the process had written is in the hands of the kernel and survives.
    All,
    /// The beginning of it, up to any place.
    Prefix,
    /// Each write survives or not; recovery stops at the first that is missing.
    Subset,
}

/// What a crash did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Loss {
    pub(crate) writes: usize,
    /// Writes that had survived behind one that had not.
    pub(crate) behind_a_hole: usize,
    pub(crate) truncation_waited: bool,
    pub(crate) vote_waited: bool,
}

/// The disk of one member.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    hard_state: HardState,
    /// The entry at index i is at place i - 1. With its term, so that looking it up touches one cache line.
    log: Vec<(EntryId, u64)>,
    /// By key.
    rows: Vec<Row>,
    waiting: VecDeque<Write>,
    waiting_rows: VecDeque<Row>,
    spare_rows: Vec<Vec<u8>>,
    /// How many of the writes that wait are part of the sync that runs.
    syncing: usize,
}

impl Disk {
    pub(crate) fn clear(&mut self) {
        self.hard_state = HardState::default();
        self.log.clear();
        self.spare_rows.extend(self.rows.drain(..).chain(self.waiting_rows.drain(..)).map(|(_, value)| value));
        self.waiting.clear();
        self.syncing = 0;
    }

    pub(crate) const fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// The durable log.
    pub(crate) fn log(&self) -> impl DoubleEndedIterator<Item = EntryId> {
        self.log.iter().map(|&(id, _)| id)
    }

    pub(crate) const fn last_index(&self) -> u64 {
        self.log.len() as u64
    }

    pub(crate) fn entry(&self, index: u64) -> Option<EntryId> {
        self.log.get((index as usize).checked_sub(1)?).map(|&(id, _)| id)
    }

    /// The durable rows of the checkpoint, in the order of their keys.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.rows.iter().map(|(key, value)| (key.as_slice(), value.as_slice()))
    }

    /// Writes, without waiting for stable storage.
    pub(crate) fn write(&mut self, persist: &Persist, append: Span) {
        self.waiting.push_back(Write::Log {
            token: persist.token,
            hard_state: persist.hard_state,
            truncate_from: persist.truncate_from.map(|from| from.0),
            append,
        });
    }

    /// Adds a row to the checkpoint that [`write_checkpoint`](Self::write_checkpoint) writes next.
    pub(crate) fn stage_row(&mut self, key: [u8; 5], value: &[u8]) {
        let mut copy = self.spare_rows.pop().unwrap_or_default();
        copy.clear();
        copy.extend_from_slice(value);
        self.waiting_rows.push_back((key, copy));
    }

    /// Writes the last `rows` staged rows as one batch, which joins the next sync.
    pub(crate) fn write_checkpoint(&mut self, rows: u32) {
        self.waiting.push_back(Write::Checkpoint { rows });
    }

    /// Whether a sync has to be started: something waits and none runs.
    pub(crate) fn wants_sync(&self) -> bool {
        self.syncing == 0 && !self.waiting.is_empty()
    }

    /// Starts a sync of all that waits.
    pub(crate) fn start_sync(&mut self) {
        self.syncing = self.waiting.len();
    }

    /// The sync has ended: all that was part of it is durable. The last token, if one was.
    pub(crate) fn finish_sync(&mut self, entries: &Entries) -> Checked<Option<Token>> {
        let mut last = None;
        for _ in 0..core::mem::take(&mut self.syncing) {
            last = self.apply_front(entries)?.or(last);
        }
        Ok(last)
    }

    /// Power or process is gone. What survives is durable from now on.
    pub(crate) fn crash(&mut self, survival: Survival, rng: &mut Rng, entries: &Entries) -> Checked<Loss> {
        let waiting = self.waiting.len();
        let mut loss = Loss::default();
        for write in &self.waiting {
            if let Write::Log { hard_state, truncate_from, .. } = write {
                loss.truncation_waited |= truncate_from.is_some();
                loss.vote_waited |= hard_state.is_some_and(|hard_state| hard_state.vote.is_some());
            }
        }
        let surviving = match survival {
            Survival::All => waiting,
            Survival::Prefix => rng.index(waiting + 1),
            Survival::Subset => {
                let first_missing = (0..waiting).find(|_| rng.coin()).unwrap_or(waiting);
                loss.behind_a_hole = (first_missing + 1..waiting).filter(|_| rng.coin()).count();
                first_missing
            }
        };
        loss.writes = waiting - surviving;
        for _ in 0..surviving {
            self.apply_front(entries)?;
        }
        self.waiting.clear();
        self.spare_rows.extend(self.waiting_rows.drain(..).map(|(_, value)| value));
        self.syncing = 0;
        Ok(loss)
    }

    fn apply_front(&mut self, entries: &Entries) -> Checked<Option<Token>> {
        let write = self.waiting.pop_front().expect("no more writes are counted than wait");
        let (token, hard_state, truncate_from, append) = match write {
            Write::Log { token, hard_state, truncate_from, append } => (token, hard_state, truncate_from, append),
            Write::Checkpoint { rows } => {
                self.apply_rows(rows);
                return Ok(None);
            }
        };
        if let Some(hard_state) = hard_state {
            let (new, old) = (hard_state.term, self.hard_state.term);
            ensure!(new >= old, Contract, "the term on disk went back from {old} to {new}");
            ensure!(
                new > old || self.hard_state.vote.is_none() || self.hard_state.vote == hard_state.vote,
                OneLeaderPerTerm,
                "the vote on disk changed within term {old}"
            );
            self.hard_state = hard_state;
        }
        if let Some(from) = truncate_from {
            self.log.truncate(from as usize - 1);
        }
        for &id in entries.of(append) {
            entries.check_link(self.log.last().map(|&(last, _)| last), id)?;
            self.log.push((id, entries.get(id).term));
        }
        Ok(Some(token))
    }

    fn apply_rows(&mut self, rows: u32) {
        for _ in 0..rows {
            let row = self.waiting_rows.pop_front().expect("a checkpoint counts its rows");
            match self.rows.binary_search_by_key(&row.0, |(key, _)| *key) {
                Ok(place) => self.spare_rows.push(core::mem::replace(&mut self.rows[place], row).1),
                Err(place) => self.rows.insert(place, row),
            }
        }
    }
}

impl LogView for Disk {
    fn term(&self, index: Index) -> Option<Term> {
        self.log.get((index.0 as usize).checked_sub(1)?).map(|&(_, term)| Term(term))
    }
}
