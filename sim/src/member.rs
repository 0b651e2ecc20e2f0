//! A member: the machine under test, and the parts of a host around it.

use crate::clock::Clock;
use crate::disk::{Disk, Row};
use crate::entries::{Entries, EntryId};
use crate::machine::Machine;
use crate::payload::TOPICS;
use crate::subscriber::IndexRow;
use crate::violation::{Checked, ensure};
use eventstream_core::batch::Accumulator;
use eventstream_core::config::Parameters;
use eventstream_core::dedup::ProducerSlot;
use eventstream_core::id::{Incarnation, LogTime, NodeId};
use eventstream_core::raft::{Configuration, Faults, LogPosition, Member as Voter, Placed, RaftOptions, Role};
use eventstream_core::replica::{Lent, Options, RestoredLog, Restoring, RowKey, TopicSlot};
use eventstream_core::time::Instant;
use std::collections::VecDeque;

/// Whose batch is part of an entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sender {
    pub(crate) producer: u8,
    pub(crate) batch: u64,
}

/// Who waits for an entry to be applied.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Waiting {
    /// Runs of the entry, by first and number.
    Receipts {
        sender: Sender,
        first_run: u16,
        runs: u16,
    },
    Opened {
        producer: u8,
        life: u16,
    },
}

/// Somebody waits for this entry, and no other of its index.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    pub(crate) position: LogPosition,
    pub(crate) waiting: Waiting,
}

/// A member of the cluster, up or down.
#[derive(Debug)]
pub(crate) struct Member {
    /// `None` while it is down.
    pub(crate) machine: Option<Machine>,
    /// How often it was started.
    pub(crate) boot: u32,
    pub(crate) clock: Clock,
    pub(crate) disk: Disk,
    /// The log as the machine has it, durable or not: what a host keeps in memory and on disk.
    pub(crate) log: Vec<EntryId>,
    /// When the machine wants to be called, in true time.
    pub(crate) wake_at: u64,
    pub(crate) paused_until: u64,
    pub(crate) slow_disk_until: u64,
    /// Whether it was suspect when it was last looked at.
    pub(crate) was_suspect: bool,
    /// Its disk has lost what was synced, and it was not cleared since.
    pub(crate) has_lost: bool,
    /// The term in which it was last seen leading in this life.
    pub(crate) led_term: u64,
    /// Entries that may be applied.
    pub(crate) apply_to: u64,
    pub(crate) apply_scheduled: bool,
    pub(crate) accumulator: Accumulator<Vec<u8>, Sender>,
    pub(crate) pending: VecDeque<Pending>,
    /// Rows of a snapshot that it has received.
    pub(crate) staged: Vec<Row>,
    /// From whom the last of them came, on which connection.
    pub(crate) staged_from: (usize, u32),
    /// A witness: the configuration that it was told with the beginning of its log.
    pub(crate) told_configuration: Option<Placed>,
    /// By topic of the schedule.
    pub(crate) index_rows: [Vec<IndexRow>; TOPICS.len()],
}

impl Member {
    pub(crate) fn new() -> Self {
        Self {
            machine: None,
            boot: 0,
            clock: Clock::new(0, 0),
            disk: Disk::default(),
            log: Vec::new(),
            wake_at: u64::MAX,
            paused_until: 0,
            slow_disk_until: 0,
            was_suspect: false,
            has_lost: false,
            led_term: 0,
            apply_to: 0,
            apply_scheduled: false,
            accumulator: Accumulator::new(),
            pending: VecDeque::new(),
            staged: Vec::new(),
            staged_from: (0, 0),
            told_configuration: None,
            index_rows: Default::default(),
        }
    }

    /// A machine that was never started.
    pub(crate) fn reset(&mut self, local: u64) {
        self.machine = None;
        self.boot = 0;
        self.clock = Clock::new(0, local);
        self.disk.clear();
        self.paused_until = 0;
        self.slow_disk_until = 0;
        self.has_lost = false;
        self.index_rows.iter_mut().for_each(Vec::clear);
        self.forget();
    }

    /// What only memory held is gone.
    pub(crate) fn forget(&mut self) {
        self.machine = None;
        self.log.clear();
        self.wake_at = u64::MAX;
        self.was_suspect = false;
        self.led_term = 0;
        self.apply_to = 0;
        self.apply_scheduled = false;
        self.accumulator.clear();
        self.pending.clear();
        self.staged.clear();
    }

