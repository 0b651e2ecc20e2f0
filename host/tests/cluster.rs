//! Three real processes, and what can happen to them. Each test ends with every acknowledged event exactly once on
//! every node, in order, and with equal state.

use core::time::Duration;
use eventstream_core::wire::NodeRole;
use eventstream_testbed::{Cluster, Ledger, Load, Network, Progress};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

fn start(network: Network) -> Cluster {
    Cluster::start(Path::new(env!("CARGO_BIN_EXE_eventstream")), 3, network)
}

/// One cluster at a time: two cores are three nodes' share as it is.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn load(topic: &str, producers: u16, events: u64) -> Load {
    Load { topic: topic.into(), producers, events, pause_every: 50, pause: Duration::from_millis(1) }
}

/// Publishes `load` while `meanwhile` does its worst.
fn publish_while(cluster: &mut Cluster, load: &Load, meanwhile: impl FnOnce(&mut Cluster, &Progress)) -> Ledger {
    let (servers, progress) = (cluster.servers(), Progress::default());
    let clients = cluster.clients();
    std::thread::scope(|scope| {
        let publisher = scope.spawn(|| clients.run(async || load.run(&servers, &progress).await));
        meanwhile(cluster, &progress);
        publisher.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// (1) 5,000 events of normal replication, from several producers.
#[test]
fn normal_replication() {
    let _alone = alone();
    let mut cluster = start(Network::loopback(3));
    let load = load("normal", 5, 1_000);
    let ledger = publish_while(&mut cluster, &load, |_, _| {});
    assert_eq!(ledger.acked.len(), 5_000);
    cluster.assert_exactly_once(&load, &ledger);
}

/// (2) The leader is killed while publishes are in flight, and rejoins later.
#[test]
fn leader_killed_under_load() {
    let _alone = alone();
    let mut cluster = start(Network::loopback(3));
    let load = load("killed", 4, 5_000);
    let ledger = publish_while(&mut cluster, &load, |cluster, progress| {
        let leader = cluster.leader();
        progress.wait_for(load.total() * 2 / 5);
        // It answers no more, so that publishes are in flight when it dies.
        cluster.freeze(leader);
        progress.wait_for_publishes_in_flight();
        cluster.kill(leader);
        progress.wait_for(load.total() * 3 / 5);
        assert_ne!(cluster.leader(), leader, "another leads");
        cluster.start_node(leader);
    });
    assert_eq!(ledger.acked.len() as u64, load.total());
    cluster.assert_exactly_once(&load, &ledger);
}

/// (3) The leader is cut off from the other nodes, but not from its clients, so that it takes events that it cannot
/// replicate. When the cut is healed, that tail is gone, and the events are there once.
#[test]
fn leader_partitioned_and_healed() {
    let _alone = alone();
    let mut cluster = start(Network::with_cuts(3));
    let load = load("partitioned", 4, 5_000);
    let ledger = publish_while(&mut cluster, &load, |cluster, progress| {
        progress.wait_for(load.total() * 2 / 5);
        let leader = cluster.leader();
        let before = cluster.status_of(leader);
        cluster.isolate_from_nodes(leader);
        progress.wait_for(load.total() * 3 / 5);
        let isolated = cluster.status_of(leader);
        assert_ne!(isolated.role, NodeRole::Leader, "a leader without a majority steps down");
        assert_eq!(isolated.term, before.term, "an isolated node does not raise its term");
        assert!(isolated.last > isolated.commit, "the isolated leader has a tail that it could not replicate");
        let others: Vec<_> = cluster.statuses().into_iter().filter(|status| status.node.0 != leader).collect();
        assert!(others.iter().all(|other| other.term > isolated.term), "the others have a new leader");
        cluster.rejoin_nodes(leader);
    });
    assert_eq!(ledger.acked.len() as u64, load.total());
    cluster.assert_exactly_once(&load, &ledger);
}

/// (4) Two nodes die, one after the other. The last one acknowledges nothing. One comes back, and then the other.
#[test]
fn cascade() {
    let _alone = alone();
    let mut cluster = start(Network::loopback(3));
    let load = load("cascade", 4, 2_000);
    let ledger = publish_while(&mut cluster, &load, |cluster, progress| {
        progress.wait_for(load.total() / 4);
        let first = cluster.leader();
        cluster.kill(first);
        progress.wait_for(load.total() / 2);
        let second = cluster.leader();
        cluster.kill(second);
        let survivor = cluster.running().next().expect("one of three");
        cluster.assert_no_ack(survivor, progress);
        cluster.start_node(second);
        progress.wait_for(load.total() * 3 / 4);
        cluster.start_node(first);
    });
    assert_eq!(ledger.acked.len() as u64, load.total());
    cluster.assert_exactly_once(&load, &ledger);
}
