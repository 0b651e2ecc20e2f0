//! Subscriptions: from the beginning and live, on leader and follower, of several topics.

mod node_support;

use eventstream_core::id::Offset;
use eventstream_core::wire::StartAt;
use node_support::{Cluster, payloads};

#[test]
fn a_subscription_begins_with_what_is_there_and_goes_on_live_on_every_node() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader();
    let mut producer = cluster.client(leader);
    producer.open_producer(1);
    producer.publish("t", &payloads("before", 40));
    let (_, index, _) = producer.receipt();
    cluster.agree(index);

    let mut subscribers: Vec<_> = (0..3).map(|position| cluster.client(position)).collect();
    for subscriber in &mut subscribers {
        subscriber.subscribe(5, "t", StartAt::Beginning);
        let events = subscriber.events(40);
        assert_eq!(events[39], (5, Offset(39), "before-39".to_owned()));
        assert_eq!(subscriber.caught_up(), Offset(40));
    }
    producer.publish("t", &payloads("live", 3));
    for subscriber in &mut subscribers {
        let expected = [0, 1, 2].map(|number| (5, Offset(40 + number), format!("live-{number}")));
        assert_eq!(subscriber.events(3), expected);
    }
}

#[test]
fn a_topic_that_does_not_exist_yet_is_waited_for() {
    let cluster = Cluster::start(1);
    let mut client = cluster.client(cluster.leader());
    client.subscribe(1, "later", StartAt::Beginning);
    assert_eq!(client.caught_up(), Offset(0));
    client.open_producer(1);
    client.publish("later", &payloads("x", 2));
    assert_eq!(client.events(2)[1], (1, Offset(1), "x-1".to_owned()));
}

#[test]
fn latest_and_an_offset_leave_out_what_was_before() {
    let cluster = Cluster::start(1);
    let mut client = cluster.client(cluster.leader());
    client.open_producer(1);
    client.publish("t", &payloads("x", 20));
    client.receipt();
    client.subscribe(1, "t", StartAt::Latest);
    assert_eq!(client.caught_up(), Offset(20));
    client.subscribe(2, "t", StartAt::Offset(Offset(17)));
    let offsets: Vec<(u32, u64)> = client.events(3).into_iter().map(|(id, offset, _)| (id, offset.0)).collect();
    assert_eq!(offsets, [(2, 17), (2, 18), (2, 19)]);
    client.publish("t", &payloads("y", 1));
    let mut both: Vec<(u32, u64)> = client.events(2).into_iter().map(|(id, offset, _)| (id, offset.0)).collect();
    both.sort_unstable();
    assert_eq!(both, [(1, 20), (2, 20)]);
}

#[test]
fn a_batch_of_several_topics_is_taken_apart() {
    let cluster = Cluster::start(1);
    let mut client = cluster.client(cluster.leader());
    client.open_producer(1);
    let mixed = [("a", "a-0"), ("b", "b-0"), ("b", "b-1"), ("a", "a-1")];
    client.publish_mixed(&mixed);
    client.receipt();
    for (id, topic) in [(1, "a"), (2, "b")] {
        client.subscribe(id, topic, StartAt::Beginning);
        let expected = [0, 1].map(|number| (id, Offset(number), format!("{topic}-{number}")));
        assert_eq!(client.events(2), expected);
    }
    client.publish_mixed(&mixed);
    let mut live: Vec<(u32, u64)> = client.events(4).into_iter().map(|(id, offset, _)| (id, offset.0)).collect();
    live.sort_unstable();
    assert_eq!(live, [(1, 2), (1, 3), (2, 2), (2, 3)]);
}

#[test]
fn a_long_topic_is_read_from_disk_while_it_grows() {
    let cluster = Cluster::with(1, |config| config.client_pool_bytes = 4 << 20);
    let mut producer = cluster.client(cluster.leader());
    producer.open_producer(1);
    let (batches, filling) = (600, "x".repeat(400));
    let mut subscriber = cluster.client(0);
    let mut publish = |number: usize| {
        let events: Vec<String> = (0..32).map(|event| format!("{}-{filling}", number * 32 + event)).collect();
        producer.publish("t", &events);
        producer.receipt();
    };
    (0..batches / 2).for_each(&mut publish);
    subscriber.subscribe(1, "t", StartAt::Beginning);
    (batches / 2..batches).for_each(&mut publish);
    for (number, (_, offset, payload)) in subscriber.events(batches * 32).into_iter().enumerate() {
        assert_eq!((offset.0, payload), (number as u64, format!("{number}-{filling}")));
    }
}

#[test]
fn a_subscriber_that_does_not_read_for_a_while_misses_nothing() {
    let cluster = Cluster::start(1);
    let mut producer = cluster.client(cluster.leader());
    producer.open_producer(1);
    let mut subscriber = cluster.client(0);
    subscriber.subscribe(1, "t", StartAt::Beginning);
    subscriber.caught_up();
    let filling = "x".repeat(1_000);
    let batches = 600;
    for number in 0..batches {
        let events: Vec<String> = (0..16).map(|event| format!("{}-{filling}", number * 16 + event)).collect();
        producer.publish("t", &events);
        producer.receipt();
    }
    for (number, (_, offset, payload)) in subscriber.events(batches * 16).into_iter().enumerate() {
        assert_eq!((offset.0, payload), (number as u64, format!("{number}-{filling}")));
    }
}
