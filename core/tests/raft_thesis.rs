//! What the thesis adds to the paper, section by section (Ongaro, Consensus: Bridging Theory and Practice, 2014), where no
//! other file has a test of the rule:
//!
//! | section | rule | test |
//! |---|---|---|
//! | 3.10 | a leader that hands over takes no proposals | `raft_transfer`: `nothing_can_be_proposed_meanwhile` |
//! | | the successor has the whole log first | `a_member_that_lacks_entries_gets_them_first` |
//! | | it campaigns at once, and leases do not count | `raft_elections`: `a_follower_campaigns_at_once_...`, `a_campaign_that_the_leader_asked_for_...` |
//! | | what does not succeed within a patience is given up | `raft_transfer`: `a_leader_whose_successor_does_not_take_over_goes_on` |
//! | 4.1 | one voter at a time, so that majorities have a member in common | `change.rs`: `one_voter_changes_at_once_...`, `majorities_before_and_after_...` |
//! | | a configuration is in force when it is appended: for who leads | `raft_membership`: `a_node_is_added_and_counts_from_the_append_on` |
//! | | ... and for who campaigns | here |
//! | | it is reverted with its entry | `raft_membership`: `a_configuration_reverts_when_it_is_truncated` |
//! | | the next is refused until the last is committed | `the_next_change_waits_for_the_last` |
//! | | ... and until an entry of the leader's own term is (raft-dev, 2015) | `a_new_leader_commits_an_entry_of_its_term_before_it_changes_members` |
//! | | who leads is followed, member or not | `a_leader_that_was_removed_is_followed_until_there_is_another`, `a_node_that_waits_to_be_added_...` |
//! | | who asks for votes may get them, member or not | here |
//! | 4.2.1 | a learner gets the log, and neither counts nor campaigns | `raft_membership`: `a_learner_gets_the_log_and_decides_nothing` |
//! | | nobody asks it for a vote | here |
//! | | when it has caught up is for the caller to see | `a_learner_is_promoted` |
//! | 4.2.2 | a leader that is removed leads until that is committed, and hands over | `a_leader_that_is_removed_hands_over_when_that_is_committed` |
//! | | it does not count itself meanwhile | `a_removed_leader_does_not_count_itself` |
//! | | who was removed campaigns while that is not committed, and not later | here |
//! | 4.2.3 | who hears a leader gives no votes, and keeps its term | `raft_elections`: `who_hears_a_leader_gives_no_vote_to_another_and_keeps_its_term` |
//! | | a leader is not deposed by a newer term alone | `a_leader_ignores_a_candidate_of_a_newer_term_but_learns_of_it` |
//! | | who was removed and does not know it disturbs nobody | here |
//! | 4.3 | a commit takes both majorities | `raft_membership`: `a_joint_configuration_needs_both_majorities` |
//! | | an election takes both | here |
//! | | members of both configurations may lead | here |
//! | | the joint configuration ends after it is committed | here |
//! | 6.2 | a leader that does not hear a majority steps down | `raft_elections`: `a_leader_steps_down_when_it_has_heard_no_majority_for_450_ms` |
//! | 6.4 | a read waits for an entry of the leader's term, and for a round of heartbeats that began after it | `raft_reads` |
//! | 9.6 | a pre-vote changes nothing, and several may have it | `raft_elections`: `a_pre_vote_changes_neither_term_nor_vote` |
//! | | it is for a log that is at least as up to date | here |
//! | | who hears a leader does not give it | `raft_elections`: `a_kept_request_is_not_answered_while_the_leader_lives` |

mod raft_net;

use eventstream_core::id::{Index, NodeId};
use eventstream_core::raft::{Body, Change, ChangeError, Configuration, Message, Placed, Role, Transition};
use eventstream_core::time::Instant;
use raft_net::{Disk, Envelope, Node, World, at, entries, id, member, members, ms, options, terms};

const GRANTED: Body = Body::VoteReply { granted: true, wall_us: 0 };
const WOULD: Body = Body::PreVoteReply { granted: true };

fn voter(node: u16) -> Change {
    Change::AddVoter(member(node))
}

fn remove(node: u16) -> Change {
    Change::Remove(NodeId(node))
}

fn three() -> Configuration {
    Configuration::new(&members(3)).unwrap()
}

/// 1, 2 and 3 are to be replaced by 1, 4 and 5.
const REPLACED: fn() -> [Change; 4] = || [voter(4), voter(5), remove(2), remove(3)];

