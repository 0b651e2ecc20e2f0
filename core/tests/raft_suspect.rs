//! Members that may have forgotten what they had promised (`docs/suspect.md`).

mod raft_net;

use eventstream_core::id::{Index, NodeId, Term};
use eventstream_core::raft::{Body, HardState, Output, Raft, Restored, Role, TransferError};
use eventstream_core::time::{Duration, Instant};
use raft_net::{Disk, Node, World, at, entries, id, ms, options, terms};

const GRANTED: Body = Body::VoteReply { granted: true, wall_us: 0 };
const REFUSED: Body = Body::VoteReply { granted: false, wall_us: 0 };
const IF_ALL: Body = Body::VoteIfAll { wall_us: 0 };
const WOULD: Body = Body::PreVoteReply { granted: true };
const WOULD_IF_ALL: Body = Body::PreVoteIfAll { start: 0 };

fn heartbeat(round: u64) -> Body {
    Body::Heartbeat { commit: Index(0), round }
}

fn answer(round: u64, verified: u64) -> Body {
    Body::HeartbeatReply { round, verified: Index(verified), wall_us: 0 }
}

fn suspect_answer(start: u64, round: u64, matched: u64) -> Body {
    Body::SuspectReply { start, round, verified: Index(matched), matched: Index(matched), wall_us: 0 }
}

fn accepted(matched: u64) -> Body {
    Body::AppendAccepted { matched: Index(matched) }
}

/// A suspect node of `of` members, at the end of its patience; its start, and its time.
fn asking(node: u16, of: u16, disk: Disk) -> (Node, u64, Instant) {
    let mut node = Node::of(node, of, disk.suspect());
    let now = node.wait();
    let asked = node.take_sent(if node.raft.node() == id(1) { 2 } else { 1 });
    let [(_, Body::SuspectPreVote { start, .. })] = asked[..] else { panic!("{asked:?}") };
    node.sync_all(now);
    node.sent.clear();
    (node, start, now)
}

/// Node 1 of `of`, leading term 1 with its empty entry on its disk; and its time.
fn leader(of: u16) -> (Node, Instant) {
    let mut node = Node::of(1, of, Disk::default());
    let now = node.wait();
    (2..=of).for_each(|peer| node.hear(now, peer, 1, WOULD, &[]));
    node.sync_all(now);
    (2..=of).for_each(|peer| node.hear(now, peer, 1, GRANTED, &[]));
    node.sync_all(now);
    node.sent.clear();
    assert_eq!(node.raft.role(), Role::Leader);
    (node, now)
}

fn commit_and_matched(node: &Node, peer: u16) -> (u64, u64) {
    (node.raft.commit().0, node.raft.progress(id(peer)).expect("it leads").matched.0)
}

/// Whether it was sent the word that clears it.
fn is_cleared(node: &mut Node, peer: u16, start: u64) -> bool {
    node.take_sent(peer).iter().any(|&(_, body)| body == Body::Cleared { start })
}

// What it remembers.

#[test]
fn what_was_found_damaged_is_written_down_and_stays() {
    let hard_state = HardState { term: Term(3), ..HardState::default() };
    let found = Restored { hard_state, suspect: true, ..Restored::default() };
    let mut raft = Raft::new(options(2, 3, 1), &found, ms(0)).unwrap();
    let Some(Output::Persist(write)) = raft.poll_output(&Disk::default()) else { panic!("nothing is written") };
    assert_eq!(write.hard_state, Some(HardState { suspect: true, ..hard_state }));
    // A term and a vote change nothing about it.
    let mut node = Node::of(2, 3, Disk::new(4, None, vec![]).suspect());
    node.hear(ms(1), 3, 7, Body::Vote { last: at(0, 0), transfer: false }, &[]);
    node.sync_all(ms(2));
    let voted = HardState { term: Term(7), vote: Some(NodeId(3)), suspect: true };
    assert_eq!((node.disk.hard_state, node.raft.is_suspect()), (voted, true));
}

