//! Everything that a client knows, in one place, without I/O: who leads, which nodes are connected, what every producer
//! has under way.
//!
//! The links feed it with what they read and ask it what to write. It decides over which of them producers publish: over
//! the one to the leader of the highest term that any node has told of. Whenever that changes, be it another leader,
//! another term or merely another connection, everything that was not answered goes over the new route from the start.

use super::error::{Failure, LinkError, OpenError, ProtocolError, PublishError};
use super::leadership::Leadership;
use super::receipt::Place;
use super::window::{Answer, Limits, Numbering, PushError, Window, earlier};
use super::{Start, encode};
use eventstream_core::id::{ClusterId, NodeId, ProducerId, Sequence, Term};
use eventstream_core::receipt::RunReceipt;
use eventstream_core::time::{Duration, Instant};
use eventstream_core::wire::{About, Control, OpenProducer, ProducerOpened, Refusal, Refused, Welcome};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::{Notify, oneshot};

#[cfg(test)]
mod tests;

/// Producers of one client, at most: their number is in the upper bits of a batch's id.
pub(super) const MAX_PRODUCERS: usize = 1 << 15;
/// The rest of the id counts the transmissions of that producer.
const TRANSMISSION_BITS: u32 = 48;
/// Nodes that one client connects to, at most: those that it was given and those that it has learned of.
pub(super) const MAX_LINKS: usize = 16;
/// A refused request is asked again after this.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// How tasks that wait for a producer are woken.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// There may be room in the window.
    pub(super) room: Notify,
    /// There may be something to fetch, or everything was answered.
    pub(super) answered: Notify,
}

/// The number of a producer within its client.
pub(super) type Number = usize;
/// Where one waits for the answer to one event.
pub(super) type Waiter = oneshot::Sender<Answer>;
/// What a producer learns when it is opened.
pub(super) type Opened = Result<(Number, Arc<Signals>), OpenError>;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Hub {
    limits: Limits,
    cluster: Option<ClusterId>,
    leadership: Leadership,
    links: Vec<Link>,
    /// The members that the latest welcome named, and where they listen.
    members: Vec<(NodeId, String)>,
    route: Option<Route>,
    connections: u64,
    producers: Vec<Producer>,
    /// Producers that may have something to send, each once.
    ready: VecDeque<Number>,
    in_flight_bytes: usize,
    openings: Vec<Opening>,
    next_request: u64,
    /// Runs of the receipt in hand.
    runs: Vec<RunReceipt>,
    /// The route's link is to be woken.
    wake: bool,
    /// What the timer waits for, ...
    armed: Instant,
    /// ... and whether that has changed, or there is a new link.
    rearm: bool,
}

/// One node, as far as the client is concerned.
#[derive(Debug)]
struct Link {
    address: String,
    node: Option<NodeId>,
    connection: Option<Connection>,
    last_error: Option<String>,
}

#[derive(Clone, Copy, Debug)]
struct Connection {
    number: u64,
    max_inflight: usize,
}

/// What producers publish over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Route {
    term: Term,
    link: usize,
    connection: u64,
}

#[derive(Debug, Default)]
struct Producer {
    /// The next transmission of whoever has this number, so that an answer to its former holder is never mistaken.
    transmissions: u64,
    active: Option<Active>,
}

#[derive(Debug)]
struct Active {
    window: Window<Waiter>,
    signals: Arc<Signals>,
    is_ready: bool,
}

/// A producer that waits for its epoch.
#[derive(Debug)]
struct Opening {
    producer: ProducerId,
    start: Start,
    /// The number of its latest transmission; zero if that was given up. An answer to an earlier one is worthless: the
    /// later one fences its epoch.
    request: u64,
    not_before: Option<Instant>,
    deadline: Instant,
    refusal: Option<Refusal>,
    reply: oneshot::Sender<Opened>,
}

// --- links ---------------------------------------------------------------------------------------------------------

