//! Acting on what a machine wants done, as a host does: writing, sending, applying.

use crate::disk::Install;
use crate::entries::{EntryId, Span};
use crate::member::{Member, voter};
use crate::network::Route;
use crate::oracle::Life;
use crate::plan::MS;
use crate::producer::Answer;
use crate::stats::{Fault, Happening};
use crate::subscriber::IndexRow;
use crate::trace::trace;
use crate::violation::{Checked, ensure};
use crate::world::{Happens, Read, World, slot};
use eventstream_core::id::{Index, LogTime};
use eventstream_core::raft::{
    Body, Configuration, Fault as Mistake, LogPosition, LogView, MAX_CONFIGURATION_LEN, Member as Voter, Message,
    Persist, Placed, ReadTicket, Role,
};
use eventstream_core::replica::{Entry, MAX_ROW_LEN, Output, Stamp};
use eventstream_core::wire::Kind;

impl World {
    /// Acts on all outputs of a machine after it was called, and looks at what has become of it.
    pub(crate) fn settle(&mut self, member: usize) -> Checked {
        loop {
            let Member { machine: Some(machine), disk, .. } = &mut self.members[member] else { return Ok(()) };
            let Some(output) = machine.poll_output(disk) else { break };
            match output {
                Output::AppendEmpty(stamp) => _ = self.append(member, &stamp, Kind::Empty, 0, &[])?,
                Output::AppendConfiguration(stamp) => self.append_configuration(member, &stamp)?,
                Output::Persist(persist) => self.persist(member, &persist)?,
                Output::Send(message) => self.send(member, message)?,
                Output::InstallSnapshot(last) => self.install_snapshot(member, last)?,
                Output::Apply { first, last } => self.committed(member, first.0, last.0)?,
                Output::ReadIndex { ticket, index } => self.read_confirmed(member, ticket, index.0)?,
                Output::Leader { term, leader } => self.leader_changed(member, term.0, leader.map(slot)),
            }
        }
        self.observe(member)?;
        self.sync(member);
        self.apply_soon(member)?;
        self.set_alarm(member);
        Ok(())
    }

    /// The machine took these entries from a message: they replace what the log had from the first of them on.
    pub(crate) fn keep(&mut self, member: usize, (first, last): (u64, u64), received: Span) -> Checked {
        let Self { members, entries, .. } = self;
        let state = &mut members[member];
        let at = first as usize - 1;
        ensure!(at <= state.log.len(), Contract, "entry {first} was taken by a log of {} entries", state.log.len());
        if at < state.log.len() {
            ensure!(
                first > state.apply_to,
                LeaderCompleteness,
                "member {} removes entry {first}, which it knew to be committed",
                member + 1
            );
            let reverted = state.log[at..].iter().filter(|&&id| entries.configuration(id).is_some()).count();
            self.stats.count(Happening::Reverted, reverted as u64);
            state.log.truncate(at);
            self.stats.count(Happening::Truncation, 1);
        }
        for &id in entries.of(received) {
            if (first..=last).contains(&entries.get(id).index) {
                entries.check_link(state.last_id(), id)?;
                state.log.push(id);
            }
        }
        ensure!(state.log.len() as u64 == last, Contract, "entries up to {last} were taken that were not received");
        Ok(())
    }

    /// The machine took what came with a message about a snapshot.
    pub(crate) fn keep_rows(&mut self, member: usize, message: &Message) -> Checked {
        match message.body {
            Body::SnapshotRows { last, first, count, .. } => {
                let from = (slot(message.from), self.network.connection(slot(message.from), member));
                let Member { staged, staged_from, .. } = &mut self.members[member];
                if first == 0 {
                    staged.clear();
                }
                let before = core::mem::replace(staged_from, from);
                self.stats.count(Happening::RowsResumed, u64::from(first > 0 && before != from));
                let rows = self.snapshots.of(last);
                staged.extend_from_slice(&rows[first as usize..][..usize::from(count)]);
                Ok(())
            }
            Body::SnapshotTerms { last, .. } => {
                trace!(self, "{} knows a log that begins after {last:?}", member + 1);
                self.stats.count(Happening::WitnessBase, 1);
                self.members[member].told_configuration = self.placed.first().copied();
                self.begin_after(member, last)
            }
            _ => unreachable!("no other message brings rows"),
        }
    }

