//! How many instructions the hot paths take, counted by callgrind: what wall time on a shared machine cannot tell.
//!
//! `cargo bench -p benches --bench instructions` runs each path in a process of its own under valgrind, once with few rounds
//! and once with more: the difference is what a round costs, without the set-up. It is compared with
//! `benches/instructions.txt`, and fails where a path has become dearer by more than [`TOLERANCE`] per cent;
//! `-- --update` writes that file. Inputs vary from round to round.

use core::hint::black_box;
use eventstream_core::batch::{BatchBuilder, Event, Source};
use eventstream_core::crc::Crc32;
use eventstream_core::dedup::{Claim, ProducerSlot, Producers};
use eventstream_core::id::{
    Epoch, Incarnation, Index, LogTime, NodeId, Offset, ProducerId, Sequence, ShardId, Term, TopicId,
};
use eventstream_core::pool::{Pool, Slot};
use eventstream_core::raft::{
    Body, Configuration, EntryMeta, Faults, LogView, Member, Message, Output, Raft, RaftOptions, Restored, Token,
};
use eventstream_core::ring::Ring;
use eventstream_core::time::Instant;
use eventstream_core::wire::{Batch, Control, Frame, MAX_FRAME_LEN, stamp};
use std::collections::BTreeMap;
use std::process::{Command, ExitCode};

/// Per cent.
const TOLERANCE: u64 = 5;
/// Rounds of the short run and of the long one.
const ROUNDS: (u64, u64) = (200, 1_200);
const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.txt");
const CRC: Crc32 = Crc32::portable();

