//! Members on disks and a network that do at once what they are told; what a test cuts, stays cut until it heals it.
#![allow(dead_code, reason = "each test file uses its part")]

use eventstream_core::batch::{BatchBuilder, Event, Source};
use eventstream_core::config::Parameters;
use eventstream_core::crc::Crc32;
use eventstream_core::dedup::ProducerSlot;
use eventstream_core::id::{Epoch, Incarnation, Index, LogTime, NodeId, ProducerId, Sequence, ShardId, Term};
use eventstream_core::raft::{
    Configuration, EntryMeta, Faults, HardState, LogPosition, LogView, MAX_CONFIGURATION_LEN, Member, Message, Persist,
    Placed, ProposeError, RaftOptions, Role, Taken,
};
use eventstream_core::receipt::RunReceipt;
use eventstream_core::replica::{
    Command, CommandOutcome, Entry, Lent, MAX_COMMAND_LEN, MAX_ROW_LEN, Options, Outcomes, Output, Replica,
    RestoredLog, Restoring, RowKey, Stamp, TopicSlice, TopicSlot,
};
use eventstream_core::time::{Duration, Instant};
use eventstream_core::wire::{Batch, Frame, Header, Kind, MAX_FRAME_LEN, OVERHEAD, seal, stamp};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub(crate) const CRC: Crc32 = Crc32::portable();
pub(crate) const PARAMETERS: Parameters =
    Parameters { producers: 8, topics: 4, event_payload: 1_000, producer_idle_us: 1_000_000 };

type HostReplica = Replica<Lent<Box<[ProducerSlot]>, Box<[TopicSlot]>>>;

/// The frames of the log. Entry `n` lies at `n - 1`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Log {
    pub(crate) frames: Vec<Vec<u8>>,
}

impl Log {
    pub(crate) fn frame(&self, index: Index) -> Frame<'_> {
        Frame::check(&self.frames[index.0 as usize - 1], CRC).unwrap()
    }

    fn put(&mut self, frame: Vec<u8>) {
        let index = Frame::check(&frame, CRC).unwrap().header().index().0 as usize;
        self.frames.truncate(index - 1);
        self.frames.push(frame);
        assert_eq!(self.frames.len(), index, "a log has no holes");
    }

    fn last(&self) -> RestoredLog {
        let last = Index(self.frames.len() as u64);
        let header = (last > Index::ZERO).then(|| *self.frame(last).header());
        RestoredLog {
            hard_state: HardState::default(),
            last: header.map_or(LogPosition::default(), |header| LogPosition { index: last, term: header.term }),
            last_log_time: header.map_or(LogTime::ZERO, |header| header.log_time()),
            suspect: false,
            ..RestoredLog::default()
        }
    }
}

impl LogView for Log {
    fn term(&self, index: Index) -> Option<Term> {
        self.frames.get((index.0 as usize).checked_sub(1)?)?;
        Some(self.frame(index).header().term)
    }
}

/// What became of an entry, kept.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Applied {
    pub(crate) mask: u64,
    pub(crate) runs: Vec<RunReceipt>,
    pub(crate) topics: Vec<TopicSlice>,
    pub(crate) command: Option<CommandOutcome>,
}

/// One member and its disk.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) replica: HostReplica,
    pub(crate) log: Log,
    pub(crate) rows: BTreeMap<RowKey, Vec<u8>>,
    pub(crate) outcomes: BTreeMap<u64, Applied>,
    /// Everything that the replica has given out, in words.
    pub(crate) journal: Vec<String>,
    hard_state: HardState,
    options: Options,
    /// How far this node's monotonic clock is ahead of the test's.
    clock_ahead: Duration,
    /// What its wall clock showed at the test's beginning; zero if it has none.
    wall_at_start: u64,
}

pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    pub(crate) now: Instant,
    network: VecDeque<(Message, Vec<Vec<u8>>)>,
    isolated: BTreeSet<NodeId>,
}

pub(crate) fn options(node: u16, of: u16, faults: Faults) -> Options {
    let incarnation = |node: u16| Incarnation([node as u8; 16]);
    let members: Vec<_> = (1..=of).map(|node| Member { node: NodeId(node), incarnation: incarnation(node) }).collect();
    Options {
        raft: RaftOptions {
            node: NodeId(node),
            incarnation: incarnation(node),
            membership: Configuration::new(&members).unwrap().into(),
            seed: 1_000 + u64::from(node),
            is_witness: false,
            faults,
        },
        parameters: PARAMETERS,
    }
}

