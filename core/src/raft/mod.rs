//! Raft without I/O: elections, replication, commit (Ongaro and Ousterhout, *In Search of an Understandable Consensus
//! Algorithm*, 2014, "the paper"; Ongaro, *Consensus: Bridging Theory and Practice*, 2014, "the thesis").
//!
//! [`Raft`] is driven by its owner. Its methods come in four kinds:
//!
//! - **getters** look;
//! - **`handle_*`** take what happened: a message, a deadline, a finished write, a connection that came or went;
//! - **commands** ask for something: [`propose`](Raft::propose), [`transfer_leadership`](Raft::transfer_leadership);
//! - **`poll_output`** gives what is to be done now, one thing at a time, until it gives `None`.
//!
//! After any number of `handle_*` and commands, poll until `None`, then wait until [`next_deadline`](Raft::next_deadline)
//! or the next event. Outputs are made from the state when they are polled: nothing queues up inside, and polling late
//! coalesces. They come in this order, which callers may rely on:
//!
//! 1. [`Output::Leader`], when the view of who leads has changed;
//! 2. [`Output::AppendEmpty`], when this node has just begun to lead, before the write that holds the entry;
//! 3. [`Output::InstallSnapshot`], which is to be acted on before anything else is done;
//! 4. [`Output::Persist`], at most [`MAX_OPEN_WRITES`](crate::config::MAX_OPEN_WRITES) open at once;
//! 5. [`Output::Send`], each with its durability condition met already;
//! 6. [`Output::Commit`], never beyond what was handed out to be written: a store that writes in order cannot hold the
//!    effects of an entry without the entry;
//! 7. [`Output::ReadIndex`], whose entries were given out before if they were not already.
//!
//! ```
//! use eventstream_core::id::{Incarnation, Index, NodeId, Term};
//! use eventstream_core::raft::{Configuration, Faults, LogView, Member, Output, Raft, RaftOptions, Restored, Role};
//! use eventstream_core::time::Instant;
//!
//! /// The terms of the entries on "disk".
//! struct Disk(Vec<Term>);
//!
//! impl LogView for Disk {
//!     fn term(&self, index: Index) -> Option<Term> {
//!         self.0.get(index.0 as usize - 1).copied()
//!     }
//! }
//!
//! let member = Member { node: NodeId(1), incarnation: Incarnation([7; 16]) };
//! let options = RaftOptions {
//!     node: member.node,
//!     incarnation: member.incarnation,
//!     membership: Configuration::new(&[member])?.into(),
//!     seed: 42,
//!     is_witness: false,
//!     faults: Faults::NONE,
//! };
//! let mut now = Instant::ZERO;
//! let mut disk = Disk(Vec::new());
//! let mut raft = Raft::new(options, &Restored::default(), now)?;
//! let mut proposed = None;
//! while raft.commit() < Index(2) {
//!     while let Some(output) = raft.poll_output(&disk) {
//!         match output {
//!             Output::Persist(write) => {
//!                 if let Some((first, last)) = write.append {
//!                     disk.0.truncate(first.0 as usize - 1);
//!                     disk.0.resize(last.0 as usize, raft.term());
//!                 }
//!                 raft.handle_persisted(now, write.token); // when it is on stable storage
//!             }
//!             Output::Send(_) => unreachable!("nobody else is there"),
//!             Output::AppendEmpty(_) | Output::Commit(_) | Output::ReadIndex { .. } | Output::Leader { .. } => {}
//!             Output::AppendConfiguration(_) => unreachable!("nobody has asked for a change"),
//!             Output::InstallSnapshot(_) => unreachable!("nobody is there to send one"),
//!         }
//!     }
//!     if raft.role() == Role::Leader && proposed.is_none() {
//!         proposed = Some(raft.propose(now)?);
//!     } else {
//!         now = raft.next_deadline().min(now + eventstream_core::time::Duration::from_millis(1));
//!         raft.handle_timeout(now);
//!     }
//! }
//! assert_eq!(proposed.map(|entry| entry.index), Some(Index(2)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod change;
mod configuration;
mod election;
mod error;
mod faults;
mod follower;
mod founding;
mod membership;
mod message;
mod output;
mod peer;
mod progress;
mod quorum;
mod random;
mod reading;
mod replication;
mod snapshot;
mod stable;
mod suspect;
mod terms;
mod timer;
mod transfer;
mod witness;

