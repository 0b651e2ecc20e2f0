//! What a node tells of itself: in its welcome, and when it is asked.

use super::clients::Clients;
use super::counters::Counters as Counts;
use super::event::ConnId;
use super::memory::CLIENT_INFLIGHT;
use super::peers::Peers;
use super::state::NodeReplica;
use crate::identity::Identity;
use eventstream_core::config::MAX_LISTED_COUNTERS;
use eventstream_core::id::{Index, NodeId, Term};
use eventstream_core::raft::Role;
use eventstream_core::time::Instant;
use eventstream_core::wire::{
    Control, Counter, Counters, CountersRequest, List, Member, MemberStatus, NamedCount, NodeRole, NodeStatus, Refusal,
    Status, VERSION, Welcome,
};

/// A term, and who leads it as far as the node knows.
pub(crate) type Leader = (Term, Option<NodeId>);

/// Makes the answer to a hello, and gives it to `say`.
pub(crate) fn welcome(identity: &Identity, (term, leader): Leader, say: impl FnOnce(&Control<'_>)) {
    let members: Vec<Member<'_>> = identity
        .members
        .iter()
        .map(|member| Member { node: member.id, incarnation: member.incarnation, address: member.address.as_str() })
        .collect();
    say(&Control::Welcome(Welcome {
        version: VERSION,
        cluster: identity.cluster,
        node: identity.node,
        incarnation: identity.incarnation,
        term,
        leader,
        max_inflight: CLIENT_INFLIGHT,
        members: List::of(&members),
    }));
}

/// That this node does not lead, and who does.
pub(crate) fn not_leader(identity: &Identity, (term, leader): Leader) -> Refusal {
    Refusal::NotLeader { term, leader: leader.filter(|&node| node != identity.node) }
}

/// What a status is made of.
#[derive(Clone, Copy)]
pub(crate) struct Condition<'a> {
    pub(crate) identity: &'a Identity,
    pub(crate) replica: &'a NodeReplica,
    pub(crate) peers: &'a Peers,
    pub(crate) leader: Leader,
    pub(crate) now: Instant,
    /// When the node was started.
    pub(crate) started: Instant,
}

impl Condition<'_> {
    /// Makes the answer to a request for the status, and gives it to `say`.
    pub(crate) fn tell(&self, say: impl FnOnce(&Control<'_>)) {
        let Self { identity, replica, peers, leader: (term, leader), now, started } = *self;
        let me = identity.node;
        let members: Vec<MemberStatus<'_>> = identity
            .members
            .iter()
            .map(|member| {
                let peer = peers.iter().find(|peer| peer.member.id == member.id);
                let heard = |at| now.saturating_since(at).as_micros();
                MemberStatus {
                    node: member.id,
                    incarnation: member.incarnation,
                    address: member.address.as_str(),
                    is_connected: peer.is_none_or(|peer| peer.is_connected()),
                    matched: self.matched(member.id),
                    heard_us: if member.id == me { Some(0) } else { peer.and_then(|peer| peer.heard).map(heard) },
                }
            })
            .collect();
        let raft = replica.raft();
        let node = NodeStatus {
            node: me,
            incarnation: identity.incarnation,
            role: self.role(),
            term,
            leader,
            last: raft.last().index,
            durable: raft.durable(),
            commit: raft.commit(),
            applied: replica.applied().index,
            log_time: replica.applied_log_time(),
            clocks_agree: replica.clocks_agree(now),
            state_hash: replica.state_hash(),
            topics: replica.topics().len() as u32,
            producers: replica.producer_count(),
            events: replica.events(),
            uptime_us: now.saturating_since(started).as_micros(),
            version: env!("CARGO_PKG_VERSION"),
        };
        say(&Control::Status(Status { node, members: List::of(&members) }));
    }

    /// Up to where a member's log is known to equal the leader's, on stable storage.
    fn matched(&self, node: NodeId) -> Option<Index> {
        let raft = self.replica.raft();
        match raft.role() {
            Role::Leader if node == self.identity.node => Some(raft.durable()),
            Role::Leader => raft.progress(node).map(|progress| progress.matched),
            Role::Follower | Role::PreCandidate | Role::Candidate => None,
        }
    }

    fn role(&self) -> NodeRole {
        let raft = self.replica.raft();
        match raft.role() {
            _ if self.identity.is_witness() && raft.is_suspect() => NodeRole::SuspectWitness,
            _ if self.identity.is_witness() => NodeRole::Witness,
            _ if raft.is_suspect() => NodeRole::Suspect,
            Role::Leader => NodeRole::Leader,
            Role::Candidate | Role::PreCandidate => NodeRole::Candidate,
            Role::Follower => NodeRole::Follower,
        }
    }
}

/// Answers a request for the counters.
pub(crate) fn tell_counters(clients: &mut Clients, counts: &Counts, conn: ConnId, request: CountersRequest) {
    let CountersRequest { request, first } = request;
    let named = |&counter: &Counter| NamedCount { name: counter.name(), count: counts.count(counter) };
    let listed = Counter::ALL.iter().skip(first as usize).take(MAX_LISTED_COUNTERS);
    let listed: Vec<NamedCount<'_>> = listed.map(named).collect();
    let count = Counter::ALL.len() as u32;
    clients.say(conn, &Control::Counters(Counters { request, count, counters: List::of(&listed) }));
}
