//! The 48 bytes before every payload.

use super::kind::Kind;
use crate::config::{MAX_BATCH_EVENTS, MAX_CONTROL_PAYLOAD, MAX_COUNTER, MAX_FRAME_PAYLOAD};
use crate::crc::Crc32;
use crate::id::{Index, LogTime, ShardId, Term};
use core::fmt;

/// The first four bytes of a frame, little-endian.
pub const MAGIC: u32 = 0xDEAD_BEEF;
/// The version of the format that this build speaks.
pub const VERSION: u8 = 1;
/// Bytes of a header.
pub const HEADER_LEN: usize = 48;

/// Where the fields of a header lie. All numbers are little-endian.
pub mod field {
    use core::ops::Range;

    /// [`MAGIC`](super::MAGIC).
    pub const MAGIC: Range<usize> = 0..4;
    /// [`VERSION`](super::VERSION).
    pub const VERSION: usize = 4;
    /// The number of a [`Kind`](super::Kind).
    pub const KIND: usize = 5;
    /// No flag is defined: zero.
    pub const FLAGS: Range<usize> = 6..8;
    /// The Raft log that the frame belongs to.
    pub const SHARD: Range<usize> = 8..10;
    /// Events of a batch, else zero.
    pub const EVENT_COUNT: Range<usize> = 10..12;
    /// Bytes of the payload.
    pub const PAYLOAD_LEN: Range<usize> = 12..16;
    /// The index in the log; from a client, its own number.
    pub const BATCH_ID: Range<usize> = 16..24;
    /// The term in the log; from a client, zero.
    pub const TERM: Range<usize> = 24..32;
    /// Microseconds since the Unix epoch.
    pub const TIMESTAMP_US: Range<usize> = 32..40;
    /// CRC-32 of the payload.
    pub const CHECKSUM: Range<usize> = 40..44;
    /// CRC-32 of the bytes before it.
    pub const HEADER_CHECKSUM: Range<usize> = 44..48;
    /// What [`HEADER_CHECKSUM`] is the checksum of.
    pub const CHECKED: Range<usize> = 0..44;
}

/// A header whose every field is as it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the payload is.
    pub kind: Kind,
    /// The Raft log that the frame belongs to.
    pub shard: ShardId,
    /// Events of a batch, 1 to 64; zero for every other kind.
    pub event_count: u16,
    /// Bytes of the payload: of a log entry at most 32,768, of a control message 4,096.
    pub payload_len: u32,
    /// Of a log entry its index; of a client's batch the client's own number; of a control message zero.
    pub batch_id: u64,
    /// Of a log entry its term; else zero.
    pub term: Term,
    /// Of a log entry its log time, of a client's batch the client's time, in microseconds since the Unix epoch; of a
    /// control message zero.
    pub timestamp_us: u64,
    /// CRC-32 of the payload.
    pub checksum: u32,
}

impl Header {
    /// The header of `payload`, with everything else zero.
    #[must_use]
    pub fn of(kind: Kind, payload: &[u8], crc: Crc32) -> Self {
        Self {
            kind,
            shard: ShardId(0),
            event_count: 0,
            payload_len: payload.len() as u32,
            batch_id: 0,
            term: Term::ZERO,
            timestamp_us: 0,
            checksum: crc.of(payload),
        }
    }

    /// Reads and checks a header: the checksum before anything that it covers is believed.
    ///
    /// # Errors
    ///
    /// The first rule that it breaks. [`FrameError::UnsupportedVersion`] comes before the checksum, since another
    /// version may keep it elsewhere.
    pub fn parse(bytes: &[u8; HEADER_LEN], crc: Crc32) -> Result<Self, FrameError> {
        check_magic(read_u32(bytes, field::MAGIC))?;
        if bytes[field::VERSION] != VERSION {
            return Err(FrameError::UnsupportedVersion { found: bytes[field::VERSION] });
        }
        let (computed, found) = (crc.of(&bytes[field::CHECKED]), read_u32(bytes, field::HEADER_CHECKSUM));
        if computed != found {
            return Err(FrameError::HeaderChecksum { computed, found });
        }
        let flags = read_u16(bytes, field::FLAGS);
        if flags != 0 {
            return Err(FrameError::UndefinedFlags { flags });
        }
        let number = bytes[field::KIND];
        let header = Self {
            kind: Kind::from_number(number).ok_or(FrameError::UnknownKind { number })?,
            shard: ShardId(read_u16(bytes, field::SHARD)),
            event_count: read_u16(bytes, field::EVENT_COUNT),
            payload_len: read_u32(bytes, field::PAYLOAD_LEN),
            batch_id: read_u64(bytes, field::BATCH_ID),
            term: Term(read_u64(bytes, field::TERM)),
            timestamp_us: read_u64(bytes, field::TIMESTAMP_US),
            checksum: read_u32(bytes, field::CHECKSUM),
        };
        header.check()?;
        Ok(header)
    }

