//! EventStreamCore's core: consensus, deduplication, batching and the wire codec, without allocation, clock,
//! randomness or I/O.
#![no_std]

pub mod batch;
pub mod config;
pub mod crc;
pub mod dedup;
mod digest;
pub mod doorbell;
pub mod id;
pub mod pool;
pub mod raft;
pub mod receipt;
pub mod replica;
pub mod ring;
mod sync;
mod table;
pub mod time;
pub mod wire;
