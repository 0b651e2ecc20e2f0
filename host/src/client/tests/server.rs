//! A node that does what the test says: speaks the wire, decides nothing.

use crate::checksum::CRC;
use crate::client::encode;
use crate::client::transport::Inbox;
use crate::stream::Stream;
use eventstream_core::batch::{self, BatchBuilder, Source};
use eventstream_core::id::{ClusterId, Epoch, Incarnation, Index, NodeId, Offset, ProducerId, Sequence, ShardId, Term};
use eventstream_core::receipt::{Durability, RunReceipt};
use eventstream_core::wire::{
    About, Batch, Control, Delivery, Kind, LeaderChanged, List, MAX_FRAME_LEN, Member, OpenProducer, ProducerOpened,
    Receipt, Refusal, Refused, StartAt, Welcome,
};
use tokio::net::TcpListener;

pub(super) const CLUSTER: ClusterId = ClusterId([1; 16]);
/// What a client may have unanswered.
pub(super) const MAX_INFLIGHT: u32 = 1 << 20;

/// A node that listens.
pub(super) struct Node {
    listener: TcpListener,
    pub(super) address: String,
    id: NodeId,
    pub(super) cluster: ClusterId,
    /// Told in every welcome.
    pub(super) members: Vec<(u16, String)>,
}

/// A connection that a node has accepted.
pub(super) struct Conn {
    stream: Stream,
    inbox: Inbox,
}

/// A client's batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Published {
    pub(super) id: u64,
    pub(super) epoch: Epoch,
    pub(super) first: u64,
    pub(super) payloads: Vec<String>,
}

impl Node {
    pub(super) async fn new(id: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port on loopback");
        let address = listener.local_addr().expect("bound").to_string();
        Self { listener, address, id: NodeId(id), cluster: CLUSTER, members: Vec::new() }
    }

    /// Takes the next connection, reads the hello and welcomes it.
    pub(super) async fn accept(&self, term: u64, leader: Option<u16>) -> Conn {
        let mut conn = self.accept_silently().await;
        conn.skip(Kind::Hello).await;
        let member = |(node, address)| Member { node: NodeId(node), incarnation: Incarnation([7; 16]), address };
        let members: Vec<Member<'_>> =
            self.members.iter().map(|(node, address)| member((*node, address.as_str()))).collect();
        let welcome = Welcome {
            version: 1,
            cluster: self.cluster,
            node: self.id,
            incarnation: Incarnation([7; 16]),
            term: Term(term),
            leader: leader.map(NodeId),
            max_inflight: MAX_INFLIGHT,
            members: List::of(&members),
        };
        conn.send(&Control::Welcome(welcome)).await;
        conn
    }

    pub(super) async fn accept_silently(&self) -> Conn {
        let (stream, _) = self.listener.accept().await.expect("a connection");
        Conn { stream: Stream::plain(stream), inbox: Inbox::default() }
    }
}

impl Conn {
    pub(super) async fn send(&mut self, control: &Control<'_>) {
        let mut frame = Vec::new();
        encode(control, &mut frame);
        self.send_bytes(&frame).await;
    }

