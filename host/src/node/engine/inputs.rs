//! What comes in, in bounded portions.

use super::{CLIENT_PATIENCE, Engine, WALL_CLOCK_EVERY};
use crate::node::NodeError;
use crate::node::event::{Event, Role};
use crate::node::peers::Loss;
use crate::node::reader::{Piece, Purpose};
use crate::storage::Report;
use eventstream_core::time::Instant;

/// Events taken from each ring in one step.
const EVENTS_AT_ONCE: usize = 256;

impl Engine {
    /// What storage has to say.
    pub(super) fn take_reports(&mut self) -> Result<(), NodeError> {
        let visible = self.journal.visible();
        while let Some(report) = self.journal.poll() {
            match report {
                Report::Persisted(token) => self.replica.handle_persisted(self.now, token),
                // Why is known when the thread is joined.
                Report::Failed => return Err(NodeError::Panicked),
                Report::Stopped => self.stop.storage_has_stopped(),
            }
        }
        if self.journal.visible() > visible {
            self.subscriptions.indexed();
        }
        Ok(())
    }

    /// What the reader has read.
    pub(super) fn take_pieces(&mut self) -> Result<(), NodeError> {
        while let Some(piece) = self.reader.poll() {
            match piece {
                Piece::Entries { purpose: Purpose::Replay, first, frames } if frames.is_empty() => {
                    return Err(NodeError::WrongEntry(first));
                }
                Piece::Entries { purpose: Purpose::Replay, first, frames } => self.replay.fetched(first, frames),
                Piece::Entries { purpose, frames, .. } => {
                    let job = self.peers.fetched(purpose, &frames, &self.tail, self.pools.shortage());
                    self.read_for_peer(job);
                }
                Piece::Feed { ticket, found } => self.feed_from_disk(ticket, found),
                Piece::Failed(error) => return Err(NodeError::Read(error)),
            }
        }
        Ok(())
    }

    /// What the sockets of other nodes bring.
    pub(super) fn take_peer_events(&mut self) -> Result<(), NodeError> {
        for _ in 0..EVENTS_AT_ONCE {
            let Some(event) = self.from_peers.pop() else { break };
            self.take_peer_event(event);
        }
        self.from_peers.made_room();
        if self.from_peers.is_over() { Err(NodeError::Panicked) } else { Ok(()) }
    }

    /// What the sockets of clients bring.
    pub(super) fn take_client_events(&mut self) -> Result<(), NodeError> {
        for _ in 0..EVENTS_AT_ONCE {
            let Some(event) = self.from_clients.pop() else { break };
            self.take_client_event(event);
        }
        self.from_clients.made_room();
        if self.from_clients.is_over() { Err(NodeError::Panicked) } else { Ok(()) }
    }

    fn take_client_event(&mut self, event: Event) {
        match event {
            Event::Opened { conn, .. } => {
                self.clients.open(conn);
                self.welcome_client(conn);
            }
            Event::Frame { conn, header, runs, bytes } => self.take_request(conn, &header, runs, bytes),
            Event::Sent { conn, bytes } => {
                self.clients.sent(conn, bytes);
                self.resume_feeds(conn);
            }
            Event::Lost { conn } => self.clients.lost(conn),
            Event::Closed { conn } => {
                for id in self.clients.close(conn) {
                    self.subscriptions.remove(id);
                }
            }
            Event::Reset { .. } => {}
        }
    }

    fn take_peer_event(&mut self, event: Event) {
        match event {
            Event::Opened { conn, role: Role::Link(node) } => {
                self.peers.link_opened(node, conn);
                self.replica.handle_connected(self.now, node);
            }
            Event::Opened { conn, role: Role::Inbound(node) } => {
                if self.peers.inbound_opened(node, conn) {
                    self.replica.handle_reset(self.now, node);
                }
                self.welcome_peer(conn);
            }
            Event::Opened { role: Role::Client, .. } => {}
            Event::Frame { conn, header, bytes, .. } => self.take_peer_frame(conn, &header, bytes),
            Event::Sent { conn, bytes } => {
                let job = self.peers.sent(conn, bytes, &self.tail, self.pools.shortage());
                self.read_for_peer(job);
            }
            Event::Lost { .. } => {}
            Event::Closed { conn } => {
                let loss = self.peers.closed(conn);
                self.take_loss(loss);
            }
            Event::Reset { peer } => {
                if self.peers.gone(peer) {
                    self.replica.handle_reset(self.now, peer);
                }
            }
        }
    }

    /// A connection with another node is closed.
    pub(super) fn take_loss(&mut self, loss: Option<Loss>) {
        match loss {
            Some(Loss::Link(node)) => self.replica.handle_disconnected(self.now, node),
            Some(Loss::Process(node)) => self.replica.handle_reset(self.now, node),
            None => {}
        }
    }

    /// What is due by now.
    pub(super) fn take_due(&mut self) {
        if self.replica.next_deadline() <= self.now {
            self.replica.handle_timeout(self.now);
        }
        if self.next_wall_clock <= self.now {
            self.next_wall_clock = self.now + WALL_CLOCK_EVERY;
            self.replica.set_wall_clock(self.now, self.clock.wall().0);
            self.waiting.tell(self.now, self.replica.raft(), &self.peers);
        }
        self.expire_requests();
        self.checkpoint_if_due();
    }

    /// When something is due next; nothing is once all that is left is to write.
    pub(super) fn next_deadline(&self) -> Instant {
        if self.stop.is_closing() {
            return Instant::FAR_FUTURE;
        }
        let patience = self.acks.oldest().map_or(Instant::FAR_FUTURE, |since| since + CLIENT_PATIENCE);
        [
            self.replica.next_deadline(),
            self.intake.next_deadline(!self.is_blocked()),
            patience,
            self.checkpoints.next(),
            self.next_wall_clock,
            self.stop.next_deadline(),
        ]
        .into_iter()
        .min()
        .unwrap_or(Instant::FAR_FUTURE)
    }

    /// Whether sockets bring something that would be taken.
    fn has_event(&self) -> bool {
        !self.is_blocked() && !self.from_clients.is_empty()
            || !self.is_blocked_by_sockets() && !self.from_peers.is_empty()
    }

    /// Whether something waits to be taken. Once all that is left is to write, nothing is taken from sockets.
    pub(super) fn has_input(&self) -> bool {
        let has_event = || !self.stop.is_closing() && self.has_event();
        self.journal.has_report() || self.reader.has_piece() || self.stop.is_new() || has_event()
    }
}
