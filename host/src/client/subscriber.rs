//! Follows a topic, from one node at a time, without holes.

mod delivered;

pub use delivered::{Event, Source};

use super::encode;
use super::error::{LinkError, ProtocolError, SubscribeError};
use super::link::{DEAD, QUIET, sleep_until};
use super::transport::{Inbox, connect};
use crate::clock::Clock;
use crate::stream::Stream;
use crate::tls::Tls;
use delivered::Delivered;
use eventstream_core::config::MAX_TOPIC;
use eventstream_core::id::Offset;
use eventstream_core::time::{Duration, Instant};
use eventstream_core::wire::{Control, Delivery, EndReason, Kind, Ping, Refusal, StartAt, Subscribe};
use std::sync::Arc;

/// After every server has failed, before the first is tried again; doubles with each round, ...
const BACKOFF_MIN: core::time::Duration = core::time::Duration::from_millis(20);
/// ... this often.
const BACKOFF_DOUBLINGS: u32 = 4;
/// A connection has one subscription.
const SUBSCRIPTION: u32 = 1;

/// Where a subscription begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// At the oldest event that is held.
    Beginning,
    /// After the newest event that the first node to answer knows of.
    Latest,
    /// At this offset.
    Offset(Offset),
}

/// Delivers the events of a topic in order: every offset once, none left out, each checked against its checksum.
///
/// It reads from the first server that answers and goes on at the next one, by offset, when that fails. What a node
/// delivers may be late, never wrong. The waiting methods may be dropped and called again without losing anything.
#[derive(Debug)]
pub struct Subscriber {
    clock: Clock,
    servers: Arc<[String]>,
    topic: String,
    from: From,
    patience: Duration,
    tls: Option<Tls>,
    /// The offset that is due; `None` until a node has told.
    next: Option<Offset>,
    is_caught_up: bool,
    delivered: Delivered,
    session: Option<Session>,
    /// The server of the session, or the one to try next, ...
    server: usize,
    /// ... what was last heard of each, ...
    errors: Vec<Option<String>>,
    /// ... how many attempts have failed in a row, and since when.
    failures: u32,
    failing_since: Option<Instant>,
    /// Whether a node has confirmed the offset to begin at.
    is_confirmed: bool,
}

/// A connection with a subscription.
#[derive(Debug)]
struct Session {
    stream: Stream,
    inbox: Inbox,
    announced: Option<Delivery>,
    heard_at: Instant,
    pinged_at: Instant,
}

/// Why a session gives no events.
enum Stop {
    /// Another server may.
    Link(LinkError),
    /// This one does not have them (yet).
    Behind { next: Offset },
    /// The caller has to know.
    Error(SubscribeError),
}

impl<E: Into<LinkError>> core::convert::From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Link(error.into())
    }
}

impl Subscriber {
    pub(super) fn new(
        clock: Clock,
        servers: Arc<[String]>,
        topic: &str,
        from: From,
        patience: Duration,
        tls: Option<Tls>,
    ) -> Result<Self, SubscribeError> {
        if topic.is_empty() || topic.len() > MAX_TOPIC {
            return Err(SubscribeError::TopicLength { len: topic.len() });
        }
        let errors = vec![None; servers.len()];
        Ok(Self {
            clock,
            servers,
            topic: topic.to_owned(),
            from,
            patience,
            tls,
            next: if let From::Offset(offset) = from { Some(offset) } else { None },
            is_caught_up: false,
            delivered: Delivered::default(),
            session: None,
            server: 0,
            errors,
            failures: 0,
            failing_since: None,
            is_confirmed: false,
        })
    }

    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The offset of the next event that will be delivered, once a node has told.
    #[must_use]
    pub fn next_offset(&self) -> Option<Offset> {
        self.delivered.next_offset().or(self.next)
    }

    /// The server that events come from now.
    #[must_use]
    pub fn server(&self) -> Option<&str> {
        self.session.as_ref().map(|_| self.servers[self.server].as_str())
    }

