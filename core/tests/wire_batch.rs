//! Batches: what is built is read back, what breaks a rule is refused, and postcard agrees with the codec's own reader.

use eventstream_core::batch::{BatchBuilder, Event, PushError, Source};
use eventstream_core::crc::Crc32;
use eventstream_core::id::{Epoch, EventId, ProducerId, Sequence, ShardId};
use eventstream_core::wire::{Batch, BatchError, Frame, MAX_FRAME_LEN, OVERHEAD, RunFlags};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

const CRC: Crc32 = Crc32::portable();
const MAX_COUNTER: u64 = i64::MAX as u64;

/// The definition of a run's head, as postcard has it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct HeadByPostcard<'a> {
    topic: &'a str,
    producer: [u8; 16],
    epoch: u32,
    first_sequence: u64,
    base_time_us: u64,
    flags: u8,
    count: u16,
    len: u32,
}

/// The definition of a record, as postcard has it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct RecordByPostcard<'a> {
    key: &'a [u8],
    time_delta_us: i64,
    payload: &'a [u8],
    event_id: Option<[u8; 16]>,
}

const HEAD: HeadByPostcard<'static> = HeadByPostcard {
    topic: "t",
    producer: [7; 16],
    epoch: 1,
    first_sequence: 10,
    base_time_us: 1_000,
    flags: 0,
    count: 1,
    len: 0,
};
const RECORD: RecordByPostcard<'static> =
    RecordByPostcard { key: b"k", time_delta_us: 0, payload: b"p", event_id: None };

/// The bytes of a run, with the length that its records have.
fn run_of(head: HeadByPostcard<'_>, records: &[RecordByPostcard<'_>]) -> Vec<u8> {
    let mut buffer = vec![0; 40_000];
    let mut write = |record| postcard::to_slice(record, &mut buffer).expect("it fits").to_vec();
    let records: Vec<u8> = records.iter().flat_map(&mut write).collect();
    let head = HeadByPostcard { len: records.len() as u32, ..head };
    let head = postcard::to_slice(&head, &mut buffer).expect("it fits").to_vec();
    [head, records].concat()
}

fn error(payload: &[u8], events: u16) -> BatchError {
    Batch::check(payload, events).expect_err("one rule is broken")
}

#[test]
fn what_postcard_writes_is_read() {
    let payload = run_of(HEAD, &[RECORD]);
    let batch = Batch::check(&payload, 1).unwrap();
    let run = batch.runs().next().unwrap();
    assert_eq!(run.bytes(), payload);
    assert_eq!((run.head().topic, run.head().first_sequence), ("t", Sequence(10)));
    let record = run.records().next().unwrap();
    assert_eq!((record.key, record.time_us, record.payload), (&b"k"[..], 1_000, &b"p"[..]));
}

#[test]
fn a_batch_has_runs_and_as_many_events_as_the_header_says() {
    assert_eq!(error(&[], 0), BatchError::Empty);
    assert_eq!(error(&[], 1), BatchError::EventCount);
    let one = run_of(HEAD, &[RECORD]);
    assert_eq!(error(&one, 0), BatchError::EventCount);
    assert_eq!(error(&one, 2), BatchError::EventCount);
    let two = [&one[..], &one].concat();
    assert_eq!(Batch::check(&two, 2).unwrap().run_count(), 2);
    assert_eq!(error(&two, 1), BatchError::EventCount);
    assert_eq!(error(&one.repeat(65), 65), BatchError::EventCount);
    assert_eq!(error(&vec![0; 32_769], 1), BatchError::TooLong);
}

