//! The witness: a voter that keeps no payloads.
//!
//! It is told which terms entries have, and compares and keeps those as any follower does: its vote and what it
//! acknowledges are worth as much. What it cannot do is to give anybody an entry. So it never campaigns; it is told only
//! of entries that are on the disk of somebody who can; and a leader counts it only while too few of the voters that keep
//! the log keep up. That is a policy: any majority is a quorum.

use super::configuration::Slots;
use super::error::Rejected;
use super::faults::Fault;
use super::membership::Placed;
use super::message::{Body, LogPosition, Message};
use super::output::LogView;
use super::peer::Owed;
use super::progress::{Flow, Limit};
use super::quorum::VoteResult;
use super::replication::Next;
use super::{Raft, Role, Taken};
use crate::config::{MAX_SENT_RUNS, PATIENCE};
use crate::id::Index;
use crate::time::Instant;

/// Whether the terms that the message tells make sense, and come with the configuration that it announces.
pub(super) fn check_terms(message: &Message, configurations: &[Placed]) -> Result<(), Rejected> {
    let Body::AppendTerms { prev, last, runs, configuration, .. } = message.body else { return Ok(()) };
    let told = runs.iter().take_while(|run| run.index > Index::ZERO).count();
    let (told, rest) = runs.split_at(told);
    let begins = told.first().map(|run| run.index) == (last > prev.index).then(|| prev.index.next());
    let ascends = told.is_sorted_by(|one, next| one.index < next.index && one.term < next.term);
    let within = told.iter().all(|run| run.index <= last && run.term >= prev.term && run.term <= message.term);
    let is_placed = match configurations {
        [] => configuration == Index::ZERO,
        [placed] => placed.index == configuration && configuration > prev.index && configuration <= last,
        _ => false,
    };
    let is_right = last >= prev.index
        && (told.is_empty() || prev.term <= message.term)
        && rest.iter().all(|run| *run == LogPosition::default());
    if begins && ascends && within && is_placed && is_right { Ok(()) } else { Err(Rejected::Entries) }
}

/// A witness.
impl Raft {
    /// Compares the terms with the log's, replaces what differs and adds what is missing. Returns the entries that were
    /// taken.
    #[allow(clippy::too_many_arguments, reason = "the fields of one message")]
    pub(super) fn take_terms(
        &mut self,
        now: Instant,
        slot: usize,
        prev: LogPosition,
        last: Index,
        runs: &[LogPosition; MAX_SENT_RUNS],
        configurations: &[Placed],
        view: &impl LogView,
    ) -> Result<Taken, Rejected> {
        if !self.agrees(prev, view)? {
            self.refuse_append(slot, prev, view);
            return Ok(Taken::Nothing);
        }
        let told = runs.iter().filter(|run| run.index > Index::ZERO);
        let ends = told.clone().skip(1).map(|next| next.index.prev()).chain([last]);
        let told = told.zip(ends).map(|(run, end)| LogPosition { index: end, term: run.term });
        let agreed = self.last_agreed(prev, last, told.clone(), view)?;
        let mut taken = None;
        if agreed.index < last {
            self.cut(now, agreed)?;
            for end in told.filter(|end| end.index > agreed.index) {
                if !self.stable.can_append(end.term) {
                    break;
                }
                self.stable.append_run(end.index, end.term);
                taken = Some((agreed.index.next(), end.index));
            }
        }
        if let Some(taken) = taken {
            self.adopt_taken(now, taken, configurations);
        }
        let verified = taken.map_or(agreed.index, |(_, last)| last);
        self.following.verified = self.following.verified.max(verified);
        self.owe(self.leader_slot().unwrap_or(slot), Owed::AppendAccepted);
        Ok(Taken::entries(taken))
    }

    /// Up to where, and at most to `last`, the log equals the leader's, whose runs of one term end as `told`; they agree
    /// at `prev`.
    fn last_agreed(
        &self,
        prev: LogPosition,
        last: Index,
        told: impl Iterator<Item = LogPosition> + Clone,
        view: &impl LogView,
    ) -> Result<LogPosition, Rejected> {
        let floor = self.following.verified.min(last).max(prev.index);
        let covering = told.clone().find(|end| end.index >= floor && floor > prev.index);
        let mut agreed = LogPosition { index: floor, term: covering.map_or(prev.term, |end| end.term) };
        if self.stable.term(floor, view).is_some_and(|known| known != agreed.term) {
            return Err(Rejected::Contradiction { index: floor });
        }
        for end in told.filter(|end| end.index > floor) {
            // Where both logs have an entry of one term, they are equal up to there.
            let known = self.stable.last_at_most(end.index, end.term, floor, view);
            if known.index > agreed.index && known.term == end.term {
                agreed = known;
            }
            if known.index < end.index {
                break;
            }
        }
        Ok(agreed)
    }
}