impl Hub {
    pub(super) fn new(limits: Limits, servers: &[String]) -> Self {
        let mut hub = Self {
            limits,
            cluster: None,
            leadership: Leadership::default(),
            links: Vec::new(),
            members: Vec::new(),
            route: None,
            connections: 0,
            producers: Vec::new(),
            ready: VecDeque::new(),
            in_flight_bytes: 0,
            openings: Vec::new(),
            next_request: 1,
            runs: Vec::new(),
            wake: false,
            armed: Instant::FAR_FUTURE,
            rearm: false,
        };
        servers.iter().for_each(|server| hub.add_link(server.clone()));
        hub
    }

    fn add_link(&mut self, address: String) {
        self.links.push(Link { address, node: None, connection: None, last_error: None });
        self.rearm = true;
    }

    /// How many links there are: they are numbered from zero, and none ever goes.
    pub(super) fn link_count(&self) -> usize {
        self.links.len()
    }

    /// Where a link leads to.
    pub(super) fn address(&self, link: usize) -> &str {
        &self.links[link].address
    }

    /// The cluster, once a node has told it.
    pub(super) fn cluster(&self) -> Option<ClusterId> {
        self.cluster
    }

    /// Each server, and what was last heard of it: for people.
    pub(super) fn describe(&self) -> String {
        let describe = |link: &Link| {
            let state = match (&link.connection, &link.last_error) {
                (Some(_), _) => "connected",
                (None, Some(error)) => error,
                (None, None) => "no answer yet",
            };
            format!("{}: {state}", link.address)
        };
        self.links.iter().map(describe).collect::<Vec<_>>().join("; ")
    }

    /// Who leads, and the term.
    pub(super) fn leader(&self) -> Option<(Term, NodeId)> {
        self.leadership.leader()
    }

    /// A node has accepted a link's new connection.
    ///
    /// # Errors
    ///
    /// If it belongs to another cluster; the link is then not to be used.
    pub(super) fn handle_welcome(&mut self, now: Instant, link: usize, welcome: &Welcome<'_>) -> Result<(), LinkError> {
        let expected = *self.cluster.get_or_insert(welcome.cluster);
        if expected != welcome.cluster {
            return Err(LinkError::OtherCluster { expected, found: welcome.cluster });
        }
        self.connections += 1;
        let entry = &mut self.links[link];
        entry.node = Some(welcome.node);
        entry.connection = Some(Connection { number: self.connections, max_inflight: welcome.max_inflight as usize });
        self.leadership.handle_leader(welcome.term, welcome.leader);
        self.members = welcome.members.iter().map(|member| (member.node, member.address.to_owned())).collect();
        self.link_members();
        self.reroute(now);
        Ok(())
    }

    /// A link's connection has ended, or could not be made.
    pub(super) fn handle_disconnected(&mut self, now: Instant, link: usize, error: &LinkError) {
        self.links[link].connection = None;
        self.links[link].last_error = Some(error.to_string());
        self.link_members();
        self.reroute(now);
    }

    /// Members that no link leads to get one, once every server that was given has been heard of: before that, an
    /// unknown member may well be one of those under another address.
    fn link_members(&mut self) {
        if self.links.iter().any(|link| link.node.is_none() && link.last_error.is_none()) {
            return;
        }
        for (node, address) in core::mem::take(&mut self.members) {
            let known = |link: &Link| link.node == Some(node) || link.address == address;
            if !self.links.iter().any(known) && self.links.len() < MAX_LINKS {
                self.add_link(address);
            }
        }
    }

    /// Takes the best route that there is now. If that is another one, everything is sent again.
    fn reroute(&mut self, now: Instant) {
        let route = self.best_route();
        if route == self.route {
            return;
        }
        self.route = route;
        for opening in &mut self.openings {
            (opening.request, opening.not_before) = (0, None);
        }
        for number in 0..self.producers.len() {
            self.with_window(now, number, |window| match route {
                Some(_) => window.handle_connected(),
                None => window.handle_disconnected(),
            });
        }
        (self.wake, self.rearm) = (true, true);
    }

    fn best_route(&self) -> Option<Route> {
        let (term, leader) = self.leadership.leader()?;
        self.links.iter().enumerate().find_map(|(link, entry)| {
            let connection = entry.connection.filter(|_| entry.node == Some(leader))?;
            Some(Route { term, link, connection: connection.number })
        })
    }
}

// --- input ---------------------------------------------------------------------------------------------------------

