//! The command line of EventStreamCore.

fn main() {}
