//! The applied state that a node has written, held against the state that its log gives.

use super::meaning::HostReplay;
use super::violation::{Findings, Invariant, Place};
use crate::storage::Reader;
use core::cmp::Ordering;
use eventstream_core::dedup::Producer;
use eventstream_core::id::TopicId;
use eventstream_core::replica::{CheckpointHead, MAX_ROW_LEN, RowKey};

/// What the checkpoint says of itself; none if there is no checkpoint that can be read.
pub(super) fn head(name: &str, reader: &Reader, findings: &mut Findings) -> Option<CheckpointHead> {
    let (mut head, mut rows) = (None, 0_u64);
    let read = reader.state_rows(|key, value| {
        rows += 1;
        if RowKey::from_bytes(key) == Some(RowKey::Meta) {
            head = Some(CheckpointHead::decode(value));
        }
    });
    if let Err(error) = read {
        findings.add(Invariant::Whole, Place::at(name), format_args!("the checkpoint cannot be read: {error}"));
        return None;
    }
    match head {
        Some(Ok(head)) => Some(head),
        Some(Err(error)) => {
            findings.add(Invariant::Whole, Place::at(name), format_args!("the checkpoint: {error}"));
            None
        }
        None => {
            if rows > 0 {
                findings.add(
                    Invariant::Whole,
                    Place::at(name),
                    "the checkpoint has rows, and not the one that ends it",
                );
            }
            None
        }
    }
}

/// Compares row by row; the replay is where the checkpoint is.
pub(super) fn compare(name: &str, reader: &Reader, replay: &mut HostReplay, findings: &mut Findings) {
    let mut expected = rows(replay).into_iter().peekable();
    let difference = Difference { name, replay };
    let read = reader.state_rows(|key, value| {
        while let Some((missing, _)) = expected.next_if(|(row, _)| row[..] < *key) {
            difference.add(&missing, "a row of the checkpoint is missing", findings);
        }
        match expected.peek().map(|(row, _)| row[..].cmp(key)) {
            Some(Ordering::Equal) => {
                let (_, given) = expected.next().expect("it was there");
                if *given != *value {
                    difference.value(key, value, findings);
                }
            }
            _ => difference.add(key, "the checkpoint has a row that the log does not give", findings),
        }
    });
    for (missing, _) in expected {
        difference.add(&missing, "a row of the checkpoint is missing", findings);
    }
    if let Err(error) = read {
        findings.add(Invariant::Whole, Place::at(name), format_args!("the checkpoint cannot be read: {error}"));
    }
}

/// The rows of a whole checkpoint, in the order of their keys.
fn rows(replay: &mut HostReplay) -> Vec<([u8; 5], Box<[u8]>)> {
    let mut value = [0; MAX_ROW_LEN];
    let mut rows = Vec::new();
    while let Some(row) = replay.poll_row(&mut value) {
        rows.push((row.key.to_bytes(), value[..row.len].into()));
    }
    rows.sort_unstable();
    rows
}

/// Says where a checkpoint differs from a state.
struct Difference<'a> {
    name: &'a str,
    replay: &'a HostReplay,
}

impl Difference<'_> {
    fn add(&self, key: &[u8], what: &str, findings: &mut Findings) {
        let mut place = Place::at(self.name).index(self.replay.applied().index);
        match RowKey::from_bytes(key) {
            Some(RowKey::Producer(number)) => {
                place.producer = self.replay.producer(number).map(Producer::id);
            }
            Some(RowKey::Topic(topic)) => place.topic = self.topic(topic),
            Some(RowKey::Configuration | RowKey::Meta) | None => {}
        }
        findings.add(Invariant::StateOfLog, place, what);
    }

    fn value(&self, key: &[u8], value: &[u8], findings: &mut Findings) {
        let (given, stored) = (self.replay.state_hash(), CheckpointHead::decode(value));
        match (RowKey::from_bytes(key), stored) {
            (Some(RowKey::Meta), Ok(head)) if head.state_hash != given => {
                let what =
                    format!("the checkpoint's state hash is {:016x}, the log gives {given:016x}", head.state_hash);
                self.add(key, &what, findings);
            }
            _ => self.add(key, "a row of the checkpoint is not what the log gives", findings),
        }
    }

    fn topic(&self, topic: TopicId) -> Option<String> {
        self.replay.topics().nth(topic.0 as usize).map(|topic| topic.name().to_owned())
    }
}
