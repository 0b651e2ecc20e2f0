//! Reads beside the storage thread, from any thread.
//!
//! RocksDB shows a write only after its sync, so what is read of the log here is on stable storage. Nothing is cached on
//! the way: the pages of the operating system are the cache.

mod scan;

pub use scan::LogItem;

use super::StoreError;
use super::floor::Floor;
use super::key::{self, LogKey};
use super::options::{INDEX, LOG, STATE};
use super::point::{Chain, Point};
use super::rocks::Database;
use crate::checksum::CRC;
use core::ops::ControlFlow;
use eventstream_core::id::{Index, LogTime, Offset, Term, TopicId};
use eventstream_core::raft::{HardState, LogPosition, LogView};
use eventstream_core::wire::Header;
use rocksdb::{DBRawIterator, ReadOptions};
use std::sync::Arc;

const READ_AHEAD: usize = 256 << 10;

/// A reader of one open database; a clone is another reader of the same. The directory stays locked until the last one is
/// dropped.
#[derive(Clone)]
pub struct Reader {
    database: Arc<Database>,
}

/// What the log holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// Term and vote.
    pub hard_state: HardState,
    /// The first entry that the log still holds; zero if it holds none.
    pub first: Index,
    /// The last entry.
    pub last: LogPosition,
    /// The log time of the last entry.
    pub last_log_time: LogTime,
    /// Synced batches in the life of the store.
    pub synced_batches: u64,
    /// Whether the end of the log may be lost, with entries and votes that this node has told others of; all of it, if
    /// nothing is in it. Every start says so, until a hard state that says it was synced.
    pub suspect: bool,
    /// The chained checksum at the last entry.
    pub(super) chain: Chain,
}

impl Stored {
    /// The floor that this log reaches.
    pub(super) fn floor(&self) -> Floor {
        Floor { number: self.synced_batches, index: self.last.index, chain: self.chain }
    }
}

/// What [`Reader::entries`] gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where to go on.
    pub next: Index,
    /// Bytes of the frames.
    pub bytes: usize,
}

/// Where events of a topic lie in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicRow {
    /// The offset of the first of them.
    pub first_offset: Offset,
    /// The entry that holds them.
    pub index: Index,
    /// Which of the entry's events were accepted.
    pub mask: u64,
}

impl TopicRow {
    fn parse(topic: TopicId, key: &[u8], value: &[u8]) -> Result<Option<Self>, StoreError> {
        Self::parse_any(key, value).map(|(found, row)| (found == topic).then_some(row))
    }

    /// A row of any topic.
    fn parse_any(key: &[u8], value: &[u8]) -> Result<(TopicId, Self), StoreError> {
        let damaged = || StoreError::Damaged("a topic row is not as we write it".to_owned());
        let (topic, first_offset) = key::parse_topic(key).ok_or_else(damaged)?;
        let (index, mask) = value.split_first_chunk().ok_or_else(damaged)?;
        let mask = mask.try_into().map_err(|_| damaged())?;
        let row = Self { first_offset, index: Index(u64::from_le_bytes(*index)), mask: u64::from_le_bytes(mask) };
        Ok((topic, row))
    }
}

impl Reader {
    pub(super) fn new(database: Arc<Database>) -> Self {
        Self { database }
    }

    pub(super) fn database(&self) -> &Database {
        &self.database
    }

    /// Reads frames from `first` to at most `last`, until `max_bytes` are reached; at least one if `visit` takes it. What
    /// `visit` breaks at does not count as read. Ends early where the log ends.
    ///
    /// # Errors
    /// [`StoreError::NoEntry`] if the log begins behind `first`; a failed read; a log with a hole.
    pub fn entries(
        &self,
        first: Index,
        last: Index,
        max_bytes: usize,
        mut visit: impl FnMut(Index, &[u8]) -> ControlFlow<()>,
    ) -> Result<Found, StoreError> {
        let mut found = Found { next: first, bytes: 0 };
        let mut log = self.range(LOG, &key::entry(first), &key::entry(last.next()));
        log.seek_to_first();
        while let Some((key, frame)) = log.item() {
            if let LogKey::Entry(index) = parse(key)? {
                if index != found.next {
                    return Err(if found.bytes == 0 { StoreError::NoEntry(first) } else { hole(found.next, index) });
                }
                let is_enough = found.bytes > 0 && found.bytes + frame.len() > max_bytes;
                if is_enough || visit(index, frame).is_break() {
                    return Ok(found);
                }
                found = Found { next: index.next(), bytes: found.bytes + frame.len() };
            }
            log.next();
        }
        log.status().map_err(StoreError::Read)?;
        Ok(found)
    }

