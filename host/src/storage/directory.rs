//! A node's directory: whose it is, whether somebody uses it, and whether its data is all there.
//!
//! ```text
//! DIR/identity.toml  who the node is; written by `eventstream init`
//! DIR/NEW            there until the first start
//! DIR/LOCK           locked while a process uses the directory; the lock ends with the process
//! DIR/VERSION        version of the data's layout; there from the first start on
//! DIR/FLOOR          how far the synced log reached, at least; there before the data is
//! DIR/data/          RocksDB; of a witness instead:
//! DIR/TERMS          what it keeps
//! ```
//!
//! The first start makes the floor, then the data in `DIR/data.new`, renames it, writes `VERSION`, and removes `NEW`. From
//! then on a directory without data is an error and not a first start, whatever else is gone: a node that voted and forgot
//! it must not vote again as if it had not. A bundle that is copied into place a second time looks new, and nothing in it can
//! tell. So a node whose log holds nothing, not even a term, is suspect (`docs/suspect.md`), also at the first start of its life.
//!
//! A later start reads the write-ahead log before RocksDB does ([`wal`]), opens the data, compares it with the floor
//! ([`floor`](super::floor)), and moves the floor up to what it found, which RocksDB has made durable by then: it writes
//! what it recovers to files of its own and syncs them before it lets anybody write.

mod read_only;

pub use read_only::{ReadOnly, SyncedPoint, open_read_only};

pub(super) use read_only::lock as lock_shared;

use super::StoreError;
use super::floor::FloorFile;
use super::options::OptionSet;
use super::reader::{Reader, Stored};
use super::rocks::{Database, RocksStore};
use super::wal::{self, Condition};
use crate::identity::{Identity, NEW_FILE};
use core::fmt::Write as _;
use eventstream_core::config::Parameters;
use eventstream_core::id::{Index, Term};
use rocksdb::{DB, WriteOptions};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// Version of the layout of a node's data.
const VERSION: &str = "2";
/// Key of the row that says whose data it is.
const OWNER: &[u8] = b"owner";

/// An open directory.
pub struct Opened {
    /// The writing side, for [`Storage::start`](super::Storage::start).
    pub store: RocksStore,
    /// The reading side; to be cloned for each thread that reads.
    pub reader: Reader,
    /// What the log holds.
    pub stored: Stored,
    /// Whether flushes and compactions go around the page cache. Where the file system cannot do that, the node runs as
    /// safely, but background writes push what others read out of the cache; worth a line at start.
    pub direct_io: bool,
}

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process uses it.
    #[error("{} is in use by another process", directory.display())]
    InUse {
        /// The directory.
        directory: PathBuf,
    },
    /// Its data was written by another version.
    #[error("the data in {} has layout version {found:?}, this version reads {VERSION:?}", directory.display())]
    Version {
        /// The directory.
        directory: PathBuf,
        /// What its `VERSION` says.
        found: String,
    },
    /// It had data once, and has none now.
    #[error(
        "the data in {} is gone. This node may have voted and stored events, and has forgotten it. If that is no mistake, \
         as a disk that is not mounted would be, put its bundle there again, with the file NEW: it gets the log from the \
         other nodes", directory.display()
    )]
    DataLost {
        /// The directory.
        directory: PathBuf,
    },
    /// What the disk kept of the log ends before what was synced.
    #[error(
        "the log in {} has lost its end: it reaches entry {} in batch {}, and entry {} in batch {} was on stable storage. \
         This node may have acknowledged and voted for what it no longer holds, and must not start with what is left: empty \
         the directory and put its bundle there again, with the file NEW. The other nodes have what was acknowledged",
        directory.display(), found.1,
        found.0, floor.1, floor.0
    )]
    LogTailLost {
        /// The directory.
        directory: PathBuf,
        /// What was synced: number of the batch, index.
        floor: (u64, Index),
        /// What is there: number of the last batch, last index.
        found: (u64, Index),
    },
    /// A part of the log that was synced is damaged.
    #[error(
        "the log is damaged at byte {offset} of {}, in what was on stable storage. Nothing is served from it, and this node \
         must not start with what is left: empty the directory and put its bundle there again, with the file NEW. The other \
         nodes have what was acknowledged",
        file.display()
    )]
    LogDamaged {
        /// The file.
        file: PathBuf,
        /// Where the damaged record begins.
        offset: u64,
    },
    /// It holds the data of another node, of another life of this one, or of another cluster.
    #[error("the data in {} belongs to somebody else: the identity says {expected:?}, the data {found:?}", directory.display())]
    Foreign {
        /// The directory.
        directory: PathBuf,
        /// The first line of the identity that differs.
        expected: String,
        /// The same line of the data.
        found: String,
    },
    /// RocksDB runs with another option than asked for.
    #[error("RocksDB changed the option {option} from {wanted} to {found}: refusing to run with it")]
    OptionChanged {
        /// The option, with its section.
        option: String,
        /// What was asked for.
        wanted: String,
        /// What it is.
        found: String,
    },
    /// RocksDB does not open the data: damaged, or not readable.
    #[error("RocksDB does not open the data in {}: {source}", directory.display())]
    Rocks {
        /// The directory.
        directory: PathBuf,
        /// What RocksDB said.
        source: rocksdb::Error,
    },
    /// The data is open, but the log in it is not what was synced.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file system's error.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Opens the directory of the node that `identity` was read from; the first time, makes its data.
