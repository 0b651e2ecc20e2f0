//! The applied state: what the log means, as a pure function of it.
//!
//! Applying an entry is the only way to change it, so nodes that applied the same entries have the same state. The
//! [state hash](State::hash) tells whether they do: it covers every producer, every topic, and a running hash of every
//! accepted event (topic, offset, key, payload).

use super::command::{Command, CommandError};
use super::members::Members;
use super::memory::Memory;
use super::outcome::{CommandOutcome, Outcomes};
use super::proposed::Proposed;
use super::topics::Topics;
use crate::config::Parameters;
use crate::dedup::{Claim, Producers, Verdict};
use crate::digest::Digest;
use crate::id::{Epoch, Index, LogTime, Offset, TopicId};
use crate::raft::{Configuration, ConfigurationError, Fault, Faults, LogPosition, Placed};
use crate::receipt::{RunReceipt, RunRefusal};
use crate::wire::{Batch, BatchError, Frame, Kind, Run};
use core::fmt;

/// A committed entry, as it lies in its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its index and term.
    pub position: LogPosition,
    /// When the leader stamped it.
    pub log_time: LogTime,
    /// What its payload is.
    pub kind: Kind,
    /// Events of a batch; else zero.
    pub event_count: u16,
    /// The payload of its frame.
    pub payload: &'a [u8],
}

impl<'a> From<&Frame<'a>> for Entry<'a> {
    fn from(frame: &Frame<'a>) -> Self {
        let header = frame.header();
        Self {
            position: LogPosition { index: header.index(), term: header.term },
            log_time: header.log_time(),
            kind: header.kind,
            event_count: header.event_count,
            payload: frame.payload(),
        }
    }
}

/// What the log means so far.
pub(super) struct State<M: Memory> {
    pub(super) parameters: Parameters,
    pub(super) producers: Producers<M::Producers>,
    pub(super) topics: Topics<M::Topics>,
    /// The last entry applied, ...
    pub(super) applied: LogPosition,
    /// ... and its log time.
    pub(super) log_time: LogTime,
    /// Events accepted, ever.
    pub(super) events: u64,
    /// The running hash of entries and events.
    pub(super) history: Digest,
    /// The state that was last drained into a checkpoint is as of this entry.
    pub(super) drained: LogPosition,
    pub(super) members: Members,
    pub(super) proposed: Proposed,
    pub(super) faults: Faults,
}

/// The content of an entry, checked.
enum Content<'a> {
    Batch(Batch<'a>),
    Command(Command),
    Configuration(Configuration),
    Empty,
}

impl<M: Memory> State<M> {
    /// The state before the first entry. The error says which memory is too small.
    pub(super) fn new(parameters: Parameters, seed: u64, memory: M) -> Result<Self, MemoryTooSmall> {
        let (producers, topics) = memory.lend();
        let too_small = |what, needed| move |slots| MemoryTooSmall { what, slots, needed };
        Ok(Self {
            parameters,
            producers: Producers::new(producers, parameters.producers, seed)
                .map_err(too_small("producers", parameters.producers))?,
            topics: Topics::new(topics, parameters.topics, seed).map_err(too_small("topics", parameters.topics))?,
            applied: LogPosition::default(),
            log_time: LogTime::ZERO,
            events: 0,
            history: Digest::new(0),
            drained: LogPosition::default(),
            members: Members::default(),
            proposed: Proposed::new(),
            faults: Faults::NONE,
        })
    }

    /// Forgets all that was applied.
    pub(super) fn clear(&mut self) {
        self.producers.clear();
        self.topics.clear();
        (self.applied, self.log_time, self.events) = (LogPosition::default(), LogTime::ZERO, 0);
        (self.history, self.drained) = (Digest::new(0), LogPosition::default());
        (self.members, self.proposed) = (Members::default(), Proposed::new());
    }

    /// Equal on all nodes that have applied the same entries.
    pub(super) fn hash(&self) -> u64 {
        let digest = self
            .history
            .number(self.applied.index.0)
            .number(self.applied.term.0)
            .number(self.log_time.0)
            .number(self.events);
        let digest = self.producers.add_to(digest).number(self.topics.sum());
        self.members.add_to(digest).value()
    }

    /// Whether nothing was ever applied.
    pub(super) fn is_empty(&self) -> bool {
        self.applied == LogPosition::default()
            && self.members.placed().is_none()
            && self.producers.numbers() == 0
            && self.topics.len() == 0
    }

    /// Who was last heard of before this log time may be evicted in an entry of the time `now`.
    pub(super) const fn idle_before(&self, now: LogTime) -> LogTime {
        LogTime(now.0.saturating_sub(self.parameters.producer_idle_us))
    }

