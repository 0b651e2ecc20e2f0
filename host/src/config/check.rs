//! From texts to a configuration that holds, or all that is wrong with them.

use super::{ACCEPTED_RISK, ConfigError, ConfigErrors, Key, MemoryPlan, Origin, Settings};
use crate::clock::Clock;
use crate::errors::Errors;
use crate::identity::{Address, Identity};
use crate::tls::NodeTls;
use core::net::SocketAddr;
use core::ops::RangeInclusive;
use eventstream_core::time::Duration;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::thread;

/// Connections of clients at a time, if nothing else is said, ...
const CONNECTIONS: usize = 256;
/// ... and where each of them holds a session of TLS.
const SECURED_CONNECTIONS: usize = 128;

/// Which loops of a node share a thread. Storage and the reader have one of their own in either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreadLayout {
    /// Sockets and engine: for two cores or fewer, where every hop costs more than it gives.
    Shared,
    /// Clients' sockets, peers' sockets and the engine: a thread each.
    Split,
}

impl ThreadLayout {
    /// What it is called in a configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Split => "split",
        }
    }
}

/// A configuration that was checked: every value is within its range, the identity is loaded, the address resolved.
#[derive(Clone, Debug)]
pub struct Config {
    /// The node's directory.
    pub dir: PathBuf,
    /// Who the node is.
    pub identity: Identity,
    /// What it speaks TLS with, if it does.
    pub tls: Option<NodeTls>,
    /// Where to listen; more than one where a name stands for several addresses.
    pub listen: Vec<SocketAddr>,
    /// The threads, decided.
    pub threads: ThreadLayout,
    /// Connections of clients at a time.
    pub connections: usize,
    /// Bytes of blocks for what clients sent.
    pub client_pool_bytes: usize,
    /// Bytes of blocks for what other nodes sent.
    pub peer_pool_bytes: usize,
    /// Time between checkpoints of the applied state.
    pub checkpoint: Duration,
    /// What the node's memory plan may add up to.
    pub memory_limit_bytes: usize,
}

impl Config {
    /// What the settings alone decide of the node's memory. Storage, rings and tables add theirs.
    #[must_use]
    pub fn memory(&self) -> MemoryPlan {
        let mut plan = MemoryPlan::default();
        plan.add("blocks for clients", self.client_pool_bytes);
        plan.add("blocks for other nodes", self.peer_pool_bytes);
        plan
    }
}

impl Settings {
    /// Checks everything and gives the configuration.
    ///
    /// # Errors
    /// All that is wrong, in every source, at once.
    pub fn check(self) -> Result<Config, ConfigErrors> {
        let (values, errors) = self.into_parts();
        let mut reading = Reading { values, errors };
        let threads = reading.threads();
        let client_pool_bytes = reading.number(Key::ClientPoolMib, 16, 4..=1_024) << 20;
        let peer_pool_bytes = reading.number(Key::PeerPoolMib, 16, 16..=1_024) << 20;
        let checkpoint = Duration::from_millis(reading.number(Key::CheckpointMs, 1_000, 10..=60_000) as u64);
        let memory_limit_bytes = reading.number(Key::MemoryMib, 150, 64..=65_536) << 20;
        let dir = reading.dir();
        let identity = dir.as_deref().and_then(|dir| reading.keep(Identity::load(dir).map_err(ConfigError::from)));
        let tls = match (&dir, &identity) {
            (Some(dir), Some(identity)) => reading.tls(dir, identity),
            _ => None,
        };
        let has_tls = identity.as_ref().is_some_and(|identity| identity.tls.is_some());
        let connections = if has_tls { SECURED_CONNECTIONS } else { CONNECTIONS };
        let connections = reading.number(Key::Connections, connections, 1..=4_096);
        let listen = reading.listen(identity.as_ref());
        match (dir, identity, listen) {
            (Some(dir), Some(identity), Some(listen)) if reading.errors.is_empty() => Ok(Config {
                dir,
                identity,
                tls,
                listen,
                threads,
                connections,
                client_pool_bytes,
                peer_pool_bytes,
                checkpoint,
                memory_limit_bytes,
            }),
            _ => Err(Errors(reading.errors)),
        }
    }
}

/// Reads typed values; what is wrong is noted and reading goes on.
struct Reading {
    values: BTreeMap<Key, (String, Origin)>,
    errors: Vec<ConfigError>,
}

impl Reading {
    fn keep<T>(&mut self, result: Result<T, ConfigError>) -> Option<T> {
        result.map_err(|error| self.errors.push(error)).ok()
    }

