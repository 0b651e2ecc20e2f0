//! The engine by itself: the test puts what comes in into its rings, takes out what goes out, and says when its storage
//! may write.

use super::*;
use crate::checksum::CRC;
use crate::config::{Key, Settings};
use crate::identity::init;
use crate::node::acks::{Request, Waiter};
use crate::node::event::{Command, ConnId, Role};
use crate::node::legal::payload;
use crate::node::mailbox::{COMMANDS, Sink, many_to_one, one_to_one};
use crate::node::memory::{CLIENT_INFLIGHT, OwnFrame, SharedFrame};
use crate::node::message::{SHARD, Scribe};
use crate::node::peers::Misstep;
use crate::node::reader::{Job, Purpose, ReadError};
use crate::node::state;
use crate::node::subscriptions::{Pace, Subscription};
use crate::storage::{Durability, LogStore, RocksStore, Row, Storage, StoreError};
use core::sync::atomic::{AtomicUsize, Ordering};
use core::task::{Context, Poll, Waker};
use eventstream_core::batch::{BatchBuilder, Source};
use eventstream_core::config::Parameters;
use eventstream_core::id::{Epoch, LogTime, Offset, ProducerId, Sequence, TopicId};
use eventstream_core::raft::{self, Body, HardState, LogPosition, Message};
use eventstream_core::replica;
use eventstream_core::wire::{
    About, Control, Counter, HEADER_LEN, Header, Kind, MAX_FRAME_LEN, OVERHEAD, Refusal, StatusRequest, peek, seal,
    stamp,
};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use tempfile::TempDir;

/// Steps after which an engine counts as broken, a millisecond apart.
const STEPS: usize = 20_000;
/// Whatever takes longer is broken. No test waits for it to pass.
const BROKEN: core::time::Duration = core::time::Duration::from_secs(20);

/// What writes have to pass.
#[derive(Default)]
struct Gate {
    gate: Mutex<()>,
    /// Writes that have come to it.
    came: AtomicUsize,
    /// The disk behind it is nearly full.
    is_disk_low: AtomicBool,
}

impl Gate {
    fn close(&self) -> MutexGuard<'_, ()> {
        self.gate.lock().expect("no panic")
    }

    fn pass(&self) -> MutexGuard<'_, ()> {
        self.came.fetch_add(1, Ordering::Relaxed);
        self.close()
    }
}

/// A store whose writes wait for the gate.
struct Gated {
    store: RocksStore,
    gate: Arc<Gate>,
}

impl LogStore for Gated {
    fn set_hard_state(&mut self, state: HardState) -> Result<(), StoreError> {
        self.store.set_hard_state(state)
    }

    fn truncate(&mut self, from: Index) -> Result<(), StoreError> {
        self.store.truncate(from)
    }

    fn append(&mut self, index: Index, frame: &[u8]) -> Result<(), StoreError> {
        self.store.append(index, frame)
    }

    fn put_row(&mut self, row: &Row<'_>) -> Result<(), StoreError> {
        self.store.put_row(row)
    }

    fn pending_bytes(&self) -> usize {
        self.store.pending_bytes()
    }

    fn commit(&mut self, durability: Durability) -> Result<(), StoreError> {
        let _open = self.gate.pass();
        self.store.commit(durability)
    }

    fn save_floor(&mut self) -> Result<(), StoreError> {
        self.store.save_floor()
    }

    fn is_disk_low(&self) -> bool {
        self.gate.is_disk_low.load(Ordering::Relaxed) || self.store.is_disk_low()
    }

    fn close(&mut self) -> Result<(), StoreError> {
        let _open = self.gate.pass();
        self.store.close()
    }
}

