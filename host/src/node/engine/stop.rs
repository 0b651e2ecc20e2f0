//! The end of a node: a leader takes nothing new and hands over; then other nodes are left, what is applied is written,
//! storage closes, and only then do the connections of clients go.

use super::Engine;
use crate::node::NodeError;
use crate::node::event::Command;
use core::sync::atomic::{AtomicBool, Ordering};
use eventstream_core::config::PATIENCE;
use eventstream_core::time::Instant;
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
    /// The node leads no more, or is about to: until another leads, or this time has come.
    HandingOver { until: Instant },
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

    /// Whether the node has begun to stop: it takes nothing new from clients.
    pub(super) fn has_begun(&self) -> bool {
        self.stage != Stage::Running
    }

    /// Whether the node takes part no more: all that is left is to write.
    pub(super) fn is_closing(&self) -> bool {
        matches!(self.stage, Stage::Closing | Stage::Over)
    }

    /// When a leader that hands over stops to wait for it.
    pub(super) fn next_deadline(&self) -> Instant {
        if let Stage::HandingOver { until } = self.stage { until } else { Instant::FAR_FUTURE }
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
    /// Begins to stop: a leader that knows of another node to lead hands over first.
    pub(super) fn begin_to_stop(&mut self) {
        match self.replica.transfer_leadership(self.now, None) {
            Ok(_) => self.stop.stage = Stage::HandingOver { until: self.now + PATIENCE },
            Err(_) => self.close(),
        }
    }

    /// Closes when another node leads, or when that takes too long. This node's vote may be needed until then. What it had
    /// taken as the leader is in the log of the next one; clients are told to ask there.
    pub(super) fn close_if_handed_over(&mut self) {
        let is_led = self.replica.raft().leader().is_some_and(|leader| leader != self.identity.node);
        if let Stage::HandingOver { until } = self.stop.stage
            && (is_led || until <= self.now)
        {
            self.close();
        }
    }

    fn close(&mut self) {
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
        let read = self.reader.stop().map_err(NodeError::Read);
        self.journal.join().map_err(NodeError::Storage).and(read)
    }

    /// The node cannot go on. If storage failed, it says why.
    pub(super) fn fail(self, error: NodeError) -> NodeError {
        let _panicked_at_worst_and_then_that_is_the_error = self.reader.stop();
        match (error, self.journal.join()) {
            (NodeError::Panicked, Err(cause)) => NodeError::Storage(cause),
            (error, _) => error,
        }
    }
}
