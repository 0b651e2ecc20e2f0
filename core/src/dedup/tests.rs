//! Every rule of design section 5, one test each.

extern crate std;

use super::*;
use crate::config::REMEMBERED_RUNS;
use std::boxed::Box;
use std::vec;

const TOPIC: TopicId = TopicId(0);
const OTHER_TOPIC: TopicId = TopicId(1);
const PRODUCER: ProducerId = ProducerId([7; 16]);

fn claim(first: u64, count: u16) -> Claim {
    Claim { producer: PRODUCER, epoch: Epoch(1), first: Sequence(first), count, has_gap: false }
}

fn of(producer: u8, claim: Claim) -> Claim {
    Claim { producer: ProducerId([producer; 16]), ..claim }
}

fn in_epoch(epoch: u32, claim: Claim) -> Claim {
    Claim { epoch: Epoch(epoch), ..claim }
}

fn after_gap(claim: Claim) -> Claim {
    Claim { has_gap: true, ..claim }
}

/// Producers, and topics that take whatever is accepted.
struct Log {
    producers: Producers<Box<[ProducerSlot]>>,
    next_offset: [u64; 2],
    now: LogTime,
}

/// (duplicates, offset of the first, accepted, refusal)
type Answer = (u16, Option<u64>, u16, Option<RunRefusal>);

impl Log {
    fn new(limit: u32) -> Self {
        let memory = vec![ProducerSlot::EMPTY; limit as usize].into();
        Self { producers: Producers::new(memory, limit, 1).unwrap(), next_offset: [0; 2], now: LogTime(0) }
    }

    fn apply(&mut self, claim: Claim) -> Answer {
        self.apply_to(TOPIC, claim)
    }

    fn apply_to(&mut self, topic: TopicId, claim: Claim) -> Answer {
        let verdict = self.producers.judge(&claim);
        let original = self.producers.original_offset(&claim, &verdict, topic);
        let next = &mut self.next_offset[topic.0 as usize];
        let accepted = (verdict.fresh > 0).then_some((topic, Offset(*next)));
        *next += u64::from(verdict.fresh);
        self.producers.record(&claim, &verdict, accepted, self.now);
        (verdict.duplicates, original.map(|offset| offset.0), verdict.fresh, verdict.refusal)
    }

    /// The same at a later time.
    fn at(&mut self, now: u64) -> &mut Self {
        self.now = LogTime(now);
        self
    }

    fn producer(&self) -> &Producer {
        self.producers.find(PRODUCER).unwrap()
    }
}

fn accepted(count: u16) -> Answer {
    (0, None, count, None)
}

fn duplicates(count: u16, offset: u64) -> Answer {
    (count, Some(offset), 0, None)
}

fn refused(reason: RunRefusal) -> Answer {
    (0, None, 0, Some(reason))
}

#[test]
fn the_sequence_after_the_highest_is_accepted() {
    let mut log = Log::new(1);
    assert_eq!(log.apply(claim(0, 3)), accepted(3));
    assert_eq!(log.apply(claim(3, 1)), accepted(1));
    assert_eq!(log.producer().next_sequence(), Sequence(4));
}

#[test]
fn at_or_below_the_highest_is_a_duplicate_with_its_original_offset() {
    let mut log = Log::new(2);
    log.apply(of(1, claim(0, 10)));
    assert_eq!(log.apply(claim(0, 3)), accepted(3));
    assert_eq!(log.apply(claim(0, 3)), duplicates(3, 10));
    assert_eq!(log.apply(claim(2, 1)), duplicates(1, 12));
    assert_eq!(log.producer().next_sequence(), Sequence(3));
}

#[test]
fn a_partial_overlap_accepts_what_is_new() {
    let mut log = Log::new(1);
    log.apply(claim(0, 5));
    assert_eq!(log.apply(claim(3, 4)), (2, Some(3), 2, None));
    assert_eq!(log.producer().next_sequence(), Sequence(7));
    assert_eq!(log.apply(claim(0, 7)), duplicates(7, 0));
}

#[test]
fn above_the_highest_is_a_gap_and_changes_nothing() {
    let mut log = Log::new(1);
    log.apply(claim(0, 5));
    let before = *log.producer();
    assert_eq!(log.apply(claim(6, 1)), refused(RunRefusal::SequenceGap { expected: Sequence(5) }));
    assert_eq!(*log.producer(), before);
    assert_eq!(log.apply(claim(5, 1)), accepted(1));
}

