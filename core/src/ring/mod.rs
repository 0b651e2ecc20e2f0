//! Single-producer single-consumer ring of a fixed capacity.
//!
//! Every hop between two threads is one of these. Neither end ever waits or allocates: a full ring gives the item back
//! and an empty one gives nothing. What to do then, and how to sleep, is the caller's (see [`Doorbell`]).
//!
//! The positions of both ends run freely and wrap with `usize`; the slot is the position modulo `N`. Each end keeps
//! a copy of the other's position and looks at the shared one only when the copy says *full* or *empty*, so that in the
//! steady state the ends do not touch each other's cache lines.
//!
//! ```
//! use eventstream_core::ring::{Full, Ring};
//!
//! let mut ring: Ring<u32, 2> = Ring::new();
//! let (mut producer, mut consumer) = ring.split();
//! assert_eq!(producer.push(1), Ok(()));
//! assert_eq!(producer.push(2), Ok(()));
//! assert_eq!(producer.push(3), Err(Full(3)));
//! assert_eq!(consumer.pop(), Some(1));
//! ```
//!
//! A second producer cannot be had, neither by splitting again while the first lives nor by cloning it:
//!
//! ```compile_fail,E0499
//! # use eventstream_core::ring::Ring;
//! let mut ring: Ring<u32, 2> = Ring::new();
//! let (mut first, _consumer) = ring.split();
//! let (mut second, _consumer) = ring.split();
//! first.push(1);
//! ```
//!
//! ```compile_fail,E0599
//! # use eventstream_core::ring::Ring;
//! let mut ring: Ring<u32, 2> = Ring::new();
//! let (first, _consumer) = ring.split();
//! let second = first.clone();
//! ```
//!
//! nor by sharing it between threads, and a push needs it exclusively:
//!
//! ```compile_fail,E0277
//! # use eventstream_core::ring::Ring;
//! let mut ring: Ring<u32, 2> = Ring::new();
//! let (producer, _consumer) = ring.split();
//! std::thread::scope(|scope| {
//!     scope.spawn(|| producer.len());
//! });
//! ```
//!
//! ```compile_fail,E0596
//! # use eventstream_core::ring::Ring;
//! let mut ring: Ring<u32, 2> = Ring::new();
//! let (producer, _consumer) = ring.split();
//! producer.push(1);
//! ```
//!
//! The same holds for the consumer. An item that must stay on its thread cannot cross:
//!
//! ```compile_fail,E0277
//! # use eventstream_core::ring::Ring;
//! # use std::rc::Rc;
//! let mut ring: Ring<Rc<u32>, 2> = Ring::new();
//! let (_producer, mut consumer) = ring.split();
//! std::thread::scope(|scope| {
//!     scope.spawn(move || consumer.pop());
//! });
//! ```
//!
//! [`Doorbell`]: crate::doorbell::Doorbell
// The slots are shared memory that the compiler cannot see an owner of. What makes each access sound: a slot belongs to
// the consumer while its position is in head..tail, else to the producer, and only its owner touches it.
#![allow(unsafe_code)]

mod consumer;
mod producer;
#[cfg(all(test, not(eventstream_loom)))]
mod tests;

pub use consumer::Consumer;
pub use producer::{Full, Producer};

use crate::sync::{AtomicBool, AtomicUsize, Cell, Padded, UnsafeCell, const_fn, empty_cells};
use core::fmt;
use core::mem::{MaybeUninit, needs_drop};
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// A ring of `N` items, to be [split](Self::split) into its two ends.
///
/// `N` is a power of two; another number does not compile:
///
/// ```compile_fail,E0080
/// # use eventstream_core::ring::Ring;
/// let ring: Ring<u32, 3> = Ring::new();
/// ```
///
/// Items that were never read are dropped with the ring.
pub struct Ring<T, const N: usize> {
    /// Where the producer writes next. Positions `head..tail`, at most `N` of them, hold items.
    tail: Padded<End>,
    /// Where the consumer reads next.
    head: Padded<End>,
    slots: [Cell<T>; N],
}

impl<T, const N: usize> Ring<T, N> {
    const MASK: usize = {
        assert!(N.is_power_of_two(), "a ring's capacity is a power of two");
        N - 1
    };

    const_fn! {
        /// An empty ring. One too large for the stack is better made by [`Self::init`].
        #[must_use]
        pub fn new() -> Self {
            let _ = Self::MASK;
            Self { tail: Padded::new(End::new()), head: Padded::new(End::new()), slots: empty_cells() }
        }
    }

