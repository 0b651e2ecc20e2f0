//! A star of network namespaces: one for each node, one for the clients, and a hub that forwards between them.
//!
//! A cut is a policy rule in the hub that drops packets in silence, from one spoke to another, one way at a time: what a
//! pulled cable or a dead switch looks like. Nothing is reset and nobody is told.

use core::sync::atomic::{AtomicU32, Ordering};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A spoke of the star: node 1 and up, or the clients at [`CLIENTS`].
pub type Spoke = u16;

/// The spoke where the clients are.
pub const CLIENTS: Spoke = 0;

/// The namespaces of one cluster; removed when dropped.
#[derive(Debug)]
pub struct Namespaces {
    prefix: String,
    spokes: Vec<Spoke>,
}

impl Namespaces {
    /// Makes a hub, a spoke for the clients and one for each of `nodes` nodes.
    ///
    /// # Errors
    /// In words, where this machine or this user cannot have network namespaces.
    pub fn new(nodes: u16) -> Result<Self, String> {
        static CLUSTERS: AtomicU32 = AtomicU32::new(0);
        let serial = CLUSTERS.fetch_add(1, Ordering::Relaxed);
        let mut star = Self { prefix: format!("es{}-{serial}", std::process::id()), spokes: Vec::new() };
        star.ip(&["netns", "add", &star.hub()])?;
        star.in_namespace(&star.hub(), &["sysctl", "-q", "-w", "net.ipv4.ip_forward=1"])?;
        for spoke in CLIENTS..=nodes {
            star.add_spoke(spoke)?;
        }
        Ok(star)
    }

    /// The address of a spoke.
    #[must_use]
    pub fn address(spoke: Spoke) -> String {
        format!("10.77.{spoke}.2")
    }

    /// A command that runs `program` on a spoke.
    #[must_use]
    pub fn command(&self, spoke: Spoke, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(spoke)]).arg(program);
        command
    }

    /// Drops in silence what travels `from` one spoke `to` another.
    ///
    /// # Errors
    /// When the rule cannot be made.
    pub fn cut(&self, from: Spoke, to: Spoke) -> Result<(), String> {
        self.rule("add", from, to)
    }

    /// Undoes [`cut`](Self::cut).
    ///
    /// # Errors
    /// When the rule cannot be removed.
    pub fn heal(&self, from: Spoke, to: Spoke) -> Result<(), String> {
        self.rule("del", from, to)
    }

    /// What stands for a spoke's namespace in the file system.
    #[must_use]
    pub fn path(&self, spoke: Spoke) -> PathBuf {
        Path::new("/run/netns").join(self.name(spoke))
    }

    fn hub(&self) -> String {
        format!("{}-hub", self.prefix)
    }

    fn name(&self, spoke: Spoke) -> String {
        format!("{}-{spoke}", self.prefix)
    }

    fn add_spoke(&mut self, spoke: Spoke) -> Result<(), String> {
        let (hub, name, port) = (self.hub(), self.name(spoke), format!("to{spoke}"));
        self.ip(&["netns", "add", &name])?;
        self.spokes.push(spoke);
        self.ip(&["link", "add", &port, "netns", &hub, "type", "veth", "peer", "name", "eth0", "netns", &name])?;
        self.ip(&["-n", &hub, "addr", "add", &format!("10.77.{spoke}.1/24"), "dev", &port])?;
        self.ip(&["-n", &hub, "link", "set", &port, "up"])?;
        self.ip(&["-n", &name, "addr", "add", &format!("{}/24", Self::address(spoke)), "dev", "eth0"])?;
        self.ip(&["-n", &name, "link", "set", "eth0", "up"])?;
        self.ip(&["-n", &name, "link", "set", "lo", "up"])?;
        self.ip(&["-n", &name, "route", "add", "default", "via", &format!("10.77.{spoke}.1")])
    }

    fn rule(&self, verb: &str, from: Spoke, to: Spoke) -> Result<(), String> {
        let hub = self.hub();
        self.ip(&["-n", &hub, "rule", verb, "from", &Self::address(from), "to", &Self::address(to), "blackhole"])
    }

    fn ip(&self, arguments: &[&str]) -> Result<(), String> {
        run("ip", arguments)
    }

    fn in_namespace(&self, namespace: &str, words: &[&str]) -> Result<(), String> {
        run("ip", &[&["netns", "exec", namespace], words].concat())
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        let spokes = self.spokes.iter().map(|&spoke| self.name(spoke));
        for namespace in spokes.chain([self.hub()]) {
            // Nothing can be done about a namespace that will not go; the next one has another name.
            let _ = run("ip", &["netns", "del", &namespace]);
        }
    }
}

/// Moves the calling thread to a namespace for good: sockets that it opens from now on are there.
///
/// # Errors
/// When the namespace cannot be entered.
pub fn enter(namespace: &Path) -> io::Result<()> {
    move_into_link_name_space(File::open(namespace)?.as_fd(), Some(LinkNameSpaceType::Network))?;
    Ok(())
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program} {}: {}", arguments.join(" "), said.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    /// What a cut must be: silent, one way, and over when it is healed.
    #[test]
    fn a_cut_is_silent_and_heals() {
        let star = match Namespaces::new(2) {
            Ok(star) => star,
            Err(reason) => {
                println!("SKIPPED: no network namespaces here ({reason}); the cluster tests use the fault proxy");
                return;
            }
        };
        let (ready, listening) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                enter(&star.path(2)).expect("enter");
                let listener = TcpListener::bind((Namespaces::address(2), 7000)).expect("bind");
                ready.send(()).expect("send");
                let (mut stream, _) = listener.accept().expect("accept");
                let mut byte = [0];
                while stream.read(&mut byte).expect("read") == 1 {
                    stream.write_all(&byte).expect("echo");
                }
            });
            listening.recv().expect("listening");
            scope.spawn(|| {
                enter(&star.path(CLIENTS)).expect("enter");
                let mut stream = TcpStream::connect((Namespaces::address(2), 7000)).expect("connect");
                let mut byte = [0];
                star.cut(2, CLIENTS).expect("cut");
                stream.write_all(b"x").expect("write");
                stream.set_read_timeout(Some(Duration::from_millis(300))).expect("timeout");
                let silence = stream.read(&mut byte).expect_err("the answer must not come through the cut");
                assert!(matches!(silence.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut), "{silence}");
                star.heal(2, CLIENTS).expect("heal");
                stream.set_read_timeout(Some(Duration::from_secs(20))).expect("timeout");
                assert_eq!(stream.read(&mut byte).expect("the answer after healing"), 1);
            });
        });
    }
}
