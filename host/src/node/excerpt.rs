//! What of an entry goes to the subscribers of one topic.

use super::memory::{Packer, SharedFrame};
use crate::checksum::CRC;
use eventstream_core::wire::{Batch, HEADER_LEN, Header, seal};

/// A frame for the subscribers of a topic, and which of its events are delivered.
#[derive(Clone, Debug)]
pub(crate) struct Excerpt {
    /// The entry's own frame if all of it is the topic's, else the topic's runs in a frame of their own.
    pub(crate) frame: SharedFrame,
    /// Bit `i` for the `i`-th event of the frame.
    pub(crate) mask: u64,
}

impl Excerpt {
    /// The events of `topic` among those of an entry that `mask` selects; `header` and `batch` are the frame's. What
    /// has events of other topics too is packed anew; `None` if there is no room for that.
    pub(crate) fn of(
        frame: &SharedFrame,
        header: &Header,
        batch: &Batch<'_>,
        topic: &str,
        mask: u64,
        packer: &mut Packer,
    ) -> Option<Self> {
        if batch.runs().all(|run| run.head().topic == topic) {
            return Some(Self { frame: frame.clone(), mask });
        }
        let buffer = packer.room(frame.len())?;
        let mut cut = Cut::default();
        for run in batch.runs() {
            let bytes = (run.head().topic == topic).then(|| run.bytes());
            cut.pass(u32::from(run.head().count), bytes, mask, &mut buffer[HEADER_LEN..]);
        }
        let excerpt = Header {
            event_count: cut.events as u16,
            payload_len: cut.len as u32,
            checksum: CRC.of(&buffer[HEADER_LEN..HEADER_LEN + cut.len]),
            ..*header
        };
        let len = seal(buffer, &excerpt, CRC);
        Some(Self { frame: buffer.split_to(len).freeze(), mask: cut.mask })
    }
}

/// The runs copied so far.
#[derive(Debug, Default)]
struct Cut {
    /// Events of the entry that were passed, copied or not.
    passed: u32,
    /// Events copied.
    events: u32,
    /// Bytes copied.
    len: usize,
    /// The mask of the copied events.
    mask: u64,
}

impl Cut {
    /// Passes a run of `count` events; copies it if there are bytes.
    fn pass(&mut self, count: u32, bytes: Option<&[u8]>, mask: u64, to: &mut [u8]) {
        if let Some(bytes) = bytes {
            to[self.len..self.len + bytes.len()].copy_from_slice(bytes);
            self.len += bytes.len();
            self.mask |= (mask >> self.passed & low_bits(count)) << self.events;
            self.events += count;
        }
        self.passed += count;
    }
}

/// A mask of the first `count` events, at most 64.
fn low_bits(count: u32) -> u64 {
    u64::MAX.checked_shr(64 - count).unwrap_or(0)
}

/// Takes the first `count` selected events out of a mask.
pub(crate) fn without_first(mask: u64, count: u64) -> u64 {
    (0..count.min(64)).fold(mask, |mask, _| mask & mask.wrapping_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::legal::payload;
    use crate::node::memory::{Packer, StaticPool, pool};
    use eventstream_core::batch::{BatchBuilder, Event, Source};
    use eventstream_core::id::{Epoch, ProducerId, Sequence, ShardId};
    use eventstream_core::wire::Frame;

    fn entry(pool: StaticPool, topics: &[&str]) -> (SharedFrame, Header) {
        let mut builder = BatchBuilder::new(pool.take().expect("a block"));
        for (sequence, topic) in (0..).zip(topics) {
            let source = Source::Producer {
                producer: ProducerId([1; 16]),
                epoch: Epoch(1),
                sequence: Sequence(sequence),
                after_gap: false,
            };
            let event = Event { topic, source, time_us: 5, key: b"", payload: topic.as_bytes() };
            builder.push(&event).expect("there is room");
        }
        let (mut block, len) = builder.finish(ShardId(0), 7, 5, CRC);
        block.truncate(len);
        let header = *Frame::check(&block, CRC).expect("a good frame").header();
        (block.freeze(), header)
    }

    fn cut_out(frame: &SharedFrame, header: &Header, topic: &str, mask: u64, packer: &mut Packer) -> Option<Excerpt> {
        let batch = Batch::check(payload(frame), header.event_count).expect("a good batch");
        Excerpt::of(frame, header, &batch, topic, mask, packer)
    }

    fn payloads(excerpt: &Excerpt) -> Vec<String> {
        let frame = Frame::check(&excerpt.frame, CRC).expect("a good frame");
        let batch = Batch::check(frame.payload(), frame.header().event_count).expect("a good batch");
        let records = batch.runs().flat_map(|run| run.records());
        let selected = records.enumerate().filter(|(position, _)| excerpt.mask >> position & 1 == 1);
        selected.map(|(_, record)| String::from_utf8_lossy(record.payload).into_owned()).collect()
    }

    #[test]
    fn an_entry_of_one_topic_goes_as_it_is() {
        let pool = pool(2);
        let (frame, header) = entry(pool, &["a", "a"]);
        let excerpt = cut_out(&frame, &header, "a", 0b10, &mut Packer::new(pool)).expect("nothing is cut");
        assert_eq!((excerpt.frame.as_ptr(), excerpt.mask), (frame.as_ptr(), 0b10));
    }

    #[test]
    fn runs_of_other_topics_are_left_out_and_the_mask_moves_with_the_rest() {
        let pool = pool(2);
        let (frame, header) = entry(pool, &["a", "b", "b", "a", "c", "a"]);
        let mut packer = Packer::new(pool);
        let first = cut_out(&frame, &header, "a", 0b10_1000, &mut packer).expect("a block");
        assert_eq!((first.mask, payloads(&first).len()), (0b110, 2));
        assert_eq!(pool.free(), 0);
        let second = cut_out(&frame, &header, "b", 0b110, &mut packer).expect("the rest of the block");
        assert_eq!((payloads(&first), payloads(&second)), (vec!["a".to_owned(); 2], vec!["b".to_owned(); 2]));
    }

    #[test]
    fn without_a_block_there_is_no_excerpt() {
        let pool = pool(1);
        let (frame, header) = entry(pool, &["a", "b"]);
        assert!(cut_out(&frame, &header, "a", 1, &mut Packer::new(pool)).is_none());
    }

    #[test]
    fn events_before_the_start_leave_the_mask() {
        assert_eq!(without_first(0b1011_0100, 2), 0b1010_0000 & 0b1010_0000);
        assert_eq!(without_first(u64::MAX, 64), 0);
        assert_eq!(low_bits(64), u64::MAX);
        assert_eq!(low_bits(1), 1);
    }
}
