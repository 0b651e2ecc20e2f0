//! Nothing is promised before it is on stable storage; the machine sees to that, not its caller.

mod raft_net;

use eventstream_core::config::MAX_OPEN_WRITES;
use eventstream_core::id::{Index, Term};
use eventstream_core::raft::{Body, LogPosition, LogView, Output, Persist, Raft, RestoreError, Role};
use eventstream_core::time::Instant;
use raft_net::{Disk, Node, World, at, entries, id, ms, options, terms};

const GRANTED: Body = Body::VoteReply { granted: true, wall_us: 0 };
const WOULD: Body = Body::PreVoteReply { granted: true };

fn append(prev: LogPosition, count: u16, commit: u64) -> Body {
    Body::Append { prev, count, commit: Index(commit) }
}

fn accepted(matched: u64) -> Body {
    Body::AppendAccepted { matched: Index(matched) }
}

fn vote(last: LogPosition) -> Body {
    Body::Vote { last, transfer: false }
}

/// Node 1 of three, following node 2 in term 5 with all written.
fn follower(log: Vec<Term>) -> Node {
    let mut node = Node::of(1, 3, Disk::new(5, Some(2), log));
    node.hear(ms(1), 2, 5, Body::Heartbeat { commit: Index(0), round: 1 }, &[]);
    node.take_sent(2);
    node
}

/// Node 1 of three, leading term 1 with its empty entry written and accepted by node 2.
fn leader() -> (Node, Instant) {
    let mut node = Node::of(1, 3, Disk::default());
    let now = node.wait();
    node.hear(now, 2, 1, WOULD, &[]);
    node.sync_all(now);
    node.hear(now, 2, 1, GRANTED, &[]);
    node.sync_all(now);
    node.hear(now, 2, 1, accepted(1), &[]);
    assert_eq!((node.raft.role(), node.committed), (Role::Leader, 1));
    node.sent.clear();
    (node, now)
}

#[test]
fn a_vote_leaves_when_it_is_durable() {
    let mut node = Node::of(1, 3, Disk::default());
    node.hear(ms(1), 2, 4, vote(at(0, 0)), &[]);
    assert_eq!((node.open_writes(), node.take_sent(2)), (1, vec![]));
    node.sync(ms(5));
    assert_eq!(node.take_sent(2), [(4, GRANTED)]);
    assert_eq!((node.disk.hard_state.term, node.disk.hard_state.vote), (Term(4), Some(id(2))));
}

#[test]
fn a_vote_that_a_newer_term_overtakes_is_never_sent() {
    let mut node = Node::of(1, 3, Disk::default());
    node.hear(ms(1), 2, 4, vote(at(0, 0)), &[]);
    node.hear(ms(2), 3, 5, vote(at(0, 0)), &[]);
    node.sync(ms(5));
    assert_eq!((node.take_sent(2), node.take_sent(3)), (vec![], vec![]), "only the older vote is durable");
    node.sync(ms(6));
    assert_eq!((node.take_sent(2), node.take_sent(3)), (vec![], vec![(5, GRANTED)]));
}

#[test]
fn a_candidate_asks_and_counts_itself_when_its_own_vote_is_durable() {
    let mut node = Node::of(1, 3, Disk::default());
    let now = node.wait();
    node.take_sent(2);
    node.hear(now, 2, 1, WOULD, &[]);
    assert_eq!((node.raft.role(), node.take_sent(2)), (Role::Candidate, vec![]));
    // A vote that was given before it was asked for elects nobody yet.
    node.hear(now, 2, 1, GRANTED, &[]);
    assert_eq!(node.raft.role(), Role::Candidate);
    node.sync(now);
    assert_eq!(node.raft.role(), Role::Leader);
}

#[test]
fn a_candidate_with_a_slow_disk_does_not_start_another_term() {
    let mut node = Node::of(1, 3, Disk::default());
    let mut now = node.wait();
    node.hear(now, 2, 1, WOULD, &[]);
    for _ in 0..5 {
        now = node.wait();
    }
    assert_eq!((node.raft.role(), node.raft.term(), node.open_writes()), (Role::Candidate, Term(1), 1));
    node.sync(now);
    assert_eq!(node.take_sent(3).last(), Some(&(1, vote(at(0, 0)))));
}

