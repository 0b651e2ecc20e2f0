//! The witness: votes, keeps terms, and is counted only while it has to be.
#![allow(missing_docs, reason = "an integration test")]

mod raft_net;

use eventstream_core::id::{Index, Term};
use eventstream_core::raft::{Body, LogPosition, Message, Rejected, Role};
use eventstream_core::time::{Duration, Instant};
use raft_net::{Disk, Envelope, Node, World, at, entries, id, member, ms, terms, with_witness};

const NOWHERE: LogPosition = LogPosition { index: Index(0), term: Term(0) };

/// The leader, the other data voter, and the world.
fn elected() -> (World, u16, u16) {
    let mut world = World::with_witness();
    let leader = world.elect();
    world.run_for(50);
    (world, leader, 3 - leader)
}

fn told(prev: LogPosition, last: u64, runs: &[(u64, u64)], commit: u64) -> Body {
    let mut all = [NOWHERE; 4];
    for (place, &(index, term)) in all.iter_mut().zip(runs) {
        *place = at(index, term);
    }
    Body::AppendTerms { prev, last: Index(last), runs: all, configuration: Index(0), commit: Index(commit) }
}

fn tell(node: &mut Node, now: Instant, term: u64, body: Body) -> Result<(), Rejected> {
    let Body::AppendTerms { prev, last, runs, .. } = body else { panic!("{body:?}") };
    let to = node.raft.node();
    let message = Message { from: id(1), to, incarnation: member(1).incarnation, term: Term(term), body };
    let term_of = |index: u64| {
        let run = runs.iter().rfind(|run| run.index > Index(0) && run.index.0 <= index);
        run.map_or(0, |run| run.term.0)
    };
    let terms: Vec<u64> = (prev.index.0 + 1..=last.0).map(term_of).collect();
    node.receive(now, &Envelope::new(message, entries(prev.index.0, &terms)))
}

/// The witness, which has entries of these terms.
fn witness<const N: usize>(term: u64, log: [u64; N]) -> Node {
    Node::new(with_witness(3, 1), Disk::new(term, None, terms(log)), ms(0))
}

#[test]
fn it_is_told_terms_and_counted_only_while_a_disk_is_missing() {
    let (mut world, leader, other) = elected();
    let index = world.propose(leader);
    world.run_for(100);
    assert!(world.committed().len() as u64 >= index.0);
    world.propose(leader);
    world.run_for(100);
    assert!(world.node(3).log.len() as u64 >= index.0, "it has the terms of what is committed");
    // The other disk is there, and slow: the witness alone does not do.
    world.cut(other, leader);
    let index = world.propose(leader);
    world.run_for(200);
    assert!((world.committed().len() as u64) < index.0, "the other disk has not been missed for long");
    assert!(world.node(leader).raft.is_on_disks(index.prev()));
    // Then it is missed.
    world.run_until(|world| world.committed().len() as u64 >= index.0);
    assert_eq!(world.leader(), Some(leader));
    assert!(!world.node(leader).raft.is_on_disks(index), "one disk and the witness");
    world.heal();
    world.run_for(500);
    assert!(world.node(leader).raft.is_on_disks(index));
}

#[test]
fn it_keeps_a_cluster_going_whichever_disk_is_gone() {
    let (mut world, leader, other) = elected();
    world.stop(leader);
    let took = world.run_until(|world| world.leader() == Some(other));
    assert!(took < Duration::from_millis(700), "{took:?}");
    let index = world.propose(other);
    world.run_until(|world| world.committed().len() as u64 >= index.0);
    world.start(leader);
    world.run_until(World::is_level);
    world.stop(other);
    world.run_until(|world| world.leader() == Some(leader));
    let index = world.propose(leader);
    world.run_until(|world| world.committed().len() as u64 >= index.0);
}

#[test]
fn a_connection_that_is_gone_counts_it_at_once() {
    let (mut world, leader, other) = elected();
    world.kill(other);
    let index = world.propose(leader);
    let took = world.run_until(|world| world.committed().len() as u64 >= index.0);
    assert!(took < Duration::from_millis(10), "{took:?}");
}

