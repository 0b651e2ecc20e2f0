//! One store at a time: what is written is read, before and after a restart.

use crate::support::{Node, append, entries, frame, sync};
use core::ops::ControlFlow;
use eventstream_core::id::{Index, NodeId, Offset, Term, TopicId};
use eventstream_core::raft::{HardState, LogPosition, LogView};
use eventstream_host::storage::{Durability, LogStore, Row, StoreError};

const TOPIC: TopicId = TopicId(3);

#[test]
fn a_new_directory_holds_nothing() {
    let node = Node::new();
    let opened = node.open();
    assert_eq!(opened.stored.last, LogPosition::default());
    assert_eq!(opened.stored.hard_state, HardState::default());
    assert_eq!(opened.reader.term(Index(1)), None);
    assert_eq!(entries(&opened.reader, 1, 10), []);
}

#[test]
fn what_was_synced_is_there_after_a_restart() {
    let node = Node::new();
    let voted = HardState { term: Term(7), vote: Some(NodeId(2)), suspect: false };
    let mut opened = node.open();
    opened.store.set_hard_state(voted).unwrap();
    append(&mut opened, 1..=5, 6);
    sync(&mut opened);
    append(&mut opened, 6..=6, 7);
    sync(&mut opened);
    drop(opened);

    let opened = node.open();
    assert_eq!(opened.stored.hard_state, voted);
    assert_eq!(opened.stored.first, Index(1));
    assert_eq!(opened.stored.last, LogPosition { index: Index(6), term: Term(7) });
    assert_eq!(opened.stored.last_log_time, crate::support::log_time(6));
    assert_eq!(opened.stored.synced_batches, 2);
    assert_eq!(entries(&opened.reader, 1, 6), [(1, 6), (2, 6), (3, 6), (4, 6), (5, 6), (6, 7)]);
    assert_eq!((opened.reader.term(Index(5)), opened.reader.term(Index(7))), (Some(Term(6)), None));
}

#[test]
fn what_was_not_committed_is_not_seen() {
    let node = Node::new();
    let mut opened = node.open();
    append(&mut opened, 1..=2, 1);
    assert_eq!(entries(&opened.reader, 1, 2), []);
    assert!(opened.store.pending_bytes() > 200);
    sync(&mut opened);
    assert_eq!(entries(&opened.reader, 1, 2).len(), 2);
    append(&mut opened, 3..=3, 1);
    drop(opened);
    assert_eq!(node.open().stored.last.index, Index(2));
}

#[test]
fn a_vote_before_the_first_entry_is_kept() {
    let node = Node::new();
    let voted = HardState { term: Term(1), vote: Some(NodeId(3)), suspect: true };
    let mut opened = node.open();
    opened.store.set_hard_state(voted).unwrap();
    sync(&mut opened);
    drop(opened);
    assert_eq!(node.open().stored.hard_state, voted);
}

#[test]
fn a_tail_is_cut_and_written_anew() {
    let node = Node::new();
    let mut opened = node.open();
    append(&mut opened, 1..=4, 1);
    sync(&mut opened);
    append(&mut opened, 5..=9, 1);
    sync(&mut opened);
    // Within the last batch, across batches, and at a batch's end.
    for (from, term) in [(8, 2), (3, 3), (5, 4)] {
        opened.store.truncate(Index(from)).unwrap();
        append(&mut opened, from..=from + 1, term);
        sync(&mut opened);
        assert_eq!(opened.reader.term(Index(from + 1)), Some(Term(term)));
        assert_eq!(opened.reader.term(Index(from + 2)), None);
        drop(opened);
        opened = node.open();
        assert_eq!(opened.stored.last, LogPosition { index: Index(from + 1), term: Term(term) });
        let more = from + 2..=9;
        append(&mut opened, more, term);
        sync(&mut opened);
    }
    let expected = [(1, 1), (2, 1), (3, 3), (4, 3), (5, 4), (6, 4), (7, 4), (8, 4), (9, 4)];
    assert_eq!(entries(&opened.reader, 1, 9), expected);
}

#[test]
fn a_cut_without_new_entries_holds_and_may_take_everything() {
    let node = Node::new();
    let mut opened = node.open();
    let voted = HardState { term: Term(9), vote: None, suspect: false };
    opened.store.set_hard_state(voted).unwrap();
    append(&mut opened, 1..=3, 1);
    sync(&mut opened);
    for last in [2, 0] {
        opened.store.truncate(Index(last + 1)).unwrap();
        sync(&mut opened);
        drop(opened);
        opened = node.open();
        assert_eq!((opened.stored.last.index, opened.stored.hard_state), (Index(last), voted));
    }
    append(&mut opened, 1..=1, 5);
    sync(&mut opened);
    assert_eq!(entries(&opened.reader, 1, 9), [(1, 5)]);
}

#[test]
fn entries_that_are_not_committed_yet_can_be_cut() {
    let node = Node::new();
    let mut opened = node.open();
    append(&mut opened, 1..=5, 1);
    opened.store.truncate(Index(3)).unwrap();
    append(&mut opened, 3..=4, 2);
    sync(&mut opened);
    opened.store.truncate(Index(100)).unwrap();
    drop(opened);
    let opened = node.open();
    assert_eq!(entries(&opened.reader, 1, 9), [(1, 1), (2, 1), (3, 2), (4, 2)]);
}