#[test]
fn a_vote_that_comes_late_still_elects() {
    let mut node = Node::of(1, 3, Disk::default());
    let now = node.wait();
    node.hear(now, 2, 1, WOULD, &[]);
    node.sync_all(now);
    let now = node.wait();
    assert_eq!((node.raft.role(), node.raft.term()), (Role::PreCandidate, Term(1)));
    node.hear(now, 2, 1, GRANTED, &[]);
    assert_eq!((node.raft.role(), node.raft.term()), (Role::Leader, Term(1)));
}

#[test]
fn entries_are_accepted_when_they_are_durable() {
    let mut node = follower(terms([5]));
    node.hear(ms(2), 2, 5, append(at(1, 5), 2, 0), &entries(1, &[5, 5]));
    // What was durable before is confirmed at once, so that a probe need not wait for the disk.
    assert_eq!(node.take_sent(2), [(5, accepted(1))]);
    node.hear(ms(2), 2, 5, append(at(3, 5), 1, 0), &entries(3, &[5]));
    assert_eq!((node.take_sent(2), node.open_writes()), (vec![], 2));
    node.sync(ms(4));
    assert_eq!(node.take_sent(2), [(5, accepted(3))]);
    node.sync(ms(6));
    assert_eq!(node.take_sent(2), [(5, accepted(4))]);
}

#[test]
fn answers_to_appends_are_gathered() {
    let mut node = follower(terms([5]));
    for prev in 1..=8 {
        node.hear(ms(2), 2, 5, append(at(prev, 5), 1, 0), &entries(prev, &[5]));
    }
    node.take_sent(2);
    let token = node.outputs.iter().rev().find_map(|output| match output {
        Output::Persist(Persist { token, .. }) => Some(*token),
        _ => None,
    });
    // One report for eight writes.
    node.raft.handle_persisted(ms(3), token.unwrap());
    node.poll();
    assert_eq!(node.take_sent(2), [(5, accepted(9))]);
}

#[test]
fn nothing_is_accepted_in_a_term_that_could_be_forgotten() {
    let mut node = Node::of(1, 3, Disk::new(5, Some(2), terms([5])));
    node.hear(ms(1), 3, 6, append(at(1, 5), 0, 0), &[]);
    assert_eq!(node.take_sent(3), [], "entry 1 is durable, term 6 is not");
    node.sync(ms(2));
    assert_eq!(node.take_sent(3), [(6, accepted(1))]);
}

#[test]
fn heartbeats_never_wait_for_the_disk() {
    let mut node = Node::of(1, 3, Disk::default());
    node.hear(ms(1), 2, 4, append(at(0, 0), 1, 0), &entries(0, &[4]));
    node.hear(ms(1), 2, 4, Body::Heartbeat { commit: Index(0), round: 9 }, &[]);
    assert_eq!(node.take_sent(2), [(4, Body::HeartbeatReply { round: 9, verified: Index(1), wall_us: 0 })]);
}

#[test]
fn a_late_report_does_not_accept_entries_that_were_rewritten_since() {
    let mut node = follower(terms([1]));
    node.hear(ms(2), 2, 5, append(at(1, 1), 2, 0), &entries(1, &[5, 5]));
    node.hear(ms(3), 3, 6, append(at(1, 1), 2, 0), &entries(1, &[6, 6]));
    assert_eq!(node.open_writes(), 2);
    node.take_sent(3);
    // The old entries are on the disk now; those that replaced them are not.
    node.sync(ms(4));
    assert_eq!((node.raft.durable(), node.take_sent(3)), (Index(1), vec![]));
    node.sync(ms(5));
    assert_eq!((node.raft.durable(), node.take_sent(3)), (Index(3), vec![(6, accepted(3))]));
    assert_eq!(node.disk.log, terms([1, 6, 6]));
}

#[test]
fn a_truncation_and_what_replaces_it_are_one_write() {
    let mut node = follower(terms([1, 2, 2]));
    node.outputs.clear();
    node.hear(ms(2), 2, 5, append(at(1, 1), 1, 0), &entries(1, &[5]));
    let write = node.outputs.iter().find_map(|output| match output {
        Output::Persist(write) => Some(*write),
        _ => None,
    });
    let Some(Persist { hard_state: None, truncate_from: Some(Index(2)), append: Some((Index(2), Index(2))), .. }) =
        write
    else {
        panic!("{write:?}");
    };
}

