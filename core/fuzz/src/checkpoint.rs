//! What a start finds on a disk: the rows of a checkpoint, and the hard state.

use super::{Decoder, Script, piece};
use eventstream_core::config::Parameters;
use eventstream_core::dedup::ProducerSlot;
use eventstream_core::id::{Incarnation, Index, NodeId, Term};
use eventstream_core::raft::{Configuration, Faults, HardState, LogPosition, Member, RaftOptions};
use eventstream_core::replica::{
    CheckpointHead, Lent, Options, Replica, RestoreError, RestoredLog, Restoring, RowKey, TopicSlot,
};
use eventstream_core::time::Instant;

/// The target: hard state and end of the log, then rows: five bytes of a key, and a value.
pub const DECODER: Decoder = Decoder { name: "checkpoint", read, seeds };

/// What a replica works in here.
pub type Memory = Lent<Box<[ProducerSlot]>, Box<[TopicSlot]>>;

/// Few of everything, so that tables run full.
pub fn parameters() -> Parameters {
    Parameters { producers: 3, topics: 3, ..Parameters::default() }
}

/// Memory for them.
pub fn memory() -> Memory {
    Lent {
        producers: vec![ProducerSlot::EMPTY; parameters().producers as usize].into_boxed_slice(),
        topics: vec![TopicSlot::EMPTY; parameters().topics as usize].into_boxed_slice(),
    }
}

/// Those of the first of three members.
pub fn options() -> Options {
    let members = [1, 2, 3].map(|node| Member { node: NodeId(node), incarnation: Incarnation([node as u8; 16]) });
    Options {
        raft: RaftOptions {
            node: members[0].node,
            incarnation: members[0].incarnation,
            membership: Configuration::new(&members).expect("ids of their own").into(),
            is_witness: false,
            seed: 42,
            faults: Faults::NONE,
        },
        parameters: parameters(),
    }
}

/// Rows that do not add up are refused; so they are given once more with the hash that they have.
pub fn read(data: &[u8]) {
    let mut script = Script(data);
    let (Some(term), Some(index), Some(flags)) = (script.number(), script.number(), script.byte()) else { return };
    let log = RestoredLog {
        hard_state: HardState {
            term: Term(term),
            vote: Some(NodeId(u16::from(flags >> 1))).filter(|node| node.0 > 0),
            suspect: flags & 1 == 1,
        },
        last: LogPosition { index: Index(index), term: Term(term) },
        suspect: flags & 1 == 1,
        ..RestoredLog::default()
    };
    let mut rows = Vec::new();
    while let (Some(key), Some(value)) = (script.array::<5>(), script.piece()) {
        let Some(key) = RowKey::from_bytes(&key).inspect(|found| assert_eq!(found.to_bytes(), key)) else { continue };
        rows.push((key, value.to_vec()));
    }
    if let Err(RestoreError::StateHash { restored, .. }) = start(&rows, log) {
        if let Some((RowKey::Meta, value)) = rows.last_mut() {
            replace_last_number(value, restored);
        }
        _ = start(&rows, log);
    }
}

fn start(rows: &[(RowKey, Vec<u8>)], log: RestoredLog) -> Result<(), RestoreError> {
    let mut restoring = Restoring::new(options(), memory())?;
    let mut head = None;
    for (key, value) in rows {
        restoring.restore_row(*key, value)?;
        if *key == RowKey::Meta {
            head = Some(CheckpointHead::decode(value).expect("was read just now"));
        }
    }
    let replica: Replica<Memory> = restoring.start(log, Instant::ZERO)?;
    if let Some(head) = head {
        assert_eq!((replica.applied(), replica.state_hash()), (head.applied, head.state_hash));
    }
    assert!(replica.topics().len() <= parameters().topics as usize);
    assert!(replica.raft().term() >= log.hard_state.term && replica.raft().last() == log.last);
    Ok(())
}

/// Writes another varint in the place of the last one: the hash of the state stands at the end of its row.
fn replace_last_number(value: &mut Vec<u8>, number: u64) {
    value.pop();
    while value.last().is_some_and(|byte| byte & 0x80 != 0) {
        value.pop();
    }
    let mut rest = number;
    while rest >= 0x80 {
        value.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    value.push(rest as u8);
}

/// A disk on which nothing was written, and the checkpoints of the logs of [`log`](super::log).
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![vec![0; 17]];
    for rows in super::log::checkpoints() {
        let Some((_, last)) = rows.last() else { continue };
        let applied = CheckpointHead::decode(last).expect("the last row is that one").applied;
        let mut seed = [applied.term.0.to_le_bytes(), applied.index.0.to_le_bytes()].concat();
        seed.push(0);
        rows.iter().for_each(|(key, value)| seed.extend([key, &piece(value)[..]].concat()));
        seeds.push(seed);
    }
    seeds
}
