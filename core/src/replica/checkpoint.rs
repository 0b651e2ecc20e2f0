//! Checkpoints: the applied state as rows, drained where they changed, and put back after a restart.
//!
//! A row's value begins with a byte that tells its format; a postcard message follows.

use super::members::{MAX_MEMBERS_LEN, Members};
use super::memory::Memory;
use super::state::{MemoryTooSmall, State};
use super::topics::Topic;
use crate::config::{MAX_COUNTER, MAX_EVENT_PAYLOAD, MAX_FRAME_PAYLOAD, MAX_SNAPSHOT_ROWS, MAX_TOPIC, Parameters};
use crate::dedup::Producer;
use crate::digest::Digest;
use crate::id::{Epoch, LogTime, Offset, TopicId};
use crate::raft::{self, Fault, LogPosition, MAX_CONFIGURATION_LEN};
use core::fmt;
use serde::{Deserialize, Serialize};

/// Bytes of the longest row: a producer with all its spans, which is longer than a topic with its name.
pub const MAX_ROW_LEN: usize = 1 + 1 + Producer::MAX_LEN;
const _: () = assert!(1 + 1 + MAX_TOPIC + 10 <= MAX_ROW_LEN);
const _: () = assert!(MAX_MEMBERS_LEN < MAX_ROW_LEN);
const _: () = assert!(MAX_SNAPSHOT_ROWS * (5 + 2 + MAX_ROW_LEN) <= MAX_FRAME_PAYLOAD, "with their keys and lengths");

/// The format of the rows' values.
const FORMAT: u8 = 2;
/// The one before: no row said when a producer was heard of.
const EARLIER_FORMAT: u8 = 1;

/// Names a row. Rows are put back in ascending order, which is that of [`to_bytes`](Self::to_bytes) too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowKey {
    /// The members.
    Configuration,
    /// A producer, by number; or that there is none of this number any more.
    Producer(u32),
    /// A topic.
    Topic(TopicId),
    /// Up to where the log is applied, and the sums over it. Always the last row that is drained: what is on disk
    /// without it belongs to no checkpoint.
    Meta,
}

impl RowKey {
    /// The key as bytes: one for the kind, four for the number, big-endian.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 5] {
        let (kind, number) = match self {
            Self::Configuration => (0, 0),
            Self::Producer(number) => (1, number),
            Self::Topic(topic) => (2, topic.0),
            Self::Meta => (3, 0),
        };
        let [a, b, c, d] = number.to_be_bytes();
        [kind, a, b, c, d]
    }

    /// The key that these bytes are, if they are one.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (kind, number) = bytes.split_first()?;
        let number = u32::from_be_bytes(number.try_into().ok()?);
        match (kind, number) {
            (0, 0) => Some(Self::Configuration),
            (1, number) => Some(Self::Producer(number)),
            (2, number) => Some(Self::Topic(TopicId(number))),
            (3, 0) => Some(Self::Meta),
            _ => None,
        }
    }
}

/// A row to be written: its value is the front of the buffer that was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its name. It replaces the row of this name.
    pub key: RowKey,
    /// Bytes of its value.
    pub len: usize,
}

/// The last row of every checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Meta {
    parameters: Parameters,
    pub(super) applied: LogPosition,
    log_time: LogTime,
    events: u64,
    /// The highest epoch that the producers may have had who were evicted.
    evicted: Epoch,
    history: u64,
    /// Of everything, so that a row that is missing, stale or damaged is noticed.
    state_hash: u64,
}

/// What the last row of a checkpoint says of all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointHead {
    /// The last entry whose effects it holds.
    pub applied: LogPosition,
    /// The hash of the state after that entry.
    pub state_hash: u64,
}

impl CheckpointHead {
    /// Reads the value of the row [`RowKey::Meta`].
    ///
    /// # Errors
    ///
    /// [`RestoreError::RowFormat`], [`RestoreError::RowEarlier`], [`RestoreError::RowMalformed`].
    pub fn decode(value: &[u8]) -> Result<Self, RestoreError> {
        let key = RowKey::Meta;
        let meta: Meta = decode(key, body(key, value)?)?;
        Ok(Self { applied: meta.applied, state_hash: meta.state_hash })
    }
}