    pub(super) async fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("a client that reads");
    }

    /// Waits for the next frame and hands it to `read`; pings are passed over. `None` when the client is gone.
    async fn receive<T>(&mut self, read: impl Fn(Kind, &[u8], u64, u16) -> T) -> Option<T> {
        loop {
            if let Some(frame) = self.inbox.next_frame().expect("a good frame") {
                let header = *frame.header();
                if header.kind == Kind::Ping {
                    continue;
                }
                return Some(read(header.kind, frame.payload(), header.batch_id, header.event_count));
            }
            self.stream.readable().await.ok()?;
            self.inbox.fill_from(&mut self.stream).ok()?;
        }
    }

    /// Waits for a ping.
    pub(super) async fn pinged(&mut self) {
        while self.inbox.next_frame().expect("a good frame").is_none_or(|frame| frame.header().kind != Kind::Ping) {
            self.stream.readable().await.expect("connected");
            self.inbox.fill_from(&mut self.stream).expect("connected");
        }
    }

    /// Waits for a message of this kind.
    pub(super) async fn skip(&mut self, wanted: Kind) {
        self.receive(|kind, _, _, _| assert_eq!(kind, wanted)).await.expect("a message");
    }

    /// Waits until the client is gone; whatever it still says does not matter.
    pub(super) async fn closed(&mut self) {
        while self.receive(|_, _, _, _| ()).await.is_some() {}
    }

    /// Waits for a request to open a producer.
    pub(super) async fn open_producer(&mut self) -> OpenProducer {
        let read = |kind, payload: &[u8], _, _| match Control::decode(kind, payload) {
            Ok(Control::OpenProducer(open)) => open,
            other => panic!("{other:?} is no request to open a producer"),
        };
        self.receive(read).await.expect("a request")
    }

    /// Lets a producer be opened.
    pub(super) async fn opened(&mut self, epoch: u32, next: u64) {
        let OpenProducer { request, producer } = self.open_producer().await;
        let (epoch, next_sequence) = (Epoch(epoch), Sequence(next));
        self.send(&Control::ProducerOpened(ProducerOpened { request, producer, epoch, next_sequence })).await;
    }

    /// Waits for a batch.
    pub(super) async fn batch(&mut self) -> Published {
        let read = |kind, payload: &[u8], id, count| {
            assert_eq!(kind, Kind::Batch);
            let batch = Batch::check(payload, count).expect("a good batch");
            let head = *batch.runs().next().expect("a run").head();
            let text = |payload: &[u8]| String::from_utf8(payload.to_vec()).expect("text");
            let payloads = batch.runs().flat_map(|run| run.records()).map(|record| text(record.payload)).collect();
            Published { id, epoch: head.epoch, first: head.first_sequence.0, payloads }
        };
        self.receive(read).await.expect("a batch")
    }

    /// Accepts all of a batch, the first event at `offset`.
    pub(super) async fn accept(&mut self, batch: &Published, offset: u64) {
        self.receipt(batch.id, &[RunReceipt::accepted(batch.payloads.len() as u16, Offset(offset))]).await;
    }

    pub(super) async fn receipt(&mut self, batch: u64, runs: &[RunReceipt]) {
        let receipt = Receipt {
            batch,
            index: Index(batch & 0xFFFF),
            term: Term(1),
            durability: Durability::Majority,
            runs: List::of(runs),
        };
        self.send(&Control::Receipt(receipt)).await;
    }

    pub(super) async fn refuse(&mut self, about: About, reason: Refusal) {
        self.send(&Control::Refused(Refused { about, reason, detail: "" })).await;
    }

    pub(super) async fn leader_changed(&mut self, term: u64, leader: u16) {
        self.send(&Control::LeaderChanged(LeaderChanged { term: Term(term), leader: Some(NodeId(leader)) })).await;
    }

    /// Waits for a subscription and tells where it begins.
    pub(super) async fn subscribe(&mut self) -> StartAt {
        let read = |kind, payload: &[u8], _, _| match Control::decode(kind, payload) {
            Ok(Control::Subscribe(subscribe)) => subscribe.from,
            other => panic!("{other:?} is no subscription"),
        };
        self.receive(read).await.expect("a subscription")
    }

    /// Delivers those of `payloads` whose bit is set in `mask`, the first of them at `first_offset`.
    pub(super) async fn deliver(&mut self, first_offset: u64, mask: u64, payloads: &[&str]) {
        let delivery = Delivery { subscription: 1, first_offset: Offset(first_offset), mask, index: Index(1) };
        let mut bytes = Vec::new();
        encode(&Control::Delivery(delivery), &mut bytes);
        bytes.extend_from_slice(&batch_frame(payloads));
        self.send_bytes(&bytes).await;
    }
}

/// A batch of topic `t` as the log would hold it.
pub(super) fn batch_frame(payloads: &[&str]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(vec![0; MAX_FRAME_LEN]);
    for (sequence, payload) in (0..).zip(payloads) {
        let source = Source::Producer {
            producer: ProducerId([3; 16]),
            epoch: Epoch(1),
            sequence: Sequence(sequence),
            after_gap: false,
        };
        let event = batch::Event { topic: "t", source, time_us: 1, key: b"k", payload: payload.as_bytes() };
        builder.push(&event).expect("room");
    }
    let (mut frame, len) = builder.finish(ShardId(0), 1, 1, CRC);
    frame.truncate(len);
    frame
}
