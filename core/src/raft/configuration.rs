//! Who the members are, what each is for, and which of their lives counts.

use super::quorum::{Majority, Quorum, VoteResult};
use crate::config::MAX_MEMBERS;
use crate::id::{Incarnation, NodeId};
use core::fmt;
use serde::{Deserialize, Serialize};

/// A member, and the life of its data directory that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The member.
    pub node: NodeId,
    /// Its incarnation: messages of another one are refused.
    pub incarnation: Incarnation,
}

/// What a member is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// Keeps the log and votes.
    Voter,
    /// Votes, and keeps of the log the terms only. Never leads.
    Witness,
    /// Keeps the log and does not vote.
    Learner,
    /// A voter that the configuration in preparation will not have, or will have as a learner.
    Leaving,
}

/// The members of one shard. Each has a place, its *slot*, from the configuration that adds it to the one that no longer
/// has it.
///
/// While a change of several voters is under way there are two sets of voters, and decisions need a majority of each:
/// the configuration is *joint* (Raft paper, section 6; Raft thesis, section 4.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    places: [Option<Member>; MAX_MEMBERS],
    pub(super) sets: Sets,
}

/// Who does what, by slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sets {
    /// Voters; of a joint configuration those that come.
    pub(super) voters: Slots,
    /// The voters before, while the configuration is joint.
    pub(super) outgoing: Slots,
    /// Members that do not vote.
    pub(super) learners: Slots,
    /// Those in `outgoing` that become learners when it ends.
    pub(super) learners_next: Slots,
    /// Those in `voters` or `outgoing` that keep no payloads.
    pub(super) witnesses: Slots,
    /// The leader ends the joint configuration as soon as it is committed.
    pub(super) auto_leave: bool,
}

/// Why a list of members, or what a log or snapshot holds, is no configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigurationError {
    /// It has no voter.
    Empty,
    /// It has more than [`MAX_MEMBERS`].
    TooMany,
    /// Zero is nobody's id.
    NodeZero,
    /// This id stands there twice.
    Twice(NodeId),
    /// It has more than one witness, or one beside fewer than two voters that keep the log.
    Witness,
    /// The bytes are none, or a newer build wrote them.
    Malformed,
}

impl fmt::Display for ConfigurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "a configuration needs at least one voter"),
            Self::TooMany => write!(f, "a configuration has at most {MAX_MEMBERS} members"),
            Self::NodeZero => write!(f, "member ids start at 1"),
            Self::Twice(node) => write!(f, "member {node} is named twice"),
            Self::Witness => write!(f, "one witness is allowed beside two or more voters that keep the log"),
            Self::Malformed => write!(f, "not a configuration that this build knows"),
        }
    }
}

impl core::error::Error for ConfigurationError {}

/// Bytes of the longest [encoded](Configuration::encode) configuration.
pub const MAX_CONFIGURATION_LEN: usize = 2 + MAX_MEMBERS * (1 + 3 + 16 + 1);

/// A configuration as the payload of an entry of kind *configuration*: one postcard message.
#[derive(Serialize, Deserialize)]
struct Encoded {
    auto_leave: bool,
    places: [Option<EncodedMember>; MAX_MEMBERS],
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct EncodedMember {
    member: Member,
    /// The sets that it is in, as bits.
    sets: u8,
}

impl Configuration {
    /// Nobody: what a node knows that has yet to be added.
    pub const NONE: Self = Self {
        places: [None; MAX_MEMBERS],
        sets: Sets {
            voters: Slots::NONE,
            outgoing: Slots::NONE,
            learners: Slots::NONE,
            learners_next: Slots::NONE,
            witnesses: Slots::NONE,
            auto_leave: false,
        },
    };

    /// A configuration in which all of `members` vote and keep the log. Slots are in the order of their ids.
    ///
    /// # Errors
    ///
    /// [`ConfigurationError`]: 1 to [`MAX_MEMBERS`] members, each with an id of its own, 1 or above.
    pub fn new(members: &[Member]) -> Result<Self, ConfigurationError> {
        if members.len() > MAX_MEMBERS {
            return Err(ConfigurationError::TooMany);
        }
        let mut places = [None; MAX_MEMBERS];
        for (place, &member) in places.iter_mut().zip(members) {
            *place = Some(member);
        }
        places[..members.len()].sort_unstable_by_key(|member| member.map(|member| member.node));
        let sets = Sets { voters: Slots::first(members.len()), ..Sets::default() };
        Self { places, sets }.checked()
    }

