use super::*;
use crate::checksum::CRC;
use eventstream_core::id::{Index, Term};
use eventstream_core::receipt::Durability;
use eventstream_core::wire::{Batch, Frame, Kind};

mod model;

const LIMITS: Limits = Limits { events: 1_000, bytes: 1 << 20, patience: Duration::from_secs(5) };
const PLACE: Place = Place { index: Index(7), term: Term(3), durability: Durability::Majority };
const T0: Instant = Instant::from_micros(1_000_000);

type Named = Window<&'static str>;

/// A window that has been connected, whose producer has `opened_at` events in the log and begins at `first`.
fn window_from(opened_at: u64, first: u64) -> Named {
    let numbering = Numbering {
        producer: ProducerId([9; 16]),
        epoch: Epoch(1),
        opened_at: Sequence(opened_at),
        first: Sequence(first),
    };
    let mut window = Window::new(numbering, LIMITS, 1);
    window.handle_connected();
    window
}

fn window() -> Named {
    window_from(0, 0)
}

fn push(window: &mut Named, now: Instant, payload: &str) {
    window.push(now, 5, ("t", b"", payload.as_bytes()), &mut None).expect("room");
}

fn push_many(window: &mut Named, now: Instant, count: usize) {
    (0..count).for_each(|_| push(window, now, "x"));
}

/// What left: the id of the transmission, the first sequence and the number of events.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sent {
    id: u64,
    first: u64,
    events: u16,
    payload: Vec<u8>,
}

fn transmit(window: &mut Named, now: Instant) -> Vec<Sent> {
    let mut sent = Vec::new();
    let mut out = Vec::new();
    while window.poll_transmit(now, 5, usize::MAX, &mut out) {
        let frame = Frame::check(&out, CRC).expect("a good frame");
        assert_eq!((frame.header().kind, frame.header().term), (Kind::Batch, Term::ZERO));
        let batch = Batch::check(frame.payload(), frame.header().event_count).expect("a good batch");
        let first = batch.runs().next().expect("a run").head().first_sequence;
        let (id, events, payload) = (frame.header().batch_id, frame.header().event_count, frame.payload().to_vec());
        sent.push(Sent { id, first: first.0, events, payload });
        out.clear();
    }
    sent
}

fn places(sent: &[Sent]) -> Vec<(u64, u16)> {
    sent.iter().map(|sent| (sent.first, sent.events)).collect()
}

fn accept(window: &mut Named, now: Instant, sent: &Sent, offset: u64) {
    let runs = [RunReceipt::accepted(sent.events, Offset(offset))];
    window.handle_receipt(now, sent.id, PLACE, &runs).expect("a fitting receipt");
}

fn refuse(window: &mut Named, now: Instant, sent: &Sent, reason: RunRefusal) {
    window.handle_receipt(now, sent.id, PLACE, &[RunReceipt::refused(reason)]).expect("a fitting receipt");
}

fn acks(window: &mut Named) -> Vec<Answer> {
    core::iter::from_fn(|| window.poll_ack()).collect()
}

#[test]
fn a_lone_event_leaves_at_once_and_a_crowd_waits_for_company() {
    let mut window = window();
    push(&mut window, T0, "a");
    assert_eq!(places(&transmit(&mut window, T0)), [(0, 1)]);
    push(&mut window, T0, "b");
    let second = transmit(&mut window, T0);
    assert_eq!(places(&second), [(1, 1)]);
    // Two are in flight: the next one waits, ...
    push(&mut window, T0, "c");
    assert_eq!(transmit(&mut window, T0), []);
    assert_eq!(window.draft_deadline(), Some(T0 + BATCH_DELAY));
    // ... for the delay, ...
    let later = T0 + BATCH_DELAY;
    assert_eq!(places(&transmit(&mut window, later)), [(2, 1)]);
    // ... for an answer that makes the pipeline idle, or for a full batch.
    push_many(&mut window, later, 64);
    push(&mut window, later, "e");
    assert_eq!(places(&transmit(&mut window, later)), [(3, 64)]);
}

