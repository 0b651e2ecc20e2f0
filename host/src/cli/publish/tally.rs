//! What became of the lines, and how fast.

use eventstream_core::time::Instant;
use eventstream_host::client::Ack;
use eventstream_host::clock::Clock;
use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// Latencies above this count as this: 10 minutes.
const HIGHEST_US: u64 = 600_000_000;
/// Latencies are kept to three digits.
const DIGITS: u8 = 3;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Tally {
    clock: Clock,
    started_at: Instant,
    last_at: Instant,
    accepted: u64,
    duplicates: u64,
    latency_us: Histogram<u64>,
}

impl Tally {
    pub(super) fn start(clock: Clock) -> Self {
        let now = clock.now();
        let latency_us = Histogram::new_with_bounds(1, HIGHEST_US, DIGITS).expect("bounds that are known to work");
        Self { clock, started_at: now, last_at: now, accepted: 0, duplicates: 0, latency_us }
    }

    pub(super) fn add(&mut self, ack: &Ack) {
        self.last_at = self.clock.now();
        self.accepted += ack.accepted;
        self.duplicates += ack.duplicates;
        let latency_us = u64::try_from(ack.latency.as_micros()).unwrap_or(HIGHEST_US).clamp(1, HIGHEST_US);
        self.latency_us.saturating_record_n(latency_us, ack.events());
    }

    pub(super) fn acknowledged(&self) -> u64 {
        self.accepted + self.duplicates
    }

    pub(super) fn text(&self, sent: u64) -> String {
        let mut text = format!("sent {sent}, accepted {}, duplicates {}", self.accepted, self.duplicates);
        if self.acknowledged() > 0 {
            let ms = |quantile| self.latency_us.value_at_quantile(quantile) as f64 / 1_000.0;
            text += &format!(
                "\n{:.0} events/s in {:.3} s; publish to ack in ms: p50 {:.2}, p99 {:.2}, p99.9 {:.2}, max {:.2}",
                self.rate(),
                self.seconds(),
                ms(0.5),
                ms(0.99),
                ms(0.999),
                self.latency_us.max() as f64 / 1_000.0,
            );
        }
        text
    }

    pub(super) fn object(&self, sent: u64, topic: &str, producer: &str) -> Value {
        let us = |quantile| self.latency_us.value_at_quantile(quantile);
        json!({
            "topic": topic,
            "producer": producer,
            "sent": sent,
            "accepted": self.accepted,
            "duplicates": self.duplicates,
            "unknown": sent - self.acknowledged(),
            "seconds": self.seconds(),
            "events_per_second": self.rate(),
            "latency_us": { "p50": us(0.5), "p99": us(0.99), "p999": us(0.999), "max": self.latency_us.max() },
        })
    }

    fn seconds(&self) -> f64 {
        self.last_at.saturating_since(self.started_at).as_micros() as f64 / 1e6
    }

    fn rate(&self) -> f64 {
        // Less than a microsecond did not happen.
        self.acknowledged() as f64 / self.seconds().max(1e-6)
    }
}
