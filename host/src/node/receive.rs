//! From a stream of bytes to frames, in place: bytes are read into a pool's block, frames are split off its front.
//!
//! Only a frame that does not end in the block that it began in is copied, to the front of the next one. A connection
//! that has nothing to read holds no block of its own, unless its block is shared with frames still in use: then it
//! goes on in the rest of it, so that what a connection pins is little more than its frames.

use super::memory::{OwnFrame, StaticPool};
use crate::checksum::CRC;
use eventstream_core::wire::{Frame, FrameError, HEADER_LEN, Header, peek};

/// Less room than this is not worth a system call.
const MIN_ROOM: usize = 2_048;

/// The receiving side of one connection.
#[derive(Debug)]
pub(crate) struct Receiver {
    pool: StaticPool,
    /// Bytes received and not yet split off, then room.
    block: Option<OwnFrame>,
    /// How many bytes at the front of the block are received.
    filled: usize,
    /// The header at the front, once it is there.
    header: Option<Header>,
    /// With less room than this a block is left for the next one.
    min_room: usize,
}

impl Receiver {
    /// Nothing received yet.
    pub(crate) fn new(pool: StaticPool) -> Self {
        Self { pool, block: None, filled: 0, header: None, min_room: MIN_ROOM }
    }

    /// The same with room for at least so many bytes at a time.
    pub(crate) fn with_room(pool: StaticPool, len: usize) -> Self {
        Self { min_room: len.max(MIN_ROOM), ..Self::new(pool) }
    }

    /// Room to receive into, never empty; `None` while the pool has no block for it.
    pub(crate) fn room(&mut self) -> Option<&mut [u8]> {
        let needed = self.header.map_or(HEADER_LEN, |header| header.frame_len());
        let min_room = self.min_room;
        let fits = |block: &OwnFrame, filled: usize| block.len() >= needed && block.len() - filled >= min_room;
        if let Some(block) = self.block.as_mut().filter(|_| self.filled == 0) {
            let _goes_on_where_it_is_unless_unique = block.reclaim();
        }
        if !self.block.as_ref().is_some_and(|block| fits(block, self.filled)) {
            let mut next = self.pool.take()?;
            if let Some(block) = &self.block {
                next[..self.filled].copy_from_slice(&block[..self.filled]);
            }
            self.block = Some(next);
        }
        self.block.as_mut().map(|block| &mut block[self.filled..])
    }

    /// `count` bytes were received into the room.
    pub(crate) fn received(&mut self, count: usize) {
        self.filled += count;
        debug_assert!(self.block.as_ref().is_some_and(|block| self.filled <= block.len()));
    }

    /// The next whole frame, its checksum verified; `None` when more has to be received first.
    ///
    /// # Errors
    /// The stream cannot be read any further.
    pub(crate) fn next_frame(&mut self) -> Result<Option<(Header, OwnFrame)>, FrameError> {
        let Some(block) = &mut self.block else { return Ok(None) };
        if self.header.is_none() {
            self.header = peek(&block[..self.filled], CRC)?;
        }
        let Some(header) = self.header.filter(|header| header.frame_len() <= self.filled) else { return Ok(None) };
        Frame::complete(header, &block[..header.frame_len()], CRC)?;
        self.header = None;
        self.filled -= header.frame_len();
        Ok(Some((header, block.split_to(header.frame_len()))))
    }

    /// Whether a frame was begun whose rest has not come.
    pub(crate) fn is_within_frame(&self) -> bool {
        self.filled > 0
    }

    /// There is nothing to receive for now.
    pub(crate) fn rest(&mut self) {
        let pool_is_short = self.pool.free() * 4 < self.pool.capacity();
        if self.filled == 0
            && let Some(block) = &mut self.block
            && (pool_is_short || block.reclaim())
        {
            self.block = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::memory::{BLOCK_LEN, pool};
    use crate::node::message::encode;
    use eventstream_core::batch::{BatchBuilder, Event, Source};
    use eventstream_core::id::{Epoch, ProducerId, Sequence, ShardId};
    use eventstream_core::wire::{Control, MAX_FRAME_LEN, Ping};

    /// A batch with one event of this many bytes.
    fn batch(len: usize, number: u64) -> Vec<u8> {
        let mut builder = BatchBuilder::new(vec![0; MAX_FRAME_LEN]);
        let source = Source::Producer {
            producer: ProducerId([1; 16]),
            epoch: Epoch(1),
            sequence: Sequence(number),
            after_gap: false,
        };
        let payload = vec![number as u8; len];
        builder.push(&Event { topic: "t", source, time_us: 1, key: b"", payload: &payload }).expect("it fits");
        let (mut frame, len) = builder.finish(ShardId(0), number, 1, CRC);
        frame.truncate(len);
        frame
    }

    /// Gives the receiver all bytes, at most `portion` at a time, and takes the frames as they come.
    fn receive(receiver: &mut Receiver, mut bytes: &[u8], portion: usize) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        while !bytes.is_empty() {
            let room = receiver.room().expect("the pool has blocks");
            let count = portion.min(room.len()).min(bytes.len());
            assert!(count > 0, "there is always room");
            room[..count].copy_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            receiver.received(count);
            while let Some((_, frame)) = receiver.next_frame().expect("good frames") {
                frames.push(frame.to_vec());
            }
        }
        frames
    }

    #[test]
    fn frames_come_out_as_they_went_in_however_the_stream_is_cut() {
        let lens = [0, 10, 31_000, 1, 20_000, 31_744, 31_744, 5, 100];
        let sent: Vec<Vec<u8>> = (1..).zip(lens).map(|(number, len)| batch(len, number)).collect();
        for portion in [1, 47, 48, 49, 1_000, 40_000, BLOCK_LEN] {
            let pool = pool(2);
            let mut receiver = Receiver::new(pool);
            assert_eq!(receive(&mut receiver, &sent.concat(), portion), sent, "portions of {portion}");
            receiver.rest();
            assert_eq!(pool.free(), 2, "a connection without bytes holds no block");
        }
    }

    #[test]
    fn frames_that_are_in_use_keep_the_block_and_the_rest_of_it_is_used() {
        let pool = pool(2);
        let mut receiver = Receiver::new(pool);
        let frame = encode(&Control::Ping(Ping { number: 1 }));
        let mut held = Vec::new();
        for _ in 0..100 {
            let room = receiver.room().expect("the pool has blocks");
            room[..frame.len()].copy_from_slice(&frame);
            receiver.received(frame.len());
            held.push(receiver.next_frame().expect("a good frame").expect("a whole one").1);
            receiver.rest();
            assert_eq!(pool.free(), 1, "all of them share a block");
        }
        held.clear();
        receiver.rest();
        assert_eq!(pool.free(), 2);
    }

    #[test]
    fn without_a_block_there_is_no_room_until_one_is_free() {
        let pool = pool(1);
        let taken = pool.take();
        let mut receiver = Receiver::new(pool);
        assert!(receiver.room().is_none());
        drop(taken);
        assert_eq!(receiver.room().map(|room| room.len()), Some(BLOCK_LEN));
    }

    #[test]
    fn a_damaged_stream_cannot_be_read_any_further() {
        let mut frame = batch(100, 1);
        frame[60] ^= 1;
        let mut receiver = Receiver::new(pool(1));
        receiver.room().expect("a block")[..frame.len()].copy_from_slice(&frame);
        receiver.received(frame.len());
        assert!(matches!(receiver.next_frame(), Err(FrameError::PayloadChecksum { .. })));
    }
}
