//! Mistakes that are planted on purpose, so that the simulator can show that it finds them.
//!
//! Without the feature `planted-faults` the switches do not exist: [`Faults`] is empty, and every question it is asked
//! is answered `false` at compile time.

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Fault {
    /// A leader counts an entry as its own before its sync.
    LeaderCountsItselfBeforeSync,
    /// A vote is sent before it is on stable storage.
    VoteNotSyncedBeforeReply,
    /// Duplicates are found when an entry is proposed, not when it is applied.
    DedupAtPropose,
    /// A suspect member votes and campaigns as if it had forgotten nothing.
    SuspectVotesAsSound,
    /// A member that finds nothing on its disk takes that for a proof that it has promised nothing.
    WipedVotesAsSound,
}

/// The mistakes that a machine makes; none unless a test says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    #[cfg(feature = "planted-faults")]
    mask: u8,
}

impl Faults {
    /// No mistake.
    pub const NONE: Self = Self {
        #[cfg(feature = "planted-faults")]
        mask: 0,
    };

    /// These mistakes and `fault`.
    #[cfg(feature = "planted-faults")]
    #[must_use]
    pub const fn with(self, fault: Fault) -> Self {
        Self { mask: self.mask | 1 << fault as u8 }
    }

    /// Whether `fault` is to be made.
    #[cfg(feature = "planted-faults")]
    #[must_use]
    pub const fn has(self, fault: Fault) -> bool {
        self.mask & 1 << fault as u8 != 0
    }

    /// Whether `fault` is to be made: never in this build.
    #[cfg(not(feature = "planted-faults"))]
    #[must_use]
    pub const fn has(self, _fault: Fault) -> bool {
        false
    }
}
