//! Applying: outcomes, refusals, errors, the hash. What the rules of deduplication are is tested in `dedup`.

extern crate std;

use super::*;
use crate::batch::{Event, Source};
use crate::config::EPOCHS_SET_ASIDE;
use crate::dedup::{OpenRefusal, Opened};
use crate::id::{Epoch, ProducerId, Sequence, Term};
use crate::replica::TopicSlice;
use crate::replica::testing::{
    HostState, PARAMETERS, TestRun, batch, batch_with_event_id, build, refused, run, state, state_with,
};
use std::string::String;
use std::vec;

fn slice(topic: u32, first_offset: u64, mask: u64) -> TopicSlice {
    TopicSlice { topic: TopicId(topic), first_offset: Offset(first_offset), mask }
}

fn ends(state: &HostState) -> std::vec::Vec<(&str, u64)> {
    state.topics.iter().map(|topic| (topic.name(), topic.next_offset().0)).collect()
}

#[test]
fn a_batch_of_one_run_is_accepted_whole() {
    let mut state = state();
    let outcomes = state.apply_runs(&[run("a", 1, 0, 64)]);
    assert_eq!(outcomes.accepted_mask(), u64::MAX);
    assert_eq!(outcomes.runs(), [RunReceipt::accepted(64, Offset(0))]);
    assert_eq!(outcomes.topics(), [slice(0, 0, u64::MAX)]);
    assert_eq!((ends(&state), state.events), (vec![("a", 64)], 64));
}

#[test]
fn every_event_may_be_a_run_of_its_own() {
    let mut state = state();
    let runs: [_; 64] = core::array::from_fn(|n| run(["a", "b"][n % 2], 1, n as u64, 1));
    let outcomes = state.apply_runs(&runs);
    assert_eq!(outcomes.runs().len(), 64);
    assert_eq!(outcomes.runs()[63], RunReceipt::accepted(1, Offset(31)));
    assert_eq!(outcomes.topics(), [slice(0, 0, u64::MAX / 3), slice(1, 0, u64::MAX / 3 * 2)]);
}

#[test]
fn offsets_are_dense_where_runs_of_a_topic_are_apart() {
    let mut state = state();
    state.apply_one(run("a", 3, 0, 5));
    let outcomes = state.apply_runs(&[run("a", 1, 0, 2), run("b", 2, 0, 1), run("a", 2, 1, 3)]);
    assert_eq!(outcomes.accepted_mask(), 0b11_1111);
    assert_eq!(outcomes.topics(), [slice(0, 5, 0b11_1011), slice(1, 0, 0b100)]);
    assert_eq!(outcomes.runs()[2], RunReceipt::accepted(3, Offset(7)));
    assert_eq!(ends(&state), [("a", 10), ("b", 1)]);
}

#[test]
fn the_mask_leaves_out_duplicates_and_what_was_refused() {
    let mut state = state();
    state.apply_one(run("a", 1, 0, 2));
    let outcomes = state.apply_runs(&[run("a", 1, 1, 3), run("a", 2, 7, 2), run("b", 3, 0, 1)]);
    assert_eq!(outcomes.accepted_mask(), 0b10_0110);
    let partial = RunReceipt {
        duplicates: 1,
        duplicate_offset: Some(Offset(1)),
        accepted: 2,
        first_offset: Offset(2),
        refused: None,
    };
    let unknown = refused(RunRefusal::ProducerUnknown);
    assert_eq!(outcomes.runs(), [partial, unknown, RunReceipt::accepted(1, Offset(0))]);
    assert_eq!(outcomes.topics(), [slice(0, 2, 0b110), slice(1, 0, 0b10_0000)]);
}

#[test]
fn a_batch_of_duplicates_leaves_no_trace_in_any_topic() {
    let mut state = state();
    state.apply_one(run("a", 1, 0, 2));
    let outcomes = state.apply_runs(&[run("a", 1, 0, 2)]);
    assert_eq!((outcomes.accepted_mask(), outcomes.topics()), (0, &[][..]));
    assert_eq!((ends(&state), state.events), (vec![("a", 2)], 2));
}

