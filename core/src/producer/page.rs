//! The bytes of a page: a header, then records, then what is still erased. Numbers are little-endian.
//!
//! ```text
//! header  magic u32, turn u32, first sequence u64, producer [u8; 16], CRC-32 u32, 0 u32     40 bytes
//! record  length of the body u16, !length u16, CRC-32 u32, body, 0xFF up to a whole write unit
//! body    time u64, length of the key u16, length of the topic u8, topic, key, payload
//! ```
//!
//! The CRC of a header is that of what stands before it; the CRC of a record is that of its sequence as a `u64` and its
//! body: a record counts at its place in the numbering and nowhere else.

use crate::batch::Event;
use crate::config::MAX_COUNTER;
use crate::crc::Crc32;
use crate::id::{ProducerId, Sequence};

/// What is written at once, and where it begins, are multiples of this many bytes.
pub const WRITE_UNIT: usize = 8;
/// Bytes of a page's header.
pub const PAGE_HEADER_LEN: usize = 40;
/// Bytes of a record before its body.
pub(super) const RECORD_HEADER_LEN: usize = 8;
/// Bytes of a body before the topic.
const BODY_FIXED: usize = 11;
/// What an erased byte holds.
pub(super) const ERASED: u8 = 0xFF;

const MAGIC: u32 = u32::from_le_bytes(*b"ESPL");
/// No flash lasts for more pages.
const MAX_TURN: u32 = u32::MAX >> 1;

/// What stands at the front of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PageHeader {
    /// Pages that were begun before this one, in the life of the log, at most [`MAX_TURN`]. The page's place is this modulo
    /// the pages.
    pub(super) turn: u32,
    /// The sequence of the page's first record.
    pub(super) first: Sequence,
    /// Whose numbering this is.
    pub(super) producer: ProducerId,
}

impl PageHeader {
    pub(super) fn emit(&self, crc: Crc32) -> [u8; PAGE_HEADER_LEN] {
        let mut bytes = [0; PAGE_HEADER_LEN];
        bytes[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.turn.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.first.0.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.producer.0);
        let checksum = crc.of(&bytes[..32]);
        bytes[32..36].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// `None` if this is no header, or one with numbers that no log comes to: the next ones are to be counted from them.
    pub(super) fn parse(bytes: &[u8; PAGE_HEADER_LEN], crc: Crc32) -> Option<Self> {
        let turn = number(&bytes[4..8]) as u32;
        let first = Sequence(number(&bytes[8..16]));
        let header = Self { turn, first, producer: ProducerId(bytes[16..32].try_into().ok()?) };
        (turn <= MAX_TURN && first.0 <= MAX_COUNTER && header.emit(crc) == *bytes).then_some(header)
    }
}

/// An event as the log keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored<'a> {
    /// The topic, 1 to 127 bytes.
    pub topic: &'a str,
    /// When it happened, in microseconds since the Unix epoch; zero on a device that does not know.
    pub time_us: u64,
    /// The key, 0 to 511 bytes.
    pub key: &'a [u8],
    /// The payload.
    pub payload: &'a [u8],
}

impl<'a> Stored<'a> {
    /// Bytes of its record in the flash.
    #[must_use]
    pub const fn record_len(&self) -> usize {
        record_len(BODY_FIXED + self.topic.len() + self.key.len() + self.payload.len())
    }

    /// Writes the record to the front of `buffer`, which has room for it. The limits of the format were checked.
    pub(super) fn emit<'b>(&self, sequence: Sequence, buffer: &'b mut [u8], crc: Crc32) -> &'b [u8] {
        let record = &mut buffer[..self.record_len()];
        record.fill(ERASED);
        let topic_at = RECORD_HEADER_LEN + BODY_FIXED;
        let key_at = topic_at + self.topic.len();
        let payload_at = key_at + self.key.len();
        let end = payload_at + self.payload.len();
        record[8..16].copy_from_slice(&self.time_us.to_le_bytes());
        record[16..18].copy_from_slice(&(self.key.len() as u16).to_le_bytes());
        record[18] = self.topic.len() as u8;
        record[topic_at..key_at].copy_from_slice(self.topic.as_bytes());
        record[key_at..payload_at].copy_from_slice(self.key);
        record[payload_at..end].copy_from_slice(self.payload);
        let body_len = (end - RECORD_HEADER_LEN) as u16;
        let checksum = checksum(sequence, &record[RECORD_HEADER_LEN..end], crc);
        record[0..2].copy_from_slice(&body_len.to_le_bytes());
        record[2..4].copy_from_slice(&(!body_len).to_le_bytes());
        record[4..8].copy_from_slice(&checksum.to_le_bytes());
        record
    }

    /// Reads a body.
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let (fixed, rest) = body.split_at_checked(BODY_FIXED)?;
        let (topic, rest) = rest.split_at_checked(fixed[10].into())?;
        let (key, payload) = rest.split_at_checked(number(&fixed[8..10]) as usize)?;
        Some(Self { topic: core::str::from_utf8(topic).ok()?, time_us: number(&fixed[..8]), key, payload })
    }

    /// The event under its number.
    pub(super) const fn event(&self, source: crate::batch::Source) -> Event<'a> {
        Event { topic: self.topic, source, time_us: self.time_us, key: self.key, payload: self.payload }
    }
}

/// What the front of a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub(super) body_len: usize,
    pub(super) checksum: u32,
}

impl RecordHeader {
    /// `None` if this is no record: it is erased, or was cut off.
    pub(super) fn parse(bytes: &[u8; RECORD_HEADER_LEN]) -> Option<Self> {
        let (len, complement) = (number(&bytes[0..2]) as u16, number(&bytes[2..4]) as u16);
        (len == !complement && usize::from(len) >= BODY_FIXED)
            .then(|| Self { body_len: len.into(), checksum: number(&bytes[4..8]) as u32 })
    }

    pub(super) const fn record_len(&self) -> usize {
        record_len(self.body_len)
    }
}

pub(super) fn checksum(sequence: Sequence, body: &[u8], crc: Crc32) -> u32 {
    crc.extend(crc.of(&sequence.0.to_le_bytes()), body)
}

const fn record_len(body_len: usize) -> usize {
    (RECORD_HEADER_LEN + body_len).next_multiple_of(WRITE_UNIT)
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_it_was_written_unless_nothing_could_be_counted_on_from_it() {
        const CRC: Crc32 = Crc32::portable();
        let header = PageHeader { turn: MAX_TURN, first: Sequence(MAX_COUNTER), producer: ProducerId([7; 16]) };
        assert_eq!(PageHeader::parse(&header.emit(CRC), CRC), Some(header));
        let late = PageHeader { turn: MAX_TURN + 1, ..header };
        assert_eq!(PageHeader::parse(&late.emit(CRC), CRC), None);
        let high = PageHeader { first: Sequence(MAX_COUNTER + 1), ..header };
        assert_eq!(PageHeader::parse(&high.emit(CRC), CRC), None);
    }
}
