//! Which loops share a thread. The loops and the rings between them are the same in every layout.

use super::NodeError;
use super::connection::Hub;
use super::counters::Counters;
use super::event::{Command, Event, Role};
use super::links;
use super::listener::{Accepted, Door, Handover, listen};
use super::mailbox::{Bell, COMMANDS, EVENTS, Inbox, Sink};
use super::memory::StaticPool;
use super::newcomers::Newcomers;
use super::turns::{MAX_BEGUN, Turns};
use crate::clock::Clock;
use crate::config::{Config, MemoryPlan, ThreadLayout};
use crate::identity::Identity;
use crate::tls::{NodeTls, SESSION_BYTES};
use eventstream_core::config::MAX_MEMBERS;
use eventstream_core::wire::Counter;
use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use tokio::runtime::Builder;
use tokio::task::{LocalSet, spawn_local};

/// Connections with other nodes. Each of 7 others has one in either direction, and some are just being replaced.
pub(crate) const MAX_PEER_CONNECTIONS: usize = 64;
/// Of these, accepted: the others are links that this node has dialled.
const MAX_INBOUND: usize = MAX_PEER_CONNECTIONS - (MAX_MEMBERS - 1);

/// What the sockets of a node with this configuration add to its plan: a session for each connection that may be under TLS.
pub(crate) fn memory(config: &Config) -> MemoryPlan {
    let mut plan = MemoryPlan::default();
    if config.tls.is_some() {
        let sessions = config.connections + MAX_PEER_CONNECTIONS + MAX_BEGUN;
        plan.add(format!("TLS: {sessions} sessions"), sessions * SESSION_BYTES);
    }
    plan
}

/// One end of each ring between the engine and the sockets of one kind.
pub(crate) struct SocketSide {
    /// Where frames are received.
    pub(crate) pool: StaticPool,
    /// To the engine.
    pub(crate) events: Sink<Event, EVENTS>,
    /// From the engine.
    pub(crate) commands: Inbox<Command, COMMANDS>,
    /// Rung by the engine.
    pub(crate) bell: Arc<Bell>,
    /// What is refused.
    pub(crate) counters: Arc<Counters>,
}

/// The sockets of clients, and the listening port.
pub(crate) struct ClientSockets {
    /// The rings.
    pub(crate) side: SocketSide,
    /// Bound, not blocking.
    pub(crate) listeners: Vec<TcpListener>,
    /// Who this node is.
    pub(crate) identity: Arc<Identity>,
    /// Whether it speaks TLS.
    pub(crate) tls: Option<NodeTls>,
    /// Connections of clients at a time.
    pub(crate) max_clients: usize,
    /// To the sockets of peers.
    pub(crate) peers: Handover,
}

/// The sockets of other nodes.
pub(crate) struct PeerSockets {
    /// The rings.
    pub(crate) side: SocketSide,
    /// Who this node is.
    pub(crate) identity: Arc<Identity>,
    /// Whether it speaks TLS.
    pub(crate) tls: Option<NodeTls>,
    /// Accepted connections of other nodes.
    pub(crate) accepted: Accepted,
    /// The node's clock.
    pub(crate) clock: Clock,
}

/// A thread of the node; gives why it ended.
pub(crate) type NodeThread = JoinHandle<Result<(), NodeError>>;

/// Starts the threads; `engine` begins the engine's loop on its own. All of them end when that does.
///
/// # Errors
/// The system gives no thread or no runtime. What was started ends by itself.
pub(crate) fn start<F: Future<Output = Result<(), NodeError>>>(
    layout: ThreadLayout,
    clients: ClientSockets,
    peers: PeerSockets,
    engine: impl FnOnce() -> F + Send + 'static,
) -> io::Result<Vec<NodeThread>> {
    match layout {
        ThreadLayout::Shared => {
            let all = move || async move {
                let (outcome, clients, peers) = tokio::join!(engine(), clients.serve(), peers.serve());
                outcome.and(clients).and(peers)
            };
            Ok(vec![spawn("node", all)?])
        }
        ThreadLayout::Split => Ok(vec![
            spawn("engine", engine)?,
            spawn("clients", move || clients.serve())?,
            spawn("peers", move || peers.serve())?,
        ]),
    }
}

/// A thread with a runtime of its own for one task and those that it spawns.
fn spawn<F: Future<Output = Result<(), NodeError>>>(
    name: &str,
    task: impl FnOnce() -> F + Send + 'static,
) -> io::Result<NodeThread> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name(name.to_owned()).spawn(move || LocalSet::new().block_on(&runtime, task()))
}

