extern crate std;

use super::*;
use crate::id::{EventId, LogTime};
use proptest::prelude::*;
use std::boxed::Box;
use std::collections::VecDeque;
use std::thread;
use std::vec::Vec;

const NONE: Bounds = Bounds { first: 0, len: 0 };

fn slots(count: usize) -> Box<[IdSlot]> {
    (0..count).map(|_| IdSlot::new()).collect()
}

fn limits(ids: u32, time_to_live_us: u64) -> Limits {
    Limits { ids: NonZeroU32::new(ids).unwrap(), time_to_live: Duration::from_micros(time_to_live_us) }
}

fn id(number: u64) -> EventId {
    EventId((u128::from(number) << 64 | u128::from(number)).to_le_bytes())
}

/// A place that no other id or time has.
fn placed(number: u64, time: u64) -> Placed {
    Placed { index: Index(time), topic: TopicId(number as u32), offset: Offset(number << 32 | time) }
}

/// An empty table whose next row gets this number.
fn begin_at(writer: &mut IdWriter<'_>, first: u32) {
    writer.restore(Bounds { first, len: 0 }).unwrap();
}

/// The numbers of a table of this limit run below this.
fn numbers(limit: u32) -> u32 {
    u32::MAX / limit * limit
}

#[test]
fn a_slot_is_one_cache_line() {
    assert_eq!(size_of::<IdSlot>(), if cfg!(target_pointer_width = "64") { 64 } else { 56 });
}

#[test]
fn an_id_is_known_until_its_time_is_over() {
    let mut memory = slots(4);
    let (mut writer, reader) = share(&mut memory, limits(4, 10), 0).unwrap();
    assert_eq!(writer.insert(id(1), placed(1, 5), LogTime(5)), Verdict::Fresh);
    assert_eq!(writer.insert(id(1), placed(1, 14), LogTime(14)), Verdict::Duplicate(placed(1, 5)));
    assert_eq!(reader.find(id(1)), Some(placed(1, 5)));
    assert_eq!(writer.insert(id(1), placed(1, 15), LogTime(15)), Verdict::Fresh);
    assert_eq!(reader.find(id(1)), Some(placed(1, 15)));
    assert_eq!(reader.find(id(2)), None);
    writer.expire(LogTime(24));
    assert_eq!(reader.find(id(1)), Some(placed(1, 15)));
    writer.expire(LogTime(25));
    assert_eq!((reader.find(id(1)), writer.len(), writer.sum()), (None, 0, 0));
}