/// Node 1 of a cluster without its sockets.
struct Bench {
    engine: Engine,
    /// While the test holds it closed, nothing is written.
    gate: Arc<Gate>,
    from_clients: Sink<Event, EVENTS>,
    from_peers: Sink<Event, EVENTS>,
    to_clients: Inbox<Command, COMMANDS>,
    to_peers: Inbox<Command, COMMANDS>,
    asked: Arc<AtomicBool>,
    _directory: TempDir,
}

impl Bench {
    /// One of `size` nodes, whose log is what `prepare` writes.
    fn new(size: u16, prepare: impl FnOnce(&mut RocksStore)) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let address = |node| format!("127.0.0.1:{}", 9_000 + node).parse().expect("an address");
        let members: Vec<_> = (1..=size).map(|node| (NodeId(node), address(node))).collect();
        let dir = init(directory.path(), &members, Parameters::default()).expect("identities").remove(0);
        let settings = Settings::new().flag(Key::Dir, Some(dir.to_string_lossy().into_owned()));
        let config = settings.flag(Key::CheckpointMs, Some("60000".to_owned())).check().expect("a configuration");
        prepare(&mut storage::open(&dir, &config.identity).expect("a store").store);
        let opened = storage::open(&dir, &config.identity).expect("a store");

        let (clock, sleeper, asked) = (Clock::start(), Arc::<Notify>::default(), Arc::<AtomicBool>::default());
        let replica = state::restore(&config.identity, &opened, clock).expect("a replica");
        let bell = Arc::new(Bell::new(Arc::clone(&sleeper)));
        let (gate, pools) = (Arc::<Gate>::default(), Pools::new(&config));
        let gated = Gated { store: opened.store, gate: Arc::clone(&gate) };
        let storage = Storage::start(gated, clock, bell.doorbell(), bell.waker()).expect("a thread");
        let reader = Reader::start(opened.reader.clone(), &pools, bell.doorbell(), bell.waker()).expect("a thread");
        let (from_clients, client_events) = many_to_one(&bell);
        let (from_peers, peer_events) = many_to_one(&bell);
        let (client_commands, to_clients) = one_to_one(&Arc::default(), &sleeper);
        let (peer_commands, to_peers) = one_to_one(&Arc::default(), &sleeper);
        let counters = Arc::<Counters>::default();
        let engine = Engine::new(Parts {
            clock,
            journal: Journal::new(storage, pools.rows, replica.applied().index),
            replica,
            store: opened.reader,
            last: opened.stored.last.index,
            reader,
            from_clients: client_events,
            from_peers: peer_events,
            clients: Clients::new(client_commands, Scribe::new(pools.to_clients), Arc::clone(&counters)),
            peers: Peers::new(&config.identity, peer_commands, Scribe::new(pools.to_peers), Arc::clone(&counters)),
            pools,
            client_pool_bytes: config.client_pool_bytes,
            checkpoint_every: config.checkpoint,
            identity: Arc::new(config.identity),
            counters,
            bell,
            sleeper,
            asked: Arc::clone(&asked),
            notices: std::sync::mpsc::sync_channel(0).0,
        });
        Self { engine, gate, from_clients, from_peers, to_clients, to_peers, asked, _directory: directory }
    }

    /// A node alone in its cluster that leads, and has applied the empty entry of its term.
    fn alone() -> Self {
        let mut bench = Self::new(1, |_| {});
        bench.until(|engine| engine.applied() > Index::ZERO);
        bench
    }

    fn step(&mut self) -> Progress {
        self.engine.step().expect("the engine goes on")
    }

    /// Steps until something is so.
    fn until(&mut self, is_so: impl Fn(&Engine) -> bool) {
        let is_so = (0..STEPS).any(|_| {
            self.step();
            is_so(&self.engine) || {
                std::thread::sleep(core::time::Duration::from_millis(1));
                false
            }
        });
        assert!(is_so, "the engine is stuck");
    }

    /// The node is asked to stop.
    fn ask_to_stop(&self) {
        self.asked.store(true, Ordering::Release);
    }

    /// Stops the node in order.
    fn stop(mut self) {
        self.ask_to_stop();
        self.until(|engine| engine.stop.is_over());
        self.engine.finish().expect("no thread has failed");
    }

    /// Takes all room for rows. It comes back with what is returned, but for what is in use.
    fn take_row_room(&mut self) -> Vec<OwnFrame> {
        let blocks = core::iter::from_fn(|| self.engine.pools.rows.take()).collect();
        while self.engine.journal.has_room() {
            let row = Row::Topic { topic: TopicId(9_999), first_offset: Offset(0), index: Index(1), mask: 1 };
            self.engine.journal.row(&row);
        }
        blocks
    }

    /// Other nodes are connected in both directions.
    fn connect(&mut self, others: &[u16]) {
        for &node in others {
            at_once(self.from_peers.send(Event::Opened { conn: link(node), role: Role::Link(NodeId(node)) }));
            at_once(self.from_peers.send(Event::Opened { conn: inbound(node), role: Role::Inbound(NodeId(node)) }));
        }
        self.step();
    }

    /// Another node says something.
    fn hear(&mut self, from: u16, term: Term, body: Body) {
        self.hear_on(inbound(from), from, term, body);
    }

    /// The same on some connection.
    fn hear_on(&mut self, conn: ConnId, from: u16, term: Term, body: Body) {
        let incarnation = self.engine.identity.member(NodeId(from)).expect("a member").incarnation;
        let message = Message { from: NodeId(from), to: NodeId(1), incarnation, term, body };
        let mut bytes = self.engine.pools.peers.take().expect("a block");
        let len = Control::Peer(message).encode(SHARD, &mut bytes, CRC).expect("a good message");
        bytes.truncate(len);
        self.bring_on(conn, bytes);
    }

    /// Another node sends a frame.
    fn bring(&self, from: u16, bytes: OwnFrame) {
        self.bring_on(inbound(from), bytes);
    }

    fn bring_on(&self, conn: ConnId, bytes: OwnFrame) {
        at_once(self.from_peers.send(Event::Frame { conn, header: header(&bytes), runs: 0, bytes }));
    }

    /// A client connects.
    fn open(&self, slot: u16) -> ConnId {
        let conn = ConnId { slot, generation: 1 };
        at_once(self.from_clients.send(Event::Opened { conn, role: Role::Client }));
        conn
    }

    /// A client sends a batch with one event of the longest kind.
    fn publish(&self, conn: ConnId, number: u64) {
        let frame = long_batch(number);
        let mut bytes = self.engine.pools.clients.take().expect("a block");
        bytes.truncate(frame.len());
        bytes.copy_from_slice(&frame);
        at_once(self.from_clients.send(Event::Frame { conn, header: header(&bytes), runs: 1, bytes }));
    }

    /// A client sends what is no message, in a frame that is as it should be.
    fn say_nonsense(&self, conn: ConnId) {
        let mut bytes = self.engine.pools.clients.take().expect("a block");
        bytes[HEADER_LEN] = 0xEE;
        let sealed = Header::of(Kind::Subscribe, &bytes[HEADER_LEN..=HEADER_LEN], CRC);
        let len = seal(&mut bytes, &sealed, CRC);
        bytes.truncate(len);
        at_once(self.from_clients.send(Event::Frame { conn, header: header(&bytes), runs: 0, bytes }));
    }

    /// What was refused to clients since the last call, and `None` for every connection that is to be closed.
    fn refused(&mut self) -> Vec<Option<(About, Refusal)>> {
        let commands: Vec<Command> = core::iter::from_fn(|| self.to_clients.pop()).collect();
        self.to_clients.made_room();
        let refused = commands.iter().filter_map(|command| match command {
            Command::Send { frame, .. } => match Control::decode(header(frame).kind, payload(frame)) {
                Ok(Control::Refused(refused)) => Some(Some((refused.about, refused.reason))),
                _ => None,
            },
            Command::Close { .. } | Command::Cut { .. } => Some(None),
            Command::Mark { .. } | Command::Leave => None,
        });
        refused.collect()
    }

    /// What was counted since the start.
    fn counted(&self) -> Vec<(Counter, u64)> {
        let all = Counter::ALL.iter().map(|&counter| (counter, self.engine.counters.count(counter)));
        all.filter(|(_, count)| *count > 0).collect()
    }

    /// A client asks for the status.
    fn ask(&mut self, conn: ConnId) {
        let mut bytes = self.engine.pools.clients.take().expect("a block");
        let len = Control::StatusRequest(StatusRequest).encode(SHARD, &mut bytes, CRC).expect("a good message");
        bytes.truncate(len);
        at_once(self.from_clients.send(Event::Frame { conn, header: header(&bytes), runs: 0, bytes }));
    }

    /// What was said to other nodes since the last call.
    fn said(&mut self) -> Vec<Message> {
        let commands = core::iter::from_fn(|| self.to_peers.pop());
        let messages = commands.filter_map(|command| match command {
            Command::Send { frame, .. } if header(&frame).kind == Kind::Peer => {
                match Control::decode(Kind::Peer, payload(&frame)) {
                    Ok(Control::Peer(message)) => Some(message),
                    other => panic!("{other:?}"),
                }
            }
            _ => None,
        });
        let messages = messages.collect();
        self.to_peers.made_room();
        messages
    }

    /// Nodes 2 and 3 make it their leader. Gives its term.
    fn elect(&mut self) -> Term {
        self.connect(&[2, 3]);
        for _ in 0..STEPS {
            self.step();
            for Message { to, term, body, .. } in self.said() {
                match body {
                    // A new node asks as one that may have forgotten what it had promised.
                    Body::SuspectPreVote { start, .. } => self.hear(to.0, term, Body::PreVoteIfAll { start }),
                    Body::PreVote { .. } => self.hear(to.0, term, Body::PreVoteReply { granted: true }),
                    Body::Vote { .. } => self.hear(to.0, term, Body::VoteReply { granted: true, wall_us: 0 }),
                    _ => {}
                }
            }
            if self.engine.replica.raft().role() == raft::Role::Leader {
                return self.engine.replica.raft().term();
            }
            std::thread::sleep(core::time::Duration::from_millis(1));
        }
        panic!("it does not lead");
    }

    /// Proposes commands that nobody waits for.
    fn propose(&mut self, producers: core::ops::Range<u8>) {
        for name in producers {
            let producer = ProducerId([name; 16]);
            let waiter = Waiter { conn: STRANGER, request: Request::OpenProducer { request: 1, producer } };
            let command = replica::Command::OpenProducer { producer };
            self.engine.propose_command(waiter, &command).expect("it leads, and the window is open");
        }
        self.engine.act();
    }
}

