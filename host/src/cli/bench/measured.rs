//! What is measured while the load runs, by all producers together.

use super::workload::Workload;
use core::fmt::Write;
use eventstream_core::time::{Duration, Instant};
use eventstream_host::clock::Clock;
use hdrhistogram::Histogram;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Times above this count as this: 2 hours, the longest run.
const HIGHEST_US: u64 = 7_200_000_000;
/// Times are kept to three digits.
const DIGITS: u8 = 3;

/// The times of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) begin: Instant,
    /// The end of the warm-up: what is sent, or due, from here on is measured.
    pub(super) measured_from: Instant,
    /// Nothing is sent for the first time, or due, from here on.
    pub(super) end: Instant,
}

impl Span {
    pub(super) fn starting(begin: Instant, warmup: Duration, measured: Duration) -> Self {
        Self { begin, measured_from: begin + warmup, end: begin + warmup + measured }
    }

    /// What lies between begin and end.
    pub(super) fn length(&self) -> Duration {
        self.end.saturating_since(self.begin)
    }

    /// What is measured of it.
    pub(super) fn measured(&self) -> Duration {
        self.end.saturating_since(self.measured_from)
    }
}

/// What all tasks of a run share. They run on one thread, so the lock is always free.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) clock: Clock,
    pub(super) workload: Arc<Workload>,
    pub(super) span: Span,
    /// How long an event may stay without an answer, or unsent after the end.
    pub(super) patience: Duration,
    pub(super) measured: Arc<Mutex<Measured>>,
}

impl Run {
    pub(super) fn measured(&self) -> MutexGuard<'_, Measured> {
        self.measured.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far it is, for people.
    pub(super) fn describe(&self) -> String {
        let (now, span, mut text) = (self.clock.now(), &self.span, String::new());
        let (phase, until) = match now {
            now if now < span.measured_from => ("warm-up", span.measured_from),
            now if now < span.end => ("measuring", span.end),
            _ => ("waiting for answers", now),
        };
        let seconds = until.saturating_since(now).as_micros().div_ceil(1_000_000);
        // Writing to a text never fails.
        let _ = write!(text, "{phase}, {seconds} s to go, {} events acknowledged", self.measured().acked);
        text
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Measured {
    span: Span,
    /// From when an event was sent (closed loop) or due (open loop) to its answer, of those that were sent or due in the
    /// measured time. One that was given up counts with its age then.
    pub(super) latency_us: Histogram<u64>,
    /// From when an event was due to when it was given to the client, of the same events.
    pub(super) lateness_us: Histogram<u64>,
    /// Events that were acknowledged.
    pub(super) acked: u64,
    /// Those whose answer came in the measured time, whenever they were sent.
    pub(super) acked_in_time: u64,
}

impl Measured {
    pub(super) fn new(span: Span) -> Self {
        let histogram = || Histogram::new_with_bounds(1, HIGHEST_US, DIGITS).expect("bounds that are known to work");
        Self { span, latency_us: histogram(), lateness_us: histogram(), acked: 0, acked_in_time: 0 }
    }

    /// So many events were acknowledged at `now`.
    pub(super) fn add_acked(&mut self, now: Instant, events: u64) {
        self.acked += events;
        if self.span.measured_from <= now && now < self.span.end {
            self.acked_in_time += events;
        }
    }

    /// An event that was sent or due at `since` was answered, or given up, at `now`.
    pub(super) fn add_latency(&mut self, since: Instant, now: Instant) {
        if since >= self.span.measured_from {
            self.latency_us.saturating_record(now.saturating_since(since).as_micros());
        }
    }

    /// An event that was due at `due` was sent at `now`.
    pub(super) fn add_lateness(&mut self, due: Instant, now: Instant) {
        if due >= self.span.measured_from {
            self.lateness_us.saturating_record(now.saturating_since(due).as_micros());
        }
    }

    /// Events per second that were acknowledged in the measured time.
    pub(super) fn rate(&self) -> f64 {
        self.acked_in_time as f64 * 1e6 / self.span.measured().as_micros() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(second)
    }

    #[test]
    fn the_warm_up_is_in_no_figure() {
        let span = Span::starting(at(10), Duration::from_secs(2), Duration::from_secs(4));
        assert_eq!((span.length(), span.measured()), (Duration::from_secs(6), Duration::from_secs(4)));
        let mut measured = Measured::new(span);
        measured.add_acked(at(11), 100);
        measured.add_acked(at(12), 7);
        measured.add_acked(at(15), 1);
        measured.add_acked(at(16), 1_000);
        assert_eq!((measured.acked, measured.acked_in_time, measured.rate()), (1_108, 8, 2.0));
        // Sent in the warm-up, answered after it; and sent in time, answered after the end.
        measured.add_latency(at(11), at(14));
        measured.add_latency(at(15), at(17));
        assert_eq!(measured.latency_us.len(), 1);
        assert!(measured.latency_us.equivalent(measured.latency_us.max(), 2_000_000));
        measured.add_lateness(at(11), at(12));
        assert!(measured.lateness_us.is_empty());
    }
}
