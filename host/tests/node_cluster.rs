//! Clusters in this process: elect, publish, lose a leader, come back.

mod node_support;

use eventstream_core::id::{Index, NodeId, Offset};
use eventstream_core::receipt::RunReceipt;
use eventstream_core::wire::{Refusal, StartAt};
use eventstream_host::config::ThreadLayout;
use node_support::{Client, Cluster, payloads};

/// Publishes batches one after the other and gives the index of the last entry.
fn publish(client: &mut Client, topic: &str, batches: usize, events: usize, first_offset: u64) -> Index {
    let mut last = Index::ZERO;
    for number in 0..batches {
        let batch = client.publish(topic, &payloads(&format!("{topic}-{first_offset}-{number}"), events));
        let (answered, index, runs) = client.receipt();
        assert_eq!(answered, batch);
        let offset = Offset(first_offset + (number * events) as u64);
        assert_eq!(runs, [RunReceipt::accepted(events as u16, offset)]);
        last = index;
    }
    last
}

#[test]
fn a_single_node_takes_events_and_has_them_after_a_restart() {
    let mut cluster = Cluster::start(1);
    assert_eq!(cluster.leader(), 0);
    let mut client = cluster.client(0);
    client.open_producer(1);
    publish(&mut client, "t", 3, 2, 0);
    cluster.stop_node(0);
    cluster.start_node(0);
    assert_eq!(cluster.leader(), 0);
    let mut client = cluster.client(0);
    client.open_producer(1);
    publish(&mut client, "t", 1, 64, 6);
    client.subscribe(1, "t", StartAt::Beginning);
    let events = client.events(70);
    let offsets: Vec<u64> = events.iter().map(|(_, offset, _)| offset.0).collect();
    assert_eq!(offsets, (0..70).collect::<Vec<_>>());
}

