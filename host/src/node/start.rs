//! From a configuration to a running node.

use super::clients::Clients;
use super::counters::Counters;
use super::engine::{Engine, Parts};
use super::event::{Command, Event};
use super::files::{self, TooFewFiles};
use super::journal::Journal;
use super::layout::{self, ClientSockets, PeerSockets, SocketSide};
use super::mailbox::{Bell, COMMANDS, EVENTS, Inbox, Outbox, many_to_one, one_to_one};
use super::memory::{self, Pools, StaticPool, WitnessPools};
use super::message::Scribe;
use super::notice::Notice;
use super::peers::Peers;
use super::reader::Reader;
use super::state;
use super::witness::{Witness, WitnessParts};
use super::{Node, NodeError, Stopper};
use crate::clock::Clock;
use crate::config::{Config, MemoryPlan};
use crate::identity::Identity;
use crate::storage::{self, OpenError, Storage, StoreError, TermsWriter};
use core::net::SocketAddr;
use core::sync::atomic::AtomicBool;
use socket2::{Domain, Socket, Type};
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use tokio::sync::{Notify, mpsc};

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The directory cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The stored state cannot be read.
    #[error("the stored state cannot be read: {0}")]
    Store(#[from] StoreError),
    /// The stored state is not what this program writes.
    #[error("the stored state cannot be restored: {0}")]
    Restore(#[from] state::RestoreError),
    /// The port is taken, or the address is not this machine's.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The system gives no thread.
    #[error("the system gives no thread: {0}")]
    Thread(#[source] io::Error),
    /// More memory is planned for than the configuration allows.
    #[error("the node would need up to {} MiB, and memory_mib allows {}:\n{plan}", plan.total_bytes() >> 20, limit_bytes >> 20)]
    Memory {
        /// What would need it.
        plan: MemoryPlan,
        /// What is allowed.
        limit_bytes: usize,
    },
    /// More files may be open than the system allows: its limit is to be raised, or `connections` lowered.
    #[error("the node may have {needed} files and sockets open, and the system allows {allowed} (ulimit -Hn)")]
    Files {
        /// What the configuration may need.
        needed: u64,
        /// The process's hard limit.
        allowed: u64,
    },
}

/// Notices that nobody has read yet; there is at most one a second.
const NOTICES: usize = 16;

/// What a node with this configuration may hold in memory, holder by holder.
#[must_use]
pub fn memory_plan(config: &Config) -> MemoryPlan {
    let mut plan = config.memory();
    plan.extend(layout::memory(config));
    if config.identity.is_witness() {
        plan.extend(memory::witness_plan(config));
    } else {
        plan.extend(memory::plan(config));
        plan.extend(state::memory(&config.identity.parameters));
        plan.extend(storage::memory());
    }
    plan
}

/// Starts a node. See [`Node::start`].
pub(super) fn start(config: &Config) -> Result<Node, StartError> {
    let plan = memory_plan(config);
    if plan.total_bytes() > config.memory_limit_bytes {
        return Err(StartError::Memory { plan, limit_bytes: config.memory_limit_bytes });
    }
    files::reserve(config).map_err(|TooFewFiles { needed, allowed }| StartError::Files { needed, allowed })?;
    if config.identity.is_witness() { start_witness(config) } else { start_data_node(config) }
}

fn start_data_node(config: &Config) -> Result<Node, StartError> {
    let clock = Clock::start();
    let opened = storage::open(&config.dir, &config.identity)?;
    let replica = state::restore(&config.identity, &opened, clock)?;
    let pools = Pools::new(config);
    let (sockets, around) = surroundings(config, clock, (pools.clients, pools.peers))?;
    let Surroundings { bell, sleeper, asked, identity, counters, ends } = around;
    let stopper = Stopper { asked: Arc::clone(&asked), engine: Arc::clone(&sleeper) };
    let applied = replica.applied().index;
    let storage = Storage::start(opened.store, clock, bell.doorbell(), bell.waker()).map_err(StartError::Thread)?;
    let reader = Reader::start(opened.reader.clone(), &pools, bell.doorbell(), bell.waker());
    let reader = reader.map_err(StartError::Thread)?;
    let (notices, to_be_read) = sync_channel(NOTICES);
    let engine = Engine::new(Parts {
        clock,
        replica,
        store: opened.reader,
        last: opened.stored.last.index,
        journal: Journal::new(storage, pools.rows, applied),
        reader,
        from_clients: ends.from_clients,
        from_peers: ends.from_peers,
        clients: Clients::new(ends.to_clients, Scribe::new(pools.to_clients), Arc::clone(&counters)),
        peers: Peers::new(&identity, ends.to_peers, Scribe::new(pools.to_peers), Arc::clone(&counters)),
        pools,
        client_pool_bytes: config.client_pool_bytes,
        checkpoint_every: config.checkpoint,
        identity,
        counters,
        bell,
        sleeper,
        asked,
        notices,
    });
    sockets.start(config, stopper, to_be_read, move || engine.run())
}

fn start_witness(config: &Config) -> Result<Node, StartError> {
    let clock = Clock::start();
    let opened = storage::open_terms(&config.dir, &config.identity)?;
    let replica = state::restore_witness(&config.identity, &opened, clock)?;
    let pools = WitnessPools::new(config);
    let (sockets, around) = surroundings(config, clock, (pools.clients, pools.peers))?;
    let Surroundings { bell, sleeper, asked, identity, counters, ends } = around;
    let stopper = Stopper { asked: Arc::clone(&asked), engine: Arc::clone(&sleeper) };
    let writer = TermsWriter::start(opened.file, bell.doorbell(), bell.waker()).map_err(StartError::Thread)?;
    let (notices, to_be_read) = sync_channel(NOTICES);
    let witness = Witness::new(WitnessParts {
        clock,
        replica,
        terms: opened.terms,
        writer,
        from_clients: ends.from_clients,
        from_peers: ends.from_peers,
        clients: Clients::new(ends.to_clients, Scribe::new(pools.to_clients), Arc::clone(&counters)),
        peers: Peers::new(&identity, ends.to_peers, Scribe::new(pools.to_peers), Arc::clone(&counters)),
        identity,
        counters,
        bell,
        sleeper,
        asked,
        notices,
    });
    sockets.start(config, stopper, to_be_read, move || witness.run())
}

/// What an engine of either kind has around it.
struct Surroundings {
    bell: Arc<Bell>,
    sleeper: Arc<Notify>,
    asked: Arc<AtomicBool>,
    identity: Arc<Identity>,
    counters: Arc<Counters>,
    ends: Ends,
}

/// The engine's ends of the rings to and from sockets.
struct Ends {
    from_clients: Inbox<Event, EVENTS>,
    from_peers: Inbox<Event, EVENTS>,
    to_clients: Outbox<Command, COMMANDS>,
    to_peers: Outbox<Command, COMMANDS>,
}

/// The other ends, and where the node listens.
struct Sockets {
    clients: ClientSockets,
    peers: PeerSockets,
    addresses: Vec<SocketAddr>,
}

/// Binds the port and makes the rings; what sockets read lies in the pools of clients and of peers.
fn surroundings(
    config: &Config,
    clock: Clock,
    (clients, peers): (StaticPool, StaticPool),
) -> Result<(Sockets, Surroundings), StartError> {
    let (listeners, addresses) = bind(&config.listen)?;
    let sleeper = Arc::new(Notify::new());
    let identity = Arc::new(config.identity.clone());
    let bell = Arc::new(Bell::new(Arc::clone(&sleeper)));
    let (client_bell, peer_bell) = (Arc::<Bell>::default(), Arc::<Bell>::default());
    let (client_events, from_clients) = many_to_one(&bell);
    let (peer_events, from_peers) = many_to_one(&bell);
    let (to_clients, client_commands) = one_to_one(&client_bell, &sleeper);
    let (to_peers, peer_commands) = one_to_one(&peer_bell, &sleeper);
    let counters = Arc::<Counters>::default();
    let (handover, accepted) = mpsc::unbounded_channel();
    let clients = ClientSockets {
        side: SocketSide {
            pool: clients,
            events: client_events,
            commands: client_commands,
            bell: client_bell,
            counters: Arc::clone(&counters),
        },
        listeners,
        identity: Arc::clone(&identity),
        tls: config.tls.clone(),
        max_clients: config.connections,
        peers: handover,
    };
    let peers = PeerSockets {
        side: SocketSide {
            pool: peers,
            events: peer_events,
            commands: peer_commands,
            bell: peer_bell,
            counters: Arc::clone(&counters),
        },
        identity: Arc::clone(&identity),
        tls: config.tls.clone(),
        accepted,
        clock,
    };
    let ends = Ends { from_clients, from_peers, to_clients, to_peers };
    let asked = Arc::new(AtomicBool::new(false));
    Ok((Sockets { clients, peers, addresses }, Surroundings { bell, sleeper, asked, identity, counters, ends }))
}

impl Sockets {
    fn start<F: Future<Output = Result<(), NodeError>>>(
        self,
        config: &Config,
        stopper: Stopper,
        notices: Receiver<Notice>,
        engine: impl FnOnce() -> F + Send + 'static,
    ) -> Result<Node, StartError> {
        let Self { clients, peers, addresses } = self;
        let threads = layout::start(config.threads, clients, peers, engine).map_err(StartError::Thread)?;
        Ok(Node { addresses, stopper, threads, notices: Some(notices) })
    }
}

/// Connections that the system makes and keeps until they are accepted. One beyond is made a second later, so a crowd that
/// comes at once is not to fill it before another node comes.
const BACKLOG: i32 = 1_024;

/// Binds every address.
fn bind(addresses: &[SocketAddr]) -> Result<(Vec<TcpListener>, Vec<SocketAddr>), StartError> {
    let bind = |&address: &SocketAddr| {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        // A node that was killed is back while its old connections are still being forgotten.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        let listener = TcpListener::from(socket);
        let local = listener.local_addr()?;
        Ok((listener, local))
    };
    addresses
        .iter()
        .map(|address| bind(address).map_err(|source| StartError::Listen { address: *address, source }))
        .collect()
}