    /// The planted mistake: decides now which runs of a batch are fresh, to believe it when the batch is applied.
    pub(super) fn decide_too_early(&mut self, position: LogPosition, batch: &Batch<'_>) {
        let seems_fresh = |run: &Run<'_>| {
            let verdict = self.producers.judge(&Claim::from(run.head()));
            run.head().has_producer() && verdict.fresh == run.head().count
        };
        let fresh_runs = batch.runs().enumerate().map(|(number, run)| u64::from(seems_fresh(&run)) << number).sum();
        self.proposed.note(position, fresh_runs);
    }

    /// Applies the next entry. Either all of it or, with an error, nothing.
    pub(super) fn apply(&mut self, entry: &Entry<'_>, outcomes: &mut Outcomes) -> Result<(), ApplyError> {
        outcomes.clear();
        self.check_order(entry)?;
        let content = Content::check(entry)?;

        self.applied = entry.position;
        self.log_time = entry.log_time;
        self.history = self
            .history
            .number(entry.position.index.0)
            .number(entry.position.term.0)
            .number(entry.log_time.0)
            .number(entry.kind.number().into());
        match content {
            Content::Batch(batch) => self.apply_batch(&batch, outcomes),
            Content::Command(command) => self.apply_command(command, outcomes),
            Content::Configuration(configuration) => {
                self.members = Members::new(Placed { index: entry.position.index, configuration });
            }
            Content::Empty => {}
        }
        Ok(())
    }

    fn check_order(&self, entry: &Entry<'_>) -> Result<(), ApplyError> {
        let expected = self.applied.index.next();
        if entry.position.index != expected {
            return Err(ApplyError::OutOfOrder { expected });
        }
        if entry.position.term < self.applied.term {
            return Err(ApplyError::TermDecreases);
        }
        if entry.log_time < self.log_time {
            return Err(ApplyError::LogTimeDecreases);
        }
        Ok(())
    }

    fn apply_batch(&mut self, batch: &Batch<'_>, outcomes: &mut Outcomes) {
        let decided = self.proposed.take(self.applied);
        let mut first_event = 0;
        for (number, run) in batch.runs().enumerate() {
            let is_decided = decided >> number & 1 == 1;
            let receipt = self.apply_run(&run, first_event, is_decided, outcomes);
            outcomes.add_run(receipt);
            first_event += u32::from(run.head().count);
        }
    }

    /// Decides about one run, whose first event is number `first_event` of the batch.
    fn apply_run(&mut self, run: &Run<'_>, first_event: u32, is_decided: bool, outcomes: &mut Outcomes) -> RunReceipt {
        let head = run.head();
        if !head.has_producer() {
            return RunReceipt::refused(RunRefusal::EventIdsOff);
        }
        let mut claim = Claim::from(head);
        if self.faults.has(Fault::EpochIgnored) {
            claim.epoch =
                self.producers.find(claim.producer).map_or(claim.epoch, |known| known.epoch().max(claim.epoch));
        }
        claim.has_gap |= self.faults.has(Fault::GapAccepted);
        if self.faults.has(Fault::EvictedResumed)
            && claim.epoch <= self.producers.evicted()
            && self.producers.find(claim.producer).is_none()
        {
            (claim.epoch, claim.has_gap) = (Epoch(self.producers.evicted().0 + 1), true);
        }
        let mut verdict = self.producers.judge(&claim);
        if is_decided || self.faults.has(Fault::DuplicateAccepted) {
            verdict.take_as_fresh(&claim);
        }
        let topic = self.topics.find(head.topic);
        let mut receipt = RunReceipt {
            duplicates: verdict.duplicates,
            duplicate_offset: topic.and_then(|topic| self.producers.original_offset(&claim, &verdict, topic)),
            accepted: 0,
            first_offset: Offset::ZERO,
            refused: verdict.refusal,
        };
        let mut accepted = None;
        if verdict.fresh > 0 {
            match self.append(run, &verdict, topic) {
                Ok((topic, first_offset)) => {
                    let mask = (u64::MAX >> (64 - verdict.fresh)) << (first_event + u32::from(verdict.duplicates));
                    outcomes.add_accepted(topic, first_offset, mask);
                    (receipt.accepted, receipt.first_offset) = (verdict.fresh, first_offset);
                    accepted = Some((topic, first_offset));
                }
                Err(refusal) => receipt.refused = Some(refusal),
            }
        }
        self.producers.record(&claim, &verdict, accepted, self.log_time);
        receipt
    }

    /// Gives the fresh events of a run their offsets, if cluster and topic can take them.
    fn append(
        &mut self,
        run: &Run<'_>,
        verdict: &Verdict,
        topic: Option<TopicId>,
    ) -> Result<(TopicId, Offset), RunRefusal> {
        let fresh = || run.records().skip(verdict.duplicates.into());
        let limit = self.parameters.event_payload;
        // The records of a run are seldom longer than one event may be: then each of them is short enough.
        if run.head().len > limit && fresh().any(|record| record.payload.len() > limit as usize) {
            return Err(RunRefusal::EventTooLarge { limit });
        }
        let topic = match topic {
            Some(topic) => topic,
            None => self.topics.create(run.head().topic).ok_or(RunRefusal::TopicTableFull)?,
        };
        let first_offset = self.topics.append(topic, verdict.fresh);
        let mut history = self.history.number(topic.0.into()).number(first_offset.0);
        for record in fresh() {
            history = history.bytes(record.key).bytes(record.payload);
        }
        self.history = history;
        self.events += u64::from(verdict.fresh);
        Ok((topic, first_offset))
    }

    fn apply_command(&mut self, command: Command, outcomes: &mut Outcomes) {
        match command {
            Command::OpenProducer { producer } => {
                outcomes.answer(CommandOutcome::OpenProducer(self.producers.open(producer, self.log_time)));
            }
            Command::EvictProducers { before } => {
                let evicted = self.producers.evict(before.min(self.idle_before(self.log_time)));
                outcomes.answer(CommandOutcome::EvictProducers { evicted });
            }
        }
    }
}

