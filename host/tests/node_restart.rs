//! Every process is killed at once, again and again, under load. Everything acknowledged is there, once, in order.

use core::time::Duration;
use eventstream_testbed::{Cluster, Ledger, Load, Network, Progress};
use std::path::Path;

fn publish_while(cluster: &mut Cluster, load: &Load, meanwhile: impl FnOnce(&mut Cluster, &Progress)) -> Ledger {
    let (servers, progress) = (cluster.servers(), Progress::default());
    let clients = cluster.clients();
    std::thread::scope(|scope| {
        let publisher = scope.spawn(|| clients.run(async || load.run(&servers, &progress).await));
        meanwhile(cluster, &progress);
        publisher.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[test]
fn all_processes_killed_at_once_under_load() {
    let mut cluster = Cluster::start(Path::new(env!("CARGO_BIN_EXE_eventstream")), 3, Network::loopback(3));
    let load = Load {
        topic: "all killed".into(),
        producers: 6,
        events: 5_000,
        pause_every: 100,
        pause: Duration::from_millis(1),
    };
    let ledger = publish_while(&mut cluster, &load, |cluster, progress| {
        for part in 1..=4 {
            progress.wait_for(load.total() * part / 6);
            let all: Vec<_> = cluster.nodes().collect();
            all.iter().for_each(|&node| cluster.kill(node));
            // The first to come back has to wait for another.
            all.iter()
                .cycle()
                .skip(part as usize % all.len())
                .take(all.len())
                .for_each(|&node| cluster.start_node(node));
        }
    });
    assert_eq!(ledger.acked.len() as u64, load.total());
    cluster.assert_exactly_once(&load, &ledger);
}
