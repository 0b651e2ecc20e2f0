//! What one producer was told of its events, in memory that grows with answers and not with events.

use super::measured::Run;
use eventstream_core::id::{Epoch, Index, Offset, ProducerId, Sequence};
use eventstream_core::time::Instant;
use eventstream_host::client::{Ack, NotAcked, Producer, PublishError};

/// Consecutive events that were acknowledged, at consecutive offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// The place of the first.
    pub(super) first: u64,
    pub(super) events: u64,
    /// The offset of the first, where it was told.
    pub(super) offset: Option<Offset>,
}

impl Extent {
    /// The place after the last.
    pub(super) fn end(&self) -> u64 {
        self.first + self.events
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Book {
    pub(super) id: ProducerId,
    /// The life of it that the events are of. Those of another one, even under the same numbers, are another run's.
    pub(super) epoch: Epoch,
    /// The sequence of the event at place 0.
    pub(super) first: Sequence,
    /// Events that were given to the client.
    pub(super) sent: u64,
    /// Events that never were, since there was no room for them in time: an open loop alone has them.
    pub(super) unsent: u64,
    /// Events that are new to the cluster.
    pub(super) accepted: u64,
    /// Events that it says to have had already.
    pub(super) duplicates: u64,
    /// Events whose outcome is unknown, and the first reason.
    pub(super) unknown: u64,
    pub(super) error: Option<PublishError>,
    /// What had no room when it was due.
    pub(super) full: Full,
    /// The last entry of the log that has answered.
    pub(super) last_index: Index,
    /// In the order of their places.
    acked: Vec<Extent>,
}

/// Events that found the window full when they were due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Full {
    /// Looks at the schedule that ended at a full window.
    pub(super) times: u64,
    /// Events that waited because of it.
    pub(super) events: u64,
    /// Events that waited at once, at most.
    pub(super) longest_queue: u64,
    /// Events before this place are counted already.
    counted: u64,
}

impl Full {
    /// The events from place `sent` to before place `due` find no room.
    pub(super) fn note(&mut self, sent: u64, due: u64) {
        self.times += 1;
        self.events += due.saturating_sub(sent.max(self.counted));
        self.longest_queue = self.longest_queue.max(due - sent);
        self.counted = self.counted.max(due);
    }
}

impl Book {
    pub(super) fn new(producer: &Producer) -> Self {
        Self::empty(producer.id(), producer.epoch(), producer.next_sequence())
    }

    fn empty(id: ProducerId, epoch: Epoch, first: Sequence) -> Self {
        Self {
            id,
            epoch,
            first,
            sent: 0,
            unsent: 0,
            accepted: 0,
            duplicates: 0,
            unknown: 0,
            error: None,
            full: Full::default(),
            last_index: Index::ZERO,
            acked: Vec::new(),
        }
    }

    /// Events that were acknowledged or given up.
    pub(super) fn answered(&self) -> u64 {
        self.accepted + self.duplicates + self.unknown
    }

    pub(super) fn acked(&self) -> &[Extent] {
        &self.acked
    }

    /// Enters an answer that came at `now`; `since` tells when the event at a place was sent, or due.
    pub(super) fn handle(
        &mut self,
        answer: Result<Ack, NotAcked>,
        now: Instant,
        since: impl Fn(u64) -> Instant,
        run: &Run,
    ) {
        let mut measured = run.measured();
        let (sequence, events) = match answer {
            Ok(ack) => {
                measured.add_acked(now, ack.events());
                (ack.first_sequence, ack.events())
            }
            Err(not_acked) => (not_acked.first_sequence, not_acked.events),
        };
        let first = sequence.0 - self.first.0;
        (first..first + events).for_each(|place| measured.add_latency(since(place), now));
        match answer {
            Ok(ack) => {
                self.accepted += ack.accepted;
                self.duplicates += ack.duplicates;
                self.last_index = self.last_index.max(ack.index);
                self.enter(Extent { first, events, offset: ack.offset });
            }
            Err(not_acked) => {
                self.unknown += events;
                self.error.get_or_insert(not_acked.error);
            }
        }
    }

    /// Joins what goes on where the last extent ends.
    fn enter(&mut self, extent: Extent) {
        let goes_on = |last: &Extent| {
            last.end() == extent.first && last.offset.map(|offset| offset.plus(last.events)) == extent.offset
        };
        match self.acked.last_mut() {
            Some(last) if goes_on(last) => last.events += extent.events,
            _ => self.acked.push(extent),
        }
    }
}

#[cfg(test)]
impl Book {
    /// The book of a producer whose `events` were all acknowledged, at these offsets in turn.
    pub(super) fn of(id: ProducerId, epoch: Epoch, first: Sequence, acked: &[Extent]) -> Self {
        let mut book = Self::empty(id, epoch, first);
        acked.iter().for_each(|extent| book.enter(*extent));
        book.sent = acked.iter().map(Extent::end).max().unwrap_or(0);
        book.accepted = acked.iter().map(|extent| extent.events).sum();
        book
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(first: u64, events: u64, offset: Option<u64>) -> Extent {
        Extent { first, events, offset: offset.map(Offset) }
    }

    #[test]
    fn what_goes_on_where_the_last_one_ended_takes_no_memory() {
        let told = [
            extent(0, 64, Some(10)),
            extent(64, 64, Some(74)),
            extent(128, 1, Some(200)),
            extent(129, 2, None),
            extent(131, 1, None),
            extent(140, 1, None),
        ];
        let book = Book::of(ProducerId([1; 16]), Epoch(1), Sequence(5), &told);
        let joined = [extent(0, 128, Some(10)), extent(128, 1, Some(200)), extent(129, 3, None), extent(140, 1, None)];
        assert_eq!(book.acked(), joined);
    }

    #[test]
    fn an_event_that_waits_is_counted_once_however_often_it_is_looked_at() {
        let mut full = Full::default();
        full.note(100, 160);
        full.note(100, 220);
        full.note(150, 230);
        assert_eq!((full.times, full.events, full.longest_queue), (3, 130, 120));
        full.note(300, 310);
        assert_eq!((full.times, full.events), (4, 140));
    }
}
