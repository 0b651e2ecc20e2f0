//! The command line of the simulator.

use clap::{Parser, ValueEnum};
use eventstream_sim::{Faults, PlantedFault, Report, Rules, Simulator, quiet_panics, run_many};
use std::process::ExitCode;
use std::thread::available_parallelism;

/// Schedules from which on every fault and every consequence has to have been seen.
const ENOUGH_FOR_COUNTS: u64 = 500;

/// Replays years of failures of a cluster in minutes, and checks after every step what must always hold.
///
/// Exit codes: 0, everything held (with --fault: the planted mistake was found); 1, an invariant was broken, a count is
/// zero, or a planted mistake was not found.
#[derive(Debug, Parser)]
#[command(name = "eventstream-sim", version)]
struct Arguments {
    /// Schedules to run, one for each seed from --seed on.
    #[arg(long, default_value_t = 10_000)]
    schedules: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Steps of a schedule before its faults stop.
    #[arg(long, default_value_t = 2_000)]
    steps: u64,
    /// Threads; all cores if not given.
    #[arg(long)]
    jobs: Option<usize>,
    /// Plants a mistake, and expects to find it by what comes of it.
    #[arg(long, value_name = "NAME")]
    fault: Option<Planted>,
    /// Runs the schedule of one seed and prints its last steps, whether it fails or not.
    #[arg(long, value_name = "SEED")]
    replay: Option<u64>,
}

/// The mistakes that can be planted.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Planted {
    /// The leader counts an entry as its own before its sync.
    LeaderCountsItself,
    /// A vote is sent before it is synced.
    VoteNotSynced,
    /// Duplicates are decided when a batch is proposed, not when it is applied.
    DedupAtPropose,
    /// A suspect member votes as if it had forgotten nothing.
    SuspectVotes,
    /// A member whose disk was wiped votes as if it were new and had promised nothing.
    WipedVotes,
}

impl Planted {
    const fn fault(self) -> PlantedFault {
        match self {
            Self::LeaderCountsItself => PlantedFault::LeaderCountsItselfBeforeSync,
            Self::VoteNotSynced => PlantedFault::VoteNotSyncedBeforeReply,
            Self::DedupAtPropose => PlantedFault::DedupAtPropose,
            Self::SuspectVotes => PlantedFault::SuspectVotesAsSound,
            Self::WipedVotes => PlantedFault::WipedVotesAsSound,
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    quiet_panics();
    let planted = arguments.fault.map_or(Faults::NONE, |planted| Faults::NONE.with(planted.fault()));
    let rules = Rules { steps: arguments.steps, faults: planted, looks_at_disks: arguments.fault.is_none() };
    if let Some(seed) = arguments.replay {
        return replay(rules, seed);
    }
    let threads = arguments.jobs.or_else(|| available_parallelism().ok().map(Into::into)).unwrap_or(1);
    let progress = |done| {
        if done % 10_240 == 0 {
            eprintln!("{done} of {} schedules", arguments.schedules);
        }
    };
    let report = run_many(rules, arguments.seed, arguments.schedules, threads, &progress);
    match arguments.fault {
        None => judge(&arguments, &report),
        Some(planted) => judge_planted(&arguments, planted, &report),
    }
}

fn replay(rules: Rules, seed: u64) -> ExitCode {
    let (trace, failure) = Simulator::new(rules).replay(seed);
    if let Some(failure) = failure {
        print!("{failure}");
        return ExitCode::FAILURE;
    }
    trace.lines().for_each(|line| println!("{line}"));
    println!("seed {seed}: everything held; digest of the trace {:016x}", trace.digest());
    ExitCode::SUCCESS
}

fn judge(arguments: &Arguments, report: &Report) -> ExitCode {
    if let Some(failure) = &report.failure {
        print!("{failure}");
        println!("again: {}", again(arguments, failure.seed));
        return ExitCode::FAILURE;
    }
    print!("{}", report.stats);
    let zeros: Vec<_> = report.stats.zeros().collect();
    if !zeros.is_empty() && arguments.schedules >= ENOUGH_FOR_COUNTS {
        println!("never seen: {}", zeros.join(", "));
        return ExitCode::FAILURE;
    }
    println!("every invariant held");
    ExitCode::SUCCESS
}

fn judge_planted(arguments: &Arguments, planted: Planted, report: &Report) -> ExitCode {
    match &report.failure {
        Some(failure) => {
            let schedules = failure.seed.wrapping_sub(arguments.seed) + 1;
            println!("{planted:?}: found after {schedules} schedules");
            println!("seed {}, step {}: {}", failure.seed, failure.step, failure.violation);
            println!("trace: {}", again(arguments, failure.seed));
            ExitCode::SUCCESS
        }
        None => {
            println!("{planted:?}: not found in {} schedules", arguments.schedules);
            ExitCode::FAILURE
        }
    }
}

/// The command that runs the schedule of a seed again.
fn again(arguments: &Arguments, seed: u64) -> String {
    let planted = arguments.fault.and_then(|planted| planted.to_possible_value());
    let fault = planted.map_or(String::new(), |value| format!(" --fault {}", value.get_name()));
    format!("cargo run --release -p eventstream-sim -- --replay {seed} --steps {}{fault}", arguments.steps)
}
