//! What is done to the cluster: faults of the moment, on members and links of the moment's choice.

use crate::disk::Survival;
use crate::member::{Member, voter};
use crate::plan::MS;
use crate::stats::{Fault, Happening};
use crate::trace::trace;
use crate::violation::Checked;
use crate::world::{Happens, World};
use eventstream_core::raft::{Change, Transition};

/// An hour, in microseconds.
const HOUR: i64 = 3_600_000_000;

impl World {
    /// Does one of the schedule's faults.
    pub(crate) fn disturb(&mut self) -> Checked {
        let Some(fault) = self.plan.choose(&mut self.rng) else { return Ok(()) };
        let member = self.victim();
        let until = self.now + self.rng.magnitude(MS, self.plan.fault_us);
        match fault {
            Fault::ProcessCrash | Fault::PowerLoss => return self.crash(member, fault),
            Fault::ClusterPowerLoss => {
                trace!(self, "*** power is lost everywhere");
                for member in 0..self.plan.members {
                    self.crash(member, fault)?;
                }
                if self.members[..self.plan.members].iter().all(Member::is_suspect) {
                    self.stats.fired(Fault::DamagedEnds);
                }
                return Ok(());
            }
            Fault::Pause => self.members[member].paused_until = until,
            Fault::SlowDisk => self.members[member].slow_disk_until = until,
            Fault::ClockRate => self.change_clock_rate(member),
            Fault::WallClockJump => self.change_wall_clock(member),
            _ if self.plan.members == 1 => return Ok(()),
            Fault::BitRot => {
                if !self.may_lose(member) || self.members[member].disk.rot(&mut self.rng).is_none() {
                    return Ok(());
                }
            }
            Fault::Partition => self.split(member, until),
            Fault::OneWayPartition => self.cut_one_way(member, until),
            Fault::Clog => {
                let peer = self.peer_of(member);
                self.network.clog(member, peer, until);
            }
            Fault::Disconnect => self.disconnect(member),
            Fault::Transfer => return self.hand_over(),
            Fault::ChangeOfMembers => return self.change_members(),
            _ => {
                let peer = self.peer_of(member);
                self.network.cut(member, peer);
                self.queue.push(self.now, Happens::Reset { member, peer });
                self.queue.push(self.now, Happens::Disconnected { member: peer, peer: member });
                self.connect(member, peer);
            }
        }
        self.stats.fired(fault);
        trace!(self, "*** {} at {} until {until}", fault.label(), member + 1);
        Ok(())
    }

    /// Whoever leads hands over, if it knows to whom.
    fn hand_over(&mut self) -> Checked {
        let Some(member) = (0..self.plan.members).find(|&member| self.members[member].leads()) else { return Ok(()) };
        let Member { machine, clock, .. } = &mut self.members[member];
        let Some(machine) = machine else { return Ok(()) };
        if let Ok(successor) = machine.transfer_leadership(clock.local(self.now), None) {
            self.stats.fired(Fault::Transfer);
            trace!(self, "*** member {} hands over to {successor}", member + 1);
        }
        self.settle(member)
    }

    /// Whoever leads changes the members. Two voters stay at least: what one of one has lost is lost.
    fn change_members(&mut self) -> Checked {
        let Some(member) = (0..self.plan.members).find(|&member| self.members[member].leads()) else { return Ok(()) };
        let changes: Vec<_> = (0..self.rng.range(1, 4)).map(|_| self.change()).collect();
        let transition =
            [Transition::Auto, Transition::Auto, Transition::Joint, Transition::JointUntilTold][self.rng.index(4)];
        let Member { machine, clock, .. } = &mut self.members[member];
        let Some(machine) = machine else { return Ok(()) };
        let (now, before) = (clock.local(self.now), *machine.raft().configuration());
        let begun = if before.is_joint() {
            machine.propose_leave_joint(now)
        } else if before.changed(&changes, transition).is_ok_and(|next| next.incoming().count() >= 2) {
            machine.propose_change(now, &changes, transition)
        } else {
            return Ok(());
        };
        trace!(self, "*** member {} changes {before} by {changes:?}: {begun:?}", member + 1);
        if begun.is_ok() {
            self.stats.fired(Fault::ChangeOfMembers);
        }
        self.settle(member)
    }

