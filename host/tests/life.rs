//! The life and death of a node's process, under load: stopped in order, frozen, restarted in haste, killed while it starts.
//! Each test ends with every acknowledged event exactly once on every node, in order, and with equal state; no publish
//! fails.

use core::time::Duration;
use eventstream_testbed::{Cluster, Ledger, Load, Network, Progress};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a node asks of the system on its way to serving, where it may leave something half done.
const CALLS_OF_A_START: &str =
    "mkdir,rename,link,unlink,ftruncate,fallocate,write,pwrite64,fsync,fdatasync,bind,listen,clone3";

fn start() -> Cluster {
    Cluster::start(Path::new(env!("CARGO_BIN_EXE_eventstream")), 3, Network::loopback(3))
}

/// One cluster at a time: two cores are three nodes' share as it is.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn load(topic: &str, producers: u16, events: u64) -> Load {
    Load { topic: topic.into(), producers, events, pause_every: 20, pause: Duration::from_millis(1) }
}

/// Publishes `load` while `meanwhile` does its worst, and checks what there is afterwards.
fn survive(cluster: &mut Cluster, load: &Load, meanwhile: impl FnOnce(&mut Cluster, &Progress)) {
    let (servers, progress) = (cluster.servers(), Progress::default());
    let clients = cluster.clients();
    let ledger: Ledger = std::thread::scope(|scope| {
        let publisher = scope.spawn(|| clients.run(async || load.run(&servers, &progress).await));
        meanwhile(cluster, &progress);
        publisher.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    assert_eq!(ledger.acked.len() as u64, load.total());
    cluster.assert_exactly_once(load, &ledger);
}

#[test]
fn every_node_is_restarted_in_order() {
    let _alone = alone();
    let mut cluster = start();
    let load = load("rolling", 4, 6_000);
    survive(&mut cluster, &load, |cluster, progress| {
        for part in 1..=4 {
            progress.wait_for(load.total() * part / 6);
            cluster.await_whole();
            // Each of the three, and then whoever leads.
            let leader = cluster.leader();
            let node = if part == 4 { leader } else { part as u16 };
            cluster.stop(node);
            let led_by = cluster.statuses().iter().filter_map(|status| status.leader).map(|leader| leader.0).max();
            assert!(led_by.is_some_and(|other| other != node), "node {node} ended before another led");
            cluster.start_node(node);
        }
    });
}

#[test]
fn a_leader_that_was_frozen_for_five_seconds_comes_back() {
    let _alone = alone();
    let mut cluster = start();
    let load = load("frozen", 4, 6_000);
    survive(&mut cluster, &load, |cluster, progress| {
        progress.wait_for(load.total() / 3);
        let leader = cluster.leader();
        let before = cluster.status_of(leader).term;
        cluster.freeze(leader);
        std::thread::sleep(Duration::from_secs(5));
        let acked = progress.acked();
        assert!(acked > load.total() / 3, "the others went on");
        cluster.thaw(leader);
        cluster.await_whole();
        assert!(cluster.status_of(leader).term > before, "it learned that it leads no more");
    });
}

#[test]
fn two_restarts_in_the_same_second() {
    let _alone = alone();
    let mut cluster = start();
    let load = load("haste", 4, 6_000);
    survive(&mut cluster, &load, |cluster, progress| {
        for part in 1..=3 {
            progress.wait_for(load.total() * part / 5);
            let leader = cluster.leader();
            for _ in 0..2 {
                cluster.kill(leader);
                cluster.start_node(leader);
            }
        }
    });
}

#[test]
fn a_node_that_is_left_alone_says_for_whom_it_waits() {
    let _alone = alone();
    let mut cluster = start();
    [2, 3].into_iter().for_each(|node| cluster.kill(node));
    cluster.await_log(1, "no node leads");
    cluster.await_log(1, "waiting for node 2, node 3\n");
    cluster.start_node(3);
    cluster.await_log(1, " leads\n");
}

#[test]
fn a_node_killed_at_any_stage_of_its_start_starts_again() {
    let _alone = alone();
    if !Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_ok_and(|status| status.success()) {
        println!("SKIPPED: there is no strace");
        return;
    }
    // Its first start, which makes its data, ...
    let mut killed = 0;
    for nth in (1..).step_by(7) {
        let mut cluster = Cluster::prepare(Path::new(env!("CARGO_BIN_EXE_eventstream")), 1, Network::loopback(1));
        if !cluster.start_node_to_be_killed(1, CALLS_OF_A_START, nth) {
            break;
        }
        killed += 1;
        cluster.start_node(1);
        cluster.await_whole();
    }
    assert!(killed > 5, "a first start has more stages than {killed}");
    // ... and later ones, with a log to go on from.
    let mut cluster = start();
    let load = load("killed at start", 4, 6_000);
    survive(&mut cluster, &load, |cluster, progress| {
        progress.wait_for(load.total() / 3);
        let node = cluster.leader();
        cluster.kill(node);
        let killed =
            (1..).step_by(7).take_while(|&nth| cluster.start_node_to_be_killed(node, CALLS_OF_A_START, nth)).count();
        assert!(killed > 5, "a start has more stages than {killed}");
        cluster.kill(node);
        cluster.start_node(node);
    });
}