    /// All rows of a snapshot have come.
    fn install_snapshot(&mut self, member: usize, last: LogPosition) -> Checked {
        let staged = core::mem::take(&mut self.members[member].staged);
        let Member { machine: Some(machine), clock, .. } = &mut self.members[member] else { return Ok(()) };
        let installed = machine.install_snapshot(clock.local(self.now), last, &staged);
        ensure!(installed.is_ok(), StateHash, "member {} does not install {last:?}: {installed:?}", member + 1);
        let hash = machine.state_hash();
        trace!(self, "{} installs a snapshot as of {last:?}, {} rows", member + 1, staged.len());
        self.oracle.restores(last.index.0, hash)?;
        self.stats.count(Happening::SnapshotInstalled, 1);
        self.begin_after(member, last)
    }

    /// The log of a member begins after `last`: what is before it is part of its state.
    fn begin_after(&mut self, member: usize, last: LogPosition) -> Checked {
        let Self { members, oracle, entries, archive, .. } = self;
        let state = &mut members[member];
        ensure!(
            state.apply_to < last.index.0,
            LeaderCompleteness,
            "member {} goes back from {} to a snapshot as of {last:?}",
            member + 1,
            state.apply_to
        );
        state.log.clear();
        state.log.extend(oracle.covered_by(last, entries)?);
        let is_covered = |row: &IndexRow| entries.get(row.id).index <= last.index.0;
        if state.machine.as_ref().is_some_and(|machine| machine.applied() == last) {
            state.apply_to = last.index.0;
            for (rows, archive) in state.index_rows.iter_mut().zip(archive) {
                rows.clear();
                rows.extend(archive.iter().take_while(|&row| is_covered(row)));
            }
        }
        Ok(())
    }

    fn persist(&mut self, member: usize, persist: &Persist) -> Checked {
        trace!(self, "{} writes {persist:?}", member + 1);
        let state = &mut self.members[member];
        let install = persist.install.map(|last| {
            let covered = self.entries.span(&state.log[..last.index.0 as usize]);
            let rows = (self.plan.witness != Some(member)).then(|| self.snapshots.of(last));
            let configuration = state.told_configuration.filter(|_| rows.is_none());
            Install { covered, rows, configuration }
        });
        let append = match persist.append {
            Some((first, last)) => {
                let range = first.0 as usize - 1..last.0 as usize;
                ensure!(range.end <= state.log.len(), Contract, "{persist:?} of a log of {} entries", state.log.len());
                self.entries.span(&state.log[range])
            }
            None => Span::default(),
        };
        let mut written = *persist;
        if self.rules.faults.has(Mistake::HardStateNotWritten) {
            written.hard_state = None;
        }
        if self.rules.faults.has(Mistake::TruncationNotWritten) {
            written.truncate_from = None;
        }
        state.disk.write(&written, install, append);

        let votes = persist.hard_state.is_some_and(|hard_state| hard_state.vote.is_some());
        let dangers = [
            (persist.truncate_from.is_some(), self.plan.crash_in_truncation, Fault::CrashInTruncation),
            (votes, self.plan.crash_in_vote, Fault::CrashInVote),
        ];
        for (is_there, chance, fault) in dangers {
            if is_there && self.rng.chance(chance) {
                self.crash_soon(member, fault);
            }
        }
        Ok(())
    }

    /// The member will crash before or shortly after the sync that was just asked for.
    pub(crate) fn crash_soon(&mut self, member: usize, fault: Fault) {
        let at = self.now + self.rng.below(2 * self.plan.sync_us + self.plan.latency_us);
        self.queue.push(at, Happens::Crash { member, boot: self.members[member].boot, fault });
    }

    fn send(&mut self, member: usize, message: Message) -> Checked {
        let to = slot(message.to);
        trace!(self, "{} sends {message:?}", member + 1);
        let entries = match message.body {
            Body::Append { prev, count, .. } if count > 0 => {
                let last = prev.index.plus(count.into());
                if self.members[member].disk.is_damaged_between(prev.index.0, last.0) {
                    self.crash(member, Fault::ProcessCrash)?;
                    self.replace(member);
                    return Ok(());
                }
                let log = &self.members[member].log;
                let range = prev.index.0 as usize..prev.index.0 as usize + usize::from(count);
                let base = self.members[member].disk.base();
                ensure!(prev.index.0 >= base, Contract, "{message:?} of a log that begins after {base}");
                ensure!(range.end <= log.len(), Contract, "{message:?} of a log of {} entries", log.len());
                self.entries.span(&log[range])
            }
            Body::AppendTerms { prev, last, .. } => {
                let log = &self.members[member].log;
                ensure!(last.0 as usize <= log.len(), Contract, "{message:?} of a log of {} entries", log.len());
                self.entries.span(&log[prev.index.0 as usize..last.0 as usize])
            }
            Body::SnapshotTerms { configuration, .. } if configuration > Index::ZERO => {
                let at = configuration.0 as usize;
                self.entries.span(&self.members[member].log[at - 1..at])
            }
            _ => Span::default(),
        };
        let route = Route::Peer { from: member, to };
        let connection = self.network.connection(member, to);
        let arrivals = self.network.send(route, self.now, &self.plan, &mut self.rng, &mut self.stats);
        for at in arrivals.iter() {
            self.queue.push(at, Happens::Message { connection, message, entries });
        }
        Ok(())
    }