    fn change(&mut self) -> Change {
        let at = self.rng.index(self.plan.members);
        let member = voter(at);
        match self.rng.index(4) {
            1 => Change::Remove(member.node),
            _ if self.plan.witness == Some(at) => Change::AddWitness(member),
            0 => Change::AddLearner(member),
            _ => Change::AddVoter(member),
        }
    }

    /// A member to which something is done: in half of all cases one that leads.
    fn victim(&mut self) -> usize {
        let any = self.rng.index(self.plan.members);
        if self.rng.coin() {
            return any;
        }
        (0..self.plan.members).find(|&member| self.members[member].leads()).unwrap_or(any)
    }

    fn peer_of(&mut self, member: usize) -> usize {
        (member + 1 + self.rng.index(self.plan.members - 1)) % self.plan.members
    }

    /// A member, and perhaps some with it, are alone from now on.
    fn split(&mut self, member: usize, until: u64) {
        let mut inside = [false; crate::network::MAX_MEMBERS];
        inside[member] = true;
        if self.rng.coin() {
            let other = self.peer_of(member);
            inside[other] = true;
        }
        for a in 0..self.plan.members {
            for b in (0..self.plan.members).filter(|&b| inside[a] != inside[b]) {
                self.network.block(a, b, until);
            }
        }
        if self.rng.coin() {
            self.network.block_producers(member, until);
        }
    }

    /// Logs part ways when leaders append what nobody else gets (Raft paper, figures 7 and 8).
    pub(crate) fn cut_off_new_leader(&mut self, member: usize) {
        let until = self.now + self.rng.magnitude(MS, self.plan.fault_us);
        for other in (0..self.plan.members).filter(|&other| other != member) {
            self.network.block(member, other, until);
            self.network.block(other, member, until);
        }
        self.stats.fired(Fault::CutOffNewLeader);
        trace!(self, "*** {} at {} until {until}", Fault::CutOffNewLeader.label(), member + 1);
    }

    /// A member is not heard, or hears nothing: by one of the others, or by all.
    fn cut_one_way(&mut self, member: usize, until: u64) {
        let peer = self.peer_of(member);
        let (all, outward) = (self.rng.coin(), self.rng.coin());
        for other in (0..self.plan.members).filter(|&other| other != member && (all || other == peer)) {
            let (from, to) = if outward { (member, other) } else { (other, member) };
            self.network.block(from, to, until);
        }
    }

    fn disconnect(&mut self, member: usize) {
        let peer = self.peer_of(member);
        self.network.cut(member, peer);
        self.queue.push(self.now, Happens::Disconnected { member, peer });
        self.queue.push(self.now, Happens::Disconnected { member: peer, peer: member });
        self.connect(member, peer);
    }

    /// A clock between nine tenths of its rate and eleven.
    pub(crate) fn change_clock_rate(&mut self, member: usize) {
        let rate = self.rng.range(900_000, 1_100_000);
        self.stats.fired(Fault::ClockRate);
        self.members[member].clock.set_rate(self.now, rate);
        self.set_alarm(member);
    }

    /// A wall clock that is a little wrong, or hours, or as dead as its battery.
    fn change_wall_clock(&mut self, member: usize) {
        let error = match self.rng.index(4) {
            0 => 0,
            1 => self.rng.below(4_000_000) as i64 - 2_000_000,
            2 => self.rng.below(48) as i64 * HOUR - 24 * HOUR,
            _ => i64::MIN / 4,
        };
        self.members[member].clock.set_wall_error(error);
    }

