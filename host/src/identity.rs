//! Who a node is: the bundle that `eventstream init` writes once, as `identity.toml` in the node's directory.
//!
//! It names the cluster, the node, this life of its data directory (the incarnation), all members of the first
//! configuration, and the cluster's parameters. A node reads it and never writes it. A node whose data was wiped may
//! have voted, and has forgotten it; with its bundle put back it looks new, so new nodes are as careful (`docs/suspect.md`).

use crate::tls::{from_hex, to_hex};
use core::fmt;
use core::net::SocketAddr;
use core::str::FromStr;
use eventstream_core::config::{MAX_EVENT_PAYLOAD, MAX_MEMBERS, Parameters};
use eventstream_core::id::{ClusterId, Incarnation, NodeId};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::ToSocketAddrs;
use std::path::{Path, PathBuf};

/// Name of the file in the node's directory.
pub const IDENTITY_FILE: &str = "identity.toml";
/// Name of a file beside it that is there until the first start. A directory that has neither it nor data was wiped.
pub const NEW_FILE: &str = "NEW";
/// Version of that file's format.
pub const IDENTITY_FORMAT: u32 = 1;
/// Bytes of an address, at most: it travels in every welcome.
pub const MAX_ADDRESS: usize = 255;
/// Producers and topics that a cluster may be initialised for, at most. Their tables are allocated at start: with
/// these some 32 MB, which is a node's whole allowance.
pub const MAX_PRODUCERS: u32 = 65_536;
/// See [`MAX_PRODUCERS`].
pub const MAX_TOPICS: u32 = 65_536;

/// `HOST:PORT`; the host is a name, an IPv4 address, or an IPv6 address in brackets.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address(String);

impl Address {
    /// As written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The address itself, where the host is no name.
    #[must_use]
    pub fn literal(&self) -> Option<SocketAddr> {
        self.0.parse().ok()
    }

    /// What it stands for now; asks the resolver where the host is a name, so it may block.
    ///
    /// # Errors
    /// The resolver's.
    pub fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        self.0.to_socket_addrs().map(Iterator::collect)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Not `HOST:PORT` with a port from 1 to 65535, or longer than [`MAX_ADDRESS`] bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no HOST:PORT")]
pub struct BadAddress(pub String);

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let bad = || BadAddress(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let bracketed = host.starts_with('[') && host.ends_with(']');
        let host_is_good =
            !host.is_empty() && !host.contains(char::is_whitespace) && (bracketed || !host.contains(':'));
        let port_is_good = port.parse::<u16>().is_ok_and(|port| port != 0);
        if host_is_good && port_is_good && text.len() <= MAX_ADDRESS { Ok(Self(text.to_owned())) } else { Err(bad()) }
    }
}

/// A node that a cluster is to be initialised with: its number and its address.
pub type Named = (NodeId, Address);

/// A member of the first configuration. All of them are voters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its number, 1 or above.
    pub id: NodeId,
    /// Where it listens, for clients and for the other members.
    pub address: Address,
    /// Which life of its data directory belongs to the cluster.
    pub incarnation: Incarnation,
    /// Whether it is the witness: it votes, and keeps no events.
    pub is_witness: bool,
}

/// Who a node is. Checked: ids, incarnations and addresses are distinct, the node itself is among the members, and at most
/// one of these is a witness, beside two or more that keep events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// This node.
    pub node: NodeId,
    /// This life of the node's data directory.
    pub incarnation: Incarnation,
    /// The first configuration, in ascending order of ids; 1 to [`MAX_MEMBERS`].
    pub members: Vec<Member>,
    /// The cluster's parameters.
    pub parameters: Parameters,
    /// Whether the node speaks TLS, under the certificates in its [directory](crate::tls).
    pub tls: Option<TlsIdentity>,
}

/// What a node has to know for TLS beside its certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsIdentity {
    /// SHA-256 of the clients' token.
    pub token_hash: [u8; 32],
}

