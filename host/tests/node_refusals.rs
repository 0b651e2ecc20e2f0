//! Everything that a node refuses, sent while another client publishes: the sender hears why where it can be told, its
//! connection is closed where its frames are wrong, the other one's acknowledgements go on, and the node has counted exactly
//! what it refused. Which case is where is in `docs/testing.md`.

mod node_support;

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use core::time::Duration;
use eventstream_core::batch::{BatchBuilder, Event, Source};
use eventstream_core::config::Parameters;
use eventstream_core::id::{ClusterId, Epoch, Incarnation, Index, NodeId, Offset, ProducerId, Sequence, ShardId, Term};
use eventstream_core::raft::{Body, Message};
use eventstream_core::receipt::RunRefusal;
use eventstream_core::wire::{
    Control, HEADER_LEN, Hello, Kind, OVERHEAD, Ping, Refusal, Role, StartAt, VERSION, field,
};
use eventstream_host::checksum::CRC;
use eventstream_host::identity::Identity;
use node_support::{Client, Cluster, Counted, decode, payloads};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

/// Acknowledgements that have to come while something is refused.
const ACKS: u64 = 20;

/// Somebody who publishes all the time, a batch after the other.
struct Publisher {
    acks: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Publisher {
    fn start(cluster: &Cluster) -> Self {
        let mut client = cluster.client(cluster.leader());
        client.open_producer(100);
        let (acks, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, stopped) = (Arc::clone(&acks), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let mut offset = 0;
            while !stopped.load(Relaxed) {
                client.publish("good", &payloads("good", 3));
                let runs = client.receipt().2;
                assert_eq!((runs[0].accepted, runs[0].first_offset), (3, Offset(offset)), "{:?}", runs[0]);
                offset += 3;
                counted.fetch_add(1, Relaxed);
            }
        });
        Self { acks, stop, thread: Some(thread) }
    }

