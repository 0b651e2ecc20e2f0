//! A share of the schedules that a night runs: none breaks an invariant, and none of the faults has gone quiet.

use eventstream_sim::{Faults, PlantedFault, Rules, Simulator, quiet_panics, run_many};
use std::thread::available_parallelism;

fn threads() -> usize {
    available_parallelism().map_or(1, Into::into)
}

#[test]
fn every_invariant_holds_and_every_fault_fires() {
    quiet_panics();
    let report = run_many(Rules::default(), 1, 15_000, threads(), &|_| {});
    if let Some(failure) = report.failure {
        panic!("{failure}again: cargo run --release -p eventstream-sim -- --replay {}", failure.seed);
    }
    println!("{}", report.stats);
    assert_eq!(report.stats.schedules, 15_000);
    assert!(report.stats.steps >= 2_000 * report.stats.schedules);
    assert_eq!(report.stats.zeros().collect::<Vec<_>>(), [""; 0], "never seen");
}

/// Mistakes that hardly any schedule shows, or none: each has a test of its name in `core/tests/raft_zoo.rs`.
const BY_SCENARIO: [PlantedFault; 9] = [
    PlantedFault::OldTermCommitted,
    PlantedFault::AckBeforeTerm,
    PlantedFault::JointByOneMajority,
    PlantedFault::ConfigurationKept,
    PlantedFault::ChangeBeforeOwnTerm,
    PlantedFault::AddedWithoutMajorityBefore,
    PlantedFault::SuspectCounted,
    PlantedFault::SnapshotRowsSkipped,
    PlantedFault::SnapshotAckedEarly,
];

/// Each of the others is found by what comes of it, without a look at the disks. The last is the canary.
#[test]
fn every_planted_mistake_is_found() {
    quiet_panics();
    let mut missed = Vec::new();
    for &fault in PlantedFault::ALL.iter().filter(|fault| !BY_SCENARIO.contains(fault)) {
        let rules = Rules { faults: Faults::NONE.with(fault), looks_at_disks: false, ..Rules::default() };
        let report = run_many(rules, 1, 50_000, threads(), &|_| {});
        match report.failure {
            Some(failure) => {
                println!("{}: found after {} schedules: {}", fault.name(), failure.seed, failure.violation);
                assert!(failure.trace.lines().count() > 0, "a failure comes with its trace");
            }
            None => missed.push(fault.name()),
        }
    }
    assert_eq!(missed, [""; 0], "not found in 50,000 schedules");
    assert!(PlantedFault::ALL.len() > 40);
}

#[test]
fn the_same_seed_gives_the_same_steps() {
    let mut used = Simulator::new(Rules::default());
    let mut digests = Vec::new();
    for seed in 100..140 {
        used.run(seed).expect("every invariant holds");
        let stats = used.stats().clone();
        let (trace, failure) = used.replay(seed);
        assert!(failure.is_none());
        assert_eq!(*used.stats(), stats, "the trace changes nothing");
        // Whatever ran before in the same memory leaves no mark.
        let mut fresh = Simulator::new(Rules::default());
        assert_eq!(fresh.replay(seed).0, trace, "seed {seed}");
        assert_eq!(*fresh.stats(), stats, "seed {seed}");
        digests.push(trace.digest());
    }
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), 40, "each seed has steps of its own");
}

#[test]
fn a_failure_is_the_same_whatever_the_number_of_threads() {
    quiet_panics();
    let fault = PlantedFault::VoteNotSyncedBeforeReply;
    let rules = Rules { faults: Faults::NONE.with(fault), looks_at_disks: false, ..Rules::default() };
    let [alone, together] = [1, 4].map(|threads| run_many(rules, 1, 20_000, threads, &|_| {}).failure);
    let (alone, together) = (alone.expect("found"), together.expect("found"));
    assert_eq!((alone.seed, alone.step, &alone.violation), (together.seed, together.step, &together.violation));
    assert_eq!(alone.trace, together.trace);
    let (_, replayed) = Simulator::new(rules).replay(alone.seed);
    assert_eq!(replayed.map(|failure| failure.violation), Some(alone.violation));
}

#[test]
fn what_disks_hold_is_seen_at_the_commit_already() {
    quiet_panics();
    let fault = PlantedFault::LeaderCountsItselfBeforeSync;
    let rules = Rules { faults: Faults::NONE.with(fault), ..Rules::default() };
    let failure = run_many(rules, 1, 100, 1, &|_| {}).failure.expect("found at the first commit");
    assert_eq!(failure.violation.invariant, eventstream_sim::Invariant::DurableMajority, "{failure}");
}
