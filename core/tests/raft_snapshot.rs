//! Snapshots: a member whose next entry its leader's log holds no more gets rows of the applied state.
#![allow(missing_docs, reason = "an integration test")]

mod raft_net;

use eventstream_core::id::{Index, Term};
use eventstream_core::raft::{
    Body, Configuration, Flow, LogPosition, Message, Output, Placed, Rejected, RestoreError, Role, Taken,
};
use eventstream_core::time::Instant;
use raft_net::{Disk, Envelope, Node, at, id, member, members, ms, terms, with_witness};

/// The rows of every snapshot here: more than two messages hold.
const ROWS: u32 = 150;

fn rows(last: LogPosition, first: u32, count: u16) -> Body {
    Body::SnapshotRows { last, first, count, rows: ROWS }
}

fn taken(last: LogPosition, next: u32) -> Body {
    Body::SnapshotTaken { last, next }
}

fn accepted(matched: u64) -> Body {
    Body::AppendAccepted { matched: Index(matched) }
}

/// Node 1 of three, leading term 5. Its log holds entry 4 and its empty entry, number 5; node 2 has said that it has one entry.
fn leader() -> (Node, Instant) {
    let mut disk = Disk::new(4, None, terms([1, 1, 2, 4]));
    disk.trim(3, ROWS);
    let mut node = Node::of(1, 3, disk);
    let now = node.wait();
    node.hear(now, 2, 5, Body::PreVoteReply { granted: true }, &[]);
    node.sync_all(now);
    node.hear(now, 2, 5, Body::VoteReply { granted: true, wall_us: 0 }, &[]);
    node.sync_all(now);
    assert_eq!(node.raft.role(), Role::Leader);
    node.sent.clear();
    node.hear(now, 2, 5, Body::AppendRejected { rejected: Index(4), hint: at(1, 1) }, &[]);
    (node, now)
}

/// A member that has begun to receive the snapshot as of entry 9, of term 4, from node 1 in term 5.
fn receiver(log: Vec<Term>) -> Node {
    let mut node = Node::of(2, 3, Disk::new(5, None, log));
    node.hear(ms(1), 1, 5, Body::Heartbeat { commit: Index(0), round: 1 }, &[]);
    node.sync_all(ms(1));
    node.sent.clear();
    node
}

fn all_rows(node: &mut Node, last: LogPosition) {
    for first in (0..ROWS).step_by(64) {
        node.hear(ms(2), 1, 5, rows(last, first, (ROWS - first).min(64) as u16), &[]);
    }
}

#[test]
fn rows_are_sent_one_message_after_the_other_and_then_entries() {
    let (mut node, now) = leader();
    let last = at(3, 2);
    for (first, count) in [(0, 64), (64, 64), (128, 22)] {
        assert_eq!(node.take_sent(2), [(5, rows(last, first, count))]);
        assert_eq!(node.raft.progress(id(2)).unwrap().flow, Flow::Snapshot);
        node.hear(now, 2, 5, taken(last, first + u32::from(count)), &[]);
    }
    assert_eq!(node.take_sent(2), [(5, rows(last, ROWS, 0))], "whether it is on the disk is asked for");
    node.hear(now, 2, 5, accepted(3), &[]);
    assert_eq!(node.take_sent(2), [(5, Body::Append { prev: last, count: 2, commit: Index(3) })]);
}

#[test]
fn an_answer_that_comes_again_makes_no_other_message() {
    let (mut node, now) = leader();
    let last = at(3, 2);
    node.take_sent(2);
    node.hear(now, 2, 5, taken(last, 64), &[]);
    assert_eq!(node.take_sent(2).len(), 1);
    for late in [taken(last, 64), taken(at(2, 1), 100)] {
        node.hear(now, 2, 5, late, &[]);
        assert_eq!(node.take_sent(2), []);
    }
    // It has started again, and has nothing.
    node.hear(now, 2, 5, taken(last, 0), &[]);
    assert_eq!(node.take_sent(2), [(5, rows(last, 0, 64))]);
    // More than there is: a mistake of its, and nothing that could be sent.
    node.hear(now, 2, 5, taken(last, u32::MAX), &[]);
    assert_eq!(node.take_sent(2), [(5, rows(last, ROWS, 0))]);
}

