//! A node that waits for others, perhaps for ever, says for whom: while it is suspect, and while nobody leads.

use super::notice::{Notice, Until};
use super::peers::Peers;
use eventstream_core::id::NodeId;
use eventstream_core::raft::Raft;
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
    pub(crate) fn new(notices: SyncSender<Notice>, now: Instant, is_new: bool) -> Self {
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

    /// Says what the node waits for, if that has changed.
    pub(crate) fn tell(&mut self, now: Instant, raft: &Raft, peers: &Peers) {
        if now < self.from {
            return;
        }
        let leader = raft.leader();
        let since = *self.leaderless.get_or_insert(now);
        if leader.is_some() {
            self.leaderless = None;
        }
        if raft.is_suspect() {
            let until = waits_until(leader, peers);
            self.say(Notice::Waits { is_new: self.is_new, until });
            return;
        }
        match (leader, &self.said) {
            (_, Some(Notice::Waits { .. })) => self.say(Notice::Settled),
            (Some(leader), Some(Notice::Leaderless { .. })) => self.say(Notice::Led(leader)),
            (None, _) if since + ORDINARY <= now => self.say(Notice::Leaderless { missing: missing(peers) }),
            _ => {}
        }
    }
}

fn waits_until(leader: Option<NodeId>, peers: &Peers) -> Until {
    let missing = missing(peers);
    match leader {
        _ if !missing.is_empty() => Until::Connected(missing),
        Some(leader) => Until::Cleared(leader),
        None => Until::Led,
    }
}

/// The nodes that are not connected.
fn missing(peers: &Peers) -> Vec<NodeId> {
    peers.iter().filter(|peer| !peer.is_connected()).map(|peer| peer.member.id).collect()
}
