//! Raft, deduplication, topics and log time composed into one deterministic machine: a member of the cluster.
//!
//! A [`Replica`] takes messages, proposals, deadlines and tokens of finished writes ([`handle_message`],
//! [`propose_batch`], [`handle_timeout`], [`handle_persisted`]), and gives out what is to be written, sent and applied
//! ([`poll_output`]). It never sees a frame but when the host has it applied ([`apply`]): what lies where is the host's
//! affair. The same calls give the same outputs, byte for byte.
//!
//! Methods are sorted: `handle_*` take input and `propose_*` give the log something new; after any of them
//! [`poll_output`] is to be called until it gives nothing. The rest looks, or is about [checkpoints](RowKey).
//!
//! The crate's front page shows the loop that drives it.
//!
//! [`handle_message`]: Replica::handle_message
//! [`propose_batch`]: Replica::propose_batch
//! [`handle_timeout`]: Replica::handle_timeout
//! [`handle_persisted`]: Replica::handle_persisted
//! [`poll_output`]: Replica::poll_output
//! [`apply`]: Replica::apply

mod checkpoint;
mod command;
mod eviction;
mod log_time;
mod members;
mod memory;
mod outcome;
mod output;
mod proposed;
mod replay;
mod restoring;
mod state;
#[cfg(test)]
mod testing;
mod topics;

pub use checkpoint::{CheckpointHead, MAX_ROW_LEN, RestoreError, Row, RowKey};
pub use command::{Command, CommandError, MAX_COMMAND_LEN};
pub use memory::{Lent, Memory};
pub use outcome::{CommandOutcome, Outcomes, TopicSlice};
pub use output::{Output, Stamp};
pub use replay::Replay;
pub use restoring::{RestoredLog, Restoring};
pub use state::{ApplyError, Entry, MemoryTooSmall};
pub use topics::{Topic, TopicSlot};

use crate::config::Parameters;
use crate::dedup::Producer;
use crate::id::{Index, LogTime, NodeId, ProducerId, Term, TopicId};
use crate::raft::{
    self, Change, ChangeError, EntryMeta, Fault, Faults, LogPosition, LogView, Message, Placed, ProposeError, Raft,
    ReadError, ReadTicket, Rejected, Role, Taken, Token, TransferError, Transition,
};
use crate::time::Instant;
use crate::wire::{Batch, Kind};
use core::fmt;
use eviction::Eviction;
use log_time::LogClock;
use state::State;

/// What a member is told when it starts.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who it is, and with whom.
    pub raft: raft::RaftOptions,
    /// What is accepted. The same on all nodes.
    pub parameters: Parameters,
}

/// A member of the cluster.
pub struct Replica<M: Memory> {
    raft: Raft,
    state: State<M>,
    clock: LogClock,
    node: NodeId,
    is_witness: bool,
    faults: Faults,
    /// The latest time that a caller gave.
    now: Instant,
    /// The term of which this node last became the leader, and the log time of its empty entry.
    led: (Term, LogTime),
    /// The entry of the configuration that this leader has last begun.
    configured: Stamp,
    /// Entries up to this one were given out to be applied.
    given_out: Index,
    eviction: Eviction,
}

impl<M: Memory> Replica<M> {
    fn start(options: Options, state: State<M>, log: RestoredLog, now: Instant) -> Result<Self, RestoreError> {
        let RestoredLog { hard_state, base, last, suspect, .. } = log;
        let raft::RaftOptions { node, is_witness, faults, .. } = options.raft;
        let applied = if is_witness { base } else { state.applied };
        let restored = raft::Restored { hard_state, base, last, applied, suspect };
        let mut replica = Self {
            raft: Raft::new(options.raft, &restored, now)?,
            clock: LogClock::new(log.last_log_time.max(state.log_time)),
            node,
            is_witness,
            faults,
            now,
            led: (Term::ZERO, LogTime::ZERO),
            configured: Stamp::default(),
            given_out: state.applied.index,
            eviction: Eviction::default(),
            state,
        };
        replica.settle();
        Ok(replica)
    }
}