#[test]
fn a_gap_that_the_producer_owns_up_to_is_accepted_and_counted() {
    let mut log = Log::new(1);
    log.apply(claim(0, 5));
    assert_eq!(log.apply(after_gap(claim(8, 2))), accepted(2));
    assert_eq!(log.producer().dropped(), 3);
    // The flag stays on a run that is sent again; what is there stays a duplicate.
    assert_eq!(log.apply(after_gap(claim(8, 2))), duplicates(2, 5));
    assert_eq!(log.apply(after_gap(claim(10, 1))), accepted(1));
    assert_eq!(log.producer().dropped(), 3);
    // What was dropped is below the highest now, and was never given an offset.
    assert_eq!(log.apply(claim(5, 3)), (3, None, 0, None));
}

#[test]
fn an_unknown_producer_begins_at_its_first_sequence() {
    let mut log = Log::new(1);
    assert_eq!(log.apply(claim(4, 1)), refused(RunRefusal::ProducerUnknown));
    assert!(log.producers.is_empty());
    assert_eq!(log.apply(claim(0, 1)), accepted(1));
}

#[test]
fn an_unknown_producer_may_resume_by_saying_that_events_are_missing() {
    let mut log = Log::new(1);
    assert_eq!(log.apply(after_gap(claim(4, 1))), accepted(1));
    assert_eq!(log.producer().next_sequence(), Sequence(5));
    assert_eq!(log.producer().dropped(), 4);
}

#[test]
fn a_lower_epoch_is_fenced_whatever_it_sends() {
    let mut log = Log::new(1);
    log.apply(in_epoch(3, claim(0, 5)));
    let fenced = refused(RunRefusal::Fenced { epoch: Epoch(3) });
    for claim in [claim(5, 1), claim(0, 1), claim(9, 1), after_gap(claim(9, 1))] {
        assert_eq!(log.apply(in_epoch(2, claim)), fenced);
    }
    assert_eq!(log.apply(in_epoch(3, claim(5, 1))), accepted(1));
}

#[test]
fn a_higher_epoch_fences_the_old_life_and_continues_its_numbers() {
    let mut log = Log::new(1);
    log.apply(claim(0, 5));
    assert_eq!(log.apply(in_epoch(2, claim(3, 4))), (2, Some(3), 2, None));
    assert_eq!(log.apply(claim(7, 1)), refused(RunRefusal::Fenced { epoch: Epoch(2) }));
    assert_eq!(log.apply(in_epoch(2, claim(7, 1))), accepted(1));
}

#[test]
fn a_higher_epoch_fences_even_if_its_run_is_refused_or_a_duplicate() {
    for first in [9, 0] {
        let mut log = Log::new(1);
        log.apply(claim(0, 5));
        assert_eq!(log.apply(in_epoch(2, claim(first, 1))).2, 0);
        assert_eq!(log.apply(claim(5, 1)), refused(RunRefusal::Fenced { epoch: Epoch(2) }));
    }
}

#[test]
fn opening_gives_every_life_an_epoch_of_its_own_and_the_number_to_go_on_from() {
    let mut log = Log::new(1);
    let opened = |epoch, next| Ok(Opened { epoch: Epoch(epoch), next_sequence: Sequence(next) });
    assert_eq!(log.producers.open(PRODUCER, log.now), opened(1, 0));
    assert_eq!(log.apply(claim(0, 5)), accepted(5));
    assert_eq!(log.producers.open(PRODUCER, log.now), opened(2, 5));
    assert_eq!(log.apply(claim(5, 1)), refused(RunRefusal::Fenced { epoch: Epoch(2) }));
    assert_eq!(log.apply(in_epoch(2, claim(5, 1))), accepted(1));
    assert_eq!(log.producers.open(ProducerId([9; 16]), log.now), Err(OpenRefusal::ProducerTableFull));
}

#[test]
fn the_last_epoch_cannot_be_followed() {
    let mut log = Log::new(1);
    log.apply(in_epoch(u32::MAX, claim(0, 1)));
    assert_eq!(log.producers.open(PRODUCER, log.now), Err(OpenRefusal::EpochsExhausted));
    assert_eq!(log.apply(in_epoch(u32::MAX, claim(1, 1))), accepted(1));
}