#[test]
fn a_run_has_1_to_64_events_and_exactly_their_bytes() {
    assert_eq!(error(&run_of(HeadByPostcard { count: 0, ..HEAD }, &[]), 1), BatchError::EventCount);
    let head = HeadByPostcard { count: 65, ..HEAD };
    assert_eq!(error(&run_of(head, &[RECORD; 65]), 64), BatchError::EventCount);
    let head = HeadByPostcard { count: 2, ..HEAD };
    assert_eq!(error(&run_of(head, &[RECORD; 1]), 2), BatchError::Truncated);
    assert_eq!(error(&run_of(head, &[RECORD; 3]), 2), BatchError::RunLength);
    // The length of a run reaches beyond the batch.
    let head = HeadByPostcard { len: 100, ..HEAD };
    assert_eq!(error(postcard::to_slice(&head, &mut [0; 100]).unwrap(), 1), BatchError::Truncated);
}

#[test]
fn topics_are_1_to_127_bytes_of_utf8() {
    let long = "x".repeat(128);
    let of = |topic| run_of(HeadByPostcard { topic, ..HEAD }, &[RECORD]);
    assert!(Batch::check(&of(&long[..127]), 1).is_ok());
    assert_eq!(error(&of(&long), 1), BatchError::TopicLength);
    assert_eq!(error(&of(""), 1), BatchError::TopicLength);
    let mut payload = of("t");
    payload[1] = 0xFF;
    assert_eq!(error(&payload, 1), BatchError::TopicNotUtf8);
}

#[test]
fn keys_and_payloads_have_bounds() {
    let bytes = vec![0; 31_745];
    let of = |key, payload| run_of(HEAD, &[RecordByPostcard { key, payload, ..RECORD }]);
    assert!(Batch::check(&of(&bytes[..511], &bytes[..31_744]), 1).is_ok());
    assert!(Batch::check(&of(&[], &[]), 1).is_ok());
    assert_eq!(error(&of(&bytes[..512], &[]), 1), BatchError::KeyLength);
    assert_eq!(error(&of(&[], &bytes), 1), BatchError::PayloadLength);
}

#[test]
fn flags_are_defined_and_a_run_without_producer_has_none_of_its_fields() {
    assert_eq!(error(&run_of(HeadByPostcard { flags: 4, ..HEAD }, &[RECORD]), 1), BatchError::UndefinedFlags);
    let gap = run_of(HeadByPostcard { flags: RunFlags::GAP.bits(), ..HEAD }, &[RECORD]);
    assert!(Batch::check(&gap, 1).unwrap().runs().next().unwrap().head().has_gap());

    let flags = RunFlags::NO_PRODUCER.bits();
    let nobody = HeadByPostcard { producer: [0; 16], epoch: 0, first_sequence: 0, flags, ..HEAD };
    let named = RecordByPostcard { event_id: Some([9; 16]), ..RECORD };
    assert!(Batch::check(&run_of(nobody, &[named]), 1).is_ok());
    for head in [
        HeadByPostcard { producer: [1; 16], ..nobody },
        HeadByPostcard { epoch: 1, ..nobody },
        HeadByPostcard { first_sequence: 1, ..nobody },
        HeadByPostcard { flags: 3, ..nobody },
    ] {
        assert_eq!(error(&run_of(head, &[named]), 1), BatchError::ProducerFields);
    }
    assert_eq!(error(&run_of(nobody, &[RECORD]), 1), BatchError::EventId);
    assert_eq!(error(&run_of(HEAD, &[named]), 1), BatchError::EventId);
    let mut payload = run_of(HEAD, &[RECORD]);
    *payload.last_mut().unwrap() = 2;
    assert_eq!(error(&payload, 1), BatchError::BadOption);
}

