//! Frames out of bytes that arrive one by one.

use crate::crc::Crc32;
use crate::wire::{Frame, FrameError, Header, peek};
use core::fmt;
use core::ops::DerefMut;

/// What has arrived and was not taken yet, in a buffer that is lent: a frame that is longer is refused.
/// [`MAX_CONTROL_LEN`](crate::wire::MAX_CONTROL_LEN) bytes hold whatever a node says to a producer.
#[derive(Debug)]
pub struct Inbox<B> {
    buffer: B,
    filled: usize,
    /// Bytes of the frame that was taken, which still lies at the front.
    taken: usize,
}

impl<B: DerefMut<Target = [u8]>> Inbox<B> {
    /// An empty one.
    #[must_use]
    pub const fn new(buffer: B) -> Self {
        Self { buffer, filled: 0, taken: 0 }
    }

    /// Forgets what has arrived: the stream begins anew.
    pub const fn clear(&mut self) {
        (self.filled, self.taken) = (0, 0);
    }

    /// Where the next bytes go. Never empty after [`poll_frame`](Self::poll_frame) gave nothing.
    pub fn room(&mut self) -> &mut [u8] {
        self.discard_taken();
        &mut self.buffer[self.filled..]
    }

    /// So many bytes were written to the front of the [`room`](Self::room).
    ///
    /// # Panics
    ///
    /// If there was not that much room.
    pub fn handle_filled(&mut self, len: usize) {
        assert!(len <= self.buffer.len() - self.filled, "the bytes were written to the room");
        self.filled += len;
    }

    /// Takes the next frame, checked, if all of it has arrived.
    ///
    /// # Errors
    ///
    /// [`InboxError`]. The stream is then out of step: close it, and [`clear`](Self::clear).
    pub fn poll_frame(&mut self, crc: Crc32) -> Result<Option<Frame<'_>>, InboxError> {
        self.discard_taken();
        let Some(header) = self.header(crc)? else { return Ok(None) };
        self.taken = header.frame_len();
        Ok(Some(Frame::complete(header, &self.buffer[..self.taken], crc)?))
    }

    /// The header of the first frame, if all of that frame has arrived.
    fn header(&self, crc: Crc32) -> Result<Option<Header>, InboxError> {
        let arrived = &self.buffer[..self.filled];
        let Some(header) = peek(arrived, crc)? else { return Ok(None) };
        let (needed, room) = (header.frame_len(), self.buffer.len());
        if needed > room {
            return Err(InboxError::TooLong { needed, room });
        }
        Ok((needed <= arrived.len()).then_some(header))
    }

    fn discard_taken(&mut self) {
        self.buffer.copy_within(self.taken..self.filled, 0);
        self.filled -= self.taken;
        self.taken = 0;
    }
}

/// Why a stream is out of step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InboxError {
    /// What came is no frame.
    Frame(FrameError),
    /// The frame is longer than the buffer.
    TooLong {
        /// Bytes of the frame.
        needed: usize,
        /// Bytes of the buffer.
        room: usize,
    },
}

impl From<FrameError> for InboxError {
    fn from(error: FrameError) -> Self {
        Self::Frame(error)
    }
}

impl fmt::Display for InboxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frame(error) => error.fmt(f),
            Self::TooLong { needed, room } => write!(f, "a frame of {needed} bytes for a buffer of {room}"),
        }
    }
}

impl core::error::Error for InboxError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ShardId;
    use crate::wire::{Control, HEADER_LEN, Ping};

    const CRC: Crc32 = Crc32::portable();

    fn pings(buffer: &mut [u8]) -> usize {
        let first = Control::Ping(Ping { number: 1 }).encode(ShardId(0), buffer, CRC).unwrap();
        first + Control::Ping(Ping { number: 300 }).encode(ShardId(0), &mut buffer[first..], CRC).unwrap()
    }

    #[test]
    fn frames_come_out_whole_whatever_the_portions_are() {
        let mut sent = [0; 256];
        let len = pings(&mut sent);
        for portion in 1..len {
            let mut buffer = [0; 80];
            let (mut inbox, mut numbers) = (Inbox::new(&mut buffer[..]), heapless::Vec::<u64, 2>::new());
            let mut rest = &sent[..len];
            while !rest.is_empty() {
                let room = inbox.room();
                let now = portion.min(room.len()).min(rest.len());
                room[..now].copy_from_slice(&rest[..now]);
                inbox.handle_filled(now);
                rest = &rest[now..];
                while let Some(frame) = inbox.poll_frame(CRC).unwrap() {
                    match Control::decode(frame.header().kind, frame.payload()) {
                        Ok(Control::Ping(ping)) => numbers.push(ping.number).unwrap(),
                        other => panic!("{other:?}"),
                    }
                }
            }
            assert_eq!(numbers, [1, 300], "in portions of {portion}");
        }
    }

    #[test]
    fn a_frame_that_is_too_long_is_refused_by_its_header() {
        let mut sent = [0; 256];
        pings(&mut sent);
        let mut buffer = [0; HEADER_LEN];
        let mut inbox = Inbox::new(&mut buffer[..]);
        inbox.room().copy_from_slice(&sent[..HEADER_LEN]);
        inbox.handle_filled(HEADER_LEN);
        assert!(matches!(inbox.poll_frame(CRC), Err(InboxError::TooLong { room: HEADER_LEN, .. })));
    }
}