pub use change::{Change, ChangeError, Transition};
pub use configuration::{Configuration, ConfigurationError, Duty, MAX_CONFIGURATION_LEN, Member};
pub use error::{ProposeError, ReadError, Rejected, RestoreError, TransferError};
pub use faults::{Fault, Faults};
pub use membership::{Membership, Placed};
pub use message::{Body, EntryMeta, LogPosition, Message};
pub use output::{HardState, LogView, Output, Persist, Restored, Token};
pub use progress::Flow;
pub use quorum::VoteResult;
pub use reading::ReadTicket;
pub use snapshot::Snapshot;

use crate::config::{MAX_COUNTER, MAX_MEMBERS, PATIENCE, PATIENCE_SPREAD};
use crate::id::{Incarnation, Index, NodeId, Term};
use crate::time::{Duration, Instant};
use configuration::Slots;
use election::{Ballot, Election, Standing};
use follower::{Appended, Following};
use founding::Founding;
use peer::{Owed, Peer};
use quorum::Quorum;
use random::Random;
use reading::Reading;
use replication::Leading;
use snapshot::Receiving;
use stable::Stable;
use timer::{Timer, Timers};

/// What a member is told when it is made.
#[derive(Clone, Debug)]
pub struct RaftOptions {
    /// This member.
    pub node: NodeId,
    /// Its incarnation, as its data directory has it.
    pub incarnation: Incarnation,
    /// The members: the configurations of its log.
    pub membership: Membership,
    /// For what is to differ between nodes and runs. The same seed and calls give the same outputs.
    pub seed: u64,
    /// It keeps of the log the terms only: it is told those, votes, and never leads.
    pub is_witness: bool,
    /// Mistakes to make; [`Faults::NONE`] outside tests.
    pub faults: Faults,
}

/// What a member does in its term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Follows a leader, or waits for one.
    Follower,
    /// Asks whether it would be voted for. Its term is still the old one.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

/// What a leader knows of one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerProgress {
    /// The peer has everything up to here on stable storage.
    pub matched: Index,
    /// The next entry that it is to be sent.
    pub next: Index,
    /// Whether appends are sent ahead of their answers.
    pub flow: Flow,
    /// When it last spoke.
    pub heard: Instant,
}

/// What was taken from a message, and is to be kept by the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Nothing.
    Nothing,
    /// These of its entries, in the place of any that the log had at or after the first.
    Entries {
        /// The first of them.
        first: Index,
        /// The last of them.
        last: Index,
    },
    /// Its rows, behind those of the same snapshot that were taken before, in the place of all others. They need not be on
    /// stable storage until they are installed. Of a message to a witness, the configuration.
    Rows,
}

impl Taken {
    fn entries(taken: Option<(Index, Index)>) -> Self {
        taken.map_or(Self::Nothing, |(first, last)| Self::Entries { first, last })
    }
}

/// One member of a Raft group: a state machine without I/O, clock or allocation. About 6 KiB.
///
/// See the [module](self) for how it is driven.
#[derive(Clone, Debug)]
pub struct Raft {
    node: NodeId,
    incarnation: Incarnation,
    membership: Membership,
    quorum: Quorum,
    /// This member's slot; [`membership::NOWHERE`] while it is none.
    own: usize,
    /// The slots of all other members.
    others: Slots,
    is_witness: bool,
    /// A sender that is no member.
    guest: Option<Member>,
    faults: Faults,
    random: Random,
    /// How long this member waits for a leader: differs between members.
    patience: Duration,
    /// Names this start of the process; not zero.
    start: u64,

    role: Role,
    leader: Option<NodeId>,
    stable: Stable,
    /// Committed, as far as this member knows. At most `stable.last()`.
    commit: Index,
    founding: Founding,
    election: Election,
    following: Following,
    leading: Leading,
    reading: Reading,
    receiving: Option<Receiving>,
    /// By slot.
    peers: [Peer; MAX_MEMBERS + 1],
    timers: Timers,

