//! Everything that lies in the store, damaged or not: for whoever checks it.

use super::{Reader, TopicRow};
use crate::storage::StoreError;
use crate::storage::key::{self, LogKey};
use crate::storage::options::{INDEX, LOG};
use crate::storage::point::{Chain, Point};
use core::ops::ControlFlow;
use eventstream_core::id::{Index, Offset, TopicId};
use eventstream_core::raft::HardState;

/// A thing in the log, in the order of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogItem<'a> {
    /// An entry. Whether it follows the one before it, and whether its bytes are a frame, is not known yet.
    Entry {
        /// The index that it is stored under.
        index: Index,
        /// Its bytes.
        frame: &'a [u8],
        /// The checksum over the headers of all entries up to this one.
        chain: u32,
    },
    /// The end of a batch that was synced.
    Synced {
        /// The last entry of the log then.
        last: Index,
        /// Its number: synced batches until then.
        number: u64,
        /// Term and vote then.
        hard_state: HardState,
        /// Whether the entries up to here are those that were written. Behind a hole nobody can tell before the next such
        /// end: there it is true.
        is_whole: bool,
    },
}

impl Reader {
    /// Gives everything in the log from its first entry on, until `visit` breaks.
    ///
    /// # Errors
    /// A failed read; [`StoreError::Damaged`] for what is neither an entry nor the end of a batch.
    pub fn scan_log(&self, mut visit: impl FnMut(LogItem<'_>) -> ControlFlow<()>) -> Result<(), StoreError> {
        let mut log = self.range(LOG, &key::entry(Index::ZERO), &key::end());
        log.seek_to_first();
        let (mut last, mut chain, mut is_known) = (Index::ZERO, Chain::default(), true);
        while let Some((key, value)) = log.item() {
            let item = match super::parse(key)? {
                LogKey::Entry(index) => {
                    is_known &= index == last.next();
                    match value.first_chunk() {
                        Some(header) => chain = chain.extended(header),
                        None => is_known = false,
                    }
                    last = index;
                    LogItem::Entry { index, frame: value, chain: chain.0 }
                }
                LogKey::Point(at) => {
                    let Point { number, chain: written, hard_state, .. } = super::parse_point(value)?;
                    let is_whole = !is_known || (at == last && chain == written);
                    (last, chain, is_known) = (at, written, true);
                    LogItem::Synced { last: at, number, hard_state, is_whole }
                }
            };
            if visit(item).is_break() {
                return Ok(());
            }
            log.next();
        }
        log.status().map_err(StoreError::Read)
    }

    /// The index of what is last in the log; zero if nothing is.
    ///
    /// # Errors
    /// As [`Self::scan_log`].
    pub fn log_end(&self) -> Result<Index, StoreError> {
        let mut log = self.range(LOG, &key::entry(Index::ZERO), &key::end());
        log.seek_to_last();
        match log.key() {
            Some(key) => super::parse(key).map(|(LogKey::Entry(index) | LogKey::Point(index))| index),
            None => log.status().map(|()| Index::ZERO).map_err(StoreError::Read),
        }
    }

    /// The first row of the topics from this number on.
    ///
    /// # Errors
    /// A failed read, or a row that is not ours.
    pub fn first_row_from(&self, topic: TopicId) -> Result<Option<(TopicId, TopicRow)>, StoreError> {
        let mut rows = self.range(INDEX, &key::topic(topic, Offset::ZERO), &key::end());
        rows.seek_to_first();
        match rows.item() {
            Some((key, value)) => TopicRow::parse_any(key, value).map(Some),
            None => rows.status().map(|()| None).map_err(StoreError::Read),
        }
    }
}
