//! The invariants that are about all members at once, checked as things happen.

use crate::entries::{Entries, EntryId};
use crate::model::Model;
use crate::stats::{Happening, Stats};
use crate::violation::{Checked, ensure};
use eventstream_core::config::Parameters;
use eventstream_core::raft::LogPosition;
use eventstream_core::replica::{Command, CommandOutcome, Outcomes};
use eventstream_core::wire::{Batch, Kind};

/// One life of a member's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) member: usize,
    pub(crate) boot: u32,
}

#[derive(Clone, Copy, Debug)]
struct Committed {
    id: EntryId,
    /// The term of the member that saw it committed first: its leader's.
    in_term: u64,
    /// State hash and outcomes of the member that applied it first.
    applied: Option<(u64, u64)>,
}

/// What is known of the cluster as a whole.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    pub(crate) model: Model,
    committed: Vec<Committed>,
    /// By term.
    leaders: Vec<Option<Life>>,
}

impl Oracle {
    pub(crate) fn reset(&mut self, producers: usize, parameters: Parameters) {
        self.model.reset(producers, parameters);
        self.committed.clear();
        self.leaders.clear();
    }

    /// Entries that are committed, as far as any member knew at any time.
    pub(crate) const fn committed(&self) -> u64 {
        self.committed.len() as u64
    }

    /// The entries up to `last`, which is committed. A snapshot stands for them.
    pub(crate) fn covered_by(&self, last: LogPosition, entries: &Entries) -> Checked<impl Iterator<Item = EntryId>> {
        let covered = self.committed.get(..last.index.0 as usize).unwrap_or_default();
        let found = covered.last().map(|entry| entries.get(entry.id).position());
        ensure!(found == Some(last), LeaderCompleteness, "a snapshot as of {last:?}, where {found:?} is committed");
        Ok(covered.iter().map(|entry| entry.id))
    }

    /// A member leads, and this is its log. Invariants 1 and 3.
    pub(crate) fn leads(&mut self, term: u64, life: Life, log: &[EntryId]) -> Checked {
        let at = term as usize;
        if self.leaders.len() <= at {
            self.leaders.resize(at + 1, None);
        }
        let other = self.leaders[at].replace(life);
        ensure!(other.is_none(), OneLeaderPerTerm, "{life:?} leads term {term}, which {other:?} has led");
        for (index, entry) in (1..).zip(&self.committed) {
            ensure!(
                entry.in_term > term || log.get(index - 1) == Some(&entry.id),
                LeaderCompleteness,
                "{life:?} leads term {term} without entry {index}, which was committed in term {}",
                entry.in_term
            );
        }
        Ok(())
    }

    /// A member in `term` considers its log committed from `first` to `last`. Invariants 2 and 3.
    pub(crate) fn commits(
        &mut self,
        term: u64,
        (first, last): (u64, u64),
        log: &[EntryId],
        has_majority: Option<impl Fn(u64, EntryId) -> bool>,
        stats: &mut Stats,
    ) -> Checked {
        for index in first..=last {
            let at = index as usize - 1;
            let Some(&id) = log.get(at) else {
                ensure!(false, Contract, "entry {index} is committed on a member whose log does not reach it");
                return Ok(());
            };
            if let Some(committed) = self.committed.get(at) {
                ensure!(committed.id == id, LeaderCompleteness, "the committed entry {index} has changed");
                continue;
            }
            if let Some(has_majority) = &has_majority {
                let held = has_majority(index, id);
                ensure!(
                    held,
                    DurableMajority,
                    "entry {index} was committed, and no majority of disks has ever held it"
                );
            }
            self.committed.push(Committed { id, in_term: term, applied: None });
            stats.count(Happening::Commit, 1);
        }
        Ok(())
    }

    /// A member has applied an entry. Invariants 4 to 7.
    pub(crate) fn applies(
        &mut self,
        id: EntryId,
        entries: &Entries,
        outcomes: &Outcomes,
        state_hash: u64,
        stats: &mut Stats,
    ) -> Checked {
        let entry = entries.get(id);
        let index = entry.index;
        let Some(committed) = self.committed.get_mut(index as usize - 1) else {
            ensure!(false, Visibility, "entry {index} was applied before it was committed");
            return Ok(());
        };
        ensure!(committed.id == id, LeaderCompleteness, "another entry {index} was applied than was committed");
        let found = (state_hash, digest(outcomes));
        if let Some(first) = committed.applied {
            ensure!(found.1 == first.1, Outcome, "members differ about the outcome of entry {index}: {outcomes:?}");
            ensure!(found.0 == first.0, StateHash, "members differ in state at entry {index}");
            return Ok(());
        }
        committed.applied = Some(found);
        self.model.advance(entry.log_time);
        match entry.kind {
            Kind::Batch => match Batch::check(entries.payload(id), entry.events) {
                Ok(batch) => self.model.apply_batch(&batch, outcomes, stats),
                Err(error) => {
                    ensure!(false, Outcome, "entry {index} is no batch: {error}");
                    Ok(())
                }
            },
            Kind::Command => match Command::decode(entries.payload(id)) {
                Ok(command) => self.model.apply_command(command, outcomes, stats),
                Err(error) => {
                    ensure!(false, Outcome, "entry {index} is no command: {error}");
                    Ok(())
                }
            },
            _ => Ok(()),
        }
    }

    /// A member has restored the state as of `index` from its checkpoint. Invariant 4.
    pub(crate) fn restores(&self, index: u64, state_hash: u64) -> Checked {
        if index == 0 {
            return Ok(());
        }
        let expected = self.committed.get(index as usize - 1).and_then(|committed| committed.applied);
        ensure!(
            expected.is_some_and(|(hash, _)| hash == state_hash),
            StateHash,
            "the state restored as of entry {index} is not what was applied"
        );
        Ok(())
    }
}

/// A digest of everything that a client may be told of an entry.
fn digest(outcomes: &Outcomes) -> u64 {
    let mut digest = outcomes.accepted_mask();
    let mut fold = |number: u64| digest = (digest ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
    for run in outcomes.runs() {
        fold(u64::from(run.duplicates) << 32 | u64::from(run.accepted) << 1 | u64::from(run.refused.is_some()));
        fold(run.first_offset.0);
        fold(run.duplicate_offset.map_or(u64::MAX, |offset| offset.0));
    }
    for slice in outcomes.topics() {
        fold(slice.mask);
        fold(slice.first_offset.0 << 8 | u64::from(slice.topic.0));
    }
    if let Some(CommandOutcome::EvictProducers { evicted }) = outcomes.command() {
        fold(evicted.into());
    }
    digest
}
