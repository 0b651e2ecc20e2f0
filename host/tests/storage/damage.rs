//! What a disk may do to the data, and what the node says to it.

use crate::support::{Node, append, entries, sync};
use core::fmt::Write;
use core::ops::ControlFlow;
use eventstream_core::id::{Index, Offset, Term, TopicId};
use eventstream_core::raft::{HardState, LogView};
use eventstream_host::storage::{Durability, LogStore, OpenError, Row, StoreError};
use rocksdb::{DB, Options};
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// A log of three synced batches of three entries each, all of it in RocksDB's own log.
fn three_batches() -> Node {
    let node = Node::new();
    let mut opened = node.open();
    for first in [1, 4, 7] {
        append(&mut opened, first..=first + 2, 1);
        sync(&mut opened);
    }
    node
}

/// RocksDB's own log, the newest.
fn wal(node: &Node) -> PathBuf {
    let files = fs::read_dir(node.dir.join("data")).unwrap().map(|file| file.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "log")).max().unwrap()
}

/// Where each of the three batches ends in it.
fn ends(node: &Node) -> Vec<u64> {
    let mut opened = node.open();
    let wal = wal(node);
    let mut ends = Vec::new();
    for first in [1, 4, 7] {
        append(&mut opened, first..=first + 2, 1);
        sync(&mut opened);
        ends.push(fs::metadata(&wal).unwrap().len());
    }
    ends
}

fn cut(node: &Node, len: u64) {
    OpenOptions::new().write(true).open(wal(node)).unwrap().set_len(len).unwrap();
}

fn change(node: &Node, change: impl FnOnce(&mut [u8])) {
    let wal = wal(node);
    let mut bytes = fs::read(&wal).unwrap();
    change(&mut bytes);
    fs::write(&wal, bytes).unwrap();
}

#[test]
fn a_tail_that_was_cut_takes_only_the_last_batch() {
    for short in [1, 20, 300] {
        let node = Node::new();
        let ends = ends(&node);
        cut(&node, ends[2] - short);
        let opened = node.open();
        assert_eq!((opened.stored.last.index, opened.stored.suspect), (Index(6), false));
        assert_eq!(entries(&opened.reader, 1, 99).len(), 6);
    }
}

#[test]
fn a_damaged_last_batch_is_dropped_and_makes_the_node_suspect_for_good() {
    type Damage = fn(&mut [u8]);
    let damages: [Damage; 4] = [
        |last| last.fill(0),
        |last| last[..7].fill(0),
        |last| last[100] ^= 4,
        |last| *last.last_mut().unwrap() ^= 0x80,
    ];
    for damage in damages {
        let node = Node::new();
        let ends = ends(&node);
        change(&node, |bytes| damage(&mut bytes[ends[1] as usize..]));
        // Nobody has cleared it by the second start.
        for _ in 0..2 {
            let opened = node.open();
            assert_eq!((opened.stored.last.index, opened.stored.suspect), (Index(6), true));
            assert_eq!(entries(&opened.reader, 1, 99).len(), 6);
        }
        let mut opened = node.open();
        append(&mut opened, 7..=8, 2);
        sync(&mut opened);
        opened.store.save_floor().unwrap();
        drop(opened);
        let opened = node.open();
        assert_eq!((opened.stored.last.index, opened.stored.suspect), (Index(8), true));
    }
}

