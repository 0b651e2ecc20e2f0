//! Raft under random schedules: messages lost, repeated and reordered, writes slow, crashes that lose what was not
//! synced. What must always hold is checked after every step. (The simulator does the same to the whole replica.)

mod raft_net;

use eventstream_core::id::{NodeId, Term};
use eventstream_core::raft::{Faults, Output, Persist, RaftOptions, Rejected, Role};
use eventstream_core::time::{Duration, Instant};
use raft_net::{Disk, Envelope, Node, options};
use std::collections::BTreeMap;

/// `SplitMix64`.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % sides
    }
}

#[derive(Default, Debug)]
struct Counts {
    elections: usize,
    commits: usize,
    crashes: usize,
    lost: usize,
    repeated: usize,
    truncations: usize,
    late_reports: usize,
    cuts: usize,
}

struct Chaos {
    dice: Dice,
    faults: Faults,
    now: Instant,
    nodes: Vec<Node>,
    flying: Vec<Envelope>,
    leaders: BTreeMap<Term, NodeId>,
    committed: Vec<Term>,
    counts: Counts,
    /// One in so many messages is lost, and one is repeated.
    loss: u64,
    /// So many steps in a hundred are a crash.
    unrest: u64,
    /// This node hears nothing and is not heard.
    cut_off: Option<NodeId>,
}

impl Chaos {
    fn new(seed: u64, faults: Faults) -> Self {
        let mut dice = Dice(seed);
        let size = [1, 2, 3, 3, 3, 4, 5][dice.roll(7) as usize];
        let loss = [10, 100, 1_000_000][dice.roll(3) as usize];
        let unrest = [0, 1, 1, 5][dice.roll(4) as usize];
        let node =
            |id: u16| Node::new(RaftOptions { faults, ..options(id, size, seed) }, Disk::default(), Instant::ZERO);
        Self {
            dice,
            faults,
            now: Instant::ZERO,
            nodes: (1..=size).map(node).collect(),
            flying: Vec::new(),
            leaders: BTreeMap::new(),
            committed: Vec::new(),
            counts: Counts::default(),
            loss,
            unrest,
            cut_off: None,
        }
    }

    fn step(&mut self) {
        let place = self.dice.roll(self.nodes.len() as u64) as usize;
        let now = self.now;
        match self.dice.roll(100) {
            0..45 => self.deliver(),
            45..65 => {
                if self.nodes[place].sync(now) && self.nodes[place].open_writes() > 0 {
                    self.counts.late_reports += 1;
                }
            }
            65..80 => {
                if self.nodes[place].raft.role() == Role::Leader {
                    self.nodes[place].propose(now);
                }
            }
            80 => self.connection(place),
            81 => self.cut_off(place),
            chance if chance >= 100 - self.unrest => self.crash(place),
            _ => self.pass_time(),
        }
        self.collect();
        self.check();
    }

    fn deliver(&mut self) {
        if self.flying.is_empty() {
            return;
        }
        // Mostly in order, sometimes not.
        let place = if self.dice.roll(4) == 0 { self.dice.roll(self.flying.len() as u64) as usize } else { 0 };
        let envelope = if self.dice.roll(self.loss) == 0 {
            self.counts.repeated += 1;
            self.flying[place].clone()
        } else {
            self.flying.remove(place)
        };
        let cut = self.cut_off.is_some_and(|node| node == envelope.message.to || node == envelope.message.from);
        if cut || self.dice.roll(self.loss) == 0 {
            self.counts.lost += 1;
            return;
        }
        self.receive(&envelope);
    }

    fn receive(&mut self, envelope: &Envelope) {
        let to = usize::from(envelope.message.to.0) - 1;
        let received: Result<(), Rejected> = self.nodes[to].receive(self.now, envelope);
        assert_eq!(received, Ok(()), "all are honest");
    }

    fn cut_off(&mut self, place: usize) {
        self.cut_off = if self.cut_off.is_some() { None } else { Some(self.nodes[place].raft.node()) };
        self.counts.cuts += usize::from(self.cut_off.is_some());
    }

    fn pass_time(&mut self) {
        self.now += Duration::from_micros(self.dice.roll(60_000));
        let now = self.now;
        for node in &mut self.nodes {
            if node.raft.next_deadline() <= now {
                node.timeout(now);
            }
        }
    }

    fn crash(&mut self, place: usize) {
        self.counts.crashes += 1;
        let id = self.nodes[place].raft.node().0;
        let size = self.nodes.len() as u16;
        let seed = self.dice.roll(u64::MAX);
        let survive = self.dice.roll(self.nodes[place].open_writes() as u64 + 1) as usize;
        let node = self.nodes.remove(place);
        let committed = node.log[..node.committed].to_vec();
        let mut disk = node.crash(survive);
        // The checkpoint is older than the crash, and is written after the entries that it has applied.
        let applied = committed.iter().zip(&disk.log).take_while(|(applied, durable)| applied == durable).count();
        disk.applied = self.dice.roll(applied as u64 + 1) as usize;
        let options = RaftOptions { faults: self.faults, ..options(id, size, seed) };
        self.nodes.insert(place, Node::new(options, disk, self.now));
    }

