//! The producer's side: events become runs, runs become a frame.

use crate::config::{MAX_BATCH_EVENTS, MAX_COUNTER, MAX_EVENT_PAYLOAD, MAX_FRAME_PAYLOAD, MAX_KEY, MAX_TOPIC};
use crate::crc::Crc32;
use crate::id::{Epoch, EventId, ProducerId, Sequence, ShardId};
use crate::wire::{CountAndLen, END_LEN, HEADER_LEN, Header, Kind, OVERHEAD, Record, RunFlags, RunHead, Writer, seal};
use core::fmt;
use core::ops::DerefMut;

/// An event on its way into a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The topic, 1 to 127 bytes.
    pub topic: &'a str,
    /// What makes it known again when it is sent twice.
    pub source: Source,
    /// When it happened, in microseconds since the Unix epoch.
    pub time_us: u64,
    /// The key, 0 to 511 bytes.
    pub key: &'a [u8],
    /// The payload, 0 to 31,744 bytes.
    pub payload: &'a [u8],
}

/// What makes an event known again when it is sent twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Its number.
    Producer {
        /// Who numbers it.
        producer: ProducerId,
        /// Which life of the producer.
        epoch: Epoch,
        /// Its number.
        sequence: Sequence,
        /// The producer had to drop the events before this one, and says so.
        after_gap: bool,
    },
    /// The caller's own name for it.
    EventId(EventId),
}

/// Builds one batch, at most 64 events and 32 KiB, in a buffer of the caller.
///
/// The buffer holds the whole frame: [`MAX_FRAME_LEN`](crate::wire::MAX_FRAME_LEN) bytes hold any batch, a smaller one
/// bounds the batches that fit it. Each event is written once, to where it leaves from.
#[derive(Debug)]
pub struct BatchBuilder<B> {
    buffer: B,
    /// Where the payload may end, at most.
    limit: usize,
    /// Where the next byte goes.
    end: usize,
    events: u16,
    open: Option<OpenRun>,
}

/// The run that the next event may continue.
#[derive(Clone, Copy, Debug)]
struct OpenRun {
    /// Where its topic stands, and the length of it.
    topic: (usize, usize),
    /// What the next event of a producer would have to say; `None` for events with ids.
    next: Option<(ProducerId, Epoch, Sequence)>,
    base_time_us: u64,
    count: u16,
    place: CountAndLen,
}

impl<B: DerefMut<Target = [u8]>> BatchBuilder<B> {
    /// An empty batch in this buffer.
    #[must_use]
    pub fn new(buffer: B) -> Self {
        let limit = buffer.len().saturating_sub(END_LEN).min(HEADER_LEN + MAX_FRAME_PAYLOAD);
        Self { buffer, limit, end: HEADER_LEN, events: 0, open: None }
    }

    /// Events so far.
    #[must_use]
    pub const fn event_count(&self) -> u16 {
        self.events
    }

    /// Whether there is none yet.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.events == 0
    }

    /// Bytes of the frame so far.
    #[must_use]
    pub const fn frame_len(&self) -> usize {
        self.end + END_LEN
    }

    /// Adds an event. It continues the last run if topic, producer and epoch are the same and its sequence follows;
    /// else it begins a run.
    ///
    /// # Errors
    ///
    /// [`PushError::Full`] asks for the next batch; every other error is about the event itself, which no batch takes.
    /// The batch is as it was.
    pub fn push(&mut self, event: &Event<'_>) -> Result<(), PushError> {
        check(event)?;
        let open = self.open.filter(|open| self.continues(open, event));
        let base_time_us = open.map_or(event.time_us, |open| open.base_time_us);
        let record = record_of(event);
        let head = head_of(event);
        let needed = record.put_len(base_time_us) + if open.is_some() { 0 } else { head.put_len() };
        if self.events as usize == MAX_BATCH_EVENTS || self.end + needed > self.limit {
            return Err(if self.events == 0 { PushError::BufferTooSmall } else { PushError::Full });
        }

        let mut writer = Writer::new(&mut self.buffer, self.end);
        let mut open = open.unwrap_or_else(|| {
            let topic = (writer.at() + 1, event.topic.len());
            OpenRun { topic, next: None, base_time_us, count: 0, place: head.put(&mut writer) }
        });
        record.put(&mut writer, base_time_us);
        self.end = writer.at();
        self.events += 1;

        open.count += 1;
        open.next = match event.source {
            Source::Producer { producer, epoch, sequence, .. } => Some((producer, epoch, sequence.next())),
            Source::EventId(_) => None,
        };
        let len = self.end - (open.place.at + CountAndLen::SIZE);
        open.place.put(&mut Writer::new(&mut self.buffer, open.place.at), open.count, len as u32);
        self.open = Some(open);
        Ok(())
    }

    /// Makes the frame: gives back the buffer and the length of the frame at its front.
    ///
    /// `batch_id` is the client's own number, which the receipt repeats; `time_us` is when the batch was made, in
    /// microseconds since the Unix epoch.
    ///
    /// # Panics
    ///
    /// If there is no event, or a number is above [`MAX_COUNTER`].
    pub fn finish(mut self, shard: ShardId, batch_id: u64, time_us: u64, crc: Crc32) -> (B, usize) {
        assert!(self.events > 0, "a batch has an event");
        let header = Header {
            shard,
            event_count: self.events,
            batch_id,
            timestamp_us: time_us,
            ..Header::of(Kind::Batch, &self.buffer[HEADER_LEN..self.end], crc)
        };
        let len = seal(&mut self.buffer, &header, crc);
        (self.buffer, len)
    }

    fn continues(&self, open: &OpenRun, event: &Event<'_>) -> bool {
        let (topic, len) = open.topic;
        let same_source = match event.source {
            Source::Producer { producer, epoch, sequence, after_gap } => {
                !after_gap && open.next == Some((producer, epoch, sequence))
            }
            Source::EventId(_) => open.next.is_none(),
        };
        same_source && self.buffer[topic..topic + len] == *event.topic.as_bytes()
    }
}

