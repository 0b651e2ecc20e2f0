//! What a node measures of its own work: counters and histograms that one thread writes and any other reads, without locks.
//!
//! There is one writer for a set of [counters](Counters) or for a [histogram](Histogram), so it adds by a load and a store; nothing is
//! added twice or lost. A reader never waits and never makes the writer wait. The memory, a slice of [`Cell`]s, is lent.
//!
//! A cell holds a machine word. It stops at the word's end and does not begin again, so that whoever reads it twice
//! never sees it fall: 2^64 events are never reached, and 2^32, on a small machine, show as that.
//!
//! What there is to measure, and how it is called, is in [`Counted`] and [`Timed`].
//!
//! ```
//! use eventstream_core::metrics::{Cell, Counted, Counters, Histogram};
//!
//! let mut memory = [const { Cell::new() }; Counted::ALL.len()];
//! let (mut counters, reader) = Counters::share(&mut memory);
//! counters.add(Counted::EventsAccepted as usize, 64);
//! assert_eq!(reader.read(Counted::EventsAccepted as usize), 64);
//!
//! let mut memory = [const { Cell::new() }; Histogram::CELLS];
//! let (mut histogram, reader) = Histogram::share(&mut memory);
//! for latency_us in 1..=1_000 {
//!     histogram.record(latency_us);
//! }
//! let mut buckets = [0; Histogram::BUCKETS];
//! let snapshot = reader.snapshot(&mut buckets);
//! assert_eq!((snapshot.count(), snapshot.max()), (1_000, 1_000));
//! // The 990th value, rounded up by at most one part in 32.
//! assert!((990..=1_020).contains(&snapshot.quantile_ppm(990_000)));
//! ```

mod counters;
mod histogram;
mod names;

pub use counters::{CounterReader, Counters};
pub use histogram::{Histogram, HistogramReader, Snapshot, highest_of, position_of};
pub use names::{Counted, Timed};

use crate::sync::{AtomicUsize, const_fn, own};
use core::fmt;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// Memory for one number, which only grows. All zero at first.
pub struct Cell(AtomicUsize);

// Under loom each *use* of an ordering is weakened on its own, to see that a model notices: hence `track_caller`.
impl Cell {
    const_fn! {
        /// A cell that holds zero.
        #[must_use]
        pub fn new() -> Self {
            Self(AtomicUsize::new(0))
        }
    }

    /// Writer: sets a cell. What was set before this is seen by who [`read`](Self::read)s this.
    #[cfg_attr(eventstream_loom, track_caller)]
    fn publish(&self, value: usize) {
        self.0.store(value, Release);
    }

    /// Reader: pairs with [`publish`](Self::publish).
    #[cfg_attr(eventstream_loom, track_caller)]
    fn read(&self) -> usize {
        self.0.load(Acquire)
    }

    /// Writer: what it set last.
    fn own(&self) -> usize {
        own(&self.0)
    }

    /// Writer: sets a cell that others are published after.
    fn set(&self, value: usize) {
        self.0.store(value, Relaxed);
    }

    /// As a number only: what else was set may be seen or not.
    fn glance(&self) -> usize {
        self.0.load(Relaxed)
    }
}

impl Default for Cell {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cell").field(&self.glance()).finish()
    }
}
