//! What this machine adds to the paper's elections: pre-votes, leases, the reset path, and leaders that notice when
//! nobody hears them (Raft thesis, sections 4.2.3, 6.2 and 9.6; the project's design, section 8).

mod raft_net;

use eventstream_core::id::{Index, Term};
use eventstream_core::raft::{Body, LogPosition, Message, Output, Role};
use eventstream_core::time::Instant;
use raft_net::{Disk, Node, World, at, id, ms, terms};

const GRANTED: Body = Body::VoteReply { granted: true, wall_us: 0 };
const WOULD: Body = Body::PreVoteReply { granted: true };
const WOULD_NOT: Body = Body::PreVoteReply { granted: false };

fn heartbeat() -> Body {
    Body::Heartbeat { commit: Index(0), round: 1 }
}

fn pre_vote() -> Body {
    Body::PreVote { last: at(0, 0) }
}

fn vote(last: LogPosition, transfer: bool) -> Body {
    Body::Vote { last, transfer }
}

/// Node 2 of `of`, following node 1 in term 4 since `now`.
fn follower(of: u16, now: Instant) -> Node {
    let mut node = Node::of(2, of, Disk::new(4, Some(1), Vec::new()));
    node.hear(now, 1, 4, heartbeat(), &[]);
    node.sent.clear();
    node.outputs.clear();
    node
}

/// Node 1 of three, leading term 1; and its time.
fn leader() -> (Node, Instant) {
    let mut node = Node::of(1, 3, Disk::default());
    let now = node.wait();
    node.hear(now, 2, 1, WOULD, &[]);
    node.sync_all(now);
    node.hear(now, 2, 1, GRANTED, &[]);
    node.sync_all(now);
    node.sent.clear();
    assert_eq!(node.raft.role(), Role::Leader);
    (node, now)
}

// Leases.

#[test]
fn who_hears_a_leader_gives_no_vote_to_another_and_keeps_its_term() {
    let mut node = follower(3, ms(1_000));
    node.hear(ms(1_449), 3, 9, vote(at(7, 8), false), &[]);
    node.sync_all(ms(1_449));
    assert_eq!((node.raft.term(), node.raft.leader(), node.take_sent(3)), (Term(4), Some(id(1)), vec![]));
    // The lease is over a little before its own patience is.
    node.hear(ms(1_450), 3, 9, vote(at(7, 8), false), &[]);
    node.sync_all(ms(1_450));
    assert_eq!(node.take_sent(3), [(9, GRANTED)]);
}

#[test]
fn a_campaign_that_the_leader_asked_for_needs_no_lease_to_end() {
    let mut node = follower(3, ms(1_000));
    node.hear(ms(1_001), 3, 5, vote(at(0, 0), true), &[]);
    node.sync_all(ms(1_002));
    assert_eq!(node.take_sent(3), [(5, GRANTED)]);
}

#[test]
fn a_follower_campaigns_at_once_when_its_leader_asks_it_and_nobody_elses() {
    let mut node = follower(3, ms(1_000));
    node.hear(ms(1_001), 3, 4, Body::TimeoutNow, &[]);
    assert_eq!(node.raft.role(), Role::Follower);
    node.hear(ms(1_001), 1, 4, Body::TimeoutNow, &[]);
    node.sync_all(ms(1_002));
    assert_eq!(node.take_sent(3), [(5, vote(at(0, 0), true))]);
}

#[test]
fn who_asks_for_votes_does_not_lead() {
    // The leader of term 4 has stepped down, and campaigns again: the lease that it holds is its own.
    let mut node = follower(3, ms(1_000));
    node.hear(ms(1_010), 1, 5, pre_vote(), &[]);
    assert_eq!(node.take_sent(1), [(5, WOULD)]);
    node.hear(ms(1_011), 1, 5, vote(at(0, 0), false), &[]);
    node.sync_all(ms(1_011));
    assert_eq!(node.take_sent(1), [(5, GRANTED)]);
}

