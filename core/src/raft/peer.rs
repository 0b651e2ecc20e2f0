//! What is known of another member, and what it is owed.

use super::message::LogPosition;
use super::progress::Progress;
use super::suspect::Suspicion;
use crate::id::{Index, Term};
use crate::time::Instant;

/// Another member.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    /// Messages that it is to get. Each is made from the machine's state when it is polled, so that one of a kind is
    /// enough.
    pub(super) owed: OwedSet,
    /// The term that it last asked a pre-vote for, ...
    pub(super) pre_vote_term: Term,
    /// ... and the start of its process that it named with it, if it is suspect; else zero.
    pub(super) pre_vote_start: u64,
    /// The start of its process that has told us last that it is new; zero if none has.
    pub(super) new_start: u64,
    /// Its pre-vote request, if that waits for the end of our lease.
    pub(super) kept: Option<Kept>,
    /// Where its log stands, while we lead.
    pub(super) progress: Progress,
    /// When it last spoke in our term, while we lead.
    pub(super) heard: Instant,
    /// When it last had all, or more than before, while we lead; ...
    pub(super) level: Instant,
    /// ... and what that was.
    pub(super) matched_before: Index,
    /// The round of heartbeats that it answered last, while we lead.
    pub(super) answered: u64,
    /// What we hold against it, while we lead.
    pub(super) suspicion: Option<Suspicion>,
}

/// A pre-vote request that came while we held a lease.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept {
    pub(super) term: Term,
    pub(super) last: LogPosition,
    pub(super) start: u64,
    /// After this it is not answered any more.
    pub(super) until: Instant,
}

impl Peer {
    /// A leader begins to send to it, from `next` on, and knows nothing of it.
    pub(super) fn begin(&mut self, next: Index, now: Instant) {
        self.progress = Progress::new(next);
        (self.heard, self.level, self.matched_before) = (now, now, Index::ZERO);
        (self.answered, self.suspicion) = (0, None);
    }

    pub(super) const NEW: Self = Self {
        owed: OwedSet::NONE,
        pre_vote_term: Term::ZERO,
        pre_vote_start: 0,
        new_start: 0,
        kept: None,
        progress: Progress::new(Index(1)),
        heard: Instant::ZERO,
        level: Instant::ZERO,
        matched_before: Index::ZERO,
        answered: 0,
        suspicion: None,
    };
}

/// A kind of message. The order is that in which they are polled: what keeps a leader comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Owed {
    /// A leader's heartbeat.
    Heartbeat,
    /// The answer to one.
    HeartbeatReply,
    /// Word of our term, to a leader of an older one.
    NewerTerm,
    /// A request for a pre-vote.
    PreVote,
    /// A request for a vote; waits for our own to be durable.
    Vote,
    /// We would vote so.
    PreVoteGranted,
    /// We would not.
    PreVoteRefused,
    /// Our vote; waits for it to be durable.
    VoteGranted,
    /// No vote in our term.
    VoteRefused,
    /// Up to where the log is the leader's; waits for the entries to be durable.
    AppendAccepted,
    /// Where the logs may agree.
    AppendRejected,
    /// Word to the successor that it is its turn.
    TimeoutNow,
    /// Word that it is no longer suspect.
    Cleared,
    /// How much of a snapshot is there.
    SnapshotTaken,
}

impl Owed {
    const ALL: [Self; 14] = [
        Self::Heartbeat,
        Self::HeartbeatReply,
        Self::NewerTerm,
        Self::PreVote,
        Self::Vote,
        Self::PreVoteGranted,
        Self::PreVoteRefused,
        Self::VoteGranted,
        Self::VoteRefused,
        Self::AppendAccepted,
        Self::AppendRejected,
        Self::TimeoutNow,
        Self::Cleared,
        Self::SnapshotTaken,
    ];
}

/// A set of kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct OwedSet(u16);

impl OwedSet {
    pub(super) const NONE: Self = Self(0);
    /// What may be said in any term and role.
    pub(super) const TIMELESS: Self = Self(1 << Owed::PreVoteGranted as u8 | 1 << Owed::PreVoteRefused as u8);

    pub(super) fn insert(&mut self, owed: Owed) {
        self.0 |= 1 << owed as u8;
    }

    pub(super) fn remove(&mut self, owed: Owed) {
        self.0 &= !(1 << owed as u8);
    }

    pub(super) fn retain(&mut self, kinds: Self) {
        self.0 &= kinds.0;
    }

    /// The kinds in it, in the order in which they are polled.
    pub(super) fn iter(mut self) -> impl Iterator<Item = Owed> {
        core::iter::from_fn(move || {
            let owed = *Owed::ALL.get(self.0.trailing_zeros() as usize)?;
            self.remove(owed);
            Some(owed)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_listed_at_its_place() {
        for (place, owed) in Owed::ALL.into_iter().enumerate() {
            let mut set = OwedSet::NONE;
            set.insert(owed);
            assert_eq!(owed as usize, place);
            assert!(set.iter().eq([owed]));
            set.remove(owed);
            assert_eq!(set, OwedSet::NONE);
        }
    }
}