impl ClientSockets {
    /// Serves clients until the engine is gone.
    async fn serve(self) -> Result<(), NodeError> {
        let Self { side, listeners, identity, tls, max_clients, peers } = self;
        let SocketSide { pool, events, commands, bell, counters } = side;
        let hub = Hub::new(pool, events, Arc::clone(&counters));
        let (newcomers, turns, clients) = (Newcomers::new(), Turns::new(), Rc::clone(&hub));
        let door = Rc::new(Door { identity, clients, peers, max_clients, tls, newcomers, turns, counters });
        let mut listening = Vec::with_capacity(listeners.len());
        for listener in listeners {
            let listener = tokio::net::TcpListener::from_std(listener).map_err(NodeError::Socket)?;
            listening.push(spawn_local(listen(listener, Rc::clone(&door))));
        }
        hub.obey(commands, &bell).await;
        // The port is closed before the connections are: whoever dials again is refused, and knows that the node is gone.
        for task in listening {
            task.abort();
            let _it_may_have_left_before = task.await;
        }
        Ok(())
    }
}

impl PeerSockets {
    /// Keeps links to the other nodes, and serves theirs, until the engine is gone.
    async fn serve(self) -> Result<(), NodeError> {
        let Self { side: SocketSide { pool, events, commands, bell, counters }, identity, tls, accepted, clock } = self;
        let hub = Hub::new(pool, events, Arc::clone(&counters));
        for peer in identity.peers() {
            spawn_local(links::keep(Rc::clone(&hub), Arc::clone(&identity), tls.clone(), peer.clone(), clock));
        }
        let leaving = Rc::clone(&hub);
        spawn_local(async move {
            leaving.left().await;
            leaving.close_all();
        });
        spawn_local(serve_accepted(accepted, Rc::clone(&hub), counters));
        hub.obey(commands, &bell).await;
        Ok(())
    }
}

/// Serves the connections that other nodes made, as many as there may be beside those to them; one more is closed.
async fn serve_accepted(mut accepted: Accepted, hub: Rc<Hub>, counters: Arc<Counters>) {
    // Each connection has one from when it is accepted, which is before the hub knows of it.
    let places = Rc::new(());
    while let Some((stream, node)) = accepted.recv().await {
        if Rc::strong_count(&places) > MAX_INBOUND {
            counters.add(Counter::TooManyPeers);
        } else if let Ok(stream) = stream.attach() {
            let (hub, place) = (Rc::clone(&hub), Rc::clone(&places));
            spawn_local(async move {
                hub.serve(stream, Role::Inbound(node)).await;
                drop(place);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::mailbox::many_to_one;
    use crate::node::memory::pool;
    use crate::stream::Stream;
    use core::time::Duration;
    use eventstream_core::id::NodeId;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpStream;
    use tokio::sync::mpsc;
    use tokio::time::{sleep, timeout};

    /// Whatever takes longer is broken. No test waits for it to pass.
    const BROKEN: Duration = Duration::from_secs(20);
    const TOO_MANY: usize = 6;

    #[test]
    fn a_connection_of_another_node_too_many_is_closed_also_if_all_come_at_once() {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        LocalSet::new().block_on(&runtime, async {
            let (events, _engine) = many_to_one(&Arc::default());
            let counters = Arc::<Counters>::default();
            let hub = Hub::new(pool(1), events, Arc::clone(&counters));
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let (handover, accepted) = mpsc::unbounded_channel();
            let connect = async || {
                let other = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("it listens");
                let (stream, _) = listener.accept().await.expect("a connection");
                let stream = Stream::plain(stream).detach().expect("a socket");
                handover.send((stream, NodeId(2))).expect("somebody takes it");
                other
            };
            let mut others = Vec::new();
            for _ in 0..MAX_INBOUND + TOO_MANY {
                others.push(connect().await);
            }
            spawn_local(serve_accepted(accepted, Rc::clone(&hub), Arc::clone(&counters)));
            for other in &mut others[MAX_INBOUND..] {
                let ended = timeout(BROKEN, other.read(&mut [0])).await.expect("it is closed");
                assert_eq!(ended.expect("closed in order"), 0);
            }
            assert_eq!((hub.len(), counters.count(Counter::TooManyPeers)), (MAX_INBOUND, TOO_MANY as u64));

            others.swap_remove(0);
            let has = async |connections| {
                while hub.len() != connections {
                    sleep(Duration::from_millis(1)).await;
                }
            };
            timeout(BROKEN, has(MAX_INBOUND - 1)).await.expect("its place is free");
            let _one_more = connect().await;
            timeout(BROKEN, has(MAX_INBOUND)).await.expect("it is served");
            assert_eq!(counters.count(Counter::TooManyPeers), TOO_MANY as u64);
        });
    }
}
