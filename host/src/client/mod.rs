//! The client: publishes events exactly once, follows topics, asks nodes how they are.
//!
//! A [`Client`] stays connected to every node of the cluster and follows the leader: nodes push who leads, and whatever
//! was not acknowledged goes to the new leader at once, in order and under the same sequences, so that nothing is lost
//! and nothing is doubled. Servers that were not named are learned from those that were.
//!
//! ```no_run
//! use eventstream_host::client::{Client, From, Start, producer_id};
//!
//! # async fn example() -> Result<(), Box<dyn core::error::Error>> {
//! let client = Client::connect(&["127.0.0.1:9001", "127.0.0.1:9002", "127.0.0.1:9003"])?;
//!
//! // A producer numbers its events; whoever opens it again goes on where it was.
//! let producer = client.producer(producer_id("press-7"), Start::Next).await?;
//! let receipt = producer.publish("temperature", b"press-7", b"81.5").await?;
//! println!("{:?} at offset {:?}, on {:?}", receipt.outcome, receipt.offset, receipt.durability);
//!
//! // Many events: one half sends, the other hears what became of them.
//! let (mut sender, mut acks) = producer.split();
//! let send = async {
//!     for reading in 0..100_000_u32 {
//!         sender.send("temperature", b"press-7", reading.to_string().as_bytes()).await?;
//!     }
//!     drop(sender);
//!     Ok::<_, eventstream_host::client::PublishError>(())
//! };
//! let count = async {
//!     let mut accepted = 0;
//!     while let Some(ack) = acks.next().await {
//!         accepted += ack?.accepted;
//!     }
//!     Ok::<_, eventstream_host::client::NotAcked>(accepted)
//! };
//! let (sent, accepted) = tokio::join!(send, count);
//! sent?;
//! println!("{} accepted", accepted?);
//!
//! // A subscriber reads a topic from any node, without holes, and goes on at another when its node dies.
//! let mut subscriber = client.subscribe("temperature", From::Beginning)?;
//! while let Some(event) = subscriber.next_until_caught_up().await? {
//!     println!("{}: {:?}", event.offset, event.payload);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Where the cluster speaks TLS, the client needs what [`tls`](crate::tls) describes: `Tls::load`, and [`Options::tls`].
//!
//! # Layers
//!
//! Without I/O, tested by call and answer: `leadership` (who leads), `window` (one producer's unanswered events), `hub`
//! (all of it together). With I/O: `transport` (frames over a connection), `link` (a task per node), and the handles
//! [`Client`], [`Producer`], [`Sender`], [`Acks`] and [`Subscriber`]. A subscriber has a connection and no task: what it
//! does not read, the node does not send.

mod draft;
mod error;
mod hub;
mod leadership;
mod link;
mod probe;
mod producer;
mod receipt;
mod status;
mod subscriber;
mod transport;
mod window;

#[cfg(test)]
mod tests;

pub use error::{
    ConnectError, Failure, LinkError, OpenError, ProtocolError, PublishError, SubscribeError, TrySendError,
};
pub use probe::{CounterReport, Probe, TopicReport};
pub use producer::{Acks, Producer, Sender, Start, producer_id};
pub use receipt::{Ack, NotAcked, Outcome, Receipt};
pub use status::{MemberReport, StatusReport, status};
pub use subscriber::{Event, From, Source, Subscriber};

use crate::checksum::CRC;
use crate::clock::Clock;
use crate::identity::Address;
use crate::tls::Tls;
use core::time::Duration;
use eventstream_core::id::{ClusterId, NodeId, ProducerId, ShardId, Term};
use eventstream_core::time::{self, Instant};
use eventstream_core::wire::{Control, MAX_CONTROL_LEN};
use hub::{Hub, MAX_LINKS};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};
use window::Limits;

/// How a client behaves. [`Default`] is meant to be right.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long a caller waits before it hears *unknown*, or that nobody answers: 5 s.
    pub patience: Duration,
    /// Events of one producer that may wait for an answer, or for their answer to be fetched: 16,384.
    pub window_events: usize,
    /// Bytes of their frames: 16 MiB.
    pub window_bytes: usize,
    /// What to speak TLS with. `None`, the default, is for nodes without TLS.
    pub tls: Option<Tls>,
}

impl Options {
    /// The defaults with another patience.
    #[must_use]
    pub fn patient(patience: Duration) -> Self {
        Self { patience, ..Self::default() }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self { patience: Duration::from_secs(5), window_events: 16_384, window_bytes: 16 << 20, tls: None }
    }
}

/// A connection to a cluster. Cheap to clone; the connections end when the last clone, and the last producer that was
/// opened with it, are dropped.
#[derive(Clone, Debug)]
pub struct Client {
    connections: Arc<Connections>,
    servers: Arc<[String]>,
    options: Options,
}