#[test]
fn batches_end_at_64_events_and_at_32_kib() {
    let mut window = window();
    push_many(&mut window, T0, 130);
    assert_eq!(places(&transmit(&mut window, T0)), [(0, 64), (64, 64)]);
    let large = "x".repeat(20_000);
    push(&mut window, T0, &large);
    push(&mut window, T0, &large);
    let sent = transmit(&mut window, T0 + BATCH_DELAY);
    assert_eq!(places(&sent), [(128, 3), (131, 1)], "small ones share a batch with the first large one");
}

#[test]
fn a_new_connection_gets_everything_again_in_order_and_byte_for_byte() {
    let mut window = window();
    push_many(&mut window, T0, 200);
    let before = transmit(&mut window, T0 + BATCH_DELAY);
    accept(&mut window, T0, &before[0], 0);
    window.handle_disconnected();
    assert_eq!(transmit(&mut window, T0), [], "there is nowhere to send it");
    assert_eq!(window.in_flight_bytes(), 0);
    window.handle_connected();
    let after = transmit(&mut window, T0 + BATCH_DELAY);
    assert_eq!(places(&after), places(&before[1..]));
    for (old, new) in before[1..].iter().zip(&after) {
        assert_eq!(old.payload, new.payload);
        assert!(new.id > before[3].id, "a transmission of its own");
    }
}

#[test]
fn an_answer_to_a_transmission_that_was_given_up_changes_nothing() {
    let mut window = window();
    push_many(&mut window, T0, 64);
    let old = transmit(&mut window, T0);
    window.handle_connected();
    refuse(&mut window, T0, &old[0], RunRefusal::Fenced { epoch: Epoch(9) });
    accept(&mut window, T0, &old[0], 0);
    assert_eq!(window.unanswered(), 64);
    let new = transmit(&mut window, T0);
    accept(&mut window, T0, &new[0], 0);
    assert_eq!((window.unanswered(), window.in_flight_bytes()), (0, 0));
}

#[test]
fn a_gap_rewinds_to_what_is_expected_once() {
    let mut window = window();
    push_many(&mut window, T0, 4 * 64);
    let sent = transmit(&mut window, T0);
    accept(&mut window, T0, &sent[0], 0);
    // The second batch got lost on its way; all later ones find a gap.
    let gap = RunRefusal::SequenceGap { expected: Sequence(64) };
    refuse(&mut window, T0, &sent[2], gap);
    let again = transmit(&mut window, T0);
    assert_eq!(places(&again), [(64, 64), (128, 64), (192, 64)]);
    refuse(&mut window, T0, &sent[3], gap);
    assert_eq!(transmit(&mut window, T0), [], "that answer was to the first transmission");
    again.iter().for_each(|sent| accept(&mut window, T0, sent, sent.first));
    assert_eq!(window.unanswered(), 0);
}

#[test]
fn a_gap_in_the_middle_of_a_batch_repeats_the_whole_batch() {
    let mut window = window_from(10, 10);
    push_many(&mut window, T0, 64);
    let sent = transmit(&mut window, T0);
    refuse(&mut window, T0, &sent[0], RunRefusal::SequenceGap { expected: Sequence(20) });
    let again = transmit(&mut window, T0);
    assert_eq!(places(&again), [(10, 64)]);
    let run = RunReceipt {
        duplicates: 10,
        duplicate_offset: Some(Offset(30)),
        accepted: 54,
        first_offset: Offset(55),
        refused: None,
    };
    window.handle_receipt(T0, again[0].id, PLACE, &[run]).expect("fits");
    let ack = acks(&mut window).remove(0).expect("acknowledged");
    assert_eq!((ack.accepted, ack.duplicates, ack.offset), (64, 0, Some(Offset(30))), "all of them are our own");
}

