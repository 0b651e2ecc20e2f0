//! A node that waits for others, perhaps for ever, says for whom: while it is suspect, and while nobody leads.

use super::Engine;
use crate::node::notice::{Notice, Until};
use eventstream_core::id::NodeId;
use eventstream_core::time::{Duration, Instant};
use std::sync::mpsc::SyncSender;

/// An ordinary start, or change of leaders, is over by then, and nobody needs to read of it.
const ORDINARY: Duration = Duration::from_secs(2);

/// What was said last, and to whom.
#[derive(Debug)]
pub(crate) struct Waiting {
    notices: SyncSender<Notice>,
    /// When the node is worth a word.
    from: Instant,
    /// There was nothing on the disk.
    is_new: bool,
    /// Since when nobody is known to lead.
    leaderless: Option<Instant>,
    said: Option<Notice>,
}

impl Waiting {
    /// A node that starts now.
    pub(super) fn new(notices: SyncSender<Notice>, now: Instant, is_new: bool) -> Self {
        Self { notices, from: now + ORDINARY, is_new, leaderless: None, said: None }
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
        let leader = self.replica.raft().leader();
        let since = *self.waiting.leaderless.get_or_insert(self.now);
        if leader.is_some() {
            self.waiting.leaderless = None;
        }
        if self.replica.raft().is_suspect() {
            let (is_new, until) = (self.waiting.is_new, self.waits_until());
            self.waiting.say(Notice::Waits { is_new, until });
            return;
        }
        match (leader, &self.waiting.said) {
            (_, Some(Notice::Waits { .. })) => self.waiting.say(Notice::Settled),
            (Some(leader), Some(Notice::Leaderless { .. })) => self.waiting.say(Notice::Led(leader)),
            (None, _) if since + ORDINARY <= self.now => {
                let missing = self.missing();
                self.waiting.say(Notice::Leaderless { missing });
            }
            _ => {}
        }
    }

    fn waits_until(&self) -> Until {
        let missing = self.missing();
        match self.replica.raft().leader() {
            _ if !missing.is_empty() => Until::Connected(missing),
            Some(leader) => Until::Cleared(leader),
            None => Until::Led,
        }
    }

    /// The nodes that are not connected.
    fn missing(&self) -> Vec<NodeId> {
        self.peers.iter().filter(|peer| !peer.is_connected()).map(|peer| peer.member.id).collect()
    }
}
