//! From a client's batch to an entry of the log.
//!
//! A large batch becomes an entry as it is; small ones that come together share one. Whatever the size, they become
//! entries in the order in which they came. While too much is proposed and not applied, batches wait.

use super::{CLIENT_PATIENCE, Engine};
use crate::checksum::CRC;
use crate::node::acks::{Request, Waiter};
use crate::node::event::ConnId;
use crate::node::legal::payload;
use crate::node::memory::{OwnFrame, StaticPool};
use crate::node::message::SHARD;
use eventstream_core::batch::{Accumulator, AddError, passes_on};
use eventstream_core::raft::{LogPosition, MAX_CONFIGURATION_LEN, Role};
use eventstream_core::replica::{Command, Stamp};
use eventstream_core::time::Instant;
use eventstream_core::wire::{
    About, Batch, Frame, HEADER_LEN, Header, Kind, MAX_FRAME_LEN, OVERHEAD, Refusal, seal, stamp,
};
use std::collections::VecDeque;

/// Blocks that ordinary entries leave free.
const KEPT_BACK: usize = 4;

/// Batches of clients on their way into the log.
#[derive(Debug)]
pub(crate) struct Intake {
    /// Small batches that will share the next entry.
    joined: Accumulator<OwnFrame, Waiter>,
    /// Batches that wait until the quorum has caught up, oldest first. The pool that they lie in bounds them.
    waiting: VecDeque<Waiting>,
    /// Where entries are made.
    pool: StaticPool,
    /// What is left of the block of the last entry made.
    spare: Option<OwnFrame>,
    /// Bytes of entries that are proposed and not applied, at most.
    window: usize,
}

#[derive(Debug)]
struct Waiting {
    since: Instant,
    waiter: Waiter,
    header: Header,
    frame: OwnFrame,
}

impl Intake {
    /// Nothing under way.
    pub(crate) fn new(pool: StaticPool, window: usize) -> Self {
        Self { joined: Accumulator::new(), waiting: VecDeque::new(), pool, spare: None, window }
    }

    /// When something has waited long enough. What cannot be proposed now is not due.
    pub(crate) fn next_deadline(&self, can_propose: bool) -> Instant {
        let joined = if can_propose { self.joined.deadline() } else { Instant::FAR_FUTURE };
        let refused = self.waiting.front().map_or(Instant::FAR_FUTURE, |waiting| waiting.since + CLIENT_PATIENCE);
        joined.min(refused)
    }

    /// Room for an entry.
    fn buffer(&mut self) -> Option<OwnFrame> {
        self.spare.take().filter(|block| block.len() >= MAX_FRAME_LEN).or_else(|| self.pool.take())
    }

    /// Whether there is room for an entry, and some more for the empty one with which a term begins.
    fn has_buffer(&self) -> bool {
        self.pool.free() > KEPT_BACK
    }

    /// Cuts the entry off the front of its block and keeps the rest.
    fn cut(&mut self, mut block: OwnFrame, len: usize) -> OwnFrame {
        let frame = block.split_to(len);
        self.spare = Some(block);
        frame
    }
}

/// The header of an entry that was given its place.
fn stamped(header: Header, Stamp { position, log_time }: &Stamp) -> Header {
    Header { batch_id: position.index.0, term: position.term, timestamp_us: log_time.0, ..header }
}

/// What was checked where it was received.
fn batch_of<'a>(waiter: &Waiter, header: &Header, frame: &'a [u8]) -> Batch<'a> {
    let runs = match waiter.request {
        Request::Batch { runs, .. } => runs,
        Request::OpenProducer { .. } => 0,
    };
    Batch::checked_before(payload(frame), header.event_count, runs)
}

impl Engine {
    /// A batch has come.
    pub(super) fn take_batch(&mut self, conn: ConnId, header: &Header, runs: u16, frame: OwnFrame) {
        let about = About::Batch(header.batch_id);
        if let Some(refusal) = self.why_not_now() {
            return self.clients.refuse(conn, about, refusal);
        }
        let bytes = frame.len() as u32;
        if !self.clients.admit(conn, bytes) {
            return self.clients.refuse(conn, about, Refusal::Busy);
        }
        let waiter = Waiter { conn, request: Request::Batch { batch: header.batch_id, runs, bytes } };
        if self.intake.waiting.is_empty() && self.is_window_open() {
            self.submit(waiter, header, frame);
        } else {
            self.intake.waiting.push_back(Waiting { since: self.now, waiter, header: *header, frame });
        }
    }

