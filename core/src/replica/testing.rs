//! What the tests of this module share: a log of batches, applied to a state.

extern crate std;

use super::memory::Lent;
use super::outcome::Outcomes;
use super::state::{Entry, State};
use super::topics::TopicSlot;
use super::{MAX_COMMAND_LEN, MAX_ROW_LEN, Row, RowKey, command::Command};
use crate::batch::{BatchBuilder, Event, Source};
use crate::config::{MAX_EVENT_PAYLOAD, Parameters};
use crate::crc::Crc32;
use crate::dedup::ProducerSlot;
use crate::id::{Epoch, EventId, LogTime, ProducerId, Sequence, ShardId, Term};
use crate::raft::LogPosition;
use crate::receipt::{RunReceipt, RunRefusal};
use crate::wire::{Frame, Kind, MAX_FRAME_LEN};
use std::boxed::Box;
use std::vec;
use std::vec::Vec;

pub(super) type HostState = State<Lent<Box<[ProducerSlot]>, Box<[TopicSlot]>>>;

/// Room for 4 producers and 3 topics. A producer is idle after ten entries.
pub(super) const PARAMETERS: Parameters =
    Parameters { producers: 4, topics: 3, event_payload: MAX_EVENT_PAYLOAD as u32, producer_idle_us: 100 };

pub(super) fn state() -> HostState {
    state_with(PARAMETERS)
}

pub(super) fn state_with(parameters: Parameters) -> HostState {
    let memory = Lent {
        producers: vec![ProducerSlot::EMPTY; parameters.producers as usize].into(),
        topics: vec![TopicSlot::EMPTY; parameters.topics as usize].into(),
    };
    State::new(parameters, 99, memory).unwrap()
}

/// Consecutive events of a producer; the payload of each is its sequence.
#[derive(Clone, Copy, Debug)]
pub(super) struct TestRun {
    pub(super) topic: &'static str,
    pub(super) producer: u8,
    pub(super) epoch: u32,
    pub(super) first: u64,
    pub(super) count: u16,
    pub(super) has_gap: bool,
}

pub(super) const fn run(topic: &'static str, producer: u8, first: u64, count: u16) -> TestRun {
    TestRun { topic, producer, epoch: 1, first, count, has_gap: false }
}

/// The checked payload of a batch, and its number of events. Runs that continue one another become one.
pub(super) fn batch(runs: &[TestRun]) -> (Vec<u8>, u16) {
    build(|push| {
        for run in runs {
            for (nth, sequence) in (run.first..).take(run.count.into()).enumerate() {
                push(&Event {
                    topic: run.topic,
                    source: Source::Producer {
                        producer: ProducerId([run.producer; 16]),
                        epoch: Epoch(run.epoch),
                        sequence: Sequence(sequence),
                        after_gap: run.has_gap && nth == 0,
                    },
                    time_us: 1,
                    key: &[run.producer],
                    payload: &sequence.to_le_bytes(),
                });
            }
        }
    })
}

pub(super) fn batch_with_event_id() -> (Vec<u8>, u16) {
    build(|push| {
        let source = Source::EventId(EventId([1; 16]));
        push(&Event { topic: "a", source, time_us: 1, key: b"", payload: b"" });
    })
}

pub(super) fn build(events: impl FnOnce(&mut dyn FnMut(&Event<'_>))) -> (Vec<u8>, u16) {
    let mut builder = BatchBuilder::new(vec![0; MAX_FRAME_LEN]);
    events(&mut |event| builder.push(event).unwrap());
    let (buffer, len) = builder.finish(ShardId(0), 0, 0, Crc32::portable());
    let frame = Frame::check(&buffer[..len], Crc32::portable()).unwrap();
    (frame.payload().to_vec(), frame.header().event_count)
}

impl HostState {
    pub(super) fn next_entry<'a>(&self, kind: Kind, event_count: u16, payload: &'a [u8]) -> Entry<'a> {
        Entry {
            position: LogPosition { index: self.applied.index.next(), term: Term(1) },
            log_time: LogTime(self.log_time.0 + 10),
            kind,
            event_count,
            payload,
        }
    }

    pub(super) fn apply_runs(&mut self, runs: &[TestRun]) -> Outcomes {
        self.apply_payload(&batch(runs))
    }

    pub(super) fn apply_payload(&mut self, (payload, event_count): &(Vec<u8>, u16)) -> Outcomes {
        let mut outcomes = Outcomes::new();
        let entry = self.next_entry(Kind::Batch, *event_count, payload);
        self.apply(&entry, &mut outcomes).unwrap();
        outcomes
    }

    pub(super) fn apply_one(&mut self, run: TestRun) -> RunReceipt {
        let outcomes = self.apply_runs(&[run]);
        assert_eq!(outcomes.runs().len(), 1);
        outcomes.runs()[0]
    }

    pub(super) fn apply_command_entry(&mut self, command: Command) -> Outcomes {
        let mut buffer = [0; MAX_COMMAND_LEN];
        let len = command.encode(&mut buffer);
        let mut outcomes = Outcomes::new();
        self.apply(&self.next_entry(Kind::Command, 0, &buffer[..len]), &mut outcomes).unwrap();
        outcomes
    }

    /// The rows that have changed, in the order in which they are drained.
    pub(super) fn drain(&mut self) -> Vec<(RowKey, Vec<u8>)> {
        let mut buffer = [0; MAX_ROW_LEN];
        core::iter::from_fn(|| {
            let Row { key, len } = self.poll_row(&mut buffer)?;
            Some((key, buffer[..len].to_vec()))
        })
        .collect()
    }
}

pub(super) fn refused(reason: RunRefusal) -> RunReceipt {
    RunReceipt::refused(reason)
}
