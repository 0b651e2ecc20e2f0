use super::server::{MAX_INFLIGHT, Node};
use super::{IMPATIENT, PATIENT, client_of, connected};
use crate::client::{Client, Failure, OpenError, Options, Outcome, PublishError, Start, TrySendError, producer_id};
use eventstream_core::id::{ClusterId, Epoch, NodeId, Offset, ProducerId, Sequence, Term};
use eventstream_core::receipt::RunReceipt;
use eventstream_core::wire::{About, Refusal};

const PRODUCER: ProducerId = ProducerId([5; 16]);

#[test]
fn the_id_of_a_name_is_the_front_of_its_sha_256() {
    // `printf press-7 | sha256sum | cut -c-32`
    assert_eq!(producer_id("press-7").to_string(), "2ba0785d89a3a1c0e7c0f62b3b3c00de");
}

#[tokio::test]
async fn an_event_goes_to_the_leader_and_its_receipt_comes_back() {
    let node = Node::new(1).await;
    let client = client_of(&[&node], PATIENT);
    let serve = async {
        let mut conn = node.accept(1, Some(1)).await;
        conn.opened(4, 17).await;
        let batch = conn.batch().await;
        assert_eq!((batch.epoch, batch.first), (Epoch(4), 17));
        assert_eq!(batch.payloads, ["hello"]);
        conn.accept(&batch, 99).await;
        conn
    };
    let publish = async {
        let producer = client.producer(PRODUCER, Start::Next).await.expect("opened");
        producer.publish("t", b"k", b"hello").await.expect("acknowledged")
    };
    let (_conn, receipt) = tokio::join!(serve, publish);
    assert_eq!((receipt.sequence, receipt.offset), (Sequence(17), Some(Offset(99))));
    assert_eq!((receipt.outcome, receipt.term), (Outcome::Accepted, Term(1)));
    assert_eq!(client.leader(), Some((Term(1), NodeId(1))));
}

#[tokio::test]
async fn what_was_published_before_the_producer_was_opened_is_a_duplicate() {
    let node = Node::new(1).await;
    let client = client_of(&[&node], PATIENT);
    let serve = async {
        let mut conn = node.accept(1, Some(1)).await;
        conn.opened(2, 3).await;
        let batch = conn.batch().await;
        assert_eq!(batch.first, 0, "the caller says where to begin");
        let run = RunReceipt {
            duplicates: 1,
            duplicate_offset: Some(Offset(40)),
            accepted: 0,
            first_offset: Offset(0),
            refused: None,
        };
        conn.receipt(batch.id, &[run]).await;
        conn
    };
    let publish = async {
        let producer = client.producer(PRODUCER, Start::At(Sequence(0))).await.expect("opened");
        producer.publish("t", b"", b"hello").await.expect("acknowledged")
    };
    let (_conn, receipt) = tokio::join!(serve, publish);
    assert_eq!((receipt.outcome, receipt.offset), (Outcome::Duplicate, Some(Offset(40))));
}

/// The leader of term 1 has a batch and does not answer; the node that leads term 2 says so.
#[tokio::test]
async fn a_new_leader_gets_everything_that_was_not_answered() {
    let (old, new) = (Node::new(1).await, Node::new(2).await);
    let client = client_of(&[&old, &new], PATIENT);
    let serve = async {
        let (mut at_old, mut at_new) = tokio::join!(old.accept(1, Some(1)), new.accept(1, Some(1)));
        at_old.opened(1, 0).await;
        let first = at_old.batch().await;
        let second = at_old.batch().await;
        at_old.accept(&first, 0).await;
        // The answer to the second is lost with the old leader, whose connection stays open in silence.
        at_new.leader_changed(2, 2).await;
        let again = at_new.batch().await;
        assert_eq!((again.first, &again.payloads), (second.first, &second.payloads));
        assert_ne!(again.id, second.id);
        at_new.accept(&again, 1).await;
        // What the old leader says now is about a transmission that was given up.
        at_old.accept(&second, 77).await;
        (at_old, at_new)
    };
    let publish = async {
        let producer = client.producer(PRODUCER, Start::Next).await.expect("opened");
        let first = producer.publish("t", b"", b"a");
        let second = async {
            tokio::task::yield_now().await;
            producer.publish("t", b"", b"b").await
        };
        let (first, second) = tokio::join!(first, second);
        (first.expect("acknowledged").offset, second.expect("acknowledged").offset)
    };
    let (_conns, offsets) = tokio::join!(serve, publish);
    assert_eq!(offsets, (Some(Offset(0)), Some(Offset(1))));
    assert_eq!(client.leader(), Some((Term(2), NodeId(2))));
}