    /// Batches that waited, as far as there is room for them now.
    pub(super) fn submit_waiting(&mut self) {
        while self.is_window_open() {
            let Some(Waiting { waiter, header, frame, .. }) = self.intake.waiting.pop_front() else { return };
            self.submit(waiter, &header, frame);
        }
    }

    /// Whether a batch that waits can be submitted now.
    pub(super) fn can_submit(&self) -> bool {
        !self.intake.waiting.is_empty() && self.is_window_open() && !self.is_blocked()
    }

    /// Small batches that were joined, if they are not to wait any longer: nothing is under way that more could come
    /// with.
    pub(super) fn submit_joined(&mut self) {
        if self.intake.joined.is_due(self.now, self.acks.is_empty()) {
            self.propose_joined();
        }
    }

    /// A producer asks for an epoch.
    pub(super) fn propose_command(&mut self, waiter: Waiter, command: &Command) -> Result<(), Refusal> {
        let position = self.append_command(command)?;
        self.acks.note(self.now, position, core::iter::once(waiter));
        Ok(())
    }

    /// What the replica wants in the log by itself. If there is no room for it now, it will want it again.
    pub(super) fn propose_own_command(&mut self) {
        if let Some(command) = self.replica.poll_command(self.now) {
            let _ = self.append_command(&command);
        }
    }

    fn append_command(&mut self, command: &Command) -> Result<LogPosition, Refusal> {
        if let Some(refusal) = self.why_not_now() {
            return Err(refusal);
        }
        let mut block = if self.is_window_open() { self.intake.buffer() } else { None }.ok_or(Refusal::Busy)?;
        let stamp = self.replica.propose_command(self.now, command).map_err(|_| self.not_leader())?;
        let room = block[HEADER_LEN..].first_chunk_mut().expect("a block is longer than any command");
        let len = command.encode(room);
        let payload = &block[HEADER_LEN..][..len];
        let header = stamped(Header::of(Kind::Command, payload, CRC), &stamp);
        self.add_sealed(block, &header);
        Ok(stamp.position)
    }

    /// The empty entry with which this node's term begins.
    ///
    /// # Panics
    /// If there is no block for it: a window that is nearly full keeps the last ones back.
    pub(super) fn make_empty(&mut self, stamp: &Stamp) {
        let block = self.block_kept_back(OVERHEAD);
        self.add_sealed(block, &stamped(Header::of(Kind::Empty, &[], CRC), stamp));
    }

    /// The entry of the configuration that this node, which leads, has begun.
    ///
    /// # Panics
    /// As [`make_empty`](Self::make_empty).
    pub(super) fn make_configuration(&mut self, stamp: &Stamp) {
        let mut block = self.block_kept_back(OVERHEAD + MAX_CONFIGURATION_LEN);
        let room = block[HEADER_LEN..].first_chunk_mut().expect("a block is longer than any configuration");
        let len = self.replica.raft().configuration().encode(room);
        let header = stamped(Header::of(Kind::Configuration, &block[HEADER_LEN..][..len], CRC), stamp);
        self.add_sealed(block, &header);
    }

    /// A block of at least `len` bytes, for an entry that cannot be refused.
    fn block_kept_back(&mut self, len: usize) -> OwnFrame {
        let spare = self.intake.spare.take().filter(|block| block.len() >= len);
        let block = spare.or_else(|| self.intake.pool.take());
        block.expect("blocks are kept back for the entries with which terms begin")
    }

    /// Makes an entry of the payload that lies in `block`, and adds it to the tail.
    fn add_sealed(&mut self, mut block: OwnFrame, header: &Header) {
        let len = seal(&mut block, header, CRC);
        let frame = self.intake.cut(block, len).freeze();
        self.tail.push(header.index(), frame);
    }

    /// Why nothing can be proposed here at present.
    fn why_not_now(&self) -> Option<Refusal> {
        if self.stop.has_begun() {
            Some(Refusal::Stopping)
        } else if self.replica.raft().role() != Role::Leader {
            Some(self.not_leader())
        } else if self.journal.is_disk_low() {
            Some(Refusal::DiskLow)
        } else {
            None
        }
    }

