//! The side that decides: one thread's, the one that applies entries.

use super::slot::{IdSlot, Link, Own};
use super::{IdReader, Limits, Placed, REMOVED_PER_ENTRY, REMOVED_PER_INSERTION, Verdict};
use crate::digest::Digest;
use crate::id::{EventId, LogTime};
use crate::sync::{fence, own};
use crate::time::Duration;
use core::fmt;
use core::sync::atomic::Ordering::{Relaxed, Release};
use serde::{Deserialize, Serialize};

/// Decides about ids, in the order of the log. There is one for a table:
///
/// ```compile_fail,E0599
/// # use eventstream_core::ids::IdWriter;
/// fn second(writer: IdWriter<'static>) -> (IdWriter<'static>, IdWriter<'static>) {
///     (writer.clone(), writer)
/// }
/// ```
///
/// The same calls leave the same table on every node, whatever its seed and its slots: the same rows under the same
/// numbers, and the same [`sum`](Self::sum).
#[derive(Debug)]
pub struct IdWriter<'m> {
    /// The table as readers see it. The writer's own loads see its own stores.
    table: IdReader<'m>,
    time_to_live: Duration,
    /// Numbers run below this, a whole number of rounds: so a number tells its slot across the end too.
    numbers: u32,
    rows: Bounds,
    /// How many of the newest rows are not drained yet.
    undrained: u32,
    /// Whether `rows` have changed since they were drained.
    is_moved: bool,
    /// The newest stamp that was seen.
    log_time: LogTime,
    /// The sum of the rows' digests.
    sum: u64,
}

/// Which rows there are: consecutive numbers, that of the oldest first. Part of a checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// The number of the oldest row; if there is none, of the next that will come.
    pub first: u32,
    /// Rows.
    pub len: u32,
}

/// A row of a checkpoint. It replaces the one of the same slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRow {
    /// In the order of insertion.
    pub number: u32,
    /// The name of the event.
    pub id: EventId,
    /// Where it lies.
    pub placed: Placed,
    /// When it was applied.
    pub log_time: LogTime,
}

/// Why rows are no checkpoint of this table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreError {
    /// The bounds, or a row's number, are beyond the table's limit.
    OutOfBounds,
    /// The row of this number is missing.
    Missing(u32),
    /// The row of this number is older than the one before it.
    OutOfOrder(u32),
    /// The id of this row was remembered already when it came.
    Twice(u32),
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfBounds => f.write_str("the rows of event ids go beyond the limit of the table"),
            Self::Missing(number) => write!(f, "event id number {number} is missing"),
            Self::OutOfOrder(number) => write!(f, "event id number {number} is older than the one before it"),
            Self::Twice(number) => write!(f, "event id number {number} was there already when it came"),
        }
    }
}

impl core::error::Error for RestoreError {}

impl<'m> IdWriter<'m> {
    /// The writer of an empty table.
    pub(super) const fn new(table: IdReader<'m>, limits: Limits) -> Self {
        let limit = limits.ids.get();
        Self {
            table,
            time_to_live: limits.time_to_live,
            numbers: u32::MAX / limit * limit,
            rows: Bounds { first: 0, len: 0 },
            undrained: 0,
            is_moved: false,
            log_time: LogTime::ZERO,
            sum: 0,
        }
    }