    /// Peers to which something may be sent now.
    attention: Slots,
    /// The view of who leads that was last given out.
    told_leader: (Term, Option<NodeId>),
    /// The commit index that was last given out. At most `commit`.
    told_commit: Index,
    /// The empty entry of this leader, until it was given out.
    empty_entry: Option<LogPosition>,
    /// The entry of the configuration that this leader has begun, until it was given out.
    configuration_entry: Option<LogPosition>,
}

impl Raft {
    /// A member that starts with what it found on its disk. It follows nobody, and campaigns when its patience ends; at
    /// once if it is the only voter.
    ///
    /// # Errors
    ///
    /// [`RestoreError`] if it may not take part with what it found.
    pub fn new(options: RaftOptions, restored: &Restored, now: Instant) -> Result<Self, RestoreError> {
        let RaftOptions { node, incarnation, membership, seed, is_witness, faults } = options;
        restored.check()?;
        if membership.latest().index > restored.last.index {
            return Err(RestoreError::LogTailLost);
        }
        // In the log there may be others: those of its lives before.
        let first = membership.latest();
        let other_life = |(member, _): (Member, Duty)| member.node == node && member.incarnation != incarnation;
        if first.index == Index::ZERO && first.configuration.members().any(other_life) {
            return Err(RestoreError::OtherIncarnation);
        }
        let is_wiped = restored.hard_state.term == Term::ZERO;
        let suspect = restored.suspect && !(is_wiped && faults.has(Fault::WipedVotesAsSound));
        let forgets = is_witness && faults.has(Fault::WitnessForgets);
        let last = if forgets { LogPosition::default() } else { restored.last };
        let restored = &Restored { suspect, last, ..*restored };
        let mut random = Random::new(seed ^ u64::from(node.0) << 48);
        // Each member has a part of the spread of its own, so that one campaigns before the others.
        let configuration = membership.latest().configuration;
        let own = configuration.slot(node).unwrap_or_default();
        let part = Duration::from_micros(PATIENCE_SPREAD.as_micros() / configuration.slots().len().max(1) as u64);
        let patience = PATIENCE + part * own as u64 + random.between(Duration::ZERO, part);
        let mut raft = Self {
            node,
            incarnation,
            quorum: configuration.quorum(),
            membership,
            own,
            others: Slots::NONE,
            is_witness,
            guest: None,
            faults,
            start: random.clone().next() >> 1 | 1,
            random,
            patience,
            role: Role::Follower,
            leader: None,
            stable: Stable::new(restored),
            commit: restored.applied.index,
            founding: Founding::new(now),
            election: Election::default(),
            following: Following { verified: restored.applied.index, ..Following::default() },
            leading: Leading::default(),
            reading: Reading::default(),
            receiving: None,
            peers: [Peer::NEW; MAX_MEMBERS + 1],
            timers: Timers::new(),
            attention: Slots::NONE,
            told_leader: (restored.hard_state.term, None),
            told_commit: restored.applied.index,
            empty_entry: None,
            configuration_entry: None,
        };
        raft.set_places();
        if raft.can_lead() {
            let is_alone = raft.quorum.result(Slots::only(raft.own), Slots::NONE, Slots::NONE) == VoteResult::Won;
            raft.timers.set(Timer::Election, if is_alone { now } else { now + patience });
        }
        Ok(raft)
    }
}

/// Getters.
impl Raft {
    /// This member.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// The members: the configuration of the last entry that holds one, committed or not.
    #[must_use]
    pub const fn configuration(&self) -> &Configuration {
        &self.membership.latest().configuration
    }

    /// The configurations of its log.
    #[must_use]
    pub const fn membership(&self) -> &Membership {
        &self.membership
    }

    /// What it does in its term.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// Its term.
    #[must_use]
    pub fn term(&self) -> Term {
        self.stable.hard_state().term
    }

    /// Whether it may have forgotten what it had promised: see [`Restored::suspect`].
    #[must_use]
    pub fn is_suspect(&self) -> bool {
        self.stable.hard_state().suspect
    }