/// Input. After each of these, poll the outputs.
impl<M: Memory> Replica<M> {
    /// A member said something. `entries` describes the frames that followed an append, one each, and `configurations` what
    /// those of kind *configuration* hold.
    ///
    /// Returns what was taken from the message: the host keeps exactly that.
    ///
    /// # Errors
    ///
    /// The sender is not who it should be, or said what makes no sense. Nothing was taken from it but, perhaps, its newer
    /// term: the outputs are to be polled all the same.
    pub fn handle_message(
        &mut self,
        now: Instant,
        message: &Message,
        entries: &[EntryMeta],
        configurations: &[Placed],
        log: &impl LogView,
    ) -> Result<Taken, Rejected> {
        self.now = now;
        let taken = self.raft.handle_message(now, message, entries, configurations, log)?;
        if let Some(&mut wall_us) = { message.body }.wall_us() {
            self.clock.read(now, message.from, wall_us);
        }
        let last = self.raft.last();
        if let Some(entry) = entries.iter().rfind(|entry| (entry.index, entry.term) == (last.index, last.term)) {
            self.clock.follow(entry.log_time);
        }
        self.settle();
        Ok(taken)
    }

    /// The [deadline](Self::next_deadline) has come. To be called too early does no harm.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        self.raft.handle_timeout(now);
        self.settle();
    }

    /// The write with this token is on stable storage, and every one before it.
    pub fn handle_persisted(&mut self, now: Instant, token: Token) {
        self.now = now;
        self.raft.handle_persisted(now, token);
        self.settle();
    }

    /// A connection to this member is there.
    pub fn handle_connected(&mut self, now: Instant, peer: NodeId) {
        self.now = now;
        self.raft.handle_connected(now, peer);
        self.settle();
    }

    /// The connection to this member is gone, and what was under way on it may be lost.
    pub fn handle_disconnected(&mut self, now: Instant, peer: NodeId) {
        self.now = now;
        self.raft.handle_disconnected(now, peer);
        self.settle();
    }

    /// The connection to this member was closed, and an immediate attempt to connect again was refused: its process
    /// is gone. If it led, its lease ends at once.
    pub fn handle_reset(&mut self, now: Instant, peer: NodeId) {
        self.now = now;
        self.raft.handle_reset(now, peer);
        self.settle();
    }

    /// What the node's wall clock says: microseconds since the Unix epoch, zero if it has none or cannot be believed.
    /// To be told about once a second; it is forgotten after ten.
    pub fn set_wall_clock(&mut self, now: Instant, wall_us: u64) {
        self.now = now;
        self.clock.read(now, self.node, wall_us);
    }

    /// Everything that a change of role or term brings with it.
    fn settle(&mut self) {
        let term = self.raft.term();
        if self.raft.role() == Role::Leader && self.led.0 != term {
            if self.faults.has(Fault::LogTimeMovedBack) {
                self.clock.follow(LogTime(self.clock.wall_us(self.now, self.node)));
            }
            self.clock.lead(self.now);
            self.led = (term, self.stamp());
        }
        if let Some(position) = self.raft.begun_configuration()
            && self.configured.position != position
        {
            self.configured = Stamp { position, log_time: self.stamp() };
        }
    }

    /// The log time of the next entry. A majority's wall clocks have to agree before it jumps.
    fn stamp(&mut self) -> LogTime {
        self.clock.stamp(self.now, self.majority())
    }

    fn majority(&self) -> usize {
        self.raft.configuration().voters().count() / 2 + 1
    }
}

/// Proposals: only a leader takes them. After each of these, poll the outputs.
impl<M: Memory> Replica<M> {
    /// Gives the log a batch, which the caller has checked, and keeps under the index that it gets. Whether its events
    /// are duplicates is decided when it is applied.
    ///
    /// # Errors
    ///
    /// This node does not lead, or cannot take more for now; nothing has changed.
    pub fn propose_batch(&mut self, now: Instant, batch: &Batch<'_>) -> Result<Stamp, ProposeError> {
        let stamp = self.propose(now)?;
        if self.faults.has(Fault::DedupAtPropose) {
            self.state.decide_too_early(stamp.position, batch);
        }
        Ok(stamp)
    }

    /// Gives the log a command. The payload of its frame is [`Command::encode`]d.
    ///
    /// # Errors
    ///
    /// This node does not lead, or cannot take more for now; nothing has changed.
    pub fn propose_command(&mut self, now: Instant, _command: &Command) -> Result<Stamp, ProposeError> {
        self.propose(now)
    }

    /// Begins a change of members: see [`Raft::propose_change`].
    ///
    /// # Errors
    ///
    /// [`ChangeError`]: nothing has changed.
    pub fn propose_change(
        &mut self,
        now: Instant,
        changes: &[Change],
        transition: Transition,
    ) -> Result<LogPosition, ChangeError> {
        self.now = now;
        let position = self.raft.propose_change(now, changes, transition)?;
        self.settle();
        Ok(position)
    }

