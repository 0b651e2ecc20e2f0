//! What a disk may do to the data, and what the node says to it.

use crate::support::{Node, append, entries, sync};
use eventstream_core::id::Index;
use eventstream_host::storage::{OpenError, StoreError};
use rocksdb::{DB, Options};
use std::fs::{self, OpenOptions};
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

/// The file without the zeros that were allocated in advance.
fn written_len(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

#[test]
fn a_tail_that_was_cut_takes_only_the_last_batch() {
    let node = three_batches();
    let wal = wal(&node);
    let len = written_len(&fs::read(&wal).unwrap());
    OpenOptions::new().write(true).open(&wal).unwrap().set_len(len as u64 - 20).unwrap();
    let opened = node.open();
    assert_eq!(opened.stored.last.index, Index(6));
    assert_eq!(entries(&opened.reader, 1, 99).len(), 6);
}

#[test]
fn a_flipped_bit_before_the_tail_is_refused_at_start() {
    let node = three_batches();
    let wal = wal(&node);
    let mut bytes = fs::read(&wal).unwrap();
    let middle = written_len(&bytes) / 2;
    bytes[middle] ^= 1;
    fs::write(&wal, bytes).unwrap();
    assert!(matches!(node.try_open(), Err(OpenError::Rocks { .. })));
}

#[test]
fn a_missing_log_file_is_refused_at_start() {
    let node = three_batches();
    fs::remove_file(wal(&node)).unwrap();
    assert!(matches!(node.try_open(), Err(OpenError::Rocks { .. })));
}

/// Removes keys below RocksDB's own checks, as a file that was lost without a trace would.
fn remove(node: &Node, keys: &[&[u8]]) {
    let families = ["default", "log", "index", "state"];
    let database = DB::open_cf(&Options::default(), node.dir.join("data"), families).unwrap();
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
        let families = ["default", "log", "index", "state"];
        let database = DB::open_cf(&Options::default(), node.dir.join("data"), families).unwrap();
        let log = database.cf_handle("log").unwrap();
        database.put_cf(log, entry(8), crate::support::frame(8, 2, 100)).unwrap();
    }
    assert!(matches!(node.try_open(), Err(OpenError::Store(StoreError::Damaged(_)))));
}
