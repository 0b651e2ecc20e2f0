//! What a connection does wrong costs that connection and nothing else; what is short holds up only those who need it.

mod node_support;

use core::time::Duration;
use eventstream_core::id::ShardId;
use eventstream_core::id::{ClusterId, Incarnation, NodeId};
use eventstream_core::wire::{Control, Header, Hello, Kind, OVERHEAD, Ping, Refusal, Role, VERSION, seal};
use eventstream_host::checksum::CRC;
use node_support::{Client, Cluster, payloads};
use std::io::Write;
use std::thread;

fn hello(cluster: Option<ClusterId>, role: Role) -> Control<'static> {
    Control::Hello(Hello { version_min: VERSION, version_max: VERSION, cluster, role })
}

/// A whole ping.
fn ping() -> Vec<u8> {
    let mut frame = vec![0; 200];
    let len = Control::Ping(Ping { number: 1 }).encode(ShardId(0), &mut frame, CRC).expect("a good message");
    frame.truncate(len);
    frame
}

#[test]
fn a_bad_frame_costs_its_own_connection_only() {
    let cluster = Cluster::start(1);
    cluster.leader();
    let mut good = cluster.client(0);
    good.open_producer(1);
    for damaged in [0, 4, 5, 20, 44, 50, ping().len() - 1] {
        let mut bad = cluster.client(0);
        let mut frame = ping();
        frame[damaged] ^= 0x10;
        bad.send(&frame);
        assert_eq!(bad.refusal(), Refusal::Malformed, "byte {damaged}");
        assert!(bad.connection_ends());
    }
    good.publish("t", &payloads("x", 1));
    good.receipt();
}

#[test]
fn a_message_for_the_other_side_is_refused() {
    let cluster = Cluster::start(1);
    let mut client = cluster.client(0);
    client.say(&Control::Pong(eventstream_core::wire::Pong { number: 1 }));
    assert_eq!(client.refusal(), Refusal::Unexpected);
    assert!(client.connection_ends());
}

#[test]
fn a_connection_opens_with_a_hello() {
    let cluster = Cluster::start(1);
    let mut client = Client::dial(cluster.addresses[0]);
    client.send(&ping());
    assert_eq!(client.refusal(), Refusal::HelloExpected);
    assert!(client.connection_ends());
}

#[test]
fn another_cluster_and_unknown_nodes_are_refused() {
    let cluster = Cluster::start(1);
    let stranger = Role::Peer { node: NodeId(2), incarnation: Incarnation([1; 16]) };
    let (this, other) = (cluster.client(0).cluster, ClusterId([9; 16]));
    let cases = [
        (hello(Some(other), Role::Client), Refusal::WrongCluster),
        (hello(Some(other), stranger), Refusal::WrongCluster),
        (hello(Some(this), stranger), Refusal::UnknownMember),
    ];
    for (hello, refusal) in cases {
        let mut client = Client::dial(cluster.addresses[0]);
        client.say(&hello);
        assert_eq!(client.refusal(), refusal);
        assert!(client.connection_ends());
    }
}

#[test]
fn one_connection_too_many_is_refused() {
    let cluster = Cluster::with(1, |config| config.connections = 2);
    let mut first = cluster.client(0);
    let second = cluster.client(0);
    let mut third = Client::dial(cluster.addresses[0]);
    third.say(&hello(None, Role::Client));
    assert_eq!(third.refusal(), Refusal::TooManyConnections);
    first.ping(7);
    assert_eq!(first.pong(), 7);
    drop(second);
}

#[test]
fn an_exhausted_pool_stops_reading_and_recovers() {
    let cluster = Cluster::with(1, |config| config.client_pool_bytes = 4 * 65_536);
    cluster.leader();
    let mut hungry: Vec<Client> = (0..4).map(|_| cluster.client(0)).collect();
    let mut waiting = cluster.client(0);
    // Half a frame holds a block until its other half has come.
    hungry.iter_mut().for_each(|client| client.send(&ping()[..30]));
    waiting.ping(5);
    for client in &mut hungry {
        client.send(&ping()[30..]);
        assert_eq!(client.pong(), 1);
    }
    assert_eq!(waiting.pong(), 5);
}

#[test]
fn a_frame_that_does_not_end_holds_its_block_for_a_while_only() {
    let cluster = Cluster::with(1, |config| config.client_pool_bytes = 4 * 65_536);
    cluster.leader();
    let mut idle = cluster.client(0);
    let mut stuck: Vec<Client> = (0..4).map(|_| cluster.client(0)).collect();
    stuck.iter_mut().for_each(|client| client.send(&ping()[..30]));
    let mut waiting = cluster.client(0);
    waiting.ping(5);
    assert_eq!(waiting.pong(), 5);
    for client in &mut stuck {
        assert_eq!(client.refusal(), Refusal::Busy);
        assert!(client.connection_ends());
    }
    idle.ping(6);
    assert_eq!(idle.pong(), 6, "between frames a connection may be silent");
}

#[test]
fn a_frame_that_comes_in_drops_has_no_longer_to_end() {
    let cluster = Cluster::start(1);
    let mut client = cluster.client(0);
    let mut frame = vec![1; OVERHEAD + 30_000];
    let header = Header { event_count: 1, ..Header::of(Kind::Batch, &[1; 30_000], CRC) };
    seal(&mut frame, &header, CRC);
    let mut tap = client.writer();
    let dripping = thread::spawn(move || {
        for drop in frame.chunks(1) {
            thread::sleep(Duration::from_millis(10));
            if tap.write_all(drop).is_err() {
                break;
            }
        }
    });
    assert_eq!(client.refusal(), Refusal::Busy);
    assert!(client.connection_ends());
    dripping.join().expect("no panic");
}
