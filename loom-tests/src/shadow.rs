//! Makes accesses to a pool's bytes visible to loom, which cannot see into a slice.
#![allow(unsafe_code)]

use crate::pool::Pool;
use loom::cell::UnsafeCell;

/// A cell for each byte of a pool. Whoever reads or writes bytes says so here, and loom fails the model if two threads do
/// it unordered and one of them writes.
pub struct Shadow {
    base: usize,
    cells: Vec<UnsafeCell<()>>,
}

// SAFETY: the cells hold nothing. Accesses are recorded, which loom does for one thread at a time.
unsafe impl Sync for Shadow {}
// SAFETY: as above.
unsafe impl Send for Shadow {}

impl Shadow {
    /// The cells for a pool all of whose blocks are free.
    pub fn new(pool: &Pool<'_>) -> Self {
        let first = pool.take().expect("all blocks are free");
        let cells = (0..pool.capacity() * pool.block_len()).map(|_| UnsafeCell::new(())).collect();
        Self { base: first.as_ptr() as usize, cells }
    }

    /// Reads all of `bytes`, which are a part of the pool's.
    pub fn read(&self, bytes: &[u8]) {
        for cell in self.of(bytes) {
            cell.with(|_| ());
        }
    }

    /// Writes all of `bytes`, which are a part of the pool's.
    pub fn write(&self, bytes: &mut [u8]) {
        for cell in self.of(bytes) {
            cell.with_mut(|_| ());
        }
    }

    fn of(&self, bytes: &[u8]) -> &[UnsafeCell<()>] {
        let start = bytes.as_ptr() as usize - self.base;
        &self.cells[start..start + bytes.len()]
    }
}
