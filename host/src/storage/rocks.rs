//! The store in RocksDB: one atomic write at a time.

use super::floor::{Floor, FloorFile};
use super::options::{FAMILIES, INDEX, LOG, STATE};
use super::point::{Chain, Point};
use super::reader::{Reader, Stored};
use super::wal::Tally;
use super::{Durability, LogStore, Row, StoreError, key};
use eventstream_core::id::Index;
use eventstream_core::raft::HardState;
use rocksdb::{ColumnFamily, DB, FlushOptions, WriteBatch, WriteOptions};
use rustix::fs::statvfs;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::OnceLock;

/// Below this share of the file system, the disk is low: one of so many parts.
const LOW: u64 = 10;

/// The open database. Dropped before the lock of its directory.
pub(super) struct Database {
    pub(super) rocks: DB,
    /// What went wrong where nobody could be told.
    pub(super) failure: OnceLock<StoreError>,
    pub(super) _lock: File,
}

impl Database {
    pub(super) fn family(&self, name: &str) -> &ColumnFamily {
        self.rocks.cf_handle(name).expect("all families are opened with the database")
    }

    /// Writes what is in memory to files of its own, so that the next start finds an empty write-ahead log.
    fn flush(&self) -> Result<(), rocksdb::Error> {
        let families: Vec<&ColumnFamily> = FAMILIES.iter().map(|name| self.family(name)).collect();
        self.rocks.flush_cfs_opt(&families, &FlushOptions::default())
    }
}

/// The writing side. There is one for a directory.
pub struct RocksStore {
    reader: Reader,
    /// Where the files are.
    data: PathBuf,
    floor: FloorFile,
    /// What the floor may rise to: what was synced, but nothing that is about to be cut.
    synced: Floor,
    batch: WriteBatch,
    /// The last entry, with those that are not committed yet.
    last: Index,
    /// The chain there.
    chain: Chain,
    /// The point that the next synced write carries; `base` is where it begins.
    point: Point,
    /// Whether the log says itself that the node is suspect, so that the floor need not.
    log_says_suspect: bool,
    /// Whether the batch holds anything of the log.
    log_is_touched: bool,
    /// Whether the batch holds entries: they cannot be read back yet.
    has_entries: bool,
    is_poisoned: bool,
}

impl RocksStore {
    /// Goes on where `stored` ends.
    pub(super) fn new(reader: Reader, data: PathBuf, floor: FloorFile, stored: &Stored) -> Self {
        Self {
            reader,
            data,
            floor,
            synced: stored.floor(),
            batch: WriteBatch::default(),
            last: stored.last.index,
            chain: stored.chain,
            point: Point {
                number: stored.synced_batches,
                base: stored.last.index,
                base_chain: stored.chain,
                chain: stored.chain,
                hard_state: stored.hard_state,
            },
            log_says_suspect: false,
            log_is_touched: false,
            has_entries: false,
            is_poisoned: false,
        }
    }

    /// A reader of the same database.
    #[must_use]
    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }

    fn database(&self) -> &Database {
        self.reader.database()
    }

    fn check(&self) -> Result<(), StoreError> {
        if self.is_poisoned { Err(StoreError::Poisoned) } else { Ok(()) }
    }

    fn poison(&mut self, error: rocksdb::Error) -> StoreError {
        self.is_poisoned = true;
        StoreError::Write(error)
    }

    fn poison_floor(&mut self, error: io::Error) -> StoreError {
        self.is_poisoned = true;
        StoreError::Floor(error)
    }
}

impl LogStore for RocksStore {
    fn set_hard_state(&mut self, state: HardState) -> Result<(), StoreError> {
        self.check()?;
        self.point.hard_state = state;
        self.log_is_touched = true;
        Ok(())
    }