impl Identity {
    /// Makes the identities of a new cluster, one per node, with fresh random names. All of the nodes keep events.
    ///
    /// # Errors
    /// What is wrong with `nodes` or `parameters`, or that the system gives no randomness.
    pub fn new_cluster(nodes: &[Named], parameters: Parameters) -> Result<Vec<Self>, IdentityError> {
        Self::new_cluster_with(nodes, &[], parameters)
    }

    /// As [`Self::new_cluster`], with witnesses: one at most, or none.
    ///
    /// # Errors
    /// What is wrong with the nodes or `parameters`, or that the system gives no randomness.
    pub fn new_cluster_with(
        nodes: &[Named],
        witnesses: &[Named],
        parameters: Parameters,
    ) -> Result<Vec<Self>, IdentityError> {
        let cluster = ClusterId(random_name()?);
        let mut members = Vec::with_capacity(nodes.len() + witnesses.len());
        let all = nodes.iter().map(|named| (named, false)).chain(witnesses.iter().map(|named| (named, true)));
        for ((id, address), is_witness) in all {
            let incarnation = Incarnation(random_name()?);
            members.push(Member { id: *id, address: address.clone(), incarnation, is_witness });
        }
        members.sort_by_key(|member| member.id);
        let identities: Vec<Self> = members
            .iter()
            .map(|me| Self {
                cluster,
                node: me.id,
                incarnation: me.incarnation,
                members: members.clone(),
                parameters,
                tls: None,
            })
            .collect();
        match identities.first() {
            None => Err(IdentityError::Invalid(Invalid::NoMembers)),
            Some(first) => first.check().map(|()| identities).map_err(IdentityError::Invalid),
        }
    }

