//! Event ids: which events without a producer are there already, and where.
//!
//! A caller that does not number its events gives each a name of 128 bits. The table remembers for each id that was
//! applied where its event lies, until log time (the leader's stamps, never a clock) has passed it by the table's *time
//! to live*. It holds a fixed number of ids: when it is full of ids whose time is not over, another is refused, retryably;
//! none is ever forgotten early.
//!
//! One thread, the one that applies entries, has the [`IdWriter`], and decides. Any other may have an [`IdReader`], which
//! answers from the same memory without locks and without ever waiting, so that a known event can be answered before it
//! is proposed. The decision at apply is the one that counts.
//!
//! ```
//! use core::num::NonZeroU32;
//! use eventstream_core::id::{EventId, Index, LogTime, Offset, TopicId};
//! use eventstream_core::ids::{self, IdSlot, Placed, Verdict};
//! use eventstream_core::time::Duration;
//!
//! let mut memory = [const { IdSlot::new() }; 2];
//! let limits = ids::Limits { ids: NonZeroU32::new(2).unwrap(), time_to_live: Duration::from_secs(60) };
//! let (mut writer, reader) = ids::share(&mut memory, limits, 7)?;
//!
//! let placed = Placed { index: Index(1), topic: TopicId(0), offset: Offset(0) };
//! let second = |number: u64| LogTime(number * 1_000_000);
//! assert_eq!(writer.insert(EventId([1; 16]), placed, second(0)), Verdict::Fresh);
//! assert_eq!(writer.insert(EventId([1; 16]), placed, second(1)), Verdict::Duplicate(placed));
//! let found = std::thread::scope(|scope| scope.spawn(|| reader.find(EventId([1; 16]))).join().unwrap());
//! assert_eq!(found, Some(placed));
//! # Ok::<(), usize>(())
//! ```
//!
//! # How it works
//!
//! Log time never decreases, and all ids live equally long: they go in the order in which they came. So rows lie in a
//! circle of slots, where the newest follow on each other and the oldest make room. The slots are the buckets of a hash
//! index as well, each of which leads to its newest row, and each row to the next older one of its bucket.
//!
//! Two things follow. A row that goes is the last of its chain, so removing it breaks no chain: whoever comes to where
//! it was knows that all that came after it is gone too. And a row may be named by its *number* in the order of insertion,
//! which tells its slot, and which the slot repeats: a reader that was led to a row sees whether it is still the
//! same one, and never has to begin again. Numbers come round after some four thousand million insertions; a reader would
//! have to sleep in the midst of one look that long, to the very insertion, to take one row for another.
//!
//! Nothing here is `unsafe`: what is shared is atomic, word by word, and what a reader read is of one row because its slot
//! still repeats the row's number *after* the words were read (a sequence lock, Boehm, "Can seqlocks get along with
//! programming language memory models?", 2012).

mod reader;
mod slot;
#[cfg(all(test, not(eventstream_loom)))]
mod tests;
mod writer;

pub use reader::IdReader;
pub use slot::IdSlot;
pub use writer::{Bounds, IdRow, IdWriter, RestoreError};

use crate::id::{Index, Offset, TopicId};
use crate::time::Duration;
use core::num::NonZeroU32;

/// Rows that [`IdWriter::insert`] removes, at most: more than the one that it adds, so that a table which was left full of
/// ids whose time is over empties.
const REMOVED_PER_INSERTION: u32 = 2;
/// Rows that [`IdWriter::expire`] removes, at most.
pub const REMOVED_PER_ENTRY: u32 = 128;

/// What decides about ids. The same on every node of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Ids remembered at the same time; at most [`MAX_IDS`].
    pub ids: NonZeroU32,
    /// For how long, in log time, an id is remembered.
    pub time_to_live: Duration,
}

/// The most ids that a table holds: their numbers in 32 bits are those of at least two rounds.
pub const MAX_IDS: u32 = u32::MAX / 2;

/// Where the event of an id lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Placed {
    /// The entry of the log that brought it.
    pub index: Index,
    /// Its topic.
    pub topic: TopicId,
    /// Its offset there.
    pub offset: Offset,
}

/// What is to become of an event with an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// The id was not there: the event may be accepted.
    Fresh,
    /// The id's event is there already.
    Duplicate(Placed),
    /// The table is full of ids whose time is not over. The same event may be accepted later.
    TableFull,
}

/// Makes an empty table of the lent slots, of which the first [`Limits::ids`] are used, and lends out its two sides.
/// Whatever the memory holds is forgotten. A slot is 64 bytes.
///
/// `seed` keeps anybody from preparing ids that are slow to find. No decision depends on it.
///
/// # Errors
///
/// The number of slots lent, if they are fewer than the limit.
///
/// # Panics
///
/// If the limit is above [`MAX_IDS`].
pub fn share(memory: &mut [IdSlot], limits: Limits, seed: u64) -> Result<(IdWriter<'_>, IdReader<'_>), usize> {
    assert!(limits.ids.get() <= MAX_IDS, "numbers of ids fit 32 bits, twice over");
    let lent = memory.len();
    let slots = memory.get_mut(..limits.ids.get() as usize).ok_or(lent)?;
    slots.fill_with(IdSlot::new);
    let reader = IdReader::new(slots, seed);
    Ok((IdWriter::new(reader, limits), reader))
}
