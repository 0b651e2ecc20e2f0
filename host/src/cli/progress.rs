//! Tells on standard error how far something is, once a second, from the second second on.

use core::fmt;
use eventstream_core::time::{Duration, Instant};
use eventstream_host::clock::Clock;
use std::io::{IsTerminal, Write};

const EVERY: Duration = Duration::from_secs(1);

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Progress {
    clock: Clock,
    next: Instant,
    /// On a terminal the line is written over; elsewhere each stands for itself.
    overwrites: bool,
    has_line: bool,
}

impl Progress {
    pub(super) fn start(clock: Clock) -> Self {
        let overwrites = std::io::stderr().is_terminal();
        Self { clock, next: clock.now() + EVERY, overwrites, has_line: false }
    }

    /// Tells it, if it is time to.
    pub(super) fn tell(&mut self, how_far: impl FnOnce() -> String) {
        let now = self.clock.now();
        if now < self.next {
            return;
        }
        self.next = now + EVERY;
        self.has_line = true;
        self.write(format_args!("{}{}", how_far(), if self.overwrites { "" } else { "\n" }));
    }

    /// Ends the line, so that what follows stands on one of its own.
    pub(super) fn end(&mut self) {
        if core::mem::take(&mut self.has_line) && self.overwrites {
            self.write(format_args!(""));
        }
    }

    fn write(&self, line: fmt::Arguments<'_>) {
        let clear = if self.overwrites { "\r\x1b[K" } else { "" };
        // Nobody is left to be told that standard error is gone.
        let _ = write!(std::io::stderr(), "{clear}{line}");
    }
}