    /// Reads and checks `directory/identity.toml`.
    ///
    /// # Errors
    /// See [`IdentityError`].
    pub fn load(directory: &Path) -> Result<Self, IdentityError> {
        let path = directory.join(IDENTITY_FILE);
        let text = fs::read_to_string(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => IdentityError::Missing { directory: directory.to_owned() },
            _ => IdentityError::Io { path: path.clone(), source },
        })?;
        Self::parse(&text, &path)
    }

    /// Writes `directory/identity.toml` and `directory/NEW`, durably; makes the directory where it is missing.
    ///
    /// # Errors
    /// [`IdentityError::Exists`] where one is there already: an identity is never replaced.
    pub fn write(&self, directory: &Path) -> Result<PathBuf, IdentityError> {
        let path = directory.join(IDENTITY_FILE);
        let io = |source| IdentityError::Io { path: path.clone(), source };
        fs::create_dir_all(directory).map_err(io)?;
        let mut file = match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => file,
            Err(source) if source.kind() == io::ErrorKind::AlreadyExists => {
                return Err(IdentityError::Exists { path: path.clone() });
            }
            Err(source) => return Err(io(source)),
        };
        fs::write(directory.join(NEW_FILE), "no node has started here yet\n").map_err(io)?;
        file.write_all(self.to_toml().as_bytes()).and_then(|()| file.sync_all()).map_err(io)?;
        File::open(directory).and_then(|folder| folder.sync_all()).map_err(io)?;
        Ok(path)
    }

    /// This node among the members.
    #[must_use]
    pub fn me(&self) -> &Member {
        self.member(self.node).expect("checked when the identity was made")
    }

    /// Whether this node is the witness.
    #[must_use]
    pub fn is_witness(&self) -> bool {
        self.me().is_witness
    }

    /// The member with this id.
    #[must_use]
    pub fn member(&self, id: NodeId) -> Option<&Member> {
        self.members.iter().find(|member| member.id == id)
    }

    /// The other members.
    pub fn peers(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.id != self.node)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, IdentityError> {
        let syntax = |message: String| IdentityError::Syntax { path: path.to_owned(), message };
        let version: VersionOnly = toml::from_str(text).map_err(|error| syntax(error.to_string()))?;
        if version.format != IDENTITY_FORMAT {
            return Err(IdentityError::Format { path: path.to_owned(), found: version.format });
        }
        let file: OnDisk = toml::from_str(text).map_err(|error| syntax(error.to_string()))?;
        let identity = file.into_identity().map_err(syntax)?;
        identity.check().map(|()| identity).map_err(IdentityError::Invalid)
    }

    fn check(&self) -> Result<(), Invalid> {
        if self.members.is_empty() {
            return Err(Invalid::NoMembers);
        }
        if self.members.len() > MAX_MEMBERS {
            return Err(Invalid::TooManyMembers(self.members.len()));
        }
        for (position, member) in self.members.iter().enumerate() {
            if member.id.0 == 0 {
                return Err(Invalid::NodeZero);
            }
            for earlier in &self.members[..position] {
                if earlier.id == member.id {
                    return Err(Invalid::TwiceTheNode(member.id));
                }
                if earlier.address == member.address {
                    return Err(Invalid::TwiceTheAddress(member.address.clone()));
                }
                if earlier.incarnation == member.incarnation {
                    return Err(Invalid::TwiceTheIncarnation(member.incarnation));
                }
            }
        }
        let witnesses = self.members.iter().filter(|member| member.is_witness).count();
        if witnesses > 1 {
            return Err(Invalid::TooManyWitnesses(witnesses));
        }
        if witnesses == 1 && self.members.len() < 3 {
            return Err(Invalid::WitnessOfTooFew(self.members.len() - 1));
        }
        match self.member(self.node) {
            None => return Err(Invalid::NotAMember(self.node)),
            Some(me) if me.incarnation != self.incarnation => return Err(Invalid::OtherIncarnation(self.node)),
            Some(_) => {}
        }
        check_parameters(&self.parameters)
    }

    fn to_toml(&self) -> String {
        let file = OnDisk {
            format: IDENTITY_FORMAT,
            cluster: self.cluster.to_string(),
            node: self.node.0,
            incarnation: self.incarnation.to_string(),
            parameters: self.parameters,
            nodes: self.members.iter().map(MemberOnDisk::from).collect(),
            tls: self.tls.map(|tls| TlsOnDisk { token_sha256: to_hex(&tls.token_hash) }),
        };
        let body = toml::to_string(&file).expect("numbers and strings always serialise");
        format!(
            "# Who this node is. Written once by `eventstream init`; do not edit, and do not start a second node with it.\n\
             # A node that has lost its data gets this file and NEW again, as they were, and what it lost from the others.\n{body}"
        )
    }
}

fn check_parameters(parameters: &Parameters) -> Result<(), Invalid> {
    let bounded = [
        ("producers", parameters.producers, MAX_PRODUCERS),
        ("topics", parameters.topics, MAX_TOPICS),
        ("event_payload", parameters.event_payload, MAX_EVENT_PAYLOAD as u32),
    ];
    match bounded.into_iter().find(|&(_, value, most)| value == 0 || value > most) {
        Some((name, value, most)) => Err(Invalid::Parameter { name, value, most }),
        None => Ok(()),
    }
}

/// Writes one bundle per node below `out`: the folder `out/node-1` and so on. All of the nodes keep events. Returns their
/// directories.
///
/// # Errors
/// Before anything is written: invalid nodes, or a directory that holds an identity already. After that: writing failed.
pub fn init(out: &Path, nodes: &[Named], parameters: Parameters) -> Result<Vec<PathBuf>, IdentityError> {
    init_with(out, nodes, &[], parameters)
}

