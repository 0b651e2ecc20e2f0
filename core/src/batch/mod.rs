//! Event batches: built by producers, concatenated by a leader.
//!
//! A producer gives its events to a [`BatchBuilder`], which writes them into the frame that leaves. A leader passes a
//! large enough batch on as it is ([`passes_on`]); smaller ones share an entry, put together by an [`Accumulator`]
//! without a record being read again.

mod accumulator;
mod builder;

pub use accumulator::{Accumulator, AddError, Part, passes_on};
pub use builder::{BatchBuilder, Event, PushError, Source};

pub(crate) use builder::check;
