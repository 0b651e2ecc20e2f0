//! `eventstream bench` against three real nodes.

use eventstream_testbed::{Cluster, Network};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One cluster at a time: two cores are three nodes' share as it is.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn start() -> Cluster {
    let cluster = Cluster::start(Path::new(env!("CARGO_BIN_EXE_eventstream")), 3, Network::loopback(3));
    let _ = cluster.leader();
    cluster
}

fn command(servers: &str, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_eventstream"));
    command.args(["--json", "bench", "--servers", servers]).args(arguments.split_whitespace());
    command
}

fn bench(servers: &str, arguments: &str) -> Output {
    command(servers, arguments).output().expect("the binary runs")
}

/// A run in which all is well.
fn ok(cluster: &Cluster, arguments: &str) -> Value {
    let output = bench(&cluster.servers().join(","), arguments);
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    let result: Value = serde_json::from_slice(&output.stdout).expect("an object");
    let sent = number(&result["sent"]);
    assert!(sent > 0);
    assert_eq!((number(&result["acked"]), number(&result["check"]["read"])), (sent, sent), "{result}");
    for nothing in ["duplicates", "unknown", "unsent"] {
        assert_eq!(result[nothing], 0, "{nothing}: {result}");
    }
    for nothing in ["lost", "doubled", "misplaced", "corrupted"] {
        assert_eq!(result["check"][nothing], 0, "{nothing}: {result}");
    }
    result
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is a whole number"))
}

fn assert_sorted(times: &Value) {
    let times = ["p50", "p90", "p99", "p999", "max"].map(|name| number(&times[name]));
    assert!(times.is_sorted(), "{times:?}");
}

/// Events that the cluster has accepted, as a node tells that has applied all of them.
fn accepted(cluster: &Cluster) -> u64 {
    cluster.await_agreement().events
}

#[test]
fn a_closed_loop_measures_and_finds_every_event() {
    let _alone = alone();
    let cluster = start();
    let first = ok(&cluster, "--inflight 256 --size 100 --seconds 1 --warmup 1");
    assert_eq!((&first["loop"], &first["inflight"], &first["rate"]), (&"closed".into(), &256.into(), &Value::Null));
    assert_sorted(&first["latency_us"]);
    let measured = number(&first["latency_us"]["events"]);
    assert!(0 < measured && measured < number(&first["sent"]), "the warm-up does not count: {first}");
    for moment in ["before", "after"] {
        for what in ["sync_us", "loopback_us"] {
            let spread = &first["reference"][moment][what];
            assert!(number(&spread["p50"]) <= number(&spread["p99"]), "{first}");
        }
    }
    let quiet = |moment| number(&first["reference"][moment]["sync_us"]["p50"]) < 300;
    assert_eq!(first["reference"]["quiet"], quiet("before") && quiet("after"));
    // The first event of the topic is not one of the run's.
    assert_eq!(accepted(&cluster), number(&first["sent"]) + 1);

    // The same producers go on where they were.
    let second = ok(&cluster, "--inflight 10 --producers 4 --topics 3 --seconds 1 --warmup 0");
    assert_eq!(second["latency_us"]["events"], second["sent"]);
    assert_eq!(accepted(&cluster), number(&first["sent"]) + 1 + number(&second["sent"]) + 3);
}

#[test]
fn an_open_loop_sends_what_is_due_however_it_goes() {
    let _alone = alone();
    let cluster = start();
    let result = ok(&cluster, "--rate 2003 --size 1 --producers 3 --topics 2 --seconds 1 --warmup 1");
    assert_eq!((&result["loop"], &result["rate"], &result["inflight"]), (&"open".into(), &2_003.into(), &Value::Null));
    assert_eq!(number(&result["sent"]), 2 * 2_003);
    for times in ["latency_us", "lateness_us"] {
        assert_eq!(number(&result[times]["events"]), 2_003, "every event that was due after the warm-up");
        assert_sorted(&result[times]);
    }
    assert!(number(&result["latency_us"]["max"]) >= number(&result["lateness_us"]["p50"]), "lateness is part of it");
    assert_eq!(result["window_full"]["times"], 0);
}

#[test]
fn what_is_due_while_a_leader_dies_is_sent_and_is_there() {
    let _alone = alone();
    let mut cluster = start();
    let mut running = command(&cluster.servers().join(","), "--rate 1000 --seconds 5 --warmup 0 --patience 60");
    let mut running = running.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    let mut told = BufReader::new(running.stderr.take().expect("piped"));
    let mut line = String::new();
    told.read_line(&mut line).expect("text");
    assert!(line.starts_with("measuring, "), "{line}");
    let leader = cluster.leader();
    cluster.kill(leader);
    let mut rest = String::new();
    told.read_to_string(&mut rest).expect("text");
    let output = running.wait_with_output().expect("a child");
    assert!(output.status.success(), "{rest}");
    let result: Value = serde_json::from_slice(&output.stdout).expect("an object");
    assert_eq!((number(&result["sent"]), number(&result["acked"])), (5_000, 5_000), "{result}");
    assert_eq!((&result["check"]["read"], &result["check"]["lost"]), (&5_000.into(), &0.into()), "{result}");
    assert!(number(&result["leader_changes"]) >= 1, "{result}");
    assert_ne!(number(&result["leader"]), u64::from(leader), "{result}");
}

