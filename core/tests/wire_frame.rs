//! Every rule of a frame, each broken alone; and damage of every byte.

use eventstream_core::crc::Crc32;
use eventstream_core::id::{ShardId, Term};
use eventstream_core::wire::{
    Control, Frame, FrameError, HEADER_LEN, Header, Kind, MAX_CONTROL_LEN, Ping, field, peek, seal,
};
use proptest::prelude::*;

const CRC: Crc32 = Crc32::portable();

fn frame_of(header: Header, payload: &[u8]) -> Vec<u8> {
    let header = Header { payload_len: payload.len() as u32, checksum: CRC.of(payload), ..header };
    let mut frame = vec![0; header.frame_len()];
    frame[HEADER_LEN..][..payload.len()].copy_from_slice(payload);
    seal(&mut frame, &header, CRC);
    frame
}

/// A client's batch; the payload is of no interest here.
fn batch_frame() -> Vec<u8> {
    let header = Header { event_count: 3, batch_id: 12, timestamp_us: 34, ..Header::of(Kind::Batch, &[], CRC) };
    frame_of(header, b"what the runs would be")
}

fn ping_frame() -> Vec<u8> {
    let mut frame = vec![0; MAX_CONTROL_LEN];
    let len = Control::Ping(Ping { number: 1 }).encode(ShardId(0), &mut frame, CRC).unwrap();
    frame.truncate(len);
    frame
}

/// The frame with these bytes instead, and a header checksum that is right all the same.
fn with(mut frame: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    let checksum = CRC.of(&frame[field::CHECKED]);
    frame[field::HEADER_CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
    frame
}

fn error(frame: &[u8]) -> FrameError {
    Frame::check(frame, CRC).expect_err("one rule is broken")
}

#[test]
fn a_lawful_frame_passes() {
    let frame = batch_frame();
    let checked = Frame::check(&frame, CRC).unwrap();
    assert_eq!(checked.payload(), b"what the runs would be");
    assert_eq!(checked.bytes(), frame);
    assert_eq!((checked.header().event_count, checked.header().batch_id), (3, 12));
}

#[test]
fn what_was_checked_is_known_again() {
    let frame = batch_frame();
    let header = *Frame::check(&frame, CRC).unwrap().header();
    let again = Frame::checked_before(header, &frame);
    assert_eq!((again.header(), again.payload()), (&header, &b"what the runs would be"[..]));
}

#[test]
#[should_panic = "these are the bytes that were checked"]
fn other_bytes_were_not_checked() {
    let frame = batch_frame();
    let header = *Frame::check(&frame, CRC).unwrap().header();
    let _ = Frame::checked_before(header, &ping_frame());
}

#[test]
fn magic_and_version_come_before_the_checksum() {
    let mut frame = batch_frame();
    frame[0] = 0;
    assert_eq!(error(&frame), FrameError::BadMagic { found: 0xDEAD_BE00 });
    let mut frame = batch_frame();
    frame[field::VERSION] = 2;
    assert_eq!(error(&frame), FrameError::UnsupportedVersion { found: 2 });
}

#[test]
fn the_checksum_comes_before_what_it_covers() {
    let mut frame = batch_frame();
    frame[field::PAYLOAD_LEN].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(error(&frame), FrameError::HeaderChecksum { .. }));
}

#[test]
fn flags_and_kinds_are_defined() {
    assert_eq!(error(&with(batch_frame(), 7, &[0x80])), FrameError::UndefinedFlags { flags: 0x8000 });
    for number in [0, 5, 15, 19, 49, 255] {
        assert_eq!(error(&with(batch_frame(), field::KIND, &[number])), FrameError::UnknownKind { number });
    }
}

#[test]
fn only_a_batch_has_events_and_at_most_64() {
    let at = field::EVENT_COUNT.start;
    assert!(Frame::check(&with(batch_frame(), at, &[64, 0]), CRC).is_ok());
    for count in [0, 65, 0x0103] {
        let frame = with(batch_frame(), at, &u16::to_le_bytes(count));
        assert_eq!(error(&frame), FrameError::EventCount { kind: Kind::Batch, count });
    }
    assert_eq!(error(&with(ping_frame(), at, &[1, 0])), FrameError::EventCount { kind: Kind::Ping, count: 1 });
}

#[test]
fn each_kind_bounds_its_payload() {
    let at = field::PAYLOAD_LEN.start;
    for len in [0, 32_769, u32::MAX] {
        let frame = with(batch_frame(), at, &len.to_le_bytes());
        assert_eq!(error(&frame), FrameError::PayloadLength { kind: Kind::Batch, len });
    }
    let len = 4_097;
    let frame = with(ping_frame(), at, &u32::to_le_bytes(len));
    assert_eq!(error(&frame), FrameError::PayloadLength { kind: Kind::Ping, len });
    let empty = Header { batch_id: 1, term: Term(1), ..Header::of(Kind::Empty, &[], CRC) };
    let frame = with(frame_of(empty, &[]), at, &[1]);
    assert_eq!(error(&frame), FrameError::PayloadLength { kind: Kind::Empty, len: 1 });
}

