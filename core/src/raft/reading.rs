//! Reads that are not stale (Raft thesis, section 6.4): a leader notes its commit index, has a majority confirm that it still
//! leads, and may answer when it has applied so far. No leases: a clock may be wrong, and a reset may start an election
//! while an old leader lives.
//!
//! Any number of reads costs two numbers here: those that come while a round of heartbeats is under way wait for the next
//! one together.

use super::error::ReadError;
use super::faults::Fault;
use super::{Raft, Role};
use crate::id::Index;
use crate::time::Instant;

/// Names a read. Tickets grow; with one, all before it may be answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadTicket(pub u64);

/// The reads of a leader.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reading {
    /// The last ticket that was given.
    issued: ReadTicket,
    /// The last one whose round has begun.
    begun: ReadTicket,
    asked: Option<Asked>,
    /// What may be answered, and was not given out yet.
    confirmed: Option<(ReadTicket, Index)>,
}

/// Reads that wait until a majority has answered a round of heartbeats that was begun after they came.
#[derive(Clone, Copy, Debug)]
struct Asked {
    ticket: ReadTicket,
    /// Committed when the round began.
    index: Index,
    round: u64,
}

/// Commands.
impl Raft {
    /// Asks for an index that is not stale: no entry beyond it was acknowledged to anybody when this was called.
    /// [`Output::ReadIndex`](super::Output::ReadIndex) gives it, after a round trip to a majority. If this member stops
    /// leading before, it never does: see [`Output::Leader`](super::Output::Leader).
    ///
    /// # Errors
    ///
    /// [`ReadError::NotLeader`].
    pub fn read_index(&mut self, now: Instant) -> Result<ReadTicket, ReadError> {
        if self.role != Role::Leader {
            return Err(ReadError::NotLeader { term: self.term(), leader: self.leader });
        }
        self.reading.issued.0 += 1;
        self.begin_round_of_reads(now);
        Ok(self.reading.issued)
    }
}

impl Raft {
    /// This member has begun to lead, or ceased to: nobody is told what became of reads before.
    pub(super) fn forget_reads(&mut self) {
        let issued = self.reading.issued;
        self.reading = Reading { issued, begun: issued, ..Reading::default() };
    }

    /// Begins a round for the reads that wait, unless one is under way. A leader knows what is committed when an entry of its
    /// own term is.
    pub(super) fn begin_round_of_reads(&mut self, now: Instant) {
        let Reading { issued, begun, .. } = self.reading;
        let knows = self.commit >= self.leading.first || self.faults.has(Fault::ReadBeforeOwnTerm);
        if self.role != Role::Leader || issued == begun || !knows {
            return;
        }
        if let Some(asked) = &mut self.reading.asked {
            if self.faults.has(Fault::ReadJoinsRound) {
                (asked.ticket, self.reading.begun) = (issued, issued);
            }
            return;
        }
        self.handle_heartbeat_timeout(now);
        self.reading.begun = issued;
        self.reading.asked = Some(Asked { ticket: issued, index: self.commit, round: self.leading.round });
        self.confirm_reads(now);
    }

    /// Members have answered heartbeats: perhaps a majority those of the round that reads wait for.
    pub(super) fn confirm_reads(&mut self, now: Instant) {
        let Some(Asked { ticket, index, round }) = self.reading.asked else { return };
        let answered = |slot: usize| match slot {
            _ if slot == self.own => round,
            _ if self.counts(slot) => self.peers[slot].answered,
            _ => 0,
        };
        let is_answered = self.quorum.reached(answered).is_some_and(|answered| answered >= round);
        if is_answered || self.faults.has(Fault::ReadUnconfirmed) {
            self.reading.asked = None;
            self.reading.confirmed = Some((ticket, index));
            self.begin_round_of_reads(now);
        }
    }

    /// What may be answered now.
    pub(super) fn poll_reads(&mut self) -> Option<(ReadTicket, Index)> {
        self.reading.confirmed.take()
    }
}
