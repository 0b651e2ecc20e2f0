//! The events of one delivery that the caller has not taken yet.

use crate::client::error::ProtocolError;
use eventstream_core::id::{Epoch, EventId, Index, Offset, ProducerId, Sequence};
use eventstream_core::wire::{Batch, Delivery, Frame, RunHead};

/// An event of a topic, as its log holds it. Borrows from the subscriber until the next one is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The topic.
    pub topic: &'a str,
    /// Its place in the topic.
    pub offset: Offset,
    /// The entry of the log that holds it.
    pub index: Index,
    /// When its producer says that it happened, in microseconds since the Unix epoch.
    pub time_us: u64,
    /// What made it known again if it was sent twice.
    pub source: Source,
    /// Its key.
    pub key: &'a [u8],
    /// Its payload.
    pub payload: &'a [u8],
}

/// What makes an event known again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Its number.
    Producer {
        /// Who has numbered it.
        producer: ProducerId,
        /// In which life.
        epoch: Epoch,
        /// Its number.
        sequence: Sequence,
    },
    /// Its own name.
    EventId(EventId),
}

/// Events, oldest first. Keys and payloads lie end to end in one buffer that is used again for the next delivery.
#[derive(Debug, Default)]
pub(super) struct Delivered {
    bytes: Vec<u8>,
    items: Vec<Item>,
    taken: usize,
    index: Index,
}

#[derive(Debug)]
struct Item {
    offset: Offset,
    time_us: u64,
    source: Source,
    /// The key begins where the payload before it ends.
    key_start: usize,
    key_end: usize,
    payload_end: usize,
}

impl Delivered {
    pub(super) fn is_empty(&self) -> bool {
        self.taken == self.items.len()
    }

    /// The offset of the event that is taken next, if there is one.
    pub(super) fn next_offset(&self) -> Option<Offset> {
        self.items.get(self.taken).map(|item| item.offset)
    }

    /// The offset after the last of them, if there was one.
    pub(super) fn end(&self) -> Option<Offset> {
        self.items.last().map(|item| item.offset.next())
    }

    /// Replaces what was taken by the events of a delivery, from offset `due` on.
    pub(super) fn fill(
        &mut self,
        topic: &str,
        due: Offset,
        delivery: &Delivery,
        frame: &Frame<'_>,
    ) -> Result<(), ProtocolError> {
        self.bytes.clear();
        self.items.clear();
        (self.taken, self.index) = (0, delivery.index);
        let batch = Batch::check(frame.payload(), frame.header().event_count)?;
        let (mut bit, mut offset) = (0, delivery.first_offset);
        for run in batch.runs() {
            for (sequence, record) in (run.head().first_sequence.0..).zip(run.records()) {
                let is_delivered = delivery.mask >> bit & 1 == 1;
                bit += 1;
                if !is_delivered {
                    continue;
                }
                if run.head().topic != topic {
                    return Err(ProtocolError::DeliveryMismatch);
                }
                if offset >= due {
                    let key_start = self.bytes.len();
                    self.bytes.extend_from_slice(record.key);
                    let key_end = self.bytes.len();
                    self.bytes.extend_from_slice(record.payload);
                    let payload_end = self.bytes.len();
                    let source = source(run.head(), sequence, record.event_id);
                    let time_us = record.time_us;
                    self.items.push(Item { offset, time_us, source, key_start, key_end, payload_end });
                }
                offset = offset.next();
            }
        }
        let is_whole = delivery.mask.checked_shr(bit).unwrap_or(0) == 0;
        if is_whole { Ok(()) } else { Err(ProtocolError::DeliveryMismatch) }
    }

    pub(super) fn take<'a>(&'a mut self, topic: &'a str) -> Option<Event<'a>> {
        let item = self.items.get(self.taken)?;
        self.taken += 1;
        Some(Event {
            topic,
            offset: item.offset,
            index: self.index,
            time_us: item.time_us,
            source: item.source,
            key: &self.bytes[item.key_start..item.key_end],
            payload: &self.bytes[item.key_end..item.payload_end],
        })
    }
}

fn source(head: &RunHead<'_>, sequence: u64, event_id: Option<EventId>) -> Source {
    match event_id {
        Some(id) => Source::EventId(id),
        None => Source::Producer { producer: head.producer, epoch: head.epoch, sequence: Sequence(sequence) },
    }
}