#[test]
fn who_finds_nothing_on_its_disk_cannot_know_that_it_is_new() {
    let mut raft = Raft::new(options(2, 3, 1), &Restored::default(), ms(0)).unwrap();
    assert!(raft.is_suspect());
    let Some(Output::Persist(write)) = raft.poll_output(&Disk::default()) else { panic!("nothing is written") };
    assert_eq!(write.hard_state, Some(HardState { suspect: true, ..HardState::default() }));
}

// Its vote.

#[test]
fn its_votes_are_given_in_case_that_all_vote() {
    let mut node = Node::of(2, 3, Disk::new(4, None, terms([3])).suspect());
    node.hear(ms(1), 3, 5, Body::PreVote { last: at(1, 3) }, &[]);
    assert_eq!(node.take_sent(3), [(5, WOULD_IF_ALL)]);
    node.hear(ms(2), 3, 5, Body::Vote { last: at(1, 3), transfer: false }, &[]);
    assert_eq!(node.take_sent(3), []);
    node.sync_all(ms(3));
    assert_eq!(node.take_sent(3), [(5, IF_ALL)]);
    // Who lacks what it still has gets none.
    node.hear(ms(4), 1, 9, Body::Vote { last: at(7, 2), transfer: false }, &[]);
    node.sync_all(ms(5));
    assert_eq!(node.take_sent(1), [(9, REFUSED)]);
}

#[test]
fn a_vote_that_it_remembers_is_repeated_in_case_that_all_vote() {
    let mut node = Node::of(2, 3, Disk::new(4, Some(3), vec![]).suspect());
    node.hear(ms(1), 3, 4, Body::Vote { last: at(0, 0), transfer: false }, &[]);
    assert_eq!(node.take_sent(3), [(4, IF_ALL)]);
}

#[test]
fn a_candidate_wins_with_a_majority_of_the_others_or_with_all() {
    let rounds: [(u16, &[u16], &[u16], bool); 7] = [
        (3, &[], &[2], false),
        (3, &[], &[2, 3], true),
        (3, &[3], &[], true),
        (5, &[2], &[3, 4], false),
        (5, &[2], &[3, 4, 5], true),
        (5, &[2, 3], &[], true),
        (2, &[], &[2], true),
    ];
    for (of, granted, if_all, wins) in rounds {
        let mut node = Node::of(1, of, Disk::default());
        let now = node.wait();
        for (voters, would) in [(granted, WOULD), (if_all, WOULD_IF_ALL)] {
            voters.iter().for_each(|&voter| node.hear(now, voter, 1, would, &[]));
        }
        let campaigns = node.raft.role() == Role::Candidate;
        assert_eq!(campaigns, wins, "pre-votes of {granted:?}, and of {if_all:?} if all grant theirs, of {of}");
        // Others would have voted for it, but then do not.
        (2..=of).for_each(|voter| node.hear(now, voter, 1, WOULD, &[]));
        node.sync_all(now);
        for (voters, vote) in [(if_all, IF_ALL), (granted, GRANTED)] {
            voters.iter().for_each(|&voter| node.hear(now, voter, 1, vote, &[]));
        }
        let leads = node.raft.role() == Role::Leader;
        assert_eq!(leads, wins, "votes of {granted:?}, and of {if_all:?} if all vote, of {of}");
    }
}

#[test]
fn a_campaign_that_needs_all_is_over_when_one_refuses() {
    let mut node = Node::of(1, 3, Disk::default());
    let now = node.wait();
    [2, 3].into_iter().for_each(|voter| node.hear(now, voter, 1, WOULD_IF_ALL, &[]));
    node.sync_all(now);
    node.raft.handle_timeout(now);
    node.hear(now, 2, 1, IF_ALL, &[]);
    node.hear(now, 3, 1, REFUSED, &[]);
    assert_eq!(node.raft.role(), Role::Candidate);
    assert!(node.raft.next_deadline().saturating_since(now).as_millis() < 60);
}

// Its campaigns.

