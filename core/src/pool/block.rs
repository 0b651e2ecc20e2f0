//! Handles to parts of a block: exclusive ones, and shared ones.

use super::Pool;
use core::fmt;
use core::ops::{Bound, Deref, DerefMut, RangeBounds};
use core::ptr::NonNull;
use core::slice;

/// A part of one block, and a share of its count. Small, because rings and queues are full of them.
struct Part<'p> {
    pool: &'p Pool<'p>,
    start: NonNull<u8>,
    len: u32,
    block: u32,
}

const _: () = assert!(size_of::<Option<Block<'_>>>() == 2 * size_of::<usize>() + 8);

impl<'p> Part<'p> {
    /// Another handle, to the `len` bytes from `offset` on, which lie within this part.
    fn share(&self, offset: usize, len: usize) -> Part<'p> {
        let within = offset <= self.len() && len <= self.len() - offset;
        assert!(within, "a part lies within the part that it is made from");
        self.pool.retain(self.block());
        // SAFETY: `offset` is within this part, which is within the pool's memory.
        let start = unsafe { self.start.add(offset) };
        Part { pool: self.pool, start, len: len as u32, block: self.block }
    }

    /// Leaves out the first `count` bytes.
    fn advance(&mut self, count: usize) {
        assert!(count <= self.len(), "no more is cut off than there is");
        // SAFETY: `count` is within this part, which is within the pool's memory.
        self.start = unsafe { self.start.add(count) };
        self.len -= count as u32;
    }

    fn len(&self) -> usize {
        self.len as usize
    }

    fn block(&self) -> usize {
        self.block as usize
    }
}

impl Drop for Part<'_> {
    fn drop(&mut self) {
        self.pool.release(self.block());
    }
}

/// A part of a block that nobody else can see, for reading and writing.
///
/// Other parts of the same block may be anyone's. The block goes back to its pool with the last handle to any part.
pub struct BlockMut<'p>(Part<'p>);

// SAFETY: the bytes are this handle's alone and the pool is `Sync`.
unsafe impl Send for BlockMut<'_> {}
// SAFETY: `&BlockMut` only reads the bytes, and nobody writes them meanwhile.
unsafe impl Sync for BlockMut<'_> {}

/// A part of a block that may be shared: cloned, sliced, and read from any thread. Its bytes no longer change.
///
/// A small part keeps its whole block from the pool; what is to be kept for long is better copied out.
pub struct Block<'p>(Part<'p>);

// SAFETY: nobody writes the bytes while a `Block` of them lives, and the pool is `Sync`.
unsafe impl Send for Block<'_> {}
// SAFETY: as above.
unsafe impl Sync for Block<'_> {}

impl<'p> BlockMut<'p> {
    /// The handle to a block that was just taken.
    ///
    /// # Safety
    ///
    /// The block has no other handle, and this one is counted.
    pub(super) unsafe fn whole(pool: &'p Pool<'p>, block: usize) -> Self {
        // Both fit: the pool has seen to it.
        Self(Part { pool, start: pool.start(block), len: pool.block_len() as u32, block: block as u32 })
    }

    /// Splits off the first `count` bytes; this handle keeps the rest.
    ///
    /// # Panics
    ///
    /// If there are fewer than `count` bytes.
    #[must_use = "to cut bytes off, use `advance`"]
    pub fn split_to(&mut self, count: usize) -> BlockMut<'p> {
        let front = self.0.share(0, count);
        self.0.advance(count);
        BlockMut(front)
    }

    /// Leaves out the first `count` bytes.
    ///
    /// # Panics
    ///
    /// If there are fewer than `count` bytes.
    pub fn advance(&mut self, count: usize) {
        self.0.advance(count);
    }

    /// Leaves out what comes after the first `len` bytes, if there is more.
    pub fn truncate(&mut self, len: usize) {
        if len < self.0.len() {
            self.0.len = len as u32;
        }
    }

    /// Makes this handle that of the whole block again, if no other handle to the block is left; tells whether it did.
    /// So a reader that has passed on all frames, and whose frames are done with, goes on in the same block.
    #[must_use = "without success the handle is what it was"]
    pub fn reclaim(&mut self) -> bool {
        let unique = self.0.pool.is_unique(self.0.block());
        if unique {
            self.0.start = self.0.pool.start(self.0.block());
            self.0.len = self.0.pool.block_len() as u32;
        }
        unique
    }

    /// Gives up writing, for a handle that can be shared.
    #[must_use]
    pub fn freeze(self) -> Block<'p> {
        Block(self.0)
    }
}

impl<'p> Block<'p> {
    /// A handle to a range of these bytes.
    ///
    /// # Panics
    ///
    /// If the range does not lie within them.
    #[must_use]
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Block<'p> {
        let start = match range.start_bound() {
            Bound::Included(&start) => start,
            Bound::Excluded(&before) => before + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&last) => last + 1,
            Bound::Excluded(&end) => end,
            Bound::Unbounded => self.len(),
        };
        assert!(start <= end, "a range does not end before it starts");
        Block(self.0.share(start, end - start))
    }

    /// Makes the bytes writable again, if no other handle to the block is left.
    ///
    /// # Errors
    ///
    /// The handle itself, unchanged, when there is another.
    pub fn try_mut(self) -> Result<BlockMut<'p>, Block<'p>> {
        if self.0.pool.is_unique(self.0.block()) { Ok(BlockMut(self.0)) } else { Err(self) }
    }
}

impl Clone for Block<'_> {
    fn clone(&self) -> Self {
        Block(self.0.share(0, self.len()))
    }
}

impl Deref for BlockMut<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: the part lies within the pool's memory, which is initialised and lent for longer than the handle lives. Only
        // this handle writes it, and not while it is borrowed.
        unsafe { slice::from_raw_parts(self.0.start.as_ptr(), self.0.len()) }
    }
}

impl DerefMut for BlockMut<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; and no other handle's part overlaps this one, so the borrow is exclusive.
        unsafe { slice::from_raw_parts_mut(self.0.start.as_ptr(), self.0.len()) }
    }
}

impl Deref for Block<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: the part lies within the pool's memory, which is initialised and lent for longer than the handle lives. All
        // handles that overlap it are `Block`s, so nobody writes it.
        unsafe { slice::from_raw_parts(self.0.start.as_ptr(), self.0.len()) }
    }
}

impl AsRef<[u8]> for Block<'_> {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl AsRef<[u8]> for BlockMut<'_> {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl AsMut<[u8]> for BlockMut<'_> {
    fn as_mut(&mut self) -> &mut [u8] {
        self
    }
}

// The bytes are somebody's data and stay out of logs.
impl fmt::Debug for BlockMut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockMut").field("block", &self.0.block).field("len", &self.0.len).finish_non_exhaustive()
    }
}

impl fmt::Debug for Block<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Block").field("block", &self.0.block).field("len", &self.0.len).finish_non_exhaustive()
    }
}
