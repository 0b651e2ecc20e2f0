//! What a node holds in memory while it is treated badly for long: no more than after the first rounds of it.

mod node_support;

use core::net::SocketAddr;
use core::time::Duration;
use eventstream_core::id::{ClusterId, Index, NodeId, Term};
use eventstream_core::raft::{Body, Message};
use eventstream_core::wire::{Control, Hello, Refusal, Role, StartAt, VERSION};
use eventstream_host::identity::{Identity, Member};
use eventstream_testbed::{Cluster, Network};
use node_support::hostile::{batch, event_by_hand, impostor, noise, ping, wrong_frames};
use node_support::publisher::Publisher;
use node_support::{Client, allow_files, payloads};
use std::fs;
use std::path::Path;

/// Rounds after which all has been filled that such a load ever fills: blocks of pools, tables, the allocator's own stock.
const WARM_UP: usize = 3;
/// Rounds after those.
const ROUNDS: usize = 6;
/// Connections of a round that say nothing, at the same time.
const IDLE: usize = 10_000;
/// How much more than the other nodes the one that refuses may have taken after them. In a node's plan nothing grows with
/// what it refuses, so this is for the allocator alone: some 16 bytes for each connection that was refused. What grows, and is
/// in the plan, are the memtables with what the publisher writes: they do so on all nodes.
const GROWTH_KIB: u64 = 1 << 10;

#[test]
fn a_node_holds_no_more_for_having_refused_much() {
    allow_files(IDLE as u64 + 1_000);
    let mut cluster = Cluster::start(Path::new(env!("CARGO_BIN_EXE_eventstream")), 3, Network::loopback(3));
    let leader = cluster.leader();
    let identity = Identity::load(&cluster.directory(leader)).expect("an identity");
    let address: SocketAddr = cluster.server(leader).parse().expect("an address");
    let publisher = Publisher::start(Client::connect(address), Duration::from_millis(5));
    let enemy = Enemy { address, identity };
    let rounds: Vec<Vec<u64>> = (0..WARM_UP + ROUNDS)
        .map(|round| {
            enemy.does_its_worst(|| publisher.goes_on());
            cluster.assert_none_ended();
            let held = cluster.nodes().map(|node| anonymous_kib(&cluster, node)).collect();
            println!("round {round}: {held:?} KiB");
            held
        })
        .collect();
    let refused: u64 = Client::connect(address).counters().values().sum();
    println!("{refused} refusals of node {leader}");
    let (warm, rest) = rounds.split_at(WARM_UP);
    let most = |rounds: &[Vec<u64>], node: usize| rounds.iter().map(|held| held[node]).max().unwrap_or(0);
    let growth = |node| most(rest, node).saturating_sub(most(warm, node));
    let refuser = usize::from(leader) - 1;
    let others = [1, 2].map(|step| growth((refuser + step) % 3));
    let (grown, usual) = (growth(refuser), others.into_iter().max().unwrap_or(0));
    assert!(grown <= usual + GROWTH_KIB, "{grown} KiB more than at first, and {usual} KiB on the others");
}

/// Somebody who means a node no good.
struct Enemy {
    address: SocketAddr,
    identity: Identity,
}

impl Enemy {
    /// One of everything that a node refuses, and much of some. `goes_on` is called again and again.
    fn does_its_worst(&self, goes_on: impl Fn()) {
        let idle: Vec<Client> = (0..IDLE).map(|_| self.stranger()).collect();
        let mut unfinished = self.stranger();
        unfinished.send(&batch()[..20]);
        goes_on();
        for wrong in wrong_frames() {
            [self.client(), self.stranger()].into_iter().for_each(|client| ends(client, &wrong.frame));
        }
        for end in 1..batch().len() {
            for mut client in [self.client(), self.stranger()] {
                client.send(&batch()[..end]);
                client.say_no_more();
                client.connection_ends();
            }
        }
        goes_on();
        [self.client(), self.stranger()].into_iter().for_each(|client| ends(client, &noise()));
        (0..20).for_each(|_| ends(self.client(), &event_by_hand(b"t", b"k", &[0; 31_745])));
        goes_on();
        self.events_that_do_not_fit();
        self.handshakes();
        goes_on();
        let mut deaf = Client::connect_narrow(self.address);
        deaf.subscribe(1, "good", StartAt::Beginning);
        while deaf.try_send(&ping().repeat(1_000)) {}
        goes_on();
        drop((idle, unfinished));
    }

    /// Sequences, lives and producers that are not what the cluster knows.
    fn events_that_do_not_fit(&self) {
        let [mut first, mut second] = [self.client(), self.client()];
        first.open_producer(1);
        second.open_producer(1);
        for number in 0..50 {
            first.publish("bad", &payloads("x", 1));
            second.number_as(1, 1_000, 1_000 + number);
            second.publish("bad", &payloads("x", 1));
            second.number_as(50, 1, 7);
            second.publish("bad", &payloads("x", 1));
            [first.receipt(), second.receipt(), second.receipt()].iter().for_each(|receipt| {
                assert_eq!(receipt.2[0].accepted, 0, "{:?}", receipt.2);
            });
        }
    }

    /// Of another cluster, of a node that is none, and of one that is another.
    fn handshakes(&self) {
        let hello = |cluster, role| Control::Hello(Hello { version_min: VERSION, version_max: VERSION, cluster, role });
        for _ in 0..20 {
            let mut stranger = self.stranger();
            stranger.say(&hello(Some(ClusterId([9; 16])), Role::Client));
            assert_eq!(stranger.refusal(), Refusal::WrongCluster);
            let mut stranger = self.stranger();
            let role = Role::Peer { node: NodeId(9), incarnation: self.identity.incarnation };
            stranger.say(&hello(Some(self.identity.cluster), role));
            assert_eq!(stranger.refusal(), Refusal::UnknownMember);
        }
        let others: Vec<&Member> = self.identity.peers().collect();
        let mut one = impostor(self.address, self.identity.cluster, others[0]);
        let (from, incarnation) = (others[1].id, others[1].incarnation);
        let body = Body::HeartbeatReply { round: 1, verified: Index(1), wall_us: 0 };
        one.say(&Control::Peer(Message { from, to: self.identity.node, incarnation, term: Term(1), body }));
        one.connection_ends();
    }

    fn client(&self) -> Client {
        Client::connect(self.address)
    }

    fn stranger(&self) -> Client {
        Client::dial(self.address)
    }
}

/// The node closes a connection on which this is sent.
fn ends(mut client: Client, bytes: &[u8]) {
    client.try_send(bytes);
    client.connection_ends();
}

/// What a node has resident and shares with no file: RocksDB's files lie in the page cache, which is the system's.
fn anonymous_kib(cluster: &Cluster, node: u16) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", cluster.process(node).id())).expect("it runs");
    let held = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a line of what it holds");
    held.trim().trim_end_matches(" kB").parse().expect("a number")
}
