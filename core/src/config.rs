//! Every bound of this crate in one place: the format's limits, the build's ceilings, and the times of the design.
//!
//! Three kinds of number live here and are not to be confused:
//!
//! - **limits of the format** hold on every node and every version of it;
//! - **ceilings of the build** bound memory and never a decision: a node that would need more refuses to start;
//! - **cluster parameters** ([`Parameters`]) decide what is accepted, so all nodes must hold the same.

use crate::id::Epoch;
use crate::time::Duration;
use serde::{Deserialize, Serialize};

/// Events in one batch, at most. An outcome is a mask of 64 bits.
pub const MAX_BATCH_EVENTS: usize = 64;
/// Payload of one frame in bytes, at most.
pub const MAX_FRAME_PAYLOAD: usize = 32_768;
/// Bytes of a topic's name, 1 to this many.
pub const MAX_TOPIC: usize = 127;
/// Bytes of a key, at most.
pub const MAX_KEY: usize = 511;
/// Bytes of an event's payload, at most. Any legal event fits one frame.
pub const MAX_EVENT_PAYLOAD: usize = 31_744;
/// The largest index, term, offset, sequence, batch id or time that the wire carries. Counters that were decoded can be
/// added to without overflow, and every language has a signed integer that holds them.
pub const MAX_COUNTER: u64 = i64::MAX as u64;
/// Payload of a control message's frame in bytes, at most: the receipts of 64 runs or the status of 8 members.
pub const MAX_CONTROL_PAYLOAD: usize = 4_096;
/// Bytes of a member's address (`host:port`), at most.
pub const MAX_ADDRESS: usize = 255;
/// Bytes of a free text (a version's name, the words of a refusal), at most.
pub const MAX_TEXT: usize = 255;

/// Topics in one message, at most.
pub const MAX_LISTED_TOPICS: usize = 29;
/// Counters in one message, at most.
pub const MAX_LISTED_COUNTERS: usize = 64;
/// Bytes of a counter's name, 1 to this many.
pub const MAX_COUNTER_NAME: usize = 48;

/// Members of one shard, at most (voters, learners and the witness together).
pub const MAX_MEMBERS: usize = 8;
/// Entries in one append message, at most: 1 MiB of frames.
pub const MAX_APPEND_ENTRIES: usize = 32;
/// Entries sent to one peer and not yet answered, at most. With the largest frames this is 8 MiB on the wire and in
/// the peer's receive pool; with ordinary ones it covers several syncs of the peer's disk.
pub const MAX_INFLIGHT_ENTRIES: u64 = 256;
/// Rows of a snapshot in one message, at most: with the longest ones they fit one frame.
pub const MAX_SNAPSHOT_ROWS: usize = 64;
/// Changes of term in one message to a witness, at most. More follow in the next.
pub const MAX_SENT_RUNS: usize = 4;
/// Writes that were handed out and not yet reported, at most. What changes beyond them is written together when one of
/// them is reported; a storage queue of this length is never full.
pub const MAX_OPEN_WRITES: usize = 32;
/// Changes of term that are remembered in memory; for older entries the store is asked.
pub const MAX_TERM_RUNS: usize = 64;
/// Runs remembered for each producer, so that a duplicate is answered with its original offset.
pub const REMEMBERED_RUNS: usize = 8;

/// Epochs above that of an evicted producer that are given to nobody: lives that it may have counted by itself, and that the
/// cluster had not heard of.
pub const EPOCHS_SET_ASIDE: u32 = 1_024;
/// Producers in a higher epoch are never evicted: those that are not known begin above the epochs of all that were, and half of
/// all epochs are left to them whatever anybody has used.
pub const MAX_EVICTED_EPOCH: Epoch = Epoch(u32::MAX / 2);
/// A table of producers is nearly full when at most this part of it is free: room for those that come while a decision to
/// evict is on its way, and little enough that nobody is forgotten who is not in the way.
pub const EVICTION_SHARE: u32 = 8;
/// Between two looks at the table for producers to be evicted: each reads all of it.
pub const EVICTION_PAUSE: Duration = Duration::from_millis(200);