    fn committed(&mut self, member: usize, first: u64, last: u64) -> Checked {
        let state = &self.members[member];
        ensure!(first == state.apply_to + 1, Contract, "entry {first} is to be applied after {}", state.apply_to);
        let term = state.machine.as_ref().map_or(0, |machine| machine.raft().term().0);
        let before = self.oracle.committed();
        let configuration =
            state.machine.as_ref().map_or(Configuration::NONE, |machine| *machine.raft().configuration());
        let holders = |index, id| is_held(&self.members, &configuration, index, id);
        let looks = self.rules.looks_at_disks;
        self.oracle.commits(term, (first, last), &state.log, looks.then_some(holders), &mut self.stats)?;
        if self.oracle.committed() > before {
            self.observe_changes(member, before + 1, last);
        }
        self.members[member].apply_to = last;
        if self.oracle.committed() > before && self.rng.chance(self.plan.loss_after_commit) {
            self.lose_committed(member, last);
        }
        Ok(())
    }

    /// Counts the changes of members that are committed.
    fn observe_changes(&mut self, member: usize, first: u64, last: u64) {
        let state = &self.members[member];
        for &id in &state.log[first as usize - 1..last as usize] {
            let Some(Placed { configuration, .. }) = self.entries.configuration(id) else { continue };
            trace!(self, "the members are {configuration} from now on");
            let removes = state.leads() && configuration.duty_of(voter(member).node).is_none();
            self.stats.count(Happening::Joint, u64::from(configuration.is_joint()));
            self.stats.count(Happening::LeaderRemoved, u64::from(removes));
        }
    }

    fn append_configuration(&mut self, member: usize, stamp: &Stamp) -> Checked {
        let Some(machine) = &self.members[member].machine else { return Ok(()) };
        let mut buffer = [0; MAX_CONFIGURATION_LEN];
        let len = machine.raft().configuration().encode(&mut buffer);
        self.append(member, stamp, Kind::Configuration, 0, &buffer[..len])?;
        Ok(())
    }

    /// One of the disks that made the majority of an entry will lose it, if there is none to spare.
    fn lose_committed(&mut self, leader: usize, index: u64) {
        let members = &self.members[..self.plan.members];
        let id = members[leader].log[index as usize - 1];
        let holds = |member: &usize| members[*member].is_up() && members[*member].disk.entry(index) == Some(id);
        let holders = (0..members.len()).filter(holds).count();
        let another = (0..members.len()).filter(holds).find(|&member| member != leader);
        if let Some(member) = another.filter(|_| holders <= self.plan.voters / 2 + 1) {
            self.crash_soon(member, Fault::LossAfterCommit);
        }
    }

    /// No read that may be answered now misses what was committed when it was asked.
    fn read_confirmed(&mut self, member: usize, ticket: ReadTicket, index: u64) -> Checked {
        let life = Life { member, boot: self.members[member].boot };
        let is_answered = |read: &Read| read.life == life && read.ticket <= ticket;
        for read in self.reads.iter().filter(|&read| is_answered(read)) {
            ensure!(
                index >= read.committed,
                StaleRead,
                "member {} answers as of entry {index}; entry {} was committed when it was asked",
                member + 1,
                read.committed
            );
            self.stats.count(Happening::LatestRead, 1);
        }
        self.reads.retain(|read| !is_answered(read));
        Ok(())
    }

    fn leader_changed(&mut self, member: usize, term: u64, leader: Option<usize>) {
        trace!(self, "{} sees term {term} led by {:?}", member + 1, leader.map(|leader| leader + 1));
        if leader != Some(member) {
            // Nobody is told what became of these: the producers ask the new leader.
            self.members[member].pending.clear();
            self.members[member].accumulator.clear();
        } else if self.plan.members > 1 && self.rng.chance(self.plan.cut_off_new_leader) {
            self.cut_off_new_leader(member);
        }
        for producer in 0..self.plan.producers {
            self.answer(member, producer, Answer::Leader { term, leader });
        }
    }