/// A connection that is not there.
const STRANGER: ConnId = ConnId { slot: 999, generation: 1 };

fn link(node: u16) -> ConnId {
    ConnId { slot: node, generation: 1 }
}

fn inbound(node: u16) -> ConnId {
    ConnId { slot: 100 + node, generation: 1 }
}

fn header(frame: &[u8]) -> Header {
    peek(frame, CRC).expect("a good frame").expect("a whole header")
}

/// The frame of an empty entry.
fn empty(index: u64, term: u64) -> [u8; OVERHEAD] {
    let mut frame = [0; OVERHEAD];
    let header = Header { batch_id: index, term: Term(term), timestamp_us: index, ..Header::of(Kind::Empty, &[], CRC) };
    seal(&mut frame, &header, CRC);
    frame
}

/// A client's batch with one event of the longest kind, the producer's `number`-th.
fn long_batch(number: u64) -> Vec<u8> {
    let (producer, sequence) = (ProducerId([1; 16]), Sequence(number - 1));
    let source = Source::Producer { producer, epoch: Epoch(1), sequence, after_gap: false };
    let mut builder = BatchBuilder::new(vec![0; MAX_FRAME_LEN]);
    let payload = vec![1; eventstream_core::config::MAX_EVENT_PAYLOAD];
    let event = eventstream_core::batch::Event { topic: "t", source, time_us: 1, key: b"", payload: &payload };
    builder.push(&event).expect("it fits");
    let (mut frame, len) = builder.finish(SHARD, number, 1, CRC);
    frame.truncate(len);
    frame
}

