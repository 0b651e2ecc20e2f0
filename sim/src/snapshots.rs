//! The checkpoints that members send each other. Their rows exist once: those of a checkpoint as of one entry are the same on
//! every member, byte for byte, and that is checked here.

use crate::disk::Row;
use crate::violation::{Checked, ensure};
use eventstream_core::raft::LogPosition;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Rows by the entry that they are of.
#[derive(Debug, Default)]
pub(crate) struct Snapshots {
    rows: BTreeMap<u64, Rc<[Row]>>,
}

impl Snapshots {
    pub(crate) fn clear(&mut self) {
        self.rows.clear();
    }

    /// Keeps the rows of a member's checkpoint.
    pub(crate) fn keep(&mut self, last: LogPosition, rows: &[Row]) -> Checked {
        let known = self.rows.entry(last.index.0).or_insert_with(|| rows.into());
        ensure!(**known == *rows, StateHash, "members differ in the rows of their checkpoints as of {last:?}");
        Ok(())
    }

    /// The rows of the checkpoint as of `last`, which somebody sends.
    pub(crate) fn of(&self, last: LogPosition) -> Rc<[Row]> {
        Rc::clone(self.rows.get(&last.index.0).expect("a checkpoint is kept before it is sent"))
    }
}
