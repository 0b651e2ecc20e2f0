//! What is printed at the end.

use super::super::{Exit, Failure};
use super::book::Book;
use super::check::Findings;
use super::measured::Measured;
use super::plan::{Pace, Plan};
use eventstream_core::id::{NodeId, Term};
use eventstream_core::time::Duration;
use eventstream_host::reference::{APPEND_BYTES, MESSAGE_BYTES, QUIET_SYNC, Reference, Spread};
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Who led, looked at several times a second.
#[derive(Debug)]
pub(super) struct Leadership {
    known: Option<(Term, NodeId)>,
    changes: u64,
}

impl Leadership {
    pub(super) fn new(known: Option<(Term, NodeId)>) -> Self {
        Self { known, changes: 0 }
    }

    /// The client says that this one leads, or that it knows of none.
    pub(super) fn handle(&mut self, leader: Option<(Term, NodeId)>) {
        if leader.is_some() && leader != self.known {
            self.changes += u64::from(self.known.is_some());
            self.known = leader;
        }
    }
}

/// The references of the same minute.
#[derive(Debug)]
pub(super) struct References {
    pub(super) before: Reference,
    pub(super) after: Reference,
    /// Where the disk was measured.
    pub(super) directory: PathBuf,
}

impl References {
    fn is_quiet(&self) -> bool {
        self.before.is_quiet() && self.after.is_quiet()
    }

    fn text(&self) -> [String; 3] {
        let Self { before, after, directory } = self;
        let spread =
            |spread: Spread| format!("p50 {}, p99 {}", ms(spread.median.as_micros(), 3), ms(spread.p99.as_micros(), 3));
        let both = |before, after| format!("before {}, after {}", spread(before), spread(after));
        let verdict = if self.is_quiet() { "quiet" } else { "not quiet" };
        [
            format!(
                "disk, {APPEND_BYTES} bytes + fdatasync in {}, in ms: {}",
                directory.display(),
                both(before.sync, after.sync)
            ),
            format!("loopback, {MESSAGE_BYTES} bytes there and back, in ms: {}", both(before.loopback, after.loopback)),
            format!(
                "the machine was {verdict} (quiet: disk p50 under {} before and after)",
                ms(QUIET_SYNC.as_micros(), 1)
            ),
        ]
    }
}

/// See the [module](self).
pub(super) struct Report<'a> {
    pub(super) plan: &'a Plan,
    pub(super) measured: &'a Measured,
    pub(super) books: &'a [Book],
    pub(super) leadership: Leadership,
    pub(super) references: References,
    /// `None` if the topics could not be read.
    pub(super) findings: Option<Findings>,
}