/// The frame of an entry with one event of the longest kind.
fn batch(index: u64, term: u64) -> Vec<u8> {
    let mut frame = long_batch(index);
    stamp(&mut frame, Index(index), Term(term), LogTime(index), CRC);
    frame
}

/// Writes entries from the first on.
fn write<F: AsRef<[u8]>>(store: &mut RocksStore, entries: impl IntoIterator<Item = F>) {
    store.set_hard_state(HardState { term: Term(1), ..HardState::default() }).expect("a write");
    for (index, frame) in (1..).zip(entries) {
        store.append(Index(index), frame.as_ref()).expect("a write");
    }
    store.commit(Durability::Synced).expect("a write");
}

/// The outcome of what is ready.
fn at_once<F: Future>(future: F) -> F::Output {
    match core::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits"),
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime")
}

#[test]
fn a_reader_that_panics_ends_the_node() {
    let mut bench = Bench::new(1, |_| {});
    let impossible = Job::Entries { purpose: Purpose::Replay, first: Index(9), last: Index(1) };
    assert!(bench.engine.read(impossible));
    let ended = runtime().block_on(async { tokio::time::timeout(BROKEN, bench.engine.run()).await });
    assert!(matches!(ended, Ok(Err(NodeError::Read(ReadError::Panicked)))), "{ended:?}");
}

