//! How a leader brings entries to its peers, whatever happens to the messages.

mod raft_net;

use eventstream_core::config::{MAX_APPEND_ENTRIES, MAX_INFLIGHT_ENTRIES, MAX_TERM_RUNS};
use eventstream_core::id::{Index, Term};
use eventstream_core::raft::{Body, Flow, LogPosition, LogView, Message, Role, Taken};
use eventstream_core::time::Instant;
use raft_net::{Disk, Node, World, at, entries, id, ms, terms};

fn append(prev: LogPosition, count: u16, commit: u64) -> Body {
    Body::Append { prev, count, commit: Index(commit) }
}

fn accepted(matched: u64) -> Body {
    Body::AppendAccepted { matched: Index(matched) }
}

/// Node 1 of three, leading term 5 with `log` and its empty entry on its disk; nothing is known of the others.
fn leader(log: Vec<Term>) -> (Node, Instant) {
    let mut node = Node::of(1, 3, Disk::new(4, None, log));
    let now = node.wait();
    node.hear(now, 2, 5, Body::PreVoteReply { granted: true }, &[]);
    node.sync_all(now);
    node.hear(now, 2, 5, Body::VoteReply { granted: true, wall_us: 0 }, &[]);
    node.sync_all(now);
    assert_eq!(node.raft.role(), Role::Leader);
    node.hear(now, 2, 5, Body::HeartbeatReply { round: 1, verified: Index(0), wall_us: 0 }, &[]);
    (node, now)
}

/// The same, with node 2 in step and nothing on its way.
fn replicating() -> (Node, Instant) {
    let (mut node, now) = leader(terms([]));
    node.hear(now, 2, 5, accepted(1), &[]);
    node.hear(now, 3, 5, accepted(1), &[]);
    node.sent.clear();
    (node, now)
}

fn flow(node: &Node, peer: u16) -> (Flow, u64, u64) {
    let progress = node.raft.progress(id(peer)).expect("it leads");
    (progress.flow, progress.matched.0, progress.next.0)
}

#[test]
fn progress_is_known_to_a_leader_of_its_peers() {
    let (node, now) = replicating();
    assert_eq!(flow(&node, 2), (Flow::Replicate, 1, 2));
    assert_eq!(node.raft.progress(id(2)).unwrap().heard, now);
    assert_eq!((node.raft.progress(id(1)), node.raft.progress(id(4))), (None, None));
    assert_eq!(Node::of(1, 3, Disk::default()).raft.progress(id(2)), None);
}

#[test]
fn a_peer_that_is_in_step_gets_entries_ahead_of_its_answers() {
    let (mut node, now) = replicating();
    for index in 2..5 {
        node.propose(now);
        assert_eq!(node.take_sent(2), [(5, append(at(index - 1, 5), 1, 1))]);
    }
    assert_eq!(flow(&node, 2), (Flow::Replicate, 1, 5));
}

#[test]
fn what_is_on_its_way_is_bounded() {
    let (mut node, now) = replicating();
    for _ in 0..2 * MAX_INFLIGHT_ENTRIES {
        node.propose(now);
    }
    let counts = |sent: Vec<(u64, Body)>| {
        let count = |(_, body): &(u64, Body)| if let Body::Append { count, .. } = body { u64::from(*count) } else { 0 };
        sent.iter().map(count).collect::<Vec<u64>>()
    };
    assert_eq!(counts(node.take_sent(2)).iter().sum::<u64>(), MAX_INFLIGHT_ENTRIES);
    // An answer makes room, and what waited goes out in full messages.
    node.sync_all(now);
    node.sent.clear();
    node.hear(now, 2, 5, accepted(1 + 100), &[]);
    let sent = counts(node.take_sent(2));
    assert_eq!((sent.iter().sum::<u64>(), sent[0]), (100, MAX_APPEND_ENTRIES as u64));
}

