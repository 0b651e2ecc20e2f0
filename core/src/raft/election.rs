//! Elections: leases, pre-votes, votes (Raft paper, section 5.2; Raft thesis, sections 4.2.3 and 9.6).

use super::configuration::Slots;
use super::faults::Fault;
use super::message::{Body, LogPosition, Message};
use super::output::HardState;
use super::peer::{Kept, Owed, OwedSet, Peer};
use super::quorum::VoteResult;
use super::timer::Timer;
use super::{Following, Raft, Role};
use crate::config::{KEPT_REQUEST, RESET_RANK_STEP, RETRY_MAX, RETRY_MIN};
use crate::id::Term;
use crate::time::Instant;

/// Campaigns in quick succession; with each further one the time that votes are waited for doubles, ...
const QUICK_CAMPAIGNS: u32 = 2;
/// ... at most so often: to about a second, for disks that need one.
const MAX_DOUBLINGS: u32 = 5;

/// What a member knows of elections, its own and others'.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Election {
    /// Until then a leader is taken to live, and no other gets a vote.
    pub(super) lease_until: Instant,
    /// Campaigns since a leader was last known.
    pub(super) campaigns: u32,
    pre_votes: Tally,
    /// Votes for this member in its term. Kept while it asks for pre-votes for the next term: a vote that comes late
    /// from a slow disk may still decide.
    votes: Tally,
    campaign: Campaign,
}

/// Why a member asks for votes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Campaign {
    /// Nobody leads, and more than half would vote for it, or all.
    #[default]
    Ordinary,
    /// The leader asked for it.
    Transfer,
    /// Nobody has ever led: more than half would vote for it, and are all new.
    Founding,
}

impl Election {
    /// Those who would vote for this member, and are new as it is.
    pub(super) fn new_pre_voters(&self) -> Slots {
        self.pre_votes.new
    }

    /// The slot has another member now, or none.
    pub(super) fn forget(&mut self, slot: usize) {
        self.pre_votes.forget(slot);
        self.votes.forget(slot);
    }
}

/// What a voter, or somebody that was asked for a pre-vote, has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ballot {
    Granted,
    /// Granted in case that all others grant theirs, because one of the two is suspect.
    IfAll,
    /// As `IfAll`; and both are new.
    IfNew,
    Refused,
}

impl Ballot {
    pub(super) const fn of(granted: bool) -> Self {
        if granted { Self::Granted } else { Self::Refused }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    granted: Slots,
    if_all: Slots,
    /// Those in `if_all` who are new.
    new: Slots,
    refused: Slots,
}

impl Tally {
    fn count(&mut self, slot: usize, ballot: Ballot) {
        let into = match ballot {
            Ballot::Granted => &mut self.granted,
            Ballot::IfAll => &mut self.if_all,
            Ballot::IfNew => {
                self.new.insert(slot);
                &mut self.if_all
            }
            Ballot::Refused => &mut self.refused,
        };
        into.insert(slot);
    }

    fn forget(&mut self, slot: usize) {
        for set in [&mut self.granted, &mut self.if_all, &mut self.new, &mut self.refused] {
            set.remove(slot);
        }
    }

    fn has_granted(&self, slot: usize) -> bool {
        self.granted.either(self.if_all).contains(slot)
    }
}

/// What the terms of a message and of this node say about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is of this node's term.
    Current,
    /// It is to be dropped; its sender was given an answer where it needs one.
    Done,
}

