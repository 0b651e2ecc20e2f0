//! Several nodes, a clock, and a network whose every message takes 0.5 ms and whose disks take 2 ms for a sync.
//!
//! After every event it checks what always holds: one leader in a term, equal committed logs, nothing committed lost.

use super::node::{Disk, Envelope, Node, options, with_witness};
use eventstream_core::id::{Index, NodeId, Term};
use eventstream_core::raft::{Change, ChangeError, LogPosition, Output, Rejected, Role, Transition};
use eventstream_core::time::{Duration, Instant};
use std::collections::{BTreeMap, BTreeSet};

const LATENCY: Duration = Duration::from_micros(500);
const SYNC: Duration = Duration::from_millis(2);

enum Event {
    Deliver(Envelope),
    Sync(u16),
}

pub struct World {
    pub now: Instant,
    pub sync: Duration,
    /// The first so many nodes are the first members.
    voters: u16,
    has_witness: bool,
    size: u16,
    nodes: BTreeMap<u16, Node>,
    disks: BTreeMap<u16, Disk>,
    events: BTreeMap<(Instant, u64), Event>,
    counter: u64,
    cuts: BTreeSet<(u16, u16)>,
    leaders: BTreeMap<Term, NodeId>,
    committed: Vec<Term>,
}

impl World {
    pub fn new(size: u16) -> Self {
        Self::with_disks((1..=size).map(|_| Disk::default()).collect())
    }

    /// So many members, and so many nodes that may be added.
    pub fn with_spare(voters: u16, spare: u16) -> Self {
        Self::with(voters, (0..voters + spare).map(|_| Disk::default()).collect())
    }

    /// Two data voters and a witness, which is number 3.
    pub fn with_witness() -> Self {
        let mut world = Self::with(0, Vec::new());
        (world.size, world.has_witness) = (3, true);
        world.disks = (1..=3).map(|node| (node, Disk::default())).collect();
        (1..=3).for_each(|node| world.start(node));
        world
    }

    /// A member for each disk.
    pub fn with_disks(disks: Vec<Disk>) -> Self {
        Self::with(disks.len() as u16, disks)
    }

    fn with(voters: u16, disks: Vec<Disk>) -> Self {
        let mut world = Self {
            voters,
            has_witness: false,
            now: Instant::ZERO,
            sync: SYNC,
            size: disks.len() as u16,
            nodes: BTreeMap::new(),
            disks: (1..).zip(disks).collect(),
            events: BTreeMap::new(),
            counter: 0,
            cuts: BTreeSet::new(),
            leaders: BTreeMap::new(),
            committed: Vec::new(),
        };
        (1..=world.size).for_each(|node| world.start(node));
        world
    }

    pub fn node(&mut self, node: u16) -> &mut Node {
        self.nodes.get_mut(&node).expect("it runs")
    }

    pub fn ref_node(&self, node: u16) -> &Node {
        &self.nodes[&node]
    }

    pub fn start(&mut self, node: u16) {
        let disk = self.disks.remove(&node).expect("it was stopped");
        let options = match self.has_witness {
            true => with_witness(node, self.counter),
            false => options(node, self.voters, self.counter),
        };
        self.nodes.insert(node, Node::new(options, disk, self.now));
        self.connect(node);
    }

    /// Stops a node like a power cut: its peers hear nothing.
    pub fn stop(&mut self, node: u16) {
        let stopped = self.nodes.remove(&node).expect("it runs");
        self.disks.insert(node, stopped.crash(0));
        self.events.retain(|_, event| !matches!(event, Event::Sync(of) if *of == node));
    }

    /// The disk of a node that was stopped.
    pub fn disk(&mut self, node: u16) -> &mut Disk {
        self.disks.get_mut(&node).expect("it was stopped")
    }

    /// Kills the process of a node: its peers are refused a moment later.
    pub fn kill(&mut self, node: u16) {
        self.stop(node);
        let now = self.now;
        for other in self.nodes.values_mut() {
            other.raft.handle_reset(now, NodeId(node));
            other.poll();
        }
        self.settle();
    }

    fn connect(&mut self, node: u16) {
        let now = self.now;
        let peers: Vec<u16> = self.nodes.keys().copied().filter(|&peer| peer != node).collect();
        for peer in peers {
            for (of, with) in [(peer, node), (node, peer)] {
                self.node(of).raft.handle_connected(now, NodeId(with));
                self.node(of).poll();
            }
        }
        self.settle();
    }

    /// Nothing gets through between these nodes and the others any more; nobody is told.
    pub fn cut_off(&mut self, nodes: &[u16]) {
        for of in 1..=self.size {
            for with in (1..=self.size).filter(|with| nodes.contains(&of) != nodes.contains(with)) {
                self.cuts.insert((of, with));
            }
        }
    }

    /// Nothing gets through from one node to another.
    pub fn cut(&mut self, from: u16, to: u16) {
        self.cuts.insert((from, to));
    }

    pub fn heal(&mut self) {
        self.cuts.clear();
    }

    /// The node that leads the highest term, if that is one of those that run.
    pub fn leader(&self) -> Option<u16> {
        let leads = |node: &&Node| node.raft.role() == Role::Leader;
        self.nodes.values().filter(leads).max_by_key(|node| node.raft.term()).map(|node| node.raft.node().0)
    }

