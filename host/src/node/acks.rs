//! Who is waiting for which entry.
//!
//! The leader notes for every entry that it proposes which client batches it is made of, in order. When the entry is
//! applied, its run receipts are dealt out to them in the same order. What was noted and never applied here gets no
//! receipt: its outcome is unknown to this node, and the client learns that.

use super::event::ConnId;
use eventstream_core::id::ProducerId;
use eventstream_core::raft::LogPosition;
use eventstream_core::time::Instant;
use std::collections::VecDeque;

/// Entries proposed by this node as leader and not yet applied, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Acks {
    entries: VecDeque<Proposed>,
    /// The waiters of all entries in `entries`, one entry after the other.
    waiters: VecDeque<Waiter>,
}

/// An entry that this node proposed.
#[derive(Clone, Copy, Debug)]
struct Proposed {
    at: LogPosition,
    since: Instant,
    waiters: usize,
}

/// What one client waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waiter {
    /// The client's connection.
    pub(crate) conn: ConnId,
    /// What it sent.
    pub(crate) request: Request,
}

/// What a client sent that became an entry, or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// A batch, by the client's own number, and the runs that it brought.
    Batch {
        /// The client's number.
        batch: u64,
        /// Runs of the entry that belong to it, from 1 to 64.
        runs: u16,
        /// Bytes of its frame, which count against the client's window until it is answered.
        bytes: u32,
    },
    /// `OpenProducer`, by the client's own number.
    OpenProducer {
        /// The client's number.
        request: u64,
        /// The producer that is opened.
        producer: ProducerId,
    },
}

impl Acks {
    /// Notes that `waiters` are answered by the entry at this position, in this order.
    pub(crate) fn note(&mut self, now: Instant, at: LogPosition, waiters: impl Iterator<Item = Waiter>) {
        let before = self.waiters.len();
        self.waiters.extend(waiters);
        self.entries.push_back(Proposed { at, since: now, waiters: self.waiters.len() - before });
    }

    /// The entry at this position is applied: those who waited for it, in order.
    ///
    /// Nobody waited if another leader made the entry, or if this node has given up on it.
    pub(crate) fn applied(&mut self, at: LogPosition) -> impl Iterator<Item = Waiter> {
        let mut count = 0;
        while let Some(proposed) = self.entries.front().copied().filter(|proposed| proposed.at.index <= at.index) {
            self.entries.pop_front();
            if proposed.at == at {
                count = proposed.waiters;
            } else {
                self.waiters.drain(..proposed.waiters);
            }
        }
        self.waiters.drain(..count)
    }

    /// Whether nothing that this node proposed is still to be applied.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Since when the oldest entry waits.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.entries.front().map(|proposed| proposed.since)
    }

    /// Gives up on entries that were proposed at or before `since`: those who waited, in order.
    pub(crate) fn expire(&mut self, since: Instant) -> impl Iterator<Item = Waiter> {
        let mut count = 0;
        while let Some(proposed) = self.entries.front().filter(|proposed| proposed.since <= since) {
            count += proposed.waiters;
            self.entries.pop_front();
        }
        self.waiters.drain(..count)
    }

    /// Gives up on everything, because this node leads no more: those who waited, in order.
    pub(crate) fn give_up(&mut self) -> impl Iterator<Item = Waiter> {
        self.entries.clear();
        self.waiters.drain(..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eventstream_core::id::{Index, Term};

    const CONN: ConnId = ConnId { slot: 3, generation: 1 };

    fn batch(batch: u64) -> Waiter {
        Waiter { conn: CONN, request: Request::Batch { batch, runs: 1, bytes: 100 } }
    }

    fn entry(index: u64, term: u64) -> LogPosition {
        LogPosition { index: Index(index), term: Term(term) }
    }

    fn at(micros: u64) -> Instant {
        Instant::from_micros(micros)
    }

    #[test]
    fn an_applied_entry_answers_its_own_waiters_in_order() {
        let mut acks = Acks::default();
        acks.note(at(1), entry(5, 2), [batch(1), batch(2)].into_iter());
        acks.note(at(2), entry(6, 2), [batch(3)].into_iter());
        assert_eq!(acks.applied(entry(5, 2)).collect::<Vec<_>>(), [batch(1), batch(2)]);
        assert_eq!(acks.applied(entry(6, 2)).collect::<Vec<_>>(), [batch(3)]);
        assert_eq!(acks.oldest(), None);
    }

    #[test]
    fn an_entry_of_another_leader_answers_nobody() {
        let mut acks = Acks::default();
        acks.note(at(1), entry(5, 2), [batch(1)].into_iter());
        acks.note(at(1), entry(7, 4), [batch(2)].into_iter());
        assert_eq!(acks.applied(entry(5, 3)).count(), 0);
        assert_eq!(acks.applied(entry(6, 4)).count(), 0);
        assert_eq!(acks.applied(entry(7, 4)).collect::<Vec<_>>(), [batch(2)]);
    }

    #[test]
    fn only_what_waited_too_long_expires() {
        let mut acks = Acks::default();
        acks.note(at(10), entry(5, 2), [batch(1)].into_iter());
        acks.note(at(20), entry(6, 2), [batch(2)].into_iter());
        assert_eq!(acks.expire(at(10)).collect::<Vec<_>>(), [batch(1)]);
        assert_eq!(acks.oldest(), Some(at(20)));
        assert_eq!(acks.applied(entry(5, 2)).count(), 0);
        assert_eq!(acks.applied(entry(6, 2)).collect::<Vec<_>>(), [batch(2)]);
    }

    #[test]
    fn giving_up_leaves_nothing() {
        let mut acks = Acks::default();
        acks.note(at(1), entry(5, 2), [batch(1), batch(2)].into_iter());
        assert_eq!(acks.give_up().collect::<Vec<_>>(), [batch(1), batch(2)]);
        assert_eq!(acks.applied(entry(5, 2)).count(), 0);
    }
}