/// A node that follows another in term 5. Its log has three entries, of which the last holds this configuration and is not
/// committed.
fn holding(node: u16, configuration: Configuration) -> Node {
    let disk = Disk::new(5, None, if node <= 3 { terms([5, 5]) } else { Vec::new() });
    let (prev, with) = (disk.position(disk.log.len()), vec![5; 3 - disk.log.len()]);
    let mut node = Node::new(options(node, 3, 1), disk, Instant::ZERO);
    let from = if node.raft.node() == id(2) { 1 } else { 2 };
    let body = Body::Append { prev, count: with.len() as u16, commit: Index(0) };
    let term = eventstream_core::id::Term(5);
    let message = Message { from: id(from), to: node.raft.node(), incarnation: member(from).incarnation, term, body };
    let configurations = vec![Placed { index: Index(3), configuration }];
    let envelope = Envelope { configurations, ..Envelope::new(message, entries(prev.index.0, &with)) };
    node.receive(ms(1), &envelope).expect("an honest message");
    node.sync_all(ms(1));
    node.sent.clear();
    node
}

/// Its patience ends; says whom it asks for pre-votes.
fn asked(node: &mut Node) -> (Instant, Vec<u16>) {
    let now = node.wait();
    let asks = |envelope: &&Envelope| matches!(envelope.message.body, Body::PreVote { .. });
    let mut asked: Vec<_> = node.sent.iter().filter(asks).map(|envelope| envelope.message.to.0).collect();
    asked.sort_unstable();
    (now, asked)
}

/// The role after each of these has said this in term 6.
fn roles(node: &mut Node, now: Instant, from: &[u16], body: Body) -> Vec<Role> {
    let mut role = |&from: &u16| {
        node.hear(now, from, 6, body, &[]);
        node.sync_all(now);
        node.raft.role()
    };
    from.iter().map(&mut role).collect()
}

// Section 4.1: changes of one member.

#[test]
fn section_4_1_who_campaigns_does_so_in_the_last_configuration_of_its_log_committed_or_not() {
    let mut node = holding(1, three().simple(&[voter(4)]).unwrap());
    let (now, asked) = asked(&mut node);
    assert_eq!(asked, [2, 3, 4]);
    assert_eq!(roles(&mut node, now, &[2, 4], WOULD), [Role::PreCandidate, Role::Candidate], "three of four");
    assert_eq!(roles(&mut node, now, &[4, 3], GRANTED), [Role::Candidate, Role::Leader]);
}

#[test]
fn section_4_1_a_vote_goes_to_a_candidate_that_is_no_member() {
    let mut node = Node::of(2, 3, Disk::new(5, None, terms([5])));
    node.hear(ms(2_000), 4, 6, Body::PreVote { last: at(2, 5) }, &[]);
    assert_eq!(node.take_sent(4), [(6, WOULD)]);
    node.hear(ms(2_000), 4, 6, Body::Vote { last: at(2, 5), transfer: false }, &[]);
    node.sync_all(ms(2_000));
    assert_eq!(node.take_sent(4), [(6, GRANTED)]);
}

// Section 4.2.1: catching up.

#[test]
fn section_4_2_1_a_learner_is_not_asked_and_what_it_answers_does_not_count() {
    let mut node = holding(1, three().simple(&[Change::AddLearner(member(4))]).unwrap());
    let (now, asked) = asked(&mut node);
    assert_eq!(asked, [2, 3]);
    assert_eq!(roles(&mut node, now, &[3], WOULD), [Role::Candidate], "two of three");
    assert_eq!(roles(&mut node, now, &[4, 3], GRANTED), [Role::Candidate, Role::Leader]);
}

// Section 4.2.2: removing the leader.

#[test]
fn section_4_2_2_who_was_removed_campaigns_while_that_is_not_committed_and_does_not_count_itself() {
    let mut node = holding(1, three().simple(&[remove(1)]).unwrap());
    let (now, asked) = asked(&mut node);
    assert_eq!(asked, [2, 3], "perhaps nobody else has the entry that says so");
    assert_eq!(roles(&mut node, now, &[2, 3], WOULD), [Role::PreCandidate, Role::Candidate]);
    assert_eq!(roles(&mut node, now, &[3, 2], GRANTED), [Role::Candidate, Role::Leader]);
    node.sent.clear();
    let taken = Body::AppendAccepted { matched: Index(4) };
    assert_eq!(roles(&mut node, now, &[2], taken), [Role::Leader]);
    assert_eq!(node.raft.commit(), Index(0), "one of two");
    assert_eq!(roles(&mut node, now, &[3], taken), [Role::Leader]);
    assert_eq!(node.raft.commit(), Index(4));
    assert!(node.sent.iter().any(|envelope| envelope.message.body == Body::TimeoutNow), "it hands over");
}

#[test]
fn section_4_2_2_who_was_removed_does_not_campaign_when_that_is_committed() {
    let mut node = holding(1, three().simple(&[remove(1)]).unwrap());
    node.hear(ms(2), 2, 5, Body::Heartbeat { commit: Index(3), round: 1 }, &[]);
    assert_eq!(node.raft.commit(), Index(3));
    node.sent.clear();
    node.timeout(ms(60_000));
    assert_eq!((node.raft.role(), node.sent.len()), (Role::Follower, 0));
}

