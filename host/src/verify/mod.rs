//! Checks the invariants of the design (section 10) after the fact, and names the place of what does not hold.
//!
//! - [`directories`]: the data of nodes that do not run, read from the first entry to the last. Nothing in it changes.
//! - [`servers`]: nodes that run, asked and read as any client could.
//!
//! What a directory is held against: the frames' own checksums and those of the synced batches; the rules of a log; the
//! applied state and the topic index that the log gives when it is replayed (`meaning`), which are to be those that
//! the node has written; and, apart from the code that decides, dense offsets and each producer's order. Then the
//! directories are held against each other (`across`).
//!
//! Of the invariants, 1 to 8 can show in data, 5 only as far as nothing is accepted twice: what was acknowledged is known to
//! clients alone. 9 and 10, memory and progress, are of running nodes.
//!
//! Everything is streamed: beside the tables of the applied state, some megabytes per directory.

mod across;
mod checkpoint;
mod directory;
mod live;
mod log;
mod meaning;
mod oracle;
mod rows;
mod violation;

pub use across::Divergence;
pub use directory::{NodeReport, Refusal, Report, directories, node_directories};
pub use live::{LiveError, LiveNode, LiveReport, servers};
pub use violation::{Findings, Invariant, Place, Violation};

use core::sync::atomic::{AtomicU64, Ordering};

/// How far a check is, for whoever shows it: read from any thread.
#[derive(Debug, Default)]
pub struct Meter {
    done: AtomicU64,
    of: AtomicU64,
}

impl Meter {
    /// What was checked, and of how much: entries of directories, events of servers. The latter may still grow.
    #[must_use]
    pub fn read(&self) -> (u64, u64) {
        (self.done.load(Ordering::Relaxed), self.of.load(Ordering::Relaxed))
    }

    fn expect(&self, more: u64) {
        self.of.fetch_add(more, Ordering::Relaxed);
    }

    fn add(&self, done: u64) {
        self.done.fetch_add(done, Ordering::Relaxed);
    }
}
