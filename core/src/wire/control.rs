//! Control messages as a whole: from bytes, to bytes.

use super::check::Check;
use super::cursor::ReadError;
use super::frame::{OVERHEAD, seal};
use super::header::{HEADER_LEN, Header};
use super::kind::Kind;
use super::list::List;
use super::message::{
    CaughtUp, Counters, CountersRequest, Delivery, Hello, LeaderChanged, OpenProducer, Ping, Pong, ProducerOpened,
    Receipt, Refused, StatusRequest, Subscribe, SubscriptionEnd, Topic, TopicList, TopicListRequest, TopicRequest,
    Unsubscribe, Welcome,
};
use super::status::Status;
use crate::config::MAX_CONTROL_PAYLOAD;
use crate::crc::Crc32;
use crate::id::ShardId;
use crate::raft;
use core::fmt;
use serde::{Deserialize, Serialize};

/// Bytes of the longest frame of a control message.
pub const MAX_CONTROL_LEN: usize = MAX_CONTROL_PAYLOAD + OVERHEAD;

macro_rules! controls {
    ($($(#[$meta:meta])* $name:ident($message:ty),)*) => {
        /// A control message. Borrows from the frame that it was decoded from.
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub enum Control<'a> {
            $($(#[$meta])* $name($message),)*
        }

        impl<'a> Control<'a> {
            /// The kind of the frame that carries it.
            #[must_use]
            pub const fn kind(&self) -> Kind {
                match self {
                    $(Self::$name(_) => Kind::$name,)*
                }
            }

            /// Reads the payload of a checked frame.
            ///
            /// # Errors
            ///
            /// The first rule that the payload breaks.
            pub fn decode(kind: Kind, payload: &'a [u8]) -> Result<Self, ControlError> {
                let control = match kind {
                    $(Kind::$name => Self::$name(Message::decode(payload)?),)*
                    Kind::Batch | Kind::Empty | Kind::Configuration | Kind::Command => {
                        return Err(ControlError::NotControl);
                    }
                };
                control.check()?;
                Ok(control)
            }

            fn check(&self) -> Result<(), ControlError> {
                match self {
                    $(Self::$name(message) => message.check(),)*
                }
            }

            fn write<'b>(&self, buffer: &'b mut [u8]) -> Result<&'b mut [u8], postcard::Error> {
                match self {
                    $(Self::$name(message) => postcard::to_slice(message, buffer),)*
                }
            }
        }
    };
}

controls! {
    /// Opens a connection.
    Hello(Hello),
    /// The connection is accepted.
    Welcome(Welcome<'a>),
    /// Something was refused.
    Refused(Refused<'a>),
    /// A producer asks for its epoch.
    OpenProducer(OpenProducer),
    /// The answer.
    ProducerOpened(ProducerOpened),
    /// What became of a batch.
    Receipt(Receipt<'a>),
    /// Another leader, or none.
    LeaderChanged(LeaderChanged),
    /// Asks for the events of a topic.
    Subscribe(Subscribe<'a>),
    /// Announces the batch frame that follows.
    Delivery(Delivery),
    /// No more deliveries.
    SubscriptionEnd(SubscriptionEnd),
    /// Ends a subscription.
    Unsubscribe(Unsubscribe),
    /// All that was there is delivered.
    CaughtUp(CaughtUp),
    /// Are you there?
    Ping(Ping),
    /// Yes.
    Pong(Pong),
    /// Asks for the status.
    StatusRequest(StatusRequest),
    /// The status.
    Status(Status<'a>),
    /// Asks about a topic.
    TopicRequest(TopicRequest<'a>),
    /// The answer.
    Topic(Topic),
    /// Asks which topics there are.
    TopicListRequest(TopicListRequest),
    /// The answer.
    TopicList(TopicList<'a>),
    /// Asks what the node has refused.
    CountersRequest(CountersRequest),
    /// The answer.
    Counters(Counters<'a>),
    /// What a member says to another. The frames of the entries follow an append, with nothing in between.
    Peer(raft::Message),
}

impl Control<'_> {
    /// Writes a whole frame to the front of `buffer` and returns its length, at most [`MAX_CONTROL_LEN`].
    ///
    /// # Errors
    ///
    /// [`EncodeError::Invalid`] for what [`decode`](Self::decode) would refuse, [`EncodeError::BufferTooSmall`].
    pub fn encode(&self, shard: ShardId, buffer: &mut [u8], crc: Crc32) -> Result<usize, EncodeError> {
        self.check()?;
        frame(self.kind(), |payload| self.write(payload), shard, buffer, crc)
    }
}

/// Makes a frame of the payload that `write` writes.
fn frame(
    kind: Kind,
    write: impl FnOnce(&mut [u8]) -> Result<&mut [u8], postcard::Error>,
    shard: ShardId,
    buffer: &mut [u8],
    crc: Crc32,
) -> Result<usize, EncodeError> {
    let room = buffer.len().checked_sub(OVERHEAD).ok_or(EncodeError::BufferTooSmall)?;
    let payload = &mut buffer[HEADER_LEN..HEADER_LEN + room];
    let payload = write(payload).map_err(|_| EncodeError::BufferTooSmall)?;
    let header = Header { shard, ..Header::of(kind, payload, crc) };
    Ok(seal(buffer, &header, crc))
}

/// [`Control::encode`] for who knows which message it is: the others are then not linked.
pub(crate) fn encode_one(
    kind: Kind,
    message: &(impl Serialize + Check),
    shard: ShardId,
    buffer: &mut [u8],
    crc: Crc32,
) -> Result<usize, EncodeError> {
    message.check()?;
    frame(kind, |payload| postcard::to_slice(message, payload), shard, buffer, crc)
}

/// [`Control::decode`] for a kind that a node sends to a producer, `None` for the others: they are then not linked.
pub(crate) fn decode_for_producer(kind: Kind, payload: &[u8]) -> Result<Option<Control<'_>>, ControlError> {
    Ok(Some(match kind {
        Kind::Welcome => Control::Welcome(decode_one(payload)?),
        Kind::Refused => Control::Refused(decode_one(payload)?),
        Kind::ProducerOpened => Control::ProducerOpened(decode_one(payload)?),
        Kind::Receipt => Control::Receipt(decode_one(payload)?),
        Kind::LeaderChanged => Control::LeaderChanged(decode_one(payload)?),
        Kind::Pong => Control::Pong(decode_one(payload)?),
        _ => return Ok(None),
    }))
}

fn decode_one<'a, T: Message<'a> + Check>(payload: &'a [u8]) -> Result<T, ControlError> {
    let message = T::decode(payload)?;
    message.check()?;
    Ok(message)
}

/// How a message is read.
trait Message<'a>: Sized {
    fn decode(payload: &'a [u8]) -> Result<Self, ControlError>;
}

impl<'a, T: Deserialize<'a> + Check> Message<'a> for T {
    fn decode(payload: &'a [u8]) -> Result<Self, ControlError> {
        let (message, rest) = take(payload)?;
        if rest.is_empty() { Ok(message) } else { Err(ControlError::TrailingBytes) }
    }
}

impl<'a> Message<'a> for Welcome<'a> {
    fn decode(payload: &'a [u8]) -> Result<Self, ControlError> {
        let ((version, cluster, node, incarnation, term, leader, max_inflight), members) = take(payload)?;
        let members = List::decode(members)?;
        Ok(Self { version, cluster, node, incarnation, term, leader, max_inflight, members })
    }
}

impl<'a> Message<'a> for Receipt<'a> {
    fn decode(payload: &'a [u8]) -> Result<Self, ControlError> {
        let ((batch, index, term, durability), runs) = take(payload)?;
        Ok(Self { batch, index, term, durability, runs: List::decode(runs)? })
    }
}

impl<'a> Message<'a> for Status<'a> {
    fn decode(payload: &'a [u8]) -> Result<Self, ControlError> {
        let (node, members) = take(payload)?;
        Ok(Self { node, members: List::decode(members)? })
    }
}

impl<'a> Message<'a> for TopicList<'a> {
    fn decode(payload: &'a [u8]) -> Result<Self, ControlError> {
        let ((request, count), topics) = take(payload)?;
        Ok(Self { request, count, topics: List::decode(topics)? })
    }
}

impl<'a> Message<'a> for Counters<'a> {
    fn decode(payload: &'a [u8]) -> Result<Self, ControlError> {
        let ((request, count), counters) = take(payload)?;
        Ok(Self { request, count, counters: List::decode(counters)? })
    }
}

/// Reads a value from the front of `bytes`; gives back what follows it.
pub(super) fn take<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<(T, &'a [u8]), ControlError> {
    postcard::take_from_bytes(bytes).map_err(ControlError::from)
}

/// Which rule a control message breaks. The sender is at fault: the payload's checksum was right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlError {
    /// The frame is a log entry.
    NotControl,
    /// Bytes are missing.
    Truncated,
    /// Bytes follow where the message should end.
    TrailingBytes,
    /// A varint is longer or larger than its type.
    BadVarint,
    /// A variant, option or truth value that is not defined.
    UndefinedValue,
    /// A text that is not UTF-8.
    NotUtf8,
    /// A topic without a byte, or with more than 127.
    TopicLength,
    /// An address without a byte, or with more than 255.
    AddressLength,
    /// A text of more than 255 bytes.
    TextLength,
    /// A counter's name without a byte, with more than 48, or with others than `a` to `z`, `0` to `9` and `_`.
    CounterName,
    /// A list of more items than it may have.
    TooMany,
    /// A number that is not allowed where it stands: a counter above
    /// [`MAX_COUNTER`](crate::config::MAX_COUNTER), node 0, more events than a run may have, ...
    OutOfRange,
}