#[test]
fn three_nodes_elect_one_leader_and_the_others_name_it() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader();
    let mut client = cluster.client(leader);
    client.open_producer(1);
    let last = publish(&mut client, "t", 5, 3, 0);
    cluster.agree(last);
    for position in (0..3).filter(|&position| position != leader) {
        let mut follower = cluster.client(position);
        follower.publish("t", &payloads("refused", 1));
        match follower.refusal() {
            Refusal::NotLeader { leader: named, .. } => assert_eq!(named, Some(NodeId(leader as u16 + 1))),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_batch_sent_twice_is_accepted_once() {
    let cluster = Cluster::start(3);
    let mut client = cluster.client(cluster.leader());
    client.open_producer(1);
    publish(&mut client, "t", 1, 3, 0);
    client.rewind(2);
    client.publish("t", &payloads("again", 3));
    let (_, _, runs) = client.receipt();
    let expected =
        RunReceipt { duplicates: 2, duplicate_offset: Some(Offset(1)), ..RunReceipt::accepted(1, Offset(3)) };
    assert_eq!(runs, [expected]);
}

#[test]
fn many_small_batches_in_flight_are_answered_in_order() {
    let cluster = Cluster::start(3);
    let mut client = cluster.client(cluster.leader());
    client.open_producer(1);
    for _ in 0..500 {
        client.publish("t", &payloads("x", 1));
    }
    for number in 0..500 {
        let (batch, _, runs) = client.receipt();
        assert_eq!(batch, number + 1);
        assert_eq!(runs, [RunReceipt::accepted(1, Offset(number))]);
    }
}

#[test]
fn the_cluster_goes_on_without_its_leader_and_takes_it_back() {
    let mut cluster = Cluster::start(3);
    let first = cluster.leader();
    let mut client = cluster.client(first);
    client.open_producer(1);
    publish(&mut client, "t", 20, 16, 0);
    cluster.stop_node(first);
    assert!(client.connection_ends(), "the node that stopped closes its connections");

    let second = cluster.leader();
    assert_ne!(second, first);
    let mut client = cluster.client(second);
    client.open_producer(1);
    let last = publish(&mut client, "t", 20, 16, 320);
    cluster.start_node(first);
    cluster.agree(last);

    let mut returned = cluster.client(first);
    returned.subscribe(9, "t", StartAt::Beginning);
    let offsets: Vec<u64> = returned.events(640).into_iter().map(|(_, offset, _)| offset.0).collect();
    assert_eq!(offsets, (0..640).collect::<Vec<_>>());
    assert_eq!(returned.caught_up(), Offset(640));
}

#[test]
fn a_cluster_that_was_stopped_as_a_whole_goes_on_where_it_was() {
    let mut cluster = Cluster::start(3);
    let mut client = cluster.client(cluster.leader());
    client.open_producer(1);
    publish(&mut client, "t", 10, 5, 0);
    (0..3).for_each(|position| cluster.stop_node(position));
    (0..3).for_each(|position| cluster.start_node(position));
    let mut client = cluster.client(cluster.leader());
    client.open_producer(1);
    let last = publish(&mut client, "t", 1, 5, 50);
    cluster.agree(last);
}

#[test]
fn without_a_majority_nothing_is_acknowledged() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    let mut client = cluster.client(leader);
    client.open_producer(1);
    publish(&mut client, "t", 1, 1, 0);
    (0..3).filter(|&position| position != leader).for_each(|position| cluster.stop_node(position));
    client.publish("t", &payloads("lonely", 1));
    // It leads no more as soon as it has not heard of a majority.
    assert!(matches!(client.refusal(), Refusal::NotLeader { leader: None, .. }));
    let other = (leader + 1) % 3;
    cluster.start_node(other);
    let mut client = cluster.client(cluster.leader());
    client.open_producer(1);
    let next = client.next_sequence();
    assert!(next == 1 || next == 2, "the lonely event may have got through, and is not doubled: {next}");
    client.publish("t", &payloads("after", 1));
    let (_, last, runs) = client.receipt();
    assert_eq!(runs, [RunReceipt::accepted(1, Offset(next))]);
    cluster.agree(last);
}

/// More than any node keeps in memory: 600 batches of 16 events of 1 KiB.
fn publish_much(client: &mut Client, first_offset: u64) -> Index {
    let filling = "x".repeat(1_024);
    let mut last = Index::ZERO;
    for number in 0..600 {
        client.publish("t", &payloads(&filling, 16));
        let (_, index, runs) = client.receipt();
        assert_eq!(runs, [RunReceipt::accepted(16, Offset(first_offset + number * 16))]);
        last = index;
    }
    last
}

#[test]
fn a_follower_that_missed_much_is_fed_from_disk_while_the_others_go_on() {
    let mut cluster = Cluster::with(3, |config| config.client_pool_bytes = 4 << 20);
    let leader = cluster.leader();
    let mut client = cluster.client(leader);
    client.open_producer(1);
    let late = (leader + 1) % 3;
    cluster.stop_node(late);
    publish_much(&mut client, 0);
    cluster.start_node(late);
    let last = publish_much(&mut client, 9_600);
    cluster.agree(last);
    let mut subscriber = cluster.client(late);
    subscriber.subscribe(1, "t", StartAt::Offset(Offset(19_190)));
    assert_eq!(subscriber.events(10)[9].1, Offset(19_199));
}

#[test]
fn sockets_and_engine_in_threads_of_their_own_do_the_same() {
    let mut cluster = Cluster::with(3, |config| config.threads = ThreadLayout::Split);
    for round in 0..3 {
        let leader = cluster.leader();
        let mut client = cluster.client(leader);
        client.open_producer(1);
        let last = publish(&mut client, "t", 50, 10, round * 500);
        cluster.stop_node(leader);
        let mut reader = cluster.client(cluster.leader());
        reader.subscribe(1, "t", StartAt::Beginning);
        let events = (round as usize + 1) * 500;
        assert_eq!(reader.events(events)[events - 1].1, Offset(events as u64 - 1));
        cluster.start_node(leader);
        cluster.agree(last);
    }
}

#[test]
fn producers_on_many_connections_do_not_mix() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader();
    let threads: Vec<_> = (1..=6)
        .map(|producer| {
            let mut client = cluster.client(leader);
            std::thread::spawn(move || {
                client.open_producer(producer);
                let topic = format!("t{}", producer % 2);
                for _ in 0..200 {
                    client.publish(&topic, &payloads("x", usize::from(producer)));
                }
                for number in 1..=200 {
                    let (batch, index, runs) = client.receipt();
                    assert_eq!((batch, runs.len()), (number, 1));
                    assert_eq!((runs[0].accepted, runs[0].refused), (u16::from(producer), None));
                    if number == 200 {
                        return index;
                    }
                }
                Index::ZERO
            })
        })
        .collect();
    let last = threads.into_iter().map(|thread| thread.join().expect("the producer is content")).max();
    cluster.agree(last.unwrap_or_default());
    let mut client = cluster.client(leader);
    for (topic, events) in [("t0", (2 + 4 + 6) * 200), ("t1", (1 + 3 + 5) * 200)] {
        client.subscribe(1, topic, StartAt::Beginning);
        let offsets: Vec<u64> = client.events(events).into_iter().map(|(_, offset, _)| offset.0).collect();
        assert_eq!(offsets, (0..events as u64).collect::<Vec<_>>());
        assert_eq!(client.caught_up(), Offset(events as u64));
        client.unsubscribe(1);
    }
}

#[test]
fn pools_of_a_few_blocks_slow_a_cluster_down_and_nothing_more() {
    let mut cluster = Cluster::with(3, |config| {
        config.client_pool_bytes = 8 << 16;
        config.peer_pool_bytes = 24 << 16;
    });
    let leader = cluster.leader();
    let late = (leader + 1) % 3;
    cluster.stop_node(late);
    let mut client = cluster.client(leader);
    client.open_producer(1);
    publish_in_flight(&mut client, 0);
    cluster.start_node(late);
    let last = publish_in_flight(&mut client, 6_400);
    cluster.agree(last);
    let mut subscriber = cluster.client(late);
    subscriber.subscribe(1, "t", StartAt::Beginning);
    let offsets: Vec<u64> = subscriber.events(12_800).into_iter().map(|(_, offset, _)| offset.0).collect();
    assert_eq!(offsets, (0..12_800).collect::<Vec<_>>());
}

/// 400 batches of 16 events of 1 KiB, ten of them under way at a time.
fn publish_in_flight(client: &mut Client, first_offset: u64) -> Index {
    let events = payloads(&"x".repeat(1_024), 16);
    (0..10).for_each(|_| _ = client.publish("t", &events));
    let mut last = Index::ZERO;
    for number in 0..400 {
        let (_, index, runs) = client.receipt();
        assert_eq!(runs, [RunReceipt::accepted(16, Offset(first_offset + number * 16))]);
        last = index;
        if number < 390 {
            client.publish("t", &events);
        }
    }
    last
}