fn head_of<'a>(event: &Event<'a>) -> RunHead<'a> {
    let (producer, epoch, first_sequence, flags) = match event.source {
        Source::Producer { producer, epoch, sequence, after_gap } => {
            (producer, epoch, sequence, if after_gap { RunFlags::GAP } else { RunFlags::NONE })
        }
        Source::EventId(_) => (ProducerId::default(), Epoch::default(), Sequence::ZERO, RunFlags::NO_PRODUCER),
    };
    RunHead {
        topic: event.topic,
        producer,
        epoch,
        first_sequence,
        base_time_us: event.time_us,
        flags,
        count: 0,
        len: 0,
    }
}

fn record_of<'a>(event: &Event<'a>) -> Record<'a> {
    let event_id = match event.source {
        Source::Producer { .. } => None,
        Source::EventId(id) => Some(id),
    };
    Record { key: event.key, time_us: event.time_us, payload: event.payload, event_id }
}

/// Whether the format has room for the event.
pub(crate) fn check(event: &Event<'_>) -> Result<(), PushError> {
    if !(1..=MAX_TOPIC).contains(&event.topic.len()) {
        return Err(PushError::TopicLength);
    }
    if event.key.len() > MAX_KEY {
        return Err(PushError::KeyTooLong);
    }
    if event.payload.len() > MAX_EVENT_PAYLOAD {
        return Err(PushError::EventTooLarge);
    }
    if event.time_us > MAX_COUNTER {
        return Err(PushError::TimeOutOfRange);
    }
    match event.source {
        // The sequence after the batch's last has to be lawful too.
        Source::Producer { sequence, .. } if sequence.0 >= MAX_COUNTER => Err(PushError::SequenceOutOfRange),
        _ => Ok(()),
    }
}

const _: () = assert!(OVERHEAD == HEADER_LEN + END_LEN);

/// Why an event was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushError {
    /// The batch holds as much as it can: finish it, and give the event to the next.
    Full,
    /// The event alone does not fit the buffer.
    BufferTooSmall,
    /// A topic has 1 to 127 bytes.
    TopicLength,
    /// A key has at most 511 bytes.
    KeyTooLong,
    /// A payload has at most 31,744 bytes.
    EventTooLarge,
    /// A time is at most [`MAX_COUNTER`].
    TimeOutOfRange,
    /// A sequence is below [`MAX_COUNTER`].
    SequenceOutOfRange,
}

impl fmt::Display for PushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the batch is full",
            Self::BufferTooSmall => "the event does not fit the batch's buffer",
            Self::TopicLength => "a topic has 1 to 127 bytes",
            Self::KeyTooLong => "a key has at most 511 bytes",
            Self::EventTooLarge => "a payload has at most 31,744 bytes",
            Self::TimeOutOfRange => "the time is out of range",
            Self::SequenceOutOfRange => "the sequence is out of range",
        })
    }
}

impl core::error::Error for PushError {}
