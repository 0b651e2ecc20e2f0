//! What other nodes say.

use super::Engine;
use crate::node::event::ConnId;
use crate::node::legal::payload;
use crate::node::memory::OwnFrame;
use crate::node::peers::{Append, Misstep};
use eventstream_core::raft::{Configuration, Taken};
use eventstream_core::replica::Command;
use eventstream_core::wire::{Control, Header, Kind};

impl Engine {
    /// A frame on a connection that another node has dialled. One that is out of step costs the connection.
    pub(super) fn take_peer_frame(&mut self, conn: ConnId, header: &Header, bytes: OwnFrame) {
        let me = self.identity.node;
        let Some(peer) = self.peers.heard(conn, self.now) else { return };
        let taken = match header.kind {
            Kind::Peer => match Control::decode(header.kind, payload(&bytes)) {
                Ok(Control::Peer(message)) => peer.take_message(message, me),
                _ => Err(Misstep::OutOfStep),
            },
            Kind::Configuration => match Configuration::decode(payload(&bytes)) {
                Ok(configuration) => peer.take_entry(header, bytes.freeze(), Some(configuration)),
                Err(_) => Err(Misstep::OutOfStep),
            },
            Kind::Command if Command::decode(payload(&bytes)).is_err() => Err(Misstep::OutOfStep),
            _ => peer.take_entry(header, bytes.freeze(), None),
        };
        match taken {
            Ok(Some(append)) => self.follow(conn, append),
            Ok(None) => {}
            Err(misstep) => self.part_with_peer(conn, misstep),
        }
    }

    /// A message is whole. One that makes no sense costs the connection.
    fn follow(&mut self, conn: ConnId, append: Append) {
        let Append { message, metas, configurations, frames } = append;
        match self.replica.handle_message(self.now, &message, &metas, &configurations, &self.store) {
            Ok(Taken::Entries { first, last }) => {
                let taken = metas.iter().zip(frames).filter(|(meta, _)| (first..=last).contains(&meta.index));
                taken.for_each(|(meta, frame)| self.tail.push(meta.index, frame));
            }
            Ok(Taken::Nothing | Taken::Rows) => {}
            Err(_) => self.part_with_peer(conn, Misstep::OutOfStep),
        }
        self.act();
    }

    fn part_with_peer(&mut self, conn: ConnId, misstep: Misstep) {
        let loss = self.peers.part_with(conn, misstep);
        self.take_loss(loss);
    }
}