    fn wrong(&mut self, key: Key, expected: String) {
        if let Some((value, origin)) = self.values.get(&key).cloned() {
            self.errors.push(ConfigError::Value { key, value, origin, expected });
        }
    }

    fn text(&self, key: Key) -> Option<&str> {
        self.values.get(&key).map(|(text, _)| text.as_str())
    }

    fn number(&mut self, key: Key, default: usize, range: RangeInclusive<usize>) -> usize {
        let Some(text) = self.text(key) else { return default };
        match text.parse() {
            Ok(number) if range.contains(&number) => number,
            _ => {
                self.wrong(key, format!("it must be a whole number from {} to {}", range.start(), range.end()));
                default
            }
        }
    }

    fn threads(&mut self) -> ThreadLayout {
        match self.text(Key::Threads) {
            Some("shared") => ThreadLayout::Shared,
            Some("split") => ThreadLayout::Split,
            None | Some("auto") => match thread::available_parallelism() {
                Ok(cores) if cores.get() > 2 => ThreadLayout::Split,
                _ => ThreadLayout::Shared,
            },
            Some(_) => {
                self.wrong(Key::Threads, "it must be auto, shared or split".to_owned());
                ThreadLayout::Shared
            }
        }
    }

    fn dir(&mut self) -> Option<PathBuf> {
        match self.text(Key::Dir) {
            Some("") => {
                self.wrong(Key::Dir, "it must name a directory".to_owned());
                None
            }
            Some(text) => Some(PathBuf::from(text)),
            None => {
                self.errors.push(ConfigError::Required { key: Key::Dir });
                None
            }
        }
    }

    fn tls(&mut self, dir: &Path, identity: &Identity) -> Option<NodeTls> {
        let now = Clock::start().wall().0 / 1_000_000;
        NodeTls::load(dir, identity, now).unwrap_or_else(|errors| {
            self.errors.extend(errors.0.into_iter().map(ConfigError::from));
            None
        })
    }

