//! The frame and what is in it.