/// A client's small batch waits at most this long for others to share an entry with.
pub const BATCH_DELAY: Duration = Duration::from_millis(1);
/// A client's batch of at least this many events becomes an entry as it is, ...
pub const PASS_ON_EVENTS: usize = 16;
/// ... and so does one of at least this many bytes of payload.
pub const PASS_ON_BYTES: usize = 4_096;

/// The leader's heartbeat.
pub const HEARTBEAT: Duration = Duration::from_millis(150);
/// A follower's patience without a word from its leader: three heartbeats, to which each node adds its own share
/// of [`PATIENCE_SPREAD`].
pub const PATIENCE: Duration = Duration::from_millis(450);
/// The part of the patience that differs between nodes.
pub const PATIENCE_SPREAD: Duration = Duration::from_millis(60);
/// A failed pre-vote or vote is tried again after at least this, ...
pub const RETRY_MIN: Duration = Duration::from_millis(20);
/// ... and at most this.
pub const RETRY_MAX: Duration = Duration::from_millis(60);
/// After the leader's connection was reset, a follower waits its rank times this before it asks for pre-votes.
pub const RESET_RANK_STEP: Duration = Duration::from_millis(10);
/// A voter that still holds a lease keeps a pre-vote request for this long, in case its own lease ends.
pub const KEPT_REQUEST: Duration = Duration::from_millis(100);
/// Members that are all new wait this long for the rest before a majority of them founds the cluster: a node that is up, and
/// knows of entries, has spoken by then several times.
pub const FOUNDING_WAIT: Duration = Duration::from_secs(3);
/// Wall clocks count as agreeing when they lie within this of each other.
pub const WALL_CLOCK_AGREEMENT: Duration = Duration::from_secs(5);
/// What a wall clock said counts for this long. Leaders hear it with every answer to a heartbeat.
pub const WALL_CLOCK_MEMORY: Duration = Duration::from_secs(10);

const _: () = assert!(MAX_BATCH_EVENTS <= 64, "an outcome is a 64-bit mask");
const _: () = assert!(
    MAX_TOPIC + MAX_KEY + MAX_EVENT_PAYLOAD + 256 <= MAX_FRAME_PAYLOAD,
    "any legal event fits one frame, with its heads"
);
const _: () = assert!(MAX_CONTROL_PAYLOAD <= MAX_FRAME_PAYLOAD);
const _: () = assert!(10 + 5 + 1 + MAX_LISTED_TOPICS * (1 + MAX_TOPIC + 10) <= MAX_CONTROL_PAYLOAD);
const _: () = assert!(10 + 5 + 1 + MAX_LISTED_COUNTERS * (1 + MAX_COUNTER_NAME + 10) <= MAX_CONTROL_PAYLOAD);
const _: () = assert!(MAX_APPEND_ENTRIES as u64 <= MAX_INFLIGHT_ENTRIES);
const _: () = assert!(HEARTBEAT.as_micros() * 3 <= PATIENCE.as_micros());

/// What affects a decision at apply. The same on every node of a cluster; chosen when the cluster is initialised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameters {
    /// Producers that the cluster remembers. A new one beyond them is refused, retryably.
    pub producers: u32,
    /// Topics of the cluster.
    pub topics: u32,
    /// Largest payload of an event in bytes, at most [`MAX_EVENT_PAYLOAD`].
    pub event_payload: u32,
    /// A producer that was not heard of for this span of log time, in microseconds, may be evicted to make room for others.
    #[serde(default = "default_producer_idle_us")]
    pub producer_idle_us: u64,
}

impl Parameters {
    /// Seven days: longer than a device is cut off or switched off in the ordinary course of things.
    pub const DEFAULT_PRODUCER_IDLE: Duration = Duration::from_secs(7 * 24 * 3_600);
}

const fn default_producer_idle_us() -> u64 {
    Parameters::DEFAULT_PRODUCER_IDLE.as_micros()
}

impl Default for Parameters {
    /// 4,096 producers, 1,024 topics, the largest payload of the format, seven days.
    fn default() -> Self {
        Self {
            producers: 4_096,
            topics: 1_024,
            event_payload: MAX_EVENT_PAYLOAD as u32,
            producer_idle_us: default_producer_idle_us(),
        }
    }
}
