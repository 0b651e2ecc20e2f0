//! The clocks of one machine. Virtual time is true; a machine sees it through a clock with an origin and a rate of its
//! own.

use eventstream_core::time::Instant;

/// Parts of a million.
const MILLION: u64 = 1_000_000;
/// True time zero as a wall clock shows it: 2026-09-21, in microseconds.
const WALL_START_US: u64 = 1_790_000_000_000_000;

/// A monotonic clock and a wall clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    since: u64,
    local_then: u64,
    rate_ppm: u64,
    wall_error_us: i64,
}

impl Clock {
    /// A clock that starts now, `local` microseconds after an origin that means nothing to others.
    pub(crate) const fn new(now: u64, local: u64) -> Self {
        Self { since: now, local_then: local, rate_ppm: MILLION, wall_error_us: 0 }
    }

    /// What the monotonic clock shows.
    pub(crate) const fn local(&self, now: u64) -> Instant {
        Instant::from_micros(self.local_then + (now - self.since) * self.rate_ppm / MILLION)
    }

    /// When, in true time, the monotonic clock will have reached `deadline`.
    pub(crate) fn reaches(&self, deadline: Instant) -> u64 {
        let ahead = u128::from(deadline.as_micros().saturating_sub(self.local_then));
        let true_ahead = (ahead * u128::from(MILLION)).div_ceil(u128::from(self.rate_ppm));
        u64::try_from(true_ahead).unwrap_or(u64::MAX).saturating_add(self.since)
    }

    /// From now on the clocks advance this much in a true second.
    pub(crate) const fn set_rate(&mut self, now: u64, rate_ppm: u64) {
        self.local_then = self.local(now).as_micros();
        self.since = now;
        self.rate_ppm = rate_ppm;
    }

    /// The wall clock is wrong by this much from now on.
    pub(crate) const fn set_wall_error(&mut self, error_us: i64) {
        self.wall_error_us = error_us;
    }

    /// The machine starts again: the monotonic clock has a new origin, rate and wall clock stay.
    pub(crate) const fn restart(&mut self, now: u64, local: u64) {
        self.since = now;
        self.local_then = local;
    }

    /// What the wall clock shows.
    pub(crate) const fn wall_us(&self, now: u64) -> u64 {
        (WALL_START_US + now).saturating_add_signed(self.wall_error_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_has_come_when_it_is_said_to() {
        for rate in [MILLION, 900_000, 1_099_999, 333_333] {
            let mut clock = Clock::new(1_000, 77);
            clock.set_rate(5_003, rate);
            for ahead in [0, 1, 2, 3, 999, 1_000_003] {
                let deadline = Instant::from_micros(clock.local(5_003).as_micros() + ahead);
                let at = clock.reaches(deadline);
                assert!(
                    clock.local(at) >= deadline && (ahead == 0 || clock.local(at - 1) < deadline),
                    "{rate} {ahead}"
                );
            }
        }
        assert_eq!(Clock::new(5, 0).reaches(Instant::FAR_FUTURE), u64::MAX);
    }

    #[test]
    fn a_change_of_rate_does_not_jump() {
        let mut clock = Clock::new(0, 0);
        clock.set_rate(1_000, 2 * MILLION);
        assert_eq!(clock.local(1_000).as_micros(), 1_000);
        assert_eq!(clock.local(1_500).as_micros(), 2_000);
    }
}
