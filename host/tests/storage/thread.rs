//! The storage thread: order, groups, tokens, and the end after a failure. On a store that only takes notes, and whose
//! commits wait for the test.

use crate::support::{Engine, Node, block, entry, frame, new_pool, rows};
use eventstream_core::id::{Index, NodeId, Offset, Term, TopicId};
use eventstream_core::raft::{HardState, Token};
use eventstream_host::storage::{Durability, GROUP_BYTES, JOBS, Job, LogStore, REPORTS, Report, Row, StoreError};
use std::sync::mpsc::{Receiver, Sender, channel};

/// What a commit of the store held.
type Commit = (Durability, Vec<String>);

struct Notes {
    parts: Vec<String>,
    bytes: usize,
    /// Each commit is sent here,
    commits: Sender<Commit>,
    /// and does what comes back.
    verdicts: Receiver<bool>,
    /// Each save of the floor is told here.
    floors: Sender<()>,
}

/// The test's side of it.
struct Desk {
    commits: Receiver<Commit>,
    verdicts: Sender<bool>,
    floors: Receiver<()>,
}

impl Desk {
    /// Waits for a commit to begin.
    fn begun(&self) -> Commit {
        self.commits.recv().unwrap()
    }

    /// Lets the commit that has begun succeed or fail.
    fn ends(&self, well: bool) {
        self.verdicts.send(well).unwrap();
    }
}

fn notes() -> (Notes, Desk) {
    let ((commits, seen), (verdicts, awaited), (floors, saved)) = (channel(), channel(), channel());
    let notes = Notes { parts: Vec::new(), bytes: 0, commits, verdicts: awaited, floors };
    (notes, Desk { commits: seen, verdicts, floors: saved })
}

impl LogStore for Notes {
    fn set_hard_state(&mut self, state: HardState) -> Result<(), StoreError> {
        self.parts.push(format!("term {}", state.term));
        Ok(())
    }

    fn truncate(&mut self, from: Index) -> Result<(), StoreError> {
        self.parts.push(format!("cut {from}"));
        Ok(())
    }

    fn append(&mut self, index: Index, frame: &[u8]) -> Result<(), StoreError> {
        self.parts.push(format!("entry {index}"));
        self.bytes += frame.len();
        Ok(())
    }

    fn put_row(&mut self, row: &Row<'_>) -> Result<(), StoreError> {
        match row {
            Row::Topic { first_offset, .. } => self.parts.push(format!("topic {first_offset}")),
            Row::State { key, .. } => self.parts.push(format!("state {}", String::from_utf8_lossy(key))),
            Row::Gone { key } => self.parts.push(format!("gone {}", String::from_utf8_lossy(key))),
        }
        Ok(())
    }

    fn pending_bytes(&self) -> usize {
        self.bytes
    }

    fn commit(&mut self, durability: Durability) -> Result<(), StoreError> {
        self.bytes = 0;
        self.commits.send((durability, core::mem::take(&mut self.parts))).unwrap();
        match self.verdicts.recv() {
            Ok(false) => Err(StoreError::Damaged("as the test wants it".to_owned())),
            _ => Ok(()),
        }
    }

    fn save_floor(&mut self) -> Result<(), StoreError> {
        let _ = self.floors.send(());
        Ok(())
    }

    fn is_disk_low(&self) -> bool {
        false
    }

    fn close(&mut self) -> Result<(), StoreError> {
        let _ = self.commits.send((Durability::Synced, vec!["closed".to_owned()]));
        Ok(())
    }
}

fn hard_state(term: u64) -> Job {
    Job::HardState(HardState { term: Term(term), vote: Some(NodeId(1)), suspect: false })
}

fn append(index: u64) -> Job {
    entry(index, 1, 100)
}

fn state_row(key: &str, last: bool) -> Job {
    Job::Rows { packed: rows(&[Row::State { key: key.as_bytes(), value: b"value" }]), last }
}

#[test]
fn what_waits_becomes_one_synced_write_in_the_order_of_the_jobs() {
    let (notes, desk) = notes();
    let mut engine = Engine::start(notes);
    engine.push([hard_state(1), Job::Sync(Token(1))]);
    assert_eq!(desk.begun(), (Durability::Synced, vec!["term 1".to_owned()]));
    // All of this gathers while the first sync runs.
    engine.push([append(1), append(2), Job::Sync(Token(2)), state_row("a", true)]);
    engine.push([hard_state(2), Job::Truncate(Index(2)), append(2), Job::Sync(Token(3))]);
    assert_eq!(engine.storage.poll_report(), None, "the first sync has not ended");
    desk.ends(true);
    assert_eq!(engine.wait(), Report::Persisted(Token(1)));
    let expected = ["entry 1", "entry 2", "state a", "term 2", "cut 2", "entry 2"];
    assert_eq!(desk.begun(), (Durability::Synced, expected.map(str::to_owned).to_vec()));
    desk.ends(true);
    assert_eq!(engine.wait(), Report::Persisted(Token(3)), "one report for both");
}