#[test]
fn sequences_and_times_leave_room_to_count_on() {
    let of = |head| run_of(head, &[RECORD]);
    assert!(Batch::check(&of(HeadByPostcard { first_sequence: MAX_COUNTER - 1, ..HEAD }), 1).is_ok());
    assert_eq!(
        error(&of(HeadByPostcard { first_sequence: MAX_COUNTER, ..HEAD }), 1),
        BatchError::SequenceOutOfRange,
        "the sequence after the run is no counter"
    );
    assert_eq!(error(&of(HeadByPostcard { first_sequence: u64::MAX, ..HEAD }), 1), BatchError::SequenceOutOfRange);
    assert_eq!(error(&of(HeadByPostcard { base_time_us: u64::MAX, ..HEAD }), 1), BatchError::TimeOutOfRange);
    for time_delta_us in [-1_001, i64::MIN, i64::MAX] {
        let payload = run_of(HEAD, &[RecordByPostcard { time_delta_us, ..RECORD }]);
        assert_eq!(error(&payload, 1), BatchError::TimeOutOfRange);
    }
}

#[test]
fn no_prefix_of_a_batch_is_a_batch() {
    let payload = run_of(HeadByPostcard { count: 2, ..HEAD }, &[RECORD; 2]);
    for len in 1..payload.len() {
        assert_eq!(error(&payload[..len], 2), BatchError::Truncated, "{len} bytes");
    }
}

#[test]
fn numbers_may_be_written_longer_than_need_be() {
    // The topic's length, 1, in two bytes; then the same run.
    let payload = run_of(HEAD, &[RECORD]);
    let padded = [&[0x81, 0x00][..], &payload[1..]].concat();
    assert_eq!(Batch::check(&padded, 1).unwrap().runs().next().unwrap().head().topic, "t");
}

#[derive(Clone, Debug, PartialEq)]
struct OwnEvent {
    topic: String,
    source: Source,
    time_us: u64,
    key: Vec<u8>,
    payload: Vec<u8>,
}

impl OwnEvent {
    fn event(&self) -> Event<'_> {
        Event { topic: &self.topic, source: self.source, time_us: self.time_us, key: &self.key, payload: &self.payload }
    }
}

/// Sources that often continue each other, so that runs of several events come about.
fn sources() -> impl Strategy<Value = Source> {
    let numbered =
        (0..2_u8, 0..2_u32, 0..4_u64, prop::bool::weighted(0.1)).prop_map(|(name, epoch, sequence, after_gap)| {
            Source::Producer {
                producer: ProducerId([name; 16]),
                epoch: Epoch(epoch),
                sequence: Sequence(sequence),
                after_gap,
            }
        });
    let far = (0..MAX_COUNTER).prop_map(|sequence| Source::Producer {
        producer: ProducerId([9; 16]),
        epoch: Epoch(u32::MAX),
        sequence: Sequence(sequence),
        after_gap: false,
    });
    prop_oneof![4 => numbered, 1 => far, 1 => any::<[u8; 16]>().prop_map(|id| Source::EventId(EventId(id)))]
}

fn events() -> impl Strategy<Value = Vec<OwnEvent>> {
    let times = prop_oneof![Just(1_700_000_000_000_000), 0..=MAX_COUNTER];
    let bytes = |most| prop::collection::vec(any::<u8>(), 0..=most);
    let event = (prop_oneof![Just("a".to_owned()), "[a-zü]{1,60}"], sources(), times, bytes(20), bytes(200));
    let event =
        event.prop_map(|(topic, source, time_us, key, payload)| OwnEvent { topic, source, time_us, key, payload });
    prop::collection::vec(event, 1..=64)
}

/// What a reader finds in a frame, event by event.
fn read(frame: &[u8]) -> Vec<OwnEvent> {
    let frame = Frame::check(frame, CRC).unwrap();
    let batch = Batch::check(frame.payload(), frame.header().event_count).unwrap();
    let mut events = Vec::new();
    for run in batch.runs() {
        let head = *run.head();
        assert_eq!(run.records().len(), usize::from(head.count));
        for (at, record) in run.records().enumerate() {
            let source = record.event_id.map_or_else(
                || Source::Producer {
                    producer: head.producer,
                    epoch: head.epoch,
                    sequence: head.first_sequence.plus(at as u64),
                    after_gap: head.has_gap() && at == 0,
                },
                Source::EventId,
            );
            events.push(OwnEvent {
                topic: head.topic.to_owned(),
                source,
                time_us: record.time_us,
                key: record.key.to_vec(),
                payload: record.payload.to_vec(),
            });
        }
    }
    events
}