#[test]
fn rows_that_were_lost_are_sent_again_after_a_heartbeat() {
    let (mut node, now) = leader();
    node.take_sent(2);
    let now = now + eventstream_core::config::HEARTBEAT;
    node.timeout(now);
    let beats = node.take_sent(2);
    let round =
        beats.iter().find_map(|(_, body)| if let Body::Heartbeat { round, .. } = body { Some(*round) } else { None });
    let body = Body::HeartbeatReply { round: round.unwrap(), verified: Index(0), wall_us: 0 };
    node.hear(now, 2, 5, body, &[]);
    assert_eq!(node.take_sent(2), [(5, rows(at(3, 2), 0, 64))]);
}

#[test]
fn a_transfer_goes_on_where_it_was_when_the_connection_is_back() {
    let (mut node, now) = leader();
    node.take_sent(2);
    node.hear(now, 2, 5, taken(at(3, 2), 64), &[]);
    node.take_sent(2);
    node.raft.handle_disconnected(now, id(2));
    node.raft.handle_connected(now, id(2));
    node.poll();
    assert!(node.take_sent(2).contains(&(5, rows(at(3, 2), 0, 64))), "what it has is not known any more");
    node.hear(now, 2, 5, taken(at(3, 2), 128), &[]);
    assert_eq!(node.take_sent(2), [(5, rows(at(3, 2), 128, 22))]);
}

#[test]
fn a_newer_snapshot_takes_the_place_of_one_that_ends_before_the_horizon() {
    let (mut node, now) = leader();
    node.take_sent(2);
    node.hear(now, 3, 5, accepted(5), &[]);
    node.disk.trim(5, ROWS);
    node.hear(now, 2, 5, taken(at(3, 2), 64), &[]);
    assert_eq!(node.take_sent(2), [(5, rows(at(5, 5), 0, 64))]);
    node.hear(now, 2, 5, accepted(5), &[]);
    assert_eq!(node.raft.progress(id(2)).unwrap().flow, Flow::Replicate);
}

#[test]
fn without_a_snapshot_nothing_is_sent_to_a_peer_behind_the_horizon() {
    let (mut node, now) = leader();
    node.take_sent(2);
    node.disk.snapshot = None;
    node.hear(now, 2, 5, taken(at(3, 2), 64), &[]);
    assert_eq!(node.take_sent(2), []);
}

#[test]
fn rows_are_taken_in_their_order_and_what_is_missing_is_said() {
    let mut node = receiver(terms([1, 3]));
    let last = at(9, 4);
    let tell = |node: &mut Node, body| {
        let before = node.rows_taken;
        node.hear(ms(2), 1, 5, body, &[]);
        let said = node.take_sent(1);
        (node.rows_taken > before, said)
    };
    assert_eq!(tell(&mut node, rows(last, 64, 64)), (false, vec![(5, taken(last, 0))]), "those before are missing");
    assert_eq!(tell(&mut node, rows(last, 0, 64)), (true, vec![(5, taken(last, 64))]));
    assert_eq!(tell(&mut node, rows(last, 0, 64)), (false, vec![(5, taken(last, 64))]), "they are there");
    assert_eq!(tell(&mut node, rows(last, 64, 0)), (false, vec![(5, taken(last, 64))]), "only a question");
    assert_eq!(tell(&mut node, rows(at(10, 4), 64, 64)), (false, vec![(5, taken(at(10, 4), 0))]), "of another");
    assert_eq!(tell(&mut node, rows(last, 64, 64)), (false, vec![(5, taken(last, 0))]), "begins again");
}

#[test]
fn a_snapshot_takes_the_place_of_the_log_and_is_acknowledged_when_it_is_on_the_disk() {
    let mut node = receiver(terms([1, 3]));
    let last = at(9, 4);
    all_rows(&mut node, last);
    let installs = |output: &&Output| **output == Output::InstallSnapshot(last);
    assert_eq!(node.outputs.iter().filter(installs).count(), 1);
    assert_eq!((node.raft.last(), node.raft.commit(), node.raft.durable()), (last, Index(9), Index(0)));
    let said = node.take_sent(1);
    assert!(!said.contains(&(5, accepted(9))), "{said:?}");
    node.sync_all(ms(3));
    assert_eq!(node.raft.durable(), Index(9));
    assert_eq!(node.take_sent(1), [(5, accepted(9))]);
    // It goes on with entries, and starts again from there.
    let next = Body::Append { prev: last, count: 1, commit: Index(10) };
    node.hear(ms(4), 1, 5, next, &raft_net::entries(9, &[5]));
    node.sync_all(ms(4));
    assert_eq!(node.take_sent(1), [(5, accepted(10))]);
    let again = Node::of(2, 3, node.crash(0));
    assert_eq!((again.raft.last(), again.raft.commit()), (at(10, 5), Index(9)));
}

