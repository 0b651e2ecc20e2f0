extern crate std;

use super::super::testing::{Fault, TestFlash, payload, stored};
use super::*;
use proptest::prelude::*;
use std::boxed::Box;
use std::vec;
use std::vec::Vec;

const CRC: Crc32 = Crc32::portable();
const PRODUCER: ProducerId = ProducerId([9; 16]);

type Log = FlashLog<TestFlash, Box<[u8]>>;

fn format(flash: TestFlash) -> Result<Log, Fault> {
    Log::format(flash, vec![0; 128].into(), PRODUCER, CRC)
}

fn open(flash: TestFlash) -> Result<Log, OpenError<Fault>> {
    Log::open(flash, vec![0; 128].into(), CRC)
}

/// After a reset: the power is back. A log that was not formatted to the end is formatted.
fn reset(log: Log) -> Log {
    let (flash, _) = log.into_parts();
    let flash = TestFlash { bytes_left: None, ..flash };
    match open(flash.clone()) {
        Ok(log) => log,
        Err(OpenError::NotFormatted) => format(flash).unwrap(),
        Err(OpenError::Flash(fault)) => panic!("{fault:?}"),
    }
}

fn append(log: &mut Log) -> Result<Sequence, AppendError<Fault>> {
    log.append(&stored(&payload(log.next().0)))
}

/// Reads everything that is kept, and compares it with what was appended under these numbers.
fn check_contents(log: &mut Log) {
    let mut cursor = log.seek(log.first()).unwrap();
    for number in log.first().0..log.next().0 {
        assert_eq!(cursor.sequence.0, number);
        let (event, after) = log.read(cursor).unwrap().unwrap_or_else(|| panic!("event {number} is there"));
        assert_eq!(event, stored(&payload(number)));
        cursor = after;
    }
    assert_eq!(log.read(cursor), Ok(None));
    for number in log.first().0..=log.next().0 {
        let found = log.seek(Sequence(number)).unwrap();
        assert_eq!(found.sequence.0, number);
        let event = log.read(found).unwrap().map(|(event, _)| event.payload.to_vec());
        assert_eq!(event, (number < log.next().0).then(|| payload(number)));
    }
}

#[test]
fn a_record_that_no_cluster_would_take_is_none_whatever_its_checksum_says() {
    for (first, topic, counted) in [(0, "oven", 1), (0, "", 0), (crate::config::MAX_COUNTER, "oven", 0)] {
        let mut flash = TestFlash::new(2, 256);
        let header = PageHeader { turn: 0, first: Sequence(first), producer: PRODUCER };
        flash.write(0, 0, &header.emit(CRC)).unwrap();
        let mut record = [0; 128];
        let record = Stored { topic, ..stored(b"payload") }.emit(Sequence(first), &mut record, CRC);
        flash.write(0, PAGE_HEADER_LEN, record).unwrap();
        assert_eq!(open(flash).unwrap().len(), counted, "{topic:?} from {first} on");
    }
}

#[test]
fn what_was_appended_is_there_after_a_reset_and_the_numbering_goes_on() {
    let mut log = format(TestFlash::new(4, 256)).unwrap();
    for number in 0..8 {
        assert_eq!(append(&mut log), Ok(Sequence(number)));
    }
    let mut log = reset(log);
    assert_eq!((log.first(), log.next(), log.producer()), (Sequence(0), Sequence(8), PRODUCER));
    check_contents(&mut log);
    assert_eq!(append(&mut log), Ok(Sequence(8)));
}

#[test]
fn when_all_pages_are_in_use_the_oldest_goes() {
    let mut log = format(TestFlash::new(3, 256)).unwrap();
    while log.first() == Sequence::ZERO {
        append(&mut log).unwrap();
        check_contents(&mut log);
    }
    let (first, next) = (log.first(), log.next());
    assert!(first.0 >= 3 && next.0 - first.0 >= 6, "a page of three: {first} to {next}");
    let log = reset(log);
    assert_eq!((log.first(), log.next()), (first, next));
}

#[test]
fn flash_without_a_log_and_events_without_room_are_told() {
    assert!(matches!(open(TestFlash::new(2, 256)), Err(OpenError::NotFormatted)));
    let mut log = format(TestFlash::new(2, 256)).unwrap();
    assert_eq!(log.append(&stored(&[0; 120])), Err(AppendError::TooLong { len: 144, limit: 128 }));
    let nameless = Stored { topic: "", ..stored(b"") };
    assert_eq!(log.append(&nameless), Err(AppendError::Event(PushError::TopicLength)));
    assert_eq!(append(&mut log), Ok(Sequence(0)));
}

#[test]
fn a_damaged_record_costs_what_lies_before_the_next_page_and_nothing_that_follows() {
    let mut log = format(TestFlash::new(4, 256)).unwrap();
    for _ in 0..9 {
        append(&mut log).unwrap();
    }
    let second_page = log.first_of(1).unwrap();
    let (mut flash, _) = log.into_parts();
    flash.flip_bit(0, PAGE_HEADER_LEN + 30);
    let mut log = open(flash).unwrap();
    assert_eq!((log.first(), log.next()), (second_page, Sequence(9)));
    check_contents(&mut log);
}

