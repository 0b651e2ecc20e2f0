//! What a run has seen. A simulator that silently stopped to break things would pass for ever: every count here has to
//! be above zero in a run of some size.

use core::fmt;
use core::ops::AddAssign;

macro_rules! counts {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident => $label:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum $name {
            $($(#[$doc])* $variant,)*
        }

        impl $name {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// What it is called in reports and traces.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$variant => $label,)*
                }
            }
        }
    };
}

counts! {
    /// What is done to the cluster. Which of them a schedule uses, and how hard, is chosen from its seed.
    Fault {
        /// A message is lost.
        Loss => "message lost",
        /// A message arrives twice.
        Duplication => "message duplicated",
        /// A message is overtaken by later ones.
        Reorder => "message reordered",
        /// Messages from one member to another are lost, not the other way.
        OneWayPartition => "one-way partition",
        /// A group of members neither hears nor is heard by the others.
        Partition => "partition",
        /// Messages from one member to another stay away until the end of a jam, then arrive together.
        Clog => "clogged link",
        /// A member stands still, hears nothing and then everything at once.
        Pause => "pause",
        /// A member's clock runs at a rate of its own.
        ClockRate => "clock rate",
        /// A member's wall clock jumps.
        WallClockJump => "wall clock jump",
        /// A process ends at once; its peers are refused when they reconnect.
        ProcessCrash => "process crash",
        /// A machine loses power; nobody is told.
        PowerLoss => "power loss",
        /// All machines lose power at the same time.
        ClusterPowerLoss => "power loss of all",
        /// A crash took writes that were not synced.
        UnsyncedLoss => "unsynced writes lost",
        /// Of the writes that were not synced one was missing in the middle, and recovery stopped there.
        TornWrites => "unsynced writes torn",
        /// A power loss left a damaged end of what was not synced; the member starts suspect and has lost nothing.
        DamagedEnd => "unsynced end damaged",
        /// All machines lost power, and each started suspect.
        DamagedEnds => "power loss that left all suspect",
        /// A power loss also took what was synced last. Only one member at a time has lost any such thing.
        LostBatch => "synced batch lost",
        /// ... and there were entries in it.
        LostEntries => "synced entries lost",
        /// ... right when their commit had become known.
        LossAfterCommit => "committed entries lost at once",
        /// A member's disk was emptied and its identity copied back. Only one member at a time has lost anything.
        Wipe => "member wiped",
        /// ... right when their commit had become known.
        WipeAfterCommit => "member wiped after a commit",
        /// A member started for the first time when others had been up for a while.
        LateFirstStart => "late first start",
        /// A leader crashed right when it had cleared a suspect member.
        CrashAfterClearing => "crash of a leader that cleared",
        /// A crash came while a truncation was on its way to the disk.
        CrashInTruncation => "crash during truncation",
        /// A crash came while a vote was on its way to the disk.
        CrashInVote => "crash during a vote",
        /// A crash came right when a member had become leader.
        CrashOfNewLeader => "crash of a new leader",
        /// A member was cut off right when it had become leader, before a word of it got through.
        CutOffNewLeader => "new leader cut off",
        /// A connection was lost with what was on it, and made again.
        Disconnect => "connection lost",
        /// A connection was reset and the immediate reconnect refused, although the other process lives.
        Reset => "connection reset, reconnect refused",
        /// A leader was told to hand over.
        Transfer => "leadership handed over",
        /// A leader was told to change the members.
        ChangeOfMembers => "change of members begun",
        /// A synced entry of one member was damaged. Only one member at a time has lost any such thing.
        BitRot => "synced entry damaged",
        /// A member forgot the oldest entries of its log.
        Trim => "oldest entries forgotten",
        /// Syncs take many times their time.
        SlowDisk => "slow disk",
        /// Committed entries are applied late.
        SlowApply => "slow apply",
    }
}

