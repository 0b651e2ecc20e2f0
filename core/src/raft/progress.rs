//! What a leader knows of one peer's log, and what it may send it.

use super::message::LogPosition;
use super::snapshot::Snapshot;
use crate::config::{MAX_APPEND_ENTRIES, MAX_INFLIGHT_ENTRIES};
use crate::id::Index;

/// How appends flow to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// It is not known where the logs agree: one append at a time.
    Probe,
    /// The logs agree: appends are sent ahead of their answers.
    Replicate,
    /// What the peer lacks is behind the horizon: it is sent rows of a snapshot, one message at a time.
    Snapshot,
}

/// A leader's view of one peer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    /// The peer has everything up to here on stable storage.
    matched: Index,
    /// The next entry to send: `matched < next`. While replicating, all before it were sent.
    next: Index,
    flow: Flow,
    /// While probing: the append before `next` that waits for its answer. Also the rows that do.
    probe: Option<Probe>,
    /// The snapshot that it is sent.
    transfer: Option<Transfer>,
    /// The commit index that the last append told.
    told_commit: Index,
    /// The next append is sent even if it is empty, for its answer.
    ask: bool,
    /// What the answer to the oldest heartbeat that waits for one is to show, ...
    watch: Option<Watch>,
    /// ... and to the newest.
    newest_watch: Option<Watch>,
}

#[derive(Clone, Copy, Debug)]
struct Probe {
    /// Entries that it carried.
    count: u64,
}

/// A snapshot on its way.
#[derive(Clone, Copy, Debug)]
struct Transfer {
    snapshot: Snapshot,
    /// The peer has the rows before this one.
    next: u32,
}

/// What had been sent when a heartbeat was. Its answer shows whether that has arrived.
#[derive(Clone, Copy, Debug)]
struct Watch {
    round: u64,
    next: Index,
    /// A probe was waiting for its answer.
    probed: bool,
}

/// How many entries a peer may be sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    /// In one append.
    at_once: u64,
    /// Before the first of them is answered.
    in_flight: u64,
}

impl Limit {
    /// Where their frames are sent.
    pub(super) const ENTRIES: Self = Self { at_once: MAX_APPEND_ENTRIES as u64, in_flight: MAX_INFLIGHT_ENTRIES };
    /// Where their terms are.
    pub(super) const TERMS: Self = Self { at_once: u64::MAX, in_flight: u64::MAX };
}

/// The entries of one append: `count` after `prev`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) prev: Index,
    pub(super) count: u64,
}

impl Progress {
    /// Nothing is known of the peer; the log is probed before `next`.
    pub(super) const fn new(next: Index) -> Self {
        Self {
            matched: Index::ZERO,
            next,
            flow: Flow::Probe,
            probe: None,
            transfer: None,
            told_commit: Index::ZERO,
            ask: false,
            watch: None,
            newest_watch: None,
        }
    }

    pub(super) fn matched(&self) -> Index {
        self.matched
    }

    pub(super) fn next(&self) -> Index {
        self.next
    }

    pub(super) fn flow(&self) -> Flow {
        self.flow
    }

    /// What to send now to a peer of a leader whose log ends at `last`, if anything.
    pub(super) fn sendable(&self, last: Index, commit: Index, limit: Limit) -> Option<Batch> {
        let prev = self.next.prev();
        let waiting = last.0.saturating_sub(prev.0);
        let count = match self.flow {
            Flow::Probe if self.probe.is_some() => return None,
            Flow::Snapshot => unreachable!("rows are to be sent"),
            Flow::Probe => waiting,
            Flow::Replicate => waiting.min(limit.in_flight.saturating_sub(prev.0 - self.matched.0)),
        };
        // A commit that has no entry to travel with travels alone, but not ahead of entries that are still to be sent.
        let news = self.flow == Flow::Probe || self.ask || waiting == 0 && self.told_commit < commit;
        let count = count.min(limit.at_once);
        (count > 0 || news).then_some(Batch { prev, count })
    }

