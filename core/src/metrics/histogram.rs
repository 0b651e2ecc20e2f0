//! Histograms: how long something took, or how large it was, with a bounded relative error.
//!
//! Buckets are log-linear: each power of two is cut into 32 of equal width, and the values below 32 have a bucket each. A
//! value is known by its bucket alone, so it is told as the bucket's highest one: never too low, and too high by at most
//! one part in 32 (3.2 %). No floating point.

use super::Cell;

/// Buckets of one power of two.
const PARTS: usize = 1 << PART_BITS;
const PART_BITS: u32 = 5;
/// Cells that are not buckets: the sum and the highest value.
const HEAD: usize = 2;

/// The bucket that a value falls into, if there are enough.
#[must_use]
pub const fn position_of(value: usize) -> usize {
    if value < PARTS {
        return value;
    }
    let shift = value.ilog2() - PART_BITS;
    // The value without its highest bit, in whole parts; and a power's worth of buckets for each shift before.
    (value >> shift) + shift as usize * PARTS
}

/// The highest value of a bucket.
#[must_use]
pub const fn highest_of(position: usize) -> usize {
    if position < 2 * PARTS {
        return position;
    }
    let shift = position / PARTS - 1;
    let lowest = (PARTS + position % PARTS) << shift;
    lowest + ((1 << shift) - 1)
}

/// The writer's side of a histogram. There is one for a histogram, since it is neither copied nor cloned.
#[derive(Debug)]
pub struct Histogram<'m> {
    cells: Cells<'m>,
}

/// Takes snapshots from any thread. Copies are free.
#[derive(Clone, Copy, Debug)]
pub struct HistogramReader<'m> {
    cells: Cells<'m>,
}

#[derive(Clone, Copy, Debug)]
struct Cells<'m> {
    /// Of all values.
    sum: &'m Cell,
    max: &'m Cell,
    /// How many values fell into each bucket. The last one takes all that are too high for a bucket of their own.
    buckets: &'m [Cell],
}

impl<'m> Histogram<'m> {
    /// Buckets for all values below 2^31, which is 35 minutes in microseconds. 4 KiB on a small machine, 7 on others.
    pub const BUCKETS: usize = position_of((1 << 31) - 1) + 1;
    /// What is to be lent for as many.
    pub const CELLS: usize = HEAD + Self::BUCKETS;

    /// An empty histogram, and a reader of it. The lent cells say how many buckets it has: all but two.
    ///
    /// # Panics
    ///
    /// If there is not a single bucket.
    pub fn share(memory: &'m mut [Cell]) -> (Self, HistogramReader<'m>) {
        memory.fill_with(Cell::new);
        let ([sum, max], buckets) = memory.split_first_chunk::<HEAD>().expect("a histogram has a sum and a maximum");
        assert!(!buckets.is_empty(), "a histogram has a bucket");
        let cells = Cells { sum, max, buckets };
        (Self { cells }, HistogramReader { cells })
    }

    /// Counts a value.
    pub fn record(&mut self, value: usize) {
        let Cells { sum, max, buckets } = self.cells;
        sum.set(sum.own().saturating_add(value));
        max.set(max.own().max(value));
        let bucket = &buckets[position_of(value).min(buckets.len() - 1)];
        // Pairs with `HistogramReader::snapshot`: who sees this value counted sees it in the sum and in the maximum.
        bucket.publish(bucket.own().saturating_add(1));
    }
}

impl HistogramReader<'_> {
    /// Buckets.
    #[must_use]
    pub const fn buckets(&self) -> usize {
        self.cells.buckets.len()
    }

    /// Takes a snapshot into memory for as many numbers as there are [buckets](Self::buckets).
    ///
    /// It has every value that was recorded before the call, by what the caller knows, and none that was recorded after
    /// it; of those that are recorded meanwhile it may have some and lack earlier ones. Its [count](Snapshot::count) is that of
    /// its buckets. Its sum and maximum cover these values at least, and maybe some that are recorded meanwhile. No bucket
    /// falls from one snapshot to the next of a thread.
    ///
    /// # Panics
    ///
    /// If the memory is of another length.
    pub fn snapshot<'s>(&self, memory: &'s mut [usize]) -> Snapshot<'s> {
        assert_eq!(memory.len(), self.buckets(), "a snapshot has as many buckets as its histogram");
        let mut count = 0_usize;
        for (copy, bucket) in memory.iter_mut().zip(self.cells.buckets) {
            *copy = bucket.read();
            count = count.saturating_add(*copy);
        }
        // After the buckets, so that no value is counted there and missing here.
        Snapshot { count, sum: self.cells.sum.glance(), max: self.cells.max.glance(), buckets: memory }
    }
}

/// A histogram as it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot<'s> {
    count: usize,
    sum: usize,
    max: usize,
    buckets: &'s [usize],
}

