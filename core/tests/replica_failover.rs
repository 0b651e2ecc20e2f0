//! Exactly once, whoever leads: publish, failover, restart.

mod replica_cluster;

use eventstream_core::config::MAX_BATCH_EVENTS;
use eventstream_core::dedup::Opened;
use eventstream_core::id::{Epoch, Index, Offset, ProducerId, Sequence, TopicId};
use eventstream_core::raft::{LogPosition, ProposeError};
use eventstream_core::receipt::{RunReceipt, RunRefusal};
use eventstream_core::replica::{
    ApplyError, Command, CommandOutcome, Entry, Outcomes, RestoreError, RestoredLog, Restoring, TopicSlice,
};
use eventstream_core::time::{Duration, Instant};
use replica_cluster::{Cluster, batch, memory, options};

fn duplicates(count: u16, offset: u64) -> RunReceipt {
    RunReceipt {
        duplicates: count,
        duplicate_offset: Some(Offset(offset)),
        accepted: 0,
        first_offset: Offset::ZERO,
        refused: None,
    }
}

#[test]
fn a_member_alone_publishes() {
    let mut cluster = Cluster::new(1);
    let leader = cluster.elect();
    let applied = cluster.publish(leader, batch("oven", 1, 1, 0, 64));
    assert_eq!(applied.runs, [RunReceipt::accepted(64, Offset(0))]);
    assert_eq!(applied.topics, [TopicSlice { topic: TopicId(0), first_offset: Offset(0), mask: u64::MAX }]);
    assert_eq!(applied.mask.count_ones() as usize, MAX_BATCH_EVENTS);
    assert_eq!(cluster.nodes[0].replica.topic(TopicId(0)).name(), "oven");
}

#[test]
fn all_members_come_to_the_same_state() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect();
    for round in 0..20 {
        cluster.publish(leader, batch("a", 1, 1, 3 * round, 3));
        cluster.publish(leader, batch("b", 2, 1, 2 * round, 3));
    }
    cluster.run(Duration::from_millis(500));
    cluster.assert_alike();
    assert_eq!(cluster.nodes[leader].replica.events(), 60 + 41);
}

#[test]
fn a_batch_sent_again_to_the_next_leader_is_a_duplicate() {
    let mut cluster = Cluster::new(3);
    let old = cluster.elect();
    assert_eq!(cluster.publish(old, batch("a", 1, 1, 0, 5)).runs, [RunReceipt::accepted(5, Offset(0))]);
    cluster.isolate(old);
    let new = cluster.elect();
    // The client has not heard of the first batch's fate, and sends it again with what is new.
    assert_eq!(cluster.publish(new, batch("a", 1, 1, 0, 5)).runs, [duplicates(5, 0)]);
    assert_eq!(cluster.publish(new, batch("a", 1, 1, 5, 2)).runs, [RunReceipt::accepted(2, Offset(5))]);
    cluster.heal(old);
    cluster.run(Duration::from_secs(1));
    cluster.assert_alike();
}

#[test]
fn what_a_deposed_leader_did_not_replicate_is_gone_and_may_be_sent_again() {
    let mut cluster = Cluster::new(3);
    let old = cluster.elect();
    cluster.publish(old, batch("a", 1, 1, 0, 5));
    cluster.isolate(old);
    let lost = cluster.propose(old, batch("a", 1, 1, 5, 5)).unwrap();
    cluster.settle();
    assert!(!cluster.nodes[old].outcomes.contains_key(&lost.0), "one of three is no majority");

    let new = cluster.elect();
    assert_eq!(cluster.publish(new, batch("a", 1, 1, 5, 5)).runs, [RunReceipt::accepted(5, Offset(5))]);
    cluster.heal(old);
    cluster.run(Duration::from_secs(1));
    cluster.assert_alike();
    assert!(!cluster.nodes[old].is_leader());
    assert!(matches!(cluster.propose(old, batch("a", 1, 1, 10, 1)), Err(ProposeError::NotLeader { .. })));
}

/// Two copies of a batch are proposed before either is applied: the case that deciding when proposing gets wrong.
#[test]
fn copies_under_way_at_once_are_accepted_once() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect();
    let first = cluster.propose(leader, batch("a", 1, 1, 0, 4)).unwrap();
    let second = cluster.propose(leader, batch("a", 1, 1, 0, 4)).unwrap();
    cluster.run(Duration::from_millis(300));
    let outcomes = &cluster.nodes[leader].outcomes;
    assert_eq!(outcomes[&first.0].runs, [RunReceipt::accepted(4, Offset(0))]);
    assert_eq!(outcomes[&second.0].runs, [duplicates(4, 0)]);
    cluster.assert_alike();
}

#[cfg(feature = "planted-faults")]
#[test]
fn the_planted_fault_accepts_copies_twice_and_the_hash_shows_it() {
    use eventstream_core::raft::{Fault, Faults};
    let mut cluster = Cluster::with_faults(3, Faults::NONE.with(Fault::DedupAtPropose));
    let leader = cluster.elect();
    cluster.propose(leader, batch("a", 1, 1, 0, 4)).unwrap();
    let second = cluster.propose(leader, batch("a", 1, 1, 0, 4)).unwrap();
    cluster.run(Duration::from_millis(300));
    assert_eq!(cluster.nodes[leader].outcomes[&second.0].runs, [RunReceipt::accepted(4, Offset(4))]);
    let follower = &cluster.nodes[(leader + 1) % 3].replica;
    assert_eq!(follower.applied(), cluster.nodes[leader].replica.applied());
    assert_ne!(follower.state_hash(), cluster.nodes[leader].replica.state_hash());
}

