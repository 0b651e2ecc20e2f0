//! A node: sockets, the engine that owns the [`replica`](eventstream_core::replica), storage and reader, and how they
//! start and stop.
//!
//! # The way of the data
//!
//! ```text
//!            frames                 events                  writes
//! clients --> socket ---ring------> engine ---ring--------> storage (RocksDB, group commit)
//! peers   --> socket ---ring------> owns    <--ring-------- persisted tokens
//!                                   replica ---ring-------> reader  (bounded reads of what memory no longer holds)
//! clients <-- socket <--ring------- and     <--ring-------- pieces
//! peers   <-- socket <--ring------- tail
//! ```
//!
//! 1. A **socket** task reads into a 64 KiB block of a fixed pool (`receive`), cuts it into frames in place, checks
//!    each of them whole (header, checksum, runs, records), and pushes it into the ring to the engine. What fails here
//!    costs its own connection and nothing else.
//! 2. The **engine** (`engine`) is one loop of short steps: drain inputs, step the replica, drain outputs. It owns
//!    everything that decides: the replica, the `tail` of the log (frames by index), the pending `acks`, the
//!    `subscriptions`. It never waits for a disk or a socket, and nobody else touches its state: there is no lock.
//! 3. **Storage** takes all that waits, syncs it as one batch and reports the token; the engine hands it to the
//!    replica, which then lets go of the votes, replies and commits that depended on it.
//! 4. Committed entries are applied in order; a receipt leaves for each batch of a client, a delivery for each
//!    subscription that follows live, a row of the topic index for storage.
//! 5. The **reader** thread reads what the tail no longer holds, in bounded pieces: for a peer that lags, for a
//!    subscription that catches up, and for the engine itself after a start.
//!
//! # Threads
//!
//! The same tasks and rings run in two layouts (`layout`): *shared* (two cores or fewer) has one thread with a
//! tokio current-thread runtime for sockets and engine; *split* gives clients' sockets, peers' sockets and engine a
//! thread each. Storage and reader have their own threads in both. Each ring has one producing and one consuming
//! thread; a consumer that sleeps is woken through the doorbell of the core (`mailbox`), one that is awake is not.
//!
//! # A witness
//!
//! It has the same sockets, and another loop (`witness`) in the place of the engine: no log, no reader, no subscriptions, and
//! a thread that writes the terms of entries in the place of storage.
//!
//! # Links between nodes
//!
//! Every node dials every other, and speaks only on the connections that it dialled: one connection for each ordered
//! pair of nodes (`links`). So each side sees on its own link, without asking anybody, that the other process is
//! gone: the link closes and the immediate redial is refused. That is the reset of the design's section 8. A link
//! that dies in silence is given up by the kernel after a second (`socket`), so that a healed network is dialled
//! anew and does not wait for the back-off of an old connection.
//!
//! # Bounds, and what happens at each
//!
//! | what | bound | when it is reached |
//! |---|---|---|
//! | connections of clients | setting | `Refused`, closed |
//! | connections of other nodes | 64 (`layout`) | closed |
//! | connections that have not said who they are | 256 (`listener`) | the oldest of the address that has most is `Refused`, closed |
//! | of these, in the middle of a TLS handshake | 32 (`turns`) | the oldest of the address that has most is closed |
//! | TLS handshakes that are computed | one step in four turns of everything else (`turns`) | they wait with nothing but a socket |
//! | a TLS handshake | 8 KiB of the other side (`tls`) | closed |
//! | a session of TLS | 31 KiB (`tls`), in the plan for each connection | it is not read without room for a record in the pool |
//! | open files | the sum of these and of storage's (`files`) | the node does not start; if a file is missing later, the oldest that has not said who it is goes |
//! | a frame that was begun | 5 s (`connection`) | `Refused`, closed |
//! | blocks for clients, for peers | two pools | sockets of that kind are not read (TCP back-pressure) until a block is free |
//! | ring sockets to engine | 1,024 events (`mailbox`) | sockets are not read |
//! | ring engine to sockets | 4,096 commands (`mailbox`) | the engine takes no new input until there is room |
//! | free space of the disk | a tenth of it, looked at once a second | `Refused`, retryable: publishes and openings of producers only |
//! | ring engine to storage | storage's | the engine takes nothing new from clients until there is room |
//! | proposed and not applied | half the clients' pool | batches wait, for 5 s at most; sockets are read while the pool has blocks |
//! | batches of one client without an answer | 1 MiB, told in the welcome | `Refused`, retryable |
//! | unread by a client | 1 MiB; 2 MiB | its subscriptions fall back to the reader; it is closed |
//! | of that, messages while blocks for them are three quarters in use | an eighth of what is left | it is closed |
//! | of that, read from disk for it | two pieces of 128 KiB, or of 32 KiB while half of those blocks are in use | its subscriptions wait until it has read |
//! | blocks of what clients have not read | three quarters | who has left something unread for longest, for 200 ms at least, is closed |
//! | queue of a peer's link | 12 MiB | appends are dropped (the protocol finds it by heartbeats), then the link is closed |
//! | of that, read from disk | one append | the next ones wait until it has left |
//! | of that, lent from memory | 64 KiB and an append while a pool of entries is three quarters in use | the next ones wait until it has left |
//! | messages on a peer's link | 4 blocks (`memory`) | the link is closed |
//! | tail | a quarter of the clients' pool | entries that are durable, applied and indexed go; a peer that still lacks them is fed by the reader |
//!
//! Whatever is refused or closed for one of these reasons is counted (`counters`); a client may ask for the numbers.
//!
//! # What can fail
//!
//! | where | what | then |
//! |---|---|---|
//! | socket | bad frame, wrong kind for the role, handshake or the rest of a frame too late | `Refused` where possible, that connection is closed |
//! | TLS | plain text, no certificate of the authority and no token, another node's certificate | `Refused` or an alert, closed |
//! | handshake of a peer | other cluster, unknown node, other incarnation | `Refused`, closed; the dialler goes on at a slow pace |
//! | engine | an append whose entries do not follow it | that connection is closed |
//! | engine | a committed entry that cannot be applied | [`NodeError::Apply`]: the node stops |
//! | storage | a write or a sync fails | [`NodeError::Storage`]: nothing is acknowledged any more, the node stops |
//! | reader | a read fails, a checksum is wrong, the thread panics | [`NodeError::Read`]: the node stops |

