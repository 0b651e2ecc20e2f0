//! Nodes in this process, and a client that speaks the wire and nothing more.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "shared by several test programs, each of which uses a part"
)]

pub mod hostile;
pub mod publisher;

use core::net::SocketAddr;
use core::sync::atomic::{AtomicU16, Ordering};
use core::time::Duration;
use eventstream_core::batch::{BatchBuilder, Event, Source};
use eventstream_core::config::Parameters;
use eventstream_core::id::{ClusterId, Epoch, Index, NodeId, Offset, ProducerId, Sequence, ShardId, Term};
use eventstream_core::receipt::RunReceipt;
use eventstream_core::wire::{
    Batch, Control, CountersRequest, Frame, HEADER_LEN, Header, Hello, Kind, MAX_FRAME_LEN, OpenProducer, Ping,
    Refusal, Role, StartAt, StatusRequest, Subscribe, Unsubscribe, VERSION,
};
use eventstream_host::checksum::CRC;
use eventstream_host::config::{Config, Key, Settings};
use eventstream_host::identity::init;
use eventstream_host::node::Node;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use tempfile::TempDir;

/// Whatever takes longer is broken. No test waits for it to pass.
pub const BROKEN: Duration = Duration::from_secs(20);
/// Between two questions to a node that is not there yet.
const ASK_AGAIN: Duration = Duration::from_millis(5);
/// How often a question is asked before the node counts as broken.
const QUESTIONS: usize = 4_000;

/// Nodes of one cluster; those that run are stopped at the end.
pub struct Cluster {
    directory: TempDir,
    pub addresses: Vec<SocketAddr>,
    pub directories: Vec<PathBuf>,
    nodes: Vec<Option<Node>>,
    change: fn(&mut Config),
}

impl Cluster {
    /// A cluster of `size` nodes, all of them running. Each of them votes on its own by now: a new node does not.
    pub fn start(size: usize) -> Self {
        Self::with(size, |_| {})
    }

    /// The same with a change to every node's configuration.
    pub fn with(size: usize, change: fn(&mut Config)) -> Self {
        Self::of(size, Parameters::default(), change)
    }

    /// The same of a cluster with these parameters.
    pub fn of(size: usize, parameters: Parameters, change: fn(&mut Config)) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let addresses: Vec<SocketAddr> = (0..size).map(|_| free_address()).collect();
        let members: Vec<_> = (1..)
            .zip(&addresses)
            .map(|(id, address)| (NodeId(id), address.to_string().parse().expect("an address")))
            .collect();
        let directories = init(directory.path(), &members, parameters).expect("identities");
        let nodes = (0..size).map(|_| None).collect();
        let mut cluster = Self { directory, addresses, directories, nodes, change };
        (0..size).for_each(|position| cluster.start_node(position));
        cluster.wait_until_sound();
        cluster
    }

    /// Waits until no node that runs is suspect.
    pub fn wait_until_sound(&self) {
        for position in self.running() {
            let mut client = self.client(position);
            let is_sound = (0..QUESTIONS).any(|_| {
                let is_suspect = client.status().is_suspect;
                if is_suspect {
                    std::thread::sleep(ASK_AGAIN);
                }
                !is_suspect
            });
            assert!(is_sound, "node {} is suspect", position + 1);
        }
    }

    /// Starts a node that does not run.
    pub fn start_node(&mut self, position: usize) {
        let dir = self.directories[position].to_string_lossy().into_owned();
        let mut config = Settings::new().flag(Key::Dir, Some(dir)).check().expect("a configuration");
        (self.change)(&mut config);
        let node = Node::start(&config).expect("the node starts");
        assert_eq!(node.addresses(), [self.addresses[position]]);
        assert!(self.nodes[position].replace(node).is_none(), "it does not run yet");
    }

    /// Stops a node, and waits until it is gone.
    pub fn stop_node(&mut self, position: usize) {
        let node = self.nodes[position].take().expect("it runs");
        node.shutdown();
        node.wait().expect("the node ends without an error");
    }

    /// A client of a node.
    pub fn client(&self, position: usize) -> Client {
        Client::connect(self.addresses[position])
    }

    /// The positions of the nodes that run.
    pub fn running(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|&position| self.nodes[position].is_some()).collect()
    }

    /// Waits until a node that runs leads, and gives its position.
    pub fn leader(&self) -> usize {
        let mut clients: Vec<(usize, Client)> =
            self.running().into_iter().map(|position| (position, self.client(position))).collect();
        for _ in 0..QUESTIONS {
            for (position, client) in &mut clients {
                if client.status().is_leader {
                    return *position;
                }
            }
            std::thread::sleep(ASK_AGAIN);
        }
        panic!("no node leads");
    }

    /// Waits until all running nodes have applied the same entries, at least up to `index`; their state is the same.
    pub fn agree(&self, index: Index) {
        let mut clients: Vec<Client> = self.running().into_iter().map(|position| self.client(position)).collect();
        for _ in 0..QUESTIONS {
            let all: Vec<Status> = clients.iter_mut().map(Client::status).collect();
            if all.iter().all(|one| one.applied >= index && one.applied == all[0].applied) {
                assert!(all.iter().all(|one| one.state_hash == all[0].state_hash), "equal index, equal state: {all:?}");
                return;
            }
            std::thread::sleep(ASK_AGAIN);
        }
        panic!("the nodes do not agree");
    }
}

