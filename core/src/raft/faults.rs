//! A zoo of mistakes: known ways to get consensus, deduplication and persistence wrong, each a small switch, so that the
//! simulator can show that it finds them.
//!
//! Without the feature `planted-faults` the switches do not exist: [`Faults`] is empty, and every question it is asked
//! is answered `false` at compile time.

macro_rules! zoo {
    ($($(#[doc = $doc:literal])+ $fault:ident = $name:literal;)*) => {
        /// A mistake.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Fault {
            $($(#[doc = $doc])+ $fault,)*
        }

        impl Fault {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$fault,)*];

            /// Its name on a command line.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$fault => $name,)*
                }
            }

            /// What is done wrong.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$fault => concat!($($doc),+),)*
                }
            }
        }
    };
}

zoo! {
    /// A leader counts an entry as its own before its sync.
    LeaderCountsItselfBeforeSync = "leader-counts-itself";
    /// A vote is sent before it is on stable storage.
    VoteNotSyncedBeforeReply = "vote-not-synced";
    /// A second candidate of a term gets a vote as well.
    VotesTwice = "votes-twice";
    /// A candidate gets a vote however short its log is.
    VotesForShortLog = "votes-for-short-log";
    /// A leader of an older term is not told of the newer one.
    NewerTermNotTold = "newer-term-not-told";
    /// An entry of an older term is committed by counting (Raft paper, figure 8).
    OldTermCommitted = "old-term-committed";
    /// A follower takes for committed what was not compared with the leader's log.
    CommitBeyondVerified = "commit-beyond-verified";
    /// A follower acknowledges entries before their sync.
    AckBeforeSync = "ack-before-sync";
    /// A follower acknowledges entries of a term that it may forget.
    AckBeforeTerm = "ack-before-term";
    /// A late append that is shorter than the log removes what follows it.
    ShorterAppendTruncates = "shorter-append-truncates";
    /// The entry before those of an append is not compared.
    PrevNotCompared = "prev-not-compared";
    /// Entries of an append that the log has at their indices are taken for the same.
    TermsNotCompared = "terms-not-compared";
    /// A late report of a write counts for entries that have replaced what it wrote.
    LateReportCounts = "late-report-counts";
    /// A read is begun before an entry of the leader's term is committed.
    ReadBeforeOwnTerm = "read-before-own-term";
    /// A read takes the index of the round that is under way when it comes.
    ReadJoinsRound = "read-joins-round";
    /// A read is answered without asking anybody.
    ReadUnconfirmed = "read-unconfirmed";
    /// One majority of a joint configuration decides.
    JointByOneMajority = "joint-by-one-majority";
    /// A configuration stays in force when its entry was truncated.
    ConfigurationKept = "configuration-kept";
    /// A change of members is begun before the last one is committed.
    SecondChange = "second-change";
    /// A new leader changes members before an entry of its own term is committed.
    ChangeBeforeOwnTerm = "change-before-own-term";
    /// A leader that was removed counts itself.
    RemovedLeaderCounts = "removed-leader-counts";
    /// Whoever was removed does not campaign, although perhaps only it has the entry that says so.
    RemovedDoesNotCampaign = "removed-does-not-campaign";
    /// Learners are counted as voters are.
    LearnersCounted = "learners-counted";
    /// A voter is added without the majority before.
    AddedWithoutMajorityBefore = "added-without-majority-before";
    /// A witness is told of entries that nobody has on a disk.
    WitnessToldEarly = "witness-told-early";
    /// A witness loses the terms of its log when it starts again.
    WitnessForgets = "witness-forgets";
    /// A snapshot that is older than what is committed is installed.
    StaleSnapshotTaken = "stale-snapshot";
    /// Rows of a snapshot are taken although some before them are missing.
    SnapshotRowsSkipped = "snapshot-rows-skipped";
    /// A snapshot is acknowledged before it is on stable storage.
    SnapshotAckedEarly = "snapshot-acked-early";
    /// The configuration of a snapshot does not come into force.
    SnapshotConfigurationIgnored = "snapshot-configuration-ignored";
    /// The log loses entries that no checkpoint on the disk covers: a gap between snapshot and log.
    LogTrimmedAhead = "log-trimmed-ahead";
    /// A suspect member votes and campaigns as if it had forgotten nothing.
    SuspectVotesAsSound = "suspect-votes";
    /// A leader counts a suspect member before it has heard of all others.
    SuspectCounted = "suspect-counted";
    /// A suspect member is cleared before it has what it had.
    ClearedBehind = "cleared-behind";
    /// A member that finds nothing on its disk takes that for a proof that it has promised nothing.
    WipedVotesAsSound = "wiped-votes";
    /// Duplicates are found when an entry is proposed, not when it is applied.
    DedupAtPropose = "dedup-at-propose";
    /// Events that were accepted before are accepted again.
    DuplicateAccepted = "duplicate-accepted";
    /// Events are accepted although some before them are missing.
    GapAccepted = "gap-accepted";
    /// Events of a producer's earlier life are accepted.
    EpochIgnored = "epoch-ignored";
    /// Producers are evicted by a node's own clock.
    EvictionByOwnClock = "eviction-by-own-clock";
    /// An evicted producer goes on as if it were known.
    EvictedResumed = "evicted-resumed";
    /// A checkpoint misses the producers that changed.
    ProducersNotSaved = "producers-not-saved";
    /// A new leader moves log time back to its own clock.
    LogTimeMovedBack = "log-time-moved-back";
    /// A checkpoint is written that is ahead of the node's own log.
    CheckpointAheadOfLog = "checkpoint-ahead-of-log";
    /// A host does not write the hard state.
    HardStateNotWritten = "hard-state-not-written";
    /// A host does not remove from its disk what was truncated.
    TruncationNotWritten = "truncation-not-written";
    /// A disk reports a sync before it has written.
    LyingSync = "lying-sync";
    /// Nothing is wrong, and the simulator says that something is: a harness that no longer says so is broken.
    Canary = "canary";
}

const _: () = assert!(Fault::ALL.len() <= 64, "the mistakes that are made are a 64-bit mask");

/// The mistakes that a machine makes; none unless a test says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    #[cfg(feature = "planted-faults")]
    mask: u64,
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