impl Hub {
    /// A node has said something over a link.
    ///
    /// # Errors
    ///
    /// If it breaks the protocol; the connection is then to be closed.
    pub(super) fn handle_control(&mut self, now: Instant, link: usize, control: &Control<'_>) -> Result<(), LinkError> {
        match control {
            Control::LeaderChanged(changed) => {
                self.leadership.handle_leader(changed.term, changed.leader);
                self.reroute(now);
            }
            Control::Receipt(receipt) => {
                let place = Place { index: receipt.index, term: receipt.term, durability: receipt.durability };
                let mut runs = core::mem::take(&mut self.runs);
                runs.clear();
                runs.extend(receipt.runs.iter());
                let number = self.producer_of(receipt.batch);
                let done = number.map(|number| {
                    self.with_window(now, number, |window| window.handle_receipt(now, receipt.batch, place, &runs))
                });
                self.runs = runs;
                done.flatten().unwrap_or(Ok(()))?;
            }
            Control::ProducerOpened(opened) => self.handle_opened(now, opened),
            Control::Refused(refused) => self.handle_refused(now, link, refused)?,
            Control::Pong(_) => {}
            _ => return Err(ProtocolError::Unexpected.into()),
        }
        Ok(())
    }

    /// Time has passed.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.leadership.handle_timeout(now) {
            self.reroute(now);
        }
        for number in 0..self.producers.len() {
            self.with_window(now, number, |window| window.handle_timeout(now));
        }
        let no_leader = || OpenError::NoLeader { servers: self.describe() };
        let has_route = self.route.is_some();
        let overdue: Vec<(usize, OpenError)> = (0..)
            .zip(&self.openings)
            .filter(|(_, opening)| opening.deadline <= now)
            .map(|(at, opening)| match opening.refusal {
                Some(reason) if has_route => (at, OpenError::Refused { reason }),
                None if has_route => (at, OpenError::NoAnswer),
                _ => (at, no_leader()),
            })
            .collect();
        for (at, error) in overdue.into_iter().rev() {
            // A receiver that is gone does not want to know.
            let _ = self.openings.swap_remove(at).reply.send(Err(error));
        }
        self.openings.retain(|opening| !opening.reply.is_closed());
        for opening in &mut self.openings {
            if opening.not_before.take_if(|at| *at <= now).is_some() {
                self.wake = true;
            }
        }
    }

    fn handle_opened(&mut self, now: Instant, opened: &ProducerOpened) {
        let Some(at) = self.openings.iter().position(|opening| opening.request == opened.request) else { return };
        let opening = self.openings.swap_remove(at);
        let first = match opening.start {
            Start::Next => opened.next_sequence,
            Start::At(sequence) => sequence,
        };
        let numbering =
            Numbering { producer: opened.producer, epoch: opened.epoch, opened_at: opened.next_sequence, first };
        let answer = self.activate(now, numbering);
        let number = answer.as_ref().ok().map(|(number, _)| *number);
        if opening.reply.send(answer).is_err()
            && let Some(number) = number
        {
            self.close_producer(number);
        }
    }

    fn activate(&mut self, now: Instant, numbering: Numbering) -> Opened {
        let number = match self.producers.iter().position(|producer| producer.active.is_none()) {
            Some(free) => free,
            None if self.producers.len() == MAX_PRODUCERS => {
                return Err(OpenError::TooManyProducers { limit: MAX_PRODUCERS });
            }
            None => {
                let first = ((self.producers.len() as u64) << TRANSMISSION_BITS) + 1;
                self.producers.push(Producer { transmissions: first, active: None });
                self.producers.len() - 1
            }
        };
        let producer = &mut self.producers[number];
        let signals = Arc::new(Signals::default());
        let window = Window::new(numbering, self.limits, producer.transmissions);
        producer.active = Some(Active { window, signals: Arc::clone(&signals), is_ready: false });
        if self.route.is_some() {
            self.with_window(now, number, Window::handle_connected);
        }
        Ok((number, signals))
    }

    fn handle_refused(&mut self, now: Instant, link: usize, refused: &Refused<'_>) -> Result<(), LinkError> {
        // In which term it does not lead, if it has said so at all.
        let over = match refused.reason {
            Refusal::NotLeader { term, leader } => {
                self.leadership.handle_leader(term, leader);
                Some(Some(term))
            }
            Refusal::Stopping => Some(None),
            _ => None,
        };
        if let (Some(term), Some(node)) = (over, self.links[link].node) {
            self.rearm |= self.leadership.handle_refusal(now, node, term);
        }
        match refused.about {
            About::Connection => {
                return Err(LinkError::Refused { reason: refused.reason, detail: refused.detail.to_owned() });
            }
            About::Batch(batch) => self.handle_batch_refused(now, batch, refused.reason),
            About::Request(request) => self.handle_request_refused(now, request, refused.reason),
            About::Subscription(_) => return Err(ProtocolError::Unexpected.into()),
        }
        self.reroute(now);
        Ok(())
    }

    fn handle_batch_refused(&mut self, now: Instant, batch: u64, reason: Refusal) {
        let Some(number) = self.producer_of(batch) else { return };
        self.with_window(now, number, |window| {
            if reason.is_retryable() {
                window.handle_busy(now, batch);
            } else {
                window.handle_refused(batch, Failure::BatchRefused { reason });
            }
        });
    }

    fn handle_request_refused(&mut self, now: Instant, request: u64, reason: Refusal) {
        let Some(at) = self.openings.iter().position(|opening| opening.request == request) else { return };
        if !reason.is_retryable() {
            // A receiver that is gone does not want to know.
            let _ = self.openings.swap_remove(at).reply.send(Err(OpenError::Refused { reason }));
            return;
        }
        let opening = &mut self.openings[at];
        opening.request = 0;
        opening.not_before = Some(now + ASK_AGAIN);
        opening.refusal = Some(reason);
        self.rearm = true;
    }

    fn producer_of(&self, batch: u64) -> Option<Number> {
        let number = usize::try_from(batch >> TRANSMISSION_BITS).ok()?;
        (number < self.producers.len()).then_some(number)
    }
}

