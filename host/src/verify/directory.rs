//! Directories of nodes that do not run: opened together, checked one by one and side by side.

use super::across::{self, Divergence};
use super::log::{Log, Walk};
use super::meaning::Meaning;
use super::violation::{Findings, Invariant, Place};
use super::{Meter, checkpoint};
use crate::identity::{IDENTITY_FILE, Identity, IdentityError};
use crate::storage::{OpenError, ReadOnly, Reader, Terms, open_read_only, read_terms};
use eventstream_core::id::{ClusterId, Index, NodeId};
use eventstream_core::raft::{HardState, LogPosition};
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

/// What there is in directories of one cluster.
#[derive(Clone, Debug)]
pub struct Report {
    /// The cluster.
    pub cluster: ClusterId,
    /// Members that it has.
    pub members: usize,
    /// A node for each directory, in the order in which they were given.
    pub nodes: Vec<NodeReport>,
    /// Where logs differ, though they may: behind what is known to be committed.
    pub divergences: Vec<Divergence>,
    /// Where something does not hold.
    pub findings: Findings,
}

/// What there is in the directory of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeReport {
    /// The directory.
    pub directory: String,
    /// Whose it is.
    pub node: NodeId,
    /// Whether that is a witness: it keeps the terms of its log, and nothing was applied.
    pub is_witness: bool,
    /// The first entry of its log; zero if there is none.
    pub first: Index,
    /// The last.
    pub last: LogPosition,
    /// Term and vote.
    pub hard_state: HardState,
    /// The last entry that the data shows to be applied. The node may have been a second further.
    pub applied: Index,
    /// Events accepted up to there.
    pub events: u64,
    /// Topics there.
    pub topics: u32,
    /// Producers there.
    pub producers: u32,
    /// The hash of the state there.
    pub state_hash: u64,
    /// Whether the end of the log may be lost: the node knows it, or would find it when it starts.
    pub suspect: bool,
}

/// Why directories cannot be checked together, or not now. Nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// A directory is not that of a node.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The directories are not of one cluster.
    #[error("{directory} belongs to cluster {found}, and {first} to {expected}: they cannot be compared")]
    OtherCluster {
        /// The directory.
        directory: String,
        /// Its cluster.
        found: ClusterId,
        /// The first directory.
        first: String,
        /// Its cluster.
        expected: ClusterId,
    },
    /// Two directories say that they are of one cluster, and not the same of it.
    #[error("{directory} and {first} name the same cluster, and other members or parameters of it")]
    OtherMembers {
        /// The directory.
        directory: String,
        /// The first directory.
        first: String,
    },
    /// Two directories are of one node: one of them is a copy.
    #[error("{first} and {second} are both of node {node}: one of them is a copy, name one")]
    SameNode {
        /// The node.
        node: NodeId,
        /// One directory.
        first: String,
        /// The other.
        second: String,
    },
    /// A directory is in use, or not what its identity says.
    #[error(transparent)]
    Open(OpenError),
}

/// The nodes' directories below `directory`, as `eventstream cluster` lays them out; `directory` itself if it is one.
#[must_use]
pub fn node_directories(directory: &Path) -> Vec<PathBuf> {
    let is_node = |path: &Path| path.join(IDENTITY_FILE).exists();
    let number = |path: &Path| path.file_name()?.to_str()?.strip_prefix("node-")?.parse::<u16>().ok();
    let mut found = Vec::new();
    if !is_node(directory)
        && let Ok(files) = fs::read_dir(directory)
    {
        let paths = files.flatten().map(|file| file.path());
        found.extend(paths.filter(|path| is_node(path)).filter_map(|path| Some((number(&path)?, path))));
    }
    found.sort();
    if found.is_empty() { vec![directory.to_owned()] } else { found.into_iter().map(|(_, path)| path).collect() }
}

/// Checks the directories of nodes of one cluster, at least one. Each is read by a thread of its own.
///
/// # Errors
/// [`Refusal`].
///
/// # Panics
/// Without a directory.
pub fn directories(directories: &[PathBuf], meter: &Meter) -> Result<Report, Refusal> {
    let identities = identities(directories)?;
    let mut data = Vec::with_capacity(directories.len());
    for (path, identity) in directories.iter().zip(identities) {
        data.push(Directory::open(path, identity)?);
    }
    let checked: Vec<Checked> = thread::scope(|scope| {
        let threads: Vec<_> = data.iter().map(|one| scope.spawn(|| one.check(meter))).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, Checked>| {
            thread.join().unwrap_or_else(|cause| std::panic::resume_unwind(cause))
        };
        threads.into_iter().map(join).collect()
    });
    let mut findings = Findings::default();
    checked.iter().for_each(|one| findings.extend(one.findings.clone()));
    let divergences = across::compare(&data, &checked, &mut findings);
    let identity = &data[0].identity;
    Ok(Report {
        cluster: identity.cluster,
        members: identity.members.len(),
        nodes: checked.into_iter().map(|one| one.report).collect(),
        divergences,
        findings,
    })
}