    /// Waits for acknowledgements of what is published from now on.
    fn goes_on(&self) {
        // One of them may have been under way.
        let enough = self.acks.load(Relaxed) + ACKS + 1;
        while self.acks.load(Relaxed) < enough {
            assert!(!self.thread.as_ref().is_some_and(JoinHandle::is_finished), "the publisher has failed");
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take()
            && !thread::panicking()
        {
            thread.join().expect("every event of the publisher was acknowledged");
        }
    }
}

/// A node, somebody who publishes there, and what it counts.
fn busy_node() -> (Cluster, Publisher, Counted) {
    let cluster = Cluster::start(1);
    let publisher = Publisher::start(&cluster);
    let counted = Counted::at(&cluster, 0);
    (cluster, publisher, counted)
}

/// A batch of two events, as a client would send it.
fn batch() -> Vec<u8> {
    let mut builder = BatchBuilder::new(vec![0; 1_000]);
    for sequence in 0..2 {
        let source = Source::Producer {
            producer: ProducerId([9; 16]),
            epoch: Epoch(1),
            sequence: Sequence(sequence),
            after_gap: false,
        };
        let event = Event { topic: "bad", source, time_us: 1, key: b"key", payload: b"a payload" };
        builder.push(&event).expect("room");
    }
    let (mut frame, len) = builder.finish(ShardId(0), 1, 1, CRC);
    frame.truncate(len);
    frame
}

/// Makes the checksums of a frame right again.
fn reseal(frame: &mut [u8]) {
    let payload = CRC.of(&frame[HEADER_LEN..frame.len() - (OVERHEAD - HEADER_LEN)]);
    frame[40..44].copy_from_slice(&payload.to_le_bytes());
    let checked = CRC.of(&frame[field::CHECKED]);
    frame[44..48].copy_from_slice(&checked.to_le_bytes());
}

/// A whole ping.
fn ping() -> Vec<u8> {
    let mut frame = vec![0; 200];
    let len = Control::Ping(Ping { number: 1 }).encode(ShardId(0), &mut frame, CRC).expect("a good message");
    frame.truncate(len);
    frame
}

/// Sends `bytes` on a connection of its own; says why they were refused.
fn refused(cluster: &Cluster, bytes: &[u8]) -> Refusal {
    let mut client = cluster.client(0);
    client.try_send(bytes);
    let refusal = client.refusal();
    assert!(client.connection_ends());
    refusal
}

#[test]
fn a_wrong_field_of_a_header() {
    let (cluster, publisher, mut counted) = busy_node();
    // Offset, what stands there (the checksums are right), and what is counted.
    let cases: [(&str, usize, &[u8], &str); 13] = [
        ("magic", 0, &[0xEE], "frame_magic"),
        ("version 0", 4, &[0], "frame_version"),
        ("version 2", 4, &[2], "frame_version"),
        ("kind 0", 5, &[0], "frame_kind"),
        ("kind 15", 5, &[15], "frame_kind"),
        ("kind 255", 5, &[255], "frame_kind"),
        ("flags", 6, &[0, 1], "frame_flags"),
        ("no event", 10, &[0, 0], "frame_event_count"),
        ("one event more than there are", 10, &[3, 0], "batch_malformed"),
        ("65 events", 10, &[65, 0], "frame_event_count"),
        ("a payload that is too long", 12, &[1, 128, 0, 0], "frame_payload_length"),
        ("a batch id beyond the limit", 16, &[255; 8], "frame_number"),
        ("a term", 24, &[1], "frame_stamp"),
    ];
    for (what, at, bytes, counter) in cases {
        let mut frame = batch();
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        reseal(&mut frame);
        assert_eq!(refused(&cluster, &frame), Refusal::Malformed, "{what}");
        counted.assert_rise(&[(counter, 1)], what);
        publisher.goes_on();
    }
    let cases = [
        ("payload checksum", 40, "frame_payload_checksum"),
        ("header checksum", 44, "frame_header_checksum"),
        ("end marker", batch().len() - 1, "frame_end_marker"),
    ];
    for (what, at, counter) in cases {
        let mut frame = batch();
        frame[at] ^= 1;
        // The checksum of the payload is in what that of the header covers.
        let covered = CRC.of(&frame[field::CHECKED]).to_le_bytes();
        if at == 40 {
            frame[44..48].copy_from_slice(&covered);
        }
        assert_eq!(refused(&cluster, &frame), Refusal::Malformed, "{what}");
        counted.assert_rise(&[(counter, 1)], what);
        publisher.goes_on();
    }
    let mut short = batch();
    short[12..16].copy_from_slice(&1_u32.to_le_bytes());
    reseal(&mut short);
    assert_eq!(refused(&cluster, &short), Refusal::Malformed, "a payload that is longer than its length");
    counted.assert_rise(&[("frame_end_marker", 1)], "a payload that is longer than its length");
    publisher.goes_on();
}

#[test]
fn any_byte_of_a_payload_that_is_wrong_with_a_right_checksum() {
    let (cluster, publisher, mut counted) = busy_node();
    let good = batch();
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    for at in HEADER_LEN..good.len() - (OVERHEAD - HEADER_LEN) {
        let mut frame = good.clone();
        frame[at] ^= 0x80;
        reseal(&mut frame);
        let mut client = cluster.client(0);
        client.send(&frame);
        // A byte of a key or a payload may be anything; the producer is not known then.
        let answer = client.next_frame().expect("an answer");
        match decode(&answer) {
            Control::Refused(refused) => {
                assert_eq!(refused.reason, Refusal::Malformed, "byte {at}");
                *expected.entry("batch_malformed".to_owned()).or_default() += 1;
            }
            Control::Receipt(receipt) => {
                for refusal in receipt.runs.iter().filter_map(|run| run.refused) {
                    let counter = match refusal {
                        RunRefusal::ProducerUnknown => "run_producer_unknown",
                        RunRefusal::SequenceGap { .. } => "run_sequence_gap",
                        RunRefusal::Fenced { .. } => "run_fenced",
                        other => panic!("byte {at}: {other:?}"),
                    };
                    *expected.entry(counter.to_owned()).or_default() += 1;
                }
            }
            other => panic!("byte {at}: {other:?}"),
        }
    }
    assert!(expected["batch_malformed"] > 1, "{expected:?}");
    assert_eq!(counted.rise(), expected);
    publisher.goes_on();
}

#[test]
fn a_frame_that_is_cut_off_at_any_byte() {
    let (cluster, publisher, mut counted) = busy_node();
    let frame = batch();
    for end in 1..frame.len() {
        let mut client = cluster.client(0);
        client.send(&frame[..end]);
        client.say_no_more();
        assert!(client.connection_ends(), "cut at {end}");
        let mut stranger = Client::dial(cluster.addresses[0]);
        stranger.send(&frame[..end]);
        stranger.say_no_more();
        assert!(stranger.connection_ends(), "cut at {end}");
    }
    let ends = frame.len() as u64 - 1;
    counted.assert_rise(&[("frame_cut_off", 2 * ends)], "frames that were cut off");
    for mut client in [cluster.client(0), Client::dial(cluster.addresses[0])] {
        client.say_no_more();
        assert!(client.connection_ends());
    }
    counted.assert_rise(&[], "a connection that ends between frames");
    publisher.goes_on();
}

#[test]
fn noise() {
    let (cluster, publisher, mut counted) = busy_node();
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let noise: Vec<u8> = core::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .take(1 << 17)
    .flatten()
    .collect();
    assert_eq!(noise.len(), 1 << 20);
    let mut stranger = Client::dial(cluster.addresses[0]);
    stranger.try_send(&noise);
    assert!(stranger.connection_ends());
    counted.assert_rise(&[("frame_magic", 1)], "noise instead of a hello");
    publisher.goes_on();
    let mut known = cluster.client(0);
    known.try_send(&noise);
    assert!(known.connection_ends());
    counted.assert_rise(&[("frame_magic", 1)], "noise after the handshake");
    publisher.goes_on();
}

#[test]
fn an_event_that_is_larger_than_the_cluster_takes() {
    let parameters = Parameters { event_payload: 100, ..Parameters::default() };
    let cluster = Cluster::of(1, parameters, |_| {});
    let publisher = Publisher::start(&cluster);
    let mut counted = Counted::at(&cluster, 0);
    let mut client = cluster.client(0);
    client.open_producer(1);
    client.publish("t", &["x".repeat(101)]);
    let run = client.receipt().2[0];
    assert_eq!((run.accepted, run.refused), (0, Some(RunRefusal::EventTooLarge { limit: 100 })));
    client.rewind(1);
    client.publish("t", &["x".repeat(100)]);
    assert_eq!(client.receipt().2[0].accepted, 1, "the connection is as good as before");
    counted.assert_rise(&[("run_event_too_large", 1)], "an event that is too large");
    publisher.goes_on();
}

#[test]
fn events_of_a_wrong_number_or_life_or_of_nobody() {
    let (cluster, publisher, mut counted) = busy_node();
    let mut client = cluster.client(0);
    client.open_producer(1);
    let first = client.next_sequence();
    client.publish("t", &payloads("x", 2));
    assert_eq!(client.receipt().2[0].accepted, 2);

    client.number_as(1, 1, first + 5);
    client.publish("t", &payloads("x", 2));
    let expected = Sequence(first + 2);
    assert_eq!(client.receipt().2[0].refused, Some(RunRefusal::SequenceGap { expected }));
    counted.assert_rise(&[("run_sequence_gap", 1)], "a gap");
    publisher.goes_on();

    let mut later = cluster.client(0);
    later.open_producer(1);
    client.number_as(1, 1, first + 2);
    client.publish("t", &payloads("x", 2));
    let refusal = client.receipt().2[0].refused;
    assert!(matches!(refusal, Some(RunRefusal::Fenced { epoch }) if epoch.0 == 2), "{refusal:?}");
    counted.assert_rise(&[("run_fenced", 1)], "an earlier life");
    publisher.goes_on();

    client.number_as(50, 1, 7);
    client.publish("t", &payloads("x", 2));
    assert_eq!(client.receipt().2[0].refused, Some(RunRefusal::ProducerUnknown));
    counted.assert_rise(&[("run_producer_unknown", 1)], "nobody");
    publisher.goes_on();

    later.publish("t", &payloads("x", 1));
    assert_eq!(later.receipt().2[0].accepted, 1, "the life that fenced the other goes on");
}

#[test]
fn a_handshake_of_another_cluster_or_version_or_as_somebody_else() {
    let cluster = Cluster::start(3);
    let publisher = Publisher::start(&cluster);
    let leader = cluster.leader();
    let this = cluster.client(leader).cluster;
    let mut counted = Counted::at(&cluster, leader);
    let me = NodeId(leader as u16 + 1);
    let peer = |node, incarnation| Role::Peer { node, incarnation: Incarnation(incarnation) };
    let identity = Identity::load(&cluster.directories[leader]).expect("an identity");
    let hello = |cluster, role| Hello { version_min: VERSION, version_max: VERSION, cluster, role };
    let other = Some(ClusterId([9; 16]));
    let cases = [
        (hello(other, Role::Client), Refusal::WrongCluster, "client_wrong_cluster"),
        (hello(other, peer(me, identity.incarnation.0)), Refusal::WrongCluster, "peer_wrong_cluster"),
        (hello(Some(this), peer(NodeId(9), [1; 16])), Refusal::UnknownMember, "peer_unknown_member"),
        (hello(Some(this), peer(me, [1; 16])), Refusal::UnknownMember, "peer_unknown_member"),
        (hello(Some(this), peer(me, identity.incarnation.0)), Refusal::UnknownMember, "peer_unknown_member"),
        (
            Hello { version_min: 2, version_max: 9, cluster: None, role: Role::Client },
            Refusal::Version { min: VERSION, max: VERSION },
            "hello_version",
        ),
    ];
    for (hello, refusal, counter) in cases {
        let mut client = Client::dial(cluster.addresses[leader]);
        client.say(&Control::Hello(hello));
        assert_eq!(client.refusal(), refusal, "{hello:?}");
        assert!(client.connection_ends());
        counted.assert_rise(&[(counter, 1)], &format!("{hello:?}"));
        publisher.goes_on();
    }
}

#[test]
fn a_message_instead_of_a_hello_and_a_hello_instead_of_a_message() {
    let (cluster, publisher, mut counted) = busy_node();
    let mut stranger = Client::dial(cluster.addresses[0]);
    stranger.ping(1);
    assert_eq!(stranger.refusal(), Refusal::HelloExpected);
    assert!(stranger.connection_ends());
    counted.assert_rise(&[("hello_missing", 1)], "a ping");
    let mut client = cluster.client(0);
    client.say_hello();
    assert_eq!(client.refusal(), Refusal::Unexpected);
    assert!(client.connection_ends());
    counted.assert_rise(&[("unexpected", 1)], "a second hello");
    publisher.goes_on();
}

#[test]
fn a_handshake_that_never_ends() {
    let (cluster, publisher, mut counted) = busy_node();
    let mut silent = Client::dial(cluster.addresses[0]);
    let mut slow = Client::dial(cluster.addresses[0]);
    slow.send(&batch()[..20]);
    publisher.goes_on();
    for client in [&mut silent, &mut slow] {
        assert_eq!(client.refusal(), Refusal::HelloExpected);
        assert!(client.connection_ends());
    }
    counted.assert_rise(&[("hello_timeout", 2)], "one without a byte, one with some");
    publisher.goes_on();
}

#[test]
fn a_peer_that_speaks_for_another_loses_its_connection() {
    let mut cluster = Cluster::start(3);
    let publisher = Publisher::start(&cluster);
    let leader = cluster.leader();
    let identity = Identity::load(&cluster.directories[leader]).expect("an identity");
    // It would connect again, and end the connection below before that is heard.
    cluster.stop_node((leader + 1) % 3);
    let mut counted = Counted::at(&cluster, leader);
    // As one follower, with all that its directory says, it speaks for the other.
    let [one, other] = [1, 2].map(|step| {
        let node = NodeId(((leader + step) % 3) as u16 + 1);
        identity.member(node).expect("a member").clone()
    });
    let role = Role::Peer { node: one.id, incarnation: one.incarnation };
    let hello = Hello { version_min: VERSION, version_max: VERSION, cluster: Some(identity.cluster), role };
    let mut impostor = Client::dial(cluster.addresses[leader]);
    impostor.say(&Control::Hello(hello));
    impostor.wait_for(Kind::Welcome);
    let body = Body::HeartbeatReply { round: 1, verified: Index(1), wall_us: 0 };
    let (from, incarnation) = (other.id, other.incarnation);
    impostor.say(&Control::Peer(Message { from, to: identity.node, incarnation, term: Term(1), body }));
    assert!(impostor.connection_ends());
    counted.assert_rise(&[("peer_impostor", 1)], "a message of another node");
    publisher.goes_on();
}

#[test]
fn a_subscriber_that_never_reads() {
    let (cluster, publisher, mut counted) = busy_node();
    let mut paused = Client::connect_narrow(cluster.addresses[0]);
    paused.subscribe(1, "good", StartAt::Beginning);
    let mut client = cluster.client(0);
    client.open_producer(1);
    for _ in 0..200 {
        client.publish("good too", &payloads(&"x".repeat(900), 30));
        client.receipt();
    }
    paused.subscribe(2, "good too", StartAt::Beginning);
    publisher.goes_on();
    let mut reader = cluster.client(0);
    reader.subscribe(1, "good too", StartAt::Beginning);
    assert_eq!(reader.events(6_000).len(), 6_000);
    publisher.goes_on();
    counted.assert_rise(&[], "it holds its share, and is left alone");
}

#[test]
fn a_client_that_asks_and_never_reads() {
    let (cluster, publisher, mut counted) = busy_node();
    let mut deaf = Client::connect_narrow(cluster.addresses[0]);
    let ping = ping();
    // More than the sockets of both sides take, and the node keeps for it.
    let questions = ping.repeat(100_000);
    assert!(!deaf.try_send(&questions.repeat(2)), "the node closes the connection");
    counted.assert_rise(&[("client_unread_much", 1)], "answers that are not read");
    publisher.goes_on();
}