#[test]
fn a_slow_peer_holds_nobody_up() {
    let (mut node, now) = replicating();
    for index in 2..1_000 {
        node.propose(now);
        node.sync_all(now);
        node.hear(now, 2, 5, accepted(index), &[]);
        assert_eq!(node.committed as u64, index);
    }
    assert_eq!(flow(&node, 3), (Flow::Replicate, 1, 2 + MAX_INFLIGHT_ENTRIES));
}

#[test]
fn a_lone_commit_travels_alone() {
    let (mut node, now) = replicating();
    node.propose(now);
    node.sync_all(now);
    node.sent.clear();
    node.hear(now, 2, 5, accepted(2), &[]);
    assert_eq!(node.take_sent(2), [(5, append(at(2, 5), 0, 2))]);
    assert_eq!(node.take_sent(3), [(5, append(at(2, 5), 0, 2))]);
}

#[test]
fn a_peer_that_is_behind_is_found_by_terms_not_by_entries() {
    let (mut node, now) = leader(terms([1, 1, 2, 2, 2, 4, 4]));
    let mut peer = Node::of(3, 3, Disk::new(4, None, terms([1, 1, 2, 3, 3, 3, 3, 3, 3, 3, 3])));
    let mut probes = Vec::new();
    while flow(&node, 3).1 < 8 {
        for envelope in core::mem::take(&mut node.sent).iter().filter(|sent| sent.message.to == id(3)) {
            if let Body::Append { prev, .. } = envelope.message.body {
                probes.push(prev.index.0);
            }
            peer.receive(now, envelope).unwrap();
        }
        peer.sync_all(now);
        for envelope in core::mem::take(&mut peer.sent) {
            node.receive(now, &envelope).unwrap();
        }
    }
    assert_eq!(probes, [7, 5, 3]);
    assert_eq!(peer.disk.log, node.log);
}

#[test]
fn rejections_that_come_late_or_twice_change_nothing() {
    let (mut node, now) = leader(terms([1, 1, 1, 1]));
    let rejected = |index, hint| Body::AppendRejected { rejected: Index(index), hint };
    node.hear(now, 2, 5, rejected(4, at(2, 1)), &[]);
    assert_eq!(flow(&node, 2), (Flow::Probe, 0, 3));
    node.sent.clear();
    node.hear(now, 2, 5, rejected(4, at(2, 1)), &[]);
    assert_eq!((flow(&node, 2), node.take_sent(2)), ((Flow::Probe, 0, 3), vec![]));
    node.hear(now, 2, 5, accepted(5), &[]);
    node.hear(now, 2, 5, rejected(2, at(1, 1)), &[]);
    assert_eq!(flow(&node, 2), (Flow::Replicate, 5, 6));
}

#[test]
fn a_hint_may_say_anything() {
    for hint in [at(0, 0), at(0, 99), at(4, 1), at(3, 0), at(99, 99), at(u64::MAX >> 1, u64::MAX >> 1)] {
        let (mut node, now) = leader(terms([1, 1, 3, 3]));
        node.hear(now, 2, 5, Body::AppendRejected { rejected: Index(4), hint }, &[]);
        let (flow, matched, next) = flow(&node, 2);
        assert!(flow == Flow::Probe && matched == 0 && (1..=4).contains(&next), "{hint:?}: next {next}");
    }
}

#[test]
fn answers_never_go_back() {
    let (mut node, now) = replicating();
    for _ in 0..5 {
        node.propose(now);
    }
    node.sync_all(now);
    for (answer, matched) in [(3, 3), (2, 3), (6, 6), (1, 6), (6, 6)] {
        node.hear(now, 2, 5, accepted(answer), &[]);
        assert_eq!(flow(&node, 2), (Flow::Replicate, matched, 7));
    }
    assert_eq!(node.committed, 6);
}