counts! {
    /// What came of it.
    Happening {
        /// A member became leader.
        Election => "elections",
        /// A member stopped and started again from its disk.
        Restart => "restarts",
        /// A member started suspect.
        SuspectStart => "suspect starts",
        /// A leader cleared a suspect member, or it was elected by all.
        Cleared => "suspects cleared",
        /// A suspect member became leader.
        SuspectElected => "suspects elected by all",
        /// A member and others, all new, began without the rest.
        Founded => "clusters founded by a majority",
        /// A configuration of two majorities became committed.
        Joint => "joint configurations committed",
        /// A configuration without the leader that had begun it became committed.
        LeaderRemoved => "leaders removed",
        /// A member that had a configuration in force removed it from its log.
        Reverted => "configurations reverted",
        /// A member removed entries from its log.
        Truncation => "truncations",
        /// A restart continued from a checkpoint, not from the beginning of the log.
        CheckpointRestart => "restarts from a checkpoint",
        /// A member found a damaged entry and stopped, and its directory was replaced by an empty one.
        Replaced => "damaged members replaced",
        /// A member took a snapshot in the place of entries.
        SnapshotInstalled => "snapshots installed",
        /// A transfer of rows went on where it had been interrupted.
        RowsResumed => "snapshots resumed",
        /// A witness was told where the log begins that it may know of.
        WitnessBase => "witnesses told where a log begins",
        /// Entries that became committed.
        Commit => "entries committed",
        /// Events that were accepted.
        Accepted => "events accepted",
        /// Events that were there already when they came again.
        Duplicate => "events found duplicate",
        /// Runs that said that events before them were dropped.
        GapRun => "gaps recorded",
        /// Runs refused because events before them were missing.
        SequenceGap => "runs refused for a gap",
        /// Runs refused because a later life of their producer had begun.
        Fenced => "runs refused as fenced",
        /// Runs refused because their producer is not known, or not any more.
        ProducerUnknown => "runs refused as of nobody",
        /// Producers that were forgotten because nothing was heard of them.
        Evicted => "producers evicted",
        /// Producers that went on after they had been forgotten.
        Resumed => "producers resumed",
        /// Batches that a producer sent again.
        Resend => "batches sent again",
        /// Producers that began a new life.
        ProducerRestart => "producer restarts",
        /// Batches acknowledged to a producer.
        Ack => "batches acknowledged",
        /// Client batches that shared an entry with others.
        Shared => "batches that shared an entry",
        /// Reads of what is latest that a leader was confirmed to answer.
        LatestRead => "latest reads",
        /// Events that a subscriber read.
        Delivered => "events delivered",
    }
}

/// The counts of a schedule, or of many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Schedules run to their end.
    pub schedules: u64,
    /// Steps in all of them.
    pub steps: u64,
    /// Virtual time that passed in them, in microseconds.
    pub virtual_us: u64,
    faults: [u64; Fault::ALL.len()],
    happenings: [u64; Happening::ALL.len()],
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            schedules: 0,
            steps: 0,
            virtual_us: 0,
            faults: [0; Fault::ALL.len()],
            happenings: [0; Happening::ALL.len()],
        }
    }
}

impl Stats {
    /// How often a fault fired.
    #[must_use]
    pub const fn fault(&self, fault: Fault) -> u64 {
        self.faults[fault as usize]
    }

    /// How often something came of it.
    #[must_use]
    pub const fn happening(&self, happening: Happening) -> u64 {
        self.happenings[happening as usize]
    }

    /// Crashes of every kind, one for each member that crashed.
    #[must_use]
    pub const fn crashes(&self) -> u64 {
        self.fault(Fault::ProcessCrash) + self.fault(Fault::PowerLoss) + self.fault(Fault::ClusterPowerLoss)
    }

    /// What never happened.
    pub fn zeros(&self) -> impl Iterator<Item = &'static str> {
        let faults = Fault::ALL.iter().filter(|&&fault| self.fault(fault) == 0).map(|fault| fault.label());
        let happenings = Happening::ALL.iter().filter(|&&it| self.happening(it) == 0).map(|it| it.label());
        faults.chain(happenings)
    }

    pub(crate) const fn fired(&mut self, fault: Fault) {
        self.faults[fault as usize] += 1;
    }

    pub(crate) const fn count(&mut self, happening: Happening, times: u64) {
        self.happenings[happening as usize] += times;
    }
}

impl AddAssign<&Self> for Stats {
    fn add_assign(&mut self, other: &Self) {
        self.schedules += other.schedules;
        self.steps += other.steps;
        self.virtual_us += other.virtual_us;
        self.faults.iter_mut().zip(other.faults).for_each(|(sum, count)| *sum += count);
        self.happenings.iter_mut().zip(other.happenings).for_each(|(sum, count)| *sum += count);
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = self.virtual_us / 60_000_000;
        writeln!(f, "{:>14}  schedules", self.schedules)?;
        writeln!(f, "{:>14}  steps", self.steps)?;
        writeln!(f, "{:>11}.{:02}  virtual hours", minutes / 60, minutes % 60 * 100 / 60)?;
        writeln!(f, "{:>14}  crashes", self.crashes())?;
        for &happening in Happening::ALL {
            writeln!(f, "{:>14}  {}", self.happening(happening), happening.label())?;
        }
        writeln!(f, "faults that fired:")?;
        for &fault in Fault::ALL {
            writeln!(f, "{:>14}  {}", self.fault(fault), fault.label())?;
        }
        Ok(())
    }
}