#[test]
fn it_campaigns_with_the_word_of_all_and_leads_with_the_votes_of_all() {
    let (mut node, start, now) = asking(2, 3, Disk::new(4, None, terms([3])));
    let would = Body::PreVoteIfAll { start };
    node.hear(now, 1, 5, would, &[]);
    assert_eq!(node.raft.role(), Role::PreCandidate);
    node.hear(now, 3, 5, would, &[]);
    assert_eq!(node.raft.role(), Role::Candidate);
    node.sync_all(now);
    assert_eq!(node.take_sent(1), [(5, Body::Vote { last: at(1, 3), transfer: false })]);
    node.hear(now, 1, 5, GRANTED, &[]);
    assert_eq!(node.raft.role(), Role::Candidate);
    node.hear(now, 3, 5, IF_ALL, &[]);
    assert_eq!((node.raft.role(), node.raft.is_suspect()), (Role::Leader, false));
    node.sync_all(now);
    assert_eq!(node.disk.hard_state, HardState { term: Term(5), vote: Some(id(2)), suspect: false });
}

#[test]
fn answers_to_an_earlier_start_of_it_do_not_count() {
    // An answer that comes late may speak of a campaign that it has forgotten, with a log that it has lost.
    let (mut node, start, now) = asking(2, 3, Disk::new(4, None, vec![]));
    for old in [WOULD, WOULD_IF_ALL, Body::PreVoteIfAll { start: start + 1 }] {
        node.hear(now, 1, 5, old, &[]);
        node.hear(now, 3, 5, old, &[]);
        assert_eq!((node.raft.role(), node.raft.term()), (Role::PreCandidate, Term(4)), "{old:?}");
    }
}

#[test]
fn who_is_asked_by_a_suspect_names_its_start() {
    let asks = Body::SuspectPreVote { last: at(0, 0), start: 77 };
    for disk in [Disk::default(), Disk::new(1, None, vec![]).suspect()] {
        let mut node = Node::of(2, 3, disk);
        node.hear(ms(1), 3, 2, asks, &[]);
        assert_eq!(node.take_sent(3), [(2, Body::PreVoteIfAll { start: 77 })]);
    }
    // Also when the request had to wait for the end of a lease.
    let mut node = Node::of(2, 3, Disk::new(4, Some(1), vec![]));
    node.hear(ms(1_000), 1, 4, heartbeat(1), &[]);
    node.hear(ms(1_440), 3, 5, asks, &[]);
    node.timeout(ms(1_450));
    assert_eq!(node.take_sent(3), [(5, Body::PreVoteIfAll { start: 77 })]);
}

#[test]
fn who_asks_in_vain_does_not_hold_up_the_others() {
    let asks = Body::SuspectPreVote { last: at(0, 0), start: 77 };
    let mut sound = Node::of(2, 5, Disk::default());
    let turn = sound.raft.next_deadline();
    let just_before = Instant::from_micros(turn.as_micros() - 1_000);
    sound.hear(just_before, 3, 1, asks, &[]);
    assert_eq!(sound.raft.next_deadline(), turn);
    // One that needs all as well lets it try.
    let mut suspect = Node::of(2, 5, Disk::default().suspect());
    suspect.hear(just_before, 3, 1, asks, &[]);
    assert_eq!(suspect.raft.next_deadline(), just_before + Duration::from_millis(60));
}

#[test]
fn it_does_not_campaign_because_its_leader_asks_it() {
    let mut node = Node::of(2, 3, Disk::new(4, Some(1), vec![]).suspect());
    node.hear(ms(1), 1, 4, heartbeat(1), &[]);
    node.hear(ms(2), 1, 4, Body::TimeoutNow, &[]);
    assert_eq!(node.raft.role(), Role::Follower);
}

#[test]
fn alone_it_leads_at_once() {
    let mut node = Node::of(1, 1, Disk::new(3, Some(1), terms([1, 3])).suspect());
    let now = node.wait();
    node.sync_all(now);
    assert_eq!((node.raft.role(), node.raft.is_suspect(), node.raft.commit()), (Role::Leader, false, Index(3)));
}

// What it says to its leader.

