//! What became of an entry when it was applied.

use crate::config::MAX_BATCH_EVENTS;
use crate::dedup::{OpenRefusal, Opened};
use crate::id::{Offset, TopicId};
use crate::receipt::RunReceipt;
use heapless::Vec;

/// What became of one entry. The caller owns it, and gives it to every apply: about 5 KiB, without a heap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    accepted: u64,
    runs: Vec<RunReceipt, MAX_BATCH_EVENTS>,
    topics: Vec<TopicSlice, MAX_BATCH_EVENTS>,
    command: Option<CommandOutcome>,
}

/// The events of one topic in one entry: a row of the topic index.
///
/// Accepted events have dense offsets in the order in which they lie in the batch: the lowest set bit of the mask has
/// `first_offset`, the next one set the offset after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicSlice {
    /// Which topic.
    pub topic: TopicId,
    /// The offset of the first of them.
    pub first_offset: Offset,
    /// Bit `n` is set if event `n` of the batch belongs to the topic and was accepted. Never zero.
    pub mask: u64,
}

impl TopicSlice {
    /// Events accepted, 1 to 64.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.mask.count_ones()
    }
}

/// The answer to a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandOutcome {
    /// To [`Command::OpenProducer`](super::Command::OpenProducer).
    OpenProducer(Result<Opened, OpenRefusal>),
    /// To [`Command::EvictProducers`](super::Command::EvictProducers).
    EvictProducers {
        /// Producers that are no longer remembered.
        evicted: u32,
    },
}

impl Outcomes {
    /// Nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { accepted: 0, runs: Vec::new(), topics: Vec::new(), command: None }
    }

    /// Bit `n` is set if event `n` of the batch was accepted.
    #[must_use]
    pub const fn accepted_mask(&self) -> u64 {
        self.accepted
    }

    /// A receipt for each run of the batch, in order.
    #[must_use]
    pub fn runs(&self) -> &[RunReceipt] {
        &self.runs
    }

    /// The topics that got events of the batch, each once, in the order of their first one.
    #[must_use]
    pub fn topics(&self) -> &[TopicSlice] {
        &self.topics
    }

    /// The answer, if the entry was a command.
    #[must_use]
    pub const fn command(&self) -> Option<CommandOutcome> {
        self.command
    }

    pub(super) fn clear(&mut self) {
        self.accepted = 0;
        self.runs.clear();
        self.topics.clear();
        self.command = None;
    }

    pub(super) fn add_run(&mut self, receipt: RunReceipt) {
        assert!(self.runs.push(receipt).is_ok(), "a checked batch has at most 64 runs");
    }

    /// `mask` are the accepted events of a run. Within one entry a topic's offsets are dense, so only the first run of
    /// a topic brings an offset that is remembered.
    pub(super) fn add_accepted(&mut self, topic: TopicId, first_offset: Offset, mask: u64) {
        assert!(mask != 0 && self.accepted & mask == 0, "an event is accepted once");
        self.accepted |= mask;
        if let Some(slice) = self.topics.iter_mut().find(|slice| slice.topic == topic) {
            assert_eq!(slice.first_offset.plus(slice.count().into()), first_offset, "offsets are dense");
            slice.mask |= mask;
            return;
        }
        let slice = TopicSlice { topic, first_offset, mask };
        assert!(self.topics.push(slice).is_ok(), "a checked batch has at most 64 runs");
    }

    pub(super) fn answer(&mut self, outcome: CommandOutcome) {
        self.command = Some(outcome);
    }
}
