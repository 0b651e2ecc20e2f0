//! What the replica wants done, in its order.

use super::Engine;
use crate::node::reader::Job;
use eventstream_core::id::{NodeId, Term};
use eventstream_core::replica::Output;
use eventstream_core::ring::Full;
use eventstream_core::wire::{Control, LeaderChanged};

impl Engine {
    /// Acts on every output.
    pub(super) fn act(&mut self) {
        let shortage = self.pools.shortage();
        while let Some(output) = self.replica.poll_output(&self.store) {
            match output {
                Output::AppendEmpty(stamp) => self.make_empty(&stamp),
                Output::AppendConfiguration(stamp) => self.make_configuration(&stamp),
                Output::Persist(persist) => self.journal.write(&persist, &self.tail),
                Output::Send(message) => {
                    let job = self.peers.send(&message, &self.tail, shortage);
                    self.read_for_peer(job);
                }
                Output::Apply { last, .. } => self.replay.committed(last),
                Output::InstallSnapshot(last) => unreachable!("no rows are taken: {last:?}"),
                // Nobody asks the engine for reads of what is latest.
                Output::ReadIndex { .. } => {}
                Output::Leader { term, leader } => self.leader_changed(term, leader),
            }
        }
    }

    /// Gives the reader what a peer waits for. If that has too many jobs, what waits is dropped, as if it was lost on
    /// the way.
    pub(super) fn read_for_peer(&mut self, job: Option<Job>) {
        if let Some(job) = job
            && let Err(Full(refused)) = self.reader.push(job)
        {
            self.peers.not_fetched(&refused);
        }
    }

    /// Gives the reader a job; false if it has too many.
    pub(super) fn read(&mut self, job: Job) -> bool {
        self.reader.push(job).is_ok()
    }

    /// Whether something is kept that others have no room for: nothing new is taken from clients then.
    pub(super) fn is_blocked(&self) -> bool {
        self.is_blocked_by_sockets() || self.journal.is_blocked()
    }

    /// Whether something is kept that sockets have no room for: nothing new is taken from other nodes either.
    pub(super) fn is_blocked_by_sockets(&self) -> bool {
        self.clients.outbox.is_blocked() || self.peers.outbox.is_blocked()
    }

    /// Whether something that is kept finds room now. If not, whoever makes room wakes this task.
    pub(super) fn has_room_again(&self) -> bool {
        // Every one of them is asked: asking arms its bell. Storage makes room and reports after it.
        let to_clients = self.clients.outbox.has_room_again();
        let to_peers = self.peers.outbox.has_room_again();
        to_clients || to_peers || self.journal.has_room_again()
    }

    fn leader_changed(&mut self, term: Term, leader: Option<NodeId>) {
        self.leader = (term, leader);
        self.peers.forget_waiting();
        if leader != Some(self.identity.node) {
            self.refuse_everything(self.not_leader());
        }
        let told = Control::LeaderChanged(LeaderChanged { term, leader });
        let connections: Vec<_> = self.clients.connections().collect();
        connections.into_iter().for_each(|conn| {
            self.clients.say(conn, &told);
        });
    }
}
