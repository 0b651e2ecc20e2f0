//! A follower: takes what its leader sends, and answers when it is durable (Raft paper, section 5.3).

use super::election::Campaign;
use super::error::Rejected;
use super::faults::Fault;
use super::membership::Placed;
use super::message::{Body, EntryMeta, LogPosition, Message};
use super::output::LogView;
use super::peer::Owed;
use super::snapshot::Snapshot;
use super::timer::Timer;
use super::{Raft, Role, Taken};
use crate::config::PATIENCE;
use crate::id::{Index, NodeId};
use crate::time::Instant;

/// What a follower knows of its leader's log, and what it owes it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Following {
    /// Up to here this log was compared with that of this term's leader. At least what is committed, which every later
    /// leader has.
    pub(super) verified: Index,
    /// The highest index that was accepted in this term.
    pub(super) reported: Index,
    /// The append that was refused last: what stood before it, and where the logs may agree.
    pub(super) refused: (Index, LogPosition),
    /// The heartbeat that was heard last.
    pub(super) round: u64,
}

/// What followed an append.
#[derive(Clone, Copy, Debug)]
pub(super) struct Appended<'a> {
    pub(super) entries: &'a [EntryMeta],
    /// Those of them that are of that kind.
    pub(super) configurations: &'a [Placed],
}

impl Appended<'_> {
    pub(super) const NOTHING: Self = Self { entries: &[], configurations: &[] };
}

impl Raft {
    /// A word of the leader of this term.
    pub(super) fn step_follower(
        &mut self,
        now: Instant,
        slot: usize,
        message: &Message,
        appended: Appended<'_>,
        view: &impl LogView,
    ) -> Result<Taken, Rejected> {
        match message.body {
            Body::Append { prev, commit, .. } => {
                self.follow(now, message.from)?;
                let taken = self.take_entries(now, slot, prev, appended, view)?;
                self.learn_commit(commit);
                Ok(taken)
            }
            Body::AppendTerms { prev, last, runs, commit, .. } => {
                self.follow(now, message.from)?;
                let taken = self.take_terms(now, slot, prev, last, &runs, appended.configurations, view)?;
                self.learn_commit(commit);
                Ok(taken)
            }
            Body::SnapshotRows { last, first, count, rows } => {
                self.follow(now, message.from)?;
                let taken = self.take_rows(now, slot, Snapshot { last, rows }, first, count, view)?;
                self.learn_commit(last.index);
                Ok(taken)
            }
            Body::SnapshotTerms { last, .. } => {
                self.follow(now, message.from)?;
                let taken = self.take_base(now, slot, last, appended.configurations, view)?;
                self.learn_commit(last.index);
                Ok(taken)
            }
            Body::Heartbeat { commit, round } => {
                self.follow(now, message.from)?;
                self.following.round = round;
                self.owe(slot, Owed::HeartbeatReply);
                self.learn_commit(commit);
                Ok(Taken::Nothing)
            }
            // A suspect member cannot win without pre-votes.
            Body::TimeoutNow if self.leader == Some(message.from) && !self.is_suspect() && self.can_lead() => {
                self.campaign(now, Campaign::Transfer);
                Ok(Taken::Nothing)
            }
            Body::Cleared { start } if self.leader == Some(message.from) => {
                self.handle_cleared(message.from, start);
                Ok(Taken::Nothing)
            }
            // Answers to what this node asked in another role.
            _ => Ok(Taken::Nothing),
        }
    }

    /// The node leads this term, and lives: renews its lease.
    fn follow(&mut self, now: Instant, leader: NodeId) -> Result<(), Rejected> {
        if self.role == Role::Leader || self.leader.is_some_and(|known| known != leader) {
            return Err(Rejected::SecondLeader { term: self.term() });
        }
        if self.role != Role::Follower {
            self.become_follower(now, self.term());
        }
        self.leader = Some(leader);
        self.election.campaigns = 0;
        self.election.lease_until = now + PATIENCE;
        self.timers.set(Timer::Election, now + self.patience);
        Ok(())
    }