#[test]
fn a_disk_without_what_the_other_had_committed_with_it_is_not_elected() {
    let (mut world, leader, other) = elected();
    world.stop(other);
    let index = world.propose(leader);
    world.run_until(|world| world.committed().len() as u64 >= index.0);
    world.stop(leader);
    world.start(other);
    world.run_for(5_000);
    assert_eq!(world.leader(), None);
    world.start(leader);
    world.run_until(|world| world.leader() == Some(leader));
}

#[test]
fn it_never_campaigns() {
    let (mut world, leader, other) = elected();
    world.stop(leader);
    world.stop(other);
    world.run_for(5_000);
    assert_eq!((world.node(3).raft.role(), world.node(3).raft.next_deadline()), (Role::Follower, Instant::FAR_FUTURE));
    let mut alone = witness(4, [4]);
    alone.hear(ms(1), 1, 4, Body::Heartbeat { commit: Index(0), round: 1 }, &[]);
    alone.hear(ms(2), 1, 4, Body::TimeoutNow, &[]);
    assert_eq!(alone.raft.term(), Term(4), "nor when it is told to");
}

#[test]
fn entries_are_not_for_it_and_terms_not_for_others() {
    let body = Body::Append { prev: at(0, 0), count: 1, commit: Index(0) };
    let message = Message { from: id(1), to: id(3), incarnation: member(1).incarnation, term: Term(1), body };
    let mut node = witness(1, []);
    assert_eq!(node.receive(ms(1), &Envelope::new(message, entries(0, &[1]))), Err(Rejected::Witness));
    let mut data = Node::new(with_witness(2, 1), Disk::default(), ms(0));
    assert_eq!(tell(&mut data, ms(1), 1, told(at(0, 0), 1, &[(1, 1)], 0)), Err(Rejected::Witness));
}

#[test]
fn terms_that_make_no_sense_are_refused() {
    let wrong = [
        told(at(2, 2), 1, &[], 0),
        told(at(2, 2), 3, &[], 0),
        told(at(2, 2), 2, &[(3, 2)], 0),
        told(at(2, 2), 4, &[(4, 2)], 0),
        told(at(2, 2), 4, &[(3, 1)], 0),
        told(at(2, 2), 4, &[(3, 9)], 0),
        told(at(2, 2), 4, &[(3, 3), (4, 3)], 0),
        told(at(2, 2), 4, &[(3, 3), (3, 4)], 0),
        told(at(2, 2), 4, &[(3, 3), (5, 4)], 0),
        told(at(2, 2), 4, &[(3, 3), (0, 0), (4, 4)], 0),
        Body::AppendTerms {
            prev: at(2, 2),
            last: Index(3),
            runs: [at(3, 3), NOWHERE, NOWHERE, NOWHERE],
            configuration: Index(3),
            commit: Index(0),
        },
    ];
    for body in wrong {
        let mut node = witness(5, [1, 2]);
        let message = Message { from: id(1), to: id(3), incarnation: member(1).incarnation, term: Term(5), body };
        assert_eq!(node.receive(ms(1), &Envelope::new(message, Vec::new())), Err(Rejected::Entries), "{body:?}");
    }
}

#[test]
fn what_differs_is_replaced_and_what_agrees_stays() {
    let mut node = witness(6, [1, 1, 2, 2, 3, 3, 3]);
    tell(&mut node, ms(1), 6, told(at(1, 1), 6, &[(2, 1), (3, 2), (5, 5), (6, 6)], 0)).unwrap();
    node.sync_all(ms(1));
    assert_eq!(node.disk.log, terms([1, 1, 2, 2, 5, 6]));
    // A late and shorter message removes nothing (Raft paper, section 5.3).
    tell(&mut node, ms(2), 6, told(at(2, 1), 4, &[(3, 2)], 0)).unwrap();
    tell(&mut node, ms(2), 6, told(at(4, 2), 4, &[], 0)).unwrap();
    assert_eq!(node.raft.last(), at(6, 6));
    assert_eq!(node.take_sent(1).last(), Some(&(6, Body::AppendAccepted { matched: Index(6) })));
    // Where it cannot agree it says so.
    tell(&mut node, ms(3), 6, told(at(9, 6), 9, &[], 0)).unwrap();
    let hint = at(6, 6);
    assert_eq!(node.take_sent(1), [(6, Body::AppendRejected { rejected: Index(9), hint })]);
}

