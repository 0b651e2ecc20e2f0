//! Control messages as frames.

use super::memory::{OwnFrame, SharedFrame, StaticPool};
use crate::checksum::CRC;
use eventstream_core::id::ShardId;
use eventstream_core::wire::{About, Control, MAX_CONTROL_LEN, Refusal, Refused};

/// The only shard for now.
pub(crate) const SHARD: ShardId = ShardId(0);

/// Writes messages one after the other into blocks of a pool.
#[derive(Debug)]
pub(crate) struct Scribe {
    pool: StaticPool,
    /// Room for the next messages.
    block: Option<OwnFrame>,
}

impl Scribe {
    /// A scribe that writes into blocks of `pool`.
    pub(crate) fn new(pool: StaticPool) -> Self {
        Self { pool, block: None }
    }

    /// Where its blocks come from.
    pub(crate) fn pool(&self) -> StaticPool {
        self.pool
    }

    /// The frame of `message`; `None` if the pool has no block for it.
    ///
    /// # Panics
    /// If the message breaks the rules of the format: it is one of ours.
    pub(crate) fn write(&mut self, message: &Control<'_>) -> Option<SharedFrame> {
        let has_room = |block: &OwnFrame| block.len() >= MAX_CONTROL_LEN;
        if !self.block.as_mut().is_some_and(|block| has_room(block) || block.reclaim()) {
            self.block = Some(self.pool.take()?);
        }
        let block = self.block.as_mut()?;
        let len = message.encode(SHARD, block, CRC).expect("a message of ours is valid, and there is room for it");
        Some(block.split_to(len).freeze())
    }
}

/// The frame of `message`, in memory of its own: for what is said before a connection is the engine's, or after.
pub(crate) fn encode(message: &Control<'_>) -> Vec<u8> {
    let mut frame = vec![0; MAX_CONTROL_LEN];
    let len = message.encode(SHARD, &mut frame, CRC).expect("a message of ours is valid, and there is room for it");
    frame.truncate(len);
    frame
}

/// The frame that ends a connection; `detail` is for people, and short.
pub(crate) fn refused_connection(reason: Refusal, detail: &str) -> Vec<u8> {
    encode(&Control::Refused(Refused { about: About::Connection, reason, detail }))
}
