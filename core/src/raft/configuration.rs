//! Who the members are, and which of their lives counts.

use super::quorum::Majority;
use crate::config::MAX_MEMBERS;
use crate::id::{Incarnation, NodeId};
use core::fmt;
use heapless::Vec;

/// A voter, and the life of its data directory that may vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// The member.
    pub node: NodeId,
    /// Its incarnation: messages of another one are refused.
    pub incarnation: Incarnation,
}

/// The members of one shard, in the order of their ids. A member's place in that order is its *slot*.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    members: Vec<Member, MAX_MEMBERS>,
}

/// Why a list of members is no configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigurationError {
    /// It has no member.
    Empty,
    /// It has more than [`MAX_MEMBERS`].
    TooMany,
    /// Zero is nobody's id.
    NodeZero,
    /// This id stands there twice.
    Twice(NodeId),
}

impl fmt::Display for ConfigurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "a configuration needs at least one member"),
            Self::TooMany => write!(f, "a configuration has at most {MAX_MEMBERS} members"),
            Self::NodeZero => write!(f, "member ids start at 1"),
            Self::Twice(node) => write!(f, "member {node} is named twice"),
        }
    }
}

impl core::error::Error for ConfigurationError {}

impl Configuration {
    /// A configuration in which all of `members` vote.
    ///
    /// # Errors
    ///
    /// [`ConfigurationError`]: 1 to [`MAX_MEMBERS`] members, each with an id of its own, 1 or above.
    pub fn new(members: &[Member]) -> Result<Self, ConfigurationError> {
        if members.is_empty() {
            return Err(ConfigurationError::Empty);
        }
        let mut members = Vec::from_slice(members).map_err(|_| ConfigurationError::TooMany)?;
        members.sort_unstable_by_key(|member: &Member| member.node);
        if members[0].node == NodeId(0) {
            return Err(ConfigurationError::NodeZero);
        }
        match members.windows(2).find(|pair| pair[0].node == pair[1].node) {
            Some(pair) => Err(ConfigurationError::Twice(pair[0].node)),
            None => Ok(Self { members }),
        }
    }

    /// The members, in the order of their ids.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The slot of `node`, if it is a member.
    pub(super) fn slot(&self, node: NodeId) -> Option<usize> {
        self.members.iter().position(|member| member.node == node)
    }

    /// All slots.
    pub(super) fn slots(&self) -> Slots {
        Slots::first(self.members.len())
    }

    /// What decides elections and commits.
    pub(super) fn quorum(&self) -> Majority {
        Majority::of(self.slots())
    }
}

/// A set of members, by slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Slots(u8);

const _: () = assert!(MAX_MEMBERS <= u8::BITS as usize, "a set of slots is one byte");

impl Slots {
    pub(super) const NONE: Self = Self(0);

    /// The slots below `count`.
    pub(super) fn first(count: usize) -> Self {
        assert!(count <= MAX_MEMBERS, "{count} slots");
        Self(((1_u16 << count) - 1) as u8)
    }

    pub(super) fn insert(&mut self, slot: usize) {
        self.0 |= 1 << slot;
    }

    pub(super) fn remove(&mut self, slot: usize) {
        self.0 &= !(1 << slot);
    }

    pub(super) fn without(mut self, slot: usize) -> Self {
        self.remove(slot);
        self
    }

    pub(super) fn contains(self, slot: usize) -> bool {
        self.0 & (1 << slot) != 0
    }

    pub(super) fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    pub(super) fn lowest(self) -> Option<usize> {
        (self.0 != 0).then_some(self.0.trailing_zeros() as usize)
    }

    pub(super) fn both(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(super) fn either(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn iter(mut self) -> impl Iterator<Item = usize> {
        core::iter::from_fn(move || {
            let slot = self.lowest()?;
            self.remove(slot);
            Some(slot)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(node: u16) -> Member {
        Member { node: NodeId(node), incarnation: Incarnation([node as u8; 16]) }
    }

    #[test]
    fn members_stand_in_the_order_of_their_ids() {
        let configuration = Configuration::new(&[member(9), member(2), member(5)]).unwrap();
        assert_eq!(configuration.members(), [member(2), member(5), member(9)]);
        assert_eq!(configuration.slot(NodeId(5)), Some(1));
        assert_eq!(configuration.slot(NodeId(3)), None);
    }

    #[test]
    fn a_list_that_is_no_configuration_is_refused() {
        assert_eq!(Configuration::new(&[]), Err(ConfigurationError::Empty));
        assert_eq!(Configuration::new(&[member(1); MAX_MEMBERS + 1]), Err(ConfigurationError::TooMany));
        assert_eq!(Configuration::new(&[member(1), member(0)]), Err(ConfigurationError::NodeZero));
        let twice = Configuration::new(&[member(2), member(1), member(2)]);
        assert_eq!(twice, Err(ConfigurationError::Twice(NodeId(2))));
    }

    #[test]
    fn slots_are_a_set() {
        let mut slots = Slots::first(MAX_MEMBERS).without(0);
        slots.remove(7);
        assert!(slots.iter().eq(1..7));
        assert_eq!((slots.len(), slots.lowest()), (6, Some(1)));
        slots.insert(0);
        assert!(slots.contains(0) && !slots.contains(7));
        assert_eq!(slots.both(Slots::first(2)), Slots::first(2));
        assert_eq!(Slots::first(2).either(Slots::first(3)), Slots::first(3));
    }
}