#[test]
fn a_long_log_is_told_in_few_words() {
    let mut log: Vec<u64> = vec![1; 500];
    log.extend([2; 300]);
    log.extend([3; 200]);
    let disk = Disk::new(3, None, log.iter().map(|&term| Term(term)).collect());
    let mut node = Node::new(with_witness(1, 1), disk, ms(0));
    let now = node.wait();
    node.hear(now, 2, 4, Body::PreVoteReply { granted: true }, &[]);
    node.sync_all(now);
    node.hear(now, 2, 4, Body::VoteReply { granted: true, wall_us: 0 }, &[]);
    node.sync_all(now);
    assert_eq!(node.raft.role(), Role::Leader);
    _ = node.take_sent(3);
    node.hear(now, 3, 4, Body::AppendRejected { rejected: Index(1_000), hint: at(0, 0) }, &[]);
    let all = [at(1, 1), at(501, 2), at(801, 3), at(1_001, 4)];
    let body =
        Body::AppendTerms { prev: at(0, 0), last: Index(1_001), runs: all, configuration: Index(0), commit: Index(0) };
    assert_eq!(node.take_sent(3), [(4, body)]);
}

#[test]
fn it_is_told_only_what_somebody_has_on_a_disk() {
    let (mut world, leader, other) = elected();
    world.kill(other);
    let now = world.now;
    let node = world.node(leader);
    node.take_sent(3);
    node.propose(now);
    assert!(!node.take_sent(3).iter().any(|(_, body)| matches!(body, Body::AppendTerms { .. })), "not synced yet");
    node.sync_all(now);
    assert!(node.take_sent(3).iter().any(|(_, body)| matches!(body, Body::AppendTerms { .. })));
}

#[test]
fn it_is_told_no_more_than_what_is_committed_while_it_is_not_needed() {
    let (mut world, leader, other) = elected();
    world.propose(leader);
    world.run_for(20);
    // The other disk lags, and the first one is gone for good: the witness must not hold that against the other.
    world.cut(leader, other);
    world.propose(leader);
    world.run_for(20);
    assert!(world.node(3).log.len() < world.node(leader).log.len());
    world.stop(leader);
    world.heal();
    world.run_until(|world| world.leader() == Some(other));
}

#[test]
fn terms_that_contradict_what_was_verified_are_refused() {
    let mut node = witness(5, []);
    tell(&mut node, ms(1), 5, told(at(0, 0), 10, &[(1, 5)], 0)).unwrap();
    let lie = tell(&mut node, ms(1), 5, told(at(0, 0), 20, &[(1, 1)], 0));
    assert_eq!(lie, Err(Rejected::Contradiction { index: Index(10) }));
}

#[test]
fn it_votes_by_the_comparison_of_logs_when_that_is_on_its_disk() {
    let mut node = witness(5, [3, 5]);
    node.hear(ms(600), 2, 6, Body::Vote { last: at(9, 4), transfer: false }, &[]);
    node.sync_all(ms(600));
    assert_eq!(node.take_sent(2), [(6, Body::VoteReply { granted: false, wall_us: 0 })]);
    node.hear(ms(601), 2, 7, Body::Vote { last: at(2, 5), transfer: false }, &[]);
    assert_eq!(node.take_sent(2), []);
    node.sync_all(ms(601));
    assert_eq!(node.take_sent(2), [(7, Body::VoteReply { granted: true, wall_us: 0 })]);
}