    /// Rows, those included whose time is over and that were not removed yet.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.rows.len
    }

    /// Whether there is no row.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rows.len == 0
    }

    /// The hash of all rows, whichever slots they are in. Part of the state hash.
    #[must_use]
    pub const fn sum(&self) -> u64 {
        self.sum
    }

    /// Which rows there are.
    #[must_use]
    pub const fn bounds(&self) -> Bounds {
        self.rows
    }

    /// Decides about an event in an entry of this log time. Changes nothing: [`insert`](Self::insert) does.
    pub fn judge(&self, id: EventId, log_time: LogTime) -> Verdict {
        if let Some(slot) = self.newest(id)
            && !self.is_over(slot, log_time)
        {
            return Verdict::Duplicate(slot.placed::<Own>());
        }
        let is_full = self.rows.len == self.limit() && !self.is_over(self.table.slot(self.rows.first), log_time);
        if is_full { Verdict::TableFull } else { Verdict::Fresh }
    }

    /// Decides as [`judge`](Self::judge) does. If the id is fresh, it is remembered from here on, and up to two of the
    /// oldest rows make room whose time is over.
    ///
    /// # Panics
    ///
    /// If log time goes back: it never decreases along the log.
    pub fn insert(&mut self, id: EventId, placed: Placed, log_time: LogTime) -> Verdict {
        let verdict = self.judge(id, log_time);
        if verdict == Verdict::Fresh {
            self.remove(log_time, REMOVED_PER_INSERTION);
            self.add(IdRow { number: self.next_number(), id, placed, log_time });
            self.undrained += 1;
            self.is_moved = true;
        }
        verdict
    }

    /// Removes up to [`REMOVED_PER_ENTRY`] of the oldest rows, if their time is over at this log time. To be called once for
    /// each entry, on every node alike, so that readers are not told of what is long past.
    ///
    /// # Panics
    ///
    /// If log time goes back: it never decreases along the log.
    pub fn expire(&mut self, log_time: LogTime) {
        self.remove(log_time, REMOVED_PER_ENTRY);
    }

    /// Takes a row that was inserted since it was last taken, with the number of its slot, in the order of insertion.
    pub fn poll_changed(&mut self) -> Option<(u32, IdRow)> {
        let before = self.rows.len - self.undrained;
        self.undrained = self.undrained.checked_sub(1)?;
        let number = self.number(before);
        Some((number % self.limit(), self.load(number)))
    }

    /// Takes the [bounds](Self::bounds) if they have changed since they were last taken.
    pub fn poll_bounds(&mut self) -> Option<Bounds> {
        core::mem::take(&mut self.is_moved).then_some(self.rows)
    }

    /// Takes back a row of a checkpoint, in any order, into an empty table. [`restore`](Self::restore) has to follow, and until
    /// then nothing is found.
    ///
    /// # Errors
    ///
    /// [`RestoreError::OutOfBounds`]: numbers are below a limit of their own.
    pub fn put_back(&mut self, row: &IdRow) -> Result<(), RestoreError> {
        assert!(self.is_empty(), "rows are put back before any is inserted");
        if row.number >= self.numbers {
            return Err(RestoreError::OutOfBounds);
        }
        let slot = self.table.slot(row.number);
        slot.write(row.id, row.placed, row.log_time, 0);
        slot.row.store(link(row.number), Relaxed);
        Ok(())
    }

    /// Makes a table of the rows that were put back. Those beyond the bounds were removed before the checkpoint, and are
    /// dropped.
    ///
    /// # Errors
    ///
    /// [`RestoreError`]: these rows are of no table of this limit and time to live. The table is of no use then.
    pub fn restore(&mut self, bounds: Bounds) -> Result<(), RestoreError> {
        assert!(self.is_empty(), "rows are put back before any is inserted");
        if bounds.first >= self.numbers || bounds.len > self.limit() {
            return Err(RestoreError::OutOfBounds);
        }
        self.rows.first = bounds.first;
        for place in 0..self.limit() {
            let number = self.number(place);
            let slot = self.table.slot(number);
            let is_there = own(&slot.row) == link(number);
            slot.row.store(0, Relaxed);
            if place >= bounds.len {
                continue;
            }
            if !is_there {
                return Err(RestoreError::Missing(number));
            }
            let row = self.load(number);
            if row.log_time < self.log_time {
                return Err(RestoreError::OutOfOrder(number));
            }
            if matches!(self.judge(row.id, row.log_time), Verdict::Duplicate(_)) {
                return Err(RestoreError::Twice(number));
            }
            self.add(row);
        }
        Ok(())
    }

    /// Removes up to `most` of the oldest rows whose time is over.
    fn remove(&mut self, log_time: LogTime, most: u32) {
        assert!(log_time >= self.log_time, "log time never decreases");
        self.log_time = log_time;
        for _ in 0..most {
            let oldest = self.rows.first;
            let slot = self.table.slot(oldest);
            if self.is_empty() || !self.is_over(slot, log_time) {
                return;
            }
            self.sum = self.sum.wrapping_sub(self.load(oldest).digest());
            // The last row of its bucket takes the bucket's link along, so that no bucket leads to a number that comes round.
            let bucket = &self.table.bucket(slot.id()).bucket;
            if own(bucket) == link(oldest) {
                bucket.store(0, Relaxed);
            }
            slot.row.store(0, Relaxed);
            self.rows = Bounds { first: self.number(1), len: self.rows.len - 1 };
            self.undrained = self.undrained.min(self.rows.len);
            self.is_moved = true;
        }
    }

    /// Adds the newest row, for which there is room.
    fn add(&mut self, row: IdRow) {
        assert!(self.rows.len < self.limit(), "the verdict found room, and nothing came between");
        self.log_time = row.log_time;
        self.sum = self.sum.wrapping_add(row.digest());
        self.rows.len += 1;
        self.publish(&row);
    }

    /// Shows a row to the readers. Its slot has none.
    fn publish(&self, row: &IdRow) {
        let (slot, bucket) = (self.table.slot(row.number), &self.table.bucket(row.id).bucket);
        debug_assert_eq!(own(&slot.row), 0, "a row is removed before its slot is written");
        // Release: pairs with the acquire fence in `IdReader::find`. Who reads a word that is written below sees afterwards that the
        // row that was here before is gone.
        fence(Release);
        slot.write(row.id, row.placed, row.log_time, own(bucket) as Link);
        slot.row.store(link(row.number), Relaxed);
        // Release: pairs with the load of the link in `IdReader::find`. Who is led here sees the row.
        bucket.store(link(row.number), Release);
    }

    /// The newest row of this id, if it has one.
    fn newest(&self, id: EventId) -> Option<&'m IdSlot> {
        let mut link = own(&self.table.bucket(id).bucket) as Link;
        loop {
            let slot = self.table.slot(link.checked_sub(1)?);
            if own(&slot.row) as Link != link {
                // It was removed, and with it all older ones of its chain.
                return None;
            }
            if slot.is_of::<Own>(id) {
                return Some(slot);
            }
            link = slot.older::<Own>();
        }
    }

    fn load(&self, number: u32) -> IdRow {
        let slot = self.table.slot(number);
        IdRow { number, id: slot.id(), placed: slot.placed::<Own>(), log_time: slot.log_time() }
    }

    /// Whether the time of the row in this slot is over at this log time.
    fn is_over(&self, slot: &IdSlot, log_time: LogTime) -> bool {
        log_time.0.saturating_sub(slot.log_time().0) >= self.time_to_live.as_micros()
    }

    const fn next_number(&self) -> u32 {
        self.number(self.rows.len)
    }

    /// The number that comes `places` after that of the oldest row.
    const fn number(&self, places: u32) -> u32 {
        ((self.rows.first as u64 + places as u64) % self.numbers as u64) as u32
    }

    /// Rows, at most.
    const fn limit(&self) -> u32 {
        self.table.slots.len() as u32
    }
}

impl IdRow {
    /// The hash of what decisions depend on. The number is left out: it tells the row's place among the others.
    fn digest(&self) -> u64 {
        let topic = u64::from(self.placed.topic.0);
        let place = Digest::new(0).bytes(&self.id.0).number(self.placed.index.0).number(topic);
        place.number(self.placed.offset.0).number(self.log_time.0).value()
    }
}

/// The link to the row of this number.
const fn link(number: u32) -> usize {
    number as usize + 1
}
