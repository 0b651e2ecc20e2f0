//! The handles of a producer: one event at a time, or many.

use super::error::{OpenError, PublishError, TrySendError};
use super::hub::{Number, Signals, Waiter};
use super::receipt::{Ack, NotAcked, Receipt};
use super::window::PushError;
use super::{Connections, Shared};
use eventstream_core::id::{Epoch, ProducerId, Sequence};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use tokio::sync::oneshot;

/// A [`Sender`] lets others run after this many events, so that what it has sent can leave.
const EVENTS_AT_A_TIME: u32 = 1_024;

/// The id of the producer of this name: the first 16 bytes of the name's SHA-256.
#[must_use]
pub fn producer_id(name: &str) -> ProducerId {
    let digest = Sha256::digest(name.as_bytes());
    let mut id = [0; 16];
    id.copy_from_slice(&digest[..16]);
    ProducerId(id)
}

/// The number of the first event that a producer publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The one after the highest that the cluster has accepted from it.
    Next,
    /// This one: what the cluster has accepted already is answered as a duplicate. Beyond the next one, every event fails
    /// with [`Failure::SequenceGap`](super::Failure::SequenceGap).
    At(Sequence),
}

/// An opened producer: numbers events, and keeps each until it is acknowledged. What was not acknowledged is forgotten
/// when the producer is dropped.
#[derive(Debug)]
pub struct Producer {
    inner: Arc<Inner>,
}

/// The registration at the hub; undone when the last handle is dropped.
#[derive(Debug)]
struct Inner {
    connections: Arc<Connections>,
    number: Number,
    signals: Arc<Signals>,
    id: ProducerId,
}

impl Producer {
    pub(super) async fn open(connections: Arc<Connections>, id: ProducerId, start: Start) -> Result<Self, OpenError> {
        let opened = connections.shared.with_hub(|hub, now| hub.open_producer(now, id, start));
        let (number, signals) = opened.await.unwrap_or(Err(OpenError::Closed))?;
        Ok(Self { inner: Arc::new(Inner { connections, number, signals, id }) })
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> ProducerId {
        self.inner.id
    }

    /// Which life of it this is: whoever opens it again gets a higher one, and goes on with the numbers.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.inner.shared().hub().window(self.inner.number).map_or(Epoch(0), |window| window.epoch())
    }

    /// The number of the next event.
    #[must_use]
    pub fn next_sequence(&self) -> Sequence {
        self.inner.next_sequence()
    }

    /// Publishes an event and waits until it is acknowledged. Many calls may be under way at once; their events are
    /// numbered in the order in which the calls are first polled, or, while the window is full, find room.
    ///
    /// Dropping the future does not take the event back.
    ///
    /// # Errors
    ///
    /// If the event can never be published, or was not acknowledged: see [`PublishError`].
    pub async fn publish(&self, topic: &str, key: &[u8], payload: &[u8]) -> Result<Receipt, PublishError> {
        let (waiter, answer) = oneshot::channel();
        self.inner.push((topic, key, payload), Some(waiter)).await?;
        match answer.await {
            Ok(Ok(ack)) => Ok(ack.receipt()),
            Ok(Err(not_acked)) => Err(not_acked.error),
            Err(_) => Err(PublishError::Closed),
        }
    }

    /// For many events: one half sends, the other hears what became of them.
    #[must_use]
    pub fn split(self) -> (Sender, Acks) {
        let open = Arc::new(Open { inner: self.inner });
        let acks = Acks { inner: Arc::clone(&open.inner), sender: Arc::downgrade(&open) };
        (Sender { open, since_yield: 0 }, acks)
    }
}

/// Sends a producer's events. When it is dropped, [`Acks`] ends after the last answer.
#[derive(Debug)]
pub struct Sender {
    open: Arc<Open>,
    since_yield: u32,
}

/// Held by the sender; when it goes, the other half is told.
#[derive(Debug)]
struct Open {
    inner: Arc<Inner>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.inner.signals.answered.notify_waiters();
    }
}