pub(crate) fn memory() -> Lent<Box<[ProducerSlot]>, Box<[TopicSlot]>> {
    Lent {
        producers: vec![ProducerSlot::EMPTY; PARAMETERS.producers as usize].into(),
        topics: vec![TopicSlot::EMPTY; PARAMETERS.topics as usize].into(),
    }
}

/// The frame of a batch as a client sends it: consecutive events of one producer.
pub(crate) fn batch(topic: &str, producer: u8, epoch: u32, first: u64, count: u64) -> Vec<u8> {
    let mut builder = BatchBuilder::new(vec![0; MAX_FRAME_LEN]);
    for sequence in first..first + count {
        let source = Source::Producer {
            producer: ProducerId([producer; 16]),
            epoch: Epoch(epoch),
            sequence: Sequence(sequence),
            after_gap: false,
        };
        let payload = sequence.to_le_bytes();
        builder.push(&Event { topic, source, time_us: 1, key: b"key", payload: &payload }).unwrap();
    }
    let (mut buffer, len) = builder.finish(ShardId(0), 0, 0, CRC);
    buffer.truncate(len);
    buffer
}

fn entry_frame(kind: Kind, payload: &[u8], stamp: Stamp) -> Vec<u8> {
    let mut frame = vec![0; payload.len() + OVERHEAD];
    frame[OVERHEAD - 8..][..payload.len()].copy_from_slice(payload);
    let header = Header {
        batch_id: stamp.position.index.0,
        term: stamp.position.term,
        timestamp_us: stamp.log_time.0,
        ..Header::of(kind, payload, CRC)
    };
    seal(&mut frame, &header, CRC);
    frame
}

impl Node {
    fn new(options: Options, now: Instant) -> Self {
        let replica = Restoring::new(options.clone(), memory()).unwrap().start(RestoredLog::default(), now).unwrap();
        Self {
            replica,
            log: Log::default(),
            rows: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            journal: Vec::new(),
            hard_state: HardState::default(),
            options,
            clock_ahead: Duration::ZERO,
            wall_at_start: 0,
        }
    }

    pub(crate) fn is_leader(&self) -> bool {
        self.replica.raft().role() == Role::Leader
    }

    /// Writes what has changed since the last checkpoint.
    pub(crate) fn checkpoint(&mut self) {
        let mut buffer = [0; MAX_ROW_LEN];
        while let Some(row) = self.replica.poll_row(&mut buffer) {
            self.rows.insert(row.key, buffer[..row.len].to_vec());
        }
    }

    fn clock(&self, now: Instant) -> Instant {
        now + self.clock_ahead
    }

    fn persist(&mut self, now: Instant, write: Persist) {
        self.hard_state = write.hard_state.unwrap_or(self.hard_state);
        // Frames are kept from when they come, so there is nothing to be truncated or appended any more.
        let end = write.append.map_or(0, |(_, last)| last.0 as usize);
        assert!(self.log.frames.len() >= end, "the host has the frames of what is to be written");
        self.replica.handle_persisted(self.clock(now), write.token);
    }

    fn apply(&mut self, first: Index, last: Index) {
        let mut outcomes = Outcomes::new();
        for index in first.0..=last.0 {
            let frame = self.log.frame(Index(index));
            self.replica.apply(&Entry::from(&frame), &mut outcomes).unwrap();
            let applied = Applied {
                mask: outcomes.accepted_mask(),
                runs: outcomes.runs().to_vec(),
                topics: outcomes.topics().to_vec(),
                command: outcomes.command(),
            };
            assert_eq!(self.outcomes.insert(index, applied), None, "an entry is applied once");
        }
    }

    fn receive(&mut self, now: Instant, message: &Message, frames: Vec<Vec<u8>>) {
        let metas: Vec<_> = frames
            .iter()
            .map(|frame| {
                let header = *Frame::check(frame, CRC).unwrap().header();
                EntryMeta { index: header.index(), term: header.term, log_time: header.log_time() }
            })
            .collect();
        let configurations: Vec<_> = frames
            .iter()
            .map(|frame| Frame::check(frame, CRC).unwrap())
            .filter(|frame| frame.header().kind == Kind::Configuration)
            .map(|frame| Placed {
                index: frame.header().index(),
                configuration: Configuration::decode(frame.payload()).unwrap(),
            })
            .collect();
        let now = self.clock(now);
        let taken = self.replica.handle_message(now, message, &metas, &configurations, &self.log).unwrap();
        let Taken::Entries { first, last } = taken else { return };
        for (frame, meta) in frames.into_iter().zip(metas) {
            if (first..=last).contains(&meta.index) {
                self.log.put(frame);
            }
        }
    }
}

