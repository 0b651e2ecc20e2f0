//! What must never happen.

use core::fmt;

/// The promises that are checked: the invariants of the design (section 10), and what follows from them at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invariant {
    /// 1: at most one leader per term.
    OneLeaderPerTerm,
    /// 2: logs that agree on (index, term) agree on everything before.
    LogMatching,
    /// 3: a committed entry is in the log of every later leader, and never changes.
    LeaderCompleteness,
    /// Committed means on stable storage of a majority, or where a damaged disk has lost it since.
    DurableMajority,
    /// 4: equal index, equal state hash.
    StateHash,
    /// 4: outcomes are what the rules for producers and topics say, decided at apply.
    Outcome,
    /// 5: an acked event is in the committed log, accepted exactly once.
    ExactlyOnce,
    /// 6: offsets of a topic are dense.
    DenseOffsets,
    /// 7: events of one producer keep their order.
    ProducerOrder,
    /// 8: nothing unapplied is visible.
    Visibility,
    /// What a confirmed leader answers is not stale.
    StaleRead,
    /// Log time never decreases along the log.
    LogTime,
    /// 10: after faults stop, a majority elects and commits within ten election timeouts, and all members end alike.
    Progress,
    /// The machine asks for what no host can do, or stopped with an assertion.
    Contract,
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OneLeaderPerTerm => "1 (at most one leader per term)",
            Self::LogMatching => "2 (logs match)",
            Self::LeaderCompleteness => "3 (a committed entry is in the log of every later leader)",
            Self::DurableMajority => "3 (committed means on stable storage of a majority)",
            Self::StateHash => "4 (equal index, equal state)",
            Self::Outcome => "4 (applied state is a pure function of the log)",
            Self::ExactlyOnce => "5 (an acked event is in the log exactly once)",
            Self::DenseOffsets => "6 (offsets are dense)",
            Self::ProducerOrder => "7 (events of a producer keep their order)",
            Self::Visibility => "8 (nothing unapplied is visible)",
            Self::StaleRead => "a read of what is latest is not stale",
            Self::LogTime => "log time never decreases",
            Self::Progress => "10 (progress after faults stop)",
            Self::Contract => "contract between machine and host",
        })
    }
}

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which one.
    pub invariant: Invariant,
    /// How.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invariant {}: {}", self.invariant, self.text)
    }
}

impl core::error::Error for Violation {}

pub(crate) type Checked<T = ()> = Result<T, Violation>;

/// Returns a violation unless the condition holds. The text is made only then.
macro_rules! ensure {
    ($condition:expr, $invariant:ident, $($arg:tt)*) => {
        if !$condition {
            return Err(crate::violation::Violation {
                invariant: crate::violation::Invariant::$invariant,
                text: format!($($arg)*),
            });
        }
    };
}
pub(crate) use ensure;
