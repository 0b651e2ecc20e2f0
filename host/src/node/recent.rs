//! Where the events of the newest entries lie: the rows of the topic index that belong to the tail.

use eventstream_core::id::{Index, Offset, TopicId};
use std::collections::VecDeque;

/// Events of one topic in one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// The entry.
    pub(crate) index: Index,
    /// The topic.
    pub(crate) topic: TopicId,
    /// The offset of the first accepted event.
    pub(crate) first_offset: Offset,
    /// Which of the entry's events are the topic's and accepted; never zero.
    pub(crate) mask: u64,
}

impl Row {
    /// The offset after the last event.
    pub(crate) fn end(&self) -> Offset {
        self.first_offset.plus(u64::from(self.mask.count_ones()))
    }
}

/// Rows of applied entries, in the order of the log.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    rows: VecDeque<Row>,
}

impl Recent {
    /// Adds a row of the entry that was applied last.
    pub(crate) fn push(&mut self, row: Row) {
        self.rows.push_back(row);
    }

    /// Forgets rows of entries before `first`.
    pub(crate) fn forget_before(&mut self, first: Index) {
        while self.rows.pop_front_if(|row| row.index < first).is_some() {}
    }

    /// The rows of a topic from the one that holds `offset` on; `None` if that one is not here.
    pub(crate) fn from(&self, topic: TopicId, offset: Offset) -> Option<impl Iterator<Item = Row>> {
        let position = self.rows.iter().position(|row| row.topic == topic && row.end() > offset)?;
        let of_topic = self.rows.range(position..).copied().filter(move |row| row.topic == topic);
        (self.rows[position].first_offset <= offset).then_some(of_topic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(index: u64, topic: u32, first_offset: u64, mask: u64) -> Row {
        Row { index: Index(index), topic: TopicId(topic), first_offset: Offset(first_offset), mask }
    }

    #[test]
    fn rows_are_found_by_the_offset_that_they_hold() {
        let mut recent = Recent::default();
        let rows = [row(5, 1, 10, 0b111), row(5, 2, 0, 0b1000), row(6, 1, 13, 0b1), row(7, 1, 14, 0b11)];
        rows.into_iter().for_each(|row| recent.push(row));
        let from = |topic, offset| recent.from(TopicId(topic), Offset(offset)).map(Iterator::collect::<Vec<_>>);
        assert_eq!(from(1, 12), Some(vec![rows[0], rows[2], rows[3]]));
        assert_eq!(from(1, 13), Some(vec![rows[2], rows[3]]));
        assert_eq!(from(1, 9), None, "what holds it is gone already");
        assert_eq!(from(1, 16), None, "it is not there yet");
        assert_eq!(from(2, 0), Some(vec![rows[1]]));
        recent.forget_before(Index(6));
        assert_eq!(recent.from(TopicId(1), Offset(12)).map(Iterator::count), None);
        assert_eq!(recent.from(TopicId(1), Offset(13)).map(Iterator::count), Some(2));
    }
}
