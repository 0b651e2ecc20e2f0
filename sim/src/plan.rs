//! What a schedule is made of, chosen from its seed.
//!
//! Swarm testing (Groce and others, 2012): a run that uses every fault a little meets fewer states than many runs of
//! which each uses some of the faults, and those at a strength of its own.

use crate::network::MAX_MEMBERS;
use crate::rng::Rng;
use crate::stats::Fault;
use eventstream_core::config::Parameters;

/// Virtual time is in microseconds.
pub(crate) const MS: u64 = 1_000;

/// Likelihoods are per mille.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Nodes: the first members, and those that may be added.
    pub(crate) members: usize,
    /// The first members.
    pub(crate) voters: usize,
    /// The one of them that is a witness.
    pub(crate) witness: Option<usize>,
    pub(crate) producers: usize,
    pub(crate) topics: usize,
    /// The cluster's parameters may have room for one fewer, or for even fewer where producers are evicted.
    pub(crate) producer_limit: u32,
    pub(crate) topic_limit: u32,
    /// A producer that was silent for so long may be evicted.
    pub(crate) producer_idle_us: u64,
    /// A producer without work rests, at most so long.
    pub(crate) producer_rest: u32,
    pub(crate) rest_us: u64,
    /// Batches that a producer sends before the first of them is acknowledged.
    pub(crate) window: usize,
    /// Events of a batch, at most.
    pub(crate) batch_events: u64,
    /// Bytes that are added to an event's payload, at most.
    pub(crate) padding: u64,
    /// Between two looks of a producer at its work, on average.
    pub(crate) think_us: u64,
    /// How long a producer waits for an answer before it sends again.
    pub(crate) patience_us: u64,
    pub(crate) producer_restart: u32,
    pub(crate) producer_gap: u32,
    /// Between two checkpoints of a member.
    pub(crate) checkpoint_us: u64,
    /// A checkpoint is followed by a loss of the log's oldest entries.
    pub(crate) trim: u32,
    /// Rows of a snapshot in one message.
    pub(crate) rows_at_once: u16,

    /// A message takes this long, and up to as much again.
    pub(crate) latency_us: u64,
    pub(crate) loss: u32,
    pub(crate) duplication: u32,
    pub(crate) reorder: u32,
    pub(crate) reorder_us: u64,
    /// Whether what was on its way to a process reaches the one that is started after it.
    pub(crate) late_delivery: bool,
    /// Whether the network between producers and members has the same faults.
    pub(crate) clients_suffer: bool,

    /// A sync takes this long, and up to as much again.
    pub(crate) sync_us: u64,
    pub(crate) torn_writes: bool,
    /// A committed entry waits up to this long until it is applied; 0: applied at once.
    pub(crate) apply_delay_us: u64,

    /// How often a step is followed by a fault, in a million.
    pub(crate) fault_ppm: u64,
    /// Whether that begins only when every member has once been cleared, as in a cluster that is not new.
    pub(crate) faults_wait: bool,
    /// Faults of [`ACTIONS`] with the weight of each, zero if the schedule does without.
    pub(crate) weights: [u32; ACTIONS.len()],
    /// How long a fault lasts, at most.
    pub(crate) fault_us: u64,
    /// How long a member stays down, at most.
    pub(crate) down_us: u64,
    /// A power loss leaves a damaged end where something was not synced.
    pub(crate) damaged_end: u32,
    /// A power loss takes what was synced last, at most so many batches, ...
    pub(crate) lost_batch: u32,
    pub(crate) lost_batches: u64,
    /// ... also right after an entry was committed that hardly more than a majority has.
    pub(crate) loss_after_commit: u32,
    /// A power loss that may take what was synced takes all of it: the disk is emptied, and the identity copied back.
    pub(crate) wipe: u32,
    /// A member is started for the first time only when it is brought up like one that was down.
    pub(crate) late_first_start: u32,
    /// ... at the latest.
    pub(crate) first_start_us: u64,
    /// A leader is gone right after it has cleared a suspect member.
    pub(crate) crash_after_clearing: u32,
    pub(crate) crash_in_truncation: u32,
    pub(crate) crash_in_vote: u32,
    pub(crate) crash_of_new_leader: u32,
    pub(crate) cut_off_new_leader: u32,
    /// Whether clocks run at rates of their own.
    pub(crate) clock_rates: bool,
    /// Whether members may stay down when the faults stop, as long as a majority is up.
    pub(crate) heal_only_majority: bool,
}