#[test]
fn a_full_table_refuses_and_forgets_nothing() {
    let mut memory = slots(3);
    let (mut writer, reader) = share(&mut memory, limits(3, 10), 0).unwrap();
    for number in 0..3 {
        assert_eq!(writer.insert(id(number), placed(number, number), LogTime(number)), Verdict::Fresh);
    }
    let sum = writer.sum();
    assert_eq!(writer.insert(id(3), placed(3, 9), LogTime(9)), Verdict::TableFull);
    assert_eq!(writer.insert(id(0), placed(0, 9), LogTime(9)), Verdict::Duplicate(placed(0, 0)));
    assert_eq!((writer.len(), writer.sum()), (3, sum));
    assert!((0..3).all(|number| reader.find(id(number)) == Some(placed(number, number))));
    // The time of the oldest is over: there is room for one.
    assert_eq!(writer.insert(id(3), placed(3, 10), LogTime(10)), Verdict::Fresh);
    assert_eq!(writer.insert(id(4), placed(4, 10), LogTime(10)), Verdict::TableFull);
    assert_eq!((0..5).filter(|number| reader.find(id(*number)).is_some()).collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn an_id_whose_time_is_over_is_fresh_also_while_others_wait_to_be_removed_before_it() {
    let mut memory = slots(8);
    let (mut writer, reader) = share(&mut memory, limits(8, 10), 0).unwrap();
    for number in 0..8 {
        assert_eq!(writer.insert(id(number), placed(number, 0), LogTime(0)), Verdict::Fresh);
    }
    assert_eq!(writer.insert(id(7), placed(7, 10), LogTime(10)), Verdict::Fresh);
    assert_eq!((writer.len(), reader.find(id(7))), (7, Some(placed(7, 10))));
    // The old row of the same id goes, the new one stays.
    writer.expire(LogTime(10));
    assert_eq!((writer.len(), reader.find(id(7))), (1, Some(placed(7, 10))));
}

#[test]
fn an_entry_removes_a_bounded_number_of_rows() {
    let count = 3 * REMOVED_PER_ENTRY;
    let mut memory = slots(count as usize);
    let (mut writer, _) = share(&mut memory, limits(count, 10), 0).unwrap();
    for number in 0..count.into() {
        assert_eq!(writer.insert(id(number), placed(number, 0), LogTime(0)), Verdict::Fresh);
    }
    assert_eq!(writer.insert(id(1 << 20), placed(0, 10), LogTime(10)), Verdict::Fresh);
    assert_eq!(writer.len(), count - 1);
    writer.expire(LogTime(10));
    assert_eq!(writer.len(), count - 1 - REMOVED_PER_ENTRY);
}

#[test]
fn every_id_of_a_table_that_is_full_is_found_and_chains_are_short() {
    let count = if cfg!(miri) { 100 } else { 10_000 };
    let mut memory = slots(count);
    let (mut writer, reader) = share(&mut memory, limits(count as u32, 10), 3).unwrap();
    for number in 0..count as u64 {
        assert_eq!(writer.insert(id(number), placed(number, 1), LogTime(1)), Verdict::Fresh);
        assert!(reader.find(id(number / 2)).is_some());
    }
    assert_eq!(writer.judge(id(count as u64), LogTime(1)), Verdict::TableFull);
    assert!((0..count as u64).all(|number| reader.find(id(number)) == Some(placed(number, 1))));
    let longest = reader.slots.iter().map(|slot| {
        let mut link = slot.bucket.load(core::sync::atomic::Ordering::Relaxed) as u32;
        let chain = core::iter::from_fn(|| {
            let number = link.checked_sub(1)?;
            link = reader.slot(number).older::<slot::Own>();
            Some(number)
        });
        chain.count()
    });
    assert!(longest.max().unwrap() <= 12);
}

#[test]
fn too_little_memory_is_refused_and_more_is_left_alone() {
    let mut memory = slots(3);
    assert_eq!(share(&mut memory, limits(4, 10), 0).unwrap_err(), 3);
    let (mut writer, _) = share(&mut memory, limits(2, 10), 0).unwrap();
    for number in 0..2 {
        assert_eq!(writer.insert(id(number), placed(number, 0), LogTime(0)), Verdict::Fresh);
    }
    assert_eq!(writer.judge(id(2), LogTime(0)), Verdict::TableFull);
}

#[test]
fn a_checkpoint_that_is_none_is_refused() {
    let row = |number, id_number, time| IdRow {
        number,
        id: id(id_number),
        placed: placed(id_number, time),
        log_time: LogTime(time),
    };
    let restore = |rows: &[IdRow], bounds| {
        let mut memory = slots(4);
        let (mut writer, _) = share(&mut memory, limits(4, 10), 0).unwrap();
        rows.iter().try_for_each(|row| writer.put_back(row))?;
        writer.restore(bounds)
    };
    let two = Bounds { first: 3, len: 2 };
    assert_eq!(restore(&[row(4, 2, 6), row(3, 1, 5)], two), Ok(()));
    // Stale: removed before the checkpoint.
    assert_eq!(restore(&[row(4, 2, 6), row(3, 1, 5), row(2, 1, 4), row(1, 9, 9)], two), Ok(()));
    assert_eq!(restore(&[row(3, 1, 5)], two), Err(RestoreError::Missing(4)));
    assert_eq!(restore(&[row(3, 1, 5), row(8, 2, 6)], two), Err(RestoreError::Missing(4)));
    assert_eq!(restore(&[row(3, 1, 5), row(4, 2, 4)], two), Err(RestoreError::OutOfOrder(4)));
    assert_eq!(restore(&[row(3, 1, 5), row(4, 1, 14)], two), Err(RestoreError::Twice(4)));
    assert_eq!(restore(&[row(3, 1, 5), row(4, 1, 15)], two), Ok(()));
    assert_eq!(restore(&[row(u32::MAX, 1, 5)], NONE), Err(RestoreError::OutOfBounds));
    assert_eq!(restore(&[], Bounds { first: 0, len: 5 }), Err(RestoreError::OutOfBounds));
    assert_eq!(restore(&[], Bounds { first: u32::MAX, len: 0 }), Err(RestoreError::OutOfBounds));
}

/// What sums are part of is compared between nodes of different builds, and kept on disk.
#[test]
fn the_sum_is_fixed() {
    let mut memory = slots(2);
    let (mut writer, _) = share(&mut memory, limits(2, 10), 0).unwrap();
    assert_eq!(writer.insert(id(1), placed(1, 5), LogTime(5)), Verdict::Fresh);
    assert_eq!(writer.insert(id(2), placed(2, 6), LogTime(6)), Verdict::Fresh);
    assert_eq!(writer.sum(), 0x3bd8_3ae2_3225_5a64);
}

#[test]
fn rows_survive_serialisation() {
    let row = IdRow { number: 7, id: id(1), placed: placed(1, 5), log_time: LogTime(5) };
    let mut bytes = [0; 64];
    let written = postcard::to_slice(&row, &mut bytes).unwrap();
    assert_eq!(postcard::from_bytes::<IdRow>(written), Ok(row));
}

/// A reader in a thread of its own, while rows come, go and are written over: what it finds is of the id that it asked for, whole,
/// and no older than what it found before.
#[test]
fn readers_never_see_a_row_of_another_id() {
    let rounds = if cfg!(miri) { 150 } else { 200_000 };
    let mut memory = slots(5);
    let (mut writer, reader) = share(&mut memory, limits(5, 4), 0).unwrap();
    begin_at(&mut writer, numbers(5) - 50);
    let done = core::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut seen = [0; 7];
                while !done.load(core::sync::atomic::Ordering::Relaxed) {
                    for number in 0..7 {
                        let Some(found) = reader.find(id(number)) else { continue };
                        assert_eq!(found, placed(number, found.index.0));
                        assert!(found.index.0 >= seen[number as usize]);
                        seen[number as usize] = found.index.0;
                    }
                    thread::yield_now();
                }
            });
        }
        for time in 1..rounds {
            // Two ids at a time that are not those of the last times.
            for number in [time * 2 % 7, (time * 2 + 1) % 7] {
                let _ = writer.insert(id(number), placed(number, time), LogTime(time));
            }
        }
        done.store(true, core::sync::atomic::Ordering::Relaxed);
    });
}

