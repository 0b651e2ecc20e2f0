//! A subscriber: reads a topic by offset from whichever member it is connected to, through that member's own index.

use crate::entries::{Entries, EntryId};
use crate::model::Model;
use crate::payload::{Event, TOPICS};
use crate::stats::{Happening, Stats};
use crate::violation::{Checked, ensure};
use eventstream_core::wire::Batch;

/// A row of a member's topic index: which events of an entry the topic got.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IndexRow {
    pub(crate) first_offset: u64,
    pub(crate) mask: u64,
    pub(crate) id: EntryId,
}

/// One subscriber of one topic.
#[derive(Clone, Debug, Default)]
pub(crate) struct Subscriber {
    pub(crate) topic: u8,
    pub(crate) member: usize,
    next: u64,
}

impl Subscriber {
    /// One that begins at the beginning.
    pub(crate) const fn new(topic: u8) -> Self {
        Self { topic, member: 0, next: 0 }
    }

    /// Reads all that the member shows. Invariants 6 to 8: each offset holds the event that the committed log put
    /// there, without a hole, on every member.
    pub(crate) fn read(&mut self, rows: &[IndexRow], entries: &Entries, model: &Model, stats: &mut Stats) -> Checked {
        let from = rows.partition_point(|row| row.first_offset + u64::from(row.mask.count_ones()) <= self.next);
        for row in &rows[from..] {
            let entry = entries.get(row.id);
            let Ok(batch) = Batch::check(entries.payload(row.id), entry.events) else {
                ensure!(false, Visibility, "the index leads to entry {}, which is no batch", entry.index);
                return Ok(());
            };
            let events = batch.runs().flat_map(|run| run.records().map(move |record| (run.head().topic, record)));
            let chosen = events.enumerate().filter(|&(at, _)| row.mask >> at & 1 == 1);
            for ((_, (topic, record)), offset) in chosen.zip(row.first_offset..) {
                if offset < self.next {
                    continue;
                }
                let found = Event::decode(record.payload);
                ensure!(
                    offset == self.next && topic == TOPICS[usize::from(self.topic)],
                    DenseOffsets,
                    "offset {offset} of {topic} instead of {}",
                    self.next
                );
                let expected = model.event(self.topic, offset);
                ensure!(
                    found.is_some() && found == expected,
                    Visibility,
                    "offset {offset} of {topic} shows {found:?} and is {expected:?}"
                );
                self.next += 1;
                stats.count(Happening::Delivered, 1);
            }
        }
        Ok(())
    }
}
