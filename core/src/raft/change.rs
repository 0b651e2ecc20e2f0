//! How one configuration becomes the next (Raft paper, section 6; Raft thesis, chapter 4): pure functions.

use super::configuration::{Configuration, ConfigurationError, Member, Sets, Slots};
use super::error::ProposeError;
use crate::id::{Index, NodeId};
use core::fmt;

/// One step of a change of members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The member votes from now on; it may have been a learner.
    AddVoter(Member),
    /// The member votes from now on, and keeps of the log the terms only.
    AddWitness(Member),
    /// The member gets the log and does not vote; it may have been a voter.
    AddLearner(Member),
    /// The node is no member any more.
    Remove(NodeId),
}

/// How several changes take effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// At once where they change at most one voter, else by a joint configuration that ends by itself.
    Auto,
    /// By a joint configuration that ends as soon as it is committed.
    Joint,
    /// By a joint configuration that ends when it is told to.
    JointUntilTold,
}

/// Why a change of members is refused. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeError {
    /// No voter would be left.
    NoVoter,
    /// More than one voter changes, and the configuration is not joint.
    SeveralVoters,
    /// The configuration is joint already.
    Joint,
    /// The configuration is not joint.
    NotJoint,
    /// The node is a member in another life: remove that one first.
    OtherIncarnation {
        /// The node.
        node: NodeId,
    },
    /// A witness does not become a member that keeps the log, nor the other way round: remove it first.
    WitnessForLife {
        /// The node.
        node: NodeId,
    },
    /// What results is no configuration.
    Configuration(ConfigurationError),
    /// An entry before it is not committed yet: the last change, or the first entry of this leader.
    Pending {
        /// The entry's index.
        index: Index,
    },
    /// No voter that stays is known to have all that is committed.
    OnlyCopy {
        /// What is committed.
        commit: Index,
    },
    /// This node cannot propose anything.
    Propose(ProposeError),
}

impl From<ProposeError> for ChangeError {
    fn from(error: ProposeError) -> Self {
        Self::Propose(error)
    }
}

