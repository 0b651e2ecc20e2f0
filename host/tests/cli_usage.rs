//! What the command line does without a cluster: help, exit codes, identity bundles.

use serde_json::Value;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

fn eventstream(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_eventstream"));
    command.env_remove("EVENTSTREAM_SERVERS").args(arguments).output().expect("the binary runs")
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("no signal")
}

fn stdout(output: &Output) -> &str {
    core::str::from_utf8(&output.stdout).expect("text")
}

fn stderr(output: &Output) -> &str {
    core::str::from_utf8(&output.stderr).expect("text")
}

/// An address where nobody listens.
fn dead_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port on loopback");
    listener.local_addr().expect("bound").to_string()
}

#[test]
fn help_tells_what_the_exit_codes_mean() {
    let help = eventstream(&["--help"]);
    assert_eq!(code(&help), 0);
    let commands = ["init", "node", "cluster", "publish", "subscribe", "status", "bench", "verify"];
    for words in commands.into_iter().chain(["Exit codes:"]) {
        assert!(stdout(&help).contains(words), "{words} is missing in {}", stdout(&help));
    }
}

#[test]
fn a_wrong_command_is_2() {
    let no_topic = &["publish", "file"][..];
    let latest = &["subscribe", "--topic", "t", "--from", "latest"];
    let no_offset = &["subscribe", "--topic", "t", "--from", "yesterday"];
    let no_port = &["status", "--servers", "localhost"];
    let long_topic = &["subscribe", "--servers", "127.0.0.1:1", "--topic", &"t".repeat(128)];
    let nothing = &["publish", "--topic", "t", "/nonexistent/file"];
    let no_dir = &["node", "--dir", "/nonexistent"];
    for arguments in [no_topic, latest, no_offset, no_port, long_topic, nothing, no_dir] {
        let output = eventstream(arguments);
        assert_eq!(code(&output), 2, "{arguments:?}: {}", stderr(&output));
        assert!(!stderr(&output).is_empty() && stdout(&output).is_empty());
    }
}

#[test]
fn a_cluster_that_is_not_there_is_3() {
    let dead = dead_address();
    let publish = &["publish", "--patience", "1", "--topic", "t", "--servers", &dead, "/dev/null"][..];
    let subscribe = &["subscribe", "--patience", "1", "--topic", "t", "--servers", &dead];
    let status = &["status", "--servers", &dead];
    for arguments in [publish, subscribe, status] {
        let output = eventstream(arguments);
        assert_eq!(code(&output), 3, "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(&dead), "which server: {}", stderr(&output));
    }
}

#[test]
fn failures_are_objects_for_machines() {
    let dead = dead_address();
    let output = eventstream(&["--json", "status", "--servers", &dead]);
    let failure: Value = serde_json::from_str(stderr(&output)).expect("an object");
    assert_eq!(failure["exit_code"], 3);
    assert!(failure["error"].as_str().expect("words").contains(&dead));
}

#[test]
fn init_makes_a_bundle_for_each_node_and_never_replaces_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let out = dir.path().to_str().expect("text");
    let nodes = "1=127.0.0.1:9001,2=127.0.0.1:9002,3=127.0.0.1:9003";
    let first = eventstream(&["--json", "init", "--nodes", nodes, "--out", out]);
    assert_eq!(code(&first), 0, "{}", stderr(&first));
    let made: Value = serde_json::from_str(stdout(&first)).expect("an object");
    assert_eq!(made["nodes"].as_array().expect("a list").len(), 3);
    for node in made["nodes"].as_array().expect("a list") {
        let directory = Path::new(node["directory"].as_str().expect("a path"));
        assert!(directory.join("identity.toml").exists(), "{}", directory.display());
    }
    let second = eventstream(&["init", "--nodes", nodes, "--out", out]);
    assert_eq!(code(&second), 2, "{}", stderr(&second));
    assert!(stderr(&second).contains("never replaced"), "{}", stderr(&second));
}

#[test]
fn init_makes_the_bundle_of_a_witness_beside_two_nodes_at_least() {
    let dir = tempfile::tempdir().expect("a directory");
    let out = |name: &str| dir.path().join(name).to_str().expect("text").to_owned();
    let nodes = "1=127.0.0.1:9001,2=127.0.0.1:9002";
    let made =
        eventstream(&["--json", "init", "--nodes", nodes, "--witness", "3=127.0.0.1:9003", "--out", &out("good")]);
    assert_eq!(code(&made), 0, "{}", stderr(&made));
    let made: Value = serde_json::from_str(stdout(&made)).expect("an object");
    let witnesses: Vec<_> = (0..3).map(|node| made["nodes"][node]["witness"].as_bool().expect("a truth")).collect();
    assert_eq!(witnesses, [false, false, true]);
    let bundle = Path::new(made["nodes"][2]["directory"].as_str().expect("a path")).join("identity.toml");
    assert!(std::fs::read_to_string(bundle).expect("a bundle").contains("witness = true"));

    let one =
        eventstream(&["init", "--nodes", "1=127.0.0.1:9001", "--witness", "2=127.0.0.1:9002", "--out", &out("bad")]);
    assert_eq!(code(&one), 2);
    assert!(stderr(&one).contains("a witness beside 1 nodes"), "{}", stderr(&one));
    let again = ["--witness", "4=127.0.0.1:9004"];
    let two = eventstream(
        &[&["init", "--nodes", nodes, "--witness", "3=127.0.0.1:9003", "--out", &out("bad")], &again[..]].concat(),
    );
    assert_eq!(code(&two), 2, "at most one");
    assert!(!dir.path().join("bad").exists(), "nothing was written");
}

#[test]
fn init_says_what_is_wrong_with_the_nodes() {
    let dir = tempfile::tempdir().expect("a directory");
    let out = dir.path().join("new");
    for nodes in
        ["127.0.0.1:9001", "one=127.0.0.1:9001", "1=127.0.0.1", "0=127.0.0.1:9001", "1=a:1,1=a:2", "1=a:1,2=a:1"]
    {
        let output = eventstream(&["init", "--nodes", nodes, "--out", out.to_str().expect("text")]);
        assert_eq!(code(&output), 2, "{nodes}: {}", stderr(&output));
    }
    assert!(!out.exists(), "nothing was written");
}
