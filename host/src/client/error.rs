//! What can go wrong, one type for each thing that is asked of a client.

use eventstream_core::config::{MAX_EVENT_PAYLOAD, MAX_KEY, MAX_TOPIC};
use eventstream_core::id::{ClusterId, Epoch, Offset, Sequence};
use eventstream_core::receipt::RunRefusal;
use eventstream_core::wire::{BatchError, ControlError, FrameError, Refusal};
use thiserror::Error;

/// Why a client cannot even begin.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No server was given.
    #[error("no server was given: name at least one as HOST:PORT")]
    NoServers,
    /// More servers were given than a cluster has members.
    #[error("{count} servers were given: at most {limit} are possible")]
    TooManyServers {
        /// How many there were.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A server's address is not `HOST:PORT`.
    #[error("{server:?} is no address: write HOST:PORT, for example 127.0.0.1:9001")]
    BadAddress {
        /// What was given.
        server: String,
    },
}

/// Why one node could not be talked to. Another one may be.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The connection could not be made, or has failed.
    #[error("{0}")]
    Io(#[source] std::io::Error),
    /// The client speaks TLS, and what is there does not.
    #[error("does not speak TLS: leave out the certificates and the token if it is a node without TLS")]
    NotTls,
    /// The node's certificate is not to be trusted: another cluster's, or out of date, or not a node's.
    #[error("its certificate is not to be trusted, the authority may be another cluster's: {0}")]
    Untrusted(#[source] rustls::Error),
    /// The node does not trust the client's certificate.
    #[error("it does not trust the certificate that was shown: {0}")]
    CertificateRefused(#[source] rustls::Error),
    /// TLS has failed in another way.
    #[error("TLS has failed: {0}")]
    Tls(#[source] rustls::Error),
    /// The node has closed the connection.
    #[error("the node has closed the connection")]
    Closed,
    /// Nothing was heard in time.
    #[error("no answer")]
    Silent,
    /// The node has refused the connection.
    #[error("{reason}{}{detail}", if detail.is_empty() { "" } else { ": " })]
    Refused {
        /// Why, for programs.
        reason: Refusal,
        /// Why, for people.
        detail: String,
    },
    /// The node belongs to another cluster than the nodes before.
    #[error("belongs to cluster {found}, not to {expected}")]
    OtherCluster {
        /// The cluster of the nodes that answered first.
        expected: ClusterId,
        /// The cluster of this one.
        found: ClusterId,
    },
    /// What the node has sent breaks the protocol.
    #[error("broke the protocol: {0}")]
    Protocol(#[from] ProtocolError),
}

impl From<std::io::Error> for LinkError {
    fn from(error: std::io::Error) -> Self {
        use rustls::{AlertDescription, Error, InvalidMessage};
        if error.kind() == std::io::ErrorKind::UnexpectedEof {
            return Self::Closed;
        }
        let tls = match error.downcast::<Error>() {
            Ok(tls) => tls,
            Err(other) => return Self::Io(other),
        };
        match tls {
            Error::InvalidMessage(InvalidMessage::InvalidContentType) => Self::NotTls,
            Error::InvalidCertificate(_) => Self::Untrusted(tls),
            Error::AlertReceived(
                AlertDescription::UnknownCA
                | AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateUnknown
                | AlertDescription::DecryptError,
            ) => Self::CertificateRefused(tls),
            _ => Self::Tls(tls),
        }
    }
}

/// How a node has broken the protocol: a mistake in it, or bytes that were damaged on their way.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A frame is damaged.
    #[error("{0}")]
    Frame(FrameError),
    /// A message is damaged.
    #[error("{0}")]
    Control(ControlError),
    /// A batch is damaged.
    #[error("{0}")]
    Batch(BatchError),
    /// A frame that does not belong here.
    #[error("an unexpected frame")]
    Unexpected,
    /// A receipt does not fit the batch that it is about.
    #[error("a receipt that does not fit its batch")]
    ReceiptMismatch,
    /// A delivery does not fit the batch that follows it.
    #[error("a delivery that does not fit its batch")]
    DeliveryMismatch,
}

impl From<FrameError> for ProtocolError {
    fn from(error: FrameError) -> Self {
        Self::Frame(error)
    }
}

impl From<ControlError> for ProtocolError {
    fn from(error: ControlError) -> Self {
        Self::Control(error)
    }
}

impl From<BatchError> for ProtocolError {
    fn from(error: BatchError) -> Self {
        Self::Batch(error)
    }
}

/// Why a producer could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// No node could be reached, or none of those reached knows a leader. Try again later.
    #[error("no leader could be reached ({servers})")]
    NoLeader {
        /// Each server, and what was last heard of it.
        servers: String,
    },
    /// The leader did not answer in time. Opening again is safe.
    #[error("the leader did not answer in time")]
    NoAnswer,
    /// The cluster refuses.
    #[error("{reason}")]
    Refused {
        /// Why.
        reason: Refusal,
    },
    /// The client holds as many producers as it may: drop some.
    #[error("the client holds {limit} producers already")]
    TooManyProducers {
        /// How many it may hold.
        limit: usize,
    },
    /// The client is shutting down.
    #[error("the client is shutting down")]
    Closed,
}

/// Why an event was not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The topic is empty or too long. The event was not numbered.
    #[error("a topic has 1 to {MAX_TOPIC} bytes, this one has {len}")]
    TopicLength {
        /// Bytes of the topic.
        len: usize,
    },
    /// The key is too long. The event was not numbered.
    #[error("a key has at most {MAX_KEY} bytes, this one has {len}")]
    KeyLength {
        /// Bytes of the key.
        len: usize,
    },
    /// The payload is too long. The event was not numbered.
    #[error("an event has at most {MAX_EVENT_PAYLOAD} bytes, this one has {len}")]
    EventTooLarge {
        /// Bytes of the payload.
        len: usize,
    },
    /// No answer came in time: the event **may or may not** have been accepted. The producer goes on sending it, since
    /// what comes after it can only be accepted after it; publishing it again as another event may double it.
    #[error("no answer in time: the outcome is unknown")]
    Unknown,
    /// The producer can publish no more. Events that were sent and not acknowledged before may have been accepted.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// The client is shutting down.
    #[error("the client is shutting down")]
    Closed,
}

/// Why an event was not sent at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TrySendError {
    /// As many events wait for an answer, or for their answer to be fetched, as the client's options allow. The event was
    /// not numbered: the same call may succeed when answers were fetched.
    #[error("the window is full")]
    Full,
    /// As for an event that is sent when there is room.
    #[error(transparent)]
    Refused(#[from] PublishError),
}

/// Why a producer can publish no more. Opening it again may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Failure {
    /// The producer was opened elsewhere: this life of it has ended.
    #[error("the producer was opened elsewhere (epoch {epoch})")]
    Fenced {
        /// The epoch of the later life.
        epoch: Epoch,
    },
    /// Events before the first one of this producer are missing.
    #[error("events are missing: the cluster expects sequence {expected} of this producer next")]
    SequenceGap {
        /// What the cluster expects.
        expected: Sequence,
    },
    /// The cluster has forgotten the producer.
    #[error("the cluster has forgotten the producer: open it again")]
    ProducerUnknown,
    /// The cluster refused an event for good.
    #[error("refused: {}", run_refusal(*.reason))]
    Refused {
        /// Why.
        reason: RunRefusal,
    },
    /// The node refused a batch for good.
    #[error("refused: {reason}")]
    BatchRefused {
        /// Why.
        reason: Refusal,
    },
}

