//! Reads that are not stale (Raft thesis, section 6.4).
#![allow(missing_docs, reason = "an integration test")]

mod raft_net;

use eventstream_core::id::{Index, Term};
use eventstream_core::raft::{Body, Output, ReadError, ReadTicket, Role};
use raft_net::{Disk, Node, id, ms, terms};

/// The leader of three in term 2, whose first entry is number 3 and not committed.
fn leader() -> (Node, eventstream_core::time::Instant) {
    let mut node = Node::of(1, 3, Disk::new(1, None, terms([1, 1])));
    let now = node.wait();
    node.hear(now, 2, 2, Body::PreVoteReply { granted: true }, &[]);
    node.sync_all(now);
    node.hear(now, 2, 2, Body::VoteReply { granted: true, wall_us: 0 }, &[]);
    node.sync_all(now);
    assert_eq!(node.raft.role(), Role::Leader);
    node.outputs.clear();
    (node, now)
}

fn reads(node: &mut Node) -> Vec<(u64, u64)> {
    node.poll();
    let read = |output| match output {
        Output::ReadIndex { ticket, index } => Some((ticket.0, index.0)),
        _ => None,
    };
    node.outputs.drain(..).filter_map(read).collect()
}

/// The round of the last heartbeat to a peer.
fn round(node: &mut Node, to: u16) -> u64 {
    let rounds = node.take_sent(to).into_iter().filter_map(|(_, body)| match body {
        Body::Heartbeat { round, .. } => Some(round),
        _ => None,
    });
    rounds.max().expect("a heartbeat")
}

fn answer(node: &mut Node, from: u16, round: u64) {
    node.hear(ms(600), from, 2, Body::HeartbeatReply { round, verified: Index(3), wall_us: 0 }, &[]);
}

#[test]
fn a_read_waits_for_an_entry_of_the_leaders_term_and_for_a_round_after_it() {
    let (mut node, now) = leader();
    assert_eq!(node.raft.read_index(now), Ok(ReadTicket(1)));
    let before = round(&mut node, 2);
    answer(&mut node, 2, before);
    answer(&mut node, 3, before);
    assert_eq!(reads(&mut node), [], "an entry of an earlier leader may be committed, and it does not know");
    node.hear(now, 2, 2, Body::AppendAccepted { matched: Index(3) }, &[]);
    answer(&mut node, 3, before);
    assert_eq!(reads(&mut node), [], "that was said before");
    let after = round(&mut node, 2);
    assert!(after > before);
    answer(&mut node, 3, after);
    assert_eq!(reads(&mut node), [(1, 3)]);
}

#[test]
fn reads_that_come_during_a_round_wait_for_the_next() {
    let (mut node, now) = leader();
    node.hear(now, 2, 2, Body::AppendAccepted { matched: Index(3) }, &[]);
    node.raft.read_index(now).unwrap();
    node.poll();
    let first = round(&mut node, 2);
    node.propose(now);
    node.sync_all(now);
    node.hear(now, 3, 2, Body::AppendAccepted { matched: Index(4) }, &[]);
    assert_eq!(node.raft.commit(), Index(4));
    node.raft.read_index(now).unwrap();
    node.raft.read_index(now).unwrap();
    answer(&mut node, 2, first);
    assert_eq!(reads(&mut node), [(1, 3)], "as of when its round began");
    let second = round(&mut node, 2);
    answer(&mut node, 2, first);
    assert_eq!(reads(&mut node), []);
    answer(&mut node, 3, second);
    assert_eq!(reads(&mut node), [(3, 4)], "one answer for both");
}

#[test]
fn reads_of_a_leader_that_is_none_any_more_are_not_answered() {
    let (mut node, now) = leader();
    node.hear(now, 2, 2, Body::AppendAccepted { matched: Index(3) }, &[]);
    node.raft.read_index(now).unwrap();
    node.poll();
    let old = round(&mut node, 3);
    node.hear(now, 2, 3, Body::Heartbeat { commit: Index(3), round: 1 }, &[]);
    answer(&mut node, 3, old);
    assert_eq!(reads(&mut node), []);
    let refused = ReadError::NotLeader { term: Term(3), leader: Some(id(2)) };
    assert_eq!(node.raft.read_index(now), Err(refused));
}

#[test]
fn who_is_the_only_voter_needs_no_round() {
    let mut node = Node::of(1, 1, Disk::default());
    node.timeout(ms(0));
    node.sync_all(ms(0));
    node.raft.read_index(ms(1)).unwrap();
    assert_eq!(reads(&mut node), [(1, 1)]);
}
