//! What a producer says to a node, and what it makes of the answers.

use super::flash::Flash;
use super::log::{AppendError, Cursor, FlashLog};
use super::page::Stored;
use crate::batch::{BatchBuilder, PushError, Source};
use crate::config::MAX_BATCH_EVENTS;
use crate::crc::Crc32;
use crate::id::{Epoch, NodeId, Sequence, ShardId};
use crate::receipt::RunRefusal;
use crate::time::{Duration, Instant};
use crate::wire::{
    About, Check, Control, ControlError, Frame, Hello, Kind, OVERHEAD, OpenProducer, Ping, ProducerOpened, Receipt,
    Refusal, Refused, Role, VERSION, Welcome, decode_for_producer, encode_one,
};
use core::fmt;
use core::ops::DerefMut;
use heapless::Deque;
use serde::Serialize;

/// Batches that are under way at a time, at most.
const MAX_IN_FLIGHT: usize = 4;
/// After a refusal that may pass, nothing is asked again for so long.
const PAUSE: Duration = Duration::from_millis(100);
/// A node that does not lead is asked again after this, if it has not said before that it leads.
const ELSEWHERE_PAUSE: Duration = Duration::from_millis(500);
/// A node that has not answered a request to open after this is asked again.
const OPEN_PATIENCE: Duration = Duration::from_secs(6);
/// A node that has said nothing for so long is asked whether it lives, ...
const QUIET: Duration = Duration::from_secs(1);
/// ... and after so long it is given up.
const DEAD: Duration = Duration::from_secs(3);
/// A producer that is fenced opens anew: a request of its own on an earlier connection may have come late. One that is
/// fenced more often than this ...
const FENCED_LIMIT: u8 = 3;
/// ... within so long has a rival.
const FENCED_SPAN: Duration = Duration::from_secs(60);
/// Bytes of the longest head of a run and of a record around key and payload.
const MAX_HEADS: usize = 256;

/// See the [module](super). It owns the log; `B` is the buffer that the log holds.
#[derive(Debug)]
pub struct Producer<F, B> {
    log: FlashLog<F, B>,
    crc: Crc32,
    state: State,
    node: NodeId,
    max_inflight: usize,
    /// What the cluster expects next, as far as it has told.
    expected: Sequence,
    /// What it had of the events when it had most: it may have forgotten the producer since.
    had: Sequence,
    /// The next event to be sent; `None` if it is to be looked for.
    cursor: Option<Cursor>,
    in_flight: Deque<Sent, MAX_IN_FLIGHT>,
    in_flight_bytes: usize,
    /// The number of the next request or batch: no answer to an earlier one is taken for that to a later one.
    next_number: u64,
    pause_until: Instant,
    heard_at: Instant,
    pinged_at: Instant,
    /// How often it was fenced, since when.
    fenced: (u8, Instant),
}

/// A batch that was not answered yet.
#[derive(Clone, Copy, Debug)]
struct Sent {
    number: u64,
    first: Sequence,
    count: u16,
    frame_len: usize,
}

/// How a producer and its node stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// There is no connection.
    Disconnected,
    /// The hello is to be sent.
    Connected,
    /// The hello was sent.
    Greeting,
    /// The node has answered. It does not lead: dial the leader, if one is named. On the same connection the node is asked
    /// again from time to time, and as soon as it says that it leads.
    Elsewhere {
        /// Who leads, as far as the node knows.
        leader: Option<NodeId>,
    },
    /// The producer is to be opened.
    Welcomed,
    /// The request was sent.
    Opening {
        /// Its number.
        request: u64,
        /// When it is given up.
        until: Instant,
    },
    /// Events are published.
    Open {
        /// The epoch of this connection.
        epoch: Epoch,
    },
    /// Nothing more will be published until the device is restarted or a person has looked at it.
    Stopped(StopReason),
}