///
/// # Errors
/// See [`OpenError`]. The directory is as it was before, but for a first start that did not get to its end, and for the end
/// of a log that was not written whole.
pub fn open(directory: &Path, identity: &Identity) -> Result<Opened, OpenError> {
    let lock = lock(directory)?;
    let direct_io = has_direct_io(directory)?;
    let options = OptionSet::new(direct_io);
    let place = Place { directory, options: &options, owner: owner(identity) };
    check_version(directory, &place.data())?;
    if !place.data().exists() {
        FloorFile::create(directory).map_err(|source| place.floor_error(source))?;
        place.create()?;
    }
    let mut floor = FloorFile::open(directory).map_err(|source| place.floor_error(source))?;
    place.repair(&mut floor)?;
    let rocks = place.open()?;
    mark(directory)?;
    let reader = Reader::new(Arc::new(Database { rocks, failure: OnceLock::new(), _lock: lock }));
    let stored = reader.stored()?;
    // A log without anything is that of a first start, or was emptied and the node got its bundle again.
    let is_new = stored.hard_state.term == Term::ZERO && stored.last.index == Index::ZERO;
    let stored = Stored { suspect: floor.is_suspect() || is_new, ..stored };
    if !reader.reaches(floor.floor(), &stored)? {
        let (floor, found) = (floor.floor(), stored.floor());
        return Err(OpenError::LogTailLost {
            directory: directory.to_owned(),
            floor: (floor.number, floor.index),
            found: (found.number, found.index),
        });
    }
    floor.raise(stored.floor()).map_err(|source| place.floor_error(source))?;
    let store = RocksStore::new(reader.clone(), place.data(), floor, &stored);
    Ok(Opened { store, reader, stored, direct_io })
}

pub(super) fn lock(directory: &Path) -> Result<File, OpenError> {
    let path = directory.join("LOCK");
    let io = |source| OpenError::Io { path: path.clone(), source };
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(io)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { directory: directory.to_owned() }),
        Err(TryLockError::Error(source)) => Err(io(source)),
    }
}

/// Tries it on a file, since file systems tell it in no other way.
fn has_direct_io(directory: &Path) -> Result<bool, OpenError> {
    let path = directory.join("direct-io-probe");
    let opened = OpenOptions::new().create(true).truncate(true).write(true).custom_flags(libc::O_DIRECT).open(&path);
    let has = match opened {
        Ok(_) => true,
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => false,
        Err(source) => return Err(OpenError::Io { path, source }),
    };
    match fs::remove_file(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(OpenError::Io { path, source }),
        _ => Ok(has),
    }
}

/// Everything about an identity that the data must agree with, a line each. Addresses may change.
pub(super) fn owner(identity: &Identity) -> String {
    let parameters = &identity.parameters;
    let mut lines = format!(
        "cluster {}\nnode {}\nincarnation {}\nproducers {}\ntopics {}\nevent_payload {}\n",
        identity.cluster,
        identity.node,
        identity.incarnation,
        parameters.producers,
        parameters.topics,
        parameters.event_payload
    );
    // Directories that were made when there was no such parameter do not name it.
    if parameters.producer_idle_us != Parameters::DEFAULT_PRODUCER_IDLE.as_micros() {
        let _ = writeln!(lines, "producer_idle_us {}", parameters.producer_idle_us);
    }
    for member in &identity.members {
        let witness = if member.is_witness { " witness" } else { "" };
        let _ = writeln!(lines, "member {} {}{witness}", member.id, member.incarnation);
    }
    lines
}

/// One directory on its way to being open.
struct Place<'a> {
    directory: &'a Path,
    options: &'a OptionSet,
    owner: String,
}

