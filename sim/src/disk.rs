//! A member's disk: what is on stable storage, and what is only on its way there.
//!
//! The host's store is a write-ahead log of atomic batches: writes become durable in order, all that wait at a time
//! with one sync. What a crash leaves is the beginning of what was not synced, up to the first write that is missing.
//! A damaged disk loses more: batches that were synced, the last ones.

use crate::entries::{Entries, EntryId, Span};
use crate::rng::Rng;
use crate::violation::{Checked, ensure};
use eventstream_core::id::{Index, Term};
use eventstream_core::raft::{HardState, LogPosition, LogView, Persist, Placed, Snapshot, Token};
use eventstream_core::replica::CheckpointHead;
use std::collections::VecDeque;
use std::rc::Rc;

/// One atomic write.
#[derive(Clone, Debug)]
enum Write {
    Log {
        token: Token,
        hard_state: Option<HardState>,
        install: Option<Box<Install>>,
        truncate_from: Option<u64>,
        append: Span,
    },
    /// The oldest entries are forgotten, up to this one.
    Trim { base: u64 },
    /// A checkpoint: the first `rows` of the rows that wait.
    Checkpoint { rows: u32 },
}

/// A row of a checkpoint: key and value.
pub(crate) type Row = ([u8; 5], Vec<u8>);

/// A snapshot takes the place of log and checkpoint.
#[derive(Clone, Debug)]
pub(crate) struct Install {
    /// The entries that it is the state of.
    pub(crate) covered: Span,
    /// Nothing on a witness, ...
    pub(crate) rows: Option<Rc<[Row]>>,
    /// ... which keeps the configuration in force there, if it was told one.
    pub(crate) configuration: Option<Placed>,
}

/// What a disk held before a snapshot.
#[derive(Debug)]
struct Before {
    base: u64,
    configuration: Option<Placed>,
    log: Vec<(EntryId, u64)>,
    rows: Vec<Row>,
}

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
    base: u64,
    /// All that was there, if it has begun with a snapshot.
    before: Option<Before>,
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
    /// Entries up to this one are forgotten: they stand in `log` for what the checkpoint holds of them.
    base: u64,
    /// On a witness: what is in force there.
    configuration: Option<Placed>,
    /// The entry at index i is at place i - 1. With its term, so that looking it up touches one cache line.
    log: Vec<(EntryId, u64)>,
    /// The checkpoint that is sent to others, ...
    snapshot: Option<Snapshot>,
    /// ... so many rows of it at once.
    rows_at_once: u16,
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
    /// An entry that turns out to be damaged when it is read.
    rotten: Option<u64>,
    /// Synced entries that were lost, by index.
    lost: Vec<(u64, EntryId)>,
}

impl Disk {
    pub(crate) fn clear(&mut self) {
        self.hard_state = HardState::default();
        self.base = 0;
        self.configuration = None;
        self.snapshot = None;
        self.log.clear();
        self.spare_rows.extend(self.rows.drain(..).chain(self.waiting_rows.drain(..)).map(|(_, value)| value));
        self.waiting.clear();
        self.syncing = 0;
        while self.batches.pop_front().is_some() {}
        self.damaged = false;
        self.rotten = None;
        self.lost.clear();
    }

    /// One of the entries that it holds is damaged from now on. Returns which.
    pub(crate) fn rot(&mut self, rng: &mut Rng) -> Option<u64> {
        let held = self.last_index().checked_sub(self.base).filter(|&held| held > 0)?;
        self.rotten = Some(self.base + 1 + rng.below(held));
        self.rotten
    }

    /// Whether it holds an entry that is damaged.
    pub(crate) const fn is_rotten(&self) -> bool {
        self.rotten.is_some()
    }

    /// Whether one of the entries after `prev`, up to `last`, turns out to be damaged.
    pub(crate) fn is_damaged_between(&self, prev: u64, last: u64) -> bool {
        self.rotten.is_some_and(|index| prev < index && index <= last)
    }

    /// What was damaged and not read is as it was.
    pub(crate) const fn mend(&mut self) {
        self.rotten = None;
    }

