//! One schedule: a cluster, its producers and subscribers, the network between them, and what happens to them, all from
//! one seed and in virtual time.
//!
//! A step is one event that reaches somebody: a message, a finished sync, a deadline, a look of a producer at its work,
//! a fault. Every step checks what it has touched.

use crate::disk::Disk;
use crate::entries::{Entries, Span};
use crate::machine::Machine;
use crate::member::{Member, Sender, Start, voter};
use crate::network::{MAX_MEMBERS, Network, Route};
use crate::oracle::{Life, Oracle};
use crate::payload::TOPICS;
use crate::plan::{MS, Plan};
use crate::producer::{Answer, Frames, Producer, Request, Surroundings};
use crate::queue::Queue;
use crate::rng::Rng;
use crate::snapshots::Snapshots;
use crate::stats::{Fault, Happening, Stats};
use crate::subscriber::{IndexRow, Subscriber};
use crate::trace::{Trace, trace};
use crate::violation::{Checked, ensure};
use eventstream_core::batch::Part;
use eventstream_core::id::{LogTime, NodeId};
use eventstream_core::raft::{
    Body, Configuration, EntryMeta, Fault as Mistake, Faults, Message, Placed, ReadTicket, Rejected, Taken,
};
use eventstream_core::receipt::RunReceipt;
use eventstream_core::replica::Outcomes;
use eventstream_core::time::Instant;

/// Something that happens at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Happens {
    Message {
        connection: u32,
        message: Message,
        entries: Span,
    },
    Request {
        member: usize,
        producer: usize,
        request: Request,
    },
    Answer {
        producer: usize,
        answer: Answer,
    },
    /// A sync of the disk ends.
    Synced {
        member: usize,
        boot: u32,
    },
    Apply {
        member: usize,
        boot: u32,
    },
    Checkpoint {
        member: usize,
        boot: u32,
    },
    Crash {
        member: usize,
        boot: u32,
        fault: Fault,
    },
    Start {
        member: usize,
    },
    /// `member` finds its connection to `peer` made, lost, or lost and refused.
    Connected {
        member: usize,
        peer: usize,
    },
    Disconnected {
        member: usize,
        peer: usize,
    },
    Reset {
        member: usize,
        peer: usize,
    },
    Think {
        producer: usize,
    },
    Read,
}

/// A read that was asked of a member that leads, or thinks that it does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Read {
    pub(crate) life: Life,
    pub(crate) ticket: ReadTicket,
    /// Entries that were committed then, as far as anybody knew.
    pub(crate) committed: u64,
}

/// What is the same for all schedules of a run.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Steps of a schedule before the faults stop.
    pub steps: u64,
    /// Mistakes that the machines make on purpose.
    pub faults: Faults,
    /// Whether a commit is held against what is on the disks at that moment. Without it, a mistake is found by what
    /// comes of it only.
    pub looks_at_disks: bool,
}

impl Default for Rules {
    /// 2,000 steps, no mistakes, disks are looked at.
    fn default() -> Self {
        Self { steps: 2_000, faults: Faults::NONE, looks_at_disks: true }
    }
}

/// A simulated world. Its memory is used again by the next schedule.
pub(crate) struct World {
    pub(crate) rules: Rules,
    pub(crate) plan: Plan,
    pub(crate) rng: Rng,
    pub(crate) now: u64,
    pub(crate) step: u64,
    pub(crate) queue: Queue<Happens>,
    pub(crate) network: Network,
    pub(crate) entries: Entries,
    pub(crate) frames: Frames,
    pub(crate) receipts: Vec<RunReceipt>,
    pub(crate) members: Vec<Member>,
    pub(crate) oracle: Oracle,
    pub(crate) stats: Stats,
    pub(crate) trace: Trace,
    pub(crate) producers: Vec<Producer>,
    pub(crate) subscriber: Subscriber,
    pub(crate) snapshots: Snapshots,
    /// The whole topic index: what an archive would give to a member that has installed a snapshot.
    pub(crate) archive: [Vec<IndexRow>; TOPICS.len()],
    /// Whether the producers may begin new batches.
    pub(crate) may_begin: bool,
    /// Members that are not started again, a bit each.
    pub(crate) stays_down: u8,
    pub(crate) outcomes: Outcomes,
    pub(crate) spare_buffers: Vec<Vec<u8>>,
    pub(crate) parts: Vec<Part<Sender>>,
    /// The first one.
    configuration: Configuration,
    metas: Vec<EntryMeta>,
    pub(crate) placed: Vec<Placed>,
    requests: Vec<(usize, Request, u64)>,
    /// Reads that must not be stale.
    pub(crate) reads: Vec<Read>,
    /// Steps since time last advanced.
    standstill: u32,
}

