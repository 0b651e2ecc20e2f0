//! Runs and records: consecutive events of one topic and one producer.
//!
//! Both are postcard structs; these are their definitions, in the order of the wire:
//!
//! ```text
//! struct RunHead { topic: &str, producer: [u8; 16], epoch: u32, first_sequence: u64, base_time_us: u64,
//!                  flags: u8, count: u16, len: u32 }      followed by `len` bytes: `count` records
//! struct Record  { key: &[u8], time_delta_us: i64, payload: &[u8], event_id: Option<[u8; 16]> }
//! ```

use super::batch::BatchError;
use super::cursor::{Cursor, ReadError, Writer, varint_len, zigzag};
use crate::config::{MAX_BATCH_EVENTS, MAX_COUNTER, MAX_EVENT_PAYLOAD, MAX_KEY, MAX_TOPIC};
use crate::id::{Epoch, EventId, ProducerId, Sequence};
use core::ops::BitOr;

/// What is special about a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RunFlags(u8);

impl RunFlags {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// The producer had to drop events before this run: a gap in its sequences is no error.
    pub const GAP: Self = Self(1);
    /// No producer numbers these events: each has an event id instead, and producer, epoch and sequence are zero.
    pub const NO_PRODUCER: Self = Self(2);

    const DEFINED: u8 = Self::GAP.0 | Self::NO_PRODUCER.0;

    /// Whether all flags of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The bits on the wire.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }
}

impl BitOr for RunFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What the events of a run have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunHead<'a> {
    /// The topic, 1 to 127 bytes.
    pub topic: &'a str,
    /// Who numbers the events; zero in a run without producer.
    pub producer: ProducerId,
    /// Which life of the producer; zero in a run without producer.
    pub epoch: Epoch,
    /// The sequence of the first event, the others follow it densely; zero in a run without producer.
    pub first_sequence: Sequence,
    /// What the records' times count from, in microseconds since the Unix epoch.
    pub base_time_us: u64,
    /// What is special about the run.
    pub flags: RunFlags,
    /// Events, 1 to 64.
    pub count: u16,
    /// Bytes of the records.
    pub len: u32,
}

/// Bytes of the longest head: a topic with its length, the producer, six numbers.
pub(crate) const MAX_HEAD_LEN: usize = 1 + MAX_TOPIC + 16 + 5 + 10 + 10 + 1 + 3 + 5;
/// Bytes of the longest record around key and payload: two lengths, a time, an id.
pub(crate) const MAX_RECORD_OVERHEAD: usize = 2 + 10 + 3 + 17;
const _: () = assert!(MAX_HEAD_LEN + MAX_RECORD_OVERHEAD <= MAX_TOPIC + 256, "config reckons with this much");

impl<'a> RunHead<'a> {
    fn take(from: &mut Cursor<'a>) -> Result<Self, BatchError> {
        let topic_len = from.u32()? as usize;
        if !(1..=MAX_TOPIC).contains(&topic_len) {
            return Err(BatchError::TopicLength);
        }
        let topic = core::str::from_utf8(from.bytes(topic_len)?).map_err(|_| BatchError::TopicNotUtf8)?;
        let head = Self {
            topic,
            producer: ProducerId(from.array()?),
            epoch: Epoch(from.u32()?),
            first_sequence: Sequence(from.u64()?),
            base_time_us: from.u64()?,
            flags: RunFlags(from.u8()?),
            count: from.u16()?,
            len: from.u32()?,
        };
        head.check()?;
        Ok(head)
    }

    fn check(&self) -> Result<(), BatchError> {
        if self.flags.0 & !RunFlags::DEFINED != 0 {
            return Err(BatchError::UndefinedFlags);
        }
        if !(1..=MAX_BATCH_EVENTS).contains(&usize::from(self.count)) {
            return Err(BatchError::EventCount);
        }
        if self.base_time_us > MAX_COUNTER {
            return Err(BatchError::TimeOutOfRange);
        }
        if self.first_sequence.0 > MAX_COUNTER - u64::from(self.count) {
            return Err(BatchError::SequenceOutOfRange);
        }
        if !self.has_producer()
            && (self.flags.contains(RunFlags::GAP)
                || (self.producer, self.epoch, self.first_sequence) != Default::default())
        {
            return Err(BatchError::ProducerFields);
        }
        Ok(())
    }

    /// Whether a producer numbers the events; else each has an event id.
    #[must_use]
    pub const fn has_producer(&self) -> bool {
        !self.flags.contains(RunFlags::NO_PRODUCER)
    }

    /// Whether the producer says that it dropped events before this run.
    #[must_use]
    pub const fn has_gap(&self) -> bool {
        self.flags.contains(RunFlags::GAP)
    }

    /// Writes the head with count and length as numbers of one and three bytes, whatever their value, so that they
    /// can be written again when more records have followed. Returns where they stand.
    pub(crate) fn put(&self, to: &mut Writer<'_>) -> CountAndLen {
        to.prefixed(self.topic.as_bytes());
        to.bytes(&self.producer.0);
        to.varint(self.epoch.0.into());
        to.varint(self.first_sequence.0);
        to.varint(self.base_time_us);
        to.u8(self.flags.0);
        let place = CountAndLen { at: to.at() };
        place.put(to, self.count, self.len);
        place
    }

