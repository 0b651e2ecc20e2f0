//! The end of a node: what is under way is refused, other nodes are left, what is applied is written, storage closes, and
//! only then do the connections of clients go.

use super::Engine;
use crate::node::NodeError;
use crate::node::event::Command;
use core::sync::atomic::{AtomicBool, Ordering};
use eventstream_core::wire::{Control, EndReason, Refusal, SubscriptionEnd};
use std::sync::Arc;

/// How far the end has come.
#[derive(Debug)]
pub(crate) struct Stop {
    /// Somebody wants the node to stop.
    asked: Arc<AtomicBool>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The node works.
    Running,
    /// Storage was asked to end.
    Closing,
    /// Storage has ended.
    Over,
}

impl Stop {
    /// The node works until `asked` is set.
    pub(crate) fn new(asked: Arc<AtomicBool>) -> Self {
        Self { asked, stage: Stage::Running }
    }

    /// Whether the node is to stop and has not begun to.
    pub(super) fn is_new(&self) -> bool {
        self.stage == Stage::Running && self.asked.load(Ordering::Acquire)
    }

    /// Whether the node has begun to stop.
    pub(super) fn has_begun(&self) -> bool {
        self.stage != Stage::Running
    }

    /// Whether everything is on disk, and the loop is to end.
    pub(super) fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    /// Storage has ended because it was asked to.
    pub(super) fn storage_has_stopped(&mut self) {
        self.stage = Stage::Over;
    }
}

impl Engine {
    /// Begins to stop.
    pub(super) fn begin_to_stop(&mut self) {
        self.stop.stage = Stage::Closing;
        self.refuse_everything(Refusal::Stopping);
        for subscription in self.subscriptions.drain() {
            let end = SubscriptionEnd { subscription: subscription.number, reason: EndReason::Stopping };
            self.clients.say(subscription.conn, &Control::SubscriptionEnd(end));
        }
        self.clients.outbox.send(Command::Leave);
        self.peers.outbox.send(Command::Leave);
        self.write_last_checkpoint();
        self.journal.stop();
    }

    /// Everything is on disk: ends the threads that have the store open. The connections go when the engine is dropped.
    pub(super) fn finish(self) -> Result<(), NodeError> {
        self.reader.stop();
        self.journal.join().map_err(NodeError::Storage)
    }

    /// The node cannot go on. If storage failed, it says why.
    pub(super) fn fail(self, error: NodeError) -> NodeError {
        self.reader.stop();
        match (error, self.journal.join()) {
            (NodeError::Panicked, Err(cause)) => NodeError::Storage(cause),
            (error, _) => error,
        }
    }
}