impl Cluster {
    pub(crate) fn new(size: u16) -> Self {
        Self::with_faults(size, Faults::NONE)
    }

    pub(crate) fn with_faults(size: u16, faults: Faults) -> Self {
        let nodes = (1..=size).map(|node| Node::new(options(node, size, faults), Instant::ZERO)).collect();
        let mut cluster = Self { nodes, now: Instant::ZERO, network: VecDeque::new(), isolated: BTreeSet::new() };
        for at in 0..cluster.nodes.len() {
            cluster.connect(at);
        }
        cluster
    }

    /// Sets the clocks of a node that has not begun to do anything.
    pub(crate) fn set_clocks(&mut self, node: usize, clock_ahead: Duration, wall_at_start: u64) {
        let size = self.nodes.len() as u16;
        self.nodes[node] = Node::new(options(node as u16 + 1, size, Faults::NONE), Instant::ZERO + clock_ahead);
        (self.nodes[node].clock_ahead, self.nodes[node].wall_at_start) = (clock_ahead, wall_at_start);
        self.connect(node);
    }

    /// Does all there is to do without time passing.
    pub(crate) fn settle(&mut self) {
        loop {
            for at in 0..self.nodes.len() {
                self.drain(at);
            }
            let Some((message, frames)) = self.network.pop_front() else { return };
            if !self.isolated.contains(&message.from) && !self.isolated.contains(&message.to) {
                self.nodes[usize::from(message.to.0) - 1].receive(self.now, &message, frames);
            }
        }
    }