impl Sender {
    /// Sends an event as soon as there is room for it, and returns its number. [`Acks`] tells what became of it; unless
    /// it is asked, the window fills and there is never room again.
    ///
    /// # Errors
    ///
    /// If the event can never be published: it has no number then, and the sender can go on unless the error is
    /// [`PublishError::Failed`] or [`PublishError::Closed`].
    pub async fn send(&mut self, topic: &str, key: &[u8], payload: &[u8]) -> Result<Sequence, PublishError> {
        self.since_yield += 1;
        if self.since_yield == EVENTS_AT_A_TIME {
            self.since_yield = 0;
            tokio::task::yield_now().await;
        }
        self.open.inner.push((topic, key, payload), None).await
    }

    /// Sends an event if there is room for it now, and returns its number. It leaves when others on the runtime get to
    /// run, so whoever calls this many times in a row should yield in between.
    ///
    /// # Errors
    ///
    /// [`TrySendError::Full`] if there is no room, else as [`send`](Self::send).
    pub fn try_send(&mut self, topic: &str, key: &[u8], payload: &[u8]) -> Result<Sequence, TrySendError> {
        self.open.inner.try_push((topic, key, payload), &mut None).map_err(|error| match error {
            PushError::Full => TrySendError::Full,
            PushError::Refused(error) => TrySendError::Refused(error),
        })
    }

    /// The number of the next event.
    #[must_use]
    pub fn next_sequence(&self) -> Sequence {
        self.open.inner.next_sequence()
    }

    /// Events that were sent and not answered yet.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.open.inner.unanswered()
    }
}

/// Hears what became of the events of a [`Sender`].
#[derive(Debug)]
pub struct Acks {
    inner: Arc<Inner>,
    sender: std::sync::Weak<Open>,
}

impl Acks {
    /// What became of the next events: in their order, except that an event reported as
    /// [`Unknown`](PublishError::Unknown) is not reported again. `None` when the sender was dropped and everything was
    /// answered. May be dropped and called again.
    pub async fn next(&mut self) -> Option<Result<Ack, NotAcked>> {
        loop {
            let answered = self.inner.signals.answered.notified();
            tokio::pin!(answered);
            answered.as_mut().enable();
            if let Some(ack) = self.inner.poll_ack() {
                return Some(ack);
            }
            if self.sender.strong_count() == 0 && self.inner.unanswered() == 0 {
                // Everything may have been answered since the first look.
                return self.inner.poll_ack();
            }
            answered.await;
        }
    }

    /// As [`next`](Self::next), if there is something to tell at once.
    pub fn try_next(&mut self) -> Option<Result<Ack, NotAcked>> {
        self.inner.poll_ack()
    }

    /// Events that were sent and not answered yet.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.inner.unanswered()
    }
}

impl Inner {
    fn shared(&self) -> &Shared {
        &self.connections.shared
    }

    fn next_sequence(&self) -> Sequence {
        self.shared().hub().window(self.number).map_or(Sequence::ZERO, |window| window.next_sequence())
    }

    fn unanswered(&self) -> usize {
        self.shared().hub().window(self.number).map_or(0, |window| window.unanswered())
    }

    fn poll_ack(&self) -> Option<Result<Ack, NotAcked>> {
        self.shared().with_hub(|hub, now| hub.poll_ack(now, self.number))
    }

    async fn push(&self, event: (&str, &[u8], &[u8]), mut waiter: Option<Waiter>) -> Result<Sequence, PublishError> {
        loop {
            let room = self.signals.room.notified();
            tokio::pin!(room);
            match self.try_push(event, &mut waiter) {
                Ok(sequence) => return Ok(sequence),
                Err(PushError::Refused(error)) => return Err(error),
                Err(PushError::Full) => {}
            }
            // Only now is there a reason to wait; room that was made since the first look would not be announced again.
            room.as_mut().enable();
            match self.try_push(event, &mut waiter) {
                Ok(sequence) => return Ok(sequence),
                Err(PushError::Refused(error)) => return Err(error),
                Err(PushError::Full) => room.await,
            }
        }
    }

    fn try_push(&self, event: (&str, &[u8], &[u8]), waiter: &mut Option<Waiter>) -> Result<Sequence, PushError> {
        let shared = self.shared();
        let wall_us = shared.clock.wall().0;
        shared.with_hub(|hub, now| hub.push(now, wall_us, self.number, event, waiter))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared().hub().close_producer(self.number);
    }
}
