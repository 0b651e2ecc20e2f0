//! The end that pushes.

use super::Ring;
use core::fmt;
use core::mem::MaybeUninit;

/// The end of a [`Ring`] that pushes. There is one for each ring; it may be sent to another thread, not shared.
pub struct Producer<'r, T, const N: usize> {
    ring: &'r Ring<T, N>,
    /// The consumer's position when last looked at: at or behind the real one, so there is at least this much room.
    head: usize,
}

// SAFETY: an item moves to the consumer's thread, so `T: Send`. What both ends share, positions and flags, is atomic, and
// the slots change hands by them; all else is the producer's own.
unsafe impl<T: Send, const N: usize> Send for Producer<'_, T, N> {}

/// The ring was full; here is the item again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Full<T>(pub T);

impl<'r, T, const N: usize> Producer<'r, T, N> {
    pub(super) fn new(ring: &'r Ring<T, N>, head: usize) -> Self {
        Self { ring, head }
    }

    /// How many items the ring can hold.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        N
    }

    /// Items that were pushed and not yet popped. The consumer may be popping: it is at most this.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tail().wrapping_sub(self.ring.head.glance())
    }

    /// Whether the consumer has popped everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Items that can be pushed now. The consumer may be popping: it is at least this.
    #[must_use]
    pub fn free(&self) -> usize {
        N - self.len()
    }

    /// Whether the consumer was dropped: nothing more will be popped, and [`Self::len`] is final.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.ring.head.is_gone()
    }

    /// Pushes one item.
    ///
    /// # Errors
    ///
    /// [`Full`] with the item, when the ring holds `N`.
    #[inline]
    pub fn push(&mut self, item: T) -> Result<(), Full<T>> {
        let tail = self.tail();
        if self.room(tail, 1) == 0 {
            return Err(Full(item));
        }
        self.write(tail, item);
        self.ring.tail.publish(tail.wrapping_add(1));
        Ok(())
    }

    /// Pushes as many items from the front of `items` as there is room for, and makes them visible together.
    /// Returns how many.
    #[inline]
    pub fn push_slice(&mut self, items: &[T]) -> usize
    where
        T: Copy,
    {
        let tail = self.tail();
        let count = self.room(tail, items.len()).min(items.len());
        let (first, second) = self.ring.slots(tail, count);
        let (to_first, to_second) = items[..count].split_at(first.len());
        for (slots, items) in [(first, to_first), (second, to_second)] {
            for (slot, item) in slots.iter().zip(items) {
                // SAFETY: there is room for `count` items, so these slots are outside head..tail and the producer's.
                slot.with_mut(|slot| unsafe { slot.write(MaybeUninit::new(*item)) });
            }
        }
        if count > 0 {
            self.ring.tail.publish(tail.wrapping_add(count));
        }
        count
    }

    /// Takes items from `items` and pushes them until either has no more to give, and makes them visible together.
    /// Returns how many.
    ///
    /// Nothing is taken from `items` that is not pushed: with `by_ref()` the caller keeps the rest. Should the iterator
    /// panic, what it gave before stays pushed.
    #[inline]
    pub fn push_each(&mut self, items: impl IntoIterator<Item = T>) -> usize {
        let mut items = items.into_iter();
        let start = self.tail();
        let mut batch = PushBatch { ring: self.ring, tail: start };
        while self.room(batch.tail, 1) > 0 {
            let Some(item) = items.next() else { break };
            self.write(batch.tail, item);
            batch.tail = batch.tail.wrapping_add(1);
        }
        batch.tail.wrapping_sub(start)
    }

    /// Where to write next. Only this end writes it, so the shared position is read as if it were the producer's own: a
    /// copy beside `head` would be one more store for each push, and stores are what a busy producer waits for.
    #[inline(always)]
    fn tail(&self) -> usize {
        self.ring.tail.glance()
    }

    /// Room for items from `tail` on, as far as known; the consumer's position is looked at only when less than `wanted`
    /// is known.
    #[inline(always)]
    fn room(&mut self, tail: usize, wanted: usize) -> usize {
        let known = N - tail.wrapping_sub(self.head);
        if known >= wanted {
            return known;
        }
        self.head = self.ring.head.position();
        N - tail.wrapping_sub(self.head)
    }

    /// Writes an item for which there is room, at the published tail or, in a batch, beyond it.
    #[inline(always)]
    fn write(&mut self, tail: usize, item: T) {
        debug_assert!(tail.wrapping_sub(self.head) < N);
        // SAFETY: there is room at `tail`, so its slot is outside head..tail: the producer's, and it holds no item.
        self.ring.slot(tail).with_mut(|slot| unsafe { slot.write(MaybeUninit::new(item)) });
    }
}

/// Publishes what a batch wrote, also when the caller's iterator panics.
struct PushBatch<'r, T, const N: usize> {
    ring: &'r Ring<T, N>,
    tail: usize,
}

impl<T, const N: usize> Drop for PushBatch<'_, T, N> {
    fn drop(&mut self) {
        self.ring.tail.publish(self.tail);
    }
}

impl<T, const N: usize> Drop for Producer<'_, T, N> {
    fn drop(&mut self) {
        self.ring.tail.leave();
    }
}

impl<T, const N: usize> fmt::Debug for Producer<'_, T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("len", &self.len()).field("capacity", &N).finish_non_exhaustive()
    }
}

// By hand, so that neither asks anything of the item, nor shows it.
impl<T> fmt::Debug for Full<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Full(..)")
    }
}

impl<T> fmt::Display for Full<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the ring is full")
    }
}

impl<T> core::error::Error for Full<T> {}
