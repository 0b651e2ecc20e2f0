//! What can be wrong with what a caller or a peer gives the machine.

use crate::id::{Incarnation, Index, NodeId, Term};
use core::fmt;

/// Why a message was refused. No entry, vote or commit was taken from it; its term, if newer, may have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejected {
    /// It is addressed to another node.
    NotForMe {
        /// The addressee.
        to: NodeId,
    },
    /// The sender is no member of the configuration, or it is this node itself.
    NotAPeer {
        /// The sender.
        from: NodeId,
    },
    /// The sender is another life of the member than the configuration holds: a wiped or cloned directory.
    OtherIncarnation {
        /// The sender.
        from: NodeId,
        /// Its incarnation.
        incarnation: Incarnation,
    },
    /// A number is above [`MAX_COUNTER`](crate::config::MAX_COUNTER).
    OutOfRange,
    /// The entries are not those that the message announces: other in number, not consecutive, or of terms that
    /// decrease or are above the message's.
    Entries,
    /// What is said of a snapshot makes no sense: more rows than it has, or a configuration that is not its own.
    Rows,
    /// Entries without payloads for a member that keeps them, or with payloads for a witness.
    Witness,
    /// Two members lead one term. The sender, this node or the leader that it follows has forgotten a vote.
    SecondLeader {
        /// The term that both lead.
        term: Term,
    },
    /// The entry would replace one that is committed, or that the same leader sent before. One of the two logs has
    /// lost entries that it had reported as durable.
    Contradiction {
        /// The index of the entry.
        index: Index,
    },
    /// The sender says that its log equals this leader's up to an index that this leader has not reached.
    BeyondLog {
        /// The index.
        matched: Index,
    },
}

impl Rejected {
    /// Whether the message shows that a member, perhaps this node, has forgotten what it had promised: worth a loud
    /// report. The others are mistakes of configuration or of the sender's codec: worth closing the connection.
    #[must_use]
    pub const fn is_broken_promise(&self) -> bool {
        matches!(self, Self::SecondLeader { .. } | Self::Contradiction { .. } | Self::BeyondLog { .. })
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotForMe { to } => write!(f, "the message is for node {to}"),
            Self::NotAPeer { from } => write!(f, "node {from} is no peer of this node"),
            Self::OtherIncarnation { from, incarnation } => {
                write!(f, "node {from} has incarnation {incarnation}, which the configuration does not hold")
            }
            Self::OutOfRange => write!(f, "a number of the message is out of range"),
            Self::Entries => write!(f, "the entries are not those that the append announces"),
            Self::Rows => write!(f, "what is said of a snapshot makes no sense"),
            Self::Witness => write!(f, "a witness is told terms, and everybody else gets entries"),
            Self::SecondLeader { term } => write!(f, "a second leader of term {term}"),
            Self::Contradiction { index } => write!(f, "entry {index} contradicts one that cannot change any more"),
            Self::BeyondLog { matched } => write!(f, "the peer claims entry {matched}, which its leader does not have"),
        }
    }
}

impl core::error::Error for Rejected {}

/// Why an entry cannot be proposed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProposeError {
    /// This node does not lead. Propose it to the leader.
    NotLeader {
        /// This node's term.
        term: Term,
        /// The leader of that term, if it is known.
        leader: Option<NodeId>,
    },
    /// This leader hands over: propose it to its successor in a moment, or here again if that does not take over.
    HandingOver {
        /// The successor.
        to: NodeId,
    },
}

impl fmt::Display for ProposeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLeader { term, leader: Some(leader) } => write!(f, "node {leader} leads term {term}"),
            Self::NotLeader { term, leader: None } => write!(f, "no leader of term {term} is known"),
            Self::HandingOver { to } => write!(f, "this leader hands over to node {to}"),
        }
    }
}

impl core::error::Error for ProposeError {}

/// Why nothing can be read here that is sure not to be stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// This node does not lead. Ask the leader.
    NotLeader {
        /// This node's term.
        term: Term,
        /// The leader of that term, if it is known.
        leader: Option<NodeId>,
    },
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let &Self::NotLeader { term, leader } = self;
        ProposeError::NotLeader { term, leader }.fmt(f)
    }
}

impl core::error::Error for ReadError {}

/// Why leadership cannot be handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferError {
    /// This node does not lead.
    NotLeader {
        /// This node's term.
        term: Term,
        /// The leader of that term, if it is known.
        leader: Option<NodeId>,
    },
    /// The one that is to take over is no other member.
    NotAPeer {
        /// Who it was to be.
        node: NodeId,
    },
    /// The one that is to take over is a learner or the witness.
    CannotLead {
        /// Who it was to be.
        node: NodeId,
    },
    /// The one that is to take over is suspect: it cannot be elected without the votes of all.
    Suspect {
        /// Who it was to be.
        node: NodeId,
    },
    /// No other member was heard lately.
    NobodyHeard,
}

impl fmt::Display for TransferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NotLeader { term, leader } => ProposeError::NotLeader { term, leader }.fmt(f),
            Self::NotAPeer { node } => write!(f, "node {node} is no peer of this node"),
            Self::CannotLead { node } => write!(f, "node {node} is no voter that keeps the log"),
            Self::Suspect { node } => write!(f, "node {node} is suspect, and not cleared yet"),
            Self::NobodyHeard => write!(f, "no other member was heard lately"),
        }
    }
}

impl core::error::Error for TransferError {}

/// Why a member cannot start from what was found on its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreError {
    /// The first configuration holds another incarnation of this node: the directory was wiped or copied.
    OtherIncarnation,
    /// The last entry has a term above the hard state's, or an index and no term: what was reported as written
    /// together is no longer there together.
    HardStateLost,
    /// State was applied that the log does not reach: the log has lost its tail.
    LogTailLost,
    /// The log begins after the state that was applied: entries between them are lost.
    LogHeadLost,
    /// A number is above [`MAX_COUNTER`](crate::config::MAX_COUNTER).
    OutOfRange,
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OtherIncarnation => "the configuration holds another incarnation of this node",
            Self::HardStateLost => "the log's last entry is of a later term than the hard state",
            Self::LogTailLost => "the applied state is ahead of the log: the log has lost its tail",
            Self::LogHeadLost => "the log begins after the applied state: entries between them are lost",
            Self::OutOfRange => "a number of the hard state or log is out of range",
        })
    }
}

impl core::error::Error for RestoreError {}
