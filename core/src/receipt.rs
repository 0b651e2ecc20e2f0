//! What became of the events that a producer sent: the answer to a batch, run by run.
//!
//! The events of a run always fall into three groups, in this order: those that were there already, those that were
//! accepted, and those that were refused. [`RunReceipt`] gives the size of the first two, and the reason for the third.

use crate::id::{Epoch, Offset, Sequence};
use serde::{Deserialize, Serialize};

/// What an acknowledged event has reached. Variants are append-only: their order is the wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Durability {
    /// Applied, and on stable storage of a majority of the voters, all of which keep the log.
    Majority,
    /// Applied, and on stable storage of a majority of the voters of which one is the witness, which keeps no payloads: with
    /// two nodes and a witness, on one disk.
    MajorityWithWitness,
}

/// What became of one run of a batch.
///
/// At most 64 of them answer a batch. `duplicates + accepted` is at most the run's count; it is less exactly when
/// `refused` holds a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunReceipt {
    /// Leading events of the run that the log held already.
    pub duplicates: u16,
    /// The offset of the first of them, the others follow it densely; `None` if there is none, if they do not lie
    /// together, or if it was too long ago to be remembered.
    pub duplicate_offset: Option<Offset>,
    /// Events after the duplicates that this batch added.
    pub accepted: u16,
    /// The offset of the first accepted event, the others follow it densely; zero if none was accepted.
    pub first_offset: Offset,
    /// Why the rest of the run was refused, if some of it was.
    pub refused: Option<RunRefusal>,
}

impl RunReceipt {
    /// The receipt of a run of `count` events that were all accepted, the first at `first_offset`.
    #[must_use]
    pub const fn accepted(count: u16, first_offset: Offset) -> Self {
        Self { duplicates: 0, duplicate_offset: None, accepted: count, first_offset, refused: None }
    }

    /// The receipt of a run of which nothing was taken.
    #[must_use]
    pub const fn refused(reason: RunRefusal) -> Self {
        Self { duplicates: 0, duplicate_offset: None, accepted: 0, first_offset: Offset::ZERO, refused: Some(reason) }
    }
}

/// Why events of a run were refused when their entry was applied. Every node decides alike.
///
/// Variants are append-only: their order is the wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RunRefusal {
    /// A later life of the producer has taken over; this one is to stop.
    Fenced {
        /// The epoch of the later life.
        epoch: Epoch,
    },
    /// Events before this run are missing: rewind to `expected` and send from there.
    SequenceGap {
        /// The next sequence that is accepted from this producer.
        expected: Sequence,
    },
    /// The cluster does not remember the producer, and the run does not begin at its first sequence.
    ProducerUnknown,
    /// The cluster remembers as many producers as it may. May pass when one was evicted.
    ProducerTableFull,
    /// The cluster has as many topics as it may.
    TopicTableFull,
    /// An event is larger than the cluster's parameters allow.
    EventTooLarge {
        /// The largest payload that is accepted, in bytes.
        limit: u32,
    },
    /// The events carry ids instead of sequences, and the cluster does not keep a table of ids.
    EventIdsOff,
}

impl RunRefusal {
    /// Whether the same events may be accepted if they are sent again later, unchanged.
    ///
    /// False for [`SequenceGap`](Self::SequenceGap): other events have to go first.
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        match self {
            Self::ProducerTableFull => true,
            Self::Fenced { .. }
            | Self::SequenceGap { .. }
            | Self::ProducerUnknown
            | Self::TopicTableFull
            | Self::EventTooLarge { .. }
            | Self::EventIdsOff => false,
        }
    }
}
