//! One producer's events between being published and being answered, without I/O.
//!
//! Events are numbered as they are pushed, gathered into batches, and kept until the cluster has answered for them. What
//! was not answered is sent again, always in order, under the same sequences, and byte for byte in the same batches:
//!
//! - to a new leader, or over a new connection, everything ([`Window::handle_connected`]);
//! - after a [`RunRefusal::SequenceGap`], everything from the sequence that the cluster expects;
//! - after a refusal that may pass, everything from the refused batch, a moment later.
//!
//! Every transmission of a batch has an id of its own, so that an answer to an earlier one is never taken for an answer
//! to a later one. The cluster decides by sequence; a batch that arrives twice is a duplicate there, not here.
//!
//! The order of calls: `handle_*` and [`Window::push`] at any time, then [`Window::poll_transmit`] until nothing more
//! comes out, then [`Window::poll_answer`] until nothing more does. [`Window::poll_ack`] waits for its caller: what it has
//! not fetched takes up room in the window.

use super::draft::Draft;
use super::error::{Failure, ProtocolError, PublishError};
use super::receipt::{Ack, NotAcked, Place};
use eventstream_core::id::{Epoch, Offset, ProducerId, Sequence};
use eventstream_core::receipt::{RunReceipt, RunRefusal};
use eventstream_core::time::{Duration, Instant};
use std::collections::VecDeque;

#[cfg(test)]
mod tests;

/// A batch that is not full waits at most this long while others are in flight.
const BATCH_DELAY: Duration = Duration::from_millis(1);
/// A batch that is not full leaves at once while fewer than this many are in flight.
const IDLE_BATCHES: usize = 2;
/// The first pause after a refusal that may pass; doubles with every further one in a row, ...
const PAUSE_MIN: Duration = Duration::from_millis(1);
/// ... up to 64 times as long.
const PAUSE_DOUBLINGS: u32 = 6;
/// Frames of answered batches that are kept to be filled again.
const SPARE_FRAMES: usize = 64;

/// What bounds a window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Events that wait for an answer, or whose answer waits to be taken by the caller.
    pub(super) events: usize,
    /// Bytes of their frames.
    pub(super) bytes: usize,
    /// How long a caller waits before it hears *unknown*.
    pub(super) patience: Duration,
}

/// Whose events a window holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbering {
    pub(super) producer: ProducerId,
    pub(super) epoch: Epoch,
    /// What the cluster expected when it opened the epoch. Nobody else can publish from here on under this epoch, so
    /// a duplicate at or above it is one of our own transmissions: it was accepted.
    pub(super) opened_at: Sequence,
    /// The number of the first event that will be pushed.
    pub(super) first: Sequence,
}

/// What became of consecutive events.
pub(super) type Answer = Result<Ack, NotAcked>;

/// Why an event was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PushError {
    /// The window is full: wait for answers.
    Full,
    /// The event can never be published.
    Refused(PublishError),
}

/// Consecutive events of one run that are answered together.
#[derive(Debug)]
struct Waiting<W> {
    run: usize,
    /// The first event's place in the run, ...
    at: u16,
    /// ... and its sequence.
    first: Sequence,
    count: u16,
    waiter: Option<W>,
}

