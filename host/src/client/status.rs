//! Asks one node how it is.

use super::Options;
use super::error::LinkError;
use super::probe::Probe;
use core::time::Duration;
use eventstream_core::id::{ClusterId, Incarnation, Index, LogTime, NodeId, Term};
use eventstream_core::wire::{NodeRole, Status};
use tokio::time::timeout;

/// The state of one node, and what it knows of the members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusReport {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node that has answered.
    pub node: NodeId,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// The part that it plays.
    pub role: NodeRole,
    /// Its term.
    pub term: Term,
    /// Who leads, as far as it knows.
    pub leader: Option<NodeId>,
    /// The last entry of its log.
    pub last: Index,
    /// The last entry that is on its own stable storage.
    pub durable: Index,
    /// The last entry that it knows to be committed.
    pub commit: Index,
    /// The last entry that it has applied.
    pub applied: Index,
    /// The log time of that entry.
    pub log_time: LogTime,
    /// False if the wall clocks of a majority do not agree, so that log time does not follow them.
    pub clocks_agree: bool,
    /// The hash of the applied state; equal on all nodes that have applied the same index.
    pub state_hash: u64,
    /// Topics.
    pub topics: u32,
    /// Producers remembered.
    pub producers: u32,
    /// Events accepted since the beginning of the log.
    pub events: u64,
    /// Time since the node was started.
    pub uptime: Duration,
    /// The version of its software.
    pub version: String,
    /// Every member, this node included.
    pub members: Vec<MemberReport>,
}

/// What a node knows of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberReport {
    /// The member.
    pub node: NodeId,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// Where it listens.
    pub address: String,
    /// Whether there is a connection to it; true for the node itself.
    pub is_connected: bool,
    /// Up to where its log is known to equal the leader's, on stable storage. Only the leader knows it of others.
    pub matched: Option<Index>,
    /// Time since it was last heard from, if it ever was.
    pub heard: Option<Duration>,
}

/// Asks the node at `server`, `HOST:PORT`, how it is.
///
/// # Errors
///
/// If it does not answer within the options' patience, or refuses.
pub async fn status(server: &str, options: &Options) -> Result<StatusReport, LinkError> {
    let ask = async { Probe::connect(server, options).await?.status().await };
    timeout(options.patience, ask).await.unwrap_or(Err(LinkError::Silent))
}

pub(super) fn report(cluster: ClusterId, status: &Status<'_>) -> StatusReport {
    let node = status.node;
    let members = status.members.iter().map(|member| MemberReport {
        node: member.node,
        incarnation: member.incarnation,
        address: member.address.to_owned(),
        is_connected: member.is_connected,
        matched: member.matched,
        heard: member.heard_us.map(Duration::from_micros),
    });
    StatusReport {
        cluster,
        node: node.node,
        incarnation: node.incarnation,
        role: node.role,
        term: node.term,
        leader: node.leader,
        last: node.last,
        durable: node.durable,
        commit: node.commit,
        applied: node.applied,
        log_time: node.log_time,
        clocks_agree: node.clocks_agree,
        state_hash: node.state_hash,
        topics: node.topics,
        producers: node.producers,
        events: node.events,
        uptime: Duration::from_micros(node.uptime_us),
        version: node.version.to_owned(),
        members: members.collect(),
    }
}
