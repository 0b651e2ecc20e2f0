//! A window against a cluster that does everything to it that a cluster may: refuses, loses connections, decides and
//! keeps the answer to itself. However it went, every event is in the log once, in order.

use super::*;

/// The numbers that a schedule is made of (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// What the cluster has decided: the rules of design section 5 for one producer.
#[derive(Default)]
struct Log {
    payloads: Vec<Vec<u8>>,
}

impl Log {
    fn apply(&mut self, sent: &Sent) -> RunReceipt {
        let expected = self.payloads.len() as u64;
        if sent.first > expected {
            return RunReceipt::refused(RunRefusal::SequenceGap { expected: Sequence(expected) });
        }
        let batch = Batch::check(&sent.payload, sent.events).expect("a good batch");
        let duplicates = u16::try_from(expected - sent.first).unwrap_or(u16::MAX).min(sent.events);
        let records = batch.runs().flat_map(|run| run.records());
        self.payloads.extend(records.skip(duplicates.into()).map(|record| record.payload.to_vec()));
        RunReceipt {
            duplicates,
            duplicate_offset: (duplicates > 0).then_some(Offset(sent.first)),
            accepted: sent.events - duplicates,
            first_offset: Offset(expected),
            refused: None,
        }
    }
}

/// How often something happened over all schedules: a schedule in which nothing does proves nothing.
#[derive(Debug, Default)]
struct Fired {
    reconnects: u64,
    busy: u64,
    gaps: u64,
    answers_lost: u64,
}

fn run(seed: u64, fired: &mut Fired) {
    let mut random = Random(seed);
    let mut window = window();
    let mut log = Log::default();
    let mut now = T0;
    let (mut pushed, mut acknowledged) = (0, 0);
    let total = 1 + random.below(1_500);
    while acknowledged < total {
        for _ in 0..random.below(200) {
            let payload = pushed.to_string();
            if pushed < total && window.push(now, 5, ("t", b"", payload.as_bytes()), &mut None).is_ok() {
                pushed += 1;
            }
        }
        let mut in_flight = transmit(&mut window, now);
        // The connection breaks somewhere: nothing after that point arrives, no answer from there on either.
        let breaks_at = if random.below(4) == 0 { random.below(8) as usize } else { usize::MAX };
        let answers_end = breaks_at.saturating_sub(random.below(3) as usize);
        in_flight.truncate(breaks_at);
        for (at, sent) in in_flight.iter().enumerate() {
            if random.below(12) == 0 {
                fired.busy += 1;
                window.handle_busy(now, sent.id);
                continue;
            }
            let receipt = log.apply(sent);
            fired.gaps += u64::from(receipt.refused.is_some());
            if at < answers_end {
                window.handle_receipt(now, sent.id, PLACE, &[receipt]).expect("a fitting receipt");
            } else {
                fired.answers_lost += 1;
            }
        }
        if breaks_at != usize::MAX {
            fired.reconnects += 1;
            window.handle_disconnected();
            window.handle_connected();
        }
        now += Duration::from_micros(random.below(5_000));
        window.handle_timeout(now);
        for ack in acks(&mut window) {
            let ack = ack.expect("nothing takes five seconds here");
            assert_eq!(ack.first_sequence.0, acknowledged, "seed {seed}: in order");
            assert_eq!(ack.duplicates, 0, "seed {seed}: nobody else publishes");
            acknowledged += ack.events();
            assert!(acknowledged <= log.payloads.len() as u64, "seed {seed}: acknowledged before it was decided");
        }
        assert!(now < T0 + LIMITS.patience, "seed {seed}: stuck");
    }
    let expected = (0..total).map(|number| number.to_string().into_bytes());
    assert!(log.payloads.into_iter().eq(expected), "seed {seed}: every event once, in order");
    assert_eq!((window.unanswered(), window.in_flight_bytes()), (0, 0), "seed {seed}");
}

#[test]
fn whatever_happens_every_event_is_accepted_once_and_in_order() {
    let mut fired = Fired::default();
    (0..2_000).for_each(|seed| run(seed, &mut fired));
    assert!(fired.reconnects > 500 && fired.busy > 500 && fired.gaps > 500 && fired.answers_lost > 500, "{fired:?}");
}
