use super::server::{Conn, Node, batch_frame};
use super::{IMPATIENT, PATIENT, client_of};
use crate::client::{From, SubscribeError, Subscriber, encode};
use eventstream_core::id::{Index, Offset};
use eventstream_core::wire::{CaughtUp, Control, Delivery, EndReason, StartAt, SubscriptionEnd};

/// Offset and payload of the next event.
async fn next(subscriber: &mut Subscriber) -> (u64, String) {
    let event = subscriber.next().await.expect("an event");
    (event.offset.0, String::from_utf8(event.payload.to_vec()).expect("text"))
}

fn event(offset: u64, payload: &str) -> (u64, String) {
    (offset, payload.to_owned())
}

async fn caught_up(conn: &mut Conn, next: u64) {
    conn.send(&Control::CaughtUp(CaughtUp { subscription: 1, next_offset: Offset(next) })).await;
}

async fn end(conn: &mut Conn, reason: EndReason) {
    conn.send(&Control::SubscriptionEnd(SubscriptionEnd { subscription: 1, reason })).await;
}

#[tokio::test]
async fn events_that_were_not_accepted_are_left_out() {
    let node = Node::new(1).await;
    let client = client_of(&[&node], PATIENT);
    let _to_the_client = node.accept(1, Some(1)).await;
    let serve = async {
        let mut conn = node.accept(1, Some(1)).await;
        assert_eq!(conn.subscribe().await, StartAt::Beginning);
        conn.deliver(0, 0b1101, &["a", "not", "b", "c"]).await;
        conn.leader_changed(2, 1).await;
        conn.deliver(3, 0b1, &["d"]).await;
        conn
    };
    let mut subscriber = client.subscribe("t", From::Beginning).expect("a topic");
    let read = async {
        for expected in [event(0, "a"), event(1, "b"), event(2, "c"), event(3, "d")] {
            assert_eq!(next(&mut subscriber).await, expected);
        }
    };
    let (_conn, ()) = tokio::join!(serve, read);
    assert_eq!(subscriber.next_offset(), Some(Offset(4)));
}

#[tokio::test]
async fn it_goes_on_at_another_node_by_offset_and_skips_what_it_had() {
    let (one, two) = (Node::new(1).await, Node::new(2).await);
    let client = client_of(&[&one, &two], PATIENT);
    let _to_the_client = tokio::join!(one.accept(1, Some(1)), two.accept(1, Some(1)));
    let serve = async {
        let mut conn = one.accept(1, Some(1)).await;
        assert_eq!(conn.subscribe().await, StartAt::Offset(Offset(10)));
        conn.deliver(10, 0b11, &["a", "b"]).await;
        drop(conn);
        let mut conn = two.accept(1, Some(1)).await;
        assert_eq!(conn.subscribe().await, StartAt::Offset(Offset(12)));
        // This node sends the whole batch in which offset 12 lies.
        conn.deliver(11, 0b111, &["b", "c", "d"]).await;
        conn
    };
    let mut subscriber = client.subscribe("t", From::Offset(Offset(10))).expect("a topic");
    let read = async {
        for expected in [event(10, "a"), event(11, "b"), event(12, "c"), event(13, "d")] {
            assert_eq!(next(&mut subscriber).await, expected);
        }
    };
    let (_conn, ()) = tokio::join!(serve, read);
    assert_eq!(subscriber.server(), Some(two.address.as_str()));
}

#[tokio::test]
async fn the_end_of_what_was_there_is_told() {
    let node = Node::new(1).await;
    let client = client_of(&[&node], PATIENT);
    let _to_the_client = node.accept(1, Some(1)).await;
    let serve = async {
        let mut conn = node.accept(1, Some(1)).await;
        conn.subscribe().await;
        conn.deliver(0, 0b1, &["a"]).await;
        caught_up(&mut conn, 1).await;
        conn
    };
    let mut subscriber = client.subscribe("t", From::Beginning).expect("a topic");
    let read = async {
        let first = subscriber.next_until_caught_up().await.expect("no error").map(|event| event.offset);
        let second = subscriber.next_until_caught_up().await.expect("no error").map(|event| event.offset);
        (first, second)
    };
    let (_conn, read) = tokio::join!(serve, read);
    assert_eq!(read, (Some(Offset(0)), None));
}

#[tokio::test]
async fn the_latest_is_remembered_when_the_node_dies_before_anything_comes() {
    let (one, two) = (Node::new(1).await, Node::new(2).await);
    let client = client_of(&[&one, &two], PATIENT);
    let _to_the_client = tokio::join!(one.accept(1, Some(1)), two.accept(1, Some(1)));
    let serve = async {
        let mut conn = one.accept(1, Some(1)).await;
        assert_eq!(conn.subscribe().await, StartAt::Latest);
        caught_up(&mut conn, 30).await;
        drop(conn);
        let mut conn = two.accept(1, Some(1)).await;
        assert_eq!(conn.subscribe().await, StartAt::Offset(Offset(30)));
        conn.deliver(30, 0b1, &["a"]).await;
        conn
    };
    let mut subscriber = client.subscribe("t", From::Latest).expect("a topic");
    let (_conn, first) = tokio::join!(serve, next(&mut subscriber));
    assert_eq!(first, event(30, "a"));
}

