//! What became of a run of events.