    /// Bytes that [`put`](Self::put) writes.
    pub(crate) const fn put_len(&self) -> usize {
        1 + self.topic.len()
            + 16
            + varint_len(self.epoch.0 as u64)
            + varint_len(self.first_sequence.0)
            + varint_len(self.base_time_us)
            + 1
            + CountAndLen::SIZE
    }
}

/// Where count and length of a run stand in a buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CountAndLen {
    pub(crate) at: usize,
}

impl CountAndLen {
    pub(crate) const SIZE: usize = 1 + 3;

    pub(crate) fn put(self, to: &mut Writer<'_>, count: u16, len: u32) {
        debug_assert!(count < 128);
        to.u8(count as u8);
        to.varint3(len);
    }
}

/// A run of a checked batch, as it lies there.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    head: RunHead<'a>,
    bytes: &'a [u8],
    records: &'a [u8],
}

impl<'a> Run<'a> {
    /// Reads a head and sets its records apart, unread.
    pub(super) fn take(from: &mut Cursor<'a>) -> Result<Self, BatchError> {
        let start = from.rest();
        let head = RunHead::take(from)?;
        let records = from.bytes(head.len as usize)?;
        let bytes = &start[..start.len() - from.rest().len()];
        Ok(Self { head, bytes, records })
    }

    /// Reads every record once: as many as the head says, and nothing after them.
    pub(super) fn check_records(&self) -> Result<(), BatchError> {
        let mut records = Cursor::new(self.records);
        for _ in 0..self.head.count {
            Record::take(&mut records, &self.head)?;
        }
        if records.is_empty() { Ok(()) } else { Err(BatchError::RunLength) }
    }

    /// What the events have in common.
    #[must_use]
    pub const fn head(&self) -> &RunHead<'a> {
        &self.head
    }

    /// The raw bytes, head and records: a run can be copied to another batch as it is.
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The events, in order.
    #[must_use]
    pub const fn records(&self) -> Records<'a> {
        Records { head: self.head, rest: Cursor::new(self.records), left: self.head.count }
    }
}

/// The records of a [`Run`].
#[derive(Clone, Debug)]
pub struct Records<'a> {
    head: RunHead<'a>,
    rest: Cursor<'a>,
    left: u16,
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        self.left = self.left.checked_sub(1)?;
        Some(Record::take(&mut self.rest, &self.head).expect("the batch was checked"))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left.into(), Some(self.left.into()))
    }
}

impl ExactSizeIterator for Records<'_> {}

/// One event of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// The key, 0 to 511 bytes.
    pub key: &'a [u8],
    /// When it happened, as the producer says: microseconds since the Unix epoch.
    pub time_us: u64,
    /// The payload, 0 to 31,744 bytes.
    pub payload: &'a [u8],
    /// The caller's name for it; there exactly if the run has no producer.
    pub event_id: Option<EventId>,
}

impl<'a> Record<'a> {
    #[inline]
    fn take(from: &mut Cursor<'a>, head: &RunHead<'_>) -> Result<Self, BatchError> {
        let key_len = from.u32()? as usize;
        if key_len > MAX_KEY {
            return Err(BatchError::KeyLength);
        }
        let key = from.bytes(key_len)?;
        let time_us = head.base_time_us.checked_add_signed(from.i64()?).filter(|&time_us| time_us <= MAX_COUNTER);
        let payload_len = from.u32()? as usize;
        if payload_len > MAX_EVENT_PAYLOAD {
            return Err(BatchError::PayloadLength);
        }
        let payload = from.bytes(payload_len)?;
        let event_id = match from.u8()? {
            0 => None,
            1 => Some(EventId(from.array()?)),
            _ => return Err(BatchError::BadOption),
        };
        if event_id.is_some() == head.has_producer() {
            return Err(BatchError::EventId);
        }
        Ok(Self { key, time_us: time_us.ok_or(BatchError::TimeOutOfRange)?, payload, event_id })
    }

    /// Writes the record into a run with this base time.
    pub(crate) fn put(&self, to: &mut Writer<'_>, base_time_us: u64) {
        to.prefixed(self.key);
        to.varint(zigzag(self.time_us.wrapping_sub(base_time_us) as i64));
        to.prefixed(self.payload);
        match self.event_id {
            None => to.u8(0),
            Some(id) => {
                to.u8(1);
                to.bytes(&id.0);
            }
        }
    }

    /// Bytes that [`put`](Self::put) writes.
    pub(crate) const fn put_len(&self, base_time_us: u64) -> usize {
        varint_len(self.key.len() as u64)
            + self.key.len()
            + varint_len(zigzag(self.time_us.wrapping_sub(base_time_us) as i64))
            + varint_len(self.payload.len() as u64)
            + self.payload.len()
            + if self.event_id.is_some() { 17 } else { 1 }
    }
}

impl From<ReadError> for BatchError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Truncated => Self::Truncated,
            ReadError::BadVarint => Self::BadVarint,
        }
    }
}
