//! How a replica starts: with what was on the disk.

use super::checkpoint::{Meta, RestoreError, RowKey, check_parameters};
use super::memory::Memory;
use super::state::State;
use super::{Options, Replica};
use crate::id::LogTime;
use crate::raft::{HardState, LogPosition, Membership, Placed, Restored};
use crate::time::Instant;

/// What a node found in its log when it started. The default is a log that never was, or was wiped: it is suspect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestoredLog {
    /// The hard state last written.
    pub hard_state: HardState,
    /// The entry before the first that the log holds.
    pub base: LogPosition,
    /// The last entry; `base` if the log holds none.
    pub last: LogPosition,
    /// The log time of the last entry.
    pub last_log_time: LogTime,
    /// Something was dropped behind it that may have been promised, or there never was anything: see
    /// [`Restored::suspect`](crate::raft::Restored::suspect).
    pub suspect: bool,
}

impl Default for RestoredLog {
    fn default() -> Self {
        let Restored { hard_state, base, last, suspect, .. } = Restored::default();
        Self { hard_state, base, last, last_log_time: LogTime::ZERO, suspect }
    }
}

/// A replica that is being put together: give it the rows of its checkpoint, if there is one, then start it.
pub struct Restoring<M: Memory> {
    options: Options,
    state: State<M>,
    meta: Option<Meta>,
}

impl<M: Memory> Restoring<M> {
    /// A replica without state yet, in the memory that is lent to it.
    ///
    /// # Errors
    ///
    /// [`RestoreError::Parameters`], [`RestoreError::Memory`].
    pub fn new(options: Options, memory: M) -> Result<Self, RestoreError> {
        check_parameters(&options.parameters)?;
        let mut state = State::new(options.parameters, options.raft.seed, memory)?;
        state.faults = options.raft.faults;
        Ok(Self { options, state, meta: None })
    }

    /// Puts back a row of the checkpoint. They come in ascending order of their keys, and all of them.
    ///
    /// # Errors
    ///
    /// The row does not belong here, or is damaged: give up.
    pub fn restore_row(&mut self, key: RowKey, value: &[u8]) -> Result<(), RestoreError> {
        self.meta = self.state.restore_row(key, value)?.or(self.meta);
        if let (RowKey::Configuration, Some(placed)) = (key, self.state.members.placed()) {
            self.options.raft.membership = Membership::new(placed);
        }
        Ok(())
    }

    /// The entry up to which the rows that were put back are applied.
    #[must_use]
    pub fn applied(&self) -> LogPosition {
        self.meta.map_or(LogPosition::default(), |meta| meta.applied)
    }

    /// Tells of an entry of the log that holds a configuration. All of those behind [`applied`](Self::applied) are told, in
    /// their order, after the rows.
    pub fn find_configuration(&mut self, placed: Placed) {
        self.options.raft.membership.append(placed);
    }

    /// Compares the state with what was written, and starts the replica on its log. The entries between the
    /// checkpoint and the commit index are asked for by [`Output::Apply`](super::Output::Apply) when the commit index
    /// is known.
    ///
    /// # Errors
    ///
    /// Rows are missing or stale, or the log does not reach as far as the checkpoint.
    pub fn start(mut self, log: RestoredLog, now: Instant) -> Result<Replica<M>, RestoreError> {
        match self.meta {
            Some(meta) => self.state.restore_rest(&meta)?,
            None if self.state.is_empty() => {}
            None => return Err(RestoreError::MetaMissing),
        }
        Replica::start(self.options, self.state, log, now)
    }
}
