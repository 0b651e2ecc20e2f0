//! A closed loop: a producer keeps its share of events under way, and sends the next one when one is answered.

use super::book::Book;
use super::measured::Run;
use core::time::Duration;
use eventstream_core::time::Instant;
use eventstream_host::client::{Ack, Acks, NotAcked, Producer, Sender, TrySendError};

/// Events that are sent before others get to run.
const EVENTS_AT_A_TIME: u64 = 256;
/// A window that is full although the share is not reached holds what was given up; it is tried again after this.
const TRY_AGAIN: Duration = Duration::from_millis(10);

/// Sends until the end of the run, then waits for the last answer.
pub(super) async fn run(run: Run, number: usize, producer: Producer, share: u64) -> Book {
    let book = Book::new(&producer);
    let (sender, mut acks) = producer.split();
    let payload = run.workload.buffer();
    let sent_at = vec![Instant::ZERO; share as usize];
    let at_end = run.clock.deadline(run.span.end).expect("a run ends");
    let mut end = core::pin::pin!(tokio::time::sleep_until(at_end.into()));
    let mut producing = Producing { run, number, sender, payload, share, sent_at, can_send: true, book };
    loop {
        let first = match producing.send() {
            Stopped::AfterSome => {
                tokio::task::yield_now().await;
                acks.try_next()
            }
            Stopped::AtShare if producing.is_done() => return producing.book,
            stopped => tokio::select! {
                answer = acks.next() => answer,
                () = &mut end, if producing.can_send => None,
                () = tokio::time::sleep(TRY_AGAIN), if stopped == Stopped::AtFullWindow => None,
            },
        };
        producing.hear(first, &mut acks);
    }
}

struct Producing {
    run: Run,
    number: usize,
    sender: Sender,
    payload: Vec<u8>,
    share: u64,
    /// When the events under way were sent, each at its place modulo the share.
    sent_at: Vec<Instant>,
    /// The end has not come, and the producer has not failed.
    can_send: bool,
    book: Book,
}

/// Why no further event is sent now.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stopped {
    AfterSome,
    /// Or nothing more is to be sent.
    AtShare,
    AtFullWindow,
}

impl Producing {
    fn send(&mut self) -> Stopped {
        for _ in 0..EVENTS_AT_A_TIME {
            let (place, now) = (self.book.sent, self.run.clock.now());
            self.can_send &= now < self.run.span.end;
            if !self.can_send || place - self.book.answered() >= self.share {
                return Stopped::AtShare;
            }
            let workload = &self.run.workload;
            workload.fill(self.number, place, &mut self.payload);
            match self.sender.try_send(&workload.topics[workload.topic(self.number, place)], b"", &self.payload) {
                Ok(_) => {
                    self.sent_at[(place % self.share) as usize] = now;
                    self.book.sent += 1;
                }
                Err(TrySendError::Full) => return Stopped::AtFullWindow,
                Err(TrySendError::Refused(error)) => {
                    self.book.error.get_or_insert(error);
                    self.can_send = false;
                }
            }
        }
        Stopped::AfterSome
    }

    /// Enters this answer, and those that came with it.
    fn hear(&mut self, first: Option<Result<Ack, NotAcked>>, acks: &mut Acks) {
        let now = self.run.clock.now();
        let mut next = first;
        while let Some(answer) = next {
            self.book.handle(answer, now, |place| self.sent_at[(place % self.share) as usize], &self.run);
            next = acks.try_next();
        }
    }

    fn is_done(&self) -> bool {
        !self.can_send && self.book.answered() == self.book.sent
    }
}