#[test]
fn it_answers_as_a_suspect_until_it_is_cleared() {
    let mut node = Node::of(2, 3, Disk::new(4, None, terms([3, 3])).suspect());
    node.hear(ms(1), 1, 5, heartbeat(7), &[]);
    let first = node.take_sent(1);
    let [(5, Body::SuspectReply { start, round: 7, matched: Index(0), .. })] = first[..] else { panic!("{first:?}") };
    let append = Body::Append { prev: at(2, 3), count: 1, commit: Index(0) };
    node.hear(ms(2), 1, 5, append, &entries(2, &[5]));
    assert_eq!(node.take_sent(1), [], "not before it is on its disk");
    node.sync_all(ms(3));
    assert_eq!(node.take_sent(1).last(), Some(&(5, suspect_answer(start, 7, 3))));
    // Word for another start of it, or from who does not lead, is not for it.
    node.hear(ms(4), 1, 5, Body::Cleared { start: start + 1 }, &[]);
    node.hear(ms(4), 3, 5, Body::Cleared { start }, &[]);
    node.hear(ms(4), 1, 4, Body::Cleared { start }, &[]);
    assert!(node.raft.is_suspect());
    node.hear(ms(5), 1, 5, Body::Cleared { start }, &[]);
    assert!(!node.raft.is_suspect());
    node.sync_all(ms(6));
    // If it had voted in this term, and forgot it, it will not vote for another in it.
    assert_eq!(node.disk.hard_state, HardState { term: Term(5), vote: Some(id(1)), suspect: false });
    node.hear(ms(7), 1, 5, heartbeat(8), &[]);
    assert_eq!(node.take_sent(1), [(5, answer(8, 3))]);
}

// Its leader.

#[test]
fn what_it_had_said_before_counts_no_longer() {
    let (mut node, now) = leader(3);
    node.propose(now);
    node.hear(now, 2, 1, accepted(1), &[]);
    assert_eq!(commit_and_matched(&node, 2), (1, 1));
    node.hear(now, 2, 1, suspect_answer(9, 1, 0), &[]);
    node.sync_all(now);
    assert_eq!(commit_and_matched(&node, 2), (1, 0));
    // Late word from before.
    node.hear(now, 2, 1, accepted(2), &[]);
    assert_eq!(commit_and_matched(&node, 2), (1, 0));
    // Its log is compared again from the end on.
    let sent = node.take_sent(2);
    assert!(sent.contains(&(1, Body::Append { prev: at(2, 1), count: 0, commit: Index(1) })), "{sent:?}");
    node.hear(now, 2, 1, Body::AppendRejected { rejected: Index(2), hint: at(0, 0) }, &[]);
    let sent = node.take_sent(2);
    assert_eq!(sent, [(1, Body::Append { prev: at(0, 0), count: 2, commit: Index(1) })]);
}

#[test]
fn it_counts_when_all_others_have_answered_since() {
    let (mut node, now) = leader(4);
    node.propose(now);
    node.sync_all(now);
    node.hear(now, 2, 1, suspect_answer(9, 1, 2), &[]);
    node.hear(now, 3, 1, accepted(2), &[]);
    assert_eq!(commit_and_matched(&node, 2), (0, 2));
    // Of a heartbeat that may have been sent before.
    node.hear(now, 3, 1, answer(1, 2), &[]);
    node.hear(now, 4, 1, answer(1, 2), &[]);
    assert_eq!(commit_and_matched(&node, 2), (0, 2));
    let now = now + Duration::from_millis(150);
    node.timeout(now);
    node.hear(now, 3, 1, answer(2, 2), &[]);
    assert!(!is_cleared(&mut node, 2, 9));
    assert_eq!(commit_and_matched(&node, 2), (0, 2));
    // That of another suspect is as good.
    node.hear(now, 4, 1, suspect_answer(8, 2, 0), &[]);
    assert_eq!(commit_and_matched(&node, 2), (2, 2));
    assert!(is_cleared(&mut node, 2, 9));
}

