//! What one slow or hostile connection must not do to the others, and what must go on by itself.

mod node_support;

use eventstream_core::id::{Offset, ShardId};
use eventstream_core::time::Duration;
use eventstream_core::wire::{Control, StartAt, StatusRequest};
use eventstream_host::checksum::CRC;
use node_support::{Client, Cluster, Counted, payloads};
use std::collections::BTreeMap;
use std::thread::{self, JoinHandle};

#[test]
fn a_subscriber_that_does_not_read_costs_nobody_the_connection() {
    let cluster = Cluster::start(1);
    cluster.leader();
    let mut publisher = cluster.client(0);
    publisher.open_producer(1);
    let mut paused = Client::connect_narrow(cluster.addresses[0]);
    paused.subscribe(1, "a", StartAt::Latest);
    let text = "x".repeat(2_000);
    for _ in 0..2_500 {
        // Events of two topics in one entry: each subscriber gets a frame that was made for it.
        publisher.publish_mixed(&[("a", &text), ("b", "y")]);
        publisher.receipt();
    }
}

#[test]
fn subscribers_that_do_not_read_do_not_stop_publishers() {
    let cluster = Cluster::start(1);
    cluster.leader();
    let mut publisher = cluster.client(0);
    publisher.open_producer(1);
    let mut paused = Vec::new();
    for _ in 0..6 {
        // Each of them stops at another place of the log.
        let mut subscriber = Client::connect_narrow(cluster.addresses[0]);
        subscriber.subscribe(1, "t", StartAt::Latest);
        paused.push(subscriber);
        publish_small_batches(&mut publisher, 500);
    }
}

/// Batches of 3 KB, which share entries; 16 are under way at a time.
fn publish_small_batches(publisher: &mut Client, count: usize) {
    let events = payloads(&"x".repeat(1_000), 3);
    (0..16).for_each(|_| _ = publisher.publish("t", &events));
    for number in 0..count {
        publisher.receipt();
        if number + 16 < count {
            publisher.publish("t", &events);
        }
    }
}

#[test]
fn clients_that_ask_and_do_not_read_the_answers_cost_nobody_else_the_connection() {
    // Together they may leave far more unread than there is memory for answers.
    const DEAF: usize = 60;
    let cluster = Cluster::start(1);
    cluster.leader();
    let mut counted = Counted::at(&cluster, 0);
    let mut publisher = cluster.client(0);
    publisher.open_producer(1);
    let questions = status_request().repeat(1_000);
    let deaf: Vec<_> = (0..DEAF)
        .map(|_| {
            let (mut client, questions) = (Client::connect_narrow(cluster.addresses[0]), questions.clone());
            thread::spawn(move || while client.try_send(&questions) {})
        })
        .collect();
    while !deaf.iter().all(JoinHandle::is_finished) {
        publisher.publish("t", &payloads("x", 3));
        publisher.receipt();
    }
    let rise = counted.rise();
    let expected = ["client_unread_much", "client_unread_long", "client_lost"];
    assert!(rise.keys().all(|name| expected.contains(&name.as_str())), "{rise:?}");
    assert_eq!(rise.values().sum::<u64>(), DEAF as u64, "{rise:?}");
}

/// A whole request for the status.
fn status_request() -> Vec<u8> {
    let mut frame = vec![0; 200];
    let len = Control::StatusRequest(StatusRequest).encode(ShardId(0), &mut frame, CRC).expect("a good message");
    frame.truncate(len);
    frame
}

#[test]
fn a_window_that_was_filled_at_once_opens_again() {
    let cluster = Cluster::with(1, |config| {
        config.client_pool_bytes = 16 << 16;
        config.checkpoint = Duration::from_secs(3_600);
    });
    cluster.leader();
    let mut publisher = cluster.client(0);
    publisher.open_producer(1);
    let events = payloads(&"x".repeat(1_000), 3);
    for _ in 0..4 {
        (0..300).for_each(|_| _ = publisher.publish("t", &events));
        (0..300).for_each(|_| _ = publisher.receipt());
    }
}

#[test]
fn subscribers_that_stop_reading_while_they_catch_up_keep_nobody_from_it_and_stay() {
    let cluster = Cluster::with(1, |config| config.client_pool_bytes = 4 << 20);
    cluster.leader();
    let events = publish_much(&cluster);
    let mut counted = Counted::at(&cluster, 0);
    let paused = paused(&cluster, 6);
    assert!(catches_up(cluster.client(0), events));
    let closed = closed(paused);
    // Of a machine that takes long for this the system may have closed some, but the node has not.
    let expected = BTreeMap::from([("client_lost".to_owned(), closed)]);
    assert_eq!(counted.rise(), if closed > 0 { expected } else { BTreeMap::new() });
}

#[test]
fn when_there_are_too_many_that_do_not_read_some_go_and_the_rest_stay() {
    let cluster = Cluster::with(1, |config| config.client_pool_bytes = 4 << 20);
    cluster.leader();
    let events = publish_much(&cluster);
    let mut counted = Counted::at(&cluster, 0);
    let paused = paused(&cluster, 60);
    assert!(catches_up(cluster.client(0), events));
    let (closed, rise) = (closed(paused), counted.rise());
    assert!(rise.keys().all(|name| ["client_unread_long", "client_lost"].contains(&name.as_str())), "{rise:?}");
    assert!(rise.contains_key("client_unread_long"), "there is not memory enough for all");
    assert_eq!(rise.values().sum::<u64>(), closed, "whom the node has not closed it has left alone: {rise:?}");
}

/// How many of these were closed. The others read on, and get more than sockets and queues can hold. The last to come are
/// the first to be looked at: the first ones were most likely closed.
fn closed(subscribers: Vec<Client>) -> u64 {
    let reads_on = |mut subscriber: Client| subscriber.events_or_end(800).map(assert_in_order).is_some();
    subscribers.into_iter().rev().map(|subscriber| u64::from(!reads_on(subscriber))).sum()
}

/// Publishes more events than sockets and queues take; gives their number.
fn publish_much(cluster: &Cluster) -> usize {
    let mut publisher = cluster.client(0);
    publisher.open_producer(1);
    let (batches, events) = (400, payloads(&"x".repeat(1_024), 16));
    for _ in 0..batches {
        publisher.publish("t", &events);
        publisher.receipt();
    }
    batches * events.len()
}

/// Subscribers from the beginning that do not read.
fn paused(cluster: &Cluster, count: usize) -> Vec<Client> {
    let subscribe = |_| {
        let mut subscriber = Client::connect_narrow(cluster.addresses[0]);
        subscriber.subscribe(1, "t", StartAt::Beginning);
        subscriber
    };
    (0..count).map(subscribe).collect()
}

/// Whether so many events come, in order.
fn catches_up(mut subscriber: Client, events: usize) -> bool {
    subscriber.subscribe(1, "t", StartAt::Beginning);
    subscriber.events_or_end(events).map(assert_in_order).is_some()
}

fn assert_in_order(events: Vec<(u32, Offset, String)>) {
    (0..).zip(events).for_each(|(offset, event)| assert_eq!(event.1, Offset(offset)));
}
