//! No acknowledgement leaves before syncs that cover it have returned on a majority.
//!
//! Each disk notes, for every sync of a write-ahead log, the events in what is durable then, the moment the sync returns.
//! Each acknowledgement is held against that when it arrives. It left earlier than that, so syncs take their time here:
//! an acknowledgement that does not wait for them is there long before they return.

use crate::powered::Powered;
use crate::wal::WalReader;
use core::time::Duration;
use eventstream_core::id::{ProducerId, Sequence};
use eventstream_host::client::producer_id;
use eventstream_testbed::{Load, Progress, Spoke};
use fastrand::Rng;
use powercut::{Syncs, Watch};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::sleep;

type Event = (ProducerId, Sequence);

const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(1);

fn load(events: u64) -> Load {
    Load { topic: "acks".into(), producers: 4, events, pause_every: 50, pause: Duration::from_millis(1) }
}

fn producers(load: &Load) -> Vec<ProducerId> {
    (0..load.producers).map(|number| producer_id(&format!("{}/{number}", load.topic))).collect()
}

/// What was synced and acknowledged, in the order in which it was.
#[derive(Debug, Default)]
struct Record {
    /// The nodes whose syncs have covered an event and returned.
    synced: HashMap<Event, BTreeSet<Spoke>>,
    /// Acknowledged events by the number of those nodes at that moment.
    acked: BTreeMap<usize, u64>,
    /// Acknowledgements without a majority.
    too_early: Vec<Event>,
}

/// The record, shared by disks and producers.
#[derive(Clone, Debug, Default)]
struct Recorder(Arc<Mutex<Record>>);

impl Recorder {
    fn record(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what the syncs of a node cover.
    fn watch(&self, node: Spoke, producers: Vec<ProducerId>) -> Watch {
        let recorder = self.clone();
        let mut logs: HashMap<u64, WalReader> = HashMap::new();
        Box::new(move |sync, returns| {
            // Locked from before it returns until it is noted: whoever is acknowledged because of it is not judged before.
            let mut record = recorder.record();
            returns();
            if sync.name.ends_with(".log") {
                for event in logs.entry(sync.file).or_default().read(sync.durable, &producers) {
                    record.synced.entry(event).or_default().insert(node);
                }
            }
        })
    }

    /// Progress that holds every acknowledgement against what was synced.
    fn progress(&self) -> Progress {
        let recorder = self.clone();
        Progress::witnessed(Box::new(move |producer, sequence| {
            let mut record = recorder.record();
            let nodes = record.synced.get(&(producer, sequence)).map_or(0, BTreeSet::len);
            *record.acked.entry(nodes).or_default() += 1;
            if nodes < 2 {
                record.too_early.push((producer, sequence));
            }
        }))
    }

    /// Events that `node` alone has synced.
    fn only_on(&self, node: Spoke) -> usize {
        let alone = BTreeSet::from([node]);
        self.record().synced.values().filter(|nodes| **nodes == alone).count()
    }
}

/// A cluster whose disks note what they sync.
fn recorded(test: &str, load: &Load) -> Option<(Powered, Recorder)> {
    let powered = Powered::start(test)?;
    let recorder = Recorder::default();
    for (&node, disk) in &powered.disks {
        disk.watch(recorder.watch(node, producers(load)));
    }
    let _ = powered.cluster.leader();
    Some((powered, recorder))
}

/// Publishes it all over disks whose syncs take up to some milliseconds.
fn publish_slowly(powered: &mut Powered, load: &Load, recorder: &Recorder) {
    let nodes: Vec<Spoke> = powered.cluster.nodes().collect();
    let mut rng = Rng::new();
    powered.hold(&nodes);
    let ledger = powered.publish_while(load, &recorder.progress(), |powered, progress| {
        while !progress.has_stopped() {
            powered.disks[rng.choice(&nodes).expect("three")].release();
            sleep(Duration::from_micros(rng.u64(..2_000)));
        }
    });
    powered.let_go(&nodes);
    powered.cluster.assert_exactly_once(load, &ledger);
}

#[test]
fn every_ack_leaves_after_syncs_on_a_majority() {
    let load = load(1_500);
    let Some((mut powered, recorder)) = recorded("syncs before acks", &load) else { return };
    publish_slowly(&mut powered, &load, &recorder);
    let record = recorder.record();
    assert_eq!(record.too_early.first(), None, "acknowledged before a majority has synced it");
    assert_eq!(record.acked.values().sum::<u64>(), load.total());
    println!("acknowledged events by the number of nodes that had synced them by then: {:?}", record.acked);
}

/// The control: with syncs that return and do nothing, no acknowledgement is covered.
#[test]
fn acks_that_no_sync_covers_are_found() {
    let load = load(100);
    let Some((mut powered, recorder)) = recorded("the control of syncs before acks", &load) else { return };
    powered.disks.values().for_each(|disk| disk.set_syncs(Syncs::Lying));
    powered.publish_while(&load, &recorder.progress(), |_, _| {});
    assert_eq!(recorder.record().too_early.len() as u64, load.total());
}

/// While the disks of two nodes do not return from syncs, nothing is acknowledged, whichever two they are; while only the
/// leader's does not, everything is.
#[test]
fn no_ack_leaves_while_a_majority_cannot_sync() {
    let load = load(u64::MAX);
    let Some((mut powered, recorder)) = recorded("acks while syncs are held", &load) else { return };
    let progress = recorder.progress();
    let ledger = powered.publish_while(&load, &progress, |powered, progress| {
        let leader = powered.cluster.leader();
        let followers: Vec<Spoke> = powered.cluster.nodes().filter(|&node| node != leader).collect();
        for (held, third) in [([followers[0], followers[1]], leader), ([leader, followers[0]], followers[1])] {
            progress.wait_for(progress.acked() + 500);
            powered.hold(&held);
            await_alone(&recorder, third);
            // Had the leader acknowledged any of them, it would have done so before it answers this.
            let _ = powered.cluster.status_of(leader);
            assert_eq!(recorder.record().too_early.first(), None, "acknowledged while {held:?} could not sync");
            powered.let_go(&held);
        }
        powered.hold(&[leader]);
        progress.wait_for(progress.acked() + 500);
        powered.let_go(&[leader]);
        progress.ask_to_end();
    });
    powered.cluster.assert_exactly_once(&load, &ledger);
    assert_eq!(recorder.record().too_early.first(), None);
}

/// Waits until `node` alone has synced events, which the others have not and cannot.
fn await_alone(recorder: &Recorder, node: Spoke) {
    let mut waited = Duration::ZERO;
    while recorder.only_on(node) < 200 {
        assert!(waited < PATIENCE, "node {node} syncs what the others cannot");
        sleep(PAUSE);
        waited += PAUSE;
    }
}
