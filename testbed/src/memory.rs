//! What a node holds in memory, and what it said that it would.

use super::{Cluster, Spoke};
use std::fs;

/// The most that a node had resident at any time, the program itself included.
///
/// # Panics
/// When it does not run.
#[must_use]
pub fn peak_bytes(cluster: &Cluster, node: Spoke) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", cluster.process(node).id())).expect("it runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line of the peak");
    let kib: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
    kib << 10
}

/// The sum that a node has printed at its start.
///
/// # Panics
/// When it has not.
#[must_use]
pub fn said_bytes(cluster: &Cluster, node: Spoke) -> u64 {
    let said = fs::read_to_string(cluster.log(node)).expect("the node's log");
    let sum = said.lines().find_map(|line| line.trim().strip_suffix(" MiB  in all")).expect("a sum");
    let mib: f64 = sum.trim().parse().expect("a number");
    (mib * f64::from(1 << 20)) as u64
}
