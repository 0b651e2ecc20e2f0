//! A node whose directory was emptied, and which got the same bundle again: it has forgotten what it had promised, and
//! cannot know that it ever promised anything.

use core::time::Duration;
use eventstream_core::wire::NodeRole;
use eventstream_testbed::{Cluster, Ledger, Load, Network, Progress};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One cluster at a time: two cores are three nodes' share as it is.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn prepare() -> Cluster {
    Cluster::prepare(Path::new(env!("CARGO_BIN_EXE_eventstream")), 3, Network::loopback(3))
}

fn load(topic: &str) -> Load {
    Load { topic: topic.into(), producers: 4, events: 500, pause_every: 50, pause: Duration::from_millis(1) }
}

fn publish(cluster: &Cluster, load: &Load) -> Ledger {
    let (servers, progress) = (cluster.servers(), Progress::default());
    let ledger = cluster.clients().run(async || load.run(&servers, &progress).await);
    assert_eq!(ledger.acked.len() as u64, load.total());
    ledger
}

#[test]
fn who_held_an_acknowledged_event_and_was_wiped_elects_nobody_without_it() {
    let _alone = alone();
    let mut cluster = prepare();
    // Node 3 was never up, so that each event is on nodes 1 and 2 alone.
    [1, 2].into_iter().for_each(|node| cluster.start_node(node));
    let load = load("on two of three");
    let ledger = publish(&cluster, &load);
    cluster.kill(1);
    cluster.kill(2);
    cluster.wipe(2);
    cluster.start_node(2);
    cluster.start_node(3);
    for node in [2, 3] {
        cluster.await_log(node, "waiting for node 1\n");
        cluster.assert_no_ack(node, &Progress::default());
    }
    let [wiped, empty] = [2, 3].map(|node| cluster.status_of(node));
    assert_eq!((wiped.role, wiped.leader, wiped.term.0, wiped.last.0), (NodeRole::Suspect, None, 0, 0), "no vote");
    assert_eq!(
        (empty.role, empty.leader, empty.term.0, empty.last.0),
        (NodeRole::Suspect, None, 0, 0),
        "nobody asked for it"
    );
    cluster.start_node(1);
    cluster.await_whole();
    cluster.assert_exactly_once(&load, &ledger);
    // The wiped node has all of it again, and votes as ever.
    cluster.await_sound();
    cluster.kill(1);
    let more = self::load("without the one that had it");
    let ledger = publish(&cluster, &more);
    cluster.start_node(1);
    cluster.await_whole();
    cluster.assert_exactly_once(&more, &ledger);
}

#[test]
fn a_new_cluster_begins_with_its_first_node_and_another() {
    let _alone = alone();
    let mut cluster = prepare();
    [2, 3].into_iter().for_each(|node| cluster.start_node(node));
    for node in [2, 3] {
        cluster.await_log(node, "waiting for node 1\n");
        cluster.assert_no_ack(node, &Progress::default());
    }
    cluster.kill(3);
    cluster.start_node(1);
    let load = load("begun by two");
    let ledger = publish(&cluster, &load);
    cluster.start_node(3);
    cluster.await_whole();
    cluster.await_sound();
    cluster.assert_exactly_once(&load, &ledger);
    // From now on any two of them do.
    cluster.kill(1);
    let more = self::load("without the first");
    let ledger = publish(&cluster, &more);
    cluster.start_node(1);
    cluster.await_whole();
    cluster.assert_exactly_once(&more, &ledger);
}

#[test]
fn a_node_alone_leads_from_its_first_start_on() {
    let _alone = alone();
    let cluster = Cluster::start(Path::new(env!("CARGO_BIN_EXE_eventstream")), 1, Network::loopback(1));
    let load = load("alone");
    let ledger = publish(&cluster, &load);
    cluster.assert_exactly_once(&load, &ledger);
}
