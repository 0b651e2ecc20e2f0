//! Handing leadership over (Raft thesis, section 3.10).

mod raft_net;

use eventstream_core::config::PATIENCE;
use eventstream_core::id::{Index, Term};
use eventstream_core::raft::{Body, ProposeError, Role, TransferError};
use eventstream_core::time::Instant;
use raft_net::{Disk, Node, World, id};

const GRANTED: Body = Body::VoteReply { granted: true, wall_us: 0 };
const WOULD: Body = Body::PreVoteReply { granted: true };

/// Node 1 of three, leading term 1; node 2 has its empty entry, node 3 nothing; and the time.
fn leader() -> (Node, Instant) {
    let mut node = Node::of(1, 3, Disk::default());
    let now = node.wait();
    node.hear(now, 2, 1, WOULD, &[]);
    node.sync_all(now);
    node.hear(now, 2, 1, GRANTED, &[]);
    node.sync_all(now);
    node.hear(now, 2, 1, Body::AppendAccepted { matched: Index(1) }, &[]);
    node.sent.clear();
    assert_eq!((node.raft.role(), node.raft.commit()), (Role::Leader, Index(1)));
    (node, now)
}

fn is_called(node: &mut Node, successor: u16) -> bool {
    node.poll();
    node.take_sent(successor).contains(&(1, Body::TimeoutNow))
}

#[test]
fn the_member_with_most_of_the_log_takes_over_without_a_detection() {
    let mut world = World::new(3);
    let old = world.elect();
    world.run_until(World::is_level);
    world.propose(old);
    world.run_until(World::is_level);
    let successor = world.transfer(old);
    let took = world.run_until(|world| world.leader().is_some_and(|leader| leader != old));
    assert_eq!(world.leader().map(id), Some(successor));
    assert!(took.as_millis() < 20, "{took}");
    world.propose(successor.0);
    world.run_until(World::is_level);
}

#[test]
fn a_member_that_lacks_entries_gets_them_first() {
    let (mut node, now) = leader();
    node.propose(now);
    assert_eq!(node.raft.transfer_leadership(now, None), Ok(id(2)), "node 3 has nothing");
    assert!(!is_called(&mut node, 2), "entry 2 is missing there");
    node.hear(now, 2, 1, Body::AppendAccepted { matched: Index(2) }, &[]);
    assert!(is_called(&mut node, 2));
}

#[test]
fn nothing_can_be_proposed_meanwhile() {
    let (mut node, now) = leader();
    assert_eq!(node.raft.transfer_leadership(now, Some(id(3))), Ok(id(3)));
    assert_eq!(node.raft.successor(), Some(id(3)));
    assert_eq!(node.raft.propose(now), Err(ProposeError::HandingOver { to: id(3) }));
}

#[test]
fn a_successor_that_did_not_hear_is_told_again() {
    let (mut node, now) = leader();
    assert_eq!(node.raft.transfer_leadership(now, Some(id(2))), Ok(id(2)));
    assert!(is_called(&mut node, 2));
    assert!(!is_called(&mut node, 2));
    node.hear(now, 2, 1, Body::HeartbeatReply { round: 1, verified: Index(1), wall_us: 0 }, &[]);
    assert!(is_called(&mut node, 2));
}

#[test]
fn a_leader_whose_successor_does_not_take_over_goes_on() {
    let (mut node, now) = leader();
    assert_eq!(node.raft.transfer_leadership(now, Some(id(3))), Ok(id(3)));
    let later = now + PATIENCE;
    node.hear(later, 2, 1, Body::HeartbeatReply { round: 1, verified: Index(1), wall_us: 0 }, &[]);
    node.raft.handle_timeout(later);
    assert_eq!((node.raft.role(), node.raft.successor()), (Role::Leader, None));
    assert_eq!(node.raft.propose(later).map(|at| at.index), Ok(Index(2)));
}

#[test]
fn another_successor_takes_the_place_of_the_first() {
    let (mut node, now) = leader();
    assert_eq!(node.raft.transfer_leadership(now, Some(id(3))), Ok(id(3)));
    assert_eq!(node.raft.transfer_leadership(now, Some(id(2))), Ok(id(2)));
    assert!(is_called(&mut node, 2));
}

#[test]
fn what_cannot_be_done_is_refused() {
    let (mut node, now) = leader();
    for nobody in [id(1), id(9)] {
        let refused = Err(TransferError::NotAPeer { node: nobody });
        assert_eq!(node.raft.transfer_leadership(now, Some(nobody)), refused);
    }
    let silent = now + PATIENCE;
    assert_eq!(node.raft.transfer_leadership(silent, None), Err(TransferError::NobodyHeard));
    assert_eq!(node.raft.successor(), None);
    let mut follower = Node::of(2, 3, Disk::default());
    let refused = Err(TransferError::NotLeader { term: Term(0), leader: None });
    assert_eq!(follower.raft.transfer_leadership(now, None), refused);
}

#[test]
fn a_leader_that_is_deposed_meanwhile_hands_nothing_over() {
    let (mut node, now) = leader();
    assert_eq!(node.raft.transfer_leadership(now, Some(id(3))), Ok(id(3)));
    node.hear(now, 2, 7, Body::HeartbeatReply { round: 0, verified: Index(0), wall_us: 0 }, &[]);
    assert_eq!((node.raft.role(), node.raft.successor()), (Role::Follower, None));
    node.hear(now, 3, 1, Body::AppendAccepted { matched: Index(1) }, &[]);
    assert!(!is_called(&mut node, 3));
}
