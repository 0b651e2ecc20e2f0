//! The log and the applied state on disk.
//!
//! ```text
//! engine --jobs--> storage thread --one synced write per group--> RocksDB <--reads-- readers (any thread)
//!        <-tokens-
//! ```
//!
//! - [`open`] takes a node's directory, or says why it must not be used.
//! - [`Storage`] is the thread that writes: it takes all that waits, writes it in one synced batch, and reports the tokens.
//! - [`Reader`] reads entries, topic rows and state rows beside it. What it sees of the log is on stable storage.
//! - [`open_terms`] is [`open`] for a witness, which keeps terms and no entries: no database, one small file.
//! - [`LogStore`] is what the thread needs of a store, so that its order and its poisoning are tested without a disk.
//!
//! **The first write or sync that fails poisons the store for good.** After a failed sync nobody knows what the disk holds,
//! and a second sync that succeeds proves nothing about the first. The node stops and says so.

#[cfg(test)]
mod any_bytes;
mod directory;
mod floor;
mod key;
mod options;
mod point;
mod reader;
mod rocks;
mod rows;
mod terms;
mod thread;
mod wal;

pub use directory::{OpenError, Opened, ReadOnly, SyncedPoint, open, open_read_only};
pub use options::{MAX_FILES, memory};
pub use reader::{Found, LogItem, Reader, Stored, TopicRow};
pub use rocks::RocksStore;
pub use rows::{Row, RowPacker, RowsFull, unpack};
pub use terms::{
    MAX_TERMS_LEN, OpenedTerms, Terms, TermsFile, TermsReport, TermsWriter, open_terms, read_terms, terms_path,
};
pub use thread::{GROUP_BYTES, JOBS, Job, REPORTS, Report, Storage};

use eventstream_core::id::Index;
use eventstream_core::raft::HardState;
use std::io;

/// Whether a write must be on stable storage before it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// It must.
    Synced,
    /// It may wait for the next synced write, which it never overtakes.
    Unsynced,
}

/// What the storage thread needs of a store: it collects one atomic write, then commits it.
///
/// The parts take effect in the order of the calls. A store that failed once refuses everything after.
pub trait LogStore: Send + 'static {
    /// Term and vote.
    ///
    /// # Errors
    /// [`StoreError::Poisoned`].
    fn set_hard_state(&mut self, state: HardState) -> Result<(), StoreError>;

    /// Removes the entries at and after `from`; none if the log ends before it.
    ///
    /// # Errors
    /// A failed read or write, or [`StoreError::Poisoned`].
    fn truncate(&mut self, from: Index) -> Result<(), StoreError>;

    /// Adds the entry behind the last one; `frame` is stored as it is.
    ///
    /// # Errors
    /// [`StoreError::Poisoned`].
    ///
    /// # Panics
    /// If `index` does not follow the last entry, or `frame` is shorter than a header: only our own bug can do that.
    fn append(&mut self, index: Index, frame: &[u8]) -> Result<(), StoreError>;

    /// Writes or removes a row of the applied state.
    ///
    /// # Errors
    /// [`StoreError::Poisoned`].
    fn put_row(&mut self, row: &Row<'_>) -> Result<(), StoreError>;

    /// Bytes collected for the next commit.
    fn pending_bytes(&self) -> usize;

    /// Writes what was collected, all or nothing.
    ///
    /// # Errors
    /// [`StoreError::Write`] the first time, [`StoreError::Poisoned`] from then on.
    fn commit(&mut self, durability: Durability) -> Result<(), StoreError>;

    /// Notes outside of the store how far the synced log reaches, so that a start which finds less knows what it lost.
    ///
    /// # Errors
    /// [`StoreError::Floor`] the first time, [`StoreError::Poisoned`] from then on.
    fn save_floor(&mut self) -> Result<(), StoreError>;

    /// Whether less than a tenth of the file system is free.
    fn is_disk_low(&self) -> bool;

    /// Makes what is committed but not synced durable, and, if the disk has room for it, a quick next start possible.
    ///
    /// # Errors
    /// As [`Self::commit`].
    fn close(&mut self) -> Result<(), StoreError>;
}

/// Why reading or writing failed. None of these is worth another try.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A write or a sync failed. Nothing is known of what it should have written; the node must stop.
    #[error("writing to the store failed, and what the disk holds now is unknown: {0}")]
    Write(#[source] rocksdb::Error),
    /// Writing or syncing the floor failed. The log is as good as it was, but this disk is not.
    #[error("writing the floor of the log failed: {0}")]
    Floor(#[source] io::Error),
    /// Writing or syncing a witness's terms failed. Nothing is known of what it should have written; the node must stop.
    #[error("writing the terms failed, and what the disk holds now is unknown: {0}")]
    Terms(#[source] io::Error),
    /// A witness has seen more elections than its file has room for.
    #[error("the witness's file has no room for {0} terms")]
    TooManyTerms(usize),
    /// A write or a sync failed earlier.
    #[error("the store refuses everything since a write to it failed")]
    Poisoned,
    /// A read failed.
    #[error("reading from the store failed: {0}")]
    Read(#[source] rocksdb::Error),
    /// The log does not hold this entry.
    #[error("the log does not hold entry {0}")]
    NoEntry(Index),
    /// The log holds what no write of ours leaves behind.
    #[error("the stored log is damaged: {0}")]
    Damaged(String),
}
