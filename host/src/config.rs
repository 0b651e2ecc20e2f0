//! The configuration of a node: a file, the environment and flags, checked once, with all errors at once.
//!
//! A later source wins over an earlier one: defaults, the file (TOML, `name = value`), the environment
//! (`EVENTSTREAM_NODE_` and the name in capitals), flags. [`Key`] lists what can be set. Who the node is does not
//! belong here but to its [identity](crate::identity), which is loaded and checked in the same go.

mod check;
mod memory;
mod source;

pub use check::{Config, ThreadLayout};
pub use memory::MemoryPlan;
pub use source::{Origin, Settings};

use crate::errors::Errors;
use std::path::PathBuf;

/// Prefix of the environment's variables that configure a node.
pub const ENVIRONMENT_PREFIX: &str = "EVENTSTREAM_NODE_";
/// The words that let a node without TLS listen beyond loopback.
pub const ACCEPTED_RISK: &str = "anyone who reaches this port can read and write every event";

/// What can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// The node's directory, which holds its identity and its data. Required. In the file, relative to the file.
    Dir,
    /// `HOST:PORT` to listen on; by default the address that the identity gives the node. Loopback only, unless
    /// the node speaks TLS or `accept_risk` is set.
    Listen,
    /// Exactly [`ACCEPTED_RISK`], to listen, and to dial other nodes, beyond loopback without TLS.
    AcceptRisk,
    /// `auto` (the default: `shared` with two cores or fewer), `shared` (sockets and engine in one thread) or `split`
    /// (clients, peers and engine in a thread each).
    Threads,
    /// Connections of clients at a time, 1 to 4,096; 256 by default, 128 with TLS. One more is refused. The process's limit of open
    /// files is raised to what they and everything else may need, some 700 more; where the system does not allow
    /// that, the node does not start.
    Connections,
    /// Memory for what was read from clients and is still needed, in MiB, 4 to 1,024; 16 by default.
    ClientPoolMib,
    /// Memory for what was read from the other nodes and is still needed, in MiB, 16 to 1,024; 16 by default: what a
    /// leader may have in flight to a follower, and as much again for partly used blocks.
    PeerPoolMib,
    /// Milliseconds between checkpoints of the applied state, 10 to 60,000; 1,000 by default. A start replays what
    /// was applied since the last one.
    CheckpointMs,
    /// The most memory that the node's plan may add up to, in MiB, 64 to 65,536; 150 by default.
    MemoryMib,
}

impl Key {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 9] = [
        Self::Dir,
        Self::Listen,
        Self::AcceptRisk,
        Self::Threads,
        Self::Connections,
        Self::ClientPoolMib,
        Self::PeerPoolMib,
        Self::CheckpointMs,
        Self::MemoryMib,
    ];

    /// Its name in the file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dir => "dir",
            Self::Listen => "listen",
            Self::AcceptRisk => "accept_risk",
            Self::Threads => "threads",
            Self::Connections => "connections",
            Self::ClientPoolMib => "client_pool_mib",
            Self::PeerPoolMib => "peer_pool_mib",
            Self::CheckpointMs => "checkpoint_ms",
            Self::MemoryMib => "memory_mib",
        }
    }

    /// Its variable in the environment.
    #[must_use]
    pub fn variable(self) -> String {
        format!("{ENVIRONMENT_PREFIX}{}", self.name().to_ascii_uppercase())
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.name() == name)
    }
}

/// Everything that is wrong with a configuration.
pub type ConfigErrors = Errors<ConfigError>;

/// One thing that is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is no TOML.
    #[error("{}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        message: String,
    },
    /// A name that means nothing here, mistyped perhaps.
    #[error("{origin}: there is no setting {name:?}; there are {}", Key::ALL.map(Key::name).join(", "))]
    Unknown {
        /// The name.
        name: String,
        /// Where it stands.
        origin: Origin,
    },
    /// A value that does not fit.
    #[error("{origin}: {} = {value:?}: {expected}", key.name())]
    Value {
        /// The setting.
        key: Key,
        /// Its value.
        value: String,
        /// Where it stands.
        origin: Origin,
        /// What would fit.
        expected: String,
    },
    /// A required setting that no source gives.
    #[error("{} is not set: give it in the file, as {} or as a flag", key.name(), key.variable())]
    Required {
        /// The setting.
        key: Key,
    },
    /// The directory holds no usable identity.
    #[error(transparent)]
    Identity(#[from] crate::identity::IdentityError),
    /// The identity says that the node speaks TLS, and what it needs for that is not in order.
    #[error(transparent)]
    Tls(#[from] crate::tls::TlsError),
    /// The address to listen on cannot be resolved.
    #[error("the address to listen on, {address}, cannot be resolved: {source}")]
    Resolve {
        /// The address.
        address: String,
        /// What the resolver said.
        source: std::io::Error,
    },
    /// The node would listen where others can reach it, and its bundle has no TLS.
    #[error(
        "{address} can be reached from other machines, and this node's bundle has no TLS, and so no authentication: \
         it listens on loopback only (127.0.0.1 or ::1). `eventstream init --tls` makes bundles that have it. If every machine that can reach it may read and write \
         every event, say so: accept_risk = {ACCEPTED_RISK:?}"
    )]
    BeyondLoopback {
        /// The address.
        address: String,
    },
    /// The node would send events to another machine, and its bundle has no TLS.
    #[error(
        "the node at {address} is on another machine, and this node's bundle has no TLS: events would be sent to it in \
         plain text. If everybody on the way may read and change them, say so: accept_risk = {ACCEPTED_RISK:?}"
    )]
    PeerBeyondLoopback {
        /// The other node's address.
        address: String,
    },
}