    /// Says that `batch`, as [`sendable`](Self::sendable) gave it, was sent.
    pub(super) fn sent(&mut self, batch: Batch, commit: Index) {
        assert!(batch.prev == self.next.prev(), "{batch:?} does not follow what was sent");
        self.told_commit = commit;
        self.ask = false;
        match self.flow {
            Flow::Probe => self.probe = Some(Probe { count: batch.count }),
            Flow::Replicate => self.next = self.next.plus(batch.count),
            Flow::Snapshot => unreachable!("rows are sent"),
        }
    }

    /// The snapshot that it is sent.
    pub(super) fn sent_snapshot(&self) -> Option<Snapshot> {
        self.transfer.map(|transfer| transfer.snapshot)
    }

    /// Whether it is sent a snapshot. It is no longer when it has the entry before the `horizon`, or a later one.
    pub(super) fn is_behind(&mut self, horizon: Index) -> bool {
        if self.flow == Flow::Snapshot && self.matched > Index::ZERO && self.matched.next() >= horizon {
            (self.flow, self.probe, self.transfer) = (Flow::Replicate, None, None);
            self.next = self.matched.next();
        }
        self.flow == Flow::Snapshot
    }

    /// The first row to send now and how many, of the snapshot that there is; `None` while rows wait for their answer. No
    /// rows are left when the peer has them all, and has not said yet that they are on its disk.
    pub(super) fn rows_to_send(&mut self, snapshot: Snapshot, at_once: u16) -> Option<(u32, u16)> {
        let same = self.transfer.filter(|transfer| transfer.snapshot == snapshot && self.flow == Flow::Snapshot);
        let transfer = same.unwrap_or(Transfer { snapshot, next: 0 });
        if same.is_none() {
            (self.flow, self.probe, self.transfer) = (Flow::Snapshot, None, Some(transfer));
        }
        if self.probe.is_some() {
            return None;
        }
        self.probe = Some(Probe { count: 0 });
        Some((transfer.next, (snapshot.rows - transfer.next).min(at_once.into()) as u16))
    }

    /// The peer has the rows before `next` of the snapshot as of `last`. What it has said already is a late or a repeated
    /// answer, on which nothing may be sent: each of those would make another.
    pub(super) fn rows_taken(&mut self, last: LogPosition, next: u32) {
        let Some(transfer) = self.transfer.as_mut().filter(|transfer| transfer.snapshot.last == last) else { return };
        let next = next.min(transfer.snapshot.rows);
        if next != transfer.next {
            transfer.next = next;
            self.probe = None;
        }
    }

    /// The peer has everything up to `matched`. Whether that is news.
    pub(super) fn accepted(&mut self, matched: Index) -> bool {
        let advanced = matched > self.matched;
        self.matched = self.matched.max(matched);
        if self.flow == Flow::Probe && matched >= self.next.prev() {
            // The entries that the probe carried were taken with it, if it was this one that was accepted; if an older
            // one was, the next heartbeat shows that they are missing.
            let carried = self.probe.take().map_or(0, |probe| probe.count);
            self.flow = Flow::Replicate;
            self.next = self.next.plus(carried);
        }
        self.next = self.next.max(self.matched.next());
        advanced
    }

    /// The peer may have lost what it had after `matched`: probe before `next`.
    pub(super) fn went_back(&mut self, matched: Index, next: Index) {
        *self = Self { matched, ..Self::new(next) };
    }

    /// Whether a rejection of the append after `rejected` is about what was sent last, and not a late or repeated one.
    pub(super) fn is_rejection(&self, rejected: Index) -> bool {
        match self.flow {
            Flow::Probe => self.probe.is_some() && rejected == self.next.prev() && rejected > self.matched,
            Flow::Replicate => rejected > self.matched && rejected < self.next,
            Flow::Snapshot => false,
        }
    }

    /// The logs may agree at `agreed` (at or above what matches): probe there.
    pub(super) fn probe_after(&mut self, agreed: LogPosition) {
        *self = Self { matched: self.matched, ..Self::new(agreed.index.max(self.matched).next()) };
    }

