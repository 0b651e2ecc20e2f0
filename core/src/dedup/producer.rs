//! What is remembered of one producer.

use super::Claim;
use crate::config::{MAX_BATCH_EVENTS, MAX_COUNTER, MAX_EVICTED_EPOCH, REMEMBERED_RUNS};
use crate::digest::Digest;
use crate::id::{Epoch, LogTime, Offset, ProducerId, Sequence, TopicId};
use crate::table::Content;
use serde::{Deserialize, Serialize};

/// One producer: its life, its numbering, and where its newest events went.
///
/// Serialised as it stands, it is the producer's row in a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Producer {
    id: ProducerId,
    epoch: Epoch,
    next: Sequence,
    dropped: u64,
    heard_at: LogTime,
    /// Newest first; those that were never used are empty.
    spans: [Span; REMEMBERED_RUNS],
}

/// Events of one producer with consecutive sequences and consecutive offsets in one topic: a run, or several that
/// nothing came between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Span {
    topic: TopicId,
    /// Zero in a span that was never used.
    count: u32,
    first_sequence: Sequence,
    first_offset: Offset,
}

impl Producer {
    /// Bytes of the longest producer when serialised.
    pub(crate) const MAX_LEN: usize = 16 + 5 + 10 + 10 + 10 + REMEMBERED_RUNS * (5 + 5 + 10 + 10);

    /// A producer of which nothing was accepted yet.
    pub(super) const fn new(id: ProducerId, epoch: Epoch) -> Self {
        Self { id, epoch, ..Self::EMPTY }
    }

    /// Who it is.
    #[must_use]
    pub const fn id(&self) -> ProducerId {
        self.id
    }

    /// Its current life. Earlier ones are fenced.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The sequence after its highest.
    #[must_use]
    pub const fn next_sequence(&self) -> Sequence {
        self.next
    }

    /// Sequences below [`next_sequence`](Self::next_sequence) that no event was accepted for, because the producer said
    /// that it had to drop them; or that are not known of, because it was evicted in between and went on.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The log time of the last entry in which its current life spoke, or began.
    #[must_use]
    pub const fn heard_at(&self) -> LogTime {
        self.heard_at
    }

    /// Whether its epoch leaves enough others to those that come after it.
    pub(super) const fn can_be_evicted(&self) -> bool {
        self.epoch.0 <= MAX_EVICTED_EPOCH.0
    }

    pub(super) const fn id_bytes(&self) -> &[u8; 16] {
        &self.id.0
    }

    /// It has spoken in an entry of this time.
    pub(super) const fn hear(&mut self, now: LogTime) {
        self.heard_at = now;
    }

    /// Whether numbers can be counted on from: one of a row from elsewhere may say anything.
    pub(crate) fn is_countable(&self) -> bool {
        let spans = self.spans.iter().flat_map(|span| [span.first_sequence.0, span.first_offset.0]);
        // The last run may end behind the highest number.
        spans
            .chain([self.next.0, self.dropped, self.heard_at.0])
            .all(|number| number <= MAX_COUNTER + MAX_BATCH_EVENTS as u64)
    }

    /// Begins a life: the ones before it are fenced, the numbering goes on.
    pub(super) fn begin_life(&mut self, epoch: Epoch) {
        assert!(epoch > self.epoch, "a new life has a higher epoch");
        self.epoch = epoch;
    }

    /// Takes note of a run's last `accepted` events, of which the first got `first_offset`.
    pub(crate) fn accept(&mut self, claim: &Claim, accepted: u16, dropped: u64, topic: TopicId, first_offset: Offset) {
        let end = claim.first.plus(claim.count.into());
        let span =
            Span { topic, count: accepted.into(), first_sequence: Sequence(end.0 - u64::from(accepted)), first_offset };
        (self.next, self.dropped) = (end, self.dropped + dropped);
        if !self.spans[0].extend(&span) {
            self.spans.rotate_right(1);
            self.spans[0] = span;
        }
    }

    /// The offset of the event `first`, if it and the `count - 1` after it are remembered as one span of `topic`.
    pub(super) fn offset_of(&self, topic: TopicId, first: Sequence, count: u16) -> Option<Offset> {
        let span = self.spans.iter().find(|span| span.topic == topic && span.holds(first, count))?;
        Some(span.first_offset.plus(first.0 - span.first_sequence.0))
    }
}

impl Span {
    const EMPTY: Self =
        Self { topic: TopicId(0), count: 0, first_sequence: Sequence::ZERO, first_offset: Offset::ZERO };

    /// Takes in `next` if it continues this span in every respect.
    fn extend(&mut self, next: &Self) -> bool {
        let count = u64::from(self.count);
        let continues = self.count > 0
            && self.topic == next.topic
            && self.first_sequence.plus(count) == next.first_sequence
            && self.first_offset.plus(count) == next.first_offset;
        let Some(sum) = self.count.checked_add(next.count).filter(|_| continues) else { return false };
        self.count = sum;
        true
    }

    fn holds(&self, first: Sequence, count: u16) -> bool {
        self.first_sequence <= first && first.plus(count.into()) <= self.first_sequence.plus(self.count.into())
    }
}

impl Content for Producer {
    const EMPTY: Self = Self {
        id: ProducerId([0; 16]),
        epoch: Epoch(0),
        next: Sequence::ZERO,
        dropped: 0,
        heard_at: LogTime::ZERO,
        spans: [Span::EMPTY; REMEMBERED_RUNS],
    };

    fn digest(&self) -> Digest {
        let head = Digest::new(0)
            .bytes(&self.id.0)
            .number(self.epoch.0.into())
            .number(self.next.0)
            .number(self.dropped)
            .number(self.heard_at.0);
        self.spans.iter().filter(|&span| *span != Span::EMPTY).fold(head, |digest, span| {
            let topic_and_count = u64::from(span.topic.0) << 32 | u64::from(span.count);
            digest.number(topic_and_count).number(span.first_sequence.0).number(span.first_offset.0)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_producer_is_as_long_as_reckoned() {
        let span = Span {
            topic: TopicId(u32::MAX),
            count: u32::MAX,
            first_sequence: Sequence(u64::MAX),
            first_offset: Offset(u64::MAX),
        };
        let longest = Producer {
            id: ProducerId([0xff; 16]),
            epoch: Epoch(u32::MAX),
            next: Sequence(u64::MAX),
            dropped: u64::MAX,
            heard_at: LogTime(u64::MAX),
            spans: [span; REMEMBERED_RUNS],
        };
        let mut buffer = [0; Producer::MAX_LEN];
        assert_eq!(postcard::to_slice(&longest, &mut buffer).map(|written| written.len()), Ok(Producer::MAX_LEN));
    }
}
