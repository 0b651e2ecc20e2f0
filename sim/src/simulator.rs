//! Running schedules, one after the other or on all cores.

use crate::stats::Stats;
use crate::trace::Trace;
use crate::violation::{Invariant, Violation};
use crate::world::{Rules, World};
use core::cell::Cell;
use core::fmt;
use core::panic::AssertUnwindSafe;
use core::sync::atomic::{AtomicU64, Ordering};
use std::panic::catch_unwind;

/// Runs schedules. Keeps its memory from one to the next.
pub struct Simulator {
    world: World,
}

/// A schedule that broke an invariant.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// What was broken, and how.
    pub violation: Violation,
    /// The step at which it was.
    pub step: u64,
    /// The steps before.
    pub trace: Trace,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.trace.lines() {
            writeln!(f, "{line}")?;
        }
        writeln!(f, "seed {}, step {}: {}", self.seed, self.step, self.violation)
    }
}

impl core::error::Error for Failure {}

impl Simulator {
    /// A simulator under these rules.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self { world: World::new(rules) }
    }

    /// Runs the schedule of a seed. If it fails, it is run again for its trace.
    ///
    /// # Errors
    ///
    /// The schedule broke an invariant, or an assertion of the machine stopped it.
    pub fn run(&mut self, seed: u64) -> Result<&Stats, Box<Failure>> {
        match self.attempt(seed, false) {
            Ok(()) => Ok(&self.world.stats),
            Err(_) => Err(Box::new(self.replay(seed).1.expect("the same seed gives the same steps"))),
        }
    }

    /// Runs the schedule of a seed with its trace on.
    pub fn replay(&mut self, seed: u64) -> (Trace, Option<Failure>) {
        let failed = self.attempt(seed, true).err();
        let trace = self.world.trace.clone();
        let step = self.world.step;
        (trace.clone(), failed.map(|violation| Failure { seed, violation, step, trace }))
    }

    /// What was counted in the schedule run last.
    #[must_use]
    pub const fn stats(&self) -> &Stats {
        &self.world.stats
    }

    fn attempt(&mut self, seed: u64, with_trace: bool) -> Result<(), Violation> {
        QUIET.set(true);
        let result = catch_unwind(AssertUnwindSafe(|| self.world.run(seed, with_trace)));
        QUIET.set(false);
        result.unwrap_or_else(|payload| {
            let text = payload
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| payload.downcast_ref::<&str>().map(|&text| text.to_owned()))
                .unwrap_or_default();
            // What an unwound call has left behind is not to be used again.
            let fresh = World::new(self.world.rules);
            let World { trace, step, .. } = core::mem::replace(&mut self.world, fresh);
            (self.world.trace, self.world.step) = (trace, step);
            Err(Violation { invariant: Invariant::Contract, text: format!("assertion failed: {text}") })
        })
    }
}

thread_local! {
    /// Whether a panic of this thread is a finding, and no news for the terminal.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Keeps panics inside schedules from being printed: they become [`Failure`]s.
pub fn quiet_panics() {
    let previous = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !QUIET.get() {
            previous(info);
        }
    }));
}

/// What came of many schedules.
#[derive(Debug)]
pub struct Report {
    /// What was counted in the schedules that passed.
    pub stats: Stats,
    /// Of the schedules that failed, the one with the lowest seed.
    pub failure: Option<Box<Failure>>,
}

/// Runs the schedules of `count` seeds from `first_seed` on, on `threads` threads, until one fails. `progress` is called
/// now and then with how many were run.
///
/// The failure reported is the same whatever the number of threads: all seeds below it were run and passed.
pub fn run_many(rules: Rules, first_seed: u64, count: u64, threads: usize, progress: &(dyn Fn(u64) + Sync)) -> Report {
    let next = AtomicU64::new(0);
    // Seeds from this one on need not be run any more.
    let end = AtomicU64::new(count);
    let work = || {
        let mut simulator = Simulator::new(rules);
        let (mut stats, mut failure) = (Stats::default(), None);
        loop {
            // Relaxed: both are counters that guard no other memory; results travel by joining the threads.
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= end.load(Ordering::Relaxed) {
                return (stats, failure);
            }
            match simulator.run(first_seed.wrapping_add(at)) {
                Ok(passed) => stats += passed,
                Err(failed) => {
                    end.fetch_min(at, Ordering::Relaxed);
                    failure = Some((at, failed));
                }
            }
            if at % 1_024 == 1_023 {
                progress(at + 1);
            }
        }
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().expect("panics of schedules are caught")).collect()
    });
    let mut report = Report { stats: Stats::default(), failure: None };
    for (stats, _) in &results {
        report.stats += stats;
    }
    let lowest = results.into_iter().filter_map(|(_, failure)| failure).min_by_key(|&(at, _)| at);
    report.failure = lowest.map(|(_, failure)| failure);
    report
}
