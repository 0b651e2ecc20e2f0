//! Which frames a connection may bring, and whether what is in them is whole. Checked where they are received, so that
//! the engine can rely on it and a wrong frame costs nobody but its sender.

use super::event::Role;
use core::fmt;
use eventstream_core::wire::{Batch, BatchError, END_LEN, FrameError, HEADER_LEN, Header, Kind, Refusal};

/// How a connection broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offence {
    /// The stream holds no frame where one has to be.
    Frame(FrameError),
    /// The runs and records of a batch are not whole.
    Batch(BatchError),
    /// A frame that this side does not take from that one.
    Kind(Kind),
    /// A batch of a client with a term, or an entry of the log without index and term.
    Stamp(Kind),
    /// A frame was begun, and its rest did not come in time.
    Unfinished,
}

impl Offence {
    /// What the other side is told.
    pub(crate) fn refusal(self) -> Refusal {
        match self {
            Self::Frame(_) | Self::Batch(_) | Self::Stamp(_) => Refusal::Malformed,
            Self::Kind(_) => Refusal::Unexpected,
            // The link may be slow, and nothing else is wrong: to be tried again.
            Self::Unfinished => Refusal::Busy,
        }
    }
}

impl fmt::Display for Offence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frame(error) => error.fmt(f),
            Self::Batch(error) => error.fmt(f),
            Self::Kind(kind) => write!(f, "a frame of kind {kind:?} is not expected here"),
            Self::Stamp(kind) => write!(f, "a frame of kind {kind:?} with a wrong index or term"),
            Self::Unfinished => f.write_str("a frame was begun, and its rest did not come in time"),
        }
    }
}

/// Checks a frame that came on a connection of this role; its header and checksum are right. Gives the number of runs
/// of a batch, and zero for everything else.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check(role: Role, header: &Header, bytes: &[u8]) -> Result<u16, Offence> {
    match role {
        Role::Client if !is_for_nodes(header.kind) => return Err(Offence::Kind(header.kind)),
        Role::Inbound(_) if header.kind != Kind::Peer && !header.kind.is_entry() => {
            return Err(Offence::Kind(header.kind));
        }
        Role::Link(_) => return Err(Offence::Kind(header.kind)),
        Role::Client | Role::Inbound(_) => {}
    }
    if header.kind.is_entry() {
        let is_stamped_right = match role {
            Role::Client => header.is_submitted(),
            Role::Inbound(_) | Role::Link(_) => header.is_logged(),
        };
        if !is_stamped_right {
            return Err(Offence::Stamp(header.kind));
        }
    }
    match header.kind {
        Kind::Batch => {
            Batch::check(payload(bytes), header.event_count).map(|batch| batch.run_count()).map_err(Offence::Batch)
        }
        _ => Ok(0),
    }
}

/// The payload of a whole frame.
pub(crate) fn payload(frame: &[u8]) -> &[u8] {
    &frame[HEADER_LEN..frame.len() - END_LEN]
}

/// What a node takes from a client after the handshake.
fn is_for_nodes(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Batch
            | Kind::OpenProducer
            | Kind::Subscribe
            | Kind::Unsubscribe
            | Kind::Ping
            | Kind::StatusRequest
            | Kind::TopicRequest
            | Kind::TopicListRequest
            | Kind::CountersRequest
    )
}
