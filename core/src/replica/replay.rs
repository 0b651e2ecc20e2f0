//! What a log means, without a member around it: for whoever checks a log after the fact.

use super::checkpoint::{MAX_ROW_LEN, RestoreError, Row, check_parameters};
use super::memory::Memory;
use super::outcome::Outcomes;
use super::state::{ApplyError, Entry, State};
use super::topics::Topic;
use crate::config::Parameters;
use crate::dedup::Producer;
use crate::id::{ProducerId, TopicId};
use crate::raft::LogPosition;

/// The applied state of a log that is read from its first entry on.
///
/// It decides as [`Replica::apply`](super::Replica::apply) does, and does not ask whether an entry is committed: what
/// comes out for entries that are not is what they would mean.
pub struct Replay<M: Memory> {
    state: State<M>,
}

impl<M: Memory> Replay<M> {
    /// The state before the first entry, in the memory that is lent to it. `seed` is random: it keeps anybody from preparing
    /// ids that are slow to find, and no decision depends on it.
    ///
    /// # Errors
    ///
    /// [`RestoreError::Parameters`], [`RestoreError::Memory`].
    pub fn new(parameters: Parameters, seed: u64, memory: M) -> Result<Self, RestoreError> {
        check_parameters(&parameters)?;
        Ok(Self { state: State::new(parameters, seed, memory)? })
    }

    /// Applies the next entry, and says what becomes of it. The frame's checksums are the caller's affair.
    ///
    /// # Errors
    ///
    /// [`ApplyError`]; nothing of the entry was applied.
    pub fn apply(&mut self, entry: &Entry<'_>, outcomes: &mut Outcomes) -> Result<(), ApplyError> {
        self.state.apply(entry, outcomes)
    }

    /// The rows of a checkpoint: see [`Replica::poll_row`](super::Replica::poll_row).
    pub fn poll_row(&mut self, buffer: &mut [u8; MAX_ROW_LEN]) -> Option<Row> {
        self.state.poll_row(buffer)
    }

    /// The last entry that was applied.
    #[must_use]
    pub const fn applied(&self) -> LogPosition {
        self.state.applied
    }

    /// The hash of the state: equal to that of every node that has applied the same entries.
    #[must_use]
    pub fn state_hash(&self) -> u64 {
        self.state.hash()
    }

    /// Events accepted.
    #[must_use]
    pub const fn events(&self) -> u64 {
        self.state.events
    }

    /// All topics, by number.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = &Topic> {
        self.state.topics.iter()
    }

    /// The topic with this number, as an outcome gave it.
    ///
    /// # Panics
    ///
    /// If there is no such topic.
    #[must_use]
    pub fn topic(&self, id: TopicId) -> &Topic {
        self.state.topics.topic(id)
    }

    /// Producers that are remembered.
    #[must_use]
    pub const fn producer_count(&self) -> u32 {
        self.state.producers.len()
    }

    /// The producer whose row has this number, if there is one.
    #[must_use]
    pub fn producer(&self, number: u32) -> Option<&Producer> {
        self.state.producers.numbered(number)
    }

    /// What is remembered of a producer.
    #[must_use]
    pub fn find_producer(&self, id: ProducerId) -> Option<&Producer> {
        self.state.producers.find(id)
    }
}