#[tokio::test]
async fn a_lost_connection_to_the_same_leader_is_made_again() {
    let node = Node::new(1).await;
    let client = client_of(&[&node], PATIENT);
    let serve = async {
        let mut conn = node.accept(1, Some(1)).await;
        conn.opened(1, 0).await;
        let lost = conn.batch().await;
        drop(conn);
        let mut conn = node.accept(1, Some(1)).await;
        let again = conn.batch().await;
        assert_eq!((again.epoch, again.first, &again.payloads), (lost.epoch, lost.first, &lost.payloads));
        conn.accept(&again, 5).await;
        conn
    };
    let publish = async {
        let producer = client.producer(PRODUCER, Start::Next).await.expect("opened");
        producer.publish("t", b"", b"a").await.expect("acknowledged")
    };
    let (_conn, receipt) = tokio::join!(serve, publish);
    assert_eq!(receipt.offset, Some(Offset(5)));
}

#[tokio::test]
async fn a_node_that_does_not_lead_sends_the_client_on() {
    let (one, two) = (Node::new(1).await, Node::new(2).await);
    let client = client_of(&[&one, &two], PATIENT);
    let serve = async {
        let (mut at_one, mut at_two) = tokio::join!(one.accept(1, Some(1)), two.accept(1, Some(1)));
        let open = at_one.open_producer().await;
        let refusal = Refusal::NotLeader { term: Term(3), leader: Some(NodeId(2)) };
        at_one.refuse(About::Request(open.request), refusal).await;
        at_two.opened(1, 0).await;
        let batch = at_two.batch().await;
        let refusal = Refusal::NotLeader { term: Term(4), leader: Some(NodeId(1)) };
        at_two.refuse(About::Batch(batch.id), refusal).await;
        let batch = at_one.batch().await;
        at_one.accept(&batch, 0).await;
        (at_one, at_two)
    };
    let publish = async {
        let producer = client.producer(PRODUCER, Start::Next).await.expect("opened");
        producer.publish("t", b"", b"a").await.expect("acknowledged")
    };
    let (_conns, receipt) = tokio::join!(serve, publish);
    assert_eq!(receipt.outcome, Outcome::Accepted);
}

#[tokio::test]
async fn a_leader_that_was_not_named_is_found() {
    let (mut named, unnamed) = (Node::new(1).await, Node::new(2).await);
    named.members = vec![(1, "127.0.0.1:1".into()), (2, unnamed.address.clone())];
    let client = client_of(&[&named], PATIENT);
    let serve = async {
        let at_named = named.accept(1, Some(2)).await;
        let mut at_unnamed = unnamed.accept(1, Some(2)).await;
        at_unnamed.opened(1, 0).await;
        (at_named, at_unnamed)
    };
    let (_conns, producer) = tokio::join!(serve, client.producer(PRODUCER, Start::Next));
    assert_eq!(producer.expect("opened").next_sequence(), Sequence(0));
}

#[tokio::test]
async fn a_node_of_another_cluster_is_not_used() {
    let (ours, mut other) = (Node::new(1).await, Node::new(2).await);
    other.cluster = ClusterId([2; 16]);
    let client = client_of(&[&ours, &other], PATIENT);
    let _at_ours = ours.accept(1, None).await;
    let mut at_other = other.accept(9, Some(2)).await;
    at_other.closed().await;
    assert_eq!(client.leader(), None, "what it says of its leader is not about ours");
    assert!(client.describe().contains("belongs to cluster"), "{}", client.describe());
}