impl Raft {
    /// The one check of terms, before any role's step (Raft paper, section 5.1).
    pub(super) fn check_term(&mut self, now: Instant, slot: usize, message: &Message) -> Standing {
        let term = self.term();
        match message.body {
            // These speak of a term that nobody may ever reach.
            Body::PreVote { last } => {
                self.handle_pre_vote(now, slot, message.term, last, 0);
                return Standing::Done;
            }
            Body::SuspectPreVote { last, start } => {
                self.handle_pre_vote(now, slot, message.term, last, start);
                return Standing::Done;
            }
            Body::PreVoteReply { granted: true } => {
                // To a suspect member this is an old answer: to a start of its process that it does not remember.
                if self.start_if_suspect() == 0 {
                    self.handle_pre_vote_reply(now, slot, message.term, Ballot::Granted);
                }
                return Standing::Done;
            }
            Body::PreVoteIfAll { start } => {
                if self.start_if_suspect() == start {
                    self.handle_pre_vote_reply(now, slot, message.term, Ballot::IfAll);
                }
                return Standing::Done;
            }
            Body::PreVoteIfNew { start, own } => {
                if self.start_if_suspect() == start {
                    self.peers[slot].new_start = own;
                    self.handle_pre_vote_reply(now, slot, message.term, Ballot::IfNew);
                }
                return Standing::Done;
            }
            Body::PreVoteReply { granted: false } if message.term <= term => {
                self.handle_pre_vote_reply(now, slot, message.term, Ballot::Refused);
                return Standing::Done;
            }
            _ => {}
        }
        if message.term > term {
            let asks = matches!(message.body, Body::Vote { transfer: false, .. } | Body::FoundingVote { .. });
            if asks && self.in_lease_of_another(now, slot) {
                // A leader that lives is not deposed (Raft thesis, section 4.2.3). If it is us, the candidate is told
                // so, and tells its term: a member that is ahead in terms is not locked out.
                self.owe_leader_lives(slot);
                return Standing::Done;
            }
            if let Body::FoundingVote { start, .. } = message.body {
                self.believe_to_be_new(start);
            }
            self.become_follower(now, message.term);
        } else if message.term < term {
            match message.body {
                body if body.is_of_leader() && !self.faults.has(Fault::NewerTermNotTold) => {
                    self.owe(slot, Owed::NewerTerm);
                }
                Body::Vote { .. } | Body::FoundingVote { .. } => self.owe(slot, Owed::VoteRefused),
                _ => {}
            }
            return Standing::Done;
        }
        Standing::Current
    }

    /// Follows nobody yet, in `term`, which is this node's or a later one.
    pub(super) fn become_follower(&mut self, now: Instant, term: Term) {
        if term > self.term() {
            self.stable.set_hard_state(HardState { term, vote: None, ..self.stable.hard_state() });
        }
        if self.role == Role::Leader {
            self.forget_reads();
            self.timers.stop(Timer::Heartbeat);
            self.timers.stop(Timer::Quorum);
            self.timers.stop(Timer::Transfer);
            // Its log is as good as any: it does not wait for another detection.
            self.retry_after(now, 0);
        }
        self.role = Role::Follower;
        self.leader = None;
        self.following = Following { verified: self.commit, ..Following::default() };
        self.election.votes = Tally::default();
        for peer in &mut self.peers {
            peer.owed.retain(OwedSet::TIMELESS);
        }
        self.end_lease(now);
    }

    /// No leader is known to live.
    pub(super) fn end_lease(&mut self, now: Instant) {
        self.leader = None;
        self.election.lease_until = now;
        self.timers.stop(Timer::Lease);
        for slot in self.audience().iter() {
            if let Some(kept) = self.peers[slot].kept.take().filter(|kept| now <= kept.until) {
                self.handle_pre_vote(now, slot, kept.term, kept.last, kept.start);
            }
        }
    }

    /// Whether a leader is taken to live that is not the member at `slot`: who asks for votes does not lead.
    fn in_lease_of_another(&self, now: Instant, slot: usize) -> bool {
        let leads = self.id(slot);
        self.role == Role::Leader || now < self.election.lease_until && self.leader != Some(leads)
    }

    /// Tells a member that looks for a leader, if this is one.
    fn owe_leader_lives(&mut self, slot: usize) {
        if self.role == Role::Leader {
            self.owe(slot, Owed::Heartbeat);
        }
    }

    /// Would this node vote for the member, in `term`? Changes nothing but what the member is told. `start` is zero
    /// unless the member is suspect.
    fn handle_pre_vote(&mut self, now: Instant, slot: usize, term: Term, last: LogPosition, start: u64) {
        let peer = &mut self.peers[slot];
        peer.kept = None;
        peer.owed.remove(Owed::PreVoteGranted);
        peer.owed.remove(Owed::PreVoteRefused);
        self.owe_leader_lives(slot);
        let long = last.is_at_least(self.last()) || self.faults.has(Fault::VotesForShortLog);
        if term <= self.term() || !long {
            self.owe(slot, Owed::PreVoteRefused);
        } else if !self.in_lease_of_another(now, slot) {
            (self.peers[slot].pre_vote_term, self.peers[slot].pre_vote_start) = (term, start);
            self.owe(slot, Owed::PreVoteGranted);
            // The candidate gets the time to sync its vote and to ask for ours, before we compete with it. But one that
            // needs the votes of all, and may ask in vain for ever, does not hold up those that do not.
            let gives_way = start == 0 || self.start_if_suspect() != 0;
            if self.role == Role::Follower && gives_way {
                let turn = self.timers.at(Timer::Election).max(now + RETRY_MAX);
                self.timers.set(Timer::Election, turn);
            }
        } else if self.role != Role::Leader {
            self.peers[slot].kept = Some(Kept { term, last, start, until: now + KEPT_REQUEST });
            self.timers.set(Timer::Lease, self.election.lease_until);
        }
    }