#[test]
fn a_full_table_refuses_new_producers_and_keeps_every_old_one() {
    let mut log = Log::new(2);
    log.apply(of(1, claim(0, 1)));
    log.apply(of(2, claim(0, 1)));
    assert_eq!(log.apply(of(3, claim(0, 1))), refused(RunRefusal::ProducerTableFull));
    assert_eq!(log.apply(of(1, claim(1, 1))), accepted(1));
    assert_eq!(log.apply(of(2, claim(0, 1))), duplicates(1, 1));
    // Not even a full table makes a stranger in the middle of its numbers welcome later.
    assert_eq!(log.apply(of(3, claim(5, 1))), refused(RunRefusal::ProducerUnknown));
}

#[test]
fn offsets_are_remembered_for_the_last_runs_and_no_longer() {
    let mut log = Log::new(2);
    let runs = REMEMBERED_RUNS as u64 + 1;
    for run in 0..runs {
        log.apply(claim(2 * run, 2));
        // Somebody else's event comes between, so that no two runs are one span.
        log.apply(of(1, claim(run, 1)));
    }
    assert_eq!(log.apply(claim(0, 2)), (2, None, 0, None));
    for run in 1..runs {
        assert_eq!(log.apply(claim(2 * run, 2)), duplicates(2, 3 * run));
        assert_eq!(log.apply(claim(2 * run + 1, 1)), duplicates(1, 3 * run + 1));
    }
    // Duplicates whose offsets are not consecutive cannot be told by the first of them.
    assert_eq!(log.apply(claim(2 * (runs - 2), 4)), (4, None, 0, None));
}

#[test]
fn runs_that_nothing_came_between_are_remembered_as_one() {
    let mut log = Log::new(1);
    for sequence in 0..100 {
        log.apply(claim(sequence, 1));
    }
    assert_eq!(log.apply(claim(0, 64)), duplicates(64, 0));
    // A gap between them is something.
    log.apply(after_gap(claim(101, 1)));
    assert_eq!(log.apply(claim(101, 1)), duplicates(1, 100));
    assert_eq!(log.apply(claim(99, 3)), (3, None, 0, None));
}

#[test]
fn one_producer_numbers_across_topics() {
    let mut log = Log::new(1);
    assert_eq!(log.apply_to(TOPIC, claim(0, 2)), accepted(2));
    assert_eq!(log.apply_to(OTHER_TOPIC, claim(2, 3)), accepted(3));
    assert_eq!(log.apply_to(TOPIC, claim(5, 1)), accepted(1));
    assert_eq!(log.apply_to(OTHER_TOPIC, claim(2, 3)), duplicates(3, 0));
    assert_eq!(log.apply_to(TOPIC, claim(5, 1)), duplicates(1, 2));
    // Sent again to another topic, it is a duplicate still, and has no offset there.
    assert_eq!(log.apply_to(OTHER_TOPIC, claim(5, 1)), (1, None, 0, None));
}

#[test]
fn what_the_topic_refused_is_not_counted_as_seen() {
    let mut log = Log::new(1);
    log.apply(claim(0, 1));
    let refused = claim(1, 2);
    let verdict = log.producers.judge(&refused);
    assert_eq!(verdict.fresh, 2);
    log.producers.record(&refused, &verdict, None, log.now);
    assert_eq!(log.apply(claim(1, 2)), accepted(2));
}

#[test]
fn a_stranger_of_whom_nothing_was_accepted_takes_no_room() {
    let mut log = Log::new(1);
    let refused = of(1, claim(0, 2));
    let verdict = log.producers.judge(&refused);
    log.producers.record(&refused, &verdict, None, log.now);
    assert!(log.producers.is_empty());
    assert_eq!(log.apply(of(2, claim(0, 2))), accepted(2));
}

#[test]
fn rows_survive_serialisation() {
    let mut log = Log::new(2);
    for run in 0..12 {
        log.apply(claim(run, 1));
        log.apply(of(1, claim(run, 1)));
    }
    let mut bytes = [0; 400];
    let written = postcard::to_slice(log.producer(), &mut bytes).unwrap();
    assert_eq!(postcard::from_bytes::<Producer>(written).as_ref(), Ok(log.producer()));
}

fn knows(log: &Log, producer: u8) -> bool {
    log.producers.find(ProducerId([producer; 16])).is_some()
}

#[test]
fn who_was_heard_of_last_before_a_time_is_evicted_and_nobody_else() {
    let mut log = Log::new(4);
    for (now, producer) in [(10, 1), (20, 2), (30, 3)] {
        log.at(now).apply(of(producer, claim(0, 1)));
    }
    log.at(35).producers.open(ProducerId([4; 16]), LogTime(35)).unwrap();
    assert_eq!(log.producers.oldest(), Some(LogTime(10)));
    assert_eq!(log.producers.evict(LogTime(10)), 0, "not who was heard of at that very time");
    assert_eq!(log.producers.evict(LogTime(30)), 2);
    assert_eq!([1, 2, 3, 4].map(|producer| knows(&log, producer)), [false, false, true, true]);
    assert_eq!((log.producers.len(), log.producers.room()), (2, 2));
}

