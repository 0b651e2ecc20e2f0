//! The state against a model that has no bounds, no tables and no speed: whatever producers send, the outcomes are the
//! same, offsets are dense, and a duplicate's offset is where the very event lies.

extern crate std;

use super::*;
use crate::replica::testing::{HostState, PARAMETERS, TestRun, run, state};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::vec::Vec;

const TOPICS: [&str; 4] = ["a", "b", "c", "one too many"];

#[derive(Default)]
struct Model {
    /// Epoch and next sequence.
    producers: BTreeMap<u8, (u32, u64)>,
    /// Who numbered the event at each offset, and how.
    topics: BTreeMap<&'static str, Vec<(u8, u64)>>,
}

impl Model {
    /// Which of the run's events are accepted.
    fn apply(&mut self, run: &TestRun) -> Vec<bool> {
        let is_known = self.producers.contains_key(&run.producer);
        let (epoch, next) = self.producers.get(&run.producer).copied().unwrap_or((run.epoch, 0));
        let begins = run.first <= next || run.has_gap;
        let has_room = is_known || self.producers.len() < PARAMETERS.producers as usize;
        if run.epoch < epoch || !has_room {
            return vec_of(run, |_| false);
        }
        if is_known {
            self.producers.insert(run.producer, (run.epoch, next));
        }
        let fits = self.topics.contains_key(run.topic) || self.topics.len() < PARAMETERS.topics as usize;
        let accepted = vec_of(run, |sequence| begins && fits && sequence >= next);
        for sequence in (run.first..).zip(&accepted).filter_map(|(sequence, accepted)| accepted.then_some(sequence)) {
            self.topics.entry(run.topic).or_default().push((run.producer, sequence));
            self.producers.insert(run.producer, (run.epoch, sequence + 1));
        }
        accepted
    }
}

fn vec_of(run: &TestRun, is_accepted: impl Fn(u64) -> bool) -> Vec<bool> {
    (run.first..).take(run.count.into()).map(is_accepted).collect()
}

/// A run that begins some events before or after the one that is expected.
fn any_run() -> impl Strategy<Value = (usize, u8, u32, i64, u16, bool)> {
    let topic = prop_oneof![8 => 0..3_usize, 1 => Just(3)];
    let producer = prop_oneof![8 => 1..5_u8, 1 => Just(5)];
    let epoch = prop_oneof![9 => Just(1_u32), 1 => 2..4_u32];
    let ahead = prop_oneof![6 => Just(0_i64), 3 => -9..0_i64, 1 => 1..3_i64];
    (topic, producer, epoch, ahead, 1..6_u16, prop::bool::weighted(0.1))
}

fn check_receipt(model: &Model, run: &TestRun, receipt: &RunReceipt) {
    let Some(first) = receipt.duplicate_offset else { return };
    for nth in 0..u64::from(receipt.duplicates) {
        let event = model.topics[run.topic][(first.0 + nth) as usize];
        assert_eq!(event, (run.producer, run.first + nth), "the offset of a duplicate is that of its original");
    }
}

fn check_state(model: &Model, state: &HostState) {
    for topic in state.topics.iter() {
        assert_eq!(topic.next_offset().0 as usize, model.topics[topic.name()].len());
    }
    assert_eq!(state.topics.len() as usize, model.topics.len());
    assert_eq!(state.producers.len() as usize, model.producers.len());
    for producer in state.producers.iter() {
        let expected = model.producers[&producer.id().0[0]];
        assert_eq!((producer.epoch().0, producer.next_sequence().0), expected);
    }
}

proptest! {
    #[test]
    fn outcomes_are_those_of_the_model(batches in prop::collection::vec(prop::collection::vec(any_run(), 1..5), 1..60)) {
        let (mut model, mut state, mut slices) = (Model::default(), state(), BTreeMap::<u32, u64>::new());
        for drawn in batches {
            let mut runs: Vec<TestRun> = Vec::new();
            let mut accepted = Vec::new();
            for (topic, producer, epoch, ahead, count, has_gap) in drawn {
                let next = model.producers.get(&producer).map_or(0, |&(_, next)| next);
                let run = TestRun {
                    epoch,
                    has_gap,
                    ..run(TOPICS[topic], producer, next.saturating_add_signed(ahead), count)
                };
                // A builder makes one run of two that continue one another.
                if let Some(last) = runs.last_mut().filter(|last: &&mut TestRun| {
                    (last.topic, last.producer, last.epoch) == (run.topic, run.producer, run.epoch)
                        && last.first + u64::from(last.count) == run.first
                        && !has_gap
                }) {
                    last.count += count;
                } else {
                    runs.push(run);
                }
                accepted.extend(model.apply(&run));
            }
            let outcomes = state.apply_runs(&runs);
            let mask = accepted.iter().enumerate().map(|(nth, &accepted)| u64::from(accepted) << nth).sum::<u64>();
            prop_assert_eq!(outcomes.accepted_mask(), mask);
            for (run, receipt) in runs.iter().zip(outcomes.runs()) {
                check_receipt(&model, run, receipt);
            }
            for slice in outcomes.topics() {
                let end = slices.entry(slice.topic.0).or_default();
                prop_assert_eq!(slice.first_offset.0, *end);
                *end += u64::from(slice.count());
            }
            check_state(&model, &state);
        }
    }
}
