//! What the machine wants done, and what must be durable before.

use super::error::RestoreError;
use super::message::{LogPosition, Message};
use super::reading::ReadTicket;
use super::snapshot::Snapshot;
use crate::config::{MAX_COUNTER, MAX_SNAPSHOT_ROWS};
use crate::id::{Index, NodeId, Term};
use serde::{Deserialize, Serialize};

/// Names one write. Tokens grow; reporting one reports all before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// What a member must not forget besides its log (Raft paper, figure 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HardState {
    /// The latest term that the member has seen.
    pub term: Term,
    /// Whom it voted for in that term.
    pub vote: Option<NodeId>,
    /// Whether it may have forgotten a term, a vote or entries that it had promised: see [`Restored::suspect`].
    pub suspect: bool,
}

/// One atomic write. The parts take effect in this order: hard state, snapshot, truncation, append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Persist {
    /// To be given to `handle_persisted` when the write, and every one before it, is on stable storage.
    pub token: Token,
    /// The hard state, where it changed.
    pub hard_state: Option<HardState>,
    /// The log is to begin after this entry, and to hold nothing yet; the rows that were installed are to be the checkpoint,
    /// in the place of all that it has. See [`Output::InstallSnapshot`]. On a witness: the configuration that came with
    /// [`Body::SnapshotTerms`](super::Body::SnapshotTerms), if one did, is to be kept with it.
    pub install: Option<LogPosition>,
    /// Entries at and after this index are to be removed, where some are.
    pub truncate_from: Option<Index>,
    /// Entries to be written, where some are: first and last index, both included. The host holds their frames.
    pub append: Option<(Index, Index)>,
}

/// What the machine wants done. Outputs are to be acted on in the order in which they are polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Write this, then call `handle_persisted`. May be acted on at once; writes are not to be reordered.
    Persist(Persist),
    /// Send this to `Message::to`. **All that it depends on is durable already**: it may leave at once. For a
    /// [`Body::Append`](super::Body::Append) the host attaches the frames `prev.index + 1 ..= prev.index + count`; they
    /// need not be durable on this node. With a [`Body::SnapshotRows`](super::Body::SnapshotRows) go the rows
    /// `first .. first + count` of [`LogView::snapshot`]. With what announces a configuration to a witness goes
    /// [that](super::Membership::as_of), made for the message: the log may not hold its entry any more.
    /// It may be lost or repeated.
    Send(Message),
    /// The entries up to this index are committed: durable on a majority. Apply them in order. The write that holds them
    /// was polled before, but need not be durable on this node yet.
    Commit(Index),
    /// This node has begun to lead, and has appended an entry here to say so. Make its frame, of kind *empty*; the
    /// [`Persist`] that covers it comes after this.
    AppendEmpty(LogPosition),
    /// This leader has appended the [configuration](super::Raft::configuration) that is in force now. Make its frame, of kind
    /// *configuration*; the [`Persist`] that covers it comes after this.
    AppendConfiguration(LogPosition),
    /// All rows of the snapshot as of this entry are there: put them into the applied state, then call
    /// [`handle_installed`](super::Raft::handle_installed), before anything else. They are written by the
    /// [`Persist`] after that. If they turn out to be damaged, this node has to stop: its disk is as it was.
    InstallSnapshot(LogPosition),
    /// Reads up to and with this ticket are not stale once the entries up to this index are applied. Needs no durability.
    ReadIndex {
        /// The last of the reads, as [`read_index`](super::Raft::read_index) gave it.
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

/// The part of the log that is on stable storage, read-only: the machine keeps what is newer itself.
///
/// A store may forget the log's oldest entries, if a checkpoint of the applied state that covers them is on stable storage.
/// While a peer is sent one ([`Flow::Snapshot`](super::Flow::Snapshot)), it should keep that checkpoint and what follows it:
/// else the transfer begins again, and may never end.
pub trait LogView {
    /// The entry before the first that the log still holds: its horizon lies behind it. The default of a log that holds all.
    fn base(&self) -> LogPosition {
        LogPosition::default()
    }

    /// A checkpoint on stable storage that can be sent, the same one while it is being sent. One that ends before
    /// [`base`](Self::base) helps nobody.
    fn snapshot(&self) -> Option<Snapshot> {
        None
    }

    /// Rows of it in one message, 1 to [`MAX_SNAPSHOT_ROWS`].
    fn rows_at_once(&self) -> u16 {
        MAX_SNAPSHOT_ROWS as u16
    }

    /// The term of the entry at `index`, if the log still holds it. Asked only of entries after [`base`](Self::base) that are
    /// durable and not about to be removed, and rarely: the machine remembers the newest
    /// [`MAX_TERM_RUNS`](crate::config::MAX_TERM_RUNS) changes of term.
    fn term(&self, index: Index) -> Option<Term>;
}

/// What a member found on its disk when it started. The default is a disk on which nothing was ever written, as far as it
/// can tell: that of a first start, which is suspect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The hard state last written; the default if none ever was.
    pub hard_state: HardState,
    /// The entry before the first that the log still holds. What it was is part of the applied state.
    pub base: LogPosition,
    /// The last entry of the log; `base` if it holds none.
    pub last: LogPosition,
    /// The last entry that was applied to the restored state; it was committed.
    pub applied: LogPosition,
    /// The last thing written before was damaged, and was dropped: an ordinary power cut, or the loss of what was
    /// promised. Or nothing was written before: a first start, or a disk that was wiped. Has to be found again by every
    /// start until a [`Persist`] with [`HardState::suspect`] was reported.
    pub suspect: bool,
}

impl Default for Restored {
    fn default() -> Self {
        Self {
            hard_state: HardState::default(),
            base: LogPosition::default(),
            last: LogPosition::default(),
            applied: LogPosition::default(),
            suspect: true,
        }
    }
}

impl Restored {
    /// Whether the parts go together.
    pub(super) fn check(&self) -> Result<(), RestoreError> {
        let Self { hard_state, base, last, applied, .. } = *self;
        if hard_state.term.0.max(last.index.0) > MAX_COUNTER {
            return Err(RestoreError::OutOfRange);
        }
        if last.term > hard_state.term || (last.index == Index::ZERO) != (last.term == Term::ZERO) {
            return Err(RestoreError::HardStateLost);
        }
        if base.index > applied.index {
            return Err(RestoreError::LogHeadLost);
        }
        let differs = |at: LogPosition| at.index == base.index && at.term != base.term;
        if base.term > applied.term || differs(applied) || differs(last) {
            return Err(RestoreError::LogHeadLost);
        }
        let same = applied.index == last.index;
        if applied.index > last.index || applied.term > last.term || same && applied.term != last.term {
            return Err(RestoreError::LogTailLost);
        }
        Ok(())
    }
}
