//! A writer that is killed, and a writer whose disk is full: each in a process of its own, started from this same binary.

use crate::support::{Engine, Node, entries, entry, frame, rows};
use core::ops::ControlFlow;
use eventstream_core::id::{Index, NodeId, Term};
use eventstream_core::raft::{HardState, Token};
use eventstream_host::identity::Identity;
use eventstream_host::storage::{self, Durability, Job, LogStore, Report, Row, StoreError};
use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Tells a child its directory; without it the children's functions do nothing.
const DIRECTORY: &str = "EVENTSTREAM_TEST_DIRECTORY";

fn child(command: Command, dir: &Path, function: &str) -> Child {
    try_child(command, dir, function).expect("the program is there")
}

/// `None` if there is no such program.
fn try_child(mut command: Command, dir: &Path, function: &str) -> Option<Child> {
    command.args([function, "--exact", "--ignored", "--nocapture"]).env(DIRECTORY, dir);
    match command.stdout(Stdio::piped()).spawn() {
        Ok(child) => Some(child),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => panic!("{error}"),
    }
}

fn opened_by_child() -> Option<storage::Opened> {
    let dir = env::var_os(DIRECTORY)?;
    let dir = Path::new(&dir);
    Some(storage::open(dir, &Identity::load(dir).unwrap()).unwrap())
}

/// The numbers that a child says behind a word.
fn said<'a>(lines: &'a mut impl Iterator<Item = String>, word: &'a str) -> impl Iterator<Item = u64> + 'a {
    lines.filter_map(move |line| line.split_once(word).map(|(_, number)| number.trim().parse().unwrap()))
}

#[test]
#[ignore = "started by a_killed_writer_leaves_all_that_it_reported"]
fn writer() {
    let Some(opened) = opened_by_child() else { return };
    let mut index = opened.stored.last.index.0;
    let term = opened.stored.hard_state.term.0 + 1;
    drop(opened.reader);
    let mut engine = Engine::start(opened.store);
    let hard_state = HardState { term: Term(term), vote: Some(NodeId(1)), suspect: false };
    // Each life cuts a little of what the last one left.
    let cut = index.saturating_sub(3).max(1);
    if index > 0 {
        engine.push([Job::HardState(hard_state), Job::Truncate(Index(cut))]);
        index = cut - 1;
    }
    loop {
        for _ in 0..20 {
            index += 1;
            engine.push([Job::HardState(hard_state), entry(index, term, 1_000), Job::Sync(Token(index))]);
        }
        // Applied is what no later life cuts. A checkpoint of two blocks, which belong together.
        let applied = (index - 10).to_le_bytes();
        let first = rows(&[Row::State { key: b"producer", value: &applied }]);
        let second =
            rows(&[Row::State { key: b"topic", value: &applied }, Row::State { key: b"meta", value: &applied }]);
        engine.push([Job::Rows { packed: first, last: false }, Job::Rows { packed: second, last: true }]);
        while let Report::Persisted(token) = engine.wait() {
            println!("persisted {}", token.0);
            if token.0 == index {
                break;
            }
        }
    }
}

#[test]
fn a_killed_writer_leaves_all_that_it_reported() {
    let node = Node::new();
    drop(node.open());
    for life in 1..=5 {
        let mut child = child(Command::new(env::current_exe().unwrap()), &node.dir, "children::writer");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let before =
            said(&mut lines, "persisted ").nth(10 * life as usize).expect("the writer writes until it is killed");
        child.kill().unwrap();
        child.wait().unwrap();
        // What was in the pipe was said before the kill.
        let reported = said(&mut lines, "persisted ").last().unwrap_or(before);

        let opened = node.open();
        assert!(opened.stored.last.index >= Index(reported), "{reported} was reported, {:?}", opened.stored);
        assert_eq!(opened.stored.hard_state, HardState { term: Term(life), vote: Some(NodeId(1)), suspect: false });
        let last = opened.stored.last.index;
        let read = opened.reader.entries(Index(1), last, usize::MAX, |index, found| {
            let term = u64::from_le_bytes(*found[24..].first_chunk().unwrap());
            assert_eq!(found, frame(index.0, term, 1_000));
            ControlFlow::Continue(())
        });
        assert_eq!(read.unwrap().next, last.next());
        let mut applied = Vec::new();
        opened.reader.state_rows(|_, value| applied.push(u64::from_le_bytes(value.try_into().unwrap()))).unwrap();
        assert_eq!(applied.len(), 3, "a checkpoint was written long before the kill");
        assert!(applied.iter().all(|index| *index == applied[0]), "half a checkpoint: {applied:?}");
        assert!(Index(applied[0]) <= last, "the state is ahead of the log: {applied:?}, {last}");
        assert!(entries(&opened.reader, 1, last.0).iter().map(|(_, term)| term).is_sorted());
    }
}

#[test]
#[ignore = "started by a_write_that_fails_poisons_the_store_for_good"]
fn writer_to_a_full_disk() {
    let Some(mut opened) = opened_by_child() else { return };
    let mut last = 0;
    let error = loop {
        opened.store.append(Index(last + 1), &frame(last + 1, 1, 30_000)).unwrap();
        match opened.store.commit(Durability::Synced) {
            Ok(()) => last += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Write(_)), "{error}");
    let poisoned = |result| matches!(result, Err(StoreError::Poisoned));
    assert!(poisoned(opened.store.commit(Durability::Synced)));
    assert!(poisoned(opened.store.set_hard_state(HardState::default())));
    assert!(poisoned(opened.store.append(Index(last + 2), &frame(last + 2, 1, 10))));
    assert!(poisoned(opened.store.truncate(Index(1))));
    assert!(poisoned(opened.store.close()));
    println!("synced {last}");
}

