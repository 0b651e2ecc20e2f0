//! What a replica wants done.

use crate::id::{Index, LogTime, NodeId, Term};
use crate::raft::{LogPosition, Message, Persist, ReadTicket};

/// What the replica wants done. Outputs are to be acted on in the order in which they are polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// This node leads, and its term begins with an empty entry: make its frame (kind
    /// [`Empty`](crate::wire::Kind::Empty), no payload, stamped so) and keep it with the frames of the log. Comes before
    /// every `Persist` and `Send` that covers the entry. Needs no durability.
    AppendEmpty(Stamp),
    /// This leader has begun a change of members: make the frame of the
    /// [configuration](crate::raft::Raft::configuration) that is in force now (kind
    /// [`Configuration`](crate::wire::Kind::Configuration), its payload
    /// [encoded](crate::raft::Configuration::encode), stamped so), and keep it as with
    /// [`AppendEmpty`](Self::AppendEmpty).
    AppendConfiguration(Stamp),
    /// Write this atomically, then call [`Replica::handle_persisted`](super::Replica::handle_persisted). May be acted on
    /// at once; writes are not to be reordered.
    Persist(Persist),
    /// Send this to `Message::to`. **All that it depends on is durable already**: it may leave at once. After a
    /// [`Body::Append`](crate::raft::Body::Append) come the frames of the entries
    /// `prev.index + 1 ..= prev.index + count`, which need not be durable on this node; after a
    /// [`Body::SnapshotRows`](crate::raft::Body::SnapshotRows) the rows `first .. first + count` of the checkpoint that
    /// [`LogView::snapshot`](crate::raft::LogView::snapshot) has told. It may be lost or repeated.
    Send(Message),
    /// These entries are durable on a majority: give each of them, in order, to
    /// [`Replica::apply`](super::Replica::apply). They need not be durable on this node, and nothing but apply has to
    /// wait for them: other outputs may be acted on in between.
    Apply {
        /// The first of them: the one after those of the last such output, or after a snapshot. What was given out before a
        /// snapshot and not applied is part of that.
        first: Index,
        /// The last of them.
        last: Index,
    },
    /// All rows of the snapshot as of this entry have come: give them to
    /// [`Replica::install_snapshot`](super::Replica::install_snapshot), before anything else is done. They are written by
    /// the `Persist` after that, in the place of the checkpoint's.
    InstallSnapshot(LogPosition),
    /// Reads up to and with this ticket are not stale once the entries up to this index are applied: see
    /// [`Replica::read_index`](super::Replica::read_index).
    ReadIndex {
        /// The last of the reads.
        ticket: ReadTicket,
        /// What has to be applied before they are answered.
        index: Index,
    },
    /// The node's view of who leads has changed. Needs no durability.
    Leader {
        /// The term it is about.
        term: Term,
        /// Who leads it, if that is known.
        leader: Option<NodeId>,
    },
}

/// What a leader writes into the header of an entry: see [`wire::stamp`](crate::wire::stamp).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Its index and term.
    pub position: LogPosition,
    /// Its log time.
    pub log_time: LogTime,
}
