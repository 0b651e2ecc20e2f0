//! The rows of the topic index, topic by topic, each read once and in order beside a log that goes through all topics at
//! a time.

use crate::storage::{Reader, StoreError, TopicRow};
use core::ops::ControlFlow;
use eventstream_core::id::{Offset, TopicId};
use std::collections::VecDeque;

/// Rows that are read ahead for all topics together, about.
const AHEAD: usize = 1 << 17;
/// Rows that are read ahead for one topic: at least, ...
const AHEAD_MIN: usize = 32;
/// ... and at most.
const AHEAD_MAX: usize = 4_096;

/// See the module's page.
pub(super) struct Rows<'a> {
    reader: &'a Reader,
    topics: Vec<Ahead>,
}

/// Rows of one topic that were read and not taken.
#[derive(Default)]
struct Ahead {
    rows: VecDeque<TopicRow>,
    /// Rows that begin before this offset were read.
    next: Offset,
    is_at_end: bool,
}

impl<'a> Rows<'a> {
    pub(super) const fn new(reader: &'a Reader) -> Self {
        Self { reader, topics: Vec::new() }
    }

    /// The next row of the topic, if there is one.
    pub(super) fn peek(&mut self, topic: TopicId) -> Result<Option<TopicRow>, StoreError> {
        let number = topic.0 as usize;
        if self.topics.len() <= number {
            self.topics.resize_with(number + 1, Ahead::default);
        }
        let limit = (AHEAD / self.topics.len()).clamp(AHEAD_MIN, AHEAD_MAX);
        let ahead = &mut self.topics[number];
        if ahead.rows.is_empty() && !ahead.is_at_end {
            ahead.read(self.reader, topic, limit)?;
        }
        Ok(ahead.rows.front().copied())
    }

    /// Takes the row that [`Self::peek`] gave.
    pub(super) fn pop(&mut self, topic: TopicId) {
        self.topics[topic.0 as usize].rows.pop_front();
    }
}

impl Ahead {
    fn read(&mut self, reader: &Reader, topic: TopicId, limit: usize) -> Result<(), StoreError> {
        let Self { rows, next, is_at_end } = self;
        // What cannot be read now cannot be read later.
        *is_at_end = true;
        let from = *next;
        reader.topic_rows(topic, from, |row| {
            if row.first_offset >= from {
                rows.push_back(row);
                *next = row.first_offset.next();
            }
            if rows.len() < limit {
                return ControlFlow::Continue(());
            }
            *is_at_end = false;
            ControlFlow::Break(())
        })
    }
}
