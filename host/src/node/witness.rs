//! The loop of a witness, in the place of the [engine](super::engine): what other nodes say goes to the replica, its terms to
//! the disk, its answers to the other nodes. Clients hear who leads, and how the witness is.
//!
//! It has no log, no tail, no topics and no reader: it is told terms, and keeps those ([`storage`](crate::storage::Terms)).

use super::NodeError;
use super::clients::Clients;
use super::counters::Counters;
use super::event::{Command, ConnId, Event, Role};
use super::legal::payload;
use super::mailbox::{Bell, EVENTS, Inbox};
use super::memory::{OwnFrame, Shortage};
use super::notice::Notice;
use super::peers::{Append, Loss, Misstep, Peers};
use super::state::NodeReplica;
use super::tail::Tail;
use super::telling::{self, Condition, Leader};
use super::waiting::Waiting;
use crate::clock::Clock;
use crate::identity::Identity;
use crate::storage::{Terms, TermsReport, TermsWriter};
use core::pin::Pin;
use core::sync::atomic::{AtomicBool, Ordering};
use eventstream_core::id::{Index, NodeId, Term};
use eventstream_core::raft::Persist;
use eventstream_core::replica::Output;
use eventstream_core::time::{Duration, Instant};
use eventstream_core::wire::{About, Control, Header, Kind, LeaderChanged, Pong, Refusal};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use tokio::sync::Notify;
use tokio::time::Sleep;

/// Events taken from each ring in one step.
const EVENTS_AT_ONCE: usize = 256;
/// The replica is told the wall clock this often.
const WALL_CLOCK_EVERY: Duration = Duration::from_secs(1);

/// What a witness is made of.
pub(crate) struct WitnessParts {
    pub(crate) clock: Clock,
    pub(crate) identity: Arc<Identity>,
    pub(crate) replica: NodeReplica,
    /// What is on disk.
    pub(crate) terms: Terms,
    pub(crate) writer: TermsWriter,
    pub(crate) from_clients: Inbox<Event, EVENTS>,
    pub(crate) from_peers: Inbox<Event, EVENTS>,
    pub(crate) clients: Clients,
    pub(crate) peers: Peers,
    pub(crate) counters: Arc<Counters>,
    pub(crate) bell: Arc<Bell>,
    pub(crate) sleeper: Arc<Notify>,
    /// Set when the node is to stop.
    pub(crate) asked: Arc<AtomicBool>,
    /// For whoever started the node.
    pub(crate) notices: SyncSender<Notice>,
}

/// Everything that a witness decides with.
pub(crate) struct Witness {
    clock: Clock,
    started: Instant,
    /// The time of this step.
    now: Instant,
    identity: Arc<Identity>,
    replica: NodeReplica,
    /// What is on disk when all that was handed out is written.
    terms: Terms,
    writer: TermsWriter,
    from_clients: Inbox<Event, EVENTS>,
    from_peers: Inbox<Event, EVENTS>,
    clients: Clients,
    peers: Peers,
    /// Of no entries: none are ever sent.
    tail: Tail,
    /// When the replica is told the wall clock next.
    next_wall_clock: Instant,
    leader: Leader,
    counters: Arc<Counters>,
    bell: Arc<Bell>,
    sleeper: Arc<Notify>,
    asked: Arc<AtomicBool>,
    stage: Stage,
    waiting: Waiting,
}

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The node works.
    Running,
    /// The terms are being written for the last time.
    Closing,
    /// They are on disk.
    Over,
}

impl Witness {
    /// A witness at the start of its node.
    pub(crate) fn new(parts: WitnessParts) -> Self {
        let now = parts.clock.now();
        let is_new = parts.terms.last().index == Index::ZERO;
        Self {
            started: now,
            now,
            tail: Tail::new(Index::ZERO, 0),
            leader: (parts.replica.raft().term(), None),
            next_wall_clock: now,
            stage: Stage::Running,
            waiting: Waiting::new(parts.notices, now, is_new),
            clock: parts.clock,
            identity: parts.identity,
            replica: parts.replica,
            terms: parts.terms,
            writer: parts.writer,
            from_clients: parts.from_clients,
            from_peers: parts.from_peers,
            clients: parts.clients,
            peers: parts.peers,
            counters: parts.counters,
            bell: parts.bell,
            sleeper: parts.sleeper,
            asked: parts.asked,
        }
    }