#[test]
fn rows_alone_are_not_synced_and_report_nothing() {
    let (notes, desk) = notes();
    let mut engine = Engine::start(notes);
    let row = Row::Topic { topic: TopicId(1), first_offset: Offset(7), index: Index(1), mask: 1 };
    engine.push([Job::Rows { packed: rows(&[row]), last: true }]);
    assert_eq!(desk.begun(), (Durability::Unsynced, vec!["topic 7".to_owned()]));
    desk.ends(true);
    engine.push([Job::Sync(Token(1))]);
    assert_eq!(desk.begun(), (Durability::Synced, vec![]), "a token alone asks for a sync of what was before it");
    desk.ends(true);
    assert_eq!(engine.wait(), Report::Persisted(Token(1)));
}

#[test]
fn a_write_is_never_divided() {
    let (notes, desk) = notes();
    let mut engine = Engine::start(notes);
    engine.push([hard_state(1), Job::Sync(Token(1))]);
    desk.begun();
    // Neither the write nor the set of rows has come to its end when the thread looks.
    engine.push([hard_state(2), append(1), state_row("a", false)]);
    desk.ends(true);
    assert_eq!(engine.wait(), Report::Persisted(Token(1)));
    engine.push([Job::Sync(Token(2))]);
    engine.push([append(2), Job::Sync(Token(3)), state_row("b", true)]);
    let expected = ["term 2", "entry 1", "state a", "entry 2", "state b"];
    assert_eq!(desk.begun(), (Durability::Synced, expected.map(str::to_owned).to_vec()));
    desk.ends(true);
    assert_eq!(engine.wait(), Report::Persisted(Token(3)));
}

#[test]
fn a_write_longer_than_the_ring_gets_the_room_for_its_rest() {
    let (notes, desk) = notes();
    let mut engine = Engine::start(notes);
    engine.push([state_row("a", true)]);
    desk.begun();
    let bytes = block(&frame(1, 1, 100));
    engine.push(core::array::from_fn::<_, JOBS, _>(|at| Job::Append(Index(at as u64 + 1), bytes.clone())));
    assert!(engine.is_woken_for_room(|| desk.ends(true)), "nothing is reported yet, and yet there is room");
    engine.push([Job::Sync(Token(1))]);
    assert_eq!(desk.begun().1.len(), JOBS);
    desk.ends(true);
    assert_eq!(engine.wait(), Report::Persisted(Token(1)));
}

