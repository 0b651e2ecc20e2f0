//! An open loop: events are sent when they are due, whatever became of those before.
//!
//! One task sends for all producers and never waits for an answer. What finds a producer's window full when it is due is
//! sent as soon as there is room, is counted, and its latency has counted from the due time all along; the schedule goes
//! on meanwhile. So a cluster that answers slowly cannot slow the questions down (coordinated omission).

use super::book::{Book, Full};
use super::measured::Run;
use super::schedule::Schedule;
use super::ticks::Ticks;
use core::time::Duration;
use eventstream_core::time::Instant;
use eventstream_host::client::{Acks, Producer, PublishError, Sender, TrySendError};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// Between two looks at the schedule. What has become due meanwhile is sent late by as much, which its latency contains.
pub(super) const TICK: Duration = Duration::from_micros(250);
/// Events that are sent before others get to run.
const EVENTS_AT_A_TIME: u32 = 256;

/// Sends what is due until the end of the run, then waits for the last answer; gives the books of the producers.
pub(super) async fn run(run: Run, rate: u64, producers: Vec<Producer>, ticks: Ticks) -> Vec<Book> {
    let schedule = Schedule::new(run.span.begin, run.span.length(), rate, producers.len() as u64);
    let mut hearing = JoinSet::new();
    let mut lanes = Vec::with_capacity(producers.len());
    for (number, producer) in producers.into_iter().enumerate() {
        let book = Book::new(&producer);
        let (sender, acks) = producer.split();
        let (told, sent) = oneshot::channel();
        lanes.push(Lane { number, sender, told, total: schedule.total(number), part: Part::default() });
        let run = run.clone();
        hearing.spawn(async move { (number, hear(run, schedule, number, book, acks, sent).await) });
    }
    send(&run, &schedule, &mut lanes, &ticks).await;
    for lane in lanes {
        lane.end(&run, &schedule);
    }
    let mut books = hearing.join_all().await;
    books.sort_by_key(|(number, _)| *number);
    books.into_iter().map(|(_, book)| book).collect()
}

/// One producer's part of the schedule.
struct Lane {
    number: usize,
    sender: Sender,
    /// Where the other half is told when all is sent.
    told: oneshot::Sender<Part>,
    total: u64,
    part: Part,
}

/// What became of it.
#[derive(Debug, Default)]
struct Part {
    sent: u64,
    unsent: u64,
    full: Full,
    /// The producer can send no more.
    error: Option<PublishError>,
}

/// Sends everything when it is due, or later if there was no room.
async fn send(run: &Run, schedule: &Schedule, lanes: &mut [Lane], ticks: &Ticks) {
    let give_up_at = run.span.end + run.patience;
    let mut payload = run.workload.buffer();
    while lanes.iter().any(Lane::has_more) {
        ticks.next().await;
        let now = run.clock.now();
        if now >= give_up_at {
            return;
        }
        for lane in &mut *lanes {
            while lane.send_some(run, schedule, now, &mut payload) {
                tokio::task::yield_now().await;
            }
        }
    }
}

impl Lane {
    fn has_more(&self) -> bool {
        self.part.error.is_none() && self.part.sent < self.total
    }

    /// Sends what is due at `now`, or the front of it; returns whether the rest can be sent too.
    fn send_some(&mut self, run: &Run, schedule: &Schedule, now: Instant, payload: &mut [u8]) -> bool {
        let due = schedule.count_due(self.number, now);
        for _ in 0..EVENTS_AT_A_TIME {
            let place = self.part.sent;
            if place >= due || self.part.error.is_some() {
                return false;
            }
            run.workload.fill(self.number, place, payload);
            let topic = run.workload.topic(self.number, place);
            match self.sender.try_send(&run.workload.topics[topic], b"", payload) {
                Ok(_) => self.part.sent += 1,
                Err(TrySendError::Full) => {
                    self.part.full.note(place, due);
                    return false;
                }
                Err(TrySendError::Refused(error)) => {
                    self.part.error = Some(error);
                    return false;
                }
            }
            run.measured().add_lateness(schedule.due(self.number, place), run.clock.now());
        }
        true
    }

    /// Gives up what was not sent: its age counts as latency.
    fn end(mut self, run: &Run, schedule: &Schedule) {
        let (mut measured, now) = (run.measured(), run.clock.now());
        for place in self.part.sent..self.total {
            let due = schedule.due(self.number, place);
            measured.add_latency(due, now);
            measured.add_lateness(due, now);
        }
        self.part.unsent = self.total - self.part.sent;
        // The other half waits for this.
        let _ = self.told.send(self.part);
    }
}

/// Enters every answer, until all that was sent is answered.
async fn hear(
    run: Run,
    schedule: Schedule,
    number: usize,
    mut book: Book,
    mut acks: Acks,
    mut told: oneshot::Receiver<Part>,
) -> Book {
    let mut has_ended = false;
    while !has_ended || book.answered() < book.sent {
        let mut next = tokio::select! {
            answer = acks.next() => answer,
            part = &mut told, if !has_ended => {
                let part = part.unwrap_or_default();
                (book.sent, book.unsent, book.full) = (part.sent, part.unsent, part.full);
                book.error = book.error.or(part.error);
                has_ended = true;
                None
            }
        };
        let now = run.clock.now();
        while let Some(answer) = next {
            book.handle(answer, now, |place| schedule.due(number, place), &run);
            next = acks.try_next();
        }
    }
    book
}