#[test]
fn a_leader_counts_itself_when_its_entries_are_durable() {
    let (mut node, now) = leader();
    node.propose(now);
    assert_eq!(node.raft.last(), at(2, 1));
    node.hear(now, 2, 1, accepted(2), &[]);
    assert_eq!(node.committed, 1, "on one disk of three");
    node.sync(now);
    assert_eq!(node.committed, 2);
}

#[test]
fn others_may_commit_what_the_leader_has_not_written_yet() {
    let (mut node, now) = leader();
    node.propose(now);
    node.hear(now, 2, 1, accepted(2), &[]);
    node.hear(now, 3, 1, accepted(2), &[]);
    assert_eq!((node.committed, node.raft.durable()), (2, Index(1)));
}

#[test]
fn a_commit_is_not_told_before_its_write_was_handed_out() {
    let (mut node, now) = leader();
    for _ in 0..MAX_OPEN_WRITES + 2 {
        node.propose(now);
    }
    assert_eq!(node.open_writes(), MAX_OPEN_WRITES);
    let last = node.raft.last().index;
    let handed_out = 1 + MAX_OPEN_WRITES;
    for peer in [2, 3] {
        node.hear(now, peer, 1, Body::AppendAccepted { matched: last }, &[]);
    }
    assert_eq!((node.raft.commit(), node.committed), (last, handed_out));
    node.sync(now);
    assert_eq!(node.committed as u64, last.0);
}

#[test]
fn proposals_between_two_polls_share_a_write_and_an_append() {
    let (mut node, now) = leader();
    node.outputs.clear();
    for _ in 0..5 {
        let entry = node.raft.propose(now).unwrap();
        node.log.push(entry.term);
    }
    node.poll();
    let write = &node.outputs[0];
    assert!(matches!(write, Output::Persist(Persist { append: Some((Index(2), Index(6))), .. })), "{write:?}");
    assert_eq!(node.take_sent(2), [(1, append(at(1, 1), 5, 1))]);
}

#[test]
fn polling_for_nothing_gives_nothing_and_changes_nothing() {
    let (mut node, _) = leader();
    let before = format!("{:?}", node.raft);
    assert_eq!(node.raft.poll_output(&node.disk), None);
    assert_eq!(format!("{:?}", node.raft), before);
}

#[test]
fn a_single_member_leads_at_once_and_commits_what_is_durable() {
    let mut node = Node::of(1, 1, Disk::default());
    assert_eq!(node.raft.next_deadline(), Instant::ZERO);
    node.wait();
    assert_eq!(node.raft.role(), Role::Candidate);
    node.sync(ms(1));
    assert_eq!((node.raft.role(), node.committed), (Role::Leader, 0));
    node.sync(ms(2));
    assert_eq!(node.committed, 1);
    node.propose(ms(3));
    assert_eq!(node.committed, 1);
    node.sync(ms(4));
    assert_eq!((node.committed, node.raft.next_deadline()), (2, Instant::FAR_FUTURE));
    // It starts again as what it was, one term on.
    let disk = node.crash(0);
    let mut node = Node::of(1, 1, disk);
    node.wait();
    node.sync_all(ms(5));
    assert_eq!((node.raft.role(), node.raft.term(), node.committed), (Role::Leader, Term(2), 3));
}

#[test]
fn a_member_that_restarts_keeps_its_vote() {
    let mut node = Node::of(1, 3, Disk::default());
    node.hear(ms(1), 2, 4, vote(at(0, 0)), &[]);
    node.sync(ms(2));
    let mut node = Node::of(1, 3, node.crash(0));
    node.hear(ms(1), 3, 4, vote(at(0, 0)), &[]);
    node.sync_all(ms(2));
    assert_eq!(node.take_sent(3), [(4, Body::VoteReply { granted: false, wall_us: 0 })]);
    // The same candidate may ask again: the answer may have been lost.
    node.hear(ms(3), 2, 4, vote(at(0, 0)), &[]);
    assert_eq!(node.take_sent(2), [(4, GRANTED)]);
}

