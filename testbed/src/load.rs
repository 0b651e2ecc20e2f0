//! Producers that publish and write down what they were told.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use core::time::Duration;
use eventstream_core::id::{Offset, ProducerId, Sequence};
use eventstream_host::client::{Acks, Client, Options, Sender, Start, producer_id};
use eventstream_host::tls::Tls;
use std::collections::BTreeMap;

/// Longer than any outage that a test makes, so that every event is answered in the end.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is to be published: each producer numbers its own events.
#[derive(Clone, Debug)]
pub struct Load {
    /// The topic of all of them.
    pub topic: String,
    /// How many producers, at the same time.
    pub producers: u16,
    /// Events of each, unless the load is [asked to end](Progress::ask_to_end) before.
    pub events: u64,
    /// A pause after so many events of a producer, to spread the load over time; none if zero.
    pub pause_every: u64,
    /// The pause.
    pub pause: Duration,
}

/// How far a load has come; watched while it runs.
#[derive(Default)]
pub struct Progress {
    acked: AtomicU64,
    sent: AtomicU64,
    asked_to_end: AtomicBool,
    stopped: AtomicBool,
    witness: Option<Box<Witness>>,
}

/// Told of an event the moment its acknowledgement is there.
pub type Witness = dyn Fn(ProducerId, Sequence) + Send + Sync;

impl Progress {
    /// Progress that tells `witness` of every acknowledged event.
    #[must_use]
    pub fn witnessed(witness: Box<Witness>) -> Self {
        Self { witness: Some(witness), ..Self::default() }
    }

    /// Asks the producers to send no more. The load ends when all that was sent is answered.
    pub fn ask_to_end(&self) {
        self.asked_to_end.store(true, Relaxed);
    }

    /// Events acknowledged so far, by all producers.
    #[must_use]
    pub fn acked(&self) -> u64 {
        self.acked.load(Relaxed)
    }

    /// Events sent and not answered yet, by all producers.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        let acked = self.acked();
        self.sent.load(Relaxed).saturating_sub(acked)
    }

    /// Whether the load has ended, well or not.
    #[must_use]
    pub fn has_stopped(&self) -> bool {
        self.stopped.load(Relaxed)
    }

    /// Waits until this many events are acknowledged.
    ///
    /// # Panics
    ///
    /// If the load ends before.
    pub fn wait_for(&self, acked: u64) {
        while self.acked() < acked {
            assert!(!self.has_stopped(), "the load ended with {} of {acked} acknowledged", self.acked());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until an event was sent and is not answered: soon so, if nobody answers.
    ///
    /// # Panics
    ///
    /// If the load ends before.
    pub fn wait_for_publishes_in_flight(&self) {
        while self.in_flight() == 0 {
            assert!(!self.has_stopped(), "the load ended with nothing in flight");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// What was acknowledged, and where it is said to be.
#[derive(Debug, Default)]
pub struct Ledger {
    /// The offset of each acknowledged event; `None` for one that was accepted too long ago to be remembered.
    pub acked: BTreeMap<(ProducerId, Sequence), Option<Offset>>,
}

impl Load {
    /// Events of all producers.
    #[must_use]
    pub fn total(&self) -> u64 {
        u64::from(self.producers) * self.events
    }

    /// The payload of an event: told from its producer and number, so that every reader can check it.
    #[must_use]
    pub fn payload(producer: ProducerId, sequence: Sequence) -> String {
        format!("{producer} {sequence} {}", "x".repeat((sequence.0 % 97) as usize))
    }

    /// Publishes it all to `servers` and waits for every answer.
    ///
    /// # Panics
    ///
    /// If a producer cannot be opened, or an event is not acknowledged: in these tests everything is, in the end.
    pub async fn run(&self, servers: &[String], progress: &Progress) -> Ledger {
        self.run_over(servers, None, progress).await
    }

    /// The same over TLS.
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run).
    pub async fn run_over(&self, servers: &[String], tls: Option<Tls>, progress: &Progress) -> Ledger {
        let options = Options { tls, ..Options::patient(PATIENCE) };
        let client = Client::connect_with(servers, options).expect("servers");
        let _stopped = Stopped(progress);
        let mut ledger = Ledger::default();
        let mut running = Vec::new();
        for number in 0..self.producers {
            let id = producer_id(&format!("{}/{number}", self.topic));
            let (sender, acks) = open(&client, id).await.split();
            running.push(async move {
                let (part, ()) = tokio::join!(hear(id, acks, progress), self.send(id, sender, progress));
                part
            });
        }
        for part in join_all(running).await {
            ledger.acked.extend(part.acked);
        }
        ledger
    }

    async fn send(&self, id: ProducerId, mut sender: Sender, progress: &Progress) {
        for count in (1..=self.events).take_while(|_| !progress.asked_to_end.load(Relaxed)) {
            let payload = Self::payload(id, sender.next_sequence());
            let sent = sender.send(&self.topic, b"key", payload.as_bytes()).await;
            sent.unwrap_or_else(|error| panic!("an event that cannot be published: {error}"));
            progress.sent.fetch_add(1, Relaxed);
            if self.pause_every > 0 && count.is_multiple_of(self.pause_every) {
                tokio::time::sleep(self.pause).await;
            }
        }
    }
}

/// Says that the load has stopped, also when it panics, so that nobody waits for it.
struct Stopped<'a>(&'a Progress);

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        self.0.stopped.store(true, Relaxed);
    }
}

/// Opens a producer as soon as there is a leader.
async fn open(client: &Client, id: ProducerId) -> eventstream_host::client::Producer {
    client.producer(id, Start::Next).await.unwrap_or_else(|error| panic!("{error}: {}", client.describe()))
}

async fn hear(id: ProducerId, mut acks: Acks, progress: &Progress) -> Ledger {
    let mut ledger = Ledger::default();
    while let Some(answer) = acks.next().await {
        let ack = answer.unwrap_or_else(|not_acked| panic!("{not_acked}"));
        for place in 0..ack.events() {
            let (sequence, offset) = (ack.first_sequence.plus(place), ack.offset.map(|first| first.plus(place)));
            if let Some(witness) = &progress.witness {
                witness(id, sequence);
            }
            let before = ledger.acked.insert((id, sequence), offset);
            assert!(before.is_none(), "acknowledged twice");
        }
        progress.acked.fetch_add(ack.events(), Relaxed);
    }
    ledger
}

/// Runs all of them to their end, on this task.
async fn join_all<T>(futures: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut pinned: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    core::future::poll_fn(|context| {
        for (future, result) in pinned.iter_mut().filter(|(_, result)| result.is_none()) {
            if let core::task::Poll::Ready(value) = future.as_mut().poll(context) {
                *result = Some(value);
            }
        }
        if pinned.iter().all(|(_, result)| result.is_some()) {
            core::task::Poll::Ready(())
        } else {
            core::task::Poll::Pending
        }
    })
    .await;
    pinned.into_iter().filter_map(|(_, result)| result).collect()
}
