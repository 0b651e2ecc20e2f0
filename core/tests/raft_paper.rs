//! What the paper says, section by section (Ongaro and Ousterhout, In Search of an Understandable Consensus Algorithm,
//! extended version, 2014). Where this machine adds to it, the test says so. Of the thesis: `raft_thesis.rs`.

mod raft_net;

use eventstream_core::id::{Index, Term};
use eventstream_core::raft::{Body, HardState, LogPosition, Output, Role};
use eventstream_core::time::Instant;
use raft_net::{Disk, Node, at, entries, id, ms, terms};

const GRANTED: Body = Body::VoteReply { granted: true, wall_us: 0 };
const REFUSED: Body = Body::VoteReply { granted: false, wall_us: 0 };

fn append(prev: LogPosition, count: u16, commit: u64) -> Body {
    Body::Append { prev, count, commit: Index(commit) }
}

fn heartbeat(commit: u64) -> Body {
    Body::Heartbeat { commit: Index(commit), round: 1 }
}

fn vote(last: LogPosition) -> Body {
    Body::Vote { last, transfer: false }
}

fn accepted(matched: u64) -> Body {
    Body::AppendAccepted { matched: Index(matched) }
}

/// Node 1 of `of`, as a candidate whose own vote is durable; and its time.
fn candidate(of: u16, disk: Disk) -> (Node, Instant) {
    let mut node = Node::of(1, of, disk);
    let now = node.wait();
    let term = node.raft.term().0 + 1;
    for peer in 2..=of / 2 + 1 {
        node.hear(now, peer, term, Body::PreVoteReply { granted: true }, &[]);
    }
    node.sync_all(now);
    assert_eq!(node.raft.role(), if of == 1 { Role::Leader } else { Role::Candidate });
    (node, now)
}

/// Node 1 of `of`, as a leader whose empty entry is durable; and its time.
fn leader(of: u16, disk: Disk) -> (Node, Instant) {
    let (mut node, now) = candidate(of, disk);
    let term = node.raft.term().0;
    for peer in 2..=of / 2 + 1 {
        node.hear(now, peer, term, GRANTED, &[]);
    }
    node.sync_all(now);
    assert_eq!(node.raft.role(), Role::Leader);
    (node, now)
}

/// Node 1 of three, following node 2 in `term`.
fn follower(term: u64, disk: Disk) -> Node {
    let mut node = Node::of(1, 3, disk);
    node.hear(ms(1), 2, term, heartbeat(0), &[]);
    node.sync_all(ms(1));
    node.sent.clear();
    node.outputs.clear();
    node
}

// Section 5.1: terms.

#[test]
fn section_5_1_a_newer_term_makes_a_follower_of_anyone() {
    let roles: [fn() -> Node; 3] =
        [|| follower(1, Disk::default()), || candidate(3, Disk::default()).0, || leader(3, Disk::default()).0];
    for make in roles {
        let mut node = make();
        node.hear(ms(900), 3, 7, append(at(0, 0), 0, 0), &[]);
        assert_eq!((node.raft.role(), node.raft.term(), node.raft.leader()), (Role::Follower, Term(7), Some(id(3))));
    }
}

#[test]
fn section_5_1_a_message_of_an_older_term_is_not_followed() {
    let mut node = follower(3, Disk::default());
    node.hear(ms(5), 3, 2, append(at(0, 0), 1, 1), &entries(0, &[2]));
    assert_eq!((node.raft.leader(), node.raft.last(), node.raft.commit()), (Some(id(2)), at(0, 0), Index(0)));
    // Its sender learns the term that it has missed, so that it steps down.
    assert!(node.take_sent(3).iter().all(|&(term, _)| term == 3) && node.take_sent(2).is_empty());
}

#[test]
fn section_5_1_a_request_of_an_older_term_is_refused_with_the_newer_one() {
    let mut node = follower(3, Disk::default());
    node.hear(ms(5), 3, 2, vote(at(9, 2)), &[]);
    assert_eq!(node.take_sent(3), [(3, REFUSED)]);
    node.hear(ms(5), 3, 2, heartbeat(0), &[]);
    assert_eq!(node.take_sent(3)[0].0, 3);
}

