//! The outage as a client sees it: leaders killed, stopped in order, and cut off in silence.
//!
//! `cargo bench -p eventstream-host --bench failover -- --kills 100 --stops 50 --cuts 50`
//!
//! Three real processes on this machine. A client publishes an event every millisecond and notes when each is
//! acknowledged. The outage of a fault is the longest pause between two acknowledgements from the fault until the
//! cluster is whole again: it contains the detection, the election, the first commit of the new leader and the resending.
//! At the end every acknowledged event is looked for on every node.

use clap::Parser;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use core::time::Duration;
use eventstream_core::time::Instant;
use eventstream_host::client::{Client, Options, Start, producer_id};
use eventstream_host::clock::Clock;
use eventstream_host::reference;
use eventstream_testbed::{Cluster, Ledger, Load, Network, Spoke};
use hdrhistogram::Histogram;
use std::path::Path;
use std::sync::Mutex;

/// Between two events of the client.
const CADENCE: Duration = Duration::from_millis(1);
/// How long the load runs before a fault, and how long a node stays dead or cut off.
const CALM: Duration = Duration::from_millis(300);
const AWAY: Duration = Duration::from_millis(900);
const TOPIC: &str = "failover";
/// Longer than any outage.
const PATIENCE: Duration = Duration::from_secs(60);
/// Until when certificates are valid: the year 2096.
const LATER: u64 = 4_000_000_000;

#[derive(Debug, Parser)]
struct Arguments {
    /// Leaders to kill (SIGKILL), one after the other; each is restarted.
    #[arg(long, default_value_t = 100)]
    kills: u32,
    /// Leaders to stop in order (SIGTERM), one after the other; each is restarted.
    #[arg(long, default_value_t = 50)]
    stops: u32,
    /// Leaders to cut off from everybody in silence, one after the other; each is healed.
    #[arg(long, default_value_t = 50)]
    cuts: u32,
    /// Nodes and client speak TLS.
    #[arg(long)]
    tls: bool,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let arguments = Arguments::parse();
    let clock = Clock::start();
    println!("disk: 4 KiB append + fdatasync, median of 200: {} us before", sync_us(clock));
    let start = |network| start(network, arguments.tls);
    let killed = measure(
        "killed",
        arguments.kills,
        clock,
        || start(Network::loopback(3)),
        Cluster::kill,
        |cluster, leader| {
            cluster.start_node(leader);
        },
    );
    let stopped = measure(
        "stopped",
        arguments.stops,
        clock,
        || start(Network::loopback(3)),
        Cluster::stop,
        |cluster, leader| {
            cluster.start_node(leader);
        },
    );
    let cut = measure(
        "cut",
        arguments.cuts,
        clock,
        || start(Network::with_cuts(3)),
        |c, leader| c.isolate(leader),
        |c, leader| {
            c.rejoin(leader);
        },
    );
    println!("disk: {} us after", sync_us(clock));
    println!("\n| leader | times | p50 ms | p90 ms | p99 ms | max ms |\n|---|---|---|---|---|---|");
    let rows = [("killed (SIGKILL)", killed), ("stopped (SIGTERM)", stopped), ("cut off in silence", cut)];
    for (name, outages) in rows {
        let ms = |quantile| outages.value_at_quantile(quantile) as f64 / 1_000.0;
        println!(
            "| {name} | {} | {:.1} | {:.1} | {:.1} | {:.1} |",
            outages.len(),
            ms(0.5),
            ms(0.9),
            ms(0.99),
            outages.max() as f64 / 1_000.0
        );
    }
}

fn start(network: Network, tls: bool) -> Cluster {
    let binary = Path::new(env!("CARGO_BIN_EXE_eventstream"));
    if !tls {
        return Cluster::start(binary, 3, network);
    }
    let (mut cluster, _) = Cluster::prepare_with_tls(binary, 3, network, LATER);
    cluster.nodes().for_each(|node| cluster.start_node(node));
    cluster
}

/// Does `fault` to the leader and then `repair`s it, so many times; gives the outages in microseconds.
fn measure(
    what: &str,
    times: u32,
    clock: Clock,
    start: impl FnOnce() -> Cluster,
    fault: impl Fn(&mut Cluster, Spoke),
    repair: impl Fn(&mut Cluster, Spoke),
) -> Histogram<u64> {
    let mut outages = Histogram::new(3).expect("three digits");
    if times == 0 {
        return outages;
    }
    let mut cluster = start();
    let (acks, stop) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    let (servers, clients, options) = (cluster.servers(), cluster.clients(), cluster.options(PATIENCE));
    let _ = cluster.leader();
    let ledger = std::thread::scope(|scope| {
        let publisher = scope.spawn(|| clients.run(async || publish(&servers, options, clock, &stop, &acks).await));
        for number in 1..=times {
            std::thread::sleep(CALM);
            let leader = cluster.leader();
            let at = clock.now();
            fault(&mut cluster, leader);
            std::thread::sleep(AWAY);
            repair(&mut cluster, leader);
            cluster.await_whole();
            let outage = longest_pause(&acks, at);
            println!("{what} {number}/{times}: node {leader}, {:.1} ms", outage as f64 / 1_000.0);
            outages.record(outage).expect("in range");
        }
        stop.store(true, Relaxed);
        publisher.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    let load = Load { topic: TOPIC.into(), producers: 1, events: 0, pause_every: 0, pause: CADENCE };
    cluster.assert_exactly_once(&load, &ledger);
    outages
}

/// Publishes an event every millisecond until told to stop; notes when each acknowledgement came.
async fn publish(
    servers: &[String],
    options: Options,
    clock: Clock,
    stop: &AtomicBool,
    times: &Mutex<Vec<Instant>>,
) -> Ledger {
    let client = Client::connect_with(servers, options).expect("servers");
    let id = producer_id(TOPIC);
    let (mut sender, mut acks) = client.producer(id, Start::Next).await.expect("a producer").split();
    let send = async move {
        let mut ticks = tokio::time::interval(CADENCE);
        while !stop.load(Relaxed) {
            ticks.tick().await;
            let payload = Load::payload(id, sender.next_sequence());
            sender.send(TOPIC, b"key", payload.as_bytes()).await.expect("an event that can be published");
        }
    };
    let hear = async {
        let mut ledger = Ledger::default();
        while let Some(answer) = acks.next().await {
            let ack = answer.expect("every event is acknowledged in the end");
            times.lock().expect("no panic").push(clock.now());
            for place in 0..ack.events() {
                let offset = ack.offset.map(|first| first.plus(place));
                ledger.acked.insert((id, ack.first_sequence.plus(place)), offset);
            }
        }
        ledger
    };
    tokio::join!(hear, send).0
}

/// The longest time in microseconds without an acknowledgement, from the last one before `from` on.
fn longest_pause(acks: &Mutex<Vec<Instant>>, from: Instant) -> u64 {
    let acks = acks.lock().expect("no panic");
    let first = acks.partition_point(|&ack| ack < from).saturating_sub(1);
    let pauses = acks[first..].windows(2).map(|pair| pair[1].saturating_since(pair[0]).as_micros());
    pauses.max().expect("acknowledgements before and after the fault")
}

/// The median of appends of 4 KiB, each followed by fdatasync, where the nodes' directories are.
fn sync_us(clock: Clock) -> u64 {
    reference::sync(clock, &std::env::temp_dir()).expect("a disk").median.as_micros()
}
