//! The configurations of a log, and how they change.
//!
//! A configuration takes effect when it is **appended** (Raft paper, section 6), and reverts when it is truncated. A leader
//! begins a change only when the one before is committed. So of all configurations in a log only the last one can be
//! truncated, and two are remembered.

use super::change::{Change, ChangeError, Transition};
use super::configuration::{Configuration, Member, Slots};
use super::error::{ProposeError, Rejected};
use super::faults::Fault;
use super::message::{Body, LogPosition, Message};
use super::peer::Peer;
use super::quorum::Majority;
use super::timer::Timer;
use super::{Raft, Role};
use crate::config::MAX_MEMBERS;
use crate::id::{Index, NodeId};
use crate::time::Instant;

/// The slot of a sender that is no member, as far as this node's log goes: it may be one of a later configuration
/// (Raft thesis, section 4.1). There is one such sender at a time.
pub(super) const GUEST: usize = MAX_MEMBERS;
/// The slot of this node when it is no member: in no set.
pub(super) const NOWHERE: usize = MAX_MEMBERS + 1;

/// A configuration, and the entry that holds it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Placed {
    /// The index of the entry; zero for the first configuration, which no entry holds.
    pub index: Index,
    /// What it holds.
    pub configuration: Configuration,
}

/// The last two configurations of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Membership {
    latest: Placed,
    /// The one before, to which a truncation reverts.
    before: Placed,
}

impl From<Configuration> for Membership {
    /// Of a log that holds no other.
    fn from(configuration: Configuration) -> Self {
        Self::new(Placed { index: Index::ZERO, configuration })
    }
}

impl Membership {
    /// Of a log whose applied part ends with this configuration.
    #[must_use]
    pub const fn new(applied: Placed) -> Self {
        Self { latest: applied, before: applied }
    }

    /// Adds the configuration of a later entry.
    pub fn append(&mut self, placed: Placed) {
        assert!(placed.index > self.latest.index, "{placed:?} does not follow {:?}", self.latest);
        self.before = core::mem::replace(&mut self.latest, placed);
    }

    /// The one in force: that of the last entry that holds one.
    #[must_use]
    pub const fn latest(&self) -> &Placed {
        &self.latest
    }

    /// The one before that in force, to which a truncation reverts; the same if it is not known. It is committed.
    #[must_use]
    pub const fn before(&self) -> &Placed {
        &self.before
    }

    /// The one that is in force at the entry `index`. Of the one before the last at the earliest: those before it are
    /// forgotten.
    #[must_use]
    pub const fn as_of(&self, index: Index) -> Placed {
        if self.latest.index.0 <= index.0 { self.latest } else { self.before }
    }

    /// Entries at and after `from` are removed. Whether that changes the configuration.
    fn truncate(&mut self, from: Index) -> bool {
        let reverts = self.latest.index >= from;
        if reverts {
            self.latest = self.before;
        }
        reverts
    }

    /// While a configuration with one voter more is not committed: the majority before, which has to have it as well.
    ///
    /// Without that rule a third voter could be added by two of three of which one is new. If the other one then loses
    /// the end of its log, and is suspect, all voters of the configuration that it falls back to may elect it, and nobody
    /// among them has the entry.
    pub(super) fn majority_before(&self, commit: Index) -> Majority {
        let Self { latest, before } = self;
        let (old, new) = (&before.configuration, &latest.configuration);
        let adds = !old.is_joint() && !new.is_joint() && old.sets.voters.without_all(new.sets.voters) == Slots::NONE;
        Majority::of(if adds && latest.index > commit { old.sets.voters } else { Slots::NONE })
    }

    /// Whether the log can be cut before `from`, and it is known which configuration is in force then.
    fn can_truncate(&self, from: Index) -> bool {
        self.latest.index < from || self.before.index < from
    }
}

/// Getters.
impl Raft {
    /// The entry of the configuration that this leader has begun and that was not given out yet.
    pub(crate) const fn begun_configuration(&self) -> Option<LogPosition> {
        self.configuration_entry
    }
}

/// Commands.
impl Raft {
    /// Begins a change of members. The entry that holds the next configuration is the next of the log: its frame is asked
    /// for by [`Output::AppendConfiguration`](super::Output::AppendConfiguration). The configuration is in force at once, and
    /// is decided when the entry is committed.
    ///
    /// # Errors
    ///
    /// [`ChangeError`]: nothing has changed.
    pub fn propose_change(
        &mut self,
        now: Instant,
        changes: &[Change],
        transition: Transition,
    ) -> Result<LogPosition, ChangeError> {
        self.check_change()?;
        let next = self.configuration().changed(changes, transition)?;
        // Of a joint configuration nobody is removed yet.
        if !next.is_joint() {
            self.check_disks(&next)?;
        }
        Ok(self.append_configuration(now, next))
    }

