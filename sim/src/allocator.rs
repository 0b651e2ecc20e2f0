//! An allocator that notices when the machine under test asks for memory.
//!
//! The core links without an allocator (`core/link-check`). Here its machines run for years under one, with everything
//! that is handed to them, and may ask it for nothing after their start.

#![expect(unsafe_code, reason = "an allocator is unsafe to write; this one leaves all of it to the system's")]

use core::alloc::{GlobalAlloc, Layout};
use core::cell::Cell;
use std::alloc::System;

/// In force for everything that links this crate.
#[global_allocator]
static ALLOCATOR: Noticing = Noticing;

thread_local! {
    /// What was asked for since [`without_memory`] was entered; `None` outside.
    static ASKED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Makes a call that must not ask for memory.
///
/// # Panics
///
/// If it did, when it has returned: an allocator must not unwind, and a schedule that fails is to tell its seed.
pub(crate) fn without_memory<T>(call: impl FnOnce() -> T) -> T {
    let inside = Inside::enter();
    let result = call();
    let asked = ASKED.get().unwrap_or_default();
    drop(inside);
    assert!(asked == 0, "the machine has asked for memory {asked} times");
    result
}

/// Outside again when dropped, also by a panic.
struct Inside;

impl Inside {
    fn enter() -> Self {
        ASKED.set(Some(0));
        Self
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        ASKED.set(None);
    }
}

/// The system's allocator, and a note of who asks.
struct Noticing;

impl Noticing {
    fn note() {
        ASKED.set(ASKED.get().map(|asked| asked + 1));
    }
}

// SAFETY: every call goes to the system's allocator as it is; the note allocates nothing, since the thread's cell needs
// neither initialisation nor a destructor.
unsafe impl GlobalAlloc for Noticing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::note();
        // SAFETY: the caller keeps the promises of this very method.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::note();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        Self::note();
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, new_size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::hint::black_box;
    use core::panic::AssertUnwindSafe;
    use std::panic::catch_unwind;

    fn is_caught(call: impl FnOnce()) -> bool {
        catch_unwind(AssertUnwindSafe(|| without_memory(call))).is_err()
    }

    #[test]
    fn whoever_asks_for_memory_is_caught() {
        assert!(is_caught(|| drop(black_box(Box::new(7)))));
        assert!(is_caught(|| drop(black_box(vec![0_u8; 100]))));
        let mut grown = vec![1_u8];
        assert!(is_caught(|| grown.reserve_exact(1_000)));
        assert!(grown.capacity() > 1_000, "it was given all the same");
    }

    #[test]
    fn whoever_does_not_is_left_alone_and_so_is_everybody_else() {
        let mut memory = vec![0_u8; 100];
        without_memory(|| memory.fill(1));
        without_memory(|| drop(memory));
        assert!(is_caught(|| panic!("something else")));
        drop(black_box(Box::new(7)));
        without_memory(|| {});
    }
}