/// A name, and what runs so many rounds.
type Path = (&'static str, fn(u64));

const PATHS: &[Path] = &[
    ("ring-one", ring_one),
    ("ring-batch-of-32", ring_batch),
    ("pool-take-and-give-back", pool_take),
    ("pool-clone-and-drop", pool_clone),
    ("dedup-run-of-16", dedup),
    ("batch-build-64-of-100-bytes", build_batch),
    ("batch-check-and-walk-64-of-100-bytes", check_batch),
    ("frame-stamp", stamp_frame),
    ("peer-message-encode-and-decode", message_codec),
    ("raft-leader-entry-committed", raft_leader),
    ("raft-leader-nothing-to-do", raft_idle),
    ("raft-follower-append", raft_follower),
    ("raft-follower-heartbeat", raft_heartbeat),
];

fn ring_one(rounds: u64) {
    let mut ring = Ring::<u64, 1_024>::new();
    let (mut producer, mut consumer) = ring.split();
    for item in 0..rounds {
        producer.push(black_box(item)).expect("there is room");
        black_box(consumer.pop());
    }
}

fn ring_batch(rounds: u64) {
    let mut ring = Ring::<u64, 1_024>::new();
    let (mut producer, mut consumer) = ring.split();
    let mut items = [0; 32];
    for item in 0..rounds {
        items[(item % 32) as usize] = item;
        black_box(producer.push_slice(black_box(&items)));
        black_box(consumer.pop_slice(&mut items));
    }
}

fn with_pool(run: impl FnOnce(&Pool<'_>)) {
    let mut memory = vec![0; 16 * 65_536];
    let mut slots: Vec<Slot> = (0..16).map(|_| Slot::new()).collect();
    run(&Pool::new(&mut memory, &mut slots));
}

fn pool_take(rounds: u64) {
    with_pool(|pool| (0..rounds).for_each(|_| drop(black_box(pool.take()))));
}

fn pool_clone(rounds: u64) {
    with_pool(|pool| {
        let block = pool.take().expect("one is free").freeze();
        (0..rounds).for_each(|_| drop(black_box(block.clone())));
    });
}

fn dedup(rounds: u64) {
    let slots: Box<[ProducerSlot]> = vec![ProducerSlot::EMPTY; 64].into();
    let mut producers = Producers::new(slots, 64, 7).expect("64 slots");
    for round in 0..rounds {
        let producer = ProducerId([(round % 64) as u8; 16]);
        let first = Sequence(round / 64 * 16);
        let claim = Claim { producer, epoch: Epoch(1), first, count: 16, has_gap: false };
        let verdict = producers.judge(black_box(&claim));
        assert_eq!(verdict.fresh, 16);
        producers.record(&claim, &verdict, Some((TopicId(0), Offset(round * 16))), LogTime(round));
    }
}

fn build(buffer: &mut [u8], round: u64) -> usize {
    let payload = [b'p'; 100];
    let mut builder = BatchBuilder::new(buffer);
    for number in 0..64 {
        let sequence = Sequence(1_000_000 + round * 64 + number);
        let event = Event {
            topic: "factory/cell-7/vibration",
            source: Source::Producer { producer: ProducerId([7; 16]), epoch: Epoch(3), sequence, after_gap: false },
            time_us: 1_700_000_000_000_000 + number * 137,
            key: b"sensor-12",
            payload: &payload,
        };
        builder.push(&event).expect("it fits");
    }
    builder.finish(ShardId(0), 1, 1_700_000_000_000_000, CRC).1
}

fn build_batch(rounds: u64) {
    let mut buffer = vec![0; MAX_FRAME_LEN];
    for round in 0..rounds {
        black_box(build(black_box(&mut buffer), round));
    }
}

fn check_batch(rounds: u64) {
    let mut buffer = vec![0; MAX_FRAME_LEN];
    let len = build(&mut buffer, 0);
    let frame = Frame::check(&buffer[..len], CRC).expect("a whole frame");
    let (payload, count) = (frame.payload(), frame.header().event_count);
    for _ in 0..rounds {
        let batch = Batch::check(black_box(payload), count).expect("a lawful batch");
        let records = batch.runs().flat_map(|run| run.records());
        black_box(records.map(|record| record.payload.len() as u64 ^ record.time_us).fold(0, u64::wrapping_add));
    }
}

fn stamp_frame(rounds: u64) {
    let mut buffer = vec![0; MAX_FRAME_LEN];
    let len = build(&mut buffer, 0);
    for round in 0..rounds {
        stamp(black_box(&mut buffer[..len]), Index(round), Term(6), LogTime(round), CRC);
    }
}

fn message_codec(rounds: u64) {
    let mut buffer = vec![0; MAX_FRAME_LEN];
    for round in 0..rounds {
        let body = Body::Heartbeat { commit: Index(round), round: 1_000_000 + round };
        let message = Control::Peer(message(2, body));
        let len = message.encode(ShardId(0), black_box(&mut buffer), CRC).expect("it fits");
        let frame = Frame::check(black_box(&buffer[..len]), CRC).expect("a whole frame");
        assert!(Control::decode(frame.header().kind, frame.payload()).is_ok());
    }
}

/// A store that is never asked: the machine remembers the terms.
struct Unasked;

impl LogView for Unasked {
    fn term(&self, _index: Index) -> Option<Term> {
        None
    }
}

fn member(node: u16) -> Member {
    Member { node: NodeId(node), incarnation: Incarnation([node as u8; 16]) }
}

fn message(from: u16, body: Body) -> Message {
    let Member { node, incarnation } = member(from);
    Message { from: node, to: NodeId(1), incarnation, term: Term(1), body }
}

fn raft() -> Raft {
    let Member { node, incarnation } = member(1);
    let membership = Configuration::new(&[1, 2, 3].map(member)).expect("three members").into();
    let options = RaftOptions { node, incarnation, membership, seed: 1, is_witness: false, faults: Faults::NONE };
    // One that was cleared: the votes of two are enough for it.
    let restored = Restored { suspect: false, ..Restored::default() };
    Raft::new(options, &restored, Instant::ZERO).expect("an empty disk")
}

fn hear(raft: &mut Raft, from: u16, body: Body, entries: &[EntryMeta]) {
    let message = black_box(message(from, body));
    raft.handle_message(raft.next_deadline(), &message, entries, &[], &Unasked).expect("an honest message");
}

/// Does what is to be done and returns the last write, as the host's loop would.
fn poll(raft: &mut Raft) -> Option<Token> {
    let mut token = None;
    while let Some(output) = raft.poll_output(&Unasked) {
        if let Output::Persist(write) = black_box(output) {
            token = Some(write.token);
        }
    }
    token
}

fn leader() -> Raft {
    let mut raft = raft();
    raft.handle_timeout(raft.next_deadline());
    for body in [Body::PreVoteReply { granted: true }, Body::VoteReply { granted: true, wall_us: 0 }] {
        hear(&mut raft, 2, body, &[]);
        while let Some(token) = poll(&mut raft) {
            raft.handle_persisted(raft.next_deadline(), token);
        }
    }
    raft
}

fn raft_leader(rounds: u64) {
    let mut raft = leader();
    for _ in 0..rounds {
        let now = raft.next_deadline();
        let index = raft.propose(now).expect("it leads").index;
        let token = poll(&mut raft).expect("a write");
        hear(&mut raft, 2, Body::AppendAccepted { matched: index }, &[]);
        raft.handle_persisted(now, token);
        poll(&mut raft);
        hear(&mut raft, 3, Body::AppendAccepted { matched: index }, &[]);
        poll(&mut raft);
        assert_eq!(raft.commit(), index);
    }
}

fn raft_idle(rounds: u64) {
    let mut raft = leader();
    (0..rounds).for_each(|_| assert_eq!(black_box(&mut raft).poll_output(&Unasked), None));
}

fn raft_follower(rounds: u64) {
    let mut raft = raft();
    for _ in 0..rounds {
        let prev = raft.last();
        let entry = EntryMeta { index: prev.index.next(), term: Term(1), log_time: LogTime(0) };
        hear(&mut raft, 2, Body::Append { prev, count: 1, commit: prev.index }, &[entry]);
        let token = poll(&mut raft).expect("a write");
        raft.handle_persisted(raft.next_deadline(), token);
        poll(&mut raft);
    }
}

fn raft_heartbeat(rounds: u64) {
    let mut raft = raft();
    for round in 0..rounds {
        hear(&mut raft, 2, Body::Heartbeat { commit: Index(0), round }, &[]);
        poll(&mut raft);
    }
}

/// Instructions of the whole process.
fn count(path: &str, rounds: u64) -> Result<u64, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(own)
        .args(["--run", path, &rounds.to_string()])
        // How memory is copied depends on the processor.
        .env("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-AVX2,-AVX512VL,-ERMS,-AVX2_Usable,-AVX512F_Usable")
        .output()
        .map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().find_map(|line| line.split_once("Collected : ")).filter(|_| output.status.success());
    line.and_then(|(_, count)| count.trim().parse().ok()).ok_or_else(|| text.into_owned())
}

/// What the table's counts are of: code differs between compilers and processors.
fn origin() -> String {
    let version = Command::new("rustc").arg("-V").output().map(|output| output.stdout).unwrap_or_default();
    format!("{} {}", String::from_utf8_lossy(&version).trim(), std::env::consts::ARCH)
}

fn compare(is_update: bool) -> Result<bool, String> {
    let table = std::fs::read_to_string(TABLE).unwrap_or_default();
    let (of, lines) = table.split_once('\n').unwrap_or_default();
    let known: BTreeMap<_, _> = lines
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(n, c)| Some((n, c.parse::<u64>().ok()?)))
        .collect();
    let is_same = of == origin();
    let (mut text, mut holds) = (format!("{}\n", origin()), true);
    for &(path, _) in PATHS {
        let rounds = ROUNDS.1 - ROUNDS.0;
        let now = (count(path, ROUNDS.1)? - count(path, ROUNDS.0)?).div_ceil(rounds);
        text += &format!("{path} {now}\n");
        let verdict = match known.get(path) {
            _ if !is_same => "not compared".to_owned(),
            None => "not in the table".to_owned(),
            Some(&before) if now * 100 > before * (100 + TOLERANCE) => {
                holds = false;
                format!("DEARER than {before}")
            }
            Some(&before) if now * (100 + TOLERANCE) < before * 100 => format!("cheaper than {before}: --update"),
            Some(before) => format!("{before} in the table"),
        };
        println!("{path:<40} {now:>8} instructions, {verdict}");
    }
    if !is_same && !is_update {
        println!("SKIPPED: instructions were counted and not compared: the table is of {of:?}, this is {:?}", origin());
    }
    if is_update {
        std::fs::write(TABLE, text).map_err(|error| error.to_string())?;
    }
    Ok(holds || is_update)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [run, path, rounds] = &arguments[..]
        && run == "--run"
    {
        let (_, run) = PATHS.iter().find(|(name, _)| name == path).expect("a path of the table");
        run(rounds.parse().expect("a number"));
        return ExitCode::SUCCESS;
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("SKIPPED: instructions were not counted: there is no valgrind");
        return ExitCode::SUCCESS;
    }
    match compare(arguments.iter().any(|argument| argument == "--update")) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
