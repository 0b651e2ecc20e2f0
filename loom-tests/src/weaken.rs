//! loom's atomics, one of whose orderings may be made weaker than the code asks for.
//!
//! A *site* is a place in the core's code that asks for an ordering: file, line, column. While a model runs, the
//! sites that it comes by are noted; and if [`WEAKEN`] names one, that one gets less than it asked for. A model that
//! still passes then does not show that the ordering is needed. See [`crate::survey`].

use core::panic::Location;
use core::sync::atomic::Ordering::{self, AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::collections::BTreeSet;
use std::env;
use std::sync::{LazyLock, Mutex};

/// Environment variable: the site to weaken, and to what, as [`Weakening`] prints it.
pub(crate) const WEAKEN: &str = "EVENTSTREAM_WEAKEN";
/// Environment variable: if set, the sites of a model are printed after it, each line beginning with [`MARK`].
pub(crate) const REPORT: &str = "EVENTSTREAM_REPORT";
/// What a printed site begins with.
pub(crate) const MARK: &str = "site: ";

static CHOSEN: LazyLock<Option<String>> = LazyLock::new(|| env::var(WEAKEN).ok());
static SEEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// What an operation is, because what may be asked of it differs.
#[derive(Clone, Copy, PartialEq)]
enum Operation {
    Access,
    Fence,
}

/// The orderings just below one. `None` is no fence at all.
fn weaker(operation: Operation, order: Ordering) -> &'static [Option<Ordering>] {
    match (operation, order) {
        (_, SeqCst) => &[Some(AcqRel)],
        (_, AcqRel) => &[Some(Acquire), Some(Release)],
        (Operation::Access, Acquire | Release) => &[Some(Relaxed)],
        (Operation::Fence, Acquire | Release) => &[None],
        _ => &[],
    }
}

/// The ordering to use where the code asks for `order`: that, unless this site was chosen.
fn ordering(operation: Operation, order: Ordering, site: &Location<'_>) -> Option<Ordering> {
    for weak in weaker(operation, order) {
        let to = weak.map_or_else(|| "none".into(), |weak| format!("{weak:?}"));
        let weakening = format!("{site} {order:?} -> {to}");
        if CHOSEN.as_ref() == Some(&weakening) {
            return *weak;
        }
        SEEN.lock().expect("nothing panics with the lock").insert(weakening);
    }
    Some(order)
}

#[track_caller]
fn access(order: Ordering) -> Ordering {
    ordering(Operation::Access, order, Location::caller()).expect("an access always has an ordering")
}

/// Prints what could have been weakened, if that was asked for.
pub(crate) fn report() {
    if env::var_os(REPORT).is_some() {
        for weakening in &*SEEN.lock().expect("nothing panics with the lock") {
            println!("{MARK}{weakening}");
        }
    }
}

/// As [`core::sync::atomic::fence`].
#[track_caller]
pub(crate) fn fence(order: Ordering) {
    if let Some(order) = ordering(Operation::Fence, order, Location::caller()) {
        loom::sync::atomic::fence(order);
    }
}

macro_rules! atomic {
    ($name:ident, $value:ty) => {
        /// As the atomic of the same name in [`core::sync::atomic`].
        #[derive(Debug)]
        pub(crate) struct $name(loom::sync::atomic::$name);

        impl $name {
            #[track_caller]
            pub(crate) fn new(value: $value) -> Self {
                Self(loom::sync::atomic::$name::new(value))
            }

            #[track_caller]
            pub(crate) fn load(&self, order: Ordering) -> $value {
                self.0.load(access(order))
            }

            #[track_caller]
            pub(crate) fn store(&self, value: $value, order: Ordering) {
                self.0.store(value, access(order));
            }
        }
    };
}

atomic!(AtomicBool, bool);
atomic!(AtomicUsize, usize);

/// What a word holds that the calling thread alone writes, and any other may read.
///
/// No access in the eyes of loom, which remembers only the last one of each word: a writer that looked at its word before it
/// writes would hide the reader's load before that, and the interleavings where the two change places would not be tried.
#[allow(unsafe_code)]
pub(crate) fn own(word: &AtomicUsize) -> usize {
    // SAFETY: no other thread writes the word; loom fails the model if one does.
    unsafe { word.0.unsync_load() }
}

impl AtomicBool {
    #[track_caller]
    pub(crate) fn swap(&self, value: bool, order: Ordering) -> bool {
        self.0.swap(value, access(order))
    }
}

impl AtomicUsize {
    #[track_caller]
    pub(crate) fn fetch_add(&self, value: usize, order: Ordering) -> usize {
        self.0.fetch_add(value, access(order))
    }

    #[track_caller]
    pub(crate) fn fetch_sub(&self, value: usize, order: Ordering) -> usize {
        self.0.fetch_sub(value, access(order))
    }

    #[track_caller]
    pub(crate) fn fetch_or(&self, value: usize, order: Ordering) -> usize {
        self.0.fetch_or(value, access(order))
    }

    #[track_caller]
    pub(crate) fn compare_exchange_weak(
        &self,
        current: usize,
        new: usize,
        success: Ordering,
        failure: Ordering,
    ) -> Result<usize, usize> {
        self.0.compare_exchange_weak(current, new, access(success), access(failure))
    }
}
