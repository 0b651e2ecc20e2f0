//! A disk that runs full: publishes pause before it is, everything else goes on, and space that is freed lets them go on.
//!
//! The node's directory is a small file system in memory, which takes root to mount.

mod node_support;

use core::time::Duration;
use eventstream_core::config::Parameters;
use eventstream_core::id::NodeId;
use eventstream_core::wire::{Refusal, StartAt};
use eventstream_host::identity::Identity;
use eventstream_testbed::{Ledger, Load, Network, NodeProcess, Progress};
use node_support::{Client, payloads};
use rustix::fs::statvfs;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const TOPIC: &str = "low";
const MIB: usize = 1 << 20;

/// A small file system of its own; gone when dropped.
struct Disk {
    folder: TempDir,
}

impl Disk {
    /// `None` where mounting is not allowed.
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        match mount("tmpfs", folder.path(), "tmpfs", MountFlags::empty(), Some(c"size=128m")) {
            Ok(()) => Some(Self { folder }),
            Err(error) => {
                println!(
                    "SKIPPED: no file system can be mounted here ({error}). NOTHING WAS TESTED of a disk that is full."
                );
                None
            }
        }
    }

    fn dir(&self) -> PathBuf {
        self.folder.path().join("node")
    }

    fn filler(&self) -> PathBuf {
        self.folder.path().join("filler")
    }

    /// Takes space until a twentieth is left.
    fn fill(&self) {
        let mut filler = OpenOptions::new().create(true).append(true).open(self.filler()).expect("a file");
        let block = vec![7; MIB / 4];
        let is_low = || statvfs(self.folder.path()).is_ok_and(|space| space.f_bavail < space.f_blocks / 20);
        while !is_low() {
            filler.write_all(&block).expect("room");
        }
    }

    fn free(&self) {
        fs::remove_file(self.filler()).expect("a file");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Before the folder is removed; lazily, should anybody still use it.
        let _ = unmount(self.folder.path(), UnmountFlags::DETACH);
    }
}

struct Node<'a> {
    disk: &'a Disk,
    server: String,
    process: Option<NodeProcess>,
}

impl<'a> Node<'a> {
    fn start(disk: &'a Disk) -> Self {
        let server = Network::loopback(1).listens_at(1);
        let address = server.parse().expect("HOST:PORT");
        let mut identities =
            Identity::new_cluster(&[(NodeId(1), address)], Parameters::default()).expect("an identity");
        identities.remove(0).write(&disk.dir()).expect("an identity");
        let mut node = Self { disk, server, process: None };
        node.start_again();
        node
    }

    fn start_again(&mut self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_eventstream"));
        command.arg("node").arg("--dir").arg(self.disk.dir());
        self.process = Some(NodeProcess::spawn(command, Path::new("/dev/null")));
    }

    fn stop(&mut self) {
        let status = self.process.take().expect("it runs").terminate();
        assert!(status.success(), "{status}");
    }

    /// A client of the wire, as soon as the node listens and leads.
    fn client(&self) -> Client {
        let address = self.server.parse().expect("an address");
        while std::net::TcpStream::connect::<core::net::SocketAddr>(address).is_err() {
            std::thread::sleep(Duration::from_millis(10));
        }
        let mut client = Client::connect(address);
        while !client.status().is_leader {
            std::thread::sleep(Duration::from_millis(10));
        }
        client
    }

    fn publish(&self, load: &Load, progress: &Progress) -> Ledger {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(load.run(core::slice::from_ref(&self.server), progress))
    }
}

/// Publishes until a refusal; gives how many events were acknowledged before.
fn publish_until_refused(client: &mut Client, topic: &str) -> usize {
    for acked in 0.. {
        client.publish(topic, &payloads("event", 1));
        match client.answer() {
            Ok(_) => {}
            Err(refusal) => {
                assert_eq!(refusal, Refusal::DiskLow);
                assert!(refusal.is_retryable());
                client.rewind(1);
                return acked;
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    unreachable!()
}

#[test]
fn publishes_pause_while_the_disk_is_low_and_all_else_goes_on() {
    let Some(disk) = Disk::mount() else { return };
    let mut node = Node::start(&disk);
    let mut client = node.client();
    client.open_producer(1);
    let load =
        Load { topic: TOPIC.into(), producers: 2, events: 8_000, pause_every: 10, pause: Duration::from_millis(5) };
    let progress = Progress::default();
    let ledger = std::thread::scope(|scope| {
        let publisher = scope.spawn(|| node.publish(&load, &progress));
        progress.wait_for(100);
        disk.fill();
        let acked = publish_until_refused(&mut client, "by hand");
        assert!(progress.acked() < load.total(), "the load was under way");
        // Reads go on.
        let mut reader = node.client();
        reader.subscribe(1, "by hand", StartAt::Beginning);
        assert_eq!(reader.events(acked).len(), acked);
        reader.unsubscribe(1);
        reader.subscribe(2, TOPIC, StartAt::Beginning);
        assert!(reader.events(100).len() >= 100);
        drop(reader);
        // With room again, so do publishes: that one, and those of the load.
        disk.free();
        loop {
            client.publish("by hand", &payloads("event", 1));
            match client.answer() {
                Ok(_) => break,
                Err(refusal) => assert_eq!(refusal, Refusal::DiskLow),
            }
            client.rewind(1);
            std::thread::sleep(Duration::from_millis(20));
        }
        publisher.join().expect("every event is acknowledged in the end")
    });
    assert_eq!(ledger.acked.len() as u64, load.total());

    // A node may stop on a disk that is low, and start, vote, lead, and let everything be read.
    disk.fill();
    publish_until_refused(&mut client, "by hand");
    drop(client);
    node.stop();
    node.start_again();
    let mut client = node.client();
    client.subscribe(1, TOPIC, StartAt::Beginning);
    assert_eq!(client.events(load.total() as usize).len() as u64, load.total());
    // A start writes its log anew, which may have made room.
    disk.fill();
    let refusal = loop {
        client.say_open_producer(2);
        if let Err(refusal) = client.answer() {
            break refusal;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(refusal, Refusal::DiskLow);
    assert_eq!(client.counters()["disk_low"], 1, "since this start");
    disk.free();
    node.stop();
}
