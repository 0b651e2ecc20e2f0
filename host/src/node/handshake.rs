//! The first frame in either direction on a new connection, read exactly and without a block of a pool: whoever has not
//! said who he is holds nothing but a socket, and a session where the node speaks TLS, and that for no longer than
//! [`PATIENCE`].

use super::counters::{Counters, of_frame};
use super::event::Role;
use super::memory::CLIENT_INFLIGHT;
use super::message;
use super::turns::Shaking;
use crate::checksum::CRC;
use crate::identity::Identity;
use crate::stream::Stream;
use crate::tls::NodeTls;
use core::time::Duration;
use eventstream_core::id::NodeId;
use eventstream_core::wire::{
    self, Control, ControlError, Counter, Frame, FrameError, HEADER_LEN, Header, Hello, MAX_CONTROL_LEN, Refusal,
    VERSION, Welcome,
};
use rustls::pki_types::CertificateDer;
use std::io;
use tokio::time::timeout;

/// A new connection has this long to say who it is.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// Who is refused has this long to hear it.
const FAREWELL: Duration = Duration::from_millis(500);

/// Why a handshake came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    /// The connection broke, or ended.
    #[error(transparent)]
    Io(io::Error),
    /// It did so within a frame.
    #[error("cut off within a frame: {0}")]
    CutOff(io::Error),
    /// One side does not trust the other, or does not speak TLS.
    #[error("TLS: {0}")]
    Tls(io::Error),
    /// What came is no frame.
    #[error("{0}")]
    Frame(FrameError),
    /// What came is no message.
    #[error("{0}")]
    Control(ControlError),
    /// This side refuses the other.
    #[error("{0}")]
    Refuse(Refusal, Counter),
    /// The other side refuses this one.
    #[error("refused: {0}")]
    Refused(Refusal),
}

impl HandshakeError {
    const NO_HELLO: Self = Self::Refuse(Refusal::HelloExpected, Counter::HelloMissing);

    /// What is counted for it, on the side that accepted the connection.
    fn counter(&self) -> Option<Counter> {
        match *self {
            Self::Io(_) | Self::Refused(_) => None,
            Self::CutOff(_) => Some(Counter::FrameCutOff),
            Self::Tls(_) => Some(Counter::TlsFailed),
            Self::Frame(error) => Some(of_frame(error)),
            Self::Control(_) => Some(Counter::MessageMalformed),
            Self::Refuse(_, counter) => Some(counter),
        }
    }

    /// What an error of a read means where a frame has begun.
    fn within_frame(error: io::Error) -> Self {
        match Self::from(error) {
            Self::Io(error) => Self::CutOff(error),
            other => other,
        }
    }
}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::InvalidData { Self::Tls(error) } else { Self::Io(error) }
    }
}

/// Puts a connection under TLS; each step is computed in a turn of its own. What is wrong is counted.
pub(crate) async fn secure(
    stream: &mut Stream,
    tls: &NodeTls,
    mut turns: Shaking,
    counters: &Counters,
) -> Result<(), HandshakeError> {
    stream.begin_to_secure(tls.accept());
    let secured = async {
        while stream.awaits_step().await? {
            turns.turn().await.compute(|| stream.step())?;
        }
        Ok(())
    };
    counted(secured.await.map_err(io::Error::into), counters)
}

/// Hears who has connected, by the hello: under TLS if the node speaks it. What is wrong is counted.
pub(crate) async fn accept(
    stream: &mut Stream,
    me: &Identity,
    tls: Option<&NodeTls>,
    counters: &Counters,
) -> Result<Role, HandshakeError> {
    counted(hear(stream, me, tls).await, counters)
}

fn counted<T>(outcome: Result<T, HandshakeError>, counters: &Counters) -> Result<T, HandshakeError> {
    if let Some(counter) = outcome.as_ref().err().and_then(HandshakeError::counter) {
        counters.add(counter);
    }
    outcome
}

async fn hear(stream: &mut Stream, me: &Identity, tls: Option<&NodeTls>) -> Result<Role, HandshakeError> {
    let frame = read_frame(stream).await?;
    match decode(&frame)? {
        Control::Hello(hello) => admit(&hello, me, tls, stream.certificate()),
        _ => Err(HandshakeError::NO_HELLO),
    }
}

/// Tells the other side why it is refused, if there is a word for it, and waits for a moment until it closes too.
pub(crate) async fn refuse(stream: &mut Stream, reason: Option<Refusal>) {
    let farewell = async {
        if let Some(reason) = reason {
            stream.write_all(&message::refused_connection(reason, "")).await?;
        }
        stream.part().await
    };
    let _the_connection_is_over_in_any_case = timeout(FAREWELL, farewell).await;
}

