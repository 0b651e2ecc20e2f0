//! Suspect members: those that may have forgotten a term, a vote or entries that they had promised, because the last
//! thing that they wrote was damaged and had to be dropped.
//!
//! Nobody can tell whether anything was forgotten. So until a leader has *cleared* such a member,
//!
//! - its vote counts only if all voters give theirs ([`Ballot::IfAll`](super::election::Ballot)), in elections as well as
//!   in pre-votes, whether it votes or campaigns;
//! - it answers its leader with [`Body::SuspectReply`] alone, and the leader counts it towards a commit only when all other
//!   voters have answered a heartbeat that was sent after the leader had learned of it: then none of them is in a later
//!   term that the member may have forgotten;
//! - it is cleared when, beyond that, its log has all that the leader's had when the leader learned of it.
//!
//! `docs/suspect.md` says why this loses nothing, and what it costs.

use super::Raft;
use super::election::Ballot;
use super::error::Rejected;
use super::faults::Fault;
use super::message::Body;
use super::output::HardState;
use super::peer::Owed;
use crate::id::{Index, NodeId};

/// What a leader holds against a peer that has said that it is suspect.
#[derive(Clone, Copy, Debug)]
pub(super) struct Suspicion {
    /// Which start of the peer's process it is about.
    start: u64,
    /// The round of heartbeats that had been sent last when the leader learned of it.
    round: u64,
    /// The leader's last entry then: whatever the peer had accepted from it before lies at or before this.
    last: Index,
    /// All other voters have answered a later round.
    is_confirmed: bool,
}

/// A suspect member.
impl Raft {
    /// Names this start of the process while its votes count only with those of all; else zero.
    pub(super) fn start_if_suspect(&self) -> u64 {
        if self.is_suspect() && !self.faults.has(Fault::SuspectVotesAsSound) { self.start } else { 0 }
    }

    /// This member's vote for itself.
    pub(super) fn own_ballot(&self) -> Ballot {
        match self.start_if_suspect() {
            0 => Ballot::Granted,
            _ if self.is_new() => Ballot::IfNew,
            _ => Ballot::IfAll,
        }
    }

    /// The answer to heartbeats and appends. Does not wait for storage, and says what has got there.
    pub(super) fn suspect_reply(&self) -> Body {
        let verified = self.following.verified;
        let matched = if self.stable.term_is_durable() { verified.min(self.stable.durable()) } else { Index::ZERO };
        Body::SuspectReply { start: self.start, round: self.following.round, verified, matched, wall_us: 0 }
    }

    /// The leader says that this member is no longer suspect.
    pub(super) fn handle_cleared(&mut self, leader: NodeId, start: u64) {
        if start == self.start {
            self.forget_suspicion(leader);
        }
    }

    /// Nothing depends any more on what this member may have forgotten. A vote of this term that it may have forgotten is
    /// replaced by one for the term's leader.
    pub(super) fn forget_suspicion(&mut self, leader: NodeId) {
        let hard_state = self.stable.hard_state();
        if hard_state.suspect {
            let vote = hard_state.vote.or(Some(leader));
            self.stable.set_hard_state(HardState { vote, suspect: false, ..hard_state });
        }
    }
}

/// A leader of suspect members.
impl Raft {
    /// Whether the member at `slot` counts towards a majority.
    pub(super) fn counts(&self, slot: usize) -> bool {
        let is_believed = self.faults.has(Fault::SuspectCounted);
        self.peers[slot].suspicion.is_none_or(|suspicion| suspicion.is_confirmed || is_believed)
    }

    /// Whether the member at `slot` is not known to have all yet that it had before it became suspect.
    pub(super) fn is_behind_suspicion(&self, slot: usize) -> bool {
        let peer = &self.peers[slot];
        peer.suspicion.is_some_and(|suspicion| peer.progress.matched() < suspicion.last)
    }

    /// The member says that it is suspect, and how far its log is on its disk.
    pub(super) fn handle_suspect(&mut self, slot: usize, start: u64, matched: Index) -> Result<(), Rejected> {
        let last = self.last().index;
        if matched > last {
            return Err(Rejected::BeyondLog { matched });
        }
        let peer = &mut self.peers[slot];
        if peer.suspicion.is_none_or(|suspicion| suspicion.start != start) {
            peer.suspicion = Some(Suspicion { start, round: self.leading.round, last, is_confirmed: false });
            peer.progress.went_back(matched, last.next());
        }
        peer.progress.accepted(matched);
        Ok(())
    }

    /// The member has answered a heartbeat as one that is not suspect does. If that was sent later than the leader learned
    /// that it was, it has been cleared since.
    pub(super) fn absolve(&mut self, slot: usize, round: u64) {
        let suspicion = &mut self.peers[slot].suspicion;
        *suspicion = suspicion.filter(|suspicion| round <= suspicion.round);
    }

    /// Members have answered: perhaps this confirms that the others count, or clears them.
    pub(super) fn review_suspicions(&mut self) {
        for slot in self.others.iter() {
            let Some(suspicion) = self.peers[slot].suspicion else { continue };
            let has_answered = |other: usize| self.peers[other].answered > suspicion.round;
            let is_confirmed = suspicion.is_confirmed
                || self.is_bystander(slot)
                || self.other_voters().without(slot).iter().all(has_answered);
            self.peers[slot].suspicion = Some(Suspicion { is_confirmed, ..suspicion });
            if is_confirmed && (!self.is_behind_suspicion(slot) || self.faults.has(Fault::ClearedBehind)) {
                self.owe(slot, Owed::Cleared);
            }
        }
        self.advance_commit();
    }

    /// Whether the member decides nothing, and that is committed: whatever it may have forgotten, nobody can win with it any
    /// more who does not know that.
    fn is_bystander(&self, slot: usize) -> bool {
        !self.configuration().sets.deciding().contains(slot) && self.membership.latest().index <= self.commit
    }

    /// The word that clears the member, if it is still held for suspect.
    pub(super) fn cleared(&self, slot: usize) -> Option<Body> {
        self.peers[slot].suspicion.map(|Suspicion { start, .. }| Body::Cleared { start })
    }
}
