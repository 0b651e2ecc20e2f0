//! Clusters on disks whose power can fail.

use core::panic::AssertUnwindSafe;
use eventstream_testbed::{Cluster, Ledger, Load, Network, Progress, Spoke};
use fastrand::Rng;
use powercut::{Disk, Loss, Lost, Syncs};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::panic::{catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

/// Three nodes, each on a disk of its own.
pub(crate) struct Powered {
    pub(crate) cluster: Cluster,
    pub(crate) disks: BTreeMap<Spoke, Disk>,
    _alone: MutexGuard<'static, ()>,
}

impl Powered {
    /// Starts them, and waits until their first election is over; without FUSE says that the test is skipped.
    pub(crate) fn start(test: &str) -> Option<Self> {
        let alone = alone();
        let cluster = Cluster::new(binary(), 3, Network::loopback(3));
        let mount = |node| Disk::mount(&cluster.directory(node)).map(|disk| (node, disk));
        let disks = match cluster.nodes().map(mount).collect::<io::Result<_>>() {
            Ok(disks) => disks,
            Err(reason) => {
                // Not through the harness, which shows nothing of a test that passes; and in one piece.
                let line = format!("\nSKIPPED: {test}: no FUSE here: {reason}\n");
                io::stderr().write_all(line.as_bytes()).expect("standard error");
                return None;
            }
        };
        let mut powered = Self { cluster, disks, _alone: alone };
        powered.cluster.initialise();
        powered.start_nodes();
        powered.cluster.await_sound();
        Some(powered)
    }

    /// Starts all nodes, none of which runs.
    pub(crate) fn start_nodes(&mut self) {
        self.cluster.nodes().for_each(|node| self.cluster.start_node(node));
    }

    /// The power of all nodes fails at once: nothing returns from their disks any more, they are gone, and so is what they
    /// had not synced.
    pub(crate) fn cut_power(&mut self, loss: Loss, rng: &mut Rng) -> Lost {
        self.cluster.assert_none_ended();
        self.disks.values().for_each(Disk::freeze);
        self.cluster.kill_all(|| self.disks.values().for_each(Disk::fail));
        let mut all = Lost::default();
        for disk in self.disks.values_mut() {
            let lost = disk.restore(loss, rng);
            all = Lost { bytes: all.bytes + lost.bytes, names: all.names + lost.names };
        }
        all
    }

    /// No sync of these nodes returns from now on.
    pub(crate) fn hold(&self, nodes: &[Spoke]) {
        nodes.iter().for_each(|node| self.disks[node].set_syncs(Syncs::Held));
    }

    /// Undoes [`hold`](Self::hold).
    pub(crate) fn let_go(&self, nodes: &[Spoke]) {
        for node in nodes {
            self.disks[node].set_syncs(Syncs::Honest);
            self.disks[node].release();
        }
    }

    /// Publishes `load` while `meanwhile` does its worst.
    pub(crate) fn publish_while(
        &mut self,
        load: &Load,
        progress: &Progress,
        meanwhile: impl FnOnce(&mut Self, &Progress),
    ) -> Ledger {
        let (servers, clients) = (self.cluster.servers(), self.cluster.clients());
        thread::scope(|scope| {
            let publisher = scope.spawn(|| clients.run(async || load.run(&servers, progress).await));
            let done = catch_unwind(AssertUnwindSafe(|| meanwhile(self, progress)));
            let load_ended_first = progress.has_stopped();
            if done.is_err() {
                progress.ask_to_end();
                self.let_go(&self.cluster.nodes().collect::<Vec<_>>());
            }
            match (done, publisher.join()) {
                (Ok(()), Ok(ledger)) => ledger,
                // What the producers were told says more than that they have stopped.
                (Err(_), Err(panic)) if load_ended_first => resume_unwind(panic),
                (Err(panic), _) | (Ok(()), Err(panic)) => resume_unwind(panic),
            }
        })
    }
}

impl Drop for Powered {
    fn drop(&mut self) {
        self.cluster.kill_all(|| self.disks.values().for_each(Disk::fail));
        for disk in core::mem::take(&mut self.disks).into_values() {
            // The cluster keeps its directory then.
            if thread::panicking()
                && let Err(error) = disk.save()
            {
                println!("a disk could not be saved: {error}");
            }
        }
    }
}

/// One cluster at a time: two cores are three nodes' share as it is.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The program under test, built as the demo and a user build it. Cargo makes a binary known to the tests of its own
/// package only.
fn binary() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        // TARGET/release/deps/THIS
        let this = std::env::current_exe().expect("the test's own name");
        let (release, target) = (this.ancestors().nth(2), this.ancestors().nth(3));
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--release", "--quiet", "-p", "eventstream-host", "--bin", "eventstream", "--target-dir"]);
        let built = cargo.arg(target.expect("a target directory")).current_dir(env!("CARGO_MANIFEST_DIR")).status();
        assert!(built.expect("cargo").success(), "the node is built");
        release.expect("a directory of the profile").join("eventstream")
    })
}
