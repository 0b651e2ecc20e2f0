//! Planted mistakes that need a scenario of their own: rare in random schedules, or harmless without bad luck beside them.
//! Each scenario goes right, and wrong with the mistake.
#![allow(missing_docs, reason = "an integration test")]
#![cfg(feature = "planted-faults")]

mod raft_net;

use eventstream_core::id::{Index, NodeId};
use eventstream_core::raft::{
    Body, Change, ChangeError, Configuration, Fault, Faults, LogPosition, Message, Placed, Role, Transition,
};
use eventstream_core::time::Instant;
use raft_net::{Disk, Envelope, Node, at, entries, id, member, members, ms, options, terms};

/// A member of so many, which makes this mistake.
fn node(of: u16, disk: Disk, faults: Faults) -> Node {
    Node::new(eventstream_core::raft::RaftOptions { faults, ..options(1, of, 1) }, disk, ms(0))
}

/// The leader of `of` members in term 2; its log ends with its empty entry, which is number 3 and not committed.
fn leader(of: u16, faults: Faults) -> (Node, Instant) {
    let mut node = node(of, Disk::new(1, None, terms([1, 1])), faults);
    let now = node.wait();
    for from in 2..=of {
        node.hear(now, from, 2, Body::PreVoteReply { granted: true }, &[]);
    }
    node.sync_all(now);
    for from in 2..=of {
        node.hear(now, from, 2, Body::VoteReply { granted: true, wall_us: 0 }, &[]);
    }
    node.sync_all(now);
    assert_eq!(node.raft.role(), Role::Leader);
    (node, now)
}

fn accepted(node: &mut Node, now: Instant, from: u16, matched: u64) {
    node.hear(now, from, 2, Body::AppendAccepted { matched: Index(matched) }, &[]);
}

/// What the scenario shows without the mistake and with it.
fn both<T>(fault: Fault, scenario: impl Fn(Faults) -> T) -> (T, T) {
    (scenario(Faults::NONE), scenario(Faults::NONE.with(fault)))
}

#[test]
fn old_term_committed() {
    let commit = |faults| {
        let (mut node, now) = leader(3, faults);
        accepted(&mut node, now, 2, 2);
        node.raft.commit().0
    };
    assert_eq!(both(Fault::OldTermCommitted, commit), (0, 2), "another may still lead that replaces it");
}

#[test]
fn ack_before_term() {
    let acks = |faults| {
        let mut node = node(3, Disk::new(1, None, terms([1])), faults);
        node.hear(ms(1), 2, 5, Body::Append { prev: at(1, 1), count: 0, commit: Index(0) }, &[]);
        let body = Body::AppendAccepted { matched: Index(1) };
        node.take_sent(2).contains(&(5, body))
    };
    assert_eq!(both(Fault::AckBeforeTerm, acks), (false, true), "after a crash it would follow an older leader");
}

#[test]
fn joint_by_one_majority() {
    let commit = |faults| {
        let (mut node, now) = leader(3, faults);
        [2, 3].into_iter().for_each(|from| accepted(&mut node, now, from, 3));
        let changes = [2, 3].map(|node| Change::Remove(NodeId(node))).into_iter();
        let changes: Vec<_> = changes.chain([4, 5].map(|node| Change::AddVoter(member(node)))).collect();
        node.raft.propose_change(now, &changes, Transition::JointUntilTold).unwrap();
        node.sync_all(now);
        [4, 5].into_iter().for_each(|from| accepted(&mut node, now, from, 4));
        node.raft.commit().0
    };
    assert_eq!(both(Fault::JointByOneMajority, commit), (3, 4), "2 and 3 may elect another");
}

#[test]
fn change_before_own_term() {
    let changes = |faults| {
        let (mut node, now) = leader(3, faults);
        node.raft.propose_change(now, &[Change::Remove(NodeId(3))], Transition::Auto)
    };
    let pending = Err(ChangeError::Pending { index: Index(3) });
    assert_eq!(both(Fault::ChangeBeforeOwnTerm, changes), (pending, Ok(at(4, 2))));
}

#[test]
fn added_without_majority_before() {
    let commit = |faults| {
        let (mut node, now) = leader(2, faults);
        accepted(&mut node, now, 2, 3);
        node.raft.propose_change(now, &[Change::AddVoter(member(3))], Transition::Auto).unwrap();
        node.sync_all(now);
        accepted(&mut node, now, 3, 4);
        node.raft.commit().0
    };
    let both = both(Fault::AddedWithoutMajorityBefore, commit);
    assert_eq!(both, (3, 4), "1 and 2 are all that there were, and only 1 has it");
}

#[test]
fn suspect_counted() {
    let commit = |faults| {
        let (mut node, now) = leader(3, faults);
        let body = Body::SuspectReply { start: 9, round: 1, verified: Index(3), matched: Index(3), wall_us: 0 };
        node.hear(now, 2, 2, body, &[]);
        node.raft.commit().0
    };
    assert_eq!(both(Fault::SuspectCounted, commit), (0, 3), "3 may be in a term that 2 has forgotten");
}

fn append(node: &mut Node, from: u16, term: u64, prev: LogPosition, with: &[u64], placed: Vec<Placed>) {
    let body = Body::Append { prev, count: with.len() as u16, commit: Index(0) };
    let term = eventstream_core::id::Term(term);
    let message = Message { from: id(from), to: id(1), incarnation: member(from).incarnation, term, body };
    let envelope = Envelope { configurations: placed, ..Envelope::new(message, entries(prev.index.0, with)) };
    node.receive(ms(1), &envelope).expect("an honest message");
}

#[test]
fn configuration_kept() {
    let members = |faults| {
        let mut node = node(3, Disk::new(5, None, terms([5, 5])), faults);
        let three = Configuration::new(&members(3)).unwrap();
        let two = three.simple(&[Change::Remove(NodeId(2))]).unwrap();
        append(&mut node, 2, 5, at(2, 5), &[5], vec![Placed { index: Index(3), configuration: two }]);
        append(&mut node, 3, 6, at(2, 5), &[6], Vec::new());
        node.raft.configuration().to_string()
    };
    assert_eq!(both(Fault::ConfigurationKept, members), ("1 2 3".to_owned(), "1 3".to_owned()));
}

/// Node 1 receives the snapshot of two rows as of entry 9, of term 4, from node 2.
fn rows_of_two(node: &mut Node, first: u32) {
    let body = Body::SnapshotRows { last: at(9, 4), first, count: 1, rows: 2 };
    node.hear(ms(1), 2, 5, body, &[]);
}

#[test]
fn snapshot_rows_skipped() {
    let installs = |faults| {
        let mut node = node(3, Disk::new(5, None, terms([1])), faults);
        rows_of_two(&mut node, 1);
        node.raft.last().index.0
    };
    assert_eq!(both(Fault::SnapshotRowsSkipped, installs), (1, 9), "the first row is missing");
}

#[test]
fn snapshot_acked_early() {
    let acks = |faults| {
        let mut node = node(3, Disk::new(5, None, terms([1])), faults);
        rows_of_two(&mut node, 0);
        rows_of_two(&mut node, 1);
        node.take_sent(2).contains(&(5, Body::AppendAccepted { matched: Index(9) }))
    };
    assert_eq!(both(Fault::SnapshotAckedEarly, acks), (false, true), "nothing of it is on the disk");
}
