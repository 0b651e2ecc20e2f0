//! What members say to each other. Entries travel beside an append, not in it: the machine speaks of ranges of
//! indices and the host attaches the frames.

use crate::config::MAX_SENT_RUNS;
use crate::id::{Incarnation, Index, LogTime, NodeId, Term};
use serde::{Deserialize, Serialize};

/// The index and term of an entry. The default stands before the first entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LogPosition {
    /// Where in the log.
    pub index: Index,
    /// The term of the entry there.
    pub term: Term,
}

impl LogPosition {
    /// Whether a log that ends here is at least as up to date as one that ends at `other` (Raft paper, section 5.4.1).
    #[must_use]
    pub fn is_at_least(self, other: Self) -> bool {
        (self.term, self.index) >= (other.term, other.index)
    }
}

/// A message from one member to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who sends it.
    pub from: NodeId,
    /// For whom it is.
    pub to: NodeId,
    /// The sender's incarnation; a receiver refuses one that its configuration does not hold.
    pub incarnation: Incarnation,
    /// The sender's term; for [`Body::PreVote`] the term that the sender would campaign in.
    pub term: Term,
    /// What it says.
    pub body: Body,
}

/// What a [`Message`] says. Variants are append-only: their order is the wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// Would you vote for me? Changes nobody's term (Raft thesis, section 9.6).
    PreVote {
        /// The last entry of the sender's log.
        last: LogPosition,
    },
    /// The answer. If granted, `Message::term` repeats the term asked for; else it is the voter's own.
    PreVoteReply {
        /// Whether the sender of the reply would vote so.
        granted: bool,
    },
    /// Vote for me in `Message::term` (Raft paper, section 5.2).
    Vote {
        /// The last entry of the sender's log.
        last: LogPosition,
        /// The sender campaigns because its leader told it to: leases do not count.
        transfer: bool,
    },
    /// The answer, sent when the vote is on stable storage.
    VoteReply {
        /// Whether the vote was given.
        granted: bool,
        /// The voter's wall clock in microseconds since the Unix epoch; zero if it has none.
        wall_us: u64,
    },
    /// `count` entries follow `prev`; their frames follow this message (Raft paper, section 5.3).
    Append {
        /// The entry before the first one sent.
        prev: LogPosition,
        /// Entries that follow; zero only asks whether `prev` matches.
        count: u16,
        /// The leader's commit index.
        commit: Index,
    },
    /// The follower's log equals the leader's up to `matched`, and is durable so far.
    AppendAccepted {
        /// Up to where both logs agree and the follower's is on stable storage.
        matched: Index,
    },
    /// The follower has no entry that matches `prev`.
    AppendRejected {
        /// The index of the `prev` that was refused.
        rejected: Index,
        /// Where the logs may agree: the follower's last entry at or before `rejected` whose term is at most the
        /// term of the refused `prev`.
        hint: LogPosition,
    },
    /// The leader lives. Never waits for storage.
    Heartbeat {
        /// What is committed, and known to be in the follower's log.
        commit: Index,
        /// Counts the leader's rounds of heartbeats: a reply confirms leadership as of that round.
        round: u64,
    },
    /// The answer to a heartbeat.
    HeartbeatReply {
        /// The round that is answered.
        round: u64,
        /// Up to where the follower's log, durable or not, was compared with the leader's in this term: tells a leader
        /// of appends that were lost. Zero in the answer to a leader of an older term.
        verified: Index,
        /// The follower's wall clock in microseconds since the Unix epoch; zero if it has none.
        wall_us: u64,
    },
    /// Campaign at once: the sender hands leadership over (Raft thesis, section 3.10).
    TimeoutNow,
    /// As [`PreVote`](Self::PreVote), from a suspect member, which can win only with the votes of all.
    SuspectPreVote {
        /// The last entry of the sender's log.
        last: LogPosition,
        /// Names this start of the sender's process; not zero.
        start: u64,
    },
    /// As a [`PreVoteReply`](Self::PreVoteReply) that grants, provided that all voters do: the asker, or the sender of
    /// the reply, is suspect.
    PreVoteIfAll {
        /// As the request said; zero if that was a [`PreVote`](Self::PreVote).
        start: u64,
    },
    /// The vote of a suspect member: as a [`VoteReply`](Self::VoteReply) that grants, provided that all voters do.
    VoteIfAll {
        /// The voter's wall clock in microseconds since the Unix epoch; zero if it has none.
        wall_us: u64,
    },
    /// What a suspect follower says in the place of [`HeartbeatReply`](Self::HeartbeatReply) and
    /// [`AppendAccepted`](Self::AppendAccepted): what it said before its start counts no longer.
    SuspectReply {
        /// Names this start of the sender's process.
        start: u64,
        /// The round of heartbeats that was heard last.
        round: u64,
        /// Up to where the follower's log, durable or not, was compared with the leader's in this term.
        verified: Index,
        /// Up to where both logs agree and the follower's is on stable storage.
        matched: Index,
        /// The follower's wall clock in microseconds since the Unix epoch; zero if it has none.
        wall_us: u64,
    },
    /// The leader knows that nothing depends any more on what the follower may have forgotten.
    Cleared {
        /// Which start of the follower it is about.
        start: u64,
    },
    /// As [`PreVoteIfAll`](Self::PreVoteIfAll), to a member with an empty disk from another that has one.
    PreVoteIfNew {
        /// As the request said.
        start: u64,
        /// Names this start of the sender's process.
        own: u64,
    },
    /// As [`Vote`](Self::Vote), from the first member, if a majority of members with empty disks would vote for it: a receiver
    /// that has one, and has said so, may take itself for new.
    FoundingVote {
        /// The last entry of the sender's log: none.
        last: LogPosition,
        /// Names the start of the receiver's process that has answered with [`PreVoteIfNew`](Self::PreVoteIfNew); zero if none has.
        start: u64,
    },
    /// To a witness, in the place of [`Append`](Self::Append): the terms of the entries after `prev`, up to and with `last`.
    AppendTerms {
        /// The entry before the first one told.
        prev: LogPosition,
        /// The last one told; `prev` only asks whether that matches.
        last: Index,
        /// Where each term begins, in their order; behind the last one the rest is zero.
        runs: [LogPosition; MAX_SENT_RUNS],
        /// The last of them that holds a configuration, whose frame follows this message; zero for none.
        configuration: Index,
        /// The leader's commit index.
        commit: Index,
    },
    /// In the place of entries that the leader's log holds no more: rows of its applied state as of `last`. Their frame
    /// follows this message (Raft paper, section 7).
    SnapshotRows {
        /// The last entry whose effects they hold; it is committed.
        last: LogPosition,
        /// The number of the first row sent; rows are numbered from zero in the order of their keys.
        first: u32,
        /// Rows sent; zero only asks how many are there.
        count: u16,
        /// Rows of all of it.
        rows: u32,
    },
    /// How much of that the follower has.
    SnapshotTaken {
        /// Which it is about.
        last: LogPosition,
        /// Its rows before this one are there, on stable storage or not.
        next: u32,
    },
    /// To a witness, in the place of terms that the leader knows no more: what it is told begins after `last`.
    SnapshotTerms {
        /// An entry that is committed.
        last: LogPosition,
        /// The entry of the configuration that is in force there, whose frame follows this message; zero for none.
        configuration: Index,
    },
}

