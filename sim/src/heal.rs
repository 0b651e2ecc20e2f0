//! The end of a schedule: the faults stop, and the cluster has to come to itself.

use crate::member::{Member, voter};
use crate::trace::trace;
use crate::violation::{Checked, ensure};
use crate::world::{Happens, World};
use eventstream_core::config::{PATIENCE, PATIENCE_SPREAD};

/// Ten election timeouts, in microseconds.
const PROGRESS_WITHIN: u64 = 10 * (PATIENCE.as_micros() + PATIENCE_SPREAD.as_micros());

impl World {
    /// Invariant 10: a majority elects and commits in time. In the same time every producer has its answers, and all
    /// members that are up have applied the same log.
    pub(crate) fn heal(&mut self) -> Checked {
        self.stop_faults()?;
        let (healed_at, before) = (self.now, self.oracle.committed());
        trace!(self, "*** all faults stop");
        loop {
            let has_committed = self.oracle.committed() > before;
            self.may_begin = !has_committed;
            if has_committed && self.has_come_to_itself() {
                break;
            }
            ensure!(
                self.now <= healed_at + PROGRESS_WITHIN,
                Progress,
                "{} us after the faults stopped: {} entries committed since, producers settled: {:?}, members: {}",
                self.now - healed_at,
                self.oracle.committed() - before,
                self.producers.iter().map(crate::producer::Producer::is_settled).collect::<Vec<_>>(),
                self.describe_members()
            );
            self.step()?;
        }
        self.compare_members()
    }

    fn stop_faults(&mut self) -> Checked {
        self.plan.calm();
        self.network.heal();
        for member in 0..self.plan.members {
            let state = &mut self.members[member];
            (state.paused_until, state.slow_disk_until) = (0, 0);
            state.disk.mend();
            state.clock.set_rate(self.now, 1_000_000);
            self.set_alarm(member);
        }
        // Those that stay down: as many as a majority can do without, and none that is up. Suspect members are no part of
        // a majority.
        let members = &self.members[..self.plan.members];
        let sound = members.iter().filter(|member| !member.is_suspect()).count();
        let mut spare = if self.plan.heal_only_majority { sound.saturating_sub(members.len() / 2 + 1) } else { 0 };
        self.stays_down = 0;
        for (at, _) in members.iter().enumerate().filter(|(_, member)| !member.is_up()) {
            if spare > 0 {
                self.stays_down |= 1 << at;
                spare -= 1;
            }
        }
        for member in 0..self.plan.members {
            if !self.members[member].is_up() {
                self.queue.push(self.now, Happens::Start { member });
                continue;
            }
            for peer in 0..member {
                self.connect(member, peer);
            }
        }
        Ok(())
    }

    /// Whether all members that are up have applied all there is, and all producers have their answers.
    fn has_come_to_itself(&self) -> bool {
        let committed = self.oracle.committed();
        self.producers.iter().all(crate::producer::Producer::is_settled)
            && self
                .present()
                .filter(|(_, member)| member.is_up())
                .all(|(at, member)| {
                    let has_applied = member.applied() == committed || self.plan.witness == Some(at);
                    has_applied && member.log.len() as u64 == committed
                })
            // Whom somebody misses, or who is missed himself, may stay suspect.
            && (self.stays_down != 0 || !self.present().any(|(_, member)| member.is_suspect()))
    }

    /// Those who are members.
    fn present(&self) -> impl Iterator<Item = (usize, &Member)> {
        let nodes = &self.members[..self.plan.members];
        let leader = nodes.iter().filter(|member| member.leads()).filter_map(|member| member.machine.as_ref());
        let configuration =
            leader.max_by_key(|machine| machine.raft().term()).map(|machine| *machine.raft().configuration());
        let is_present = move |at: usize| configuration.is_some_and(|it| it.duty_of(voter(at).node).is_some());
        nodes.iter().enumerate().filter(move |&(at, _)| is_present(at))
    }

    /// Applied state is held against the model once more, from the other end.
    fn compare_members(&self) -> Checked {
        for (at, member) in self.members[..self.plan.members].iter().enumerate() {
            let Some(machine) = &member.machine else { continue };
            // Who was removed has not heard of what came after.
            if machine.applied().index.0 < self.oracle.committed() {
                continue;
            }
            let (events, expected) = (machine.events(), self.oracle.model.events());
            ensure!(events == expected, ExactlyOnce, "member {} has {events} events instead of {expected}", at + 1);
            let (producers, expected_producers) = (machine.producer_count(), self.oracle.model.producer_count());
            ensure!(
                producers == expected_producers,
                StateHash,
                "member {} knows {producers} producers instead of {expected_producers}",
                at + 1
            );
            let topics: u64 = machine.topics().map(|topic| topic.next_offset().0).sum();
            ensure!(topics == expected, DenseOffsets, "the topics of member {} end at {topics} in all", at + 1);
        }
        Ok(())
    }

    fn describe_members(&self) -> String {
        let members = self.members[..self.plan.members].iter().enumerate();
        let texts = members.map(|(at, member)| match &member.machine {
            Some(machine) => format!("{}: {machine:?}, log {}", at + 1, member.log.len()),
            None => format!("{}: down", at + 1),
        });
        texts.collect::<Vec<_>>().join("; ")
    }
}