#[test]
fn who_knows_the_leader_of_a_term_votes_for_no_other_in_it() {
    let mut node = Node::of(2, 3, Disk::new(4, None, Vec::new()));
    node.hear(ms(1_000), 1, 4, heartbeat(), &[]);
    node.hear(ms(1_001), 3, 4, vote(at(0, 0), false), &[]);
    assert_eq!(node.take_sent(3), [(4, Body::VoteReply { granted: false, wall_us: 0 })]);
}

#[test]
fn a_campaign_that_is_lost_is_over_at_once() {
    let mut node = Node::of(1, 3, Disk::default());
    let refused = Body::VoteReply { granted: false, wall_us: 0 };
    // After several campaigns votes are waited for longer, but not when they have all come.
    for term in 1..9 {
        let now = node.wait();
        node.hear(now, 2, term, WOULD, &[]);
        node.sync_all(now);
        assert_eq!((node.raft.role(), node.raft.term()), (Role::Candidate, Term(term)));
        node.hear(now, 2, term, refused, &[]);
        node.hear(now, 3, term, refused, &[]);
        let again = node.raft.next_deadline().saturating_since(now).as_millis();
        assert!((20..60).contains(&again), "campaign {term}: {again} ms");
    }
}

// Pre-votes.

#[test]
fn a_pre_vote_changes_neither_term_nor_vote() {
    let mut node = Node::of(2, 3, Disk::new(4, None, Vec::new()));
    node.hear(ms(1), 3, 8, pre_vote(), &[]);
    node.hear(ms(1), 1, 8, pre_vote(), &[]);
    assert_eq!((node.take_sent(3), node.take_sent(1)), (vec![(8, WOULD)], vec![(8, WOULD)]));
    assert_eq!((node.raft.term(), node.raft.hard_state().vote, node.open_writes()), (Term(4), None, 0));
}

#[test]
fn a_pre_vote_for_a_term_that_is_not_new_is_refused_with_the_newer_one() {
    let mut node = Node::of(2, 3, Disk::new(4, None, Vec::new()));
    node.hear(ms(1), 3, 4, pre_vote(), &[]);
    assert_eq!(node.take_sent(3), [(4, WOULD_NOT)]);
    // Who is told so catches up, and asks again soon.
    let mut node = Node::of(3, 3, Disk::default());
    let now = node.wait();
    node.hear(now, 2, 4, WOULD_NOT, &[]);
    assert_eq!((node.raft.role(), node.raft.term()), (Role::Follower, Term(4)));
    let again = node.wait();
    assert!(again.saturating_since(now).as_millis() <= 60);
    node.sent.retain(|sent| sent.message.term == Term(5));
    assert_eq!(node.take_sent(2), [(5, pre_vote())]);
}

#[test]
fn grants_for_another_term_do_not_count() {
    let mut node = Node::of(2, 3, Disk::new(4, None, Vec::new()));
    let now = node.wait();
    for term in [4, 6, 900] {
        node.hear(now, 3, term, WOULD, &[]);
    }
    assert_eq!((node.raft.role(), node.raft.term()), (Role::PreCandidate, Term(4)));
    node.hear(now, 3, 5, WOULD, &[]);
    assert_eq!((node.raft.role(), node.raft.term()), (Role::Candidate, Term(5)));
}

#[test]
fn who_cannot_be_elected_disturbs_nobody() {
    // Node 3 is cut off, and comes back: no term grew, and the leader leads on.
    let mut world = World::new(3);
    let leader = world.elect();
    let away = leader % 3 + 1;
    world.run_for(1_000);
    let term = world.node(leader).raft.term();
    world.cut_off(&[away]);
    world.propose(leader);
    world.run_for(5_000);
    assert_eq!((world.node(away).raft.role(), world.node(away).raft.term()), (Role::PreCandidate, term));
    world.heal();
    world.run_until(World::is_level);
    assert_eq!((world.leader(), world.node(leader).raft.term()), (Some(leader), term));
}