/// A batch that was not answered yet.
#[derive(Debug)]
struct Slot<W> {
    frame: Vec<u8>,
    first: Sequence,
    count: u16,
    /// Events of each run.
    runs: Vec<u16>,
    waiting: Vec<Waiting<W>>,
    /// When its first event was pushed.
    since: Instant,
    /// The id of its latest transmission; zero if that was given up.
    transmission: u64,
    answered: bool,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Window<W> {
    numbering: Numbering,
    limits: Limits,
    next: Sequence,
    draft: Draft,
    draft_waiting: Vec<Waiting<W>>,
    draft_runs: Vec<u16>,
    draft_since: Instant,
    slots: VecDeque<Slot<W>>,
    /// `slots[..sent]` are in flight, the rest is to be sent.
    sent: usize,
    /// `slots[..overdue]` have been reported as unknown.
    overdue: usize,
    /// Events and bytes in draft and slots.
    events: usize,
    bytes: usize,
    in_flight_bytes: usize,
    connected: bool,
    next_transmission: u64,
    pause_until: Option<Instant>,
    refusals_in_a_row: u32,
    /// Answers to events that somebody waits for.
    answers: VecDeque<(W, Answer)>,
    /// Answers to the other events, ...
    acks: VecDeque<Answer>,
    /// ... and how many events those are.
    unfetched: usize,
    failure: Option<Failure>,
    spare: Vec<Vec<u8>>,
}

// --- getters -------------------------------------------------------------------------------------------------------

impl<W> Window<W> {
    /// An empty window. Its transmissions are numbered from `first_transmission`, which is not zero.
    pub(super) fn new(numbering: Numbering, limits: Limits, first_transmission: u64) -> Self {
        assert_ne!(first_transmission, 0, "zero stands for no transmission");
        Self {
            numbering,
            limits,
            next: numbering.first,
            draft: Draft::default(),
            draft_waiting: Vec::new(),
            draft_runs: Vec::new(),
            draft_since: Instant::ZERO,
            slots: VecDeque::new(),
            sent: 0,
            overdue: 0,
            events: 0,
            bytes: 0,
            in_flight_bytes: 0,
            connected: false,
            next_transmission: first_transmission,
            pause_until: None,
            refusals_in_a_row: 0,
            answers: VecDeque::new(),
            acks: VecDeque::new(),
            unfetched: 0,
            failure: None,
            spare: Vec::new(),
        }
    }

    /// The sequence of the next event.
    pub(super) fn next_sequence(&self) -> Sequence {
        self.next
    }

    /// The life of the producer whose events these are.
    pub(super) fn epoch(&self) -> Epoch {
        self.numbering.epoch
    }

    /// The id that the next transmission gets.
    pub(super) fn next_transmission(&self) -> u64 {
        self.next_transmission
    }

    /// Events that were pushed and not answered.
    pub(super) fn unanswered(&self) -> usize {
        self.events
    }

    /// Bytes that were sent over the present connection and not answered.
    pub(super) fn in_flight_bytes(&self) -> usize {
        self.in_flight_bytes
    }

    /// Whether [`poll_ack`](Self::poll_ack) has something to give.
    pub(super) fn has_acks(&self) -> bool {
        !self.acks.is_empty()
    }

    /// Whether another event may be pushed.
    pub(super) fn has_room(&self) -> bool {
        self.events + self.unfetched < self.limits.events && self.bytes < self.limits.bytes
    }

    /// Whether [`poll_transmit`](Self::poll_transmit) has something to give, if it is given room.
    pub(super) fn wants_to_transmit(&self, now: Instant) -> bool {
        self.may_transmit(now) && (self.sent < self.slots.len() || self.is_draft_due(now))
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let oldest = self.slots.get(self.overdue).map(|slot| slot.since);
        let oldest = oldest.or_else(|| (!self.draft.is_empty()).then_some(self.draft_since));
        earlier(oldest.map(|since| since + self.limits.patience), self.pause_until)
    }

    /// When a batch that is not full is to leave: [`poll_transmit`](Self::poll_transmit) is to be called then. `None` while
    /// something else is waited for.
    pub(super) fn draft_deadline(&self) -> Option<Instant> {
        let is_next = self.connected && self.pause_until.is_none() && self.sent == self.slots.len();
        (is_next && !self.draft.is_empty()).then(|| self.draft_since + BATCH_DELAY)
    }

    fn may_transmit(&self, now: Instant) -> bool {
        self.connected && self.failure.is_none() && self.pause_until.is_none_or(|until| until <= now)
    }

    fn is_draft_due(&self, now: Instant) -> bool {
        !self.draft.is_empty() && (self.sent < IDLE_BATCHES || now >= self.draft_since + BATCH_DELAY)
    }
}

pub(super) fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

// --- input ---------------------------------------------------------------------------------------------------------

impl<W> Window<W> {
    /// There is a connection to a leader, other than any before: all that was not answered goes over it.
    pub(super) fn handle_connected(&mut self) {
        self.connected = true;
        self.pause_until = None;
        self.refusals_in_a_row = 0;
        self.rewind(0);
    }