#[test]
fn a_producer_is_heard_of_by_duplicates_and_gaps_but_not_by_an_earlier_life() {
    let mut log = Log::new(1);
    log.at(10).apply(in_epoch(2, claim(0, 5)));
    let heard_at = |log: &Log| log.producer().heard_at().0;
    assert_eq!(log.at(20).apply(in_epoch(2, claim(0, 5))).0, 5);
    assert_eq!(heard_at(&log), 20);
    assert_eq!(log.at(30).apply(in_epoch(2, claim(7, 1))), refused(RunRefusal::SequenceGap { expected: Sequence(5) }));
    assert_eq!(heard_at(&log), 30);
    assert_eq!(log.at(40).apply(claim(5, 1)), refused(RunRefusal::Fenced { epoch: Epoch(2) }));
    assert_eq!(heard_at(&log), 30);
    log.at(50).producers.open(PRODUCER, LogTime(50)).unwrap();
    assert_eq!(heard_at(&log), 50);
}

#[test]
fn nothing_of_an_evicted_producer_is_taken_before_it_was_opened() {
    let mut log = Log::new(2);
    log.apply(in_epoch(3, claim(0, 5)));
    log.producers.evict(LogTime(1));
    let unknown = refused(RunRefusal::ProducerUnknown);
    // Going on, the very same events, a gap, a life of its own choice that others have used up.
    for claim in [claim(5, 1), claim(0, 5), after_gap(claim(9, 1)), claim(0, 1)] {
        // In its last life, in an earlier one, and in the last that it may have begun without being heard.
        for epoch in [3, 1, 3 + EPOCHS_SET_ASIDE] {
            assert_eq!(log.apply(in_epoch(epoch, claim)), unknown);
        }
    }
    assert!(log.producers.is_empty());
    // It is told an epoch that nobody had, and goes on with its numbers by saying that the cluster does not know the others.
    let opened = log.producers.open(PRODUCER, log.now);
    let epoch = 4 + EPOCHS_SET_ASIDE;
    assert_eq!(opened, Ok(Opened { epoch: Epoch(epoch), next_sequence: Sequence(0) }));
    assert_eq!(log.apply(in_epoch(epoch - 1, claim(0, 5))), refused(RunRefusal::Fenced { epoch: Epoch(epoch) }));
    let gap = refused(RunRefusal::SequenceGap { expected: Sequence(0) });
    assert_eq!(log.apply(in_epoch(epoch, claim(5, 1))), gap);
    assert_eq!(log.apply(in_epoch(epoch, after_gap(claim(5, 1)))), accepted(1));
    assert_eq!((log.producer().next_sequence(), log.producer().dropped()), (Sequence(6), 5));
}

#[test]
fn who_is_new_begins_above_the_epochs_of_all_that_were_evicted() {
    let mut log = Log::new(2);
    log.apply(in_epoch(7, claim(0, 1)));
    log.apply(of(1, in_epoch(2, claim(0, 1))));
    log.producers.evict(LogTime(1));
    let last = 7 + EPOCHS_SET_ASIDE;
    assert_eq!(log.producers.evicted(), Epoch(last));
    assert_eq!(log.apply(of(2, in_epoch(last, claim(0, 1)))), refused(RunRefusal::ProducerUnknown));
    assert_eq!(log.apply(of(2, in_epoch(last + 1, claim(0, 1)))), accepted(1));
    assert_eq!(log.producers.open(ProducerId([3; 16]), log.now).map(|opened| opened.epoch.0), Ok(last + 1));
}

#[test]
fn the_highest_epochs_are_not_evicted_lest_none_be_left() {
    let mut log = Log::new(3);
    let last = crate::config::MAX_EVICTED_EPOCH.0;
    log.apply(of(1, in_epoch(last, claim(0, 1))));
    log.apply(of(2, in_epoch(last + 1, claim(0, 1))));
    assert_eq!(log.producers.evict(LogTime(1)), 1);
    assert_eq!((knows(&log, 2), log.producers.oldest()), (true, None));
    assert_eq!(
        log.producers.open(ProducerId([3; 16]), log.now).map(|opened| opened.epoch.0),
        Ok(last + 1 + EPOCHS_SET_ASIDE)
    );
}
