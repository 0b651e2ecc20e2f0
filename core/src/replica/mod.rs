//! Raft, dedup and topics composed into one deterministic machine.
