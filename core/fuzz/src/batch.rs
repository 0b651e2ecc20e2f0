//! The payload of a batch: runs, and the events in them.

use super::{CRC, Decoder, frame};
use eventstream_core::batch::{BatchBuilder, Event, PushError, Source};
use eventstream_core::id::{Sequence, ShardId};
use eventstream_core::wire::{Batch, Frame, HEADER_LEN, Kind, MAX_FRAME_LEN, Run};

/// The target: the events that a header claims, then a payload.
pub const DECODER: Decoder = Decoder { name: "batch", read, seeds };

/// See [`DECODER`].
pub fn read(data: &[u8]) {
    if let Some((&count, payload)) = data.split_first() {
        check(payload, count.into());
    }
}

/// What passes the check can be walked to its end, has the events that it claims, and can be built again.
pub fn check(payload: &[u8], count: u16) {
    let Ok(batch) = Batch::check(payload, count) else { return };
    let runs: Vec<_> = batch.runs().collect();
    assert_eq!(runs.len(), usize::from(batch.run_count()));
    assert_eq!(runs.iter().flat_map(|run| run.bytes()).count(), payload.len());
    let events = events(&batch);
    assert_eq!(events.len(), usize::from(count));

    let mut builder = BatchBuilder::new(vec![0; MAX_FRAME_LEN]);
    for event in &events {
        match builder.push(event) {
            Ok(()) => {}
            // The builder writes lengths of three bytes: what was full without them has no room.
            Err(PushError::Full) => return,
            Err(error) => panic!("{error}: what is lawful to read is lawful to write"),
        }
    }
    let (built, len) = builder.finish(ShardId(0), 1, 0, CRC);
    let built = Frame::check(&built[..len], CRC).expect("what was written is whole");
    let again = Batch::check(built.payload(), built.header().event_count).expect("and lawful");
    assert_eq!(self::events(&again), events);
}

fn events<'a>(batch: &Batch<'a>) -> Vec<Event<'a>> {
    batch.runs().flat_map(|run| events_of(&run)).collect()
}

fn events_of<'a>(run: &Run<'a>) -> Vec<Event<'a>> {
    let head = *run.head();
    let event = |(number, record): (u64, eventstream_core::wire::Record<'a>)| {
        let numbered = Source::Producer {
            producer: head.producer,
            epoch: head.epoch,
            sequence: Sequence(head.first_sequence.0 + number),
            after_gap: head.has_gap() && number == 0,
        };
        assert_eq!(record.event_id.is_none(), head.has_producer());
        let source = record.event_id.map_or(numbered, Source::EventId);
        Event { topic: head.topic, source, time_us: record.time_us, key: record.key, payload: record.payload }
    };
    (0..).zip(run.records()).map(event).collect()
}

/// Those of the frames.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for frames in frame::seeds() {
        let mut rest = &frames[..];
        while let Ok(Some(header)) = eventstream_core::wire::peek(rest, CRC) {
            let (frame, behind) = rest.split_at(header.frame_len());
            if header.kind == Kind::Batch {
                let payload = &frame[HEADER_LEN..][..header.payload_len as usize];
                seeds.push([&[header.event_count as u8], payload].concat());
            }
            rest = behind;
        }
    }
    seeds
}