mod acks;
mod clients;
mod connection;
mod counters;
mod engine;
mod event;
mod excerpt;
mod files;
mod handshake;
mod journal;
mod layout;
mod legal;
mod links;
mod listener;
mod mailbox;
mod memory;
mod message;
mod newcomers;
mod notice;
mod peers;
mod reader;
mod receive;
mod recent;
mod send;
mod socket;
mod start;
mod state;
mod subscriptions;
mod tail;
mod telling;
mod turns;
mod waiting;
mod witness;

pub use notice::{Notice, Until};
pub use reader::ReadError;
pub use start::{StartError, memory_plan};

use crate::config::Config;
use crate::storage::StoreError;
use core::net::SocketAddr;
use core::sync::atomic::{AtomicBool, Ordering};
use eventstream_core::id::Index;
use eventstream_core::replica::ApplyError;
use layout::NodeThread;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use tokio::sync::Notify;

/// A running node.
///
/// Dropped, it goes on; it is stopped by [`Self::shutdown`], and [`Self::wait`] tells how it ended.
#[derive(Debug)]
pub struct Node {
    addresses: Vec<SocketAddr>,
    stopper: Stopper,
    threads: Vec<NodeThread>,
    notices: Option<Receiver<Notice>>,
}

/// Stops a node, from any thread.
#[derive(Clone, Debug)]
pub struct Stopper {
    asked: Arc<AtomicBool>,
    engine: Arc<Notify>,
}

impl Stopper {
    /// Asks the node to stop: what is under way is refused, what is applied is written, then the threads end. Returns
    /// at once.
    pub fn shutdown(&self) {
        self.asked.store(true, Ordering::Release);
        self.engine.notify_one();
    }
}

impl Node {
    /// Starts a node in its directory and listens.
    ///
    /// # Errors
    /// Why it cannot start. Nothing runs then.
    pub fn start(config: &Config) -> Result<Self, StartError> {
        start::start(config)
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What stops it, for a signal handler.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// What it has to say while it runs, for the first who asks; ends with the node. What is not read does not hold it up.
    pub fn notices(&mut self) -> Option<Receiver<Notice>> {
        self.notices.take()
    }

    /// Asks it to stop; [`Self::wait`] returns when it has.
    pub fn shutdown(&self) {
        self.stopper.shutdown();
    }

    /// Waits for the node to end. Blocks.
    ///
    /// # Errors
    /// Why it ended, if nobody asked it to.
    pub fn wait(self) -> Result<(), NodeError> {
        let mut outcome = Ok(());
        for thread in self.threads {
            let ended = thread.join().unwrap_or(Err(NodeError::Panicked));
            // The engine comes first, and knows best.
            outcome = outcome.and(ended);
        }
        outcome
    }
}

/// Why a node ended without being asked to. None of these is healed by the node itself.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Writing failed. Nothing that was not on disk before was acknowledged.
    #[error("storage failed: {0}")]
    Storage(#[source] StoreError),
    /// Reading failed.
    #[error("reading the log failed: {0}")]
    Read(#[source] ReadError),
    /// A committed entry cannot be applied: the log, or this program, is broken.
    #[error("entry {index} is committed and cannot be applied: {error}")]
    Apply {
        /// The entry.
        index: Index,
        /// Why.
        error: ApplyError,
    },
    /// What stands at an index of the log is no entry of that index.
    #[error("what the log holds at {0} is another entry, or none")]
    WrongEntry(Index),
    /// The listening port could not be used.
    #[error("the listening port cannot be used: {0}")]
    Socket(#[source] io::Error),
    /// A thread of the node has panicked: a mistake in this program.
    #[error("a thread of the node has panicked")]
    Panicked,
}