/// Writes a log, cut after so many bytes; returns it with the events that were appended for certain.
fn written_until(cut: Option<usize>, torn_bits: u8, erases_backwards: bool, events: u64) -> (Log, u64) {
    let flash = TestFlash { bytes_left: cut, torn_bits, erases_backwards, ..TestFlash::new(3, 192) };
    let mut log = format(flash).unwrap();
    while log.next().0 < events {
        match append(&mut log) {
            Ok(_) => {}
            Err(AppendError::Flash(Fault::PowerCut)) => break,
            Err(error) => panic!("{error:?}"),
        }
    }
    let appended = log.next().0;
    (log, appended)
}

/// Every byte of every write and of every erasure, on the way twice around the ring.
#[test]
fn a_cut_at_any_byte_loses_nothing_that_was_appended_and_makes_nothing_up() {
    const EVENTS: u64 = 24;
    let (whole, _) = written_until(None, 0, false, EVENTS);
    let bytes = whole.flash.bytes_done;
    // What an undisturbed log still has after each append.
    let mut undisturbed = format(TestFlash::new(3, 192)).unwrap();
    let mut firsts = vec![Sequence::ZERO];
    for _ in 0..=EVENTS {
        append(&mut undisturbed).unwrap();
        firsts.push(undisturbed.first());
    }
    assert!(firsts[EVENTS as usize] > Sequence(12), "the ring has turned");
    let formatting = 3 * 192 + PAGE_HEADER_LEN;
    for cut in formatting..bytes {
        for (torn_bits, backwards) in [(0, false), (0x0F, false), (0xFF, true), (0xA5, true)] {
            let (log, appended) = written_until(Some(cut), torn_bits, backwards, EVENTS);
            let mut log = reset(log);
            let next = log.next().0;
            assert!(next == appended || next == appended + 1, "cut {cut}: {next} events of {appended}");
            assert!(log.first() <= firsts[appended as usize + 1], "cut {cut}: {} is the first", log.first());
            check_contents(&mut log);
            for _ in 0..6 {
                append(&mut log).unwrap();
                check_contents(&mut log);
            }
            let mut log = reset(log);
            assert_eq!(log.next().0, next + 6);
            check_contents(&mut log);
        }
    }
}

#[test]
fn a_cut_while_formatting_leaves_flash_that_is_formatted_again() {
    for cut in 0..3 * 192 + PAGE_HEADER_LEN {
        let mut flash = TestFlash { bytes_left: Some(cut), ..TestFlash::new(3, 192) };
        assert!(FlashLog::format(&mut flash, vec![0; 128], PRODUCER, CRC).is_err(), "cut {cut}");
        let found = open(TestFlash { bytes_left: None, ..flash });
        assert!(matches!(found, Err(OpenError::NotFormatted)), "cut {cut}");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Append,
    Release(u8),
    Reset,
    /// The power goes after so many more bytes, wherever that is.
    Cut {
        bytes: u16,
        torn_bits: u8,
        erases_backwards: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => Just(Step::Append),
        2 => any::<u8>().prop_map(Step::Release),
        1 => Just(Step::Reset),
        2 => (0..500u16, any::<u8>(), any::<bool>())
            .prop_map(|(bytes, torn_bits, erases_backwards)| Step::Cut { bytes, torn_bits, erases_backwards }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Cuts upon cuts: a page whose erasure was cut may be half erased again.
    #[test]
    fn any_sequence_of_cuts_keeps_order_and_content(
        pages in 2..5usize,
        page_len in 14..40usize,
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut log = format(TestFlash::new(pages, page_len * 8)).unwrap();
        let mut appended = 0;
        for step in steps {
            match step {
                Step::Append => match append(&mut log) {
                    Ok(sequence) => {
                        prop_assert_eq!(sequence.0, appended);
                        appended += 1;
                    }
                    Err(AppendError::Flash(Fault::PowerCut)) => log = reset(log),
                    Err(error) => panic!("{error:?}"),
                },
                Step::Release(share) => {
                    let end = Sequence(log.first().0 + log.len() * u64::from(share) / 255);
                    log.release(end);
                }
                Step::Reset => log = reset(log),
                Step::Cut { bytes, torn_bits, erases_backwards } => {
                    log.flash.bytes_left = Some(bytes.into());
                    (log.flash.torn_bits, log.flash.erases_backwards) = (torn_bits, erases_backwards);
                }
            }
            let next = log.next().0;
            prop_assert!(next == appended || next == appended + 1, "{} of {}", next, appended);
            appended = next;
            check_contents(&mut log);
        }
    }
}

/// The model of the records' own format: what a page holds is what the documentation says.
#[test]
fn the_bytes_are_those_of_the_documentation() {
    let mut log = format(TestFlash::new(2, 256)).unwrap();
    append(&mut log).unwrap();
    let (mut flash, _) = log.into_parts();
    let mut bytes = Vec::from([0; 40 + 8 + 25]);
    flash.read(0, 0, &mut bytes).unwrap();
    assert_eq!(&bytes[..8], b"ESPL\0\0\0\0");
    assert_eq!(&bytes[16..32], &[9; 16]);
    assert_eq!(&bytes[40..44], &[25, 0, 0xE6, 0xFF], "the length of the body and its complement");
    assert_eq!(&bytes[48..59], &[5, 0, 0, 0, 0, 0, 0, 0, 1, 0, 4]);
    assert_eq!(&bytes[59..64], b"ovenk");
}
