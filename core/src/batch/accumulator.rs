//! The leader's side: small batches that wait together become one entry.

use crate::config::{BATCH_DELAY, MAX_BATCH_EVENTS, MAX_FRAME_PAYLOAD, PASS_ON_BYTES, PASS_ON_EVENTS};
use crate::crc::{Crc32, combine};
use crate::id::{Index, LogTime, ShardId, Term};
use crate::time::Instant;
use crate::wire::{Batch, Frame, HEADER_LEN, Header, Kind, seal};
use core::fmt;
use core::ops::DerefMut;
use heapless::Vec;

/// Whether a client's batch becomes an entry as it is: it is large enough that copying it would cost more than an entry
/// of its own.
///
/// What waits in an [`Accumulator`] is to leave before it, so that the events of a producer keep their order.
#[must_use]
pub const fn passes_on(header: &Header) -> bool {
    header.event_count as usize >= PASS_ON_EVENTS || header.payload_len as usize >= PASS_ON_BYTES
}

/// A batch that went into an entry together with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part<T> {
    /// The caller's name for it.
    pub tag: T,
    /// The first of its runs, counted in the entry.
    pub first_run: u16,
    /// How many runs it has.
    pub runs: u16,
    /// The first of its events, counted in the entry.
    pub first_event: u16,
    /// How many events it has.
    pub events: u16,
}

/// Puts client batches together, run by run, into one entry of at most 64 events and 32 KiB.
///
/// Runs are copied whole and checksums combined. `B` is the buffer of the frame, which is taken when the first batch
/// comes and leaves with the finished entry; `T` is the caller's name for a batch.
///
/// The order of calls: [`add`](Self::add) while batches come; when [`is_due`](Self::is_due), or when a batch no longer
/// fits, look at the [`parts`](Self::parts) and take the entry with [`seal`](Self::seal), or give it up with
/// [`clear`](Self::clear).
#[derive(Debug)]
pub struct Accumulator<B, T> {
    buffer: Option<B>,
    payload_len: usize,
    checksum: u32,
    events: u16,
    runs: u16,
    parts: Vec<Part<T>, MAX_BATCH_EVENTS>,
    deadline: Instant,
}

impl<B, T> Default for Accumulator<B, T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<B, T> Accumulator<B, T> {
    /// An accumulator that holds nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            buffer: None,
            payload_len: 0,
            checksum: 0,
            events: 0,
            runs: 0,
            parts: Vec::new(),
            deadline: Instant::FAR_FUTURE,
        }
    }

    /// Whether nothing waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.buffer.is_none()
    }

    /// The batches that wait, in the order of their runs and events.
    #[must_use]
    pub fn parts(&self) -> &[Part<T>] {
        &self.parts
    }

    /// When what waits has to leave, at the latest; [`Instant::FAR_FUTURE`] if nothing does.
    #[must_use]
    pub const fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether what waits is to leave now: it has waited 1 ms, it can take no more, or there is nothing to wait for
    /// because no entry is on its way (`is_idle`).
    #[must_use]
    pub fn is_due(&self, now: Instant, is_idle: bool) -> bool {
        let is_full = usize::from(self.events) == MAX_BATCH_EVENTS || self.payload_len == MAX_FRAME_PAYLOAD;
        !self.is_empty() && (is_idle || is_full || now >= self.deadline)
    }

    /// Gives up what waits.
    pub fn clear(&mut self) {
        self.buffer = None;
        self.payload_len = 0;
        self.checksum = 0;
        self.events = 0;
        self.runs = 0;
        self.parts.clear();
        self.deadline = Instant::FAR_FUTURE;
    }
}

impl<B: DerefMut<Target = [u8]>, T> Accumulator<B, T> {
    /// Adds a batch, whose frame and payload were checked. `buffer` is asked for a buffer of at least
    /// [`MAX_FRAME_LEN`](crate::wire::MAX_FRAME_LEN) bytes if nothing waits yet.
    ///
    /// # Errors
    ///
    /// [`AddError::Full`]: take the entry, then add again. [`AddError::NoBuffer`]: `buffer` had none. Nothing has
    /// changed.
    pub fn add(
        &mut self,
        now: Instant,
        frame: &Frame<'_>,
        batch: &Batch<'_>,
        tag: T,
        buffer: impl FnOnce() -> Option<B>,
    ) -> Result<(), AddError> {
        let payload = batch.payload();
        let (start, end) = (self.payload_len, self.payload_len + payload.len());
        let events = self.events + batch.event_count();
        if usize::from(events) > MAX_BATCH_EVENTS || end > MAX_FRAME_PAYLOAD {
            return Err(AddError::Full);
        }
        if self.buffer.is_none() {
            self.buffer = Some(buffer().ok_or(AddError::NoBuffer)?);
            self.deadline = now + BATCH_DELAY;
        }
        let target = self.buffer.as_mut().expect("was just taken");
        target[HEADER_LEN..][start..end].copy_from_slice(payload);
        self.checksum = combine(self.checksum, frame.header().checksum, payload.len());

        let part = Part {
            tag,
            first_run: self.runs,
            runs: batch.run_count(),
            first_event: self.events,
            events: batch.event_count(),
        };
        assert!(self.parts.push(part).is_ok(), "a part has an event, and there is room for 64");
        self.payload_len = end;
        self.events = events;
        self.runs += batch.run_count();
        Ok(())
    }

    /// The batch that waits, with all its runs; `None` if nothing does.
    #[must_use]
    pub fn batch(&self) -> Option<Batch<'_>> {
        let payload = &self.buffer.as_ref()?[HEADER_LEN..][..self.payload_len];
        Some(Batch::checked_before(payload, self.events, self.runs))
    }

    /// Makes the entry: the buffer, and the length of the frame at its front. `None` if nothing waits.
    pub fn seal(
        &mut self,
        shard: ShardId,
        index: Index,
        term: Term,
        log_time: LogTime,
        crc: Crc32,
    ) -> Option<(B, usize)> {
        let mut buffer = self.buffer.take()?;
        let header = Header {
            kind: Kind::Batch,
            shard,
            event_count: self.events,
            payload_len: self.payload_len as u32,
            batch_id: index.0,
            term,
            timestamp_us: log_time.0,
            checksum: self.checksum,
        };
        let len = seal(&mut buffer, &header, crc);
        self.clear();
        Some((buffer, len))
    }
}

/// Why a batch was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddError {
    /// It does not fit beside what waits.
    Full,
    /// There was no buffer to begin with.
    NoBuffer,
}

impl fmt::Display for AddError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the batch does not fit beside those that wait",
            Self::NoBuffer => "no buffer is free",
        })
    }
}

impl core::error::Error for AddError {}