    /// There is no connection to a leader any more.
    pub(super) fn handle_disconnected(&mut self) {
        self.connected = false;
        self.rewind(0);
    }

    /// The answer to a batch: where it stands in the log, and what became of its runs.
    ///
    /// An answer to a transmission that was given up changes nothing; the answer to the later one will come.
    ///
    /// # Errors
    ///
    /// If the receipt does not fit the batch. The connection is then not to be used further.
    pub(super) fn handle_receipt(
        &mut self,
        now: Instant,
        transmission: u64,
        place: Place,
        runs: &[RunReceipt],
    ) -> Result<(), ProtocolError> {
        let Some(position) = self.position(transmission) else { return Ok(()) };
        let slot = &self.slots[position];
        if let Some(refusal) = runs.iter().find_map(|run| run.refused) {
            self.handle_run_refusal(now, position, refusal);
            return Ok(());
        }
        let fits = |(run, count): (&RunReceipt, &u16)| run.duplicates.checked_add(run.accepted) == Some(*count);
        if runs.len() != slot.runs.len() || !runs.iter().zip(&slot.runs).all(fits) {
            return Err(ProtocolError::ReceiptMismatch);
        }
        self.complete(now, position, place, runs);
        Ok(())
    }

    /// A batch was refused as a whole, before it was given a place in the log, for a reason that may pass.
    pub(super) fn handle_busy(&mut self, now: Instant, transmission: u64) {
        if let Some(position) = self.position(transmission) {
            self.pause(now);
            self.rewind(position);
        }
    }

    /// A batch was refused as a whole, for good.
    pub(super) fn handle_refused(&mut self, transmission: u64, failure: Failure) {
        if self.position(transmission).is_some() {
            self.fail(failure);
        }
    }

    /// Time has passed: what has waited for too long is reported as unknown. It stays in the window, and goes on being
    /// sent: what comes after it can only be accepted after it.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.pause_until.take_if(|until| *until <= now);
        if !self.draft.is_empty() && self.draft_since + self.limits.patience <= now {
            self.seal_draft();
        }
        while let Some(slot) = self.slots.get_mut(self.overdue) {
            if now < slot.since + self.limits.patience {
                break;
            }
            let waiting = core::mem::take(&mut slot.waiting);
            self.overdue += 1;
            self.answer_all(waiting, PublishError::Unknown);
        }
    }

    /// The slot whose latest transmission this is. Ids grow along the slots that were sent.
    fn position(&self, transmission: u64) -> Option<usize> {
        let in_flight = self.slots.range(..self.sent);
        debug_assert!(in_flight.clone().is_sorted_by_key(|slot| slot.transmission));
        let (mut low, mut high) = (0, self.sent);
        while low < high {
            let middle = low.midpoint(high);
            if self.slots[middle].transmission < transmission { low = middle + 1 } else { high = middle }
        }
        (low < self.sent && self.slots[low].transmission == transmission && !self.slots[low].answered).then_some(low)
    }

    fn handle_run_refusal(&mut self, now: Instant, position: usize, refusal: RunRefusal) {
        match refusal {
            RunRefusal::SequenceGap { expected } => match self.slots.iter().position(|s| s.end() > expected) {
                // Before the window: the cluster has forgotten what it acknowledged, or the caller began too far on.
                Some(0) if expected < self.slots[0].first => self.fail(Failure::SequenceGap { expected }),
                // Behind the refused batch: it will be answered as a duplicate when it is sent once more.
                Some(wanted) => {
                    if self.refusals_in_a_row > 0 {
                        self.pause(now);
                    }
                    self.refusals_in_a_row += 1;
                    self.rewind(wanted.min(position));
                }
                None => self.fail(Failure::SequenceGap { expected }),
            },
            RunRefusal::Fenced { epoch } => self.fail(Failure::Fenced { epoch }),
            RunRefusal::ProducerUnknown => self.fail(Failure::ProducerUnknown),
            other if other.is_retryable() => {
                self.pause(now);
                self.rewind(position);
            }
            other => self.fail(Failure::Refused { reason: other }),
        }
    }