#[tokio::test]
async fn a_hole_is_never_passed_over() {
    let node = Node::new(1).await;
    let client = client_of(&[&node], PATIENT);
    let _to_the_client = node.accept(1, Some(1)).await;
    let serve = async {
        let mut conn = node.accept(1, Some(1)).await;
        conn.subscribe().await;
        conn.deliver(0, 0b1, &["a"]).await;
        conn.deliver(2, 0b1, &["c"]).await;
        conn
    };
    let mut subscriber = client.subscribe("t", From::Beginning).expect("a topic");
    let read = async {
        assert_eq!(next(&mut subscriber).await, event(0, "a"));
        subscriber.next().await.map(|event| event.offset)
    };
    let (_conn, outcome) = tokio::join!(serve, read);
    let expected = (Offset(1), Offset(2));
    assert!(
        matches!(outcome, Err(SubscribeError::Hole { expected, found, .. }) if (expected, found) == (Offset(1), Offset(2))),
        "{outcome:?} instead of a hole at {expected:?}"
    );
}

#[tokio::test]
async fn a_damaged_batch_is_read_from_another_node() {
    let (one, two) = (Node::new(1).await, Node::new(2).await);
    let client = client_of(&[&one, &two], PATIENT);
    let _to_the_client = tokio::join!(one.accept(1, Some(1)), two.accept(1, Some(1)));
    let serve = async {
        let mut conn = one.accept(1, Some(1)).await;
        conn.subscribe().await;
        let mut bytes = Vec::new();
        let delivery = Delivery { subscription: 1, first_offset: Offset(0), mask: 1, index: Index(1) };
        encode(&Control::Delivery(delivery), &mut bytes);
        let mut frame = batch_frame(&["a"]);
        let last_of_payload = frame.len() - 9;
        frame[last_of_payload] ^= 1;
        bytes.extend_from_slice(&frame);
        conn.send_bytes(&bytes).await;
        let mut second = two.accept(1, Some(1)).await;
        second.subscribe().await;
        second.deliver(0, 0b1, &["a"]).await;
        (conn, second)
    };
    let mut subscriber = client.subscribe("t", From::Beginning).expect("a topic");
    let (_conns, first) = tokio::join!(serve, next(&mut subscriber));
    assert_eq!(first, event(0, "a"));
}

#[tokio::test]
async fn a_node_that_is_behind_is_passed_over() {
    let (one, two) = (Node::new(1).await, Node::new(2).await);
    let client = client_of(&[&one, &two], PATIENT);
    let _to_the_client = tokio::join!(one.accept(1, Some(1)), two.accept(1, Some(1)));
    let serve = async {
        let mut behind = one.accept(1, Some(1)).await;
        behind.subscribe().await;
        end(&mut behind, EndReason::AfterEnd { next: Offset(3) }).await;
        let mut conn = two.accept(1, Some(1)).await;
        conn.subscribe().await;
        conn.deliver(5, 0b1, &["a"]).await;
        (behind, conn)
    };
    let mut subscriber = client.subscribe("t", From::Offset(Offset(5))).expect("a topic");
    let (_conns, first) = tokio::join!(serve, next(&mut subscriber));
    assert_eq!(first, event(5, "a"));
}

#[tokio::test]
async fn an_offset_that_no_node_has_is_an_error() {
    let node = Node::new(1).await;
    let client = client_of(&[&node], PATIENT);
    let _to_the_client = node.accept(1, Some(1)).await;
    let serve = async {
        let mut conn = node.accept(1, Some(1)).await;
        conn.subscribe().await;
        end(&mut conn, EndReason::AfterEnd { next: Offset(3) }).await;
        conn
    };
    let mut subscriber = client.subscribe("t", From::Offset(Offset(5))).expect("a topic");
    let read = async { subscriber.next().await.map(|event| event.offset) };
    let (_conn, outcome) = tokio::join!(serve, read);
    assert!(matches!(outcome, Err(SubscribeError::AfterEnd { wanted: Offset(5), next: Offset(3) })), "{outcome:?}");
}

#[tokio::test]
async fn an_unreachable_cluster_is_told_and_may_be_asked_again() {
    let node = Node::new(1).await;
    let client = client_of(&[&node], IMPATIENT);
    let mut subscriber = client.subscribe("t", From::Beginning).expect("a topic");
    let refuse = async {
        loop {
            drop(node.accept_silently().await);
        }
    };
    let error = tokio::select! {
        outcome = subscriber.next() => outcome.map(|event| event.offset).expect_err("no events"),
        () = refuse => unreachable!("it listens for ever"),
    };
    assert!(matches!(error, SubscribeError::Unreachable { .. }), "{error}");
    // The client's own link connects too; only the subscriber subscribes.
    let serve = async {
        loop {
            let mut conn = node.accept(1, None).await;
            tokio::spawn(async move {
                assert_eq!(conn.subscribe().await, StartAt::Beginning);
                conn.deliver(0, 0b1, &["a"]).await;
                conn.closed().await;
            });
        }
    };
    let read = async {
        loop {
            match subscriber.next().await {
                Ok(event) => break event.offset,
                Err(error) => assert!(matches!(error, SubscribeError::Unreachable { .. }), "{error}"),
            }
        }
    };
    tokio::select! {
        offset = read => assert_eq!(offset, Offset(0)),
        () = serve => unreachable!("it listens for ever"),
    }
}
