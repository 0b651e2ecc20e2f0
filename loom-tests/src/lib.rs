//! The lock-free structures of the core, compiled once more with the atomics and cells of [loom], and what their
//! models in `tests/` share. How to run them, and what they show: `README.md`.
//!
//! [loom]: https://docs.rs/loom

#[path = "../../core/src/digest.rs"]
#[expect(dead_code, reason = "what the models come by needs a part of it")]
mod digest;
#[path = "../../core/src/doorbell.rs"]
pub mod doorbell;
#[path = "../../core/src/id.rs"]
pub mod id;
#[path = "../../core/src/ids/mod.rs"]
pub mod ids;
#[path = "../../core/src/metrics/mod.rs"]
pub mod metrics;
#[path = "../../core/src/pool/mod.rs"]
pub mod pool;
#[path = "../../core/src/ring/mod.rs"]
pub mod ring;
#[path = "../../core/src/sync.rs"]
mod sync;
#[path = "../../core/src/time.rs"]
pub mod time;

mod lend;
mod shadow;
pub mod survey;
mod weaken;

pub use lend::lend;
pub use shadow::Shadow;

/// Preemptions of one interleaving, at most. Two are enough for most bugs that were ever found this way; the requirement
/// (P1) is three.
const PREEMPTIONS: usize = 3;

/// Runs `model` in every interleaving of its threads up to three preemptions, with every value that the memory model
/// lets a load return.
pub fn check(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(PREEMPTIONS);
    builder.check(model);
    weaken::report();
}

/// A value that lives as long as any thread of a model may want it. The few hundred bytes are given up.
pub fn leak<T>(value: T) -> &'static mut T {
    Box::leak(Box::new(value))
}
