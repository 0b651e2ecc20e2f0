//! What a majority has decided: pure functions over sets of voters.

use super::configuration::Slots;
use crate::config::MAX_MEMBERS;

/// Decisions need more than half of these voters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Majority {
    voters: Slots,
}

/// How an election stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoteResult {
    /// More than half have granted.
    Won,
    /// So many have refused that it cannot be won any more.
    Lost,
    /// The voters that have not answered decide.
    Pending,
}

impl Majority {
    pub(super) const fn of(voters: Slots) -> Self {
        Self { voters }
    }

    /// The highest value that more than half of the voters have reached, where `value` tells what each has; `None` if
    /// there are no voters, which leaves the decision to others.
    pub(super) fn reached<T: Ord + Copy + Default>(self, value: impl Fn(usize) -> T) -> Option<T> {
        let mut values = [T::default(); MAX_MEMBERS];
        let count = self.voters.len();
        for (place, slot) in values.iter_mut().zip(self.voters.iter()) {
            *place = value(slot);
        }
        let values = &mut values[..count];
        values.sort_unstable();
        // Ascending: the values from here on are those of just more than half.
        values.get(count.saturating_sub(1) / 2).copied()
    }

    /// How an election stands in which these have answered; those in `if_all` have granted their votes in case that all
    /// do. With no voters it is won, which leaves it to others.
    pub(super) fn result(self, granted: Slots, if_all: Slots, refused: Slots) -> VoteResult {
        let all = self.voters.len();
        let needed = all / 2 + 1;
        let count = |slots: Slots| self.voters.both(slots).len();
        if count(granted) >= needed || count(granted.either(if_all)) == all {
            VoteResult::Won
        } else if count(refused) > 0 && all - count(refused.either(if_all)) < needed {
            VoteResult::Lost
        } else {
            VoteResult::Pending
        }
    }
}

/// What decides: a majority, or one of each of two while the configuration is joint (Raft paper, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quorum {
    pub(super) incoming: Majority,
    /// Without voters unless the configuration is joint.
    pub(super) outgoing: Majority,
}

impl Quorum {
    /// The highest value that a majority of each has reached; `None` if there are no voters at all.
    pub(super) fn reached<T: Ord + Copy + Default>(self, value: impl Fn(usize) -> T) -> Option<T> {
        match (self.incoming.reached(&value), self.outgoing.reached(&value)) {
            (Some(incoming), Some(outgoing)) => Some(incoming.min(outgoing)),
            (incoming, outgoing) => incoming.or(outgoing),
        }
    }

    /// How an election stands: see [`Majority::result`].
    pub(super) fn result(self, granted: Slots, if_all: Slots, refused: Slots) -> VoteResult {
        let of = |majority: Majority| majority.result(granted, if_all, refused);
        match (of(self.incoming), of(self.outgoing)) {
            (VoteResult::Lost, _) | (_, VoteResult::Lost) => VoteResult::Lost,
            (VoteResult::Won, VoteResult::Won) => VoteResult::Won,
            _ => VoteResult::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(of: &[usize]) -> Slots {
        let mut set = Slots::NONE;
        of.iter().for_each(|&slot| set.insert(slot));
        set
    }

    fn result(voters: usize, granted: &[usize], if_all: &[usize], refused: &[usize]) -> VoteResult {
        Majority::of(Slots::first(voters)).result(slots(granted), slots(if_all), slots(refused))
    }

    fn reached(values: &[u64]) -> Option<u64> {
        Majority::of(Slots::first(values.len())).reached(|slot| values[slot])
    }

    #[test]
    fn a_value_is_reached_when_more_than_half_have_it() {
        assert_eq!(reached(&[]), None);
        assert_eq!(reached(&[12]), Some(12));
        assert_eq!(reached(&[12, 5]), Some(5));
        assert_eq!(reached(&[12, 5, 0]), Some(5));
        assert_eq!(reached(&[5, 12, 12]), Some(12));
        assert_eq!(reached(&[101, 104, 103, 103]), Some(103));
        assert_eq!(reached(&[101, 102, 103, 103]), Some(102));
        assert_eq!(reached(&[1, 2, 3, 4, 5]), Some(3));
        assert_eq!(reached(&[8, 1, 7, 2, 6, 3, 5, 4]), Some(4));
    }

    #[test]
    fn a_value_that_is_reached_is_had_by_more_than_half_and_a_higher_one_is_not() {
        for count in 1..=5_usize {
            for code in 0..4_usize.pow(count as u32) {
                let value = |slot: usize| code / 4_usize.pow(slot as u32) % 4;
                let reached = Majority::of(Slots::first(count)).reached(value).unwrap();
                let having = |least: usize| (0..count).filter(|&slot| value(slot) >= least).count();
                assert!(2 * having(reached) > count && 2 * having(reached + 1) <= count, "{code} of {count}");
            }
        }
    }

    #[test]
    fn an_election_is_won_or_lost_by_more_than_half() {
        let three = |granted, refused| result(3, granted, &[], refused);
        assert_eq!(three(&[0], &[1]), VoteResult::Pending);
        assert_eq!(three(&[0, 2], &[1]), VoteResult::Won);
        assert_eq!(three(&[0], &[1, 2]), VoteResult::Lost);
        let four = |granted, refused| result(4, granted, &[], refused);
        assert_eq!(four(&[0, 1], &[]), VoteResult::Pending);
        assert_eq!(four(&[0, 1], &[2, 3]), VoteResult::Lost);
        assert_eq!(four(&[0, 1, 3], &[]), VoteResult::Won);
    }

    #[test]
    fn votes_that_ask_for_all_are_no_part_of_a_majority() {
        assert_eq!(result(3, &[0], &[1], &[]), VoteResult::Pending);
        assert_eq!(result(3, &[0], &[1, 2], &[]), VoteResult::Won, "all have granted");
        assert_eq!(result(3, &[0], &[1], &[2]), VoteResult::Lost);
        assert_eq!(result(3, &[0, 2], &[1], &[]), VoteResult::Won, "two need no third");
        assert_eq!(result(3, &[], &[0, 1, 2], &[]), VoteResult::Won);
        assert_eq!(result(5, &[0, 1], &[2, 3], &[]), VoteResult::Pending, "the fifth makes it a majority, or all");
        assert_eq!(result(5, &[0, 1], &[2], &[3]), VoteResult::Pending, "the fifth makes it a majority");
        assert_eq!(result(5, &[0], &[2], &[3, 4]), VoteResult::Lost);
        assert_eq!(result(2, &[0], &[1], &[]), VoteResult::Won);
        assert_eq!(result(1, &[], &[0], &[]), VoteResult::Won);
    }

    #[test]
    fn only_voters_count() {
        let two = Majority::of(slots(&[1, 2]));
        assert_eq!(two.result(slots(&[0, 1, 3, 4]), Slots::NONE, Slots::NONE), VoteResult::Pending);
        assert_eq!(two.reached(|slot| [9, 4, 6][slot]), Some(4));
        assert_eq!(Majority::of(Slots::NONE).result(Slots::NONE, Slots::NONE, Slots::NONE), VoteResult::Won);
    }
}