    fn connection(&mut self, place: usize) {
        let peer = NodeId(self.dice.roll(self.nodes.len() as u64) as u16 + 1);
        let (now, what) = (self.now, self.dice.roll(3));
        let raft = &mut self.nodes[place].raft;
        match what {
            0 => raft.handle_connected(now, peer),
            1 => raft.handle_disconnected(now, peer),
            _ => raft.handle_reset(now, peer),
        }
        self.nodes[place].poll();
    }

    fn collect(&mut self) {
        for node in &mut self.nodes {
            self.flying.extend(node.sent.drain(..));
            for output in node.outputs.drain(..) {
                match output {
                    Output::Persist(Persist { truncate_from: Some(_), .. }) => self.counts.truncations += 1,
                    Output::Commit(_) => self.counts.commits += 1,
                    _ => {}
                }
            }
        }
        let excess = self.flying.len().saturating_sub(200);
        self.flying.drain(..excess);
    }

    fn check(&mut self) {
        for node in &self.nodes {
            let raft = &node.raft;
            assert_eq!(raft.last().index.0 as usize, node.log.len());
            assert!(raft.durable().0 as usize <= node.disk.log.len(), "durable before it is");
            let durable = raft.durable().0 as usize;
            assert_eq!(node.log[..durable], node.disk.log[..durable], "durable, but not the same entries");
            if raft.role() == Role::Leader {
                let leader = *self.leaders.entry(raft.term()).or_insert_with(|| {
                    self.counts.elections += 1;
                    raft.node()
                });
                assert_eq!(leader, raft.node(), "two leaders of {}", raft.term());
            }
            let common = node.committed.min(self.committed.len());
            assert_eq!(node.log[..common], self.committed[..common], "committed logs differ");
            self.committed.extend_from_slice(&node.log[common..node.committed.max(common)]);
        }
        // Committed means: on the disks of a majority, now and after any crash.
        let has = |node: &&Node| node.disk.log.starts_with(&self.committed);
        assert!(2 * self.nodes.iter().filter(has).count() > self.nodes.len(), "committed, but not by a majority");
    }

    /// Faults stop: a majority elects and commits within ten election timeouts.
    fn recover(&mut self) {
        self.cut_off = None;
        let before = self.committed.len();
        let until = self.now + Duration::from_millis(4_500);
        while self.committed.len() <= before || self.nodes.iter().any(|node| node.committed < self.committed.len()) {
            assert!(self.now < until, "nothing is committed after the faults have stopped");
            self.now += Duration::from_millis(1);
            let now = self.now;
            for envelope in core::mem::take(&mut self.flying) {
                self.receive(&envelope);
            }
            for node in &mut self.nodes {
                node.timeout(now);
                node.sync_all(now);
            }
            self.collect();
            self.check();
            if self.committed.len() <= before
                && let Some(leader) = self.nodes.iter_mut().find(|node| node.raft.role() == Role::Leader)
            {
                leader.propose(now);
            }
        }
    }
}

#[test]
fn what_must_always_hold_holds_under_random_schedules() {
    let mut sum = Counts::default();
    let (first, count) = (seed("RAFT_RANDOM_SEED", 0), seed("RAFT_RANDOM_SEEDS", 4_000));
    for seed in first..first + count {
        // On a failure this is what one has to know.
        std::println!("RAFT_RANDOM_SEED={seed} RAFT_RANDOM_SEEDS=1");
        let counts = run(seed, Faults::NONE);
        sum.elections += counts.elections;
        sum.commits += counts.commits;
        sum.crashes += counts.crashes;
        sum.lost += counts.lost;
        sum.repeated += counts.repeated;
        sum.truncations += counts.truncations;
        sum.late_reports += counts.late_reports;
        sum.cuts += counts.cuts;
    }
    std::println!("{sum:?}");
    let faults = [sum.crashes, sum.lost, sum.repeated, sum.truncations, sum.late_reports, sum.cuts];
    assert!(count == 1 || faults.into_iter().all(|count| count > 0), "a fault that never fired: {sum:?}");
    assert!(count == 1 || sum.elections.min(sum.commits) > 0, "nothing was decided: {sum:?}");
}

fn run(seed: u64, faults: Faults) -> Counts {
    let mut chaos = Chaos::new(seed, faults);
    (0..1_500).for_each(|_| chaos.step());
    chaos.recover();
    chaos.counts
}

/// The checks above can fail: with each planted mistake they do.
#[cfg(feature = "planted-faults")]
#[test]
fn each_planted_mistake_is_found() {
    use eventstream_core::raft::Fault;
    for fault in [Fault::LeaderCountsItselfBeforeSync, Fault::VoteNotSyncedBeforeReply] {
        let found =
            (0..100_000).find(|&seed| std::panic::catch_unwind(|| run(seed, Faults::NONE.with(fault))).is_err());
        std::println!("{fault:?}: found with seed {found:?}");
        assert!(found.is_some(), "{fault:?} is not found");
    }
}

fn seed(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().map_or(default, |text| text.parse().expect("a number"))
}