/// The table as its rules say it: a queue.
#[derive(Default)]
struct Model {
    rows: VecDeque<(u64, u64)>,
    limit: usize,
    time_to_live: u64,
}

impl Model {
    fn is_over(&self, time: u64, now: u64) -> bool {
        now - time >= self.time_to_live
    }

    fn newest(&self, number: u64) -> Option<Placed> {
        self.rows.iter().rfind(|row| row.0 == number).map(|&(number, time)| placed(number, time))
    }

    fn remove(&mut self, most: u32, now: u64) {
        for _ in 0..most {
            if self.rows.front().is_some_and(|row| self.is_over(row.1, now)) {
                self.rows.pop_front();
            }
        }
    }

    fn insert(&mut self, number: u64, now: u64) -> Verdict {
        if let Some(row) = self.rows.iter().find(|row| row.0 == number && !self.is_over(row.1, now)) {
            return Verdict::Duplicate(placed(row.0, row.1));
        }
        if self.rows.len() == self.limit && !self.is_over(self.rows[0].1, now) {
            return Verdict::TableFull;
        }
        self.remove(REMOVED_PER_INSERTION, now);
        self.rows.push_back((number, now));
        Verdict::Fresh
    }
}

#[derive(Clone, Debug)]
enum Call {
    Insert(u64),
    Expire,
    Wait(u64),
    /// Drains what changed into what is kept, and goes on in a table restored from that.
    Restart,
    Drain,
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        12 => (0..24_u64).prop_map(Call::Insert),
        1 => Just(Call::Expire),
        4 => (0..12_u64).prop_map(Call::Wait),
        1 => Just(Call::Restart),
        1 => Just(Call::Drain),
    ]
}

