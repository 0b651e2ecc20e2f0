//! When each event of an open loop is due. Nothing that the cluster does moves it.

use eventstream_core::time::{Duration, Instant};

const SECOND_US: u64 = 1_000_000;

/// Events are due one after the other at equal distances, to the microsecond, each of the next producer in turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    begin: Instant,
    /// Events per second, of all producers.
    rate: u64,
    producers: u64,
    /// Events in all.
    total: u64,
}

impl Schedule {
    /// The events of `length` from `begin` on.
    pub(super) fn new(begin: Instant, length: Duration, rate: u64, producers: u64) -> Self {
        // Whole seconds in practice; what is left of the last microsecond has no event.
        let total = (u128::from(length.as_micros()) * u128::from(rate) / u128::from(SECOND_US)) as u64;
        Self { begin, rate, producers, total }
    }

    /// When the event at this place of this producer is due.
    pub(super) fn due(&self, producer: usize, place: u64) -> Instant {
        let number = place * self.producers + producer as u64;
        self.begin + Duration::from_micros(number * SECOND_US / self.rate)
    }

    /// Events of this producer that are due at `now` or were before.
    pub(super) fn count_due(&self, producer: usize, now: Instant) -> u64 {
        if now < self.begin {
            return 0;
        }
        // Event n is due once n * 1 s / rate, rounded down, has passed.
        let passed_us = now.saturating_since(self.begin).as_micros().saturating_add(1);
        let due = passed_us.saturating_mul(self.rate).div_ceil(SECOND_US);
        self.count(producer, due.min(self.total))
    }

    /// Events of this producer in all.
    pub(super) fn total(&self, producer: usize) -> u64 {
        self.count(producer, self.total)
    }

    /// How many of the first `events` are this producer's.
    fn count(&self, producer: usize, events: u64) -> u64 {
        (events + self.producers - 1 - producer as u64) / self.producers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: Instant = Instant::from_micros(1_234);

    fn at(us: u64) -> Instant {
        BEGIN + Duration::from_micros(us)
    }

    #[test]
    fn an_event_is_due_when_its_time_has_come_and_not_before() {
        for (rate, producers) in [(1, 1), (3, 1), (7, 2), (999, 5), (60_000, 3), (1_000_000, 1), (3_333_333, 4)] {
            let schedule = Schedule::new(BEGIN, Duration::from_secs(2), rate, producers);
            for producer in 0..producers as usize {
                for place in (0..schedule.total(producer)).take(500) {
                    let due = schedule.due(producer, place);
                    assert!(schedule.count_due(producer, due) > place, "{rate}: {producer}, {place}");
                    let before = Instant::from_micros(due.as_micros() - 1);
                    assert!(schedule.count_due(producer, before) <= place, "{rate}: {producer}, {place}");
                }
            }
        }
    }

    #[test]
    fn the_rate_is_kept_exactly_however_long_it_takes() {
        let schedule = Schedule::new(BEGIN, Duration::from_secs(3_600), 60_001, 7);
        let all = |now| (0..7).map(|producer| schedule.count_due(producer, now)).sum::<u64>();
        // The event of the very beginning is there too.
        assert_eq!(all(at(0)), 1);
        assert_eq!(all(at(1_000_000)), 60_001 + 1);
        assert_eq!(all(at(3_000_000_000)), 60_001 * 3_000 + 1);
        assert_eq!(schedule.due(0, 60_001 * 100), at(700 * 1_000_000));
    }

    #[test]
    fn nothing_is_due_before_the_beginning_or_after_the_end() {
        let schedule = Schedule::new(BEGIN, Duration::from_secs(2), 10, 3);
        let all = |now| (0..3).map(|producer| schedule.count_due(producer, now)).sum::<u64>();
        assert_eq!(all(Instant::from_micros(1_233)), 0);
        assert_eq!(all(Instant::FAR_FUTURE), 20);
        assert_eq!((0..3).map(|producer| schedule.total(producer)).collect::<Vec<_>>(), [7, 7, 6]);
        assert_eq!(all(at(1_900_000)), 20, "the last is due one distance before the end");
        assert_eq!(all(at(1_899_999)), 19);
    }

    #[test]
    fn producers_take_turns() {
        let schedule = Schedule::new(BEGIN, Duration::from_secs(1), 1_000, 2);
        let due = |producer, place| schedule.due(producer, place);
        assert_eq!([due(0, 0), due(1, 0), due(0, 1), due(1, 1)], [at(0), at(1_000), at(2_000), at(3_000)]);
    }
}