/// What one node counts, as it rises.
pub struct Counted {
    client: Client,
    before: BTreeMap<String, u64>,
}

impl Counted {
    /// From now on.
    pub fn at(cluster: &Cluster, position: usize) -> Self {
        let mut client = cluster.client(position);
        let before = client.counters();
        Self { client, before }
    }

    /// What has risen since the last call, and by how much.
    pub fn rise(&mut self) -> BTreeMap<String, u64> {
        let now = self.client.counters();
        let before = core::mem::replace(&mut self.before, now.clone());
        now.into_iter()
            .map(|(name, count)| (name.clone(), count - before[&name]))
            .filter(|(_, rise)| *rise > 0)
            .collect()
    }

    /// Exactly this has risen since the last call.
    pub fn assert_rise(&mut self, expected: &[(&str, u64)], what: &str) {
        let expected: BTreeMap<String, u64> = expected.iter().map(|&(name, rise)| (name.to_owned(), rise)).collect();
        assert_eq!(self.rise(), expected, "{what}");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in self.nodes.drain(..).flatten() {
            node.shutdown();
            if !std::thread::panicking() {
                node.wait().expect("the node ends without an error");
            }
        }
    }
}

/// An address of this machine whose port is free. Outside the range from which the system takes ports by itself, so that
/// no connection takes it while a node is down.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = 10_000 + (std::process::id() % 199) as u16 * 100;
    for _ in 0..2_000 {
        let port = 10_000 + (start - 10_000 + NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no free port");
}

/// This process may open as many files as a test needs.
pub fn allow_files(count: u64) {
    let limit = getrlimit(Resource::Nofile);
    let hard = limit.maximum.unwrap_or(u64::MAX);
    assert!(hard >= count, "this test opens {count} files, and the system allows {hard}: raise ulimit -Hn");
    if limit.current.is_some_and(|soft| soft < count) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(count), ..limit }).expect("no more than the hard limit");
    }
}

/// What a node says of itself.
#[derive(Clone, Debug)]
pub struct Status {
    pub is_leader: bool,
    pub is_suspect: bool,
    pub term: Term,
    pub leader: Option<NodeId>,
    pub applied: Index,
    pub state_hash: u64,
}

/// A connection that says what it is told to.
pub struct Client {
    stream: TcpStream,
    /// As the welcome names it.
    pub cluster: ClusterId,
    producer: ProducerId,
    epoch: Epoch,
    next: u64,
    batches: u64,
    /// Frames that came while another was waited for.
    kept: Vec<Vec<u8>>,
}

impl Client {
    /// Connects and says hello; panics if that is refused.
    pub fn connect(address: SocketAddr) -> Self {
        let mut client = Self::dial(address);
        client.hello();
        client
    }

    /// The same with next to no room for what it does not read.
    pub fn connect_narrow(address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(4_096).expect("an option");
        socket.connect(&address.into()).expect("the node listens");
        let mut client = Self::over(socket.into());
        client.hello();
        client
    }

