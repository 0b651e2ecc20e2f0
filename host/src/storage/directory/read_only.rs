//! A directory whose node does not run, opened to be looked at: nothing in it changes.
//!
//! RocksDB opens it without a lock, a log file or an options file of its own, and replays its write-ahead log into memory
//! alone. (`strace` shows one call that could write: `mkdir` of the data, which is there.) The lock of the directory is
//! shared: several may look at it at a time, and no node starts in it meanwhile.
//!
//! Where a start would cut off the end of the write-ahead log, that end is passed over: what is read is what the node would
//! start with.

use super::{OpenError, Place, check_version, owner};
use crate::identity::Identity;
use crate::storage::floor;
use crate::storage::options::OptionSet;
use crate::storage::reader::Reader;
use crate::storage::rocks::Database;
use crate::storage::wal::{self, Condition};
use eventstream_core::id::Index;
use rocksdb::{DB, DBRecoveryMode};
use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::OnceLock;

/// A directory that is open to be looked at.
pub struct ReadOnly {
    /// What is in it. It may be damaged: no more was checked than whose it is, and that RocksDB opens it.
    pub reader: Reader,
    /// How far the log is known to have been synced, if that is known.
    pub floor: Option<SyncedPoint>,
    /// Whether the log may have lost its end: the node would start as one that knows so.
    pub suspect: bool,
}

/// A point that the log reached on stable storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncedPoint {
    /// Synced batches until then.
    pub batches: u64,
    /// The log held an entry at this index; zero if it held none.
    pub index: Index,
    /// The checksum over the headers of all entries up to it.
    pub chain: u32,
}

/// Opens the data of the node that `identity` was read from, to be read; `None` if that node was never started.
///
/// # Errors
/// See [`OpenError`]. Nothing in the directory was changed, nor will be by the reader.
pub fn open_read_only(directory: &Path, identity: &Identity) -> Result<Option<ReadOnly>, OpenError> {
    let lock = lock(directory)?;
    // Nothing is written, so it does not matter how.
    let options = OptionSet::new(false);
    let place = Place { directory, options: &options, owner: owner(identity) };
    let data = place.data();
    check_version(directory, &data)?;
    if !data.exists() {
        return Ok(None);
    }
    let seen = floor::look(directory).map_err(|source| place.floor_error(source))?;
    let (floor, is_suspect) = seen.map_or((None, true), |(floor, is_suspect)| (Some(floor), is_suspect));
    let number = floor.map_or(0, |floor| floor.number);
    let condition = wal::inspect(&data, number).map_err(|source| OpenError::Io { path: data.clone(), source })?;
    let (passes_over, is_doubtful) = match condition {
        Condition::Whole => (false, false),
        Condition::Torn(_) => (true, false),
        Condition::Doubtful(_) => (true, true),
        Condition::Damaged { file, offset } => return Err(OpenError::LogDamaged { file, offset }),
    };
    let open = || {
        let mut database = options.database()?;
        if passes_over {
            database.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
        }
        DB::open_cf_with_opts_for_read_only(&database, &data, options.families()?, false)
    };
    let rocks = open().map_err(|source| place.rocks_error(source))?;
    place.check_owner(&rocks)?;
    Ok(Some(ReadOnly {
        reader: Reader::new(Arc::new(Database { rocks, failure: OnceLock::new(), _lock: lock })),
        floor: floor.map(|floor| SyncedPoint { batches: floor.number, index: floor.index, chain: floor.chain.0 }),
        suspect: is_suspect || is_doubtful,
    }))
}

/// Keeps nodes out, and nobody else who reads.
pub(in crate::storage) fn lock(directory: &Path) -> Result<File, OpenError> {
    let path = directory.join("LOCK");
    let opened = match File::open(&path) {
        // Nobody has ever locked it, or it is a copy: the directory stands for the file that is not to be made.
        Err(error) if error.kind() == io::ErrorKind::NotFound => File::open(directory),
        opened => opened,
    };
    let io = |source| OpenError::Io { path: path.clone(), source };
    let lock = opened.map_err(io)?;
    match lock.try_lock_shared() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { directory: directory.to_owned() }),
        Err(TryLockError::Error(source)) => Err(io(source)),
    }
}