    /// The lease may have ended that kept requests wait for.
    pub(super) fn handle_lease_timeout(&mut self, now: Instant) {
        if now < self.election.lease_until {
            // It was renewed. Requests that can still outlast it wait on.
            let lease_until = self.election.lease_until;
            let waits = |slot: usize| self.peers[slot].kept.is_some_and(|kept| lease_until <= kept.until);
            if self.audience().iter().any(waits) {
                self.timers.set(Timer::Lease, lease_until);
            }
        } else if self.role != Role::Leader {
            self.end_lease(now);
        }
    }

    /// The leader's process is gone: nobody listens where it listened. Its followers ask for pre-votes one after the
    /// other, in the order of their ids, so that they do not compete.
    pub(super) fn handle_leader_gone(&mut self, now: Instant, leader: usize) {
        let rank = self.other_voters().without(leader).iter().filter(|&slot| slot < self.own).count();
        let turn = now + RESET_RANK_STEP * rank as u64;
        self.timers.set(Timer::Election, turn.min(self.timers.at(Timer::Election)));
        // After that: a request that was kept is granted now, and puts off our own turn.
        self.end_lease(now);
    }

    /// Nobody leads: ask who would vote for this node.
    pub(super) fn handle_election_timeout(&mut self, now: Instant) {
        if self.role == Role::Candidate && !self.stable.vote_is_durable() {
            // The disk is slow. A next term would need it twice.
            self.timers.set(Timer::Election, now + self.patience);
            return;
        }
        self.end_lease(now);
        if !self.can_lead() {
            return;
        }
        self.role = Role::PreCandidate;
        self.election.pre_votes = Tally::default();
        self.election.pre_votes.count(self.own, self.own_ballot());
        self.retry_after(now, 0);
        // Members that are new wait for the founder's word, and a lost one is not asked for.
        let founds = self.election.campaign == Campaign::Founding && self.stable.hard_state().vote == Some(self.node);
        for slot in self.other_voters().iter() {
            self.peers[slot].owed.remove(Owed::Vote);
            if founds {
                self.owe(slot, Owed::Vote);
            }
            self.owe(slot, Owed::PreVote);
        }
        self.count_pre_votes(now);
    }

    /// Sets when to try again.
    fn retry_after(&mut self, now: Instant, doublings: u32) {
        let wait = self.random.between(RETRY_MIN, RETRY_MAX) * (1 << doublings);
        self.timers.set(Timer::Election, now + wait);
    }

    fn handle_pre_vote_reply(&mut self, now: Instant, slot: usize, term: Term, ballot: Ballot) {
        if self.role != Role::PreCandidate || ballot != Ballot::Refused && term != self.term().next() {
            return;
        }
        self.election.pre_votes.count(slot, ballot);
        self.count_pre_votes(now);
    }

    fn count_pre_votes(&mut self, now: Instant) {
        let Tally { granted, if_all, refused, .. } = self.election.pre_votes;
        // A lost one waits for its next turn.
        if self.quorum.result(granted, if_all, refused) == VoteResult::Won {
            self.campaign(now, Campaign::Ordinary);
        } else if self.may_found(now) {
            self.believe_to_be_new(self.start);
            self.campaign(now, Campaign::Founding);
        }
    }

    /// Asks for votes in the next term, once this node's own is durable.
    pub(super) fn campaign(&mut self, now: Instant, campaign: Campaign) {
        let term = self.term().next();
        self.become_follower(now, term.prev());
        self.stable.set_hard_state(HardState { term, vote: Some(self.node), ..self.stable.hard_state() });
        self.role = Role::Candidate;
        self.election.campaign = campaign;
        self.timers.set(Timer::Election, now + self.patience);
        for slot in self.other_voters().iter() {
            self.owe(slot, Owed::Vote);
        }
    }

    /// A candidate's own vote counts when it is durable, and only then are others asked.
    pub(super) fn handle_own_vote_durable(&mut self, now: Instant) {
        if self.role == Role::Candidate && self.stable.vote_is_durable() && !self.election.votes.has_granted(self.own) {
            let doublings = self.election.campaigns.saturating_sub(QUICK_CAMPAIGNS - 1).min(MAX_DOUBLINGS);
            self.retry_after(now, doublings);
            self.election.campaigns = self.election.campaigns.saturating_add(1);
            self.count_vote(now, self.own, self.own_ballot());
        }
    }

