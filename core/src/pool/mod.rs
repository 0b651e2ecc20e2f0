//! A fixed number of fixed-size blocks, reference-counted and shared without copying.
//!
//! What was read from a socket into a block reaches the store, the peers and the subscribers as handles to its parts. A
//! block is taken whole as a [`BlockMut`], filled, and [split](BlockMut::split_to) into parts that share the block's
//! count and nothing else; a part is [frozen](BlockMut::freeze) into a [`Block`], which may be cloned and sliced. The last
//! handle to any part gives the block back. Taking and giving back are lock-free, and nothing is ever allocated: an
//! empty pool says so, and its caller stops reading.
//!
//! ```
//! use eventstream_core::pool::{Pool, Slot};
//!
//! let mut memory = [0; 4 * 1024];
//! let mut slots = [const { Slot::new() }; 4];
//! let pool = Pool::new(&mut memory, &mut slots);
//!
//! let mut received = pool.take().expect("a fresh pool has free blocks");
//! received[..10].copy_from_slice(b"frameframe");
//! let mut frame = received.split_to(5);
//! frame[0] = b'F';
//! let frame = frame.freeze();
//! let shared = frame.clone();
//! assert_eq!((&frame[..], &shared.slice(1..3)[..]), (&b"Frame"[..], &b"ra"[..]));
//! assert_eq!(pool.free(), 3);
//! drop((received, frame, shared));
//! assert_eq!(pool.free(), 4);
//! ```
//!
//! A host lends memory that it leaks, and has handles without a lifetime to care for:
//!
//! ```
//! use eventstream_core::pool::{Block, Pool, Slot};
//!
//! let memory = vec![0; 16 * 65_536].leak();
//! let slots = (0..16).map(|_| Slot::new()).collect::<Vec<_>>().leak();
//! let pool: &'static Pool<'static> = Box::leak(Box::new(Pool::new(memory, slots)));
//! let block: Block<'static> = pool.take().expect("free").freeze();
//! std::thread::spawn(move || drop(block)).join().unwrap();
//! assert_eq!(pool.free(), 16);
//! ```
// The handles reach into shared memory through pointers. What makes it sound: a block has at most one owner of each of its
// bytes for writing (the pool's bit, then a `BlockMut`), or any number for reading (`Block`s), and its count says when all
// of them are gone.
#![allow(unsafe_code)]

mod block;
#[cfg(all(test, not(eventstream_loom)))]
mod tests;

pub use block::{Block, BlockMut};

use crate::sync::{AtomicUsize, Padded, acquire_behind, const_fn};
use core::fmt;
use core::marker::PhantomData;
use core::ptr::NonNull;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// Blocks of one group: the free bits of a group are one word.
const GROUP: usize = usize::BITS as usize;

/// Handles to one block, at most. What is left above catches all increments that may be under way in other threads.
const MAX_HANDLES: usize = usize::MAX / 2;

/// The pool's record of one block. It lies on a cache line of its own, because different threads count different blocks.
pub struct Slot(Padded<Counts>);

struct Counts {
    /// Handles to parts of this block; zero while it is free or being given back.
    handles: AtomicUsize,
    /// Which blocks of the group that begins here are free, a bit for each. Used in the first slot of each group only.
    free: AtomicUsize,
}

impl Slot {
    const_fn! {
        /// The record of a block that belongs to no pool yet.
        #[must_use]
        pub fn new() -> Self {
            Self(Padded::new(Counts { handles: AtomicUsize::new(0), free: AtomicUsize::new(0) }))
        }
    }
}

impl Default for Slot {
    fn default() -> Self {
        Self::new()
    }
}

/// Blocks of equal size in memory that the owner lends for `'m`.
///
/// Low blocks are taken first, so memory that the load never needs is never touched.
pub struct Pool<'m> {
    memory: NonNull<u8>,
    block_len: usize,
    slots: &'m [Slot],
    lent: PhantomData<&'m mut [u8]>,
}

// SAFETY: `memory` is lent exclusively for `'m`, and bytes may be used from any thread. The pool itself never touches them; it
// gives each block to one owner at a time, by atomics.
unsafe impl Send for Pool<'_> {}
// SAFETY: as above; all that `&Pool` does is atomic.
unsafe impl Sync for Pool<'_> {}

