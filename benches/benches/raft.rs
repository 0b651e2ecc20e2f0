//! One step of consensus: what the machine costs for each entry, each heartbeat, and each look that finds nothing.

use core::hint::black_box;
use criterion::{Criterion, criterion_group, criterion_main};
use eventstream_core::id::{Incarnation, Index, LogTime, NodeId, Term};
use eventstream_core::raft::{
    Body, Configuration, EntryMeta, Faults, LogPosition, LogView, Member, Message, Output, Raft, RaftOptions, Restored,
    Role, Token,
};
use eventstream_core::time::Instant;

/// A store that is never asked: the machine remembers the terms.
struct Unasked;

impl LogView for Unasked {
    fn term(&self, _index: Index) -> Option<Term> {
        None
    }
}

fn member(node: u16) -> Member {
    Member { node: NodeId(node), incarnation: Incarnation([node as u8; 16]) }
}

fn raft() -> Raft {
    let Member { node, incarnation } = member(1);
    let configuration = Configuration::new(&[1, 2, 3].map(member)).expect("three members");
    let options = RaftOptions {
        node,
        incarnation,
        membership: configuration.into(),
        seed: 1,
        is_witness: false,
        faults: Faults::NONE,
    };
    // One that was cleared: the votes of two are enough for it.
    let restored = Restored { suspect: false, ..Restored::default() };
    Raft::new(options, &restored, Instant::ZERO).expect("an empty disk")
}

fn message(from: u16, body: Body) -> Message {
    let Member { node, incarnation } = member(from);
    Message { from: node, to: NodeId(1), incarnation, term: Term(1), body }
}

fn hear(raft: &mut Raft, from: u16, body: Body, entries: &[EntryMeta]) {
    raft.handle_message(raft.next_deadline(), &message(from, body), entries, &[], &Unasked).expect("an honest message");
}

/// Does what is to be done and returns the last write, as the host's loop would.
fn poll(raft: &mut Raft) -> Option<Token> {
    let mut token = None;
    while let Some(output) = raft.poll_output(&Unasked) {
        if let Output::Persist(write) = black_box(output) {
            token = Some(write.token);
        }
    }
    token
}

fn sync(raft: &mut Raft) {
    while let Some(token) = poll(raft) {
        raft.handle_persisted(raft.next_deadline(), token);
    }
}

fn leader() -> Raft {
    let mut raft = raft();
    raft.handle_timeout(raft.next_deadline());
    hear(&mut raft, 2, Body::PreVoteReply { granted: true }, &[]);
    sync(&mut raft);
    hear(&mut raft, 2, Body::VoteReply { granted: true, wall_us: 0 }, &[]);
    sync(&mut raft);
    assert_eq!(raft.role(), Role::Leader);
    raft
}

fn steps(c: &mut Criterion) {
    let mut group = c.benchmark_group("raft");
    let mut raft = leader();
    group.bench_function("leader: one entry to two peers, written, accepted by both, committed", |b| {
        b.iter(|| {
            let now = raft.next_deadline();
            let LogPosition { index, .. } = raft.propose(now).expect("it leads");
            let token = poll(&mut raft).expect("a write");
            hear(&mut raft, 2, Body::AppendAccepted { matched: index }, &[]);
            raft.handle_persisted(now, token);
            poll(&mut raft);
            hear(&mut raft, 3, Body::AppendAccepted { matched: index }, &[]);
            poll(&mut raft);
            assert_eq!(raft.commit(), index);
        });
    });
    group.bench_function("leader: nothing to do", |b| b.iter(|| black_box(raft.poll_output(&Unasked))));
    let mut raft = self::raft();
    group.bench_function("follower: an append of one entry, written and answered", |b| {
        b.iter(|| {
            let prev = raft.last();
            let entry = EntryMeta { index: prev.index.next(), term: Term(1), log_time: LogTime(0) };
            hear(&mut raft, 2, Body::Append { prev, count: 1, commit: prev.index }, &[entry]);
            let token = poll(&mut raft).expect("a write");
            raft.handle_persisted(raft.next_deadline(), token);
            poll(&mut raft);
        });
    });
    group.bench_function("follower: a heartbeat, answered", |b| {
        b.iter(|| {
            hear(&mut raft, 2, Body::Heartbeat { commit: Index(0), round: 1 }, &[]);
            poll(&mut raft);
        });
    });
    group.finish();
}

criterion_group!(benches, steps);
criterion_main!(benches);
