//! Everything that a node refuses, sent while another client publishes: the sender hears why where it can be told, its
//! connection is closed where its frames are wrong, the other one's acknowledgements go on, and the node has counted exactly
//! what it refused. Which case is where is in `docs/testing.md`.

mod node_support;

use core::time::Duration;
use eventstream_core::batch::{BatchBuilder, Event, Source};
use eventstream_core::config::{MAX_EVENT_PAYLOAD, MAX_FRAME_PAYLOAD, MAX_KEY, MAX_TOPIC, Parameters};
use eventstream_core::id::{ClusterId, EventId, Incarnation, Index, LogTime, NodeId, Sequence, ShardId, Term};
use eventstream_core::raft::{Body, Message};
use eventstream_core::receipt::RunRefusal;
use eventstream_core::wire::{Control, END_LEN, HEADER_LEN, Hello, Refusal, Role, StartAt, VERSION, stamp};
use eventstream_host::checksum::CRC;
use eventstream_host::identity::{Identity, Member};
use node_support::hostile::{self, Wrong, batch, event_by_hand, impostor, ping, reseal, wrong_frames};
use node_support::publisher::Publisher;
use node_support::{Client, Cluster, Counted, decode, payloads};
use std::collections::BTreeMap;

/// Somebody who publishes at the leader without a pause.
fn publisher(cluster: &Cluster) -> Publisher {
    Publisher::start(cluster.client(cluster.leader()), Duration::ZERO)
}

/// A node, somebody who publishes there, and what it counts.
fn busy_node() -> (Cluster, Publisher, Counted) {
    let cluster = Cluster::start(1);
    let publisher = publisher(&cluster);
    let counted = Counted::at(&cluster, 0);
    (cluster, publisher, counted)
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
    for Wrong { what, frame, counter } in wrong_frames() {
        assert_eq!(refused(&cluster, &frame), Refusal::Malformed, "{what}");
        counted.assert_rise(&[(counter, 1)], what);
        publisher.goes_on();
    }
}

#[test]
fn many_wrong_messages_at_once_cost_one_connection_and_count_once() {
    let (cluster, publisher, mut counted) = busy_node();
    let nonsense = wrong_frames().pop().expect("the last of them is a whole frame");
    assert_eq!(refused(&cluster, &nonsense.frame.repeat(100)), Refusal::Malformed);
    counted.assert_rise(&[(nonsense.counter, 1)], "a hundred messages that are none");
    publisher.goes_on();
}