#[test]
fn it_is_cleared_when_it_has_all_that_the_leader_had() {
    let (mut node, now) = leader(3);
    (0..3).for_each(|_| _ = node.propose(now));
    node.hear(now, 2, 1, suspect_answer(9, 1, 1), &[]);
    node.propose(now);
    node.sync_all(now);
    let now = now + Duration::from_millis(150);
    node.timeout(now);
    node.hear(now, 3, 1, answer(2, 1), &[]);
    node.hear(now, 2, 1, suspect_answer(9, 2, 3), &[]);
    assert!(!is_cleared(&mut node, 2, 9));
    node.hear(now, 2, 1, suspect_answer(9, 2, 4), &[]);
    assert!(is_cleared(&mut node, 2, 9));
    // From now on its plain word counts again; and it says so in answer to the next heartbeat.
    node.hear(now, 2, 1, accepted(5), &[]);
    assert_eq!(commit_and_matched(&node, 2), (5, 5));
    node.hear(now, 2, 1, answer(2, 5), &[]);
    assert!(!is_cleared(&mut node, 2, 9));
    node.hear(now, 2, 1, suspect_answer(9, 2, 4), &[]);
    assert_eq!(commit_and_matched(&node, 2), (5, 4), "an old answer: it is held for suspect once more, ...");
    let now = now + Duration::from_millis(150);
    node.timeout(now);
    node.hear(now, 2, 1, answer(3, 5), &[]);
    node.hear(now, 2, 1, accepted(5), &[]);
    assert_eq!(commit_and_matched(&node, 2), (5, 5), "... until it answers the next heartbeat");
}

#[test]
fn leadership_is_not_handed_to_a_suspect() {
    let (mut node, now) = leader(3);
    node.hear(now, 2, 1, accepted(1), &[]);
    node.hear(now, 2, 1, suspect_answer(9, 1, 1), &[]);
    assert_eq!(node.raft.transfer_leadership(now, Some(id(2))), Err(TransferError::Suspect { node: id(2) }));
    assert_eq!(node.raft.transfer_leadership(now, None), Ok(id(3)));
}

#[test]
fn each_start_is_cleared_anew() {
    let (mut node, now) = leader(2);
    node.sync_all(now);
    node.hear(now, 2, 1, suspect_answer(9, 1, 1), &[]);
    assert!(is_cleared(&mut node, 2, 9), "of two, the leader is all others");
    node.propose(now);
    node.sync_all(now);
    node.hear(now, 2, 1, suspect_answer(9, 1, 2), &[]);
    assert_eq!(commit_and_matched(&node, 2), (2, 2));
    node.hear(now, 2, 1, suspect_answer(10, 1, 1), &[]);
    assert!(!is_cleared(&mut node, 2, 10));
    assert_eq!(commit_and_matched(&node, 2), (2, 1));
}

#[test]
fn a_claim_beyond_the_leaders_log_is_refused() {
    use eventstream_core::raft::{Message, Rejected};
    let (mut node, now) = leader(3);
    let incarnation = raft_net::members(3)[1].incarnation;
    let body = suspect_answer(9, 1, 2);
    let message = Message { from: id(2), to: id(1), incarnation, term: Term(1), body };
    let answer = node.raft.handle_message(now, &message, &[], &[], &node.disk);
    assert_eq!(answer, Err(Rejected::BeyondLog { matched: Index(2) }));
}

#[test]
fn a_leader_needs_to_hear_a_majority_without_suspects_or_all() {
    let patience = Duration::from_millis(450);
    for (heard, stays) in [(&[2][..], false), (&[2, 3][..], true)] {
        let (mut node, start) = leader(3);
        node.hear(start, 2, 1, suspect_answer(9, 1, 0), &[]);
        let middle = start + Duration::from_millis(300);
        node.timeout(middle);
        for &peer in heard {
            // Node 3 is suspect as well.
            node.hear(middle, peer, 1, suspect_answer(u64::from(peer) + 7, 1, 0), &[]);
        }
        node.timeout(start + patience);
        assert_eq!(node.raft.role() == Role::Leader, stays, "heard {heard:?}");
    }
}

// Clusters.

/// How much of its disk a member loses.
#[derive(Clone, Copy)]
enum Lost {
    LastBatch,
    Everything,
}