    /// Ends a joint configuration that was to last until told.
    ///
    /// # Errors
    ///
    /// [`ChangeError`]: nothing has changed.
    pub fn propose_leave_joint(&mut self, now: Instant) -> Result<LogPosition, ChangeError> {
        self.check_change()?;
        let next = self.configuration().leave_joint()?;
        self.check_disks(&next)?;
        Ok(self.append_configuration(now, next))
    }

    /// Whether this leader may begin a change: not while the last one is under way, and not before an entry of its own
    /// term is committed, since then one that it does not know of may still be (Ongaro, *bug in single-server membership
    /// changes*, raft-dev 2015).
    fn check_change(&self) -> Result<(), ChangeError> {
        if self.role != Role::Leader {
            return Err(ProposeError::NotLeader { term: self.term(), leader: self.leader }.into());
        }
        if let Some(to) = self.successor() {
            return Err(ProposeError::HandingOver { to }.into());
        }
        let of_last = if self.faults.has(Fault::SecondChange) { Index::ZERO } else { self.membership.latest().index };
        let own = if self.faults.has(Fault::ChangeBeforeOwnTerm) { Index::ZERO } else { self.leading.first };
        let index = of_last.max(own);
        if index > self.commit { Err(ChangeError::Pending { index }) } else { Ok(()) }
    }

    /// Whether what is committed is on the disk of a voter that stays.
    fn check_disks(&self, next: &Configuration) -> Result<(), ChangeError> {
        let has_all = |slot: usize| {
            next.member(slot).is_some() && next.member(slot) == self.configuration().member(slot) && {
                slot == self.own || self.counts(slot) && self.peers[slot].progress.matched() >= self.commit
            }
        };
        let disks = next.sets.voters.without_all(next.sets.witnesses);
        if disks.iter().any(has_all) { Ok(()) } else { Err(ChangeError::OnlyCopy { commit: self.commit }) }
    }
}

impl Raft {
    /// The member at `slot`, or the guest.
    pub(super) fn member(&self, slot: usize) -> Option<Member> {
        if slot == GUEST { self.guest } else { self.configuration().member(slot) }
    }

    /// The id of the member at `slot`, which is taken.
    pub(super) fn id(&self, slot: usize) -> NodeId {
        self.member(slot).expect("nothing is counted or owed at a free slot").node
    }

    /// The slot of a message's sender.
    pub(super) fn sender(&mut self, now: Instant, message: &Message) -> Result<usize, Rejected> {
        let &Message { from, incarnation, .. } = message;
        let sender = Member { node: from, incarnation };
        if from == self.node {
            return Err(Rejected::NotAPeer { from });
        }
        if self.guest == Some(sender) {
            return Ok(GUEST);
        }
        if let Some(slot) = self.configuration().slot(from) {
            let is_known = self.member(slot) == Some(sender);
            return if is_known { Ok(slot) } else { Err(Rejected::OtherIncarnation { from, incarnation }) };
        }
        let asks = match message.body {
            Body::PreVote { .. } | Body::SuspectPreVote { .. } | Body::Vote { .. } => true,
            // One leads this term already, and that is not the sender.
            body => body.is_of_leader() && (message.term > self.term() || self.leader.is_none()),
        };
        // A leader that was removed leads until that is committed, and is not to be pushed out while it lives.
        let is_lease = now < self.election.lease_until;
        let is_leader = is_lease && self.guest.is_some_and(|guest| self.leader == Some(guest.node));
        if !asks || is_leader || from == NodeId(0) {
            return Err(Rejected::NotAPeer { from });
        }
        self.invite(Some(sender), Peer::NEW);
        Ok(GUEST)
    }

    fn invite(&mut self, guest: Option<Member>, peer: Peer) {
        self.guest = guest;
        self.peers[GUEST] = peer;
        self.attention.remove(GUEST);
    }

    /// Whether this member may become a leader, or stay one. Who has just been removed may have to: perhaps nobody else has
    /// the entry that says so. It does not count itself then (Raft thesis, section 4.2.2).
    pub(super) fn can_lead(&self) -> bool {
        let Membership { latest, before } = &self.membership;
        let leads_in = |placed: &Placed| {
            let sets = &placed.configuration.sets;
            let own = Some(Member { node: self.node, incarnation: self.incarnation });
            let data_voters = sets.deciding().without_all(sets.witnesses);
            data_voters.iter().any(|slot| placed.configuration.member(slot) == own)
        };
        let may_be_needed = latest.index > self.commit && !self.faults.has(Fault::RemovedDoesNotCampaign);
        !self.is_witness && (leads_in(latest) || may_be_needed && leads_in(before))
    }

    /// Appends the next configuration to the log of this leader.
    fn append_configuration(&mut self, now: Instant, configuration: Configuration) -> LogPosition {
        let position = self.stable.append(self.term());
        self.configuration_entry = Some(position);
        self.adopt(now, Placed { index: position.index, configuration });
        self.attention = self.others;
        self.advance_commit();
        position
    }