/// Steps at one instant of time after which something goes round in circles.
const STANDSTILL: u32 = 20_000;

impl World {
    pub(crate) fn new(rules: Rules) -> Self {
        let mut rng = Rng::new(0);
        Self {
            rules,
            plan: Plan::new(&mut rng),
            rng,
            now: 0,
            step: 0,
            queue: Queue::new(),
            network: Network::default(),
            entries: Entries::default(),
            frames: Frames::default(),
            receipts: Vec::new(),
            members: (0..MAX_MEMBERS).map(|_| Member::new()).collect(),
            oracle: Oracle::default(),
            stats: Stats::default(),
            trace: Trace::default(),
            producers: Vec::new(),
            subscriber: Subscriber::default(),
            snapshots: Snapshots::default(),
            archive: Default::default(),
            may_begin: true,
            stays_down: 0,
            outcomes: Outcomes::new(),
            spare_buffers: Vec::new(),
            parts: Vec::new(),
            configuration: configuration(1, None),
            metas: Vec::new(),
            placed: Vec::new(),
            requests: Vec::new(),
            reads: Vec::new(),
            standstill: 0,
        }
    }

    /// Runs the schedule of a seed from its beginning to its end.
    pub(crate) fn run(&mut self, seed: u64, with_trace: bool) -> Checked {
        self.reset(seed, with_trace);
        trace!(self, "{:?}", self.plan);
        for member in 0..self.plan.members {
            if self.rng.chance(self.plan.late_first_start) {
                let at = self.rng.magnitude(MS, self.plan.first_start_us);
                self.stats.fired(Fault::LateFirstStart);
                self.queue.push(at, Happens::Start { member });
            } else {
                self.start(member)?;
            }
        }
        for producer in 0..self.plan.producers {
            let at = self.rng.below(self.plan.think_us);
            self.queue.push(at, Happens::Think { producer });
        }
        self.queue.push(MS, Happens::Read);
        while self.step < self.rules.steps {
            self.step()?;
            if self.rng.below(1_000_000) < self.plan.fault_ppm && !self.faults_wait() {
                self.disturb()?;
            }
        }
        ensure!(!self.rules.faults.has(Mistake::Canary), Contract, "the canary sings");
        self.heal()?;
        self.stats.schedules = 1;
        self.stats.steps = self.step;
        self.stats.virtual_us = self.now;
        Ok(())
    }

    /// Whether the cluster is too new for faults.
    fn faults_wait(&mut self) -> bool {
        self.plan.faults_wait &= self.members[..self.plan.members].iter().any(Member::is_suspect);
        self.plan.faults_wait
    }

    fn reset(&mut self, seed: u64, with_trace: bool) {
        self.rng = Rng::new(seed);
        self.plan = Plan::new(&mut self.rng);
        (self.now, self.step, self.standstill) = (0, 0, 0);
        self.queue.clear();
        self.network = Network::default();
        self.entries.clear();
        self.frames.clear();
        self.receipts.clear();
        self.reads.clear();
        self.snapshots.clear();
        self.archive.iter_mut().for_each(Vec::clear);
        for member in &mut self.members {
            member.reset(self.rng.below(1_000_000_000));
        }
        if self.plan.clock_rates {
            (0..self.plan.members).for_each(|member| self.change_clock_rate(member));
        }
        let plan = &self.plan;
        self.oracle.reset(plan.producers, plan.parameters());
        self.stats = Stats::default();
        self.trace = Trace::new(with_trace);
        let (rng, members) = (&mut self.rng, plan.members);
        self.configuration = configuration(plan.voters, plan.witness);
        self.producers.clear();
        self.producers.extend((0..plan.producers).map(|number| Producer::new(number as u8, rng, members)));
        self.subscriber = Subscriber::new(rng.index(plan.topics) as u8);
        (self.may_begin, self.stays_down) = (true, 0);
    }

