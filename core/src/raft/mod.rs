//! Raft without I/O.

mod message;
mod output;

pub use message::{Body, EntryMeta, LogPosition, Message};
pub use output::{HardState, LogView, Output, Persist, Restored, Token};
