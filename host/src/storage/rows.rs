//! Rows of the applied state on their way to the storage thread: many of them packed into one block.
//!
//! The engine packs rows into a block of its pool and hands the block over; nothing is allocated for a row.

use eventstream_core::id::{Index, Offset, TopicId};

const TOPIC: u8 = 1;
const STATE: u8 = 2;
const GONE: u8 = 3;
const TOPIC_LEN: usize = 1 + 4 + 8 + 8 + 8;

/// One row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Row<'a> {
    /// Events of a topic that one entry holds.
    Topic {
        /// The topic's number.
        topic: TopicId,
        /// The offset of the first of them.
        first_offset: Offset,
        /// The entry.
        index: Index,
        /// Which of the entry's events were accepted.
        mask: u64,
    },
    /// A part of the replica's state.
    State {
        /// The replica's key, at most 255 bytes.
        key: &'a [u8],
        /// Its value, at most 65,535 bytes.
        value: &'a [u8],
    },
    /// A part of the replica's state that is no more.
    Gone {
        /// The replica's key, at most 255 bytes.
        key: &'a [u8],
    },
}

/// The block has no room for this row: hand it over and go on with the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the block has no room for the row")]
pub struct RowsFull;

/// Packs rows into lent memory, usually a pool's block.
#[derive(Debug)]
pub struct RowPacker<'a> {
    memory: &'a mut [u8],
    len: usize,
}

impl<'a> RowPacker<'a> {
    /// Starts with no rows.
    pub fn new(memory: &'a mut [u8]) -> Self {
        Self { memory, len: 0 }
    }

    /// Adds a row, whole.
    ///
    /// # Errors
    /// [`RowsFull`]; nothing was added then.
    ///
    /// # Panics
    /// If a key or a value exceeds its limit: only our own bug can do that.
    pub fn push(&mut self, row: &Row<'_>) -> Result<(), RowsFull> {
        match *row {
            Row::Topic { topic, first_offset, index, mask } => self.put(&[
                &[TOPIC],
                &topic.0.to_le_bytes(),
                &first_offset.0.to_le_bytes(),
                &index.0.to_le_bytes(),
                &mask.to_le_bytes(),
            ]),
            Row::State { key, value } => {
                let value_len = u16::try_from(value.len()).expect("a state row's value is at most 65,535 bytes");
                self.put(&[&[STATE, key_len(key)], &value_len.to_le_bytes(), key, value])
            }
            Row::Gone { key } => self.put(&[&[GONE, key_len(key)], key]),
        }
    }

    /// Bytes used: the block is to be truncated to them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no row was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn put(&mut self, parts: &[&[u8]]) -> Result<(), RowsFull> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let mut room = self.memory.get_mut(self.len..self.len + len).ok_or(RowsFull)?;
        for part in parts {
            let (here, rest) = room.split_at_mut(part.len());
            here.copy_from_slice(part);
            room = rest;
        }
        self.len += len;
        Ok(())
    }
}

fn key_len(key: &[u8]) -> u8 {
    u8::try_from(key.len()).expect("a state row's key is at most 255 bytes")
}

/// The rows of a block, in the order in which they were packed.
///
/// # Panics
/// On bytes that no [`RowPacker`] wrote: they never leave the process, so only our own bug can do that.
pub fn unpack(packed: &[u8]) -> impl Iterator<Item = Row<'_>> {
    let mut rest = packed;
    core::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (row, len) = first(rest).expect("rows are unpacked as they were packed");
        rest = &rest[len..];
        Some(row)
    })
}

fn first(bytes: &[u8]) -> Option<(Row<'_>, usize)> {
    match *bytes.first()? {
        TOPIC => {
            let bytes: &[u8; TOPIC_LEN] = bytes.first_chunk()?;
            let u64_at = |at: usize| bytes[at..].first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
            let row = Row::Topic {
                topic: TopicId(u32::from_le_bytes(*bytes[1..].first_chunk()?)),
                first_offset: Offset(u64_at(5)?),
                index: Index(u64_at(13)?),
                mask: u64_at(21)?,
            };
            Some((row, TOPIC_LEN))
        }
        STATE => {
            let &[_, key_len, low, high] = bytes.first_chunk()?;
            let value_at = 4 + usize::from(key_len);
            let len = value_at + usize::from(u16::from_le_bytes([low, high]));
            Some((Row::State { key: bytes.get(4..value_at)?, value: bytes.get(value_at..len)? }, len))
        }
        GONE => {
            let len = 2 + usize::from(*bytes.get(1)?);
            Some((Row::Gone { key: bytes.get(2..len)? }, len))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: [Row<'_>; 4] = [
        Row::Topic { topic: TopicId(7), first_offset: Offset(1 << 40), index: Index(2 << 40), mask: u64::MAX },
        Row::State { key: b"key", value: b"the value" },
        Row::State { key: b"", value: b"" },
        Row::Gone { key: b"gone" },
    ];

    #[test]
    fn rows_come_out_as_they_went_in() {
        let mut memory = [0; 128];
        let mut packer = RowPacker::new(&mut memory);
        ROWS.iter().for_each(|row| packer.push(row).unwrap());
        let len = packer.len();
        assert!(unpack(&memory[..len]).eq(ROWS));
    }

    #[test]
    fn a_row_that_does_not_fit_leaves_nothing_behind() {
        let mut memory = [0; 20];
        let mut packer = RowPacker::new(&mut memory);
        packer.push(&ROWS[1]).unwrap();
        assert_eq!(packer.push(&ROWS[1]), Err(RowsFull));
        let len = packer.len();
        assert!(unpack(&memory[..len]).eq([ROWS[1]]));
    }
}