impl<'s> Snapshot<'s> {
    /// Values: the sum of the buckets.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count
    }

    /// The sum of at least these values.
    #[must_use]
    pub const fn sum(&self) -> usize {
        self.sum
    }

    /// The highest value, or one that was recorded meanwhile and is higher; zero if there is none.
    #[must_use]
    pub const fn max(&self) -> usize {
        self.max
    }

    /// How many values fell into each bucket.
    #[must_use]
    pub const fn buckets(&self) -> &'s [usize] {
        self.buckets
    }

    /// The value that `parts` of a million of all values are at most: 500,000 for the median. Never too low, and too high by at most
    /// one part in 32; zero if there is no value. Values in the last bucket are told as the [maximum](Self::max).
    ///
    /// # Panics
    ///
    /// If there are more parts than a million.
    #[must_use]
    pub fn quantile_ppm(&self, parts: u32) -> usize {
        assert!(parts <= 1_000_000, "a quantile is a part of the whole");
        // The rank of the value, from 1: rounded up, so that at least this part is at or below it.
        let rank = (self.count as u128 * u128::from(parts)).div_ceil(1_000_000).max(1);
        let mut below = 0_u128;
        let found = self.buckets.iter().position(|count| {
            below += *count as u128;
            below >= rank
        });
        match found {
            None => 0,
            Some(last) if last + 1 == self.buckets.len() => self.max,
            Some(position) => highest_of(position).min(self.max),
        }
    }
}

#[cfg(all(test, not(eventstream_loom)))]
mod tests {
    extern crate std;

    use super::*;
    use proptest::prelude::*;
    use std::boxed::Box;
    use std::thread;
    use std::vec;
    use std::vec::Vec;

    fn cells(count: usize) -> Box<[Cell]> {
        (0..count).map(|_| Cell::new()).collect()
    }

    #[test]
    fn buckets_follow_on_each_other_without_a_hole() {
        for position in 0..Histogram::BUCKETS {
            let highest = highest_of(position);
            assert_eq!(position_of(highest), position);
            assert_eq!(position_of(highest + 1), position + 1);
        }
        assert_eq!(highest_of(Histogram::BUCKETS - 1), (1 << 31) - 1);
        assert_eq!(highest_of(position_of(usize::MAX)), usize::MAX);
    }

    #[test]
    fn an_empty_histogram_says_nothing() {
        let mut memory = cells(Histogram::CELLS);
        let (_, reader) = Histogram::share(&mut memory);
        let mut buckets = vec![0; reader.buckets()];
        let snapshot = reader.snapshot(&mut buckets);
        assert_eq!((snapshot.count(), snapshot.sum(), snapshot.max()), (0, 0, 0));
        assert_eq!((snapshot.quantile_ppm(0), snapshot.quantile_ppm(1_000_000)), (0, 0));
    }

    #[test]
    fn what_is_too_high_for_a_bucket_is_counted_in_the_last() {
        let mut memory = cells(HEAD + 4);
        let (mut histogram, reader) = Histogram::share(&mut memory);
        for value in [0, 1, 2, 3, 4, usize::MAX] {
            histogram.record(value);
        }
        let mut buckets = [0; 4];
        let snapshot = reader.snapshot(&mut buckets);
        assert_eq!((snapshot.buckets(), snapshot.count()), (&[1, 1, 1, 3][..], 6));
        assert_eq!((snapshot.sum(), snapshot.max()), (usize::MAX, usize::MAX));
        assert_eq!((snapshot.quantile_ppm(500_000), snapshot.quantile_ppm(500_001)), (2, usize::MAX));
    }

    #[test]
    fn a_snapshot_is_whole_while_values_are_recorded() {
        let values = if cfg!(miri) { 100 } else { 100_000 };
        let mut memory = cells(HEAD + 8);
        let (mut histogram, reader) = Histogram::share(&mut memory);
        thread::scope(|scope| {
            scope.spawn(move || (0..values).for_each(|value| histogram.record(1 + value % 7)));
            let (mut before, mut now) = ([0; 8], [0; 8]);
            let mut count = 0;
            while count < values {
                let snapshot = reader.snapshot(&mut now);
                count = snapshot.count();
                assert_eq!(count, snapshot.buckets().iter().sum::<usize>());
                let least = snapshot.buckets().iter().enumerate().map(|(value, count)| value * count).sum::<usize>();
                assert!(snapshot.sum() >= least);
                assert!(before.iter().zip(snapshot.buckets()).all(|(before, now)| before <= now));
                before = now;
                thread::yield_now();
            }
        });
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: if cfg!(miri) { 8 } else { 256 }, failure_persistence: None, ..ProptestConfig::default()
        })]

        /// Values of all sizes: each number of bits is as likely as any other.
        #[test]
        fn a_value_is_told_too_high_by_at_most_one_part_in_32(value: usize, shift in 0..usize::BITS) {
            let value = value >> shift;
            let told = highest_of(position_of(value));
            prop_assert!(told >= value && told - value <= value / PARTS);
        }

        #[test]
        fn quantiles_are_those_of_the_sorted_values_within_the_error(
            values in proptest::collection::vec((any::<u32>(), 1..32_u32), 1..if cfg!(miri) { 8 } else { 300 }),
            parts in 0..=1_000_000_u32,
        ) {
            let mut values: Vec<usize> = values.into_iter().map(|(value, shift)| (value >> shift) as usize).collect();
            let mut memory = cells(Histogram::CELLS);
            let (mut histogram, reader) = Histogram::share(&mut memory);
            values.iter().for_each(|value| histogram.record(*value));
            values.sort_unstable();
            let mut buckets = vec![0; reader.buckets()];
            let snapshot = reader.snapshot(&mut buckets);
            prop_assert_eq!((snapshot.count(), snapshot.max()), (values.len(), values[values.len() - 1]));
            let rank = (values.len() as u64 * u64::from(parts)).div_ceil(1_000_000).max(1) as usize;
            let (exact, told) = (values[rank - 1], snapshot.quantile_ppm(parts));
            prop_assert!(told >= exact && told - exact <= exact / PARTS, "{told} for {exact}");
        }
    }
}
