//! One node of three has a flipped bit in what it had on stable storage. It serves none of it and ends with a named error;
//! the others serve on.

use core::time::Duration;
use eventstream_host::client::{Client, From, Options, Source};
use eventstream_testbed::{Cluster, Ledger, Load, Network, Progress};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// The node whose disk is at fault.
const VICTIM: u16 = 3;
const TOPIC: &str = "damage";

/// One cluster at a time: two cores are three nodes' share as it is.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn start() -> Cluster {
    Cluster::start(Path::new(env!("CARGO_BIN_EXE_eventstream")), 3, Network::loopback(3))
}

fn load(topic: &str) -> Load {
    Load { topic: topic.into(), producers: 4, events: 2_000, pause_every: 50, pause: Duration::from_millis(1) }
}

fn publish(cluster: &Cluster, load: &Load) -> Ledger {
    let (servers, progress) = (cluster.servers(), Progress::default());
    let ledger = cluster.clients().run(async || load.run(&servers, &progress).await);
    assert_eq!(ledger.acked.len() as u64, load.total());
    ledger
}

/// The newest or the largest file of the victim's data with this extension.
fn file(cluster: &Cluster, extension: &str) -> PathBuf {
    let files = fs::read_dir(cluster.directory(VICTIM).join("data")).expect("data").map(|file| file.expect("a file"));
    let files = files.map(|file| file.path()).filter(|path| path.extension().is_some_and(|found| found == extension));
    files.max_by_key(|path| fs::metadata(path).expect("a file").len()).expect("a file")
}

/// Flips a bit in the middle of what was written.
fn flip(file: &Path) {
    let mut bytes = fs::read(file).expect("a file");
    let written = bytes.iter().rposition(|byte| *byte != 0).expect("something in it");
    assert!(written > 100_000, "{written}");
    bytes[written / 2] ^= 0x10;
    fs::write(file, bytes).expect("a file");
}

/// The others have all that was acknowledged before, and go on.
fn assert_others_serve(cluster: &Cluster, before: &Load, ledger: &Ledger) {
    cluster.assert_exactly_once(before, ledger);
    let more = load("after the damage");
    let ledger = publish(cluster, &more);
    cluster.assert_exactly_once(&more, &ledger);
    assert_eq!(cluster.running().count(), 2);
}

#[test]
fn a_flipped_bit_in_the_write_ahead_log_is_named_at_start() {
    let _alone = alone();
    let mut cluster = start();
    let load = load(TOPIC);
    let ledger = publish(&cluster, &load);
    cluster.await_whole();
    cluster.kill(VICTIM);
    let damaged = file(&cluster, "log");
    flip(&damaged);
    for _ in 0..2 {
        cluster.start_node(VICTIM);
        let (status, words) = cluster.wait_for_end(VICTIM);
        assert_eq!(status.code(), Some(1), "{words}");
        assert!(words.contains("the log is damaged at byte"), "{words}");
        assert!(words.contains(damaged.to_str().expect("a path")), "{words}");
    }
    assert_others_serve(&cluster, &load, &ledger);
}

#[test]
fn a_flipped_bit_in_a_file_of_entries_is_named_when_it_is_read() {
    let _alone = alone();
    let mut cluster = start();
    let load = load(TOPIC);
    let ledger = publish(&cluster, &load);
    cluster.await_whole();
    cluster.stop(VICTIM);
    let damaged = file(&cluster, "sst");
    flip(&damaged);
    cluster.start_node(VICTIM);
    let (server, clients) = (cluster.server(VICTIM), cluster.clients());
    let (ended, has_ended) = oneshot::channel();
    let words = std::thread::scope(|scope| {
        scope.spawn(move || {
            clients.run(async || {
                tokio::select! { () = read(&server) => {} _ = has_ended => {} }
            })
        });
        let (status, words) = cluster.wait_for_end(VICTIM);
        let _ = ended.send(());
        assert_eq!(status.code(), Some(1), "{words}");
        words
    });
    assert!(words.contains("reading the log failed") && words.contains("block checksum mismatch"), "{words}");
    assert!(words.contains(damaged.file_name().and_then(|name| name.to_str()).expect("a name")), "{words}");
    assert_others_serve(&cluster, &load, &ledger);
}

/// Reads until the node is gone. What it delivers is right, but it cannot be all.
async fn read(server: &str) {
    let client = Client::connect_with(&[server], Options::default()).expect("a server");
    let mut subscriber = client.subscribe(TOPIC, From::Beginning).expect("a topic");
    loop {
        match subscriber.next_until_caught_up().await {
            Ok(Some(event)) => {
                let Source::Producer { producer, sequence, .. } = event.source else {
                    panic!("no producer: {event:?}")
                };
                assert_eq!(event.payload, Load::payload(producer, sequence).as_bytes());
            }
            // A follower that has just started may not know the topic yet.
            Ok(None) | Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}
