//! What sockets tell the engine, and what the engine tells sockets.

use super::memory::{OwnFrame, SharedFrame};
use eventstream_core::id::NodeId;
use eventstream_core::wire::Header;

/// A connection, for as long as it lives: a slot that is used again, and which use of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ConnId {
    /// Its place in the tables of sockets and engine.
    pub(crate) slot: u16,
    /// Counts the connections that had this place.
    pub(crate) generation: u32,
}

/// What a connection is for; settled by its handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A client's, accepted.
    Client,
    /// Another node's, accepted: that node speaks, this one listens.
    Inbound(NodeId),
    /// To another node, dialled: this node speaks.
    Link(NodeId),
}

/// From sockets to the engine. Events of one connection keep their order.
#[derive(Debug)]
pub(crate) enum Event {
    /// The handshake was valid. Nothing came of this connection before.
    Opened {
        /// Which connection.
        conn: ConnId,
        /// What it is for.
        role: Role,
    },
    /// A whole frame, checked: header, checksum, and the runs and records of a batch.
    Frame {
        /// Where it came from.
        conn: ConnId,
        /// Its header.
        header: Header,
        /// The runs of a batch; else zero.
        runs: u16,
        /// All of it: header, payload, end marker.
        bytes: OwnFrame,
    },
    /// Everything that was sent to the connection before [`Command::Mark`] has left this process.
    Sent {
        /// Which connection.
        conn: ConnId,
        /// The bytes of which this reports the sending.
        bytes: usize,
    },
    /// The system gave the connection up: for too long the other side took nothing, or was not there.
    Lost {
        /// Which connection.
        conn: ConnId,
    },
    /// The connection is closed. Nothing comes of it after this.
    Closed {
        /// Which connection.
        conn: ConnId,
    },
    /// A link was up, broke, and the immediate redial was refused: nobody listens there any more.
    Reset {
        /// The other node.
        peer: NodeId,
    },
}

/// From the engine to sockets. Without effect on a connection that is closed by now.
#[derive(Debug)]
pub(crate) enum Command {
    /// Send this frame after those sent before.
    Send {
        /// On which connection.
        conn: ConnId,
        /// A whole frame.
        frame: SharedFrame,
    },
    /// Report with [`Event::Sent`] when everything sent before has left.
    Mark {
        /// On which connection.
        conn: ConnId,
        /// To be repeated in the report.
        bytes: usize,
    },
    /// Close the connection when everything sent before has left.
    Close {
        /// Which connection.
        conn: ConnId,
    },
    /// Close the connection at once, and let go of what was to be sent.
    Cut {
        /// Which connection.
        conn: ConnId,
    },
    /// The node is being stopped: accept and dial no more. Other nodes are left at once, so that they look for another
    /// leader while this one closes its store; clients when that is done.
    Leave,
}