/// Time and payload of every event, as postcard's own reader finds them.
fn read_by_postcard(mut payload: &[u8]) -> Vec<(u64, &[u8])> {
    let mut events = Vec::new();
    while !payload.is_empty() {
        let (head, rest): (HeadByPostcard<'_>, _) = postcard::take_from_bytes(payload).expect("a head");
        let (mut records, after) = rest.split_at(head.len as usize);
        for _ in 0..head.count {
            let (record, rest): (RecordByPostcard<'_>, _) = postcard::take_from_bytes(records).expect("a record");
            events.push((head.base_time_us.wrapping_add_signed(record.time_delta_us), record.payload));
            records = rest;
        }
        assert!(records.is_empty(), "the records fill their run");
        payload = after;
    }
    events
}

proptest! {
    #[test]
    fn what_is_built_is_read(events in events()) {
        let mut builder = BatchBuilder::new(vec![0; MAX_FRAME_LEN]);
        for event in &events {
            builder.push(&event.event()).unwrap();
        }
        let frame_len = builder.frame_len();
        let (buffer, len) = builder.finish(ShardId(3), 5, 6, CRC);
        prop_assert_eq!(len, frame_len);
        prop_assert_eq!(read(&buffer[..len]), events);
    }

    #[test]
    fn a_full_batch_is_as_it_was(events in events(), room in 0..4_000_usize) {
        let mut builder = BatchBuilder::new(vec![0; OVERHEAD + room]);
        let mut taken = 0;
        for event in &events {
            match builder.push(&event.event()) {
                Ok(()) => taken += 1,
                Err(error) => {
                    prop_assert_eq!(error, if taken == 0 { PushError::BufferTooSmall } else { PushError::Full });
                    break;
                }
            }
        }
        if taken > 0 {
            let (buffer, len) = builder.finish(ShardId(0), 0, 0, CRC);
            prop_assert_eq!(read(&buffer[..len]), &events[..taken]);
        }
    }

    #[test]
    fn postcard_reads_what_is_built(events in events()) {
        let mut builder = BatchBuilder::new(vec![0; MAX_FRAME_LEN]);
        for event in &events {
            builder.push(&event.event()).unwrap();
        }
        let (buffer, len) = builder.finish(ShardId(0), 0, 0, CRC);
        let frame = Frame::check(&buffer[..len], CRC).unwrap();
        let found = read_by_postcard(frame.payload());
        prop_assert_eq!(found.len(), events.len());
        for ((time_us, payload), event) in found.into_iter().zip(&events) {
            prop_assert_eq!((time_us, payload), (event.time_us, &event.payload[..]));
        }
    }

    #[test]
    fn any_bytes_are_a_batch_or_an_error(payload in prop::collection::vec(any::<u8>(), 0..300), events in 0..=64_u16) {
        if let Ok(batch) = Batch::check(&payload, events) {
            prop_assert_eq!(batch.runs().map(|run| run.records().count()).sum::<usize>(), usize::from(events));
        }
    }

    #[test]
    fn damage_behind_the_checksum_is_an_error_or_another_batch(
        events in events(), at: prop::sample::Index, damage in 1..=u8::MAX,
    ) {
        let mut builder = BatchBuilder::new(vec![0; MAX_FRAME_LEN]);
        for event in &events {
            builder.push(&event.event()).unwrap();
        }
        let (buffer, len) = builder.finish(ShardId(0), 0, 0, CRC);
        let mut payload = Frame::check(&buffer[..len], CRC).unwrap().payload().to_vec();
        let at = at.index(payload.len());
        payload[at] ^= damage;
        // What still passes can be read to its end, and postcard finds the same in it.
        if let Ok(batch) = Batch::check(&payload, events.len() as u16) {
            let records = batch.runs().flat_map(|run| run.records());
            let found: Vec<_> = records.map(|record| (record.time_us, record.payload)).collect();
            prop_assert_eq!(found.len(), events.len());
            prop_assert_eq!(found, read_by_postcard(&payload));
        }
    }
}

#[test]
fn events_that_follow_each_other_share_a_run() {
    let numbered = |sequence, after_gap| Source::Producer {
        producer: ProducerId([1; 16]),
        epoch: Epoch(1),
        sequence: Sequence(sequence),
        after_gap,
    };
    let mut builder = BatchBuilder::new(vec![0; MAX_FRAME_LEN]);
    let mut push = |topic, source| {
        builder.push(&Event { topic, source, time_us: 0, key: b"", payload: b"" }).expect("there is room");
    };
    push("a", numbered(0, false));
    push("a", numbered(1, false)); // goes on
    push("a", numbered(3, false)); // 2 is missing
    push("a", numbered(4, true)); // the producer dropped some
    push("a", numbered(5, false)); // goes on
    push("b", numbered(6, false)); // another topic
    push("b", Source::EventId(EventId([2; 16]))); // nobody's
    push("b", Source::EventId(EventId([3; 16]))); // goes on
    let (buffer, len) = builder.finish(ShardId(0), 0, 0, CRC);
    let frame = Frame::check(&buffer[..len], CRC).unwrap();
    let batch = Batch::check(frame.payload(), 8).unwrap();
    let counts: Vec<_> = batch.runs().map(|run| run.head().count).collect();
    assert_eq!(counts, [2, 1, 2, 1, 2]);
}

#[test]
fn an_event_that_no_batch_takes_is_named() {
    let long = vec![b'x'; 31_745];
    let text = core::str::from_utf8(&long).expect("ASCII");
    let source = Source::EventId(EventId::default());
    let event = Event { topic: "t", source, time_us: 0, key: b"", payload: b"" };
    let mut builder = BatchBuilder::new(vec![0; MAX_FRAME_LEN]);
    assert_eq!(builder.push(&Event { topic: "", ..event }), Err(PushError::TopicLength));
    assert_eq!(builder.push(&Event { topic: &text[..128], ..event }), Err(PushError::TopicLength));
    assert_eq!(builder.push(&Event { key: &long[..512], ..event }), Err(PushError::KeyTooLong));
    assert_eq!(builder.push(&Event { payload: &long, ..event }), Err(PushError::EventTooLarge));
    assert_eq!(builder.push(&Event { time_us: MAX_COUNTER + 1, ..event }), Err(PushError::TimeOutOfRange));
    let sequence = Sequence(MAX_COUNTER);
    let source = Source::Producer { producer: ProducerId::default(), epoch: Epoch(0), sequence, after_gap: false };
    assert_eq!(builder.push(&Event { source, ..event }), Err(PushError::SequenceOutOfRange));
    assert!(builder.is_empty());

    let largest = Event { topic: &text[..127], key: &long[..511], payload: &long[..31_744], ..event };
    assert_eq!(builder.push(&largest), Ok(()), "any legal event fits one frame");
    assert_eq!(builder.push(&largest), Err(PushError::Full));
    let (buffer, len) = builder.finish(ShardId(0), 0, 0, CRC);
    assert_eq!(read(&buffer[..len]).len(), 1);
}

#[test]
fn the_65th_event_is_for_the_next_batch() {
    let source = Source::EventId(EventId::default());
    let event = Event { topic: "t", source, time_us: 0, key: b"", payload: b"" };
    let mut builder = BatchBuilder::new(vec![0; MAX_FRAME_LEN]);
    for _ in 0..64 {
        assert_eq!(builder.push(&event), Ok(()));
    }
    assert_eq!(builder.push(&event), Err(PushError::Full));
    assert_eq!(builder.event_count(), 64);
}
