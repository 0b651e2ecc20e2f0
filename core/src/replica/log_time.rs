//! Log time: what a leader stamps entries with, and when it may jump.
//!
//! Log time never decreases along the log, whoever leads. A new leader continues from the last entry of its log and
//! follows its own monotonic clock from there. It jumps ahead only to a time that the wall clocks of a majority of the
//! voters agree on within [`WALL_CLOCK_AGREEMENT`]; so neither a dead clock battery nor one wild clock can make
//! everything expire. While there is no such agreement it does not jump, and says so.

use crate::config::{MAX_COUNTER, MAX_MEMBERS, WALL_CLOCK_AGREEMENT, WALL_CLOCK_MEMORY};
use crate::id::{LogTime, NodeId};
use crate::time::Instant;
use heapless::Vec;

/// Stamps entries. Holds what the voters' wall clocks said.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct LogClock {
    /// The log time of the last entry of the log.
    last: LogTime,
    /// Log time as of an instant, from where it follows the monotonic clock. Of use only while leading.
    anchor: (Instant, LogTime),
    readings: Vec<Reading, MAX_MEMBERS>,
}

/// What a voter's wall clock said.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Reading {
    voter: NodeId,
    /// How far its wall clock is ahead of our monotonic clock, in microseconds. Both advance alike, so that readings
    /// of different instants can be compared.
    ahead_us: i64,
    read_at: Instant,
}

impl LogClock {
    /// The clock of a node whose log ends with an entry of this time.
    pub(super) const fn new(last: LogTime) -> Self {
        Self { last, anchor: (Instant::ZERO, last), readings: Vec::new() }
    }

    /// The log time of the last entry.
    pub(super) const fn last(&self) -> LogTime {
        self.last
    }

    /// The log ends with an entry of this time now, which a leader stamped.
    pub(super) const fn follow(&mut self, last: LogTime) {
        self.last = last;
    }

    /// From now on this node leads: log time goes on from the last entry.
    pub(super) const fn lead(&mut self, now: Instant) {
        self.anchor = (now, self.last);
    }

    /// The time of the next entry, which is the last one now. `majority` of the voters have to agree before it jumps.
    pub(super) fn stamp(&mut self, now: Instant, majority: usize) -> LogTime {
        let (since, time) = self.anchor;
        let followed = time.0.saturating_add(now.saturating_since(since).as_micros());
        let agreed = self.agreed(now, majority).unwrap_or(LogTime::ZERO);
        let time = LogTime(followed.max(agreed.0).max(self.last.0).min(MAX_COUNTER));
        self.anchor = (now, time);
        self.last = time;
        time
    }

    /// A voter's wall clock says `wall_us`, in microseconds since the Unix epoch; zero if it has none.
    pub(super) fn read(&mut self, now: Instant, voter: NodeId, wall_us: u64) {
        self.readings.retain(|reading| reading.voter != voter);
        let (Ok(wall), Ok(clock)) = (i64::try_from(wall_us), i64::try_from(now.as_micros())) else { return };
        if wall == 0 {
            return;
        }
        let reading = Reading { voter, ahead_us: wall - clock, read_at: now };
        if self.readings.is_full() {
            self.readings.remove(0);
        }
        assert!(self.readings.push(reading).is_ok(), "room was made");
    }

    /// What `voter`'s wall clock says now, going by its last reading; zero if it has none.
    pub(super) fn wall_us(&self, now: Instant, voter: NodeId) -> u64 {
        let reading = self.readings.iter().find(|reading| reading.voter == voter && reading.is_fresh(now));
        reading.map_or(0, |reading| reading.at(now).0)
    }

    /// The time that the wall clocks of a majority agree on: of the largest group of them within
    /// [`WALL_CLOCK_AGREEMENT`] the one in the middle, or the earlier of the two there.
    pub(super) fn agreed(&self, now: Instant, majority: usize) -> Option<LogTime> {
        let fresh = self.readings.iter().filter(|reading| reading.is_fresh(now));
        let mut times: Vec<u64, MAX_MEMBERS> = fresh.map(|reading| reading.at(now).0).collect();
        times.sort_unstable();
        let mut group: &[u64] = &[];
        for first in 0..times.len() {
            let within = |time: &u64| time - times[first] <= WALL_CLOCK_AGREEMENT.as_micros();
            let len = times[first..].iter().take_while(|time| within(time)).count();
            if len > group.len() {
                group = &times[first..first + len];
            }
        }
        (group.len() >= majority).then(|| LogTime(group[(group.len() - 1) / 2]))
    }
}

