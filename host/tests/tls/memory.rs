//! What nodes hold in memory under TLS: never more than they have printed at their start, and at most 150 MB, while events
//! pass, subscribers do not read, and others do not end their handshakes.

use super::*;
use eventstream_host::client::{Client, From, Start, producer_id};
use eventstream_testbed::memory::{peak_bytes, said_bytes};

/// What a node may have resident at any time.
const MOST: u64 = 150_000_000;
/// Bytes of each event, and events.
const LOADS: [(usize, u64); 2] = [(100, 400_000), (1_024, 200_000)];
/// Subscribers of each node that do not read, and handshakes that do not end.
const DEAF: usize = 20;
/// Longer than any pause of a machine that is busy with three nodes, their clients and other tests.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_node_under_tls_holds_no_more_than_it_has_said() {
    let _alone = alone();
    let (mut cluster, mut minted) = start(3, Network::loopback(3));
    let leader = cluster.leader();
    let certificate = minted.authority().client().expect("a certificate");
    let hello_of_tls = hostile::client_hello(&cluster);
    for (size, events) in LOADS {
        let topic = format!("events of {size} bytes");
        let deaf: Vec<Secured> = (0..DEAF)
            .flat_map(|_| cluster.servers())
            .map(|server| {
                let tcp = TcpStream::connect(server).expect("the node listens");
                let mut stream = secured(&cluster, tcp, Some(&certificate));
                say(&mut stream, &Control::Hello(hello(None, Role::Client))).expect("the node reads");
                hear(&mut stream).expect("a welcome");
                let subscribe = Subscribe { subscription: 1, topic: &topic, from: StartAt::Beginning };
                say(&mut stream, &Control::Subscribe(subscribe)).expect("the node reads");
                stream
            })
            .collect();
        let begun: Vec<TcpStream> = (0..DEAF)
            .flat_map(|_| cluster.servers())
            .map(|server| {
                let mut tcp = TcpStream::connect(server).expect("the node listens");
                tcp.write_all(&hello_of_tls).expect("the node reads");
                tcp
            })
            .collect();
        std::thread::scope(|scope| {
            scope.spawn(|| publish(&cluster, &topic, size, events));
            cluster.nodes().for_each(|node| {
                let (cluster, topic) = (&cluster, &topic);
                scope.spawn(move || read(cluster, node, topic, events));
            });
        });
        drop((deaf, begun));
        cluster.assert_none_ended();
        for node in cluster.nodes() {
            let (peak, said) = (peak_bytes(&cluster, node), said_bytes(&cluster, node));
            println!(
                "{events} {topic}, node {node} (of leader {leader}): at most {} KiB of {} KiB",
                peak >> 10,
                said >> 10
            );
            assert!(peak <= MOST, "node {node} had {peak} bytes resident, more than {MOST}");
            assert!(peak <= said, "node {node} had {peak} bytes resident, and has said that it would have {said}");
        }
    }
}

/// Publishes so many events, and waits until all are acknowledged.
fn publish(cluster: &Cluster, topic: &str, size: usize, events: u64) {
    let (servers, payload) = (cluster.servers(), vec![b'x'; size]);
    let acked = cluster.clients().run(async || {
        let client = Client::connect_with(&servers, cluster.options(PATIENCE)).expect("servers");
        let producer = client.producer(producer_id(topic), Start::Next).await.expect("a leader");
        let (mut sender, mut acks) = producer.split();
        let send = async {
            for _ in 0..events {
                sender.send(topic, b"key", &payload).await.expect("room in the end");
            }
            drop(sender);
        };
        let hear = async {
            let mut acked = 0;
            while let Some(answer) = acks.next().await {
                acked += answer.expect("an acknowledgement").events();
            }
            acked
        };
        tokio::join!(send, hear).1
    });
    assert_eq!(acked, events);
}

/// Reads a topic of one node from its beginning, until so many events have come.
fn read(cluster: &Cluster, node: Spoke, topic: &str, events: u64) {
    let server = cluster.server(node);
    cluster.clients().run(async || {
        let client = Client::connect_with(&[server], cluster.options(PATIENCE)).expect("a server");
        let mut subscriber = client.subscribe(topic, From::Beginning).expect("a topic");
        for offset in 0..events {
            let event = subscriber.next().await.expect("the next event");
            assert_eq!(event.offset.0, offset);
        }
    });
}