    /// The same members, of whom `node` keeps no payloads.
    ///
    /// # Errors
    ///
    /// [`ConfigurationError::Witness`]: there is one already, there are fewer than two other voters, or it is no voter.
    pub fn with_witness(mut self, node: NodeId) -> Result<Self, ConfigurationError> {
        self.sets.witnesses.insert(self.slot(node).ok_or(ConfigurationError::Witness)?);
        self.checked()
    }

    /// The configuration, if it is one.
    pub(super) fn checked(self) -> Result<Self, ConfigurationError> {
        let Sets { voters, outgoing, learners, learners_next, witnesses, auto_leave } = self.sets;
        if voters == Slots::NONE {
            return Err(ConfigurationError::Empty);
        }
        for (slot, member) in self.slots_and_members() {
            if member.node == NodeId(0) {
                return Err(ConfigurationError::NodeZero);
            }
            if self.slot(member.node) != Some(slot) {
                return Err(ConfigurationError::Twice(member.node));
            }
        }
        let of_old_or_new = voters.either(outgoing);
        let is_whole = self.slots() == of_old_or_new.either(learners)
            && learners.both(of_old_or_new) == Slots::NONE
            && learners_next.without_all(outgoing) == Slots::NONE
            && learners_next.both(voters) == Slots::NONE
            && (!auto_leave || outgoing != Slots::NONE);
        if !is_whole {
            return Err(ConfigurationError::Malformed);
        }
        let may_have_witness = |voters: Slots| {
            let count = voters.both(witnesses).len();
            count == 0 || count == 1 && voters.len() > 2
        };
        if !may_have_witness(voters)
            || !may_have_witness(outgoing)
            || witnesses.without_all(of_old_or_new) != Slots::NONE
            || witnesses.both(learners_next) != Slots::NONE
        {
            return Err(ConfigurationError::Witness);
        }
        Ok(self)
    }

    /// Writes the configuration to the front of `buffer` and returns its length.
    pub fn encode(&self, buffer: &mut [u8; MAX_CONFIGURATION_LEN]) -> usize {
        let mut places = [None; MAX_MEMBERS];
        for (slot, member) in self.slots_and_members() {
            let bits = self.sets.all().iter().enumerate().map(|(bit, set)| u8::from(set.contains(slot)) << bit).sum();
            places[slot] = Some(EncodedMember { member, sets: bits });
        }
        let encoded = Encoded { auto_leave: self.sets.auto_leave, places };
        postcard::to_slice(&encoded, buffer).expect("the longest configuration fits").len()
    }

    /// Reads the payload of an entry of kind *configuration*.
    ///
    /// # Errors
    ///
    /// [`ConfigurationError`].
    pub fn decode(payload: &[u8]) -> Result<Self, ConfigurationError> {
        let Ok((Encoded { auto_leave, places }, [])) = postcard::take_from_bytes(payload) else {
            return Err(ConfigurationError::Malformed);
        };
        let mut read = Self { places: places.map(|place| place.map(|it| it.member)), ..Self::NONE };
        let mut all = [Slots::NONE; Sets::COUNT];
        for (slot, place) in places.iter().enumerate() {
            let Some(EncodedMember { sets, .. }) = *place else { continue };
            if u32::from(sets) >> Sets::COUNT != 0 {
                return Err(ConfigurationError::Malformed);
            }
            all.iter_mut().enumerate().filter(|(bit, _)| sets >> bit & 1 == 1).for_each(|(_, set)| set.insert(slot));
        }
        read.sets = Sets::from_all(all, auto_leave);
        read.checked()
    }

    /// The members and what they are for, in the order of their slots.
    pub fn members(&self) -> impl Iterator<Item = (Member, Duty)> + '_ {
        self.slots_and_members().map(|(slot, member)| (member, self.duty(slot)))
    }

    /// What `node` is for, if it is a member.
    #[must_use]
    pub fn duty_of(&self, node: NodeId) -> Option<Duty> {
        self.slot(node).map(|slot| self.duty(slot))
    }