#[test]
fn a_leader_that_restarts_does_not_lead_its_term_again() {
    let (mut node, now) = leader();
    node.propose(now);
    // Entry 2 was sent and is not on the disk.
    let mut node = Node::of(1, 3, node.crash(0));
    assert_eq!(node.raft.last(), at(1, 1));
    node.hear(ms(1), 2, 1, GRANTED, &[]);
    let now = node.wait();
    node.hear(now, 2, 1, GRANTED, &[]);
    node.hear(now, 3, 1, GRANTED, &[]);
    assert_eq!((node.raft.role(), node.raft.term()), (Role::PreCandidate, Term(1)));
}

#[test]
fn a_follower_that_restarts_commits_only_what_was_checked_again() {
    let mut node = follower(Vec::new());
    node.hear(ms(2), 2, 5, append(at(0, 0), 3, 3), &entries(0, &[5, 5, 5]));
    node.sync_all(ms(3));
    let mut disk = node.crash(0);
    disk.applied = 1;
    let mut node = Node::of(1, 3, disk);
    assert_eq!(node.raft.commit(), Index(1));
    node.hear(ms(4), 2, 5, Body::Heartbeat { commit: Index(3), round: 2 }, &[]);
    assert_eq!(node.raft.commit(), Index(1));
    // Its answer tells the leader that there is something to check.
    assert_eq!(node.take_sent(2), [(5, Body::HeartbeatReply { round: 2, verified: Index(1), wall_us: 0 })]);
}

#[test]
fn a_disk_that_does_not_go_together_is_refused() {
    let raft = |disk: &Disk, applied: LogPosition| {
        let restored = eventstream_core::raft::Restored { applied, ..disk.restored() };
        Raft::new(options(1, 3, 1), &restored, ms(0)).map(|raft| raft.last())
    };
    let disk = Disk::new(3, None, terms([1, 3]));
    assert_eq!(raft(&disk, at(2, 3)), Ok(at(2, 3)));
    assert_eq!(raft(&disk, at(3, 3)), Err(RestoreError::LogTailLost));
    assert_eq!(raft(&disk, at(2, 2)), Err(RestoreError::LogTailLost));
    assert_eq!(raft(&disk, at(1, 4)), Err(RestoreError::LogTailLost));
    let forgetful = Disk::new(2, None, terms([1, 3]));
    assert_eq!(raft(&forgetful, at(0, 0)), Err(RestoreError::HardStateLost));
    let endless = Disk::new(u64::MAX, None, Vec::new());
    assert_eq!(raft(&endless, at(0, 0)), Err(RestoreError::OutOfRange));
}

#[test]
fn only_a_member_in_its_right_incarnation_starts() {
    let restored = Disk::default().restored();
    let mut other_life = options(1, 3, 1);
    other_life.incarnation.0[0] ^= 1;
    assert_eq!(Raft::new(other_life, &restored, ms(0)).err(), Some(RestoreError::OtherIncarnation));
    let mut nobody = options(1, 3, 1);
    nobody.node = id(4);
    let nobody = Raft::new(nobody, &restored, ms(0)).expect("it may be added later");
    assert_eq!(nobody.next_deadline(), Instant::FAR_FUTURE, "it does not campaign");
}

#[test]
fn the_store_is_asked_only_for_what_is_durable() {
    struct Strict(Disk);
    impl LogView for Strict {
        fn term(&self, index: Index) -> Option<Term> {
            assert!(index.0 <= self.0.log.len() as u64, "entry {index} is not durable");
            self.0.term(index)
        }
    }
    let mut node = follower(terms([1, 2, 3]));
    let strict = Strict(node.disk.clone());
    for (prev, term) in [(at(3, 3), 5), (at(4, 5), 5), (at(9, 9), 5), (at(3, 3), 6), (at(1, 1), 7)] {
        let message = eventstream_core::raft::Message {
            from: id(2),
            to: id(1),
            incarnation: options(2, 3, 1).incarnation,
            term: Term(term.max(prev.term.0)),
            body: append(prev, 1, 0),
        };
        let next = entries(prev.index.0, &[message.term.0]);
        node.raft.handle_message(ms(2), &message, &next, &[], &strict).expect("an honest message");
    }
}

#[test]
fn a_cluster_whose_disks_need_half_a_second_elects_and_commits() {
    let mut world = World::new(3);
    world.sync = eventstream_core::time::Duration::from_millis(500);
    let leader = world.elect();
    world.propose(leader);
    world.run_until(|world| world.committed().len() >= 2);
}