#[test]
fn reads_are_bounded_in_bytes_and_go_on_where_they_ended() {
    let node = Node::new();
    let mut opened = node.open();
    append(&mut opened, 1..=10, 1);
    sync(&mut opened);
    let one = frame(1, 1, 100).len();
    let mut seen = Vec::new();
    let mut from = Index(1);
    while from <= Index(10) {
        let found = opened.reader.entries(from, Index(10), 3 * one, |index, bytes| {
            assert_eq!(bytes, frame(index.0, 1, 100));
            seen.push(index.0);
            ControlFlow::Continue(())
        });
        let found = found.unwrap();
        assert!(found.next > from && found.bytes <= 3 * one);
        from = found.next;
    }
    assert_eq!(seen, (1..=10).collect::<Vec<_>>());
    let one_at_least = opened.reader.entries(Index(4), Index(10), 1, |_, _| ControlFlow::Continue(())).unwrap();
    assert_eq!((one_at_least.next, one_at_least.bytes), (Index(5), one));
    let refused = opened.reader.entries(Index(4), Index(10), 1 << 20, |index, _| match index {
        Index(6) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    assert_eq!(refused.unwrap().next, Index(6));
    assert_eq!(opened.reader.entries(Index(11), Index(20), 99, |_, _| ControlFlow::Continue(())).unwrap().bytes, 0);
}

#[test]
fn topic_rows_are_found_by_any_offset_that_they_hold() {
    let node = Node::new();
    let mut opened = node.open();
    for (topic, first_offset, index) in [(2, 90, 1), (3, 0, 1), (3, 10, 4), (3, 64, 5), (4, 0, 6)] {
        let (first_offset, index) = (Offset(first_offset), Index(index));
        opened.store.put_row(&Row::Topic { topic: TopicId(topic), first_offset, index, mask: 0b101 }).unwrap();
    }
    opened.store.commit(Durability::Unsynced).unwrap();
    let at =
        |offset| opened.reader.topic_row(TOPIC, Offset(offset)).unwrap().map(|row| (row.first_offset.0, row.index.0));
    assert_eq!(at(0), Some((0, 1)));
    assert_eq!(at(9), Some((0, 1)));
    assert_eq!(at(10), Some((10, 4)));
    assert_eq!(at(u64::MAX - 1), Some((64, 5)));
    assert_eq!(opened.reader.topic_row(TopicId(5), Offset(7)).unwrap(), None);
    let rows_from = |offset, most| {
        let mut rows = Vec::new();
        let taken = opened.reader.topic_rows(TOPIC, Offset(offset), |row| {
            rows.push((row.first_offset.0, row.index.0, row.mask));
            if rows.len() == most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        taken.unwrap();
        rows
    };
    assert_eq!(rows_from(12, 9), [(10, 4, 5), (64, 5, 5)]);
    assert_eq!(rows_from(0, 2), [(0, 1, 5), (10, 4, 5)]);
}

#[test]
fn state_rows_are_replaced_and_removed() {
    let node = Node::new();
    let mut opened = node.open();
    for row in [
        Row::State { key: b"a", value: b"1" },
        Row::State { key: b"b", value: b"2" },
        Row::State { key: b"a", value: b"3" },
        Row::Gone { key: b"b" },
        Row::State { key: b"", value: &[7; 60_000] },
    ] {
        opened.store.put_row(&row).unwrap();
    }
    opened.store.commit(Durability::Unsynced).unwrap();
    opened.store.close().unwrap();
    drop(opened);
    let mut rows = Vec::new();
    node.open().reader.state_rows(|key, value| rows.push((key.to_vec(), value.to_vec()))).unwrap();
    assert_eq!(rows, [(vec![], vec![7; 60_000]), (b"a".to_vec(), b"3".to_vec())]);
}

#[test]
fn a_large_log_survives_flushes_and_compactions() {
    let node = Node::new();
    let mut opened = node.open();
    // 96 MiB: more than all memtables hold.
    let payload = 32_000;
    for group in 0..96 {
        for index in group * 32 + 1..=group * 32 + 32 {
            opened.store.append(Index(index), &frame(index, 1, payload)).unwrap();
        }
        sync(&mut opened);
    }
    opened.store.truncate(Index(3_001)).unwrap();
    append(&mut opened, 3_001..=3_100, 2);
    sync(&mut opened);
    drop(opened);
    let opened = node.open();
    let read = entries(&opened.reader, 1, u64::MAX - 1);
    assert_eq!(read.len(), 3_100);
    assert_eq!((read[2_999], read[3_000], read[3_099]), ((3_000, 1), (3_001, 2), (3_100, 2)));
}

#[test]
#[should_panic(expected = "behind the last one")]
fn an_entry_out_of_order_is_our_own_bug() {
    let node = Node::new();
    let _ = node.open().store.append(Index(2), &frame(2, 1, 10));
}

#[test]
fn an_entry_that_the_log_does_not_hold_has_a_name() {
    let node = Node::new();
    let mut opened = node.open();
    append(&mut opened, 1..=3, 1);
    sync(&mut opened);
    let missing = opened.reader.entries(Index(0), Index(3), 100, |_, _| ControlFlow::Continue(()));
    assert!(matches!(missing, Err(StoreError::NoEntry(Index(0)))), "{missing:?}");
}
