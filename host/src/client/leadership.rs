//! Who leads, as far as this client has heard.

use eventstream_core::id::{NodeId, Term};
use eventstream_core::time::{Duration, Instant};

/// How long a leader that refused as *not the leader* is left alone, unless a newer term is heard of first; doubles with
/// every further refusal, ...
const DOUBT: Duration = Duration::from_millis(50);
/// ... up to 16 times as long.
const DOUBLINGS: u32 = 4;

/// The highest (term, leader) that any node has told.
///
/// A node that knows a higher term but no leader in it changes nothing: the old leader may still be serving, and if it
/// is not, it refuses and [`Leadership::handle_refusal`] hears of it.
#[derive(Debug, Default)]
pub(crate) struct Leadership {
    known: Option<(Term, NodeId)>,
    doubted_until: Option<Instant>,
    /// How often it was doubted since it became known.
    doubts: u32,
}

impl Leadership {
    /// Whom to send to now.
    pub(crate) fn leader(&self) -> Option<(Term, NodeId)> {
        if self.doubted_until.is_some() { None } else { self.known }
    }

    /// When the leader that was doubted is believed again.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.doubted_until
    }

    /// A node said who leads. Returns whether that is news.
    pub(crate) fn handle_leader(&mut self, term: Term, leader: Option<NodeId>) -> bool {
        let Some(leader) = leader else { return false };
        if self.known.is_some_and(|(known, _)| term <= known) {
            return false;
        }
        *self = Self { known: Some((term, leader)), ..Self::default() };
        true
    }

    /// `node` refused because it does not lead (any more) in `term`, where it has named one. Returns whether that changes
    /// whom to send to: a refusal from before the term that it is known to lead does not.
    pub(crate) fn handle_refusal(&mut self, now: Instant, node: NodeId, term: Option<Term>) -> bool {
        match self.known {
            Some((known, leader))
                if leader == node && self.doubted_until.is_none() && term.is_none_or(|term| term >= known) =>
            {
                self.doubted_until = Some(now + DOUBT * (1 << self.doubts.min(DOUBLINGS)));
                self.doubts += 1;
                true
            }
            _ => false,
        }
    }

    /// Time has passed. Returns whether that changes whom to send to.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> bool {
        self.doubted_until.take_if(|until| *until <= now).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leadership(term: u64, leader: u16) -> Leadership {
        let mut leadership = Leadership::default();
        assert!(leadership.handle_leader(Term(term), Some(NodeId(leader))));
        leadership
    }

    #[test]
    fn only_a_higher_term_with_a_leader_is_news() {
        let mut leadership = leadership(3, 1);
        assert!(!leadership.handle_leader(Term(2), Some(NodeId(2))), "an old term");
        assert!(!leadership.handle_leader(Term(3), Some(NodeId(1))), "known already");
        assert!(!leadership.handle_leader(Term(4), None), "nobody leads there yet");
        assert_eq!(leadership.leader(), Some((Term(3), NodeId(1))));
        assert!(leadership.handle_leader(Term(4), Some(NodeId(2))));
        assert_eq!(leadership.leader(), Some((Term(4), NodeId(2))));
    }

    #[test]
    fn a_leader_that_refuses_is_left_alone_for_a_while() {
        let mut leadership = leadership(3, 1);
        let now = Instant::from_micros(1_000);
        assert!(!leadership.handle_refusal(now, NodeId(2), Some(Term(3))), "it never claimed to lead");
        assert!(!leadership.handle_refusal(now, NodeId(1), Some(Term(2))), "it leads again since");
        assert!(leadership.handle_refusal(now, NodeId(1), Some(Term(3))));
        assert_eq!(leadership.leader(), None);
        assert!(!leadership.handle_timeout(now));
        assert_eq!(leadership.next_deadline(), Some(now + DOUBT));
        assert!(leadership.handle_timeout(now + DOUBT));
        assert_eq!(leadership.leader(), Some((Term(3), NodeId(1))));
        assert!(leadership.handle_refusal(now, NodeId(1), None));
        assert_eq!(leadership.next_deadline(), Some(now + DOUBT * 2), "for longer each time");
    }

    #[test]
    fn a_newer_leader_ends_the_doubt() {
        let mut leadership = leadership(3, 1);
        assert!(leadership.handle_refusal(Instant::ZERO, NodeId(1), None));
        assert!(leadership.handle_leader(Term(5), Some(NodeId(1))));
        assert_eq!(leadership.leader(), Some((Term(5), NodeId(1))));
    }
}
