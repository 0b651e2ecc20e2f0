//! The network between the nodes and the clients of a test: namespaces where they can be had, else the fault proxy.

use crate::namespaces::{CLIENTS, Namespaces, Spoke, enter};
use crate::proxy::Proxy;
use core::net::SocketAddr;
use std::collections::HashMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The port of every node in a namespace of its own.
const PORT: u16 = 9001;

/// Who can be cut off from whom, and how.
#[derive(Debug)]
pub enum Network {
    /// Real interfaces, real packets.
    Namespaces(Namespaces),
    /// Forwarders on loopback.
    Proxy {
        /// The forwarders.
        proxy: Proxy,
        /// Where the nodes listen.
        targets: HashMap<Spoke, SocketAddr>,
    },
    /// Loopback with nothing in between: processes can be killed, and nobody can be cut off.
    Loopback {
        /// Where the nodes listen.
        targets: HashMap<Spoke, SocketAddr>,
    },
}

impl Network {
    /// A network that can be cut: namespaces, or the proxy where they cannot be had. Prints which.
    ///
    /// # Panics
    /// When neither can be had: no port on loopback.
    #[must_use]
    pub fn with_cuts(nodes: u16) -> Self {
        let wanted = std::env::var("EVENTSTREAM_TEST_NETWORK").unwrap_or_default();
        let made = if wanted == "proxy" { Err("asked for by the environment".into()) } else { Namespaces::new(nodes) };
        match made {
            Ok(star) => {
                println!("network: namespaces with veth pairs; cuts drop packets in silence");
                Self::Namespaces(star)
            }
            Err(reason) => {
                println!("network: fault proxy ({reason})");
                let targets = free_addresses(nodes);
                let spokes: Vec<Spoke> = (CLIENTS..=nodes).collect();
                let proxy = Proxy::new(&spokes, &targets).expect("ports on loopback");
                Self::Proxy { proxy, targets }
            }
        }
    }

    /// Plain loopback.
    #[must_use]
    pub fn loopback(nodes: u16) -> Self {
        Self::Loopback { targets: free_addresses(nodes) }
    }

    /// Where `to` listens.
    #[must_use]
    pub fn listens_at(&self, to: Spoke) -> String {
        match self {
            Self::Namespaces(_) => format!("{}:{PORT}", Namespaces::address(to)),
            Self::Proxy { targets, .. } | Self::Loopback { targets } => targets[&to].to_string(),
        }
    }

    /// Where `from` reaches `to`.
    #[must_use]
    pub fn reached_at(&self, from: Spoke, to: Spoke) -> String {
        match self {
            Self::Proxy { proxy, .. } if from != to => proxy.address(from, to).to_string(),
            _ => self.listens_at(to),
        }
    }

    /// A command that runs `program` where `spoke` is.
    #[must_use]
    pub fn command(&self, spoke: Spoke, program: &Path) -> Command {
        match self {
            Self::Namespaces(star) => star.command(spoke, program),
            _ => Command::new(program),
        }
    }

    /// The place of the clients.
    #[must_use]
    pub fn clients(&self) -> Clients {
        Clients { namespace: if let Self::Namespaces(star) = self { Some(star.path(CLIENTS)) } else { None } }
    }

    /// Cuts two spokes off from each other, in silence.
    ///
    /// # Panics
    /// On a network that cannot be cut, and when the rule cannot be made.
    pub fn cut(&self, one: Spoke, other: Spoke) {
        match self {
            Self::Namespaces(star) => both(one, other, |from, to| star.cut(from, to).expect("cut")),
            Self::Proxy { proxy, .. } => both(one, other, |from, to| proxy.set_open(from, to, false)),
            Self::Loopback { .. } => panic!("plain loopback cannot be cut"),
        }
    }

    /// Undoes [`cut`](Self::cut).
    ///
    /// # Panics
    /// As [`cut`](Self::cut).
    pub fn heal(&self, one: Spoke, other: Spoke) {
        match self {
            Self::Namespaces(star) => both(one, other, |from, to| star.heal(from, to).expect("heal")),
            Self::Proxy { proxy, .. } => both(one, other, |from, to| proxy.set_open(from, to, true)),
            Self::Loopback { .. } => panic!("plain loopback cannot be cut"),
        }
    }
}

/// Where the clients are.
#[derive(Clone, Debug)]
pub struct Clients {
    namespace: Option<PathBuf>,
}

impl Clients {
    /// Runs `work` there, on a thread and a tokio runtime of its own, and returns what it returns.
    ///
    /// # Panics
    ///
    /// When `work` does, or when the place cannot be entered.
    pub fn run<T: Send>(&self, work: impl AsyncFnOnce() -> T + Send) -> T {
        let ran = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                if let Some(namespace) = &self.namespace {
                    enter(namespace).expect("the clients' namespace");
                }
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                runtime.block_on(work())
            });
            thread.join()
        });
        ran.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn both(one: Spoke, other: Spoke, act: impl Fn(Spoke, Spoke)) {
    act(one, other);
    act(other, one);
}

/// Addresses of the nodes from 1 on whose ports were free a moment ago; all are held until all are known, so that they
/// differ.
///
/// # Panics
/// Without ports on loopback.
#[must_use]
pub fn free_addresses(nodes: u16) -> HashMap<Spoke, SocketAddr> {
    let held: Vec<TcpListener> =
        (0..nodes).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port on loopback")).collect();
    (1..).zip(&held).map(|(node, listener)| (node, listener.local_addr().expect("bound"))).collect()
}
