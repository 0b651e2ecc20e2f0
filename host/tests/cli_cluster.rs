//! The command line against a cluster that it has started itself.

use core::sync::atomic::{AtomicU16, Ordering};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};

/// `eventstream cluster` in a directory; interrupted when dropped.
struct Cluster {
    supervisor: Option<Child>,
    servers: String,
    /// The nodes' processes.
    pids: Vec<Pid>,
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_eventstream"));
    command.env_remove("EVENTSTREAM_SERVERS").args(arguments);
    command
}

/// A port that is free, as are the two after it, and that no other test of this process takes.
fn base_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let free = |port: &u16| (*port..port + 3).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok());
    let first = 10_000 + u16::try_from(std::process::id() % 4_000).expect("small") * 5;
    let mut tried = core::iter::repeat_with(|| first + 3 * NEXT.fetch_add(1, Ordering::Relaxed)).take(1_000);
    tried.find(free).expect("three free ports in a row")
}

impl Cluster {
    /// Starts it and waits until it says that it is ready.
    fn start(dir: &Path, more: &[&str]) -> Self {
        let mut supervisor = command(&["--json", "cluster", "--dir"]);
        supervisor.arg(dir).args(more).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut supervisor = supervisor.spawn().expect("the binary runs");
        let mut ready = String::new();
        BufReader::new(supervisor.stdout.take().expect("piped")).read_line(&mut ready).expect("it says something");
        let ready: Value = serde_json::from_str(&ready).expect("it is ready");
        let address = |node: &Value| node["address"].as_str().expect("an address").to_owned();
        let servers: Vec<String> = ready["nodes"].as_array().expect("nodes").iter().map(address).collect();
        assert_eq!(servers.len(), 3);
        let pid = |node: &Value| Pid::from_raw(i32::try_from(node["pid"].as_i64()?).ok()?);
        let pids = ready["nodes"].as_array().expect("nodes").iter().map(|node| pid(node).expect("a process")).collect();
        Self { supervisor: Some(supervisor), servers: servers.join(","), pids }
    }

    fn new(dir: &Path) -> Self {
        Self::start(dir, &["--nodes", "3", "--base-port", &base_port().to_string()])
    }

    /// Ctrl-C, and waits for the end.
    fn interrupt(mut self) -> ExitStatus {
        let mut supervisor = self.supervisor.take().expect("running");
        kill_process(Pid::from_child(&supervisor), Signal::INT).expect("running");
        supervisor.wait().expect("a child")
    }

    fn run(&self, arguments: &[&str]) -> Output {
        command(arguments).args(["--servers", &self.servers]).stdin(Stdio::null()).output().expect("the binary runs")
    }

    /// Runs a command that has to succeed, and gives what it prints.
    fn ok(&self, arguments: &[&str]) -> Vec<u8> {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// Publishes a file and gives the summary.
    fn publish(&self, topic: &str, more: &[&str], file: &Path) -> Value {
        let arguments = [&["--json", "publish", "--topic", topic], more, &[file.to_str().expect("text")]].concat();
        serde_json::from_slice(&self.ok(&arguments)).expect("a summary")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(supervisor) = &mut self.supervisor {
            // The nodes stop when their supervisor is gone.
            let _ = supervisor.kill();
            let _ = supervisor.wait();
        }
    }
}

fn write(dir: &Path, name: &str, bytes: &[u8]) -> std::path::PathBuf {
    let path = dir.join(name);
    fs::write(&path, bytes).expect("written");
    path
}

fn log(lines: usize) -> Vec<u8> {
    (0..lines)
        .flat_map(|line| format!("2026-11-20 03:12:{:02} status installed package-{line}\n", line % 60).into_bytes())
        .collect()
}

#[test]
fn what_is_published_is_printed_and_a_second_run_adds_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let cluster = Cluster::new(dir.path());
    let input = log(20_000);
    let file = write(dir.path(), "input", &input);

    let first = cluster.publish("t", &["--producer", "press-7"], &file);
    assert_eq!((&first["sent"], &first["accepted"], &first["duplicates"]), (&20_000.into(), &20_000.into(), &0.into()));
    let second = cluster.publish("t", &["--producer", "press-7"], &file);
    assert_eq!(
        (&second["sent"], &second["accepted"], &second["duplicates"]),
        (&20_000.into(), &0.into(), &20_000.into())
    );
    for server in cluster.servers.split(',') {
        let read =
            command(&["subscribe", "--topic", "t", "--count", "20000", "--follow", "--servers", server]).output();
        assert!(read.expect("the binary runs").stdout == input, "{server} prints something else than was published");
    }
    // A longer input under the same name adds what is new.
    let longer = write(dir.path(), "longer", &log(20_100));
    let third = cluster.publish("t", &["--producer", "press-7"], &longer);
    assert_eq!((&third["accepted"], &third["duplicates"]), (&100.into(), &20_000.into()));
}