    /// Ends a joint configuration: see [`Raft::propose_leave_joint`].
    ///
    /// # Errors
    ///
    /// [`ChangeError`]: nothing has changed.
    pub fn propose_leave_joint(&mut self, now: Instant) -> Result<LogPosition, ChangeError> {
        self.now = now;
        let position = self.raft.propose_leave_joint(now)?;
        self.settle();
        Ok(position)
    }

    /// Asks for an index that is not stale: see [`Raft::read_index`].
    ///
    /// # Errors
    ///
    /// This node does not lead.
    pub fn read_index(&mut self, now: Instant) -> Result<ReadTicket, ReadError> {
        self.now = now;
        self.raft.read_index(now)
    }

    /// Hands leadership over: see [`Raft::transfer_leadership`].
    ///
    /// # Errors
    ///
    /// This node does not lead, or nobody can take over; nothing has changed.
    pub fn transfer_leadership(&mut self, now: Instant, to: Option<NodeId>) -> Result<NodeId, TransferError> {
        self.now = now;
        self.raft.transfer_leadership(now, to)
    }

    fn propose(&mut self, now: Instant) -> Result<Stamp, ProposeError> {
        self.now = now;
        let position = self.raft.propose(now)?;
        Ok(Stamp { position, log_time: self.stamp() })
    }
}

/// Output.
impl<M: Memory> Replica<M> {
    /// What is to be done next, until there is nothing. To be polled after every input, in one go.
    pub fn poll_output(&mut self, log: &impl LogView) -> Option<Output> {
        loop {
            let output = match self.raft.poll_output(log)? {
                raft::Output::AppendEmpty(position) => {
                    assert_eq!(position.term, self.led.0, "the empty entry of the term that was settled");
                    Output::AppendEmpty(Stamp { position, log_time: self.led.1 })
                }
                raft::Output::AppendConfiguration(position) => {
                    assert_eq!(position, self.configured.position, "the configuration that was settled");
                    Output::AppendConfiguration(self.configured)
                }
                raft::Output::Persist(persist) => Output::Persist(persist),
                raft::Output::Send(message) => Output::Send(self.with_wall_clock(message)),
                // A witness has nothing to apply.
                raft::Output::Commit(commit) if commit <= self.given_out || self.is_witness => continue,
                raft::Output::Commit(last) => {
                    let first = core::mem::replace(&mut self.given_out, last).next();
                    Output::Apply { first, last }
                }
                raft::Output::InstallSnapshot(last) => Output::InstallSnapshot(last),
                raft::Output::ReadIndex { ticket, index } => Output::ReadIndex { ticket, index },
                raft::Output::Leader { term, leader } => Output::Leader { term, leader },
            };
            return Some(output);
        }
    }

