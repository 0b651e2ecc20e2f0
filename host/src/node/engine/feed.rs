//! Deliveries: to subscriptions that follow live, as entries are applied, and to those that are behind, in turn.

use super::Engine;
use super::apply::batch_of;
use crate::checksum::CRC;
use crate::node::event::ConnId;
use crate::node::excerpt::{Excerpt, without_first};
use crate::node::reader::{Job, PIECE_BYTES, SHORT_PIECE_BYTES, Ticket};
use crate::node::recent::Row;
use crate::node::subscriptions::{Pace, Subscription};
use crate::storage::TopicRow;
use eventstream_core::id::{Index, Offset, TopicId};
use eventstream_core::wire::{CaughtUp, Control, Delivery, EndReason, peek};

/// Turns in one step, at most.
const TURNS_AT_ONCE: usize = 16;
/// Frames delivered in one turn from memory, at most.
const FRAMES_A_TURN: usize = 32;

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delivered {
    /// It is on its way, or the subscription has it already.
    Done,
    /// The connection takes no more for now.
    Full,
}

impl Engine {
    /// Whether a subscription that is behind can be fed now.
    pub(super) fn can_feed(&self) -> bool {
        self.subscriptions.hungry().is_some() && !self.is_blocked() && self.reader.has_room_for_feed()
    }

    /// An entry was applied: deliveries to those who follow the topic live. Without an excerpt (memory is short) they
    /// fall behind.
    pub(super) fn deliver_live(&mut self, row: &Row, excerpt: Option<&Excerpt>) {
        let mut position = 0;
        while let Some(&id) = self.subscriptions.live(row.topic).get(position) {
            let delivered = excerpt.map(|excerpt| self.deliver(id, row.index, row.first_offset, excerpt));
            match delivered {
                Some(Delivered::Done) => position += 1,
                Some(Delivered::Full) => self.subscriptions.set_pace(id, Pace::Full),
                None => self.subscriptions.set_pace(id, Pace::Hungry),
            }
        }
    }

    /// Feeds those that are behind, in turn.
    pub(super) fn feed_hungry(&mut self) {
        for _ in 0..TURNS_AT_ONCE.min(self.subscriptions.hungry_len()) {
            if let Some(id) = self.subscriptions.hungry() {
                self.feed(id);
            }
        }
    }

    /// A connection may have room again, or be read for.
    pub(super) fn resume_feeds(&mut self, conn: ConnId) {
        let Some(ids) = self.clients.subscriptions(conn) else { return };
        for &id in ids.iter() {
            if self.subscriptions.get(id).is_some_and(|subscription| subscription.pace == Pace::Full) {
                self.subscriptions.set_pace(id, Pace::Hungry);
            }
        }
    }

    /// The reader has read for a subscription.
    pub(super) fn feed_from_disk(&mut self, ticket: Ticket, found: Vec<(TopicRow, Excerpt)>) {
        let id = ticket.subscription;
        self.clients.read(ticket.conn);
        // The reader reads for one subscription of a connection at a time: the next ones come before this one.
        self.resume_feeds(ticket.conn);
        let waits =
            self.subscriptions.get(id).is_some_and(|one| (one.pace, one.ticket) == (Pace::Reading, ticket.number));
        if !waits {
            return;
        }
        let pace =
            if found.is_empty() && self.journal.visible() == ticket.visible { Pace::Unindexed } else { Pace::Hungry };
        self.subscriptions.set_pace(id, pace);
        for (row, excerpt) in found {
            // Rows that were written before a restart may be of entries that are not applied again yet.
            if row.index > self.applied() {
                return;
            }
            if self.subscriptions.get(id).is_some_and(|subscription| row.first_offset > subscription.next) {
                return self.end_subscription(id, EndReason::ReadFailed);
            }
            if self.deliver(id, row.index, row.first_offset, &excerpt) == Delivered::Full {
                self.subscriptions.set_pace(id, Pace::Full);
                return;
            }
        }
    }

