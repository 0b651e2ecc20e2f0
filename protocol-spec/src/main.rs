//! Generates documents from the wire definition.

fn main() {}