#[test]
fn appends_that_were_lost_are_noticed_at_the_next_heartbeat() {
    let (mut node, now) = replicating();
    node.propose(now);
    node.propose(now);
    node.sync_all(now);
    let now = node.wait();
    node.sent.clear();
    node.hear(now, 2, 5, Body::HeartbeatReply { round: 2, verified: Index(1), wall_us: 0 }, &[]);
    assert_eq!(node.take_sent(2), [(5, append(at(1, 5), 2, 1))]);
}

#[test]
fn a_lost_answer_is_asked_for_again() {
    let (mut node, now) = replicating();
    node.propose(now);
    node.sync_all(now);
    let now = node.wait();
    node.sent.clear();
    node.hear(now, 2, 5, Body::HeartbeatReply { round: 2, verified: Index(2), wall_us: 0 }, &[]);
    assert_eq!(node.take_sent(2), [(5, append(at(2, 5), 0, 1))]);
}

#[test]
fn a_lost_probe_is_sent_again() {
    let (mut node, _) = leader(terms([1]));
    let first = node.take_sent(2);
    let now = node.wait();
    node.take_sent(2);
    node.hear(now, 2, 5, Body::HeartbeatReply { round: 2, verified: Index(0), wall_us: 0 }, &[]);
    assert_eq!(node.take_sent(2).last(), first.last());
}

#[test]
fn a_heartbeat_tells_a_peer_no_commit_that_it_may_not_have() {
    let (mut node, now) = replicating();
    node.propose(now);
    node.sync_all(now);
    node.hear(now, 2, 5, accepted(2), &[]);
    node.sent.clear();
    node.wait();
    let heartbeat = |commit| Body::Heartbeat { commit: Index(commit), round: 2 };
    assert_eq!((node.take_sent(2), node.take_sent(3)), (vec![(5, heartbeat(2))], vec![(5, heartbeat(1))]));
}

#[test]
fn a_connection_that_is_back_is_probed_at_once() {
    let (mut node, now) = replicating();
    node.propose(now);
    node.raft.handle_disconnected(now, id(2));
    node.poll();
    node.sent.clear();
    node.propose(now);
    assert_eq!(node.take_sent(2), []);
    node.raft.handle_connected(now, id(2));
    node.poll();
    let sent = node.take_sent(2);
    assert!(matches!(sent[0].1, Body::Heartbeat { .. }), "so that it knows its leader");
    assert_eq!(sent[1..], [(5, append(at(1, 5), 2, 1))]);
}

// The follower's side.

/// Node 2 of three, following node 1 in term 5, with entries of term 5 written and checked.
fn follower(count: u64) -> Node {
    let mut node = Node::of(2, 3, Disk::default());
    let log = vec![5; count as usize];
    node.hear(ms(1), 1, 5, append(at(0, 0), count as u16, 0), &entries(0, &log));
    node.sync_all(ms(2));
    node.sent.clear();
    node
}

#[test]
fn a_shorter_append_that_comes_late_removes_nothing() {
    let mut node = follower(5);
    for count in [0, 1, 2, 3] {
        node.hear(ms(3), 1, 5, append(at(1, 5), count, 0), &entries(1, &vec![5; count.into()]));
        node.sync_all(ms(3));
        assert_eq!((node.raft.last(), node.disk.log.len()), (at(5, 5), 5));
        assert_eq!(node.take_sent(1), [(5, accepted(5))]);
    }
}

#[test]
fn an_append_that_overlaps_takes_only_what_is_new() {
    let mut node = follower(3);
    let take = |node: &mut Node, prev, count: u16| {
        let message = Message {
            from: id(1),
            to: id(2),
            incarnation: raft_net::options(1, 3, 1).incarnation,
            term: Term(5),
            body: append(at(prev, 5), count, 0),
        };
        let entries = entries(prev, &vec![5; count.into()]);
        node.raft.handle_message(ms(3), &message, &entries, &[], &node.disk).unwrap()
    };
    assert_eq!(take(&mut node, 1, 2), Taken::Nothing);
    assert_eq!(take(&mut node, 1, 4), Taken::Entries { first: Index(4), last: Index(5) });
    assert_eq!(take(&mut node, 1, 4), Taken::Nothing);
    assert_eq!(take(&mut node, 9, 1), Taken::Nothing);
    assert_eq!(take(&mut node, 5, 1), Taken::Entries { first: Index(6), last: Index(6) });
}

