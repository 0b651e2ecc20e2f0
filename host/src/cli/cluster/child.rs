//! The processes of a local cluster.

use crate::cli::Failure;
use crate::cli::output::Output;
use core::fmt;
use core::time::Duration;
use eventstream_core::id::NodeId;
use eventstream_host::identity::node_directory;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// A node that has not stopped after this is killed.
const STOP: Duration = Duration::from_secs(15);

/// The running nodes. Those that still run when this is dropped are killed.
#[derive(Debug)]
pub(super) struct Children {
    dir: PathBuf,
    pids: BTreeMap<NodeId, Pid>,
    /// Each owns a process and waits for its end.
    waiting: JoinSet<(NodeId, io::Result<ExitStatus>)>,
}

/// A node's process has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) node: NodeId,
    pub(super) directory: PathBuf,
    status: io::Result<ExitStatus>,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.status {
            Ok(status) => write!(f, "node {} has ended ({status})", self.node)?,
            Err(error) => write!(f, "node {} is lost ({error})", self.node)?,
        }
        let log = log_file(&self.directory);
        if let Some(line) = last_line(&log) {
            write!(f, "; its last words: {line}")?;
        }
        write!(f, "; see {}", log.display())
    }
}

/// Where what a node prints goes.
fn log_file(directory: &Path) -> PathBuf {
    directory.join("log.txt")
}

fn last_line(log: &Path) -> Option<String> {
    let text = std::fs::read(log).ok()?;
    let text = String::from_utf8_lossy(&text);
    text.lines().rfind(|line| !line.is_empty()).map(str::to_owned)
}

impl Children {
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), pids: BTreeMap::new(), waiting: JoinSet::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pids.is_empty()
    }

    /// The process of a node, if it runs.
    pub(super) fn pid(&self, node: NodeId) -> Option<i32> {
        self.pids.get(&node).map(|pid| pid.as_raw_nonzero().get())
    }

    /// Starts a node. It stops when its standard input ends, which it does when this process does, however that is. A
    /// group of its own keeps Ctrl-C on the terminal from it: it is told to stop when all are.
    pub(super) fn start(&mut self, node: NodeId) -> Result<(), Failure> {
        let directory = node_directory(&self.dir, node);
        let start = || {
            let log = OpenOptions::new().create(true).append(true).open(log_file(&directory))?;
            let mut command = Command::new(std::env::current_exe()?);
            command.arg("node").arg("--dir").arg(&directory).arg("--stop-at-end-of-input");
            command.stdin(Stdio::piped()).stderr(log.try_clone()?).stdout(log);
            command.process_group(0).kill_on_drop(true).spawn()
        };
        let failed = |error| Failure::failed(format_args!("node {node} cannot be started: {error}"));
        let mut child = start().map_err(failed)?;
        let pid = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        self.pids.insert(node, pid.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?);
        self.waiting.spawn(async move {
            // Waiting would close the input.
            let input = child.stdin.take();
            let status = child.wait().await;
            drop(input);
            (node, status)
        });
        Ok(())
    }

    /// Waits until a node ends; for ever if there is none. May be dropped and called again.
    pub(super) async fn ended(&mut self) -> Ended {
        loop {
            match self.waiting.join_next().await {
                Some(Ok((node, status))) => {
                    self.pids.remove(&node);
                    return Ended { node, directory: node_directory(&self.dir, node), status };
                }
                Some(Err(_)) => {}
                None => core::future::pending().await,
            }
        }
    }

    /// Stops all nodes, and kills those that do not.
    pub(super) async fn stop(mut self, output: Output) -> Result<(), Failure> {
        for pid in self.pids.values() {
            // One that has ended a moment ago needs no signal.
            let _ = kill_process(*pid, Signal::TERM);
        }
        let mut failed = Vec::new();
        while !self.is_empty() {
            match timeout(STOP, self.ended()).await {
                Ok(Ended { status: Ok(status), .. }) if status.success() => {}
                Ok(ended) => failed.push(ended.to_string()),
                Err(_) => {
                    failed.extend(self.pids.keys().map(|node| format!("node {node} did not stop and was killed")));
                    break;
                }
            }
        }
        if failed.is_empty() {
            output.note("all nodes have stopped");
            return Ok(());
        }
        Err(Failure::failed(failed.join("; ")))
    }
}
