//! The first frame in either direction on a new connection, read exactly and without a block of a pool: whoever has not
//! said who he is holds nothing but a socket, and that for no longer than [`PATIENCE`].

use super::event::Role;
use super::memory::CLIENT_INFLIGHT;
use super::message;
use crate::checksum::CRC;
use crate::identity::Identity;
use crate::stream::Stream;
use core::time::Duration;
use eventstream_core::id::NodeId;
use eventstream_core::wire::{
    self, Control, ControlError, Frame, FrameError, HEADER_LEN, Header, Hello, MAX_CONTROL_LEN, Refusal, VERSION,
    Welcome,
};
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
    Io(#[from] io::Error),
    /// What came is no frame.
    #[error("{0}")]
    Frame(FrameError),
    /// What came is no message.
    #[error("{0}")]
    Control(ControlError),
    /// This side refuses the other.
    #[error("{0}")]
    Refuse(Refusal),
    /// The other side refuses this one.
    #[error("refused: {0}")]
    Refused(Refusal),
}

/// Reads the hello of an accepted connection and tells what the connection is for.
pub(crate) async fn accept(stream: &mut Stream, me: &Identity) -> Result<Role, HandshakeError> {
    let frame = read_frame(stream).await?;
    match decode(&frame)? {
        Control::Hello(hello) => admit(&hello, me).map_err(HandshakeError::Refuse),
        _ => Err(HandshakeError::Refuse(Refusal::HelloExpected)),
    }
}

/// Tells the other side why it is refused, and waits for a moment until it closes too.
pub(crate) async fn refuse(stream: &mut Stream, reason: Refusal) {
    let farewell = async {
        stream.write_all(&message::refused_connection(reason, "")).await?;
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
        Control::Welcome(_) => Err(HandshakeError::Refuse(Refusal::UnknownMember)),
        Control::Refused(refused) => Err(HandshakeError::Refused(refused.reason)),
        _ => Err(HandshakeError::Refuse(Refusal::Unexpected)),
    }
}

fn is_from(welcome: &Welcome<'_>, me: &Identity, peer: NodeId) -> bool {
    welcome.cluster == me.cluster
        && me.member(peer).is_some_and(|member| (member.id, member.incarnation) == (welcome.node, welcome.incarnation))
}

/// Who may connect, and as what.
fn admit(hello: &Hello, me: &Identity) -> Result<Role, Refusal> {
    if !(hello.version_min..=hello.version_max).contains(&VERSION) {
        return Err(Refusal::Version { min: VERSION, max: VERSION });
    }
    if hello.cluster.is_some_and(|cluster| cluster != me.cluster) {
        return Err(Refusal::WrongCluster);
    }
    match hello.role {
        wire::Role::Client => Ok(Role::Client),
        wire::Role::Peer { node, incarnation } => {
            let is_known = me.peers().any(|member| (member.id, member.incarnation) == (node, incarnation));
            if hello.cluster.is_some() && is_known { Ok(Role::Inbound(node)) } else { Err(Refusal::UnknownMember) }
        }
    }
}

/// Reads one frame of a control message and not a byte more.
async fn read_frame(stream: &mut Stream) -> Result<Vec<u8>, HandshakeError> {
    let mut header = [0; HEADER_LEN];
    stream.read_exact(&mut header).await?;
    let len = Header::parse(&header, CRC).map_err(HandshakeError::Frame)?.frame_len();
    if len > MAX_CONTROL_LEN {
        return Err(HandshakeError::Refuse(Refusal::HelloExpected));
    }
    let mut frame = vec![0; len];
    frame[..HEADER_LEN].copy_from_slice(&header);
    stream.read_exact(&mut frame[HEADER_LEN..]).await?;
    Ok(frame)
}

fn decode(frame: &[u8]) -> Result<Control<'_>, HandshakeError> {
    let frame = Frame::check(frame, CRC).map_err(HandshakeError::Frame)?;
    Control::decode(frame.header().kind, frame.payload()).map_err(HandshakeError::Control)
}

const _: () = assert!(CLIENT_INFLIGHT as usize >= wire::MAX_FRAME_LEN, "any batch fits a client's window");
