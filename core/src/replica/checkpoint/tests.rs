//! Restored is original; and whatever is wrong with the rows is noticed.

extern crate std;

use super::*;
use crate::config::{EPOCHS_SET_ASIDE, MAX_EVENT_PAYLOAD};
use crate::dedup::Claim;
use crate::id::{Epoch, Index, ProducerId, Sequence, Term};
use crate::raft::LogPosition;
use crate::replica::Command;
use crate::replica::testing::{HostState, PARAMETERS, TestRun, run, state, state_with};
use std::collections::BTreeMap;
use std::vec::Vec;

type Rows = BTreeMap<RowKey, Vec<u8>>;

/// The longest that a topic can have.
const LONG_NAME: &str = match core::str::from_utf8(&[b'n'; crate::config::MAX_TOPIC]) {
    Ok(name) => name,
    Err(_) => unreachable!(),
};

/// A state with all that it may hold, and the rows of its checkpoints: one after every entry.
fn original() -> (HostState, Rows) {
    let (mut state, mut rows) = (state(), Rows::new());
    for round in 0..20 {
        let gap = TestRun { has_gap: true, ..run("b", 2, 3 * round + 2, 1) };
        state.apply_runs(&[run("a", 1, 2 * round, 2), gap, run(LONG_NAME, 3, round, 1), run("a", 3, 0, 1)]);
        rows.extend(state.drain());
    }
    state.apply_command_entry(Command::OpenProducer { producer: ProducerId([4; 16]) });
    rows.extend(state.drain());
    (state, rows)
}

fn restore_into(mut state: HostState, rows: &Rows) -> Result<HostState, RestoreError> {
    let mut meta = None;
    for (key, value) in rows {
        meta = state.restore_row(*key, value)?.or(meta);
    }
    state.restore_rest(&meta.ok_or(RestoreError::MetaMissing)?)?;
    Ok(state)
}

fn restore(rows: &Rows) -> Result<HostState, RestoreError> {
    restore_into(state(), rows)
}

#[test]
fn the_head_tells_where_a_checkpoint_stands() {
    let (original, rows) = original();
    let value = &rows[&RowKey::Meta];
    let head = CheckpointHead { applied: original.applied, state_hash: original.hash() };
    assert_eq!(CheckpointHead::decode(value), Ok(head));
    let key = RowKey::Meta;
    assert_eq!(CheckpointHead::decode(&[]), Err(RestoreError::RowFormat { key }));
    assert_eq!(CheckpointHead::decode(&value[..value.len() - 1]), Err(RestoreError::RowMalformed { key }));
}

#[test]
fn restored_is_original() {
    let (mut original, rows) = original();
    assert_eq!(rows.len(), 4 + 3 + 1);
    let mut restored = restore(&rows).unwrap();
    assert_eq!(restored.hash(), original.hash());
    assert_eq!((restored.applied, restored.log_time), (original.applied, original.log_time));
    assert_eq!(restored.events, original.events);
    assert_eq!(restored.drain(), [], "there is nothing new to be written");
    assert!(restored.producers.iter().eq(original.producers.iter()));
    assert!(restored.topics.iter().eq(original.topics.iter()));

    // And it goes on as the original does.
    for runs in [[run("a", 1, 39, 3), run("b", 2, 59, 1)], [run("a", 9, 0, 1), run("d", 3, 20, 1)]] {
        assert_eq!(restored.apply_runs(&runs), original.apply_runs(&runs));
        assert_eq!(restored.hash(), original.hash());
        assert_eq!(restored.drain(), original.drain());
    }
}

#[test]
fn only_what_changed_is_drained_and_meta_comes_last() {
    let (mut state, _) = original();
    assert_eq!(state.drain(), []);
    state.apply_one(run("b", 1, 40, 1));
    let keys: Vec<_> = state.drain().into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, [RowKey::Producer(0), RowKey::Topic(TopicId(1)), RowKey::Meta]);
    // A batch of duplicates moves nothing but the position, and when its producer was heard of.
    state.apply_one(run("b", 1, 40, 1));
    let keys: Vec<_> = state.drain().into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, [RowKey::Producer(0), RowKey::Meta]);
    // What is refused of a stranger moves nothing else.
    state.apply_one(run("b", 9, 40, 1));
    let keys: Vec<_> = state.drain().into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, [RowKey::Meta]);
}