    /// Lets the next thing happen.
    pub(crate) fn step(&mut self) -> Checked {
        let (mut first, mut wake_at) = (None, u64::MAX);
        for (at, member) in self.members[..self.plan.members].iter().enumerate() {
            if member.wake_at.max(member.paused_until) < wake_at {
                (first, wake_at) = (Some(at), member.wake_at.max(member.paused_until));
            }
        }
        let next_at = self.queue.next_at();
        self.standstill = if wake_at.min(next_at) > self.now { 0 } else { self.standstill + 1 };
        ensure!(self.standstill < STANDSTILL, Contract, "{STANDSTILL} steps without time passing");
        match first {
            Some(member) if wake_at < next_at => {
                self.now = self.now.max(wake_at);
                self.step += 1;
                self.wake(member)
            }
            _ => match self.queue.pop() {
                Some((at, happens)) => {
                    self.now = self.now.max(at);
                    self.happen(happens)
                }
                None => {
                    ensure!(false, Contract, "nothing will ever happen again");
                    Ok(())
                }
            },
        }
    }

    /// Dispatches what happens to whom it happens.
    fn happen(&mut self, happens: Happens) -> Checked {
        let member = match happens {
            Happens::Message { message, .. } => slot(message.to),
            Happens::Request { member, .. }
            | Happens::Synced { member, .. }
            | Happens::Apply { member, .. }
            | Happens::Checkpoint { member, .. }
            | Happens::Connected { member, .. }
            | Happens::Disconnected { member, .. }
            | Happens::Reset { member, .. } => member,
            Happens::Crash { member, boot, fault } => {
                if !self.plan.is_calm() && self.members[member].is_up() && self.members[member].boot == boot {
                    self.step += 1;
                    self.crash(member, fault)?;
                }
                return Ok(());
            }
            Happens::Start { member } => {
                self.step += 1;
                let stays_as_it_is = self.members[member].is_up() || self.stays_down >> member & 1 == 1;
                return if stays_as_it_is { Ok(()) } else { self.start(member) };
            }
            Happens::Answer { producer, answer } => {
                self.step += 1;
                trace!(self, "producer {producer} hears {answer:?}");
                return self.with_producer(producer, |producer, s| producer.hear(answer, s));
            }
            Happens::Think { producer } => {
                self.step += 1;
                let may_begin = self.may_begin;
                let again = self.now + self.plan.think_us / 2 + self.rng.below(self.plan.think_us);
                self.queue.push(again, Happens::Think { producer });
                return self.with_producer(producer, |producer, s| {
                    producer.think(s, may_begin);
                    Ok(())
                });
            }
            Happens::Read => return self.read(),
        };
        let state = &self.members[member];
        if !state.is_up() {
            return Ok(());
        }
        if self.now < state.paused_until {
            self.queue.push(state.paused_until, happens);
            return Ok(());
        }
        self.happen_to_member(member, happens)
    }

    /// Something happens to a member that is up and not standing still.
    fn happen_to_member(&mut self, member: usize, happens: Happens) -> Checked {
        let boot_now = self.members[member].boot;
        match happens {
            Happens::Synced { boot, .. } | Happens::Apply { boot, .. } | Happens::Checkpoint { boot, .. }
                if boot != boot_now =>
            {
                return Ok(());
            }
            Happens::Message { connection, message, .. }
                if connection != self.network.connection(slot(message.from), member) && !self.plan.late_delivery =>
            {
                return Ok(());
            }
            _ => self.step += 1,
        }
        match happens {
            Happens::Message { message, entries, .. } => self.deliver(member, &message, entries),
            Happens::Request { producer, request, .. } => self.serve(member, producer, request),
            Happens::Synced { .. } => self.synced(member),
            Happens::Apply { .. } => {
                self.members[member].apply_scheduled = false;
                self.apply(member)
            }
            Happens::Checkpoint { .. } => self.checkpoint(member),
            Happens::Connected { peer, .. } => {
                trace!(self, "{} connected to {}", member + 1, peer + 1);
                self.drive(member, |machine, now, _| machine.handle_connected(now, voter(peer).node))
            }
            Happens::Disconnected { peer, .. } => {
                trace!(self, "{} lost its connection to {}", member + 1, peer + 1);
                self.drive(member, |machine, now, _| machine.handle_disconnected(now, voter(peer).node))
            }
            Happens::Reset { peer, .. } => {
                trace!(self, "{} is refused by {}", member + 1, peer + 1);
                self.drive(member, |machine, now, _| machine.handle_reset(now, voter(peer).node))
            }
            Happens::Crash { .. }
            | Happens::Start { .. }
            | Happens::Answer { .. }
            | Happens::Think { .. }
            | Happens::Read => Ok(()),
        }
    }

