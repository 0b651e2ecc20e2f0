//! Atomics and cells, exchanged for those of loom under test.
