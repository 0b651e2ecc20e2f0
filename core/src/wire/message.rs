//! The control messages, one struct each. Fields stand in the order of the wire.
//!
//! Enum variants are append-only. No index, term, offset, sequence or time is above
//! [`MAX_COUNTER`](crate::config::MAX_COUNTER).

use super::list::List;
use crate::id::{ClusterId, Epoch, Incarnation, Index, NodeId, Offset, ProducerId, Sequence, Term, TopicId};
use crate::receipt::{Durability, RunReceipt};
use core::fmt;
use serde::{Deserialize, Serialize};

/// The first message on a connection, from the side that has opened it. Nothing else is sent before the answer, which
/// is [`Welcome`] or [`Refused`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The lowest version of the format that the sender speaks.
    pub version_min: u8,
    /// The highest.
    pub version_max: u8,
    /// The cluster that is meant; a client that does not know it yet leaves it out and learns it from the answer.
    pub cluster: Option<ClusterId>,
    /// What the connection is for.
    pub role: Role,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Publishing, subscribing, asking.
    Client,
    /// Raft messages from this member to the one that it connects to. The cluster id is not left out.
    Peer {
        /// The member that connects.
        node: NodeId,
        /// Its incarnation.
        incarnation: Incarnation,
    },
    /// As [`Client`](Self::Client), of one that has shown no certificate. Only over TLS.
    TokenClient {
        /// What it shows instead.
        token: Token,
    },
}

/// A secret of the clients of a cluster. `Debug` does not show it.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(pub [u8; 32]);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// The connection is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Welcome<'a> {
    /// The version that both sides speak from now on.
    pub version: u8,
    /// The cluster.
    pub cluster: ClusterId,
    /// The node that answers.
    pub node: NodeId,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// The latest term that it knows of.
    pub term: Term,
    /// Who leads that term, if it knows.
    pub leader: Option<NodeId>,
    /// Bytes of batch frames that a client may have sent and not have an answer for.
    pub max_inflight: u32,
    /// The members of the cluster: at most 8.
    pub members: List<'a, Member<'a>>,
}

/// A member of the cluster, and where it listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member<'a> {
    /// Its number.
    pub node: NodeId,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// Where it listens for clients and peers, `host:port`: 1 to 255 bytes.
    pub address: &'a str,
}

/// Something was refused. The connection stays open unless the reason says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused<'a> {
    /// What was refused.
    pub about: About,
    /// Why, for programs.
    pub reason: Refusal,
    /// Why, for people: at most 255 bytes, may be empty.
    pub detail: &'a str,
}

/// What a [`Refused`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum About {
    /// The connection as a whole: it is closed.
    Connection,
    /// A batch, by the client's own number of it.
    Batch(u64),
    /// A request, by its number.
    Request(u64),
    /// A subscription, by its number.
    Subscription(u32),
}

/// Why something was refused before it could be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Refusal {
    /// No version in common.
    Version {
        /// The lowest that the node speaks.
        min: u8,
        /// The highest.
        max: u8,
    },
    /// Another cluster than the one that is meant.
    WrongCluster,
    /// The configuration holds no such member under this incarnation.
    UnknownMember,
    /// The first message was no hello, or none came in time.
    HelloExpected,
    /// A message that is not for this side, or not now.
    Unexpected,
    /// A frame, batch or message broke the format's rules.
    Malformed,
    /// Only the leader takes this.
    NotLeader {
        /// The latest term that the node knows of.
        term: Term,
        /// Who leads it, if it knows.
        leader: Option<NodeId>,
    },
    /// More is under way than the node holds. Send again, a little later.
    Busy,
    /// The node holds as many connections as it may.
    TooManyConnections,
    /// The connection holds as many subscriptions as it may.
    TooManySubscriptions,
    /// No majority has answered in time. Events may have been accepted, or be yet: sending them again under the same
    /// sequences is safe.
    OutcomeUnknown,
    /// The node is being stopped.
    Stopping,
    /// The cluster remembers as many producers as it may.
    ProducerTableFull,
    /// Less than a tenth of the leader's disk is free. What was acknowledged can be read; send again when there is room.
    DiskLow,
    /// Neither a certificate nor a token shows that the other side is who it says it is.
    Unauthenticated,
    /// The node speaks TLS only. This answer alone is not.
    TlsRequired,
    /// The node is a witness, which keeps no events. Ask another node.
    Witness,
}

