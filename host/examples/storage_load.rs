//! Writes a log as fast as the store takes it, or at a rate, and says what it cost. For `docs/decisions.md`.
//!
//! ```text
//! cargo run --release -p eventstream-host --example storage_load -- DIR SECONDS ENTRIES [EVENTS_PER_SECOND]
//! ```
//!
//! A write is ENTRIES entries of 64 events of 120 bytes with a topic row each; two writes are open at a time. Once a second
//! comes a checkpoint of 4,096 state rows of 240 bytes. DIR must not exist; it is left for a look.

use core::ops::ControlFlow;
use eventstream_core::config::Parameters;
use eventstream_core::doorbell::Doorbell;
use eventstream_core::id::{Index, NodeId, Offset, Term, TopicId};
use eventstream_core::pool::{Block, Pool, Slot};
use eventstream_core::raft::Token;
use eventstream_core::time::{Duration, Instant};
use eventstream_core::wire::{Frame, HEADER_LEN, Header, Kind, OVERHEAD, seal, stamp};
use eventstream_host::checksum::CRC;
use eventstream_host::clock::Clock;
use eventstream_host::identity::{Identity, init};
use eventstream_host::storage::{self, Job, Report, Row, RowPacker, Storage};
use hdrhistogram::Histogram;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

const EVENTS: usize = 64;
const PAYLOAD: usize = EVENTS * 120;
const BLOCK: usize = 64 << 10;
const OPEN_WRITES: usize = 2;

struct Load {
    storage: Storage,
    bell: Arc<Doorbell>,
    pool: &'static Pool<'static>,
    clock: Clock,
    last: u64,
    open: VecDeque<(Token, Instant)>,
    latency_us: Histogram<u64>,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| arguments.get(at).map(|text| text.parse::<u64>().expect("a whole number"));
    let (Some(dir), Some(seconds), Some(entries)) = (arguments.first().map(PathBuf::from), number(1), number(2)) else {
        eprintln!("usage: storage_load DIR SECONDS ENTRIES [EVENTS_PER_SECOND]");
        return;
    };
    let node = [(NodeId(1), "127.0.0.1:9001".parse().expect("an address"))];
    let dir = init(&dir, &node, Parameters::default()).expect("a fresh directory").remove(0);
    let opened = storage::open(&dir, &Identity::load(&dir).expect("written above")).expect("a first start");
    println!("direct I/O: {}\n{}", opened.direct_io, storage::memory());
    drop(opened.reader);
    let clock = Clock::start();
    let bell = Arc::new(Doorbell::new());
    let me = thread::current();
    let storage = Storage::start(opened.store, clock, Arc::clone(&bell), move || me.unpark()).expect("a thread");
    let latency_us = Histogram::new_with_bounds(1, 60_000_000, 3).expect("three digits");
    let mut load = Load { storage, bell, pool: pool(256), clock, last: 0, open: VecDeque::new(), latency_us };
    let before = written_bytes();
    load.run(seconds, entries, number(3));
    load.report(seconds, written_bytes() - before);
    load.storage.join().expect("an orderly end");
    read_back(&dir, clock);
}