#[test]
fn a_member_that_was_reached_again_is_asked_again() {
    let mut node = Node::of(2, 3, Disk::new(4, None, Vec::new()));
    node.wait();
    assert_eq!(node.take_sent(3), [(5, pre_vote())]);
    node.raft.handle_connected(ms(480), id(3));
    node.poll();
    assert_eq!(node.take_sent(3), [(5, pre_vote())]);
}

// The reset path.

#[test]
fn after_a_reset_followers_campaign_in_the_order_of_their_ids() {
    for (leader, node, wait) in [(1, 2, 0), (1, 3, 10), (2, 1, 0), (2, 3, 10), (3, 1, 0), (3, 2, 10)] {
        let mut node = Node::of(node, 3, Disk::new(4, None, Vec::new()));
        node.hear(ms(1_000), leader, 4, heartbeat(), &[]);
        node.raft.handle_reset(ms(1_020), id(leader));
        assert_eq!(node.raft.next_deadline(), ms(1_020 + wait), "leader {leader}");
        assert_eq!(node.raft.leader(), None);
        node.poll();
        assert!(matches!(node.outputs.last(), Some(Output::Leader { term: Term(4), leader: None })));
        node.wait();
        assert_eq!(node.raft.role(), Role::PreCandidate);
    }
}

#[test]
fn a_reset_of_anyone_else_changes_nothing() {
    let mut node = follower(3, ms(1_000));
    let deadline = node.raft.next_deadline();
    node.raft.handle_reset(ms(1_020), id(3));
    node.raft.handle_reset(ms(1_020), id(9));
    node.raft.handle_disconnected(ms(1_020), id(1));
    assert_eq!((node.raft.next_deadline(), node.raft.leader()), (deadline, Some(id(1))));
}

#[test]
fn a_request_that_comes_before_the_reset_is_kept() {
    let mut node = follower(3, ms(1_000));
    node.hear(ms(1_020), 3, 5, pre_vote(), &[]);
    assert_eq!(node.take_sent(3), []);
    node.raft.handle_reset(ms(1_120), id(1));
    node.poll();
    assert_eq!(node.take_sent(3), [(5, WOULD)]);
}

#[test]
fn who_would_vote_for_a_candidate_gives_it_time_before_it_competes() {
    // Node 2's turn after the reset is at once; but node 3 has asked before, and has its vote to sync.
    let mut node = follower(3, ms(1_000));
    node.hear(ms(1_010), 3, 5, pre_vote(), &[]);
    node.raft.handle_reset(ms(1_020), id(1));
    node.poll();
    assert_eq!(node.take_sent(3), [(5, WOULD)]);
    node.timeout(ms(1_079));
    assert_eq!((node.raft.role(), node.take_sent(3)), (Role::Follower, vec![]));
    node.timeout(ms(1_080));
    assert_eq!(node.raft.role(), Role::PreCandidate);
}

#[test]
fn a_request_is_kept_for_100_ms() {
    let mut node = follower(3, ms(1_000));
    node.hear(ms(1_020), 3, 5, pre_vote(), &[]);
    node.raft.handle_reset(ms(1_121), id(1));
    node.poll();
    assert_eq!(node.take_sent(3), []);
}

#[test]
fn a_kept_request_is_answered_when_the_lease_runs_out() {
    let mut node = follower(3, ms(1_000));
    node.hear(ms(1_440), 3, 5, pre_vote(), &[]);
    assert_eq!((node.take_sent(3), node.raft.next_deadline()), (vec![], ms(1_450)));
    node.timeout(ms(1_450));
    assert_eq!(node.take_sent(3), [(5, WOULD)]);
}

