//! The one listening port of a node: accepts, hears who it is, and passes the connection on to the hub of its kind.
//!
//! Nobody waits for a newcomer that is silent or slow. Whoever is accepted has a place among the [`Newcomers`] until it
//! is known who he is; when all places are taken, the one that has had his for longest goes, of those who come from where
//! most come from. So any number of silent connections hold a bounded number of files, and never the port. Handshakes of
//! TLS are computed one at a time, in [`Turns`].

use super::connection::Hub;
use super::counters::Counters;
use super::event::Role;
use super::handshake::{self, HandshakeError};
use super::message;
use super::newcomers::{Newcomers, Place, Source};
use super::socket;
use super::turns::{MAX_BEGUN, Turns};
use crate::identity::Identity;
use crate::stream::{Detached, Stream};
use crate::tls::NodeTls;
use core::time::Duration;
use eventstream_core::id::NodeId;
use eventstream_core::wire::{Counter, Refusal};
use std::io::ErrorKind;
use std::rc::Rc;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::{spawn_local, yield_now};
use tokio::time::{sleep, timeout};

/// Connections that have not said yet who they are, or are being told why they are not wanted. Who has something to say
/// says it with his first packet: it is there by the time that this many others were accepted after him.
const MAX_NEWCOMERS: usize = 256;
/// Connections accepted in one go. Then the runtime looks at all sockets, so that each newcomer is read before his place
/// can be lost, and everything else on this thread has its turn.
const ACCEPTED_AT_ONCE: usize = 16;
/// Files that newcomers hold, at most: those who lost their place in one go close theirs at the next turn.
pub(crate) const NEWCOMERS_FILES: usize = MAX_NEWCOMERS + ACCEPTED_AT_ONCE;
/// After an error of accept that no newcomer can help out of, the next is tried after this long.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Accepted connections of other nodes on their way to the thread that serves them.
pub(crate) type Handover = mpsc::UnboundedSender<(Detached, NodeId)>;

/// The other end of it.
pub(crate) type Accepted = mpsc::UnboundedReceiver<(Detached, NodeId)>;

/// What every accepted connection is measured by.
#[derive(Debug)]
pub(crate) struct Door {
    /// Who this node is.
    pub(crate) identity: Arc<Identity>,
    /// Where connections of clients go.
    pub(crate) clients: Rc<Hub>,
    /// Where connections of other nodes go.
    pub(crate) peers: Handover,
    /// Connections of clients at a time.
    pub(crate) max_clients: usize,
    /// Whether connections are under TLS.
    pub(crate) tls: Option<NodeTls>,
    /// Connections of whom it is not known yet who they are, ...
    pub(crate) newcomers: Rc<Newcomers<MAX_NEWCOMERS>>,
    /// ... and the handshakes of those that speak TLS.
    pub(crate) turns: Rc<Turns>,
    /// What is refused.
    pub(crate) counters: Arc<Counters>,
}

/// Accepts connections until the node is being stopped.
pub(crate) async fn listen(listener: TcpListener, door: Rc<Door>) {
    tokio::select! {
        () = door.clients.left() => {}
        () = accept_all(&listener, &door) => {}
    }
}

async fn accept_all(listener: &TcpListener, door: &Rc<Door>) {
    loop {
        for _ in 0..ACCEPTED_AT_ONCE {
            match listener.accept().await {
                Ok((stream, address)) => {
                    let source = Source::from(address.ip());
                    let place = door.newcomers.enter(source);
                    spawn_local(receive(Stream::plain(stream), source, place, Rc::clone(door)));
                }
                // Gone before it was accepted.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                // Too many open files, as a rule: a newcomer gives his back.
                Err(_) if door.newcomers.push_out_one() => break,
                Err(_) => sleep(ACCEPT_RETRY).await,
            }
        }
        yield_now().await;
    }
}

