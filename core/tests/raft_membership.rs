//! Changes of the members (Raft paper, section 6; Raft thesis, chapter 4).
#![allow(missing_docs, reason = "an integration test")]

mod raft_net;

use eventstream_core::id::{Incarnation, Index, NodeId, Term};
use eventstream_core::raft::{
    Body, Change, ChangeError, Configuration, Member, Message, Placed, Rejected, Role, Transition,
};
use raft_net::{Disk, Envelope, Node, World, at, entries, id, member, members, ms, options, terms};

fn voter(node: u16) -> Change {
    Change::AddVoter(member(node))
}

fn learner(node: u16) -> Change {
    Change::AddLearner(member(node))
}

fn remove(node: u16) -> Change {
    Change::Remove(NodeId(node))
}

fn of(count: u16) -> Configuration {
    Configuration::new(&members(count)).unwrap()
}

/// A cluster of so many members that has a leader, and so many spare nodes.
fn elected(voters: u16, spare: u16) -> (World, u16) {
    let mut world = World::with_spare(voters, spare);
    let leader = world.elect();
    world.run_for(20);
    (world, leader)
}

fn configuration(world: &mut World, node: u16) -> String {
    world.node(node).raft.configuration().to_string()
}

/// Which of these nodes does not lead.
fn other(leader: u16, among: &[u16]) -> u16 {
    *among.iter().find(|&&node| node != leader).unwrap()
}

#[test]
fn a_node_is_added_and_counts_from_the_append_on() {
    let (mut world, leader) = elected(1, 1);
    let entry = world.change(leader, &[voter(2)], Transition::Auto).unwrap();
    assert_eq!(configuration(&mut world, 1), "1 2");
    world.run_until(|world| world.is_level() && world.committed().len() == entry.index.0 as usize);
    assert_eq!(configuration(&mut world, 2), "1 2");
    // Both are needed from now on.
    world.cut_off(&[2]);
    let index = world.propose(1);
    world.run_for(300);
    assert!((world.committed().len() as u64) < index.0);
    world.heal();
    world.run_until(|world| world.committed().len() as u64 >= index.0);
}

#[test]
fn who_led_alone_sends_again_what_its_first_follower_missed_and_hears_whether_it_is_followed() {
    let (mut world, _) = elected(1, 1);
    world.cut_off(&[2]);
    world.change(1, &[learner(2)], Transition::Auto).unwrap();
    world.run_for(100);
    world.heal();
    world.run_until(|world| world.is_level() && world.ref_node(2).committed > 0);
    world.change(1, &[voter(2)], Transition::Auto).unwrap();
    world.run_until(World::is_level);
    world.cut_off(&[2]);
    world.run_for(2_000);
    assert_ne!(world.node(1).raft.role(), Role::Leader, "it is not heard by a majority");
}

#[test]
fn a_learner_gets_the_log_and_decides_nothing() {
    let (mut world, leader) = elected(3, 1);
    world.change(leader, &[learner(4)], Transition::Auto).unwrap();
    world.run_until(World::is_level);
    assert_eq!(configuration(&mut world, 4), "1 2 3 learners 4");
    // The leader and the learner are no majority.
    let others: Vec<u16> = (1..=3).filter(|&node| node != leader).collect();
    world.cut_off(&others);
    let index = world.propose(leader);
    world.run_for(100);
    assert_eq!(world.node(4).log.len() as u64, index.0, "it gets what is not committed");
    assert!((world.committed().len() as u64) < index.0);
    world.run_for(2_000);
    assert_ne!(world.node(leader).raft.role(), Role::Leader, "it does not hear a majority");
    assert_eq!(world.node(4).raft.role(), Role::Follower, "it does not campaign");
    world.heal();
    world.run_until(|world| world.leader().is_some_and(|leader| leader != 4) && world.is_level());
}

#[test]
fn a_learner_is_promoted() {
    let (mut world, leader) = elected(3, 1);
    world.change(leader, &[learner(4)], Transition::Auto).unwrap();
    world.run_until(World::is_level);
    world.change(leader, &[voter(4)], Transition::Auto).unwrap();
    world.run_until(World::is_level);
    assert_eq!(configuration(&mut world, 4), "1 2 3 4");
    world.kill(leader);
    let second = world.elect();
    world.run_for(100);
    // Three of four go on; with a second one gone they do not.
    let gone = other(second, &(1..=4).filter(|&node| node != leader).collect::<Vec<_>>());
    world.stop(gone);
    let index = world.propose(second);
    world.run_for(2_000);
    assert!((world.committed().len() as u64) < index.0);
}