#[test]
fn a_producer_opened_again_after_a_failover_goes_on_and_fences_its_last_life() {
    let mut cluster = Cluster::new(3);
    let open = Command::OpenProducer { producer: ProducerId([1; 16]) };
    let opened = |epoch, next| {
        Some(CommandOutcome::OpenProducer(Ok(Opened { epoch: Epoch(epoch), next_sequence: Sequence(next) })))
    };
    let old = cluster.elect();
    assert_eq!(cluster.command(old, open).command, opened(1, 0));
    cluster.publish(old, batch("a", 1, 1, 0, 5));
    cluster.isolate(old);
    let new = cluster.elect();
    assert_eq!(cluster.command(new, open).command, opened(2, 5));
    let fenced = RunReceipt::refused(RunRefusal::Fenced { epoch: Epoch(2) });
    assert_eq!(cluster.publish(new, batch("a", 1, 1, 5, 1)).runs, [fenced]);
    assert_eq!(cluster.publish(new, batch("a", 1, 2, 5, 1)).runs, [RunReceipt::accepted(1, Offset(5))]);
}

/// A checkpoint and the log behind it are as good as having stayed: at any point, and with none at all.
#[test]
fn restored_is_original() {
    for checkpoint_after in [None, Some(0), Some(3), Some(9)] {
        let mut cluster = Cluster::new(3);
        let leader = cluster.elect();
        let follower = (leader + 1) % 3;
        for round in 0..10 {
            cluster.publish(leader, batch("a", 1, 1, 2 * round, 3));
            cluster.publish(leader, batch("b", 2, 1, round, 1));
            if checkpoint_after == Some(round) {
                cluster.nodes[follower].checkpoint();
            }
        }
        cluster.run(Duration::from_millis(300));
        let before = cluster.nodes[follower].outcomes.clone();
        cluster.restart(follower);
        cluster.run(Duration::from_secs(1));
        assert_eq!(cluster.nodes[follower].outcomes, before, "checkpoint after {checkpoint_after:?}");
        cluster.assert_alike();
        // It leads as well as any other, and from the same state.
        cluster.isolate(leader);
        let new = cluster.elect();
        assert_eq!(cluster.publish(new, batch("a", 1, 1, 0, 3)).runs, [duplicates(3, 0)]);
    }
}

#[test]
fn a_log_that_does_not_reach_the_checkpoint_is_refused() {
    let mut cluster = Cluster::new(1);
    let leader = cluster.elect();
    cluster.publish(leader, batch("a", 1, 1, 0, 3));
    cluster.nodes[leader].checkpoint();
    let mut restoring = Restoring::new(options(1, 1, Default::default()), memory()).unwrap();
    for (key, value) in &cluster.nodes[leader].rows {
        restoring.restore_row(*key, value).unwrap();
    }
    let started = restoring.start(RestoredLog::default(), Instant::ZERO);
    assert!(matches!(started, Err(RestoreError::Raft(_))), "{started:?}");
}

#[test]
fn only_committed_entries_are_applied() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect();
    cluster.isolate(leader);
    let proposed = cluster.propose(leader, batch("a", 1, 1, 0, 1)).unwrap();
    cluster.settle();
    let node = &mut cluster.nodes[leader];
    let frame = node.log.frame(proposed);
    let error = node.replica.apply(&Entry::from(&frame), &mut Outcomes::new());
    assert_eq!(error, Err(ApplyError::NotCommitted { commit: Index(proposed.0 - 1) }));
    let again =
        Entry { position: LogPosition { index: Index(1), ..Entry::from(&frame).position }, ..Entry::from(&frame) };
    assert_eq!(node.replica.apply(&again, &mut Outcomes::new()), Err(ApplyError::OutOfOrder { expected: proposed }));
}

/// Equal calls, equal outputs and rows, byte for byte: the whole story, told twice.
#[test]
fn the_same_calls_give_the_same_outputs() {
    let story = || {
        let mut cluster = Cluster::new(3);
        let old = cluster.elect();
        for round in 0..5 {
            cluster.publish(old, batch("a", 1, 1, 2 * round, 3));
        }
        cluster.isolate(old);
        let new = cluster.elect();
        cluster.publish(new, batch("b", 2, 1, 0, 7));
        cluster.nodes[new].checkpoint();
        cluster.heal(old);
        cluster.restart(new);
        cluster.run(Duration::from_secs(2));
        cluster.nodes.iter_mut().for_each(|node| node.checkpoint());
        cluster
    };
    let (one, other) = (story(), story());
    for (a, b) in one.nodes.iter().zip(&other.nodes) {
        assert_eq!(a.journal, b.journal);
        assert_eq!((&a.log, &a.rows, &a.outcomes), (&b.log, &b.rows, &b.outcomes));
    }
    one.assert_alike();
    let rows: Vec<_> = one.nodes.iter().map(|node| &node.rows).collect();
    assert!(rows[0] == rows[1] && rows[1] == rows[2], "checkpoints of equal states are equal");
}