#[test]
fn a_control_message_leaves_the_fields_of_the_log_alone() {
    for field in [field::BATCH_ID, field::TERM, field::TIMESTAMP_US] {
        assert_eq!(error(&with(ping_frame(), field.start, &[1])), FrameError::UnusedField { kind: Kind::Ping });
    }
}

#[test]
fn counters_leave_room_to_count_on() {
    for field in [field::BATCH_ID, field::TERM, field::TIMESTAMP_US] {
        let largest = with(batch_frame(), field.start, &(i64::MAX as u64).to_le_bytes());
        assert!(Frame::check(&largest, CRC).is_ok());
        let larger = with(batch_frame(), field.start, &(i64::MAX as u64 + 1).to_le_bytes());
        assert_eq!(error(&larger), FrameError::CounterTooLarge);
    }
}

#[test]
fn payload_and_end_are_checked() {
    let mut frame = batch_frame();
    frame[HEADER_LEN] ^= 1;
    assert!(matches!(error(&frame), FrameError::PayloadChecksum { .. }));
    let mut frame = batch_frame();
    let last = frame.len() - 1;
    frame[last] = 1;
    assert_eq!(error(&frame), FrameError::EndMarker { found: 0x0100_0001_DEAD_BEEF });
}

#[test]
fn a_frame_is_no_shorter_and_no_longer_than_it_says() {
    let frame = batch_frame();
    for len in 0..frame.len() {
        let needed = if len < HEADER_LEN { HEADER_LEN } else { frame.len() };
        assert_eq!(error(&frame[..len]), FrameError::Truncated { needed });
    }
    let longer = [&frame[..], &[0; 3]].concat();
    assert_eq!(error(&longer), FrameError::TrailingBytes { extra: 3 });
}

#[test]
fn a_stream_tells_the_next_frame_as_soon_as_its_header_is_there() {
    let stream = [batch_frame(), ping_frame()].concat();
    for len in 0..HEADER_LEN {
        assert_eq!(peek(&stream[..len], CRC), Ok(None));
    }
    let first = peek(&stream[..HEADER_LEN], CRC).unwrap().expect("48 bytes are there");
    assert_eq!((first.kind, first.frame_len()), (Kind::Batch, batch_frame().len()));
    let second = peek(&stream[first.frame_len()..], CRC).unwrap().expect("it is complete");
    assert_eq!(second.kind, Kind::Ping);
    assert_eq!(first.frame_len() + second.frame_len(), stream.len());
}

#[test]
fn what_is_no_frame_is_refused_at_its_fourth_byte() {
    assert_eq!(peek(b"GET", CRC), Ok(None));
    assert_eq!(peek(b"GET ", CRC), Err(FrameError::BadMagic { found: u32::from_le_bytes(*b"GET ") }));
}

#[test]
#[should_panic = "only a lawful header leaves this node"]
fn an_unlawful_header_is_never_written() {
    let header = Header { event_count: 65, ..Header::of(Kind::Batch, b"x", CRC) };
    seal(&mut [0; 100], &header, CRC);
}

#[test]
fn every_damaged_byte_is_noticed() {
    for frame in [batch_frame(), ping_frame()] {
        for at in 0..frame.len() {
            for damage in 1..=u8::MAX {
                let mut damaged = frame.clone();
                damaged[at] ^= damage;
                assert!(Frame::check(&damaged, CRC).is_err(), "byte {at} xor {damage:#04x}");
            }
        }
    }
}

proptest! {
    #[test]
    fn what_is_sealed_passes(payload in prop::collection::vec(any::<u8>(), 1..2_000), shard: u16, events in 1..=64_u16,
                             numbers in [0..=i64::MAX as u64, 0..=i64::MAX as u64, 0..=i64::MAX as u64]) {
        let header = Header {
            shard: ShardId(shard),
            event_count: events,
            batch_id: numbers[0],
            term: Term(numbers[1]),
            timestamp_us: numbers[2],
            ..Header::of(Kind::Batch, &payload, CRC)
        };
        let frame = frame_of(header, &payload);
        let checked = Frame::check(&frame, CRC).unwrap();
        prop_assert_eq!(checked.header(), &header);
        prop_assert_eq!(checked.payload(), payload);
    }

    #[test]
    fn damage_of_any_byte_of_any_frame_is_noticed(
        payload in prop::collection::vec(any::<u8>(), 1..2_000), at: prop::sample::Index, damage in 1..=u8::MAX,
    ) {
        let mut frame = frame_of(Header { event_count: 1, ..Header::of(Kind::Batch, &[], CRC) }, &payload);
        let at = at.index(frame.len());
        frame[at] ^= damage;
        prop_assert!(Frame::check(&frame, CRC).is_err());
    }
}