    /// Its term and vote, durable or not.
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        self.stable.hard_state()
    }

    /// Who leads its term, as far as it knows.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    /// The last entry that is known to be committed.
    #[must_use]
    pub fn commit(&self) -> Index {
        self.commit
    }

    /// The last entry of its log, durable or not.
    #[must_use]
    pub fn last(&self) -> LogPosition {
        self.stable.last()
    }

    /// The last entry that is on its stable storage, with all before it.
    #[must_use]
    pub fn durable(&self) -> Index {
        self.stable.durable()
    }

    /// The term of the entry at `index`; `None` if the log does not reach so far or does not hold it any more.
    #[must_use]
    pub fn entry_term(&self, index: Index, view: &impl LogView) -> Option<Term> {
        self.stable.term(index, view)
    }

    /// The last entry up to `last` that has the same term as the one at `first`, with that term; `None` if the log does not
    /// hold that one.
    #[must_use]
    pub fn entry_run(&self, first: Index, last: Index, view: &impl LogView) -> Option<LogPosition> {
        self.stable.run(first, last, view)
    }

    /// What this leader knows of `peer`; `None` if this member does not lead or `peer` is none of its peers.
    #[must_use]
    pub fn progress(&self, peer: NodeId) -> Option<PeerProgress> {
        let slot = self.peer_slot(peer).filter(|_| self.role == Role::Leader)?;
        let Peer { progress, heard, .. } = &self.peers[slot];
        Some(PeerProgress { matched: progress.matched(), next: progress.next(), flow: progress.flow(), heard: *heard })
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called next; [`Instant::FAR_FUTURE`] for never. Changes
    /// with every other call.
    #[must_use]
    pub fn next_deadline(&self) -> Instant {
        self.timers.next()
    }

    fn peer_slot(&self, node: NodeId) -> Option<usize> {
        self.configuration().slot(node).filter(|&slot| slot != self.own)
    }
}

/// What happened.
impl Raft {
    /// A message came. `entries` are those that follow an [`Body::Append`], read from the headers of their frames, and
    /// `configurations` what those of them hold that are of kind *configuration*, in their order; there are none with any
    /// other, but the one that a message to a witness announces.
    ///
    /// Returns what was **taken** from the message. The caller keeps exactly that; a later [`Output::Persist`] says when to
    /// write it.
    ///
    /// # Errors
    ///
    /// [`Rejected`]: nothing was taken from the message.
    pub fn handle_message(
        &mut self,
        now: Instant,
        message: &Message,
        entries: &[EntryMeta],
        configurations: &[Placed],
        view: &impl LogView,
    ) -> Result<Taken, Rejected> {
        self.admit(message, entries, configurations)?;
        let slot = self.sender(now, message)?;
        self.founding.hear(message);
        if self.check_term(now, slot, message) == Standing::Done {
            return Ok(Taken::Nothing);
        }
        match (message.body, self.role) {
            (Body::Vote { last, .. } | Body::FoundingVote { last, .. }, _) => {
                self.handle_vote(now, slot, message, last)
            }
            (Body::VoteReply { granted, .. }, _) => self.count_vote(now, slot, Ballot::of(granted)),
            (Body::VoteIfAll { .. }, _) => self.count_vote(now, slot, Ballot::IfAll),
            (_, Role::Leader) => self.step_leader(now, slot, message, view)?,
            // A word of this term's leader makes a follower of a candidate.
            _ => return self.step_follower(now, slot, message, Appended { entries, configurations }, view),
        }
        self.conclude(now);
        Ok(Taken::Nothing)
    }

