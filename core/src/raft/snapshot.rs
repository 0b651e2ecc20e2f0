//! Snapshots: the applied state as rows, for a member whose next entry its leader's log holds no more (Raft paper,
//! section 7; thesis, chapter 5).
//!
//! As of entries, the machine speaks of rows by number, in the order of their keys; the hosts attach and keep them. One
//! message is on its way at a time, and its answer says how many rows are there. So a transfer goes on where it was when a
//! message, a connection or the leader is lost: the rows of a checkpoint as of one entry are the same on every member,
//! byte for byte.
//!
//! A witness keeps no state. It is told where the log that it may know of begins, and which configuration is in force there.

use super::error::Rejected;
use super::faults::Fault;
use super::follower::Appended;
use super::membership::{Membership, Placed};
use super::message::{Body, LogPosition};
use super::output::LogView;
use super::peer::Owed;
use super::{Raft, Taken};
use crate::config::MAX_SNAPSHOT_ROWS;
use crate::id::Index;
use crate::time::Instant;

/// A checkpoint of the applied state that a host can send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The last entry whose effects it holds; it is committed.
    pub last: LogPosition,
    /// Its rows, at least one: that which says up to where it goes.
    pub rows: u32,
}

/// A snapshot that a member receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Receiving {
    snapshot: Snapshot,
    /// Rows that are there: the first ones.
    next: u32,
}

/// The snapshot that a message is about, if it is about one, and how many rows have come when it is taken.
pub(super) fn announced(body: &Body) -> Option<(Snapshot, u32)> {
    match *body {
        Body::SnapshotRows { last, first, count, rows } => {
            Some((Snapshot { last, rows }, first.saturating_add(count.into())))
        }
        Body::SnapshotTerms { last, .. } => Some((Snapshot { last, rows: 1 }, 1)),
        _ => None,
    }
}

/// Whether what the message says of a snapshot makes sense.
pub(super) fn check(body: &Body, configurations: &[Placed]) -> Result<(), Rejected> {
    let Some((Snapshot { last, rows }, end)) = announced(body) else { return Ok(()) };
    let counted = if let Body::SnapshotRows { count, .. } = *body { count.into() } else { 1 };
    let is_placed = match (*body, configurations) {
        (Body::SnapshotTerms { configuration, .. }, [placed]) => {
            placed.index == configuration && configuration > Index::ZERO && configuration <= last.index
        }
        (Body::SnapshotTerms { configuration, .. }, []) => configuration == Index::ZERO,
        (_, configurations) => configurations.is_empty(),
    };
    let is_position = last.index > Index::ZERO && last.term.0 > 0;
    if is_position && is_placed && rows > 0 && end <= rows && counted <= MAX_SNAPSHOT_ROWS {
        Ok(())
    } else {
        Err(Rejected::Rows)
    }
}

/// A leader.
impl Raft {
    /// The first entry that can be sent.
    pub(super) fn horizon(&self, view: &impl LogView) -> Index {
        self.stable.base(view).index.next()
    }

    /// The next rows for a peer that is behind the horizon, if some are to be sent.
    pub(super) fn snapshot_request(&mut self, slot: usize, view: &impl LogView) -> Option<Body> {
        let helps = self.horizon(view).prev()..=self.commit;
        let snapshot = view.snapshot().filter(|snapshot| helps.contains(&snapshot.last.index))?;
        let at_once = view.rows_at_once().clamp(1, MAX_SNAPSHOT_ROWS as u16);
        let (first, count) = self.peers[slot].progress.rows_to_send(snapshot, at_once)?;
        Some(Body::SnapshotRows { last: snapshot.last, first, count, rows: snapshot.rows })
    }

    /// Where the log begins for a witness that is behind the horizon: after what is committed.
    pub(super) fn snapshot_terms(&mut self, slot: usize, view: &impl LogView) -> Option<Body> {
        // The last configuration was appended when the one before was committed, whatever this leader knows of that.
        let index = self.commit.max(self.membership.before().index);
        let last = LogPosition { index, term: self.stable.term(index, view)? };
        // One at a time, whatever is committed meanwhile.
        let helps = self.horizon(view).prev().max(self.membership.before().index);
        let sent = self.peers[slot].progress.sent_snapshot().filter(|sent| sent.last.index >= helps);
        let snapshot = sent.unwrap_or(Snapshot { last, rows: 1 });
        self.peers[slot].progress.rows_to_send(snapshot, 1)?;
        let configuration = self.membership.as_of(snapshot.last.index).index;
        Some(Body::SnapshotTerms { last: snapshot.last, configuration })
    }
}

