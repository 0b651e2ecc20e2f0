//! A leader: sends entries, counts who has them, commits (Raft paper, sections 5.3 and 5.4).

use super::configuration::{Sets, Slots};
use super::error::Rejected;
use super::faults::Fault;
use super::message::{Body, LogPosition, Message};
use super::output::LogView;
use super::peer::{Owed, OwedSet};
use super::progress::{Batch, Limit};
use super::quorum::{Majority, Quorum};
use super::timer::Timer;
use super::{Raft, Role};
use crate::config::{HEARTBEAT, PATIENCE};
use crate::id::Index;
use crate::time::Instant;

/// What a peer is to be sent.
#[derive(Clone, Copy, Debug)]
pub(super) enum Next {
    /// Entries, or the question whether `prev` matches.
    Entries {
        /// The entry before them.
        prev: LogPosition,
        batch: Batch,
    },
    /// A snapshot: what it lacks is behind the horizon.
    Snapshot,
}

/// What a leader needs to know of its own leadership.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Leading {
    /// Its first entry, the empty one: from here on entries are of its term.
    pub(super) first: Index,
    /// Counts the rounds of heartbeats.
    pub(super) round: u64,
    /// The slot of the member that it hands over to.
    pub(super) successor: Option<usize>,
    /// When its own disk has last kept up: see [`keeps_up`](Raft::keeps_up).
    pub(super) level: Instant,
    /// Too few voters that keep the log keep up: the witness is counted.
    pub(super) needs_witness: bool,
}

impl Raft {
    pub(super) fn become_leader(&mut self, now: Instant) {
        assert_eq!(self.stable.durable(), self.last().index, "a vote is durable after the entries before it");
        self.role = Role::Leader;
        self.leader = Some(self.node);
        self.election.campaigns = 0;
        self.timers.stop(Timer::Election);
        self.timers.stop(Timer::Lease);
        // Committing an entry of its own term commits what earlier leaders left (Raft paper, section 5.4.2).
        let empty = self.stable.append(self.term());
        self.empty_entry = Some(empty);
        self.forget_reads();
        self.leading = Leading { first: empty.index, level: now, needs_witness: true, ..Leading::default() };
        for slot in self.others.iter() {
            let peer = &mut self.peers[slot];
            peer.owed.retain(OwedSet::TIMELESS);
            peer.begin(empty.index, now);
        }
        // Whoever leads with the votes of all has forgotten nothing that counts.
        self.forget_suspicion(self.node);
        if self.others != Slots::NONE {
            self.begin_rounds(now);
        }
    }

    /// There is somebody to lead: begins to send heartbeats, and to ask whether a majority answers.
    pub(super) fn begin_rounds(&mut self, now: Instant) {
        self.handle_heartbeat_timeout(now);
        self.timers.set(Timer::Quorum, now + PATIENCE);
    }

    pub(super) fn handle_heartbeat_timeout(&mut self, now: Instant) {
        self.review_witness(now);
        self.leading.round += 1;
        for slot in self.others.iter() {
            self.owe(slot, Owed::Heartbeat);
        }
        self.timers.set(Timer::Heartbeat, now + HEARTBEAT);
    }

    /// Steps down if no majority was heard for as long as a follower waits (Raft thesis, section 6.2).
    pub(super) fn handle_quorum_timeout(&mut self, now: Instant) {
        let heard = |slot: usize| if slot == self.own { now } else { self.peers[slot].heard };
        let counted = |slot: usize| if self.counts(slot) { heard(slot) } else { Instant::ZERO };
        // As in elections: who is suspect is no part of a majority, but of all.
        let majority = self.quorum.reached(counted).unwrap_or(now);
        let heard = self.other_voters().iter().map(heard).min().unwrap_or(now).max(majority);
        if heard + PATIENCE > now {
            self.timers.set(Timer::Quorum, heard + PATIENCE);
        } else {
            self.become_follower(now, self.term());
            self.timers.set(Timer::Election, now + self.patience);
        }
    }

    /// A peer's answer in this leader's term.
    pub(super) fn step_leader(
        &mut self,
        now: Instant,
        slot: usize,
        message: &Message,
        view: &impl LogView,
    ) -> Result<(), Rejected> {
        match message.body {
            Body::AppendAccepted { matched } => self.handle_accepted(slot, matched)?,
            Body::AppendRejected { rejected, hint } => self.handle_refused(slot, rejected, hint, view),
            Body::HeartbeatReply { round, verified, .. } => {
                self.absolve(slot, round);
                self.handle_answered(slot, round, verified);
            }
            Body::SuspectReply { start, round, verified, matched, .. } => {
                self.handle_suspect(slot, start, matched)?;
                self.handle_answered(slot, round, verified);
            }
            Body::SnapshotTaken { last, next } => self.peers[slot].progress.rows_taken(last, next),
            body if body.is_of_leader() => return Err(Rejected::SecondLeader { term: self.term() }),
            // Answers to what this node asked before it led.
            _ => {}
        }
        self.peers[slot].heard = now;
        self.note_pace(now, slot);
        self.call_successor(slot);
        self.attention.insert(slot);
        self.attention = self.attention.either(self.configuration().sets.witnesses.both(self.others));
        Ok(())
    }

