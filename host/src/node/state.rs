//! The replica of a node: its memory, and how it is put together from what is on disk.

use crate::checksum::CRC;
use crate::clock::Clock;
use crate::config::MemoryPlan;
use crate::identity::Identity;
use crate::storage::{Opened, OpenedTerms, StoreError, Stored};
use core::ops::ControlFlow;
use eventstream_core::config::Parameters;
use eventstream_core::dedup::ProducerSlot;
use eventstream_core::id::Index;
use eventstream_core::raft::{Configuration, ConfigurationError, Member, Placed, RaftOptions};
use eventstream_core::replica::{self, Lent, MAX_ROW_LEN, Options, Replica, RestoredLog, Restoring, RowKey, TopicSlot};
use eventstream_core::wire::{Frame, Kind};

/// The replica, in memory that is allocated once.
pub(crate) type NodeReplica = Replica<Tables>;

type Tables = Lent<Box<[ProducerSlot]>, Box<[TopicSlot]>>;

/// Bytes of entries that are read at a time.
const READ_AT_ONCE: usize = 1 << 20;

/// Bytes around a packed row: its kind, the length of key and value, the key.
const ROW_OVERHEAD: usize = 1 + 1 + 2 + 5;

/// Why the stored state cannot be restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The members are no configuration.
    #[error("the members of the identity: {0}")]
    Configuration(ConfigurationError),
    /// A row of the state is not the replica's.
    #[error("the state holds a row that is not the replica's: {0:02x?}")]
    ForeignRow(Vec<u8>),
    /// The replica refuses what was stored.
    #[error(transparent)]
    Replica(#[from] replica::RestoreError),
    /// The state cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An entry of the log is damaged, or of a later version.
    #[error("entry {0}: {1}")]
    Entry(Index, String),
    /// The system gives no random bytes.
    #[error("no random bytes from the system: {0}")]
    Randomness(getrandom::Error),
}

/// What the replica's tables take.
pub(crate) fn memory(parameters: &Parameters) -> MemoryPlan {
    let mut plan = MemoryPlan::default();
    plan.add("table of producers", parameters.producers as usize * size_of::<ProducerSlot>());
    plan.add("table of topics", parameters.topics as usize * size_of::<TopicSlot>());
    plan
}

/// Bytes of a checkpoint of everything, as it is handed to storage.
pub(crate) fn checkpoint_bytes(parameters: &Parameters) -> usize {
    let rows = parameters.producers as usize + parameters.topics as usize + 2;
    rows * (MAX_ROW_LEN + ROW_OVERHEAD)
}

/// Puts the replica together: the members from the identity, the state and the log from the store.
pub(crate) fn restore(identity: &Identity, opened: &Opened, clock: Clock) -> Result<NodeReplica, RestoreError> {
    let mut restoring = match put_back(identity, opened) {
        // What an earlier version has written down does not say all that is needed now; a log that is whole does.
        Err(RestoreError::Replica(replica::RestoreError::RowEarlier { .. })) if opened.stored.first.0 <= 1 => {
            restoring(identity, identity.parameters)?
        }
        restoring => restoring?,
    };
    find_configurations(&mut restoring, opened)?;
    let Stored { hard_state, last, last_log_time, suspect, .. } = opened.stored;
    let log = RestoredLog { hard_state, last, last_log_time, suspect, ..RestoredLog::default() };
    Ok(restoring.start(log, clock.now())?)
}

/// The replica as of its checkpoint.
fn put_back(identity: &Identity, opened: &Opened) -> Result<Restoring<Tables>, RestoreError> {
    let mut restoring = restoring(identity, identity.parameters)?;
    let mut restored = Ok(());
    opened.reader.state_rows(|key, value| {
        if restored.is_ok() {
            restored = restore_row(&mut restoring, key, value);
        }
    })?;
    restored.map(|()| restoring)
}

/// Puts the replica of a witness together. It applies nothing, so its tables are as small as they can be.
pub(crate) fn restore_witness(
    identity: &Identity,
    opened: &OpenedTerms,
    clock: Clock,
) -> Result<NodeReplica, RestoreError> {
    let mut restoring = restoring(identity, Parameters { producers: 1, topics: 1, ..identity.parameters })?;
    let OpenedTerms { terms, suspect, .. } = opened;
    terms.configurations().iter().for_each(|&placed| restoring.find_configuration(placed));
    let (hard_state, last) = (terms.hard_state(), terms.last());
    let log = RestoredLog { hard_state, last, suspect: *suspect, ..RestoredLog::default() };
    Ok(restoring.start(log, clock.now())?)
}

fn restoring(identity: &Identity, parameters: Parameters) -> Result<Restoring<Tables>, RestoreError> {
    let raft = RaftOptions {
        node: identity.node,
        incarnation: identity.incarnation,
        membership: configuration(identity).map_err(RestoreError::Configuration)?.into(),
        seed: seed()?,
        is_witness: identity.is_witness(),
        faults: Default::default(),
    };
    let lent = Lent {
        producers: vec![ProducerSlot::EMPTY; parameters.producers as usize].into(),
        topics: vec![TopicSlot::EMPTY; parameters.topics as usize].into(),
    };
    Ok(Restoring::new(Options { raft, parameters }, lent)?)
}

/// The first configuration.
fn configuration(identity: &Identity) -> Result<Configuration, ConfigurationError> {
    let members = identity.members.iter().map(|member| Member { node: member.id, incarnation: member.incarnation });
    let all = Configuration::new(&members.collect::<Vec<_>>())?;
    let witness = identity.members.iter().find(|member| member.is_witness);
    witness.map_or(Ok(all), |witness| all.with_witness(witness.id))
}

/// Tells of the configurations of the log that are not applied in the checkpoint.
fn find_configurations(restoring: &mut Restoring<Tables>, opened: &Opened) -> Result<(), RestoreError> {
    let mut next = restoring.applied().index.next();
    let last = opened.stored.last.index;
    while next <= last {
        let mut found = Ok(());
        next = opened
            .reader
            .entries(next, last, READ_AT_ONCE, |index, frame| {
                found = find_configuration(restoring, index, frame);
                if found.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?
            .next;
        found?;
    }
    Ok(())
}

fn find_configuration(restoring: &mut Restoring<Tables>, index: Index, frame: &[u8]) -> Result<(), RestoreError> {
    let frame = Frame::check(frame, CRC).map_err(|error| RestoreError::Entry(index, error.to_string()))?;
    if frame.header().kind == Kind::Configuration {
        let configuration =
            Configuration::decode(frame.payload()).map_err(|error| RestoreError::Entry(index, error.to_string()))?;
        restoring.find_configuration(Placed { index, configuration });
    }
    Ok(())
}

fn restore_row(restoring: &mut Restoring<Tables>, key: &[u8], value: &[u8]) -> Result<(), RestoreError> {
    let key = RowKey::from_bytes(key).ok_or_else(|| RestoreError::ForeignRow(key.to_vec()))?;
    Ok(restoring.restore_row(key, value)?)
}

fn seed() -> Result<u64, RestoreError> {
    getrandom::u64().map_err(RestoreError::Randomness)
}