#[tokio::test]
async fn without_a_leader_a_producer_is_not_opened() {
    let node = Node::new(1).await;
    let client = client_of(&[&node], IMPATIENT);
    let _conn = node.accept(1, None).await;
    connected(&client).await;
    let producer = client.producer(PRODUCER, Start::Next).await;
    let Err(OpenError::NoLeader { servers }) = producer else { panic!("{producer:?}") };
    assert_eq!(servers, format!("{}: connected", node.address));
}

#[tokio::test]
async fn an_event_without_an_answer_is_unknown_and_is_still_sent() {
    let node = Node::new(1).await;
    let client = client_of(&[&node], IMPATIENT);
    let mut conn = node.accept(1, Some(1)).await;
    connected(&client).await;
    let serve = async {
        conn.opened(1, 0).await;
        conn.batch().await;
        conn
    };
    let publish = async {
        let producer = client.producer(PRODUCER, Start::Next).await.expect("opened");
        let outcome = producer.publish("t", b"", b"a").await;
        (producer, outcome)
    };
    let (conn, (producer, outcome)) = tokio::join!(serve, publish);
    assert_eq!(outcome, Err(PublishError::Unknown));
    drop(conn);
    let mut conn = node.accept(1, Some(1)).await;
    assert_eq!(conn.batch().await.payloads, ["a"]);
    drop(producer);
}

#[tokio::test]
async fn a_fenced_producer_says_so() {
    use eventstream_core::receipt::RunRefusal;
    let node = Node::new(1).await;
    let client = client_of(&[&node], PATIENT);
    let serve = async {
        let mut conn = node.accept(1, Some(1)).await;
        conn.opened(1, 0).await;
        let batch = conn.batch().await;
        conn.receipt(batch.id, &[RunReceipt::refused(RunRefusal::Fenced { epoch: Epoch(2) })]).await;
        conn
    };
    let publish = async {
        let producer = client.producer(PRODUCER, Start::Next).await.expect("opened");
        (producer.publish("t", b"", b"a").await, producer.publish("t", b"", b"b").await)
    };
    let (_conn, outcomes) = tokio::join!(serve, publish);
    let fenced = Err(PublishError::Failed(Failure::Fenced { epoch: Epoch(2) }));
    assert_eq!(outcomes, (fenced, fenced));
}

/// More than the window holds, and more than a node lets a client have unanswered.
#[tokio::test]
async fn many_events_keep_their_order_and_the_nodes_limit() {
    const EVENTS: u64 = 40_000;
    let node = Node::new(1).await;
    let client = client_of(&[&node], PATIENT);
    let serve = async {
        let mut conn = node.accept(1, Some(1)).await;
        conn.opened(1, 0).await;
        let (mut next, mut unanswered, mut bytes) = (0, Vec::new(), 0);
        while next < EVENTS {
            let batch = conn.batch().await;
            assert_eq!(batch.first, next);
            next += batch.payloads.len() as u64;
            bytes += batch.payloads.iter().map(String::len).sum::<usize>();
            assert!(bytes < MAX_INFLIGHT as usize);
            unanswered.push(batch);
            if unanswered.len() == 40 || next == EVENTS {
                for batch in unanswered.drain(..) {
                    conn.accept(&batch, batch.first).await;
                }
                bytes = 0;
            }
        }
        conn
    };
    let publish = async {
        let producer = client.producer(PRODUCER, Start::Next).await.expect("opened");
        let (mut sender, mut acks) = producer.split();
        let send = async {
            for number in 0..EVENTS {
                let sequence = sender.send("t", b"", format!("{number:0100}").as_bytes()).await.expect("room");
                assert_eq!(sequence, Sequence(number));
            }
            drop(sender);
        };
        let count = async {
            let mut acknowledged = 0;
            while let Some(ack) = acks.next().await {
                let ack = ack.expect("acknowledged");
                assert_eq!((ack.first_sequence.0, ack.offset), (acknowledged, Some(Offset(acknowledged))));
                acknowledged += ack.accepted;
            }
            acknowledged
        };
        tokio::join!(send, count).1
    };
    let (_conn, acknowledged) = tokio::join!(serve, publish);
    assert_eq!(acknowledged, EVENTS);
}