impl Refusal {
    /// Whether the same thing may be accepted if it is asked again, unchanged: later, or of another node.
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        match self {
            Self::NotLeader { .. }
            | Self::Busy
            | Self::TooManyConnections
            | Self::OutcomeUnknown
            | Self::Stopping
            | Self::ProducerTableFull
            | Self::DiskLow
            | Self::Witness => true,
            Self::Version { .. }
            | Self::WrongCluster
            | Self::UnknownMember
            | Self::HelloExpected
            | Self::Unexpected
            | Self::Malformed
            | Self::TooManySubscriptions
            | Self::Unauthenticated
            | Self::TlsRequired => false,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version { min, max } => write!(f, "the node speaks versions {min} to {max} of the format"),
            Self::WrongCluster => f.write_str("the node belongs to another cluster"),
            Self::UnknownMember => f.write_str("not a member of the cluster under this incarnation"),
            Self::HelloExpected => f.write_str("a connection opens with a hello"),
            Self::Unexpected => f.write_str("a message that is not expected here"),
            Self::Malformed => f.write_str("the format's rules were broken"),
            Self::NotLeader { leader: Some(node), term } => write!(f, "node {node} leads term {term}"),
            Self::NotLeader { leader: None, term } => write!(f, "no leader is known in term {term}"),
            Self::Busy => f.write_str("the node is busy"),
            Self::TooManyConnections => f.write_str("too many connections"),
            Self::TooManySubscriptions => f.write_str("too many subscriptions"),
            Self::OutcomeUnknown => f.write_str("no majority has answered in time: the outcome is unknown"),
            Self::Stopping => f.write_str("the node is being stopped"),
            Self::ProducerTableFull => f.write_str("the cluster remembers as many producers as it may"),
            Self::DiskLow => f.write_str("the leader's disk is nearly full"),
            Self::Unauthenticated => f.write_str("no certificate or token of this cluster shows who is connecting"),
            Self::TlsRequired => f.write_str("the node speaks TLS only"),
            Self::Witness => f.write_str("the node is a witness, which keeps no events: ask another node"),
        }
    }
}

/// A producer asks the leader for an epoch of its own, before it numbers events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenProducer {
    /// The client's number of this request.
    pub request: u64,
    /// The producer.
    pub producer: ProducerId,
}

/// The answer: lives before this epoch are fenced, the numbering goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerOpened {
    /// The request that is answered.
    pub request: u64,
    /// The producer.
    pub producer: ProducerId,
    /// Its epoch from now on.
    pub epoch: Epoch,
    /// The sequence after the highest that was accepted from it; 0 if none was.
    pub next_sequence: Sequence,
}

/// What became of a client's batch, once its entry is applied.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Receipt<'a> {
    /// The client's own number of the batch.
    pub batch: u64,
    /// The entry that holds it, alone or together with others.
    pub index: Index,
    /// The term of that entry.
    pub term: Term,
    /// What the accepted events and the duplicates have reached.
    pub durability: Durability,
    /// One receipt for each run of the batch, in order.
    pub runs: List<'a, RunReceipt>,
}

/// Who leads now. Sent to every client whenever the node learns of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderChanged {
    /// The term.
    pub term: Term,
    /// Its leader, if there is one that the node knows of.
    pub leader: Option<NodeId>,
}

/// Asks for the events of a topic, from any node. A topic that does not exist yet is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscribe<'a> {
    /// The client's number of this subscription.
    pub subscription: u32,
    /// The topic, 1 to 127 bytes.
    pub topic: &'a str,
    /// Where to begin.
    pub from: StartAt,
}