impl<'m> Pool<'m> {
    /// A pool of as many blocks as there are `slots`, which share `memory` evenly. All blocks are free.
    ///
    /// # Panics
    ///
    /// If there are no slots, if `memory` cannot be shared evenly among them, or if a block is larger than `u32` counts.
    #[must_use]
    pub fn new(memory: &'m mut [u8], slots: &'m mut [Slot]) -> Self {
        assert!(!slots.is_empty(), "a pool has at least one block");
        assert!(memory.len().is_multiple_of(slots.len()), "a pool's memory is a whole number of bytes for each block");
        let block_len = memory.len() / slots.len();
        let count = slots.len();
        assert!(u32::try_from(block_len).is_ok() && u32::try_from(count).is_ok(), "handles count in 32 bits");
        for (index, slot) in slots.iter_mut().enumerate() {
            // Blocks of the group that begins here, if one does.
            let group = if index % GROUP == 0 { (count - index).min(GROUP) } else { 0 };
            let free = if group == GROUP { usize::MAX } else { (1 << group) - 1 };
            *slot = Slot(Padded::new(Counts { handles: AtomicUsize::new(0), free: AtomicUsize::new(free) }));
        }
        let memory = NonNull::from(memory).cast();
        Self { memory, block_len, slots, lent: PhantomData }
    }

    /// Blocks of this pool, free or not.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// Bytes of one block.
    #[must_use]
    pub const fn block_len(&self) -> usize {
        self.block_len
    }

    /// Blocks that are free at this moment; other threads may be taking and giving back.
    #[must_use]
    pub fn free(&self) -> usize {
        self.groups().map(|(_, free)| free.load(Relaxed).count_ones() as usize).sum()
    }

    /// Takes a block, exclusively and whole; `None` when none is free. Its bytes are what the last holder left.
    #[must_use]
    pub fn take(&self) -> Option<BlockMut<'_>> {
        let index = self.groups().find_map(|(first, free)| Some(first + claim(free)?))?;
        let handles = &self.slots[index].0.handles;
        assert_eq!(handles.load(Relaxed), 0, "a free block has no handles");
        // Relaxed: the block is this thread's alone, and who gets a handle later gets it from here.
        handles.store(1, Relaxed);
        // SAFETY: the bit was set and this thread cleared it, so nobody else holds the block; the one handle is counted.
        Some(unsafe { BlockMut::whole(self, index) })
    }

    /// The first block and the free bits of each group.
    fn groups(&self) -> impl Iterator<Item = (usize, &AtomicUsize)> {
        self.slots.iter().enumerate().step_by(GROUP).map(|(first, slot)| (first, &slot.0.free))
    }

    fn retain(&self, index: usize) {
        // Relaxed: the new handle is made from one that exists, and reaches another thread only by what orders it.
        let before = self.slots[index].0.handles.fetch_add(1, Relaxed);
        assert!((1..=MAX_HANDLES).contains(&before), "a block's handles are counted and fit their count");
    }

    /// Gives up one handle. Whoever gives up the last gives back the block.
    fn release(&self, index: usize) {
        // Release: what was done through this handle happens before the block's next use. Pairs with the fence.
        let before = self.slots[index].0.handles.fetch_sub(1, Release);
        if before != 1 {
            assert_ne!(before, 0, "a handle is given up once");
            return;
        }
        // Acquire: pairs with the releases of all other handles, whose counts the last one has read.
        acquire_behind(&self.slots[index].0.handles);
        let bit = 1 << (index % GROUP);
        // Release: pairs with the acquire in `claim`, by which the next holder comes after all of this.
        let free = self.slots[index - index % GROUP].0.free.fetch_or(bit, Release);
        assert_eq!(free & bit, 0, "a block is given back once");
    }

    /// Whether there is a single handle to the block, which is then the caller's.
    fn is_unique(&self, index: usize) -> bool {
        // Acquire: pairs with `release`, so that what others did through their handles happens before what follows.
        self.slots[index].0.handles.load(Acquire) == 1
    }

    /// Where a block starts.
    fn start(&self, index: usize) -> NonNull<u8> {
        assert!(index < self.slots.len());
        // SAFETY: the block lies within the lent memory.
        unsafe { self.memory.add(index * self.block_len) }
    }
}

/// Clears the lowest set bit of a word of free bits, and tells which it was. A bit says only *free*: whether the block was taken
/// and given back meanwhile makes no difference, so there is no ABA.
fn claim(free: &AtomicUsize) -> Option<usize> {
    let mut bits = free.load(Relaxed);
    while bits != 0 {
        // Acquire: pairs with the `fetch_or` in `release`; all earlier uses of the block happen before this one.
        match free.compare_exchange_weak(bits, bits & (bits - 1), Acquire, Relaxed) {
            Ok(_) => return Some(bits.trailing_zeros() as usize),
            Err(now) => bits = now,
        }
    }
    None
}

impl fmt::Debug for Pool<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("capacity", &self.capacity())
            .field("free", &self.free())
            .field("block_len", &self.block_len)
            .finish()
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("handles", &self.0.handles.load(Relaxed)).finish_non_exhaustive()
    }
}
