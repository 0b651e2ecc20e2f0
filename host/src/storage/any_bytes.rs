//! Everything that a start reads from the disk is given any bytes, as the core's decoders are (`core/fuzz`): RocksDB would
//! have to be a part of a fuzz target here. The same inputs at every run.

use super::floor::{self, FloorFile};
use super::key::{self, LogKey};
use super::point::Point;
use super::wal::{self, Condition};
use crate::checksum::CRC;
use crc::{CRC_32_ISCSI, Crc};
use std::fs;

const INPUTS: usize = 20_000;
/// Each of these is a few files.
const DISKS: usize = 400;

/// Steele, Lea and Flood's SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ mixed >> 31) % end as u64) as usize
    }

    /// Few different bytes, so that what is looked for is found now and then.
    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| [0, 1, 2, 3, 0xFF, self.below(256) as u8][self.below(6)]).collect()
    }
}

#[test]
fn any_bytes_are_a_point_or_none_and_a_point_is_written_as_it_was_read() {
    let mut random = Random(1);
    let mut found = 0;
    for _ in 0..INPUTS {
        let len = [36, 36, 36, random.below(80)][random.below(4)];
        let mut bytes = random.bytes(len);
        if let Some(point) = Point::parse(&bytes) {
            assert_eq!(point.emit()[..], bytes);
            found += 1;
        }
        if let Some(version) = bytes.first_mut() {
            *version = 2;
        }
        if let Some(point) = Point::parse(&bytes) {
            assert_eq!(point.emit()[..], bytes);
        }
    }
    assert!(found > 100, "{found} of them were points");
}

#[test]
fn any_bytes_are_a_key_or_none_and_a_key_is_written_as_it_was_read() {
    let mut random = Random(2);
    let mut found = [0; 4];
    for _ in 0..INPUTS {
        let len = [10, 11, 14, random.below(20)][random.below(4)];
        let mut bytes = random.bytes(len);
        bytes.iter_mut().take(2).for_each(|byte| *byte &= 1 << random.below(4));
        if let Some(LogKey::Entry(index)) = LogKey::parse(&bytes) {
            found[0] += 1;
            assert_eq!(key::entry(index)[..], bytes);
        }
        if let Some(LogKey::Point(index)) = LogKey::parse(&bytes) {
            found[1] += 1;
            assert_eq!(key::point(index)[..], bytes);
        }
        if let Some((topic, offset)) = key::parse_topic(&bytes) {
            found[2] += 1;
            assert_eq!(key::topic(topic, offset)[..], bytes);
        }
        if let Some(own) = key::parse_state(&bytes) {
            found[3] += 1;
            assert_eq!(key::state(own).as_ref(), bytes);
        }
    }
    assert!(found.iter().all(|&found| found > 100), "{found:?}");
}

#[test]
fn any_bytes_are_a_floor_or_make_the_node_suspect() {
    let mut random = Random(3);
    let folder = tempfile::tempdir().expect("a folder");
    let mut found = 0;
    for _ in 0..DISKS {
        let len = random.below(2 * 4_096);
        let mut bytes = random.bytes(len);
        for slot in [0, 4_096] {
            if let Some(slot) = bytes.get_mut(slot..slot + 40).filter(|_| random.below(2) == 0) {
                slot[..5].copy_from_slice(b"ESFL\x01");
                let checksum = CRC.of(&slot[..36]);
                slot[36..].copy_from_slice(&checksum.to_le_bytes());
            }
        }
        fs::write(folder.path().join("FLOOR"), &bytes).expect("a file");
        let seen = floor::look(folder.path()).expect("it can be read");
        let file = FloorFile::open(folder.path()).expect("it can be read");
        assert_eq!(seen.unwrap_or((floor::Floor::default(), true)), (file.floor(), file.is_suspect()));
        found += usize::from(seen.is_some());
    }
    assert!(found > DISKS / 10, "{found} of them were floors");
}

/// A fragment of RocksDB's write-ahead log whose checksum is right. What a record ends with tells of synced batches.
fn fragment(kind: u8, content: &[u8]) -> Vec<u8> {
    let covered = [&[kind], content].concat();
    let checksum = Crc::<u32>::new(&CRC_32_ISCSI).checksum(&covered).rotate_right(15).wrapping_add(0xA282_EAD8);
    let len = u16::try_from(content.len()).expect("a fragment is within a block");
    [&checksum.to_le_bytes()[..], &len.to_le_bytes(), &covered].concat()
}

#[test]
fn any_bytes_are_a_write_ahead_log_that_is_whole_when_it_was_cut() {
    let mut random = Random(4);
    let mut found = [0; 4];
    for _ in 0..DISKS {
        let folder = tempfile::tempdir().expect("a folder");
        for file in 0..=random.below(2) {
            let mut bytes = Vec::new();
            for _ in 0..random.below(8) {
                let len = [0, 12, 30, random.below(200), random.below(20_000)][random.below(5)];
                let mut content = random.bytes(len);
                if random.below(2) == 0 {
                    let [synced, number] = [random.below(4) as u64, random.below(4) as u64];
                    content.extend([&[3, 16][..], &synced.to_le_bytes(), &number.to_le_bytes()].concat());
                }
                let kind = [1, 1, 2, 3, 4, 130, 7][random.below(7)];
                let mut piece = fragment(kind, &content);
                if random.below(4) == 0 {
                    let at = random.below(piece.len());
                    piece[at] ^= 1 << random.below(8);
                }
                bytes.extend(piece);
            }
            bytes.truncate(bytes.len() - random.below(10).min(bytes.len()));
            fs::write(folder.path().join(format!("{file:06}.log")), &bytes).expect("a file");
        }
        let inspected = wal::inspect(folder.path(), random.below(3) as u64).expect("it can be read");
        let (place, cut) = match inspected {
            Condition::Whole => (0, None),
            Condition::Torn(cut) => (1, Some(cut)),
            Condition::Doubtful(cut) => (2, Some(cut)),
            Condition::Damaged { .. } => (3, None),
        };
        found[place] += 1;
        if let Some(cut) = cut {
            cut.perform().expect("it can be cut");
            assert_eq!(wal::inspect(folder.path(), 0).expect("it can be read"), Condition::Whole);
        }
    }
    assert!(found.iter().all(|&found| found > 0), "{found:?}");
}
