//! The batch that is being filled.

use super::error::PublishError;
use super::window::Numbering;
use crate::checksum::CRC;
use eventstream_core::batch::{BatchBuilder, Event, PushError, Source};
use eventstream_core::config::{MAX_BATCH_EVENTS, MAX_COUNTER, MAX_EVENT_PAYLOAD, MAX_KEY, MAX_TOPIC};
use eventstream_core::id::{Index, LogTime, Sequence, ShardId, Term};
use eventstream_core::wire::{self, MAX_FRAME_LEN};

/// Events are written straight into the frame that will leave; the buffer is as large as the largest frame and is used
/// for one batch after the other.
#[derive(Debug)]
pub(super) struct Draft {
    /// Taken only while a frame is sealed.
    builder: Option<BatchBuilder<Box<[u8]>>>,
    /// The topic of the last run.
    topic: String,
}

impl Default for Draft {
    fn default() -> Self {
        let buffer = vec![0; MAX_FRAME_LEN].into_boxed_slice();
        Self { builder: Some(BatchBuilder::new(buffer)), topic: String::new() }
    }
}

impl Draft {
    /// Events so far.
    pub(super) fn count(&self) -> u16 {
        self.builder.as_ref().map_or(0, BatchBuilder::event_count)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// Whether it takes no further event, however small.
    pub(super) fn is_full(&self) -> bool {
        usize::from(self.count()) == MAX_BATCH_EVENTS
    }

    /// Adds an event that [`check`] has passed. Returns whether it begins a run, or `None` if it does not fit any more.
    pub(super) fn push(
        &mut self,
        numbering: &Numbering,
        sequence: Sequence,
        wall_us: u64,
        (topic, key, payload): (&str, &[u8], &[u8]),
    ) -> Option<bool> {
        let begins_run = self.is_empty() || self.topic != topic;
        let source =
            Source::Producer { producer: numbering.producer, epoch: numbering.epoch, sequence, after_gap: false };
        let event = Event { topic, source, time_us: wall_us.min(MAX_COUNTER), key, payload };
        match self.builder.as_mut()?.push(&event) {
            Ok(()) => {}
            Err(PushError::Full) => return None,
            Err(error) => unreachable!("the event was checked: {error}"),
        }
        if begins_run {
            self.topic.clear();
            self.topic.push_str(topic);
        }
        Some(begins_run)
    }

    /// Writes the batch's frame to `frame` and begins the next batch.
    pub(super) fn seal_into(&mut self, frame: &mut Vec<u8>) {
        let Some(builder) = self.builder.take() else { return };
        let (buffer, len) = builder.finish(ShardId(0), 0, 0, CRC);
        frame.clear();
        frame.extend_from_slice(&buffer[..len]);
        self.builder = Some(BatchBuilder::new(buffer));
    }
}

/// Gives a frame that is about to leave its number and time.
pub(super) fn stamp(frame: &mut [u8], transmission: u64, wall_us: u64) {
    wire::stamp(frame, Index(transmission), Term::ZERO, LogTime(wall_us.min(MAX_COUNTER)), CRC);
}

/// Whether an event can be published at all, before it is numbered.
pub(super) fn check(topic: &str, key: &[u8], payload: &[u8]) -> Result<(), PublishError> {
    if topic.is_empty() || topic.len() > MAX_TOPIC {
        return Err(PublishError::TopicLength { len: topic.len() });
    }
    if key.len() > MAX_KEY {
        return Err(PublishError::KeyLength { len: key.len() });
    }
    if payload.len() > MAX_EVENT_PAYLOAD {
        return Err(PublishError::EventTooLarge { len: payload.len() });
    }
    Ok(())
}
