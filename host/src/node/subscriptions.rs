//! Who follows which topic, and how far each has come.
//!
//! A subscription is *live* as long as it has been sent everything that is applied: the engine hands it each new entry as
//! it is applied. It is *behind* from its start, and whenever its connection was full: then it is fed, from the tail where
//! that reaches back far enough, else by the reader, until it has caught up. This file keeps the books; sending is the
//! engine's.

use super::event::ConnId;
use eventstream_core::id::{Offset, TopicId};
use std::collections::VecDeque;
use std::sync::Arc;

/// Subscriptions of one connection, at most.
pub(crate) const MAX_PER_CONNECTION: usize = 256;

/// All subscriptions of all clients.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    slots: Vec<Option<Subscription>>,
    free: Vec<u32>,
    /// Live ones, by the topic's number.
    live: Vec<Vec<u32>>,
    /// Those that wait for their topic's first event.
    unborn: Vec<u32>,
    /// Those that are behind and may be fed, each once, in turn.
    hungry: VecDeque<u32>,
    tickets: u64,
}

/// One subscription.
#[derive(Clone, Debug)]
pub(crate) struct Subscription {
    /// The client's connection.
    pub(crate) conn: ConnId,
    /// The client's number of it.
    pub(crate) number: u32,
    /// The topic.
    pub(crate) name: Arc<str>,
    /// The topic's number, once the topic exists.
    pub(crate) topic: Option<TopicId>,
    /// The offset that is delivered next.
    pub(crate) next: Offset,
    /// When this offset is reached, the client is told that it has caught up; `None` if it was.
    pub(crate) goal: Option<Offset>,
    /// How it gets its events.
    pub(crate) pace: Pace,
    /// The number of its last request to the reader; what answers an earlier one came too late.
    pub(crate) ticket: u64,
}

/// How a subscription gets its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// The topic does not exist yet.
    Unborn,
    /// As they are applied.
    Live,
    /// It is behind, and its turn to be fed will come.
    Hungry,
    /// The reader reads for it.
    Reading,
    /// Its connection takes no more for now, or is read for on behalf of another subscription.
    Full,
    /// What it needs next is applied but not visible to the reader yet.
    Unindexed,
}

impl Subscriptions {
    /// Adds a subscription.
    pub(crate) fn add(&mut self, subscription: Subscription) -> u32 {
        let pace = subscription.pace;
        let id = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        self.slots[id as usize] = Some(Subscription { pace: Pace::Full, ..subscription });
        self.set_pace(id, pace);
        id
    }