#[test]
fn a_gap_before_the_window_ends_the_producer() {
    let mut window = window_from(5, 8);
    push_many(&mut window, T0, 2);
    let sent = transmit(&mut window, T0);
    refuse(&mut window, T0, &sent[0], RunRefusal::SequenceGap { expected: Sequence(5) });
    let failure = Failure::SequenceGap { expected: Sequence(5) };
    let answer = acks(&mut window).remove(0).expect_err("refused");
    assert_eq!((answer.first_sequence, answer.events, answer.error), (Sequence(8), 2, failure.into()));
    let refused = window.push(T0, 5, ("t", b"", b""), &mut None);
    assert_eq!(refused, Err(PushError::Refused(failure.into())));
}

#[test]
fn a_busy_node_is_left_alone_for_a_moment() {
    let mut window = window();
    push_many(&mut window, T0, 3 * 64);
    let sent = transmit(&mut window, T0);
    window.handle_busy(T0, sent[1].id);
    assert_eq!(transmit(&mut window, T0), []);
    let pause = window.next_deadline().expect("a pause");
    assert!(pause > T0 && pause < T0 + LIMITS.patience);
    accept(&mut window, T0, &sent[0], 0);
    window.handle_timeout(pause);
    assert_eq!(places(&transmit(&mut window, pause)), [(64, 64), (128, 64)]);
}

#[test]
fn pauses_grow_while_nothing_succeeds() {
    let mut window = window();
    push_many(&mut window, T0, 64);
    let mut now = T0;
    let mut pauses = Vec::new();
    for _ in 0..10 {
        let sent = transmit(&mut window, now);
        window.handle_busy(now, sent[0].id);
        let until = window.next_deadline().expect("a pause");
        pauses.push(until.saturating_since(now).as_millis());
        now = until;
        window.handle_timeout(now);
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 64, 64, 64]);
}

#[test]
fn what_waits_too_long_is_unknown_and_goes_on_being_sent() {
    let mut window = window();
    push_many(&mut window, T0, 64);
    push(&mut window, T0 + Duration::from_secs(1), "later");
    transmit(&mut window, T0);
    let late = T0 + LIMITS.patience;
    assert_eq!(window.next_deadline(), Some(late));
    window.handle_timeout(late);
    let unknown = acks(&mut window);
    assert_eq!(unknown.len(), 1, "the later event has time left");
    assert_eq!(unknown[0].expect_err("not acknowledged").error, PublishError::Unknown);
    assert_eq!(window.unanswered(), 65);
    window.handle_connected();
    let sent = transmit(&mut window, late);
    assert_eq!(places(&sent), [(0, 64), (64, 1)]);
    accept(&mut window, late, &sent[0], 0);
    assert_eq!(acks(&mut window), [], "nobody is told twice");
    accept(&mut window, late, &sent[1], 64);
    assert_eq!(acks(&mut window).len(), 1);
    assert_eq!(window.next_deadline(), None);
}

#[test]
fn an_event_that_never_left_is_unknown_too() {
    let mut window = window();
    window.handle_disconnected();
    push(&mut window, T0, "a");
    window.handle_timeout(T0 + LIMITS.patience);
    assert_eq!(acks(&mut window).len(), 1);
}

#[test]
fn a_fenced_producer_fails_as_a_whole() {
    let mut window = window();
    push_many(&mut window, T0, 65);
    window.push(T0, 5, ("t", b"", b""), &mut Some("waiter")).expect("room");
    let sent = transmit(&mut window, T0);
    refuse(&mut window, T0, &sent[0], RunRefusal::Fenced { epoch: Epoch(2) });
    let failed = PublishError::Failed(Failure::Fenced { epoch: Epoch(2) });
    assert_eq!(acks(&mut window).iter().map(|ack| ack.expect_err("failed").events).sum::<u64>(), 65);
    let (waiter, answer) = window.poll_answer().expect("told");
    assert_eq!((waiter, answer.expect_err("failed").error), ("waiter", failed));
    assert_eq!((window.unanswered(), window.in_flight_bytes()), (0, 0));
    assert_eq!(transmit(&mut window, T0), []);
}

