//! The first election of a cluster for which not all members are there (`docs/suspect.md`).
//!
//! A member that finds nothing on its disk is suspect. When all are there they elect with the votes of all; that is the
//! rule, and takes no time. But a machine may come days after the others. So after [`FOUNDING_WAIT`] the first member
//! begins without the rest, with a majority of members that are all [**new**](Raft::is_new): they take themselves for what
//! they look like.
//!
//! They are wrong in one case: the first member was wiped, the others of them never took part, and all that know
//! better are down. Anybody who is up and holds an entry is heard long before that time.

use super::Raft;
use super::configuration::Slots;
use super::message::{Body, Message};
use super::output::HardState;
use super::quorum::VoteResult;
use crate::config::FOUNDING_WAIT;
use crate::id::{Index, Term};
use crate::time::Instant;

/// The slot of the first member, which has the lowest number. It alone founds, and has written so before anybody else
/// hears of it: so nobody has ever led a cluster whose first member never wrote a term.
const FIRST: usize = 0;

/// What a member knows of whether its cluster has begun.
#[derive(Clone, Copy, Debug)]
pub(super) struct Founding {
    /// Not before.
    from: Instant,
    /// Somebody has entries, or leads.
    has_begun: bool,
}

impl Founding {
    /// Of a member that starts now.
    pub(super) fn new(now: Instant) -> Self {
        Self { from: now + FOUNDING_WAIT, has_begun: false }
    }

    /// Notes what the message tells.
    pub(super) fn hear(&mut self, message: &Message) {
        self.has_begun |= match message.body {
            Body::PreVote { last }
            | Body::SuspectPreVote { last, .. }
            | Body::Vote { last, .. }
            | Body::FoundingVote { last, .. } => last.index > Index::ZERO,
            Body::TimeoutNow | Body::Cleared { .. } => true,
            body => body.is_of_leader(),
        };
    }
}

impl Raft {
    /// Whether nothing was ever written on its disk, and nobody is known to have more.
    pub(super) fn is_new(&self) -> bool {
        self.is_suspect() && self.term() == Term::ZERO && !self.founding.has_begun
    }

    /// Whether those who would vote for this member may found the cluster with it.
    pub(super) fn may_found(&self, now: Instant) -> bool {
        let voters = self.election.new_pre_voters();
        self.is_new()
            && self.own == FIRST
            && now >= self.founding.from
            && self.quorum.result(voters, Slots::NONE, Slots::NONE) == VoteResult::Won
    }

    /// A majority is new, as this start of the process has told that it is: none of them has forgotten anything.
    pub(super) fn believe_to_be_new(&mut self, start: u64) {
        if self.is_new() && start == self.start {
            self.stable.set_hard_state(HardState { suspect: false, ..self.stable.hard_state() });
        }
    }
}