    /// Makes an empty ring in memory that its owner lends, without crossing the stack.
    ///
    /// ```
    /// use eventstream_core::ring::Ring;
    ///
    /// let memory = Box::leak(Box::<Ring<[u8; 64], 65_536>>::new_uninit());
    /// let (mut producer, consumer) = Ring::init(memory).split();
    /// # producer.push([0; 64]).unwrap();
    /// # assert_eq!(consumer.len(), 1);
    /// ```
    pub fn init(memory: &mut MaybeUninit<Self>) -> &mut Self {
        let _ = Self::MASK;
        let ring = memory.as_mut_ptr();
        // SAFETY: `ring` is valid for writes of a ring and nobody else's while `memory` is borrowed. Each field is written
        // before the whole is taken for initialised; the slots are written one by one, all `N` of them, and an array of
        // `N` cells is `N` cells in a row.
        unsafe {
            (&raw mut (*ring).tail).write(Padded::new(End::new()));
            (&raw mut (*ring).head).write(Padded::new(End::new()));
            let slots = (&raw mut (*ring).slots).cast::<Cell<T>>();
            for slot in 0..N {
                slots.add(slot).write(UnsafeCell::new(MaybeUninit::uninit()));
            }
            memory.assume_init_mut()
        }
    }

    /// The two ends. Each may go to a thread of its own; while one of them lives the ring cannot be split again.
    ///
    /// A ring may be split again after both ends are gone. What was not read is still there.
    pub fn split(&mut self) -> (Producer<'_, T, N>, Consumer<'_, T, N>) {
        // Relaxed: the exclusive borrow has ordered all that earlier ends did before this.
        self.tail.gone.store(false, Relaxed);
        self.head.gone.store(false, Relaxed);
        let (tail, head) = (self.tail.glance(), self.head.glance());
        let ring = &*self;
        (Producer::new(ring, head), Consumer::new(ring, tail, head))
    }

    #[inline(always)]
    fn slot(&self, position: usize) -> &Cell<T> {
        &self.slots[position & Self::MASK]
    }

    /// The slots of `count` positions from `position` on, as two rows of neighbours, in order. `count <= N`.
    #[inline(always)]
    fn slots(&self, position: usize, count: usize) -> (&[Cell<T>], &[Cell<T>]) {
        let start = position & Self::MASK;
        let first = count.min(N - start);
        (&self.slots[start..start + first], &self.slots[..count - first])
    }
}

impl<T, const N: usize> Default for Ring<T, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, const N: usize> Drop for Ring<T, N> {
    fn drop(&mut self) {
        if !needs_drop::<T>() {
            return;
        }
        // Relaxed: the exclusive borrow has ordered all that both ends did before this.
        let (mut position, tail) = (self.head.glance(), self.tail.glance());
        while position != tail {
            // SAFETY: the position is in head..tail, so its slot holds an item, and both ends are gone.
            self.slot(position).with_mut(|slot| unsafe { (*slot).assume_init_drop() });
            position = position.wrapping_add(1);
        }
    }
}

impl<T, const N: usize> fmt::Debug for Ring<T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("capacity", &N).finish_non_exhaustive()
    }
}

/// What one end tells the other. Written by its own end alone.
struct End {
    /// The end's next position. It runs freely and wraps with `usize`.
    position: AtomicUsize,
    /// Set once the end is dropped.
    gone: AtomicBool,
}

// Under loom each *use* of an ordering is weakened on its own, to see that a model notices: hence `track_caller`.
impl End {
    const_fn! {
        fn new() -> Self {
            Self { position: AtomicUsize::new(0), gone: AtomicBool::new(false) }
        }
    }

    /// Hands the slots before `position` to the other end. Pairs with [`Self::position`] there: what this end did to them
    /// happens before what the other does next.
    #[inline(always)]
    #[cfg_attr(eventstream_loom, track_caller)]
    fn publish(&self, position: usize) {
        self.position.store(position, Release);
    }

    /// How far the other end has come. Pairs with [`Self::publish`] there.
    #[inline(always)]
    #[cfg_attr(eventstream_loom, track_caller)]
    fn position(&self) -> usize {
        self.position.load(Acquire)
    }

    /// How far an end has come, as a number only: gives no right to touch a slot.
    #[inline(always)]
    fn glance(&self) -> usize {
        self.position.load(Relaxed)
    }

    /// Says that this end is gone. Pairs with [`Self::is_gone`]: all that this end did happens before.
    #[inline]
    #[cfg_attr(eventstream_loom, track_caller)]
    fn leave(&self) {
        self.gone.store(true, Release);
    }

    /// Whether the other end is gone. Pairs with [`Self::leave`] there.
    #[inline]
    #[cfg_attr(eventstream_loom, track_caller)]
    fn is_gone(&self) -> bool {
        self.gone.load(Acquire)
    }
}
