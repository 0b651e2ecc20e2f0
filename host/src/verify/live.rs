//! Nodes that run: their states at one index, and what they deliver up to there.
//!
//! Nodes move while they are asked, and not in step. So all of them are asked again and again, what they say is kept, and
//! the first index that every one of them was seen at is the one that counts.

mod sample;
mod topics;

use super::Meter;
use super::violation::{Findings, Invariant, Place};
use crate::client::{LinkError, Options, Probe, StatusReport, SubscribeError, status};
use crate::identity::Address;
use core::time::Duration;
use eventstream_core::id::{ClusterId, Index, NodeId, Term};
use eventstream_core::wire::NodeRole;
use std::collections::BTreeMap;
use std::io;
use tokio::task::JoinSet;

/// What there is on nodes that run.
#[derive(Clone, Debug)]
pub struct LiveReport {
    /// The cluster.
    pub cluster: ClusterId,
    /// The index that all nodes were compared at.
    pub index: Index,
    /// The nodes that answered and keep events, by number.
    pub nodes: Vec<LiveNode>,
    /// The servers that answered and keep none: a witness.
    pub witnesses: Vec<String>,
    /// The members that did not: address, and why.
    pub unreachable: Vec<(String, String)>,
    /// Topics that were read from every node.
    pub topics: usize,
    /// Events that were compared, of each node.
    pub events: u64,
    /// Where something does not hold.
    pub findings: Findings,
}

/// What there is on one node that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveNode {
    /// Where it is.
    pub server: String,
    /// What it said of itself when it was first asked.
    pub status: StatusReport,
    /// Its state at the common index.
    pub state_hash: u64,
}

/// Why nodes cannot be checked.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// None answers.
    #[error("no node answers ({servers}); is one running?")]
    Unreachable {
        /// Each server, and what was last heard of it.
        servers: String,
    },
    /// What answers keeps no events.
    #[error("only {server} answers, and it is a witness, which keeps no events: name a node that does")]
    OnlyWitness {
        /// Where it is.
        server: String,
    },
    /// The servers are of different clusters.
    #[error("{server} belongs to cluster {found}, and {first} to {expected}: they cannot be compared")]
    OtherCluster {
        /// The server.
        server: String,
        /// Its cluster.
        found: ClusterId,
        /// The first one.
        first: String,
        /// Its cluster.
        expected: ClusterId,
    },
    /// The nodes are too far apart.
    #[error("no index was seen on every node within {} s ({nodes}): wait until all have caught up", waited.as_secs())]
    NoCommonIndex {
        /// How long it was tried.
        waited: Duration,
        /// Each node, and what it has applied.
        nodes: String,
    },
    /// A node has gone.
    #[error("{server}: {error}")]
    Gone {
        /// Which.
        server: String,
        /// What was heard last.
        error: LinkError,
    },
    /// A node does not deliver a topic to its end.
    #[error("{server} does not deliver topic {topic:?} to its end: {error}")]
    Topic {
        /// Which.
        server: String,
        /// The topic.
        topic: String,
        /// Why.
        error: SubscribeError,
    },
}

/// A node that answers.
struct Node {
    server: String,
    status: StatusReport,
}

/// Checks the nodes at these servers (`HOST:PORT`) and the members that they tell of: their states at one index, and the
/// events of `topics` up to there; of all topics if none is named. Waits the options' patience for an answer, and six
/// times that for a common index.
///
/// # Errors
/// [`LiveError`].
pub async fn servers(
    servers: &[String],
    topics: &[String],
    options: &Options,
    meter: &Meter,
) -> Result<LiveReport, LiveError> {
    let (nodes, unreachable) = discover(servers, options).await?;
    let mut findings = Findings::default();
    one_leader(&nodes, &mut findings);
    let (witnesses, nodes): (Vec<Node>, Vec<Node>) = nodes.into_iter().partition(|node| node.status.role.is_witness());
    if let ([], Some(witness)) = (&nodes[..], witnesses.first()) {
        return Err(LiveError::OnlyWitness { server: witness.server.clone() });
    }
    let (index, hashes) = sample::common_index(&nodes, options, &mut findings).await?;
    let names = topics::names(&nodes, topics, options, meter, &mut findings).await?;
    let mut events = 0;
    for name in &names {
        events += topics::compare(&nodes, name, index, options, meter, &mut findings).await?;
    }
    Ok(LiveReport {
        cluster: nodes[0].status.cluster,
        index,
        topics: names.len(),
        events,
        unreachable,
        findings,
        witnesses: witnesses.into_iter().map(|witness| witness.server).collect(),
        nodes: nodes
            .into_iter()
            .zip(hashes)
            .map(|(Node { server, status }, state_hash)| LiveNode { server, status, state_hash })
            .collect(),
    })
}

