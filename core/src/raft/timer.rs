//! What the machine waits for.

use crate::time::Instant;

/// A reason to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// Nobody leads, or a campaign was not decided: ask for pre-votes.
    Election,
    /// The lease ends that a kept pre-vote request waits for.
    Lease,
    /// The leader's next round of heartbeats.
    Heartbeat,
    /// The latest time by which a leader must have heard from a majority again.
    Quorum,
    /// A leader's successor has had its chance.
    Transfer,
}

impl Timer {
    const ALL: [Self; 5] = [Self::Election, Self::Lease, Self::Heartbeat, Self::Quorum, Self::Transfer];
}

/// When each timer is due.
#[derive(Clone, Debug)]
pub(super) struct Timers([Instant; Timer::ALL.len()]);

impl Timers {
    /// None is set.
    pub(super) const fn new() -> Self {
        Self([Instant::FAR_FUTURE; Timer::ALL.len()])
    }

    pub(super) fn set(&mut self, timer: Timer, at: Instant) {
        self.0[timer as usize] = at;
    }

    pub(super) fn stop(&mut self, timer: Timer) {
        self.set(timer, Instant::FAR_FUTURE);
    }

    pub(super) fn at(&self, timer: Timer) -> Instant {
        self.0[timer as usize]
    }

    /// When the next timer is due; [`Instant::FAR_FUTURE`] if none is set.
    pub(super) fn next(&self) -> Instant {
        self.0.iter().copied().fold(Instant::FAR_FUTURE, Instant::min)
    }

    /// Takes a timer that is due.
    pub(super) fn expire(&mut self, now: Instant) -> Option<Timer> {
        let due = Timer::ALL.into_iter().find(|&timer| self.at(timer) <= now)?;
        self.stop(due);
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_is_due_once() {
        let at = Instant::from_micros;
        let mut timers = Timers::new();
        assert_eq!((timers.next(), timers.expire(at(1_000))), (Instant::FAR_FUTURE, None));
        timers.set(Timer::Heartbeat, at(10));
        timers.set(Timer::Election, at(7));
        assert_eq!((timers.next(), timers.expire(at(6))), (at(7), None));
        assert_eq!(timers.expire(at(10)), Some(Timer::Election));
        assert_eq!(timers.expire(at(10)), Some(Timer::Heartbeat));
        assert_eq!(timers.expire(at(10)), None);
    }
}
