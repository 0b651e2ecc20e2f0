//! Atomics, cells and cache lines.
//!
//! `loom-tests` compiles this very file with the private cfg `eventstream_loom`, which exchanges atomics and cells for
//! those of loom. Nothing else may set it: no other crate of the workspace, nor any crate of others, reacts to it.
//! `scripts/races` sets `eventstream_tsan` in the same way, for ThreadSanitizer.

use core::mem::MaybeUninit;
use core::ops::Deref;

#[cfg(not(eventstream_loom))]
mod plain {
    use core::mem::MaybeUninit;
    pub(crate) use core::sync::atomic::{AtomicBool, AtomicUsize, fence};

    /// A cell whose content is reached through a pointer that does not outlive the access, as loom wants it.
    #[repr(transparent)]
    pub(crate) struct UnsafeCell<T>(core::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(core::cell::UnsafeCell::new(value))
        }

        #[inline(always)]
        pub(crate) fn with<R>(&self, access: impl FnOnce(*const T) -> R) -> R {
            access(self.0.get())
        }

        #[inline(always)]
        pub(crate) fn with_mut<R>(&self, access: impl FnOnce(*mut T) -> R) -> R {
            access(self.0.get())
        }
    }

    pub(crate) const fn empty_cells<T, const N: usize>() -> [UnsafeCell<MaybeUninit<T>>; N] {
        [const { UnsafeCell::new(MaybeUninit::uninit()) }; N]
    }

    pub(crate) const fn zero_words<const N: usize>() -> [AtomicUsize; N] {
        [const { AtomicUsize::new(0) }; N]
    }

    /// An acquire fence behind a read-modify-write of `word`. ThreadSanitizer does not know fences and gets a load instead, which
    /// is an acquire of the same releases.
    #[inline(always)]
    pub(crate) fn acquire_behind(word: &AtomicUsize) {
        #[cfg(not(eventstream_tsan))]
        {
            _ = word;
            fence(core::sync::atomic::Ordering::Acquire);
        }
        #[cfg(eventstream_tsan)]
        word.load(core::sync::atomic::Ordering::Acquire);
    }

    /// What a word holds that the calling thread alone writes, and any other may read.
    #[inline(always)]
    pub(crate) fn own(word: &AtomicUsize) -> usize {
        word.load(core::sync::atomic::Ordering::Relaxed)
    }
}
#[cfg(not(eventstream_loom))]
pub(crate) use plain::{AtomicBool, AtomicUsize, UnsafeCell, acquire_behind, empty_cells, fence, own, zero_words};

#[cfg(eventstream_loom)]
mod model {
    pub(crate) use crate::weaken::{AtomicBool, AtomicUsize, fence, own};
    use core::mem::MaybeUninit;
    pub(crate) use loom::cell::UnsafeCell;

    pub(crate) fn empty_cells<T, const N: usize>() -> [UnsafeCell<MaybeUninit<T>>; N] {
        core::array::from_fn(|_| UnsafeCell::new(MaybeUninit::uninit()))
    }

    pub(crate) fn zero_words<const N: usize>() -> [AtomicUsize; N] {
        core::array::from_fn(|_| AtomicUsize::new(0))
    }

    #[track_caller]
    pub(crate) fn acquire_behind(_word: &AtomicUsize) {
        fence(core::sync::atomic::Ordering::Acquire);
    }
}
#[cfg(eventstream_loom)]
pub(crate) use model::{AtomicBool, AtomicUsize, UnsafeCell, acquire_behind, empty_cells, fence, own, zero_words};

/// The slot of a ring: empty until its producer writes it, and again after its consumer read it.
pub(crate) type Cell<T> = UnsafeCell<MaybeUninit<T>>;

/// Declares a function that is `const`, except under loom, whose types have no constant constructors.
macro_rules! const_fn {
    ($(#[$meta:meta])* $vis:vis fn $($rest:tt)*) => {
        #[cfg(not(eventstream_loom))]
        $(#[$meta])* $vis const fn $($rest)*

        #[cfg(eventstream_loom)]
        $(#[$meta])* $vis fn $($rest)*
    };
}
pub(crate) use const_fn;

/// Keeps a value on cache lines of its own, so that two threads that write neighbours do not slow each other.
///
/// 128 bytes where the hardware fetches lines of 64 in pairs (x86-64) or has lines of 128 (some Arm cores); 32 elsewhere,
/// the line of the larger microcontrollers.
#[cfg_attr(any(target_arch = "x86_64", target_arch = "aarch64"), repr(align(128)))]
#[cfg_attr(not(any(target_arch = "x86_64", target_arch = "aarch64")), repr(align(32)))]
pub(crate) struct Padded<T>(T);

impl<T> Padded<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(value)
    }
}

impl<T> Deref for Padded<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        &self.0
    }
}