impl<M: Memory> State<M> {
    /// The next row that has changed since it was last drained; [`RowKey::Meta`] is the last one.
    pub(super) fn poll_row(&mut self, buffer: &mut [u8; MAX_ROW_LEN]) -> Option<Row> {
        if self.drained == self.applied {
            return None;
        }
        if let Some(row) = self.members.poll_changed(&mut [0; MAX_CONFIGURATION_LEN]) {
            return Some(encode(RowKey::Configuration, &row, buffer));
        }
        let saved = !self.faults.has(Fault::ProducersNotSaved);
        while let Some((number, producer)) = self.producers.poll_changed() {
            if saved {
                return Some(encode(RowKey::Producer(number), &producer, buffer));
            }
        }
        if let Some((number, topic)) = self.topics.poll_changed() {
            let row = (topic.name(), topic.next_offset());
            return Some(encode(RowKey::Topic(TopicId(number)), &row, buffer));
        }
        self.drained = self.applied;
        let meta = Meta {
            parameters: self.parameters,
            applied: self.applied,
            log_time: self.log_time,
            events: self.events,
            evicted: self.producers.evicted(),
            history: self.history.value(),
            state_hash: self.hash(),
        };
        Some(encode(RowKey::Meta, &meta, buffer))
    }

    /// Puts a row back; returns the content of the meta row, which is checked when all the others are there.
    pub(super) fn restore_row(&mut self, key: RowKey, value: &[u8]) -> Result<Option<Meta>, RestoreError> {
        let is_next = match key {
            RowKey::Producer(number) => number == self.producers.numbers(),
            RowKey::Topic(topic) => topic.0 == self.topics.len(),
            RowKey::Configuration => self.producers.numbers() == 0 && self.topics.len() == 0,
            RowKey::Meta => true,
        };
        if !is_next {
            return Err(RestoreError::RowOutOfOrder { key });
        }
        let body = body(key, value)?;
        let is_restored = match key {
            RowKey::Producer(_) => self.producers.restore(decode::<Option<Producer>>(key, body)?),
            RowKey::Topic(_) => {
                let (name, next) = decode::<(&str, Offset)>(key, body)?;
                let topic = Topic::new(name, next).ok_or(RestoreError::RowMalformed { key })?;
                self.topics.restore(topic)
            }
            RowKey::Configuration => {
                self.members = Members::restore(&decode(key, body)?)?;
                true
            }
            RowKey::Meta => return decode(key, body).map(Some),
        };
        if is_restored { Ok(None) } else { Err(RestoreError::RowRefused { key }) }
    }

    /// All rows are there: takes over the rest of the state and compares.
    pub(super) fn restore_rest(&mut self, meta: &Meta) -> Result<(), RestoreError> {
        if meta.parameters != self.parameters {
            return Err(RestoreError::ParametersChanged { stored: meta.parameters });
        }
        let key = RowKey::Meta;
        let numbers = [meta.applied.index.0, meta.applied.term.0, meta.log_time.0, meta.events];
        if numbers.into_iter().any(|number| number > MAX_COUNTER) {
            return Err(RestoreError::RowMalformed { key });
        }
        if self.members.placed().is_some_and(|placed| placed.index > meta.applied.index) {
            return Err(RestoreError::RowMalformed { key: RowKey::Configuration });
        }
        self.applied = meta.applied;
        self.drained = meta.applied;
        self.log_time = meta.log_time;
        self.events = meta.events;
        self.producers.restore_evicted(meta.evicted);
        self.history = Digest::resume(meta.history);
        if self.hash() != meta.state_hash {
            return Err(RestoreError::StateHash { stored: meta.state_hash, restored: self.hash() });
        }
        Ok(())
    }
}