    /// The voters, those that come and those that leave, of a joint configuration.
    pub fn voters(&self) -> impl Iterator<Item = Member> + '_ {
        self.of(self.sets.deciding())
    }

    /// Whether decisions need two majorities.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        self.sets.outgoing != Slots::NONE
    }

    fn duty(&self, slot: usize) -> Duty {
        let Sets { voters, learners, witnesses, .. } = self.sets;
        match () {
            () if learners.contains(slot) => Duty::Learner,
            () if !voters.contains(slot) => Duty::Leaving,
            () if witnesses.contains(slot) => Duty::Witness,
            () => Duty::Voter,
        }
    }

    /// The slot of `node`, if it is a member.
    pub(super) fn slot(&self, node: NodeId) -> Option<usize> {
        self.places.iter().position(|place| place.is_some_and(|member| member.node == node))
    }

    /// The member at `slot`, if there is one.
    pub(super) fn member(&self, slot: usize) -> Option<Member> {
        self.places.get(slot).copied().flatten()
    }

    /// The lowest slot that nobody has, here and in `other`.
    pub(super) fn free_slot(&self, other: &Self) -> Option<usize> {
        (0..MAX_MEMBERS).find(|&slot| self.places[slot].or(other.places[slot]).is_none())
    }

    pub(super) fn put(&mut self, slot: usize, member: Option<Member>) {
        self.places[slot] = member;
    }

    /// The slots that somebody has.
    pub(super) fn slots(&self) -> Slots {
        self.slots_and_members().map(|(slot, _)| slot).collect()
    }

    fn slots_and_members(&self) -> impl Iterator<Item = (usize, Member)> + '_ {
        self.places.iter().enumerate().filter_map(|(slot, &place)| Some((slot, place?)))
    }

    /// The voters; of a joint configuration those that come.
    pub fn incoming(&self) -> impl Iterator<Item = Member> + '_ {
        self.of(self.sets.voters)
    }

    /// The voters before, while the configuration is joint.
    pub fn outgoing(&self) -> impl Iterator<Item = Member> + '_ {
        self.of(self.sets.outgoing)
    }

    /// Members that do not vote.
    pub fn learners(&self) -> impl Iterator<Item = Member> + '_ {
        self.of(self.sets.learners)
    }

    /// Voters before that become learners when the joint configuration ends.
    pub fn learners_next(&self) -> impl Iterator<Item = Member> + '_ {
        self.of(self.sets.learners_next)
    }

    /// Whether the configuration is joint, and its leader ends that as soon as it is committed.
    #[must_use]
    pub const fn leaves_by_itself(&self) -> bool {
        self.sets.auto_leave
    }

    fn of(&self, set: Slots) -> impl Iterator<Item = Member> + '_ {
        self.slots_and_members().filter(move |&(slot, _)| set.contains(slot)).map(|(_, member)| member)
    }

    /// The highest value that more than half of the voters have reached, where `value` tells what each has; of a joint
    /// configuration the lower one of its two. `None` without voters.
    pub fn reached<T: Ord + Copy + Default>(&self, value: impl Fn(NodeId) -> T) -> Option<T> {
        self.quorum().reached(|slot| self.member(slot).map_or(T::default(), |member| value(member.node)))
    }

    /// How an election stands, where `vote` tells what each voter has answered. Without voters it is won.
    pub fn election(&self, vote: impl Fn(NodeId) -> Option<bool>) -> VoteResult {
        let voted = |what: bool| {
            let slots = self.slots_and_members().filter(|(_, member)| vote(member.node) == Some(what));
            slots.map(|(slot, _)| slot).collect()
        };
        self.quorum().result(voted(true), Slots::NONE, voted(false))
    }

    /// What decides elections and commits.
    pub(super) fn quorum(&self) -> Quorum {
        Quorum { incoming: Majority::of(self.sets.voters), outgoing: Majority::of(self.sets.outgoing) }
    }
}

impl Sets {
    const COUNT: usize = 5;

    fn all(&self) -> [Slots; Self::COUNT] {
        [self.voters, self.outgoing, self.learners, self.learners_next, self.witnesses]
    }

    fn from_all(all: [Slots; Self::COUNT], auto_leave: bool) -> Self {
        let [voters, outgoing, learners, learners_next, witnesses] = all;
        Self { voters, outgoing, learners, learners_next, witnesses, auto_leave }
    }

    /// Those on whom decisions depend.
    pub(super) fn deciding(&self) -> Slots {
        self.voters.either(self.outgoing)
    }
}

/// As the thesis writes it: `1 2 3`, and `2 3 4 & 1 2 3` of a joint configuration.
impl fmt::Display for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        let mut list = |f: &mut fmt::Formatter<'_>, name: &str, set: Slots| {
            for (place, slot) in set.iter().enumerate() {
                let before = if place == 0 { name } else { "" };
                write!(f, "{between}{before}{}", self.places[slot].map_or(NodeId(0), |member| member.node))?;
                between = " ";
            }
            Ok(())
        };
        list(f, "", self.sets.voters)?;
        list(f, "& ", self.sets.outgoing)?;
        list(f, "witness ", self.sets.witnesses)?;
        list(f, "learners ", self.sets.learners)?;
        list(f, "then learners ", self.sets.learners_next)
    }
}