// --- commands ------------------------------------------------------------------------------------------------------

impl Hub {
    /// Asks for an epoch for `producer`. The answer comes within the client's patience.
    pub(super) fn open_producer(
        &mut self,
        now: Instant,
        producer: ProducerId,
        start: Start,
    ) -> oneshot::Receiver<Opened> {
        let (reply, receiver) = oneshot::channel();
        let deadline = now + self.limits.patience;
        self.openings.push(Opening { producer, start, request: 0, not_before: None, deadline, refusal: None, reply });
        (self.wake, self.rearm) = (true, true);
        receiver
    }

    /// Forgets a producer, and what it has under way.
    pub(super) fn close_producer(&mut self, number: Number) {
        let producer = &mut self.producers[number];
        if let Some(active) = producer.active.take() {
            producer.transmissions = active.window.next_transmission();
            self.in_flight_bytes -= active.window.in_flight_bytes();
        }
        self.ready.retain(|ready| *ready != number);
    }

    /// Publishes an event: see [`Window::push`].
    pub(super) fn push(
        &mut self,
        now: Instant,
        wall_us: u64,
        number: Number,
        event: (&str, &[u8], &[u8]),
        waiter: &mut Option<Waiter>,
    ) -> Result<Sequence, PushError> {
        let pushed = self.with_window(now, number, |window| {
            let sequence = window.next_sequence();
            window.push(now, wall_us, event, waiter).map(|tell| (sequence, tell))
        });
        let (sequence, tell) = pushed.unwrap_or(Err(PushError::Refused(PublishError::Closed)))?;
        self.wake |= tell;
        Ok(sequence)
    }

    /// Fetches what became of events that nobody in particular waits for.
    pub(super) fn poll_ack(&mut self, now: Instant, number: Number) -> Option<Answer> {
        self.with_window(now, number, Window::poll_ack).flatten()
    }

    /// A producer's window, to look at.
    pub(super) fn window(&self, number: Number) -> Option<&Window<Waiter>> {
        self.producers.get(number)?.active.as_ref().map(|active| &active.window)
    }