#[test]
fn a_crash_before_its_sync_leaves_what_was_there() {
    let mut node = receiver(terms([1, 3]));
    all_rows(&mut node, at(9, 4));
    let again = Node::of(2, 3, node.crash(0));
    assert_eq!((again.raft.last(), again.raft.commit()), (at(2, 3), Index(0)));
}

#[test]
fn a_late_report_of_the_log_before_does_not_count_for_the_snapshot() {
    let mut node = receiver(terms([1]));
    let append = Body::Append { prev: at(1, 1), count: 2, commit: Index(0) };
    node.hear(ms(2), 1, 5, append, &raft_net::entries(1, &[2, 2]));
    // The next leader has another entry there.
    let body = Body::SnapshotRows { last: at(3, 4), first: 0, count: 1, rows: 1 };
    node.hear(ms(2), 3, 6, body, &[]);
    assert_eq!(node.open_writes(), 2);
    node.sync(ms(3));
    assert_eq!(node.raft.durable(), Index(0), "of what is there now nothing was written");
    node.sync(ms(3));
    assert_eq!(node.raft.durable(), Index(3));
}

#[test]
fn a_log_that_has_the_last_entry_keeps_what_follows_it() {
    let mut node = receiver(terms([1, 3, 3]));
    node.hear(ms(2), 1, 5, rows(at(2, 3), 0, 64), &[]);
    assert_eq!(node.take_sent(1), [(5, accepted(2))]);
    assert_eq!((node.raft.last(), node.raft.commit(), node.rows_taken), (at(3, 3), Index(2), 0));
}

#[test]
fn an_older_snapshot_moves_nothing_back() {
    let mut node = receiver(terms([1, 3, 3]));
    node.hear(ms(2), 1, 5, Body::Append { prev: at(3, 3), count: 0, commit: Index(3) }, &[]);
    assert_eq!(node.raft.commit(), Index(3));
    all_rows(&mut node, at(2, 3));
    assert_eq!((node.raft.last(), node.raft.commit(), node.rows_taken), (at(3, 3), Index(3), 0));
}

#[test]
fn rows_that_are_no_longer_needed_are_dropped() {
    let mut node = receiver(terms([1]));
    let last = at(2, 4);
    node.hear(ms(2), 1, 5, rows(last, 0, 64), &[]);
    node.hear(ms(2), 1, 5, rows(last, 64, 64), &[]);
    // The entries come after all, before the last of the rows.
    let append = Body::Append { prev: at(1, 1), count: 2, commit: Index(0) };
    node.hear(ms(2), 1, 5, append, &raft_net::entries(1, &[4, 4]));
    node.hear(ms(2), 1, 5, rows(last, 128, 22), &[]);
    node.sync_all(ms(3));
    assert_eq!((node.raft.last(), node.raft.durable()), (at(3, 4), Index(3)));
    assert!(!node.outputs.contains(&Output::InstallSnapshot(last)));
}

#[test]
fn the_configuration_that_a_snapshot_holds_is_in_force() {
    let mut node = receiver(terms([]));
    let configuration = Configuration::new(&members(5)).unwrap();
    node.configuration_of_snapshot = Some(Placed { index: Index(7), configuration });
    all_rows(&mut node, at(9, 4));
    assert_eq!((node.raft.membership().latest().index, *node.raft.configuration()), (Index(7), configuration));
    node.sync_all(ms(3));
    assert!(node.take_sent(1).contains(&(5, accepted(9))), "its leader is still its leader");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let mut node = receiver(terms([1]));
    let hear = |node: &mut Node, body| {
        let message = Message { from: id(1), to: id(2), incarnation: member(1).incarnation, term: Term(5), body };
        node.raft.handle_message(ms(2), &message, &[], &[], &node.disk)
    };
    for body in [
        rows(at(9, 4), 140, 64),
        rows(at(9, 4), u32::MAX, 1),
        rows(at(9, 4), 0, 65),
        rows(at(0, 0), 0, 1),
        rows(at(9, 6), 0, 1),
        Body::SnapshotRows { last: at(9, 4), first: 0, count: 1, rows: 0 },
        Body::SnapshotRows { last: at(9, 4), first: 0, count: 0, rows: 0 },
    ] {
        assert_eq!(hear(&mut node, body), Err(Rejected::Rows), "{body:?}");
    }
    assert_eq!(
        hear(&mut node, Body::SnapshotTerms { last: at(9, 4), configuration: Index(0) }),
        Err(Rejected::Witness)
    );
    assert_eq!(hear(&mut node, rows(at(9, 4), 0, 64)), Ok(Taken::Rows), "it hears on");
}