    /// A member's deadline has come.
    fn wake(&mut self, member: usize) -> Checked {
        let state = &self.members[member];
        let now = state.clock.local(self.now);
        trace!(self, "{} wakes", member + 1);
        if state.accumulator.is_due(now, false) {
            self.flush(member)?;
        }
        self.drive(member, |machine, now, _| machine.handle_timeout(now))
    }

    fn deliver(&mut self, member: usize, message: &Message, entries: Span) -> Checked {
        trace!(self, "{} hears {} in term {}: {:?}", member + 1, message.from, message.term, message.body);
        let Self { entries: all, metas, placed, .. } = self;
        metas.clear();
        placed.clear();
        placed.extend(all.of(entries).iter().filter_map(|&id| all.configuration(id)));
        if let Body::AppendTerms { configuration, .. } | Body::SnapshotTerms { configuration, .. } = message.body {
            placed.retain(|placed| placed.index == configuration);
            return self.take_message(member, message, entries);
        }
        metas.extend(all.of(entries).iter().map(|&id| {
            let entry = all.get(id);
            EntryMeta { index: entry.position().index, term: entry.position().term, log_time: LogTime(entry.log_time) }
        }));
        self.take_message(member, message, entries)
    }

    /// Gives the message and what is known of its entries to the machine.
    fn take_message(&mut self, member: usize, message: &Message, entries: Span) -> Checked {
        let Self { members, metas, placed, now, .. } = self;
        let Member { machine: Some(machine), disk, clock, .. } = &mut members[member] else { return Ok(()) };
        match machine.handle_message(clock.local(*now), message, metas, placed, disk) {
            Ok(Taken::Entries { first, last }) => self.keep(member, (first.0, last.0), entries)?,
            Ok(Taken::Rows) => self.keep_rows(member, message)?,
            Ok(Taken::Nothing) => {}
            // Who was removed, or was not there yet, is no peer.
            Err(Rejected::NotAPeer { from }) => trace!(self, "{} does not hear {from}", member + 1),
            // What looks like a broken promise is one: nobody lies here.
            Err(rejected) => ensure!(false, Contract, "{} refused {message:?}: {rejected}", member + 1),
        }
        self.settle(member)
    }

    /// Calls a machine, and acts on what it wants done.
    pub(crate) fn drive(&mut self, member: usize, call: impl FnOnce(&mut Machine, Instant, &Disk)) -> Checked {
        let Member { machine, disk, clock, .. } = &mut self.members[member];
        if let Some(machine) = machine {
            call(machine, clock.local(self.now), disk);
        }
        self.settle(member)
    }