    pub fn committed(&self) -> &[Term] {
        &self.committed
    }

    pub fn propose(&mut self, node: u16) -> Index {
        let now = self.now;
        let index = self.node(node).propose(now).index;
        self.settle();
        index
    }

    /// Has the leader `node` hand over to whom it likes, and says to whom.
    pub fn transfer(&mut self, node: u16) -> NodeId {
        let now = self.now;
        let successor = self.node(node).raft.transfer_leadership(now, None).expect("it leads");
        self.node(node).poll();
        self.settle();
        successor
    }

    /// Has the leader `node` change the members.
    pub fn change(
        &mut self,
        node: u16,
        changes: &[Change],
        transition: Transition,
    ) -> Result<LogPosition, ChangeError> {
        let now = self.now;
        let position = self.node(node).raft.propose_change(now, changes, transition)?;
        self.node(node).poll();
        self.settle();
        Ok(position)
    }

    /// Has the leader `node` end a joint configuration.
    pub fn leave_joint(&mut self, node: u16) -> Result<LogPosition, ChangeError> {
        let now = self.now;
        let position = self.node(node).raft.propose_leave_joint(now)?;
        self.node(node).poll();
        self.settle();
        Ok(position)
    }

    pub fn run_for(&mut self, millis: u64) {
        let until = self.now + Duration::from_millis(millis);
        while self.step(until) {}
        self.now = until;
    }

    /// Runs until `done`, and says how long that took. Fails after ten seconds of the world's time.
    pub fn run_until(&mut self, done: impl Fn(&Self) -> bool) -> Duration {
        let (start, limit) = (self.now, self.now + Duration::from_secs(10));
        while !done(self) {
            assert!(self.step(limit), "it does not happen within ten seconds");
        }
        self.now.saturating_since(start)
    }

    pub fn elect(&mut self) -> u16 {
        self.run_until(|world| world.leader().is_some());
        self.leader().unwrap()
    }

    /// Whether no node that runs is suspect.
    pub fn is_sound(&self) -> bool {
        !self.nodes.values().any(|node| node.raft.is_suspect())
    }

    /// Whether all members that run have told the same commit, and it is all that their logs hold.
    pub fn is_level(&self) -> bool {
        let Some(leader) = self.leader() else { return false };
        let configuration = self.nodes[&leader].raft.configuration();
        let members = self.nodes.values().filter(|node| configuration.duty_of(node.raft.node()).is_some());
        let mut logs = members.map(|node| (&node.log, node.committed));
        let first = logs.next().expect("a node runs");
        first.1 == first.0.len() && logs.all(|other| other == first)
    }

    /// Does the next thing, if it is due before `limit`.
    fn step(&mut self, limit: Instant) -> bool {
        let event = self.events.first_key_value().map_or(Instant::FAR_FUTURE, |(&(at, _), _)| at);
        let deadlines = self.nodes.iter().map(|(&id, node)| (node.raft.next_deadline(), id));
        let (deadline, sleeper) = deadlines.min().unwrap_or((Instant::FAR_FUTURE, 0));
        if event.min(deadline) > limit {
            return false;
        }
        self.now = self.now.max(event.min(deadline));
        let now = self.now;
        if deadline < event {
            self.node(sleeper).timeout(now);
        } else if let Some((_, event)) = self.events.pop_first() {
            self.happen(event);
        }
        self.settle();
        self.check();
        true
    }

    fn happen(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Sync(node) => {
                self.node(node).sync(now);
            }
            Event::Deliver(envelope) => {
                let (from, to) = (envelope.message.from.0, envelope.message.to.0);
                if let Some(node) = self.nodes.get_mut(&to).filter(|_| !self.cuts.contains(&(from, to))) {
                    let answer = node.receive(now, &envelope);
                    // Who was removed, and has not heard of it, is no peer.
                    assert!(matches!(answer, Ok(()) | Err(Rejected::NotAPeer { .. })), "an honest message: {answer:?}");
                }
            }
        }
    }

    /// Puts what the nodes sent and wrote on its way.
    fn settle(&mut self) {
        for (&id, node) in &mut self.nodes {
            for output in node.outputs.drain(..) {
                if let Output::Persist(_) = output {
                    self.counter += 1;
                    self.events.insert((self.now + self.sync, self.counter), Event::Sync(id));
                }
            }
            for envelope in node.sent.drain(..) {
                self.counter += 1;
                self.events.insert((self.now + LATENCY, self.counter), Event::Deliver(envelope));
            }
        }
    }

    fn check(&mut self) {
        for node in self.nodes.values() {
            if node.raft.role() == Role::Leader {
                let leader = *self.leaders.entry(node.raft.term()).or_insert(node.raft.node());
                assert_eq!(leader, node.raft.node(), "two leaders of {}", node.raft.term());
                assert!(node.log.starts_with(&self.committed), "a leader without what was committed");
            }
            let common = node.committed.min(self.committed.len());
            assert_eq!(node.log[..common], self.committed[..common], "committed logs differ");
            self.committed.extend_from_slice(&node.log[common..node.committed.max(common)]);
        }
    }
}