    fn pause(&mut self, now: Instant) {
        self.pause_until = Some(now + PAUSE_MIN * (1 << self.refusals_in_a_row.min(PAUSE_DOUBLINGS)));
        self.refusals_in_a_row += 1;
    }

    /// Gives up every transmission from `position` on.
    fn rewind(&mut self, position: usize) {
        for slot in self.slots.range_mut(position.min(self.sent)..self.sent) {
            if !slot.answered {
                self.in_flight_bytes -= slot.frame.len();
            }
            slot.transmission = 0;
        }
        self.sent = self.sent.min(position);
    }

    fn complete(&mut self, now: Instant, position: usize, place: Place, runs: &[RunReceipt]) {
        self.refusals_in_a_row = 0;
        let opened_at = self.numbering.opened_at;
        let slot = &mut self.slots[position];
        slot.answered = true;
        self.in_flight_bytes -= slot.frame.len();
        let latency = now.saturating_since(slot.since);
        for waiting in core::mem::take(&mut slot.waiting) {
            let ack = acknowledge(&runs[waiting.run], &waiting, opened_at, place, latency);
            self.answer(waiting, Ok(ack));
        }
        self.drop_answered();
    }

    fn drop_answered(&mut self) {
        while self.slots.front().is_some_and(|slot| slot.answered) {
            let Some(slot) = self.slots.pop_front() else { break };
            self.sent = self.sent.saturating_sub(1);
            self.overdue = self.overdue.saturating_sub(1);
            self.events -= usize::from(slot.count);
            self.bytes -= slot.frame.len();
            if self.spare.len() < SPARE_FRAMES {
                self.spare.push(slot.frame);
            }
        }
    }

    /// Nothing more can be published: tells everybody who waits.
    fn fail(&mut self, failure: Failure) {
        if !self.draft.is_empty() {
            self.seal_draft();
        }
        for slot in core::mem::take(&mut self.slots) {
            self.answer_all(slot.waiting, PublishError::Failed(failure));
        }
        (self.sent, self.overdue, self.events, self.bytes, self.in_flight_bytes) = (0, 0, 0, 0, 0);
        self.failure = Some(failure);
    }

    fn answer_all(&mut self, all: Vec<Waiting<W>>, error: PublishError) {
        for waiting in all {
            let not_acked = NotAcked { first_sequence: waiting.first, events: waiting.count.into(), error };
            self.answer(waiting, Err(not_acked));
        }
    }

    fn answer(&mut self, waiting: Waiting<W>, answer: Answer) {
        match waiting.waiter {
            Some(waiter) => self.answers.push_back((waiter, answer)),
            None => {
                self.unfetched += usize::from(waiting.count);
                self.acks.push_back(answer);
            }
        }
    }
}

impl<W> Slot<W> {
    /// The sequence after its last event.
    fn end(&self) -> Sequence {
        self.first.plus(self.count.into())
    }
}

/// What a run's receipt says of the consecutive events `waiting`.
fn acknowledge<W>(
    receipt: &RunReceipt,
    waiting: &Waiting<W>,
    opened_at: Sequence,
    place: Place,
    latency: Duration,
) -> Ack {
    let repeated = receipt.duplicates.saturating_sub(waiting.at).min(waiting.count);
    // Our own repeated transmissions: there already, but put there by this life of the producer.
    let ours = waiting.first.plus(repeated.into()).0.saturating_sub(opened_at.0.max(waiting.first.0));
    let offset = if repeated == 0 {
        Some(Offset(receipt.first_offset.0 + u64::from(waiting.at - receipt.duplicates)))
    } else if waiting.at == 0 {
        receipt.duplicate_offset
    } else {
        None
    };
    let duplicates = u64::from(repeated) - ours;
    Ack {
        first_sequence: waiting.first,
        accepted: u64::from(waiting.count) - duplicates,
        duplicates,
        offset,
        index: place.index,
        term: place.term,
        durability: place.durability,
        latency: core::time::Duration::from_micros(latency.as_micros()),
    }
}

// --- commands ------------------------------------------------------------------------------------------------------

