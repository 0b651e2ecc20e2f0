//! The loop that owns the replica: drain inputs, step, drain outputs.
//!
//! What the replica wants is acted on before anything is proposed: a term's empty entry is to be in the tail before the
//! entries that follow it.
//!
//! A step never waits. What it cannot give away yet it keeps, and takes no new input until that is gone; what storage
//! and the reader report is always taken, since that is what makes room.

mod apply;
mod checkpoint;
mod feed;
mod follow;
mod inputs;
mod intake;
mod outputs;
mod requests;
mod stop;
#[cfg(test)]
mod tests;

use apply::Replay;
use checkpoint::Checkpoints;
use intake::Intake;
use stop::Stop;

use super::NodeError;
use super::acks::Acks;
use super::clients::Clients;
use super::counters::Counters;
use super::event::Event;
use super::journal::Journal;
use super::mailbox::{Bell, EVENTS, Inbox};
use super::memory::{Packer, Pools, Shortage};
use super::notice::Notice;
use super::peers::Peers;
use super::reader::{ReadError, Reader};
use super::state::NodeReplica;
use super::subscriptions::Subscriptions;
use super::tail::Tail;
use super::waiting::Waiting;
use crate::clock::Clock;
use crate::identity::Identity;
use crate::storage;
use core::pin::Pin;
use core::sync::atomic::AtomicBool;
use eventstream_core::id::{Index, NodeId, Term};
use eventstream_core::time::{Duration, Instant};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use tokio::sync::Notify;
use tokio::time::Sleep;

/// A client that has waited this long hears that the outcome is unknown.
const CLIENT_PATIENCE: Duration = Duration::from_secs(5);
/// The replica is told the wall clock this often.
const WALL_CLOCK_EVERY: Duration = Duration::from_secs(1);

/// What an engine is made of.
pub(crate) struct Parts {
    pub(crate) clock: Clock,
    pub(crate) identity: Arc<Identity>,
    pub(crate) replica: NodeReplica,
    /// The log on disk, for terms that the replica does not remember.
    pub(crate) store: storage::Reader,
    /// The last entry of the log on disk.
    pub(crate) last: Index,
    pub(crate) journal: Journal,
    pub(crate) reader: Reader,
    pub(crate) from_clients: Inbox<Event, EVENTS>,
    pub(crate) from_peers: Inbox<Event, EVENTS>,
    pub(crate) clients: Clients,
    pub(crate) peers: Peers,
    pub(crate) pools: Pools,
    pub(crate) client_pool_bytes: usize,
    pub(crate) checkpoint_every: Duration,
    pub(crate) counters: Arc<Counters>,
    pub(crate) bell: Arc<Bell>,
    pub(crate) sleeper: Arc<Notify>,
    /// Set when the node is to stop.
    pub(crate) asked: Arc<AtomicBool>,
    /// For whoever started the node.
    pub(crate) notices: SyncSender<Notice>,
}

/// Everything that one node decides with.
pub(crate) struct Engine {
    clock: Clock,
    started: Instant,
    /// The time of this step.
    now: Instant,
    identity: Arc<Identity>,
    replica: NodeReplica,
    store: storage::Reader,
    journal: Journal,
    reader: Reader,
    from_clients: Inbox<Event, EVENTS>,
    from_peers: Inbox<Event, EVENTS>,
    clients: Clients,
    peers: Peers,
    pools: Pools,
    tail: Tail,
    intake: Intake,
    acks: Acks,
    replay: Replay,
    subscriptions: Subscriptions,
    /// Where what goes to one topic's subscribers is cut out of an entry.
    excerpts: Packer,
    checkpoints: Checkpoints,
    /// When the replica is told the wall clock next.
    next_wall_clock: Instant,
    /// The latest term, and who leads it, as clients were told.
    leader: (Term, Option<NodeId>),
    counters: Arc<Counters>,
    bell: Arc<Bell>,
    sleeper: Arc<Notify>,
    stop: Stop,
    waiting: Waiting,
}

impl Engine {
    /// An engine at the start of a node.
    pub(crate) fn new(parts: Parts) -> Self {
        let now = parts.clock.now();
        let applied = parts.replica.applied().index;
        Self {
            started: now,
            now,
            tail: Tail::new(parts.last, parts.client_pool_bytes / 4),
            intake: Intake::new(parts.pools.entries, parts.client_pool_bytes / 2),
            acks: Acks::default(),
            replay: Replay::new(applied),
            subscriptions: Subscriptions::default(),
            excerpts: Packer::new(parts.pools.feeds),
            checkpoints: Checkpoints::new(now, parts.checkpoint_every, applied, &parts.identity.parameters),
            leader: (parts.replica.raft().term(), None),
            next_wall_clock: now,
            stop: Stop::new(parts.asked),
            waiting: Waiting::new(parts.notices, now, parts.last == Index::ZERO),
            clock: parts.clock,
            identity: parts.identity,
            replica: parts.replica,
            store: parts.store,
            journal: parts.journal,
            reader: parts.reader,
            from_clients: parts.from_clients,
            from_peers: parts.from_peers,
            clients: parts.clients,
            peers: parts.peers,
            pools: parts.pools,
            counters: parts.counters,
            bell: parts.bell,
            sleeper: parts.sleeper,
        }
    }
}