#[test]
fn a_suspect_node_is_one_until_its_hard_state_says_so_and_then_says_otherwise() {
    let node = Node::new();
    let ends = ends(&node);
    change(&node, |bytes| bytes[ends[1] as usize + 50] ^= 1);
    let suspect = HardState { term: Term(3), suspect: true, ..HardState::default() };
    let mut opened = node.open();
    opened.store.set_hard_state(suspect).unwrap();
    opened.store.save_floor().unwrap();
    drop(opened);
    assert_eq!(node.open().stored.hard_state, HardState::default(), "it was never written");
    let mut opened = node.open();
    assert!(opened.stored.suspect);
    opened.store.set_hard_state(suspect).unwrap();
    sync(&mut opened);
    drop(opened);
    assert!(node.open().stored.suspect, "the floor was not saved since");
    let mut opened = node.open();
    append(&mut opened, 7..=7, 3);
    sync(&mut opened);
    opened.store.save_floor().unwrap();
    drop(opened);
    let mut opened = node.open();
    assert_eq!((opened.stored.suspect, opened.stored.hard_state), (false, suspect));
    let trusted = HardState { suspect: false, ..suspect };
    opened.store.set_hard_state(trusted).unwrap();
    sync(&mut opened);
    drop(opened);
    let opened = node.open();
    assert_eq!((opened.stored.suspect, opened.stored.hard_state), (false, trusted));
}

#[test]
fn a_damage_in_what_was_synced_is_refused_and_nothing_is_touched() {
    for (damaged, at) in [(0, 30), (0, 500), (1, 3), (1, 200)] {
        let node = Node::new();
        let ends = ends(&node);
        let starts = [0, ends[0], ends[1]];
        change(&node, |bytes| bytes[(starts[damaged] + at) as usize] ^= 1);
        let before = fs::read(wal(&node)).unwrap();
        for _ in 0..2 {
            match node.try_open().map(|_| ()) {
                Err(OpenError::LogDamaged { file, offset }) => {
                    assert_eq!((file, offset), (wal(&node), starts[damaged]));
                }
                other => panic!("{damaged} {at}: {other:?}"),
            }
        }
        assert!(fs::read(wal(&node)).unwrap() == before);
    }
}

#[test]
fn rows_behind_the_damage_tell_that_it_was_synced() {
    let node = Node::new();
    let ends = ends(&node);
    let mut opened = node.open();
    opened.store.put_row(&Row::State { key: b"key", value: b"value" }).unwrap();
    opened.store.commit(Durability::Unsynced).unwrap();
    drop(opened);
    // That start has begun a new log file, in which there is nothing but the rows.
    assert!(fs::metadata(wal(&node)).unwrap().len() < ends[0]);
    let mut opened = node.open();
    append(&mut opened, 10..=12, 1);
    sync(&mut opened);
    let start = fs::metadata(wal(&node)).unwrap().len();
    append(&mut opened, 13..=15, 1);
    sync(&mut opened);
    opened.store.put_row(&Row::State { key: b"key", value: b"other" }).unwrap();
    opened.store.commit(Durability::Unsynced).unwrap();
    drop(opened);
    change(&node, |bytes| bytes[start as usize + 100] ^= 1);
    assert!(matches!(node.try_open(), Err(OpenError::LogDamaged { offset, .. }) if offset == start));
}

#[test]
fn a_missing_log_file_is_refused_at_start() {
    let node = three_batches();
    fs::remove_file(wal(&node)).unwrap();
    assert!(matches!(node.try_open(), Err(OpenError::Rocks { .. })));
}

