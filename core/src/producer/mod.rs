//! A device that publishes: its events lie in flash until the cluster has them, and survive whatever resets it.
//!
//! [`FlashLog`] numbers events and keeps them. [`Producer`] speaks with a node about them: it says hello, opens the
//! producer (which fences the connection before, and tells which event the cluster expects), sends what the cluster does
//! not have in batches, and lets go of what was acknowledged. Nothing else is remembered over a reset: what the cluster
//! has, it tells at the next opening. [`Inbox`] makes frames out of bytes.
//!
//! # The drive loop
//!
//! The owner has a stream of bytes to one node and a monotonic clock.
//!
//! 1. When the stream is there: [`Producer::handle_connected`]; when it has ended: [`Producer::handle_disconnected`].
//! 2. Each frame that arrives: [`Producer::handle_frame`]; an error, or [`Producer::is_silent`], is a reason to close.
//! 3. [`Producer::poll_transmit`] and write the frame, until there is none.
//! 4. [`Producer::state`] says what to do otherwise: to dial another node, or to stop.
//!
//! New events go to [`Producer::append`] at any time, with or without a connection.
//!
//! # When the flash is full
//!
//! The oldest page of events is erased for the newest event. If the cluster has not got them, the first run after them
//! carries the gap flag, so that the cluster records how many are missing; [`Transmit::dropped`] says which.

mod flash;
mod inbox;
mod log;
mod page;
mod session;
#[cfg(test)]
mod testing;

pub use flash::Flash;
pub use inbox::{Inbox, InboxError};
pub use log::{AppendError, FlashLog, OpenError};
pub use page::{PAGE_HEADER_LEN, Stored, WRITE_UNIT};
pub use session::{Dropped, HandleError, Producer, State, StopReason, Transmit};