/// Says who this node is on a connection that it dialled, and waits until the node at the other end says that it is
/// `peer`.
pub(crate) async fn introduce(stream: &mut Stream, me: &Identity, peer: NodeId) -> Result<(), HandshakeError> {
    let role = wire::Role::Peer { node: me.node, incarnation: me.incarnation };
    let hello = Hello { version_min: VERSION, version_max: VERSION, cluster: Some(me.cluster), role };
    stream.write_all(&message::encode(&Control::Hello(hello))).await?;
    let frame = read_frame(stream).await?;
    match decode(&frame)? {
        Control::Welcome(welcome) if is_from(&welcome, me, peer) => Ok(()),
        Control::Welcome(_) => Err(HandshakeError::Refuse(Refusal::UnknownMember, Counter::PeerUnknownMember)),
        Control::Refused(refused) => Err(HandshakeError::Refused(refused.reason)),
        _ => Err(HandshakeError::Refuse(Refusal::Unexpected, Counter::Unexpected)),
    }
}

fn is_from(welcome: &Welcome<'_>, me: &Identity, peer: NodeId) -> bool {
    welcome.cluster == me.cluster
        && me.member(peer).is_some_and(|member| (member.id, member.incarnation) == (welcome.node, welcome.incarnation))
}

/// Who may connect, and as what. A certificate is one of the cluster's authority: TLS takes no other.
fn admit(
    hello: &Hello,
    me: &Identity,
    tls: Option<&NodeTls>,
    certificate: Option<&CertificateDer<'_>>,
) -> Result<Role, HandshakeError> {
    let refuse = |refusal, counter| Err(HandshakeError::Refuse(refusal, counter));
    if !(hello.version_min..=hello.version_max).contains(&VERSION) {
        return refuse(Refusal::Version { min: VERSION, max: VERSION }, Counter::HelloVersion);
    }
    let is_shown = match (tls, hello.role) {
        (None, wire::Role::Client | wire::Role::Peer { .. }) => true,
        // Whoever says a secret where everybody hears it is told that it is not wanted there.
        (None, wire::Role::TokenClient { .. }) => false,
        (Some(_), wire::Role::Client) => certificate.is_some(),
        (Some(tls), wire::Role::TokenClient { token }) => tls.knows(&token),
        (Some(tls), wire::Role::Peer { node, .. }) => tls.is_of(certificate, node),
    };
    if !is_shown {
        return refuse(Refusal::Unauthenticated, Counter::Unauthenticated);
    }
    let is_other_cluster = hello.cluster.is_some_and(|cluster| cluster != me.cluster);
    match hello.role {
        wire::Role::Peer { .. } if is_other_cluster => refuse(Refusal::WrongCluster, Counter::PeerWrongCluster),
        _ if is_other_cluster => refuse(Refusal::WrongCluster, Counter::ClientWrongCluster),
        wire::Role::Client | wire::Role::TokenClient { .. } => Ok(Role::Client),
        wire::Role::Peer { node, incarnation } => {
            let is_known = me.peers().any(|member| (member.id, member.incarnation) == (node, incarnation));
            if hello.cluster.is_some() && is_known {
                Ok(Role::Inbound(node))
            } else {
                refuse(Refusal::UnknownMember, Counter::PeerUnknownMember)
            }
        }
    }
}

/// Reads one frame of a control message and not a byte more.
async fn read_frame(stream: &mut Stream) -> Result<Vec<u8>, HandshakeError> {
    let mut header = [0; HEADER_LEN];
    // Who says nothing cuts nothing off.
    stream.read_exact(&mut header[..1]).await?;
    stream.read_exact(&mut header[1..]).await.map_err(HandshakeError::within_frame)?;
    let len = Header::parse(&header, CRC).map_err(HandshakeError::Frame)?.frame_len();
    if len > MAX_CONTROL_LEN {
        return Err(HandshakeError::NO_HELLO);
    }
    let mut frame = vec![0; len];
    frame[..HEADER_LEN].copy_from_slice(&header);
    stream.read_exact(&mut frame[HEADER_LEN..]).await.map_err(HandshakeError::within_frame)?;
    Ok(frame)
}

fn decode(frame: &[u8]) -> Result<Control<'_>, HandshakeError> {
    let frame = Frame::check(frame, CRC).map_err(HandshakeError::Frame)?;
    Control::decode(frame.header().kind, frame.payload()).map_err(HandshakeError::Control)
}

const _: () = assert!(CLIENT_INFLIGHT as usize >= wire::MAX_FRAME_LEN, "any batch fits a client's window");
