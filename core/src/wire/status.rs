//! What a node tells of itself and of the others.

use super::list::List;
use crate::id::{Incarnation, Index, LogTime, NodeId, Term};
use serde::{Deserialize, Serialize};

/// The state of one node, and what it knows of the members.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Status<'a> {
    /// The node that answers.
    pub node: NodeStatus<'a>,
    /// Every member, this node included: at most 8.
    pub members: List<'a, MemberStatus<'a>>,
}

/// What a node tells of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus<'a> {
    /// Its number.
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
    /// Microseconds since the node was started.
    pub uptime_us: u64,
    /// The version of its software: at most 255 bytes.
    pub version: &'a str,
}

/// The part that a node plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum NodeRole {
    /// Follows a leader, or waits for one.
    Follower,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
    /// Follows, or asks for votes, but is suspect: it may have forgotten what it had promised, and its own vote counts only
    /// if all voters give theirs.
    Suspect,
    /// Votes, and keeps no events: it has applied nothing.
    Witness,
    /// A witness that is suspect.
    SuspectWitness,
}

impl NodeRole {
    /// Whether the node may have forgotten what it had promised.
    #[must_use]
    pub const fn is_suspect(self) -> bool {
        matches!(self, Self::Suspect | Self::SuspectWitness)
    }

    /// Whether the node keeps no events.
    #[must_use]
    pub const fn is_witness(self) -> bool {
        matches!(self, Self::Witness | Self::SuspectWitness)
    }
}

/// What a node knows of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus<'a> {
    /// The member.
    pub node: NodeId,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// Where it listens: 1 to 255 bytes.
    pub address: &'a str,
    /// Whether there is a connection to it; true for the node itself.
    pub is_connected: bool,
    /// Up to where its log is known to equal the leader's, on stable storage. Only the leader knows it of others.
    pub matched: Option<Index>,
    /// Microseconds since it was last heard from, if it ever was; zero for the node itself.
    pub heard_us: Option<u64>,
}
