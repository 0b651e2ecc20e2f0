//! Committed entries, one after the other: into the replica, to whoever waits for them, and into the topic index.

use super::Engine;
use crate::checksum::CRC;
use crate::node::NodeError;
use crate::node::acks::{Request, Waiter};
use crate::node::excerpt::Excerpt;
use crate::node::legal::payload;
use crate::node::memory::SharedFrame;
use crate::node::reader::{Job, Purpose};
use crate::node::recent::{Recent, Row};
use crate::storage;
use eventstream_core::config::MAX_APPEND_ENTRIES;
use eventstream_core::id::Index;
use eventstream_core::raft::LogPosition;
use eventstream_core::receipt::Durability;
use eventstream_core::replica::{Outcomes, TopicSlice};
use eventstream_core::wire::{Batch, Control, Frame, Header, List, Receipt, peek};
use std::collections::VecDeque;

/// Entries applied in one step, at most.
const ENTRIES_AT_ONCE: usize = 64;

/// Entries that are committed and to be applied, and what is remembered of those that were.
pub(crate) struct Replay {
    /// The last entry known to be committed.
    commit: Index,
    /// Entries that the reader has read because the tail does not hold them, from `first` on.
    frames: VecDeque<SharedFrame>,
    first: Index,
    is_reading: bool,
    /// Where the events of the entries in the tail lie.
    recent: Recent,
    outcomes: Box<Outcomes>,
}

impl Replay {
    /// Entries up to `applied` are.
    pub(super) fn new(applied: Index) -> Self {
        Self {
            commit: applied,
            frames: VecDeque::new(),
            first: Index::ZERO,
            is_reading: false,
            recent: Recent::default(),
            outcomes: Box::default(),
        }
    }

    /// Entries up to here are committed.
    pub(crate) fn committed(&mut self, commit: Index) {
        self.commit = self.commit.max(commit);
    }

    /// The reader has read entries.
    pub(crate) fn fetched(&mut self, first: Index, frames: Vec<SharedFrame>) {
        self.is_reading = false;
        self.first = first;
        self.frames = frames.into();
    }

    /// Where recent events lie.
    pub(crate) fn recent(&self) -> &Recent {
        &self.recent
    }

    /// The tail begins at `first` now.
    pub(crate) fn forget_before(&mut self, first: Index) {
        self.recent.forget_before(first);
    }

    /// Takes the entry at `index` out of what the reader has read.
    fn take(&mut self, index: Index) -> Option<SharedFrame> {
        if self.first != index {
            self.frames.clear();
        }
        let frame = self.frames.pop_front()?;
        self.first = index.next();
        Some(frame)
    }
}

/// The batch of an entry, which was checked before it came into the log.
pub(super) fn batch_of<'a>(frame: &'a [u8], header: &Header) -> Batch<'a> {
    Batch::check(payload(frame), header.event_count).expect("an entry is checked before it comes into the log")
}

impl Engine {
    /// Whether something committed can be applied now.
    pub(super) fn can_apply(&self) -> bool {
        let next = self.applied().next();
        next <= self.replay.commit
            && !self.is_blocked()
            && self.journal.may_have_room()
            && (self.tail.entry(next).is_some() || !self.replay.is_reading && self.reader.has_room())
    }

    /// Applies what is committed, a portion of it.
    pub(super) fn apply_committed(&mut self) -> Result<(), NodeError> {
        let before = self.applied();
        for _ in 0..ENTRIES_AT_ONCE {
            let next = self.applied().next();
            if next > self.replay.commit {
                break;
            }
            if !self.journal.has_room() {
                // Storage reports when it has written the rows that take the room, and wakes this task.
                self.journal.show_rows();
                break;
            }
            // What was read for this is not lent to subscribers: they could keep the engine from reading on.
            if let Some(frame) = self.tail.entry(next).cloned() {
                self.apply(next, &frame, self.pools.can_lend())?;
            } else if let Some(frame) = self.replay.take(next) {
                self.apply(next, &frame, false)?;
            } else {
                self.fetch_for_replay(next);
                break;
            }
        }
        if self.applied() > before {
            self.journal.end_rows(self.applied());
            self.bear_topics();
        }
        Ok(())
    }

    fn fetch_for_replay(&mut self, first: Index) {
        if !self.replay.is_reading {
            let last = self.replay.commit.min(first.plus(MAX_APPEND_ENTRIES as u64 - 1));
            // What the tail holds may not be on disk yet, and something else in its place.
            let last = last.min(self.tail.first().map_or(last, Index::prev));
            self.replay.is_reading = self.read(Job::Entries { purpose: Purpose::Replay, first, last });
        }
    }

    fn apply(&mut self, index: Index, frame: &SharedFrame, can_lend: bool) -> Result<(), NodeError> {
        let header = match peek(frame, CRC) {
            Ok(Some(header)) if header.index() == index => header,
            _ => return Err(NodeError::WrongEntry(index)),
        };
        let mut outcomes = core::mem::take(&mut self.replay.outcomes);
        self.replica
            .apply(&(&Frame::checked_before(header, frame)).into(), &mut outcomes)
            .map_err(|error| NodeError::Apply { index, error })?;
        self.answer(&header, &outcomes);
        for slice in outcomes.topics() {
            self.publish(&header, frame, slice, can_lend, outcomes.topics().len() == 1);
        }
        self.replay.outcomes = outcomes;
        Ok(())
    }

    /// Receipts for those who waited for the entry.
    fn answer(&mut self, header: &Header, outcomes: &Outcomes) {
        let at = LogPosition { index: header.index(), term: header.term };
        let mut runs = outcomes.runs();
        let durability = match self.replica.raft().is_on_disks(at.index) {
            true => Durability::Majority,
            false => Durability::MajorityWithWitness,
        };
        let (clients, counters) = (&mut self.clients, &self.counters);
        for Waiter { conn, request } in self.acks.applied(at) {
            match request {
                Request::Batch { batch, runs: count, bytes } => {
                    let (own, rest) = runs.split_at(usize::from(count));
                    runs = rest;
                    clients.answered(conn, bytes);
                    counters.add_runs(own);
                    clients.say(
                        conn,
                        &Control::Receipt(Receipt {
                            batch,
                            index: header.index(),
                            term: header.term,
                            durability,
                            runs: List::of(own),
                        }),
                    );
                }
                Request::OpenProducer { request, producer } => {
                    super::requests::answer_open(clients, conn, request, producer, outcomes);
                }
            }
        }
    }

    /// Events of one topic are there: a row of the index, and deliveries to those who follow live.
    fn publish(&mut self, header: &Header, frame: &SharedFrame, slice: &TopicSlice, can_lend: bool, is_only: bool) {
        let row = Row { index: header.index(), topic: slice.topic, first_offset: slice.first_offset, mask: slice.mask };
        self.replay.recent.push(row);
        self.journal.row(&storage::Row::Topic {
            topic: row.topic,
            first_offset: row.first_offset,
            index: row.index,
            mask: row.mask,
        });
        if self.subscriptions.live(row.topic).is_empty() {
            return;
        }
        let excerpt = if !can_lend {
            None
        } else if is_only {
            Some(Excerpt { frame: frame.clone(), mask: row.mask })
        } else {
            let name = self.replica.topic(row.topic).name();
            Excerpt::of(frame, header, &batch_of(frame, header), name, row.mask, &mut self.excerpts)
        };
        self.deliver_live(&row, excerpt.as_ref());
    }
}
