//! The topics of a cluster: their names, and where each of them ends.

use crate::config::{MAX_COUNTER, MAX_TOPIC};
use crate::digest::Digest;
use crate::id::{Offset, TopicId};
use crate::table::{Content, Slot, Table};
use core::fmt;
use core::ops::DerefMut;

/// Memory for one topic; an array of them is lent to a replica. About 170 bytes.
pub type TopicSlot = Slot<Topic>;

/// One topic.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Topic {
    name: [u8; MAX_TOPIC],
    name_len: u8,
    next: Offset,
}

impl Topic {
    /// A topic that ends at `next`; `None` if the name is not 1 to 127 bytes long, or nobody can count on from there.
    pub(super) fn new(name: &str, next: Offset) -> Option<Self> {
        let mut topic = Self { name_len: name.len().try_into().ok()?, next, ..Self::EMPTY };
        topic.name.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
        (!name.is_empty() && next.0 <= MAX_COUNTER).then_some(topic)
    }

    /// Its name, 1 to 127 bytes.
    #[must_use]
    pub fn name(&self) -> &str {
        core::str::from_utf8(self.name_bytes()).expect("was made from a str")
    }

    /// The offset that its next event gets: the number of its events.
    #[must_use]
    pub const fn next_offset(&self) -> Offset {
        self.next
    }

    fn name_bytes(&self) -> &[u8] {
        &self.name[..usize::from(self.name_len)]
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topic").field("name", &self.name()).field("next", &self.next).finish()
    }
}

impl Content for Topic {
    const EMPTY: Self = Self { name: [0; MAX_TOPIC], name_len: 0, next: Offset::ZERO };

    fn digest(&self) -> Digest {
        Digest::new(0).bytes(self.name_bytes()).number(self.next.0)
    }
}

/// The topics, by name and by number. `M` is the lent memory.
#[derive(Debug)]
pub(super) struct Topics<M> {
    table: Table<M>,
}

impl<M: DerefMut<Target = [TopicSlot]>> Topics<M> {
    /// No topic yet, and at most `limit` of them. What the memory holds is forgotten.
    ///
    /// # Errors
    ///
    /// The number of slots lent, if they are fewer than `limit`.
    pub(super) fn new(memory: M, limit: u32, seed: u64) -> Result<Self, usize> {
        Ok(Self { table: Table::new(memory, limit, seed)? })
    }

    pub(super) fn clear(&mut self) {
        self.table.clear();
    }

    pub(super) const fn len(&self) -> u32 {
        self.table.len()
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = &Topic> {
        (0..self.len()).map(|number| self.table.row(number))
    }

    pub(super) fn find(&self, name: &str) -> Option<TopicId> {
        self.table.find(name.as_bytes(), |topic| topic.name_bytes() == name.as_bytes()).map(TopicId)
    }

    /// # Panics
    ///
    /// If there is no such topic: numbers come from here.
    pub(super) fn topic(&self, id: TopicId) -> &Topic {
        self.table.row(id.0)
    }

    /// Creates a topic that is not there; `None` if there is no room.
    pub(super) fn create(&mut self, name: &str) -> Option<TopicId> {
        let topic = Topic::new(name, Offset::ZERO).expect("the batch was checked");
        self.table.add(name.as_bytes(), topic).map(TopicId)
    }

    /// Gives out the next `count` offsets of a topic and returns the first of them.
    pub(super) fn append(&mut self, id: TopicId, count: u16) -> Offset {
        let first = self.topic(id).next;
        self.table.change(id.0, |topic| topic.next = first.plus(count.into()));
        first
    }

    /// The hash of all topics.
    pub(super) const fn sum(&self) -> u64 {
        self.table.sum()
    }

    /// Takes a row that changed since it was last taken, with its number.
    pub(super) fn poll_changed(&mut self) -> Option<(u32, &Topic)> {
        let (number, topic) = self.table.poll_changed()?;
        Some((number, topic.expect("topics are not removed")))
    }

    /// Takes back the row with the next number. `false` if there is no room for it, or if its name is there already.
    #[must_use]
    pub(super) fn restore(&mut self, topic: Topic) -> bool {
        self.find(topic.name()).is_none() && self.table.restore(topic.name_bytes(), topic).is_some()
    }
}