    /// Does something to a window, and then all that may follow from it.
    fn with_window<T>(
        &mut self,
        now: Instant,
        number: Number,
        act: impl FnOnce(&mut Window<Waiter>) -> T,
    ) -> Option<T> {
        let active = self.producers.get_mut(number)?.active.as_mut()?;
        let Active { window, signals, is_ready } = active;
        let (had_room, had_acks, unanswered) = (window.has_room(), window.has_acks(), window.unanswered());
        let in_flight = window.in_flight_bytes();
        let result = act(window);
        while let Some((waiter, answer)) = window.poll_answer() {
            // A receiver that is gone does not want to know.
            let _ = waiter.send(answer);
        }
        if window.has_room() && !had_room {
            signals.room.notify_waiters();
        }
        let is_all_answered = window.unanswered() == 0 && unanswered > 0;
        if is_all_answered || (window.has_acks() && !had_acks) {
            signals.answered.notify_waiters();
        }
        self.in_flight_bytes = self.in_flight_bytes + window.in_flight_bytes() - in_flight;
        self.rearm |= window.next_deadline().is_some_and(|deadline| deadline < self.armed);
        if window.wants_to_transmit(now) || window.draft_deadline().is_some() {
            self.wake |= window.wants_to_transmit(now);
            if !core::mem::replace(is_ready, true) {
                self.ready.push_back(number);
            }
        }
        Some(result)
    }
}

// --- output --------------------------------------------------------------------------------------------------------

impl Hub {
    /// The link that is to be woken because there is something to send over it.
    pub(super) fn poll_wake(&mut self) -> Option<usize> {
        let link = self.route.map(|route| route.link)?;
        core::mem::take(&mut self.wake).then_some(link)
    }

    /// Whether the timer is to [`arm`](Self::arm) again, and to look for links that nobody serves yet.
    pub(super) fn poll_rearm(&mut self) -> bool {
        core::mem::take(&mut self.rearm)
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called, unless [`poll_rearm`](Self::poll_rearm) says
    /// something else first.
    pub(super) fn arm(&mut self) -> Instant {
        let windows = self.producers.iter().filter_map(|producer| producer.active.as_ref()?.window.next_deadline());
        let openings = self.openings.iter().filter_map(|opening| earlier(Some(opening.deadline), opening.not_before));
        self.armed =
            windows.chain(openings).chain(self.leadership.next_deadline()).min().unwrap_or(Instant::FAR_FUTURE);
        self.armed
    }

    /// Appends what is to be sent over `link` to `out`, as long as `out` is shorter than `full`.
    pub(super) fn poll_transmit(&mut self, now: Instant, wall_us: u64, link: usize, full: usize, out: &mut Vec<u8>) {
        let Some(route) = self.route.filter(|route| route.link == link) else { return };
        let Some(connection) = self.links[link].connection.filter(|open| open.number == route.connection) else {
            return;
        };
        for opening in self.openings.iter_mut().filter(|opening| opening.request == 0 && opening.not_before.is_none()) {
            opening.request = self.next_request;
            self.next_request += 1;
            encode(&Control::OpenProducer(OpenProducer { request: opening.request, producer: opening.producer }), out);
        }
        for _ in 0..self.ready.len() {
            let Some(number) = self.ready.pop_front() else { break };
            let Some(active) = self.producers[number].active.as_mut() else { continue };
            let Active { window, is_ready, .. } = active;
            while out.len() < full {
                let in_flight = window.in_flight_bytes();
                // One batch is always allowed, whatever the node's limit is.
                let room = match self.in_flight_bytes {
                    0 => usize::MAX,
                    under_way => connection.max_inflight.saturating_sub(under_way),
                };
                if !window.poll_transmit(now, wall_us, room, out) {
                    break;
                }
                self.in_flight_bytes += window.in_flight_bytes() - in_flight;
            }
            if window.wants_to_transmit(now) || window.draft_deadline().is_some() {
                self.ready.push_back(number);
            } else {
                *is_ready = false;
            }
        }
    }

    /// When [`poll_transmit`](Self::poll_transmit) will have something for `link` that it does not have now.
    pub(super) fn transmit_deadline(&self, link: usize) -> Option<Instant> {
        self.route.filter(|route| route.link == link)?;
        let drafts =
            self.ready.iter().filter_map(|number| self.producers[*number].active.as_ref()?.window.draft_deadline());
        drafts.min()
    }
}
