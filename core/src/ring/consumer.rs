//! The end that pops.

use super::Ring;
use core::fmt;

/// The end of a [`Ring`] that pops. There is one for each ring; it may be sent to another thread, not shared.
pub struct Consumer<'r, T, const N: usize> {
    ring: &'r Ring<T, N>,
    /// Next position to read. At or ahead of the published one; ahead only while a call runs.
    head: usize,
    /// The producer's position when last looked at: at or behind the real one, so there are at least these items.
    tail: usize,
}

// SAFETY: an item moves here from the producer's thread, so `T: Send`. What both ends share, positions and flags, is atomic,
// and the slots change hands by them; all else is the consumer's own.
unsafe impl<T: Send, const N: usize> Send for Consumer<'_, T, N> {}

impl<'r, T, const N: usize> Consumer<'r, T, N> {
    pub(super) fn new(ring: &'r Ring<T, N>, tail: usize, head: usize) -> Self {
        Self { ring, head, tail }
    }

    /// How many items the ring can hold.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        N
    }

    /// Items that can be popped now. The producer may be pushing: it is at least this.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ring.tail.glance().wrapping_sub(self.head)
    }

    /// Whether there is nothing to pop at this moment.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Room that the producer has now: at most this.
    #[must_use]
    pub fn free(&self) -> usize {
        N - self.len()
    }

    /// Whether the producer was dropped: once this is true, a [`Self::pop`] that gives nothing is the last.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.ring.tail.is_gone()
    }

    /// Pops the oldest item; `None` when the ring is empty.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        if self.ready(1) == 0 {
            return None;
        }
        let item = self.read();
        self.ring.head.publish(self.head);
        Some(item)
    }

    /// The oldest item, left where it is.
    #[inline]
    pub fn peek(&mut self) -> Option<&T> {
        if self.ready(1) == 0 {
            return None;
        }
        // SAFETY: the head is in head..tail, so its slot holds an item and is the consumer's. It stays so for as long as the
        // consumer is borrowed, because only the consumer moves the head.
        Some(self.ring.slot(self.head).with(|slot| unsafe { (*slot).assume_init_ref() }))
    }

    /// Pops items into the front of `out`, as many as there are and fit, and gives their slots back together.
    /// Returns how many.
    #[inline]
    pub fn pop_slice(&mut self, out: &mut [T]) -> usize
    where
        T: Copy,
    {
        let count = self.ready(out.len()).min(out.len());
        let (first, second) = self.ring.slots(self.head, count);
        let (from_first, from_second) = out[..count].split_at_mut(first.len());
        for (slots, out) in [(first, from_first), (second, from_second)] {
            for (slot, out) in slots.iter().zip(out) {
                // SAFETY: at least `count` positions from the head on hold items, and `T` is `Copy`.
                *out = slot.with(|slot| unsafe { (*slot).assume_init() });
            }
        }
        self.head = self.head.wrapping_add(count);
        if count > 0 {
            self.ring.head.publish(self.head);
        }
        count
    }

    /// Pops at most `limit` items one after the other into `take`, and gives their slots back together.
    /// Returns how many.
    ///
    /// Items that are pushed meanwhile count too. Should `take` panic, the item that it was given is popped, later ones
    /// are not.
    #[inline]
    pub fn pop_each(&mut self, limit: usize, mut take: impl FnMut(T)) -> usize {
        let start = self.head;
        let batch = PopBatch(self);
        while batch.0.head.wrapping_sub(start) < limit && batch.0.ready(1) > 0 {
            take(batch.0.read());
        }
        batch.0.head.wrapping_sub(start)
    }

    /// Items to pop, as far as known; the producer's position is looked at only when fewer than `wanted` are known.
    #[inline(always)]
    fn ready(&mut self, wanted: usize) -> usize {
        let known = self.tail.wrapping_sub(self.head);
        if known >= wanted {
            return known;
        }
        self.tail = self.ring.tail.position();
        self.tail.wrapping_sub(self.head)
    }

    /// Moves the item out of the head's slot, without giving the slot back. There must be one.
    #[inline(always)]
    fn read(&mut self) -> T {
        debug_assert!(self.tail != self.head);
        // SAFETY: the head is in head..tail, so its slot holds an item and is the consumer's. The head moves past it
        // at once, so that it is read once.
        let item = self.ring.slot(self.head).with(|slot| unsafe { (*slot).assume_init_read() });
        self.head = self.head.wrapping_add(1);
        item
    }
}

/// Gives back the slots that a batch read, also when the caller's closure panics.
struct PopBatch<'c, 'r, T, const N: usize>(&'c mut Consumer<'r, T, N>);

impl<T, const N: usize> Drop for PopBatch<'_, '_, T, N> {
    fn drop(&mut self) {
        self.0.ring.head.publish(self.0.head);
    }
}

impl<T, const N: usize> Drop for Consumer<'_, T, N> {
    fn drop(&mut self) {
        self.ring.head.leave();
    }
}

impl<T, const N: usize> fmt::Debug for Consumer<'_, T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("len", &self.len()).field("capacity", &N).finish_non_exhaustive()
    }
}