    /// Takes all of them out.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Subscription> {
        core::mem::take(self).slots.into_iter().flatten()
    }

    /// Numbers a request to the reader. The numbers of all subscriptions are different, so one that takes another's
    /// place does not get its events.
    pub(crate) fn next_ticket(&mut self, id: u32) -> u64 {
        self.tickets += 1;
        let ticket = self.tickets;
        if let Some(subscription) = self.get_mut(id) {
            subscription.ticket = ticket;
        }
        ticket
    }

    /// Removes a subscription. A piece that the reader is reading for it comes to nothing.
    pub(crate) fn remove(&mut self, id: u32) -> Option<Subscription> {
        self.set_pace(id, Pace::Full);
        let subscription = self.slots.get_mut(id as usize)?.take()?;
        self.free.push(id);
        Some(subscription)
    }

    /// A subscription.
    pub(crate) fn get(&self, id: u32) -> Option<&Subscription> {
        self.slots.get(id as usize)?.as_ref()
    }

    /// A subscription, to note how far it has come. Its pace is changed by [`Self::set_pace`] alone.
    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut Subscription> {
        self.slots.get_mut(id as usize)?.as_mut()
    }

    /// Changes how a subscription gets its events.
    pub(crate) fn set_pace(&mut self, id: u32, pace: Pace) {
        let Some(subscription) = self.slots.get_mut(id as usize).and_then(Option::as_mut) else { return };
        let before = core::mem::replace(&mut subscription.pace, pace);
        if before == pace {
            return;
        }
        let topic = subscription.topic;
        match before {
            Pace::Live => self.live_of(topic).retain(|&other| other != id),
            Pace::Unborn => self.unborn.retain(|&other| other != id),
            Pace::Hungry => self.hungry.retain(|&other| other != id),
            Pace::Reading | Pace::Full | Pace::Unindexed => {}
        }
        match pace {
            Pace::Live => self.live_of(topic).push(id),
            Pace::Unborn => self.unborn.push(id),
            Pace::Hungry => self.hungry.push_back(id),
            Pace::Reading | Pace::Full | Pace::Unindexed => {}
        }
    }

    /// The live subscriptions of a topic.
    pub(crate) fn live(&self, topic: TopicId) -> &[u32] {
        self.live.get(topic.0 as usize).map_or(&[], Vec::as_slice)
    }

    /// Those whose topic does not exist yet.
    pub(crate) fn unborn(&self) -> &[u32] {
        &self.unborn
    }

    /// The topic of an unborn subscription exists now.
    pub(crate) fn born(&mut self, id: u32, topic: TopicId) {
        if let Some(subscription) = self.get_mut(id) {
            subscription.topic = Some(topic);
            self.set_pace(id, Pace::Hungry);
        }
    }

    /// The next one to be fed, if any is. It stays hungry until its pace is changed.
    pub(crate) fn hungry(&self) -> Option<u32> {
        self.hungry.front().copied()
    }

    /// How many are to be fed.
    pub(crate) fn hungry_len(&self) -> usize {
        self.hungry.len()
    }

    /// Puts a hungry one behind the others.
    pub(crate) fn requeue(&mut self, id: u32) {
        self.set_pace(id, Pace::Full);
        self.set_pace(id, Pace::Hungry);
    }

    /// More of the index is visible to the reader: those that waited for it may be fed.
    pub(crate) fn indexed(&mut self) {
        let waiting = self.slots.iter().zip(0..).filter_map(|(slot, id)| {
            slot.as_ref().filter(|subscription| subscription.pace == Pace::Unindexed).map(|_| id)
        });
        for id in waiting.collect::<Vec<u32>>() {
            self.set_pace(id, Pace::Hungry);
        }
    }

    fn live_of(&mut self, topic: Option<TopicId>) -> &mut Vec<u32> {
        let topic = topic.expect("only a subscription of a topic that exists is live").0 as usize;
        if self.live.len() <= topic {
            self.live.resize_with(topic + 1, Vec::new);
        }
        &mut self.live[topic]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscription(topic: Option<TopicId>, pace: Pace) -> Subscription {
        let conn = ConnId { slot: 0, generation: 1 };
        Subscription { conn, number: 1, name: "t".into(), topic, next: Offset::ZERO, goal: None, pace, ticket: 0 }
    }

    #[test]
    fn the_hungry_are_fed_in_turn() {
        let mut all = Subscriptions::default();
        let first = all.add(subscription(Some(TopicId(0)), Pace::Hungry));
        let second = all.add(subscription(Some(TopicId(0)), Pace::Hungry));
        assert_eq!(all.hungry(), Some(first));
        all.requeue(first);
        assert_eq!((all.hungry(), all.hungry_len()), (Some(second), 2));
        all.set_pace(second, Pace::Live);
        assert_eq!((all.hungry(), all.live(TopicId(0))), (Some(first), &[second][..]));
    }

    #[test]
    fn a_removed_subscription_is_nowhere() {
        let mut all = Subscriptions::default();
        let live = all.add(subscription(Some(TopicId(3)), Pace::Live));
        let unborn = all.add(subscription(None, Pace::Unborn));
        let hungry = all.add(subscription(Some(TopicId(3)), Pace::Hungry));
        for id in [live, unborn, hungry] {
            assert!(all.remove(id).is_some());
            assert!(all.remove(id).is_none());
        }
        assert_eq!((all.live(TopicId(3)), all.unborn(), all.hungry()), (&[][..], &[][..], None));
    }

    #[test]
    fn a_topic_is_born() {
        let mut all = Subscriptions::default();
        let id = all.add(subscription(None, Pace::Unborn));
        assert_eq!(all.unborn(), [id]);
        all.born(id, TopicId(5));
        assert_eq!((all.unborn(), all.hungry()), (&[][..], Some(id)));
        all.set_pace(id, Pace::Live);
        assert_eq!(all.live(TopicId(5)), [id]);
    }

    #[test]
    fn those_that_waited_for_the_index_are_fed_when_it_is_there() {
        let mut all = Subscriptions::default();
        let id = all.add(subscription(Some(TopicId(0)), Pace::Unindexed));
        assert_eq!(all.hungry(), None);
        all.indexed();
        assert_eq!(all.hungry(), Some(id));
    }
}