/// The identities of the directories, which are of one cluster and of different nodes.
fn identities(directories: &[PathBuf]) -> Result<Vec<Identity>, Refusal> {
    let identities = directories.iter().map(|path| Identity::load(path)).collect::<Result<Vec<_>, _>>()?;
    let name = |position: usize| directories[position].display().to_string();
    let (first, expected) = (&identities[0], name(0));
    for (position, identity) in identities.iter().enumerate() {
        let (directory, first_name) = (name(position), expected.clone());
        if identity.cluster != first.cluster {
            let (found, expected) = (identity.cluster, first.cluster);
            return Err(Refusal::OtherCluster { directory, found, first: first_name, expected });
        }
        let members = |identity: &Identity| {
            identity.members.iter().map(|one| (one.id, one.incarnation, one.is_witness)).collect::<Vec<_>>()
        };
        if members(identity) != members(first) || identity.parameters != first.parameters {
            return Err(Refusal::OtherMembers { directory, first: first_name });
        }
        if let Some(earlier) = identities[..position].iter().position(|other| other.node == identity.node) {
            return Err(Refusal::SameNode { node: identity.node, first: name(earlier), second: directory });
        }
    }
    Ok(identities)
}

/// A directory, open.
pub(super) struct Directory {
    pub(super) name: String,
    pub(super) identity: Identity,
    data: Data,
}

enum Data {
    /// To be read.
    Open(ReadOnly),
    /// What a witness keeps, and whether it would start suspect.
    Terms(Terms, bool),
    /// The node was never started.
    None,
    /// It does not open, since it is damaged.
    Damaged(OpenError),
}

/// What was seen of a directory.
pub(super) struct Checked {
    pub(super) report: NodeReport,
    pub(super) log: Log,
    findings: Findings,
}

impl Directory {
    fn open(path: &Path, identity: Identity) -> Result<Self, Refusal> {
        let opened = if identity.is_witness() {
            read_terms(path, &identity).map(|found| found.map(|(terms, suspect)| Data::Terms(terms, suspect)))
        } else {
            open_read_only(path, &identity).map(|data| data.map(Data::Open))
        };
        let data = match opened {
            Ok(data) => data.unwrap_or(Data::None),
            Err(error @ (OpenError::Rocks { .. } | OpenError::DataLost { .. } | OpenError::LogDamaged { .. })) => {
                Data::Damaged(error)
            }
            Err(error) => return Err(Refusal::Open(error)),
        };
        Ok(Self { name: path.display().to_string(), identity, data })
    }

    /// The store; none if there is none that can be read.
    pub(super) fn reader(&self) -> Option<&Reader> {
        match &self.data {
            Data::Open(data) => Some(&data.reader),
            Data::Terms(..) | Data::None | Data::Damaged(_) => None,
        }
    }

    /// Whether of the log there are the terms only.
    pub(super) fn has_terms_only(&self) -> bool {
        matches!(self.data, Data::Terms(..))
    }

    /// Whether it is known what the log holds, be it nothing.
    pub(super) fn is_readable(&self) -> bool {
        !matches!(self.data, Data::Damaged(_))
    }

    fn check(&self, meter: &Meter) -> Checked {
        let mut findings = Findings::default();
        let mut log = Log::default();
        let mut shown = super::meaning::Shown::default();
        match &self.data {
            Data::Open(data) => (log, shown) = self.read(data, meter, &mut findings),
            Data::Terms(terms, _) => log = Log::of_terms(terms),
            Data::None => {}
            Data::Damaged(error) => findings.add(Invariant::Whole, Place::at(&self.name), error),
        }
        let report = NodeReport {
            directory: self.name.clone(),
            node: self.identity.node,
            is_witness: self.identity.is_witness(),
            first: log.first,
            last: log.last,
            hard_state: log.hard_state,
            applied: shown.applied,
            events: shown.events,
            topics: shown.topics,
            producers: shown.producers,
            state_hash: shown.state_hash,
            suspect: log.hard_state.suspect || self.would_be_suspect(),
        };
        Checked { report, log, findings }
    }

    fn would_be_suspect(&self) -> bool {
        match &self.data {
            Data::Open(data) => data.suspect,
            Data::Terms(_, suspect) => *suspect,
            Data::None | Data::Damaged(_) => false,
        }
    }

    fn read(&self, data: &ReadOnly, meter: &Meter, findings: &mut Findings) -> (Log, super::meaning::Shown) {
        let ReadOnly { reader, floor, .. } = data;
        let head = checkpoint::head(&self.name, reader, findings);
        let meaning = Meaning::new(&self.name, reader, &self.identity.parameters, head);
        let mut walk = Walk::new(&self.name, meaning, *floor, meter, findings);
        // An error is met by the scan too, which says so.
        if let Ok(end) = reader.log_end() {
            meter.expect(end.0);
        }
        let scanned = reader.scan_log(|item| walk.item(&item));
        walk.end(scanned)
    }
}