#[test]
fn a_log_that_begins_behind_its_checkpoint_is_refused() {
    let mut disk = Disk::new(5, None, terms([1, 1, 3, 3]));
    (disk.base, disk.applied) = (3, 2);
    let options = raft_net::options(1, 3, 1);
    let refused = eventstream_core::raft::Raft::new(options, &disk.restored(), ms(0)).map(|_| ());
    assert_eq!(refused, Err(RestoreError::LogHeadLost));
}

#[test]
fn a_witness_is_told_where_the_log_begins_and_goes_on_from_there() {
    let mut disk = Disk::new(4, None, terms([1, 1, 2, 4]));
    disk.trim(3, ROWS);
    let mut leader = Node::new(with_witness(1, 1), disk, ms(0));
    let now = leader.wait();
    leader.hear(now, 3, 5, Body::PreVoteReply { granted: true }, &[]);
    leader.sync_all(now);
    leader.hear(now, 3, 5, Body::VoteReply { granted: true, wall_us: 0 }, &[]);
    leader.sync_all(now);
    leader.sent.clear();
    leader.hear(now, 3, 5, Body::AppendRejected { rejected: Index(4), hint: at(0, 0) }, &[]);
    let last = at(3, 2);
    assert_eq!(leader.take_sent(3), [(5, Body::SnapshotTerms { last, configuration: Index(0) })]);

    let mut witness = Node::new(with_witness(3, 1), Disk::new(5, None, terms([])), ms(0));
    let tell = |witness: &mut Node, body| {
        let message = Message { from: id(1), to: id(3), incarnation: member(1).incarnation, term: Term(5), body };
        witness.receive(ms(1), &Envelope::new(message, Vec::new()))
    };
    tell(&mut witness, Body::SnapshotTerms { last, configuration: Index(0) }).unwrap();
    assert_eq!((witness.raft.last(), witness.raft.commit()), (last, Index(3)));
    assert!(!witness.take_sent(1).contains(&(5, accepted(3))), "it is not on the disk");
    witness.sync_all(ms(1));
    assert_eq!(witness.take_sent(1), [(5, accepted(3))]);

    leader.hear(now, 3, 5, accepted(3), &[]);
    let [(5, Body::AppendTerms { prev, last, .. })] = leader.take_sent(3)[..] else { panic!("the terms that follow") };
    assert_eq!((prev, last), (at(3, 2), Index(5)));
    // Whoever has less is not voted for.
    let asks = Body::Vote { last: at(2, 1), transfer: true };
    witness.hear(ms(2), 2, 6, asks, &[]);
    witness.sync_all(ms(2));
    assert!(witness.take_sent(2).contains(&(6, Body::VoteReply { granted: false, wall_us: 0 })));
    let again = Node::new(with_witness(3, 2), witness.crash(0), ms(0));
    assert_eq!(again.raft.last(), at(3, 2));
}

#[test]
fn entries_follow_although_the_store_no_longer_tells_the_term_before_them() {
    let (mut node, now) = leader();
    node.take_sent(2);
    // Only the machine's own view of where the log begins tells it.
    assert_eq!(eventstream_core::raft::LogView::term(&node.disk, Index(3)), None);
    node.hear(now, 2, 5, accepted(3), &[]);
    assert_eq!(node.take_sent(2), [(5, Body::Append { prev: at(3, 2), count: 2, commit: Index(3) })]);
}