#[test]
fn several_members_are_replaced_at_once() {
    let (mut world, leader) = elected(3, 2);
    let old: Vec<u16> = (1..=3).filter(|&node| node != leader).collect();
    let changes = [remove(old[0]), remove(old[1]), voter(4), voter(5)];
    world.change(leader, &changes, Transition::Auto).unwrap();
    assert!(world.node(leader).raft.configuration().is_joint());
    world.run_until(|world| {
        let mut all = [leader, 4, 5].into_iter();
        all.all(|node| world.ref_node(node).raft.configuration().members().count() == 3)
    });
    world.run_for(100);
    old.iter().for_each(|&node| world.stop(node));
    let index = world.propose(leader);
    world.run_until(|world| world.committed().len() as u64 >= index.0);
}

#[test]
fn a_joint_configuration_needs_both_majorities() {
    let (mut world, leader) = elected(3, 3);
    let changes: Vec<_> = (1..=3).map(remove).chain((4..=6).map(voter)).collect();
    world.change(leader, &changes, Transition::JointUntilTold).unwrap();
    world.run_until(World::is_level);
    assert_eq!(configuration(&mut world, 5), "4 5 6 & 1 2 3");
    world.cut_off(&[5, 6]);
    let index = world.propose(leader);
    world.run_for(300);
    assert!((world.committed().len() as u64) < index.0, "a majority of the old one is not enough");
    world.heal();
    world.run_until(World::is_level);
    let leader = world.leader().unwrap();
    let old: Vec<u16> = (1..=3).filter(|&node| node != leader).collect();
    world.cut_off(&old);
    let index = world.propose(leader);
    world.run_for(300);
    assert!((world.committed().len() as u64) < index.0, "nor is one of the new one");
    world.heal();
    world.run_until(|world| world.is_level() && world.leader().is_some());
    let leader = world.leader().unwrap();
    world.leave_joint(leader).unwrap();
    world.run_until(|world| world.leader().is_some_and(|leader| leader > 3));
    let leader = world.leader().unwrap();
    assert_eq!(configuration(&mut world, leader), "4 5 6");
    (1..=3).for_each(|node| world.stop(node));
    let index = world.propose(leader);
    world.run_until(|world| world.committed().len() as u64 >= index.0);
}

#[test]
fn a_leader_that_is_removed_hands_over_when_that_is_committed() {
    let (mut world, leader) = elected(3, 0);
    let entry = world.change(leader, &[remove(leader)], Transition::Auto).unwrap();
    assert_eq!(world.node(leader).raft.role(), Role::Leader, "it manages a cluster of which it is no part");
    let outage = world.run_until(|world| world.leader().is_some_and(|now| now != leader));
    assert!(outage < eventstream_core::time::Duration::from_millis(50), "{outage:?}");
    assert!(world.committed().len() as u64 >= entry.index.0);
    world.run_for(3_000);
    let second = world.leader().unwrap();
    assert_eq!(world.node(leader).raft.role(), Role::Follower);
    assert_eq!(world.node(second).raft.configuration().members().count(), 2);
    let term = world.node(second).raft.term();
    world.run_for(3_000);
    assert_eq!(world.node(second).raft.term(), term, "who was removed does not disturb");
}

#[test]
fn a_removed_leader_does_not_count_itself() {
    let (mut world, leader) = elected(2, 0);
    let stays = 3 - leader;
    world.cut_off(&[stays]);
    let refused = world.change(leader, &[remove(leader)], Transition::Auto).map(|_| ());
    assert_eq!(refused, Ok(()), "the other has all that is committed");
    world.run_for(200);
    let committed = world.committed().len();
    assert!(committed < world.node(leader).log.len(), "one of one has not taken it");
}

#[test]
fn the_next_change_waits_for_the_last() {
    let (mut world, leader) = elected(3, 2);
    let first = world.change(leader, &[learner(4)], Transition::Auto).unwrap();
    let refused = world.change(leader, &[learner(5)], Transition::Auto);
    assert_eq!(refused, Err(ChangeError::Pending { index: first.index }));
    world.run_until(World::is_level);
    world.change(leader, &[learner(5)], Transition::Auto).unwrap();
}