    /// Lets this much time pass.
    pub(crate) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        self.settle();
        while self.now < end {
            self.now += Duration::from_millis(1);
            for node in &mut self.nodes {
                let now = node.clock(self.now);
                if node.wall_at_start > 0 {
                    node.replica.set_wall_clock(now, node.wall_at_start + self.now.as_micros());
                }
                if node.replica.next_deadline() <= now {
                    node.replica.handle_timeout(now);
                }
            }
            self.settle();
        }
    }

    /// Runs until a node that is not cut off leads, and has applied the first entry of its term.
    pub(crate) fn elect(&mut self) -> usize {
        for _ in 0..5_000 {
            let leader = (0..self.nodes.len()).find(|&at| {
                let (raft, applied) = (self.nodes[at].replica.raft(), self.nodes[at].replica.applied());
                !self.isolated.contains(&raft.node()) && raft.role() == Role::Leader && applied.term == raft.term()
            });
            if let Some(leader) = leader {
                return leader;
            }
            self.run(Duration::from_millis(1));
        }
        panic!("nobody was elected");
    }

    pub(crate) fn isolate(&mut self, node: usize) {
        self.isolated.insert(NodeId(node as u16 + 1));
        for other in 0..self.nodes.len() {
            if other != node {
                self.disconnect(other, node);
                self.disconnect(node, other);
            }
        }
    }

    pub(crate) fn heal(&mut self, node: usize) {
        self.isolated.remove(&NodeId(node as u16 + 1));
        self.connect(node);
    }

    /// A batch enters the log of a leader; it is not replicated yet.
    pub(crate) fn propose(&mut self, node: usize, mut frame: Vec<u8>) -> Result<Index, ProposeError> {
        let node = &mut self.nodes[node];
        let proposed = Frame::check(&frame, CRC).unwrap();
        let checked = Batch::check(proposed.payload(), proposed.header().event_count).unwrap();
        let Stamp { position, log_time } = node.replica.propose_batch(node.clock(self.now), &checked)?;
        stamp(&mut frame, position.index, position.term, log_time, CRC);
        node.log.put(frame);
        Ok(position.index)
    }

    /// A batch enters the log of a leader and is applied everywhere. Returns what became of it.
    pub(crate) fn publish(&mut self, node: usize, frame: Vec<u8>) -> Applied {
        let index = self.propose(node, frame).unwrap();
        self.settle();
        self.nodes[node].outcomes[&index.0].clone()
    }

    pub(crate) fn command(&mut self, node: usize, command: Command) -> Applied {
        let member = &mut self.nodes[node];
        let stamp = member.replica.propose_command(member.clock(self.now), &command).unwrap();
        let mut payload = [0; MAX_COMMAND_LEN];
        let len = command.encode(&mut payload);
        member.log.put(entry_frame(Kind::Command, &payload[..len], stamp));
        self.settle();
        self.nodes[node].outcomes[&stamp.position.index.0].clone()
    }

    /// The process dies and comes back with what its disk holds.
    pub(crate) fn restart(&mut self, node: usize) {
        self.isolate(node);
        let old = &mut self.nodes[node];
        let mut restoring = Restoring::new(old.options.clone(), memory()).unwrap();
        for (key, value) in &old.rows {
            restoring.restore_row(*key, value).unwrap();
        }
        let log = RestoredLog { hard_state: old.hard_state, ..old.log.last() };
        old.replica = restoring.start(log, old.clock(self.now)).unwrap();
        let applied = old.replica.applied().index.0;
        old.outcomes.retain(|&index, _| index <= applied);
        self.heal(node);
    }

    /// The process dies, and its wall clock shows something else when it comes back.
    pub(crate) fn restart_with_wall(&mut self, node: usize, wall: u64) {
        self.nodes[node].wall_at_start = wall;
        self.restart(node);
    }

    /// What a node's monotonic clock shows.
    pub(crate) fn node_clock(&self, node: usize) -> Instant {
        self.nodes[node].clock(self.now)
    }

    /// The log times of a node's log, in order.
    pub(crate) fn log_times(&self, node: usize) -> Vec<u64> {
        let log = &self.nodes[node].log;
        (1..=log.frames.len() as u64).map(|index| log.frame(Index(index)).header().timestamp_us).collect()
    }

    /// All nodes have applied the same entries, with the same outcomes, and are in the same state.
    pub(crate) fn assert_alike(&self) {
        let first = &self.nodes[0];
        for node in &self.nodes[1..] {
            assert_eq!(node.log, first.log);
            assert_eq!(node.replica.applied(), first.replica.applied());
            assert_eq!(node.replica.state_hash(), first.replica.state_hash());
            for (index, outcome) in &node.outcomes {
                assert_eq!(first.outcomes.get(index).unwrap_or(outcome), outcome);
            }
        }
    }

    fn drain(&mut self, at: usize) {
        let now = self.now;
        let node = &mut self.nodes[at];
        while let Some(output) = node.replica.poll_output(&node.log) {
            node.journal.push(format!("{output:?}"));
            match output {
                Output::AppendConfiguration(stamp) => {
                    let mut buffer = [0; MAX_CONFIGURATION_LEN];
                    let len = node.replica.raft().configuration().encode(&mut buffer);
                    node.log.put(entry_frame(Kind::Configuration, &buffer[..len], stamp));
                }
                Output::AppendEmpty(stamp) => node.log.put(entry_frame(Kind::Empty, &[], stamp)),
                Output::Persist(write) => node.persist(now, write),
                Output::Apply { first, last } => node.apply(first, last),
                Output::Send(message) => {
                    let range = match message.body {
                        eventstream_core::raft::Body::Append { prev, count, .. } => {
                            prev.index.0 as usize..prev.index.0 as usize + usize::from(count)
                        }
                        _ => 0..0,
                    };
                    self.network.push_back((message, node.log.frames[range].to_vec()));
                }
                Output::InstallSnapshot(last) => unreachable!("a snapshot as of {last:?}: every log is whole"),
                Output::Leader { .. } | Output::ReadIndex { .. } => {}
            }
        }
    }

    fn connect(&mut self, node: usize) {
        for other in (0..self.nodes.len()).filter(|&other| other != node) {
            for (at, peer) in [(node, other), (other, node)] {
                let member = &mut self.nodes[at];
                member.replica.handle_connected(member.clock(self.now), NodeId(peer as u16 + 1));
            }
        }
    }

    fn disconnect(&mut self, node: usize, peer: usize) {
        let member = &mut self.nodes[node];
        member.replica.handle_disconnected(member.clock(self.now), NodeId(peer as u16 + 1));
    }
}