#[test]
fn a_hint_is_looked_up_in_what_the_log_still_holds() {
    let mut disk = Disk::new(4, None, terms([1, 1, 1, 1, 1, 1, 2, 2, 2, 2]));
    disk.trim(6, ROWS);
    let mut node = Node::of(1, 3, disk);
    let now = node.wait();
    for body in [Body::PreVoteReply { granted: true }, Body::VoteReply { granted: true, wall_us: 0 }] {
        node.hear(now, 2, 5, body, &[]);
        node.sync_all(now);
    }
    node.sent.clear();
    node.hear(now, 2, 5, Body::AppendRejected { rejected: Index(10), hint: at(9, 2) }, &[]);
    let prevs: Vec<_> = node
        .take_sent(2)
        .iter()
        .map(|(_, body)| if let Body::Append { prev, .. } = body { *prev } else { panic!("{body:?}") })
        .collect();
    assert_eq!(prevs, [at(9, 2)], "no snapshot for somebody who needs two entries");
}

#[test]
fn a_witness_is_told_one_beginning_at_a_time_whatever_is_committed_meanwhile() {
    let mut disk = Disk::new(4, None, terms([1, 1, 2, 4]));
    disk.trim(3, ROWS);
    let mut leader = Node::new(with_witness(1, 1), disk, ms(0));
    let now = leader.wait();
    for body in [Body::PreVoteReply { granted: true }, Body::VoteReply { granted: true, wall_us: 0 }] {
        leader.hear(now, 3, 5, body, &[]);
        leader.sync_all(now);
    }
    leader.sent.clear();
    leader.hear(now, 3, 5, Body::AppendRejected { rejected: Index(4), hint: at(0, 0) }, &[]);
    assert_eq!(leader.take_sent(3).len(), 1);
    leader.hear(now, 2, 5, accepted(5), &[]);
    leader.propose(now);
    leader.sync_all(now);
    leader.hear(now, 2, 5, accepted(6), &[]);
    assert_eq!((leader.raft.commit(), leader.take_sent(3)), (Index(6), Vec::new()));
}

#[test]
fn the_write_that_makes_a_snapshot_last_comes_at_once() {
    let mut node = receiver(terms([1]));
    for index in 1..=eventstream_core::config::MAX_OPEN_WRITES as u64 {
        let append = Body::Append { prev: at(index, 1), count: 1, commit: Index(0) };
        node.hear(ms(2), 1, 5, append, &raft_net::entries(index, &[1]));
    }
    let last = at(99, 4);
    all_rows(&mut node, last);
    let is_install = |output: &Output| *output == Output::InstallSnapshot(last);
    assert!(!node.outputs.iter().any(is_install), "no write can be handed out");
    node.outputs.clear();
    node.sync(ms(3));
    let at_install = node.outputs.iter().position(is_install).expect("there is room again");
    let Output::Persist(write) = node.outputs[at_install + 1] else { panic!("{:?}", node.outputs) };
    assert_eq!((write.install, write.append), (Some(last), None));
}

/// A configuration of five, at this index.
fn placed(index: u64) -> Placed {
    Placed { index: Index(index), configuration: Configuration::new(&members(5)).unwrap() }
}

#[test]
fn a_snapshot_that_ends_before_a_committed_configuration_is_refused() {
    let mut disk = Disk::new(5, None, terms([1, 1, 1, 1]));
    disk.configurations = vec![placed(2), placed(4)];
    let mut node = Node::of(2, 3, disk);
    for body in [rows(at(1, 2), 0, 64), rows(at(1, 1), 0, 64)] {
        let message = Message { from: id(1), to: id(2), incarnation: member(1).incarnation, term: Term(5), body };
        let heard = node.raft.handle_message(ms(2), &message, &[], &[], &node.disk);
        let is_there = body == rows(at(1, 1), 0, 64);
        let expected = if is_there { Ok(Taken::Nothing) } else { Err(Rejected::Contradiction { index: Index(2) }) };
        assert_eq!(heard, expected);
    }
}

#[test]
fn a_beginning_that_does_not_go_with_the_rest_is_refused() {
    let disk = Disk::new(5, None, terms([1, 1, 3, 3]));
    let sound = eventstream_core::raft::Restored { base: at(2, 1), applied: at(3, 3), ..disk.restored() };
    let start = |restored| eventstream_core::raft::Raft::new(raft_net::options(1, 3, 1), &restored, ms(0)).map(|_| ());
    assert_eq!(start(sound), Ok(()));
    for base in [at(3, 2), at(4, 3), at(2, 4)] {
        let restored = eventstream_core::raft::Restored { base, ..sound };
        assert_eq!(start(restored), Err(RestoreError::LogHeadLost), "{base:?}");
    }
}
