//! Everything that was not synced disappears, on all nodes at once, again and again.
//!
//! `EVENTSTREAM_POWER_CUTS` says how often, `EVENTSTREAM_POWER_SEED` with which seed. The seed decides when and what is
//! cut; what runs at that moment is not replayed.

use crate::powered::Powered;
use core::panic::AssertUnwindSafe;
use core::time::Duration;
use eventstream_testbed::{Load, Progress};
use fastrand::Rng;
use powercut::{Loss, Lost, Syncs};
use std::panic::catch_unwind;
use std::thread::sleep;

/// What CI has time for.
const CUTS: u64 = 25;

/// One in so many cuts comes while the nodes start, elect, and repair.
const EARLY: u64 = 8;

/// Cuts before a cluster is up for the first time.
const FIRST_STARTS: u64 = 10;

/// The losses of this run.
fn losses() -> Vec<Loss> {
    let named = |name: &str| match name {
        "everything" => vec![Loss::Everything],
        "torn" => vec![Loss::Torn],
        "scattered" => vec![Loss::Scattered { sector: 512 }, Loss::Scattered { sector: 4_096 }],
        other => panic!("EVENTSTREAM_POWER_LOSS knows everything, torn and scattered, and not {other:?}"),
    };
    let names = std::env::var("EVENTSTREAM_POWER_LOSS").unwrap_or_else(|_| "everything,torn,scattered".into());
    names.split(',').flat_map(named).collect()
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

fn seed() -> u64 {
    from_environment("EVENTSTREAM_POWER_SEED").unwrap_or_else(|| fastrand::u64(..))
}

fn load(events: u64) -> Load {
    Load { topic: "power".into(), producers: 4, events, pause_every: 50, pause: Duration::from_millis(1) }
}

/// Cuts the power under load, `cuts` times, and once more when all is acknowledged. Then every acknowledged event must be
/// there.
fn survive(powered: &mut Powered, seed: u64, cuts: u64, losses: &[Loss], syncs: Syncs) {
    let mut rng = Rng::with_seed(seed);
    let load = load(u64::MAX);
    let (mut lost, mut early) = (Lost::default(), 0);
    let progress = Progress::default();
    let ledger = powered.publish_while(&load, &progress, |powered, progress| {
        progress.wait_for(1_000);
        powered.disks.values().for_each(|disk| disk.set_syncs(syncs));
        for cut in 1..=cuts {
            if rng.u64(..EARLY) == 0 {
                sleep(Duration::from_millis(rng.u64(..300)));
                early += 1;
            } else {
                progress.wait_for(progress.acked() + rng.u64(1..=2_000));
                sleep(Duration::from_micros(rng.u64(..3_000)));
            }
            let (acked, in_flight) = (progress.acked(), progress.in_flight());
            let loss = *rng.choice(losses).expect("some loss");
            let taken = powered.cut_power(loss, &mut rng);
            println!("cut {cut} of {cuts}: {loss:?}, {acked} acked, {in_flight} in flight, {taken:?}");
            lost = Lost { bytes: lost.bytes + taken.bytes, names: lost.names + taken.names };
            powered.start_nodes();
        }
        progress.wait_for(progress.acked() + 1_000);
        progress.ask_to_end();
    });
    powered.cut_power(Loss::Everything, &mut rng);
    powered.start_nodes();
    powered.cluster.assert_exactly_once(&load, &ledger);
    powered.cluster.assert_none_ended();
    println!(
        "{cuts} cuts under load, {early} of them soon after a start, and one when all was acknowledged; seed {seed}"
    );
    println!("{} unsynced bytes and {} unsynced names were lost", lost.bytes, lost.names);
}

#[test]
fn no_acknowledged_event_is_lost_with_the_power() {
    let Some(mut powered) = Powered::start("power loss") else { return };
    let (seed, cuts) = (seed(), from_environment("EVENTSTREAM_POWER_CUTS").unwrap_or(CUTS));
    println!("seed {seed}, {cuts} cuts");
    survive(&mut powered, seed, cuts, &losses(), Syncs::Honest);
}

/// Before a node has ever been up there is nothing to lose, and nothing that is half there may keep it from starting.
#[test]
fn a_first_start_that_was_cut_off_is_made_again() {
    let Some(mut powered) = Powered::start("power loss in the first start") else { return };
    let seed = seed();
    println!("seed {seed}");
    let (mut rng, losses) = (Rng::with_seed(seed), losses());
    for _ in 0..FIRST_STARTS {
        sleep(Duration::from_millis(rng.u64(..200)));
        let loss = *rng.choice(&losses).expect("some loss");
        println!("{loss:?}: {:?}", powered.cut_power(loss, &mut rng));
        powered.start_nodes();
    }
    let load = load(100);
    let ledger = powered.publish_while(&load, &Progress::default(), |_, _| {});
    powered.cluster.assert_exactly_once(&load, &ledger);
}

/// The control: the same with disks that say that they have synced, and have not. It must find the loss, both under load
/// and when all is acknowledged. All is lost and not some of it, so that no node has a reason not to start.
#[test]
fn syncs_that_do_nothing_are_found_out() {
    for cuts in [0, CUTS] {
        let Some(mut powered) = Powered::start("the control of power loss") else { return };
        let seed = seed();
        println!("seed {seed}, {cuts} cuts, no syncs");
        let run =
            catch_unwind(AssertUnwindSafe(|| survive(&mut powered, seed, cuts, &[Loss::Everything], Syncs::Lying)));
        let found = run.expect_err("events that were never synced are gone");
        let found = found.downcast_ref::<String>().expect("a message");
        println!("found, as it must be: {found}");
        assert!(found.contains("which was acknowledged") || found.contains("events are missing"), "{found}");
    }
}