type Answers = Vec<(String, Result<StatusReport, LinkError>)>;

/// Asks the servers, and then the members that they tell of: those that answer, at least one, by number, and the others.
async fn discover(servers: &[String], options: &Options) -> Result<(Vec<Node>, Vec<(String, String)>), LiveError> {
    let mut answers = ask_each(servers.iter().map(|server| server.trim().to_owned()).collect(), options).await;
    let known: Vec<NodeId> = answers.iter().flat_map(|(_, answer)| answer).map(|report| report.node).collect();
    let told = answers.iter().flat_map(|(_, answer)| answer).flat_map(|report| &report.members);
    let told = told.filter(|member| !known.contains(&member.node)).map(|member| member.address.clone());
    let mut others: Vec<String> = told.filter(|address| answers.iter().all(|(server, _)| server != address)).collect();
    others.sort();
    others.dedup();
    answers.extend(ask_each(others, options).await);
    let (mut nodes, mut unreachable) = (Vec::new(), Vec::new());
    for (server, answer) in answers {
        match answer {
            Ok(status) => nodes.push(Node { server, status }),
            Err(error) => unreachable.push((server, error.to_string())),
        }
    }
    nodes.sort_by_key(|node| node.status.node);
    nodes.dedup_by_key(|node| (node.status.cluster, node.status.node));
    let Some(first) = nodes.first() else {
        let each = unreachable.iter().map(|(server, error)| format!("{server}: {error}"));
        return Err(LiveError::Unreachable { servers: each.collect::<Vec<_>>().join("; ") });
    };
    if let Some(other) = nodes.iter().find(|node| node.status.cluster != first.status.cluster) {
        return Err(LiveError::OtherCluster {
            server: other.server.clone(),
            found: other.status.cluster,
            first: first.server.clone(),
            expected: first.status.cluster,
        });
    }
    Ok((nodes, unreachable))
}

async fn ask_each(servers: Vec<String>, options: &Options) -> Answers {
    let mut asked = JoinSet::new();
    for (number, server) in servers.into_iter().enumerate() {
        let options = options.clone();
        asked.spawn(async move {
            let answer = match server.parse::<Address>() {
                Ok(_) => status(&server, &options).await,
                Err(error) => Err(io::Error::new(io::ErrorKind::InvalidInput, error).into()),
            };
            (number, answer, server)
        });
    }
    let mut answers = asked.join_all().await;
    answers.sort_by_key(|(number, ..)| *number);
    answers.into_iter().map(|(_, answer, server)| (server, answer)).collect()
}

/// Nodes that say that they lead do so in terms of their own.
fn one_leader(nodes: &[Node], findings: &mut Findings) {
    let mut leaders: BTreeMap<Term, &Node> = BTreeMap::new();
    for node in nodes.iter().filter(|node| node.status.role == NodeRole::Leader) {
        if let Some(other) = leaders.insert(node.status.term, node) {
            let what = format_args!("both lead term {}", node.status.term);
            findings.add(Invariant::OneLeader, Place::at(&other.server).and(&node.server), what);
        }
    }
}

impl Node {
    async fn probe(&self, options: &Options) -> Result<Probe, LiveError> {
        Probe::connect(&self.server, options).await.map_err(|error| self.gone(error))
    }

    fn gone(&self, error: LinkError) -> LiveError {
        LiveError::Gone { server: self.server.clone(), error }
    }
}