/// Hears who it is, and serves or hands over.
async fn receive(mut stream: Stream, source: Source, place: Place<MAX_NEWCOMERS>, door: Rc<Door>) {
    // Given back when the session of TLS is gone, or is somebody's who was let in.
    let mut begun = None;
    let settled = tokio::select! {
        biased;
        settled = settle(&mut stream, source, &mut begun, &door) => settled,
        () = place.lost() => {
            door.counters.add(Counter::NewcomerPushedOut);
            // Before its handshake who speaks TLS takes a word in plain for a broken node.
            if door.tls.is_none() {
                let _what_is_not_taken_at_once_is_not_heard =
                    stream.try_write(&message::refused_connection(Refusal::TooManyConnections, ""));
            }
            None
        }
    };
    if let Some(Err(refusal)) = settled {
        tokio::select! {
            () = handshake::refuse(&mut stream, refusal) => {}
            () = place.lost() => {}
            () = lost(begun.as_ref()) => {}
        }
    }
    drop(place);
    drop(begun);
    match settled {
        Some(Ok(Role::Client)) if socket::prepare_client(stream.socket()).is_ok() => {
            door.clients.serve(stream, Role::Client).await;
        }
        Some(Ok(Role::Inbound(node) | Role::Link(node))) => {
            if let Ok(stream) = socket::prepare_peer(stream.socket()).and_then(|()| stream.detach()) {
                let _gone_only_when_the_node_stops = door.peers.send((stream, node));
            }
        }
        Some(Ok(Role::Client) | Err(_)) | None => {}
    }
}

/// When this place is lost; never, if there is none.
async fn lost(place: Option<&Place<MAX_BEGUN>>) {
    match place {
        Some(place) => place.lost().await,
        None => core::future::pending().await,
    }
}

/// What the connection is for, or why it is not wanted, which is counted; `None` if it broke.
async fn settle(
    stream: &mut Stream,
    source: Source,
    begun: &mut Option<Place<MAX_BEGUN>>,
    door: &Door,
) -> Option<Result<Role, Option<Refusal>>> {
    Some(Err(Some(match timeout(handshake::PATIENCE, hear(stream, source, begun, door)).await {
        Ok(Ok(Role::Client)) if door.clients.len() >= door.max_clients => {
            door.counters.add(Counter::TooManyClients);
            Refusal::TooManyConnections
        }
        Ok(Ok(role)) => return Some(Ok(role)),
        Ok(Err(HandshakeError::Frame(_) | HandshakeError::Control(_))) => Refusal::Malformed,
        Ok(Err(HandshakeError::Refuse(refusal, _))) => refusal,
        // TLS has told why in its own words.
        Ok(Err(HandshakeError::Tls(_))) => return Some(Err(None)),
        Ok(Err(HandshakeError::Io(_) | HandshakeError::CutOff(_) | HandshakeError::Refused(_))) => return None,
        Err(_too_late) => {
            door.counters.add(Counter::HelloTimeout);
            Refusal::HelloExpected
        }
    })))
}

/// Hears who it is. Where the node speaks TLS, nothing is held for those who say nothing, and those who say something else
/// are told.
async fn hear(
    stream: &mut Stream,
    source: Source,
    begun: &mut Option<Place<MAX_BEGUN>>,
    door: &Door,
) -> Result<Role, HandshakeError> {
    let accepted = async |stream| handshake::accept(stream, &door.identity, door.tls.as_ref(), &door.counters).await;
    let Some(tls) = &door.tls else { return accepted(stream).await };
    if !stream.begins_as_tls().await? {
        door.counters.add(Counter::TlsMissing);
        return Err(HandshakeError::Refuse(Refusal::TlsRequired, Counter::TlsMissing));
    }
    let turns = door.turns.begin(source).await;
    if stream.has_ended().await? {
        // Nobody is left to answer.
        return Err(HandshakeError::Io(ErrorKind::UnexpectedEof.into()));
    }
    let place = begun.insert(door.turns.begun.enter(source));
    let secured = async {
        handshake::secure(stream, tls, turns, &door.counters).await?;
        accepted(stream).await
    };
    tokio::select! {
        biased;
        role = secured => role,
        () = place.lost() => {
            door.counters.add(Counter::NewcomerPushedOut);
            Err(HandshakeError::Io(ErrorKind::TimedOut.into()))
        }
    }
}
