//! No peer can make the machine panic, and what is wrong with a message is said by name.

mod raft_net;

use eventstream_core::config::MAX_COUNTER;
use eventstream_core::id::{Incarnation, Index, LogTime, NodeId, Term};
use eventstream_core::raft::{Body, EntryMeta, LogPosition, Message, Rejected, Role};
use eventstream_core::time::Instant;
use proptest::prelude::*;
use raft_net::{Disk, Envelope, Node, at, entries, id, ms, options, terms};

fn append(prev: LogPosition, count: u16, commit: u64) -> Body {
    Body::Append { prev, count, commit: Index(commit) }
}

fn message(from: u16, term: u64, body: Body) -> Message {
    let incarnation = Incarnation([from as u8; 16]);
    Message { from: id(from), to: id(1), incarnation, term: Term(term), body }
}

fn answer(node: &mut Node, message: Message, entries: Vec<EntryMeta>) -> Result<(), Rejected> {
    node.receive(ms(2), &Envelope::new(message, entries))
}

/// Node 1 of three, following node 2 in term 5: three entries, of which two are committed.
fn follower() -> Node {
    let mut node = Node::of(1, 3, Disk::new(5, Some(2), terms([1, 5])));
    node.hear(ms(1), 2, 5, append(at(2, 5), 1, 2), &entries(2, &[5]));
    node.sync_all(ms(1));
    node.sent.clear();
    node
}

/// A rejected message leaves no trace but its name.
#[track_caller]
fn assert_rejected(mut node: Node, message: Message, entries: Vec<EntryMeta>, why: Rejected) {
    let before = (node.raft.last(), node.raft.commit(), node.raft.hard_state(), node.raft.role());
    assert_eq!(answer(&mut node, message, entries), Err(why));
    assert_eq!((node.raft.last(), node.raft.commit(), node.raft.hard_state(), node.raft.role()), before);
    assert_eq!((node.sent.len(), node.open_writes()), (0, 0));
}

#[test]
fn a_message_for_another_or_of_nobody_is_refused() {
    let heartbeat = Body::Heartbeat { commit: Index(0), round: 1 };
    let elsewhere = Message { to: id(3), ..message(2, 5, heartbeat) };
    assert_rejected(follower(), elsewhere, vec![], Rejected::NotForMe { to: id(3) });
    assert_rejected(follower(), message(4, 5, heartbeat), vec![], Rejected::NotAPeer { from: id(4) });
    assert_rejected(follower(), message(1, 5, heartbeat), vec![], Rejected::NotAPeer { from: id(1) });
}

#[test]
fn a_wiped_node_cannot_speak_under_its_old_name() {
    let other = Incarnation([9; 16]);
    for body in [Body::VoteReply { granted: true, wall_us: 0 }, Body::Vote { last: at(9, 9), transfer: true }] {
        let wiped = Message { incarnation: other, ..message(3, 9, body) };
        let why = Rejected::OtherIncarnation { from: id(3), incarnation: other };
        assert_rejected(follower(), wiped, vec![], why);
    }
}

#[test]
fn numbers_that_the_wire_does_not_carry_are_refused() {
    let over = MAX_COUNTER + 1;
    let bodies = [
        append(at(over, 1), 0, 0),
        append(at(u64::MAX, 1), u16::MAX, 0),
        append(at(1, over), 0, 0),
        append(at(1, 1), 0, over),
        Body::Vote { last: at(over, 1), transfer: false },
        Body::PreVote { last: at(1, over) },
        Body::AppendAccepted { matched: Index(over) },
        Body::AppendRejected { rejected: Index(over), hint: at(0, 0) },
        Body::AppendRejected { rejected: Index(1), hint: at(over, 0) },
        Body::Heartbeat { commit: Index(over), round: 1 },
        Body::HeartbeatReply { round: over, verified: Index(0), wall_us: 0 },
    ];
    for body in bodies {
        assert_rejected(follower(), message(2, 5, body), vec![], Rejected::OutOfRange);
    }
    assert_rejected(follower(), message(2, over, Body::TimeoutNow), vec![], Rejected::OutOfRange);
}