/// What is committed by two of three, one of which then loses it.
fn committed_and_lost(lost: Lost) -> (World, [u16; 3]) {
    let mut world = World::new(3);
    let keeper = world.elect();
    world.run_until(World::is_level);
    let [loser, other] = [keeper % 3 + 1, (keeper + 1) % 3 + 1];
    world.cut_off(&[other]);
    let before = world.committed().len();
    world.propose(keeper);
    world.run_until(|world| world.committed().len() > before);
    world.run_for(20);
    world.stop(loser);
    match lost {
        Lost::LastBatch => world.disk(loser).log.truncate(before),
        Lost::Everything => *world.disk(loser) = Disk::default(),
    }
    world.disk(loser).hard_state.suspect = true;
    (world, [keeper, loser, other])
}

#[test]
fn who_lost_a_committed_entry_elects_nobody_without_it() {
    elects_nobody_without_it(Lost::LastBatch);
}

#[test]
fn who_was_wiped_elects_nobody_without_what_it_had() {
    elects_nobody_without_it(Lost::Everything);
}

fn elects_nobody_without_it(lost: Lost) {
    let (mut world, [keeper, loser, other]) = committed_and_lost(lost);
    let committed = world.committed().len();
    world.stop(keeper);
    world.heal();
    world.start(loser);
    world.run_for(10_000);
    assert_eq!((world.leader(), world.committed().len()), (None, committed), "nobody left has what was acked");
    world.start(keeper);
    world.run_until(|world| world.is_level() && world.is_sound());
    assert!(world.committed().len() > committed);
    // It votes as ever: the two of them do without the one that had kept the entry.
    world.stop(keeper);
    let leader = world.elect();
    assert!([loser, other].contains(&leader));
    let committed = world.committed().len();
    world.run_until(|world| world.committed().len() > committed);
}

#[test]
fn who_lost_a_committed_entry_gets_it_back_from_the_leader_that_has_it() {
    for lost in [Lost::LastBatch, Lost::Everything] {
        let (mut world, [keeper, loser, _]) = committed_and_lost(lost);
        world.start(loser);
        world.run_for(300);
        assert!(!world.is_sound(), "the third member may know of a later term");
        world.heal();
        world.run_until(|world| world.is_level() && world.is_sound());
        assert_eq!(world.leader(), Some(keeper));
    }
}

/// A cluster of which nothing was ever written.
fn new_cluster(of: u16) -> World {
    World::with_disks((0..of).map(|_| Disk::default().suspect()).collect())
}

#[test]
fn a_new_cluster_begins_at_once_when_all_its_members_are_there() {
    for of in 1..=5 {
        let took = new_cluster(of).run_until(|world| world.is_level() && world.is_sound());
        assert!(took.as_millis() < 1_500, "{of} members: {took}");
    }
}

#[test]
fn a_new_cluster_begins_without_a_minority_after_a_while() {
    for of in 3..=5 {
        let mut world = new_cluster(of);
        let there = of / 2 + 1;
        (there + 1..=of).for_each(|node| world.stop(node));
        world.run_for(2_900);
        assert_eq!((world.leader(), world.committed().len()), (None, 0), "{there} of {of} are there");
        let took = world.run_until(|world| world.leader().is_some() && world.is_level());
        assert!(took.as_millis() < 1_000, "{of} members: {took}");
        (there + 1..=of).for_each(|node| world.start(node));
        world.run_until(|world| world.is_level() && world.is_sound());
    }
}

#[test]
fn who_was_wiped_does_not_begin_again_with_one_that_never_was() {
    let mut world = new_cluster(3);
    world.stop(3);
    world.run_until(|world| world.leader().is_some() && world.is_level());
    let leader = world.leader().expect("it was waited for");
    world.propose(leader);
    world.run_until(World::is_level);
    let committed = world.committed().to_vec();
    (1..=2).for_each(|node| world.stop(node));
    *world.disk(2) = Disk::default().suspect();
    (2..=3).for_each(|node| world.start(node));
    world.run_for(10_000);
    assert_eq!((world.leader(), world.committed().len()), (None, committed.len()));
    world.start(1);
    world.run_until(|world| world.is_level() && world.is_sound());
    assert!(world.committed().starts_with(&committed));
}