#[test]
fn a_new_leader_commits_an_entry_of_its_term_before_it_changes_members() {
    let mut node = Node::of(1, 3, Disk::new(1, None, terms([1, 1])));
    let now = node.wait();
    node.sync_all(now);
    node.hear(now, 2, 2, Body::PreVoteReply { granted: true }, &[]);
    node.sync_all(now);
    node.hear(now, 2, 2, Body::VoteReply { granted: true, wall_us: 0 }, &[]);
    node.sync_all(now);
    assert_eq!(node.raft.role(), Role::Leader);
    let change = |node: &mut Node| node.raft.propose_change(now, &[remove(3)], Transition::Auto);
    assert_eq!(change(&mut node), Err(ChangeError::Pending { index: Index(3) }));
    node.hear(now, 2, 2, Body::AppendAccepted { matched: Index(3) }, &[]);
    assert_eq!(change(&mut node), Ok(at(4, 2)));
}

#[test]
fn the_leader_is_not_removed_while_nobody_else_has_what_is_committed() {
    let (mut world, leader) = elected(3, 0);
    let others: Vec<u16> = (1..=3).filter(|&node| node != leader).collect();
    world.change(leader, &[remove(others[0])], Transition::Auto).unwrap();
    world.run_for(100);
    world.change(leader, &[remove(others[1])], Transition::Auto).unwrap();
    world.run_for(100);
    assert_eq!(configuration(&mut world, leader), leader.to_string());
    world.change(leader, &[learner(others[0])], Transition::Auto).unwrap();
    world.run_for(100);
    let alone = world.change(leader, &[remove(leader)], Transition::Auto);
    assert_eq!(alone, Err(ChangeError::NoVoter));
}

/// A follower of three whose log ends with a configuration that is not committed.
fn follower() -> Node {
    let mut node = Node::of(2, 3, Disk::new(5, None, terms([5, 5])));
    let next = of(3).simple(&[remove(1)]).unwrap();
    append(&mut node, 1, 5, at(2, 5), &[5], &[(3, next)]).unwrap();
    node.sync_all(ms(1));
    node
}

fn append(
    node: &mut Node,
    from: u16,
    term: u64,
    prev: eventstream_core::raft::LogPosition,
    with: &[u64],
    configurations: &[(u64, Configuration)],
) -> Result<(), Rejected> {
    let body = Body::Append { prev, count: with.len() as u16, commit: Index(0) };
    let message =
        Message { from: id(from), to: node.raft.node(), incarnation: member(from).incarnation, term: Term(term), body };
    let placed = |&(index, configuration): &(u64, Configuration)| Placed { index: Index(index), configuration };
    let configurations = configurations.iter().map(placed).collect();
    node.receive(ms(1), &Envelope { configurations, ..Envelope::new(message, entries(prev.index.0, with)) })
}

#[test]
fn a_configuration_reverts_when_it_is_truncated() {
    let mut node = follower();
    assert_eq!(node.raft.configuration().to_string(), "2 3");
    append(&mut node, 3, 6, at(2, 5), &[6], &[]).unwrap();
    assert_eq!(node.raft.configuration(), &of(3));
    assert_eq!(node.raft.last(), at(3, 6));
}

#[test]
fn a_leader_that_was_removed_is_followed_until_there_is_another() {
    let mut node = follower();
    _ = node.take_sent(1);
    append(&mut node, 1, 5, at(3, 5), &[5], &[]).unwrap();
    node.sync_all(ms(2));
    let accepted = (5, Body::AppendAccepted { matched: Index(4) });
    assert!(node.take_sent(1).contains(&accepted), "the answer goes to a node that is no member");
    // Another node that is no member does not push it out.
    let stranger = append(&mut node, 7, 5, at(4, 5), &[], &[]);
    assert_eq!(stranger, Err(Rejected::NotAPeer { from: id(7) }));
    append(&mut node, 3, 6, at(4, 5), &[6], &[]).unwrap();
    assert_eq!(node.raft.leader(), Some(id(3)));
}

#[test]
fn a_node_that_waits_to_be_added_follows_whoever_leads() {
    let mut node = Node::new(options(4, 3, 1), Disk::default(), ms(0));
    assert_eq!(node.raft.configuration(), &Configuration::NONE);
    let next = of(3).simple(&[learner(4)]).unwrap();
    append(&mut node, 1, 3, at(0, 0), &[1, 3], &[(2, next)]).unwrap();
    node.sync_all(ms(1));
    assert_eq!(node.raft.configuration(), &next);
    assert_eq!(node.take_sent(1), [(3, Body::AppendAccepted { matched: Index(2) })]);
    // In another life than the one that it is a member in it is refused.
    let message = Message {
        from: id(2),
        to: id(4),
        incarnation: Incarnation([9; 16]),
        term: Term(9),
        body: Body::Vote { last: at(9, 9), transfer: true },
    };
    let refused = Rejected::OtherIncarnation { from: id(2), incarnation: Incarnation([9; 16]) };
    assert_eq!(node.receive(ms(2), &Envelope::new(message, Vec::new())), Err(refused));
}

