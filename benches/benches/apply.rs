//! What a committed entry costs to apply, and a run to be judged.

use core::cell::RefCell;
use core::hint::black_box;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use eventstream_core::batch::{BatchBuilder, Event, Source};
use eventstream_core::config::Parameters;
use eventstream_core::crc::Crc32;
use eventstream_core::dedup::{Claim, ProducerSlot, Producers};
use eventstream_core::id::{
    Epoch, Incarnation, Index, LogTime, NodeId, Offset, ProducerId, Sequence, ShardId, Term, TopicId,
};
use eventstream_core::raft::{Configuration, Faults, LogPosition, LogView, Member, RaftOptions};
use eventstream_core::replica::{
    Entry, Lent, Options, Outcomes, Output, Replica, RestoredLog, Restoring, Stamp, TopicSlot,
};
use eventstream_core::time::Instant;
use eventstream_core::wire::{Batch, END_LEN, Frame, HEADER_LEN, Header, Kind, MAX_FRAME_LEN, stamp};

const CRC: Crc32 = Crc32::portable();

type Memory = Lent<Box<[ProducerSlot]>, Box<[TopicSlot]>>;

/// A log whose terms nobody asks for: there is one term, and memory knows it.
struct OneTerm;

impl LogView for OneTerm {
    fn term(&self, _: Index) -> Option<Term> {
        Some(Term(1))
    }
}

/// A cluster of one, whose disk is done at once.
struct Alone {
    replica: Replica<Memory>,
    outcomes: Outcomes,
}

impl Alone {
    fn new() -> Self {
        let member = Member { node: NodeId(1), incarnation: Incarnation([1; 16]) };
        let configuration = Configuration::new(&[member]).expect("one member");
        let Member { node, incarnation } = member;
        let raft = RaftOptions {
            node,
            incarnation,
            membership: configuration.into(),
            seed: 1,
            is_witness: false,
            faults: Faults::NONE,
        };
        let parameters = Parameters::default();
        let memory = Lent {
            producers: vec![ProducerSlot::EMPTY; parameters.producers as usize].into(),
            topics: vec![TopicSlot::EMPTY; parameters.topics as usize].into(),
        };
        let restoring = Restoring::new(Options { raft, parameters }, memory).expect("memory suffices");
        let replica = restoring.start(RestoredLog::default(), Instant::ZERO).expect("nothing was restored");
        let mut alone = Self { replica, outcomes: Outcomes::new() };
        let deadline = alone.replica.next_deadline();
        alone.replica.handle_timeout(deadline);
        alone.drain();
        alone
    }

    /// Makes what was proposed durable. Applies the empty entry, nothing else.
    fn drain(&mut self) {
        while let Some(output) = self.replica.poll_output(&OneTerm) {
            match output {
                Output::Persist(write) => self.replica.handle_persisted(Instant::ZERO, write.token),
                Output::Apply { first: Index(1), .. } => self.apply_empty(),
                _ => {}
            }
        }
    }

    fn apply_empty(&mut self) {
        let raft = self.replica.raft();
        let position = raft.last();
        let log_time = self.replica.last_log_time();
        let entry = Entry { position, log_time, kind: Kind::Empty, event_count: 0, payload: &[] };
        self.replica.apply(&entry, &mut self.outcomes).expect("the first entry");
    }

    /// A batch, committed.
    fn commit(&mut self, mut frame: Vec<u8>) -> Vec<u8> {
        let checked = Frame::check(&frame, CRC).expect("was built so");
        let batch = Batch::check(checked.payload(), checked.header().event_count).expect("was built so");
        let Stamp { position, log_time } = self.replica.propose_batch(Instant::ZERO, &batch).expect("it leads");
        self.drain();
        stamp(&mut frame, position.index, position.term, log_time, CRC);
        frame
    }

    /// Applies a frame, without checking the checksum of its payload: what that costs is measured in `codec`.
    fn apply(&mut self, frame: &[u8]) -> u64 {
        let header = Header::parse(frame.first_chunk().expect("a frame is longer"), CRC).expect("was built so");
        let entry = Entry {
            position: LogPosition { index: header.index(), term: header.term },
            log_time: header.log_time(),
            kind: header.kind,
            event_count: header.event_count,
            payload: &frame[HEADER_LEN..frame.len() - END_LEN],
        };
        self.replica.apply(&entry, &mut self.outcomes).expect("entries come in order");
        self.outcomes.accepted_mask()
    }
}

/// A frame of `runs` runs, each of another producer.
fn batch(runs: u64, events: u64, first: u64, payload_len: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new(vec![0; MAX_FRAME_LEN]);
    let payload = [b'p'; 1_024];
    for run in 0..runs {
        for number in first..first + events / runs {
            let producer = ProducerId([run as u8; 16]);
            let source = Source::Producer { producer, epoch: Epoch(1), sequence: Sequence(number), after_gap: false };
            let event = Event {
                topic: "factory/cell-7/vibration",
                source,
                time_us: 1_700_000_000_000_000,
                key: b"sensor-12",
                payload: &payload[..payload_len],
            };
            builder.push(&event).expect("it fits");
        }
    }
    let (mut buffer, len) = builder.finish(ShardId(0), 1, 1_700_000_000_000_000, CRC);
    buffer.truncate(len);
    buffer
}

fn apply(c: &mut Criterion) {
    for (runs, payload_len) in [(1, 100), (1, 400), (8, 100), (64, 100)] {
        let mut group = c.benchmark_group(format!("64 events of {payload_len} B in {runs} runs"));
        group.throughput(Throughput::Elements(64));
        for is_duplicate in [false, true] {
            let (alone, next) = (RefCell::new(Alone::new()), RefCell::new(0));
            if is_duplicate {
                let frame = alone.borrow_mut().commit(batch(runs, 64, 0, payload_len));
                alone.borrow_mut().apply(&frame);
            }
            let commit = || {
                let first = next.replace_with(|&mut next| if is_duplicate { 0 } else { next + 64 / runs });
                alone.borrow_mut().commit(batch(runs, 64, first, payload_len))
            };
            let name = if is_duplicate { "duplicates" } else { "accepted" };
            group.bench_function(name, |b| {
                b.iter_batched(commit, |frame| alone.borrow_mut().apply(&frame), BatchSize::SmallInput);
            });
        }
    }
}

fn judge(c: &mut Criterion) {
    let known = Parameters::default().producers;
    let id = |number: u32| {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&number.wrapping_mul(0x9e37_79b1).to_le_bytes());
        ProducerId(id)
    };
    let claim = |number| Claim { producer: id(number), epoch: Epoch(1), first: Sequence(0), count: 1, has_gap: false };
    let mut producers = Producers::new(vec![ProducerSlot::EMPTY; known as usize], known, 1).expect("it suffices");
    for number in 0..known {
        let verdict = producers.judge(&claim(number));
        producers.record(&claim(number), &verdict, Some((TopicId(0), Offset(number.into()))), LogTime(0));
    }
    let mut group = c.benchmark_group("judge");
    group.throughput(Throughput::Elements(1));
    let mut number = 0;
    group.bench_function(format!("one of {known} producers"), |b| {
        b.iter(|| {
            number = (number + 1) % known;
            producers.judge(black_box(&claim(number)))
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = apply, judge
}
criterion_main!(benches);
