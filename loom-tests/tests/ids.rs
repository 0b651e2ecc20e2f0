//! Models of the table of event ids: one writer, and a reader that looks while rows come, go and are written over. Readers
//! write nothing, so one stands for any number.

use core::num::NonZeroU32;
use loom::thread;
use loom_tests::id::{EventId, Index, LogTime, Offset, TopicId};
use loom_tests::ids::{self, Bounds, IdReader, IdSlot, IdWriter, Limits, Placed, Verdict};
use loom_tests::time::Duration;
use loom_tests::{check, survey};

/// In log time, so that a row of time zero is over at time one.
const TIME_TO_LIVE: Duration = Duration::from_micros(1);
/// Numbers of rows run below this in a table of one or of three; in one of two, one below it is the last.
const NUMBERS: u32 = u32::MAX;

/// An empty table of `count` ids, whose first row gets the number `first`.
fn table(count: u32, first: u32) -> (IdWriter<'static>, IdReader<'static>) {
    let slots = (0..count).map(|_| IdSlot::new()).collect::<Vec<_>>().leak();
    let limits = Limits { ids: NonZeroU32::new(count).unwrap(), time_to_live: TIME_TO_LIVE };
    let (mut writer, reader) = ids::share(slots, limits, 0).unwrap();
    writer.restore(Bounds { first, len: 0 }).unwrap();
    (writer, reader)
}

/// With this seed, 3, 4 and 6 share a bucket of two and of three slots, and 1 has another.
fn id(number: u8) -> EventId {
    EventId([number; 16])
}

fn placed(number: u8, time: u64) -> Placed {
    let number = u64::from(number);
    Placed { index: Index(number << 8 | time), topic: TopicId(number as u32), offset: Offset(number << 8 | time) }
}

fn insert(writer: &mut IdWriter<'_>, number: u8, time: u64) {
    assert_eq!(writer.insert(id(number), placed(number, time), LogTime(time)), Verdict::Fresh);
}

#[test]
fn a_known_id_is_found_while_others_come_before_it_in_its_chain() {
    check(|| {
        let (mut writer, reader) = table(3, NUMBERS - 2);
        insert(&mut writer, 3, 0);
        let writing = thread::spawn(move || {
            insert(&mut writer, 4, 0);
            insert(&mut writer, 6, 0);
        });
        assert_eq!(reader.find(id(3)), Some(placed(3, 0)));
        writing.join().unwrap();
        assert!([3, 4, 6].into_iter().all(|number| reader.find(id(number)) == Some(placed(number, 0))));
    });
}

#[test]
fn a_row_is_whole_or_not_there_while_another_is_written_over_it() {
    check(|| {
        let (mut writer, reader) = table(1, 0);
        insert(&mut writer, 1, 0);
        let writing = thread::spawn(move || insert(&mut writer, 2, 1));
        assert!([None, Some(placed(1, 0))].contains(&reader.find(id(1))));
        writing.join().unwrap();
        assert_eq!((reader.find(id(1)), reader.find(id(2))), (None, Some(placed(2, 1))));
    });
}

#[test]
fn the_row_that_comes_is_whole_or_not_there_yet() {
    check(|| {
        let (mut writer, reader) = table(1, 0);
        insert(&mut writer, 1, 0);
        let writing = thread::spawn(move || insert(&mut writer, 2, 1));
        assert!([None, Some(placed(2, 1))].contains(&reader.find(id(2))));
        writing.join().unwrap();
    });
}

#[test]
fn an_id_that_comes_again_over_its_own_row_is_found_old_or_new_where_numbers_come_round() {
    check(|| {
        let (mut writer, reader) = table(1, NUMBERS - 1);
        insert(&mut writer, 1, 0);
        let writing = thread::spawn(move || insert(&mut writer, 1, 1));
        assert!([None, Some(placed(1, 0)), Some(placed(1, 1))].contains(&reader.find(id(1))));
        writing.join().unwrap();
        assert_eq!(reader.find(id(1)), Some(placed(1, 1)));
    });
}

#[test]
fn an_id_is_found_while_the_end_of_its_chain_is_removed_and_written_over() {
    check(|| {
        // The second row has the last number, the third is number zero.
        let (mut writer, reader) = table(2, NUMBERS - 3);
        insert(&mut writer, 3, 0);
        insert(&mut writer, 4, 1);
        let writing = thread::spawn(move || {
            writer.expire(LogTime(1));
            insert(&mut writer, 1, 1);
        });
        assert_eq!(reader.find(id(4)), Some(placed(4, 1)));
        assert!([None, Some(placed(3, 0))].contains(&reader.find(id(3))));
        writing.join().unwrap();
        assert_eq!((reader.find(id(3)), reader.find(id(1))), (None, Some(placed(1, 1))));
    });
}

#[test]
fn weakened_orderings_are_noticed() {
    // The link of a bucket, as it is written and read; the fence of either side.
    assert_eq!(survey::every_weakening_is_noticed("core/src/ids/", "weakened_orderings_are_noticed"), 4);
}