/// Whoever waits for answers lets others run, also while there is nothing to be answered.
#[tokio::test]
async fn answers_are_waited_for_while_the_sender_pauses() {
    let node = Node::new(1).await;
    let client = client_of(&[&node], PATIENT);
    let (pause, paused) = tokio::sync::oneshot::channel();
    let serve = async {
        let mut conn = node.accept(1, Some(1)).await;
        conn.opened(1, 0).await;
        let first = conn.batch().await;
        conn.accept(&first, 0).await;
        // By its next ping the client has seen the answer.
        conn.pinged().await;
        pause.send(()).expect("the sender waits");
        let second = conn.batch().await;
        conn.accept(&second, 1).await;
        conn
    };
    let publish = async {
        let producer = client.producer(PRODUCER, Start::Next).await.expect("opened");
        let (mut sender, mut acks) = producer.split();
        let send = async {
            sender.send("t", b"", b"a").await.expect("room");
            paused.await.expect("the server goes on");
            sender.send("t", b"", b"b").await.expect("room");
            drop(sender);
        };
        let count = async {
            let mut offsets = Vec::new();
            while let Some(ack) = acks.next().await {
                offsets.extend(ack.expect("acknowledged").offset);
            }
            offsets
        };
        tokio::join!(send, count).1
    };
    let (_conn, offsets) = tokio::join!(serve, publish);
    assert_eq!(offsets, [Offset(0), Offset(1)]);
}

/// What cannot wait is told that there is no room, and goes on when an answer was fetched.
#[tokio::test]
async fn an_event_that_finds_no_room_is_not_numbered() {
    let node = Node::new(1).await;
    let options = Options { patience: PATIENT, window_events: 2, ..Options::default() };
    let client = Client::connect_with(&[&node.address], options).expect("a good server");
    let serve = async {
        let mut conn = node.accept(1, Some(1)).await;
        conn.opened(1, 0).await;
        conn
    };
    let (mut conn, producer) = tokio::join!(serve, client.producer(PRODUCER, Start::Next));
    let producer = producer.expect("opened");
    assert_eq!((producer.epoch(), producer.next_sequence()), (Epoch(1), Sequence(0)));
    let (mut sender, mut acks) = producer.split();
    let mut try_send = || sender.try_send("t", b"", b"hello");
    assert_eq!((try_send(), try_send()), (Ok(Sequence(0)), Ok(Sequence(1))));
    assert_eq!(try_send(), Err(TrySendError::Full));
    let batch = conn.batch().await;
    conn.accept(&batch, 0).await;
    let ack = acks.next().await.expect("an answer").expect("acknowledged");
    assert!(ack.events() > 0);
    assert_eq!(try_send(), Ok(Sequence(2)));
    let too_long = sender.try_send("t", b"", &[0; 31_745]);
    assert_eq!(too_long, Err(TrySendError::Refused(PublishError::EventTooLarge { len: 31_745 })));
}

#[tokio::test]
async fn connections_end_with_the_last_handle() {
    let node = Node::new(1).await;
    let client = client_of(&[&node], PATIENT);
    let serve = async {
        let mut conn = node.accept(1, Some(1)).await;
        conn.opened(1, 0).await;
        conn
    };
    let (mut conn, producer) = tokio::join!(serve, client.producer(PRODUCER, Start::Next));
    let producer = producer.expect("opened");
    drop(client);
    let (receipt, ()) = tokio::join!(producer.publish("t", b"", b"a"), async {
        let batch = conn.batch().await;
        conn.accept(&batch, 0).await;
    });
    receipt.expect("the producer keeps the connection");
    drop(producer);
    conn.closed().await;
}
