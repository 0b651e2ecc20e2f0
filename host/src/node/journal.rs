//! The engine's side of storage: writes of the log and rows of the applied state, in one order.
//!
//! Rows become visible to readers with the next synced write behind them. The journal knows how far that is, so that the
//! tail keeps what the topic index does not show yet.

use super::memory::{BLOCK_LEN, OwnFrame, StaticPool};
use super::tail::Tail;
use crate::storage::{Job, Report, Row, RowPacker, Storage, StoreError};
use eventstream_core::id::Index;
use eventstream_core::raft::{Persist, Token};
use std::collections::VecDeque;

/// Room that an entry's rows need at most: one for each of 64 events.
const ROWS_OF_AN_ENTRY: usize = 64 * 32;

/// Writes for the storage thread, in order.
pub(crate) struct Journal {
    storage: Storage,
    /// What found the ring full, oldest first. The engine takes no new input until it is gone.
    kept: VecDeque<Job>,
    pool: StaticPool,
    /// Rows packed so far, then room.
    block: Option<OwnFrame>,
    used: usize,
    /// Blocks of the current set are handed over, and the last one is not.
    set_is_open: bool,
    /// The topic rows of entries up to here are handed over.
    handed_over: Index,
    /// The topic rows of entries up to here are visible to readers.
    visible: Index,
    /// When this token is reported, the rows of entries up to this index are visible.
    promised: VecDeque<(Token, Index)>,
    /// The last token handed over.
    last_token: Token,
}

impl Journal {
    /// A journal of a store whose topic rows reach to `applied`; it packs rows into blocks of `pool`.
    pub(crate) fn new(storage: Storage, pool: StaticPool, applied: Index) -> Self {
        Self {
            storage,
            kept: VecDeque::new(),
            pool,
            block: None,
            used: 0,
            set_is_open: false,
            handed_over: applied,
            visible: applied,
            promised: VecDeque::new(),
            last_token: Token::default(),
        }
    }

    /// Writes what the replica wants durable; the entries are in the tail.
    pub(crate) fn write(&mut self, persist: &Persist, tail: &Tail) {
        if let Some(state) = persist.hard_state {
            self.push(Job::HardState(state));
        }
        if let Some(from) = persist.truncate_from {
            self.push(Job::Truncate(from));
        }
        if let Some((first, last)) = persist.append {
            for (index, frame) in (first.0..).zip(tail.range(first, last)) {
                self.push(Job::Append(Index(index), frame.clone()));
            }
        }
        self.sync(persist.token);
    }

    /// Whether there is room for the rows of one more entry.
    pub(crate) fn has_room(&mut self) -> bool {
        let room = self.block.as_ref().map_or(0, |block| block.len() - self.used);
        room >= ROWS_OF_AN_ENTRY || self.next_block()
    }

    /// Whether [`Self::has_room`] may say so.
    pub(crate) fn may_have_room(&self) -> bool {
        self.pool.free() > 0 || self.block.as_ref().is_some_and(|block| block.len() - self.used >= ROWS_OF_AN_ENTRY)
    }

    /// Whether a set of rows of this size finds room now.
    pub(crate) fn has_room_for(&self, bytes: usize) -> bool {
        self.kept.is_empty() && self.pool.free() > bytes.div_ceil(BLOCK_LEN - ROWS_OF_AN_ENTRY)
    }

    /// Adds a row. There is to be room, see [`Self::has_room`].
    pub(crate) fn row(&mut self, row: &Row<'_>) {
        if self.try_row(row).is_err() {
            let has_block = self.next_block();
            assert!(has_block && self.try_row(row).is_ok(), "room for rows is asked for before they are made");
        }
    }

    /// The rows since the last call, which are of entries up to `applied`, are one write: all of them or none.
    pub(crate) fn end_rows(&mut self, applied: Index) {
        let is_open = self.used > 0 || self.set_is_open;
        if let Some(packed) = self.block.as_mut().filter(|_| is_open).map(|block| block.split_to(self.used)) {
            (self.used, self.set_is_open) = (0, false);
            self.push(Job::Rows { packed: packed.freeze(), last: true });
        }
        self.handed_over = applied;
    }

    /// The topic rows of entries up to here are visible to readers.
    pub(crate) fn visible(&self) -> Index {
        self.visible
    }

    /// Makes rows visible that no write of the log has followed yet.
    pub(crate) fn show_rows(&mut self) {
        if self.visible < self.handed_over && self.promised.is_empty() {
            self.sync(self.last_token);
        }
    }

    /// Asks the thread to write what is left and to end.
    pub(crate) fn stop(&mut self) {
        self.push(Job::Stop);
    }

    /// Hands over what was kept, as far as there is room, and wakes the thread. Returns whether nothing is kept any more.
    pub(crate) fn flush(&mut self) -> bool {
        while let Some(job) = self.kept.pop_front() {
            if let Err(full) = self.storage.push(job) {
                self.kept.push_front(full.0);
                break;
            }
        }
        self.storage.ring();
        self.kept.is_empty()
    }

    /// Whether something is kept.
    pub(crate) fn is_blocked(&self) -> bool {
        !self.kept.is_empty()
    }

    /// Whether something is kept and there is room for it now.
    pub(crate) fn has_room_again(&self) -> bool {
        self.is_blocked() && self.storage.free() > 0
    }

    /// The next report.
    pub(crate) fn poll(&mut self) -> Option<Report> {
        let report = self.storage.poll_report()?;
        if let Report::Persisted(token) = report {
            while let Some((_, index)) = self.promised.pop_front_if(|(promised, _)| *promised <= token) {
                self.visible = index;
            }
        }
        Some(report)
    }

    /// Whether a report waits.
    pub(crate) fn has_report(&self) -> bool {
        self.storage.has_report()
    }

    /// Whether the disk is low.
    pub(crate) fn is_disk_low(&self) -> bool {
        self.storage.is_disk_low()
    }

    /// Waits for the thread to end.
    ///
    /// # Errors
    /// What the store failed with.
    pub(crate) fn join(self) -> Result<(), StoreError> {
        self.storage.join()
    }

    fn sync(&mut self, token: Token) {
        self.last_token = token;
        self.promised.push_back((token, self.handed_over));
        self.push(Job::Sync(token));
    }

    fn push(&mut self, job: Job) {
        if !self.kept.is_empty() {
            self.kept.push_back(job);
        } else if let Err(full) = self.storage.push(job) {
            self.kept.push_back(full.0);
        }
    }

    fn try_row(&mut self, row: &Row<'_>) -> Result<(), ()> {
        let block = self.block.as_mut().ok_or(())?;
        let mut packer = RowPacker::new(&mut block[self.used..]);
        packer.push(row).map_err(|_full| ())?;
        self.used += packer.len();
        Ok(())
    }

    /// Hands over the rows so far as a part of their set, and goes on in the next block; false if there is none.
    fn next_block(&mut self) -> bool {
        let Some(next) = self.pool.take() else { return false };
        if let Some(mut full) = self.block.replace(next).filter(|_| self.used > 0) {
            full.truncate(self.used);
            self.set_is_open = true;
            self.push(Job::Rows { packed: full.freeze(), last: false });
        }
        self.used = 0;
        true
    }
}
