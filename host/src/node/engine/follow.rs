//! What other nodes say.

use super::Engine;
use crate::node::event::ConnId;
use crate::node::memory::OwnFrame;
use crate::node::peers::{Append, Misstep};
use eventstream_core::raft::Taken;
use eventstream_core::wire::Header;

impl Engine {
    /// A frame on a connection that another node has dialled. One that is out of step costs the connection.
    pub(super) fn take_peer_frame(&mut self, conn: ConnId, header: &Header, bytes: OwnFrame) {
        match self.peers.take_frame(conn, self.identity.node, self.now, header, bytes) {
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
