//! Wakes a sleeping consumer, once.
//!
//! A consumer with nothing to do sleeps; whoever pushes must wake it, but a system call for every push would cost more than
//! the push. The doorbell is the one bit between them. The consumer [arms](Doorbell::arm) it, looks at its rings
//! **once more**, and sleeps only if they are still empty. A producer [rings](Doorbell::ring) after it pushed, and is told
//! whether it has to do the waking.
//!
//! No wake-up is lost: both sides write (the consumer its bit, the producer its ring), then a sequentially consistent fence,
//! then read what the other wrote. Of two such fences one is first, and the side of the later one sees what
//! the other wrote (Dekker's algorithm): the consumer finds the item, or the producer finds the bell armed.
//!
//! How to sleep and to wake is the host's: a thread's `park` and `unpark`, a task's `Notify`. It must keep a wake-up that
//! comes before the sleep, as both of these do. A wake-up may also come late, for a sleep that ended by itself, so a
//! consumer looks at its rings after every wake-up and expects nothing.
//!
//! ```
//! use eventstream_core::{doorbell::Doorbell, ring::Ring};
//!
//! let mut ring: Ring<u32, 8> = Ring::new();
//! let (mut producer, mut consumer) = ring.split();
//! let bell = Doorbell::new();
//! std::thread::scope(|scope| {
//!     let sleeper = scope.spawn({
//!         let bell = &bell;
//!         move || loop {
//!             if let Some(item) = consumer.pop() {
//!                 break item;
//!             }
//!             if bell.arm_if(|| consumer.is_empty()) {
//!                 std::thread::park();
//!                 bell.disarm();
//!             }
//!         }
//!     });
//!     producer.push(7).unwrap();
//!     if bell.ring() {
//!         sleeper.thread().unpark();
//!     }
//!     assert_eq!(sleeper.join().unwrap(), 7);
//! });
//! ```

use crate::sync::{AtomicBool, Padded, const_fn, fence};
use core::fmt;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};

/// One consumer's bell. Any number of producers may ring it, so one bell serves a consumer of several rings.
pub struct Doorbell {
    /// Whether the consumer sleeps, or is about to.
    ///
    /// Written by swaps only. A store would do in C11's terms, since a swap follows at once on the value that it read; loom
    /// does not know that rule, and what a sleep costs drowns the difference.
    armed: Padded<AtomicBool>,
}

impl Doorbell {
    const_fn! {
        /// A bell that is not armed.
        #[must_use]
        pub fn new() -> Self {
            Self { armed: Padded::new(AtomicBool::new(false)) }
        }
    }

    /// Consumer: announces that it is about to sleep. It must look at everything it waits for after this, and before it
    /// sleeps. [`Self::arm_if`] does both.
    pub fn arm(&self) {
        self.armed.swap(true, Relaxed);
        // Pairs with the fence in `ring`. Either that producer sees the bell armed, or what it pushed is seen after this.
        fence(SeqCst);
    }

    /// Consumer: arms the bell, then asks `idle`, which must look at everything the consumer waits for. Returns whether to
    /// sleep; if not, the bell is disarmed again.
    #[must_use = "the consumer sleeps only if this is true"]
    pub fn arm_if(&self, idle: impl FnOnce() -> bool) -> bool {
        self.arm();
        let sleep = idle();
        if !sleep {
            self.disarm();
        }
        sleep
    }

    /// Consumer: awake again, for whatever reason. Spares the producers from ringing.
    pub fn disarm(&self) {
        self.armed.swap(false, Relaxed);
    }

    /// Producer: to be called after one push or a batch of them. True if this caller must wake the consumer now;
    /// of all who ring during one sleep that is one.
    #[must_use = "if true, the caller must wake the consumer"]
    pub fn ring(&self) -> bool {
        // Pairs with the fence in `arm`. Either the consumer sees what was pushed before this, or the bell is seen armed.
        fence(SeqCst);
        // Read first, so that ringing an awake consumer leaves its cache line alone. Relaxed: the bit carries no data, that
        // is the ring's part; the swap makes the answer unique.
        self.armed.load(Relaxed) && self.armed.swap(false, Relaxed)
    }
}

impl Default for Doorbell {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Doorbell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Doorbell").field("armed", &self.armed.load(Relaxed)).finish()
    }
}

#[cfg(all(test, not(eventstream_loom)))]
mod tests {
    use super::Doorbell;

    #[test]
    fn rings_once_for_each_sleep() {
        let bell = Doorbell::new();
        assert!(!bell.ring(), "nobody sleeps");
        bell.arm();
        assert!(bell.ring());
        assert!(!bell.ring(), "it rang already");
        bell.arm();
        assert!(bell.ring(), "another sleep");
    }

    #[test]
    fn does_not_ring_for_a_consumer_that_is_awake_again() {
        let bell = Doorbell::new();
        bell.arm();
        bell.disarm();
        assert!(!bell.ring());
    }

    #[test]
    fn a_consumer_that_finds_something_does_not_sleep() {
        let bell = Doorbell::new();
        assert!(!bell.arm_if(|| false));
        assert!(!bell.ring());
        assert!(bell.arm_if(|| true));
        assert!(bell.ring());
    }
}