    /// Waits for the next event.
    ///
    /// # Errors
    ///
    /// See [`SubscribeError`]. After [`SubscribeError::Unreachable`] it can be called again, and goes on where it was.
    pub async fn next(&mut self) -> Result<Event<'_>, SubscribeError> {
        while self.delivered.is_empty() {
            self.advance().await?;
        }
        Ok(self.delivered.take(&self.topic).expect("something was delivered"))
    }

    /// Waits for the next event, or gives `None` when everything was delivered that the node had applied at the time of
    /// subscribing.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next).
    pub async fn next_until_caught_up(&mut self) -> Result<Option<Event<'_>>, SubscribeError> {
        while self.delivered.is_empty() && !self.is_caught_up {
            self.advance().await?;
        }
        Ok(self.delivered.take(&self.topic))
    }

    /// The next event, if it has been delivered already.
    pub fn try_next(&mut self) -> Option<Event<'_>> {
        self.delivered.take(&self.topic)
    }

    /// Makes one step towards the next event: a connection, or what has arrived over it.
    async fn advance(&mut self) -> Result<(), SubscribeError> {
        let called_at = self.clock.now();
        let stop = match &mut self.session {
            None => match self.open().await {
                Ok(session) => {
                    self.session = Some(session);
                    return Ok(());
                }
                Err(stop) => stop,
            },
            Some(_) => match self.read(called_at).await {
                Ok(()) => return Ok(()),
                Err(stop) => stop,
            },
        };
        self.session = None;
        self.handle_stop(stop).await
    }

    async fn open(&mut self) -> Result<Session, Stop> {
        let (mut stream, mut inbox) = connect(&self.servers[self.server], None, self.tls.as_ref()).await?;
        inbox.take_welcome(|_| Ok(()))?;
        let from = match (self.next, self.from) {
            (Some(offset), _) => StartAt::Offset(offset),
            (None, From::Latest) => StartAt::Latest,
            (None, _) => StartAt::Beginning,
        };
        let mut request = Vec::new();
        encode(&Control::Subscribe(Subscribe { subscription: SUBSCRIPTION, topic: &self.topic, from }), &mut request);
        stream.write_all(&request).await.map_err(LinkError::from)?;
        let now = self.clock.now();
        Ok(Session { stream, inbox, announced: None, heard_at: now, pinged_at: now })
    }

    /// Goes on to the next server, or tells the caller.
    async fn handle_stop(&mut self, stop: Stop) -> Result<(), SubscribeError> {
        let every_one = self.servers.len() as u32;
        self.failures += 1;
        let error = match stop {
            Stop::Error(error) => return Err(error),
            Stop::Behind { next } => {
                if let (Some(wanted), false, true) = (self.next, self.is_confirmed, self.failures >= every_one) {
                    return Err(SubscribeError::AfterEnd { wanted, next });
                }
                format!("has offsets below {next} only")
            }
            Stop::Link(error) => error.to_string(),
        };
        self.errors[self.server] = Some(error);
        self.server = (self.server + 1) % self.servers.len();
        let now = self.clock.now();
        let since = *self.failing_since.get_or_insert(now);
        if now >= since + self.patience {
            self.failing_since = None;
            return Err(SubscribeError::Unreachable { servers: self.describe() });
        }
        if self.failures.is_multiple_of(every_one) {
            let rounds = self.failures / every_one - 1;
            tokio::time::sleep(BACKOFF_MIN * (1 << rounds.min(BACKOFF_DOUBLINGS))).await;
        }
        Ok(())
    }

    fn describe(&self) -> String {
        let describe = |(server, error): (&String, &Option<String>)| {
            format!("{server}: {}", error.as_deref().unwrap_or("no answer yet"))
        };
        self.servers.iter().zip(&self.errors).map(describe).collect::<Vec<_>>().join("; ")
    }

    /// Handles what has arrived, or waits for more.
    async fn read(&mut self, called_at: Instant) -> Result<(), Stop> {
        if self.handle_frames()? {
            return Ok(());
        }
        let Some(session) = &mut self.session else { return Ok(()) };
        // While the caller was away nobody listened: silence counts from the call.
        let heard_at = session.heard_at.max(called_at);
        let ping_at = heard_at.max(session.pinged_at) + QUIET;
        tokio::select! {
            ready = session.stream.readable() => {
                ready.map_err(LinkError::from)?;
                if session.inbox.fill_from(&mut session.stream)? {
                    session.heard_at = self.clock.now();
                }
            }
            () = sleep_until(&self.clock, ping_at.min(heard_at + DEAD)) => {
                let now = self.clock.now();
                if now >= heard_at + DEAD {
                    return Err(LinkError::Silent.into());
                }
                let mut ping = Vec::new();
                encode(&Control::Ping(Ping { number: now.as_micros() }), &mut ping);
                session.pinged_at = now;
                // A ping fits the socket's buffer, or the connection is stuck and the next ones will not be answered.
                let _ = session.stream.try_write(&ping);
            }
        }
        Ok(())
    }

    /// Returns whether anything happened that the caller may have waited for.
    fn handle_frames(&mut self) -> Result<bool, Stop> {
        let Some(session) = &mut self.session else { return Ok(true) };
        while let Some(frame) = session.inbox.next_frame()? {
            let kind = frame.header().kind;
            if let Some(delivery) = session.announced.take() {
                if kind != Kind::Batch {
                    return Err(ProtocolError::Unexpected.into());
                }
                let due = self.next.unwrap_or(delivery.first_offset);
                if delivery.first_offset > due {
                    let server = self.servers[self.server].clone();
                    return Err(Stop::Error(SubscribeError::Hole {
                        server,
                        expected: due,
                        found: delivery.first_offset,
                    }));
                }
                self.delivered.fill(&self.topic, due, &delivery, &frame)?;
                self.next = self.delivered.end().or(Some(due));
                (self.failures, self.failing_since, self.is_confirmed) = (0, None, true);
                return Ok(true);
            }
            match Control::decode(kind, frame.payload()).map_err(ProtocolError::Control)? {
                Control::Delivery(delivery) if delivery.subscription == SUBSCRIPTION => {
                    session.announced = Some(delivery);
                }
                Control::CaughtUp(caught_up) if caught_up.subscription == SUBSCRIPTION => {
                    self.next.get_or_insert(caught_up.next_offset);
                    (self.failures, self.failing_since, self.is_confirmed) = (0, None, true);
                    self.is_caught_up = true;
                    return Ok(true);
                }
                Control::SubscriptionEnd(end) => return Err(ended(end.reason, self.next)),
                Control::Refused(refused) if refused.reason.is_retryable() => {
                    let detail = refused.detail.to_owned();
                    return Err(LinkError::Refused { reason: refused.reason, detail }.into());
                }
                Control::Refused(refused) => {
                    return Err(Stop::Error(SubscribeError::Refused { reason: refused.reason }));
                }
                Control::LeaderChanged(_) | Control::Pong(_) => {}
                _ => return Err(ProtocolError::Unexpected.into()),
            }
        }
        Ok(false)
    }
}

fn ended(reason: EndReason, wanted: Option<Offset>) -> Stop {
    match reason {
        EndReason::BeforeHorizon { first } => {
            Stop::Error(SubscribeError::BeforeHorizon { wanted: wanted.unwrap_or(Offset::ZERO), first })
        }
        EndReason::AfterEnd { next } => Stop::Behind { next },
        EndReason::Stopping => LinkError::Refused { reason: Refusal::Stopping, detail: String::new() }.into(),
        EndReason::ReadFailed => {
            let detail = "it could not read its log".to_owned();
            LinkError::Refused { reason: Refusal::Busy, detail }.into()
        }
        EndReason::Unsubscribed => LinkError::Closed.into(),
    }
}
