//! Three real nodes on disks whose power can fail.
//!
//! Without FUSE these tests do not run: each prints a line that begins with `SKIPPED`, past the test harness.

mod acks;
mod power_loss;
mod powered;
mod wal;