#[test]
fn an_engine_that_waits_for_storage_to_close_sleeps() {
    let mut bench = Bench::alone();
    let gate = Arc::clone(&bench.gate);
    let closed = gate.close();
    bench.ask_to_stop();
    at_once(bench.from_clients.send(Event::Sent { conn: STRANGER, bytes: 1 }));
    at_once(bench.from_peers.send(Event::Sent { conn: STRANGER, bytes: 1 }));
    bench.until(|engine| engine.stop.is_closing());
    assert_eq!(bench.step(), Progress::Idle, "what comes from sockets is not taken any more");
    assert_eq!(bench.engine.next_deadline(), Instant::FAR_FUTURE, "nothing is due any more");
    drop(closed);
    bench.stop();
}

#[test]
fn without_room_for_a_last_checkpoint_a_node_stops_as_well() {
    let mut bench = Bench::alone();
    // More rows than are left room for below.
    bench.propose(0..64);
    bench.until(|engine| engine.applied() > Index(64));
    let taken = bench.take_row_room();
    bench.ask_to_stop();
    bench.step();
    drop(taken);
    bench.stop();
}

#[test]
fn a_leader_whose_storage_takes_nothing_more_hears_and_leads_on() {
    let mut bench = Bench::new(3, |_| {});
    let term = bench.elect();
    // The first append to each is answered, so that more than one may be under way.
    bench.step();
    [2, 3].into_iter().for_each(|node| bench.hear(node, term, Body::AppendAccepted { matched: Index(1) }));
    bench.step();
    let gate = Arc::clone(&bench.gate);
    let closed = gate.close();
    // Storage waits with the first write, and each of the others that may be open is of many entries.
    let came = gate.came.load(Ordering::Relaxed);
    bench.propose(0..1);
    bench.until(|_| gate.came.load(Ordering::Relaxed) > came);
    (0..40).for_each(|_| bench.propose(0..64));
    bench.step();
    assert!(bench.engine.journal.is_blocked(), "the ring to storage is full");
    let sent = bench.said().into_iter().filter(|message| message.to == NodeId(2));
    let matched = sent.filter_map(|message| match message.body {
        Body::Append { prev, count, .. } => Some(prev.index.plus(count.into())),
        _ => None,
    });
    let matched = matched.max().expect("entries were sent");
    [2, 3].into_iter().for_each(|node| bench.hear(node, term, Body::AppendAccepted { matched }));
    bench.step();
    assert_eq!(bench.engine.replica.raft().commit(), matched, "the others have it on disk");
    let has_beaten = (0..STEPS).any(|_| {
        std::thread::sleep(core::time::Duration::from_millis(1));
        bench.step();
        bench.said().iter().any(|message| matches!(message.body, Body::Heartbeat { .. }))
    });
    assert!(has_beaten, "a heartbeat does not wait for storage");
    assert!(bench.engine.journal.is_blocked(), "the ring to storage is still full");
    drop(closed);
    bench.stop();
}