fn lost_tail(node: &Node) -> ((u64, Index), (u64, Index)) {
    match node.try_open().map(|_| ()) {
        Err(OpenError::LogTailLost { floor, found, .. }) => (floor, found),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_log_cut_at_a_records_boundary_below_the_floor_is_noticed() {
    let node = Node::new();
    let ends = ends(&node);
    {
        let mut opened = node.open();
        append(&mut opened, 10..=12, 1);
        sync(&mut opened);
        opened.store.save_floor().unwrap();
    }
    assert!(ends[0] > 0);
    cut(&node, 0);
    for _ in 0..2 {
        assert_eq!(lost_tail(&node), ((4, Index(12)), (3, Index(9))), "and no second start gets over it");
    }
}

#[test]
fn an_orderly_end_leaves_nothing_above_the_floor() {
    let node = three_batches();
    let mut opened = node.open();
    append(&mut opened, 10..=10, 1);
    sync(&mut opened);
    opened.store.close().unwrap();
    drop(opened);
    remove(&node, &[&entry(10), &point(10)]);
    assert_eq!(lost_tail(&node), ((4, Index(10)), (3, Index(9))));
}

#[test]
fn a_cut_above_the_floor_does_not_show() {
    let node = Node::new();
    let ends = ends(&node);
    cut(&node, ends[1]);
    let opened = node.open();
    assert_eq!((opened.stored.last.index, opened.stored.suspect), (Index(6), false));
    drop(opened);
    // But once a start has found it, it is the floor.
    let mut opened = node.open();
    append(&mut opened, 7..=7, 1);
    sync(&mut opened);
    drop(opened);
    drop(node.open());
    remove(&node, &[&entry(7), &point(7)]);
    assert_eq!(lost_tail(&node), ((3, Index(7)), (2, Index(6))));
}

#[test]
fn a_lost_vote_is_noticed_though_no_entry_is() {
    let node = three_batches();
    let mut opened = node.open();
    let before = fs::metadata(wal(&node)).unwrap().len();
    opened.store.set_hard_state(HardState { term: Term(9), ..HardState::default() }).unwrap();
    sync(&mut opened);
    opened.store.save_floor().unwrap();
    drop(opened);
    cut(&node, before);
    assert_eq!(lost_tail(&node), ((4, Index(9)), (3, Index(9))));
}

#[test]
fn another_log_of_the_same_length_does_not_reach_the_floor() {
    let (node, other) = (Node::new(), Node::new());
    for (node, term) in [(&node, 1), (&other, 2)] {
        let mut opened = node.open();
        append(&mut opened, 1..=9, term);
        sync(&mut opened);
        opened.store.save_floor().unwrap();
    }
    fs::copy(other.dir.join("FLOOR"), node.dir.join("FLOOR")).unwrap();
    assert_eq!(lost_tail(&node), ((1, Index(9)), (1, Index(9))));
}

/// A follower drops what another leader's log does not have. A crash may come anywhere.
#[test]
fn the_floor_falls_before_a_cut_and_rises_after_it() {
    // Nothing of the cut is committed.
    let node = three_batches();
    {
        let mut opened = node.open();
        opened.store.truncate(Index(5)).unwrap();
        opened.store.save_floor().unwrap();
    }
    assert_eq!(node.open().stored.last.index, Index(9));
    // The cut is, and the floor is as the cut left it.
    {
        let mut opened = node.open();
        opened.store.truncate(Index(5)).unwrap();
        opened.store.save_floor().unwrap();
        append(&mut opened, 5..=6, 2);
        sync(&mut opened);
    }
    assert_eq!(node.open().stored.last.index, Index(6));
    // The floor has risen again.
    {
        let mut opened = node.open();
        opened.store.truncate(Index(3)).unwrap();
        append(&mut opened, 3..=3, 3);
        sync(&mut opened);
        opened.store.save_floor().unwrap();
    }
    assert_eq!(node.open().stored.last.index, Index(3));
}

/// The power fails when the cut is on the disk, and before anything else is.
#[test]
fn a_cut_finds_the_floor_lowered_already() {
    for slot in 0..2 {
        let node = three_batches();
        let floor = node.dir.join("FLOOR");
        let before_the_cut = {
            let mut opened = node.open();
            opened.store.truncate(Index(5)).unwrap();
            let floor = fs::read(&floor).unwrap();
            append(&mut opened, 5..=6, 2);
            sync(&mut opened);
            floor
        };
        fs::write(&floor, before_the_cut).unwrap();
        // A slot that rots later does not bring the old floor back.
        OpenOptions::new().write(true).open(&floor).unwrap().write_all_at(&[0xFF], slot * 4_096 + 20).unwrap();
        assert_eq!(node.open().stored.last.index, Index(6), "slot {slot}");
    }
}

#[test]
fn the_floor_does_not_rise_to_what_was_not_synced() {
    let node = three_batches();
    let mut opened = node.open();
    let before = fs::metadata(wal(&node)).unwrap().len();
    append(&mut opened, 10..=12, 1);
    opened.store.commit(Durability::Unsynced).unwrap();
    opened.store.save_floor().unwrap();
    drop(opened);
    // The power fails.
    cut(&node, before);
    assert_eq!(node.open().stored.last.index, Index(9));
}

#[test]
fn entries_that_are_still_collected_are_committed_before_the_floor_falls() {
    let node = three_batches();
    {
        let mut opened = node.open();
        append(&mut opened, 10..=12, 1);
        opened.store.truncate(Index(2)).unwrap();
    }
    assert_eq!(node.open().stored.last.index, Index(12));
    {
        let mut opened = node.open();
        append(&mut opened, 13..=14, 1);
        opened.store.truncate(Index(2)).unwrap();
        sync(&mut opened);
    }
    assert_eq!(node.open().stored.last.index, Index(1));
}

#[test]
fn a_floor_that_is_gone_or_damaged_proves_nothing_about_the_log() {
    type Damage = fn(&Node);
    let damages: [Damage; 2] = [
        |node| fs::remove_file(node.dir.join("FLOOR")).unwrap(),
        |node| fs::write(node.dir.join("FLOOR"), [7; 8_192]).unwrap(),
    ];
    for damage in damages {
        let node = three_batches();
        damage(&node);
        for _ in 0..2 {
            let opened = node.open();
            assert_eq!((opened.stored.last.index, opened.stored.suspect), (Index(9), true));
        }
        // From then on it names what that start found.
        remove(&node, &[&entry(7), &entry(8), &entry(9), &point(9)]);
        assert_eq!(lost_tail(&node), ((3, Index(9)), (2, Index(6))));
    }
}

/// What a whole read of the store gives: entries, rows of the topic index and of the state.
fn read_everything(node: &Node) -> Result<String, String> {
    let opened = node.try_open().map_err(|error| error.to_string())?;
    let mut all = format!("{:?}\n", opened.stored);
    let read = opened.reader.entries(Index(1), Index(99), usize::MAX, |index, frame| {
        let _ = writeln!(all, "{index} {frame:?}");
        ControlFlow::Continue(())
    });
    read.map_err(|error| error.to_string())?;
    let row = opened.reader.topic_row(TopicId(1), Offset(7)).map_err(|error| error.to_string())?;
    let _ = writeln!(all, "{row:?}");
    let rows = opened.reader.state_rows(|key, value| {
        let _ = writeln!(all, "{key:?} {value:?}");
    });
    rows.map(|()| all).map_err(|error| error.to_string())
}

#[test]
fn a_flipped_bit_in_a_file_is_never_read_as_something_else() {
    let node = Node::new();
    let mut opened = node.open();
    append(&mut opened, 1..=20, 1);
    let (topic, first_offset, index) = (TopicId(1), Offset(0), Index(3));
    opened.store.put_row(&Row::Topic { topic, first_offset, index, mask: 7 }).unwrap();
    opened.store.put_row(&Row::State { key: b"key", value: b"value" }).unwrap();
    sync(&mut opened);
    opened.store.close().unwrap();
    drop(opened);
    let whole = read_everything(&node).unwrap();
    let (mut refused, mut tried) = (0, 0);
    for file in fs::read_dir(node.dir.join("data")).unwrap().map(|file| file.unwrap().path()) {
        if file.extension().is_none_or(|extension| extension != "sst") {
            continue;
        }
        let bytes = fs::read(&file).unwrap();
        for at in (0..bytes.len()).step_by(61) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            fs::write(&file, damaged).unwrap();
            tried += 1;
            match read_everything(&node) {
                // What nobody reads may be damaged: filters, properties, what RocksDB says of itself.
                Ok(read) => assert_eq!(read, whole, "byte {at} of {}", file.display()),
                Err(words) => {
                    refused += 1;
                    // RocksDB blames another file for what it finds in the properties of this one.
                    let names_a_file = words.contains(".sst") || words.contains("MANIFEST");
                    assert!(words.contains("Corruption") && names_a_file, "byte {at}: {words}");
                }
            }
        }
        fs::write(&file, bytes).unwrap();
    }
    assert!(refused > tried / 3, "{refused} of {tried}");
}

#[test]
fn a_term_that_cannot_be_read_is_remembered_as_a_failure() {
    let node = Node::new();
    let mut opened = node.open();
    append(&mut opened, 1..=2_000, 1);
    sync(&mut opened);
    append(&mut opened, 2_001..=2_002, 1);
    sync(&mut opened);
    opened.store.close().unwrap();
    drop(opened);
    let files = fs::read_dir(node.dir.join("data")).unwrap().map(|file| file.unwrap().path());
    let files = files.filter(|file| file.extension().is_some_and(|extension| extension == "sst"));
    let log = files.max_by_key(|file| fs::metadata(file).unwrap().len()).unwrap();
    let mut bytes = fs::read(&log).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&log, bytes).unwrap();
    let opened = node.open();
    assert_eq!((opened.reader.term(Index(2_002)), opened.reader.term(Index(9_999))), (Some(Term(1)), None));
    assert!(opened.reader.failure().is_none());
    assert_eq!(opened.reader.term(Index(1_001)), None);
    let words = opened.reader.clone().failure().unwrap().to_string();
    assert!(words.contains(log.file_name().unwrap().to_str().unwrap()), "{words}");
}

