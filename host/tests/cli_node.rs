//! What a node says at its start: what it will use, or everything that is wrong with its configuration.

use core::sync::atomic::{AtomicU16, Ordering::Relaxed};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

fn eventstream() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_eventstream"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The directory of the only node of a cluster, and its address.
fn init(out: &Path) -> (PathBuf, String) {
    // Outside the range from which the system takes ports by itself, and no other test's.
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 10_000 + u16::try_from(std::process::id() % 4_000).expect("small") * 5;
    let address = core::iter::repeat_with(|| first + NEXT.fetch_add(1, Relaxed))
        .map(|port| format!("127.0.0.1:{port}"))
        .find(|address| TcpListener::bind(address).is_ok())
        .expect("a free port");
    let nodes = format!("1={address}");
    let made = eventstream().args(["init", "--nodes", &nodes, "--out"]).arg(out).output().expect("the binary runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    (out.join("node-1"), address)
}

/// A node; killed when dropped.
struct Node(Child);

impl Drop for Node {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Node {
    fn start(dir: &Path, more: &[&str]) -> Self {
        Self(eventstream().args(more).args(["node", "--dir"]).arg(dir).spawn().expect("the binary runs"))
    }

    /// What it prints up to the line that `is_last`.
    fn says_until(&mut self, is_last: impl Fn(&str) -> bool) -> Vec<String> {
        let mut said = Vec::new();
        for line in BufReader::new(self.0.stdout.take().expect("piped")).lines() {
            said.push(line.expect("text"));
            if is_last(&said[said.len() - 1]) {
                return said;
            }
        }
        panic!("it ended after {said:?}");
    }
}

#[test]
fn a_node_says_what_it_will_use() {
    let out = tempfile::tempdir().expect("a directory");
    let (dir, address) = init(out.path());
    let said = Node::start(&dir, &[]).says_until(|line| line.contains("listens on")).join("\n");
    for words in [
        "in all",
        "blocks for clients",
        dir.to_str().expect("text"),
        "256 connections",
        "4096 producers",
        "1024 topics",
        "31744 bytes",
        &format!("listens on {address}"),
    ] {
        assert!(said.contains(words), "{words} is missing in:\n{said}");
    }
}

#[test]
fn a_node_says_it_to_programs() {
    let out = tempfile::tempdir().expect("a directory");
    let (dir, address) = init(out.path());
    let said = Node::start(&dir, &["--json"]).says_until(|_| true);
    let said: Value = serde_json::from_str(&said[0]).expect("an object");
    assert_eq!((&said["node"], &said["addresses"][0]), (&1.into(), &address.as_str().into()));
    assert_eq!((&said["connections"], &said["parameters"]["topics"]), (&256.into(), &1024.into()));
    let bytes = |part: &Value| part["bytes"].as_u64().expect("a number");
    let sum: u64 = said["memory"].as_array().expect("a list").iter().map(bytes).sum();
    assert_eq!(said["memory_bytes"].as_u64(), Some(sum));
}

/// `eventstream node` under a limit of open files, as the shell's `ulimit` sets it.
fn node_with_files(dir: &Path, limit: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit {limit} && exec \"$0\" \"$@\"")]).arg(env!("CARGO_BIN_EXE_eventstream"));
    command.args(["node", "--dir"]).arg(dir).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn a_node_that_may_open_too_few_files_does_not_start_and_says_how_many_it_needs() {
    let out = tempfile::tempdir().expect("a directory");
    let (dir, _) = init(out.path());
    let refused = node_with_files(&dir, "-n 500").output().expect("it runs");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("the system allows 500") && said.contains("ulimit -Hn"), "{said}");
    let needed: u32 = said.split_whitespace().find_map(|word| word.parse().ok()).expect("a number");
    assert!(refused.stdout.is_empty(), "it did not listen");
    let mut enough = Node(node_with_files(&dir, &format!("-n {needed}")).spawn().expect("it runs"));
    enough.says_until(|line| line.contains("listens on"));
}

#[test]
fn a_node_raises_the_limit_of_open_files_where_it_may() {
    let out = tempfile::tempdir().expect("a directory");
    let (dir, _) = init(out.path());
    let mut node = Node(node_with_files(&dir, "-Sn 500").spawn().expect("it runs"));
    node.says_until(|line| line.contains("listens on"));
    let limits = fs::read_to_string(format!("/proc/{}/limits", node.0.id())).expect("it runs");
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files")).expect("a line of it");
    let soft: u32 = files.split_whitespace().next().and_then(|word| word.parse().ok()).expect("a number");
    assert!(soft > 500, "{limits}");
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let out = tempfile::tempdir().expect("a directory");
    let file = out.path().join("node.toml");
    fs::write(
        &file,
        "dir = \"nowhere\"\nconnections = 0\nthreads = \"many\"\nlisten = \"everywhere\"\ncolour = \"red\"\n",
    )
    .expect("a file");
    let refused = eventstream().args(["node", "--memory-mib", "1", "--config"]).arg(&file).output().expect("it runs");
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8_lossy(&refused.stderr);
    for wrong in ["nowhere", "connections", "many", "everywhere", "colour", "memory_mib"] {
        assert!(said.contains(wrong), "{wrong} is missing in:\n{said}");
    }
}