#[test]
fn an_entry_applied_between_two_rows_is_in_the_checkpoint_as_a_whole() {
    let (mut state, mut rows) = original();
    state.apply_runs(&[run("a", 1, 40, 1), run("b", 2, 60, 1)]);
    let mut buffer = [0; MAX_ROW_LEN];
    let mut nth = 0;
    while let Some(row) = state.poll_row(&mut buffer) {
        rows.insert(row.key, buffer[..row.len].to_vec());
        nth += 1;
        if nth < 4 {
            state.apply_one(run("a", 1, 40 + nth, 1));
        }
    }
    assert_eq!(restore(&rows).unwrap().hash(), state.hash());
}

#[test]
fn a_row_that_is_missing_stale_or_damaged_is_noticed() {
    let (mut newer, rows) = original();
    newer.apply_runs(&[run("a", 1, 40, 1), run("b", 2, 60, 1), run(LONG_NAME, 3, 20, 1)]);
    let newer: Rows = newer.drain().into_iter().collect();
    for key in rows.keys() {
        let mut missing = rows.clone();
        missing.remove(key);
        restore(&missing).map(drop).unwrap_err();
        let mut stale = rows.clone();
        if let Some(value) = newer.get(key) {
            stale.insert(*key, value.clone());
            restore(&stale).map(drop).unwrap_err();
        }
        for at in 0..rows[key].len() {
            for bit in [0x01, 0x80] {
                let mut damaged = rows.clone();
                damaged.get_mut(key).unwrap()[at] ^= bit;
                restore(&damaged).map(drop).unwrap_err();
            }
        }
    }
}

#[test]
fn each_error_names_what_is_wrong() {
    let (_, rows) = original();
    let with = |key, change: &dyn Fn(&mut Vec<u8>)| {
        let mut changed = rows.clone();
        change(changed.get_mut(&key).unwrap());
        restore(&changed).map(drop).unwrap_err()
    };
    let key = RowKey::Producer(1);
    assert_eq!(with(key, &|value| value[0] = 1), RestoreError::RowEarlier { key });
    assert_eq!(with(key, &|value| value[0] = 3), RestoreError::RowFormat { key });
    assert_eq!(with(key, &Vec::clear), RestoreError::RowFormat { key });
    assert_eq!(with(key, &|value| value.push(0)), RestoreError::RowMalformed { key });
    assert_eq!(with(key, &|value| value.truncate(9)), RestoreError::RowMalformed { key });
    assert_eq!(with(key, &|value| *value = rows[&RowKey::Producer(0)].clone()), RestoreError::RowRefused { key });

    let mut gap = rows.clone();
    gap.remove(&RowKey::Topic(TopicId(0)));
    let key = RowKey::Topic(TopicId(1));
    assert_eq!(restore(&gap).map(drop), Err(RestoreError::RowOutOfOrder { key }));

    let fewer = Parameters { topics: 2, ..PARAMETERS };
    let key = RowKey::Topic(TopicId(2));
    assert_eq!(restore_into(state_with(fewer), &rows).map(drop), Err(RestoreError::RowRefused { key }));
    let smaller = Parameters { event_payload: 10, ..PARAMETERS };
    let changed = RestoreError::ParametersChanged { stored: PARAMETERS };
    assert_eq!(restore_into(state_with(smaller), &rows).map(drop), Err(changed));
    let too_large = Parameters { event_payload: MAX_EVENT_PAYLOAD as u32 + 1, ..PARAMETERS };
    assert!(check_parameters(&PARAMETERS).is_ok() && check_parameters(&too_large).is_err());
}

/// A peer that sends rows may say anything in them, and knows how to reckon their hash.
#[test]
fn numbers_that_nothing_can_be_counted_on_from_are_refused() {
    let (_, rows) = original();
    let with = |key, value: &dyn Fn(&[u8], &mut [u8; MAX_ROW_LEN]) -> Row| {
        let (mut changed, mut buffer) = (rows.clone(), [0; MAX_ROW_LEN]);
        let row = value(&rows[&key][1..], &mut buffer);
        changed.insert(key, buffer[..row.len].to_vec());
        restore(&changed).map(drop).unwrap_err()
    };
    let key = RowKey::Topic(TopicId(1));
    let endless = |_: &[u8], buffer: &mut _| encode(key, &("t", Offset(u64::MAX)), buffer);
    assert_eq!(with(key, &endless), RestoreError::RowMalformed { key });
    let key = RowKey::Meta;
    let with_meta = |change: &dyn Fn(&mut Meta)| {
        with(key, &|body, buffer| {
            let mut meta: Meta = decode(key, body).unwrap();
            change(&mut meta);
            encode(key, &meta, buffer)
        })
    };
    let malformed = RestoreError::RowMalformed { key };
    assert_eq!(with_meta(&|meta| meta.log_time = LogTime(u64::MAX)), malformed);
    assert_eq!(with_meta(&|meta| meta.applied.index = Index(u64::MAX)), malformed);
    assert_eq!(with_meta(&|meta| meta.events = u64::MAX), malformed);
    let mut producer = decode::<Option<Producer>>(key, &rows[&RowKey::Producer(0)][1..]).unwrap().unwrap();
    assert!(producer.is_countable());
    let claim =
        Claim { producer: producer.id(), epoch: Epoch(1), first: Sequence(u64::MAX - 9), count: 2, has_gap: true };
    producer.accept(&claim, 2, 0, TopicId(0), Offset(0));
    assert!(!producer.is_countable());
    let key = RowKey::Producer(0);
    assert_eq!(with(key, &|_, buffer| encode(key, &Some(producer), buffer)), RestoreError::RowRefused { key });
}

