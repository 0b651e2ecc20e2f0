//! Wakes a sleeping consumer, once.