// Section 5.2: leader election.

#[test]
fn section_5_2_members_start_as_followers_that_wait_for_a_leader() {
    let mut node = Node::of(1, 3, Disk::default());
    node.poll();
    assert_eq!((node.raft.role(), node.raft.leader(), node.outputs.len()), (Role::Follower, None, 0));
    assert!(node.raft.next_deadline() >= ms(450) && node.raft.next_deadline() <= ms(510));
}

#[test]
fn section_5_2_a_leader_sends_heartbeats_to_all() {
    let (mut node, now) = leader(3, Disk::default());
    node.sent.clear();
    assert_eq!(node.raft.next_deadline(), now + eventstream_core::config::HEARTBEAT);
    node.wait();
    for peer in [2, 3] {
        let sent = node.take_sent(peer);
        assert!(matches!(sent[..], [(1, Body::Heartbeat { round: 2, .. })]), "{sent:?}");
    }
}

#[test]
fn section_5_2_a_follower_without_a_word_of_its_leader_asks_for_pre_votes_then_votes() {
    let mut node = follower(4, Disk::new(4, None, terms([1, 4])));
    node.wait();
    assert_eq!((node.raft.role(), node.raft.term()), (Role::PreCandidate, Term(4)), "a pre-vote changes no term");
    assert_eq!(node.take_sent(2), [(5, Body::PreVote { last: at(2, 4) })]);
    assert_eq!(node.take_sent(3), [(5, Body::PreVote { last: at(2, 4) })]);
    node.hear(ms(500), 3, 5, Body::PreVoteReply { granted: true }, &[]);
    let voted = HardState { term: Term(5), vote: Some(id(1)), suspect: false };
    assert_eq!((node.raft.role(), node.raft.hard_state()), (Role::Candidate, voted));
    node.sync_all(ms(502));
    assert_eq!(node.take_sent(2), [(5, vote(at(2, 4)))]);
    assert_eq!(node.take_sent(3), [(5, vote(at(2, 4)))]);
}

#[test]
fn section_5_2_a_heartbeat_keeps_a_follower_waiting() {
    let mut node = follower(1, Disk::default());
    for millis in (0..3_000).step_by(150) {
        node.hear(ms(millis), 2, 1, heartbeat(0), &[]);
        node.timeout(ms(millis + 149));
        assert_eq!(node.raft.role(), Role::Follower);
    }
}

#[test]
fn section_5_2_votes_of_a_majority_elect() {
    let leads = |size: u16, granting: &[u16], refusing: &[u16]| {
        let (mut node, now) = candidate(size, Disk::default());
        granting.iter().for_each(|&voter| node.hear(now, voter, 1, GRANTED, &[]));
        refusing.iter().for_each(|&voter| node.hear(now, voter, 1, REFUSED, &[]));
        node.raft.role() == Role::Leader
    };
    assert!(leads(1, &[], &[]));
    assert!(leads(3, &[2], &[]) && leads(3, &[3], &[2]) && !leads(3, &[], &[2]) && !leads(3, &[], &[2, 3]));
    assert!(leads(4, &[2, 4], &[]) && !leads(4, &[2], &[]) && !leads(4, &[2], &[3, 4]));
    assert!(leads(5, &[2, 3], &[]) && leads(5, &[4, 5], &[2, 3]) && !leads(5, &[2], &[]));
    assert!(!leads(5, &[2, 2], &[3]), "a vote counts once");
}

#[test]
fn section_5_2_one_vote_in_a_term_first_come_first_served() {
    let cases = [(None, 2, true), (None, 3, true), (Some(2), 2, true), (Some(2), 3, false)];
    for (vote_before, candidate, granted) in cases {
        let mut node = Node::of(1, 3, Disk::new(1, vote_before, Vec::new()));
        node.hear(ms(1), candidate, 1, vote(at(0, 0)), &[]);
        node.sync_all(ms(1));
        assert_eq!(node.take_sent(candidate), [(1, if granted { GRANTED } else { REFUSED })], "{vote_before:?}");
    }
}