    /// Writes the header.
    ///
    /// # Panics
    ///
    /// If [`parse`](Self::parse) would refuse it.
    pub fn emit(&self, bytes: &mut [u8; HEADER_LEN], crc: Crc32) {
        assert_eq!(self.check(), Ok(()), "only a lawful header leaves this node");
        bytes[field::MAGIC].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[field::VERSION] = VERSION;
        bytes[field::KIND] = self.kind.number();
        bytes[field::FLAGS].copy_from_slice(&[0; 2]);
        bytes[field::SHARD].copy_from_slice(&self.shard.0.to_le_bytes());
        bytes[field::EVENT_COUNT].copy_from_slice(&self.event_count.to_le_bytes());
        bytes[field::PAYLOAD_LEN].copy_from_slice(&self.payload_len.to_le_bytes());
        bytes[field::BATCH_ID].copy_from_slice(&self.batch_id.to_le_bytes());
        bytes[field::TERM].copy_from_slice(&self.term.0.to_le_bytes());
        bytes[field::TIMESTAMP_US].copy_from_slice(&self.timestamp_us.to_le_bytes());
        bytes[field::CHECKSUM].copy_from_slice(&self.checksum.to_le_bytes());
        let checksum = crc.of(&bytes[field::CHECKED]);
        bytes[field::HEADER_CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
    }

    /// Bytes of the whole frame: header, payload and end marker.
    #[must_use]
    pub const fn frame_len(&self) -> usize {
        HEADER_LEN + self.payload_len as usize + super::frame::END_LEN
    }

    /// Whether it stands in the log: an entry with an index and a term.
    #[must_use]
    pub const fn is_logged(&self) -> bool {
        self.kind.is_entry() && self.batch_id != 0 && self.term.0 != 0
    }

    /// Whether it is a batch as a client sends it: without a term.
    #[must_use]
    pub const fn is_submitted(&self) -> bool {
        matches!(self.kind, Kind::Batch) && self.term.0 == 0
    }

    /// The index of a log entry.
    #[must_use]
    pub const fn index(&self) -> Index {
        Index(self.batch_id)
    }

    /// The log time of a log entry.
    #[must_use]
    pub const fn log_time(&self) -> LogTime {
        LogTime(self.timestamp_us)
    }

    /// The rules for the fields, each alone and with the kind.
    fn check(&self) -> Result<(), FrameError> {
        let (count, len) = (self.event_count, self.payload_len);
        let counted = match self.kind {
            Kind::Batch => 1..=MAX_BATCH_EVENTS as u16,
            _ => 0..=0,
        };
        if !counted.contains(&count) {
            return Err(FrameError::EventCount { kind: self.kind, count });
        }
        let allowed = match self.kind {
            Kind::Batch | Kind::Configuration | Kind::Command => 1..=MAX_FRAME_PAYLOAD as u32,
            Kind::Empty => 0..=0,
            _ => 0..=MAX_CONTROL_PAYLOAD as u32,
        };
        if !allowed.contains(&len) {
            return Err(FrameError::PayloadLength { kind: self.kind, len });
        }
        let numbers = [self.batch_id, self.term.0, self.timestamp_us];
        if !self.kind.is_entry() && numbers != [0; 3] {
            return Err(FrameError::UnusedField { kind: self.kind });
        }
        if numbers.into_iter().any(|number| number > MAX_COUNTER) {
            return Err(FrameError::CounterTooLarge);
        }
        Ok(())
    }
}

pub(super) fn check_magic(found: u32) -> Result<(), FrameError> {
    if found == MAGIC { Ok(()) } else { Err(FrameError::BadMagic { found }) }
}

fn read_u16(bytes: &[u8; HEADER_LEN], at: core::ops::Range<usize>) -> u16 {
    u16::from_le_bytes([bytes[at.start], bytes[at.start + 1]])
}

fn read_u32(bytes: &[u8; HEADER_LEN], at: core::ops::Range<usize>) -> u32 {
    u32::from(read_u16(bytes, at.start..at.start + 2)) | u32::from(read_u16(bytes, at.start + 2..at.end)) << 16
}

fn read_u64(bytes: &[u8; HEADER_LEN], at: core::ops::Range<usize>) -> u64 {
    u64::from(read_u32(bytes, at.start..at.start + 4)) | u64::from(read_u32(bytes, at.start + 4..at.end)) << 32
}

/// Which rule a frame breaks. The sender is at fault, or the bytes were damaged on their way: the connection that they
/// came from cannot be read any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// It does not begin with [`MAGIC`]: the other side speaks something else, or the frames are out of step.
    BadMagic {
        /// What it begins with.
        found: u32,
    },
    /// It is of another version than [`VERSION`].
    UnsupportedVersion {
        /// Its version.
        found: u8,
    },
    /// The header was damaged.
    HeaderChecksum {
        /// The checksum of the bytes.
        computed: u32,
        /// The checksum that the header carries.
        found: u32,
    },
    /// A bit is set that has no meaning.
    UndefinedFlags {
        /// All flags.
        flags: u16,
    },
    /// There is no such kind.
    UnknownKind {
        /// Its number.
        number: u8,
    },
    /// A batch without events or with too many, or events in something else.
    EventCount {
        /// What the frame carries.
        kind: Kind,
        /// The number of events that it claims.
        count: u16,
    },
    /// The payload is longer or shorter than the kind allows.
    PayloadLength {
        /// What the frame carries.
        kind: Kind,
        /// The length that it claims.
        len: u32,
    },
    /// A control message with an index, term or time in its header.
    UnusedField {
        /// What the frame carries.
        kind: Kind,
    },
    /// An index, term or time is above [`MAX_COUNTER`].
    CounterTooLarge,
    /// Bytes are missing.
    Truncated {
        /// The length of the frame, or of a header if not even that is there.
        needed: usize,
    },
    /// Bytes follow where the frame should end.
    TrailingBytes {
        /// How many.
        extra: usize,
    },
    /// The payload was damaged.
    PayloadChecksum {
        /// The checksum of the bytes.
        computed: u32,
        /// The checksum that the header carries.
        found: u32,
    },
    /// The frame does not end with its end marker.
    EndMarker {
        /// What it ends with.
        found: u64,
    },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::BadMagic { found } => write!(f, "not a frame: it begins with {found:#010x} instead of {MAGIC:#010x}"),
            Self::UnsupportedVersion { found } => write!(f, "version {found} of the format, this is version {VERSION}"),
            Self::HeaderChecksum { computed, found } => {
                write!(f, "damaged header: checksum {computed:#010x}, the header says {found:#010x}")
            }
            Self::UndefinedFlags { flags } => write!(f, "undefined flags {flags:#06x}"),
            Self::UnknownKind { number } => write!(f, "unknown kind {number}"),
            Self::EventCount { kind, count } => write!(f, "{count} events in a frame of kind {kind:?}"),
            Self::PayloadLength { kind, len } => write!(f, "{len} bytes of payload in a frame of kind {kind:?}"),
            Self::UnusedField { kind } => write!(f, "index, term or time in a frame of kind {kind:?}"),
            Self::CounterTooLarge => write!(f, "an index, term or time above {MAX_COUNTER}"),
            Self::Truncated { needed } => write!(f, "truncated: {needed} bytes needed"),
            Self::TrailingBytes { extra } => write!(f, "{extra} bytes after the end of the frame"),
            Self::PayloadChecksum { computed, found } => {
                write!(f, "damaged payload: checksum {computed:#010x}, the header says {found:#010x}")
            }
            Self::EndMarker { found } => write!(f, "wrong end marker {found:#018x}"),
        }
    }
}

impl core::error::Error for FrameError {}