    /// A process ends at once, with or without its machine, and starts again after a while.
    pub(crate) fn crash(&mut self, member: usize, fault: Fault) -> Checked {
        if !self.members[member].is_up() {
            return Ok(());
        }
        let (is_process, kind) = match fault {
            Fault::ProcessCrash => (true, fault),
            Fault::PowerLoss | Fault::ClusterPowerLoss => (false, fault),
            Fault::LossAfterCommit => (false, Fault::PowerLoss),
            _ if self.rng.coin() => (true, Fault::ProcessCrash),
            _ => (false, Fault::PowerLoss),
        };
        self.stats.fired(kind);
        if matches!(fault, Fault::CrashOfNewLeader | Fault::CrashAfterClearing) {
            self.stats.fired(fault);
        }
        let may_lose = !is_process && self.may_lose(member);
        let wipes = may_lose && self.rng.chance(self.plan.wipe);
        let loses = !wipes && may_lose && (fault == Fault::LossAfterCommit || self.rng.chance(self.plan.lost_batch));
        let survival = if wipes || loses {
            Survival::Nothing
        } else if self.plan.torn_writes && !is_process {
            Survival::Subset
        } else if is_process && self.rng.coin() {
            Survival::All
        } else {
            Survival::Prefix
        };
        let state = &mut self.members[member];
        let loss = state.disk.crash(survival, &mut self.rng, &self.entries)?;
        let batches = if loses { self.rng.range(1, self.plan.lost_batches) } else { 0 };
        let mut lost = None;
        for entries in (0..batches).map_while(|_| state.disk.lose_batch()) {
            lost = Some(lost.unwrap_or(0) + entries);
        }
        if wipes {
            state.disk.wipe();
        }
        state.has_lost |= wipes || lost.is_some();
        let leaves_damage = !is_process && !wipes && loss.writes > 0 && self.rng.chance(self.plan.damaged_end);
        if leaves_damage {
            state.disk.damage_end();
        }
        state.forget();
        let consequences = [
            (leaves_damage, Fault::DamagedEnd),
            (lost.is_some(), Fault::LostBatch),
            (lost.is_some_and(|entries| entries > 0), Fault::LostEntries),
            (lost.is_some() && fault == Fault::LossAfterCommit, fault),
            (wipes, Fault::Wipe),
            (wipes && fault == Fault::LossAfterCommit, Fault::WipeAfterCommit),
            (loss.writes > 0, Fault::UnsyncedLoss),
            (loss.behind_a_hole > 0, Fault::TornWrites),
            (loss.truncation_waited, Fault::CrashInTruncation),
            (loss.vote_waited, Fault::CrashInVote),
        ];
        for (_, fault) in consequences.into_iter().filter(|&(is_so, _)| is_so) {
            self.stats.fired(fault);
        }
        let again = self.now + self.rng.magnitude(200, self.plan.down_us);
        trace!(self, "*** {} at {} until {again}: {loss:?}", kind.label(), member + 1);
        self.queue.push(again, Happens::Start { member });
        self.sever(member, is_process);
        Ok(())
    }

    /// A member has read an entry that is damaged: it stops, and its directory is replaced by a new one with its identity.
    pub(crate) fn replace(&mut self, member: usize) {
        trace!(self, "*** {} has a damaged entry, and gets an empty disk", member + 1);
        self.stats.count(Happening::Replaced, 1);
        let state = &mut self.members[member];
        state.disk.wipe();
        state.has_lost = true;
    }

    /// Whether the member's disk may lose what was synced: all others have what they had promised, and, if it is the first
    /// member, those that have never taken part are too few to found the cluster with it.
    fn may_lose(&self, member: usize) -> bool {
        let is_new = |other: usize| other == member || self.members[other].disk.is_new();
        let new = (0..self.plan.voters).filter(|&other| is_new(other)).count();
        let others = (0..self.plan.members).filter(|&other| other != member);
        // What one disk and a witness have committed is lost with the disk.
        self.plan.witness.is_none_or(|witness| witness == member)
            && (new <= self.plan.voters / 2 || member != 0)
            && self.plan.members > 1
            && others.map(|other| &self.members[other]).all(|other| !other.has_lost && !other.disk.is_rotten())
    }

    /// The peers of a process that is gone are told by its kernel, if that still runs.
    fn sever(&mut self, member: usize, is_told: bool) {
        for peer in (0..self.plan.members).filter(|&peer| peer != member) {
            self.network.cut(member, peer);
            if is_told && self.network.blocked_until(member, peer) <= self.now {
                let at = self.now + self.plan.latency_us;
                self.queue.push(at, Happens::Reset { member: peer, peer: member });
            }
        }
    }
}