    fn handle_accepted(&mut self, slot: usize, matched: Index) -> Result<(), Rejected> {
        if matched > self.last().index {
            return Err(Rejected::BeyondLog { matched });
        }
        // What a member has said before it became suspect counts no longer.
        if !self.is_behind_suspicion(slot) && self.peers[slot].progress.accepted(matched) {
            self.advance_commit();
        }
        Ok(())
    }

    fn handle_answered(&mut self, slot: usize, round: u64, verified: Index) {
        let peer = &mut self.peers[slot];
        peer.progress.heartbeat_answered(round, verified);
        peer.answered = peer.answered.max(round);
        self.review_suspicions();
    }

    fn handle_refused(&mut self, slot: usize, rejected: Index, hint: LogPosition, view: &impl LogView) {
        let progress = &mut self.peers[slot].progress;
        if progress.is_rejection(rejected) {
            let (before, matched) = (hint.index.min(rejected.prev()), progress.matched());
            progress.probe_after(self.stable.last_at_most(before, hint.term, matched, view));
        }
    }

    /// Commits what a majority has on stable storage, if it is of this leader's term (Raft paper, section 5.4.2).
    pub(super) fn advance_commit(&mut self) {
        if self.role != Role::Leader {
            return;
        }
        let early = self.faults.has(Fault::LeaderCountsItselfBeforeSync);
        let own = if early { self.last().index } else { self.stable.durable() };
        let spared = if self.leading.needs_witness { Slots::NONE } else { self.configuration().sets.witnesses };
        let matched = |slot: usize| match &self.peers[slot] {
            _ if spared.contains(slot) => Index::ZERO,
            _ if slot == self.own => own,
            peer if self.counts(slot) => peer.progress.matched(),
            _ => Index::ZERO,
        };
        let reached = self.deciding().reached(matched).unwrap_or_default();
        let before = self.membership.majority_before(self.commit).reached(matched);
        let before = before.filter(|_| !self.faults.has(Fault::AddedWithoutMajorityBefore));
        let reached = before.map_or(reached, |before| before.min(reached));
        let own_term = reached >= self.leading.first || self.faults.has(Fault::OldTermCommitted);
        if reached > self.commit && own_term {
            assert!(reached <= self.last().index, "committed beyond the end of the log");
            self.commit = reached;
            self.attention = self.others;
        }
    }

    /// What decides commits: the quorum, unless a mistake is planted.
    fn deciding(&self) -> Quorum {
        let Sets { voters, learners, .. } = self.configuration().sets;
        let incoming = match () {
            () if self.faults.has(Fault::LearnersCounted) => voters.either(learners),
            () if self.faults.has(Fault::RemovedLeaderCounts) => voters.either(Slots::only(self.own)),
            () => return self.quorum,
        };
        Quorum { incoming: Majority::of(incoming), ..self.quorum }
    }

    /// The next append for a peer, if one is to be sent.
    pub(super) fn append_request(&mut self, slot: usize, view: &impl LogView) -> Option<Body> {
        if self.configuration().sets.witnesses.contains(slot) {
            return self.terms_request(slot, view);
        }
        let Next::Entries { prev, batch } = self.next_for(slot, self.last().index, Limit::ENTRIES, view)? else {
            return self.snapshot_request(slot, view);
        };
        let commit = self.commit;
        self.peers[slot].progress.sent(batch, commit);
        Some(Body::Append { prev, count: batch.count as u16, commit })
    }

    /// What a peer is to be sent next, if anything, of a log that ends at `last` for it.
    pub(super) fn next_for(&mut self, slot: usize, last: Index, limit: Limit, view: &impl LogView) -> Option<Next> {
        let (commit, horizon) = (self.commit, self.horizon(view));
        let progress = &mut self.peers[slot].progress;
        if progress.is_behind(horizon) {
            return Some(Next::Snapshot);
        }
        let batch = progress.sendable(last, commit, limit)?;
        let term = self.stable.term(batch.prev, view).filter(|_| batch.prev.next() >= horizon);
        let entries = |term| Next::Entries { prev: LogPosition { index: batch.prev, term }, batch };
        Some(term.map_or(Next::Snapshot, entries))
    }

    pub(super) fn heartbeat(&mut self, slot: usize) -> Body {
        let round = self.leading.round;
        let progress = &mut self.peers[slot].progress;
        progress.heartbeat_sent(round);
        Body::Heartbeat { commit: self.commit.min(progress.matched()), round }
    }
}