impl Reading {
    fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_since(self.read_at) <= WALL_CLOCK_MEMORY
    }

    fn at(&self, now: Instant) -> LogTime {
        LogTime(now.as_micros().saturating_add_signed(self.ahead_us))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Duration;

    const NOON: u64 = 1_790_000_000_000_000;
    const SECOND: u64 = 1_000_000;

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    fn clock_with(walls: &[u64]) -> LogClock {
        let mut clock = LogClock::new(LogTime::ZERO);
        for (node, &wall) in walls.iter().enumerate() {
            clock.read(at(0), NodeId(node as u16 + 1), wall);
        }
        clock.lead(at(0));
        clock
    }

    #[test]
    fn it_follows_the_monotonic_clock() {
        let mut clock = LogClock::new(LogTime(500));
        clock.lead(at(10));
        assert_eq!(clock.stamp(at(10), 2), LogTime(500));
        assert_eq!(clock.stamp(at(13), 2), LogTime(500 + 3 * SECOND));
    }

    #[test]
    fn it_jumps_to_what_a_majority_agrees_on() {
        let mut clock = clock_with(&[NOON, NOON + 4 * SECOND]);
        assert_eq!(clock.stamp(at(0), 2), LogTime(NOON));
        let mut clock = clock_with(&[NOON, NOON + 4 * SECOND, NOON + SECOND]);
        assert_eq!(clock.stamp(at(0), 2), LogTime(NOON + SECOND));
    }

    #[test]
    fn one_clock_alone_moves_nothing() {
        for walls in [&[NOON][..], &[NOON, 0], &[NOON, NOON + 5 * SECOND + 1], &[NOON, 2, NOON + 60 * SECOND]] {
            let mut clock = clock_with(walls);
            assert_eq!(clock.agreed(at(1), 2), None, "{walls:?}");
            assert_eq!(clock.stamp(at(1), 2), LogTime(SECOND));
        }
    }

    #[test]
    fn a_dead_clock_is_outvoted() {
        let dead = 946_684_800 * SECOND;
        let mut clock = clock_with(&[dead, NOON, NOON + 1]);
        assert_eq!(clock.stamp(at(0), 2), LogTime(NOON));
    }

    #[test]
    fn it_never_goes_back_even_if_a_majority_does() {
        let mut clock = clock_with(&[NOON, NOON]);
        assert_eq!(clock.stamp(at(0), 2), LogTime(NOON));
        for node in [1, 2] {
            clock.read(at(1), NodeId(node), NOON - 3_600 * SECOND);
        }
        assert_eq!(clock.stamp(at(2), 2), LogTime(NOON + 2 * SECOND));
    }

    #[test]
    fn a_new_leader_goes_on_from_the_last_entry() {
        let mut clock = clock_with(&[NOON]);
        clock.follow(LogTime(NOON + 7 * SECOND));
        clock.lead(at(5));
        assert_eq!(clock.stamp(at(6), 2), LogTime(NOON + 8 * SECOND));
        // A truncated tail takes its time with it.
        clock.follow(LogTime(NOON));
        clock.lead(at(9));
        assert_eq!(clock.stamp(at(9), 2), LogTime(NOON));
    }

    #[test]
    fn readings_age() {
        let clock = clock_with(&[NOON, NOON]);
        let last = at(0) + WALL_CLOCK_MEMORY;
        assert!(clock.agreed(last, 2).is_some());
        assert_eq!(clock.wall_us(last, NodeId(1)), NOON + WALL_CLOCK_MEMORY.as_micros());
        let late = last + Duration::from_micros(1);
        assert_eq!(clock.agreed(late, 2), None);
        assert_eq!(clock.wall_us(late, NodeId(1)), 0);
    }

    #[test]
    fn whatever_peers_say_the_time_stays_in_range() {
        let mut clock = clock_with(&[u64::MAX, i64::MAX as u64, i64::MAX as u64]);
        assert_eq!(clock.stamp(at(3), 2), LogTime(MAX_COUNTER));
        assert_eq!(clock.stamp(Instant::FAR_FUTURE, 2), LogTime(MAX_COUNTER));
    }
}