#[test]
fn section_5_2_a_candidate_follows_the_leader_of_its_term() {
    for body in [heartbeat(0), append(at(0, 0), 0, 0)] {
        let (mut node, now) = candidate(3, Disk::default());
        node.hear(now, 3, 1, body, &[]);
        assert_eq!((node.raft.role(), node.raft.leader(), node.raft.term()), (Role::Follower, Some(id(3)), Term(1)));
        node.hear(now, 2, 1, GRANTED, &[]);
        assert_eq!(node.raft.role(), Role::Follower, "a vote that comes late elects nobody");
    }
}

#[test]
fn section_5_2_an_election_that_is_not_decided_is_tried_again_in_a_new_term() {
    let (mut node, start) = candidate(3, Disk::default());
    let now = node.wait();
    let waited = now.saturating_since(start).as_millis();
    assert!((20..=60).contains(&waited), "tried again after {waited} ms");
    assert_eq!((node.raft.role(), node.raft.term()), (Role::PreCandidate, Term(1)));
    node.hear(now, 3, 2, Body::PreVoteReply { granted: true }, &[]);
    assert_eq!((node.raft.role(), node.raft.term()), (Role::Candidate, Term(2)));
}

#[test]
fn section_5_2_members_wait_for_different_times() {
    for seed in 0..100 {
        let deadline = |node| {
            let options = raft_net::options(node, 3, seed);
            Node::new(options, Disk::default(), Instant::ZERO).raft.next_deadline()
        };
        let [first, second, third] = [1, 2, 3].map(deadline);
        assert!(first < second && second < third && third <= ms(510));
    }
}

// Section 5.3: log replication.

#[test]
fn section_5_3_a_proposal_is_sent_to_all_and_written_at_the_same_time() {
    let (mut node, now) = leader(3, Disk::default());
    node.hear(now, 2, 1, accepted(1), &[]);
    node.hear(now, 3, 1, accepted(1), &[]);
    node.sent.clear();
    node.outputs.clear();
    assert_eq!(node.propose(now), at(2, 1));
    assert_eq!((node.open_writes(), node.raft.durable()), (1, Index(1)));
    assert_eq!(node.take_sent(2), [(1, append(at(1, 1), 1, 1))]);
    assert_eq!(node.take_sent(3), [(1, append(at(1, 1), 1, 1))]);
}

#[test]
fn section_5_3_an_entry_on_a_majority_is_committed() {
    let cases: [(u16, &[u16], bool); 7] = [
        (1, &[], true),
        (3, &[], false),
        (3, &[2], true),
        (3, &[2, 3], true),
        (5, &[2], false),
        (5, &[2, 4], true),
        (5, &[2, 2], false),
    ];
    for (size, acceptors, committed) in cases {
        let (mut node, now) = leader(size, Disk::default());
        node.propose(now);
        node.sync_all(now);
        for &peer in acceptors {
            node.hear(now, peer, 1, accepted(2), &[]);
        }
        assert_eq!(node.committed == 2, committed, "{size} members, {acceptors:?}");
    }
}

#[test]
fn section_5_3_committing_an_entry_commits_all_before_it() {
    for log in [terms([]), terms([2]), terms([1, 2]), terms([1])] {
        let (mut node, now) = leader(3, Disk::new(2, None, log.clone()));
        assert_eq!(node.committed, 0);
        node.hear(now, 3, 3, accepted(log.len() as u64 + 1), &[]);
        assert_eq!(node.committed, log.len() + 1);
        assert_eq!(node.log[..log.len()], log);
    }
}

#[test]
fn section_5_3_followers_learn_what_is_committed() {
    let mut node = follower(1, Disk::default());
    node.hear(ms(2), 2, 1, append(at(0, 0), 3, 2), &entries(0, &[1, 1, 1]));
    assert_eq!(node.committed, 2);
    node.hear(ms(3), 2, 1, heartbeat(3), &[]);
    assert_eq!(node.committed, 3);
    node.hear(ms(3), 2, 1, heartbeat(1), &[]);
    assert_eq!(node.raft.commit(), Index(3), "it does not go back");
}