#[test]
fn a_kept_request_is_not_answered_while_the_leader_lives() {
    let mut node = follower(3, ms(1_000));
    node.hear(ms(1_440), 3, 5, pre_vote(), &[]);
    node.hear(ms(1_445), 1, 4, heartbeat(), &[]);
    node.timeout(ms(1_450));
    node.timeout(ms(1_600));
    assert_eq!((node.take_sent(3), node.raft.leader()), (vec![], Some(id(1))));
    // A later one outlasts the lease that was renewed.
    node.hear(ms(1_850), 3, 5, pre_vote(), &[]);
    node.timeout(ms(1_895));
    assert_eq!(node.take_sent(3), [(5, WOULD)]);
}

#[test]
fn a_leader_whose_connection_broke_says_that_it_lives() {
    let (mut node, now) = leader();
    node.hear(now, 3, 2, Body::PreVote { last: at(1, 1) }, &[]);
    assert!(matches!(node.take_sent(3)[..], [(1, Body::Heartbeat { .. })]));
    node.hear(now, 3, 2, pre_vote(), &[]);
    assert!(matches!(node.take_sent(3)[..], [(1, Body::Heartbeat { .. }), (1, WOULD_NOT)]), "its log is older, too");
    assert_eq!(node.raft.role(), Role::Leader);
}

#[test]
fn a_killed_leader_is_replaced_within_tens_of_milliseconds() {
    let mut world = World::new(3);
    for _ in 0..9 {
        let leader = world.elect();
        world.run_until(World::is_level);
        // At any moment between two heartbeats.
        world.run_for(37);
        let committed = world.committed().len();
        world.kill(leader);
        let took = world.run_until(|world| world.committed().len() > committed);
        assert!(took.as_millis() <= 20, "{took}: two elections' messages and three syncs of 2 ms are 10 ms at most");
        world.start(leader);
        world.run_until(World::is_level);
    }
}

#[test]
fn a_silent_leader_is_replaced_within_600_ms() {
    let mut world = World::new(3);
    for round in 0..9 {
        let leader = world.elect();
        world.run_until(World::is_level);
        world.run_for(100 + 37 * round);
        let committed = world.committed().len();
        world.stop(leader);
        let took = world.run_until(|world| world.committed().len() > committed);
        assert!(took.as_millis() <= 600, "{took}");
        world.start(leader);
        world.run_until(World::is_level);
    }
}

// A leader that nobody hears.

#[test]
fn a_leader_steps_down_when_it_has_heard_no_majority_for_450_ms() {
    let (mut node, start) = leader();
    let now = start + eventstream_core::time::Duration::from_millis(300);
    node.timeout(now);
    node.hear(now, 3, 1, Body::HeartbeatReply { round: 2, verified: Index(0), wall_us: 0 }, &[]);
    let before = now + eventstream_core::time::Duration::from_micros(449_999);
    node.timeout(before);
    assert_eq!(node.raft.role(), Role::Leader);
    node.timeout(now + eventstream_core::time::Duration::from_millis(450));
    assert_eq!((node.raft.role(), node.raft.leader(), node.raft.term()), (Role::Follower, None, Term(1)));
    assert!(matches!(node.outputs.last(), Some(Output::Leader { leader: None, .. })));
    assert!(node.raft.propose(now).is_err());
}

#[test]
fn a_leader_that_is_cut_off_steps_down_and_loses_its_tail() {
    let mut world = World::new(3);
    let old = world.elect();
    world.run_until(World::is_level);
    world.cut_off(&[old]);
    world.propose(old);
    world.propose(old);
    world.run_for(1_000);
    assert_ne!(world.node(old).raft.role(), Role::Leader);
    let new = world.elect();
    assert_ne!(old, new);
    world.propose(new);
    world.run_for(100);
    world.heal();
    world.run_until(World::is_level);
}

#[test]
fn a_leader_that_hears_but_is_not_heard_is_replaced() {
    let mut world = World::new(3);
    let old = world.elect();
    world.run_until(World::is_level);
    let others: Vec<u16> = (1..=3).filter(|&node| node != old).collect();
    world.cut(old, others[0]);
    world.cut(old, others[1]);
    let took = world.run_until(|world| world.leader().is_some_and(|leader| leader != old));
    assert!(took.as_millis() <= 600, "{took}");
}

