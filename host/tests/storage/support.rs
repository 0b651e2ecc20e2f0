//! What the tests of the store share: a node's directory, and frames that can be told apart.

use core::ops::{ControlFlow, RangeInclusive};
use core::time::Duration;
use eventstream_core::config::Parameters;
use eventstream_core::doorbell::Doorbell;
use eventstream_core::id::{Index, LogTime, NodeId, Term};
use eventstream_core::pool::{Block, Pool, Slot};
use eventstream_core::wire::{HEADER_LEN, Header, Kind, OVERHEAD, seal};
use eventstream_host::checksum::CRC;
use eventstream_host::clock::Clock;
use eventstream_host::identity::{Identity, init};
use eventstream_host::storage::{
    self, Durability, Job, LogStore, OpenError, Opened, Reader, Report, Row, RowPacker, Storage,
};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::thread;
use tempfile::TempDir;

/// Whatever takes longer is broken. No test waits for it to pass.
const BROKEN: Duration = Duration::from_secs(20);

/// A directory with the identity of a node alone in its cluster.
pub(crate) struct Node {
    pub(crate) dir: PathBuf,
    pub(crate) identity: Identity,
    _out: TempDir,
}

impl Node {
    pub(crate) fn new() -> Self {
        Self::below(tempfile::tempdir().unwrap())
    }

    pub(crate) fn below(out: TempDir) -> Self {
        let nodes = [(NodeId(1), "127.0.0.1:9001".parse().unwrap())];
        let dir = init(out.path(), &nodes, Parameters::default()).unwrap().remove(0);
        let identity = Identity::load(&dir).unwrap();
        Self { dir, identity, _out: out }
    }

    pub(crate) fn try_open(&self) -> Result<Opened, OpenError> {
        storage::open(&self.dir, &self.identity)
    }

    pub(crate) fn open(&self) -> Opened {
        self.try_open().unwrap()
    }
}

/// The log time of the entry at `index`.
pub(crate) fn log_time(index: u64) -> LogTime {
    LogTime(1_000_000 + index)
}

/// An entry's frame. The store does not look into the payload.
pub(crate) fn frame(index: u64, term: u64, payload: usize) -> Vec<u8> {
    let payload: Vec<u8> = (0..payload).map(|at| (at as u64 * 31 + index * 7 + term) as u8).collect();
    let header = Header {
        batch_id: index,
        term: Term(term),
        timestamp_us: log_time(index).0,
        event_count: 1,
        ..Header::of(Kind::Batch, &payload, CRC)
    };
    let mut bytes = vec![0; OVERHEAD + payload.len()];
    bytes[HEADER_LEN..HEADER_LEN + payload.len()].copy_from_slice(&payload);
    seal(&mut bytes, &header, CRC);
    bytes
}

pub(crate) fn append(opened: &mut Opened, range: RangeInclusive<u64>, term: u64) {
    for index in range {
        opened.store.append(Index(index), &frame(index, term, 100)).unwrap();
    }
}

pub(crate) fn sync(opened: &mut Opened) {
    opened.store.commit(Durability::Synced).unwrap();
}

/// A pool of its own, which lives as long as the process.
pub(crate) fn new_pool(blocks: usize) -> &'static Pool<'static> {
    let memory = vec![0; blocks * (64 << 10)].leak();
    let slots = (0..blocks).map(|_| Slot::new()).collect::<Vec<_>>().leak();
    Box::leak(Box::new(Pool::new(memory, slots)))
}

/// These bytes in a block of a pool that all tests share.
pub(crate) fn block(bytes: &[u8]) -> Block<'static> {
    static SHARED: OnceLock<&'static Pool<'static>> = OnceLock::new();
    let mut block = SHARED.get_or_init(|| new_pool(512)).take().unwrap();
    block[..bytes.len()].copy_from_slice(bytes);
    block.truncate(bytes.len());
    block.freeze()
}

/// These rows, packed.
pub(crate) fn rows(rows: &[Row<'_>]) -> Block<'static> {
    let mut memory = [0; 1_024];
    let mut packer = RowPacker::new(&mut memory);
    rows.iter().for_each(|row| packer.push(row).unwrap());
    let len = packer.len();
    block(&memory[..len])
}

/// The job that writes this entry.
pub(crate) fn entry(index: u64, term: u64, payload: usize) -> Job {
    Job::Append(Index(index), block(&frame(index, term, payload)))
}

/// A stand-in for the engine: it sleeps on its doorbell until the storage thread reports.
pub(crate) struct Engine {
    pub(crate) storage: Storage,
    bell: Arc<Doorbell>,
}

impl Engine {
    pub(crate) fn start(store: impl LogStore) -> Self {
        let bell = Arc::new(Doorbell::new());
        let me = thread::current();
        let storage = Storage::start(store, Clock::start(), Arc::clone(&bell), move || me.unpark()).unwrap();
        Self { storage, bell }
    }

    pub(crate) fn push<const N: usize>(&mut self, jobs: [Job; N]) {
        for job in jobs {
            self.storage.push(job).unwrap();
        }
        self.storage.ring();
    }

    /// The next report; sleeps until there is one.
    pub(crate) fn wait(&mut self) -> Report {
        loop {
            if let Some(report) = self.storage.poll_report() {
                return report;
            }
            if self.bell.arm_if(|| !self.storage.has_report()) {
                thread::park();
                self.bell.disarm();
            }
        }
    }
}

impl Engine {
    /// Sleeps while the ring is full, and lets something happen in its sleep. Returns whether it was woken.
    pub(crate) fn is_woken_for_room(&self, meanwhile: impl FnOnce()) -> bool {
        assert!(self.bell.arm_if(|| self.storage.free() == 0), "the ring is full");
        meanwhile();
        thread::park_timeout(BROKEN);
        // Who woke it has disarmed the bell.
        !self.bell.ring()
    }
}

/// Index and term of all entries from `first` to `last`.
pub(crate) fn entries(reader: &Reader, first: u64, last: u64) -> Vec<(u64, u64)> {
    let mut all = Vec::new();
    let read = reader.entries(Index(first), Index(last), usize::MAX, |index, frame| {
        let header = Header::parse(frame.first_chunk().unwrap(), CRC).unwrap();
        assert_eq!(header.index(), index);
        all.push((index.0, header.term.0));
        ControlFlow::Continue(())
    });
    read.unwrap();
    all
}