    /// Takes over the configuration of an entry that was appended.
    pub(super) fn adopt(&mut self, now: Instant, placed: Placed) {
        let old = *self.configuration();
        self.membership.append(placed);
        self.reconfigure(now, &old);
    }

    /// Takes over the configurations among the entries that were taken.
    pub(super) fn adopt_taken(&mut self, now: Instant, (first, last): (Index, Index), configurations: &[Placed]) {
        let is_taken = |placed: &&Placed| (first..=last).contains(&placed.index);
        configurations.iter().filter(is_taken).for_each(|&placed| self.adopt(now, placed));
    }

    /// Whether the entries at and after `from` can go.
    pub(super) fn can_revert(&self, from: Index) -> bool {
        self.membership.can_truncate(from)
    }

    /// The entries at and after `from` are gone.
    pub(super) fn revert(&mut self, now: Instant, from: Index) {
        let old = *self.configuration();
        if !self.faults.has(Fault::ConfigurationKept) && self.membership.truncate(from) {
            self.reconfigure(now, &old);
        }
        self.configuration_entry = self.configuration_entry.filter(|entry| entry.index < from);
    }

    /// The configuration has changed: forgets who has gone, and begins with who has come.
    pub(super) fn reconfigure(&mut self, now: Instant, old: &Configuration) {
        let new = *self.configuration();
        let differs = |slot: &usize| old.member(*slot) != new.member(*slot);
        for slot in (0..MAX_MEMBERS).filter(differs) {
            let peer = core::mem::replace(&mut self.peers[slot], Peer::NEW);
            self.forget(slot);
            let leads = |left: Member| self.leader == Some(left.node) && left.node != self.node;
            if let Some(left) = old.member(slot).filter(|&left| leads(left)) {
                // It leads until its removal is committed.
                self.invite(Some(left), peer);
            }
        }
        for slot in (0..MAX_MEMBERS).filter(differs) {
            let came = new.member(slot);
            if came.is_some() && came == self.guest {
                self.peers[slot] = self.peers[GUEST];
                self.invite(None, Peer::NEW);
                self.attention.insert(slot);
            }
            // What a guest has answered an earlier leadership of this node says nothing.
            self.peers[slot].begin(self.last().index.next(), now);
        }
        self.set_places();
        if self.role == Role::Leader
            && self.others != Slots::NONE
            && self.timers.at(Timer::Quorum) == Instant::FAR_FUTURE
        {
            self.begin_rounds(now);
        }
        if matches!(self.role, Role::PreCandidate | Role::Candidate) && !self.can_lead() {
            self.become_follower(now, self.term());
        }
        if self.role == Role::Follower && self.can_lead() && self.timers.at(Timer::Election) == Instant::FAR_FUTURE {
            self.timers.set(Timer::Election, now + self.patience);
        }
    }

    /// Works out what follows from the configuration.
    pub(super) fn set_places(&mut self) {
        let configuration = *self.configuration();
        let own = Member { node: self.node, incarnation: self.incarnation };
        let slot = configuration.slot(self.node).filter(|&slot| configuration.member(slot) == Some(own));
        self.quorum = configuration.quorum();
        if self.faults.has(Fault::JointByOneMajority) {
            self.quorum.outgoing = Majority::of(Slots::NONE);
        }
        (self.own, self.others) = match slot {
            Some(slot) => (slot, configuration.slots().without(slot)),
            None => (NOWHERE, configuration.slots()),
        };
    }

    /// Nothing is counted for this slot, or owed to it.
    fn forget(&mut self, slot: usize) {
        self.attention.remove(slot);
        self.election.forget(slot);
        self.leading.successor = self.leading.successor.filter(|&successor| successor != slot);
    }

    /// What a leader does when a configuration is committed: ends a joint one, and steps aside if it is not in the new one.
    pub(super) fn conclude_change(&mut self, now: Instant) {
        if self.role != Role::Leader || self.membership.latest().index > self.commit {
            return;
        }
        let configuration = *self.configuration();
        if configuration.sets.auto_leave && self.commit >= self.leading.first {
            let next = configuration.leave_joint().expect("it is joint");
            self.append_configuration(now, next);
        } else if !self.can_lead() && self.successor().is_none() && self.transfer_leadership(now, None).is_err() {
            self.become_follower(now, self.term());
        }
    }

    /// The slot of this node's leader, which may have changed with the configuration.
    pub(super) fn leader_slot(&self) -> Option<usize> {
        let leader = self.leader?;
        let is_guest = self.guest.is_some_and(|guest| guest.node == leader);
        if is_guest { Some(GUEST) } else { self.configuration().slot(leader) }
    }

    /// Everybody to whom something may be owed.
    pub(super) fn audience(&self) -> Slots {
        let mut audience = self.others;
        if self.guest.is_some() {
            audience.insert(GUEST);
        }
        audience
    }

    /// Other voters.
    pub(super) fn other_voters(&self) -> Slots {
        self.configuration().sets.deciding().without(self.own)
    }
}
