//! Exactly-once publish: decisions made when an entry is applied.