#[test]
fn keys_sort_as_their_bytes_do() {
    let keys = [
        RowKey::Configuration,
        RowKey::Producer(0),
        RowKey::Producer(255),
        RowKey::Producer(256),
        RowKey::Topic(TopicId(0)),
        RowKey::Topic(TopicId(u32::MAX)),
        RowKey::Meta,
    ];
    assert!(keys.is_sorted() && keys.is_sorted_by_key(|key| key.to_bytes()));
    for key in keys {
        assert_eq!(RowKey::from_bytes(&key.to_bytes()), Some(key));
    }
    assert_eq!(RowKey::Topic(TopicId(0x0102_0304)).to_bytes(), [2, 1, 2, 3, 4]);
    for wrong in [&[][..], &[0, 0, 0, 0, 1], &[4, 0, 0, 0, 0], &[3, 0, 0, 0, 1], &[1, 0, 0, 0], &[1, 0, 0, 0, 0, 0]] {
        assert_eq!(RowKey::from_bytes(wrong), None);
    }
}

#[test]
fn the_longest_meta_row_fits() {
    let (mut state, _) = original();
    state.applied = LogPosition { index: Index(u64::MAX), term: Term(u64::MAX) };
    state.producers.restore_evicted(Epoch(u32::MAX));
    (state.log_time, state.events, state.history) = (LogTime(u64::MAX), u64::MAX, Digest::resume(u64::MAX));
    assert!(matches!(state.drain()[..], [(RowKey::Meta, _)]));
}

/// Some producers come and go: the entries of it are applied to `states` alike.
fn come_and_go(states: &mut [&mut HostState], mut between: impl FnMut(&mut [&mut HostState])) {
    let mut step = |what: &dyn Fn(&mut HostState)| {
        states.iter_mut().for_each(|state| what(state));
        between(states);
    };
    for producer in 1..=4 {
        step(&|state| _ = state.apply_one(run("a", producer, 0, 1)));
    }
    for round in 1..=20 {
        step(&|state| _ = state.apply_one(run("a", 2, round, 1)));
    }
    step(&|state| _ = state.apply_command_entry(Command::EvictProducers { before: LogTime(u64::MAX) }));
    step(&|state| _ = state.apply_command_entry(Command::OpenProducer { producer: ProducerId([9; 16]) }));
}

#[test]
fn an_evicted_producer_leaves_an_empty_row_and_the_lowest_is_used_again() {
    let (mut state, mut rows) = (state(), Rows::new());
    come_and_go(&mut [&mut state], |_| {});
    rows.extend(state.drain());
    let empty = [FORMAT, 0];
    let is_empty = [0, 1, 2, 3].map(|number| rows[&RowKey::Producer(number)] == empty);
    assert_eq!(is_empty, [false, false, true, true], "9 lies where 1 lay, then comes 2");
    let mut restored = restore(&rows).unwrap();
    assert_eq!((restored.hash(), restored.producers.evicted()), (state.hash(), Epoch(1 + EPOCHS_SET_ASIDE)));
    // Both give the next numbers alike, and go on alike.
    for producer in [5, 6] {
        let open = Command::OpenProducer { producer: ProducerId([producer; 16]) };
        assert_eq!(restored.apply_command_entry(open), state.apply_command_entry(open));
        assert_eq!(restored.drain(), state.drain());
    }
    assert_eq!(restored.hash(), state.hash());
    // A row that only says that there is none is missed like any other.
    for number in [2, 3] {
        let mut missing = rows.clone();
        missing.remove(&RowKey::Producer(number));
        restore(&missing).map(drop).unwrap_err();
    }
}

#[test]
fn rows_are_the_same_however_often_they_were_drained() {
    let (mut often, mut once) = (state(), state());
    let mut rows = Rows::new();
    come_and_go(&mut [&mut often, &mut once], |states| rows.extend(states[0].drain()));
    assert_eq!(rows, once.drain().into_iter().collect());
}
