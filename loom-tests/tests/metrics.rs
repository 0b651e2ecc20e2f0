//! Models of counters and histograms: one thread writes, others read meanwhile.

use loom::thread;
use loom_tests::metrics::{Cell, Counters, Histogram};
use loom_tests::{check, leak, survey};

fn cells<const N: usize>() -> &'static mut [Cell] {
    leak(core::array::from_fn::<_, N, _>(|_| Cell::new()))
}

#[test]
fn a_counter_never_falls_and_loses_nothing() {
    check(|| {
        let (mut counters, reader) = Counters::share(cells::<1>());
        let counting = thread::spawn(move || {
            counters.add(0, 1);
            counters.add(0, 2);
        });
        let first = reader.read(0);
        let second = reader.read(0);
        assert!([0, 1, 3].contains(&first) && [0, 1, 3].contains(&second) && first <= second);
        counting.join().unwrap();
        assert_eq!(reader.read(0), 3);
    });
}

#[test]
fn a_counter_stops_at_the_end_of_the_word() {
    check(|| {
        let (mut counters, reader) = Counters::share(cells::<1>());
        counters.add(0, usize::MAX - 1);
        let counting = thread::spawn(move || {
            counters.add(0, 1);
            counters.add(0, 1);
        });
        let first = reader.read(0);
        assert!(first >= usize::MAX - 1 && reader.read(0) >= first);
        counting.join().unwrap();
        assert_eq!(reader.read(0), usize::MAX);
    });
}

#[test]
fn no_effect_is_counted_without_its_cause() {
    check(|| {
        let (mut counters, reader) = Counters::share(cells::<2>());
        let counting = thread::spawn(move || {
            for _ in 0..2 {
                counters.add(0, 1);
                counters.add(1, 1);
            }
        });
        let ended = reader.read(1);
        let begun = reader.read(0);
        assert!(ended <= begun);
        counting.join().unwrap();
    });
}

#[test]
fn a_snapshot_has_its_values_in_the_sum_and_in_the_maximum() {
    check(|| {
        let (mut histogram, reader) = Histogram::share(cells::<4>());
        let recording = thread::spawn(move || {
            histogram.record(0);
            histogram.record(1);
            histogram.record(7);
        });
        let mut buckets = [0; 2];
        let snapshot = reader.snapshot(&mut buckets);
        let [zeros, others] = [snapshot.buckets()[0], snapshot.buckets()[1]];
        assert_eq!(snapshot.count(), zeros + others);
        let (sum, max) = [(0, 0), (1, 1), (8, 7)][others];
        assert!(snapshot.sum() >= sum && snapshot.max() >= max);
        recording.join().unwrap();
        assert_eq!((reader.snapshot(&mut buckets).count(), buckets), (3, [1, 2]));
    });
}

#[test]
fn two_readers_take_snapshots_that_never_fall() {
    check(|| {
        let (mut histogram, reader) = Histogram::share(cells::<3>());
        let recording = thread::spawn(move || histogram.record(1));
        let other = thread::spawn(move || reader.snapshot(&mut [0]).count());
        let first = reader.snapshot(&mut [0]).count();
        assert!(first <= reader.snapshot(&mut [0]).count());
        assert!(other.join().unwrap() <= 1);
        recording.join().unwrap();
        assert_eq!(reader.snapshot(&mut [0]).count(), 1);
    });
}

#[test]
fn weakened_orderings_are_noticed() {
    // A counter, and the bucket of a histogram, as they are written and read.
    assert_eq!(survey::every_weakening_is_noticed("core/src/metrics/", "weakened_orderings_are_noticed"), 4);
}
