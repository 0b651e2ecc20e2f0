//! Log time over elections: it never decreases, and jumps only to what a majority's wall clocks agree on.

mod replica_cluster;

use eventstream_core::time::Duration;
use replica_cluster::{Cluster, batch};

/// Noon of some day, in microseconds since the Unix epoch.
const NOON: u64 = 1_790_000_000_000_000;
const SECOND: u64 = 1_000_000;
/// Where a clock begins whose battery is dead.
const DEAD: u64 = 946_684_800 * SECOND;

/// A cluster with these wall clocks, and monotonic clocks that have nothing to do with one another.
fn cluster(walls: [u64; 3]) -> Cluster {
    let mut cluster = Cluster::new(3);
    for (node, wall) in walls.into_iter().enumerate() {
        cluster.set_clocks(node, Duration::from_secs(1_000 * (3 - node as u64)), wall);
    }
    cluster
}

/// Publishes once, and tells how far log time is ahead of noon then, as the test's clock has it.
fn seconds_after_noon(cluster: &mut Cluster, leader: usize) -> i64 {
    let next = cluster.nodes[leader].replica.events();
    cluster.publish(leader, batch("a", 1, 1, next, 1));
    let log_time = cluster.nodes[leader].replica.applied_log_time().0;
    assert_eq!(log_time, cluster.nodes[leader].replica.last_log_time().0);
    let noon = NOON + cluster.now.as_micros();
    (log_time as i64 - noon as i64) / SECOND as i64
}

#[test]
fn it_jumps_to_what_a_majority_agrees_on() {
    for walls in [[NOON; 3], [NOON, NOON, DEAD], [NOON, 0, NOON], [NOON + 90_000 * SECOND, NOON, NOON]] {
        let mut cluster = cluster(walls);
        let leader = cluster.elect();
        cluster.run(Duration::from_secs(1));
        assert_eq!(seconds_after_noon(&mut cluster, leader), 0, "{walls:?}");
        assert!(cluster.nodes[leader].replica.clocks_agree(cluster.node_clock(leader)));
    }
}

#[test]
fn without_agreement_it_follows_the_monotonic_clock_from_where_the_log_ends() {
    for walls in [[0; 3], [NOON, 0, 0], [NOON, DEAD, NOON + 6 * SECOND]] {
        let mut cluster = cluster(walls);
        let leader = cluster.elect();
        cluster.run(Duration::from_secs(1));
        let first = cluster.log_times(leader)[0];
        assert_eq!(first, 0, "{walls:?}: the first leader has nothing to go on from");
        seconds_after_noon(&mut cluster, leader);
        let before = cluster.log_times(leader).pop().unwrap();
        cluster.run(Duration::from_secs(3));
        seconds_after_noon(&mut cluster, leader);
        assert_eq!(cluster.log_times(leader).pop().unwrap() - before, 3 * SECOND, "{walls:?}");
        assert!(!cluster.nodes[leader].replica.clocks_agree(cluster.node_clock(leader)));
    }
}

#[test]
fn it_never_decreases_over_leaders_whatever_their_clocks_say() {
    // Agreement among the first two holds as long as both are there.
    let mut cluster = cluster([NOON, NOON + SECOND, DEAD]);
    let first = cluster.elect();
    let mut leader = first;
    for round in 0..6 {
        for _ in 0..3 {
            cluster.run(Duration::from_millis(200));
            seconds_after_noon(&mut cluster, leader);
        }
        cluster.isolate(leader);
        let next = cluster.elect();
        assert_ne!(next, leader, "round {round}");
        cluster.heal(leader);
        leader = next;
    }
    cluster.run(Duration::from_secs(1));
    cluster.assert_alike();
    let times = cluster.log_times(leader);
    assert!(times.is_sorted(), "{times:?}");
    assert!(times.len() > 20 && times[0] < *times.last().unwrap());
    // A dead clock among the leaders moved nothing by more than what passed.
    let last = *times.last().unwrap();
    assert!(last <= NOON + SECOND + cluster.now.as_micros(), "{last}");
}

#[test]
fn a_restarted_member_goes_on_from_its_last_entry() {
    let mut cluster = cluster([NOON; 3]);
    let leader = cluster.elect();
    cluster.run(Duration::from_secs(1));
    seconds_after_noon(&mut cluster, leader);
    let before = cluster.nodes[leader].replica.last_log_time();
    for node in 0..3 {
        // The batteries of all clocks die.
        cluster.restart_with_wall(node, DEAD);
    }
    let leader = cluster.elect();
    let empty = cluster.nodes[leader].replica.applied_log_time();
    assert!(empty >= before && empty.0 - before.0 < 10 * SECOND, "{before} {empty}");
}