#[test]
fn lines_are_events_whatever_is_in_them() {
    let dir = tempfile::tempdir().expect("a directory");
    let cluster = Cluster::new(dir.path());
    let odd = b"\n\xFF\xFE\nlast line without an end";
    let summary = cluster.publish("odd", &[], &write(dir.path(), "odd", odd));
    assert_eq!(summary["accepted"], 3);
    let server = cluster.servers.clone();
    let read = |more: &[&str]| {
        let arguments = [&["subscribe", "--topic", "odd", "--servers", &server], more].concat();
        command(&arguments).output().expect("the binary runs").stdout
    };
    assert_eq!(read(&["--follow", "--count", "3"]), [&odd[..], b"\n"].concat());
    assert_eq!(read(&["--from", "2", "--follow", "--count", "1"]), b"last line without an end\n");
    let objects = String::from_utf8(read(&["--json", "--follow", "--count", "3"])).expect("text");
    let objects: Vec<Value> = objects.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
    assert_eq!(objects.iter().map(|object| object["offset"].clone()).collect::<Vec<Value>>(), [0, 1, 2]);
    assert_eq!((&objects[0]["payload"], &objects[1]["payload_hex"]), (&"".into(), &"fffe".into()));
    assert_eq!((&objects[2]["topic"], &objects[2]["sequence"]), (&"odd".into(), &2.into()));

    // A line that is too long is named, and nothing after it is sent.
    let long = [&b"good\n"[..], &[b'x'; 31_745], b"\nnever"].concat();
    let output = cluster.run(&["publish", "--topic", "long", write(dir.path(), "long", &long).to_str().expect("text")]);
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{message}");
    assert!(message.contains("line 2"), "{message}");
    let held = command(&["subscribe", "--topic", "long", "--follow", "--count", "1", "--servers", &server]).output();
    assert_eq!(held.expect("the binary runs").stdout, b"good\n");
}

