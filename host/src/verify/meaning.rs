//! What a log means: it is replayed as a node applies it, and what the node has written is held against that.

use super::checkpoint;
use super::oracle::Oracle;
use super::rows::Rows;
use super::violation::{Findings, Invariant, Place};
use crate::storage::Reader;
use eventstream_core::config::Parameters;
use eventstream_core::dedup::ProducerSlot;
use eventstream_core::id::{Index, TopicId};
use eventstream_core::raft::LogPosition;
use eventstream_core::replica::{CheckpointHead, CommandOutcome, Lent, Outcomes, Replay, TopicSlice, TopicSlot};
use eventstream_core::wire::{Batch, Frame, Kind};

/// A replay in memory that is allocated once.
pub(super) type HostReplay = Replay<Lent<Box<[ProducerSlot]>, Box<[TopicSlot]>>>;

/// The state after the last entry that the data shows to be applied: that of the checkpoint, or a later one whose row in the
/// topic index is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) applied: Index,
    pub(super) events: u64,
    pub(super) topics: u32,
    pub(super) producers: u32,
    pub(super) state_hash: u64,
}

/// See the module's page.
pub(super) struct Meaning<'a> {
    name: &'a str,
    reader: &'a Reader,
    replay: HostReplay,
    outcomes: Box<Outcomes>,
    rows: Rows<'a>,
    oracle: Oracle,
    checkpoint: Option<CheckpointHead>,
    shown: Shown,
}

/// The state before the first entry.
pub(super) fn replay(parameters: &Parameters) -> HostReplay {
    let lent = Lent {
        producers: vec![ProducerSlot::EMPTY; parameters.producers as usize].into(),
        topics: vec![TopicSlot::EMPTY; parameters.topics as usize].into(),
    };
    // Without random bytes somebody's prepared ids may be slow to find, and nothing else.
    let seed = getrandom::u64().unwrap_or_default();
    Replay::new(*parameters, seed, lent).expect("an identity's parameters are checked, and the tables are as they say")
}

impl<'a> Meaning<'a> {
    pub(super) fn new(
        name: &'a str,
        reader: &'a Reader,
        parameters: &Parameters,
        checkpoint: Option<CheckpointHead>,
    ) -> Self {
        Self {
            name,
            reader,
            replay: replay(parameters),
            outcomes: Box::default(),
            rows: Rows::new(reader),
            oracle: Oracle::default(),
            checkpoint,
            shown: Shown::default(),
        }
    }

    /// The hash of the state so far.
    pub(super) fn state_hash(&self) -> u64 {
        self.replay.state_hash()
    }

    /// Applies the next entry, whose frame is whole. False if it cannot be applied, and none after it.
    pub(super) fn apply(&mut self, frame: &Frame<'_>, findings: &mut Findings) -> bool {
        let (header, mut outcomes) = (frame.header(), core::mem::take(&mut self.outcomes));
        let index = header.index();
        if let Err(error) = self.replay.apply(&frame.into(), &mut outcomes) {
            findings.add(Invariant::Whole, Place::at(self.name).index(index), error);
            return false;
        }
        if header.kind == Kind::Batch {
            let batch = Batch::checked_before(frame.payload(), header.event_count, outcomes.runs().len() as u16);
            self.oracle.check(self.name, index, &batch, &outcomes, &self.replay, findings);
        }
        if let Some(CommandOutcome::EvictProducers { .. }) = outcomes.command() {
            self.oracle.forget(&self.replay);
        }
        let mut is_shown = false;
        for slice in outcomes.topics() {
            is_shown |= self.compare_row(index, slice, findings);
        }
        self.outcomes = outcomes;
        if self.checkpoint.is_some_and(|head| head.applied.index == index) {
            is_shown = true;
            checkpoint::compare(self.name, self.reader, &mut self.replay, findings);
        }
        if is_shown {
            self.shown = Shown {
                applied: index,
                events: self.replay.events(),
                topics: self.replay.topics().len() as u32,
                producers: self.replay.producer_count(),
                state_hash: self.replay.state_hash(),
            };
        }
        true
    }

    /// The log ends here. If it was applied to its end, nothing may be left over.
    pub(super) fn end(mut self, last: LogPosition, is_whole: bool, findings: &mut Findings) -> Shown {
        if !is_whole {
            return self.shown;
        }
        if let Some(head) = self.checkpoint
            && head.applied.index > last.index
        {
            let place = Place::at(self.name).index(head.applied.index);
            let what = format_args!("the checkpoint is as of this entry, and the log ends at {}", last.index);
            findings.add(Invariant::StateOfLog, place, what);
        }
        let topics = self.replay.topics().len() as u32;
        for number in 0..topics {
            let topic = TopicId(number);
            if let Ok(Some(row)) = self.rows.peek(topic) {
                let place = Place::at(self.name).index(row.index);
                let place = place.offset(self.replay.topic(topic).name(), row.first_offset);
                let what = format_args!(
                    "the topic index shows events behind all that the log gives, which ends at {}",
                    last.index
                );
                findings.add(Invariant::NothingUnapplied, place, what);
            }
        }
        match self.reader.first_row_from(TopicId(topics)) {
            Ok(None) => {}
            Ok(Some((topic, row))) => {
                let what = format_args!(
                    "the topic index shows events of topic number {topic}, and the log gives {topics} topics"
                );
                findings.add(Invariant::NothingUnapplied, Place::at(self.name).index(row.index), what);
            }
            Err(error) => findings.add(Invariant::Whole, Place::at(self.name), error),
        }
        self.shown
    }

    /// Holds the topic index against what an entry gives. Returns whether its row is there and right.
    fn compare_row(&mut self, index: Index, slice: &TopicSlice, findings: &mut Findings) -> bool {
        let topic = self.replay.topic(slice.topic).name();
        let place = |offset| Place::at(self.name).index(index).offset(topic, offset);
        loop {
            let row = match self.rows.peek(slice.topic) {
                Ok(Some(row)) => row,
                Ok(None) => {
                    // Rows that were not synced may be lost, but none that a checkpoint follows.
                    if self.checkpoint.is_some_and(|head| head.applied.index >= index) {
                        let what = "the row of the topic index is missing";
                        findings.add(Invariant::DenseOffsets, place(slice.first_offset), what);
                    }
                    return false;
                }
                Err(error) => {
                    findings.add(Invariant::Whole, place(slice.first_offset), error);
                    return false;
                }
            };
            if row.first_offset > slice.first_offset {
                let what =
                    format_args!("the row of the topic index is missing: the next begins at {}", row.first_offset);
                findings.add(Invariant::DenseOffsets, place(slice.first_offset), what);
                return false;
            }
            self.rows.pop(slice.topic);
            if row.first_offset == slice.first_offset {
                let is_right = (row.index, row.mask) == (index, slice.mask);
                if !is_right {
                    let what = format_args!(
                        "the row of the topic index says entry {} and events {:#x}, the log gives entry {index} and events {:#x}",
                        row.index, row.mask, slice.mask
                    );
                    findings.add(Invariant::StateOfLog, place(slice.first_offset), what);
                }
                return is_right;
            }
            let what = format_args!("the topic index has a row here that no entry gives; it names entry {}", row.index);
            findings.add(Invariant::DenseOffsets, place(row.first_offset), what);
        }
    }
}