#[test]
fn a_write_that_fails_poisons_the_store_for_good() {
    let node = Node::new();
    drop(node.open());
    // Files of at most 2 MiB, and an error instead of a signal beyond it.
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' XFSZ; ulimit -f 4096; exec \"$0\" \"$@\""]).arg(env::current_exe().unwrap());
    let mut child = child(shell, &node.dir, "children::writer_to_a_full_disk");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let synced = said(&mut lines, "synced ").last();
    assert!(child.wait().unwrap().success());
    let synced = synced.expect("the child says what it could sync");
    assert!(synced > 10, "{synced}");
    let opened = node.open();
    assert!(opened.stored.last.index >= Index(synced));
    assert_eq!(entries(&opened.reader, 1, synced).len() as u64, synced);
}

#[test]
#[ignore = "started by a_write_returns_after_the_disk_was_told_to_keep_it"]
fn writer_of_three() {
    let Some(mut opened) = opened_by_child() else { return };
    println!("writing 0");
    for index in 1..=3 {
        opened.store.append(Index(index), &frame(index, 1, 1_000)).unwrap();
        opened.store.commit(Durability::Synced).unwrap();
        println!("synced {index}");
    }
    opened.store.set_hard_state(HardState::default()).unwrap();
    opened.store.commit(Durability::Unsynced).unwrap();
    println!("written 4");
}

/// What a child, whose first words are these, asks of the system: its writes and syncs, with their files. `None` if nobody
/// may know, which it says.
fn traced(node: &Node, function: &str, first_words: &str) -> Option<String> {
    let trace = node.dir.with_extension("trace");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-y", "-s", "32", "-e", "trace=write,pwrite64,fsync,fdatasync", "-o"]).arg(&trace);
    strace.arg(env::current_exe().unwrap()).stderr(Stdio::null());
    let Some(mut child) = try_child(strace, &node.dir, function) else {
        println!("SKIPPED: there is no strace");
        return None;
    };
    let is_traced = child.wait().unwrap().success();
    let trace = fs::read_to_string(&trace).unwrap_or_default();
    if !is_traced && !trace.contains(first_words) {
        println!("SKIPPED: strace may not trace here");
        return None;
    }
    assert!(is_traced, "{trace}");
    Some(trace)
}

#[test]
fn a_write_returns_after_the_disk_was_told_to_keep_it() {
    let node = Node::new();
    drop(node.open());
    let Some(trace) = traced(&node, "children::writer_of_three", "writing 0") else { return };
    let position = |what: &str| trace.lines().position(|line| line.contains(what)).expect(what);
    let syncs_between = |from: &str, to: &str| {
        let lines = trace.lines().skip(position(from)).take(position(to) - position(from));
        lines.filter(|line| line.contains("sync") && line.ends_with("= 0")).count()
    };
    for (from, to) in [("writing 0", "synced 1"), ("synced 1", "synced 2"), ("synced 2", "synced 3")] {
        assert!(syncs_between(from, to) > 0, "no sync before {to:?}:\n{trace}");
    }
    assert_eq!(syncs_between("synced 3", "written 4"), 0, "{trace}");
}

#[test]
#[ignore = "started by the_floor_is_on_the_disk_before_a_cut_and_after_what_it_speaks_of"]
fn writer_that_cuts() {
    let Some(mut opened) = opened_by_child() else { return };
    println!("writing");
    (1..=9).for_each(|index| opened.store.append(Index(index), &frame(index, 1, 1_000)).unwrap());
    opened.store.commit(Durability::Synced).unwrap();
    println!("saving the floor");
    opened.store.save_floor().unwrap();
    println!("cutting");
    opened.store.truncate(Index(5)).unwrap();
    opened.store.append(Index(5), &frame(5, 2, 1_000)).unwrap();
    opened.store.commit(Durability::Synced).unwrap();
    println!("saving again");
    opened.store.save_floor().unwrap();
    println!("done");
}

#[test]
fn the_floor_is_on_the_disk_before_a_cut_and_after_what_it_speaks_of() {
    let node = Node::new();
    drop(node.open());
    let Some(trace) = traced(&node, "children::writer_that_cuts", "writing") else { return };
    // What the writer said, and what it asked of the floor and of the log in between.
    let step = |line: &str| {
        let call = line.split_once(' ')?.1.trim_start();
        let (name, file) = (call.split_once('(')?.0, call.split_once('<')?.1.split_once('>')?.0);
        let said = || call.split_once('"').and_then(|(_, rest)| Some(rest.split_once("\\n")?.0.to_owned()));
        let is_log = Path::new(file).extension().is_some_and(|extension| extension == "log");
        let what = if file.ends_with("/FLOOR") { "floor" } else { "log" };
        match name {
            "write" | "pwrite64" if what == "floor" || is_log => Some(format!("{what} written")),
            "fsync" | "fdatasync" if what == "floor" || is_log => {
                assert!(line.ends_with("= 0"), "{line}");
                Some(format!("{what} synced"))
            }
            "write" => said(),
            _ => None,
        }
    };
    let mut steps: Vec<String> = trace.lines().filter_map(step).skip_while(|step| step != "writing").collect();
    steps.truncate(steps.iter().position(|step| step == "done").expect("the writer ends"));
    // A record in more than one block of the log may take more than one call.
    steps.dedup();
    let (log, floor) = (["log written", "log synced"], ["floor written", "floor synced"]);
    let expected: Vec<&str> = [
        &["writing"][..],
        &log,
        &["saving the floor"],
        &floor,
        &["cutting"],
        &floor,
        &floor,
        &log,
        &["saving again"],
        &floor,
    ]
    .concat();
    assert_eq!(steps, expected, "{trace}");
}
