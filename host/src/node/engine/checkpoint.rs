//! The applied state on disk: the rows that changed, in one write.

use super::Engine;
use crate::node::state;
use crate::storage::Row;
use eventstream_core::config::Parameters;
use eventstream_core::id::Index;
use eventstream_core::replica::MAX_ROW_LEN;
use eventstream_core::time::{Duration, Instant};

/// A checkpoint that found no room is tried again after this.
const RETRY: Duration = Duration::from_millis(10);

/// When the state is written.
#[derive(Debug)]
pub(super) struct Checkpoints {
    every: Duration,
    next: Instant,
    /// The last entry whose effects the last checkpoint holds.
    applied: Index,
    /// What a checkpoint of everything takes.
    max_bytes: usize,
}

impl Checkpoints {
    /// The state on disk is that after `applied`.
    pub(super) fn new(now: Instant, every: Duration, applied: Index, parameters: &Parameters) -> Self {
        Self { every, next: now + every, applied, max_bytes: state::checkpoint_bytes(parameters) }
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Instant {
        self.next
    }
}

impl Engine {
    /// Writes what changed since the last checkpoint, if it is time. It is put off while there is no room for it.
    pub(super) fn checkpoint_if_due(&mut self) {
        if self.checkpoints.next > self.now {
            return;
        }
        self.journal.show_rows();
        if self.journal.has_room_for(self.checkpoints.max_bytes) {
            self.checkpoints.next = self.now + self.checkpoints.every;
            self.write_checkpoint();
        } else {
            self.checkpoints.next = self.now + RETRY;
        }
    }

    /// Writes what changed since the last checkpoint, for a quick next start; without room the next start replays more.
    pub(super) fn write_last_checkpoint(&mut self) {
        if self.journal.has_room_for(self.checkpoints.max_bytes) {
            self.write_checkpoint();
        }
    }

    /// Writes what changed since the last checkpoint.
    fn write_checkpoint(&mut self) {
        let applied = self.applied();
        if applied == self.checkpoints.applied {
            return;
        }
        self.checkpoints.applied = applied;
        let mut value = [0; MAX_ROW_LEN];
        while let Some(row) = self.replica.poll_row(&mut value) {
            self.journal.row(&Row::State { key: &row.key.to_bytes(), value: &value[..row.len] });
        }
        self.journal.end_rows(applied);
    }
}