/// Why a producer has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// Somebody else publishes under the same producer id, again and again.
    Fenced,
    /// The cluster has more events of this producer than the log has ever numbered: the flash was wiped and formatted for an
    /// id that is used up, or another device has it.
    NumbersTaken {
        /// What the cluster expects next.
        expected: Sequence,
    },
    /// The node refuses the connection for a reason that will not pass.
    Refused(Refusal),
}

/// A frame to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// It lies at the front of the buffer and has so many bytes.
    pub len: usize,
    /// The events before it that were dropped, as the frame says.
    pub dropped: Option<Dropped>,
}

/// Events that were erased, or that no cluster takes, before the cluster had them. Those that the node answered
/// `OutcomeUnknown` for may have reached it all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// The first of them.
    pub first: Sequence,
    /// The first after them.
    pub end: Sequence,
}

// --- getters -------------------------------------------------------------------------------------------------------

impl<F: Flash, B: DerefMut<Target = [u8]>> Producer<F, B> {
    /// A producer of what this log holds.
    #[must_use]
    pub fn new(log: FlashLog<F, B>, crc: Crc32) -> Self {
        let expected = log.first();
        Self {
            log,
            crc,
            state: State::Disconnected,
            node: NodeId(0),
            max_inflight: 0,
            expected,
            had: Sequence::ZERO,
            cursor: None,
            in_flight: Deque::new(),
            in_flight_bytes: 0,
            next_number: 1,
            pause_until: Instant::ZERO,
            heard_at: Instant::ZERO,
            pinged_at: Instant::ZERO,
            fenced: (0, Instant::ZERO),
        }
    }

    /// The events.
    #[must_use]
    pub const fn log(&self) -> &FlashLog<F, B> {
        &self.log
    }

    /// How producer and node stand.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Whether the cluster has all events up to now.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Open { .. }) && self.expected == self.log.next()
    }

    /// Whether the node has said nothing for so long that the connection is to be given up.
    #[must_use]
    pub fn is_silent(&self, now: Instant) -> bool {
        self.is_connected() && now >= self.heard_at + DEAD
    }

    /// Bytes that the buffer for [`poll_transmit`](Self::poll_transmit) has at least. With more, batches are larger; more
    /// than [`MAX_FRAME_LEN`](crate::wire::MAX_FRAME_LEN) are never used.
    #[must_use]
    pub fn min_transmit_len(&self) -> usize {
        OVERHEAD + MAX_HEADS + self.log.max_record_len()
    }

    /// The log, and the end of this producer.
    #[must_use]
    pub fn into_log(self) -> FlashLog<F, B> {
        self.log
    }

    const fn is_connected(&self) -> bool {
        !matches!(self.state, State::Disconnected | State::Stopped(_))
    }
}

// --- input ---------------------------------------------------------------------------------------------------------

impl<F: Flash, B: DerefMut<Target = [u8]>> Producer<F, B> {
    /// Keeps an event: [`FlashLog::append`].
    ///
    /// # Errors
    ///
    /// [`AppendError`]; the event was not kept.
    pub fn append(&mut self, event: &Stored<'_>) -> Result<Sequence, AppendError<F::Error>> {
        self.log.append(event)
    }

    /// There is a new connection to a node. A producer that has stopped stays so.
    pub fn handle_connected(&mut self, now: Instant) {
        if !matches!(self.state, State::Stopped(_)) {
            self.state = State::Connected;
            (self.heard_at, self.pinged_at, self.pause_until) = (now, now, now);
        }
    }

    /// The connection has ended. What was not answered is sent again over the next.
    pub fn handle_disconnected(&mut self) {
        self.forget_in_flight();
        if !matches!(self.state, State::Stopped(_)) {
            self.state = State::Disconnected;
        }
    }