impl Place<'_> {
    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    fn create(&self) -> Result<(), OpenError> {
        let new = self.directory.join("data.new");
        let io = |source| OpenError::Io { path: new.clone(), source };
        match fs::remove_dir_all(&new) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(io(source)),
            _ => {}
        }
        let rocks = self.open_rocks(&new, true)?;
        let mut synced = WriteOptions::default();
        synced.set_sync(true);
        rocks.put_opt(OWNER, self.owner.as_bytes(), &synced).map_err(|source| self.rocks_error(source))?;
        drop(rocks);
        fs::rename(&new, self.data()).and_then(|()| sync(self.directory)).map_err(io)
    }

    /// Cuts off the end of the log that was not written whole. RocksDB gets only what is.
    fn repair(&self, floor: &mut FloorFile) -> Result<(), OpenError> {
        let io = |source| OpenError::Io { path: self.data(), source };
        let cut = match wal::inspect(&self.data(), floor.floor().number).map_err(io)? {
            Condition::Whole => return Ok(()),
            Condition::Damaged { file, offset } => return Err(OpenError::LogDamaged { file, offset }),
            Condition::Torn(cut) => cut,
            Condition::Doubtful(cut) => {
                // Before the cut: afterwards nothing shows that there was more.
                floor.set_suspect(true).map_err(|source| self.floor_error(source))?;
                cut
            }
        };
        cut.perform().map_err(io)
    }

    fn open(&self) -> Result<DB, OpenError> {
        let data = self.data();
        let rocks = self.open_rocks(&data, false)?;
        let changed = self.options.changed(&data).map_err(|source| OpenError::Io { path: data, source })?;
        if let Some(changed) = changed {
            let super::options::Changed { option, wanted, found } = changed;
            return Err(OpenError::OptionChanged { option, wanted, found });
        }
        self.check_owner(&rocks)?;
        Ok(rocks)
    }

    fn check_owner(&self, rocks: &DB) -> Result<(), OpenError> {
        let found = rocks.get(OWNER).map_err(|source| self.rocks_error(source))?.unwrap_or_default();
        let found = String::from_utf8_lossy(&found);
        if found == self.owner { Ok(()) } else { Err(foreign(self.directory, &self.owner, &found)) }
    }

    fn open_rocks(&self, data: &Path, is_new: bool) -> Result<DB, OpenError> {
        let open = || {
            let mut database = self.options.database()?;
            database.create_if_missing(is_new);
            database.create_missing_column_families(is_new);
            database.set_error_if_exists(is_new);
            DB::open_cf_with_opts(&database, data, self.options.families()?)
        };
        open().map_err(|source| self.rocks_error(source))
    }

    fn floor_error(&self, source: io::Error) -> OpenError {
        OpenError::Io { path: self.directory.join("FLOOR"), source }
    }

    fn rocks_error(&self, source: rocksdb::Error) -> OpenError {
        OpenError::Rocks { directory: self.directory.to_owned(), source }
    }
}

/// Whether the directory is of this version, and has its data at `data` if it ever had any. Before the data is touched:
/// another version may be unable to read what this one leaves.
pub(super) fn check_version(directory: &Path, data: &Path) -> Result<(), OpenError> {
    let path = version(directory);
    let data_lost = || OpenError::DataLost { directory: directory.to_owned() };
    match fs::read_to_string(&path) {
        Ok(found) if found.trim_end() != VERSION => {
            Err(OpenError::Version { directory: directory.to_owned(), found: found.trim_end().to_owned() })
        }
        Ok(_) if data.exists() => Ok(()),
        Ok(_) => Err(data_lost()),
        Err(source) if source.kind() == io::ErrorKind::NotFound => {
            let is_new = data.exists() || directory.join(NEW_FILE).exists();
            if is_new { Ok(()) } else { Err(data_lost()) }
        }
        Err(source) => Err(OpenError::Io { path, source }),
    }
}

/// The last steps of a first start.
pub(super) fn mark(directory: &Path) -> Result<(), OpenError> {
    if !version(directory).exists() {
        write_version(directory)?;
    }
    let path = directory.join(NEW_FILE);
    match fs::remove_file(&path) {
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.and_then(|()| sync(directory)),
    }
    .map_err(|source| OpenError::Io { path, source })
}

fn version(directory: &Path) -> PathBuf {
    directory.join("VERSION")
}

fn write_version(directory: &Path) -> Result<(), OpenError> {
    let new = directory.join("VERSION.new");
    let write = || {
        let mut file = File::create(&new)?;
        writeln!(file, "{VERSION}")?;
        file.sync_all()?;
        fs::rename(&new, version(directory))?;
        sync(directory)
    };
    write().map_err(|source| OpenError::Io { path: version(directory), source })
}

/// The error of data whose owner is not who the identity says.
pub(super) fn foreign(directory: &Path, expected: &str, found: &str) -> OpenError {
    let (mut expected, mut found) = (expected.lines(), found.lines());
    loop {
        let (ours, theirs) = (expected.next(), found.next());
        if ours != theirs || ours.is_none() {
            return OpenError::Foreign {
                directory: directory.to_owned(),
                expected: ours.unwrap_or_default().to_owned(),
                found: theirs.unwrap_or_default().to_owned(),
            };
        }
    }
}

/// Makes what was renamed in the directory durable.
pub(super) fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