fn encode(key: RowKey, value: &impl Serialize, buffer: &mut [u8; MAX_ROW_LEN]) -> Row {
    buffer[0] = FORMAT;
    let body = postcard::to_slice(value, &mut buffer[1..]).expect("the longest row fits");
    Row { key, len: 1 + body.len() }
}

/// What follows the format.
fn body(key: RowKey, value: &[u8]) -> Result<&[u8], RestoreError> {
    match value.split_first() {
        Some((&FORMAT, body)) => Ok(body),
        Some((&EARLIER_FORMAT, _)) => Err(RestoreError::RowEarlier { key }),
        _ => Err(RestoreError::RowFormat { key }),
    }
}

fn decode<'a, T: Deserialize<'a>>(key: RowKey, body: &'a [u8]) -> Result<T, RestoreError> {
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        _ => Err(RestoreError::RowMalformed { key }),
    }
}

pub(super) fn check_parameters(parameters: &Parameters) -> Result<(), RestoreError> {
    if parameters.event_payload as usize > MAX_EVENT_PAYLOAD {
        return Err(RestoreError::Parameters { event_payload: parameters.event_payload });
    }
    Ok(())
}

/// Why a replica did not start. Where a row is at fault, the state can be rebuilt from the log while that goes back to
/// its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreError {
    /// The parameters allow larger events than a frame can hold.
    Parameters {
        /// The payload that they allow, in bytes.
        event_payload: u32,
    },
    /// Less memory was lent than the cluster's parameters need.
    Memory(MemoryTooSmall),
    /// Rows are missing before this one, or it was there already.
    RowOutOfOrder {
        /// Its name.
        key: RowKey,
    },
    /// A version that this one does not know wrote the row, or it is damaged.
    RowFormat {
        /// Its name.
        key: RowKey,
    },
    /// An earlier version wrote the row, in which something is missing: the state is to be rebuilt from the log.
    RowEarlier {
        /// Its name.
        key: RowKey,
    },
    /// The row is damaged.
    RowMalformed {
        /// Its name.
        key: RowKey,
    },
    /// The cluster's parameters leave no room for the row, or its name is there already.
    RowRefused {
        /// Its name.
        key: RowKey,
    },
    /// There are rows, but no [`RowKey::Meta`].
    MetaMissing,
    /// The rows were written under other parameters.
    ParametersChanged {
        /// Those that they were written under.
        stored: Parameters,
    },
    /// Rows are missing, stale or damaged.
    StateHash {
        /// The hash of the state that was written.
        stored: u64,
        /// The hash of what was put back.
        restored: u64,
    },
    /// The Raft log does not fit: see there.
    Raft(raft::RestoreError),
}

impl From<MemoryTooSmall> for RestoreError {
    fn from(error: MemoryTooSmall) -> Self {
        Self::Memory(error)
    }
}

impl From<raft::RestoreError> for RestoreError {
    fn from(error: raft::RestoreError) -> Self {
        Self::Raft(error)
    }
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parameters { event_payload } => {
                write!(f, "events of {event_payload} bytes are allowed, but {MAX_EVENT_PAYLOAD} is the most there is")
            }
            Self::Memory(error) => error.fmt(f),
            Self::RowOutOfOrder { key } => write!(f, "rows are missing before {key:?}, or it comes twice"),
            Self::RowFormat { key } => write!(f, "row {key:?} has a format that this build does not know"),
            Self::RowEarlier { key } => write!(f, "row {key:?} is of an earlier version, and lacks something"),
            Self::RowMalformed { key } => write!(f, "row {key:?} is damaged"),
            Self::RowRefused { key } => write!(f, "row {key:?} does not fit the cluster's parameters, or comes twice"),
            Self::MetaMissing => f.write_str("the rows of a checkpoint without its last one"),
            Self::ParametersChanged { stored } => write!(f, "the checkpoint was written under {stored:?}"),
            Self::StateHash { stored, restored } => {
                write!(f, "state hash {restored:016x} instead of {stored:016x}: a row is missing, stale or damaged")
            }
            Self::Raft(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for RestoreError {}

#[cfg(test)]
mod tests;