#[test]
fn one_producer_may_have_several_runs_in_a_batch() {
    let mut state = state();
    let again = run("a", 1, 0, 2);
    let outcomes = state.apply_runs(&[run("a", 1, 0, 2), again, run("b", 1, 2, 1), run("a", 1, 3, 1)]);
    let duplicate = RunReceipt {
        duplicates: 2,
        duplicate_offset: Some(Offset(0)),
        accepted: 0,
        first_offset: Offset(0),
        refused: None,
    };
    assert_eq!(outcomes.runs()[..2], [RunReceipt::accepted(2, Offset(0)), duplicate]);
    assert_eq!(outcomes.accepted_mask(), 0b11_0011);
    assert_eq!(ends(&state), [("a", 3), ("b", 1)]);
}

#[test]
fn event_ids_are_refused_while_there_is_no_table_of_them() {
    let outcomes = state().apply_payload(&batch_with_event_id());
    assert_eq!(outcomes.runs(), [refused(RunRefusal::EventIdsOff)]);
    assert_eq!(outcomes.accepted_mask(), 0);
}

#[test]
fn a_topic_beyond_the_last_is_refused_and_its_producer_not_moved() {
    let mut state = state();
    state.apply_runs(&[run("a", 1, 0, 1), run("b", 1, 1, 1), run("c", 1, 2, 1)]);
    assert_eq!(state.apply_one(run("d", 1, 3, 2)), refused(RunRefusal::TopicTableFull));
    assert_eq!(state.apply_one(run("d", 2, 0, 2)), refused(RunRefusal::TopicTableFull));
    assert_eq!(state.producers.len(), 1);
    assert_eq!(state.apply_one(run("c", 1, 3, 2)), RunReceipt::accepted(2, Offset(1)));
    // Duplicates are told even where the rest is refused.
    let partial = state.apply_one(run("d", 1, 4, 2));
    assert_eq!((partial.duplicates, partial.duplicate_offset), (1, None));
    assert_eq!(partial.refused, Some(RunRefusal::TopicTableFull));
}

#[test]
fn a_producer_beyond_the_last_is_refused_and_makes_no_topic() {
    let mut state = state();
    state.apply_runs(&[run("a", 1, 0, 1), run("a", 2, 0, 1), run("a", 3, 0, 1), run("a", 4, 0, 1)]);
    assert_eq!(state.apply_one(run("b", 5, 0, 1)), refused(RunRefusal::ProducerTableFull));
    assert_eq!(ends(&state), [("a", 4)]);
}

#[test]
fn an_event_above_the_clusters_limit_is_refused_with_its_run() {
    let mut state = state_with(Parameters { event_payload: 100, ..PARAMETERS });
    let with_payloads = |first: u64, lengths: &[usize]| {
        build(|push| {
            for (sequence, &len) in (first..).zip(lengths) {
                let producer = ProducerId([1; 16]);
                let source =
                    Source::Producer { producer, epoch: Epoch(1), sequence: Sequence(sequence), after_gap: false };
                push(&Event { topic: "a", source, time_us: 1, key: b"", payload: &vec![7; len] });
            }
        })
    };
    let too_large = refused(RunRefusal::EventTooLarge { limit: 100 });
    assert_eq!(state.apply_payload(&with_payloads(0, &[10, 101])).runs(), [too_large]);
    assert!(state.producers.is_empty());
    assert_eq!(state.apply_payload(&with_payloads(0, &[100, 100])).accepted_mask(), 0b11);
    // What is there already stays a duplicate, and says nothing about the rest.
    let outcomes = state.apply_payload(&with_payloads(1, &[100, 101]));
    let receipt = outcomes.runs()[0];
    assert_eq!((receipt.duplicates, receipt.duplicate_offset, receipt.accepted), (1, Some(Offset(1)), 0));
    assert_eq!(receipt.refused, Some(RunRefusal::EventTooLarge { limit: 100 }));
}

