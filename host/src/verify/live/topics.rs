//! What nodes deliver, event by event side by side.

use super::{LiveError, Node};
use crate::client::{Client, Event, From, Options, Source, SubscribeError, Subscriber, TopicReport};
use crate::verify::Meter;
use crate::verify::violation::{Findings, Invariant, Place};
use eventstream_core::config::EPOCHS_SET_ASIDE;
use eventstream_core::id::{Epoch, Index, Offset, ProducerId, Sequence};
use std::collections::HashMap;

/// Events after which it is told how far the check is.
const TELL: u64 = 1_024;

/// The topics to be compared: those that were asked for, or all. Nodes number topics alike.
pub(super) async fn names(
    nodes: &[Node],
    wanted: &[String],
    options: &Options,
    meter: &Meter,
    findings: &mut Findings,
) -> Result<Vec<String>, LiveError> {
    let mut longest: Vec<TopicReport> = Vec::new();
    let mut longest_of = &nodes[0];
    for node in nodes {
        let topics = node.probe(options).await?.topics().await.map_err(|error| node.gone(error))?;
        let both = longest.iter().zip(&topics);
        if let Some((number, (theirs, ours))) = both.enumerate().find(|(_, (a, b))| a.name != b.name) {
            let mut place = Place::at(&longest_of.server).and(&node.server);
            place.topic = Some(theirs.name.clone());
            let what =
                format_args!("topic number {number} is {:?} on one node and {:?} on the other", theirs.name, ours.name);
            findings.add(Invariant::StateOfLog, place, what);
        }
        if topics.len() > longest.len() {
            (longest, longest_of) = (topics, node);
        }
    }
    let is_wanted = |topic: &&TopicReport| wanted.is_empty() || wanted.contains(&topic.name);
    meter.expect(longest.iter().filter(is_wanted).map(|topic| topic.next_offset.0).sum());
    if wanted.is_empty() { Ok(longest.into_iter().map(|topic| topic.name).collect()) } else { Ok(wanted.to_vec()) }
}

/// Reads a topic from all nodes up to an entry that all have applied. Gives the number of events that they have in common.
pub(super) async fn compare(
    nodes: &[Node],
    topic: &str,
    last: Index,
    options: &Options,
    meter: &Meter,
    findings: &mut Findings,
) -> Result<u64, LiveError> {
    let failed = |node: &Node, error| {
        let (server, topic) = (node.server.clone(), topic.to_owned());
        LiveError::Topic { server, topic, error }
    };
    let mut subscribers = Vec::with_capacity(nodes.len());
    for node in nodes {
        subscribers.push(subscribe(node, topic, options).map_err(|error| failed(node, error))?);
    }
    let Some((first, others)) = subscribers.split_first_mut() else { return Ok(0) };
    let mut order = Order::default();
    let mut count = 0;
    loop {
        let event = next(first, last).await.map_err(|error| failed(&nodes[0], error))?;
        for (node, other) in nodes[1..].iter().zip(&mut *others) {
            let theirs = next(other, last).await.map_err(|error| failed(node, error))?;
            if theirs != event {
                let place = Place::at(&nodes[0].server).and(&node.server);
                let index = event.or(theirs).map(|event| event.index).unwrap_or_default();
                let place = place.index(index).offset(topic, Offset(count));
                findings.add(Invariant::StateOfLog, place, difference(event, theirs));
                return Ok(count);
            }
        }
        let Some(event) = event else { break };
        order.check(&nodes[0].server, Offset(count), &event, findings);
        count += 1;
        if count.is_multiple_of(TELL) {
            meter.add(TELL);
        }
    }
    meter.add(count % TELL);
    Ok(count)
}

fn subscribe(node: &Node, topic: &str, options: &Options) -> Result<Subscriber, SubscribeError> {
    let client =
        Client::connect_with(&[&node.server], options.clone()).expect("an address that a node has answered at");
    client.subscribe(topic, From::Beginning)
}

/// The next event up to the entry `last`.
async fn next(subscriber: &mut Subscriber, last: Index) -> Result<Option<Event<'_>>, SubscribeError> {
    Ok(subscriber.next_until_caught_up().await?.filter(|event| event.index <= last))
}

fn difference(ours: Option<Event<'_>>, theirs: Option<Event<'_>>) -> String {
    let (Some(ours), Some(theirs)) = (ours, theirs) else {
        return "one of them delivers this event, and the other does not".to_owned();
    };
    let what = if ours.payload != theirs.payload {
        "payload"
    } else if ours.key != theirs.key {
        "key"
    } else if ours.source != theirs.source {
        "producer or sequence"
    } else if ours.offset != theirs.offset {
        "offset"
    } else if ours.index != theirs.index {
        "entry"
    } else {
        "time"
    };
    format!("the events that they deliver differ in {what}")
}

/// Offsets without holes, and each producer's events in order, none twice. In one topic: a producer may write to many.
#[derive(Debug, Default)]
struct Order {
    /// The epoch of each producer's last event, and the sequence after it.
    last: HashMap<ProducerId, (Epoch, Sequence)>,
}

impl Order {
    fn check(&mut self, server: &str, due: Offset, event: &Event<'_>, findings: &mut Findings) {
        let place = || Place::at(server).index(event.index).offset(event.topic, event.offset);
        if event.offset != due {
            findings.add(Invariant::DenseOffsets, place(), format_args!("offset {due} is due"));
        }
        let Source::Producer { producer, epoch, sequence } = event.source else { return };
        let (last_epoch, due) = self.last.entry(producer).or_default();
        // Who was evicted in between begins its numbers anew, so far above its last epoch.
        let may_begin_anew = epoch.0 > last_epoch.0.saturating_add(EPOCHS_SET_ASIDE);
        if sequence < *due && !may_begin_anew {
            let what = format_args!("sequence {} was delivered before", due.prev());
            findings.add(Invariant::ProducerOrder, place().event(producer, sequence), what);
        }
        (*last_epoch, *due) = (epoch, sequence.next());
    }
}
