//! Two nodes that keep events and a witness that keeps none, as real processes. Each test with a publisher ends with every
//! acknowledged event exactly once on both nodes, in order, and with equal state.

mod node_support;

use core::time::Duration;
use eventstream_core::id::{Index, NodeId, Term};
use eventstream_core::raft::{HardState, LogPosition, LogView};
use eventstream_core::receipt::Durability;
use eventstream_core::wire::{Control, NodeRole, Refusal, StartAt, TopicListRequest};
use eventstream_host::client::{Client, Start, producer_id};
use eventstream_host::identity::Identity;
use eventstream_host::storage::{TermsWriter, open_terms, read_terms};
use eventstream_testbed::{Cluster, Ledger, Load, Network, Progress, memory};
use node_support::Client as RawClient;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Nodes 1 and 2 keep events.
const WITNESS: u16 = 3;

fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_eventstream"))
}

fn start() -> Cluster {
    Cluster::start_with_witness(binary(), WITNESS, Network::loopback(WITNESS))
}

/// One cluster at a time: two cores are three nodes' share as it is.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn load(topic: &str, events: u64) -> Load {
    Load { topic: topic.into(), producers: 4, events, pause_every: 50, pause: Duration::from_millis(1) }
}

/// Publishes `load`, all of which has to be acknowledged in the end, while `meanwhile` does its worst.
fn publish_while(cluster: &mut Cluster, load: &Load, meanwhile: impl FnOnce(&mut Cluster, &Progress)) -> Ledger {
    let (servers, progress) = (cluster.servers(), Progress::default());
    let clients = cluster.clients();
    std::thread::scope(|scope| {
        let publisher = scope.spawn(|| clients.run(async || load.run(&servers, &progress).await));
        meanwhile(cluster, &progress);
        publisher.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// The durability of a receipt for one event more.
fn publish_one(cluster: &Cluster, producer: &str) -> Durability {
    cluster.clients().run(async || {
        let client =
            Client::connect_with(&cluster.servers(), cluster.options(Duration::from_secs(60))).expect("servers");
        let producer = client.producer(producer_id(producer), Start::Next).await.expect("a leader");
        producer.publish("one more", b"", b"").await.expect("a receipt").durability
    })
}

/// Bytes that a directory takes on its disk.
fn disk_bytes(directory: &Path) -> u64 {
    let files = fs::read_dir(directory).expect("a directory").map(|file| file.expect("a file"));
    let bytes =
        |path: &Path| if path.is_dir() { disk_bytes(path) } else { fs::metadata(path).expect("a file").blocks() * 512 };
    files.map(|file| bytes(&file.path())).sum()
}

fn eventstream(arguments: &[&str]) -> Output {
    Command::new(binary()).env_remove("EVENTSTREAM_SERVERS").args(arguments).output().expect("the binary runs")
}

fn words(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Each of the two is killed while it follows and events are published, and then as the leader that has the newest of them
/// on its disk as the other one does. The one that is left goes on with the witness, and says so.
#[test]
fn each_node_dies_in_turn_and_the_other_goes_on_with_the_witness() {
    let _alone = alone();
    let mut cluster = start();
    for leader in [1, 2] {
        let follower = 3 - leader;
        while cluster.leader() != leader {
            cluster.stop(follower);
            cluster.start_node(follower);
            cluster.await_whole();
        }
        let beside = load(&format!("node {follower} dies as a follower"), 1_500);
        let ledger = publish_while(&mut cluster, &beside, |cluster, progress| {
            progress.wait_for(beside.total() / 4);
            cluster.kill(follower);
            progress.wait_for(beside.total() / 2);
            cluster.start_node(follower);
        });
        cluster.assert_exactly_once(&beside, &ledger);

        cluster.kill(leader);
        let after = load(&format!("node {leader} dies as the leader"), 1_500);
        let ledger_after = publish_while(&mut cluster, &after, |cluster, progress| {
            progress.wait_for(after.total() / 2);
            assert_eq!(cluster.leader(), follower);
            assert_eq!(publish_one(cluster, &format!("while node {leader} is away")), Durability::MajorityWithWitness);
            cluster.start_node(leader);
        });
        cluster.assert_exactly_once(&beside, &ledger);
        cluster.assert_exactly_once(&after, &ledger_after);
    }
}

/// Whoever leads is killed in the middle of it and comes back: the other one leads, or the same one again if events are on
/// its disk and the witness's alone.
#[test]
fn whoever_leads_is_killed_under_load_and_comes_back() {
    let _alone = alone();
    let mut cluster = start();
    let load = load("leaders die", u64::MAX);
    let ledger = publish_while(&mut cluster, &load, |cluster, progress| {
        for _ in 0..4 {
            progress.wait_for(progress.acked() + 2_000);
            let leader = cluster.leader();
            cluster.freeze(leader);
            progress.wait_for_publishes_in_flight();
            cluster.kill(leader);
            cluster.start_node(leader);
        }
        progress.ask_to_end();
    });
    cluster.assert_exactly_once(&load, &ledger);
}

/// The witness is killed at any moment of its life, also while it starts: beside two nodes nobody waits for it, and beside
/// one the acknowledgements wait until it is back. It has forgotten nothing.
#[test]
fn the_witness_is_killed_at_any_moment_and_comes_back() {
    let _alone = alone();
    let mut cluster = start();
    let load = load("the witness dies", 4_000);
    let ledger = publish_while(&mut cluster, &load, |cluster, progress| {
        for part in 1..10 {
            progress.wait_for(load.total() * part / 20);
            cluster.kill(WITNESS);
            cluster.start_node(WITNESS);
        }
        let follower = 3 - cluster.leader();
        cluster.kill(follower);
        for part in 10..20 {
            progress.wait_for(load.total() * part / 20);
            cluster.await_sound();
            let before = cluster.status_of(WITNESS);
            cluster.kill(WITNESS);
            let (terms, _) =
                read_terms(&cluster.directory(WITNESS), &identity(cluster)).expect("terms").expect("a life");
            assert!(
                terms.last().index >= before.durable && terms.hard_state().term >= before.term,
                "it forgets nothing"
            );
            cluster.start_node(WITNESS);
        }
        cluster.start_node(follower);
    });
    cluster.assert_exactly_once(&load, &ledger);
}

fn identity(cluster: &Cluster) -> Identity {
    Identity::load(&cluster.directory(WITNESS)).expect("a bundle")
}

/// While the witness is down, the two of them go on, and lead in turn.
#[test]
fn two_nodes_go_on_without_the_witness() {
    let _alone = alone();
    let mut cluster = start();
    cluster.kill(WITNESS);
    let load = load("no witness", 1_500);
    let ledger = publish_while(&mut cluster, &load, |cluster, progress| {
        progress.wait_for(load.total() / 3);
        let leader = cluster.leader();
        cluster.stop(leader);
        cluster.start_node(leader);
        progress.wait_for(load.total() * 2 / 3);
    });
    cluster.assert_exactly_once(&load, &ledger);
    assert_eq!(publish_one(&cluster, "both"), Durability::Majority);
    cluster.start_node(WITNESS);
    cluster.await_sound();
    cluster.await_whole();
}

/// A hundred thousand events leave hardly anything on the witness, and what it keeps is what the others have. If it is not,
/// that is found.
#[test]
fn it_keeps_little_and_that_is_checked() {
    let _alone = alone();
    let mut cluster = start();
    let load = Load { pause_every: 0, ..load("many", 25_000) };
    let ledger = publish_while(&mut cluster, &load, |_, _| {});
    assert_eq!(ledger.acked.len(), 100_000);
    cluster.assert_exactly_once(&load, &ledger);
    let (peak, said) = (memory::peak_bytes(&cluster, WITNESS), memory::said_bytes(&cluster, WITNESS));
    let disk = disk_bytes(&cluster.directory(WITNESS));
    println!(
        "the witness had at most {} KiB of {} KiB in memory, and has {disk} bytes on its disk",
        peak >> 10,
        said >> 10
    );
    assert!(peak <= said && peak < 48 << 20, "{peak} of {said} bytes in memory");
    assert!(disk < 1 << 20, "{disk} bytes on its disk");

    let servers = cluster.servers().join(",");
    let shown = eventstream(&["status", "--servers", &cluster.server(1)]);
    assert!(shown.status.success() && words(&shown).contains(" witness "), "{}", words(&shown));
    let checked = eventstream(&["verify", "--servers", &servers]);
    assert!(checked.status.success() && words(&checked).contains("is a witness"), "{}", words(&checked));

    cluster.nodes().for_each(|node| cluster.stop(node));
    let root = cluster.root().to_str().expect("text").to_owned();
    let checked = eventstream(&["verify", &root]);
    assert!(checked.status.success() && words(&checked).contains("node 3 is a witness"), "{}", words(&checked));

    // From the second entry on it has a term there that nobody else has heard of.
    let identity = identity(&cluster);
    let mut opened = open_terms(&cluster.directory(WITNESS), &identity).expect("terms");
    let (last, state) = (opened.terms.last(), opened.terms.hard_state());
    let (right, term) = (opened.terms.term(Index(2)).expect("a long log"), Term(state.term.0 + 1));
    opened.terms.truncate(Index(2));
    opened.terms.append(LogPosition { term, ..last });
    opened.terms.set_hard_state(HardState { term, vote: Some(NodeId(1)), suspect: false });
    let mut writer = TermsWriter::start(opened.file, Default::default(), || {}).expect("a thread");
    writer.write(Default::default(), opened.terms);
    writer.join().expect("written");
    let checked = eventstream(&["verify", &root]);
    assert!(!checked.status.success(), "{}", words(&checked));
    assert!(words(&checked).contains(&format!("the terms are {right} and {term}")), "{}", words(&checked));
}

/// Whoever asks a witness for events hears that it has none, and whoever publishes there who leads.
#[test]
fn clients_of_a_witness_hear_what_it_is_and_who_leads() {
    let _alone = alone();
    let cluster = start();
    let leader = cluster.leader();
    assert_eq!(cluster.status_of(WITNESS).role, NodeRole::Witness);
    let mut client = RawClient::connect(cluster.server(WITNESS).parse().expect("an address"));
    client.subscribe(7, "events", StartAt::Beginning);
    assert_eq!(client.refusal(), Refusal::Witness);
    client.say(&Control::TopicListRequest(TopicListRequest { request: 8, first: Default::default() }));
    assert_eq!(client.refusal(), Refusal::Witness);
    client.say_open_producer(1);
    let not_leader = |refusal| matches!(refusal, Refusal::NotLeader { leader: Some(node), .. } if node.0 == leader);
    assert!(not_leader(client.refusal()));
    client.number_as(1, 1, 0);
    client.publish("events", &["event".to_owned()]);
    assert!(not_leader(client.refusal()));
    client.ping(9);
    assert_eq!(client.pong(), 9);
    let counters = client.counters();
    assert_eq!([counters["witness_asked"], counters["not_leader"]], [2, 2]);
}
