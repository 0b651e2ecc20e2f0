//! The clocks of this machine: the only place that reads them. Everywhere else time is an argument.

use eventstream_core::id::LogTime;
use eventstream_core::time::Instant;
use std::time::{SystemTime, UNIX_EPOCH};

/// A monotonic clock with an origin of its own, and the wall clock. A copy shares the origin, so the instants of all
/// copies can be compared.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: std::time::Instant,
}

impl Clock {
    /// A clock that starts at [`Instant::ZERO`] now. A process needs one, and hands out copies.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this file reads the clocks")]
    pub fn start() -> Self {
        Self { origin: std::time::Instant::now() }
    }

    /// Microseconds since the origin. Never goes back; stands still while the machine sleeps.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this file reads the clocks")]
    pub fn now(&self) -> Instant {
        Instant::from_micros(micros(std::time::Instant::now().saturating_duration_since(self.origin)))
    }

    /// The same instant for a timer of the operating system or of tokio; `None` for one that never comes:
    /// [`Instant::FAR_FUTURE`], or beyond what the system's clock can say.
    #[must_use]
    pub fn deadline(&self, at: Instant) -> Option<std::time::Instant> {
        if at == Instant::FAR_FUTURE {
            return None;
        }
        self.origin.checked_add(core::time::Duration::from_micros(at.as_micros()))
    }

    /// The wall clock, in microseconds since the Unix epoch; zero where it stands before 1970.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this file reads the clocks")]
    pub fn wall(&self) -> LogTime {
        LogTime(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, micros))
    }
}

/// Saturates: 584,000 years fit.
fn micros(span: core::time::Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_of_copies_compare_and_never_go_back() {
        let clock = Clock::start();
        let copy = clock;
        let first = clock.now();
        let second = copy.now();
        assert!(second >= first);
    }

    #[test]
    fn the_far_future_is_no_deadline() {
        let clock = Clock::start();
        assert!(clock.deadline(Instant::FAR_FUTURE).is_none());
        assert!(clock.deadline(Instant::from_micros(5)) > clock.deadline(Instant::ZERO));
    }

    #[test]
    fn the_wall_clock_counts_microseconds() {
        let year_2020_us = 1_577_836_800_000_000;
        assert!(Clock::start().wall() > LogTime(year_2020_us));
    }
}
