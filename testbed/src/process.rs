//! One `eventstream node` process.

use rustix::process::{Pid, Signal, kill_process};
use std::fs::OpenOptions;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

/// A running node; killed when dropped.
#[derive(Debug)]
pub struct NodeProcess {
    child: Child,
}

impl NodeProcess {
    /// Starts it; what it prints is appended to `log`.
    ///
    /// # Panics
    /// When the process cannot be made.
    #[must_use]
    pub fn spawn(mut command: Command, log: &Path) -> Self {
        let log = OpenOptions::new().create(true).append(true).open(log).expect("the node's log");
        let errors = log.try_clone().expect("the node's log");
        let child = command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn().expect("the eventstream binary");
        Self { child }
    }

    /// Its process id. (`ip netns exec` becomes the program it runs, so this is the node itself.)
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did.
    ///
    /// # Panics
    /// When the system does not tell.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child")
    }

    /// SIGKILL. From now on the process executes nothing of its own; it may take a while to be gone.
    pub fn begin_kill(&mut self) {
        // Fails only when the process ended and was waited for already.
        let _ = self.child.kill();
    }

    /// SIGKILL, and waits until the process is gone.
    pub fn kill(mut self) {
        self.end();
    }

    /// SIGTERM, and waits for the exit.
    ///
    /// # Panics
    /// When the process cannot be signalled or waited for.
    #[must_use]
    pub fn terminate(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.child.wait().expect("a child")
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// When the process cannot be waited for.
    #[must_use]
    pub fn wait(mut self) -> ExitStatus {
        self.child.wait().expect("a child")
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// When the process is gone.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("a running node");
    }

    fn end(&mut self) {
        self.begin_kill();
        // As above.
        let _ = self.child.wait();
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        self.end();
    }
}