#[test]
fn what_memory_had_to_let_go_of_is_read_again_as_it_is_by_then() {
    let mut bench = Bench::new(3, |store| write(store, (1..=10).map(|index| empty(index, 1))));
    bench.connect(&[2]);
    let gate = Arc::clone(&bench.gate);
    let closed = gate.close();
    // A new leader replaces entries 6 to 10, and says that all of its own are committed.
    let prev = LogPosition { index: Index(5), term: Term(1) };
    bench.hear(2, Term(2), Body::Append { prev, count: 3, commit: Index(8) });
    for index in 6..=8 {
        let mut bytes = bench.engine.pools.peers.take().expect("a block");
        bytes[..OVERHEAD].copy_from_slice(&empty(index, 2));
        bytes.truncate(OVERHEAD);
        bench.bring(2, bytes);
    }
    // The engine has what came before read from disk, where the old entries still are.
    bench.step();
    let taken = bench.take_row_room();
    while !bench.engine.reader.has_piece() {
        std::thread::sleep(core::time::Duration::from_millis(1));
    }
    bench.step();
    // The new ones are written, and go from memory before they can be applied.
    let scarce: Vec<OwnFrame> = core::iter::from_fn(|| bench.engine.pools.clients.take()).collect();
    drop(closed);
    bench.until(|engine| engine.replica.raft().durable() == Index(8));
    assert_eq!((bench.engine.tail.first(), bench.engine.applied()), (None, Index::ZERO));
    drop((taken, scarce));
    bench.until(|engine| engine.applied() == Index(8));
    assert_eq!(bench.engine.replica.applied(), LogPosition { index: Index(8), term: Term(2) });
    bench.stop();
}

#[test]
fn subscribers_that_do_not_read_keep_no_node_from_applying_its_log() {
    let entries = 200;
    let mut bench = Bench::new(1, |store| write(store, (1..=entries).map(|index| batch(index, 1))));
    for slot in 0..4 {
        let conn = ConnId { slot, generation: 1 };
        at_once(bench.from_clients.send(Event::Opened { conn, role: Role::Client }));
        bench.engine.subscriptions.add(Subscription {
            conn,
            number: 1,
            name: "t".into(),
            topic: Some(TopicId(0)),
            next: Offset(0),
            goal: None,
            pace: Pace::Live,
            ticket: 0,
        });
    }
    bench.until(|engine| engine.applied() >= Index(entries));
    assert_eq!(bench.engine.replica.events(), entries);
    bench.stop();
}