    /// What was sent and not answered may be lost: probe after what matches, or where it was probed last.
    pub(super) fn restart(&mut self) {
        let next = if self.flow == Flow::Replicate { self.matched.next() } else { self.next };
        *self = Self { matched: self.matched, ..Self::new(next) };
    }

    /// The peer cannot be reached: probe, when it can be.
    pub(super) fn suspend(&mut self) {
        self.restart();
        self.probe = Some(Probe { count: 0 });
    }

    /// Says that a heartbeat of `round` was sent.
    pub(super) fn heartbeat_sent(&mut self, round: u64) {
        let watch = Watch { round, next: self.next, probed: self.probe.is_some() };
        self.watch.get_or_insert(watch);
        self.newest_watch = Some(watch);
    }

    /// The peer has answered the heartbeat of `round`; its log was compared with ours up to `verified`. Finds out what
    /// was lost: appends, or the answers to them.
    pub(super) fn heartbeat_answered(&mut self, round: u64, verified: Index) {
        let newest = self.newest_watch.take_if(|watch| watch.round <= round);
        let Some(oldest) = self.watch.take_if(|watch| watch.round <= round) else { return };
        let watch = newest.unwrap_or(oldest);
        match self.flow {
            Flow::Probe | Flow::Snapshot if watch.probed => self.probe = None,
            Flow::Probe | Flow::Snapshot => {}
            Flow::Replicate if verified.next() < watch.next => self.restart(),
            Flow::Replicate => self.ask = self.matched.next() < watch.next,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Term;

    const NONE: Index = Index::ZERO;

    fn replicating(matched: u64) -> Progress {
        let mut progress = Progress::new(Index(matched + 1));
        progress.accepted(Index(matched));
        progress
    }

    fn batch(prev: u64, count: u64) -> Option<Batch> {
        Some(Batch { prev: Index(prev), count })
    }

    #[test]
    fn a_probe_is_alone_until_it_is_answered() {
        let mut progress = Progress::new(Index(5));
        let first = progress.sendable(Index(6), NONE, Limit::ENTRIES);
        assert_eq!(first, batch(4, 2));
        progress.sent(first.unwrap(), NONE);
        assert_eq!(progress.sendable(Index(9), NONE, Limit::ENTRIES), None);
        assert!(progress.accepted(Index(4)));
        assert_eq!((progress.flow(), progress.next()), (Flow::Replicate, Index(7)));
        assert_eq!(progress.sendable(Index(9), NONE, Limit::ENTRIES), batch(6, 3));
    }

    #[test]
    fn an_accept_below_the_probe_says_nothing_of_it() {
        let mut progress = Progress::new(Index(5));
        progress.sent(progress.sendable(Index(4), NONE, Limit::ENTRIES).unwrap(), NONE);
        assert!(progress.accepted(Index(2)));
        assert_eq!((progress.flow(), progress.next()), (Flow::Probe, Index(5)));
    }

    #[test]
    fn replication_stays_within_its_window() {
        let mut progress = replicating(10);
        let mut sent = 0;
        while let Some(batch) = progress.sendable(Index(5_000), NONE, Limit::ENTRIES) {
            assert!(batch.count <= MAX_APPEND_ENTRIES as u64);
            progress.sent(batch, NONE);
            sent += batch.count;
        }
        assert_eq!(sent, MAX_INFLIGHT_ENTRIES);
        progress.accepted(Index(17));
        assert_eq!(progress.sendable(Index(5_000), NONE, Limit::ENTRIES).map(|batch| batch.count), Some(7));
    }

    #[test]
    fn a_commit_travels_alone_only_behind_all_entries() {
        let mut progress = replicating(10);
        assert_eq!(progress.sendable(Index(10), Index(9), Limit::ENTRIES), batch(10, 0));
        progress.sent(progress.sendable(Index(10), Index(9), Limit::ENTRIES).unwrap(), Index(9));
        assert_eq!(progress.sendable(Index(10), Index(9), Limit::ENTRIES), None);
        assert_eq!(progress.sendable(Index(11), Index(10), Limit::ENTRIES), batch(10, 1));
    }

    #[test]
    fn late_rejections_are_known_by_what_they_reject() {
        let mut progress = Progress::new(Index(20));
        assert!(!progress.is_rejection(Index(19)), "nothing was sent");
        progress.sent(progress.sendable(Index(25), NONE, Limit::ENTRIES).unwrap(), NONE);
        assert!(progress.is_rejection(Index(19)) && !progress.is_rejection(Index(18)));
        progress.probe_after(LogPosition { index: Index(7), term: Term(1) });
        progress.sent(progress.sendable(Index(25), NONE, Limit::ENTRIES).unwrap(), NONE);
        assert!(!progress.is_rejection(Index(19)));
        progress.accepted(Index(7));
        assert!(!progress.is_rejection(Index(7)) && progress.is_rejection(Index(8)));
        assert!(!progress.is_rejection(progress.next()), "nothing after it was sent");
    }

    #[test]
    fn a_heartbeat_finds_lost_appends_and_lost_answers() {
        let mut progress = replicating(10);
        progress.sent(progress.sendable(Index(14), NONE, Limit::ENTRIES).unwrap(), NONE);
        progress.heartbeat_sent(3);
        progress.heartbeat_answered(2, Index(10));
        assert_eq!(progress.flow(), Flow::Replicate, "an answer to an older round");
        progress.heartbeat_answered(3, Index(14));
        assert_eq!(
            progress.sendable(Index(14), NONE, Limit::ENTRIES),
            batch(14, 0),
            "asks for the answer that is missing"
        );
        progress.heartbeat_sent(4);
        // The answer to round 4 is lost; that to a later one says as much.
        progress.heartbeat_sent(5);
        progress.heartbeat_answered(5, Index(12));
        assert_eq!((progress.flow(), progress.next()), (Flow::Probe, Index(11)));
    }

    #[test]
    fn a_heartbeat_finds_a_lost_probe_but_not_one_that_was_sent_after_it() {
        let mut progress = Progress::new(Index(5));
        progress.heartbeat_sent(1);
        progress.sent(progress.sendable(Index(6), NONE, Limit::ENTRIES).unwrap(), NONE);
        progress.heartbeat_answered(1, NONE);
        assert_eq!(progress.sendable(Index(6), NONE, Limit::ENTRIES), None);
        progress.heartbeat_sent(2);
        progress.heartbeat_answered(2, NONE);
        assert_eq!(progress.sendable(Index(6), NONE, Limit::ENTRIES), batch(4, 2));
    }

    #[test]
    fn a_probe_that_was_lost_with_the_heartbeat_before_it_is_found_by_the_next_answer() {
        let mut progress = Progress::new(Index(5));
        progress.heartbeat_sent(1);
        progress.sent(progress.sendable(Index(6), NONE, Limit::ENTRIES).unwrap(), NONE);
        progress.heartbeat_sent(2);
        progress.heartbeat_answered(2, NONE);
        assert_eq!(progress.sendable(Index(6), NONE, Limit::ENTRIES), batch(4, 2));
    }

    #[test]
    fn a_peer_that_went_back_is_probed_at_the_end() {
        let mut progress = replicating(10);
        progress.sent(progress.sendable(Index(14), NONE, Limit::ENTRIES).unwrap(), NONE);
        progress.went_back(Index(6), Index(15));
        assert_eq!((progress.matched(), progress.sendable(Index(14), NONE, Limit::ENTRIES)), (Index(6), batch(14, 0)));
        progress.sent(batch(14, 0).unwrap(), NONE);
        assert!(progress.is_rejection(Index(14)) && progress.accepted(Index(7)));
    }

    #[test]
    fn a_peer_out_of_reach_is_probed_when_it_is_back() {
        let mut progress = replicating(10);
        progress.sent(progress.sendable(Index(14), NONE, Limit::ENTRIES).unwrap(), NONE);
        progress.suspend();
        assert_eq!(progress.sendable(Index(14), NONE, Limit::ENTRIES), None);
        progress.restart();
        assert_eq!(progress.sendable(Index(14), NONE, Limit::ENTRIES), batch(10, 4));
    }
}