#[test]
fn an_empty_entry_that_was_replaced_before_it_was_polled_is_never_made() {
    let mut node = Node::of(1, 3, Disk::default());
    let now = node.wait();
    node.hear(now, 2, 1, WOULD, &[]);
    node.sync_all(now);
    let message = |from: u16, term, body| Message {
        from: id(from),
        to: id(1),
        incarnation: raft_net::options(from, 3, 1).incarnation,
        term: Term(term),
        body,
    };
    node.raft.handle_message(now, &message(2, 1, GRANTED), &[], &[], &node.disk).unwrap();
    assert_eq!((node.raft.role(), node.raft.last()), (Role::Leader, at(1, 1)));
    let append = Body::Append { prev: at(0, 0), count: 1, commit: Index(0) };
    node.raft.handle_message(now, &message(3, 2, append), &raft_net::entries(0, &[2]), &[], &node.disk).unwrap();
    node.log.push(Term(2));
    node.outputs.clear();
    node.poll();
    assert!(!node.outputs.iter().any(|output| matches!(output, Output::AppendEmpty(_))), "{:?}", node.outputs);
    assert_eq!(node.raft.last(), at(1, 2));
}

// Members that are ahead in terms.

#[test]
fn a_leader_ignores_a_candidate_of_a_newer_term_but_learns_of_it() {
    let (mut node, now) = leader();
    node.hear(now, 3, 6, vote(at(9, 5), false), &[]);
    let answer = node.take_sent(3);
    assert!(matches!(answer[0], (1, Body::Heartbeat { .. })), "{answer:?}");
    assert_eq!((node.raft.role(), node.raft.term()), (Role::Leader, Term(1)));
    // The candidate answers that heartbeat with its term, and is not locked out.
    let mut candidate = Node::of(3, 3, Disk::new(6, Some(3), Vec::new()));
    candidate.hear(now, 1, 1, answer[0].1, &[]);
    let (term, reply) = candidate.take_sent(1)[0];
    node.hear(now, 3, term, reply, &[]);
    assert_eq!((node.raft.role(), node.raft.term()), (Role::Follower, Term(6)));
}

#[test]
fn a_member_with_a_newer_term_and_an_older_log_is_taken_in() {
    let log = terms([1, 1]);
    let ahead = Disk::new(9, Some(3), terms([1]));
    let mut world = World::with_disks(vec![Disk::new(1, None, log.clone()), Disk::new(1, None, log), ahead]);
    world.cut_off(&[3]);
    world.elect();
    world.run_for(500);
    world.heal();
    world.run_until(World::is_level);
    assert!(world.node(3).raft.term() >= Term(10));
    let leader = world.elect();
    world.propose(leader);
    world.run_until(World::is_level);
}

#[test]
fn a_leader_that_was_deposed_by_a_term_does_not_wait_for_another_detection() {
    let (mut node, now) = leader();
    node.hear(now, 3, 6, Body::HeartbeatReply { round: 0, verified: Index(0), wall_us: 0 }, &[]);
    let again = node.raft.next_deadline().saturating_since(now).as_millis();
    assert!((20..60).contains(&again), "{again} ms");
}

// Restarts of everything.

#[test]
fn a_cluster_that_lost_power_goes_on_where_it_was() {
    let mut world = World::new(5);
    for _ in 0..5 {
        let leader = world.elect();
        (0..10).for_each(|_| _ = world.propose(leader));
        world.run_for(3);
        (1..=5).for_each(|node| world.stop(node));
        let committed = world.committed().to_vec();
        (1..=5).for_each(|node| world.start(node));
        world.elect();
        world.run_until(World::is_level);
        assert!(world.committed().starts_with(&committed));
    }
}
