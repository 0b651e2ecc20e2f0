//! A small deterministic world for tests of Raft: nodes with disks, and a network that does what the test says.
#![allow(dead_code, unused_imports, unreachable_pub, missing_docs, reason = "each test binary uses its part of it")]

pub mod node;
pub mod world;

pub use node::{Disk, Envelope, Node, entries, member, members, metas, options, with_witness};
pub use world::World;

use eventstream_core::id::{Index, NodeId, Term};
use eventstream_core::raft::LogPosition;
use eventstream_core::time::{Duration, Instant};

/// An entry's index and term.
pub fn at(index: u64, term: u64) -> LogPosition {
    LogPosition { index: Index(index), term: Term(term) }
}

/// Terms of the entries of a log, from index 1.
pub fn terms<const N: usize>(terms: [u64; N]) -> Vec<Term> {
    terms.map(Term).to_vec()
}

/// So many milliseconds after the origin.
pub fn ms(millis: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(millis)
}

/// A node.
pub fn id(node: u16) -> NodeId {
    NodeId(node)
}