#[test]
fn a_follower_prints_what_comes_and_ends_quietly_when_nobody_reads() {
    let dir = tempfile::tempdir().expect("a directory");
    let cluster = Cluster::new(dir.path());
    let mut follower = command(&["subscribe", "--topic", "t", "--follow", "--servers", &cluster.servers]);
    let mut follower = follower.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    let mut printed = BufReader::new(follower.stdout.take().expect("piped"));

    let mut publisher = command(&["publish", "--topic", "t", "--servers", &cluster.servers]);
    let mut publisher = publisher.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("the binary runs");
    let mut input = publisher.stdin.take().expect("piped");
    for line in ["one\n", "two\n"] {
        // The input stays open: a line is published when it is there.
        input.write_all(line.as_bytes()).expect("written");
        let mut read = String::new();
        printed.read_line(&mut read).expect("printed");
        assert_eq!(read, line);
    }
    drop(printed);
    input.write_all(b"three\n").expect("written");
    drop(input);
    assert!(publisher.wait().expect("a child").success());
    let output = follower.wait_with_output().expect("a child");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn any_node_tells_how_all_are() {
    let dir = tempfile::tempdir().expect("a directory");
    let cluster = Cluster::new(dir.path());
    cluster.publish("t", &[], &write(dir.path(), "input", &log(100)));
    for server in cluster.servers.split(',') {
        let output = command(&["--json", "status", "--servers", server]).output().expect("the binary runs");
        let status: Value = serde_json::from_slice(&output.stdout).expect("an object");
        let nodes = status["nodes"].as_array().expect("a list");
        assert_eq!(nodes.iter().map(|node| node["node"].clone()).collect::<Vec<Value>>(), [1, 2, 3]);
        assert_eq!(nodes.iter().filter(|node| node["role"] == "leader").count(), 1);
        assert!(nodes.iter().all(|node| node["reachable"] == true));
    }
    let table = String::from_utf8(cluster.ok(&["status"])).expect("text");
    assert_eq!(table.lines().count(), 4, "{table}");
    assert!(table.contains("leader") && table.contains("STATE HASH"), "{table}");
}

#[test]
fn ctrl_c_stops_all_nodes_and_the_data_stays() {
    let dir = tempfile::tempdir().expect("a directory");
    let cluster = Cluster::new(dir.path());
    let input = log(500);
    cluster.publish("t", &["--producer", "p"], &write(dir.path(), "input", &input));
    let servers = cluster.servers.clone();
    assert!(cluster.interrupt().success());
    let gone = command(&["status", "--servers", &servers]).output().expect("the binary runs");
    assert_eq!(gone.status.code(), Some(3), "no node is left behind");

    // The directory knows its own addresses.
    let cluster = Cluster::start(dir.path(), &[]);
    assert_eq!(cluster.servers, servers);
    let read = cluster.ok(&["subscribe", "--topic", "t", "--follow", "--count", "500"]);
    assert!(read == input, "something else was kept than was published");
    let wrong = command(&["cluster", "--nodes", "5", "--dir"]).arg(dir.path()).output().expect("the binary runs");
    assert_eq!(wrong.status.code(), Some(2), "{}", String::from_utf8_lossy(&wrong.stderr));
}

#[test]
fn a_node_that_is_killed_is_reported_and_started_again_if_asked_for() {
    let dir = tempfile::tempdir().expect("a directory");
    let port = base_port().to_string();
    let mut cluster = Cluster::start(dir.path(), &["--base-port", &port, "--restart"]);
    let told = cluster.supervisor.as_mut().and_then(|supervisor| supervisor.stderr.take()).expect("piped");
    kill_process(cluster.pids[1], Signal::KILL).expect("running");
    // Before that it may have told that it waits for a leader.
    let mut told = BufReader::new(told).lines().map(|line| line.expect("text"));
    let line = told.find(|line| line.contains("ended")).expect("it says that a node has ended");
    assert!(line.contains("node 2 has ended (signal: 9 (SIGKILL))") && line.contains("started again"), "{line}");
    let second = cluster.servers.split(',').nth(1).expect("three servers");
    let is_up = || command(&["status", "--servers", second]).output().expect("the binary runs").stdout;
    while !String::from_utf8_lossy(&is_up()).contains("follower") {}
}

#[test]
fn every_command_works_over_tls_and_says_what_is_missing_without() {
    let dir = tempfile::tempdir().expect("a directory");
    let cluster = Cluster::start(dir.path(), &["--nodes", "3", "--base-port", &base_port().to_string(), "--tls"]);
    let file = |name: &str| dir.path().join("client").join(name).to_str().expect("text").to_owned();
    let (ca, token, cert, key) = (file("ca.pem"), file("token"), file("client.pem"), file("client.key"));
    let by_token = ["--ca", &ca, "--token-file", &token];
    let by_certificate = ["--ca", &ca, "--cert", &cert, "--key", &key];

    let input = log(2_000);
    let lines = write(dir.path(), "input", &input);
    let lines = lines.to_str().expect("text");
    let published = cluster.ok(&[&["--json", "publish", "--topic", "t", lines], &by_token[..]].concat());
    let published: Value = serde_json::from_slice(&published).expect("a summary");
    assert_eq!(published["accepted"], 2_000);
    let subscribe = ["subscribe", "--topic", "t", "--follow", "--count", "2000"];
    assert!(cluster.ok(&[&subscribe, &by_certificate[..]].concat()) == input, "something else than was published");
    let status = String::from_utf8(cluster.ok(&[&["status"], &by_token[..]].concat())).expect("text");
    assert!(status.contains("leader") && !status.contains("unreachable"), "{status}");
    let bench = ["bench", "--rate", "500", "--seconds", "1", "--warmup", "0"];
    cluster.ok(&[&bench, &by_certificate[..]].concat());
    let verify = command(&["verify", "--servers", &cluster.servers]).args(by_certificate).output();
    let verify = verify.expect("the binary runs");
    assert!(verify.status.success(), "{}", String::from_utf8_lossy(&verify.stderr));
    let mut environment = command(&["status", "--servers", &cluster.servers]);
    let environment = environment.env("EVENTSTREAM_CA", &ca).env("EVENTSTREAM_TOKEN_FILE", &token).output();
    assert!(environment.expect("the binary runs").status.success(), "the environment says the same");

    let refused = |arguments: &[&str], exit, words: &str| {
        let output = cluster.run(&[&["status"], arguments].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(exit), "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {said}");
    };
    refused(&[], 3, "the node speaks TLS only");
    refused(&["--ca", &ca], 2, "--ca alone lets nobody in");
    refused(&["--token-file", &token], 2, "give --ca too");
    refused(&["--ca", &ca, "--cert", &cert], 2, "--cert and --key belong together");
    refused(&[&by_token[..], &["--cert", &cert, "--key", &key]].concat(), 2, "and not both");
    refused(&["--ca", "/nowhere/ca.pem", "--token-file", &token], 2, "/nowhere/ca.pem is missing");
    let other = tempfile::tempdir().expect("a directory");
    let out = other.path().to_str().expect("text");
    let init = command(&["--json", "init", "--tls", "--nodes", "1=127.0.0.1:1", "--out", out]).output();
    let written: Value = serde_json::from_slice(&init.expect("the binary runs").stdout).expect("what was written");
    let client = written["tls"]["client"].as_str().expect("a folder");
    let strange = [format!("{client}/ca.pem"), format!("{client}/token")];
    refused(&["--ca", &strange[0], "--token-file", &token], 3, "its certificate is not to be trusted");
    refused(&["--ca", &ca, "--token-file", &strange[1]], 3, "no certificate or token of this cluster");
}