#[test]
fn section_5_3_a_follower_commits_no_further_than_its_leader_has_checked() {
    // Entries 2 and 3 are left from another leader.
    let mut node = follower(3, Disk::new(2, None, terms([1, 2, 2])));
    node.hear(ms(2), 2, 3, heartbeat(3), &[]);
    assert_eq!(node.raft.commit(), Index(0));
    node.hear(ms(2), 2, 3, append(at(1, 1), 0, 3), &[]);
    assert_eq!(node.raft.commit(), Index(1));
    node.hear(ms(2), 2, 3, append(at(1, 1), 1, 3), &entries(1, &[3]));
    assert_eq!((node.raft.commit(), node.raft.last()), (Index(2), at(2, 3)));
}

#[test]
fn section_5_3_a_follower_refuses_entries_after_one_that_it_has_not() {
    let cases = [
        (at(0, 0), None),
        (at(1, 1), None),
        (at(2, 2), None),
        (at(1, 2), Some(at(1, 1))),
        (at(2, 1), Some(at(1, 1))),
        (at(3, 3), Some(at(2, 2))),
        (at(7, 1), Some(at(1, 1))),
    ];
    for (prev, hint) in cases {
        let mut node = follower(3, Disk::new(2, None, terms([1, 2])));
        node.hear(ms(2), 2, 3, append(prev, 0, 0), &[]);
        node.sync_all(ms(2));
        let expected = match hint {
            None => accepted(prev.index.0),
            Some(hint) => Body::AppendRejected { rejected: prev.index, hint },
        };
        assert_eq!(node.take_sent(2), [(3, expected)], "{prev:?}");
    }
}

#[test]
fn section_5_3_a_follower_replaces_only_what_differs() {
    let cases: [(LogPosition, &[u64], Vec<Term>); 6] = [
        (at(2, 2), &[3], terms([1, 2, 3])),
        (at(1, 1), &[3, 4], terms([1, 3, 4])),
        (at(0, 0), &[3, 3, 3], terms([3, 3, 3])),
        (at(0, 0), &[1], terms([1, 2, 2])),
        (at(0, 0), &[1, 2], terms([1, 2, 2])),
        (at(3, 2), &[4], terms([1, 2, 2, 4])),
    ];
    for (prev, sent, log) in cases {
        let mut node = follower(4, Disk::new(3, None, terms([1, 2, 2])));
        node.hear(ms(2), 2, 4, append(prev, sent.len() as u16, 0), &entries(prev.index.0, sent));
        node.sync_all(ms(2));
        assert_eq!((&node.log, &node.disk.log), (&log, &log), "{sent:?} after {prev:?}");
        assert_eq!(node.take_sent(2).last(), Some(&(4, accepted(prev.index.0 + sent.len() as u64))));
    }
}

/// The logs of figure 7: of the leader of term 8, and of six followers.
#[test]
fn section_5_3_a_leader_brings_the_logs_of_figure_7_into_line() {
    let leader_log = terms([1, 1, 1, 4, 4, 5, 5, 6, 6, 6]);
    let followers = [
        terms([1, 1, 1, 4, 4, 5, 5, 6, 6]),
        terms([1, 1, 1, 4]),
        terms([1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6]),
        terms([1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7]),
        terms([1, 1, 1, 4, 4, 4, 4]),
        terms([1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3]),
    ];
    for log in followers {
        let (mut leading, now) = leader(3, Disk::new(7, None, leader_log.clone()));
        let mut following = Node::of(2, 3, Disk::new(7, None, log.clone()));
        let mut rounds = 0;
        while following.disk.log != leading.log {
            rounds += 1;
            assert!(rounds <= 6, "one round for each term that differs, not for each entry: {log:?}");
            for envelope in core::mem::take(&mut leading.sent).iter().filter(|sent| sent.message.to == id(2)) {
                following.receive(now, envelope).unwrap();
            }
            following.sync_all(now);
            for envelope in core::mem::take(&mut following.sent).iter().filter(|sent| sent.message.to == id(1)) {
                leading.receive(now, envelope).unwrap();
            }
        }
        assert_eq!(following.disk.log, [&leader_log[..], &[Term(8)]].concat());
    }
}

// Section 5.4: safety.