    /// Compares the entries with the log, replaces what differs and adds what is missing. Returns the entries that were
    /// taken.
    pub(super) fn take_entries(
        &mut self,
        now: Instant,
        slot: usize,
        prev: LogPosition,
        Appended { entries, configurations }: Appended<'_>,
        view: &impl LogView,
    ) -> Result<Taken, Rejected> {
        let trusts = self.faults.has(Fault::PrevNotCompared) && prev.index <= self.last().index;
        if !trusts && !self.agrees(prev, view)? {
            self.refuse_append(slot, prev, view);
            return Ok(Taken::Nothing);
        }
        let (kept, new) = self.split_known(entries, view)?;
        let agreed = kept.last().map_or(prev, |entry| LogPosition { index: entry.index, term: entry.term });
        if !new.is_empty() || self.faults.has(Fault::ShorterAppendTruncates) {
            self.cut(now, agreed)?;
        }
        let mut taken = None;
        for entry in new {
            if !self.stable.can_append(entry.term) {
                break;
            }
            assert_eq!(self.stable.append(entry.term).index, entry.index, "entries follow one another");
            taken = Some((taken.map_or(entry.index, |(first, _)| first), entry.index));
        }
        if let Some(taken) = taken {
            self.adopt_taken(now, taken, configurations);
        }
        let verified = taken.map_or(agreed.index, |(_, last)| last);
        self.following.verified = self.following.verified.max(verified);
        self.owe(self.leader_slot().unwrap_or(slot), Owed::AppendAccepted);
        Ok(Taken::entries(taken))
    }

    /// The logs do not agree at `prev`: says where they may.
    pub(super) fn refuse_append(&mut self, slot: usize, prev: LogPosition, view: &impl LogView) {
        let hint = self.stable.last_at_most(prev.index, prev.term, self.commit, view);
        self.following.refused = (prev.index, hint);
        self.owe(slot, Owed::AppendRejected);
    }

    /// The entry after `agreed` differs from the leader's, or is missing: removes it, and those after it. Only an entry that
    /// differs removes others: a delayed, shorter append must not (Raft paper, section 5.3).
    pub(super) fn cut(&mut self, now: Instant, agreed: LogPosition) -> Result<(), Rejected> {
        let first = agreed.index.next();
        if first > self.last().index {
            return Ok(());
        }
        assert!(first > self.following.verified, "what was verified, or is committed, is never removed");
        if !self.can_revert(first) {
            return Err(Rejected::Contradiction { index: first });
        }
        self.stable.truncate(agreed, self.faults.has(Fault::LateReportCounts));
        self.empty_entry = self.empty_entry.filter(|empty| empty.index <= agreed.index);
        self.revert(now, first);
        Ok(())
    }

    /// Whether the log has the entry at `at`. What was verified is taken to agree where the store has forgotten it.
    pub(super) fn agrees(&self, at: LogPosition, view: &impl LogView) -> Result<bool, Rejected> {
        let verified = at.index <= self.following.verified;
        match self.stable.term(at.index, view) {
            Some(term) if term == at.term => Ok(true),
            Some(_) if self.faults.has(Fault::TermsNotCompared) => Ok(true),
            Some(_) if verified => Err(Rejected::Contradiction { index: at.index }),
            Some(_) => Ok(false),
            None => Ok(verified),
        }
    }

    /// Splits `entries` into those that the log has and those from the first that it has not.
    fn split_known<'a>(
        &self,
        entries: &'a [EntryMeta],
        view: &impl LogView,
    ) -> Result<(&'a [EntryMeta], &'a [EntryMeta]), Rejected> {
        for (place, entry) in entries.iter().enumerate() {
            if !self.agrees(LogPosition { index: entry.index, term: entry.term }, view)? {
                return Ok(entries.split_at(place));
            }
        }
        Ok((entries, &[]))
    }

    /// The leader says that `commit` is committed: true of this log as far as it was verified.
    fn learn_commit(&mut self, commit: Index) {
        let beyond = self.faults.has(Fault::CommitBeyondVerified);
        let commit = commit.min(if beyond { self.last().index } else { self.following.verified });
        assert!(commit <= self.last().index, "verified beyond the end of the log");
        self.commit = self.commit.max(commit);
    }

    /// The answer to the appends of this term's leader, once it promises more than the last one or all that there is.
    pub(super) fn accepted(&mut self, slot: usize) -> Option<Body> {
        if !self.stable.term_is_durable() && !self.faults.has(Fault::AckBeforeTerm) {
            return None;
        }
        let verified = self.following.verified;
        let early = self.faults.has(Fault::AckBeforeSync);
        let matched = verified.min(if early { verified } else { self.stable.durable() });
        if matched == verified {
            self.peers[slot].owed.remove(Owed::AppendAccepted);
        } else if matched <= self.following.reported {
            return None;
        }
        assert!(matched >= self.following.reported, "a promise is not taken back within a term");
        self.following.reported = matched;
        Some(if self.is_suspect() { self.suspect_reply() } else { Body::AppendAccepted { matched } })
    }
}