#[test]
fn what_was_there_before_is_a_duplicate_and_our_own_repetition_is_not() {
    // The cluster had 100 events of this producer when it was opened; it publishes from 90 on.
    let mut window = window_from(100, 90);
    push_many(&mut window, T0, 20);
    let sent = transmit(&mut window, T0);
    // An earlier transmission was accepted and its answer got lost: now all 20 are there.
    let run =
        RunReceipt { duplicates: 20, duplicate_offset: None, accepted: 0, first_offset: Offset::ZERO, refused: None };
    window.handle_receipt(T0, sent[0].id, PLACE, &[run]).expect("fits");
    let ack = acks(&mut window).remove(0).expect("acknowledged");
    assert_eq!((ack.duplicates, ack.accepted, ack.offset), (10, 10, None));
}

#[test]
fn each_waiter_hears_of_its_own_event() {
    let mut window = window();
    for (topic, name) in [("a", "first"), ("a", "second"), ("b", "third")] {
        window.push(T0, 5, (topic, b"", b""), &mut Some(name)).expect("room");
    }
    let sent = transmit(&mut window, T0);
    let runs = [RunReceipt::accepted(2, Offset(40)), RunReceipt::accepted(1, Offset(7))];
    window.handle_receipt(T0 + Duration::from_millis(3), sent[0].id, PLACE, &runs).expect("fits");
    let mut answers = Vec::new();
    while let Some((name, answer)) = window.poll_answer() {
        let receipt = answer.expect("acknowledged").receipt();
        assert_eq!(receipt.latency.as_millis(), 3);
        answers.push((name, receipt.sequence.0, receipt.offset));
    }
    assert_eq!(
        answers,
        [("first", 0, Some(Offset(40))), ("second", 1, Some(Offset(41))), ("third", 2, Some(Offset(7)))]
    );
}

#[test]
fn answers_that_nobody_fetches_fill_the_window() {
    let mut window = window();
    push_many(&mut window, T0, LIMITS.events);
    assert_eq!(window.push(T0, 5, ("t", b"", b""), &mut None), Err(PushError::Full));
    for sent in transmit(&mut window, T0 + BATCH_DELAY) {
        accept(&mut window, T0, &sent, sent.first);
    }
    assert_eq!(window.unanswered(), 0);
    assert!(!window.has_room());
    window.poll_ack();
    assert!(window.has_room());
}

#[test]
fn an_event_that_no_batch_takes_is_refused_before_it_is_numbered() {
    let mut window = window();
    let large = vec![0; 31_745];
    for (event, error) in [
        (("", &b""[..], &b""[..]), PublishError::TopicLength { len: 0 }),
        (("t", &large[..512], b""), PublishError::KeyLength { len: 512 }),
        (("t", b"", &large), PublishError::EventTooLarge { len: 31_745 }),
    ] {
        assert_eq!(window.push(T0, 5, event, &mut None), Err(PushError::Refused(error)));
    }
    assert_eq!((window.next_sequence(), window.unanswered()), (Sequence(0), 0));
    let largest = ("t".repeat(127), vec![1; 511], vec![2; 31_744]);
    window.push(T0, 5, (&largest.0, &largest.1, &largest.2), &mut None).expect("the largest legal event fits");
}

#[test]
fn a_receipt_that_does_not_fit_is_the_nodes_mistake() {
    let mut window = window();
    push_many(&mut window, T0, 3);
    let sent = transmit(&mut window, T0);
    for runs in [&[][..], &[RunReceipt::accepted(2, Offset(0))], &[RunReceipt::accepted(3, Offset(0)); 2]] {
        let error = window.handle_receipt(T0, sent[0].id, PLACE, runs);
        assert_eq!(error, Err(ProtocolError::ReceiptMismatch));
    }
}

#[test]
fn only_so_much_leaves_as_there_is_room_for() {
    let mut window = window();
    push_many(&mut window, T0, 128);
    let mut out = Vec::new();
    assert!(!window.poll_transmit(T0, 5, 100, &mut out));
    assert!(window.poll_transmit(T0, 5, 2_000, &mut out));
    assert_eq!(window.in_flight_bytes(), out.len());
}
