//! The store against a model of it: a list of terms. Any order of appends, cuts, votes, commits and restarts.

use crate::support::{Node, entries, frame, sync};
use eventstream_core::id::{Index, NodeId, Term};
use eventstream_core::raft::HardState;
use eventstream_host::storage::{LogStore, Opened};

/// What a log holds: the term of each entry, and the hard state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Log {
    terms: Vec<u64>,
    hard_state: HardState,
}

/// The same numbers for the same seed (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % limit
    }
}

struct Run {
    node: Node,
    opened: Option<Opened>,
    numbers: Numbers,
    /// What is on disk,
    kept: Log,
    /// and what it will be after the next commit.
    next: Log,
    has_new_entries: bool,
    restarts: u32,
    cuts: u32,
}

impl Run {
    fn new(seed: u64) -> Self {
        let node = Node::new();
        let opened = Some(node.open());
        let (kept, next) = (Log::default(), Log::default());
        Self { node, opened, numbers: Numbers(seed), kept, next, has_new_entries: false, restarts: 0, cuts: 0 }
    }

    fn opened(&mut self) -> &mut Opened {
        self.opened.as_mut().expect("closed only during a restart")
    }

    fn step(&mut self) {
        match self.numbers.below(10) {
            0..=3 => self.append(),
            4 => self.cut(),
            5 => self.vote(),
            6..=8 => self.commit(),
            _ => self.restart(),
        }
    }

    fn append(&mut self) {
        let term = self.next.hard_state.term.0.max(1);
        for _ in 0..=self.numbers.below(4) {
            self.next.terms.push(term);
            let index = self.next.terms.len() as u64;
            self.opened().store.append(Index(index), &frame(index, term, 60)).unwrap();
        }
        self.has_new_entries = true;
    }

    fn cut(&mut self) {
        let from = 1 + self.numbers.below(self.next.terms.len() as u64 + 2);
        let cuts_something = from <= self.next.terms.len() as u64;
        if cuts_something && self.has_new_entries {
            // The store then writes what it has first.
            self.kept = self.next.clone();
            self.has_new_entries = false;
        }
        self.opened().store.truncate(Index(from)).unwrap();
        self.next.terms.truncate(from as usize - 1);
        self.cuts += u32::from(cuts_something);
    }

    fn vote(&mut self) {
        let state = &mut self.next.hard_state;
        state.term = Term(state.term.0 + 1);
        state.vote = Some(NodeId(1 + (state.term.0 % 3) as u16));
        let state = *state;
        self.opened().store.set_hard_state(state).unwrap();
    }

    fn commit(&mut self) {
        sync(self.opened());
        self.kept = self.next.clone();
        self.has_new_entries = false;
    }

    fn restart(&mut self) {
        self.opened = None;
        self.opened = Some(self.node.open());
        self.next = self.kept.clone();
        self.has_new_entries = false;
        self.restarts += 1;
        let kept = self.kept.clone();
        let stored = self.opened().stored;
        assert_eq!(stored.last.index, Index(kept.terms.len() as u64));
        assert_eq!(stored.last.term, Term(kept.terms.last().copied().unwrap_or(0)));
        assert_eq!(stored.hard_state, kept.hard_state);
        let found: Vec<u64> =
            entries(&self.opened().reader, 1, u64::MAX - 1).into_iter().map(|(_, term)| term).collect();
        assert_eq!(found, kept.terms);
    }
}

#[test]
fn any_history_is_there_after_a_restart() {
    let (mut restarts, mut cuts) = (0, 0);
    for seed in 0..25 {
        println!("seed {seed}");
        let mut run = Run::new(seed);
        (0..80).for_each(|_| run.step());
        run.commit();
        run.restart();
        restarts += run.restarts;
        cuts += run.cuts;
    }
    assert!(restarts > 100 && cuts > 50, "{restarts} restarts, {cuts} cuts");
}