    pub(crate) const fn is_up(&self) -> bool {
        self.machine.is_some()
    }

    /// Whether it is suspect, or will be when it starts.
    pub(crate) fn is_suspect(&self) -> bool {
        match &self.machine {
            Some(machine) => machine.raft().is_suspect(),
            None => self.disk.is_suspect() || self.disk.hard_state().suspect,
        }
    }

    pub(crate) fn leads(&self) -> bool {
        self.machine.as_ref().is_some_and(|machine| machine.raft().role() == Role::Leader)
    }

    /// The last entry that it has applied.
    pub(crate) fn applied(&self) -> u64 {
        self.machine.as_ref().map_or(0, |machine| machine.applied().index.0)
    }

    pub(crate) fn last_id(&self) -> Option<EntryId> {
        self.log.last().copied()
    }

    /// The index is a table of the same store: it goes back as far as the state does.
    fn rewind_index(&mut self, entries: &Entries, applied: u64) {
        for rows in &mut self.index_rows {
            rows.truncate(rows.partition_point(|row| entries.get(row.id).index <= applied));
        }
    }

    /// Starts from what is on the disk.
    pub(crate) fn start(&mut self, start: &Start<'_>, entries: &Entries, now: Instant) -> Checked {
        let last = self.disk.log().next_back().map(|id| *entries.get(id));
        let base = self.disk.entry(self.disk.base()).map(|id| entries.get(id).position());
        let log = RestoredLog {
            hard_state: self.disk.hard_state(),
            base: base.unwrap_or_default(),
            last: last.map_or_else(LogPosition::default, |entry| entry.position()),
            last_log_time: LogTime(last.map_or(0, |entry| entry.log_time)),
            suspect: self.disk.is_suspect(),
        };
        let machine = match start.restore(&self.disk, entries, log, now) {
            Ok(machine) => machine,
            Err(error) => {
                ensure!(false, Contract, "member {} does not start: {error}", start.member + 1);
                return Ok(());
            }
        };
        self.boot += 1;
        self.forget();
        self.log.extend(self.disk.log());
        self.apply_to = machine.applied().index.0;
        self.rewind_index(entries, self.apply_to);
        self.machine = Some(machine);
        Ok(())
    }
}

/// What a member is started with.
#[derive(Debug)]
pub(crate) struct Start<'a> {
    pub(crate) member: usize,
    pub(crate) configuration: &'a Configuration,
    pub(crate) parameters: Parameters,
    pub(crate) seed: u64,
    pub(crate) is_witness: bool,
    pub(crate) faults: Faults,
}

impl Start<'_> {
    fn restore(
        &self,
        disk: &Disk,
        entries: &Entries,
        log: RestoredLog,
        now: Instant,
    ) -> Result<Machine, eventstream_core::replica::RestoreError> {
        let Voter { node, incarnation } = voter(self.member);
        let raft = RaftOptions {
            node,
            incarnation,
            membership: (*self.configuration).into(),
            seed: self.seed,
            is_witness: self.is_witness,
            faults: self.faults,
        };
        let memory = Lent {
            producers: vec![ProducerSlot::EMPTY; self.parameters.producers as usize].into_boxed_slice(),
            topics: vec![TopicSlot::EMPTY; self.parameters.topics as usize].into_boxed_slice(),
        };
        let mut restoring = Restoring::new(Options { raft, parameters: self.parameters }, memory)?;
        for (key, value) in disk.rows() {
            restoring.restore_row(RowKey::from_bytes(key).expect("was written so"), value)?;
        }
        let applied = restoring.applied().index;
        let configurations = disk.log().skip(disk.base() as usize).filter_map(|id| entries.configuration(id));
        let configurations = disk.first_configuration().into_iter().chain(configurations);
        configurations.filter(|placed| placed.index > applied).for_each(|placed| restoring.find_configuration(placed));
        Machine::start(restoring, log, now)
    }
}

/// Who a member is.
pub(crate) const fn voter(member: usize) -> Voter {
    Voter { node: NodeId(member as u16 + 1), incarnation: Incarnation([member as u8 + 1; 16]) }
}