/// Makes the same calls to the model and to two tables that differ in their seed and in when they are restarted.
fn compare(limit: u32, from_the_end: u32, time_to_live: u64, calls: &[Call]) {
    let mut model = Model { limit: limit as usize, time_to_live, ..Model::default() };
    let limits = limits(limit, time_to_live);
    let (mut memory, mut other_memory) = (slots(limit as usize + 2), slots(limit as usize));
    let mut memories: Vec<_> = calls.iter().map(|_| slots(limit as usize)).collect();
    let mut memories = memories.iter_mut();
    let (mut writer, mut reader) = share(&mut memory, limits, 1).unwrap();
    let (mut other, _) = share(&mut other_memory, limits, 2).unwrap();
    let first = numbers(limit) - from_the_end.min(numbers(limit));
    let first = if first == numbers(limit) { 0 } else { first };
    begin_at(&mut writer, first);
    begin_at(&mut other, first);
    // The checkpoint: a row for each slot, and the bounds.
    let (mut disk, mut bounds) = (std::collections::BTreeMap::new(), Bounds { first, len: 0 });
    let mut now = 0;
    for call in calls {
        match *call {
            Call::Insert(number) => {
                let expected = model.insert(number, now);
                assert_eq!(writer.judge(id(number), LogTime(now)), expected);
                assert_eq!(writer.insert(id(number), placed(number, now), LogTime(now)), expected);
                assert_eq!(other.insert(id(number), placed(number, now), LogTime(now)), expected);
            }
            Call::Expire => {
                model.remove(REMOVED_PER_ENTRY, now);
                writer.expire(LogTime(now));
                other.expire(LogTime(now));
            }
            Call::Wait(time) => now += time,
            Call::Drain | Call::Restart => {
                disk.extend(core::iter::from_fn(|| writer.poll_changed()));
                bounds = writer.poll_bounds().unwrap_or(bounds);
                assert_eq!(bounds, writer.bounds());
                if matches!(call, Call::Restart) {
                    let memory = memories.next().unwrap();
                    (writer, reader) = share(memory, limits, now).unwrap();
                    disk.values().for_each(|row| writer.put_back(row).unwrap());
                    writer.restore(bounds).unwrap();
                    assert_eq!((writer.poll_changed(), writer.poll_bounds()), (None, None));
                }
            }
        }
        assert_eq!(writer.len() as usize, model.rows.len());
        assert_eq!((writer.sum(), writer.bounds()), (other.sum(), other.bounds()));
        for number in 0..24 {
            assert_eq!(reader.find(id(number)), model.newest(number), "id {number}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 4 } else { 512 }, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_table_is_a_queue_that_finds(
        limit in 1..16_u32,
        from_the_end in 0..40_u32,
        time_to_live in 0..40_u64,
        calls in proptest::collection::vec(call(), 0..if cfg!(miri) { 30 } else { 200 }),
    ) {
        compare(limit, from_the_end, time_to_live, &calls);
    }
}