    fn with_wall_clock(&self, mut message: Message) -> Message {
        if let Some(wall_us) = message.body.wall_us() {
            *wall_us = self.clock.wall_us(self.now, self.node);
        }
        message
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called, unless something else comes first.
    #[must_use]
    pub fn next_deadline(&self) -> Instant {
        self.raft.next_deadline()
    }

    /// Applies the next committed entry, and says what became of it. The frame's checksums are the caller's affair.
    ///
    /// # Errors
    ///
    /// [`ApplyError`]; nothing of the entry was applied.
    pub fn apply(&mut self, entry: &Entry<'_>, outcomes: &mut Outcomes) -> Result<(), ApplyError> {
        let commit = self.raft.commit();
        if entry.position.index > commit {
            return Err(ApplyError::NotCommitted { commit });
        }
        if self.faults.has(Fault::EvictionByOwnClock)
            && matches!(Command::decode(entry.payload), Ok(Command::EvictProducers { .. }))
            && entry.kind == Kind::Command
        {
            let own = LogTime(self.clock.wall_us(self.now, self.node));
            let mut buffer = [0; MAX_COMMAND_LEN];
            let len = Command::EvictProducers { before: self.state.idle_before(own) }.encode(&mut buffer);
            return self.state.apply(&Entry { payload: &buffer[..len], ..*entry }, outcomes);
        }
        self.state.apply(entry, outcomes)
    }

    /// Puts the rows of the snapshot that [`Output::InstallSnapshot`] has asked for into the place of the applied state: all of
    /// them, in ascending order of their keys.
    ///
    /// # Errors
    ///
    /// The rows are damaged, or of another snapshot. The applied state is gone: this replica is to be dropped. What is on
    /// the disk is as it was.
    pub fn install_snapshot<'a>(
        &mut self,
        now: Instant,
        last: LogPosition,
        rows: impl IntoIterator<Item = (RowKey, &'a [u8])>,
    ) -> Result<(), RestoreError> {
        self.now = now;
        self.state.clear();
        let mut meta = None;
        for (key, value) in rows {
            meta = self.state.restore_row(key, value)?.or(meta);
        }
        let meta = meta.filter(|meta| meta.applied == last).ok_or(RestoreError::MetaMissing)?;
        self.state.restore_rest(&meta)?;
        self.clock.follow(self.state.log_time);
        self.given_out = last.index;
        self.raft.handle_installed(now, self.state.members.placed());
        self.settle();
        Ok(())
    }

    /// The command that this node, which leads, ought to [propose](Self::propose_command) by itself: nobody waits for its
    /// outcome. To be asked after entries were applied; it is not given again at once, so whoever cannot propose it now
    /// need not keep it.
    ///
    /// It evicts producers, if the table of them is nearly full ([`EVICTION_SHARE`](crate::config::EVICTION_SHARE)) and some
    /// were idle for as long as the cluster's parameters say.
    pub fn poll_command(&mut self, now: Instant) -> Option<Command> {
        if self.raft.role() != Role::Leader {
            return None;
        }
        self.eviction.poll(now, &self.state)
    }

    /// The next row of the applied state that has changed since it was last polled, its value in the front of
    /// `buffer`. The last row is [`RowKey::Meta`]; then there is nothing until something was applied.
    ///
    /// All rows up to and with that one are written in one atomic batch, after the log entries that were written
    /// before: a checkpoint is never ahead of the node's own log.
    pub fn poll_row(&mut self, buffer: &mut [u8; MAX_ROW_LEN]) -> Option<Row> {
        self.state.poll_row(buffer)
    }
}

/// Getters.
impl<M: Memory> Replica<M> {
    /// The consensus part: role, term, leader, commit index, progress of the others.
    #[must_use]
    pub const fn raft(&self) -> &Raft {
        &self.raft
    }

    /// What is accepted.
    #[must_use]
    pub const fn parameters(&self) -> &Parameters {
        &self.state.parameters
    }

    /// The last entry that was applied.
    #[must_use]
    pub const fn applied(&self) -> LogPosition {
        self.state.applied
    }

    /// The log time of the last entry that was applied.
    #[must_use]
    pub const fn applied_log_time(&self) -> LogTime {
        self.state.log_time
    }

    /// The log time of the last entry of the log.
    #[must_use]
    pub const fn last_log_time(&self) -> LogTime {
        self.clock.last()
    }

    /// Whether the wall clocks of a majority agree, as far as this node knows, so that log time can follow them. Only a
    /// leader hears the others' clocks.
    #[must_use]
    pub fn clocks_agree(&self, now: Instant) -> bool {
        self.clock.agreed(now, self.majority()).is_some()
    }

    /// The hash of the applied state: equal on all nodes that have applied the same entries.
    #[must_use]
    pub fn state_hash(&self) -> u64 {
        self.state.hash()
    }

    /// Events accepted, ever.
    #[must_use]
    pub const fn events(&self) -> u64 {
        self.state.events
    }

    /// All topics, by number.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = &Topic> {
        self.state.topics.iter()
    }

    /// The number of the topic with this name, if an event of it was ever accepted.
    #[must_use]
    pub fn find_topic(&self, name: &str) -> Option<TopicId> {
        self.state.topics.find(name)
    }

    /// The topic with this number, as [`find_topic`](Self::find_topic) or an outcome gave it.
    ///
    /// # Panics
    ///
    /// If this replica has no such topic.
    #[must_use]
    pub fn topic(&self, id: TopicId) -> &Topic {
        self.state.topics.topic(id)
    }

    /// All producers that are remembered, by number.
    pub fn producers(&self) -> impl Iterator<Item = &Producer> {
        self.state.producers.iter()
    }

    /// How many these are.
    #[must_use]
    pub const fn producer_count(&self) -> u32 {
        self.state.producers.len()
    }

    /// What is remembered of a producer.
    #[must_use]
    pub fn find_producer(&self, id: ProducerId) -> Option<&Producer> {
        self.state.producers.find(id)
    }
}

impl<M: Memory> fmt::Debug for Replica<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replica")
            .field("node", &self.node)
            .field("role", &self.raft.role())
            .field("term", &self.raft.term())
            .field("members", &format_args!("{}", self.raft.configuration()))
            .field("commit", &self.raft.commit())
            .field("applied", &self.state.applied)
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}