#[test]
fn appends_out_of_order_are_refused_and_taken_when_the_gap_is_filled() {
    let mut node = follower(1);
    node.hear(ms(3), 1, 5, append(at(3, 5), 1, 0), &entries(3, &[5]));
    assert_eq!(node.take_sent(1), [(5, Body::AppendRejected { rejected: Index(3), hint: at(1, 5) })]);
    node.hear(ms(3), 1, 5, append(at(1, 5), 2, 0), &entries(1, &[5, 5]));
    node.hear(ms(3), 1, 5, append(at(3, 5), 1, 0), &entries(3, &[5]));
    node.sync_all(ms(4));
    assert_eq!(node.take_sent(1), [(5, accepted(3)), (5, accepted(4))]);
}

#[test]
fn more_changes_of_term_than_are_remembered_are_taken_as_far_as_they_are_durable() {
    let count = MAX_TERM_RUNS as u64 + 10;
    let mut node = Node::of(2, 3, Disk::default());
    let all: Vec<u64> = (1..=count).collect();
    let term = count;
    let mut prev = 0;
    for reached in [MAX_TERM_RUNS as u64, count] {
        for chunk in all[prev as usize..].chunks(MAX_APPEND_ENTRIES) {
            node.hear(ms(1), 1, term, append(at(prev, prev), chunk.len() as u16, 0), &entries(prev, chunk));
            prev = node.raft.last().index.0;
        }
        assert_eq!(prev, reached, "the rest waits for the disk");
        node.sync_all(ms(2));
    }
    assert_eq!((node.raft.last(), node.disk.log.len() as u64), (at(count, count), count));
    for index in 1..=count {
        assert_eq!(node.raft.entry_term(Index(index), &node.disk), Some(Term(index)));
    }
}

#[test]
fn what_was_applied_and_forgotten_is_taken_to_agree() {
    struct Horizon;
    impl LogView for Horizon {
        fn term(&self, _index: Index) -> Option<Term> {
            None
        }
    }
    let mut disk = Disk::new(5, None, terms([1, 1, 2, 2, 5]));
    disk.applied = 4;
    let mut node = Node::of(2, 3, disk);
    let mut hear = |prev: LogPosition, body_entries: &[u64]| {
        let body = append(prev, body_entries.len() as u16, 0);
        let incarnation = raft_net::options(1, 3, 1).incarnation;
        let message = Message { from: id(1), to: id(2), incarnation, term: Term(6), body };
        let taken =
            node.raft.handle_message(ms(1), &message, &entries(prev.index.0, body_entries), &[], &Horizon).unwrap();
        node.raft.poll_output(&Horizon);
        if let Taken::Entries { first, last } = taken { Some((first.0, last.0)) } else { None }
    };
    assert_eq!(hear(at(2, 1), &[2, 2]), None);
    assert_eq!(hear(at(2, 1), &[2, 2, 6, 6]), Some((5, 6)), "entry 5 was not applied, and is replaced");
}

#[test]
fn a_follower_far_behind_catches_up_while_the_leader_goes_on() {
    let mut world = World::new(3);
    let leader = world.elect();
    let away = leader % 3 + 1;
    world.run_until(World::is_level);
    world.stop(away);
    for _ in 0..2_000 {
        world.propose(leader);
    }
    world.run_for(200);
    world.start(away);
    for _ in 0..50 {
        world.propose(leader);
        world.run_for(1);
    }
    world.run_until(World::is_level);
    assert_eq!(world.leader(), Some(leader));
}
