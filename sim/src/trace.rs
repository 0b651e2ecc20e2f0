//! The last steps of a schedule in words.
//!
//! Writing costs far more than simulating, so it is off until a schedule has failed: the same seed is then run again
//! with the trace on.

use core::fmt::Arguments;
use std::collections::VecDeque;

/// Lines that are kept.
const RING: usize = 400;

/// The last lines, and a digest of all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    enabled: bool,
    lines: VecDeque<String>,
    digest: u64,
}

impl Trace {
    pub(crate) fn new(enabled: bool) -> Self {
        Self { enabled, ..Self::default() }
    }

    pub(crate) const fn is_enabled(&self) -> bool {
        self.enabled
    }

    pub(crate) fn line(&mut self, step: u64, now_us: u64, what: Arguments<'_>) {
        let line = format!("{step:>6} {:>5}.{:06}  {what}", now_us / 1_000_000, now_us % 1_000_000);
        // FNV-1a: says whether two traces are the same, no more.
        self.digest = line.bytes().fold(self.digest ^ 0xCBF2_9CE4_8422_2325, |digest, byte| {
            (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
        });
        if self.lines.len() == RING {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// The last lines, the latest last.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }

    /// A digest of all lines, also of those that were not kept.
    #[must_use]
    pub const fn digest(&self) -> u64 {
        self.digest
    }
}

/// Writes a line to the trace of a world, if it is on.
macro_rules! trace {
    ($world:expr, $($arg:tt)*) => {
        if $world.trace.is_enabled() {
            $world.trace.line($world.step, $world.now, format_args!($($arg)*));
        }
    };
}
pub(crate) use trace;