    /// What is gone is not damaged any more.
    fn forget_rot(&mut self) {
        self.rotten = self.rotten.filter(|&index| self.base < index && index <= self.last_index());
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
    pub(crate) fn write(&mut self, persist: &Persist, install: Option<Install>, append: Span) {
        self.waiting.push_back(Write::Log {
            token: persist.token,
            hard_state: persist.hard_state,
            install: install.map(Box::new),
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

    /// Forgets the oldest entries, up to `base`, with the next sync.
    pub(crate) fn trim(&mut self, base: u64) {
        self.waiting.push_back(Write::Trim { base });
    }

    /// The entry before the first that is held.
    pub(crate) fn base(&self) -> u64 {
        self.base
    }

    /// The configuration that a witness was told with the beginning of its log.
    pub(crate) const fn first_configuration(&self) -> Option<Placed> {
        self.configuration
    }

    /// Up to where the durable checkpoint goes.
    pub(crate) fn checkpoint(&self) -> LogPosition {
        let head = self.rows.last().map(|(_, value)| CheckpointHead::decode(value).expect("it was written so"));
        head.map_or_else(LogPosition::default, |head| head.applied)
    }

    /// From now on the durable checkpoint is the one that is sent to others. Returns its rows.
    pub(crate) fn pin(&mut self, rows_at_once: u16) -> (LogPosition, &[Row]) {
        self.rows_at_once = rows_at_once;
        let last = self.checkpoint();
        self.snapshot = Some(Snapshot { last, rows: self.rows.len() as u32 });
        (last, &self.rows)
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
            Some(Write::Log { token, .. }) if lies => Ok(Some(*token)),
            _ => Ok(last),
        }
    }

    fn begin_batch(&mut self) {
        let mut batch = core::mem::take(&mut self.spare_batch);
        (batch.hard_state, batch.base, batch.kept) = (self.hard_state, self.base, self.log.len());
        self.batches.push_back(batch);
        if self.batches.len() > BATCHES
            && let Some(mut oldest) = self.batches.pop_front()
        {
            oldest.removed.clear();
            oldest.before = None;
            self.spare_rows.extend(oldest.rows.drain(..).filter_map(|(_, replaced)| replaced));
            self.spare_batch = oldest;
        }
    }

    /// The batch that was synced last turns out to be damaged. Returns how many entries are lost with it; `None` if
    /// nothing is there that could be lost.
    pub(crate) fn lose_batch(&mut self) -> Option<usize> {
        let Batch { hard_state, base, before, kept, mut removed, rows } = self.batches.pop_back()?;
        (self.hard_state, self.base, self.snapshot) = (hard_state, base, None);
        self.damaged = true;
        self.rotten = self.rotten.filter(|_| before.is_none());
        if let Some(before) = before {
            let held = |(place, &(id, _)): (usize, &(EntryId, u64))| before.log.get(place).is_some_and(|it| it.0 == id);
            let lost = self.log.iter().enumerate().filter(|&entry| !held(entry));
            let lost: Vec<_> = lost.map(|(place, &(id, _))| (place as u64 + 1, id)).collect();
            self.lost.extend_from_slice(&lost);
            (self.base, self.configuration) = (before.base, before.configuration);
            (self.log, self.rows) = (before.log, before.rows);
            return Some(lost.len());
        }
        let lost = self.log.len() - kept;
        self.lost.extend((1..).zip(&self.log).skip(kept).map(|(index, &(id, _))| (index, id)));
        self.log.truncate(kept);
        self.forget_rot();
        self.log.append(&mut removed);
        for (key, replaced) in rows.into_iter().rev() {
            let Ok(place) = self.rows.binary_search_by_key(&key, |(key, _)| *key) else { continue };
            let written = match replaced {
                Some(value) => core::mem::replace(&mut self.rows[place].1, value),
                None => self.rows.remove(place).1,
            };
            self.spare_rows.push(written);
        }
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
        let (token, hard_state, install, truncate_from, append) = match write {
            Write::Log { token, hard_state, install, truncate_from, append } => {
                (token, hard_state, install, truncate_from, append)
            }
            Write::Checkpoint { rows } => {
                self.apply_rows(rows);
                return Ok(None);
            }
            Write::Trim { base } => {
                // What has been replaced since was not to be forgotten, but has gone with the rest.
                self.base = self.base.max(base);
                self.forget_rot();
                return Ok(None);
            }
        };
        if install.is_some() {
            // Lost or there as a whole.
            self.begin_batch();
        }
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
        if let Some(install) = install {
            self.apply_install(*install, entries);
        }
        if let Some(from) = truncate_from {
            let from = from as usize - 1;
            if let Some(batch) = self.batches.back_mut().filter(|batch| from < batch.kept) {
                batch.removed.splice(..0, self.log[from..batch.kept].iter().copied());
                batch.kept = from;
            }
            self.log.truncate(from);
            self.forget_rot();
        }
        for &id in entries.of(append) {
            entries.check_link(self.log.last().map(|&(last, _)| last), id)?;
            self.log.push((id, entries.get(id).term));
        }
        Ok(Some(token))
    }

    fn apply_install(&mut self, Install { covered, rows, configuration }: Install, entries: &Entries) {
        let log = entries.of(covered).iter().map(|&id| (id, entries.get(id).term)).collect();
        let before = Before {
            base: self.base,
            configuration: core::mem::replace(&mut self.configuration, configuration),
            log: core::mem::replace(&mut self.log, log),
            rows: core::mem::take(&mut self.rows),
        };
        self.base = covered.len() as u64;
        self.rotten = None;
        self.rows.extend(rows.iter().flat_map(|rows| rows.iter().cloned()));
        self.snapshot = None;
        let batch = self.batches.back_mut().expect("one has begun");
        (batch.before, batch.kept) = (Some(before), 0);
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
    fn base(&self) -> LogPosition {
        let place = self.base.checked_sub(1);
        let term = place.map_or(0, |place| self.log[place as usize].1);
        LogPosition { index: Index(self.base), term: Term(term) }
    }

    fn snapshot(&self) -> Option<Snapshot> {
        self.snapshot
    }

    fn rows_at_once(&self) -> u16 {
        self.rows_at_once
    }

    fn term(&self, index: Index) -> Option<Term> {
        let place = index.0.checked_sub(1).filter(|_| index.0 > self.base)?;
        self.log.get(place as usize).map(|&(_, term)| Term(term))
    }
}
