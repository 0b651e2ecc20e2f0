//! Keys of the column families. Big-endian, so that the order of bytes is the order of the log.
//!
//! | family | key | value |
//! |---|---|---|
//! | log | shard u16, index u64 | the entry's frame |
//! | log | shard u16, index u64, `01` | the [point](super::point) of a synced batch whose last entry has this index |
//! | index | shard u16, topic u32, first offset u64 | index u64, mask u64 |
//! | state | shard u16, the replica's own key | the replica's own value |
//!
//! A point lies right behind its entry, and not under a key of its own beyond all entries: with such a key every file of
//! the log would overlap every other one, and RocksDB would rewrite files that it can otherwise just move down.

use eventstream_core::id::{Index, Offset, ShardId, TopicId};

/// The only shard for now. Its number is in every key from the first day.
const SHARD: ShardId = ShardId(0);
const POINT: u8 = 1;

const ENTRY_LEN: usize = 10;
const POINT_LEN: usize = 11;
const TOPIC_LEN: usize = 14;
const MAX_STATE_KEY: usize = 255;

/// A key of the log's family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LogKey {
    /// Of an entry.
    Entry(Index),
    /// Of the point behind that entry.
    Point(Index),
}

impl LogKey {
    /// `None` if it is neither: of another shard, or no key of ours.
    pub(super) fn parse(key: &[u8]) -> Option<Self> {
        let (shard, rest) = key.split_first_chunk()?;
        if u16::from_be_bytes(*shard) != SHARD.0 {
            return None;
        }
        let (index, rest) = rest.split_first_chunk()?;
        let index = Index(u64::from_be_bytes(*index));
        match rest {
            [] => Some(Self::Entry(index)),
            [POINT] => Some(Self::Point(index)),
            _ => None,
        }
    }
}

pub(super) fn entry(index: Index) -> [u8; ENTRY_LEN] {
    let mut key = [0; ENTRY_LEN];
    key[..2].copy_from_slice(&SHARD.0.to_be_bytes());
    key[2..].copy_from_slice(&index.0.to_be_bytes());
    key
}

pub(super) fn point(index: Index) -> [u8; POINT_LEN] {
    let mut key = [POINT; POINT_LEN];
    key[..ENTRY_LEN].copy_from_slice(&entry(index));
    key
}

/// Behind every key of the shard.
pub(super) fn end() -> [u8; 2] {
    (SHARD.0 + 1).to_be_bytes()
}

pub(super) fn topic(topic: TopicId, offset: Offset) -> [u8; TOPIC_LEN] {
    let mut key = [0; TOPIC_LEN];
    key[..2].copy_from_slice(&SHARD.0.to_be_bytes());
    key[2..6].copy_from_slice(&topic.0.to_be_bytes());
    key[6..].copy_from_slice(&offset.0.to_be_bytes());
    key
}

/// Behind every key of the topic that can be: no topic has so many events.
pub(super) fn topic_end(number: TopicId) -> [u8; TOPIC_LEN] {
    topic(number, Offset(u64::MAX))
}

/// Topic and offset of a key of the index family.
pub(super) fn parse_topic(key: &[u8]) -> Option<(TopicId, Offset)> {
    let (shard, rest) = key.split_first_chunk()?;
    let (topic, rest) = rest.split_first_chunk()?;
    let offset: [u8; 8] = rest.try_into().ok()?;
    let ours = u16::from_be_bytes(*shard) == SHARD.0;
    ours.then(|| (TopicId(u32::from_be_bytes(*topic)), Offset(u64::from_be_bytes(offset))))
}

/// Where the state rows of the shard begin.
pub(super) fn state_start() -> [u8; 2] {
    SHARD.0.to_be_bytes()
}

/// The key of a state row.
pub(super) struct StateKey {
    bytes: [u8; 2 + MAX_STATE_KEY],
    len: usize,
}

impl AsRef<[u8]> for StateKey {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// `key` has at most 255 bytes: rows are packed so.
pub(super) fn state(key: &[u8]) -> StateKey {
    let mut bytes = [0; 2 + MAX_STATE_KEY];
    let len = 2 + key.len();
    bytes[..2].copy_from_slice(&state_start());
    bytes[2..len].copy_from_slice(key);
    StateKey { bytes, len }
}

/// The replica's own key of a state row; `None` if it belongs to another shard.
pub(super) fn parse_state(key: &[u8]) -> Option<&[u8]> {
    key.strip_prefix(&state_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_as_the_log_does() {
        let keys: [&[u8]; 6] =
            [&entry(Index(1)), &point(Index(1)), &entry(Index(2)), &entry(Index(256)), &point(Index(u64::MAX)), &end()];
        assert!(keys.is_sorted());
        assert!(topic(TopicId(1), Offset(u64::MAX)) < topic(TopicId(2), Offset(0)));
    }

    #[test]
    fn keys_parse_back_and_others_do_not() {
        assert_eq!(LogKey::parse(&entry(Index(7))), Some(LogKey::Entry(Index(7))));
        assert_eq!(LogKey::parse(&point(Index(7))), Some(LogKey::Point(Index(7))));
        assert_eq!(parse_topic(&topic(TopicId(3), Offset(9))), Some((TopicId(3), Offset(9))));
        assert_eq!(parse_state(state(b"mine").as_ref()), Some(&b"mine"[..]));
        for foreign in [&b""[..], &[0], &[0, 1, 0, 0, 0, 0, 0, 0, 0, 0], &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]] {
            assert_eq!(LogKey::parse(foreign), None);
            assert_eq!(parse_topic(foreign), None);
        }
    }
}