impl<'a> Content<'a> {
    fn check(entry: &Entry<'a>) -> Result<Self, ApplyError> {
        match entry.kind {
            Kind::Batch => Ok(Self::Batch(Batch::check(entry.payload, entry.event_count)?)),
            Kind::Command => Ok(Self::Command(Command::decode(entry.payload)?)),
            Kind::Configuration => Ok(Self::Configuration(Configuration::decode(entry.payload)?)),
            Kind::Empty => Ok(Self::Empty),
            kind => Err(ApplyError::Unsupported { kind }),
        }
    }
}

/// Why an entry was not applied. Nothing of it was, and the state is as before.
///
/// [`OutOfOrder`](Self::OutOfOrder) and [`NotCommitted`](Self::NotCommitted) are mistakes of the caller. Anything else
/// means that the node's copy of a committed entry is damaged, or that a newer build wrote it: the node has to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApplyError {
    /// Entries are applied one after the other.
    OutOfOrder {
        /// The next index to be applied.
        expected: Index,
    },
    /// The entry is not known to be committed.
    NotCommitted {
        /// The last one that is.
        commit: Index,
    },
    /// Its term is lower than that of the entry before it.
    TermDecreases,
    /// Its log time is before that of the entry before it.
    LogTimeDecreases,
    /// This build cannot apply such entries.
    Unsupported {
        /// What it is.
        kind: Kind,
    },
    /// Its payload is not a batch.
    Batch(BatchError),
    /// Its payload is not a command.
    Command(CommandError),
    /// Its payload is not a configuration.
    Configuration(ConfigurationError),
}

impl From<ConfigurationError> for ApplyError {
    fn from(error: ConfigurationError) -> Self {
        Self::Configuration(error)
    }
}

impl From<BatchError> for ApplyError {
    fn from(error: BatchError) -> Self {
        Self::Batch(error)
    }
}

impl From<CommandError> for ApplyError {
    fn from(error: CommandError) -> Self {
        Self::Command(error)
    }
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfOrder { expected } => write!(f, "the next entry to be applied is {expected}"),
            Self::NotCommitted { commit } => write!(f, "only entries up to {commit} are committed"),
            Self::TermDecreases => f.write_str("the entry's term is lower than that of the entry before it"),
            Self::LogTimeDecreases => f.write_str("the entry's log time is before that of the entry before it"),
            Self::Unsupported { kind } => write!(f, "this build cannot apply an entry with {}", kind.text()),
            Self::Batch(error) => write!(f, "the entry's payload is {error}"),
            Self::Command(error) => write!(f, "the entry's payload: {error}"),
            Self::Configuration(error) => write!(f, "the entry's payload: {error}"),
        }
    }
}

impl core::error::Error for ApplyError {}

/// Less memory was lent than the cluster's parameters need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryTooSmall {
    /// For what.
    pub what: &'static str,
    /// Slots lent.
    pub slots: usize,
    /// Slots needed.
    pub needed: u32,
}

impl fmt::Display for MemoryTooSmall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "memory for {} {}, but the cluster may have {}", self.slots, self.what, self.needed)
    }
}

impl core::error::Error for MemoryTooSmall {}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
