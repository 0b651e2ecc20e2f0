//! A member's disk: what is on stable storage, and what is only on its way there.
//!
//! The host's store is a write-ahead log of atomic batches: writes become durable in order, all that wait at a time
//! with one sync. What a crash leaves is the beginning of what was not synced, up to the first write that is missing.
//! A damaged disk loses more: batches that were synced, the last ones.

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
    /// Nothing of it.
    Nothing,
}

/// Synced batches that can be lost.
const BATCHES: usize = 8;

/// What a synced batch has changed, so that it can be lost.
#[derive(Debug, Default)]
struct Batch {
    hard_state: HardState,
    /// Entries up to here stayed, ...
    kept: usize,
    /// ... and these, which followed, were removed.
    removed: Vec<(EntryId, u64)>,
    /// Rows in the order in which they were written, with what they replaced.
    rows: Vec<([u8; 5], Option<Vec<u8>>)>,
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
    /// Those that were synced last, and a spare one for the next.
    batches: VecDeque<Batch>,
    spare_batch: Batch,
    /// The end was damaged: every start finds it so until the member has written down that it is suspect.
    damaged: bool,
    /// Synced entries that were lost, by index.
    lost: Vec<(u64, EntryId)>,
}

impl Disk {
    pub(crate) fn clear(&mut self) {
        self.hard_state = HardState::default();
        self.log.clear();
        self.spare_rows.extend(self.rows.drain(..).chain(self.waiting_rows.drain(..)).map(|(_, value)| value));
        self.waiting.clear();
        self.syncing = 0;
        while self.batches.pop_front().is_some() {}
        self.damaged = false;
        self.lost.clear();
    }

    /// Whether a start finds its end damaged, or nothing at all.
    pub(crate) fn is_suspect(&self) -> bool {
        self.damaged || self.is_new()
    }

    /// Whether nothing was ever promised by what is on it.
    pub(crate) fn is_new(&self) -> bool {
        self.hard_state.term == Term::ZERO
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

    /// Whether the entry is on stable storage, or was until the disk lost it.
    pub(crate) fn has_held(&self, index: u64, id: EntryId) -> bool {
        self.entry(index) == Some(id) || self.lost.contains(&(index, id))
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

    /// A mistake: the checkpoint that was written last overtakes the log that it is of.
    pub(crate) fn overtake(&mut self) {
        let others = self.waiting.iter().filter(|write| matches!(write, Write::Checkpoint { .. })).count() > 1;
        if let Some(write) = self.waiting.pop_back_if(|_| !others) {
            self.waiting.insert(self.syncing, write);
        }
    }

    /// Whether a sync has to be started: something waits and none runs.
    pub(crate) fn wants_sync(&self) -> bool {
        self.syncing == 0 && !self.waiting.is_empty()
    }

    /// Starts a sync of all that waits.
    pub(crate) fn start_sync(&mut self) {
        self.syncing = self.waiting.len();
    }

    /// The sync has ended: all that was part of it is durable. The last token, if one was. A disk that `lies` has yet to
    /// write the last of it.
    pub(crate) fn finish_sync(&mut self, entries: &Entries, lies: bool) -> Checked<Option<Token>> {
        let mut last = None;
        self.begin_batch();
        let count = core::mem::take(&mut self.syncing);
        for _ in 0..count - usize::from(lies && count > 0) {
            last = self.apply_front(entries)?.or(last);
        }
        match self.waiting.front() {
            Some(&Write::Log { token, .. }) if lies => Ok(Some(token)),
            _ => Ok(last),
        }
    }

    fn begin_batch(&mut self) {
        let mut batch = core::mem::take(&mut self.spare_batch);
        (batch.hard_state, batch.kept) = (self.hard_state, self.log.len());
        self.batches.push_back(batch);
        if self.batches.len() > BATCHES
            && let Some(mut oldest) = self.batches.pop_front()
        {
            oldest.removed.clear();
            self.spare_rows.extend(oldest.rows.drain(..).filter_map(|(_, replaced)| replaced));
            self.spare_batch = oldest;
        }
    }

    /// The batch that was synced last turns out to be damaged. Returns how many entries are lost with it; `None` if
    /// nothing is there that could be lost.
    pub(crate) fn lose_batch(&mut self) -> Option<usize> {
        let Batch { hard_state, kept, mut removed, rows } = self.batches.pop_back()?;
        self.hard_state = hard_state;
        let lost = self.log.len() - kept;
        self.lost.extend((1..).zip(&self.log).skip(kept).map(|(index, &(id, _))| (index, id)));
        self.log.truncate(kept);
        self.log.append(&mut removed);
        for (key, replaced) in rows.into_iter().rev() {
            let Ok(place) = self.rows.binary_search_by_key(&key, |(key, _)| *key) else { continue };
            let written = match replaced {
                Some(value) => core::mem::replace(&mut self.rows[place].1, value),
                None => self.rows.remove(place).1,
            };
            self.spare_rows.push(written);
        }
        self.damaged = true;
        Some(lost)
    }

    /// All of it is gone: who starts from it finds a new disk.
    pub(crate) fn wipe(&mut self) {
        let mut lost = core::mem::take(&mut self.lost);
        lost.extend((1..).zip(&self.log).map(|(index, &(id, _))| (index, id)));
        self.clear();
        self.lost = lost;
    }

    /// What was not synced has left a damaged end, as far as a start can tell.
    pub(crate) const fn damage_end(&mut self) {
        self.damaged = true;
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
            Survival::Nothing => 0,
            Survival::Prefix => rng.index(waiting + 1),
            Survival::Subset => {
                let first_missing = (0..waiting).find(|_| rng.coin()).unwrap_or(waiting);
                loss.behind_a_hole = (first_missing + 1..waiting).filter(|_| rng.coin()).count();
                first_missing
            }
        };
        loss.writes = waiting - surviving;
        if surviving > 0 {
            self.begin_batch();
        }
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
            self.damaged &= !hard_state.suspect;
        }
        if let Some(from) = truncate_from {
            let from = from as usize - 1;
            if let Some(batch) = self.batches.back_mut().filter(|batch| from < batch.kept) {
                batch.removed.splice(..0, self.log[from..batch.kept].iter().copied());
                batch.kept = from;
            }
            self.log.truncate(from);
        }
        for &id in entries.of(append) {
            entries.check_link(self.log.last().map(|&(last, _)| last), id)?;
            self.log.push((id, entries.get(id).term));
        }
        Ok(Some(token))
    }

    fn apply_rows(&mut self, rows: u32) {
        let batch = self.batches.back_mut().expect("rows are written as a part of a batch");
        for _ in 0..rows {
            let row = self.waiting_rows.pop_front().expect("a checkpoint counts its rows");
            match self.rows.binary_search_by_key(&row.0, |(key, _)| *key) {
                Ok(place) => {
                    let (key, replaced) = core::mem::replace(&mut self.rows[place], row);
                    batch.rows.push((key, Some(replaced)));
                }
                Err(place) => {
                    batch.rows.push((row.0, None));
                    self.rows.insert(place, row);
                }
            }
        }
    }
}

impl LogView for Disk {
    fn term(&self, index: Index) -> Option<Term> {
        self.log.get((index.0 as usize).checked_sub(1)?).map(|&(_, term)| Term(term))
    }
}