#[test]
fn entries_that_were_not_announced_are_refused() {
    let cases = [
        (append(at(3, 5), 2, 0), entries(3, &[5])),
        (append(at(3, 5), 0, 0), entries(3, &[5])),
        (append(at(3, 5), 1, 0), entries(4, &[5])),
        (append(at(3, 5), 2, 0), [entries(3, &[5]), entries(5, &[5])].concat()),
        (append(at(3, 5), 2, 0), entries(3, &[5, 4])),
        (append(at(3, 5), 1, 0), entries(3, &[4])),
        (append(at(3, 5), 1, 0), entries(3, &[6])),
        (append(at(3, 6), 1, 0), entries(3, &[6])),
        (Body::Heartbeat { commit: Index(0), round: 1 }, entries(3, &[5])),
    ];
    for (body, entries) in cases {
        assert_rejected(follower(), message(2, 5, body), entries, Rejected::Entries);
    }
}

#[test]
fn a_second_leader_is_named() {
    let heartbeat = Body::Heartbeat { commit: Index(0), round: 1 };
    let why = Rejected::SecondLeader { term: Term(5) };
    assert!(why.is_broken_promise());
    assert_rejected(follower(), message(3, 5, heartbeat), vec![], why);
    assert_rejected(follower(), message(3, 5, append(at(0, 0), 0, 0)), vec![], why);
}

#[test]
fn what_is_committed_or_checked_is_not_replaced() {
    let contradiction = |index| Rejected::Contradiction { index: Index(index) };
    assert!(contradiction(1).is_broken_promise());
    let cases = [
        (2, 5, append(at(1, 4), 0, 0), vec![], 1),
        (2, 5, append(at(0, 0), 2, 0), entries(0, &[1, 4]), 2),
        (2, 5, append(at(2, 5), 1, 0), entries(2, &[5]), 0),
        (3, 6, append(at(1, 1), 1, 0), entries(1, &[6]), 2),
        (3, 6, append(at(2, 5), 1, 0), entries(2, &[6]), 0),
    ];
    for (from, term, body, entries, index) in cases {
        let mut node = follower();
        let result = answer(&mut node, message(from, term, body), entries);
        assert_eq!(result, if index == 0 { Ok(()) } else { Err(contradiction(index)) }, "{body:?}");
    }
}

#[test]
fn a_peer_that_claims_more_than_its_leader_has_is_named() {
    let mut node = Node::of(1, 3, Disk::default());
    let now = node.wait();
    node.hear(now, 2, 1, Body::PreVoteReply { granted: true }, &[]);
    node.sync_all(now);
    node.hear(now, 2, 1, Body::VoteReply { granted: true, wall_us: 0 }, &[]);
    node.sync_all(now);
    node.sent.clear();
    let claim = message(2, 1, Body::AppendAccepted { matched: Index(2) });
    assert_rejected(node, claim, vec![], Rejected::BeyondLog { matched: Index(2) });
}

/// What may happen to a machine.
#[derive(Clone, Debug)]
enum Event {
    Message(Message, Vec<EntryMeta>),
    Wait,
    Pass(u64),
    Sync,
    Propose,
    Connected(u16),
    Disconnected(u16),
    Reset(u16),
}

fn small() -> impl Strategy<Value = u64> {
    prop_oneof![20 => 0..8_u64, 1 => Just(MAX_COUNTER), 1 => Just(u64::MAX)]
}

fn position() -> impl Strategy<Value = LogPosition> {
    (small(), small()).prop_map(|(index, term)| at(index, term))
}

fn body() -> impl Strategy<Value = Body> {
    let index = || small().prop_map(Index);
    prop_oneof![
        position().prop_map(|last| Body::PreVote { last }),
        any::<bool>().prop_map(|granted| Body::PreVoteReply { granted }),
        (position(), any::<bool>()).prop_map(|(last, transfer)| Body::Vote { last, transfer }),
        any::<bool>().prop_map(|granted| Body::VoteReply { granted, wall_us: 0 }),
        index().prop_map(|matched| Body::AppendAccepted { matched }),
        (index(), position()).prop_map(|(rejected, hint)| Body::AppendRejected { rejected, hint }),
        (index(), small()).prop_map(|(commit, round)| Body::Heartbeat { commit, round }),
        (small(), index()).prop_map(|(round, verified)| Body::HeartbeatReply { round, verified, wall_us: 0 }),
        Just(Body::TimeoutNow),
    ]
}