#[test]
fn a_learner_that_does_not_know_of_its_promotion_votes() {
    let mut node = Node::new(options(4, 3, 1), Disk::default(), ms(0));
    let next = of(3).simple(&[learner(4)]).unwrap();
    append(&mut node, 1, 3, at(0, 0), &[3], &[(1, next)]).unwrap();
    node.sync_all(ms(1));
    _ = node.take_sent(2);
    node.hear(ms(2_000), 2, 4, Body::Vote { last: at(2, 3), transfer: true }, &[]);
    node.sync_all(ms(2_000));
    assert_eq!(node.take_sent(2), [(4, Body::VoteReply { granted: true, wall_us: 0 })]);
}

#[test]
fn configurations_are_found_again_after_a_restart() {
    let (mut world, leader) = elected(3, 2);
    world.change(leader, &[learner(4)], Transition::Auto).unwrap();
    world.run_until(World::is_level);
    world.change(leader, &[learner(5)], Transition::Auto).unwrap();
    world.run_until(World::is_level);
    (1..=5).for_each(|node| world.stop(node));
    (1..=5).for_each(|node| world.start(node));
    for node in 1..=5 {
        assert_eq!(configuration(&mut world, node), "1 2 3 learners 4 5");
    }
    let leader = world.elect();
    assert!(leader <= 3);
}

#[test]
fn an_append_that_rewrites_two_configurations_is_refused() {
    let mut node = Node::of(2, 3, Disk::new(5, None, terms([5])));
    let (one, two) = (of(3).simple(&[learner(4)]).unwrap(), of(3).simple(&[learner(5)]).unwrap());
    let three = two.simple(&[learner(4)]).unwrap();
    append(&mut node, 1, 5, at(1, 5), &[5, 5, 5], &[(2, one), (3, two), (4, three)]).unwrap();
    let rewrite = append(&mut node, 3, 6, at(1, 5), &[6], &[]);
    assert_eq!(rewrite, Err(Rejected::Contradiction { index: Index(2) }));
    assert_eq!(append(&mut node, 3, 6, at(3, 5), &[6], &[]), Ok(()));
    assert_eq!(node.raft.configuration(), &two);
}

#[test]
fn who_is_no_member_is_not_heard_as_one() {
    let node = |configuration: Configuration| {
        let member = member(1);
        let mut own = options(1, 1, 1);
        own.membership = configuration.into();
        assert_eq!(own.incarnation, member.incarnation);
        Node::new(own, Disk::default(), ms(0))
    };
    let mut node = node(of(3));
    for body in [Body::AppendAccepted { matched: Index(0) }, Body::VoteReply { granted: true, wall_us: 0 }] {
        let message = Message { from: id(9), to: id(1), incarnation: member(9).incarnation, term: Term(1), body };
        let refused = node.receive(ms(1), &Envelope::new(message, Vec::new()));
        assert_eq!(refused, Err(Rejected::NotAPeer { from: id(9) }));
    }
    let _: Member = member(9);
}

#[test]
fn who_waits_to_be_added_answers_all_who_ask() {
    let mut node = Node::new(options(4, 3, 1), Disk::default(), ms(0));
    for from in [1, 2, 3, 1] {
        node.hear(ms(1), from, 8, Body::PreVote { last: at(36, 6) }, &[]);
        assert_eq!(node.take_sent(from), [(8, Body::PreVoteReply { granted: true })], "to {from}");
    }
    // A leader that is not heard any more is nobody's leader.
    node.hear(ms(2), 3, 9, Body::Heartbeat { commit: Index(0), round: 1 }, &[]);
    // Its requests for pre-votes put off that this node looks for another leader.
    let now = ms(2_000);
    node.hear(now, 3, 10, Body::PreVote { last: at(36, 6) }, &[]);
    _ = node.take_sent(3);
    node.hear(now, 2, 10, Body::PreVote { last: at(36, 6) }, &[]);
    assert_eq!(node.take_sent(2), [(10, Body::PreVoteReply { granted: true })]);
}