    /// Starts a member from its disk and connects it.
    pub(crate) fn start(&mut self, member: usize) -> Checked {
        let disk = &self.members[member].disk;
        if disk.is_damaged_between(disk.checkpoint().index.0, disk.last_index()) {
            self.replace(member);
        }
        let seed = self.rng.next();
        let start = Start {
            member,
            configuration: if member < self.plan.voters { &self.configuration } else { &Configuration::NONE },
            parameters: self.plan.parameters(),
            seed,
            is_witness: self.plan.witness == Some(member),
            faults: self.rules.faults,
        };
        let state = &mut self.members[member];
        if state.boot > 0 {
            self.stats.count(Happening::Restart, 1);
            state.clock.restart(self.now, seed >> 34);
        }
        state.start(&start, &self.entries, state.clock.local(self.now))?;
        let (boot, applied) = (state.boot, state.applied());
        let hash = state.machine.as_ref().map_or(0, Machine::state_hash);
        trace!(self, "{} starts with {} entries, applied {applied}", member + 1, self.members[member].log.len());
        self.oracle.restores(applied, hash)?;
        self.stats.count(Happening::CheckpointRestart, u64::from(applied > 0));
        self.stats.count(Happening::SuspectStart, u64::from(self.members[member].is_suspect()));

        self.queue.push(self.now + self.rng.below(self.plan.checkpoint_us), Happens::Checkpoint { member, boot });
        for peer in (0..self.plan.members).filter(|&peer| peer != member) {
            self.connect(member, peer);
        }
        self.tell_wall_clock(member);
        self.settle(member)
    }

    /// Two members connect as soon as the network lets them.
    pub(crate) fn connect(&mut self, a: usize, b: usize) {
        if !self.members[a].is_up() || !self.members[b].is_up() {
            return;
        }
        let reachable = self.network.blocked_until(a, b).max(self.network.blocked_until(b, a)).max(self.now);
        let at = reachable + self.plan.latency_us;
        self.queue.push(at, Happens::Connected { member: a, peer: b });
        self.queue.push(at, Happens::Connected { member: b, peer: a });
    }

    /// Lets a producer act, and sends what it wants sent.
    fn with_producer(
        &mut self,
        producer: usize,
        act: impl FnOnce(&mut Producer, &mut Surroundings<'_>) -> Checked,
    ) -> Checked {
        let mut surroundings = Surroundings {
            now: self.now,
            members: self.plan.members,
            plan: &self.plan,
            rng: &mut self.rng,
            stats: &mut self.stats,
            frames: &mut self.frames,
            model: &self.oracle.model,
            receipts: &self.receipts,
            requests: &mut self.requests,
        };
        act(&mut self.producers[producer], &mut surroundings)?;
        for (member, request, delay) in self.requests.drain(..) {
            let route = Route::ToMember { producer, member };
            let arrivals = self.network.send(route, self.now, &self.plan, &mut self.rng, &mut self.stats);
            for at in arrivals.iter() {
                self.queue.push(at + delay, Happens::Request { member, producer, request });
            }
        }
        Ok(())
    }

    /// Somebody asks all members that think they lead for what is not stale.
    fn read_latest(&mut self) -> Checked {
        for member in 0..self.plan.members {
            let state = &mut self.members[member];
            let Some(machine) = state.machine.as_mut().filter(|_| self.now >= state.paused_until) else { continue };
            if let Ok(ticket) = machine.read_index(state.clock.local(self.now)) {
                let life = Life { member, boot: state.boot };
                self.reads.push(Read { life, ticket, committed: self.oracle.committed() });
                self.settle(member)?;
            }
        }
        Ok(())
    }

    /// The subscriber reads, now and then from another member.
    fn read(&mut self) -> Checked {
        self.step += 1;
        self.read_latest()?;
        self.queue.push(self.now + self.rng.range(20 * MS, 100 * MS), Happens::Read);
        if self.rng.chance(300) {
            self.subscriber.member = self.rng.index(self.plan.members);
        }
        let member = &self.members[self.subscriber.member];
        if !member.is_up() || self.now < member.paused_until {
            return Ok(());
        }
        let rows = &member.index_rows[usize::from(self.subscriber.topic)];
        self.subscriber.read(rows, &self.entries, &self.oracle.model, &mut self.stats)
    }
}

const _: () = assert!(TOPICS.len() < 256 && MAX_MEMBERS < 256);

/// The place of a member.
pub(crate) const fn slot(node: NodeId) -> usize {
    node.0 as usize - 1
}

fn configuration(members: usize, witness: Option<usize>) -> Configuration {
    let voters: Vec<_> = (0..members).map(voter).collect();
    let all = Configuration::new(&voters);
    let all = all.and_then(|all| witness.map_or(Ok(all), |witness| all.with_witness(voter(witness).node)));
    all.expect("1 to 7 members with ids of their own")
}
