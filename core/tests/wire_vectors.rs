//! The codec against bytes that were put together without it (Python's `struct` and `zlib`), field by field. They are
//! what another implementation has to read and write: `tests/vectors/`.

use eventstream_core::batch::{BatchBuilder, Event, Source};
use eventstream_core::crc::Crc32;
use eventstream_core::id::{
    ClusterId, Epoch, EventId, Incarnation, Index, LogTime, NodeId, Offset, ProducerId, Sequence, ShardId, Term,
};
use eventstream_core::raft::{Body, LogPosition, Message};
use eventstream_core::receipt::{Durability, RunReceipt, RunRefusal};
use eventstream_core::wire::{
    Batch, Control, Counters, Frame, Header, Hello, Kind, List, MAX_CONTROL_LEN, MAX_FRAME_LEN, NamedCount, Ping,
    Receipt, Role, Token, seal, stamp,
};

const CRC: Crc32 = Crc32::portable();
const TIME_US: u64 = 1_700_000_000_000_000;

/// Hexadecimal bytes; what follows a `#` is for the reader.
fn bytes(text: &str) -> Vec<u8> {
    let digits = |line: &str| line.split('#').next().unwrap_or_default().to_owned();
    let bytes: String = text.lines().map(digits).collect::<Vec<_>>().join(" ");
    bytes.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).expect("two hexadecimal digits")).collect()
}

fn ids() -> ([u8; 16], [u8; 16]) {
    (core::array::from_fn(|at| 0x10 + at as u8), core::array::from_fn(|at| 0x20 + at as u8))
}

/// Both ways: the vector decodes to the message, the message encodes to the vector.
fn assert_control(vector: &str, message: &Control<'_>) {
    let vector = bytes(vector);
    let frame = Frame::check(&vector, CRC).expect("a whole frame");
    assert_eq!(Control::decode(frame.header().kind, frame.payload()).as_ref(), Ok(message));
    let mut buffer = [0; MAX_CONTROL_LEN];
    let len = message.encode(ShardId(0), &mut buffer, CRC).expect("a lawful message");
    assert_eq!(buffer[..len], vector);
}

#[test]
fn ping() {
    assert_control(include_str!("vectors/ping.hex"), &Control::Ping(Ping { number: 7 }));
}

#[test]
fn hello() {
    let (first, second) = ids();
    let role = Role::Peer { node: NodeId(2), incarnation: Incarnation(first) };
    let hello = Hello { version_min: 1, version_max: 1, cluster: Some(ClusterId(second)), role };
    assert_control(include_str!("vectors/hello.hex"), &Control::Hello(hello));
}

#[test]
fn hello_with_a_token() {
    let role = Role::TokenClient { token: Token(core::array::from_fn(|at| 0x30 + at as u8)) };
    let hello = Hello { version_min: 1, version_max: 1, cluster: None, role };
    assert_control(include_str!("vectors/hello_token.hex"), &Control::Hello(hello));
}

#[test]
fn receipt() {
    let runs = [
        RunReceipt {
            duplicates: 1,
            duplicate_offset: Some(Offset(41)),
            accepted: 2,
            first_offset: Offset(50),
            refused: None,
        },
        RunReceipt::refused(RunRefusal::SequenceGap { expected: Sequence(300) }),
    ];
    let receipt = Receipt {
        batch: 9,
        index: Index(1000),
        term: Term(3),
        durability: Durability::Majority,
        runs: List::of(&runs),
    };
    assert_control(include_str!("vectors/receipt.hex"), &Control::Receipt(receipt));
}

#[test]
fn counters() {
    let counters = [NamedCount { name: "busy", count: 300 }, NamedCount { name: "frame_magic", count: 0 }];
    let counters = Counters { request: 5, count: 45, counters: List::of(&counters) };
    assert_control(include_str!("vectors/counters.hex"), &Control::Counters(counters));
}

#[test]
fn append() {
    let message = Message {
        from: NodeId(1),
        to: NodeId(2),
        incarnation: Incarnation(ids().1),
        term: Term(3),
        body: Body::Append { prev: LogPosition { index: Index(1000), term: Term(2) }, count: 5, commit: Index(999) },
    };
    assert_control(include_str!("vectors/append.hex"), &Control::Peer(message));
}

#[test]
fn empty_entry() {
    let vector = bytes(include_str!("vectors/empty_entry.hex"));
    let header = Header { batch_id: 5, term: Term(3), timestamp_us: TIME_US, ..Header::of(Kind::Empty, &[], CRC) };
    assert_eq!(Frame::check(&vector, CRC).map(|frame| *frame.header()), Ok(header));
    assert!(header.is_logged());
    let mut buffer = [0; 56];
    assert_eq!(seal(&mut buffer, &header, CRC), 56);
    assert_eq!(buffer[..], vector);
}

#[test]
fn batch() {
    let vector = bytes(include_str!("vectors/batch.hex"));
    let (producer, id) = (ProducerId(ids().0), EventId(ids().1));
    let numbered =
        |sequence| Source::Producer { producer, epoch: Epoch(2), sequence: Sequence(sequence), after_gap: false };
    let mut builder = BatchBuilder::new(vec![0; MAX_FRAME_LEN]);
    for event in [
        Event { topic: "t", source: numbered(300), time_us: TIME_US, key: b"k", payload: b"hello" },
        Event { topic: "t", source: numbered(301), time_us: TIME_US - 1, key: b"", payload: b"" },
        Event { topic: "ü", source: Source::EventId(id), time_us: TIME_US + 5, key: b"", payload: b"x" },
    ] {
        builder.push(&event).expect("there is room");
    }
    let (mut built, len) = builder.finish(ShardId(0), 9, TIME_US + 10, CRC);
    assert_eq!(built[..len], vector);

    let frame = Frame::check(&vector, CRC).expect("a whole frame");
    assert!(frame.header().is_submitted() && !frame.header().is_logged());
    let batch = Batch::check(frame.payload(), frame.header().event_count).expect("a lawful batch");
    let runs: Vec<_> = batch.runs().collect();
    assert_eq!(runs.len(), 2);
    assert_eq!((runs[0].head().topic, runs[0].head().producer, runs[0].head().count), ("t", producer, 2));
    let times: Vec<_> = runs[0].records().map(|record| record.time_us).collect();
    assert_eq!(times, [TIME_US, TIME_US - 1]);
    assert!(!runs[1].head().has_producer());
    assert_eq!(runs[1].records().next().and_then(|record| record.event_id), Some(id));

    stamp(&mut built[..len], Index(77), Term(4), LogTime(TIME_US + 20), CRC);
    let logged = Frame::check(&built[..len], CRC).expect("a stamp keeps the frame whole");
    assert!(logged.header().is_logged());
    assert_eq!((logged.header().index(), logged.header().log_time()), (Index(77), LogTime(TIME_US + 20)));
    assert_eq!(logged.payload(), frame.payload());
}