#[test]
fn a_minority_of_a_new_cluster_waits() {
    for of in 2..=5 {
        let mut world = new_cluster(of);
        (of / 2 + 1..=of).for_each(|node| world.stop(node));
        world.run_for(10_000);
        assert_eq!((world.leader(), world.committed().len()), (None, 0), "{of} members");
    }
}

#[test]
fn a_wiped_member_and_one_that_never_was_do_not_begin_beside_one_that_knows_better() {
    let mut world = new_cluster(3);
    world.stop(3);
    world.run_until(|world| world.leader().is_some() && world.is_level());
    let leader = world.leader().expect("it was waited for");
    let wiped = 3 - leader;
    world.propose(leader);
    world.run_until(World::is_level);
    let committed = world.committed().to_vec();
    (1..=2).for_each(|node| world.stop(node));
    *world.disk(wiped) = Disk::default().suspect();
    (1..=3).for_each(|node| world.start(node));
    world.run_until(|world| world.is_level() && world.is_sound());
    assert_eq!(world.leader(), Some(leader));
    assert!(world.committed().starts_with(&committed));
}

#[test]
fn who_has_heard_of_entries_founds_nothing() {
    let knows = [
        Body::PreVote { last: at(1, 1) },
        Body::SuspectPreVote { last: at(1, 1), start: 77 },
        Body::Vote { last: at(1, 1), transfer: false },
    ];
    for body in knows {
        let (mut node, start, _) = asking(1, 3, Disk::default());
        // An answer of a lower term changes no term.
        let term = if matches!(body, Body::Vote { .. }) { 0 } else { 1 };
        node.hear(ms(2_000), 3, term, body, &[]);
        node.sent.clear();
        node.timeout(ms(4_000));
        node.hear(ms(4_000), 2, 1, Body::PreVoteIfNew { start, own: 5 }, &[]);
        assert_eq!((node.raft.role(), node.raft.term()), (Role::PreCandidate, Term(0)), "{body:?}");
        node.hear(ms(4_000), 2, 1, Body::SuspectPreVote { last: at(0, 0), start: 9 }, &[]);
        assert_eq!(node.take_sent(2).last(), Some(&(1, Body::PreVoteIfAll { start: 9 })), "{body:?}");
    }
}

#[test]
fn who_is_new_says_which_start_of_it_is_and_no_other_takes_itself_for_new() {
    let mut node = Node::of(2, 3, Disk::default().suspect());
    node.hear(ms(1), 3, 1, Body::SuspectPreVote { last: at(0, 0), start: 77 }, &[]);
    let told = node.take_sent(3);
    let [.., (1, Body::PreVoteIfNew { start: 77, own })] = told[..] else { panic!("{told:?}") };
    for (start, vote) in [(own, GRANTED), (own + 2, IF_ALL), (0, IF_ALL)] {
        let mut node = Node::of(2, 3, Disk::default().suspect());
        node.hear(ms(2), 3, 1, Body::FoundingVote { last: at(0, 0), start }, &[]);
        node.sync_all(ms(3));
        assert_eq!(node.take_sent(3).last(), Some(&(1, vote)));
        let suspect = vote == IF_ALL;
        assert_eq!(node.disk.hard_state, HardState { term: Term(1), vote: Some(id(3)), suspect });
    }
}

#[test]
fn the_founder_tells_its_term_to_nobody_before_it_says_that_it_founds() {
    let (mut node, start, _) = asking(1, 3, Disk::default());
    node.timeout(ms(4_000));
    node.hear(ms(4_000), 2, 1, Body::PreVoteIfNew { start, own: 5 }, &[]);
    node.sent.clear();
    // The other one asks at the same time. An answer of term 1 would end that it is new.
    node.hear(ms(4_000), 2, 1, Body::SuspectPreVote { last: at(0, 0), start: 5 }, &[]);
    assert_eq!((node.raft.role(), node.take_sent(2)), (Role::Candidate, Vec::new()));
    node.sync_all(ms(4_001));
    let said = node.take_sent(2);
    assert_eq!(said[0], (1, Body::FoundingVote { last: at(0, 0), start: 5 }), "{said:?}");
    assert_eq!(said[1..], [(1, Body::PreVoteReply { granted: false })]);
}

