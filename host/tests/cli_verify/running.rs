//! Nodes that run, and what they leave behind.

use crate::{Answer, files, verify};
use core::time::Duration;
use eventstream_core::config::Parameters;
use eventstream_core::id::{ClusterId, NodeId};
use eventstream_host::config::{Key, Settings};
use eventstream_host::identity::Identity;
use eventstream_host::node::Node;
use eventstream_testbed::network::free_addresses;
use eventstream_testbed::{Cluster, Load, Network, Progress};
use serde_json::json;
use std::path::{Path, PathBuf};

fn load(topic: &str, producers: u16, events: u64) -> Load {
    Load { topic: topic.into(), producers, events, pause_every: 50, pause: Duration::from_millis(1) }
}

fn verify_stopped(cluster: &Cluster) -> Answer {
    let directories: Vec<PathBuf> = cluster.nodes().map(|node| cluster.directory(node)).collect();
    crate::verify_directories(&directories)
}

#[test]
fn a_cluster_is_good_while_it_is_written_to_and_after_it_was_killed() {
    let binary = Path::new(env!("CARGO_BIN_EXE_eventstream"));
    let mut cluster = Cluster::start(binary, 3, Network::loopback(3));
    let servers = cluster.servers();
    let _ = cluster.leader();
    let (progress, clients) = (&Progress::default(), &cluster.clients());
    let under_load = std::thread::scope(|scope| {
        let servers = &servers;
        let publishers = [load("first", 3, 2_000), load("second", 3, 2_000)]
            .map(|load| scope.spawn(move || clients.run(async || load.run(servers, progress).await.acked.len())));
        progress.wait_for(1_000);
        let answer = verify(&["--servers", &servers.join(",")]);
        let acked = publishers.map(|publisher| publisher.join().expect("it publishes"));
        assert_eq!(acked, [6_000; 2]);
        answer
    });
    under_load.is_good();
    let counts = |answer: &Answer| (answer.report["topics"].clone(), answer.report["events"].clone());
    assert!(counts(&under_load).1.as_u64().is_some_and(|events| events >= 1), "{under_load:#?}");

    cluster.await_whole();
    // One server is enough: it tells of the others.
    let whole = verify(&["--servers", &servers[1]]);
    whole.is_good();
    assert_eq!((counts(&whole), whole.report["nodes"].as_array().map(Vec::len)), ((json!(2), json!(12_000)), Some(3)));
    let one = verify(&["--topic", "second", "--servers", &servers.join(",")]);
    one.is_good();
    assert_eq!(counts(&one), (json!(1), json!(6_000)));
    let in_use = verify_stopped(&cluster);
    assert!(in_use.code == 2 && in_use.stderr.contains("in use"), "{in_use:#?}");

    // Killed, none of them has written what it holds in memory to its files, nor its last checkpoint.
    cluster.kill(3);
    let without = verify(&["--servers", &servers.join(",")]);
    assert_eq!((without.code, without.report["unreachable"][0]["address"].as_str()), (4, Some(servers[2].as_str())));
    assert!(without.violations().is_empty(), "{without:#?}");
    cluster.kill(1);
    cluster.kill(2);
    let before = files(&cluster.directory(1));
    verify_stopped(&cluster).is_good();
    assert!(files(&cluster.directory(1)) == before, "something was written");

    // Started and stopped in order, all is in the checkpoint.
    cluster.nodes().collect::<Vec<_>>().into_iter().for_each(|node| cluster.start_node(node));
    let _ = cluster.leader();
    cluster.await_whole();
    cluster.nodes().collect::<Vec<_>>().into_iter().for_each(|node| cluster.stop(node));
    let stopped = verify_stopped(&cluster);
    stopped.is_good();
    for node in stopped.report["nodes"].as_array().expect("nodes") {
        assert_eq!((&node["events"], &node["topics"]), (&json!(12_000), &json!(2)), "{node}");
    }
}

/// Two nodes that believe to be the same cluster, each of them alone in it.
#[test]
fn nodes_that_went_apart_are_found() {
    let out = tempfile::tempdir().expect("a directory");
    let addresses = free_addresses(2);
    let nodes = [1, 2].map(|node| {
        let address = addresses[&node];
        let mut identity = Identity::new_cluster(
            &[(NodeId(node), address.to_string().parse().expect("an address"))],
            Parameters::default(),
        )
        .expect("an identity")
        .remove(0);
        identity.cluster = ClusterId([9; 16]);
        let directory = out.path().join(format!("node-{node}"));
        identity.write(&directory).expect("written");
        let settings = Settings::new().flag(Key::Dir, Some(directory.to_string_lossy().into_owned()));
        (address.to_string(), Node::start(&settings.check().expect("a configuration")).expect("it starts"))
    });
    let publish = |server: &str, lines: &str| {
        let file = out.path().join("input");
        std::fs::write(&file, lines).expect("written");
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_eventstream"));
        command.args(["publish", "--producer", "p", "--topic", "t", "--servers", server]).arg(file);
        assert!(command.output().expect("the binary runs").status.success());
    };
    publish(&nodes[0].0, "one\n");
    publish(&nodes[1].0, "two\n");
    let servers = format!("{},{}", nodes[0].0, nodes[1].0);
    let answer = verify(&["--servers", &servers]);
    assert_eq!(answer.code, 1, "{answer:#?}");
    let of = |invariant: u8| answer.violations().iter().filter(move |found| found["invariant"] == invariant);
    assert!(answer.violations().iter().all(|found| found["at"] == json!([nodes[0].0, nodes[1].0])), "{answer:#?}");
    assert_eq!(of(1).count(), 1, "both lead: {answer:#?}");
    let states: Vec<_> = of(4).map(|found| (&found["topic"], &found["offset"])).collect();
    assert_eq!(states, [(&json!(null), &json!(null)), (&json!("t"), &json!(0))], "{answer:#?}");
    for (_, node) in nodes {
        node.shutdown();
        node.wait().expect("it ends in order");
    }
}