/// Two of three nodes are dead for at least two seconds, longer than the client's window lasts.
#[test]
fn an_outage_neither_slows_the_schedule_nor_hides_in_the_latencies() {
    let _alone = alone();
    let mut cluster = start();
    let mut running = command(&cluster.servers().join(","), "--rate 20000 --seconds 6 --warmup 0 --patience 60");
    let mut running = running.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    let mut told = BufReader::new(running.stderr.take().expect("piped")).lines().map(|line| line.expect("text"));
    let mut acknowledged = || told.next().expect("a line a second").rsplit(", ").next().map(str::to_owned);
    let _ = acknowledged();
    cluster.kill(1);
    cluster.kill(2);
    let (mut last, mut same) = (None, 0);
    while same < 2 {
        let now = acknowledged();
        same = if now == last { same + 1 } else { 0 };
        last = now;
    }
    cluster.start_node(1);
    cluster.start_node(2);
    let rest: Vec<String> = told.collect();
    let output = running.wait_with_output().expect("a child");
    assert!(output.status.success(), "{rest:?}");
    let result: Value = serde_json::from_slice(&output.stdout).expect("an object");
    assert_eq!((number(&result["sent"]), number(&result["check"]["read"])), (120_000, 120_000), "{result}");
    let full = &result["window_full"];
    assert!(number(&full["times"]) > 0 && number(&full["events"]) >= number(&full["longest_queue"]), "{result}");
    // Whoever was due in the first of two seconds without an answer has waited for the second one at least.
    assert!(number(&result["latency_us"]["p90"]) >= 1_000_000, "{result}");
}

#[test]
fn a_run_that_another_one_of_its_name_has_ended_says_so() {
    let _alone = alone();
    let cluster = start();
    let mut running = command(&cluster.servers().join(","), "--rate 1000 --seconds 5 --warmup 0");
    let mut running = running.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    let mut told = BufReader::new(running.stderr.take().expect("piped")).lines().map(|line| line.expect("text"));
    let _ = told.next().expect("a line a second");
    ok(&cluster, "--inflight 10 --seconds 1 --warmup 0");
    let last: Value = serde_json::from_str(&told.last().expect("a failure")).expect("an object");
    let output = running.wait_with_output().expect("a child");
    assert_eq!((output.status.code(), &last["exit_code"]), (Some(4), &4.into()), "{last}");
    assert!(last["error"].as_str().expect("words").contains("opened elsewhere"), "{last}");
    let result: Value = serde_json::from_slice(&output.stdout).expect("an object");
    assert!(number(&result["unsent"]) > 0 && number(&result["acked"]) > 0, "{result}");
    assert_eq!(number(&result["acked"]) + number(&result["unknown"]), number(&result["sent"]), "{result}");
    assert_eq!(number(&result["sent"]) + number(&result["unsent"]), 5_000, "{result}");
    assert_eq!(number(&result["latency_us"]["events"]), 5_000, "what was given up counts");
    assert_eq!(result["check"]["lost"], 0, "{result}");
}

#[test]
fn what_the_cluster_does_not_allow_is_known_before_anything_is_measured() {
    let _alone = alone();
    let cluster = start();
    let output = bench(&cluster.servers().join(","), "--topics 1025 --seconds 1");
    let failure: Value = serde_json::from_slice(&output.stderr).expect("an object");
    assert_eq!((output.status.code(), &failure["exit_code"]), (Some(2), &2.into()), "{failure}");
    assert!(failure["error"].as_str().expect("words").contains("fewer --topics"), "{failure}");
    assert!(output.stdout.is_empty());
}

#[test]
fn a_wrong_command_is_2_and_a_cluster_that_is_not_there_is_3() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port on loopback");
    let dead = listener.local_addr().expect("bound").to_string();
    drop(listener);
    for (arguments, code, words) in [
        ("--inflight 1 --rate 1", 2, "exclude each other"),
        ("--size 0", 2, "--size is at least 1"),
        ("--size 31745", 2, "31744"),
        ("--producers 0", 2, "--producers is at least 1"),
        ("--reference-dir /nonexistent", 2, "/nonexistent"),
        ("--patience 1", 3, dead.as_str()),
    ] {
        let output = bench(&dead, arguments);
        let failure: Value = serde_json::from_slice(&output.stderr).expect("an object");
        assert_eq!((output.status.code(), &failure["exit_code"]), (Some(code), &code.into()), "{arguments}: {failure}");
        assert!(failure["error"].as_str().expect("words").contains(words), "{arguments}: {failure}");
        assert!(output.stdout.is_empty());
    }
}