impl<W> Window<W> {
    /// Takes an event and gives it the next sequence. Returns whether the connection has to be told: a batch has begun
    /// or is complete.
    ///
    /// `wall_us` is the time of the event, in microseconds since the Unix epoch. The waiter, if there is one, is taken only
    /// if the event is.
    ///
    /// # Errors
    ///
    /// See [`PushError`]. An event that is refused has no sequence.
    pub(super) fn push(
        &mut self,
        now: Instant,
        wall_us: u64,
        (topic, key, payload): (&str, &[u8], &[u8]),
        waiter: &mut Option<W>,
    ) -> Result<bool, PushError> {
        if let Some(failure) = self.failure {
            return Err(PushError::Refused(PublishError::Failed(failure)));
        }
        super::draft::check(topic, key, payload).map_err(PushError::Refused)?;
        if !self.has_room() {
            return Err(PushError::Full);
        }
        let event = (topic, key, payload);
        let mut sealed = false;
        let begins_run = match self.draft.push(&self.numbering, self.next, wall_us, event) {
            Some(begins_run) => begins_run,
            None => {
                self.seal_draft();
                sealed = true;
                self.draft.push(&self.numbering, self.next, wall_us, event).expect("a legal event fits an empty batch")
            }
        };
        let began = self.draft.count() == 1;
        if began {
            self.draft_since = now;
        }
        self.note_waiting(begins_run, waiter.take());
        self.next = self.next.next();
        self.events += 1;
        if self.draft.is_full() {
            self.seal_draft();
            sealed = true;
        }
        Ok(began || sealed)
    }

    fn note_waiting(&mut self, begins_run: bool, waiter: Option<W>) {
        if begins_run {
            self.draft_runs.push(0);
        }
        let run = self.draft_runs.len() - 1;
        let at = self.draft_runs[run];
        self.draft_runs[run] += 1;
        match self.draft_waiting.last_mut() {
            Some(last) if last.run == run && last.waiter.is_none() && waiter.is_none() => last.count += 1,
            _ => self.draft_waiting.push(Waiting { run, at, first: self.next, count: 1, waiter }),
        }
    }

    fn seal_draft(&mut self) {
        let count = self.draft.count();
        let mut frame = self.spare.pop().unwrap_or_default();
        self.draft.seal_into(&mut frame);
        self.bytes += frame.len();
        self.slots.push_back(Slot {
            first: Sequence(self.next.0 - u64::from(count)),
            count,
            frame,
            runs: core::mem::take(&mut self.draft_runs),
            waiting: core::mem::take(&mut self.draft_waiting),
            since: self.draft_since,
            transmission: 0,
            answered: false,
        });
    }
}

// --- output --------------------------------------------------------------------------------------------------------

impl<W> Window<W> {
    /// Appends the next batch to `out` if there is one and it has at most `room` bytes. Returns whether it did.
    pub(super) fn poll_transmit(&mut self, now: Instant, wall_us: u64, room: usize, out: &mut Vec<u8>) -> bool {
        if !self.may_transmit(now) {
            return false;
        }
        if self.sent == self.slots.len() {
            if !self.is_draft_due(now) {
                return false;
            }
            self.seal_draft();
        }
        let slot = &mut self.slots[self.sent];
        if slot.frame.len() > room {
            return false;
        }
        slot.transmission = self.next_transmission;
        self.next_transmission += 1;
        self.sent += 1;
        if !slot.answered {
            self.in_flight_bytes += slot.frame.len();
        }
        let at = out.len();
        out.extend_from_slice(&slot.frame);
        super::draft::stamp(&mut out[at..], slot.transmission, wall_us);
        true
    }

    /// What became of an event that somebody waits for.
    pub(super) fn poll_answer(&mut self) -> Option<(W, Answer)> {
        self.answers.pop_front()
    }

    /// What became of events that were pushed without a waiter.
    pub(super) fn poll_ack(&mut self) -> Option<Answer> {
        let ack = self.acks.pop_front()?;
        self.unfetched -= match &ack {
            Ok(ack) => ack.events(),
            Err(not_acked) => not_acked.events,
        } as usize;
        Some(ack)
    }
}