#[test]
fn section_5_4_1_a_vote_goes_only_to_a_log_that_is_at_least_as_up_to_date() {
    let cases = [
        (terms([1]), at(1, 1), true),
        (terms([1]), at(2, 1), true),
        (terms([1, 1]), at(1, 1), false),
        (terms([1]), at(1, 2), true),
        (terms([1]), at(2, 2), true),
        (terms([1, 1]), at(1, 2), true),
        (terms([2]), at(1, 1), false),
        (terms([2]), at(2, 1), false),
        (terms([1, 2]), at(1, 1), false),
    ];
    for (log, last, granted) in cases {
        let mut node = Node::of(1, 3, Disk::new(2, None, log.clone()));
        node.hear(ms(1), 2, 3, Body::PreVote { last }, &[]);
        let term = if granted { 3 } else { 2 };
        assert_eq!(node.take_sent(2), [(term, Body::PreVoteReply { granted })], "{log:?}, {last:?}");
        node.hear(ms(1), 2, 3, vote(last), &[]);
        node.sync_all(ms(1));
        assert_eq!(node.take_sent(2), [(3, if granted { GRANTED } else { REFUSED })], "{log:?}, {last:?}");
    }
}

#[test]
fn section_5_4_2_only_entries_of_the_leaders_own_term_are_committed_by_counting() {
    for (matched, committed) in [(1, 0), (2, 0), (3, 3)] {
        let (mut node, now) = leader(3, Disk::new(2, None, terms([1, 2])));
        node.hear(now, 2, 3, accepted(matched), &[]);
        assert_eq!(node.committed, committed, "matched {matched}");
    }
}

/// Figure 8: an entry of an older term that is on a majority may still be replaced, until one of the leader's own term
/// is behind it.
#[test]
fn section_5_4_2_figure_8() {
    // (c): S1 leads term 4 and has brought entry 2 of term 2 to S2 and S3. S5 has an entry of term 3 there.
    let (mut s1, now) = leader(5, Disk::new(3, Some(5), terms([1, 2])));
    let mut s5 = Node::of(5, 5, Disk::new(3, Some(5), terms([1, 3])));
    s1.hear(now, 2, 4, accepted(2), &[]);
    s1.hear(now, 3, 4, accepted(2), &[]);
    assert_eq!(s1.committed, 0, "on a majority, and not committed");
    // (d): S5 may still be elected, with votes of S2, S3 and S4, and replace the entry.
    let start = s5.wait();
    for answer in [Body::PreVoteReply { granted: true }, GRANTED] {
        s5.hear(start, 2, 4, answer, &[]);
        s5.hear(start, 3, 4, answer, &[]);
        s5.sync_all(start);
    }
    assert_eq!(s5.raft.role(), Role::Leader);
    // (e): with an entry of its own term behind it, it is committed, and S5 gets no vote of those that have it.
    s1.hear(now, 2, 4, accepted(3), &[]);
    s1.hear(now, 3, 4, accepted(3), &[]);
    assert_eq!(s1.committed, 3);
    let mut s2 = Node::of(2, 5, Disk::new(4, Some(1), terms([1, 2, 4])));
    s2.hear(now, 5, 5, vote(at(2, 3)), &[]);
    s2.sync_all(now);
    assert_eq!(s2.take_sent(5), [(5, REFUSED)]);
}

// Section 8: clients.

#[test]
fn section_8_a_new_leader_announces_itself_with_an_empty_entry() {
    let (mut node, now) = candidate(3, Disk::new(4, None, terms([1, 3])));
    node.sent.clear();
    node.outputs.clear();
    node.hear(now, 3, 5, GRANTED, &[]);
    assert!(matches!(
        node.outputs[..],
        [
            Output::Leader { term: Term(5), leader: Some(_) },
            Output::AppendEmpty(LogPosition { index: Index(3), term: Term(5) }),
            Output::Persist(_),
            ..
        ]
    ));
    for peer in [2, 3] {
        let announced = node.take_sent(peer);
        assert_eq!(announced, [(5, heartbeat(0)), (5, append(at(2, 3), 1, 0))]);
    }
    assert_eq!(node.propose(now), at(4, 5));
}