/// A member that receives one.
impl Raft {
    /// Counts rows that have come. Returns whether they are to be kept.
    #[allow(clippy::too_many_arguments, reason = "the fields of one message")]
    pub(super) fn take_rows(
        &mut self,
        now: Instant,
        slot: usize,
        snapshot: Snapshot,
        first: u32,
        count: u16,
        view: &impl LogView,
    ) -> Result<Taken, Rejected> {
        if self.has_snapshot(snapshot.last, view)? {
            return self.take_entries(now, slot, snapshot.last, Appended::NOTHING, view);
        }
        let mut receiving = self.receiving.unwrap_or(Receiving { snapshot, next: 0 });
        if receiving.snapshot != snapshot {
            receiving = Receiving { snapshot, next: 0 };
        }
        let follows = first == receiving.next || self.faults.has(Fault::SnapshotRowsSkipped) && first > receiving.next;
        let taken = follows && count > 0;
        if taken {
            receiving.next = first + u32::from(count);
        }
        self.receiving = Some(receiving);
        self.owe(self.leader_slot().unwrap_or(slot), Owed::SnapshotTaken);
        Ok(if taken { Taken::Rows } else { Taken::Nothing })
    }

    /// A witness is told where its log begins.
    pub(super) fn take_base(
        &mut self,
        now: Instant,
        slot: usize,
        last: LogPosition,
        configurations: &[Placed],
        view: &impl LogView,
    ) -> Result<Taken, Rejected> {
        if self.has_snapshot(last, view)? {
            return self.take_entries(now, slot, last, Appended::NOTHING, view);
        }
        self.install(now, last, configurations.first().copied());
        self.owe(self.leader_slot().unwrap_or(slot), Owed::AppendAccepted);
        Ok(Taken::Rows)
    }

    /// Whether the log holds all that the snapshot is made of: then nothing is to be replaced, and what follows it stays.
    fn has_snapshot(&self, last: LogPosition, view: &impl LogView) -> Result<bool, Rejected> {
        if self.faults.has(Fault::StaleSnapshotTaken) && last.index < self.commit {
            return Ok(false);
        }
        let agrees = self.agrees(last, view)?;
        // The configuration before the last is committed: every log has its entry.
        let before = self.membership.before().index;
        if agrees || last.index >= before { Ok(agrees) } else { Err(Rejected::Contradiction { index: before }) }
    }

    /// The answer to rows.
    pub(super) fn snapshot_taken(&self) -> Option<Body> {
        let Receiving { snapshot, next } = self.receiving?;
        Some(Body::SnapshotTaken { last: snapshot.last, next })
    }

    /// The snapshot whose rows are all there, unless the log has caught up in the meantime.
    pub(super) fn complete_snapshot(&mut self, view: &impl LogView) -> Option<LogPosition> {
        let Receiving { snapshot, next } = self.receiving?;
        // The write that makes it last is the next: no other rows come in between.
        if next < snapshot.rows || !self.stable.has_room() {
            return None;
        }
        if self.has_snapshot(snapshot.last, view) != Ok(false) {
            self.receiving = None;
            return None;
        }
        Some(snapshot.last)
    }

    /// The rows that [`Output::InstallSnapshot`](super::Output::InstallSnapshot) has asked for are the applied state now.
    /// `configuration` is the one that they hold, if they do. The next [`Output::Persist`](super::Output::Persist) makes it
    /// last.
    ///
    /// # Panics
    ///
    /// If nothing was asked for: a bug of the caller.
    pub fn handle_installed(&mut self, now: Instant, configuration: Option<Placed>) {
        let Receiving { snapshot, next } = self.receiving.take().expect("a snapshot was to be installed");
        assert_eq!(next, snapshot.rows, "rows of the snapshot are missing");
        let is_part = configuration.is_none_or(|placed| placed.index <= snapshot.last.index);
        assert!(is_part, "a configuration that comes after the snapshot");
        self.install(now, snapshot.last, configuration);
        if let Some(slot) = self.leader_slot() {
            self.owe(slot, Owed::AppendAccepted);
        }
    }

    /// The log begins after `last` from now on. Nothing of it stays: it does not have `last`, so what it has before or
    /// after is part of the snapshot, or was never committed.
    fn install(&mut self, now: Instant, last: LogPosition, configuration: Option<Placed>) {
        let is_stale = self.faults.has(Fault::StaleSnapshotTaken);
        assert!(last.index > self.commit || is_stale, "{last:?} would move back what is committed");
        self.stable.install(last, self.commit, self.faults.has(Fault::SnapshotAckedEarly));
        (self.commit, self.told_commit) = (last.index, last.index);
        self.following.verified = last.index;
        (self.empty_entry, self.configuration_entry) = (None, None);
        let old = *self.configuration();
        let first = self.membership.as_of(Index::ZERO);
        self.membership = Membership::new(configuration.unwrap_or(first));
        if *self.configuration() != old && !self.faults.has(Fault::SnapshotConfigurationIgnored) {
            self.reconfigure(now, &old);
        }
    }
}
