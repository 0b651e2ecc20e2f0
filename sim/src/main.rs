//! The command line of the simulator.

use clap::Parser;
use core::time::Duration;
use eventstream_sim::{Faults, PlantedFault, Report, Rules, Simulator, Stats, quiet_panics, run_many};
use std::process::ExitCode;
use std::thread::available_parallelism;
use std::time::Instant;

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
    #[arg(long, value_name = "NAME", value_parser = mistake)]
    fault: Option<PlantedFault>,
    /// Plants each of the mistakes that there are, one after the other, and says after how many schedules it was found.
    #[arg(long)]
    zoo: bool,
    /// Runs the schedule of one seed and prints its last steps, whether it fails or not.
    #[arg(long, value_name = "SEED")]
    replay: Option<u64>,
}

/// The mistake of this name.
fn mistake(name: &str) -> Result<PlantedFault, String> {
    let found = PlantedFault::ALL.iter().find(|fault| fault.name() == name);
    found.copied().ok_or_else(|| format!("there is none of this name; --zoo lists {}", PlantedFault::ALL.len()))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    quiet_panics();
    let rules = rules(&arguments, arguments.fault);
    if let Some(seed) = arguments.replay {
        return replay(rules, seed);
    }
    let threads = arguments.jobs.or_else(|| available_parallelism().ok().map(Into::into)).unwrap_or(1);
    let progress = |done| {
        if done % 10_240 == 0 {
            eprintln!("{done} of {} schedules", arguments.schedules);
        }
    };
    if arguments.zoo {
        return zoo(&arguments, threads);
    }
    #[expect(clippy::disallowed_methods, reason = "how fast it goes is said beside what it has found")]
    let began = Instant::now();
    let report = run_many(rules, arguments.seed, arguments.schedules, threads, &progress);
    match arguments.fault {
        None => judge(&arguments, &report, began.elapsed(), threads),
        Some(planted) => judge_planted(&arguments, planted, &report),
    }
}

/// A planted mistake is to be found by what comes of it, without a look at the disks.
fn rules(arguments: &Arguments, planted: Option<PlantedFault>) -> Rules {
    let faults = planted.map_or(Faults::NONE, |planted| Faults::NONE.with(planted));
    Rules { steps: arguments.steps, faults, looks_at_disks: planted.is_none() }
}

/// A table of all mistakes. Those that the simulator does not find are for tests of their own.
fn zoo(arguments: &Arguments, threads: usize) -> ExitCode {
    let mut missed = 0;
    println!("| mistake | found after | by invariant | what is done wrong |");
    println!("|---|---|---|---|");
    for &fault in PlantedFault::ALL {
        let report = run_many(rules(arguments, Some(fault)), arguments.seed, arguments.schedules, threads, &|_| {});
        let found = match &report.failure {
            Some(failure) => {
                let schedules = failure.seed.wrapping_sub(arguments.seed) + 1;
                format!("{schedules} | {}", failure.violation.invariant)
            }
            None => {
                missed += 1;
                format!("not in {} | ", arguments.schedules)
            }
        };
        println!("| `{}` | {found} |{} |", fault.name(), fault.text());
    }
    println!("{} mistakes, {missed} not found", PlantedFault::ALL.len());
    ExitCode::SUCCESS
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

/// How fast it went. A core-hour is an hour of one thread.
fn pace(stats: &Stats, took: Duration, threads: usize) -> String {
    let core_seconds = took.as_secs_f64() * threads as f64;
    let per_core_hour = stats.virtual_us as f64 / 1e6 / core_seconds;
    let per_second = stats.schedules as f64 / took.as_secs_f64();
    format!("{per_second:>14.0}  schedules per second\n{per_core_hour:>14.0}  virtual hours per core-hour\n")
}

fn judge(arguments: &Arguments, report: &Report, took: Duration, threads: usize) -> ExitCode {
    if let Some(failure) = &report.failure {
        print!("{failure}");
        println!("again: {}", again(arguments, failure.seed));
        return ExitCode::FAILURE;
    }
    print!("{}", report.stats);
    print!("{}", pace(&report.stats, took, threads));
    let zeros: Vec<_> = report.stats.zeros().collect();
    if !zeros.is_empty() && arguments.schedules >= ENOUGH_FOR_COUNTS {
        println!("never seen: {}", zeros.join(", "));
        return ExitCode::FAILURE;
    }
    println!("every invariant held");
    ExitCode::SUCCESS
}

fn judge_planted(arguments: &Arguments, planted: PlantedFault, report: &Report) -> ExitCode {
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
    let fault = arguments.fault.map_or(String::new(), |planted| format!(" --fault {}", planted.name()));
    format!("cargo run --release -p eventstream-sim -- --replay {seed} --steps {}{fault}", arguments.steps)
}