    /// The row of the events at and before `offset` of a topic: the last one that begins at or before it.
    ///
    /// # Errors
    /// A failed read, or a row that is not ours.
    pub fn topic_row(&self, topic: TopicId, offset: Offset) -> Result<Option<TopicRow>, StoreError> {
        let mut rows = self.range(INDEX, &key::topic(topic, Offset::ZERO), &key::topic_end(topic));
        rows.seek_for_prev(key::topic(topic, offset));
        match rows.item() {
            Some((key, value)) => TopicRow::parse(topic, key, value),
            None => rows.status().map(|()| None).map_err(StoreError::Read),
        }
    }

    /// Gives the rows of a topic in order, from the one that holds `offset`, until `visit` breaks or there are no more.
    ///
    /// # Errors
    /// A failed read, or a row that is not ours.
    pub fn topic_rows(
        &self,
        topic: TopicId,
        offset: Offset,
        mut visit: impl FnMut(TopicRow) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let mut rows = self.range(INDEX, &key::topic(topic, Offset::ZERO), &key::topic_end(topic));
        rows.seek_for_prev(key::topic(topic, offset));
        if !rows.valid() {
            rows.seek(key::topic(topic, offset));
        }
        while let Some((key, value)) = rows.item() {
            let Some(row) = TopicRow::parse(topic, key, value)? else { break };
            if visit(row).is_break() {
                return Ok(());
            }
            rows.next();
        }
        rows.status().map_err(StoreError::Read)
    }

    /// Gives every state row, key and value, in the order of the keys.
    ///
    /// # Errors
    /// A failed read.
    pub fn state_rows(&self, mut visit: impl FnMut(&[u8], &[u8])) -> Result<(), StoreError> {
        let mut rows = self.range(STATE, &key::state_start(), &key::end());
        rows.seek_to_first();
        while let Some((key, value)) = rows.item() {
            if let Some(key) = key::parse_state(key) {
                visit(key, value);
            }
            rows.next();
        }
        rows.status().map_err(StoreError::Read)
    }

    /// What the log holds, after a check that its end is what was synced last.
    ///
    /// # Errors
    /// A failed read; [`StoreError::Damaged`] if entries are missing or are not those that were synced.
    pub fn stored(&self) -> Result<Stored, StoreError> {
        let Some((at, point)) = self.last_point()? else { return Ok(Stored::default()) };
        if self.walk(at, Start::BeforePoint)? != point.chain {
            return Err(StoreError::Damaged(format!("the entries up to {at} are not those that were synced")));
        }
        if self.chain_at(point.base)? != point.base_chain {
            return Err(StoreError::Damaged(format!(
                "the entries up to {} are not those that were synced",
                point.base
            )));
        }
        let mut stored = Stored {
            hard_state: point.hard_state,
            synced_batches: point.number,
            chain: point.chain,
            ..Stored::default()
        };
        if at > Index::ZERO {
            let header = self.header(at)?.ok_or(StoreError::NoEntry(at))?;
            stored.first = self.first()?;
            stored.last = LogPosition { index: at, term: header.term };
            stored.last_log_time = header.log_time();
        }
        Ok(stored)
    }

    /// Why the term of an entry could not be told, if that has happened to any reader of this database.
    #[must_use]
    pub fn failure(&self) -> Option<&StoreError> {
        self.database.failure.get()
    }

    /// Whether the log, which holds what `stored` says, holds what the floor names.
    ///
    /// # Errors
    /// A failed read, or a log with a hole.
    pub(super) fn reaches(&self, floor: Floor, stored: &Stored) -> Result<bool, StoreError> {
        let is_long_enough = stored.synced_batches >= floor.number && stored.last.index >= floor.index;
        Ok(is_long_enough && self.chain_at(floor.index)? == floor.chain)
    }

    /// The chained checksum at an entry: from the last point at or before it, over the headers that follow.
    pub(super) fn chain_at(&self, index: Index) -> Result<Chain, StoreError> {
        self.walk(index, Start::AtPoint)
    }