/// As [`init`], with witnesses: one at most, or none. The directories are in the order of the nodes' numbers.
///
/// # Errors
/// As [`init`].
pub fn init_with(
    out: &Path,
    nodes: &[Named],
    witnesses: &[Named],
    parameters: Parameters,
) -> Result<Vec<PathBuf>, IdentityError> {
    let identities = Identity::new_cluster_with(nodes, witnesses, parameters)?;
    let directories: Vec<PathBuf> = identities.iter().map(|me| node_directory(out, me.node)).collect();
    if let Some(taken) = directories.iter().map(|folder| folder.join(IDENTITY_FILE)).find(|path| path.exists()) {
        return Err(IdentityError::Exists { path: taken });
    }
    for (identity, directory) in identities.iter().zip(&directories) {
        identity.write(directory)?;
    }
    Ok(directories)
}

/// Where [`init`] puts the bundle of a node.
#[must_use]
pub fn node_directory(out: &Path, node: NodeId) -> PathBuf {
    out.join(format!("node-{node}"))
}

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The directory holds none.
    #[error("{} holds no {IDENTITY_FILE}: `eventstream init` writes one for each node", directory.display())]
    Missing {
        /// Where it was looked for.
        directory: PathBuf,
    },
    /// There is one already, and it is never replaced.
    #[error("{} exists already, and an identity is never replaced", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Another version of EventStreamCore wrote it.
    #[error("{} has format {found}, this version reads format {IDENTITY_FORMAT}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: u32,
    },
    /// It cannot be read as an identity.
    #[error("{}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// It contradicts itself.
    #[error("the identity is invalid: {0}")]
    Invalid(Invalid),
    /// The file system's error.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system gives no random bytes.
    #[error("no random bytes from the system: {0}")]
    Randomness(getrandom::Error),
}

/// What contradicts itself in an identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// A cluster has at least one node.
    #[error("it names no nodes")]
    NoMembers,
    /// More than the build's ceiling.
    #[error("it names {0} nodes, at most {MAX_MEMBERS} are possible")]
    TooManyMembers(usize),
    /// Numbers start at 1.
    #[error("node numbers start at 1")]
    NodeZero,
    /// Two nodes with one number.
    #[error("node {0} is named twice")]
    TwiceTheNode(NodeId),
    /// Two nodes with one address.
    #[error("the address {0} is given to two nodes")]
    TwiceTheAddress(Address),
    /// Two nodes with one incarnation.
    #[error("the incarnation {0} is given to two nodes")]
    TwiceTheIncarnation(Incarnation),
    /// A vote that keeps no events is of use once.
    #[error("it names {0} witnesses: at most one is possible")]
    TooManyWitnesses(usize),
    /// Beside fewer than two nodes that keep events a witness protects nothing.
    #[error("it names a witness beside {0} nodes that keep events: at least two of them are needed")]
    WitnessOfTooFew(usize),
    /// The node is not among the nodes.
    #[error("node {0} is not among its own cluster's nodes")]
    NotAMember(NodeId),
    /// The node's own incarnation is not the one in the list.
    #[error("node {0} has another incarnation than the list of nodes says")]
    OtherIncarnation(NodeId),
    /// A parameter out of its range.
    #[error("{name} is {value}: it must be from 1 to {most}")]
    Parameter {
        /// Which.
        name: &'static str,
        /// What it is.
        value: u32,
        /// What it may be at most.
        most: u32,
    },
}