/// An append whose entries are nearly always in order.
fn with_entries() -> impl Strategy<Value = (Body, Vec<EntryMeta>)> {
    let steps = prop::collection::vec(0..3_u64, 0..5);
    (position(), small(), steps, 0..20_u8).prop_map(|(prev, commit, steps, odd)| {
        let mut term = prev.term.0;
        let mut found: Vec<EntryMeta> = Vec::new();
        for (place, step) in steps.iter().enumerate() {
            let index = prev.index.0.saturating_add(1 + place as u64);
            term = term.saturating_add(*step);
            found.push(EntryMeta { index: Index(index), term: Term(term), log_time: LogTime(0) });
        }
        let count = found.len() as u16 + u16::from(odd == 0);
        (append(prev, count, commit), found)
    })
}

fn event() -> impl Strategy<Value = Event> {
    let contents = prop_oneof![body().prop_map(|body| (body, vec![])), with_entries()];
    let message = (1..5_u16, 0..20_u8, small(), contents).prop_map(|(from, odd, term, (body, entries))| {
        let mut message = message(from, term, body);
        message.incarnation.0[0] ^= u8::from(odd == 0);
        message.to = if odd == 1 { NodeId(2) } else { message.to };
        Event::Message(message, entries)
    });
    prop_oneof![
        12 => message,
        2 => Just(Event::Wait),
        1 => (0..200_000_u64).prop_map(Event::Pass),
        4 => Just(Event::Sync),
        1 => Just(Event::Propose),
        1 => (0..5_u16).prop_map(Event::Connected),
        1 => (0..5_u16).prop_map(Event::Disconnected),
        1 => (0..5_u16).prop_map(Event::Reset),
    ]
}

fn happen(node: &mut Node, now: &mut Instant, event: Event) {
    match event {
        Event::Message(message, entries) => {
            _ = node.receive(*now, &Envelope::new(message, entries));
        }
        Event::Wait => {
            let next = node.raft.next_deadline();
            if next < Instant::FAR_FUTURE {
                *now = next.max(*now);
                node.timeout(*now);
            }
        }
        Event::Pass(micros) => *now += eventstream_core::time::Duration::from_micros(micros),
        Event::Sync => {
            node.sync(*now);
        }
        Event::Propose if node.raft.role() == Role::Leader => {
            node.propose(*now);
        }
        Event::Propose => assert!(node.raft.propose(*now).is_err()),
        Event::Connected(peer) => node.raft.handle_connected(*now, id(peer)),
        Event::Disconnected(peer) => node.raft.handle_disconnected(*now, id(peer)),
        Event::Reset(peer) => node.raft.handle_reset(*now, id(peer)),
    }
    node.poll();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_peers_say_makes_a_member_panic_or_take_back_what_it_said(
        log in prop::collection::vec(0..3_u64, 0..5),
        size in 1..4_u16,
        events in prop::collection::vec(event(), 1..120),
    ) {
        let mut term = 1;
        let log: Vec<Term> = log.iter().map(|step| { term += step; Term(term) }).collect();
        let mut node = Node::new(options(1, size, 7), Disk::new(term, None, log), Instant::ZERO);
        let mut now = Instant::ZERO;
        for event in events {
            let (hard_state, commit) = (node.raft.hard_state(), node.raft.commit());
            let committed = node.log[..node.committed].to_vec();
            happen(&mut node, &mut now, event);
            let after = node.raft.hard_state();
            prop_assert!(after.term >= hard_state.term);
            prop_assert!(after.term > hard_state.term || hard_state.vote.is_none() || after.vote == hard_state.vote);
            prop_assert!(node.raft.commit() >= commit && node.raft.commit() <= node.raft.last().index);
            prop_assert!(node.log.starts_with(&committed), "a committed entry was replaced");
            prop_assert!(node.raft.durable() <= node.raft.last().index);
        }
    }
}