    /// A request for this node's vote, in this node's term.
    pub(super) fn handle_vote(&mut self, now: Instant, slot: usize, message: &Message, last: LogPosition) {
        let hard_state = self.stable.hard_state();
        let repeated = hard_state.vote == Some(message.from);
        let first = hard_state.vote.is_none() || self.faults.has(Fault::VotesTwice);
        let long = last.is_at_least(self.last()) || self.faults.has(Fault::VotesForShortLog);
        let free = first && self.leader.is_none() && long;
        if free {
            self.become_follower(now, message.term);
            self.stable.set_hard_state(HardState { vote: Some(message.from), ..hard_state });
            self.timers.set(Timer::Election, now + self.patience);
        }
        self.owe(slot, if free || repeated { Owed::VoteGranted } else { Owed::VoteRefused });
    }

    /// An answer to this node's request, in this node's term.
    pub(super) fn count_vote(&mut self, now: Instant, slot: usize, ballot: Ballot) {
        let campaigns = matches!(self.role, Role::Candidate | Role::PreCandidate);
        if !campaigns || self.stable.hard_state().vote != Some(self.node) {
            return;
        }
        self.election.votes.count(slot, ballot);
        let votes = self.election.votes;
        match self.quorum.result(votes.granted, votes.if_all, votes.refused) {
            VoteResult::Won if votes.has_granted(self.own) => self.become_leader(now),
            VoteResult::Lost if self.role == Role::Candidate => self.retry_after(now, 0),
            _ => {}
        }
    }

    /// A vote, once it is on stable storage.
    pub(super) fn granted_vote(&mut self, slot: usize) -> Option<Body> {
        if !self.stable.vote_is_durable() && !self.faults.has(Fault::VoteNotSyncedBeforeReply) {
            return None;
        }
        let candidate = self.id(slot);
        assert_eq!(self.stable.hard_state().vote, Some(candidate), "one vote in a term");
        self.peers[slot].owed.remove(Owed::VoteGranted);
        let is_sound = self.start_if_suspect() == 0;
        Some(if is_sound { Body::VoteReply { granted: true, wall_us: 0 } } else { Body::VoteIfAll { wall_us: 0 } })
    }

    /// A request for a pre-vote.
    pub(super) fn pre_vote_request(&self) -> Body {
        match (self.last(), self.start_if_suspect()) {
            (last, 0) => Body::PreVote { last },
            (last, start) => Body::SuspectPreVote { last, start },
        }
    }

    /// A pre-vote.
    pub(super) fn granted_pre_vote(&self, slot: usize) -> (Term, Body) {
        let Peer { pre_vote_term: term, pre_vote_start: start, .. } = self.peers[slot];
        // Who is new asks for the first term.
        let is_asker_new = start != 0 && term.prev() == Term::ZERO;
        let body = match start {
            0 if self.start_if_suspect() == 0 => Body::PreVoteReply { granted: true },
            _ if is_asker_new && self.is_new() => Body::PreVoteIfNew { start, own: self.start },
            _ => Body::PreVoteIfAll { start },
        };
        (term, body)
    }

    /// A request for a vote, once this node's own is on stable storage.
    pub(super) fn vote_request(&mut self, slot: usize) -> Option<Body> {
        if !self.stable.vote_is_durable() {
            return None;
        }
        assert_eq!(self.stable.durable(), self.last().index, "the vote was written after the entries");
        self.peers[slot].owed.remove(Owed::Vote);
        let last = self.last();
        Some(match self.election.campaign {
            Campaign::Founding => Body::FoundingVote { last, start: self.peers[slot].new_start },
            campaign => Body::Vote { last, transfer: campaign == Campaign::Transfer },
        })
    }

    /// Whether this member founds, and has not said so yet. An answer before that would tell its term, and who hears of a term
    /// is not new any more: nobody could found with it.
    pub(super) fn is_about_to_found(&self) -> bool {
        self.role == Role::Candidate && self.election.campaign == Campaign::Founding && !self.stable.vote_is_durable()
    }

    /// The connection to a member is back: what was asked of it may not have arrived.
    pub(super) fn ask_again(&mut self, slot: usize) {
        match self.role {
            Role::PreCandidate => self.owe(slot, Owed::PreVote),
            Role::Candidate => self.owe(slot, Owed::Vote),
            Role::Follower | Role::Leader => {}
        }
    }
}