    /// Checks what a call may have changed.
    fn observe(&mut self, member: usize) -> Checked {
        let state = &mut self.members[member];
        let Some(machine) = &state.machine else { return Ok(()) };
        let raft = machine.raft();
        let (last, term) = (raft.last(), raft.term().0);
        let log_end = state.log.last().map_or_else(LogPosition::default, |&id| self.entries.get(id).position());
        ensure!(last == log_end, Contract, "the machine's log ends at {last:?}, the host's at {log_end:?}");
        if raft.role() == Role::Leader && state.led_term != term {
            state.led_term = term;
            let was_suspect = state.was_suspect;
            let life = Life { member, boot: state.boot };
            trace!(self, "{} leads term {term}", member + 1);
            self.stats.count(Happening::Election, 1);
            self.stats.count(Happening::SuspectElected, u64::from(was_suspect));
            self.oracle.leads(term, life, &self.members[member].log)?;
            if self.rng.chance(self.plan.crash_of_new_leader) {
                self.crash_soon(member, Fault::CrashOfNewLeader);
            }
        }
        self.observe_suspicion(member);
        Ok(())
    }

    /// Looks whether the member was cleared.
    fn observe_suspicion(&mut self, member: usize) {
        let state = &mut self.members[member];
        let Some(raft) = state.machine.as_ref().map(|machine| machine.raft()) else { return };
        let was_suspect = core::mem::replace(&mut state.was_suspect, raft.is_suspect());
        if !was_suspect || raft.is_suspect() {
            return;
        }
        state.has_lost = false;
        let founds = raft.role() == Role::Candidate;
        let leader = raft.leader().map(slot).filter(|&leader| leader != member);
        trace!(self, "{} is no longer suspect", member + 1);
        self.stats.count(if founds { Happening::Founded } else { Happening::Cleared }, 1);
        if let Some(leader) = leader.filter(|_| self.rng.chance(self.plan.crash_after_clearing)) {
            self.crash_soon(leader, Fault::CrashAfterClearing);
        }
    }

    /// Starts a sync if something waits for one.
    fn sync(&mut self, member: usize) {
        let state = &mut self.members[member];
        if !state.disk.wants_sync() {
            return;
        }
        state.disk.start_sync();
        let mut takes = self.plan.sync_us + self.rng.below(self.plan.sync_us);
        if self.now < state.slow_disk_until {
            takes = takes * 20 + 20 * MS;
        }
        self.queue.push(self.now + takes, Happens::Synced { member, boot: state.boot });
    }

    /// A sync has ended.
    pub(crate) fn synced(&mut self, member: usize) -> Checked {
        let state = &mut self.members[member];
        let token = state.disk.finish_sync(&self.entries, self.rules.faults.has(Mistake::LyingSync))?;
        trace!(self, "{} has synced {token:?}", member + 1);
        self.drive(member, |machine, now, _| {
            if let Some(token) = token {
                machine.handle_persisted(now, token);
            }
        })
    }

    /// Applies what may be applied, at once or after a while.
    fn apply_soon(&mut self, member: usize) -> Checked {
        let state = &mut self.members[member];
        if state.applied() == state.apply_to || state.apply_scheduled {
            return Ok(());
        }
        if self.plan.apply_delay_us == 0 {
            return self.apply(member);
        }
        state.apply_scheduled = true;
        self.stats.fired(Fault::SlowApply);
        let at = self.now + self.rng.below(self.plan.apply_delay_us);
        self.queue.push(at, Happens::Apply { member, boot: state.boot });
        Ok(())
    }

    /// Applies all that may be applied, and answers those who wait for it.
    pub(crate) fn apply(&mut self, member: usize) -> Checked {
        loop {
            let state = &mut self.members[member];
            let Some(machine) = &mut state.machine else { return Ok(()) };
            let index = machine.applied().index.0 + 1;
            if index > state.apply_to {
                break;
            }
            let id = state.log[index as usize - 1];
            let made = self.entries.get(id);
            let position = made.position();
            let entry = Entry {
                position,
                log_time: LogTime(made.log_time),
                kind: made.kind,
                event_count: made.events,
                payload: self.entries.payload(id),
            };
            let applied = machine.apply(&entry, &mut self.outcomes);
            ensure!(applied.is_ok(), Contract, "member {} does not apply entry {index}: {applied:?}", member + 1);
            let hash = machine.state_hash();
            trace!(self, "{} applies {index} of term {}", member + 1, position.term);
            self.oracle.applies(id, &self.entries, &self.outcomes, hash, &mut self.stats)?;
            self.index(member, id)?;
            self.acknowledge(member, position);
        }
        self.propose_own(member)?;
        // An idle pipeline sends at once what waits.
        if self.members[member].pending.is_empty() && !self.members[member].accumulator.is_empty() {
            self.flush(member)?;
            self.settle(member)?;
        }
        Ok(())
    }