impl Client {
    /// Begins to connect to these servers (`HOST:PORT`), and returns without waiting: what needs a connection waits for
    /// it. To be called within a tokio runtime, on which it runs a task for each node.
    ///
    /// # Errors
    ///
    /// If that is not possible with these servers.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn connect(servers: &[impl AsRef<str>]) -> Result<Self, ConnectError> {
        Self::connect_with(servers, Options::default())
    }

    /// As [`connect`](Self::connect), with other options.
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect).
    ///
    /// # Panics
    ///
    /// As [`connect`](Self::connect).
    pub fn connect_with(servers: &[impl AsRef<str>], options: Options) -> Result<Self, ConnectError> {
        let servers = check_servers(servers)?;
        let limits = Limits {
            events: options.window_events.max(1),
            bytes: options.window_bytes.max(1),
            patience: micros(options.patience),
        };
        let shared = Arc::new(Shared {
            clock: Clock::start(),
            hub: Mutex::new(Hub::new(limits, &servers)),
            doors: Default::default(),
            timer: Notify::new(),
            tls: options.tls.clone(),
        });
        let keeper = tokio::spawn(keep(Arc::clone(&shared))).abort_handle();
        Ok(Self { connections: Arc::new(Connections { shared, keeper }), servers: servers.into(), options })
    }

    /// Opens a producer: earlier lives of it, wherever they run, are fenced off, and the numbering goes on. See
    /// [`producer_id`] for how names become ids.
    ///
    /// # Errors
    ///
    /// If that was not possible within the client's patience. Opening again is safe.
    pub async fn producer(&self, producer: ProducerId, start: Start) -> Result<Producer, OpenError> {
        Producer::open(Arc::clone(&self.connections), producer, start).await
    }

    /// Subscribes to a topic. The subscriber connects when it is first asked for an event, to any of the servers that
    /// this client was given, and to another whenever that one fails.
    ///
    /// # Errors
    ///
    /// [`SubscribeError::TopicLength`].
    pub fn subscribe(&self, topic: &str, from: From) -> Result<Subscriber, SubscribeError> {
        let shared = &self.connections.shared;
        let (patience, tls) = (micros(self.options.patience), self.options.tls.clone());
        Subscriber::new(shared.clock, Arc::clone(&self.servers), topic, from, patience, tls)
    }

    /// Asks one server, `HOST:PORT`, how it is.
    ///
    /// # Errors
    ///
    /// If it does not answer within the client's patience.
    pub async fn status(&self, server: &str) -> Result<StatusReport, LinkError> {
        status(server, &self.options).await
    }

    /// The servers that the client was given.
    #[must_use]
    pub fn servers(&self) -> &[String] {
        &self.servers
    }

    /// The cluster, once a node has told it.
    #[must_use]
    pub fn cluster(&self) -> Option<ClusterId> {
        self.connections.shared.hub().cluster()
    }

    /// Who leads, as far as the client has heard, and in which term.
    #[must_use]
    pub fn leader(&self) -> Option<(Term, NodeId)> {
        self.connections.shared.hub().leader()
    }

    /// What is known of each server, in words.
    #[must_use]
    pub fn describe(&self) -> String {
        self.connections.shared.hub().describe()
    }
}

/// The tasks of a client; they end with it.
#[derive(Debug)]
struct Connections {
    shared: Arc<Shared>,
    keeper: AbortHandle,
}

impl Drop for Connections {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// What a client's tasks and handles share.
#[derive(Debug)]
struct Shared {
    clock: Clock,
    hub: Mutex<Hub>,
    /// Wakes the link of the same number.
    doors: [Notify; MAX_LINKS],
    /// Wakes the keeper.
    timer: Notify,
    tls: Option<Tls>,
}

impl Shared {
    /// The hub, to look at; never held across an await.
    fn hub(&self) -> MutexGuard<'_, Hub> {
        // The hub is consistent between any two of its calls, and a panic inside one ends in its caller.
        self.hub.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something to the hub and wakes whoever then has something to do.
    fn with_hub<T>(&self, act: impl FnOnce(&mut Hub, Instant) -> T) -> T {
        let now = self.clock.now();
        let mut hub = self.hub();
        let result = act(&mut hub, now);
        let (wake, rearm) = (hub.poll_wake(), hub.poll_rearm());
        drop(hub);
        if let Some(link) = wake {
            self.doors[link].notify_one();
        }
        if rearm {
            self.timer.notify_one();
        }
        result
    }
}

/// Serves every link, those that are learned of later too, and tells the hub when time has passed. The links end with it.
async fn keep(shared: Arc<Shared>) {
    let mut links = JoinSet::new();
    loop {
        let (deadline, count) = {
            let mut hub = shared.hub();
            (hub.arm(), hub.link_count())
        };
        for number in links.len()..count {
            links.spawn(link::run(Arc::clone(&shared), number));
        }
        tokio::select! {
            () = shared.timer.notified() => {}
            () = link::sleep_until(&shared.clock, deadline) => shared.with_hub(Hub::handle_timeout),
        }
    }
}

fn check_servers(servers: &[impl AsRef<str>]) -> Result<Vec<String>, ConnectError> {
    if servers.is_empty() {
        return Err(ConnectError::NoServers);
    }
    if servers.len() > MAX_LINKS {
        return Err(ConnectError::TooManyServers { count: servers.len(), limit: MAX_LINKS });
    }
    let check = |server: &str| match server.parse::<Address>() {
        Ok(address) => Ok(address.to_string()),
        Err(_) => Err(ConnectError::BadAddress { server: server.to_owned() }),
    };
    servers.iter().map(|server| check(server.as_ref().trim())).collect()
}

/// Appends a control message's frame.
fn encode(control: &Control<'_>, out: &mut Vec<u8>) {
    let at = out.len();
    out.resize(at + MAX_CONTROL_LEN, 0);
    let len = control.encode(ShardId(0), &mut out[at..], CRC).expect("a client's messages are within the limits");
    out.truncate(at + len);
}

fn micros(span: Duration) -> time::Duration {
    time::Duration::from_micros(u64::try_from(span.as_micros()).unwrap_or(u64::MAX))
}
