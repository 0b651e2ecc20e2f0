//! Which term the entries of the log's newest part have.

use crate::config::MAX_TERM_RUNS;
use crate::id::{Index, Term};
use heapless::Deque;

/// Entries of one term; they end where the next run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    /// The first entry that is known to be of the term, not always the first of the term.
    first: Index,
    term: Term,
}

/// The newest changes of term, at most [`MAX_TERM_RUNS`]. Of older entries the store knows the term.
#[derive(Clone, Debug, Default)]
pub(super) struct TermRuns {
    /// Ascending in both index and term.
    runs: Deque<Run, MAX_TERM_RUNS>,
}

impl TermRuns {
    /// Says that from `index` on entries are of `term`. Forgets the oldest run where there is no room.
    pub(super) fn push(&mut self, index: Index, term: Term) {
        if let Some(newest) = self.runs.back() {
            if newest.term == term {
                return;
            }
            assert!(newest.term < term && newest.first < index, "terms only grow along the log");
        }
        if self.runs.is_full() {
            self.runs.pop_front();
        }
        assert!(self.runs.push_back(Run { first: index, term }).is_ok(), "there is room");
    }

    /// The last entry that would be forgotten if a run of `term` were pushed.
    pub(super) fn forgets(&self, term: Term) -> Option<Index> {
        let grows = self.runs.back().is_some_and(|newest| newest.term != term);
        if grows && self.runs.is_full() { self.runs.get(1).map(|second| second.first.prev()) } else { None }
    }

    /// Says that the log has no entry at or after `index` any more.
    pub(super) fn truncate(&mut self, index: Index) {
        while self.runs.pop_back_if(|run| run.first >= index).is_some() {}
    }

    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The first index whose term is known here.
    pub(super) fn first(&self) -> Option<Index> {
        self.runs.front().map(|run| run.first)
    }

    /// The term of the entry at `index`, which the log holds; `None` if it is older than what is remembered.
    pub(super) fn term(&self, index: Index) -> Option<Term> {
        self.runs.iter().rev().find(|run| run.first <= index).map(|run| run.term)
    }

    /// The last entry at or before `index` with a term of at most `term`, if it is known here.
    pub(super) fn last_at_most(&self, index: Index, term: Term) -> Option<(Index, Term)> {
        let mut end = index;
        for run in self.runs.iter().rev() {
            if run.first <= end && run.term <= term {
                return Some((end, run.term));
            }
            end = end.min(run.first.prev());
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Terms 2 from index 4, 5 from 6, 7 from 10.
    fn runs() -> TermRuns {
        let mut terms = TermRuns::default();
        for (index, term) in [(4, 2), (5, 2), (6, 5), (9, 5), (10, 7)] {
            terms.push(Index(index), Term(term));
        }
        terms
    }

    #[test]
    fn terms_are_looked_up_by_index() {
        let terms = runs();
        assert_eq!((terms.first(), terms.term(Index(3))), (Some(Index(4)), None));
        assert_eq!(terms.term(Index(4)), Some(Term(2)));
        assert_eq!(terms.term(Index(9)), Some(Term(5)));
        assert_eq!(terms.term(Index(99)), Some(Term(7)));
    }

    #[test]
    fn truncation_forgets_the_runs_that_began_later() {
        let mut terms = runs();
        terms.truncate(Index(7));
        assert_eq!(terms.term(Index(99)), Some(Term(5)));
        terms.truncate(Index(4));
        assert!(terms.is_empty());
    }

    #[test]
    fn the_last_entry_of_a_term_is_found() {
        let terms = runs();
        let found = |index, term| terms.last_at_most(Index(index), Term(term)).map(|(index, term)| (index.0, term.0));
        assert_eq!(found(12, 9), Some((12, 7)));
        assert_eq!(found(12, 6), Some((9, 5)));
        assert_eq!(found(8, 5), Some((8, 5)));
        assert_eq!(found(8, 4), Some((5, 2)));
        assert_eq!(found(8, 1), None);
        assert_eq!(found(3, 9), None);
    }

    #[test]
    fn the_oldest_run_makes_room() {
        let mut terms = TermRuns::default();
        let full = MAX_TERM_RUNS as u64;
        for term in 1..=full {
            assert_eq!(terms.forgets(Term(term)), None);
            terms.push(Index(term * 10), Term(term));
        }
        assert_eq!(terms.forgets(Term(full)), None);
        assert_eq!(terms.forgets(Term(full + 1)), Some(Index(19)));
        terms.push(Index(full * 10 + 10), Term(full + 1));
        assert_eq!((terms.term(Index(19)), terms.term(Index(20))), (None, Some(Term(2))));
    }
}
