//! Where a node's frames live: one pool of 64 KiB blocks for each kind of holder, so that none can starve another.

use super::event::{Command, Event};
use super::mailbox::{COMMANDS, EVENTS};
use super::socket::CLIENT_KERNEL_BYTES;
use super::state;
use crate::config::{Config, MemoryPlan};
use crate::identity::Identity;
use crate::storage::MAX_TERMS_LEN;
use eventstream_core::config::{MAX_APPEND_ENTRIES, Parameters};
use eventstream_core::pool::{Block, BlockMut, Pool, Slot};
use eventstream_core::wire::MAX_FRAME_LEN;

/// Bytes of a block. The longest frame fits, and a read of a busy socket fills it with many.
pub(crate) const BLOCK_LEN: usize = 65_536;
/// Bytes of a block of the reader: two frames fit, whatever their lengths. Of the longest a block above takes one.
const PAIR_LEN: usize = 2 * MAX_FRAME_LEN;

/// Bytes that a client may have on their way to it unread; beyond, its subscriptions fall back to the reader. A client
/// that has twice as much unread is closed.
pub(crate) const CLIENT_QUEUE: usize = 1 << 20;
/// Bytes that may wait for a peer's link: what the protocol may have in flight (8 MiB) and what it says besides. A link
/// with more is closed, since whatever reads there does not keep up.
pub(crate) const PEER_QUEUE: usize = 12 << 20;
/// Bytes of batches that a client may have unanswered. It is told so in the welcome.
pub(crate) const CLIENT_INFLIGHT: u32 = 1 << 20;

/// A frame in a block of one of the pools below, shared.
pub(crate) type SharedFrame = Block<'static>;
/// A frame, or room for one, that only its holder sees.
pub(crate) type OwnFrame = BlockMut<'static>;
/// A pool whose memory is never given back to the system: it lives as long as the process.
pub(crate) type StaticPool = &'static Pool<'static>;

/// The pools of a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pools {
    /// What clients sent. Its batches go on into the log as they are.
    pub(crate) clients: StaticPool,
    /// What other nodes sent. Its entries go on into the log as they are.
    pub(crate) peers: StaticPool,
    /// Entries that this node makes: small batches joined, commands, empty entries.
    pub(crate) entries: StaticPool,
    /// Messages to clients.
    pub(crate) to_clients: StaticPool,
    /// Answers to the handshakes of other nodes. What is said to them later has a [pool](link_pool) for each of them.
    pub(crate) to_peers: StaticPool,
    /// What the reader has read for other nodes and for the engine: a share of [`SHARE_BLOCKS`] for each of them.
    pub(crate) reader: StaticPool,
    /// What the reader has read for subscriptions.
    pub(crate) feeds: StaticPool,
    /// Rows of the applied state on their way to storage.
    pub(crate) rows: StaticPool,
}

/// Puts frames one after the other into blocks, so that they pin little more than themselves.
#[derive(Debug)]
pub(crate) struct Packer {
    pool: StaticPool,
    block: Option<OwnFrame>,
}

impl Packer {
    /// One that packs into blocks of `pool`.
    pub(crate) fn new(pool: StaticPool) -> Self {
        Self { pool, block: None }
    }

    /// Where its blocks come from.
    pub(crate) fn pool(&self) -> StaticPool {
        self.pool
    }

    /// Room for a frame of `len` bytes, at most a block, at the front of what is given; what of it is used is to be
    /// split off. `None` if the pool has no block.
    pub(crate) fn room(&mut self, len: usize) -> Option<&mut OwnFrame> {
        if !self.block.as_mut().is_some_and(|block| block.len() >= len || block.reclaim()) {
            self.block = None;
            self.block = Some(self.pool.take()?);
        }
        self.block.as_mut()
    }

    /// A copy of a frame; `None` if the pool has no block.
    pub(crate) fn pack(&mut self, bytes: &[u8]) -> Option<SharedFrame> {
        let mut frame = self.room(bytes.len())?.split_to(bytes.len());
        frame.copy_from_slice(bytes);
        Some(frame.freeze())
    }
}

/// How few blocks are left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shortage {
    /// Enough.
    None,
    /// Less than a quarter: what is kept for convenience is to be let go.
    Some,
    /// Less than an eighth: what can be read from disk again is to be let go.
    Severe,
}

/// Blocks of each pool that the configuration does not size.
const ENTRY_BLOCKS: usize = 64;
const TO_CLIENT_BLOCKS: usize = 64;
const TO_PEER_BLOCKS: usize = 2;
/// Messages to one node that have not left: all that the protocol may have in flight, each with one entry, and the
/// heartbeats of some minutes.
const LINK_BLOCKS: usize = 4;
/// What the reader has read for one other node, or for the engine: one append, which begins in what others left of a block.
const SHARE_BLOCKS: usize = entry_blocks(MAX_APPEND_ENTRIES) + 1;
const FEED_BLOCKS: usize = 64;
/// Beside room for a checkpoint of everything.
const ROW_BLOCKS: usize = 16;

