//! Handing leadership over, so that a planned change of leaders costs no detection (Raft thesis, section 3.10).

use super::configuration::Slots;
use super::error::TransferError;
use super::peer::Owed;
use super::timer::Timer;
use super::{Raft, Role};
use crate::config::PATIENCE;
use crate::id::NodeId;
use crate::time::Instant;

/// Commands.
impl Raft {
    /// Hands leadership over to `to`, or to the member that has most of the log of those that were heard lately and are not suspect. Until that
    /// member leads, or [`PATIENCE`] has passed without, nothing can be proposed here. When it has all of the log it is told
    /// to campaign at once; its election needs no lease to end. Returns who it is.
    ///
    /// While a transfer is under way, another one takes its place.
    ///
    /// # Errors
    ///
    /// [`TransferError`]: nothing has changed.
    pub fn transfer_leadership(&mut self, now: Instant, to: Option<NodeId>) -> Result<NodeId, TransferError> {
        if self.role != Role::Leader {
            return Err(TransferError::NotLeader { term: self.term(), leader: self.leader });
        }
        let slot = match to {
            Some(node) => self.peer_slot(node).ok_or(TransferError::NotAPeer { node })?,
            None => self.fittest(now).ok_or(TransferError::NobodyHeard)?,
        };
        let successor = self.id(slot);
        if !self.leaders().contains(slot) {
            return Err(TransferError::CannotLead { node: successor });
        }
        if self.peers[slot].suspicion.is_some() {
            return Err(TransferError::Suspect { node: successor });
        }
        self.leading.successor = Some(slot);
        self.timers.set(Timer::Transfer, now + PATIENCE);
        self.call_successor(slot);
        Ok(successor)
    }
}

/// Getters.
impl Raft {
    /// To whom this leader is handing over.
    #[must_use]
    pub fn successor(&self) -> Option<NodeId> {
        let slot = self.leading.successor.filter(|_| self.role == Role::Leader)?;
        Some(self.id(slot))
    }
}

impl Raft {
    /// Tells the successor to campaign, if it is the member at `slot` and has all of the log. Told again with each of its
    /// answers, since a message may be lost: once it campaigns, its term is another.
    pub(super) fn call_successor(&mut self, slot: usize) {
        if self.leading.successor == Some(slot) && self.peers[slot].progress.matched() == self.last().index {
            self.owe(slot, Owed::TimeoutNow);
        }
    }

    /// The successor did not take over: this leader goes on.
    pub(super) fn handle_transfer_timeout(&mut self, now: Instant) {
        self.leading.successor = None;
        self.conclude_change(now);
    }

    /// Others that may lead.
    fn leaders(&self) -> Slots {
        self.other_voters().without_all(self.configuration().sets.witnesses)
    }

    /// The member with most of the log among those that were heard lately and are not suspect; the first of several.
    fn fittest(&self, now: Instant) -> Option<usize> {
        let heard = |slot: &usize| self.peers[*slot].heard + PATIENCE > now && self.peers[*slot].suspicion.is_none();
        let matched = |slot: &usize| self.peers[*slot].progress.matched();
        // The last of equals is the maximum: the lowest slot comes last.
        self.leaders()
            .iter()
            .filter(heard)
            .map(|slot| (matched(&slot), core::cmp::Reverse(slot)))
            .max()
            .map(|(_, slot)| slot.0)
    }
}