/// Where a subscription begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum StartAt {
    /// At the oldest event that the node holds.
    Beginning,
    /// After the newest event that the node has applied.
    Latest,
    /// At this offset.
    Offset(Offset),
}

/// Announces the batch frame that follows on this connection, with nothing in between. It is an entry of the log, or
/// the runs of one entry that belong to the topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// For which subscription it is.
    pub subscription: u32,
    /// The offset of the first delivered event; the others follow it densely.
    pub first_offset: Offset,
    /// Which events of the frame are delivered: bit `i` for the `i`-th. The others were duplicates, were refused, or lie
    /// before the start of the subscription.
    pub mask: u64,
    /// The entry.
    pub index: Index,
}

/// There will be no more deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriptionEnd {
    /// The subscription.
    pub subscription: u32,
    /// Why.
    pub reason: EndReason,
}

/// Why a subscription has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EndReason {
    /// The client has asked for it.
    Unsubscribed,
    /// The node is being stopped: go on at another.
    Stopping,
    /// The offset to begin at is no longer held.
    BeforeHorizon {
        /// The first offset that is.
        first: Offset,
    },
    /// The offset to begin at lies beyond the end of the topic as this node knows it.
    AfterEnd {
        /// The next offset of the topic.
        next: Offset,
    },
    /// The node could not read its own log: go on at another.
    ReadFailed,
}

/// Ends a subscription; [`SubscriptionEnd`] answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unsubscribe {
    /// The subscription.
    pub subscription: u32,
}

/// Everything that the node had applied when the subscription began has been delivered. Sent once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaughtUp {
    /// The subscription.
    pub subscription: u32,
    /// The offset that is delivered next.
    pub next_offset: Offset,
}

/// Asks for a [`Pong`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {
    /// Repeated in the answer.
    pub number: u64,
}

/// The answer to a [`Ping`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {
    /// The ping's number.
    pub number: u64,
}

/// Asks for a [`Status`](super::Status).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusRequest;

/// Asks about a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicRequest<'a> {
    /// The client's number of this request.
    pub request: u64,
    /// The topic, 1 to 127 bytes.
    pub topic: &'a str,
}

/// The answer to a [`TopicRequest`], as the node has applied it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    /// The request that is answered.
    pub request: u64,
    /// The offset after the last event; `None` if there is no such topic.
    pub next_offset: Option<Offset>,
}

/// Asks which topics there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicListRequest {
    /// The client's number of this request.
    pub request: u64,
    /// The first topic that is wanted: topics are numbered from 0 in the order in which the log first accepted an event of
    /// them, on all nodes alike.
    pub first: TopicId,
}

/// The answer to a [`TopicListRequest`], as the node has applied it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TopicList<'a> {
    /// The request that is answered.
    pub request: u64,
    /// How many topics there are in all.
    pub count: u32,
    /// The topics from the first that was wanted on, at most 29; to be asked for the rest.
    pub topics: List<'a, ListedTopic<'a>>,
}

/// A topic of a [`TopicList`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedTopic<'a> {
    /// Its name, 1 to 127 bytes.
    pub name: &'a str,
    /// The offset after its last event.
    pub next_offset: Offset,
}

/// Asks what a node has refused since its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountersRequest {
    /// The client's number of this request.
    pub request: u64,
    /// The first counter that is wanted: a node lists them in an order that does not change while it runs.
    pub first: u32,
}

/// The answer to a [`CountersRequest`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Counters<'a> {
    /// The request that is answered.
    pub request: u64,
    /// How many counters there are in all.
    pub count: u32,
    /// The counters from the first that was wanted on, at most 64; to be asked for the rest.
    pub counters: List<'a, NamedCount<'a>>,
}

/// A counter of [`Counters`]. Under which names a node of this version counts what, is told by
/// [`Counter`](super::Counter).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedCount<'a> {
    /// Its name: 1 to 48 of `a` to `z`, `0` to `9` and `_`.
    pub name: &'a str,
    /// How often that happened since the node was started.
    pub count: u64,
}
