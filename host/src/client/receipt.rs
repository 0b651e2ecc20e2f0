//! What a producer hears of its events.

use super::error::PublishError;
use core::time::Duration;
use eventstream_core::id::{Index, Offset, Sequence, Term};
use eventstream_core::receipt::Durability;

/// An event was acknowledged: it is in the log, once, and on what [`durability`](Self::durability) says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The number that the producer gave it.
    pub sequence: Sequence,
    /// Whether it is new.
    pub outcome: Outcome,
    /// Its place in the topic; `None` for a duplicate from too long ago to be remembered.
    pub offset: Option<Offset>,
    /// The entry that answered; for a duplicate not the one that holds the event.
    pub index: Index,
    /// That entry's term.
    pub term: Term,
    /// Where the event is.
    pub durability: Durability,
    /// From when the event, or an earlier one of its batch, was published to when the answer arrived.
    pub latency: Duration,
}

/// Whether an acknowledged event is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// This producer has added it. It may have taken more than one transmission.
    Accepted,
    /// It was there before this producer was opened.
    Duplicate,
}

/// Consecutive events were acknowledged. See [`Receipt`] for what the fields mean for each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The number of the first of them; the others follow it densely, the duplicates first.
    pub first_sequence: Sequence,
    /// Events that are new.
    pub accepted: u64,
    /// Events that were there before this producer was opened.
    pub duplicates: u64,
    /// The offset of the first of them; `None` for a duplicate from too long ago to be remembered.
    pub offset: Option<Offset>,
    /// The entry that answered.
    pub index: Index,
    /// That entry's term.
    pub term: Term,
    /// Where the events are.
    pub durability: Durability,
    /// From when the first event of their batch was published to when the answer arrived.
    pub latency: Duration,
}

impl Ack {
    /// How many events it is about.
    #[must_use]
    pub const fn events(&self) -> u64 {
        self.accepted + self.duplicates
    }

    /// The receipt of the only event.
    pub(super) const fn receipt(self) -> Receipt {
        let outcome = if self.duplicates == 0 { Outcome::Accepted } else { Outcome::Duplicate };
        Receipt {
            sequence: self.first_sequence,
            outcome,
            offset: self.offset,
            index: self.index,
            term: self.term,
            durability: self.durability,
            latency: self.latency,
        }
    }
}

/// Consecutive events were not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{events} events from sequence {first_sequence}: {error}")]
pub struct NotAcked {
    /// The number of the first of them.
    pub first_sequence: Sequence,
    /// How many they are.
    pub events: u64,
    /// Why.
    pub error: PublishError,
}

/// Where a batch stands in the log, and how durably.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) index: Index,
    pub(super) term: Term,
    pub(super) durability: Durability,
}