impl From<postcard::Error> for ControlError {
    fn from(error: postcard::Error) -> Self {
        match error {
            postcard::Error::DeserializeUnexpectedEnd => Self::Truncated,
            postcard::Error::DeserializeBadVarint => Self::BadVarint,
            postcard::Error::DeserializeBadUtf8 => Self::NotUtf8,
            // What is left of postcard's errors for the types of these messages.
            _ => Self::UndefinedValue,
        }
    }
}

impl From<ReadError> for ControlError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Truncated => Self::Truncated,
            ReadError::BadVarint => Self::BadVarint,
        }
    }
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotControl => "a log entry where a control message is expected",
            Self::Truncated => "a truncated message",
            Self::TrailingBytes => "bytes after the end of a message",
            Self::BadVarint => "a varint beyond its type",
            Self::UndefinedValue => "an undefined variant, option or truth value",
            Self::NotUtf8 => "a text that is not UTF-8",
            Self::TopicLength => "a topic of other than 1 to 127 bytes",
            Self::AddressLength => "an address of other than 1 to 255 bytes",
            Self::TextLength => "a text of more than 255 bytes",
            Self::CounterName => "a counter's name of other than 1 to 48 of a to z, 0 to 9 and _",
            Self::TooMany => "a list of too many items",
            Self::OutOfRange => "a number out of range",
        })
    }
}

impl core::error::Error for ControlError {}

/// Why a message could not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodeError {
    /// It breaks this rule: nobody would accept it.
    Invalid(ControlError),
    /// It needs more room, at most [`MAX_CONTROL_LEN`] bytes.
    BufferTooSmall,
}

impl From<ControlError> for EncodeError {
    fn from(error: ControlError) -> Self {
        Self::Invalid(error)
    }
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(error) => error.fmt(f),
            Self::BufferTooSmall => f.write_str("the buffer is too small for the message"),
        }
    }
}

impl core::error::Error for EncodeError {}