impl Pools {
    /// Reserves the memory. The system provides it only when it is touched.
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            clients: pool(config.client_pool_bytes / BLOCK_LEN),
            peers: pool(config.peer_pool_bytes / BLOCK_LEN),
            entries: pool(ENTRY_BLOCKS),
            to_clients: pool(TO_CLIENT_BLOCKS),
            to_peers: pool(TO_PEER_BLOCKS),
            reader: pool_of(reader_blocks(&config.identity), PAIR_LEN),
            feeds: pool(FEED_BLOCKS),
            rows: pool(row_blocks(&config.identity.parameters)),
        }
    }

    /// Whether frames may be lent to subscribers, who may hold them for long. Those that read are then served by the
    /// reader; those that do not keep what they have, and it leaves enough for everybody else.
    pub(crate) fn can_lend(&self) -> bool {
        self.shortage() == Shortage::None && !self.feeds_are_short()
    }

    /// Whether messages to clients may soon find no room any more, or what is read for their subscriptions.
    pub(crate) fn clients_hold_most(&self) -> bool {
        [self.to_clients, self.feeds].into_iter().any(|pool| pool.free() * 4 < pool.capacity())
    }

    /// Whether what is read for a subscription is to be little.
    pub(crate) fn feeds_are_short(&self) -> bool {
        self.feeds.free() * 2 < self.feeds.capacity()
    }

    /// How few blocks are left for the log's newest entries.
    pub(crate) fn shortage(&self) -> Shortage {
        let less_than = |part| {
            [self.clients, self.peers, self.entries].into_iter().any(|pool| pool.free() * part < pool.capacity())
        };
        match (less_than(4), less_than(8)) {
            (false, _) => Shortage::None,
            (true, false) => Shortage::Some,
            (true, true) => Shortage::Severe,
        }
    }
}

/// The pools of a witness.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WitnessPools {
    /// What clients sent. All of it is answered, or refused, at once.
    pub(crate) clients: StaticPool,
    /// What other nodes sent: terms, and now and then a configuration.
    pub(crate) peers: StaticPool,
    /// Messages to clients.
    pub(crate) to_clients: StaticPool,
    /// Answers to the handshakes of other nodes.
    pub(crate) to_peers: StaticPool,
}

impl WitnessPools {
    /// Reserves the memory. The system provides it only when it is touched.
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            clients: pool(config.client_pool_bytes / BLOCK_LEN),
            peers: pool(config.peer_pool_bytes / BLOCK_LEN),
            to_clients: pool(TO_CLIENT_BLOCKS),
            to_peers: pool(TO_PEER_BLOCKS),
        }
    }
}

/// The code that has been run, its libraries, and the stacks of the threads: what a node has resident before it holds
/// anything.
const PROGRAM: usize = 15 << 20;

/// What the node's pools add to the configuration's plan.
pub(crate) fn plan(config: &Config) -> MemoryPlan {
    let identity = &config.identity;
    let mut plan = MemoryPlan::default();
    plan.add("blocks for entries made here", ENTRY_BLOCKS * BLOCK_LEN);
    plan.add("blocks for reads from disk", reader_blocks(identity) * PAIR_LEN + FEED_BLOCKS * BLOCK_LEN);
    plan.add("blocks for rows of the applied state", row_blocks(&identity.parameters) * BLOCK_LEN);
    add_common(&mut plan, config);
    plan
}

/// The same for a witness.
pub(crate) fn witness_plan(config: &Config) -> MemoryPlan {
    let mut plan = MemoryPlan::default();
    // The engine's, those that wait to be written, and those that are being written, as they are and as bytes.
    plan.add("terms", 4 * MAX_TERMS_LEN);
    add_common(&mut plan, config);
    plan
}

fn add_common(plan: &mut MemoryPlan, config: &Config) {
    let (peers, clients) = (config.identity.peers().count(), config.connections);
    plan.add("blocks for messages to clients", TO_CLIENT_BLOCKS * BLOCK_LEN);
    plan.add("blocks for messages to other nodes", (TO_PEER_BLOCKS + peers * LINK_BLOCKS) * BLOCK_LEN);
    plan.add("rings between sockets and engine", 2 * (EVENTS * size_of::<Event>() + COMMANDS * size_of::<Command>()));
    plan.add("the program itself", PROGRAM);
    plan.add_kernel(format!("buffers of {clients} connections of clients"), clients * CLIENT_KERNEL_BYTES);
}

/// A checkpoint is one write, so all of it must find room at once.
fn row_blocks(parameters: &Parameters) -> usize {
    ROW_BLOCKS + 2 * state::checkpoint_bytes(parameters).div_ceil(BLOCK_LEN)
}

/// A share for each other node and one for the engine, and the block that the reader is packing.
fn reader_blocks(identity: &Identity) -> usize {
    (identity.peers().count() + 1) * SHARE_BLOCKS + 1
}

/// Blocks of the reader's pool that so many entries take at most.
pub(crate) const fn entry_blocks(entries: usize) -> usize {
    entries.div_ceil(PAIR_LEN / MAX_FRAME_LEN)
}

/// The pool of what is said to one other node, so that one that reads slowly takes no room from the others.
pub(crate) fn link_pool() -> StaticPool {
    pool(LINK_BLOCKS)
}

/// A pool of `blocks` blocks in leaked memory.
pub(crate) fn pool(blocks: usize) -> StaticPool {
    pool_of(blocks, BLOCK_LEN)
}

fn pool_of(blocks: usize, block_len: usize) -> StaticPool {
    let memory = vec![0; blocks * block_len].leak();
    let slots = (0..blocks).map(|_| Slot::new()).collect::<Vec<_>>().leak();
    Box::leak(Box::new(Pool::new(memory, slots)))
}