    /// Whether what is proposed and not applied leaves room for more.
    pub(super) fn is_window_open(&self) -> bool {
        self.tail.needed_bytes() < self.intake.window && self.intake.has_buffer()
    }

    fn submit(&mut self, waiter: Waiter, header: &Header, frame: OwnFrame) {
        if passes_on(header) {
            self.propose_joined();
            self.propose_as_it_is(waiter, header, frame);
        } else {
            self.join(waiter, header, &frame);
        }
    }

    fn propose_as_it_is(&mut self, waiter: Waiter, header: &Header, mut frame: OwnFrame) {
        match self.replica.propose_batch(self.now, &batch_of(&waiter, header, &frame)) {
            Ok(Stamp { position: at, log_time }) => {
                stamp(&mut frame, at.index, at.term, log_time, CRC);
                self.tail.push(at.index, frame.freeze());
                self.acks.note(self.now, at, core::iter::once(waiter));
            }
            Err(_) => self.refuse_waiter(waiter, self.not_leader()),
        }
    }

    fn join(&mut self, waiter: Waiter, header: &Header, frame: &[u8]) {
        let checked = Frame::checked_before(*header, frame);
        let batch = batch_of(&waiter, header, frame);
        for _ in 0..2 {
            let intake = &mut self.intake;
            let (pool, spare) = (intake.pool, &mut intake.spare);
            let buffer = || spare.take().filter(|block| block.len() >= MAX_FRAME_LEN).or_else(|| pool.take());
            match intake.joined.add(self.now, &checked, &batch, waiter, buffer) {
                Ok(()) => return,
                Err(AddError::Full) => self.propose_joined(),
                Err(AddError::NoBuffer) => break,
            }
        }
        self.refuse_waiter(waiter, Refusal::Busy);
    }

    fn propose_joined(&mut self) {
        let Some(batch) = self.intake.joined.batch() else { return };
        match self.replica.propose_batch(self.now, &batch) {
            Ok(Stamp { position: at, log_time }) => {
                self.acks.note(self.now, at, self.intake.joined.parts().iter().map(|part| part.tag));
                if let Some((block, len)) = self.intake.joined.seal(SHARD, at.index, at.term, log_time, CRC) {
                    let frame = self.intake.cut(block, len).freeze();
                    self.tail.push(at.index, frame);
                }
            }
            Err(_) => self.refuse_joined(self.not_leader()),
        }
    }

    /// This node leads no more: whoever waits is told where to go.
    pub(super) fn refuse_everything(&mut self, refusal: Refusal) {
        let given_up: Vec<Waiter> = self.acks.give_up().collect();
        given_up.into_iter().for_each(|waiter| self.refuse_waiter(waiter, refusal));
        self.refuse_joined(refusal);
        let waiting = core::mem::take(&mut self.intake.waiting);
        waiting.into_iter().for_each(|waiting| self.refuse_waiter(waiting.waiter, refusal));
    }

    fn refuse_joined(&mut self, refusal: Refusal) {
        let waiters: Vec<Waiter> = self.intake.joined.parts().iter().map(|part| part.tag).collect();
        self.intake.joined.clear();
        waiters.into_iter().for_each(|waiter| self.refuse_waiter(waiter, refusal));
    }

    /// Whoever has waited too long is told that the outcome is unknown, or that nothing was tried.
    pub(super) fn expire_requests(&mut self) {
        let now = self.now;
        if self.acks.oldest().is_some_and(|since| since + CLIENT_PATIENCE <= now) {
            let since = Instant::from_micros(now.as_micros() - CLIENT_PATIENCE.as_micros());
            let expired: Vec<Waiter> = self.acks.expire(since).collect();
            expired.into_iter().for_each(|waiter| self.refuse_waiter(waiter, Refusal::OutcomeUnknown));
        }
        while let Some(late) = self.intake.waiting.pop_front_if(|waiting| waiting.since + CLIENT_PATIENCE <= now) {
            self.refuse_waiter(late.waiter, Refusal::Busy);
        }
    }

    fn refuse_waiter(&mut self, waiter: Waiter, refusal: Refusal) {
        let about = match waiter.request {
            Request::Batch { batch, bytes, .. } => {
                self.clients.answered(waiter.conn, bytes);
                About::Batch(batch)
            }
            Request::OpenProducer { request, .. } => About::Request(request),
        };
        self.clients.refuse(waiter.conn, about, refusal);
    }
}