/// A leader of a witness.
impl Raft {
    /// Whether the entry is on the stable storage of a majority even without the witness, as far as this leader knows.
    #[must_use]
    pub fn is_on_disks(&self, index: Index) -> bool {
        let sets = &self.configuration().sets;
        let disks = sets.deciding().without_all(sets.witnesses);
        let have = disks.iter().filter(|&slot| self.kept_by(slot) >= index).collect();
        sets.witnesses == Slots::NONE || self.quorum.result(have, Slots::NONE, Slots::NONE) == VoteResult::Won
    }

    /// What the witness is told next, if anything.
    pub(super) fn terms_request(&mut self, slot: usize, view: &impl LogView) -> Option<Body> {
        let (end, commit) = (self.last_on_a_disk(), self.commit);
        let Next::Entries { prev, mut batch } = self.next_for(slot, end, Limit::TERMS, view)? else {
            return self.snapshot_terms(slot, view);
        };
        let (mut last, mut runs) = (prev.index, [LogPosition::default(); MAX_SENT_RUNS]);
        for told in &mut runs {
            let Some(run) = self.stable.run(last.next(), end, view) else { break };
            *told = LogPosition { index: last.next(), term: run.term };
            last = run.index;
        }
        batch.count = last.0 - prev.index.0;
        if batch.count == 0 && end > prev.index {
            return None;
        }
        self.peers[slot].progress.sent(batch, commit);
        let configuration = self.membership.latest().index;
        let is_told = configuration > prev.index && configuration <= last;
        let configuration = if is_told { configuration } else { Index::ZERO };
        Some(Body::AppendTerms { prev, last, runs, configuration, commit })
    }

    /// What the witness may be told: while it is not counted, what is committed; else the last entry that a voter is known to
    /// have on its disk which keeps the log. It votes for nobody who has less than it was told. So if it knew of more than
    /// the disk that is left, or than any after a power cut, nobody could ever lead, although nothing of that was committed.
    fn last_on_a_disk(&self) -> Index {
        if self.faults.has(Fault::WitnessToldEarly) {
            return self.last().index;
        }
        if !self.leading.needs_witness {
            return self.commit;
        }
        let sets = &self.configuration().sets;
        let disks = sets.deciding().without_all(sets.witnesses);
        disks.iter().map(|slot| self.kept_by(slot)).max().unwrap_or_default().max(self.commit)
    }

    /// Up to where the voter at `slot` is known to have the log on its disk.
    fn kept_by(&self, slot: usize) -> Index {
        match &self.peers[slot] {
            _ if slot == self.own => self.stable.durable(),
            peer if self.counts(slot) => peer.progress.matched(),
            _ => Index::ZERO,
        }
    }

    /// Whether the voter has lately heard, and written, all that it was sent.
    fn keeps_up(&self, now: Instant, slot: usize) -> bool {
        if slot == self.own {
            return self.leading.level + PATIENCE > now;
        }
        let peer = &self.peers[slot];
        let is_here = peer.heard + PATIENCE > now && peer.progress.flow() == Flow::Replicate && self.counts(slot);
        is_here && peer.level + PATIENCE > now
    }

    /// A peer has answered: notes whether it has all, or more than before.
    pub(super) fn note_pace(&mut self, now: Instant, slot: usize) {
        let last = self.last().index;
        let peer = &mut self.peers[slot];
        let matched = peer.progress.matched();
        if matched == last || matched > peer.matched_before {
            peer.level = now;
        }
        peer.matched_before = matched;
        self.review_witness(now);
    }

    /// A write of this leader's is on its disk.
    pub(super) fn note_own_pace(&mut self, now: Instant) {
        self.leading.level = now;
    }

    /// Finds out whether the witness is needed.
    pub(super) fn review_witness(&mut self, now: Instant) {
        let sets = self.configuration().sets;
        if self.role != Role::Leader || sets.witnesses == Slots::NONE {
            return;
        }
        if self.stable.durable() == self.last().index {
            self.leading.level = now;
        }
        let disks = sets.deciding().without_all(sets.witnesses);
        let keep_up: Slots = disks.iter().filter(|&slot| self.keeps_up(now, slot)).collect();
        let before = self.membership.majority_before(self.commit);
        let wins = |result: VoteResult| result == VoteResult::Won;
        let do_without = wins(self.quorum.result(keep_up, Slots::NONE, Slots::NONE))
            && wins(before.result(keep_up, Slots::NONE, Slots::NONE));
        if self.leading.needs_witness == do_without {
            self.leading.needs_witness = !do_without;
            self.attention = self.attention.either(sets.witnesses.both(self.others));
        }
        self.advance_commit();
    }
}