// Section 4.2.3: disruptive servers.

#[test]
fn section_4_2_3_who_was_removed_and_does_not_know_it_disturbs_nobody() {
    let mut world = World::new(3);
    let leader = world.elect();
    world.run_until(World::is_level);
    let away = leader % 3 + 1;
    world.cut_off(&[away]);
    let entry = world.change(leader, &[remove(away)], Transition::Auto).unwrap();
    world.run_until(|world| world.committed().len() as u64 >= entry.index.0);
    let term = world.node(leader).raft.term();
    world.run_for(1_000);
    // The leader would tell it that it lives: only the other one hears it.
    world.heal();
    world.cut(away, leader);
    world.cut(leader, away);
    world.run_for(5_000);
    let removed = &world.node(away).raft;
    assert_eq!((removed.configuration(), removed.role()), (&three(), Role::PreCandidate), "it was not told");
    assert_eq!((world.leader(), world.node(leader).raft.term()), (Some(leader), term));
    let index = world.propose(leader);
    world.run_until(|world| world.committed().len() as u64 >= index.0);
}

// Section 4.3: joint consensus.

#[test]
fn section_4_3_an_election_takes_both_majorities() {
    let joint = three().enter_joint(&REPLACED(), false).unwrap();
    assert_eq!(joint.to_string(), "1 4 5 & 1 2 3");
    // With its own, these are a majority of one of the two configurations first, and then of the other.
    for (first, then) in [(2, 4), (4, 2)] {
        let mut node = holding(1, joint);
        let (now, asked) = asked(&mut node);
        assert_eq!(asked, [2, 3, 4, 5]);
        assert_eq!(roles(&mut node, now, &[first, then], WOULD), [Role::PreCandidate, Role::Candidate]);
        assert_eq!(roles(&mut node, now, &[first, then], GRANTED), [Role::Candidate, Role::Leader]);
    }
}

#[test]
fn section_4_3_members_of_either_configuration_may_lead() {
    let joint = three().enter_joint(&REPLACED(), false).unwrap();
    for (node, voters) in [(2, [3, 4, 5]), (5, [4, 3, 2])] {
        let mut node = holding(node, joint);
        let leader = node.raft.leader().unwrap().0;
        node.hear(ms(2), leader, 5, Body::Heartbeat { commit: Index(3), round: 1 }, &[]);
        let (now, _) = asked(&mut node);
        assert_eq!(roles(&mut node, now, &voters, WOULD)[2], Role::Candidate);
        assert_eq!(roles(&mut node, now, &voters, GRANTED)[2], Role::Leader);
    }
}

#[test]
fn section_4_3_the_joint_configuration_ends_after_it_is_committed() {
    let mut node = Node::of(1, 3, Disk::new(5, None, terms([5, 5])));
    let (now, _) = asked(&mut node);
    roles(&mut node, now, &[2], WOULD);
    assert_eq!(roles(&mut node, now, &[2], GRANTED), [Role::Leader]);
    let accept = |node: &mut Node, from: u16, matched: u64| {
        node.hear(now, from, 6, Body::AppendAccepted { matched: Index(matched) }, &[]);
        node.sync_all(now);
    };
    accept(&mut node, 2, 3);
    let entry = node.raft.propose_change(now, &REPLACED(), Transition::Auto).unwrap();
    node.sync_all(now);
    assert_eq!(entry, at(4, 6));
    accept(&mut node, 4, 4);
    let early = node.raft.propose_leave_joint(now);
    assert_eq!(early, Err(ChangeError::Pending { index: entry.index }));
    assert_eq!((node.raft.configuration().to_string(), node.raft.last()), ("1 4 5 & 1 2 3".to_owned(), entry));
    accept(&mut node, 2, 4);
    assert_eq!((node.raft.commit(), node.raft.last()), (entry.index, at(5, 6)));
    assert_eq!(node.raft.configuration().to_string(), "1 4 5");
}

// Section 9.6: pre-votes.

#[test]
fn section_9_6_a_pre_vote_goes_only_to_a_log_that_is_at_least_as_up_to_date() {
    // Its own log ends at (2, 3).
    for (last, granted) in [(at(2, 3), true), (at(1, 4), true), (at(1, 3), false), (at(9, 2), false)] {
        let mut node = Node::of(1, 3, Disk::new(4, None, terms([1, 3])));
        node.hear(ms(1), 2, 5, Body::PreVote { last }, &[]);
        let answers: Vec<_> = node.take_sent(2).into_iter().map(|(_, body)| body).collect();
        assert_eq!(answers, [Body::PreVoteReply { granted }], "{last:?}");
    }
}