#[derive(Deserialize)]
struct VersionOnly {
    format: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OnDisk {
    format: u32,
    cluster: String,
    node: u16,
    incarnation: String,
    parameters: Parameters,
    nodes: Vec<MemberOnDisk>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tls: Option<TlsOnDisk>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TlsOnDisk {
    token_sha256: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MemberOnDisk {
    id: u16,
    address: String,
    incarnation: String,
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    witness: bool,
}

impl From<&Member> for MemberOnDisk {
    fn from(member: &Member) -> Self {
        Self {
            id: member.id.0,
            address: member.address.to_string(),
            incarnation: member.incarnation.to_string(),
            witness: member.is_witness,
        }
    }
}

impl OnDisk {
    fn into_identity(self) -> Result<Identity, String> {
        let mut members = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            members.push(Member {
                id: NodeId(node.id),
                address: node.address.parse().map_err(|error: BadAddress| error.to_string())?,
                incarnation: Incarnation(name_from_hex(&node.incarnation)?),
                is_witness: node.witness,
            });
        }
        members.sort_by_key(|member| member.id);
        Ok(Identity {
            cluster: ClusterId(name_from_hex(&self.cluster)?),
            node: NodeId(self.node),
            incarnation: Incarnation(name_from_hex(&self.incarnation)?),
            members,
            parameters: self.parameters,
            tls: self.tls.map(TlsOnDisk::into_identity).transpose()?,
        })
    }
}

impl TlsOnDisk {
    fn into_identity(self) -> Result<TlsIdentity, String> {
        let hash = from_hex(&self.token_sha256).ok_or("token_sha256 is not 64 hexadecimal digits")?;
        Ok(TlsIdentity { token_hash: hash })
    }
}

fn name_from_hex(text: &str) -> Result<[u8; 16], String> {
    if text.len() != 32 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(format!("{text:?} is no name of 32 hexadecimal digits"));
    }
    u128::from_str_radix(text, 16).map(u128::to_be_bytes).map_err(|error| error.to_string())
}

fn random_name() -> Result<[u8; 16], IdentityError> {
    let mut name = [0; 16];
    getrandom::fill(&mut name).map(|()| name).map_err(IdentityError::Randomness)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(list: &[(u16, &str)]) -> Vec<(NodeId, Address)> {
        list.iter().map(|&(id, address)| (NodeId(id), address.parse().expect("a good address"))).collect()
    }

    fn three() -> Vec<(NodeId, Address)> {
        nodes(&[(1, "127.0.0.1:9001"), (2, "127.0.0.1:9002"), (3, "localhost:9003")])
    }

    #[test]
    fn init_writes_one_bundle_per_node_and_each_loads() {
        let out = tempfile::tempdir().unwrap();
        let directories = init(out.path(), &three(), Parameters::default()).unwrap();
        let loaded: Vec<Identity> = directories.iter().map(|folder| Identity::load(folder).unwrap()).collect();
        assert_eq!(loaded.iter().map(|me| me.node.0).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(loaded.iter().all(|me| me.cluster == loaded[0].cluster && me.members == loaded[0].members));
        assert_eq!(loaded[1].me().address.as_str(), "127.0.0.1:9002");
        assert_eq!(loaded[1].peers().map(|peer| peer.id.0).collect::<Vec<_>>(), [1, 3]);
    }

    #[test]
    fn init_never_replaces_an_identity() {
        let out = tempfile::tempdir().unwrap();
        let taken = init(out.path(), &nodes(&[(2, "127.0.0.1:9002")]), Parameters::default()).unwrap();
        let before = fs::read(taken[0].join(IDENTITY_FILE)).unwrap();
        let error = init(out.path(), &three(), Parameters::default()).unwrap_err();
        assert!(matches!(error, IdentityError::Exists { .. }), "{error}");
        assert_eq!(fs::read(taken[0].join(IDENTITY_FILE)).unwrap(), before);
        assert!(!node_directory(out.path(), NodeId(1)).exists(), "nothing is written before all was checked");
    }

    #[test]
    fn an_empty_directory_is_told_apart_from_a_broken_file() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(Identity::load(folder.path()), Err(IdentityError::Missing { .. })));
        fs::write(folder.path().join(IDENTITY_FILE), "format = 1\nnode = 1\n").unwrap();
        assert!(matches!(Identity::load(folder.path()), Err(IdentityError::Syntax { .. })));
        fs::write(folder.path().join(IDENTITY_FILE), "format = 2\nsomething_new = true\n").unwrap();
        assert!(matches!(Identity::load(folder.path()), Err(IdentityError::Format { found: 2, .. })));
    }