/// The faults that are done at a point in time, to members or links of the moment's choice.
pub(crate) const ACTIONS: [Fault; 15] = [
    Fault::OneWayPartition,
    Fault::Partition,
    Fault::Clog,
    Fault::Pause,
    Fault::ClockRate,
    Fault::WallClockJump,
    Fault::ProcessCrash,
    Fault::PowerLoss,
    Fault::ClusterPowerLoss,
    Fault::Disconnect,
    Fault::Reset,
    Fault::SlowDisk,
    Fault::BitRot,
    Fault::Transfer,
    Fault::ChangeOfMembers,
];

/// How often each is chosen beside the others where a schedule uses all.
const ORDINARY_WEIGHTS: [u32; ACTIONS.len()] = [4, 4, 3, 4, 2, 1, 6, 6, 1, 2, 3, 3, 1, 3, 0];

impl Plan {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        let changes = rng.chance(300);
        let voters =
            if changes { [2, 3, 3, 3, 4, 5][rng.index(6)] } else { [1, 2, 3, 3, 3, 3, 3, 4, 5, 7][rng.index(10)] };
        let witness = (voters > 2 && rng.chance(150)).then(|| rng.index(voters));
        let members = if changes { (voters + rng.range(1, 3) as usize).min(MAX_MEMBERS) } else { voters };
        let (producers, topics) = (rng.range(1, 4) as usize, rng.range(1, 3) as usize);
        let mut plan = Self {
            members,
            voters,
            witness,
            producers,
            topics,
            producer_limit: (producers as u32 - u32::from(producers > 1 && rng.chance(50))),
            topic_limit: (topics as u32 - u32::from(topics > 1 && rng.chance(50))),
            producer_idle_us: Parameters::default().producer_idle_us,
            producer_rest: 0,
            rest_us: 0,
            window: rng.range(1, 6) as usize,
            batch_events: rng.magnitude(2, 24),
            padding: if rng.chance(100) { 400 } else { rng.below(16) },
            think_us: rng.magnitude(MS, 160 * MS),
            patience_us: rng.magnitude(100 * MS, 1_000 * MS),
            producer_restart: if rng.coin() { rng.range(1, 30) as u32 } else { 0 },
            producer_gap: if rng.coin() { rng.range(5, 80) as u32 } else { 0 },
            checkpoint_us: rng.magnitude(20 * MS, 1_000 * MS),
            trim: if rng.chance(400) { rng.range(50, 1_000) as u32 } else { 0 },
            rows_at_once: rng.range(1, 6) as u16,

            latency_us: rng.magnitude(50, 4 * MS),
            loss: sometimes(rng, 150),
            duplication: sometimes(rng, 150),
            reorder: sometimes(rng, 300),
            reorder_us: rng.magnitude(MS, 200 * MS),
            late_delivery: rng.coin(),
            clients_suffer: rng.coin(),

            sync_us: rng.magnitude(100, 8 * MS),
            torn_writes: rng.coin(),
            apply_delay_us: if rng.chance(200) { rng.magnitude(100, 30 * MS) } else { 0 },

            fault_ppm: rng.magnitude(2_000, 50_000),
            faults_wait: rng.coin(),
            weights: ORDINARY_WEIGHTS,
            fault_us: rng.magnitude(10 * MS, 3_000 * MS),
            down_us: rng.magnitude(MS, 2_000 * MS),
            damaged_end: if rng.coin() { rng.range(200, 1_000) as u32 } else { 0 },
            lost_batch: if rng.coin() { rng.range(100, 700) as u32 } else { 0 },
            lost_batches: if rng.coin() { rng.range(1, 8) } else { 1 },
            loss_after_commit: sometimes(rng, 50),
            wipe: if rng.chance(300) { rng.range(20, 400) as u32 } else { 0 },
            late_first_start: if rng.chance(200) { 300 } else { 0 },
            first_start_us: rng.magnitude(MS, 20_000 * MS),
            crash_after_clearing: if rng.coin() { rng.range(50, 600) as u32 } else { 0 },
            crash_in_truncation: sometimes(rng, 500),
            crash_in_vote: sometimes(rng, 200),
            crash_of_new_leader: if rng.chance(300) { rng.range(50, 600) as u32 } else { 0 },
            cut_off_new_leader: if rng.chance(300) { rng.range(50, 800) as u32 } else { 0 },
            clock_rates: rng.coin(),
            heal_only_majority: !changes && witness.is_none() && rng.chance(300),
        };
        for weight in &mut plan.weights {
            *weight *= u32::from(rng.coin());
        }
        if changes {
            plan.weights[ACTIONS.len() - 1] = rng.range(2, 40) as u32;
        }
        // Chance of its own: the other schedules are what they would be without it.
        let mut own = Rng::new(rng.clone().next());
        if own.chance(200) {
            plan.evict(&mut own);
        }
        plan
    }

    /// Producers rest, and are soon forgotten: there is not room for all of them.
    fn evict(&mut self, rng: &mut Rng) {
        self.producers = rng.range(2, 4) as usize;
        self.producer_limit = rng.range(1, self.producers as u64) as u32;
        self.producer_idle_us = rng.magnitude(10 * MS, 1_000 * MS);
        self.producer_rest = rng.range(10, 200) as u32;
        self.rest_us = rng.magnitude(100 * MS, 4_000 * MS);
        self.think_us = self.think_us.min(40 * MS);
    }

    /// The cluster's parameters.
    pub(crate) fn parameters(&self) -> Parameters {
        Parameters {
            producers: self.producer_limit,
            topics: self.topic_limit,
            producer_idle_us: self.producer_idle_us,
            ..Parameters::default()
        }
    }

    /// Whether producers are soon forgotten.
    pub(crate) const fn evicts(&self) -> bool {
        self.producer_idle_us < Parameters::DEFAULT_PRODUCER_IDLE.as_micros()
    }

    /// Whether the faults have stopped.
    pub(crate) const fn is_calm(&self) -> bool {
        self.fault_ppm == 0
    }

    /// Chooses among the faults that the schedule uses; `None` if it uses none.
    pub(crate) fn choose(&self, rng: &mut Rng) -> Option<Fault> {
        let mut at = rng.below(self.weights.iter().sum::<u32>().into()) as u32;
        for (&fault, &weight) in ACTIONS.iter().zip(&self.weights) {
            if at < weight {
                return Some(fault);
            }
            at -= weight;
        }
        None
    }

    /// From now on nothing breaks any more.
    pub(crate) fn calm(&mut self) {
        (self.loss, self.duplication, self.reorder) = (0, 0, 0);
        self.trim = 0;
        (self.fault_ppm, self.apply_delay_us, self.producer_restart, self.producer_gap) = (0, 0, 0, 0);
        self.producer_rest = 0;
        (self.crash_in_truncation, self.crash_in_vote) = (0, 0);
        (self.damaged_end, self.lost_batch, self.wipe, self.loss_after_commit) = (0, 0, 0, 0);
        self.crash_after_clearing = 0;
        (self.crash_of_new_leader, self.cut_off_new_leader) = (0, 0);
        self.latency_us = self.latency_us.min(MS);
        self.sync_us = self.sync_us.min(2 * MS);
    }
}

/// In half of the schedules up to `most` per mille, else nothing.
fn sometimes(rng: &mut Rng, most: u64) -> u32 {
    if rng.coin() { rng.magnitude(1, most) as u32 } else { 0 }
}
