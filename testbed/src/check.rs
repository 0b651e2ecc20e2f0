//! What must be true of a cluster after whatever was done to it.

use crate::load::{Ledger, Load, Progress};
use crate::{Cluster, Spoke};
use core::time::Duration;
use eventstream_core::id::{Offset, ProducerId, Sequence};
use eventstream_host::client::{Client, From, Source, Start, StatusReport, producer_id, status};
use std::collections::HashMap;

/// Longest wait for nodes to agree. Reached only by a cluster that does not come back.
const PATIENCE: Duration = Duration::from_secs(60);
const ANSWER: Duration = Duration::from_secs(2);
/// How long an answer is waited for that must not come.
const NO_ANSWER: Duration = Duration::from_millis(1_500);
const PAUSE: Duration = Duration::from_millis(20);

/// An event as a node delivers it: who has numbered it, and which number it has.
type Delivered = (ProducerId, Sequence);

impl Cluster {
    /// Waits until a running node leads and a majority knows, and returns its number.
    ///
    /// # Panics
    ///
    /// If there is none within a minute.
    #[must_use]
    pub fn leader(&self) -> Spoke {
        self.await_statuses("a leader", |statuses| {
            let newest = statuses.iter().filter(|status| status.leader.is_some()).max_by_key(|status| status.term)?;
            let leader = newest.leader?;
            let agree = statuses.iter().filter(|status| (status.term, status.leader) == (newest.term, Some(leader)));
            (2 * agree.count() > self.nodes().count()).then_some(leader.0)
        })
    }

    /// Waits until every running node follows the same leader and has applied what was committed when they all did.
    ///
    /// # Panics
    ///
    /// If they do not get there within a minute.
    pub fn await_whole(&self) {
        let running = self.running().count();
        let committed = self.await_statuses("all nodes behind one leader", |statuses| {
            let first = statuses.first().filter(|first| first.leader.is_some() && statuses.len() == running)?;
            let same = |status: &StatusReport| (status.term, status.leader) == (first.term, first.leader);
            statuses.iter().all(same).then(|| statuses.iter().map(|status| status.commit).max())
        });
        self.await_statuses("all nodes up to date", |statuses| {
            let has_all = |status: &StatusReport| status.role.is_witness() || Some(status.applied) >= committed;
            let done = statuses.len() == running && statuses.iter().all(has_all);
            done.then_some(())
        });
    }

    /// Waits until none of the running nodes is suspect: each of them votes as ever, whoever else is there.
    ///
    /// # Panics
    ///
    /// If they do not get there within a minute.
    pub fn await_sound(&self) {
        let running = self.running().count();
        self.await_statuses("no node to be suspect", |statuses| {
            let are_sound = statuses.iter().all(|status| !status.role.is_suspect());
            (statuses.len() == running && are_sound).then_some(())
        });
    }

    /// Waits until every running node that keeps events has applied the same last entry, and checks that their state is the
    /// same.
    ///
    /// # Panics
    ///
    /// If they do not get there within a minute, or if a hash differs.
    pub fn await_agreement(&self) -> StatusReport {
        let running = self.running().count();
        self.await_statuses("all nodes at the same index", |statuses| {
            let with_events: Vec<&StatusReport> = statuses.iter().filter(|status| !status.role.is_witness()).collect();
            let first = *with_events.first()?;
            let same = |status: &&StatusReport| (status.applied, status.last) == (first.applied, first.applied);
            if statuses.len() < running || !with_events.iter().all(same) {
                return None;
            }
            for status in with_events {
                assert_eq!(status.state_hash, first.state_hash, "state of {} at {}", status.node, status.applied);
            }
            Some(first.clone())
        })
    }

    /// The status of one node.
    ///
    /// # Panics
    ///
    /// If it does not answer.
    #[must_use]
    pub fn status_of(&self, node: Spoke) -> StatusReport {
        let server = self.server(node);
        self.clients().run(async || status(&server, &self.options(ANSWER)).await.expect("a node that answers"))
    }

    /// Asserts that a node which has no majority acknowledges nothing: neither to those that publish already, nor to a
    /// new producer.
    ///
    /// # Panics
    ///
    /// If it does.
    pub fn assert_no_ack(&self, node: Spoke, progress: &Progress) {
        self.await_statuses("a node that knows that it has no leader", |statuses| {
            statuses.iter().find(|status| status.node.0 == node).filter(|status| status.leader.is_none()).map(|_| ())
        });
        let (server, acked) = (self.server(node), progress.acked());
        let opened = self.clients().run(async || {
            let client = Client::connect_with(&[&server], self.options(NO_ANSWER)).expect("a server");
            client.producer(producer_id("nobody hears me"), Start::Next).await.map(|_| ())
        });
        assert!(opened.is_err(), "a producer was opened without a majority");
        assert_eq!(progress.acked(), acked, "events were acknowledged without a majority");
    }