#[test]
fn a_group_ends_at_the_first_write_that_fills_it() {
    let (notes, desk) = notes();
    let mut engine = Engine::start(notes);
    engine.push([hard_state(1), Job::Sync(Token(0))]);
    desk.begun();
    let large = frame(1, 1, 32_000);
    let fill = GROUP_BYTES.div_ceil(large.len()) as u64;
    let large = block(&large);
    for index in 1..=fill + 2 {
        engine.push([Job::Append(Index(index), large.clone()), Job::Sync(Token(index))]);
    }
    desk.ends(true);
    assert_eq!(desk.begun().1.len() as u64, fill);
    desk.ends(true);
    assert_eq!(desk.begun().1.len(), 2);
    desk.ends(true);
    let last = loop {
        match engine.wait() {
            Report::Persisted(token) if token == Token(fill + 2) => break token,
            Report::Persisted(_) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(last, Token(fill + 2));
}

#[test]
fn blocks_are_let_go_before_the_sync() {
    let (notes, desk) = notes();
    let mut engine = Engine::start(notes);
    let pool = new_pool(1);
    let mut taken = pool.take().unwrap();
    taken.truncate(100);
    engine.push([Job::Append(Index(1), taken.freeze()), Job::Sync(Token(1))]);
    desk.begun();
    assert_eq!(pool.free(), 1);
    desk.ends(true);
    assert_eq!(engine.wait(), Report::Persisted(Token(1)));
}

#[test]
fn after_a_failed_write_nothing_is_tried_again() {
    let (notes, desk) = notes();
    let mut engine = Engine::start(notes);
    engine.push([hard_state(1), Job::Sync(Token(1))]);
    desk.begun();
    engine.push([hard_state(2), Job::Sync(Token(2))]);
    desk.ends(false);
    assert_eq!(engine.wait(), Report::Failed);
    assert!(matches!(engine.storage.join(), Err(StoreError::Damaged(_))));
    assert!(desk.commits.recv().is_err(), "no second commit, and no orderly close");
}

#[test]
fn a_thread_that_panics_reports_a_failure() {
    let node = Node::new();
    let mut engine = Engine::start(node.open().store);
    engine.push([append(5), Job::Sync(Token(1))]);
    assert_eq!(engine.wait(), Report::Failed, "there is nothing before entry 5");
}

#[test]
fn a_full_ring_of_reports_keeps_the_newest_token() {
    let (notes, desk) = notes();
    let mut engine = Engine::start(notes);
    let writes = REPORTS as u64 + 5;
    for token in 1..=writes {
        engine.push([hard_state(token), Job::Sync(Token(token))]);
        desk.begun();
        desk.ends(true);
    }
    let mut tokens = Vec::new();
    while tokens.last() != Some(&writes) {
        match engine.wait() {
            Report::Persisted(Token(token)) => tokens.push(token),
            other => panic!("{other:?}"),
        }
    }
    assert!(tokens.is_sorted_by(|a, b| a < b), "{tokens:?}");
    assert!(tokens.len() < writes as usize, "{tokens:?}");
}

#[test]
fn the_floor_is_saved_after_the_report_and_not_for_each_write() {
    let (notes, desk) = notes();
    let mut engine = Engine::start(notes);
    for token in 1..=100 {
        engine.push([hard_state(token), Job::Sync(Token(token))]);
        desk.begun();
        if token == 1 {
            assert!(desk.floors.try_recv().is_err(), "the floor speaks of what is not synced yet");
        }
        desk.ends(true);
        assert_eq!(engine.wait(), Report::Persisted(Token(token)));
    }
    // At once, and for all that came since: that comes by itself.
    desk.floors.recv().unwrap();
    desk.floors.recv().unwrap();
    engine.push([state_row("rows alone", true), Job::Stop]);
    desk.begun();
    desk.ends(true);
    assert_eq!(engine.wait(), Report::Stopped);
    engine.storage.join().unwrap();
    assert!(desk.floors.iter().count() < 50, "a save for each write");
}

#[test]
fn stop_writes_what_is_left_and_closes() {
    let (notes, desk) = notes();
    let mut engine = Engine::start(notes);
    engine.push([append(1), Job::Sync(Token(1)), state_row("a", true), Job::Stop]);
    assert_eq!(desk.begun(), (Durability::Synced, vec!["entry 1".to_owned(), "state a".to_owned()]));
    desk.ends(true);
    assert_eq!(engine.wait(), Report::Persisted(Token(1)));
    assert_eq!(engine.wait(), Report::Stopped);
    assert_eq!(desk.begun().1, ["closed"]);
    engine.storage.join().unwrap();
}

#[test]
fn a_thread_without_an_engine_ends() {
    let (notes, desk) = notes();
    let mut engine = Engine::start(notes);
    engine.push([append(1), Job::Sync(Token(1))]);
    assert_eq!(desk.begun().1, ["entry 1"]);
    engine.push([append(2)]);
    drop(engine);
    desk.ends(true);
    assert_eq!(desk.begun().1, ["closed"], "a write without its end is not written");
}

#[test]
fn a_full_ring_gives_the_job_back() {
    let (notes, desk) = notes();
    let mut engine = Engine::start(notes);
    engine.push([hard_state(1), Job::Sync(Token(1))]);
    desk.begun();
    let mut pushed = 0;
    let refused = loop {
        match engine.storage.push(hard_state(pushed)) {
            Ok(()) => pushed += 1,
            Err(full) => break full.0,
        }
    };
    assert_eq!((pushed, engine.storage.free()), (JOBS as u64, 0));
    assert!(matches!(refused, Job::HardState(state) if state.term == Term(pushed)));
    drop(desk);
}

#[test]
fn on_a_real_store_what_was_reported_is_there() {
    let node = Node::new();
    let opened = node.open();
    let mut engine = Engine::start(opened.store);
    drop(opened.reader);
    for index in 1..=200 {
        engine.push([append(index), Job::Sync(Token(index))]);
    }
    engine.push([state_row("applied", true)]);
    while engine.wait() != Report::Persisted(Token(200)) {}
    engine.push([Job::Truncate(Index(150)), append(150), Job::Sync(Token(201)), Job::Stop]);
    while engine.wait() != Report::Stopped {}
    engine.storage.join().unwrap();
    let opened = node.open();
    assert_eq!(opened.stored.last.index, Index(150));
    let mut keys = Vec::new();
    opened.reader.state_rows(|key, _| keys.push(key.to_vec())).unwrap();
    assert_eq!(keys, [b"applied"]);
}
