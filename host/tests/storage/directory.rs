//! Which directories a node takes, and which it refuses.

use crate::support::{Node, append, sync};
use core::ops::RangeInclusive;
use eventstream_core::id::{ClusterId, Incarnation, Index, NodeId};
use eventstream_host::storage::{OpenError, Opened};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

fn write(opened: &mut Opened, range: RangeInclusive<u64>) {
    append(opened, range, 1);
    sync(opened);
}

#[test]
fn a_directory_is_used_once_at_a_time() {
    let node = Node::new();
    let opened = node.open();
    assert!(matches!(node.try_open(), Err(OpenError::InUse { .. })));
    let Opened { store, reader, .. } = opened;
    drop(store);
    assert!(matches!(node.try_open(), Err(OpenError::InUse { .. })), "a reader is a user");
    drop(reader);
    node.open();
}

#[test]
fn data_of_somebody_else_is_refused_and_named() {
    let mut node = Node::new();
    write(&mut node.open(), 1..=3);
    let mine = node.identity.clone();
    let mut refused = |line: &str, change: fn(&mut eventstream_host::identity::Identity)| {
        node.identity = mine.clone();
        change(&mut node.identity);
        match node.try_open().map(|_| ()) {
            Err(OpenError::Foreign { expected, found, .. }) => {
                assert!(expected.starts_with(line) && found.starts_with(line), "{expected:?}, {found:?}");
                assert_ne!(expected, found);
            }
            other => panic!("{line}: {other:?}"),
        }
    };
    refused("cluster", |identity| identity.cluster = ClusterId([1; 16]));
    refused("node", |identity| identity.node = NodeId(2));
    refused("incarnation", |identity| identity.incarnation = Incarnation([1; 16]));
    refused("producers", |identity| identity.parameters.producers += 1);
    refused("member", |identity| identity.members[0].incarnation = Incarnation([2; 16]));
    node.identity = mine;
    node.identity.members[0].address = "127.0.0.1:9999".parse().unwrap();
    assert_eq!(node.open().stored.last.index, Index(3), "an address may change");
}

#[test]
fn another_version_is_refused_before_anything_is_touched() {
    let node = Node::new();
    write(&mut node.open(), 1..=3);
    fs::write(node.dir.join("VERSION"), "1\n").unwrap();
    let before = listing(&node.dir.join("data"));
    match node.try_open().map(|_| ()) {
        Err(OpenError::Version { found, .. }) => assert_eq!(found, "1"),
        other => panic!("{other:?}"),
    }
    assert_eq!(listing(&node.dir.join("data")), before);
}

#[test]
fn a_node_that_lost_its_data_does_not_start_as_a_new_one() {
    let node = Node::new();
    write(&mut node.open(), 1..=3);
    fs::remove_dir_all(node.dir.join("data")).unwrap();
    assert!(matches!(node.try_open(), Err(OpenError::DataLost { .. })));
    assert!(!node.dir.join("data").exists());
}

#[test]
fn a_directory_that_was_emptied_is_no_new_one() {
    let node = Node::new();
    write(&mut node.open(), 1..=3);
    for file in fs::read_dir(&node.dir).unwrap().map(|file| file.unwrap().path()) {
        match file.file_name().unwrap().to_str().unwrap() {
            "identity.toml" => {}
            "data" => fs::remove_dir_all(file).unwrap(),
            _ => fs::remove_file(file).unwrap(),
        }
    }
    assert!(matches!(node.try_open(), Err(OpenError::DataLost { .. })));
}

#[test]
fn a_first_start_that_was_interrupted_is_taken_up() {
    let node = Node::new();
    // Before the data was renamed.
    fs::create_dir(node.dir.join("data.new")).unwrap();
    fs::write(node.dir.join("data.new/CURRENT"), "half").unwrap();
    write(&mut node.open(), 1..=3);
    assert!(!node.dir.join("data.new").exists());
    // Before the version was written.
    fs::remove_file(node.dir.join("VERSION")).unwrap();
    fs::write(node.dir.join("NEW"), "").unwrap();
    assert_eq!(node.open().stored.last.index, Index(3));
    assert_eq!(fs::read_to_string(node.dir.join("VERSION")).unwrap(), "2\n");
    assert!(!node.dir.join("NEW").exists());
}

#[test]
fn a_file_system_in_memory_is_as_good() {
    let Ok(out) = TempDir::new_in("/dev/shm") else {
        println!("skipped: there is no /dev/shm");
        return;
    };
    let node = Node::below(out);
    let mut opened = node.open();
    println!("direct I/O on /dev/shm: {}", opened.direct_io);
    write(&mut opened, 1..=3);
    drop(opened);
    assert_eq!(node.open().stored.last.index, Index(3));
}

fn listing(folder: &Path) -> Vec<(String, u64)> {
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap());
    let mut all: Vec<_> =
        files.map(|file| (file.file_name().into_string().unwrap(), file.metadata().unwrap().len())).collect();
    all.sort();
    all
}