    /// Time has passed. May be called at any time, and is to be called at [`next_deadline`](Self::next_deadline).
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(timer) = self.timers.expire(now) {
            match timer {
                Timer::Election => self.handle_election_timeout(now),
                Timer::Lease => self.handle_lease_timeout(now),
                Timer::Heartbeat => self.handle_heartbeat_timeout(now),
                Timer::Quorum => self.handle_quorum_timeout(now),
                Timer::Transfer => self.handle_transfer_timeout(now),
            }
        }
    }

    /// The write of `token`, and all before it, are on stable storage, and `LogView` shows them.
    ///
    /// # Panics
    ///
    /// If `token` was never handed out: a bug of the caller.
    pub fn handle_persisted(&mut self, now: Instant, token: Token) {
        self.stable.persisted(token);
        self.note_own_pace(now);
        self.handle_own_vote_durable(now);
        self.advance_commit();
        self.attention = self.audience();
        self.conclude(now);
    }

    /// What may follow from something that was counted.
    fn conclude(&mut self, now: Instant) {
        self.conclude_change(now);
        self.confirm_reads(now);
        self.begin_round_of_reads(now);
    }

    /// There is a connection to `peer`, where there was none.
    pub fn handle_connected(&mut self, _now: Instant, peer: NodeId) {
        let Some(slot) = self.peer_slot(peer) else { return };
        if self.role == Role::Leader {
            self.peers[slot].progress.restart();
            self.owe(slot, Owed::Heartbeat);
        }
        self.ask_again(slot);
    }

    /// The connection to `peer` is gone; what was sent last may not have arrived.
    pub fn handle_disconnected(&mut self, now: Instant, peer: NodeId) {
        let Some(slot) = self.peer_slot(peer) else { return };
        if self.role == Role::Leader {
            self.peers[slot].progress.suspend();
            self.review_witness(now);
        }
    }

    /// The connection to `peer` was closed, **and** connecting again at once was refused: its process is gone, and not
    /// just the network. If it led, the followers need not wait until their patience ends. Includes
    /// [`handle_disconnected`](Self::handle_disconnected).
    pub fn handle_reset(&mut self, now: Instant, peer: NodeId) {
        self.handle_disconnected(now, peer);
        let Some(slot) = self.peer_slot(peer) else { return };
        if self.role == Role::Follower && self.leader == Some(peer) {
            self.handle_leader_gone(now, slot);
        }
    }

    /// Checks what does not depend on the state.
    fn admit(&self, message: &Message, entries: &[EntryMeta], configurations: &[Placed]) -> Result<(), Rejected> {
        let &Message { to, term, body, .. } = message;
        if to != self.node {
            return Err(Rejected::NotForMe { to });
        }
        if term.0.max(body.highest()) > MAX_COUNTER {
            return Err(Rejected::OutOfRange);
        }
        if body.is_for_witness() != self.is_witness && body.is_append() {
            return Err(Rejected::Witness);
        }
        if let Some((Snapshot { last, .. }, _)) = snapshot::announced(&body) {
            let is_past = last.term <= term && entries.is_empty();
            return if is_past { snapshot::check(&body, configurations) } else { Err(Rejected::Rows) };
        }
        if let Body::AppendTerms { .. } = body {
            return witness::check_terms(message, configurations);
        }
        let announced = if let Body::Append { count, .. } = body { count.into() } else { 0 };
        let mut before = if let Body::Append { prev, .. } = body { prev } else { LogPosition::default() };
        let mut follows = announced == entries.len() && (before.term <= term || announced == 0);
        for entry in entries {
            follows &= entry.index == before.index.next() && entry.term >= before.term && entry.term <= term;
            before = LogPosition { index: entry.index, term: entry.term };
        }
        let mut others = entries.iter();
        follows &= configurations.iter().all(|placed| others.any(|entry| entry.index == placed.index));
        if follows { Ok(()) } else { Err(Rejected::Entries) }
    }
}

/// Commands.
impl Raft {
    /// Appends one entry to the log of this leader and returns where. The caller holds its frame; it is sent and written
    /// when the outputs say so, and committed when [`Output::Commit`] has reached it **in this term**. If this member
    /// stops leading before, the entry may or may not survive.
    ///
    /// # Errors
    ///
    /// [`ProposeError`]: nothing was appended.
    pub fn propose(&mut self, _now: Instant) -> Result<LogPosition, ProposeError> {
        if self.role != Role::Leader {
            return Err(ProposeError::NotLeader { term: self.term(), leader: self.leader });
        }
        if let Some(to) = self.successor() {
            return Err(ProposeError::HandingOver { to });
        }
        self.attention = self.others;
        Ok(self.stable.append(self.term()))
    }
}