#[test]
fn clients_that_do_not_read_leave_memory_for_answers_to_one_that_does() {
    const ROUNDS: usize = 2_000;
    let mut bench = Bench::alone();
    let client = |slot| ConnId { slot, generation: 1 };
    // What each of them has been sent and does not read. All of it is more than there is room for.
    let mut deaf: BTreeMap<u16, Vec<SharedFrame>> = (0..60).map(|slot| (slot, Vec::new())).collect();
    let (reader, mut answers) = (client(60), 0);
    for slot in 0..=60 {
        at_once(bench.from_clients.send(Event::Opened { conn: client(slot), role: Role::Client }));
    }
    for _ in 0..ROUNDS {
        deaf.keys().for_each(|&slot| bench.ask(client(slot)));
        bench.ask(reader);
        bench.step();
        while let Some(command) = bench.to_clients.pop() {
            match command {
                Command::Send { conn, frame } if conn == reader => {
                    answers += usize::from(header(&frame).kind == Kind::Status)
                }
                Command::Send { conn, frame } => deaf.get_mut(&conn.slot).expect("it is open").push(frame),
                Command::Mark { conn, bytes } if conn == reader => {
                    at_once(bench.from_clients.send(Event::Sent { conn, bytes }));
                }
                Command::Mark { .. } | Command::Leave => {}
                Command::Cut { conn } | Command::Close { conn } => {
                    assert!(deaf.remove(&conn.slot).is_some(), "connection {conn:?} is closed, and it reads");
                    at_once(bench.from_clients.send(Event::Closed { conn }));
                }
            }
        }
        bench.to_clients.made_room();
    }
    assert_eq!(answers, ROUNDS);
    assert!(deaf.len() < 60, "some had to go");
    bench.stop();
}

#[test]
fn what_lies_behind_the_frame_that_cost_a_client_its_connection_is_not_heard() {
    let mut bench = Bench::alone();
    let conn = bench.open(0);
    bench.step();
    bench.refused();
    bench.say_nonsense(conn);
    bench.say_nonsense(conn);
    bench.publish(conn, 1);
    let proposed = bench.engine.tail.end();
    bench.step();
    assert_eq!(bench.refused(), [Some((About::Connection, Refusal::Malformed)), None], "told once, closed once");
    assert_eq!(bench.counted(), [(Counter::MessageMalformed, 1)]);
    assert_eq!(bench.engine.tail.end(), proposed, "nothing was proposed");
    bench.stop();
}

#[test]
fn what_lies_behind_the_message_that_cost_a_node_its_connection_is_not_obeyed() {
    let heartbeat = |term| (Term(term), Body::Heartbeat { commit: Index(0), round: 1 });
    for (misstep, counter) in [(Misstep::Impostor, Counter::PeerImpostor), (Misstep::OutOfStep, Counter::PeerOutOfStep)]
    {
        let mut bench = Bench::new(3, |_| {});
        bench.connect(&[2]);
        let term = bench.engine.replica.raft().term();
        let misstep = |bench: &mut Bench| match misstep {
            // On node 2's connection node 3 says something, or an entry comes that nothing announces.
            Misstep::Impostor => {
                let (term, body) = heartbeat(7);
                bench.hear_on(inbound(2), 3, term, body);
            }
            Misstep::OutOfStep => {
                let mut bytes = bench.engine.pools.peers.take().expect("a block");
                bytes[..OVERHEAD].copy_from_slice(&empty(5, 2));
                bytes.truncate(OVERHEAD);
                bench.bring(2, bytes);
            }
        };
        misstep(&mut bench);
        misstep(&mut bench);
        let (of_leader, body) = heartbeat(9);
        bench.hear(2, of_leader, body);
        misstep(&mut bench);
        bench.step();
        assert_eq!(bench.counted(), [(counter, 1)], "one connection, one misstep");
        assert_eq!(bench.engine.replica.raft().term(), term, "the good message between them is not obeyed");
        let closed = core::iter::from_fn(|| bench.to_peers.pop());
        let closed = closed.filter(|command| matches!(command, Command::Close { conn } if *conn == inbound(2)));
        assert_eq!(closed.count(), 1);
        bench.stop();
    }
}