/// A set of members, by slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Slots(u16);

const _: () = assert!(MAX_MEMBERS < u16::BITS as usize, "a set of slots, and one for a guest, is two bytes");

impl Slots {
    pub(super) const NONE: Self = Self(0);

    /// The slots below `count`.
    pub(super) const fn first(count: usize) -> Self {
        Self(((1_u32 << count) - 1) as u16)
    }

    pub(super) const fn only(slot: usize) -> Self {
        Self(1 << slot)
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

    pub(super) fn without_all(self, other: Self) -> Self {
        Self(self.0 & !other.0)
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

    /// Those that are in one of the two sets only.
    pub(super) fn differing(self, other: Self) -> Self {
        Self(self.0 ^ other.0)
    }

    pub(super) fn iter(mut self) -> impl Iterator<Item = usize> {
        core::iter::from_fn(move || {
            let slot = self.lowest()?;
            self.remove(slot);
            Some(slot)
        })
    }
}

impl FromIterator<usize> for Slots {
    fn from_iter<I: IntoIterator<Item = usize>>(slots: I) -> Self {
        let mut set = Self::NONE;
        slots.into_iter().for_each(|slot| set.insert(slot));
        set
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    fn member(node: u16) -> Member {
        Member { node: NodeId(node), incarnation: Incarnation([node as u8; 16]) }
    }

    fn of(nodes: &[u16]) -> Configuration {
        let members: std::vec::Vec<_> = nodes.iter().copied().map(member).collect();
        Configuration::new(&members).unwrap()
    }

    #[test]
    fn the_first_members_stand_in_the_order_of_their_ids() {
        let configuration = of(&[9, 2, 5]);
        assert!(configuration.members().eq([2, 5, 9].map(|node| (member(node), Duty::Voter))));
        assert_eq!(configuration.slot(NodeId(5)), Some(1));
        assert_eq!(configuration.slot(NodeId(3)), None);
        assert_eq!(configuration.free_slot(&configuration), Some(3));
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
    fn one_witness_stands_beside_two_that_keep_the_log() {
        let three = of(&[1, 2, 3]).with_witness(NodeId(3)).unwrap();
        assert_eq!(three.duty_of(NodeId(3)), Some(Duty::Witness));
        assert_eq!(three.with_witness(NodeId(2)), Err(ConfigurationError::Witness));
        assert_eq!(of(&[1, 2]).with_witness(NodeId(2)), Err(ConfigurationError::Witness));
        assert_eq!(of(&[1, 2, 3]).with_witness(NodeId(4)), Err(ConfigurationError::Witness));
        assert_eq!(std::format!("{three}"), "1 2 3 witness 3");
    }

    #[test]
    fn bytes_are_a_configuration_or_refused() {
        let mut buffer = [0; MAX_CONFIGURATION_LEN];
        let mut all = of(&[1, 2, 3, 700]);
        all.sets = Sets {
            voters: [1, 2].into_iter().collect(),
            outgoing: [0, 1].into_iter().collect(),
            learners: [3].into_iter().collect(),
            learners_next: [0].into_iter().collect(),
            witnesses: Slots::NONE,
            auto_leave: true,
        };
        let all = all.checked().unwrap();
        for configuration in
            [of(&[1]), of(&[1, 2, 3]).with_witness(NodeId(1)).unwrap(), of(&[1, 2, 3, 4, 5, 6, 7, 8]), all]
        {
            let len = configuration.encode(&mut buffer);
            assert_eq!(Configuration::decode(&buffer[..len]), Ok(configuration));
            for end in 0..len {
                assert_eq!(Configuration::decode(&buffer[..end]), Err(ConfigurationError::Malformed));
            }
        }
        assert_eq!(std::format!("{all}"), "2 3 & 1 2 learners 700 then learners 1");
        let len = of(&[1]).encode(&mut buffer);
        assert_eq!(Configuration::decode(&buffer[..=len]), Err(ConfigurationError::Malformed), "a byte more");
        // The sets of the first member are the byte behind its incarnation.
        for sets in [0b0, 0b10, 0b101, 0b1001, 0b10001, 0b100_001] {
            buffer[3 + 16] = sets;
            assert!(Configuration::decode(&buffer[..len]).is_err(), "{sets:b}");
        }
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
        assert_eq!(Slots::first(3).differing(Slots::first(2)), [2].into_iter().collect());
        assert_eq!(Slots::first(3).without_all(Slots::first(2)), [2].into_iter().collect());
    }
}
