//! How often a node has refused what, since its start: one number for each [`Counter`], which any thread may add to.
//!
//! Whatever is refused is counted before the other side can know of it, so that who has seen a refusal sees it counted.

use super::legal::Offence;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use eventstream_core::receipt::{RunReceipt, RunRefusal};
use eventstream_core::wire::{Counter, FrameError, Refusal};

/// The numbers. Relaxed: each stands for itself.
#[derive(Debug)]
pub(crate) struct Counters([AtomicU64; Counter::ALL.len()]);

impl Default for Counters {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; Counter::ALL.len()])
    }
}

impl Counters {
    /// It happened once more.
    pub(crate) fn add(&self, counter: Counter) {
        self.0[counter as usize].fetch_add(1, Relaxed);
    }

    /// How often it happened.
    pub(crate) fn count(&self, counter: Counter) -> u64 {
        self.0[counter as usize].load(Relaxed)
    }

    /// What is refused of the runs of a client's batch.
    pub(crate) fn add_runs(&self, runs: &[RunReceipt]) {
        runs.iter().filter_map(|run| run.refused).for_each(|refusal| self.add(of_run(refusal)));
    }
}

/// What is counted for a refusal of the engine.
pub(crate) fn of_refusal(refusal: Refusal) -> Counter {
    match refusal {
        Refusal::Version { .. } => Counter::HelloVersion,
        Refusal::WrongCluster => Counter::ClientWrongCluster,
        Refusal::UnknownMember => Counter::PeerUnknownMember,
        Refusal::HelloExpected => Counter::HelloMissing,
        Refusal::Unexpected => Counter::Unexpected,
        Refusal::Malformed => Counter::MessageMalformed,
        Refusal::NotLeader { .. } => Counter::NotLeader,
        Refusal::Busy => Counter::Busy,
        Refusal::TooManyConnections => Counter::TooManyClients,
        Refusal::TooManySubscriptions => Counter::TooManySubscriptions,
        Refusal::OutcomeUnknown => Counter::OutcomeUnknown,
        Refusal::Stopping => Counter::Stopping,
        Refusal::ProducerTableFull => Counter::ProducerTableFull,
        Refusal::DiskLow => Counter::DiskLow,
        Refusal::Unauthenticated => Counter::Unauthenticated,
        Refusal::TlsRequired => Counter::TlsMissing,
        Refusal::Witness => Counter::WitnessAsked,
    }
}

/// What is counted for a frame that is none.
pub(crate) fn of_frame(error: FrameError) -> Counter {
    match error {
        FrameError::BadMagic { .. } => Counter::FrameMagic,
        FrameError::UnsupportedVersion { .. } => Counter::FrameVersion,
        FrameError::HeaderChecksum { .. } => Counter::FrameHeaderChecksum,
        FrameError::UndefinedFlags { .. } => Counter::FrameFlags,
        FrameError::UnknownKind { .. } => Counter::FrameKind,
        FrameError::EventCount { .. } => Counter::FrameEventCount,
        FrameError::PayloadLength { .. } | FrameError::Truncated { .. } | FrameError::TrailingBytes { .. } => {
            Counter::FramePayloadLength
        }
        FrameError::UnusedField { .. } => Counter::FrameUnusedField,
        FrameError::CounterTooLarge => Counter::FrameNumber,
        FrameError::PayloadChecksum { .. } => Counter::FramePayloadChecksum,
        FrameError::EndMarker { .. } => Counter::FrameEndMarker,
    }
}

/// What is counted for a connection that broke the protocol.
pub(crate) fn of_offence(offence: Offence) -> Counter {
    match offence {
        Offence::Frame(error) => of_frame(error),
        Offence::Batch(_) => Counter::BatchMalformed,
        Offence::Kind(_) => Counter::Unexpected,
        Offence::Stamp(_) => Counter::FrameStamp,
        Offence::Unfinished => Counter::FrameTimeout,
    }
}

fn of_run(refusal: RunRefusal) -> Counter {
    match refusal {
        RunRefusal::Fenced { .. } => Counter::RunFenced,
        RunRefusal::SequenceGap { .. } => Counter::RunSequenceGap,
        RunRefusal::ProducerUnknown => Counter::RunProducerUnknown,
        RunRefusal::ProducerTableFull => Counter::RunProducerTableFull,
        RunRefusal::TopicTableFull => Counter::RunTopicTableFull,
        RunRefusal::EventTooLarge { .. } => Counter::RunEventTooLarge,
        RunRefusal::EventIdsOff => Counter::RunEventIdsOff,
    }
}