    fn walk(&self, index: Index, start: Start) -> Result<Chain, StoreError> {
        let mut log = self.range(LOG, &key::entry(Index::ZERO), &key::end());
        match start {
            Start::AtPoint => log.seek_for_prev(key::point(index)),
            Start::BeforePoint => log.seek_for_prev(key::entry(index)),
        }
        let (mut at, mut chain) = (Index::ZERO, Chain::default());
        while let Some((key, value)) = log.item() {
            if let LogKey::Point(found) = parse(key)? {
                (at, chain) = (found, parse_point(value)?.chain);
                break;
            }
            log.prev();
        }
        log.status().map_err(StoreError::Read)?;
        if log.valid() {
            log.next()
        } else {
            log.seek_to_first()
        }
        while at < index {
            let Some((key, frame)) = log.item() else {
                log.status().map_err(StoreError::Read)?;
                return Err(hole(at.next(), index.next()));
            };
            if let LogKey::Entry(found) = parse(key)? {
                if found != at.next() {
                    return Err(hole(at.next(), found));
                }
                let header = frame.first_chunk().ok_or_else(|| not_a_frame(found))?;
                (at, chain) = (found, chain.extended(header));
            }
            log.next();
        }
        Ok(chain)
    }

    fn last_point(&self) -> Result<Option<(Index, Point)>, StoreError> {
        let mut log = self.range(LOG, &key::entry(Index::ZERO), &key::end());
        log.seek_to_last();
        match log.item() {
            None => log.status().map(|()| None).map_err(StoreError::Read),
            Some((key, value)) => match parse(key)? {
                LogKey::Point(at) => parse_point(value).map(|point| Some((at, point))),
                LogKey::Entry(at) => Err(StoreError::Damaged(format!("entry {at} belongs to no whole batch"))),
            },
        }
    }

    fn first(&self) -> Result<Index, StoreError> {
        let mut log = self.range(LOG, &key::entry(Index::ZERO), &key::end());
        log.seek_to_first();
        while let Some((key, _)) = log.item() {
            if let LogKey::Entry(index) = parse(key)? {
                return Ok(index);
            }
            log.next();
        }
        log.status().map(|()| Index::ZERO).map_err(StoreError::Read)
    }

    fn header(&self, index: Index) -> Result<Option<Header>, StoreError> {
        let database = self.database();
        let frame = database.rocks.get_pinned_cf(database.family(LOG), key::entry(index)).map_err(StoreError::Read)?;
        let Some(frame) = frame else { return Ok(None) };
        match frame.first_chunk().map(|bytes| Header::parse(bytes, CRC)) {
            Some(Ok(header)) if header.is_logged() && header.index() == index => Ok(Some(header)),
            _ => Err(not_a_frame(index)),
        }
    }

    fn range(&self, family: &str, start: &[u8], end: &[u8]) -> DBRawIterator<'_> {
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        options.set_readahead_size(READ_AHEAD);
        options.set_iterate_lower_bound(start);
        options.set_iterate_upper_bound(end);
        self.database.rocks.raw_iterator_cf_opt(self.database.family(family), options)
    }
}

impl LogView for Reader {
    /// `None` also for an entry that cannot be read: the log then looks as if it began later, which is safe, and
    /// [`Reader::failure`] tells why.
    fn term(&self, index: Index) -> Option<Term> {
        let header = self.header(index).unwrap_or_else(|error| {
            // The first one is as good as any.
            let _ = self.database.failure.set(error);
            None
        });
        header.map(|header| header.term)
    }
}

/// From which point a chain is computed.
#[derive(Clone, Copy)]
enum Start {
    /// The last one at or before the entry.
    AtPoint,
    /// The last one before the entry's own, so as to check that.
    BeforePoint,
}

fn parse(key: &[u8]) -> Result<LogKey, StoreError> {
    LogKey::parse(key).ok_or_else(|| StoreError::Damaged("the log holds a key that is not ours".to_owned()))
}

fn parse_point(value: &[u8]) -> Result<Point, StoreError> {
    Point::parse(value).ok_or_else(|| StoreError::Damaged("a point of the log is not as we write it".to_owned()))
}

fn not_a_frame(index: Index) -> StoreError {
    StoreError::Damaged(format!("what is stored as entry {index} is not its frame"))
}

fn hole(expected: Index, found: Index) -> StoreError {
    StoreError::Damaged(format!("the entries from {expected} to {} are missing", found.prev()))
}