#[test]
fn each_batch_beyond_what_a_client_may_have_unanswered_is_refused_and_counted() {
    let mut bench = Bench::alone();
    let gate = Arc::clone(&bench.gate);
    let closed = gate.close();
    let conn = bench.open(0);
    let fit = u64::from(CLIENT_INFLIGHT) / long_batch(1).len() as u64;
    (1..=fit + 3).for_each(|number| bench.publish(conn, number));
    bench.step();
    let expected: Vec<_> = (fit + 1..=fit + 3).map(|number| Some((About::Batch(number), Refusal::Busy))).collect();
    assert_eq!(bench.refused(), expected);
    assert_eq!(bench.counted(), [(Counter::Busy, 3)]);
    drop(closed);
    bench.stop();
}

#[test]
fn a_batch_that_is_not_durable_in_time_has_an_unknown_outcome_once() {
    let mut bench = Bench::alone();
    let gate = Arc::clone(&bench.gate);
    let closed = gate.close();
    let conn = bench.open(0);
    bench.publish(conn, 1);
    bench.publish(conn, 2);
    bench.step();
    assert_eq!((bench.refused(), bench.counted()), (Vec::new(), Vec::new()), "it is waited for");
    for _ in 0..2 {
        bench.engine.now += CLIENT_PATIENCE;
        bench.engine.expire_requests();
    }
    bench.engine.flush();
    assert_eq!(bench.refused(), [1, 2].map(|number| Some((About::Batch(number), Refusal::OutcomeUnknown))));
    assert_eq!(bench.counted(), [(Counter::OutcomeUnknown, 2)]);
    drop(closed);
    bench.stop();
}

#[test]
fn a_leader_that_stops_takes_nothing_new_and_tells_who_waits_where_to_go() {
    let mut bench = Bench::new(3, |_| {});
    let term = bench.elect();
    bench.step();
    [2, 3].into_iter().for_each(|node| bench.hear(node, term, Body::AppendAccepted { matched: Index(1) }));
    let conn = bench.open(0);
    bench.publish(conn, 1);
    bench.step();
    bench.ask_to_stop();
    bench.publish(conn, 2);
    bench.step();
    assert_eq!(bench.refused(), [Some((About::Batch(2), Refusal::Stopping))]);
    assert_eq!(bench.counted(), [(Counter::Stopping, 1)]);
    bench.hear(2, Term(term.0 + 1), Body::Heartbeat { commit: Index(0), round: 1 });
    bench.step();
    let elsewhere = Refusal::NotLeader { term: Term(term.0 + 1), leader: Some(NodeId(2)) };
    assert_eq!(bench.refused(), [Some((About::Batch(1), elsewhere))]);
    assert_eq!(bench.counted(), [(Counter::NotLeader, 1), (Counter::Stopping, 1)]);
    bench.stop();
}

#[test]
fn what_is_under_way_when_a_node_alone_stops_is_refused_and_counted() {
    let mut bench = Bench::alone();
    let gate = Arc::clone(&bench.gate);
    let closed = gate.close();
    let conn = bench.open(0);
    bench.publish(conn, 1);
    bench.step();
    bench.ask_to_stop();
    bench.step();
    assert_eq!(bench.refused(), [Some((About::Batch(1), Refusal::Stopping))]);
    assert_eq!(bench.counted(), [(Counter::Stopping, 1)]);
    drop(closed);
    bench.stop();
}

#[test]
fn while_the_disk_is_low_each_batch_and_request_for_it_is_refused_and_counted() {
    let mut bench = Bench::alone();
    bench.gate.is_disk_low.store(true, Ordering::Relaxed);
    bench.until(|engine| engine.journal.is_disk_low());
    let conn = bench.open(0);
    bench.publish(conn, 1);
    bench.publish(conn, 2);
    bench.ask(conn);
    bench.step();
    assert_eq!(bench.refused(), [1, 2].map(|number| Some((About::Batch(number), Refusal::DiskLow))));
    assert_eq!(bench.counted(), [(Counter::DiskLow, 2)]);
    bench.stop();
}