    fn listen(&mut self, identity: Option<&Identity>) -> Option<Vec<SocketAddr>> {
        let risk_accepted = match self.text(Key::AcceptRisk) {
            Some(ACCEPTED_RISK) => true,
            Some(_) => {
                self.wrong(Key::AcceptRisk, format!("it must be exactly {ACCEPTED_RISK:?}"));
                false
            }
            None => false,
        };
        let address: Address = match self.text(Key::Listen).map(str::parse) {
            Some(Ok(address)) => address,
            Some(Err(_)) => {
                self.wrong(Key::Listen, "it must be HOST:PORT".to_owned());
                return None;
            }
            None => identity?.me().address.clone(),
        };
        let resolved =
            address.resolve().map_err(|source| ConfigError::Resolve { address: address.to_string(), source });
        let listen = self.keep(resolved)?;
        let has_tls = identity.is_some_and(|identity| identity.tls.is_some());
        if !has_tls && !risk_accepted && !listen.iter().all(|socket| socket.ip().is_loopback()) {
            self.errors.push(ConfigError::BeyondLoopback { address: address.to_string() });
        }
        if !has_tls && !risk_accepted {
            // Names are not looked up: whoever has them may not be there yet, and he refuses to listen as well.
            let peers = identity.into_iter().flat_map(Identity::peers);
            let reached = peers.filter(|peer| peer.address.literal().is_some_and(|socket| !socket.ip().is_loopback()));
            let beyond = reached.map(|peer| ConfigError::PeerBeyondLoopback { address: peer.address.to_string() });
            self.errors.extend(beyond);
        }
        Some(listen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::init;
    use eventstream_core::config::Parameters;
    use eventstream_core::id::NodeId;
    use std::fs;
    use tempfile::TempDir;

    /// A directory that holds the identity of node 1, listening on `address`.
    fn node(address: &str) -> (TempDir, String) {
        let out = tempfile::tempdir().unwrap();
        let nodes = [(NodeId(1), address.parse().unwrap())];
        let dir = init(out.path(), &nodes, Parameters::default()).unwrap().remove(0);
        (out, dir.to_string_lossy().into_owned())
    }

    fn with(dir: &str) -> Settings {
        Settings::new().flag(Key::Dir, Some(dir.to_owned()))
    }

    fn environment(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn a_directory_is_enough() {
        let (_out, dir) = node("127.0.0.1:9001");
        let config = with(&dir).check().unwrap();
        assert_eq!(config.listen, ["127.0.0.1:9001".parse().unwrap()]);
        assert_eq!((config.connections, config.client_pool_bytes), (256, 16 << 20));
        assert_eq!(config.memory().total_bytes(), 32 << 20);
    }

    #[test]
    fn flags_win_over_the_environment_and_that_over_the_file() {
        let (out, dir) = node("127.0.0.1:9001");
        let file = out.path().join("node.toml");
        fs::write(&file, "connections = 10\nclient_pool_mib = 11\ncheckpoint_ms = 12\nthreads = 'split'\n").unwrap();
        let config = with(&dir)
            .file(&file)
            .environment(environment(&[
                ("EVENTSTREAM_NODE_CLIENT_POOL_MIB", "21"),
                ("EVENTSTREAM_NODE_CHECKPOINT_MS", "22"),
                ("EVENTSTREAM_CACHE", "not for the node"),
            ]))
            .flag(Key::CheckpointMs, Some("32".to_owned()))
            .check()
            .unwrap();
        assert_eq!(config.connections, 10);
        assert_eq!(config.client_pool_bytes, 21 << 20);
        assert_eq!(config.checkpoint, Duration::from_millis(32));
        assert_eq!(config.threads, ThreadLayout::Split);
    }

    #[test]
    fn a_relative_directory_in_the_file_is_beside_the_file() {
        let (out, _) = node("127.0.0.1:9001");
        let file = out.path().join("node.toml");
        fs::write(&file, "dir = 'node-1'\n").unwrap();
        assert_eq!(Settings::new().file(&file).check().unwrap().dir, out.path().join("node-1"));
    }

    #[test]
    fn all_errors_come_at_once() {
        let (out, _) = node("127.0.0.1:9001");
        let file = out.path().join("node.toml");
        fs::write(&file, "conections = 10\npeer_pool_mib = 'much'\n").unwrap();
        let errors = Settings::new()
            .file(&file)
            .file(&out.path().join("missing.toml"))
            .environment(environment(&[("EVENTSTREAM_NODE_THREADS", "fast"), ("EVENTSTREAM_NODE_X", "1")]))
            .flag(Key::Connections, Some("0".to_owned()))
            .check()
            .unwrap_err();
        let all = errors.to_string();
        for part in ["conections", "much", "missing.toml", "EVENTSTREAM_NODE_THREADS", "\"x\"", "flag", "dir is not"] {
            assert!(all.contains(part), "{part} is missing in:\n{all}");
        }
        assert_eq!(errors.0.len(), 7, "{all}");
    }

    #[test]
    fn a_directory_without_identity_is_one_of_the_errors() {
        let empty = tempfile::tempdir().unwrap();
        let errors = with(&empty.path().to_string_lossy()).check().unwrap_err();
        assert!(matches!(errors.0[..], [ConfigError::Identity(_)]), "{errors}");
    }

    #[test]
    fn beyond_loopback_only_with_the_words_that_show_the_risk() {
        for address in ["0.0.0.0:9001", "10.1.2.3:9001", "[::]:9001"] {
            let (_out, dir) = node(address);
            let refused = with(&dir).check().unwrap_err();
            assert!(matches!(refused.0[..], [ConfigError::BeyondLoopback { .. }]), "{refused}");
            let half_hearted = with(&dir).flag(Key::AcceptRisk, Some("yes".to_owned())).check().unwrap_err();
            assert_eq!(half_hearted.0.len(), 2, "{half_hearted}");
            with(&dir).flag(Key::AcceptRisk, Some(ACCEPTED_RISK.to_owned())).check().unwrap();
        }
        let (_out, dir) = node("[::1]:9001");
        with(&dir).check().unwrap();
    }

    #[test]
    fn other_nodes_are_not_dialled_beyond_loopback_either() {
        let out = tempfile::tempdir().unwrap();
        let nodes = [(1, "127.0.0.1:9001"), (2, "10.1.2.3:9001"), (3, "localhost:9001")];
        let nodes = nodes.map(|(node, address)| (NodeId(node), address.parse().unwrap()));
        let dir = init(out.path(), &nodes, Parameters::default()).unwrap().remove(0).to_string_lossy().into_owned();
        let refused = with(&dir).check().unwrap_err();
        assert!(matches!(refused.0[..], [ConfigError::PeerBeyondLoopback { .. }]), "{refused}");
        with(&dir).flag(Key::AcceptRisk, Some(ACCEPTED_RISK.to_owned())).check().unwrap();
    }
}
