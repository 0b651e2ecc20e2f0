//! A log of any entries: what is applied of it, as the rows of a checkpoint and back.

use super::checkpoint::{Memory, memory, options, parameters};
use super::{Decoder, Script, batch, entry, piece};
use eventstream_core::id::{LogTime, Term};
use eventstream_core::raft::{HardState, LogPosition};
use eventstream_core::replica::{CheckpointHead, Entry, MAX_ROW_LEN, Outcomes, Replay, RestoredLog, Restoring, RowKey};
use eventstream_core::time::Instant;
use eventstream_core::wire::Kind;
use std::collections::BTreeMap;

/// The target: entries, each with its kind, the events that its header claims, the log time that passes, and a payload.
pub const DECODER: Decoder = Decoder { name: "log", read, seeds };

const KINDS: [Kind; 4] = [Kind::Batch, Kind::Empty, Kind::Configuration, Kind::Command];
/// In the place of a kind: the rows that have changed go to the checkpoint.
const DRAIN: u8 = 4;

type Rows = BTreeMap<[u8; 5], Vec<u8>>;

/// The rows come back as they were, and no entry is applied in part.
pub fn read(data: &[u8]) {
    let (replay, rows) = applied(data);
    let mut restoring = Restoring::new(options(), memory()).expect("the memory is large enough");
    for (&key, value) in &rows {
        let key = RowKey::from_bytes(&key).expect("was written so");
        restoring.restore_row(key, value).expect("what was drained can be restored");
        if key == RowKey::Meta {
            let head = CheckpointHead::decode(value).expect("was written so");
            assert_eq!((head.applied, head.state_hash), (replay.applied(), replay.state_hash()));
        }
    }
    let log = RestoredLog {
        hard_state: HardState { term: Term(1), ..HardState::default() },
        last: replay.applied(),
        suspect: false,
        ..RestoredLog::default()
    };
    let restored = restoring.start(log, Instant::ZERO).expect("the log reaches as far as the checkpoint");
    assert_eq!((restored.state_hash(), restored.events()), (replay.state_hash(), replay.events()));
    assert!(restored.topics().eq(replay.topics()));
}

/// What the entries mean, and the rows of the checkpoints that were taken on the way.
fn applied(data: &[u8]) -> (Replay<Memory>, Rows) {
    let mut script = Script(data);
    let mut replay = Replay::new(parameters(), 7, memory()).expect("the memory is large enough");
    let (mut outcomes, mut rows) = (Outcomes::new(), Rows::new());
    while let (Some(kind), Some(events), Some(passes)) = (script.byte(), script.byte(), script.byte()) {
        let Some(&kind) = KINDS.get(usize::from(kind % (DRAIN + 1))) else {
            drain(&mut replay, &mut rows);
            continue;
        };
        let entry = Entry {
            position: LogPosition { index: replay.applied().index.next(), term: Term(1) },
            log_time: LogTime(replay.applied().index.0 * 256 + u64::from(passes)),
            kind,
            event_count: events.into(),
            payload: script.piece().unwrap_or_default(),
        };
        let before = replay.state_hash();
        if replay.apply(&entry, &mut outcomes).is_err() {
            assert_eq!(replay.state_hash(), before, "all of an entry or nothing");
        }
    }
    drain(&mut replay, &mut rows);
    (replay, rows)
}

fn drain(replay: &mut Replay<Memory>, rows: &mut Rows) {
    let mut value = [0; MAX_ROW_LEN];
    while let Some(row) = replay.poll_row(&mut value) {
        rows.insert(row.key.to_bytes(), value[..row.len].to_vec());
    }
}

/// The checkpoints of the seeds.
pub fn checkpoints() -> Vec<Vec<([u8; 5], Vec<u8>)>> {
    seeds().iter().map(|seed| applied(seed).1.into_iter().collect()).collect()
}

/// An entry of each kind, and batches in the order of their producer.
pub fn seeds() -> Vec<Vec<u8>> {
    let batches: Vec<_> =
        batch::seeds().iter().map(|seed| [&[0, seed[0], 1], &piece(&seed[1..])[..]].concat()).collect();
    let others = [
        [&[1, 0, 9][..], &piece(&[])].concat(),
        [&[2, 0, 0][..], &piece(&entry::configurations()[1])].concat(),
        [&[3, 0, 3][..], &piece(&entry::command(1))].concat(),
        [&[3, 0, 3][..], &piece(&entry::command(2))].concat(),
    ];
    let all = [&others[..], &[vec![DRAIN, 0, 0]], &batches[..], &others[2..]].concat().concat();
    [batches, others.to_vec(), vec![all]].concat()
}