/// What is to be done.
impl Raft {
    /// The next thing to do; `None` when there is nothing more until the next call of another kind. When there is
    /// nothing, this costs a few comparisons.
    pub fn poll_output(&mut self, view: &impl LogView) -> Option<Output> {
        if self.told_leader.1 != self.leader || self.leader.is_some() && self.told_leader.0 != self.term() {
            self.told_leader = (self.term(), self.leader);
            return Some(Output::Leader { term: self.term(), leader: self.leader });
        }
        if let Some(empty) = self.empty_entry.take() {
            return Some(Output::AppendEmpty(empty));
        }
        if let Some(entry) = self.configuration_entry.take() {
            return Some(Output::AppendConfiguration(entry));
        }
        if let Some(last) = self.complete_snapshot(view) {
            return Some(Output::InstallSnapshot(last));
        }
        if let Some(write) = self.stable.poll() {
            return Some(Output::Persist(write));
        }
        while let Some(slot) = self.attention.lowest() {
            if let Some(message) = self.poll_message(slot, view) {
                return Some(Output::Send(message));
            }
            self.attention.remove(slot);
        }
        let commit = self.commit.min(self.stable.written());
        if self.told_commit < commit {
            self.told_commit = commit;
            return Some(Output::Commit(commit));
        }
        if let Some((ticket, index)) = self.poll_reads() {
            return Some(Output::ReadIndex { ticket, index });
        }
        None
    }

    /// The next message for a peer whose conditions are met.
    fn poll_message(&mut self, slot: usize, view: &impl LogView) -> Option<Message> {
        for owed in self.peers[slot].owed.iter() {
            if let Some((term, body)) = self.owed_message(slot, owed) {
                return Some(self.message(slot, term, body));
            }
        }
        if self.role != Role::Leader || !self.others.contains(slot) {
            return None;
        }
        let body = self.append_request(slot, view)?;
        Some(self.message(slot, self.term(), body))
    }

    /// Makes a message that is owed, and settles it; `None` if something that it depends on is not durable yet.
    fn owed_message(&mut self, slot: usize, owed: Owed) -> Option<(Term, Body)> {
        let term = self.term();
        match owed {
            // These are settled when their durability condition is met.
            Owed::Vote => return Some((term, self.vote_request(slot)?)),
            Owed::VoteGranted => return Some((term, self.granted_vote(slot)?)),
            Owed::AppendAccepted => return Some((term, self.accepted(slot)?)),
            Owed::PreVoteGranted | Owed::PreVoteRefused if self.is_about_to_found() => return None,
            _ => self.peers[slot].owed.remove(owed),
        }
        let Following { verified, round, refused: (rejected, hint), .. } = self.following;
        Some(match owed {
            Owed::Heartbeat => (term, self.heartbeat(slot)),
            Owed::HeartbeatReply if self.is_suspect() => (term, self.suspect_reply()),
            Owed::HeartbeatReply => (term, Body::HeartbeatReply { round, verified, wall_us: 0 }),
            Owed::NewerTerm => (term, Body::HeartbeatReply { round: 0, verified: Index::ZERO, wall_us: 0 }),
            Owed::PreVote => (term.next(), self.pre_vote_request()),
            Owed::PreVoteGranted => self.granted_pre_vote(slot),
            Owed::PreVoteRefused => (term, Body::PreVoteReply { granted: false }),
            Owed::VoteRefused => (term, Body::VoteReply { granted: false, wall_us: 0 }),
            Owed::AppendRejected => (term, Body::AppendRejected { rejected, hint }),
            Owed::TimeoutNow => (term, Body::TimeoutNow),
            Owed::Cleared => (term, self.cleared(slot)?),
            Owed::SnapshotTaken => (term, self.snapshot_taken()?),
            Owed::Vote | Owed::VoteGranted | Owed::AppendAccepted => unreachable!("returned above"),
        })
    }

    fn message(&self, slot: usize, term: Term, body: Body) -> Message {
        let to = self.id(slot);
        Message { from: self.node, to, incarnation: self.incarnation, term, body }
    }

    fn owe(&mut self, slot: usize, owed: Owed) {
        self.peers[slot].owed.insert(owed);
        self.attention.insert(slot);
    }
}