    /// Waits until a node has printed this.
    ///
    /// # Panics
    ///
    /// If it has not within a minute.
    pub fn await_log(&self, node: Spoke, text: &str) {
        let log = self.log(node);
        self.await_statuses(text, |_| {
            std::fs::read_to_string(&log).is_ok_and(|printed| printed.contains(text)).then_some(())
        });
    }

    /// The statuses of the running nodes that answer.
    #[must_use]
    pub fn statuses(&self) -> Vec<StatusReport> {
        let servers: Vec<_> = self.running().map(|node| self.server(node)).collect();
        self.clients().run(async || {
            let mut reports = Vec::new();
            for server in &servers {
                reports.extend(status(server, &self.options(ANSWER)).await.ok());
            }
            reports
        })
    }

    /// Asserts what the system promises: every acknowledged event is on every running node that keeps events exactly once,
    /// where its receipt says, with the payload that was sent; no event is there twice; each producer's events are in order; and
    /// all nodes have the same.
    ///
    /// # Panics
    ///
    /// With what is not so.
    pub fn assert_exactly_once(&self, load: &Load, ledger: &Ledger) {
        let agreed = self.await_agreement();
        let mut first: Option<(Spoke, Vec<Delivered>)> = None;
        for node in self.running_with_events() {
            let events = self.read_all(node, &load.topic);
            check_order(node, &events);
            check_ledger(node, &events, ledger);
            match &first {
                None => first = Some((node, events)),
                Some((other, theirs)) => {
                    assert!(*theirs == events, "nodes {other} and {node} deliver different events")
                }
            }
        }
        let (_, events) = first.expect("a running node");
        assert_eq!(events.len(), ledger.acked.len(), "events that were never acknowledged are there");
        println!(
            "{}: {} events acknowledged, each once and in order on {} nodes; state {:016x} at index {}",
            load.topic,
            events.len(),
            self.running_with_events().count(),
            agreed.state_hash,
            agreed.applied,
        );
    }

    /// Reads a whole topic from one node; checks offsets and payloads on the way.
    fn read_all(&self, node: Spoke, topic: &str) -> Vec<Delivered> {
        let server = self.server(node);
        self.clients().run(async || {
            let client = Client::connect_with(&[&server], self.options(PATIENCE)).expect("a server");
            let mut subscriber = client.subscribe(topic, From::Beginning).expect("a topic");
            let mut events = Vec::new();
            while let Some(event) = subscriber.next_until_caught_up().await.expect("the events of a topic") {
                let Source::Producer { producer, sequence, .. } = event.source else {
                    panic!("no producer: {event:?}")
                };
                assert_eq!(event.offset, Offset(events.len() as u64), "offsets are dense on node {node}");
                assert_eq!(event.payload, Load::payload(producer, sequence).as_bytes(), "payload on node {node}");
                events.push((producer, sequence));
            }
            events
        })
    }

    fn await_statuses<T>(&self, what: &str, found: impl Fn(&[StatusReport]) -> Option<T>) -> T {
        let mut waited = Duration::ZERO;
        loop {
            let statuses = self.statuses();
            if let Some(found) = found(&statuses) {
                return found;
            }
            assert!(waited < PATIENCE, "{what} within {PATIENCE:?}: {statuses:#?}");
            std::thread::sleep(PAUSE);
            waited += PAUSE;
        }
    }
}

/// Each producer's events are in order, none twice, none left out.
fn check_order(node: Spoke, events: &[Delivered]) {
    let mut next: HashMap<ProducerId, Sequence> = HashMap::new();
    for (offset, (producer, sequence)) in events.iter().enumerate() {
        let due = next.entry(*producer).or_default();
        assert_eq!(*sequence, *due, "node {node}, offset {offset}: the order of producer {producer}");
        *due = due.next();
    }
}

fn check_ledger(node: Spoke, events: &[Delivered], ledger: &Ledger) {
    let places: HashMap<_, _> = events.iter().zip((0..).map(Offset)).collect();
    for (event, offset) in &ledger.acked {
        let place = places.get(event);
        assert!(place.is_some(), "node {node} lacks {event:?}, which was acknowledged");
        assert!(offset.is_none() || place == offset.as_ref(), "node {node}: {event:?} is at {place:?}, not {offset:?}");
    }
}
