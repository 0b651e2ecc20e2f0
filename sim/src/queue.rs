//! What happens next: events by virtual time, and in the order of their scheduling where the time is the same.

use core::cmp::Reverse;
use std::collections::BinaryHeap;

/// A queue of events by time. The heap holds 16 bytes for each; the events lie still in slots that are used again.
#[derive(Debug)]
pub(crate) struct Queue<E> {
    /// Time (64 bits), order of scheduling (32), slot (32).
    heap: BinaryHeap<Reverse<u128>>,
    slots: Vec<E>,
    free: Vec<u32>,
    scheduled: u32,
}

impl<E: Copy> Queue<E> {
    pub(crate) fn new() -> Self {
        Self { heap: BinaryHeap::new(), slots: Vec::new(), free: Vec::new(), scheduled: 0 }
    }

    /// Forgets everything but the memory.
    pub(crate) fn clear(&mut self) {
        self.heap.clear();
        self.slots.clear();
        self.free.clear();
        self.scheduled = 0;
    }

    pub(crate) fn push(&mut self, at: u64, event: E) {
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = event;
                slot
            }
            None => {
                self.slots.push(event);
                self.slots.len() as u32 - 1
            }
        };
        self.heap.push(Reverse(u128::from(at) << 64 | u128::from(self.scheduled) << 32 | u128::from(slot)));
        self.scheduled += 1;
    }

    /// When the next event is due; `u64::MAX` if there is none.
    pub(crate) fn next_at(&self) -> u64 {
        self.heap.peek().map_or(u64::MAX, |Reverse(key)| (key >> 64) as u64)
    }

    pub(crate) fn pop(&mut self) -> Option<(u64, E)> {
        let Reverse(key) = self.heap.pop()?;
        let slot = key as u32;
        self.free.push(slot);
        Some(((key >> 64) as u64, self.slots[slot as usize]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_time_then_by_order_of_scheduling() {
        let mut queue = Queue::new();
        for (at, event) in [(5, 'c'), (1, 'a'), (5, 'd'), (2, 'b'), (5, 'e')] {
            queue.push(at, event);
        }
        assert_eq!(queue.next_at(), 1);
        let order: String = core::iter::from_fn(|| queue.pop()).map(|(_, event)| event).collect();
        assert_eq!(order, "abcde");
        assert_eq!(queue.next_at(), u64::MAX);
    }

    #[test]
    fn slots_are_used_again() {
        let mut queue = Queue::new();
        for at in 0..100 {
            queue.push(at, at);
            assert_eq!(queue.pop(), Some((at, at)));
        }
        assert_eq!(queue.slots.len(), 1);
    }
}
