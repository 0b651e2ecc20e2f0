//! EventStreamCore on a machine with an operating system: the node and the client.

pub mod checksum;
pub mod client;
pub mod clock;
pub mod config;
pub mod errors;
pub mod identity;
pub mod node;
pub mod reference;
pub mod storage;
mod stream;
pub mod tls;
pub mod verify;
