//! A fixed number of reference-counted blocks.