fn run_refusal(reason: RunRefusal) -> String {
    match reason {
        RunRefusal::TopicTableFull => "the cluster has as many topics as it may".into(),
        RunRefusal::EventTooLarge { limit } => format!("the cluster takes events of at most {limit} bytes"),
        RunRefusal::ProducerTableFull => "the cluster remembers as many producers as it may".into(),
        other => format!("{other:?}"),
    }
}

/// Why a subscription gave no event.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// No server has answered for as long as the client's patience. Asking again goes on where it was.
    #[error("no server could be reached ({servers})")]
    Unreachable {
        /// Each server, and what was last heard of it.
        servers: String,
    },
    /// The topic's name is empty or too long.
    #[error("a topic has 1 to {MAX_TOPIC} bytes, this one has {len}")]
    TopicLength {
        /// Bytes of the name.
        len: usize,
    },
    /// The events at this offset are no longer held.
    #[error("offset {wanted} is no longer held: the first that is, is {first}")]
    BeforeHorizon {
        /// The offset that was to be delivered.
        wanted: Offset,
        /// The first that is held.
        first: Offset,
    },
    /// The topic has not come so far.
    #[error("offset {wanted} does not exist yet: the topic ends before {next}")]
    AfterEnd {
        /// The offset that was to be delivered.
        wanted: Offset,
        /// The next offset of the topic.
        next: Offset,
    },
    /// Offsets are missing. This must never happen: it is a fault of the node, and worth a report.
    #[error("events are missing on {server}: offset {expected} was due, {found} came")]
    Hole {
        /// The server that sent it.
        server: String,
        /// The offset that was due.
        expected: Offset,
        /// The offset that came.
        found: Offset,
    },
    /// The node refuses the subscription.
    #[error("{reason}")]
    Refused {
        /// Why.
        reason: Refusal,
    },
}
