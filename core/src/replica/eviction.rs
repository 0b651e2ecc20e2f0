//! When a leader proposes that producers be evicted: their table is nearly full, and some were not heard of for long.
//!
//! This is about a command that is worth an entry. Who goes is decided when the entry is applied, on every node alike.

use super::command::Command;
use super::memory::Memory;
use super::state::State;
use crate::config::{EVICTION_PAUSE, EVICTION_SHARE};
use crate::id::LogTime;
use crate::time::Instant;

/// What is remembered between two looks at the table.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Eviction {
    /// The next look is not before this, ...
    next_look: Instant,
    /// ... nor before somebody may be idle who was last heard of at this log time: nobody was heard of last before it.
    oldest: LogTime,
}

impl Eviction {
    /// The command that is due, at most once in [`EVICTION_PAUSE`]. While the table is not nearly full, or nobody in it can be
    /// idle, nothing is looked at.
    pub(super) fn poll<M: Memory>(&mut self, now: Instant, state: &State<M>) -> Option<Command> {
        let before = state.idle_before(state.log_time);
        let is_nearly_full = state.producers.room() <= state.parameters.producers / EVICTION_SHARE;
        if !is_nearly_full || self.oldest >= before || now < self.next_look {
            return None;
        }
        self.next_look = now + EVICTION_PAUSE;
        self.oldest = state.producers.oldest().unwrap_or(state.log_time);
        (self.oldest < before).then_some(Command::EvictProducers { before })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::testing::{HostState, run, state};

    const NOW: Instant = Instant::from_micros(5_000_000);

    /// A full table, in which the first producer is idle after `entries` more; the second is not.
    fn full_after(entries: usize) -> HostState {
        let mut state = state();
        for producer in 1..=4 {
            state.apply_one(run("a", producer, 0, 1));
        }
        (0..entries).for_each(|_| _ = state.apply_one(run("a", 2, 0, 1)));
        state
    }

    #[test]
    fn it_is_due_when_the_table_is_nearly_full_and_somebody_is_idle() {
        let (mut idle, mut eviction) = (state(), Eviction::default());
        idle.apply_one(run("a", 1, 0, 1));
        (0..20).for_each(|_| _ = idle.apply_one(run("a", 2, 0, 1)));
        assert_eq!(eviction.poll(NOW, &idle), None, "there is room");

        assert_eq!(Eviction::default().poll(NOW, &full_after(7)), None, "nobody is idle");
        let mut full = full_after(8);
        let due = Command::EvictProducers { before: LogTime(20) };
        assert_eq!(eviction.poll(NOW, &full), Some(due));
        full.apply_command_entry(due);
        assert_eq!((full.producers.len(), eviction.poll(NOW + EVICTION_PAUSE, &full)), (3, None));
    }

    #[test]
    fn it_is_not_given_again_at_once() {
        let (full, mut eviction) = (full_after(8), Eviction::default());
        let due = Some(Command::EvictProducers { before: LogTime(20) });
        let just_before = Instant::from_micros((NOW + EVICTION_PAUSE).as_micros() - 1);
        let polled = [NOW, NOW, just_before, NOW + EVICTION_PAUSE].map(|now| eviction.poll(now, &full));
        assert_eq!(polled, [due, None, None, due]);
    }

    #[test]
    fn a_table_of_which_nobody_can_be_idle_is_not_looked_at() {
        let (mut full, mut eviction) = (full_after(7), Eviction::default());
        assert_eq!(eviction.poll(NOW, &full), None);
        let next_look = eviction.next_look;
        assert_eq!((eviction.oldest, eviction.poll(NOW + EVICTION_PAUSE, &full)), (LogTime(10), None));
        assert_eq!(eviction.next_look, next_look);
        full.apply_one(run("a", 1, 0, 1));
        assert_eq!(eviction.poll(NOW + EVICTION_PAUSE, &full), None, "who was silent has spoken");
        assert_eq!(eviction.oldest, LogTime(30));
    }
}