    /// Connects and says nothing yet.
    pub fn dial(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).expect("the node listens"))
    }

    /// Over a connection that says nothing yet.
    pub fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("an option");
        stream.set_read_timeout(Some(BROKEN)).expect("an option");
        Self {
            stream,
            cluster: ClusterId::default(),
            producer: ProducerId([7; 16]),
            epoch: Epoch(0),
            next: 0,
            batches: 0,
            kept: Vec::new(),
        }
    }

    /// Another way to write to the connection.
    pub fn writer(&self) -> TcpStream {
        self.stream.try_clone().expect("a handle")
    }

    /// Says who it is, and waits for no answer.
    pub fn say_hello(&mut self) {
        let hello = Hello { version_min: VERSION, version_max: VERSION, cluster: None, role: Role::Client };
        self.say(&Control::Hello(hello));
    }

    pub fn hello(&mut self) {
        self.say_hello();
        let frame = self.wait_for(Kind::Welcome);
        let Control::Welcome(welcome) = decode(&frame) else { panic!("not what was waited for") };
        self.cluster = welcome.cluster;
    }

    pub fn say(&mut self, message: &Control<'_>) {
        let mut frame = vec![0; MAX_FRAME_LEN];
        let len = message.encode(ShardId(0), &mut frame, CRC).expect("a good message");
        self.send(&frame[..len]);
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the node reads");
    }

    /// The same to a node that may close the connection meanwhile. Returns whether everything left.
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Ends this side of the connection.
    pub fn say_no_more(&self) {
        // It fails when the node has closed the connection already.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// The next frame of this kind; others are kept.
    pub fn wait_for(&mut self, kind: Kind) -> Vec<u8> {
        self.wait_for_or_end(kind).expect("the connection stays open")
    }

    /// The same; `None` when the node has closed the connection.
    fn wait_for_or_end(&mut self, kind: Kind) -> Option<Vec<u8>> {
        let position = self.kept.iter().position(|frame| header(frame).kind == kind);
        if let Some(position) = position {
            return Some(self.kept.remove(position));
        }
        loop {
            let frame = self.next_frame()?;
            if header(&frame).kind == kind {
                return Some(frame);
            }
            self.kept.push(frame);
        }
    }

    /// The next frame, whatever it is; `None` when the node has closed the connection, be it within a frame: who does not
    /// read hears no end of it.
    pub fn next_frame(&mut self) -> Option<Vec<u8>> {
        let mut frame = vec![0; HEADER_LEN];
        self.fill(&mut frame)?;
        frame.resize(header(&frame).frame_len(), 0);
        self.fill(&mut frame[HEADER_LEN..])?;
        Frame::check(&frame, CRC).expect("a good frame");
        Some(frame)
    }

    fn fill(&mut self, room: &mut [u8]) -> Option<()> {
        match self.stream.read_exact(room) {
            Ok(()) => Some(()),
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Asks for an epoch of the producer of this name.
    pub fn say_open_producer(&mut self, name: u8) {
        self.producer = ProducerId([name; 16]);
        self.say(&Control::OpenProducer(OpenProducer { request: 1, producer: self.producer }));
    }

    /// Opens the producer of this name; numbering goes on where the cluster says.
    pub fn open_producer(&mut self, name: u8) {
        self.say_open_producer(name);
        let frame = self.wait_for(Kind::ProducerOpened);
        let Control::ProducerOpened(opened) = decode(&frame) else { panic!("not what was waited for") };
        assert_eq!(opened.producer, self.producer);
        (self.epoch, self.next) = (opened.epoch, opened.next_sequence.0);
    }

    /// Sends a batch of events; gives its number.
    pub fn publish(&mut self, topic: &str, payloads: &[String]) -> u64 {
        let events: Vec<(&str, &str)> = payloads.iter().map(|payload| (topic, payload.as_str())).collect();
        self.publish_mixed(&events)
    }

    /// The same with events of several topics: topic and payload.
    pub fn publish_mixed(&mut self, events: &[(&str, &str)]) -> u64 {
        let mut builder = BatchBuilder::new(vec![0; MAX_FRAME_LEN]);
        for (topic, payload) in events {
            let source = self.next_source();
            let event = Event { topic, source, time_us: 1, key: b"", payload: payload.as_bytes() };
            builder.push(&event).expect("the batch has room");
        }
        self.batches += 1;
        let (frame, len) = builder.finish(ShardId(0), self.batches, 1, CRC);
        self.send(&frame[..len]);
        self.batches
    }

    /// Numbers the next events as this producer, whatever the cluster knows of it.
    pub fn number_as(&mut self, name: u8, epoch: u32, next: u64) {
        (self.producer, self.epoch, self.next) = (ProducerId([name; 16]), Epoch(epoch), next);
    }

    /// The sequence that the next event gets.
    pub fn next_sequence(&self) -> u64 {
        self.next
    }

    /// Numbers the next events as the last `count` ones were.
    pub fn rewind(&mut self, count: u64) {
        self.next -= count;
    }

    fn next_source(&mut self) -> Source {
        let sequence = Sequence(self.next);
        self.next += 1;
        Source::Producer { producer: self.producer, epoch: self.epoch, sequence, after_gap: false }
    }

    /// Reads on until the node has closed the connection. False only if it never does.
    pub fn connection_ends(&mut self) -> bool {
        while self.next_frame().is_some() {}
        true
    }

    /// The receipt of a batch: its entry, and its runs.
    pub fn receipt(&mut self) -> (u64, Index, Vec<RunReceipt>) {
        let frame = self.wait_for(Kind::Receipt);
        let Control::Receipt(receipt) = decode(&frame) else { panic!("not what was waited for") };
        (receipt.batch, receipt.index, receipt.runs.iter().collect())
    }

    /// Whether what was asked for last, a batch or a producer's epoch, was given, or why it was refused.
    pub fn answer(&mut self) -> Result<(), Refusal> {
        loop {
            let frame = self.next_frame().expect("the connection stays open");
            match decode(&frame) {
                Control::Receipt(_) | Control::ProducerOpened(_) => return Ok(()),
                Control::Refused(refused) => return Err(refused.reason),
                _ => self.kept.push(frame),
            }
        }
    }

    /// Why something was refused.
    pub fn refusal(&mut self) -> Refusal {
        let frame = self.wait_for(Kind::Refused);
        let Control::Refused(refused) = decode(&frame) else { panic!("not what was waited for") };
        refused.reason
    }

    pub fn status(&mut self) -> Status {
        self.say(&Control::StatusRequest(StatusRequest));
        let frame = self.wait_for(Kind::Status);
        let Control::Status(status) = decode(&frame) else { panic!("not what was waited for") };
        let node = status.node;
        Status {
            is_leader: node.role == eventstream_core::wire::NodeRole::Leader && node.leader == Some(node.node),
            is_suspect: node.role == eventstream_core::wire::NodeRole::Suspect,
            term: node.term,
            leader: node.leader,
            applied: node.applied,
            state_hash: node.state_hash,
        }
    }

    /// What the node has refused since its start.
    pub fn counters(&mut self) -> BTreeMap<String, u64> {
        self.say(&Control::CountersRequest(CountersRequest { request: 1, first: 0 }));
        let frame = self.wait_for(Kind::Counters);
        let Control::Counters(counters) = decode(&frame) else { panic!("not what was waited for") };
        assert_eq!(counters.count as usize, counters.counters.len(), "all of them");
        counters.counters.iter().map(|counter| (counter.name.to_owned(), counter.count)).collect()
    }

    pub fn ping(&mut self, number: u64) {
        self.say(&Control::Ping(Ping { number }));
    }

    pub fn pong(&mut self) -> u64 {
        let frame = self.wait_for(Kind::Pong);
        let Control::Pong(pong) = decode(&frame) else { panic!("not what was waited for") };
        pong.number
    }

    pub fn subscribe(&mut self, subscription: u32, topic: &str, from: StartAt) {
        self.say(&Control::Subscribe(Subscribe { subscription, topic, from }));
    }

    pub fn unsubscribe(&mut self, subscription: u32) {
        self.say(&Control::Unsubscribe(Unsubscribe { subscription }));
        self.wait_for(Kind::SubscriptionEnd);
    }

    /// Events of subscriptions until there are `count`: subscription, offset and payload. Each delivery is followed by
    /// its frame, and offsets are dense.
    pub fn events(&mut self, count: usize) -> Vec<(u32, Offset, String)> {
        self.events_or_end(count).expect("the connection stays open")
    }

    /// The same; `None` when the node has closed the connection before.
    pub fn events_or_end(&mut self, count: usize) -> Option<Vec<(u32, Offset, String)>> {
        let mut events = Vec::new();
        while events.len() < count {
            let frame = self.wait_for_or_end(Kind::Delivery)?;
            let Control::Delivery(delivery) = decode(&frame) else { panic!("not what was waited for") };
            let frame = self.wait_for_or_end(Kind::Batch)?;
            assert_eq!((header(&frame).kind, header(&frame).index()), (Kind::Batch, delivery.index));
            let checked = Frame::check(&frame, CRC).expect("a good frame");
            let batch = Batch::check(checked.payload(), checked.header().event_count).expect("a good batch");
            let records = batch.runs().flat_map(|run| run.records());
            let selected = (0..).zip(records).filter(|(position, _)| delivery.mask >> position & 1 == 1);
            for (offset, (_, record)) in (delivery.first_offset.0..).zip(selected) {
                let payload = String::from_utf8(record.payload.to_vec()).expect("text");
                events.push((delivery.subscription, Offset(offset), payload));
            }
        }
        Some(events)
    }

    /// The offset up to which a subscription has caught up.
    pub fn caught_up(&mut self) -> Offset {
        let frame = self.wait_for(Kind::CaughtUp);
        let Control::CaughtUp(caught_up) = decode(&frame) else { panic!("not what was waited for") };
        caught_up.next_offset
    }
}

/// The header of a frame.
pub fn header(frame: &[u8]) -> Header {
    let bytes = frame.first_chunk().expect("a header");
    Header::parse(bytes, CRC).expect("a good header")
}

/// The message of a frame.
pub fn decode(frame: &[u8]) -> Control<'_> {
    let frame = Frame::check(frame, CRC).expect("a good frame");
    Control::decode(frame.header().kind, frame.payload()).expect("a good message")
}

/// `count` different payloads.
pub fn payloads(name: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{name}-{number}")).collect()
}