#[test]
fn any_byte_of_a_payload_that_is_wrong_with_a_right_checksum() {
    let (cluster, publisher, mut counted) = busy_node();
    let good = batch();
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    for at in HEADER_LEN..good.len() - END_LEN {
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
    let noise = hostile::noise();
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
    let publisher = publisher(&cluster);
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
fn an_event_that_is_larger_than_the_format_allows() {
    let (cluster, publisher, mut counted) = busy_node();
    let (topic, key, payload) = (vec![b't'; MAX_TOPIC + 1], vec![1; MAX_KEY + 1], vec![2; MAX_FRAME_PAYLOAD]);
    let largest = event_by_hand(&topic[1..], &key[1..], &payload[..MAX_EVENT_PAYLOAD]);
    let mut client = cluster.client(0);
    client.send(&largest);
    assert_eq!(client.receipt().2[0].refused, Some(RunRefusal::ProducerUnknown), "it is as large as it may be");
    counted.assert_rise(&[("run_producer_unknown", 1)], "nobody's, and nothing else is wrong with it");
    let cases = [
        ("payload", event_by_hand(b"t", b"", &payload[..=MAX_EVENT_PAYLOAD]), "batch_malformed"),
        ("key", event_by_hand(b"t", &key, b"x"), "batch_malformed"),
        ("topic", event_by_hand(&topic, b"", b"x"), "batch_malformed"),
        ("no topic", event_by_hand(b"", b"", b"x"), "batch_malformed"),
        ("more than a frame holds", event_by_hand(b"t", b"", &payload), "frame_payload_length"),
    ];
    for (what, event, counter) in cases {
        assert_eq!(refused(&cluster, &event), Refusal::Malformed, "{what}");
        counted.assert_rise(&[(counter, 1)], what);
        publisher.goes_on();
    }
    // Who is still sending when the connection is closed may not hear why.
    let mut sender = cluster.client(0);
    sender.try_send(&event_by_hand(b"t", b"", &payload.repeat(32)));
    assert!(sender.connection_ends());
    counted.assert_rise(&[("frame_payload_length", 1)], "1 MiB");
    publisher.goes_on();
    client.send(&largest);
    assert_eq!(client.receipt().2.len(), 1, "another connection is as good as before");
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
fn what_the_tables_have_no_room_for_and_events_with_ids() {
    let parameters = Parameters { producers: 2, topics: 1, ..Parameters::default() };
    let cluster = Cluster::of(1, parameters, |_| {});
    let publisher = publisher(&cluster);
    // The one topic is the publisher's.
    publisher.goes_on();
    let mut counted = Counted::at(&cluster, 0);
    let mut client = cluster.client(0);
    client.open_producer(1);
    client.publish("another topic", &payloads("x", 1));
    assert_eq!(client.receipt().2[0].refused, Some(RunRefusal::TopicTableFull));
    counted.assert_rise(&[("run_topic_table_full", 1)], "a second topic");
    client.say_open_producer(2);
    assert_eq!(client.answer(), Err(Refusal::ProducerTableFull));
    counted.assert_rise(&[("producer_table_full", 1)], "a third producer asks");
    client.number_as(3, 1, 0);
    client.publish("good", &payloads("x", 1));
    assert_eq!(client.receipt().2[0].refused, Some(RunRefusal::ProducerTableFull));
    counted.assert_rise(&[("run_producer_table_full", 1)], "a third producer begins");
    let mut builder = BatchBuilder::new(vec![0; 1_000]);
    let source = Source::EventId(EventId([5; 16]));
    builder.push(&Event { topic: "good", source, time_us: 1, key: b"", payload: b"x" }).expect("room");
    let (frame, len) = builder.finish(ShardId(0), 99, 1, CRC);
    client.send(&frame[..len]);
    assert_eq!(client.receipt().2[0].refused, Some(RunRefusal::EventIdsOff));
    counted.assert_rise(&[("run_event_ids_off", 1)], "an event with an id");
    for number in 0..=256 {
        client.subscribe(number, "nothing", StartAt::Latest);
    }
    assert_eq!(client.refusal(), Refusal::TooManySubscriptions);
    counted.assert_rise(&[("too_many_subscriptions", 1)], "one more than a connection may have");
    client.ping(1);
    assert_eq!(client.pong(), 1, "the connection is as good as before");
    publisher.goes_on();
}

#[test]
fn a_producer_that_made_room_for_another() {
    let parameters = Parameters { producers: 1, producer_idle_us: 1, ..Parameters::default() };
    let cluster = Cluster::of(1, parameters, |_| {});
    let mut client = cluster.client(0);
    client.open_producer(1);
    client.publish("t", &payloads("x", 2));
    assert_eq!(client.receipt().2[0].accepted, 2);
    // Until the leader has found out that the only producer there is may go, there is no room.
    let mut newcomer = cluster.client(0);
    newcomer.say_open_producer(2);
    while let Err(refusal) = newcomer.answer() {
        assert_eq!(refusal, Refusal::ProducerTableFull);
        newcomer.say_open_producer(2);
    }
    let mut counted = Counted::at(&cluster, 0);
    client.publish("t", &payloads("x", 2));
    assert_eq!(client.receipt().2[0].refused, Some(RunRefusal::ProducerUnknown));
    counted.assert_rise(&[("run_producer_unknown", 1)], "one that the cluster does not know any more");
}

#[test]
fn what_only_the_leader_takes_and_comes_to_another_node() {
    let cluster = Cluster::start(3);
    let publisher = publisher(&cluster);
    let leader = cluster.leader();
    let follower = (leader + 1) % 3;
    let mut counted = Counted::at(&cluster, follower);
    let mut client = cluster.client(follower);
    client.number_as(1, 1, 0);
    for refused in 1..=3 {
        client.publish("t", &payloads("x", 2));
        let refusal = client.refusal();
        let here = Some(NodeId(leader as u16 + 1));
        assert!(matches!(refusal, Refusal::NotLeader { leader, .. } if leader == here), "{refused}: {refusal:?}");
    }
    client.say_open_producer(1);
    assert!(matches!(client.answer(), Err(Refusal::NotLeader { .. })));
    counted.assert_rise(&[("not_leader", 4)], "three batches and a request");
    client.ping(1);
    assert_eq!(client.pong(), 1, "the connection is as good as before");
    publisher.goes_on();
}

#[test]
fn clients_beyond_those_that_the_node_takes() {
    let cluster = Cluster::with(1, |config| config.connections = 8);
    let publisher = publisher(&cluster);
    let mut counted = Counted::at(&cluster, 0);
    // All of them stay, so it does not matter when those who were there before have left.
    let mut clients: Vec<Client> = (0..20).map(|_| Client::dial(cluster.addresses[0])).collect();
    let mut refused = 0;
    for client in &mut clients {
        client.say_hello();
        let answer = client.next_frame().expect("an answer");
        match decode(&answer) {
            Control::Welcome(_) => {}
            Control::Refused(told) => {
                assert_eq!(told.reason, Refusal::TooManyConnections);
                assert!(client.connection_ends());
                refused += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(refused >= 14, "the publisher and the one who asks for counters have two places of eight");
    counted.assert_rise(&[("too_many_clients", refused)], "those who were told so");
    publisher.goes_on();
}

#[test]
fn a_frame_that_never_ends() {
    let (cluster, publisher, mut counted) = busy_node();
    let mut stuck: Vec<Client> = (0..3).map(|_| cluster.client(0)).collect();
    for (client, end) in stuck.iter_mut().zip([1, HEADER_LEN, batch().len() - 1]) {
        client.send(&batch()[..end]);
    }
    publisher.goes_on();
    for client in &mut stuck {
        assert_eq!(client.refusal(), Refusal::Busy, "the link may be slow: to be tried again");
        assert!(client.connection_ends());
    }
    counted.assert_rise(&[("frame_timeout", 3)], "one for each, and none of them is cut off too");
    publisher.goes_on();
}

#[test]
fn a_handshake_of_another_cluster_or_version_or_as_somebody_else() {
    let cluster = Cluster::start(3);
    let publisher = publisher(&cluster);
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
fn a_node_that_speaks_for_another_or_out_of_step_loses_its_connection() {
    let mut cluster = Cluster::start(3);
    let publisher = publisher(&cluster);
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
    let term = cluster.client(leader).status().term;
    let message = |from: &Member, body| {
        let mut frame = vec![0; 200];
        let message = Message { from: from.id, to: identity.node, incarnation: from.incarnation, term: Term(99), body };
        let len = Control::Peer(message).encode(ShardId(0), &mut frame, CRC).expect("a good message");
        frame.truncate(len);
        frame
    };
    let reply = Body::HeartbeatReply { round: 1, verified: Index(1), wall_us: 0 };
    // An entry that no append announces.
    let mut entry = batch();
    stamp(&mut entry, Index(9), Term(9), LogTime(9), CRC);
    let mine = message(&one, Body::Heartbeat { commit: Index(0), round: 1 });
    for (what, wrong, counter) in
        [("another's message", message(&other, reply), "peer_impostor"), ("an entry", entry, "peer_out_of_step")]
    {
        let mut impostor = impostor(cluster.addresses[leader], identity.cluster, &one);
        // Behind it lies what would end the leader's term if it were obeyed, and then the same again.
        impostor.send(&[&wrong[..], &wrong, &mine, &wrong].concat());
        assert!(impostor.connection_ends());
        counted.assert_rise(&[(counter, 1)], what);
        publisher.goes_on();
    }
    assert_eq!(cluster.client(leader).status().term, term, "the leader is whom it was");
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
    let rise = counted.rise();
    // A machine that is slow enough comes to where the system gives it up.
    assert!(
        rise.keys().all(|name| name == "client_lost"),
        "it holds its share, and the node leaves it alone: {rise:?}"
    );
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
