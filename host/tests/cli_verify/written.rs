//! Directories of stopped nodes, written entry by entry through the node's own storage.

use eventstream_core::batch::{BatchBuilder, Event, Source};
use eventstream_core::config::Parameters;
use eventstream_core::dedup::ProducerSlot;
use eventstream_core::id::{Epoch, Index, LogTime, NodeId, ProducerId, Sequence, ShardId, Term};
use eventstream_core::raft::HardState;
use eventstream_core::replica::{Lent, MAX_ROW_LEN, Outcomes, Replay, TopicSlot};
use eventstream_core::wire::{Frame, Header, Kind, MAX_FRAME_LEN, OVERHEAD, seal, stamp};
use eventstream_host::checksum::CRC;
use eventstream_host::identity::{Identity, init};
use eventstream_host::storage::{self, Durability, LogStore, RocksStore, Row};
use rocksdb::{DB, Options};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The producer of all events.
pub(crate) const PRODUCER: [u8; 16] = [7; 16];

/// A key, and its new value.
pub(crate) type Change<'a> = (&'a [u8], Option<&'a [u8]>);

/// Three nodes that do not run.
pub(crate) struct Nodes {
    out: TempDir,
    pub(crate) directories: Vec<PathBuf>,
    identities: Vec<Identity>,
}

impl Nodes {
    /// Without data.
    pub(crate) fn new() -> Self {
        let out = tempfile::tempdir().unwrap();
        let nodes = [1_u16, 2, 3].map(|node| (NodeId(node), format!("127.0.0.1:900{node}").parse().unwrap()));
        let directories = init(out.path(), &nodes, Parameters::default()).unwrap();
        let identities = directories.iter().map(|directory| Identity::load(directory).unwrap()).collect();
        Self { out, directories, identities }
    }

    /// All of them have written the usual log, and applied all of it.
    pub(crate) fn alike() -> Self {
        let nodes = Self::new();
        (0..3).for_each(|node| nodes.write(node, &usual_log(), LAST));
        nodes
    }

    /// The directory that they are in.
    pub(crate) fn out(&self) -> &Path {
        self.out.path()
    }

    /// Writes a log in batches of two entries, the topic index and a checkpoint as of `applied`, and ends in order.
    pub(crate) fn write(&self, node: usize, log: &[Vec<u8>], applied: u64) {
        self.write_and_die(node, log, applied).close().unwrap();
    }

    /// The same, and does not end in order when what it gives is dropped: all of it is in RocksDB's own log.
    pub(crate) fn write_and_die(&self, node: usize, log: &[Vec<u8>], applied: u64) -> RocksStore {
        let identity = &self.identities[node];
        let mut store = storage::open(&self.directories[node], identity).unwrap().store;
        let lent = Lent {
            producers: vec![ProducerSlot::EMPTY; identity.parameters.producers as usize],
            topics: vec![TopicSlot::EMPTY; identity.parameters.topics as usize],
        };
        let mut replay = Replay::new(identity.parameters, 0, lent).unwrap();
        let mut outcomes = Outcomes::new();
        for (number, frame) in log.iter().enumerate() {
            let frame = Frame::check(frame, CRC).unwrap();
            let (index, term) = (frame.header().index(), frame.header().term);
            store.set_hard_state(HardState { term, vote: Some(NodeId(1)), suspect: false }).unwrap();
            store.append(index, frame.bytes()).unwrap();
            if number % 2 == 1 || number + 1 == log.len() {
                store.commit(Durability::Synced).unwrap();
            }
            if index.0 > applied {
                continue;
            }
            replay.apply(&(&frame).into(), &mut outcomes).unwrap();
            for slice in outcomes.topics() {
                let (topic, first_offset, mask) = (slice.topic, slice.first_offset, slice.mask);
                store.put_row(&Row::Topic { topic, first_offset, index, mask }).unwrap();
            }
        }
        let mut value = [0; MAX_ROW_LEN];
        while let Some(row) = replay.poll_row(&mut value) {
            store.put_row(&Row::State { key: &row.key.to_bytes(), value: &value[..row.len] }).unwrap();
        }
        store.commit(Durability::Unsynced).unwrap();
        store
    }

    /// RocksDB's own log.
    pub(crate) fn write_ahead_log(&self, node: usize) -> (PathBuf, Vec<u8>) {
        let files = fs::read_dir(self.directories[node].join("data")).unwrap().map(|file| file.unwrap().path());
        let newest = files.filter(|path| path.extension().is_some_and(|extension| extension == "log")).max().unwrap();
        let bytes = fs::read(&newest).unwrap();
        (newest, bytes)
    }

