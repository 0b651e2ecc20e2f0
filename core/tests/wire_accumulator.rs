//! Small batches put together: the runs of all, in order, under a checksum that nobody computed from the bytes.

use eventstream_core::batch::{Accumulator, AddError, BatchBuilder, Event, Part, Source, passes_on};
use eventstream_core::crc::Crc32;
use eventstream_core::id::{EventId, Index, LogTime, ShardId, Term};
use eventstream_core::time::Instant;
use eventstream_core::wire::{Batch, Frame, Header, Kind, MAX_FRAME_LEN};
use proptest::prelude::*;

const CRC: Crc32 = Crc32::portable();

/// A client's batch: for each number a run of one event with a payload of that many bytes.
fn batch_of(lens: &[usize]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(vec![0; MAX_FRAME_LEN]);
    let payload = vec![b'p'; 31_744];
    for (at, &len) in lens.iter().enumerate() {
        let topic = format!("topic {at}");
        let source = Source::EventId(EventId([at as u8; 16]));
        builder.push(&Event { topic: &topic, source, time_us: 1, key: b"k", payload: &payload[..len] }).expect("room");
    }
    let (mut buffer, len) = builder.finish(ShardId(0), 1, 2, CRC);
    buffer.truncate(len);
    buffer
}

fn add<T>(to: &mut Accumulator<Vec<u8>, T>, now: Instant, frame: &[u8], tag: T) -> Result<(), AddError> {
    let frame = Frame::check(frame, CRC).expect("a whole frame");
    let batch = Batch::check(frame.payload(), frame.header().event_count).expect("a lawful batch");
    to.add(now, &frame, &batch, tag, || Some(vec![0; MAX_FRAME_LEN]))
}

fn seal<T>(accumulator: &mut Accumulator<Vec<u8>, T>) -> Option<(Vec<u8>, usize)> {
    accumulator.seal(ShardId(0), Index(8), Term(2), LogTime(99), CRC)
}

proptest! {
    #[test]
    fn an_entry_holds_the_runs_of_its_batches(
        batches in prop::collection::vec(prop::collection::vec(0..300_usize, 1..6), 1..20),
    ) {
        let mut accumulator = Accumulator::new();
        let mut runs = Vec::new();
        let mut added = 0;
        for (tag, lens) in batches.iter().enumerate() {
            let frame = batch_of(lens);
            if add(&mut accumulator, Instant::ZERO, &frame, tag).is_err() {
                break;
            }
            let frame = Frame::check(&frame, CRC).unwrap();
            let batch = Batch::check(frame.payload(), frame.header().event_count).unwrap();
            runs.extend(batch.runs().map(|run| run.bytes().to_vec()));
            added += 1;
        }
        let waiting = accumulator.batch().unwrap();
        prop_assert_eq!(waiting.runs().map(|run| run.bytes().to_vec()).collect::<Vec<_>>(), runs.clone());
        let parts = accumulator.parts().to_vec();
        let (buffer, len) = seal(&mut accumulator).unwrap();
        // The checksum was combined from those of the batches: that it is right is checked here.
        let frame = Frame::check(&buffer[..len], CRC).unwrap();
        prop_assert!(frame.header().is_logged());
        let batch = Batch::check(frame.payload(), frame.header().event_count).unwrap();
        prop_assert_eq!(batch.runs().map(|run| run.bytes().to_vec()).collect::<Vec<_>>(), runs);

        prop_assert_eq!(parts.iter().map(|part| part.tag).collect::<Vec<_>>(), (0..added).collect::<Vec<_>>());
        let mut next = (0, 0);
        for part in &parts {
            prop_assert_eq!((part.first_run, part.first_event), next);
            next = (part.first_run + part.runs, part.first_event + part.events);
        }
        prop_assert_eq!(next, (batch.run_count(), batch.event_count()));
    }
}