impl Report<'_> {
    /// Whether all is well with what was published; how fast it was is for others to judge.
    pub(super) fn verdict(&self) -> Result<(), Failure> {
        if let Some(found) = self.findings.as_ref().filter(|findings| !findings.is_good()) {
            return Err(Failure::failed(format_args!(
                "acknowledged events are not as they should be: {} ({}); report it",
                found.counts(),
                found.examples.join("; ")
            )));
        }
        let (unknown, unsent) = (self.sum(|book| book.unknown), self.sum(|book| book.unsent));
        if unknown + unsent == 0 {
            return Ok(());
        }
        let why = self.error().map(|error| format!(" ({error})")).unwrap_or_default();
        let message = format!("the outcome of {unknown} events is unknown{why}; {unsent} could not be sent in time");
        Err(Failure::new(Exit::Unknown, message))
    }

    pub(super) fn text(&self) -> String {
        let measured = self.measured;
        let mut lines = vec![self.plan_text()];
        lines.push(format!(
            "with the warm-up: sent {}, acknowledged {}, duplicates {}, unknown {}, unsent {}",
            self.sum(|book| book.sent),
            measured.acked,
            self.sum(|book| book.duplicates),
            self.sum(|book| book.unknown),
            self.sum(|book| book.unsent),
        ));
        lines.push(format!("{:.0} events/s, {:.2} MB/s of payload", measured.rate(), self.bytes_per_second() / 1e6));
        match self.plan.pace {
            Pace::Closed { .. } => lines.push(format!("send to ack in ms: {}", quantiles_text(&measured.latency_us))),
            Pace::Open { .. } => {
                lines.push(format!("due to ack in ms: {}", quantiles_text(&measured.latency_us)));
                lines.push(format!("due to send in ms: {}", quantiles_text(&measured.lateness_us)));
                lines.push(self.full_text());
            }
        }
        let leader = self.leadership.known.map(|(term, node)| format!("node {node}, term {term}"));
        let leader = leader.unwrap_or_else(|| "none known".to_owned());
        lines.push(format!("leader: {leader}; changes seen: {}", self.leadership.changes));
        lines.extend(self.error().map(|error| format!("first error: {error}")));
        lines.extend(self.references.text());
        lines.push(match &self.findings {
            Some(found) => format!("check: {} events read from {}: {}", found.read, found.server, found.counts()),
            None => "check: not done".to_owned(),
        });
        lines.join("\n")
    }

    fn plan_text(&self) -> String {
        let plan = self.plan;
        let pace = match plan.pace {
            Pace::Closed { inflight } => format!("closed loop, {} under way", plural(inflight, "event")),
            Pace::Open { rate } => format!("open loop, {} due per second", plural(rate, "event")),
        };
        format!(
            "{pace}; {}, {}, payloads of {}; {} s after {} s of warm-up",
            plural(plan.producers, "producer"),
            plural(plan.topics, "topic"),
            plural(plan.size as u64, "byte"),
            seconds(plan.measured),
            seconds(plan.warmup),
        )
    }

    fn full_text(&self) -> String {
        match self.sum(|book| book.full.times) {
            0 => "no window was full when an event was due".to_owned(),
            times => format!(
                "{} found a full window when they were due ({times} attempts), at most {} of one producer at once",
                plural(self.sum(|book| book.full.events), "event"),
                self.longest_queue(),
            ),
        }
    }

    pub(super) fn object(&self) -> Value {
        let (plan, measured) = (self.plan, self.measured);
        let (pace, inflight, rate) = match plan.pace {
            Pace::Closed { inflight } => ("closed", Some(inflight), None),
            Pace::Open { rate } => ("open", None, Some(rate)),
        };
        json!({
            "loop": pace,
            "inflight": inflight,
            "rate": rate,
            "size": plan.size,
            "producers": plan.producers,
            "topics": plan.topics,
            "warmup_seconds": seconds(plan.warmup),
            "seconds": seconds(plan.measured),
            "sent": self.sum(|book| book.sent),
            "acked": measured.acked,
            "duplicates": self.sum(|book| book.duplicates),
            "unknown": self.sum(|book| book.unknown),
            "unsent": self.sum(|book| book.unsent),
            "error": self.error(),
            "events_per_second": measured.rate(),
            "bytes_per_second": self.bytes_per_second(),
            "latency_us": quantiles_object(&measured.latency_us),
            "lateness_us": rate.map(|_| quantiles_object(&measured.lateness_us)),
            "window_full": rate.map(|_| json!({
                "times": self.sum(|book| book.full.times),
                "events": self.sum(|book| book.full.events),
                "longest_queue": self.longest_queue(),
            })),
            "leader": self.leadership.known.map(|(_, node)| node.0),
            "term": self.leadership.known.map(|(term, _)| term.0),
            "leader_changes": self.leadership.changes,
            "reference": {
                "before": reference_object(&self.references.before),
                "after": reference_object(&self.references.after),
                "directory": self.references.directory,
                "quiet": self.references.is_quiet(),
            },
            "check": self.findings.as_ref().map(|found| json!({
                "server": found.server,
                "read": found.read,
                "lost": found.lost,
                "doubled": found.doubled,
                "misplaced": found.misplaced,
                "corrupted": found.corrupted,
            })),
        })
    }

    fn sum(&self, of: impl Fn(&Book) -> u64) -> u64 {
        self.books.iter().map(of).sum()
    }

    fn longest_queue(&self) -> u64 {
        self.books.iter().map(|book| book.full.longest_queue).max().unwrap_or(0)
    }

    fn error(&self) -> Option<String> {
        self.books.iter().find_map(|book| book.error).map(|error| error.to_string())
    }

    fn bytes_per_second(&self) -> f64 {
        self.measured.rate() * self.plan.size as f64
    }
}

/// The quantiles that are reported; the highest value comes last.
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

fn quantiles_text(times_us: &Histogram<u64>) -> String {
    let quantiles = QUANTILES.map(|(name, quantile)| format!("{name} {}", ms(times_us.value_at_quantile(quantile), 2)));
    format!("{}, max {}", quantiles.join(", "), ms(times_us.max(), 2))
}

fn quantiles_object(times_us: &Histogram<u64>) -> Value {
    let quantiles =
        QUANTILES.map(|(name, quantile)| (name.replace('.', ""), times_us.value_at_quantile(quantile).into()));
    let rest = [("max".to_owned(), times_us.max().into()), ("events".to_owned(), times_us.len().into())];
    Value::Object(quantiles.into_iter().chain(rest).collect())
}

fn reference_object(reference: &Reference) -> Value {
    let spread = |spread: Spread| json!({ "p50": spread.median.as_micros(), "p99": spread.p99.as_micros() });
    json!({ "sync_us": spread(reference.sync), "loopback_us": spread(reference.loopback) })
}

fn ms(us: u64, decimals: usize) -> String {
    format!("{:.decimals$}", us as f64 / 1_000.0)
}

fn seconds(span: Duration) -> u64 {
    span.as_micros() / 1_000_000
}

fn plural(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
