//! Event batches: built by producers, concatenated by a leader.
