//! What three real nodes hold in memory while millions of events pass: never more than they have printed at their start, and
//! at most 150 MB, whoever reads slowly, late or not at all.

mod node_support;

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use core::time::Duration;
use eventstream_core::wire::StartAt;
use eventstream_host::client::{Client, From, Options, Start, producer_id};
use eventstream_testbed::{Cluster, Network, memory};
use node_support::Client as RawClient;
use std::path::Path;
use std::thread;

/// What a node may have resident at any time.
const MOST: u64 = 150_000_000;
/// Longer than any pause of a machine that is busy with three nodes, their clients and other tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes of each event, and events.
const LOADS: [(usize, u64); 2] = [(100, 1_000_000), (1_024, 1_000_000)];

#[test]
fn a_node_holds_no_more_than_it_has_said_however_much_passes() {
    let mut cluster = Cluster::start(Path::new(env!("CARGO_BIN_EXE_eventstream")), 3, Network::loopback(3));
    let leader = cluster.leader();
    let follower = leader % 3 + 1;
    for (size, events) in LOADS {
        let topic = format!("events of {size} bytes");
        // What nobody reads is in nobody's way.
        let _deaf: Vec<RawClient> = cluster
            .servers()
            .iter()
            .map(|server| {
                let mut deaf = RawClient::connect(server.parse().expect("an address"));
                deaf.subscribe(1, &topic, StartAt::Beginning);
                deaf
            })
            .collect();
        let acked = AtomicU64::new(0);
        thread::scope(|scope| {
            scope.spawn(|| publish(&cluster, &topic, size, events, &acked));
            scope.spawn(|| read(&cluster, leader, &topic, events));
            while acked.load(Relaxed) < events / 2 {
                thread::sleep(Duration::from_millis(10));
            }
            scope.spawn(|| read(&cluster, follower, &topic, events));
        });
        cluster.assert_none_ended();
        for node in cluster.nodes() {
            let (peak, said) = (memory::peak_bytes(&cluster, node), memory::said_bytes(&cluster, node));
            println!("{events} {topic}, node {node}: at most {} KiB of {} KiB", peak >> 10, said >> 10);
            assert!(peak <= MOST, "node {node} had {peak} bytes resident, more than {MOST}");
            assert!(peak <= said, "node {node} had {peak} bytes resident, and has said that it would have {said}");
        }
    }
}

/// Publishes so many events, and counts what is acknowledged.
fn publish(cluster: &Cluster, topic: &str, size: usize, events: u64, acked: &AtomicU64) {
    let (servers, payload) = (cluster.servers(), vec![b'x'; size]);
    cluster.clients().run(async || {
        let client = Client::connect_with(&servers, options()).expect("servers");
        let producer = client.producer(producer_id(topic), Start::Next).await.expect("a leader");
        let (mut sender, mut acks) = producer.split();
        let send = async {
            for _ in 0..events {
                sender.send(topic, b"key", &payload).await.expect("room in the end");
            }
            drop(sender);
        };
        let hear = async {
            while let Some(answer) = acks.next().await {
                acked.fetch_add(answer.expect("an acknowledgement").events(), Relaxed);
            }
        };
        tokio::join!(send, hear);
    });
    assert_eq!(acked.load(Relaxed), events);
}

/// Reads a topic of one node from its beginning, until so many events have come.
fn read(cluster: &Cluster, node: u16, topic: &str, events: u64) {
    let server = cluster.server(node);
    cluster.clients().run(async || {
        let client = Client::connect_with(&[server], options()).expect("a server");
        let mut subscriber = client.subscribe(topic, From::Beginning).expect("a topic");
        for offset in 0..events {
            let event = subscriber.next().await.expect("the next event");
            assert_eq!(event.offset.0, offset);
        }
    });
}

fn options() -> Options {
    Options { patience: PATIENCE, ..Options::default() }
}