    /// Runs until the node is stopped.
    ///
    /// # Errors
    /// Why the node cannot go on.
    pub(crate) async fn run(mut self) -> Result<(), NodeError> {
        let mut timer = Box::pin(tokio::time::sleep(core::time::Duration::ZERO));
        while self.stage != Stage::Over {
            if let Err(error) = self.step() {
                return Err(self.fail(error));
            }
            if self.has_input() {
                tokio::task::yield_now().await;
            } else {
                self.sleep(timer.as_mut()).await;
            }
        }
        self.writer.join().map_err(NodeError::Storage)
    }

    /// One round: what came in, what is due, what is to be done about it.
    fn step(&mut self) -> Result<(), NodeError> {
        self.now = self.clock.now();
        self.clients.set_now(self.now);
        self.take_reports()?;
        self.act();
        if self.stage == Stage::Running && self.asked.load(Ordering::Acquire) {
            self.close();
        }
        if self.stage == Stage::Running && self.flush() {
            self.take_events()?;
            self.take_due();
            self.act();
        }
        self.flush();
        Ok(())
    }

    /// What the writer has to say.
    fn take_reports(&mut self) -> Result<(), NodeError> {
        while self.stage != Stage::Over
            && let Some(report) = self.writer.poll()
        {
            match report {
                TermsReport::Persisted(token) => self.replica.handle_persisted(self.now, token),
                TermsReport::Ended if self.stage == Stage::Closing => self.stage = Stage::Over,
                // Why is known when the thread is joined.
                TermsReport::Ended => return Err(NodeError::Panicked),
            }
        }
        Ok(())
    }

    fn take_events(&mut self) -> Result<(), NodeError> {
        for _ in 0..EVENTS_AT_ONCE {
            let Some(event) = self.from_peers.pop() else { break };
            self.take_peer_event(event);
        }
        for _ in 0..EVENTS_AT_ONCE {
            let Some(event) = self.from_clients.pop() else { break };
            self.take_client_event(event);
        }
        self.from_peers.made_room();
        self.from_clients.made_room();
        if self.from_peers.is_over() || self.from_clients.is_over() { Err(NodeError::Panicked) } else { Ok(()) }
    }

    fn take_due(&mut self) {
        if self.replica.next_deadline() <= self.now {
            self.replica.handle_timeout(self.now);
        }
        if self.next_wall_clock <= self.now {
            self.next_wall_clock = self.now + WALL_CLOCK_EVERY;
            self.replica.set_wall_clock(self.now, self.clock.wall().0);
            self.waiting.tell(self.now, self.replica.raft(), &self.peers);
        }
    }

    /// Acts on every output.
    ///
    /// # Panics
    /// If the replica wants what only a leader can, or has something to apply: a witness never does.
    fn act(&mut self) {
        while let Some(output) = self.replica.poll_output(&self.terms) {
            match output {
                Output::Persist(persist) => self.write(&persist),
                Output::Send(message) => {
                    // No entries go with what a witness says, so nothing has to be read for it.
                    let _ = self.peers.send(&message, &self.tail, Shortage::None);
                }
                Output::Leader { term, leader } => self.leader_changed(term, leader),
                Output::AppendEmpty(_)
                | Output::AppendConfiguration(_)
                | Output::Apply { .. }
                | Output::InstallSnapshot(_)
                | Output::ReadIndex { .. } => unreachable!("a witness neither leads nor applies: {output:?}"),
            }
        }
    }