    fn truncate(&mut self, from: Index) -> Result<(), StoreError> {
        self.check()?;
        assert!(from > Index::ZERO, "there is no entry 0 to remove");
        if from > self.last {
            return Ok(());
        }
        if self.has_entries {
            // The chain below the cut is read from the store, so what is collected must be there first.
            self.commit(Durability::Synced)?;
        }
        let chain = self.reader.chain_at(from.prev())?;
        // Before the cut: see the order of things in `floor`.
        self.synced = Floor { index: from.prev(), chain, ..self.synced };
        if self.floor.floor().index >= from {
            self.floor.lower(self.synced).map_err(|error| self.poison_floor(error))?;
        }
        let removed = (key::entry(from), key::entry(self.last.next()));
        // Bounded by the last entry: an open range would overlap all that is written later.
        let log = self.reader.database().family(LOG);
        self.batch.delete_range_cf(log, removed.0, removed.1);
        (self.last, self.chain) = (from.prev(), chain);
        (self.point.base, self.point.base_chain) = (self.last, self.chain);
        self.log_is_touched = true;
        Ok(())
    }

    fn append(&mut self, index: Index, frame: &[u8]) -> Result<(), StoreError> {
        self.check()?;
        assert_eq!(index, self.last.next(), "an entry is appended behind the last one");
        let header = frame.first_chunk().expect("an entry is a whole frame");
        let log = self.reader.database().family(LOG);
        self.batch.put_cf(log, key::entry(index), frame);
        (self.last, self.chain) = (index, self.chain.extended(header));
        (self.log_is_touched, self.has_entries) = (true, true);
        Ok(())
    }

    fn put_row(&mut self, row: &Row<'_>) -> Result<(), StoreError> {
        self.check()?;
        let database = self.reader.database();
        match *row {
            Row::Topic { topic, first_offset, index, mask } => {
                let mut value = [0; 16];
                value[..8].copy_from_slice(&index.0.to_le_bytes());
                value[8..].copy_from_slice(&mask.to_le_bytes());
                self.batch.put_cf(database.family(INDEX), key::topic(topic, first_offset), value);
            }
            Row::State { key, value } => self.batch.put_cf(database.family(STATE), key::state(key), value),
            Row::Gone { key } => self.batch.delete_cf(database.family(STATE), key::state(key)),
        }
        Ok(())
    }

    fn pending_bytes(&self) -> usize {
        self.batch.size_in_bytes()
    }

    fn commit(&mut self, durability: Durability) -> Result<(), StoreError> {
        self.check()?;
        let is_synced = durability == Durability::Synced;
        if self.log_is_touched {
            self.point.number += 1;
            self.point.chain = self.chain;
            let log = self.reader.database().family(LOG);
            self.batch.put_cf(log, key::point(self.last), self.point.emit());
        }
        self.batch.put_log_data(Tally { synced: self.synced.number, number: self.point.number }.emit());
        let mut options = WriteOptions::default();
        options.set_sync(is_synced);
        let batch = core::mem::take(&mut self.batch);
        let written = self.database().rocks.write_opt(batch, &options);
        written.map_err(|error| self.poison(error))?;
        (self.point.base, self.point.base_chain) = (self.last, self.chain);
        (self.log_is_touched, self.has_entries) = (false, false);
        if is_synced {
            self.log_says_suspect |= self.point.hard_state.suspect;
            self.synced = Floor { number: self.point.number, index: self.last, chain: self.chain };
        }
        Ok(())
    }

    fn save_floor(&mut self) -> Result<(), StoreError> {
        self.check()?;
        if self.log_says_suspect {
            self.floor.set_suspect(false).map_err(|error| self.poison_floor(error))?;
        }
        self.floor.raise(self.synced).map_err(|error| self.poison_floor(error))
    }

    fn is_disk_low(&self) -> bool {
        // A file system that tells no size, or nothing at all, is not known to be full.
        statvfs(&self.data).is_ok_and(|space| space.f_bavail < space.f_blocks / LOW)
    }

    fn close(&mut self) -> Result<(), StoreError> {
        self.check()?;
        let database = self.reader.database();
        let synced = database.rocks.flush_wal(true);
        let flushed = synced.and_then(|()| if self.is_disk_low() { Ok(()) } else { database.flush() });
        flushed.map_err(|error| self.poison(error))?;
        self.save_floor()
    }
}
