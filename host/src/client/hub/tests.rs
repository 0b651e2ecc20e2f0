use super::*;
use crate::checksum::CRC;
use eventstream_core::id::{Epoch, Incarnation, Offset};
use eventstream_core::receipt::{Durability, RunReceipt};
use eventstream_core::wire::{LeaderChanged, List, Member, ProducerOpened, Receipt, peek};

const PRODUCER: ProducerId = ProducerId([5; 16]);
const T0: Instant = Instant::from_micros(1_000_000);

const LIMITS: Limits = Limits { events: 1_000, bytes: 1 << 20, patience: Duration::from_secs(5) };

/// A hub with links to nodes 1 and 2, both connected, and node 1 leading term 1.
fn hub(max_inflight: u32) -> Hub {
    let mut hub = Hub::new(LIMITS, &["a:1".into(), "b:1".into()]);
    (0..2).for_each(|link| welcome(&mut hub, link, max_inflight));
    hub
}

/// Node 1 answers on link 0, node 2 on link 1; there is a third.
fn welcome(hub: &mut Hub, link: usize, max_inflight: u32) {
    let member = |(node, address)| Member { node: NodeId(node), incarnation: Incarnation([7; 16]), address };
    let members = [(1, "one:1"), (2, "b:1"), (3, "c:1")].map(member);
    let welcome = Welcome {
        version: 1,
        cluster: ClusterId([1; 16]),
        node: NodeId(link as u16 + 1),
        incarnation: Incarnation([7; 16]),
        term: Term(1),
        leader: Some(NodeId(1)),
        max_inflight,
        members: List::of(&members),
    };
    hub.handle_welcome(T0, link, &welcome).expect("our cluster");
}

/// What leaves over a link: the batch ids, or the numbers of requests.
fn transmit(hub: &mut Hub, link: usize) -> Vec<u64> {
    let mut out = Vec::new();
    hub.poll_transmit(T0, 5, link, 1 << 20, &mut out);
    let (mut at, mut sent) = (0, Vec::new());
    while let Some(header) = peek(&out[at..], CRC).expect("good frames") {
        let payload = &out[at + 48..at + header.frame_len() - 8];
        sent.push(match Control::decode(header.kind, payload) {
            Ok(Control::OpenProducer(open)) => open.request,
            _ => header.batch_id,
        });
        at += header.frame_len();
    }
    sent
}

fn leader_changed(hub: &mut Hub, term: u64, leader: u16) {
    let changed = LeaderChanged { term: Term(term), leader: Some(NodeId(leader)) };
    hub.handle_control(T0, 0, &Control::LeaderChanged(changed)).expect("known");
}

fn opened(hub: &mut Hub, request: u64, epoch: u32) {
    let opened = ProducerOpened { request, producer: PRODUCER, epoch: Epoch(epoch), next_sequence: Sequence(0) };
    hub.handle_control(T0, 0, &Control::ProducerOpened(opened)).expect("known");
}

/// Opens a producer and gives its number.
fn open(hub: &mut Hub) -> Number {
    let mut answer = hub.open_producer(T0, PRODUCER, Start::Next);
    let request = transmit(hub, 0)[0];
    opened(hub, request, 1);
    answer.try_recv().expect("answered").expect("opened").0
}

fn push(hub: &mut Hub, number: Number, count: usize) {
    for _ in 0..count {
        hub.push(T0, 5, number, ("t", b"", b"0123456789"), &mut None).expect("room");
    }
}

fn accept(hub: &mut Hub, batch: u64, events: u16) {
    let runs = [RunReceipt::accepted(events, Offset(0))];
    let receipt = Receipt {
        batch,
        index: eventstream_core::id::Index(1),
        term: Term(1),
        durability: Durability::Majority,
        runs: List::of(&runs),
    };
    hub.handle_control(T0, 0, &Control::Receipt(receipt)).expect("fits");
}

#[test]
fn an_epoch_from_an_earlier_request_is_not_taken() {
    let mut hub = hub(1 << 20);
    let mut answer = hub.open_producer(T0, PRODUCER, Start::Next);
    let first = transmit(&mut hub, 0)[0];
    leader_changed(&mut hub, 2, 2);
    assert_eq!(transmit(&mut hub, 0), [], "node 1 leads no more");
    let second = transmit(&mut hub, 1)[0];
    // The second request fences whatever epoch the first was given.
    opened(&mut hub, first, 1);
    assert!(answer.try_recv().is_err());
    opened(&mut hub, second, 2);
    assert!(answer.try_recv().is_ok());
}

#[test]
fn producers_share_what_the_node_lets_a_client_have_unanswered() {
    let mut hub = hub(2_200);
    let (one, two) = (open(&mut hub), open(&mut hub));
    push(&mut hub, one, 64);
    push(&mut hub, two, 128);
    let sent = transmit(&mut hub, 0);
    assert_eq!(sent.len(), 2, "batches of about a kilobyte");
    accept(&mut hub, sent[0], 64);
    assert_eq!(transmit(&mut hub, 0).len(), 1, "an answer makes room for another producer's batch");
}

#[test]
fn one_batch_is_always_let_through() {
    let mut hub = hub(10);
    let number = open(&mut hub);
    push(&mut hub, number, 64);
    assert_eq!(transmit(&mut hub, 0).len(), 1);
}

#[test]
fn an_answer_to_a_producer_that_is_gone_is_not_taken_for_the_next_ones() {
    let mut hub = hub(1 << 20);
    let gone = open(&mut hub);
    push(&mut hub, gone, 1);
    let old = transmit(&mut hub, 0)[0];
    hub.close_producer(gone);
    let next = open(&mut hub);
    assert_eq!(next, gone, "the number is used again");
    push(&mut hub, next, 1);
    let new = transmit(&mut hub, 0)[0];
    assert_ne!(old, new);
    accept(&mut hub, old, 1);
    assert_eq!(hub.window(next).expect("open").unanswered(), 1);
    accept(&mut hub, new, 1);
    assert_eq!(hub.window(next).expect("open").unanswered(), 0);
}

#[test]
fn whoever_has_something_to_do_is_woken_once() {
    let mut hub = hub(1 << 20);
    let number = open(&mut hub);
    let (_, _) = (hub.poll_wake(), hub.poll_rearm());
    assert_eq!(hub.arm(), Instant::FAR_FUTURE);
    push(&mut hub, number, 1);
    assert_eq!((hub.poll_wake(), hub.poll_wake()), (Some(0), None));
    assert!(hub.poll_rearm(), "patience has begun");
    assert_eq!(hub.arm(), T0 + Duration::from_secs(5));
    push(&mut hub, number, 1);
    assert!(!hub.poll_rearm(), "the first event is the one that waits longest");
}

#[test]
fn members_get_a_link_once_every_server_that_was_given_has_been_heard_of() {
    let mut hub = Hub::new(LIMITS, &["a:1".into(), "b:1".into()]);
    welcome(&mut hub, 0, 1 << 20);
    assert_eq!(hub.link_count(), 2, "b:1 may be node 3");
    hub.handle_disconnected(T0, 1, &LinkError::Silent);
    // Node 1 is known by its number, node 2 by its address.
    assert_eq!((hub.link_count(), hub.address(2)), (3, "c:1"));
    assert!(hub.poll_rearm(), "somebody has to serve the new link");
}
