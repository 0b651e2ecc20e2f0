//! Frames over a blocking byte stream, for whoever has one connection and no runtime: a UART, a modem, a test.

use super::frame::{Frame, MAX_FRAME_LEN, peek};
use super::header::{FrameError, HEADER_LEN};
use crate::crc::Crc32;
use core::fmt;
use embedded_io::{Read, ReadExactError};

/// Reads the next frame into the front of `buffer` and checks it. `buffer` bounds what is accepted; [`MAX_FRAME_LEN`] bytes hold
/// any frame, and a device that needs less may lend less.
///
/// # Errors
///
/// [`ReadFrameError`]. After any of them the stream is no longer at the start of a frame: close it.
pub fn read_frame<'b, R: Read>(
    stream: &mut R,
    buffer: &'b mut [u8],
    crc: Crc32,
) -> Result<Frame<'b>, ReadFrameError<R::Error>> {
    let room = buffer.len();
    let front = buffer.get_mut(..HEADER_LEN).ok_or(ReadFrameError::TooLong { needed: HEADER_LEN, room })?;
    stream.read_exact(front)?;
    let header = peek(front, crc)?.ok_or(FrameError::Truncated { needed: HEADER_LEN })?;
    let needed = header.frame_len();
    debug_assert!(needed <= MAX_FRAME_LEN, "a header that was parsed bounds its frame");
    let bytes = buffer.get_mut(..needed).ok_or(ReadFrameError::TooLong { needed, room })?;
    stream.read_exact(&mut bytes[HEADER_LEN..])?;
    Ok(Frame::complete(header, bytes, crc)?)
}

/// Why no frame was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFrameError<E> {
    /// The stream failed.
    Stream(E),
    /// The stream ended. Between two frames that is how a peer says goodbye.
    End,
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

impl<E> From<ReadExactError<E>> for ReadFrameError<E> {
    fn from(error: ReadExactError<E>) -> Self {
        match error {
            ReadExactError::UnexpectedEof => Self::End,
            ReadExactError::Other(error) => Self::Stream(error),
        }
    }
}

impl<E> From<FrameError> for ReadFrameError<E> {
    fn from(error: FrameError) -> Self {
        Self::Frame(error)
    }
}

impl<E: fmt::Display> fmt::Display for ReadFrameError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream(error) => error.fmt(f),
            Self::End => f.write_str("the stream has ended"),
            Self::Frame(error) => error.fmt(f),
            Self::TooLong { needed, room } => write!(f, "a frame of {needed} bytes for a buffer of {room}"),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> core::error::Error for ReadFrameError<E> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ShardId;
    use crate::wire::{Control, Ping};

    const CRC: Crc32 = Crc32::portable();

    fn ping(number: u64, buffer: &mut [u8]) -> usize {
        Control::Ping(Ping { number }).encode(ShardId(0), buffer, CRC).unwrap()
    }

    #[test]
    fn frames_are_read_one_after_the_other_until_the_stream_ends() {
        let mut sent = [0; 256];
        let first = ping(1, &mut sent);
        let both = first + ping(300, &mut sent[first..]);
        let (mut stream, mut buffer) = (&sent[..both], [0; 128]);
        for number in [1, 300] {
            let frame = read_frame(&mut stream, &mut buffer, CRC).unwrap();
            let control = Control::decode(frame.header().kind, frame.payload()).unwrap();
            assert_eq!(control, Control::Ping(Ping { number }));
        }
        assert_eq!(read_frame(&mut stream, &mut buffer, CRC).unwrap_err(), ReadFrameError::End);
    }

    #[test]
    fn a_frame_that_is_cut_off_anywhere_is_an_end() {
        let mut sent = [0; 128];
        let len = ping(1, &mut sent);
        for cut in 0..len {
            let mut buffer = [0; 128];
            assert_eq!(read_frame(&mut &sent[..cut], &mut buffer, CRC).unwrap_err(), ReadFrameError::End, "{cut}");
        }
    }

    #[test]
    fn what_is_no_frame_and_what_does_not_fit_are_told_apart() {
        let mut sent = [0; 128];
        let len = ping(1, &mut sent);
        let small = read_frame(&mut &sent[..len], &mut [0; HEADER_LEN], CRC).unwrap_err();
        assert_eq!(small, ReadFrameError::TooLong { needed: len, room: HEADER_LEN });
        sent[len - 1] ^= 1;
        let damaged = read_frame(&mut &sent[..len], &mut [0; 128], CRC).unwrap_err();
        assert!(matches!(damaged, ReadFrameError::Frame(FrameError::EndMarker { .. })), "{damaged:?}");
    }
}