    /// Takes a directory as a node would, for as long as what it gives is kept.
    pub(crate) fn take(&self, node: usize) -> storage::Opened {
        storage::open(&self.directories[node], &self.identities[node]).unwrap()
    }

    /// Changes what is stored, below the storage's own checks: gives keys a value, or takes it.
    pub(crate) fn tamper(&self, node: usize, family: &str, changes: &[Change<'_>]) {
        let families = ["default", "log", "index", "state"];
        let data = DB::open_cf(&Options::default(), self.directories[node].join("data"), families).unwrap();
        let family = data.cf_handle(family).unwrap();
        for (key, value) in changes {
            match value {
                Some(value) => data.put_cf(family, key, value).unwrap(),
                None => data.delete_cf(family, key).unwrap(),
            }
        }
    }

    /// What is stored under a key.
    pub(crate) fn stored(&self, node: usize, family: &str, key: &[u8]) -> Vec<u8> {
        let families = ["default", "log", "index", "state"];
        let data = DB::open_cf_for_read_only(&Options::default(), self.directories[node].join("data"), families, false);
        let data = data.unwrap();
        data.get_cf(data.cf_handle(family).unwrap(), key).unwrap().expect("it is there")
    }
}

/// The key of an entry.
pub(crate) fn entry_key(index: u8) -> [u8; 10] {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, index]
}

/// The key of a row of the topic index.
pub(crate) fn row_key(topic: u8, offset: u8) -> [u8; 14] {
    [0, 0, 0, 0, 0, topic, 0, 0, 0, 0, 0, 0, 0, offset]
}

/// The value of a row of the topic index.
pub(crate) fn row(index: u64, mask: u64) -> Vec<u8> {
    [index.to_le_bytes(), mask.to_le_bytes()].concat()
}

/// The last entry of the usual log.
pub(crate) const LAST: u64 = 9;

/// | entries | term | |
/// |---|---|---|
/// | 1 | 1 | empty |
/// | 2, 3, 4 | 1 | 3 events of "a" each: offsets 0, 3, 6 |
/// | 5 | 1 | 2 events of "b": offset 0 |
/// | 6 | 2 | empty |
/// | 7 | 2 | 3 events of "a": offset 9 |
/// | 8 | 2 | 2 events of "b": offset 2 |
/// | 9 | 2 | 1 event of "a": offset 12 |
pub(crate) fn usual_log() -> Vec<Vec<u8>> {
    vec![
        empty(1, 1),
        batch(2, 1, "a", 0, 3),
        batch(3, 1, "a", 3, 3),
        batch(4, 1, "a", 6, 3),
        batch(5, 1, "b", 9, 2),
        empty(6, 2),
        batch(7, 2, "a", 11, 3),
        batch(8, 2, "b", 14, 2),
        batch(9, 2, "a", 16, 1),
    ]
}

/// The empty entry with which a leader begins.
pub(crate) fn empty(index: u64, term: u64) -> Vec<u8> {
    let mut frame = vec![0; OVERHEAD];
    let log_time = 1_000 + index;
    let header =
        Header { batch_id: index, term: Term(term), timestamp_us: log_time, ..Header::of(Kind::Empty, &[], CRC) };
    seal(&mut frame, &header, CRC);
    frame
}

/// An entry with `count` events from the sequence `first` on.
pub(crate) fn batch(index: u64, term: u64, topic: &str, first: u64, count: u64) -> Vec<u8> {
    batch_of(index, term, topic, first, count, "")
}

/// The same with other payloads.
pub(crate) fn batch_of(index: u64, term: u64, topic: &str, first: u64, count: u64, more: &str) -> Vec<u8> {
    let mut builder = BatchBuilder::new(vec![0; MAX_FRAME_LEN]);
    for sequence in first..first + count {
        let source = Source::Producer {
            producer: ProducerId(PRODUCER),
            epoch: Epoch(1),
            sequence: Sequence(sequence),
            after_gap: false,
        };
        let payload = format!("event {sequence}{more}");
        builder.push(&Event { topic, source, time_us: 1, key: b"", payload: payload.as_bytes() }).unwrap();
    }
    let (mut frame, len) = builder.finish(ShardId(0), 0, 1, CRC);
    frame.truncate(len);
    stamp(&mut frame, Index(index), Term(term), LogTime(1_000 + index), CRC);
    frame
}
