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

/// Returns after how many schedules a planted mistake was found, by what came of it.
fn found_after(fault: PlantedFault) -> u64 {
    quiet_panics();
    let rules = Rules { faults: Faults::NONE.with(fault), looks_at_disks: false, ..Rules::default() };
    let report = run_many(rules, 1, 100_000, threads(), &|_| {});
    let failure = report.failure.unwrap_or_else(|| panic!("{fault:?} was not found in 100,000 schedules"));
    println!("{fault:?}: found after {} schedules: {}", failure.seed, failure.violation);
    assert!(failure.trace.lines().count() > 0, "a failure comes with its trace");
    failure.seed
}

#[test]
fn a_leader_that_counts_itself_before_its_sync_is_found() {
    found_after(PlantedFault::LeaderCountsItselfBeforeSync);
}

#[test]
fn a_vote_that_is_sent_before_it_is_synced_is_found() {
    found_after(PlantedFault::VoteNotSyncedBeforeReply);
}

#[test]
fn duplicates_decided_at_propose_are_found() {
    found_after(PlantedFault::DedupAtPropose);
}

#[test]
fn a_suspect_member_that_votes_as_if_it_were_sound_is_found() {
    found_after(PlantedFault::SuspectVotesAsSound);
}

#[test]
fn a_wiped_member_that_votes_as_if_it_were_new_is_found() {
    found_after(PlantedFault::WipedVotesAsSound);
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
