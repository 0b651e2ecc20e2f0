//! What a node tells of itself.

use super::Engine;
use crate::node::event::ConnId;
use eventstream_core::config::MAX_LISTED_COUNTERS;
use eventstream_core::id::{Index, NodeId};
use eventstream_core::raft::Role;
use eventstream_core::wire::{
    Control, Counter, Counters, CountersRequest, List, MemberStatus, NamedCount, NodeRole, NodeStatus, Status,
};

impl Engine {
    /// Answers a request for the status.
    pub(super) fn tell_status(&mut self, conn: ConnId) {
        let identity = self.identity.clone();
        let (now, me) = (self.now, identity.node);
        let members: Vec<MemberStatus<'_>> = identity
            .members
            .iter()
            .map(|member| {
                let peer = self.peers.iter().find(|peer| peer.member.id == member.id);
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
        let (term, leader) = self.leader;
        let raft = self.replica.raft();
        let node = NodeStatus {
            node: me,
            incarnation: identity.incarnation,
            role: self.role(),
            term,
            leader,
            last: raft.last().index,
            durable: raft.durable(),
            commit: raft.commit(),
            applied: self.applied(),
            log_time: self.replica.applied_log_time(),
            clocks_agree: self.replica.clocks_agree(now),
            state_hash: self.replica.state_hash(),
            topics: self.replica.topics().len() as u32,
            producers: self.replica.producers().len() as u32,
            events: self.replica.events(),
            uptime_us: now.saturating_since(self.started).as_micros(),
            version: env!("CARGO_PKG_VERSION"),
        };
        self.clients.say(conn, &Control::Status(Status { node, members: List::of(&members) }));
    }

    /// Answers a request for the counters.
    pub(super) fn tell_counters(&mut self, conn: ConnId, CountersRequest { request, first }: CountersRequest) {
        let named = |&counter: &Counter| NamedCount { name: counter.name(), count: self.counters.count(counter) };
        let listed = Counter::ALL.iter().skip(first as usize).take(MAX_LISTED_COUNTERS);
        let listed: Vec<NamedCount<'_>> = listed.map(named).collect();
        let count = Counter::ALL.len() as u32;
        self.clients.say(conn, &Control::Counters(Counters { request, count, counters: List::of(&listed) }));
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
            _ if raft.is_suspect() => NodeRole::Suspect,
            Role::Leader => NodeRole::Leader,
            Role::Candidate | Role::PreCandidate => NodeRole::Candidate,
            Role::Follower => NodeRole::Follower,
        }
    }
}