#[test]
fn a_command_opens_a_producer_and_fences_its_last_life() {
    let mut state = state();
    state.apply_one(run("a", 1, 0, 3));
    let open = |producer| Command::OpenProducer { producer: ProducerId([producer; 16]) };
    let opened = |epoch, next| {
        Some(CommandOutcome::OpenProducer(Ok(Opened { epoch: Epoch(epoch), next_sequence: Sequence(next) })))
    };
    assert_eq!(state.apply_command_entry(open(1)).command(), opened(2, 3));
    assert_eq!(state.apply_one(run("a", 1, 3, 1)), refused(RunRefusal::Fenced { epoch: Epoch(2) }));
    for producer in 2..=4 {
        assert_eq!(state.apply_command_entry(open(producer)).command(), opened(1, 0));
    }
    let full = Some(CommandOutcome::OpenProducer(Err(OpenRefusal::ProducerTableFull)));
    assert_eq!(state.apply_command_entry(open(5)).command(), full);
    assert_eq!(state.apply_runs(&[run("a", 2, 0, 1)]).command(), None, "outcomes are of one entry");
}

/// How many producers the next entry evicts.
fn evict(state: &mut HostState, before: u64) -> u32 {
    match state.apply_command_entry(Command::EvictProducers { before: LogTime(before) }).command() {
        Some(CommandOutcome::EvictProducers { evicted }) => evicted,
        other => panic!("{other:?}"),
    }
}

#[test]
fn nobody_is_evicted_within_the_idle_time_whatever_a_command_says() {
    let mut state = state();
    // Entries are 10 apart, and who was silent for more than 100 is idle.
    for producer in 1..=4 {
        state.apply_one(run("a", producer, 0, 1));
    }
    (0..7).for_each(|_| _ = state.apply_one(run("a", 9, 1, 1)));
    assert_eq!(evict(&mut state, u64::MAX), 1, "at 120, who was heard of at 10");
    assert_eq!(evict(&mut state, 20), 0, "what a command says is kept to as well");
    assert_eq!(evict(&mut state, 31), 2, "at 140, who was heard of at 20 and 30");
    let unknown = refused(RunRefusal::ProducerUnknown);
    assert_eq!([1, 2, 3].map(|producer| state.apply_one(run("a", producer, 1, 1))), [unknown; 3]);
    assert_eq!(state.apply_one(run("a", 4, 1, 1)), RunReceipt::accepted(1, Offset(4)));
}

#[test]
fn who_was_evicted_and_who_is_new_make_room_for_each_other() {
    let mut state = state();
    for producer in 1..=4 {
        state.apply_one(run("a", producer, 0, 1));
    }
    let epoch = 2 + EPOCHS_SET_ASIDE;
    let later = TestRun { epoch, ..run("a", 5, 0, 1) };
    assert_eq!(state.apply_one(later), refused(RunRefusal::ProducerTableFull));
    (0..10).for_each(|_| _ = state.apply_one(run("a", 4, 0, 1)));
    assert_eq!(evict(&mut state, u64::MAX), 3);
    assert_eq!(state.apply_one(later), RunReceipt::accepted(1, Offset(4)));
    let open = Command::OpenProducer { producer: ProducerId([1; 16]) };
    let opened = Ok(Opened { epoch: Epoch(epoch), next_sequence: Sequence(0) });
    assert_eq!(state.apply_command_entry(open).command(), Some(CommandOutcome::OpenProducer(opened)));
}