impl From<ConfigurationError> for ChangeError {
    fn from(error: ConfigurationError) -> Self {
        match error {
            ConfigurationError::Empty => Self::NoVoter,
            error => Self::Configuration(error),
        }
    }
}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoVoter => f.write_str("no voter would be left"),
            Self::SeveralVoters => f.write_str("more than one voter changes, which needs a joint configuration"),
            Self::Joint => f.write_str("the configuration is joint already"),
            Self::NotJoint => f.write_str("the configuration is not joint"),
            Self::OtherIncarnation { node } => write!(f, "node {node} is a member in another life: remove that first"),
            Self::WitnessForLife { node } => {
                write!(f, "node {node} cannot begin or cease to be a witness: remove it first")
            }
            Self::Configuration(error) => error.fmt(f),
            Self::Pending { index } => write!(f, "entry {index} is to be committed first"),
            Self::OnlyCopy { commit } => write!(f, "no voter that stays is known to have all entries up to {commit}"),
            Self::Propose(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for ChangeError {}

impl Configuration {
    /// The configuration after `changes`, as `transition` says.
    ///
    /// # Errors
    ///
    /// [`ChangeError`].
    pub fn changed(&self, changes: &[Change], transition: Transition) -> Result<Self, ChangeError> {
        match transition {
            Transition::Auto => match self.simple(changes) {
                Err(ChangeError::SeveralVoters) => self.enter_joint(changes, true),
                result => result,
            },
            Transition::Joint => self.enter_joint(changes, true),
            Transition::JointUntilTold => self.enter_joint(changes, false),
        }
    }

    /// The configuration after `changes`, of which at most one may be of a voter: then every majority of the one has a
    /// member in common with every majority of the other (Raft thesis, section 4.1).
    ///
    /// # Errors
    ///
    /// [`ChangeError`].
    pub fn simple(&self, changes: &[Change]) -> Result<Self, ChangeError> {
        if self.is_joint() {
            return Err(ChangeError::Joint);
        }
        let next = self.apply(changes)?;
        if next.sets.voters.differing(self.sets.voters).len() > 1 {
            return Err(ChangeError::SeveralVoters);
        }
        Ok(next.checked()?)
    }

    /// The joint configuration between this one and the one after `changes` (Raft thesis, section 4.3).
    ///
    /// # Errors
    ///
    /// [`ChangeError`].
    pub fn enter_joint(&self, changes: &[Change], auto_leave: bool) -> Result<Self, ChangeError> {
        if self.is_joint() {
            return Err(ChangeError::Joint);
        }
        if self.sets.voters == Slots::NONE {
            return Err(ChangeError::NoVoter);
        }
        let mut joint = *self;
        joint.sets = Sets { outgoing: self.sets.voters, auto_leave, ..self.sets };
        Ok(joint.apply(changes)?.checked()?)
    }

    /// The configuration that this joint one leads to.
    ///
    /// # Errors
    ///
    /// [`ChangeError::NotJoint`].
    pub fn leave_joint(&self) -> Result<Self, ChangeError> {
        if !self.is_joint() {
            return Err(ChangeError::NotJoint);
        }
        let Sets { voters, learners, learners_next, witnesses, .. } = self.sets;
        let mut next = *self;
        next.sets = Sets {
            voters,
            learners: learners.either(learners_next),
            witnesses: witnesses.both(voters),
            ..Sets::default()
        };
        let left = self.slots().without_all(next.sets.voters.either(next.sets.learners));
        left.iter().for_each(|slot| next.put(slot, None));
        Ok(next.checked()?)
    }

    fn apply(&self, changes: &[Change]) -> Result<Self, ChangeError> {
        let mut next = *self;
        for &change in changes {
            match change {
                Change::AddVoter(member) => next.add_voter(self, member, false)?,
                Change::AddWitness(member) => next.add_voter(self, member, true)?,
                Change::AddLearner(member) => next.add_learner(self, member)?,
                Change::Remove(node) => next.remove(node),
            }
        }
        if next.sets.voters == Slots::NONE { Err(ChangeError::NoVoter) } else { Ok(next) }
    }

    fn add_voter(&mut self, before: &Self, member: Member, is_witness: bool) -> Result<(), ChangeError> {
        let slot = self.admit(before, member, is_witness)?;
        self.sets.voters.insert(slot);
        self.sets.learners.remove(slot);
        self.sets.learners_next.remove(slot);
        if is_witness {
            self.sets.witnesses.insert(slot);
        }
        Ok(())
    }

    fn add_learner(&mut self, before: &Self, member: Member) -> Result<(), ChangeError> {
        let slot = self.admit(before, member, false)?;
        self.sets.voters.remove(slot);
        // Who still votes until the joint configuration ends becomes a learner then.
        let when =
            if self.sets.outgoing.contains(slot) { &mut self.sets.learners_next } else { &mut self.sets.learners };
        when.insert(slot);
        Ok(())
    }

    fn remove(&mut self, node: NodeId) {
        let Some(slot) = self.slot(node) else { return };
        self.sets.voters.remove(slot);
        self.sets.learners.remove(slot);
        self.sets.learners_next.remove(slot);
        if !self.sets.outgoing.contains(slot) {
            self.sets.witnesses.remove(slot);
            self.put(slot, None);
        }
    }

    /// The slot of the member. If it has none, it gets one that nobody had `before` either: who has a slot is the same in
    /// both, so that sets of slots can be compared.
    fn admit(&mut self, before: &Self, member: Member, is_witness: bool) -> Result<usize, ChangeError> {
        let Some(slot) = self.slot(member.node) else {
            let slot = self.free_slot(before).ok_or(ConfigurationError::TooMany)?;
            self.put(slot, Some(member));
            return Ok(slot);
        };
        if self.member(slot) != Some(member) {
            return Err(ChangeError::OtherIncarnation { node: member.node });
        }
        if self.sets.witnesses.contains(slot) != is_witness {
            return Err(ChangeError::WitnessForLife { node: member.node });
        }
        Ok(slot)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::config::MAX_MEMBERS;
    use crate::id::Incarnation;
    use crate::raft::Duty;
    use std::collections::BTreeSet;
    use std::string::{String, ToString};
    use std::vec::Vec;

    fn member(node: u16) -> Member {
        Member { node: NodeId(node), incarnation: Incarnation([node as u8; 16]) }
    }

    fn voter(node: u16) -> Change {
        Change::AddVoter(member(node))
    }

    fn learner(node: u16) -> Change {
        Change::AddLearner(member(node))
    }

    fn remove(node: u16) -> Change {
        Change::Remove(NodeId(node))
    }

    fn of(nodes: &[u16]) -> Configuration {
        Configuration::new(&nodes.iter().copied().map(member).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn one_voter_changes_at_once_and_several_by_a_joint_configuration() {
        let three = of(&[1, 2, 3]);
        let auto = |changes: &[Change]| three.changed(changes, Transition::Auto).unwrap();
        assert_eq!(auto(&[voter(4)]).to_string(), "1 2 3 4");
        assert_eq!(auto(&[remove(1), learner(4)]).to_string(), "2 3 learners 4");
        assert_eq!(auto(&[remove(1), voter(4)]).to_string(), "2 3 4 & 1 2 3");
        assert!(auto(&[remove(1), voter(4)]).sets.auto_leave);
        assert_eq!(three.simple(&[remove(1), voter(4)]), Err(ChangeError::SeveralVoters));
        let until_told = three.changed(&[learner(1), voter(4)], Transition::JointUntilTold).unwrap();
        assert_eq!(until_told.to_string(), "2 3 4 & 1 2 3 then learners 1");
        assert!(!until_told.sets.auto_leave);
        assert_eq!(until_told.leave_joint().unwrap().to_string(), "2 3 4 learners 1");
        assert_eq!(until_told.simple(&[]), Err(ChangeError::Joint));
        assert_eq!(until_told.enter_joint(&[], true), Err(ChangeError::Joint));
        assert_eq!(three.leave_joint(), Err(ChangeError::NotJoint));
        assert_eq!(three.simple(&[remove(1), remove(2), remove(3)]), Err(ChangeError::NoVoter));
    }

    #[test]
    fn a_slot_is_free_when_nothing_depends_on_its_member_any_more() {
        let joint = of(&[1, 2, 3]).enter_joint(&[remove(2), voter(4)], true).unwrap();
        assert_eq!((joint.slot(NodeId(2)), joint.slot(NodeId(4))), (Some(1), Some(3)));
        assert_eq!(joint.duty_of(NodeId(2)), Some(Duty::Leaving));
        let after = joint.leave_joint().unwrap();
        assert_eq!((after.slot(NodeId(2)), after.free_slot(&after)), (None, Some(1)));
        assert_eq!(after.simple(&[learner(9)]).unwrap().slot(NodeId(9)), Some(1));
    }

    #[test]
    fn a_life_of_a_member_is_removed_before_the_next_is_added() {
        let again = Member { incarnation: Incarnation([99; 16]), ..member(3) };
        let three = of(&[1, 2, 3]);
        let refused = Err(ChangeError::OtherIncarnation { node: NodeId(3) });
        assert_eq!(three.simple(&[Change::AddLearner(again)]), refused);
        assert_eq!(three.enter_joint(&[remove(3), Change::AddVoter(again)], true), refused, "it still votes");
        let two = three.simple(&[remove(3)]).unwrap();
        assert_eq!(two.simple(&[Change::AddLearner(again)]).unwrap().to_string(), "1 2 learners 3");
    }

    #[test]
    fn who_is_a_witness_stays_one() {
        let three = of(&[1, 2]).simple(&[Change::AddWitness(member(3))]).unwrap();
        let for_life = |node| Err(ChangeError::WitnessForLife { node: NodeId(node) });
        assert_eq!(three.simple(&[voter(3)]), for_life(3));
        assert_eq!(three.simple(&[learner(3)]), for_life(3));
        assert_eq!(three.simple(&[Change::AddWitness(member(1))]), for_life(1));
        let witness = |changes: &[Change]| three.changed(changes, Transition::Auto);
        let refused = Err(ChangeError::Configuration(ConfigurationError::Witness));
        assert_eq!(witness(&[Change::AddWitness(member(4))]), refused, "a second one");
        assert_eq!(witness(&[remove(2)]), refused, "fewer than two beside it");
        let replaced = witness(&[remove(3), Change::AddWitness(member(4))]).unwrap();
        assert_eq!(replaced.to_string(), "1 2 4 & 1 2 3 witness 3 4");
        assert_eq!(replaced.leave_joint().unwrap().to_string(), "1 2 4 witness 4");
        assert_eq!(witness(&[remove(3)]).unwrap(), of(&[1, 2]));
    }

    #[test]
    fn members_beyond_the_ceiling_are_refused() {
        let all: Vec<_> = (1..=MAX_MEMBERS as u16).collect();
        let error = Err(ChangeError::Configuration(ConfigurationError::TooMany));
        assert_eq!(of(&all).simple(&[learner(99)]), error);
        assert_eq!(of(&all).simple(&[remove(1), learner(99)]), error, "the slot is free after this change");
    }

    /// Every sequence of changes leads to a configuration, or is refused; and old and new majorities meet.
    #[test]
    fn majorities_before_and_after_have_a_member_in_common() {
        let mut seen: BTreeSet<String> = BTreeSet::new();
        let mut open = std::vec![of(&[1])];
        while let Some(now) = open.pop() {
            if !seen.insert(now.to_string()) {
                continue;
            }
            let mut after = Vec::new();
            for node in 1..=4 {
                let each = [voter(node), Change::AddWitness(member(node)), learner(node), remove(node)];
                for change in each {
                    after.extend([now.simple(&[change]), now.enter_joint(&[change, voter(1)], false)]);
                }
                after.push(now.enter_joint(&[remove(node), voter(node % 4 + 1)], false));
            }
            after.push(now.leave_joint());
            for then in after.into_iter().flatten() {
                assert!(then.checked().is_ok(), "{now} to {then}");
                assert!(meets(&now, &then), "{now} to {then}");
                open.push(then);
            }
        }
        assert!(seen.len() > 500, "{} configurations", seen.len());
    }

    fn meets(one: &Configuration, other: &Configuration) -> bool {
        use crate::raft::quorum::VoteResult;
        // By node, since slots are given anew.
        let decides = |configuration: &Configuration, nodes: u16| {
            let granted: Slots = (1..=4)
                .filter(|node| nodes >> node & 1 == 1)
                .filter_map(|node| configuration.slot(NodeId(node)))
                .collect();
            configuration.quorum().result(granted, Slots::NONE, Slots::NONE) == VoteResult::Won
        };
        // Two disjoint sets of nodes must not both decide.
        (0..32_u16).step_by(2).all(|nodes| !decides(one, nodes) || !decides(other, !nodes))
    }
}