    /// The node has sent this frame.
    ///
    /// # Errors
    ///
    /// [`HandleError`]; the connection is to be closed.
    pub fn handle_frame(&mut self, now: Instant, frame: &Frame<'_>) -> Result<(), HandleError> {
        self.heard_at = now;
        let kind = frame.header().kind;
        match decode_for_producer(kind, frame.payload())?.ok_or(HandleError::Unexpected(kind))? {
            Control::Welcome(welcome) if matches!(self.state, State::Greeting) => self.handle_welcome(now, &welcome),
            Control::LeaderChanged(changed) => self.handle_leader(now, changed.leader),
            Control::ProducerOpened(opened) => self.handle_opened(&opened),
            Control::Receipt(receipt) => return self.handle_receipt(now, &receipt),
            Control::Refused(refused) => return self.handle_refused(now, &refused),
            Control::Pong(_) => {}
            _ => return Err(HandleError::Unexpected(kind)),
        }
        Ok(())
    }

    fn handle_welcome(&mut self, now: Instant, welcome: &Welcome<'_>) {
        self.node = welcome.node;
        self.max_inflight = welcome.max_inflight as usize;
        self.state = State::Welcomed;
        self.handle_leader(now, welcome.leader);
    }

    /// The node that is spoken with knows of another leader, or of none. One that leads anew is opened anew.
    fn handle_leader(&mut self, now: Instant, leader: Option<NodeId>) {
        let is_welcomed = matches!(
            self.state,
            State::Welcomed | State::Elsewhere { .. } | State::Opening { .. } | State::Open { .. }
        );
        if !is_welcomed {
            return;
        }
        self.forget_in_flight();
        (self.state, self.pause_until) = if leader == Some(self.node) {
            (State::Welcomed, now)
        } else {
            (State::Elsewhere { leader }, now + ELSEWHERE_PAUSE)
        };
    }

    fn handle_opened(&mut self, opened: &ProducerOpened) {
        match self.state {
            State::Opening { request, .. } if request == opened.request => {}
            _ => return,
        }
        let expected = opened.next_sequence;
        self.forget_in_flight();
        self.state = if expected > self.log.next() {
            State::Stopped(StopReason::NumbersTaken { expected })
        } else {
            self.expected = expected;
            self.had = self.had.max(expected);
            self.log.release(expected);
            State::Open { epoch: opened.epoch }
        };
    }

    /// Answers may overtake each other: one for later events says that the earlier ones were decided before.
    fn handle_receipt(&mut self, now: Instant, receipt: &Receipt<'_>) -> Result<(), HandleError> {
        let Some(sent) = self.in_flight.iter().find(|sent| sent.number == receipt.batch).copied() else {
            return Ok(());
        };
        let (mut done, mut refused) = (0u64, None);
        for run in receipt.runs.iter() {
            done += u64::from(run.duplicates) + u64::from(run.accepted);
            refused = run.refused;
            if refused.is_some() {
                break;
            }
        }
        if done > sent.count.into() || (refused.is_none() && done < sent.count.into()) {
            return Err(HandleError::ReceiptDoesNotFit);
        }
        if done > 0 {
            self.expected = self.expected.max(sent.first.plus(done));
            self.had = self.had.max(self.expected);
            self.log.release(self.expected);
        }
        let answered = sent.first.plus(done);
        match refused {
            None => self.forget_up_to(answered),
            Some(RunRefusal::Fenced { .. }) => self.handle_fenced(now),
            Some(RunRefusal::TopicTableFull | RunRefusal::EventTooLarge { .. } | RunRefusal::EventIdsOff) => {
                // No cluster takes this one as it is: it is given up, and the next run says so.
                self.log.release(answered.next());
                self.forget_in_flight();
            }
            // What the cluster expects is not what was thought: it is asked.
            Some(RunRefusal::SequenceGap { .. } | RunRefusal::ProducerUnknown | RunRefusal::ProducerTableFull) => {
                self.open_again(now);
            }
        }
        Ok(())
    }