#[test]
fn what_cannot_be_applied_changes_nothing() {
    let mut state = state();
    state.apply_one(run("a", 1, 0, 1));
    let (payload, count) = batch(&[run("a", 1, 1, 2)]);
    let good = state.next_entry(Kind::Batch, count, &payload);
    let at = |index, term| LogPosition { index: Index(index), term: Term(term) };
    let wrong = [
        (Entry { position: at(1, 1), ..good }, ApplyError::OutOfOrder { expected: Index(2) }),
        (Entry { position: at(3, 1), ..good }, ApplyError::OutOfOrder { expected: Index(2) }),
        (Entry { position: at(2, 0), ..good }, ApplyError::TermDecreases),
        (Entry { log_time: LogTime(9), ..good }, ApplyError::LogTimeDecreases),
        (Entry { kind: Kind::Configuration, ..good }, ApplyError::Configuration(ConfigurationError::Malformed)),
        (Entry { kind: Kind::Ping, ..good }, ApplyError::Unsupported { kind: Kind::Ping }),
        (Entry { event_count: 3, ..good }, ApplyError::Batch(BatchError::EventCount)),
        (Entry { payload: &payload[..20], ..good }, ApplyError::Batch(BatchError::Truncated)),
        (Entry { kind: Kind::Command, payload: &[9], ..good }, ApplyError::Command(CommandError::Malformed)),
    ];
    let before = (state.hash(), state.applied, state.log_time);
    let mut outcomes = Outcomes::new();
    for (entry, error) in wrong {
        assert_eq!(state.apply(&entry, &mut outcomes), Err(error));
        assert_eq!((state.hash(), state.applied, state.log_time), before);
    }
    assert_eq!(state.apply(&good, &mut outcomes), Ok(()));
    assert_ne!(state.hash(), before.0);
}

#[test]
fn the_hash_tells_every_difference() {
    let event = |topic, key, payload| {
        let (bytes, count) = build(|push| {
            let producer = ProducerId([1; 16]);
            let source = Source::Producer { producer, epoch: Epoch(1), sequence: Sequence(0), after_gap: false };
            push(&Event { topic, source, time_us: 1, key, payload });
        });
        let mut state = state();
        let entry = state.next_entry(Kind::Batch, count, &bytes);
        state.apply(&entry, &mut Outcomes::new()).unwrap();
        state.hash()
    };
    let hashes = [event("a", b"k", b"p"), event("b", b"k", b"p"), event("a", b"kp", b""), event("a", b"k", b"q")];
    for (nth, hash) in hashes.iter().enumerate() {
        assert!(!hashes[..nth].contains(hash), "{nth}");
    }
    assert_eq!(event("a", b"k", b"p"), hashes[0]);

    let (mut one, mut other) = (state(), state());
    let mut entry = one.next_entry(Kind::Empty, 0, &[]);
    one.apply(&entry, &mut Outcomes::new()).unwrap();
    entry.log_time = entry.log_time.next();
    other.apply(&entry, &mut Outcomes::new()).unwrap();
    assert_ne!(one.hash(), other.hash(), "log time is state: it decides what expires");
}

#[test]
fn memory_that_is_too_small_is_named() {
    let memory = |producers, topics| crate::replica::Lent {
        producers: vec![crate::dedup::ProducerSlot::EMPTY; producers],
        topics: vec![crate::replica::TopicSlot::EMPTY; topics],
    };
    let error = |producers, topics| match State::new(PARAMETERS, 0, memory(producers, topics)) {
        Ok(_) => String::new(),
        Err(error) => std::format!("{error}"),
    };
    assert_eq!(error(4, 3), "");
    assert_eq!(error(3, 3), "memory for 3 producers, but the cluster may have 4");
    assert_eq!(error(4, 0), "memory for 0 topics, but the cluster may have 3");
}

/// The planted mistake does what it says: a batch that was proposed twice before it was applied is accepted twice.
#[cfg(feature = "planted-faults")]
#[test]
fn a_leader_that_decides_when_it_proposes_accepts_twice() {
    let (payload, count) = batch(&[run("a", 1, 0, 2)]);
    let proposed = Batch::check(&payload, count).unwrap();
    let mut state = state();
    for index in [1, 2] {
        state.decide_too_early(LogPosition { index: Index(index), term: Term(1) }, &proposed);
    }
    for offset in [0, 2] {
        assert_eq!(state.apply_one(run("a", 1, 0, 2)), RunReceipt::accepted(2, Offset(offset)));
    }
    assert_eq!(state.apply_one(run("a", 1, 0, 2)).duplicates, 2, "what was not proposed here is decided properly");
}