#[test]
fn the_first_member_founds_and_names_the_start_of_those_who_are_new() {
    let (mut node, start, _) = asking(1, 3, Disk::default());
    node.timeout(ms(4_000));
    node.hear(ms(4_000), 2, 1, Body::PreVoteIfNew { start: start + 2, own: 5 }, &[]);
    assert_eq!(node.raft.role(), Role::PreCandidate, "that was for another start of it");
    node.hear(ms(4_000), 2, 1, Body::PreVoteIfNew { start, own: 5 }, &[]);
    node.sent.clear();
    node.poll();
    assert_eq!(node.take_sent(2), [], "not before it has written so");
    node.sync_all(ms(4_001));
    assert_eq!(node.disk.hard_state, HardState { term: Term(1), vote: Some(id(1)), suspect: false });
    let word = |start| (1, Body::FoundingVote { last: at(0, 0), start });
    assert_eq!(node.take_sent(2).last(), Some(&word(5)));
    assert_eq!(node.take_sent(3).last(), Some(&word(0)));
    // It is said again to those who may not have heard it.
    node.timeout(ms(5_000));
    assert!(node.take_sent(2).contains(&word(5)));
    node.hear(ms(5_001), 2, 1, GRANTED, &[]);
    assert_eq!(node.raft.role(), Role::Leader);
}

#[test]
fn no_other_member_founds() {
    for of in [3, 5] {
        let (mut node, start, _) = asking(2, of, Disk::default());
        node.timeout(ms(4_000));
        for other in (1..of).filter(|&other| other != 2) {
            node.hear(ms(4_000), other, 1, Body::PreVoteIfNew { start, own: 5 }, &[]);
        }
        assert_eq!((node.raft.role(), node.raft.term()), (Role::PreCandidate, Term(0)), "of {of}");
    }
}

#[test]
fn a_power_cut_of_all_heals_by_itself() {
    for of in 1..=5 {
        let mut world = World::new(of);
        for round in 0..5 {
            let leader = world.elect();
            (0..10).for_each(|_| _ = world.propose(leader));
            world.run_for(3);
            (1..=of).for_each(|node| world.stop(node));
            let committed = world.committed().to_vec();
            (1..=of).for_each(|node| world.disk(node).hard_state.suspect = true);
            (1..=of).for_each(|node| world.start(node));
            let took = world.run_until(|world| world.is_level() && world.is_sound());
            assert!(took.as_millis() < 1_500, "{of} nodes, round {round}: {took}");
            assert!(world.committed().starts_with(&committed));
        }
    }
}

#[test]
fn after_a_power_cut_of_all_the_last_one_is_waited_for() {
    let mut world = World::new(3);
    let leader = world.elect();
    world.propose(leader);
    world.run_until(World::is_level);
    let committed = world.committed().len();
    (1..=3).for_each(|node| world.stop(node));
    (1..=3).for_each(|node| world.disk(node).hard_state.suspect = true);
    [1, 2].into_iter().for_each(|node| world.start(node));
    world.run_for(10_000);
    assert_eq!((world.leader(), world.committed().len()), (None, committed));
    world.start(3);
    world.run_until(|world| world.is_level() && world.is_sound());
}

#[test]
fn a_majority_without_suspects_needs_no_other() {
    let mut world = World::new(5);
    world.elect();
    world.run_until(World::is_level);
    (1..=5).for_each(|node| world.stop(node));
    world.disk(4).hard_state.suspect = true;
    [1, 2, 3, 4].into_iter().for_each(|node| world.start(node));
    let took = world.run_until(World::is_level);
    assert!(took.as_millis() < 700, "{took}");
    world.run_for(1_000);
    assert!(world.node(4).raft.is_suspect(), "node 5 may know of a vote that it has forgotten");
    world.start(5);
    world.run_until(|world| world.is_level() && world.is_sound());
}