    /// One turn of a subscription that is behind.
    fn feed(&mut self, id: u32) {
        let Some(subscription) = self.subscriptions.get(id).cloned() else { return };
        let topic = subscription.topic.expect("only a subscription of a topic that exists is hungry");
        if !self.clients.has_room(subscription.conn) {
            return self.subscriptions.set_pace(id, Pace::Full);
        }
        if self.replica.topic(topic).next_offset() <= subscription.next {
            self.subscriptions.set_pace(id, Pace::Live);
            return self.tell_caught_up(id);
        }
        let held = self.replay.recent().from(topic, subscription.next);
        let rows: Vec<Row> = held.map_or_else(Vec::new, |rows| rows.take(FRAMES_A_TURN).collect());
        self.subscriptions.requeue(id);
        if self.feed_from_memory(id, &subscription.name, &rows) == 0 {
            self.feed_by_reader(id, topic, subscription);
        }
    }

    /// Has the reader read for a subscription, if its connection has read what was read for it before.
    fn feed_by_reader(&mut self, id: u32, topic: TopicId, subscription: Subscription) {
        let conn = subscription.conn;
        let bytes = if self.pools.feeds_are_short() { SHORT_PIECE_BYTES } else { PIECE_BYTES };
        if !self.clients.may_be_read_for(conn, bytes) {
            return self.subscriptions.set_pace(id, Pace::Full);
        }
        let number = self.subscriptions.next_ticket(id);
        let ticket = Ticket { subscription: id, conn, number, visible: self.journal.visible() };
        if self.read(Job::Feed { ticket, topic, name: subscription.name, from: subscription.next, bytes }) {
            self.clients.reading(conn);
            self.subscriptions.set_pace(id, Pace::Reading);
        }
    }

    /// Delivers rows that the tail still holds, and returns how many: none if memory is too short to take one apart.
    fn feed_from_memory(&mut self, id: u32, name: &str, rows: &[Row]) -> usize {
        for (count, row) in rows.iter().enumerate() {
            let held = self.tail.entry(row.index).cloned();
            let Some(frame) = held.filter(|_| self.pools.can_lend()) else { return count };
            let header = peek(&frame, CRC).ok().flatten().expect("an entry was checked when it came");
            let batch = batch_of(&frame, &header);
            let Some(excerpt) = Excerpt::of(&frame, &header, &batch, name, row.mask, &mut self.excerpts) else {
                return count;
            };
            if self.deliver(id, row.index, row.first_offset, &excerpt) == Delivered::Full {
                self.subscriptions.set_pace(id, Pace::Full);
                break;
            }
        }
        rows.len()
    }

    /// Delivers an entry's events of a topic, as far as the subscription has not had them.
    fn deliver(&mut self, id: u32, index: Index, first_offset: Offset, excerpt: &Excerpt) -> Delivered {
        let Some(subscription) = self.subscriptions.get_mut(id) else { return Delivered::Done };
        let end = first_offset.plus(u64::from(excerpt.mask.count_ones()));
        if end <= subscription.next {
            return Delivered::Done;
        }
        assert!(first_offset <= subscription.next, "deliveries follow one another without a hole");
        if !self.clients.has_room(subscription.conn) {
            return Delivered::Full;
        }
        let (conn, from) = (subscription.conn, subscription.next);
        let delivery = Delivery {
            subscription: subscription.number,
            first_offset: from,
            mask: without_first(excerpt.mask, from.0 - first_offset.0),
            index,
        };
        subscription.next = end;
        if self.clients.say(conn, &Control::Delivery(delivery)) {
            self.clients.send(conn, excerpt.frame.clone());
        }
        self.tell_caught_up(id);
        Delivered::Done
    }

    /// Tells a subscription once that it has had everything that was applied when it began.
    pub(super) fn tell_caught_up(&mut self, id: u32) {
        let Some(subscription) = self.subscriptions.get_mut(id) else { return };
        if subscription.goal.is_some_and(|goal| goal <= subscription.next) {
            subscription.goal = None;
            let told = CaughtUp { subscription: subscription.number, next_offset: subscription.next };
            self.clients.say(subscription.conn, &Control::CaughtUp(told));
        }
    }

    /// Subscriptions of topics that did not exist: some may now.
    pub(super) fn bear_topics(&mut self) {
        let born: Vec<(u32, TopicId)> = self
            .subscriptions
            .unborn()
            .iter()
            .filter_map(|&id| Some((id, self.replica.find_topic(&self.subscriptions.get(id)?.name)?)))
            .collect();
        born.into_iter().for_each(|(id, topic)| self.subscriptions.born(id, topic));
    }
}
