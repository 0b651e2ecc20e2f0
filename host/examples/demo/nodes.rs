//! Three real processes.

use crate::Error;
use core::time::Duration;
use eventstream_core::id::NodeId;
use eventstream_core::time;
use eventstream_core::wire::NodeRole;
use eventstream_host::client::{Options, StatusReport, status};
use eventstream_host::clock::Clock;
use eventstream_host::identity::node_directory;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::process::{Child, Command};

/// What has not happened after this will not happen.
const PATIENCE: time::Duration = time::Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
const STATUS_PATIENCE: Duration = Duration::from_secs(1);

/// The nodes of the demo; killed when dropped.
pub(crate) struct Nodes {
    binary: PathBuf,
    dir: PathBuf,
    addresses: Vec<String>,
    running: BTreeMap<NodeId, Child>,
}

impl Nodes {
    /// Initialises a cluster in a temporary directory, with the binary itself, and starts its nodes.
    pub(crate) async fn start(count: u16) -> Result<Self, Error> {
        let dir = tempfile::Builder::new().prefix("eventstream-demo-").tempdir()?.keep();
        // Held until all are known, so that they differ.
        let ports = (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<Vec<_>, _>>()?;
        let addresses =
            ports.iter().map(|port| port.local_addr().map(|at| at.to_string())).collect::<Result<Vec<_>, _>>()?;
        drop(ports);
        let mut nodes = Self { binary: binary()?, dir, addresses, running: BTreeMap::new() };
        let listed: Vec<String> =
            (1..).zip(&nodes.addresses).map(|(node, at): (u16, _)| format!("{node}={at}")).collect();
        let mut init = Command::new(&nodes.binary);
        init.args(["init", "--nodes", &listed.join(","), "--out"]).arg(&nodes.dir).stdout(Stdio::null());
        if !init.status().await?.success() {
            return Err("`eventstream init` failed".into());
        }
        (1..=count).try_for_each(|node| nodes.restart(NodeId(node)))?;
        Ok(nodes)
    }

    /// Where everything is.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where each node listens.
    pub(crate) fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// Starts a node that does not run.
    pub(crate) fn restart(&mut self, node: NodeId) -> Result<(), Error> {
        let directory = node_directory(&self.dir, node);
        let log = OpenOptions::new().create(true).append(true).open(directory.join("log.txt"))?;
        let mut command = Command::new(&self.binary);
        command.arg("node").arg("--dir").arg(directory);
        command.stdin(Stdio::null()).stderr(log.try_clone()?).stdout(log).kill_on_drop(true);
        self.running.insert(node, command.spawn()?);
        Ok(())
    }

    /// SIGKILL: no last word, no last write. Returns at once.
    pub(crate) fn kill(&mut self, node: NodeId) -> Result<(), Error> {
        let mut child = self.running.remove(&node).ok_or_else(|| format!("node {node} does not run"))?;
        child.start_kill()?;
        tokio::spawn(async move { child.wait().await });
        Ok(())
    }

    /// Stops all nodes in order, and waits until they have.
    pub(crate) async fn stop(&mut self) -> Result<(), Error> {
        let ids = self.running.values().filter_map(|child| Pid::from_raw(i32::try_from(child.id()?).ok()?));
        ids.collect::<Vec<_>>().into_iter().try_for_each(|pid| kill_process(pid, Signal::TERM))?;
        for (node, mut child) in core::mem::take(&mut self.running) {
            let status = child.wait().await?;
            if !status.success() {
                return Err(format!("node {node} did not stop well ({status}): see its log.txt").into());
            }
        }
        Ok(())
    }

    /// Waits until a node leads and serves.
    pub(crate) async fn wait_for_leader(&self, clock: Clock) -> Result<NodeId, Error> {
        let leads = |reports: &[StatusReport]| {
            let leader = reports.iter().find(|report| report.role == NodeRole::Leader)?;
            (leader.applied.0 > 0).then_some(leader.node)
        };
        self.wait(clock, "no leader was elected", leads).await
    }

    /// Waits until every node has applied the same and is in the same state.
    pub(crate) async fn wait_until_equal(&self, clock: Clock) -> Result<(), Error> {
        let count = self.addresses.len();
        let equal = |reports: &[StatusReport]| {
            let state = |report: &StatusReport| (report.applied, report.state_hash);
            let first = state(reports.first()?);
            let all = reports.len() == count && reports.iter().all(|report| state(report) == first);
            (all && reports.iter().all(|report| report.commit == report.applied)).then_some(())
        };
        self.wait(clock, "the nodes did not come to the same state", equal).await
    }

    async fn wait<T>(
        &self,
        clock: Clock,
        otherwise: &str,
        until: impl Fn(&[StatusReport]) -> Option<T>,
    ) -> Result<T, Error> {
        let deadline = clock.now() + PATIENCE;
        let mut told_at = clock.now();
        loop {
            let mut reports = Vec::new();
            for address in &self.addresses {
                reports.extend(status(address, &Options::patient(STATUS_PATIENCE)).await.ok());
            }
            if let Some(result) = until(&reports) {
                return Ok(result);
            }
            let now = clock.now();
            if now >= deadline {
                return Err(
                    format!("{otherwise} within 60 s: see log.txt of each node in {}", self.dir.display()).into()
                );
            }
            if now >= told_at + time::Duration::from_secs(1) {
                told_at = now;
                let applied = reports.iter().map(|report| format!("node {}: {}", report.node, report.applied));
                eprintln!("waiting; applied: {}", applied.collect::<Vec<_>>().join(", "));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

/// The `eventstream` binary, which cargo has put beside the folder of this example.
fn binary() -> Result<PathBuf, Error> {
    let me = std::env::current_exe()?;
    let folder = me.parent().and_then(Path::parent).ok_or("this program is in no folder")?;
    let binary = folder.join("eventstream");
    if binary.exists() { Ok(binary) } else { Err(format!("{} is not built", binary.display()).into()) }
}
