//! Whole frames: found in a stream of bytes, checked, sealed, stamped.

use super::header::{FrameError, HEADER_LEN, Header, check_magic, field};
use crate::config::MAX_FRAME_PAYLOAD;
use crate::crc::Crc32;
use crate::id::{Index, LogTime, Term};

/// The last eight bytes of a frame, little-endian.
pub const END_MARKER: u64 = 0x0000_0001_DEAD_BEEF;
/// Bytes of the end marker.
pub const END_LEN: usize = 8;
/// Bytes of a frame around its payload.
pub const OVERHEAD: usize = HEADER_LEN + END_LEN;
/// Bytes of the longest frame.
pub const MAX_FRAME_LEN: usize = MAX_FRAME_PAYLOAD + OVERHEAD;

/// A frame that was checked from its first byte to its last. What the payload means is for
/// [`Batch::check`](super::Batch::check) and [`Control::decode`](super::Control::decode).
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    header: Header,
    bytes: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Checks bytes that are to be one frame, no more and no less.
    ///
    /// # Errors
    ///
    /// The first rule that they break.
    pub fn check(bytes: &'a [u8], crc: Crc32) -> Result<Self, FrameError> {
        let header = peek(bytes, crc)?.ok_or(FrameError::Truncated { needed: HEADER_LEN })?;
        Self::complete(header, bytes, crc)
    }

    /// Checks what follows a header: `header` is what [`peek`] has read from these bytes, and is not read again.
    ///
    /// # Errors
    ///
    /// The first rule that payload and end break.
    pub fn complete(header: Header, bytes: &'a [u8], crc: Crc32) -> Result<Self, FrameError> {
        let needed = header.frame_len();
        if bytes.len() < needed {
            return Err(FrameError::Truncated { needed });
        }
        if bytes.len() > needed {
            return Err(FrameError::TrailingBytes { extra: bytes.len() - needed });
        }
        let (before, end) = bytes.split_last_chunk::<END_LEN>().ok_or(FrameError::Truncated { needed })?;
        let found = u64::from_le_bytes(*end);
        if found != END_MARKER {
            return Err(FrameError::EndMarker { found });
        }
        let computed = crc.of(&before[HEADER_LEN..]);
        if computed != header.checksum {
            return Err(FrameError::PayloadChecksum { computed, found: header.checksum });
        }
        Ok(Self { header, bytes })
    }

    /// The frame that `header` was read from and that was checked before: nothing is read again.
    ///
    /// # Panics
    ///
    /// If the length is another than the header's.
    #[must_use]
    pub fn checked_before(header: Header, bytes: &'a [u8]) -> Self {
        assert_eq!(bytes.len(), header.frame_len(), "these are the bytes that were checked");
        Self { header, bytes }
    }

    /// The header.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// What the frame carries.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[HEADER_LEN..self.bytes.len() - END_LEN]
    }

    /// All of it.
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

/// Looks at the front of a stream: the header of the next frame as soon as its 48 bytes are there, `None` before.
///
/// [`Header::frame_len`] then says how many bytes to wait for: at most [`MAX_FRAME_LEN`], and checked before it is
/// believed. [`Frame::complete`] checks the rest when it has arrived.
///
/// # Errors
///
/// The first rule that the header breaks. What does not begin with the magic is refused at its first four bytes.
pub fn peek(bytes: &[u8], crc: Crc32) -> Result<Option<Header>, FrameError> {
    if let Some(header) = bytes.first_chunk::<HEADER_LEN>() {
        return Header::parse(header, crc).map(Some);
    }
    if let Some(magic) = bytes.first_chunk() {
        check_magic(u32::from_le_bytes(*magic))?;
    }
    Ok(None)
}

/// Makes a frame of a payload that lies in `buffer` from byte 48 on: writes the header before and the end marker after
/// it. Returns the length of the frame.
///
/// # Panics
///
/// If `buffer` is shorter than the frame.
pub fn seal(buffer: &mut [u8], header: &Header, crc: Crc32) -> usize {
    let len = header.frame_len();
    let (front, end) = buffer[..len].split_at_mut(len - END_LEN);
    end.copy_from_slice(&END_MARKER.to_le_bytes());
    let front = front.first_chunk_mut().expect("a frame is longer than its header");
    header.emit(front, crc);
    len
}

/// Gives a checked frame its place in the log. Payload, payload checksum and end stay as they are.
///
/// # Panics
///
/// If `frame` is shorter than a header.
pub fn stamp(frame: &mut [u8], index: Index, term: Term, log_time: LogTime, crc: Crc32) {
    frame[field::BATCH_ID].copy_from_slice(&index.0.to_le_bytes());
    frame[field::TERM].copy_from_slice(&term.0.to_le_bytes());
    frame[field::TIMESTAMP_US].copy_from_slice(&log_time.0.to_le_bytes());
    let checksum = crc.of(&frame[field::CHECKED]);
    frame[field::HEADER_CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
}
