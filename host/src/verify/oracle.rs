//! Dense offsets and the order of producers, apart from the code that decides about them.

use super::meaning::HostReplay;
use super::violation::{Findings, Invariant, Place};
use eventstream_core::id::{Epoch, Index, Offset, ProducerId, Sequence};
use eventstream_core::replica::{Outcomes, TopicSlice};
use eventstream_core::wire::Batch;
use std::collections::HashMap;

/// What comes next.
#[derive(Debug, Default)]
pub(super) struct Oracle {
    /// The next offset of each topic, by number.
    offsets: Vec<Offset>,
    producers: HashMap<ProducerId, Last>,
}

/// What was accepted last of a producer.
#[derive(Debug, Default)]
struct Last {
    epoch: Epoch,
    /// The sequence after it.
    due: Sequence,
    /// Its producer was evicted since.
    is_forgotten: bool,
}

impl Oracle {
    /// Checks what became of a batch.
    pub(super) fn check(
        &mut self,
        name: &str,
        index: Index,
        batch: &Batch<'_>,
        outcomes: &Outcomes,
        replay: &HostReplay,
        findings: &mut Findings,
    ) {
        let place = || Place::at(name).index(index);
        for slice in outcomes.topics() {
            let number = slice.topic.0 as usize;
            if self.offsets.len() <= number {
                self.offsets.resize(number + 1, Offset::ZERO);
            }
            let due = core::mem::replace(&mut self.offsets[number], slice.first_offset.plus(slice.count().into()));
            if slice.first_offset != due {
                let place = place().offset(replay.topic(slice.topic).name(), slice.first_offset);
                findings.add(Invariant::DenseOffsets, place, format_args!("offset {due} is due"));
            }
        }
        let (accepted, mut position) = (outcomes.accepted_mask(), 0_u32);
        for run in batch.runs() {
            let head = run.head();
            let begin = position;
            position += u32::from(head.count);
            let own = (accepted >> begin) & (u64::MAX >> (64 - u32::from(head.count)));
            if own == 0 {
                continue;
            }
            let last = self.producers.entry(head.producer).or_default();
            if core::mem::take(&mut last.is_forgotten) {
                if head.epoch <= last.epoch {
                    let place = place().event(head.producer, head.first_sequence);
                    let what = "accepted in a life of its producer that had ended when that was evicted";
                    findings.add(Invariant::AcceptedOnce, place, what);
                }
                last.due = Sequence::ZERO;
            }
            last.epoch = head.epoch;
            let due = &mut last.due;
            for nth in (0..u32::from(head.count)).filter(|nth| own >> nth & 1 == 1) {
                let sequence = head.first_sequence.plus(nth.into());
                let may_skip = head.has_gap() && nth == own.trailing_zeros();
                if sequence < *due || sequence > *due && !may_skip {
                    let is_topic = |slice: &&TopicSlice| replay.topic(slice.topic).name() == head.topic;
                    let offset = outcomes.topics().iter().find(is_topic).map(|slice| offset(slice, begin + nth));
                    let place = place().offset(head.topic, offset.unwrap_or_default()).event(head.producer, sequence);
                    let invariant = if sequence < *due { Invariant::AcceptedOnce } else { Invariant::ProducerOrder };
                    findings.add(invariant, place, format_args!("accepted where sequence {due} is due"));
                }
                *due = sequence.next();
            }
        }
    }

    /// Producers were evicted: those that the state does not know any more begin their numbers anew, in a later life.
    pub(super) fn forget(&mut self, replay: &HostReplay) {
        for (&id, last) in &mut self.producers {
            last.is_forgotten |= replay.find_producer(id).is_none();
        }
    }
}

/// The offset of an accepted event.
fn offset(slice: &TopicSlice, event: u32) -> Offset {
    let before = slice.mask & !(u64::MAX << event);
    slice.first_offset.plus(before.count_ones().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum::CRC;
    use crate::verify::meaning::replay;
    use eventstream_core::batch::{BatchBuilder, Event, Source};
    use eventstream_core::config::Parameters;
    use eventstream_core::id::{Epoch, LogTime, ShardId, Term};
    use eventstream_core::wire::{Frame, MAX_FRAME_LEN, stamp};

    /// Applies a batch of one producer's events to a state, and gives both to `then`.
    fn apply(
        replay: &mut HostReplay,
        sequences: core::ops::Range<u64>,
        then: impl FnOnce(&Batch<'_>, &Outcomes, &HostReplay),
    ) {
        let mut builder = BatchBuilder::new(vec![0; MAX_FRAME_LEN]);
        for sequence in sequences.clone() {
            let source = Source::Producer {
                producer: ProducerId([1; 16]),
                epoch: Epoch(1),
                sequence: Sequence(sequence),
                after_gap: sequence == sequences.start && replay.producer_count() == 0 && sequence > 0,
            };
            let event = Event { topic: "t", source, time_us: 1, key: b"", payload: b"p" };
            builder.push(&event).expect("there is room");
        }
        let (mut bytes, len) = builder.finish(ShardId(0), 0, 1, CRC);
        bytes.truncate(len);
        stamp(&mut bytes, replay.applied().index.next(), Term(1), LogTime(1), CRC);
        let frame = Frame::check(&bytes, CRC).expect("a good frame");
        let mut outcomes = Outcomes::new();
        replay.apply(&(&frame).into(), &mut outcomes).expect("the next entry");
        let batch = Batch::check(frame.payload(), frame.header().event_count).expect("a good batch");
        then(&batch, &outcomes, replay);
    }

    fn found(batches: [core::ops::Range<u64>; 2], is_decided_anew: bool) -> Vec<(Invariant, Option<u64>, Option<u64>)> {
        let (mut oracle, mut findings) = (Oracle::default(), Findings::default());
        let mut state = replay(&Parameters::default());
        for sequences in batches {
            if is_decided_anew {
                state = replay(&Parameters::default());
            }
            apply(&mut state, sequences, |batch, outcomes, state| {
                oracle.check("here", state.applied().index, batch, outcomes, state, &mut findings);
            });
        }
        let place = |place: Place| (place.offset.map(|offset| offset.0), place.sequence.map(|sequence| sequence.0));
        let found = findings.violations.into_iter().map(|one| (one.invariant, place(one.place)));
        found.map(|(invariant, (offset, sequence))| (invariant, offset, sequence)).collect()
    }

    #[test]
    fn what_a_good_state_decides_is_in_order() {
        assert_eq!(found([0..3, 3..6], false), []);
        assert_eq!(found([0..3, 1..6], false), [], "duplicates are not accepted");
        assert_eq!(found([0..3, 5..6], false), [], "a gap is refused");
    }

    /// A state that forgot what it had accepted decides wrongly.
    #[test]
    fn what_a_forgetful_state_decides_is_found() {
        use Invariant::{AcceptedOnce, DenseOffsets};
        assert_eq!(
            found([0..2, 0..1], true),
            [(DenseOffsets, Some(0), None), (AcceptedOnce, Some(0), Some(0))],
            "offset and event are given out again"
        );
        assert_eq!(found([0..2, 2..3], true), [(DenseOffsets, Some(0), None)], "its gap is announced");
    }
}