    fn handle_refused(&mut self, now: Instant, refused: &Refused<'_>) -> Result<(), HandleError> {
        let is_known = match refused.about {
            About::Connection => {
                if is_for_good(refused.reason) {
                    self.state = State::Stopped(StopReason::Refused(refused.reason));
                }
                return Err(HandleError::Refused(refused.reason));
            }
            About::Batch(number) => self.in_flight.iter().any(|sent| sent.number == number),
            About::Request(number) => {
                matches!(self.state, State::Opening { request, .. } if request == number)
            }
            About::Subscription(_) => return Err(HandleError::Unexpected(Kind::Refused)),
        };
        match refused.reason {
            _ if !is_known => {}
            Refusal::NotLeader { leader, .. } => {
                self.handle_leader(now, leader.filter(|leader| *leader != self.node));
            }
            reason if reason.is_retryable() => self.open_again(now),
            reason => self.state = State::Stopped(StopReason::Refused(reason)),
        }
        Ok(())
    }

    fn handle_fenced(&mut self, now: Instant) {
        let (count, since) = self.fenced;
        self.fenced = if now < since + FENCED_SPAN { (count.saturating_add(1), since) } else { (1, now) };
        self.open_again(now);
        if self.fenced.0 > FENCED_LIMIT {
            self.state = State::Stopped(StopReason::Fenced);
        }
    }

    /// After a moment the cluster is asked what it expects, and everything from there on is sent again.
    fn open_again(&mut self, now: Instant) {
        self.forget_in_flight();
        self.state = State::Welcomed;
        self.pause_until = now + PAUSE;
    }

    fn forget_in_flight(&mut self) {
        self.in_flight.clear();
        self.in_flight_bytes = 0;
        self.cursor = None;
    }

    fn forget_up_to(&mut self, end: Sequence) {
        while let Some(sent) = self.in_flight.front().filter(|sent| sent.first < end) {
            self.in_flight_bytes -= sent.frame_len;
            self.in_flight.pop_front();
        }
    }
}

// --- output --------------------------------------------------------------------------------------------------------

impl<F: Flash, B: DerefMut<Target = [u8]>> Producer<F, B> {
    /// The next frame, written to the front of `buffer`. `None` if there is nothing to send now; to be called again when
    /// something has happened, and every 100 ms.
    ///
    /// # Errors
    ///
    /// Those of the flash.
    ///
    /// # Panics
    ///
    /// If `buffer` is shorter than [`min_transmit_len`](Self::min_transmit_len).
    pub fn poll_transmit(&mut self, now: Instant, buffer: &mut [u8]) -> Result<Option<Transmit>, F::Error> {
        assert!(buffer.len() >= self.min_transmit_len(), "any event fits the buffer");
        let len = match self.state {
            State::Connected => {
                self.state = State::Greeting;
                let hello = Hello { version_min: VERSION, version_max: VERSION, cluster: None, role: Role::Client };
                self.encode(Kind::Hello, &hello, buffer)
            }
            State::Welcomed | State::Elsewhere { .. } if now >= self.pause_until => self.ask_to_open(now, buffer),
            State::Opening { until, .. } if now >= until => self.ask_to_open(now, buffer),
            State::Open { epoch } => {
                let batch = self.transmit_batch(epoch, buffer)?;
                if batch.is_some() {
                    return Ok(batch);
                }
                return Ok(self.ask_for_life(now, buffer));
            }
            State::Welcomed | State::Elsewhere { .. } | State::Opening { .. } => {
                return Ok(self.ask_for_life(now, buffer));
            }
            State::Disconnected | State::Greeting | State::Stopped(_) => return Ok(None),
        };
        Ok(Some(Transmit { len, dropped: None }))
    }

    fn ask_to_open(&mut self, now: Instant, buffer: &mut [u8]) -> usize {
        let request = self.take_number();
        self.state = State::Opening { request, until: now + OPEN_PATIENCE };
        self.encode(Kind::OpenProducer, &OpenProducer { request, producer: self.log.producer() }, buffer)
    }

    fn ask_for_life(&mut self, now: Instant, buffer: &mut [u8]) -> Option<Transmit> {
        if now < self.heard_at.max(self.pinged_at) + QUIET {
            return None;
        }
        self.pinged_at = now;
        let len = self.encode(Kind::Ping, &Ping { number: now.as_micros() }, buffer);
        Some(Transmit { len, dropped: None })
    }