    /// Writes what has changed since the last checkpoint, unless that would be ahead of the durable log.
    pub(crate) fn checkpoint(&mut self, member: usize) -> Checked {
        let state = &mut self.members[member];
        let again = self.now + self.plan.checkpoint_us / 2 + self.rng.below(self.plan.checkpoint_us);
        self.queue.push(again, Happens::Checkpoint { member, boot: state.boot });
        let applied = state.applied();
        let ahead = self.rules.faults.has(Mistake::CheckpointAheadOfLog);
        if let Some(machine) = state.machine.as_mut().filter(|_| applied <= state.disk.last_index() || ahead) {
            let mut value = [0; MAX_ROW_LEN];
            let mut rows = 0;
            while let Some(row) = machine.poll_row(&mut value) {
                state.disk.stage_row(row.key.to_bytes(), &value[..row.len]);
                rows += 1;
            }
            if rows > 0 {
                trace!(self, "{} writes a checkpoint of {rows} rows as of entry {applied}", member + 1);
                self.members[member].disk.write_checkpoint(rows);
                if ahead {
                    self.members[member].disk.overtake();
                }
            }
        }
        if self.rng.chance(self.plan.trim) {
            self.trim(member);
        }
        self.offer_snapshot(member)?;
        self.tell_wall_clock(member);
        self.settle(member)
    }

    /// The log of a member loses its oldest entries, as far as the checkpoint on the disk covers them.
    fn trim(&mut self, member: usize) {
        let Member { disk, machine, .. } = &mut self.members[member];
        let ahead = self.rules.faults.has(Mistake::LogTrimmedAhead);
        let applied = machine.as_ref().map_or(0, |machine| machine.applied().index.0);
        let covered = if ahead { applied.min(disk.last_index()) } else { disk.checkpoint().index.0 };
        let Some(room) = covered.checked_sub(disk.base()).filter(|&room| room > 0) else { return };
        let base = covered - if self.rng.coin() { 0 } else { self.rng.below(room) };
        disk.trim(base);
        self.stats.fired(Fault::Trim);
        trace!(self, "*** {} forgets its entries up to {base}", member + 1);
    }

    /// The checkpoint that a member sends to others changes when it does not reach as far as the log goes back.
    fn offer_snapshot(&mut self, member: usize) -> Checked {
        let disk = &mut self.members[member].disk;
        let helps = disk.snapshot().is_some_and(|snapshot| snapshot.last.index.0 >= disk.base());
        if !helps && disk.base() > 0 && disk.checkpoint().index.0 >= disk.base() {
            let (last, rows) = disk.pin(self.plan.rows_at_once);
            self.snapshots.keep(last, rows)?;
        }
        Ok(())
    }

    pub(crate) fn tell_wall_clock(&mut self, member: usize) {
        let Member { machine, clock, .. } = &mut self.members[member];
        if let Some(machine) = machine {
            machine.set_wall_clock(clock.local(self.now), clock.wall_us(self.now));
        }
    }

    /// Notes when the member has to be woken.
    pub(crate) fn set_alarm(&mut self, member: usize) {
        let state = &mut self.members[member];
        if let Some(machine) = &state.machine {
            let deadline = machine.next_deadline().min(state.accumulator.deadline());
            state.wake_at = state.clock.reaches(deadline).max(self.now);
        }
    }
}

/// Whether the disks of a majority have ever held the entry, or of a majority of each of two.
fn is_held(members: &[Member], configuration: &Configuration, index: u64, id: EntryId) -> bool {
    let count = |voters: &mut dyn Iterator<Item = Voter>| {
        voters.fold((0, 0), |(all, held), voter| {
            (all + 1, held + usize::from(members[slot(voter.node)].disk.has_held(index, id)))
        })
    };
    let is_majority = |(all, held): (usize, usize)| all == 0 || held > all / 2;
    is_majority(count(&mut configuration.incoming())) && is_majority(count(&mut configuration.outgoing()))
}