impl Body {
    /// Whether a leader says this to those that follow it, to be answered when it is durable.
    pub(super) const fn is_append(&self) -> bool {
        matches!(self, Self::Append { .. } | Self::SnapshotRows { .. }) || self.is_for_witness()
    }

    /// Whether this is for a witness only.
    pub(super) const fn is_for_witness(&self) -> bool {
        matches!(self, Self::AppendTerms { .. } | Self::SnapshotTerms { .. })
    }

    /// Whether only the leader of the message's term says this.
    pub(super) const fn is_of_leader(&self) -> bool {
        self.is_append() || matches!(self, Self::Heartbeat { .. })
    }

    /// The sender's wall clock, where it tells it.
    pub(crate) const fn wall_us(&mut self) -> Option<&mut u64> {
        match self {
            Self::VoteReply { wall_us, .. }
            | Self::VoteIfAll { wall_us }
            | Self::HeartbeatReply { wall_us, .. }
            | Self::SuspectReply { wall_us, .. } => Some(wall_us),
            _ => None,
        }
    }

    /// The highest of its indices and terms.
    pub(super) fn highest(&self) -> u64 {
        let of = |position: LogPosition| position.index.0.max(position.term.0);
        match *self {
            Self::PreVote { last } | Self::Vote { last, .. } => of(last),
            Self::SuspectPreVote { last, start } | Self::FoundingVote { last, start } => of(last).max(start),
            Self::Append { prev, count, commit } => of(prev).saturating_add(count.into()).max(commit.0),
            Self::AppendTerms { prev, last, runs, configuration, commit } => {
                let runs = runs.into_iter().map(of).fold(0, u64::max);
                of(prev).max(last.0).max(runs).max(configuration.0).max(commit.0)
            }
            Self::SnapshotRows { last, .. } | Self::SnapshotTaken { last, .. } => of(last),
            Self::SnapshotTerms { last, configuration } => of(last).max(configuration.0),
            Self::AppendAccepted { matched } => matched.0,
            Self::AppendRejected { rejected, hint } => of(hint).max(rejected.0),
            Self::Heartbeat { commit, round } => commit.0.max(round),
            Self::HeartbeatReply { round, verified, .. } => round.max(verified.0),
            Self::SuspectReply { start, round, verified, matched, .. } => {
                start.max(round).max(verified.0).max(matched.0)
            }
            Self::PreVoteIfAll { start } | Self::Cleared { start } => start,
            Self::PreVoteIfNew { start, own } => start.max(own),
            Self::PreVoteReply { .. } | Self::VoteReply { .. } | Self::VoteIfAll { .. } | Self::TimeoutNow => 0,
        }
    }
}

/// What the machine must know of an entry that follows a [`Body::Append`]; read from its frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryMeta {
    /// Its index.
    pub index: Index,
    /// Its term.
    pub term: Term,
    /// When the leader stamped it. Consensus does not look at it; the [`replica`](crate::replica) continues from it.
    pub log_time: LogTime,
}