    /// Writes what the replica wants durable.
    fn write(&mut self, persist: &Persist) {
        assert_eq!(persist.install, None, "nobody sends a snapshot, since logs of this host begin at the beginning");
        let raft = self.replica.raft();
        if let Some(hard_state) = persist.hard_state {
            self.terms.set_hard_state(hard_state);
        }
        if let Some(from) = persist.truncate_from {
            self.terms.truncate(from);
        }
        if let Some((mut first, last)) = persist.append {
            while first <= last {
                let run =
                    raft.entry_run(first, last, &self.terms).expect("the terms of what is to be written are known");
                self.terms.append(run);
                first = run.index.next();
            }
        }
        let membership = raft.membership();
        self.terms.set_configurations([*membership.before(), *membership.latest()]);
        self.writer.write(persist.token, self.terms.clone());
    }

    fn leader_changed(&mut self, term: Term, leader: Option<NodeId>) {
        self.leader = (term, leader);
        let told = Control::LeaderChanged(LeaderChanged { term, leader });
        let connections: Vec<_> = self.clients.connections().collect();
        connections.into_iter().for_each(|conn| {
            self.clients.say(conn, &told);
        });
    }
}

/// Other nodes.
impl Witness {
    fn take_peer_event(&mut self, event: Event) {
        match event {
            Event::Opened { conn, role: Role::Link(node) } => {
                self.peers.link_opened(node, conn);
                self.replica.handle_connected(self.now, node);
            }
            Event::Opened { conn, role: Role::Inbound(node) } => {
                if self.peers.inbound_opened(node, conn) {
                    self.replica.handle_reset(self.now, node);
                }
                telling::welcome(&self.identity, self.leader, |welcome| self.peers.say(conn, welcome));
            }
            Event::Opened { role: Role::Client, .. } | Event::Lost { .. } => {}
            Event::Frame { conn, header, bytes, .. } => {
                match self.peers.take_frame(conn, self.identity.node, self.now, &header, bytes) {
                    Ok(Some(append)) => self.follow(conn, &append),
                    Ok(None) => {}
                    Err(misstep) => self.part_with_peer(conn, misstep),
                }
            }
            Event::Sent { conn, bytes } => {
                let _ = self.peers.sent(conn, bytes, &self.tail, Shortage::None);
            }
            Event::Closed { conn } => {
                let loss = self.peers.closed(conn);
                self.take_loss(loss);
            }
            Event::Reset { peer } => {
                if self.peers.gone(peer) {
                    self.replica.handle_reset(self.now, peer);
                }
            }
        }
    }

    /// A message is whole. One that makes no sense costs the connection.
    fn follow(&mut self, conn: ConnId, append: &Append) {
        // What goes with terms is no entry to be kept.
        let handled = self.replica.handle_message(self.now, &append.message, &[], &append.configurations, &self.terms);
        if handled.is_err() {
            self.part_with_peer(conn, Misstep::OutOfStep);
        }
        self.act();
    }

    fn part_with_peer(&mut self, conn: ConnId, misstep: Misstep) {
        let loss = self.peers.part_with(conn, misstep);
        self.take_loss(loss);
    }

    fn take_loss(&mut self, loss: Option<Loss>) {
        match loss {
            Some(Loss::Link(node)) => self.replica.handle_disconnected(self.now, node),
            Some(Loss::Process(node)) => self.replica.handle_reset(self.now, node),
            None => {}
        }
    }
}

/// Clients.
impl Witness {
    fn take_client_event(&mut self, event: Event) {
        match event {
            Event::Opened { conn, .. } => {
                self.clients.open(conn);
                telling::welcome(&self.identity, self.leader, |welcome| {
                    self.clients.say(conn, welcome);
                });
            }
            Event::Frame { conn, header, bytes, .. } => self.take_request(conn, &header, &bytes),
            Event::Sent { conn, bytes } => self.clients.sent(conn, bytes),
            Event::Lost { conn } => self.clients.lost(conn),
            Event::Closed { conn } => {
                self.clients.close(conn);
            }
            Event::Reset { .. } => {}
        }
    }

