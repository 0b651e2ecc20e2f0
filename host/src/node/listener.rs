//! The one listening port of a node: accepts, hears who it is, and passes the connection on to the hub of its kind.

use super::connection::Hub;
use super::event::Role;
use super::handshake::{self, HandshakeError};
use super::socket;
use crate::identity::Identity;
use core::cell::Cell;
use core::time::Duration;
use eventstream_core::id::NodeId;
use eventstream_core::wire::Refusal;
use std::rc::Rc;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

/// Connections that have not said yet who they are, at most. More are left waiting in the system's queue.
const MAX_HANDSHAKES: usize = 64;
/// After an error of accept (too many open files, as a rule) the next is tried after this long.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Accepted connections of other nodes on their way to the thread that serves them.
pub(crate) type Handover = mpsc::UnboundedSender<(std::net::TcpStream, NodeId)>;

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
    /// Connections that have not said yet who they are.
    pub(crate) handshakes: Cell<usize>,
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
        if door.handshakes.get() >= MAX_HANDSHAKES {
            sleep(ACCEPT_RETRY).await;
            continue;
        }
        match listener.accept().await {
            Ok((stream, _)) => {
                door.handshakes.set(door.handshakes.get() + 1);
                spawn_local(receive(stream, Rc::clone(door)));
            }
            Err(_) => sleep(ACCEPT_RETRY).await,
        }
    }
}

/// Hears who it is, and serves or hands over.
async fn receive(mut stream: TcpStream, door: Rc<Door>) {
    let role = timeout(handshake::PATIENCE, handshake::accept(&mut stream, &door.identity)).await;
    door.handshakes.set(door.handshakes.get() - 1);
    match role {
        Ok(Ok(Role::Client)) if door.clients.len() >= door.max_clients => {
            handshake::refuse(&mut stream, Refusal::TooManyConnections).await;
        }
        Ok(Ok(Role::Client)) => {
            if socket::prepare_client(&stream).is_ok() {
                door.clients.serve(stream, Role::Client).await;
            }
        }
        Ok(Ok(Role::Inbound(node) | Role::Link(node))) => {
            if let Ok(stream) = socket::prepare_peer(&stream).and_then(|()| stream.into_std()) {
                let _gone_only_when_the_node_stops = door.peers.send((stream, node));
            }
        }
        Ok(Err(HandshakeError::Frame(_) | HandshakeError::Control(_))) => {
            handshake::refuse(&mut stream, Refusal::Malformed).await;
        }
        Ok(Err(HandshakeError::Refuse(refusal))) => handshake::refuse(&mut stream, refusal).await,
        Err(_too_late) => handshake::refuse(&mut stream, Refusal::HelloExpected).await,
        Ok(Err(HandshakeError::Io(_) | HandshakeError::Refused(_))) => {}
    }
}