/// A start after a clean end, and the log from its first entry to its last.
fn read_back(dir: &Path, clock: Clock) {
    let began = clock.now();
    let opened = storage::open(dir, &Identity::load(dir).expect("written above")).expect("a second start");
    let open_ms = clock.now().saturating_since(began).as_millis();
    let began = clock.now();
    let whole = opened.reader.entries(opened.stored.first, opened.stored.last.index, usize::MAX, |_, frame| {
        let checked = Frame::check(frame, CRC);
        if checked.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    let took_us = clock.now().saturating_since(began).as_micros().max(1);
    let whole = whole.expect("a log that was closed cleanly");
    assert_eq!(whole.next, opened.stored.last.index.next(), "every frame is whole");
    println!(
        "{open_ms:>12} ms to open, then {} MiB/s with every checksum",
        (whole.bytes as u64 / took_us * 1_000_000) >> 20
    );
}

impl Load {
    fn run(&mut self, seconds: u64, entries: u64, events_per_second: Option<u64>) {
        let end = self.clock.now() + Duration::from_secs(seconds);
        let mut checkpoint = Instant::ZERO;
        let began = self.clock.now();
        while self.clock.now() < end {
            if self.clock.now() >= checkpoint {
                self.checkpoint();
                checkpoint = self.clock.now() + Duration::from_secs(1);
            }
            let due = events_per_second.map(|rate| Duration::from_micros(self.last * EVENTS as u64 * 1_000_000 / rate));
            let is_due = due.is_none_or(|due| self.clock.now().saturating_since(began) >= due);
            if is_due && self.open.len() < OPEN_WRITES {
                self.write(entries);
            } else if is_due {
                self.wait();
            } else {
                thread::sleep(core::time::Duration::from_micros(200));
            }
            self.collect();
        }
        self.push(Job::Stop);
        self.storage.ring();
        while self.storage.poll_report() != Some(Report::Stopped) {
            thread::sleep(core::time::Duration::from_millis(1));
        }
    }

    fn write(&mut self, entries: u64) {
        let mut rows = self.pool.take().expect("blocks are given back when they are written");
        let mut packer = RowPacker::new(&mut rows);
        for _ in 0..entries {
            self.last += 1;
            let frame = self.frame();
            self.push(Job::Append(Index(self.last), frame));
            let first_offset = Offset(self.last * EVENTS as u64);
            let topic = TopicId((self.last % 16) as u32);
            packer.push(&Row::Topic { topic, first_offset, index: Index(self.last), mask: u64::MAX }).expect("room");
        }
        let token = Token(self.last);
        self.push(Job::Sync(token));
        let len = packer.len();
        rows.truncate(len);
        self.push(Job::Rows { packed: rows.freeze(), last: true });
        self.storage.ring();
        self.open.push_back((token, self.clock.now()));
    }

    /// An entry whose bytes do not repeat.
    fn frame(&self) -> Block<'static> {
        let mut block = self.pool.take().expect("blocks are given back when they are written");
        block.truncate(PAYLOAD + OVERHEAD);
        let mut state = self.last | 1;
        for word in block[HEADER_LEN..HEADER_LEN + PAYLOAD].chunks_exact_mut(8) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            word.copy_from_slice(&state.to_le_bytes());
        }
        let mut header = Header::of(Kind::Batch, &block[HEADER_LEN..HEADER_LEN + PAYLOAD], CRC);
        (header.event_count, header.batch_id, header.term) = (EVENTS as u16, self.last, Term(1));
        seal(&mut block, &header, CRC);
        stamp(&mut block, Index(self.last), Term(1), self.clock.wall(), CRC);
        block.freeze()
    }

    fn checkpoint(&mut self) {
        let value = [self.last as u8; 240];
        let mut keys = (0..4_096_u32).map(u32::to_be_bytes).peekable();
        while keys.peek().is_some() {
            let mut rows = self.pool.take().expect("blocks are given back when they are written");
            let mut packer = RowPacker::new(&mut rows);
            while keys.peek().is_some_and(|key| packer.push(&Row::State { key, value: &value }).is_ok()) {
                keys.next();
            }
            let len = packer.len();
            rows.truncate(len);
            self.push(Job::Rows { packed: rows.freeze(), last: keys.peek().is_none() });
        }
        self.storage.ring();
    }

    fn push(&mut self, job: Job) {
        let mut job = Some(job);
        while let Some(again) = job.take() {
            job = self.storage.push(again).err().map(|full| full.0);
        }
    }

    fn wait(&mut self) {
        if self.bell.arm_if(|| !self.storage.has_report()) {
            thread::park();
            self.bell.disarm();
        }
    }

    fn collect(&mut self) {
        while let Some(report) = self.storage.poll_report() {
            let Report::Persisted(token) = report else { panic!("the store failed: {report:?}") };
            while let Some(&(_, since)) = self.open.front().filter(|(open, _)| *open <= token) {
                self.latency_us.saturating_record(self.clock.now().saturating_since(since).as_micros());
                self.open.pop_front();
            }
        }
    }

    fn report(&self, seconds: u64, written: u64) {
        let bytes = self.last * (PAYLOAD + OVERHEAD) as u64;
        println!("{:>12} events/s, {} MiB/s", self.last * EVENTS as u64 / seconds, (bytes / seconds) >> 20);
        let at = |quantile| self.latency_us.value_at_quantile(quantile);
        println!("{:>12} us from push to report at the median, {} at p99, {} at most", at(0.5), at(0.99), at(1.0));
        println!("{:>12.2} bytes to the disk for each byte of the log", written as f64 / bytes as f64);
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        status
            .lines()
            .filter(|line| line.starts_with("VmHWM") || line.starts_with("VmRSS"))
            .for_each(|line| println!("{line}"));
    }
}

fn pool(blocks: usize) -> &'static Pool<'static> {
    let memory = vec![0; blocks * BLOCK].leak();
    let slots = (0..blocks).map(|_| Slot::new()).collect::<Vec<_>>().leak();
    Box::leak(Box::new(Pool::new(memory, slots)))
}

fn written_bytes() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|number| number.parse().ok()).unwrap_or(0)
}