    /// A frame of a client. What lies behind the one that cost a client its connection is not heard.
    fn take_request(&mut self, conn: ConnId, header: &Header, frame: &OwnFrame) {
        if !self.clients.is_open(conn) {
            return;
        }
        let not_leader = telling::not_leader(&self.identity, self.leader);
        if header.kind == Kind::Batch {
            return self.clients.refuse(conn, About::Batch(header.batch_id), not_leader);
        }
        match Control::decode(header.kind, payload(frame)) {
            Ok(Control::OpenProducer(it)) => self.clients.refuse(conn, About::Request(it.request), not_leader),
            Ok(Control::Subscribe(it)) => {
                self.clients.refuse(conn, About::Subscription(it.subscription), Refusal::Witness);
            }
            // It has none.
            Ok(Control::Unsubscribe(_)) => {}
            Ok(Control::TopicRequest(it)) => self.clients.refuse(conn, About::Request(it.request), Refusal::Witness),
            Ok(Control::TopicListRequest(it)) => {
                self.clients.refuse(conn, About::Request(it.request), Refusal::Witness)
            }
            Ok(Control::StatusRequest(_)) => self.tell_status(conn),
            Ok(Control::CountersRequest(it)) => telling::tell_counters(&mut self.clients, &self.counters, conn, it),
            Ok(Control::Ping(ping)) => {
                self.clients.say(conn, &Control::Pong(Pong { number: ping.number }));
            }
            Ok(_) => self.part_with(conn, Refusal::Unexpected),
            Err(_) => self.part_with(conn, Refusal::Malformed),
        }
    }

    fn tell_status(&mut self, conn: ConnId) {
        let Self { identity, replica, peers, leader, now, started, clients, .. } = self;
        let condition = Condition { identity, replica, peers, leader: *leader, now: *now, started: *started };
        condition.tell(|status| {
            clients.say(conn, status);
        });
    }

    fn part_with(&mut self, conn: ConnId, reason: Refusal) {
        self.clients.refuse(conn, About::Connection, reason);
        self.clients.disconnect(conn);
    }
}

/// Its end, and its sleep.
impl Witness {
    /// Takes part no more: other nodes are left at once, clients when everything is on disk.
    fn close(&mut self) {
        self.stage = Stage::Closing;
        self.clients.outbox.send(Command::Leave);
        self.peers.outbox.send(Command::Leave);
        self.writer.stop();
    }

    /// The node cannot go on. If storage failed, it says why.
    fn fail(self, error: NodeError) -> NodeError {
        match (error, self.writer.join()) {
            (NodeError::Panicked, Err(cause)) => NodeError::Storage(cause),
            (error, _) => error,
        }
    }

    /// Gives away what is kept for sockets. Returns whether nothing is kept any more.
    fn flush(&mut self) -> bool {
        let to_clients = self.clients.outbox.flush();
        let to_peers = self.peers.outbox.flush();
        to_clients && to_peers
    }

    /// Whether something waits that would be taken.
    fn has_input(&self) -> bool {
        let is_blocked = self.clients.outbox.is_blocked() || self.peers.outbox.is_blocked();
        let has_event = !(is_blocked || self.from_clients.is_empty() && self.from_peers.is_empty());
        let is_running = self.stage == Stage::Running;
        self.stage == Stage::Over
            || self.writer.has_report()
            || is_running && (has_event || self.asked.load(Ordering::Acquire))
    }

    /// Whether something that is kept finds room now. If not, whoever makes room wakes this task.
    fn has_room_again(&self) -> bool {
        // Both are asked: asking arms their bells.
        let to_clients = self.clients.outbox.has_room_again();
        let to_peers = self.peers.outbox.has_room_again();
        to_clients || to_peers
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
        let due = match self.stage {
            Stage::Running => self.replica.next_deadline().min(self.next_wall_clock),
            Stage::Closing | Stage::Over => Instant::FAR_FUTURE,
        };
        match self.clock.deadline(due) {
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
