//! The payload of a batch frame: one or more runs, end to end.

use super::cursor::Cursor;
use super::run::Run;
use crate::config::{MAX_BATCH_EVENTS, MAX_FRAME_PAYLOAD};
use core::fmt;

/// The payload of a batch in which everything is as it must be.
///
/// Checking reads every head and every record once and copies nothing; iterating afterwards cannot fail.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    payload: &'a [u8],
    event_count: u16,
    run_count: u16,
}

impl<'a> Batch<'a> {
    /// Checks the payload of a frame whose header claims `event_count` events.
    ///
    /// Only the format's own limits are checked. What a cluster's parameters say is decided when the entry is applied.
    ///
    /// # Errors
    ///
    /// The first rule that it breaks.
    pub fn check(payload: &'a [u8], event_count: u16) -> Result<Self, BatchError> {
        if payload.len() > MAX_FRAME_PAYLOAD {
            return Err(BatchError::TooLong);
        }
        if usize::from(event_count) > MAX_BATCH_EVENTS {
            return Err(BatchError::EventCount);
        }
        let mut rest = Cursor::new(payload);
        let (mut events_left, mut run_count) = (event_count, 0);
        while !rest.is_empty() {
            let run = Run::take(&mut rest)?;
            // Before the records are read: no more of them than the header has promised.
            events_left = events_left.checked_sub(run.head().count).ok_or(BatchError::EventCount)?;
            run.check_records()?;
            run_count += 1;
        }
        if events_left != 0 {
            return Err(BatchError::EventCount);
        }
        if run_count == 0 {
            return Err(BatchError::Empty);
        }
        Ok(Self { payload, event_count, run_count })
    }

    /// The batch that [`check`](Self::check) has found in these bytes before: nothing is read again.
    ///
    /// Other numbers than it found are a mistake of the caller, and iterating panics.
    #[must_use]
    pub const fn checked_before(payload: &'a [u8], event_count: u16, run_count: u16) -> Self {
        Self { payload, event_count, run_count }
    }

    /// The runs, in order.
    #[must_use]
    pub const fn runs(&self) -> Runs<'a> {
        Runs { rest: Cursor::new(self.payload), left: self.run_count }
    }

    /// The raw bytes.
    #[must_use]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Events, 1 to 64.
    #[must_use]
    pub const fn event_count(&self) -> u16 {
        self.event_count
    }

    /// Runs, 1 to 64.
    #[must_use]
    pub const fn run_count(&self) -> u16 {
        self.run_count
    }
}

/// The runs of a [`Batch`].
#[derive(Clone, Debug)]
pub struct Runs<'a> {
    rest: Cursor<'a>,
    left: u16,
}

impl<'a> Iterator for Runs<'a> {
    type Item = Run<'a>;

    fn next(&mut self) -> Option<Run<'a>> {
        self.left = self.left.checked_sub(1)?;
        Some(Run::take(&mut self.rest).expect("the batch was checked"))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left.into(), Some(self.left.into()))
    }
}

impl ExactSizeIterator for Runs<'_> {}

/// Which rule the payload of a batch breaks. The sender is at fault: the payload's checksum was right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchError {
    /// There is no run.
    Empty,
    /// More than 32,768 bytes.
    TooLong,
    /// Bytes are missing.
    Truncated,
    /// A varint is longer or larger than its type.
    BadVarint,
    /// A topic without a byte, or with more than 127.
    TopicLength,
    /// A topic that is not UTF-8.
    TopicNotUtf8,
    /// A flag of a run that has no meaning.
    UndefinedFlags,
    /// A run with no event or more than 64, or other than the header's number of them in all.
    EventCount,
    /// A time before the Unix epoch or above [`MAX_COUNTER`](crate::config::MAX_COUNTER).
    TimeOutOfRange,
    /// A sequence above [`MAX_COUNTER`](crate::config::MAX_COUNTER).
    SequenceOutOfRange,
    /// Producer, epoch, sequence or gap in a run that has no producer.
    ProducerFields,
    /// The records do not end where the run does.
    RunLength,
    /// A key of more than 511 bytes.
    KeyLength,
    /// A payload of more than 31,744 bytes.
    PayloadLength,
    /// An option that is neither there nor not.
    BadOption,
    /// An event id in a run with a producer, or none in a run without.
    EventId,
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "a batch without a run",
            Self::TooLong => "a batch of more than 32,768 bytes",
            Self::Truncated => "a truncated batch",
            Self::BadVarint => "a varint beyond its type",
            Self::TopicLength => "a topic of other than 1 to 127 bytes",
            Self::TopicNotUtf8 => "a topic that is not UTF-8",
            Self::UndefinedFlags => "an undefined flag of a run",
            Self::EventCount => "a wrong number of events",
            Self::TimeOutOfRange => "a time out of range",
            Self::SequenceOutOfRange => "a sequence out of range",
            Self::ProducerFields => "producer, epoch, sequence or gap in a run without producer",
            Self::RunLength => "records that do not end where their run does",
            Self::KeyLength => "a key of more than 511 bytes",
            Self::PayloadLength => "a payload of more than 31,744 bytes",
            Self::BadOption => "an option that is neither there nor not",
            Self::EventId => "an event id beside a producer, or neither of them",
        })
    }
}

impl core::error::Error for BatchError {}