#[test]
fn a_lone_batch_leaves_at_once_or_after_a_millisecond() {
    let (now, millisecond) = (Instant::from_micros(5_000), Instant::from_micros(6_000));
    let mut accumulator = Accumulator::new();
    assert!(!accumulator.is_due(now, true), "nothing waits");
    assert_eq!(accumulator.deadline(), Instant::FAR_FUTURE);
    add(&mut accumulator, now, &batch_of(&[10]), ()).unwrap();
    assert!(accumulator.is_due(now, true), "no entry is on its way");
    assert!(!accumulator.is_due(Instant::from_micros(5_999), false));
    assert!(accumulator.is_due(millisecond, false));
    // The first batch sets the time, not the last.
    add(&mut accumulator, Instant::from_micros(5_500), &batch_of(&[10]), ()).unwrap();
    assert_eq!(accumulator.deadline(), millisecond);
    assert!(seal(&mut accumulator).is_some());
    assert!(accumulator.is_empty() && accumulator.parts().is_empty() && accumulator.batch().is_none());
    assert_eq!(accumulator.deadline(), Instant::FAR_FUTURE);
    assert!(seal(&mut accumulator).is_none());
}

#[test]
fn sixty_four_events_are_due() {
    let mut accumulator = Accumulator::new();
    for tag in 0..4 {
        assert!(!accumulator.is_due(Instant::ZERO, false));
        add(&mut accumulator, Instant::ZERO, &batch_of(&[1; 16]), tag).unwrap();
    }
    assert!(accumulator.is_due(Instant::ZERO, false));
    assert_eq!(add(&mut accumulator, Instant::ZERO, &batch_of(&[1]), 4), Err(AddError::Full));
    assert_eq!(accumulator.parts().len(), 4, "what was full is as it was");
    assert!(seal(&mut accumulator).is_some());
}

#[test]
fn thirty_two_kilobytes_are_the_limit() {
    let mut accumulator = Accumulator::new();
    add(&mut accumulator, Instant::ZERO, &batch_of(&[31_000]), ()).unwrap();
    assert_eq!(add(&mut accumulator, Instant::ZERO, &batch_of(&[3_000]), ()), Err(AddError::Full));
    add(&mut accumulator, Instant::ZERO, &batch_of(&[1_000]), ()).unwrap();
    let (buffer, len) = seal(&mut accumulator).unwrap();
    assert!(Frame::check(&buffer[..len], CRC).is_ok());
}

#[test]
fn without_a_buffer_nothing_is_added() {
    let frame = batch_of(&[10]);
    let frame = Frame::check(&frame, CRC).unwrap();
    let batch = Batch::check(frame.payload(), 1).unwrap();
    let mut accumulator: Accumulator<Vec<u8>, ()> = Accumulator::new();
    assert_eq!(accumulator.add(Instant::ZERO, &frame, &batch, (), || None), Err(AddError::NoBuffer));
    assert!(accumulator.is_empty() && accumulator.parts().is_empty());
}

#[test]
fn what_is_given_up_leaves_no_trace() {
    let mut accumulator = Accumulator::new();
    add(&mut accumulator, Instant::ZERO, &batch_of(&[10, 20]), 1).unwrap();
    accumulator.clear();
    assert!(accumulator.is_empty());
    add(&mut accumulator, Instant::ZERO, &batch_of(&[30]), 2).unwrap();
    assert_eq!(accumulator.parts(), [Part { tag: 2, first_run: 0, runs: 1, first_event: 0, events: 1 }]);
    let (buffer, len) = seal(&mut accumulator).unwrap();
    assert_eq!(Frame::check(&buffer[..len], CRC).unwrap().header().event_count, 1);
}

#[test]
fn a_large_batch_becomes_an_entry_as_it_is() {
    let header = |event_count, payload_len| Header { event_count, payload_len, ..Header::of(Kind::Batch, &[], CRC) };
    assert!(!passes_on(&header(15, 4_095)));
    assert!(passes_on(&header(16, 100)));
    assert!(passes_on(&header(1, 4_096)));
}
