//! Publishes every line and kills the leader on the way.

use crate::Error;
use crate::input::Input;
use crate::nodes::Nodes;
use core::cell::Cell;
use core::fmt;
use eventstream_core::id::{NodeId, Sequence, Term};
use eventstream_core::time::{Duration, Instant};
use eventstream_host::client::{Acks, Client, Options, Sender, Start, producer_id};
use eventstream_host::clock::Clock;

pub(crate) const TOPIC: &str = "demo";
/// Events in flight at most: few enough that the kill falls in the middle of them all.
const WINDOW: usize = 4_096;
/// The leader is killed when at least so many are.
const IN_FLIGHT_MIN: usize = 1_024;

/// How it went.
pub(crate) struct Published {
    events: usize,
    seconds: f64,
    kill: Kill,
    next_leader: NodeId,
    pub(crate) outage_ms: f64,
}

/// The moment of the kill.
#[derive(Clone, Copy)]
struct Kill {
    at: Instant,
    node: NodeId,
    term: Term,
    acknowledged: usize,
    in_flight: usize,
}

impl Published {
    /// The leader that was killed.
    pub(crate) fn killed(&self) -> NodeId {
        self.kill.node
    }
}

impl fmt::Display for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Kill { node, acknowledged, in_flight, .. } = self.kill;
        let percent = 100.0 * acknowledged as f64 / self.events as f64;
        let (next, rate) = (self.next_leader, self.events as f64 / self.seconds);
        writeln!(
            f,
            "node {node} was killed after {acknowledged} acknowledgements ({percent:.0} %), {in_flight} events in flight"
        )?;
        writeln!(f, "node {next} took over: {:.1} ms without an acknowledgement", self.outage_ms)?;
        write!(
            f,
            "{} events acknowledged in {:.2} s ({rate:.0} events/s, the outage included)",
            self.events, self.seconds
        )
    }
}

/// Publishes every line under its number, and kills the leader when half of them are acknowledged.
pub(crate) async fn publish(clock: Clock, input: &Input, nodes: &mut Nodes) -> Result<Published, Error> {
    let options = Options { window_events: WINDOW, ..Options::default() };
    let client = Client::connect_with(nodes.addresses(), options)?;
    let producer = client.producer(producer_id("demo"), Start::At(Sequence(0))).await?;
    let (sender, acks) = producer.split();
    let run = Run { clock, events: input.lines.len(), started_at: clock.now(), kill: Cell::new(None) };
    let (sent, outage) = tokio::join!(run.send(sender, &client, input, nodes), run.count(acks));
    sent?;
    let outage = outage?;
    let (_, next_leader) = client.leader().ok_or("nobody leads")?;
    run.finish(outage, next_leader)
}

struct Run {
    clock: Clock,
    events: usize,
    started_at: Instant,
    kill: Cell<Option<Kill>>,
}

impl Run {
    /// Sends every line, and kills the leader on the way: the sender knows best when publishes are in flight.
    async fn send(&self, mut sender: Sender, client: &Client, input: &Input, nodes: &mut Nodes) -> Result<(), Error> {
        for (sent, line) in (1..).zip(&input.lines) {
            sender.send(TOPIC, b"", line).await?;
            let in_flight = sender.unanswered();
            let acknowledged = sent - in_flight;
            if self.kill.get().is_none() && acknowledged >= self.events / 2 && in_flight >= IN_FLIGHT_MIN {
                let (term, node) = client.leader().ok_or("nobody leads in the middle of publishing")?;
                nodes.kill(node)?;
                self.kill.set(Some(Kill { at: self.clock.now(), node, term, acknowledged, in_flight }));
            }
        }
        Ok(())
    }

    /// Counts the answers, and measures from the kill to the first that a later leader gives.
    async fn count(&self, mut acks: Acks) -> Result<Duration, Error> {
        let (mut acknowledged, mut outage, mut told_at) = (0, None, self.started_at);
        while let Some(ack) = acks.next().await {
            let ack = ack?;
            if ack.duplicates > 0 {
                return Err("the new cluster holds events already".into());
            }
            acknowledged += ack.accepted as usize;
            let now = self.clock.now();
            if let Some(kill) = self.kill.get().filter(|kill| ack.term > kill.term) {
                outage.get_or_insert(now.saturating_since(kill.at));
            }
            if now >= told_at + Duration::from_secs(1) {
                told_at = now;
                eprintln!("{acknowledged} of {} events acknowledged", self.events);
            }
        }
        if acknowledged != self.events {
            return Err(format!("{acknowledged} of {} events were acknowledged", self.events).into());
        }
        outage.ok_or_else(|| "no later leader has acknowledged anything".into())
    }

    fn finish(self, outage: Duration, next_leader: NodeId) -> Result<Published, Error> {
        let kill = self.kill.get().ok_or("too little was in flight at any time: nothing was killed")?;
        let share = kill.acknowledged as f64 / self.events as f64;
        if !(0.3..=0.7).contains(&share) {
            return Err(format!("the kill came at {:.0} % of the acknowledgements", share * 100.0).into());
        }
        Ok(Published {
            events: self.events,
            seconds: self.clock.now().saturating_since(self.started_at).as_micros() as f64 / 1e6,
            kill,
            next_leader,
            outage_ms: outage.as_micros() as f64 / 1e3,
        })
    }
}