/// Whether a step left something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// Nothing to do until something comes or is due.
    Idle,
    /// More input waits, or more can be applied or fed.
    More,
    /// The loop is to end.
    Stopped,
}

impl Engine {
    /// Runs until the node is stopped.
    ///
    /// # Errors
    /// Why the node cannot go on.
    pub(crate) async fn run(mut self) -> Result<(), NodeError> {
        let mut timer = Box::pin(tokio::time::sleep(core::time::Duration::ZERO));
        loop {
            let progress = match self.step() {
                Ok(progress) => progress,
                Err(error) => return Err(self.fail(error)),
            };
            match progress {
                Progress::More => tokio::task::yield_now().await,
                Progress::Idle => self.sleep(timer.as_mut()).await,
                Progress::Stopped => return self.finish(),
            }
        }
    }

    /// One round: what came in, what is due, what is to be done about it.
    fn step(&mut self) -> Result<Progress, NodeError> {
        self.now = self.clock.now();
        self.clients.set_now(self.now);
        self.take_reports()?;
        self.take_pieces()?;
        self.act();
        if self.stop.is_new() {
            self.begin_to_stop();
        }
        self.close_if_handed_over();
        if self.stop.is_closing() {
            self.flush();
            return Ok(self.progress());
        }
        if self.flush_to_sockets() {
            // Neither what is due nor other nodes wait for storage: a leader whose disk stalls still leads.
            self.take_peer_events()?;
            self.take_due();
            self.act();
        }
        if self.flush() {
            self.take_client_events()?;
            self.submit_waiting();
            self.submit_joined();
            self.propose_own_command();
            self.act();
        }
        self.apply_committed()?;
        self.feed_hungry();
        self.release();
        self.flush();
        match self.store.failure() {
            Some(error) => Err(NodeError::Read(ReadError::Term(error.to_string()))),
            None => Ok(self.progress()),
        }
    }

    /// Gives away what is kept for others. Returns whether nothing is kept any more.
    fn flush(&mut self) -> bool {
        let to_storage = self.journal.flush();
        self.flush_to_sockets() && to_storage
    }

    /// Gives away what is kept for sockets. Returns whether nothing is kept for them any more.
    fn flush_to_sockets(&mut self) -> bool {
        let to_clients = self.clients.outbox.flush();
        let to_peers = self.peers.outbox.flush();
        to_clients && to_peers
    }

    /// The last entry applied.
    fn applied(&self) -> Index {
        self.replica.applied().index
    }

    /// Lets go of what nobody needs from memory any more.
    fn release(&mut self) {
        let durable = self.replica.raft().durable();
        let done = durable.min(self.applied()).min(self.journal.visible());
        let shortage = self.pools.shortage();
        // The window counts what the index does not show yet: a full one must not wait for writes that only it lets in.
        if !self.pools.can_lend() || !self.is_window_open() {
            self.journal.show_rows();
        }
        if self.pools.clients_hold_most() {
            self.clients.part_with_slowest();
        }
        match shortage {
            Shortage::None => self.tail.release(done, false),
            Shortage::Some => self.tail.release(done, true),
            // What is not applied yet will be read again: better than to stop hearing what is committed.
            Shortage::Severe => self.tail.release(durable, true),
        }
        self.replay.forget_before(self.tail.first().unwrap_or(self.tail.end()));
    }

    fn progress(&self) -> Progress {
        if self.stop.is_over() {
            Progress::Stopped
        } else if self.has_input() || !self.stop.is_closing() && self.has_work() {
            Progress::More
        } else {
            Progress::Idle
        }
    }

    /// Whether something that has come in can be taken further.
    fn has_work(&self) -> bool {
        self.can_submit() || self.can_apply() || self.can_feed()
    }

    /// Sleeps until something comes in, there is room again, or something is due.
    async fn sleep(&mut self, timer: Pin<&mut Sleep>) {
        self.bell.arm();
        if !self.has_input() && !self.has_room_again() {
            self.sleep_until_rung_or_due(timer).await;
        }
        self.bell.disarm();
    }

    async fn sleep_until_rung_or_due(&self, mut timer: Pin<&mut Sleep>) {
        match self.clock.deadline(self.next_deadline()) {
            Some(deadline) => {
                timer.as_mut().reset(tokio::time::Instant::from_std(deadline));
                tokio::select! {
                    () = self.sleeper.notified() => {}
                    () = timer => {}
                }
            }
            None => self.sleeper.notified().await,
        }
    }
}