    fn encode(&self, kind: Kind, message: &(impl Serialize + Check), buffer: &mut [u8]) -> usize {
        let encoded = encode_one(kind, message, ShardId(0), buffer, self.crc);
        encoded.unwrap_or_else(|_| unreachable!("what a producer says is lawful and short"))
    }

    fn take_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number - 1
    }

    fn transmit_batch(&mut self, epoch: Epoch, buffer: &mut [u8]) -> Result<Option<Transmit>, F::Error> {
        let len = buffer.len();
        if self.in_flight.is_full() || (!self.in_flight.is_empty() && self.in_flight_bytes + len > self.max_inflight) {
            return Ok(None);
        }
        let mut cursor = match self.cursor.filter(|cursor| self.log.holds(cursor)) {
            Some(cursor) => cursor,
            None => self.log.seek(self.log.first())?,
        };
        // What comes before is gone. How much of it the cluster misses is known when nothing is under way.
        let after_gap = cursor.sequence == self.log.first() && self.expected < cursor.sequence;
        if after_gap && !self.in_flight.is_empty() {
            return Ok(None);
        }
        let first = cursor.sequence;
        let mut builder = BatchBuilder::new(buffer);
        let mut time_us = 0;
        let producer = self.log.producer();
        while usize::from(builder.event_count()) < MAX_BATCH_EVENTS
            && let Some((event, after)) = self.log.read(cursor)?
        {
            let sequence = cursor.sequence;
            let source = Source::Producer { producer, epoch, sequence, after_gap: after_gap && sequence == first };
            match builder.push(&event.event(source)) {
                Ok(()) => (cursor, time_us) = (after, event.time_us),
                Err(PushError::Full) => break,
                Err(_) => unreachable!("an event was checked before it was kept, and fits the buffer"),
            }
        }
        let count = builder.event_count();
        if count == 0 {
            if first < self.log.next() {
                self.log.skip_damaged(&cursor)?;
            }
            return Ok(None);
        }
        self.cursor = Some(cursor);
        let number = self.take_number();
        let (_, len) = builder.finish(ShardId(0), number, time_us, self.crc);
        let sent = Sent { number, first, count, frame_len: len };
        assert!(self.in_flight.push_back(sent).is_ok(), "there is room for another batch");
        self.in_flight_bytes += len;
        // Who was forgotten goes on behind what the cluster had: to it that is a gap, and nothing was dropped.
        let dropped = Dropped { first: self.expected.max(self.had), end: first };
        Ok(Some(Transmit { len, dropped: (after_gap && dropped.first < first).then_some(dropped) }))
    }
}

/// Whether no later connection would be accepted either. What a reset in the middle of a frame or a conversation brings
/// about is not of that kind.
const fn is_for_good(reason: Refusal) -> bool {
    matches!(
        reason,
        Refusal::Version { .. }
            | Refusal::WrongCluster
            | Refusal::UnknownMember
            | Refusal::Unauthenticated
            | Refusal::TlsRequired
    )
}

/// Why a connection is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandleError {
    /// A message breaks the format's rules.
    Control(ControlError),
    /// A message that is not for this side, or not now.
    Unexpected(Kind),
    /// A receipt answers for other events than its batch had.
    ReceiptDoesNotFit,
    /// The node does not want the connection.
    Refused(Refusal),
}

impl From<ControlError> for HandleError {
    fn from(error: ControlError) -> Self {
        Self::Control(error)
    }
}

impl fmt::Display for HandleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Control(error) => error.fmt(f),
            Self::Unexpected(kind) => write!(f, "{kind:?} is not expected here"),
            Self::ReceiptDoesNotFit => f.write_str("a receipt for other events than the batch had"),
            Self::Refused(reason) => reason.fmt(f),
        }
    }
}

impl core::error::Error for HandleError {}

#[cfg(test)]
mod tests;
