//! A mistake planted on purpose, for the simulator to find: duplicates decided when a batch is proposed.
//!
//! Two copies of a batch may both be proposed before either is applied. A leader that then believes what it saw when it
//! proposed them accepts both. In a build without the feature `planted-faults` nothing of this is left.

use crate::raft::LogPosition;

/// Which runs of the entries proposed by this node seemed to be fresh.
#[cfg(feature = "planted-faults")]
#[derive(Clone, Debug)]
pub(super) struct Proposed {
    fresh_runs: heapless::Deque<(LogPosition, u64), 256>,
}

#[cfg(feature = "planted-faults")]
impl Proposed {
    pub(super) const fn new() -> Self {
        Self { fresh_runs: heapless::Deque::new() }
    }

    /// The runs of the entry at `position` that seemed to be fresh, a bit each.
    pub(super) fn note(&mut self, position: LogPosition, runs: u64) {
        if self.fresh_runs.is_full() {
            self.fresh_runs.pop_front();
        }
        assert!(self.fresh_runs.push_back((position, runs)).is_ok(), "room was made");
    }

    /// What was noted for the entry at `position`; nothing for one that another node proposed.
    pub(super) fn take(&mut self, position: LogPosition) -> u64 {
        while let Some(&(noted, runs)) = self.fresh_runs.front() {
            if noted.index > position.index {
                break;
            }
            self.fresh_runs.pop_front();
            if noted == position {
                return runs;
            }
        }
        0
    }
}

/// Nothing: duplicates are decided when an entry is applied.
#[cfg(not(feature = "planted-faults"))]
#[derive(Clone, Debug)]
pub(super) struct Proposed;

#[cfg(not(feature = "planted-faults"))]
impl Proposed {
    pub(super) const fn new() -> Self {
        Self
    }

    pub(super) const fn note(&mut self, _: LogPosition, _: u64) {}

    pub(super) const fn take(&mut self, _: LogPosition) -> u64 {
        0
    }
}
