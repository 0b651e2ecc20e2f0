//! The client against nodes that do what the test says.

mod publish;
mod server;
mod subscribe;

use super::*;
use core::time::Duration;
use server::Node;

/// A client of these nodes, whose patience is short where a test waits for its end.
fn client_of(nodes: &[&Node], patience: Duration) -> Client {
    let servers: Vec<&str> = nodes.iter().map(|node| node.address.as_str()).collect();
    Client::connect_with(&servers, Options { patience, ..Options::default() }).expect("good servers")
}

/// Long enough never to end in a test that works.
const PATIENT: Duration = Duration::from_secs(60);
/// For tests that wait for its end, and before it for no more than an answer of a node that is connected.
const IMPATIENT: Duration = Duration::from_millis(500);

/// Waits until a node has answered the client.
async fn connected(client: &Client) {
    while client.cluster().is_none() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn servers_are_checked_before_anything_is_tried() {
    assert_eq!(Client::connect(&[""; 0]).unwrap_err(), ConnectError::NoServers);
    let bad = Client::connect(&["127.0.0.1:9001", "nonsense"]).unwrap_err();
    assert_eq!(bad, ConnectError::BadAddress { server: "nonsense".into() });
    let many = vec!["127.0.0.1:1"; 17];
    assert_eq!(Client::connect(&many).unwrap_err(), ConnectError::TooManyServers { count: 17, limit: 16 });
}

#[tokio::test]
async fn a_status_is_told_as_it_is() {
    use eventstream_core::id::{Incarnation, Index, LogTime, NodeId, Term};
    use eventstream_core::wire::{Kind, List, MemberStatus, NodeRole, NodeStatus, Status};
    let node = Node::new(2).await;
    let answer = async {
        let mut conn = node.accept(5, Some(1)).await;
        conn.skip(Kind::StatusRequest).await;
        conn.leader_changed(6, 1).await;
        let status = NodeStatus {
            node: NodeId(2),
            incarnation: Incarnation([7; 16]),
            role: NodeRole::Follower,
            term: Term(6),
            leader: Some(NodeId(1)),
            last: Index(12),
            durable: Index(11),
            commit: Index(10),
            applied: Index(9),
            log_time: LogTime(8),
            clocks_agree: true,
            state_hash: 0xFEED,
            topics: 1,
            producers: 2,
            events: 3,
            uptime_us: 4_000_000,
            version: "0.1.0",
        };
        let member = MemberStatus {
            node: NodeId(1),
            incarnation: Incarnation([8; 16]),
            address: "127.0.0.1:9001",
            is_connected: true,
            matched: None,
            heard_us: Some(1_500),
        };
        conn.send(&Control::Status(Status { node: status, members: List::of(&[member]) })).await;
    };
    let options = Options::patient(PATIENT);
    let (report, ()) = tokio::join!(status(&node.address, &options), answer);
    let report = report.expect("an answer");
    assert_eq!((report.cluster, report.node, report.role), (server::CLUSTER, NodeId(2), NodeRole::Follower));
    assert_eq!(
        (report.last, report.durable, report.commit, report.applied),
        (Index(12), Index(11), Index(10), Index(9))
    );
    assert_eq!((report.state_hash, report.uptime), (0xFEED, Duration::from_secs(4)));
    assert_eq!(report.members[0].heard, Some(Duration::from_micros(1_500)));
}

#[tokio::test]
async fn a_node_that_says_nothing_is_silent() {
    let node = Node::new(1).await;
    let silent = async {
        let mut conn = node.accept_silently().await;
        conn.closed().await;
    };
    let options = Options::patient(IMPATIENT);
    let (report, ()) = tokio::join!(status(&node.address, &options), silent);
    assert!(matches!(report, Err(LinkError::Silent)), "{report:?}");
}