    #[test]
    fn contradictions_are_named() {
        let invalid = |list: &[(u16, &str)]| match Identity::new_cluster(&nodes(list), Parameters::default()) {
            Err(IdentityError::Invalid(invalid)) => invalid,
            other => panic!("{other:?}"),
        };
        assert_eq!(invalid(&[]), Invalid::NoMembers);
        assert_eq!(invalid(&[(0, "a:1")]), Invalid::NodeZero);
        assert_eq!(invalid(&[(1, "a:1"), (1, "a:2")]), Invalid::TwiceTheNode(NodeId(1)));
        assert_eq!(invalid(&[(1, "a:1"), (2, "a:1")]), Invalid::TwiceTheAddress("a:1".parse().unwrap()));
        let nine: Vec<(u16, String)> = (1..=9).map(|id| (id, format!("a:{id}"))).collect();
        let nine: Vec<(u16, &str)> = nine.iter().map(|(id, address)| (*id, address.as_str())).collect();
        assert_eq!(invalid(&nine), Invalid::TooManyMembers(9));
        let parameters = Parameters { topics: 0, ..Parameters::default() };
        assert!(matches!(
            Identity::new_cluster(&three(), parameters),
            Err(IdentityError::Invalid(Invalid::Parameter { name: "topics", value: 0, .. }))
        ));
    }

    #[test]
    fn one_witness_stands_beside_two_nodes_and_its_bundle_says_so() {
        let made = |data: &[(u16, &str)], witnesses: &[(u16, &str)]| {
            Identity::new_cluster_with(&nodes(data), &nodes(witnesses), Parameters::default())
        };
        let out = tempfile::tempdir().unwrap();
        let cluster = made(&[(1, "a:1"), (3, "a:3")], &[(2, "a:2")]).unwrap();
        assert_eq!(cluster.iter().map(Identity::is_witness).collect::<Vec<_>>(), [false, true, false]);
        for identity in &cluster {
            let directory = node_directory(out.path(), identity.node);
            identity.write(&directory).unwrap();
            assert_eq!(Identity::load(&directory).unwrap(), *identity);
        }
        let invalid = |cluster| match cluster {
            Err(IdentityError::Invalid(invalid)) => invalid,
            other => panic!("{other:?}"),
        };
        assert_eq!(invalid(made(&[(1, "a:1")], &[(2, "a:2")])), Invalid::WitnessOfTooFew(1));
        let two = &[(1, "a:1"), (2, "a:2")];
        assert_eq!(invalid(made(two, &[(3, "a:3"), (4, "a:4")])), Invalid::TooManyWitnesses(2));
        assert_eq!(invalid(made(two, &[(2, "a:3")])), Invalid::TwiceTheNode(NodeId(2)));
    }

    #[test]
    fn a_bundle_that_was_edited_to_another_incarnation_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut identity = Identity::new_cluster(&three(), Parameters::default()).unwrap().remove(0);
        identity.incarnation = Incarnation([7; 16]);
        identity.write(folder.path()).unwrap();
        assert!(matches!(
            Identity::load(folder.path()),
            Err(IdentityError::Invalid(Invalid::OtherIncarnation(NodeId(1))))
        ));
    }

    #[test]
    fn addresses_are_host_and_port() {
        for good in ["127.0.0.1:9001", "[::1]:1", "node-1.local:65535"] {
            assert_eq!(good.parse::<Address>().unwrap().as_str(), good);
        }
        for bad in ["", "9001", ":9001", "host:", "host:0", "host:65536", "::1:9001", "a b:1", "host:-1"] {
            assert_eq!(bad.parse::<Address>(), Err(BadAddress(bad.to_owned())));
        }
        assert!(format!("{}:1", "h".repeat(MAX_ADDRESS)).parse::<Address>().is_err());
    }
}
