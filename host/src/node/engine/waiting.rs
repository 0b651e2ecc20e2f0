//! A node that is suspect waits for others, perhaps for ever: it says for whom.

use super::Engine;
use crate::node::notice::{Notice, Until};
use eventstream_core::time::{Duration, Instant};
use std::sync::mpsc::SyncSender;

/// An ordinary start is over by then, and nobody needs to read of it.
const ORDINARY: Duration = Duration::from_secs(2);

/// What was said last, and to whom.
#[derive(Debug)]
pub(crate) struct Waiting {
    notices: SyncSender<Notice>,
    /// When the node is worth a word.
    from: Instant,
    /// There was nothing on the disk.
    is_new: bool,
    said: Option<Notice>,
}

impl Waiting {
    /// A node that starts now.
    pub(super) fn new(notices: SyncSender<Notice>, now: Instant, is_new: bool) -> Self {
        Self { notices, from: now + ORDINARY, is_new, said: None }
    }

    /// Says it, if it is not what was said last.
    fn say(&mut self, notice: Notice) {
        if self.said.as_ref() != Some(&notice) {
            // Who has not read what was said before gets it the next time, unless nobody reads at all.
            if self.notices.try_send(notice.clone()).is_ok() {
                self.said = Some(notice);
            }
        }
    }
}

impl Engine {
    /// Says what the node waits for, if that has changed.
    pub(super) fn tell_waiting(&mut self) {
        if self.now < self.waiting.from {
            return;
        }
        if self.replica.raft().is_suspect() {
            let (is_new, until) = (self.waiting.is_new, self.waits_until());
            self.waiting.say(Notice::Waits { is_new, until });
        } else if self.waiting.said.is_some() {
            self.waiting.say(Notice::Settled);
        }
    }

    fn waits_until(&self) -> Until {
        let missing: Vec<_> =
            self.peers.iter().filter(|peer| !peer.is_connected()).map(|peer| peer.member.id).collect();
        match self.replica.raft().leader() {
            _ if !missing.is_empty() => Until::Connected(missing),
            Some(leader) => Until::Cleared(leader),
            None => Until::Led,
        }
    }
}