/// Opens the data without our own checks.
fn data(node: &Node) -> DB {
    let mut options = Options::default();
    options.set_disable_auto_compactions(true);
    let families = ["default", "log", "index", "state"].map(|family| (family, options.clone()));
    DB::open_cf_with_opts(&options, node.dir.join("data"), families).unwrap()
}

/// Removes keys below RocksDB's own checks, as a file that was lost without a trace would.
fn remove(node: &Node, keys: &[&[u8]]) {
    let database = data(node);
    let log = database.cf_handle("log").unwrap();
    keys.iter().for_each(|key| database.delete_cf(log, key).unwrap());
}

fn entry(index: u8) -> [u8; 10] {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, index]
}

fn point(index: u8) -> [u8; 11] {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, index, 1]
}

#[test]
fn entries_that_are_missing_below_the_last_batch_are_named() {
    for missing in [&[entry(5)][..], &[entry(4), entry(5), entry(6)], &[entry(9)], &[entry(7), entry(8), entry(9)]] {
        let node = three_batches();
        let mut keys: Vec<&[u8]> = missing.iter().map(|key| &key[..]).collect();
        // The middle batch is lost with all that it brought.
        let lost = point(6);
        keys.push(&lost);
        remove(&node, &keys);
        match node.try_open().map(|_| ()) {
            Err(OpenError::Store(StoreError::Damaged(what))) => assert!(what.contains("missing"), "{what}"),
            other => panic!("{missing:?}: {other:?}"),
        }
    }
}

#[test]
fn a_last_batch_without_its_record_is_no_batch() {
    let node = three_batches();
    remove(&node, &[&point(9)]);
    assert!(matches!(node.try_open(), Err(OpenError::Store(StoreError::Damaged(_)))));
}

#[test]
fn entries_that_are_others_than_those_synced_are_found() {
    let node = three_batches();
    {
        let database = data(&node);
        let log = database.cf_handle("log").unwrap();
        database.put_cf(log, entry(8), crate::support::frame(8, 2, 100)).unwrap();
    }
    assert!(matches!(node.try_open(), Err(OpenError::Store(StoreError::Damaged(_)))));
}
