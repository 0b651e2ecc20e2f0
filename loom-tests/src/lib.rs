//! Models of the lock-free structures.
