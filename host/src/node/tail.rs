//! The newest entries of the log as whole frames in memory, by index.
//!
//! An entry enters when it joins the log and may go when nobody needs it from here any more: it is durable on this
//! node, applied, and its rows of the topic index are written. Beyond that the tail keeps what fits its bound, newest
//! first, so that a peer or a subscription that is a little behind is served from memory; what is older is read from
//! disk by the reader.

use super::memory::SharedFrame;
use eventstream_core::id::Index;
use std::collections::VecDeque;

/// Frames of consecutive entries that end with the last entry of the log.
#[derive(Debug)]
pub(crate) struct Tail {
    /// The frames of consecutive entries, the first of them that of `first`.
    frames: VecDeque<SharedFrame>,
    /// The index of the first entry held; if none is held, the index that the next one is expected to have.
    first: Index,
    /// The sum of the lengths of all frames held.
    bytes: usize,
    /// The part of it that is after `done`.
    needed_bytes: usize,
    /// Entries up to here are not needed any more.
    done: Index,
    /// Bytes up to which entries are kept although they are not needed.
    keep_bytes: usize,
}

impl Tail {
    /// An empty tail of a log whose last entry is at `last`.
    pub(crate) fn new(last: Index, keep_bytes: usize) -> Self {
        Self {
            frames: VecDeque::with_capacity(4_096),
            first: last.next(),
            bytes: 0,
            needed_bytes: 0,
            done: last,
            keep_bytes,
        }
    }

    /// The first index held, if any is.
    pub(crate) fn first(&self) -> Option<Index> {
        (!self.frames.is_empty()).then_some(self.first)
    }

    /// The index after the last entry held.
    pub(crate) fn end(&self) -> Index {
        self.first.plus(self.frames.len() as u64)
    }

    /// Bytes of the frames that are still needed by storage, apply or the topic index.
    pub(crate) fn needed_bytes(&self) -> usize {
        self.needed_bytes
    }

    /// The entry at `index`, if it is held.
    pub(crate) fn entry(&self, index: Index) -> Option<&SharedFrame> {
        let position = index.0.checked_sub(self.first.0)?;
        self.frames.get(usize::try_from(position).ok()?)
    }

    /// Whether every entry from `first` to `last`, both included, is held.
    pub(crate) fn holds(&self, first: Index, last: Index) -> bool {
        self.first <= first && last < self.end()
    }

    /// Entries from `first` to `last`, both included. All of them are to be held.
    pub(crate) fn range(&self, first: Index, last: Index) -> impl Iterator<Item = &SharedFrame> + Clone {
        assert!(self.holds(first, last), "entries {first}..={last} are not in the tail");
        let from = (first.0 - self.first.0) as usize;
        let to = (last.0 + 1 - self.first.0) as usize;
        self.frames.range(from..to)
    }

    /// Adds the entry at `index`. What was at and after it is removed first: it was truncated.
    ///
    /// An index beyond the end begins the tail anew: the log between is only on disk.
    pub(crate) fn push(&mut self, index: Index, frame: SharedFrame) {
        self.truncate_from(index);
        if index != self.end() {
            self.drop_from(self.first);
            self.first = index;
        }
        self.bytes += frame.len();
        if index > self.done {
            self.needed_bytes += frame.len();
        }
        self.frames.push_back(frame);
    }

    /// Removes the entries at and after `index`: others will take their place, and will be needed.
    pub(crate) fn truncate_from(&mut self, index: Index) {
        self.drop_from(index);
        self.done = self.done.min(index.prev());
    }

    fn drop_from(&mut self, index: Index) {
        while self.end() > index {
            let last = self.end().prev();
            let Some(frame) = self.frames.pop_back() else {
                self.first = index;
                return;
            };
            self.forget(last, frame.len());
        }
    }

    /// Entries up to `done` are not needed any more. Those that do not fit the bound go, or all of them if
    /// `memory_is_short`.
    pub(crate) fn release(&mut self, done: Index, memory_is_short: bool) {
        while self.done < done {
            self.done = self.done.next();
            self.needed_bytes -= self.entry(self.done).map_or(0, |frame| frame.len());
        }
        while self.first <= self.done && (memory_is_short || self.bytes > self.keep_bytes) {
            let Some(frame) = self.frames.pop_front() else { return };
            let index = self.first;
            self.first = index.next();
            self.forget(index, frame.len());
        }
    }

    fn forget(&mut self, index: Index, len: usize) {
        self.bytes -= len;
        if index > self.done {
            self.needed_bytes -= len;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::memory::{StaticPool, pool};

    fn frame(pool: StaticPool, len: usize) -> SharedFrame {
        let mut block = pool.take().expect("blocks enough");
        block.truncate(len);
        block.freeze()
    }

    fn filled(pool: StaticPool, first: u64, count: u64) -> Tail {
        let mut tail = Tail::new(Index(first - 1), 250);
        (first..first + count).for_each(|index| tail.push(Index(index), frame(pool, 100)));
        tail
    }

    #[test]
    fn entries_are_found_by_index() {
        let tail = filled(pool(8), 11, 3);
        assert_eq!((tail.first(), tail.end()), (Some(Index(11)), Index(14)));
        assert!(tail.entry(Index(10)).is_none() && tail.entry(Index(14)).is_none());
        assert!(tail.holds(Index(11), Index(13)) && !tail.holds(Index(10), Index(12)));
        assert_eq!(tail.range(Index(12), Index(13)).count(), 2);
    }

    #[test]
    fn what_is_needed_stays_whatever_the_bound() {
        let pool = pool(8);
        let mut tail = filled(pool, 11, 6);
        tail.release(Index(10), true);
        assert_eq!((tail.first(), tail.needed_bytes(), pool.free()), (Some(Index(11)), 600, 2));
        tail.release(Index(12), false);
        assert_eq!(
            (tail.first(), tail.needed_bytes()),
            (Some(Index(13)), 400),
            "600 and 500 bytes are above the bound"
        );
        tail.release(Index(16), false);
        assert_eq!((tail.first(), tail.needed_bytes()), (Some(Index(15)), 0), "200 bytes are kept");
        tail.release(Index(16), true);
        assert_eq!((tail.first(), tail.end(), pool.free()), (None, Index(17), 8));
    }

    #[test]
    fn an_entry_replaces_what_was_truncated() {
        let mut tail = filled(pool(8), 11, 4);
        tail.push(Index(12), frame(pool(1), 50));
        assert_eq!((tail.end(), tail.needed_bytes()), (Index(13), 150));
        assert_eq!(tail.entry(Index(12)).map(|frame| frame.len()), Some(50));
    }

    #[test]
    fn what_takes_the_place_of_what_was_not_needed_is_needed() {
        let mut tail = filled(pool(8), 11, 4);
        tail.release(Index(14), true);
        tail.push(Index(13), frame(pool(1), 50));
        tail.release(Index(12), true);
        assert_eq!((tail.first(), tail.needed_bytes()), (Some(Index(13)), 50));
    }

    #[test]
    fn truncation_below_the_tail_leaves_it_empty_and_in_place() {
        let mut tail = filled(pool(8), 11, 4);
        tail.truncate_from(Index(5));
        assert_eq!((tail.first(), tail.end(), tail.needed_bytes()), (None, Index(5), 0));
        tail.push(Index(5), frame(pool(1), 50));
        assert_eq!((tail.first(), tail.end()), (Some(Index(5)), Index(6)));
    }
}
