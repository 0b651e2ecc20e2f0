//! What was run and what came of it; the table of all that differs on purpose.

use crate::datadriven::Case;
use std::collections::{BTreeMap, BTreeSet};

macro_rules! table {
    ($($row:ident: $asks:literal, $directive:literal, $field:literal, $why:literal;)*) => {
        /// Something in which this Raft differs from the scripts on purpose.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Difference { $($row),* }

        /// The table: each row, what a script must hold for it to occur (nothing: any), directive, field, and why.
        const TABLE: &[(Difference, &str, [&str; 3])] = &[$((Difference::$row, $asks, [$directive, $field, $why])),*];
    };
}

table! {
    Update: "", "simple, enter-joint", "u1", "members have nothing to update here: the change is nothing, as it is there";
    NodeZero: "", "simple, enter-joint", "v0 l0 r0", "nobody has the id 0: here a mistake, there ignored; the runner leaves it out";
    FirstTerm: "", "add-nodes", "term", "a log that ends in term 1 needs a node that knows term 1, there it knows 0: terms after the first entries are one higher here";
    Snapshot: "send-snapshot", "send-snapshot, stabilize, status", "commit, last, configuration, progress, match, next", "the logs here are whole: entries are sent in the place of a snapshot";
    Compact: "compact", "compact", "first index", "what a log may forget is the host's affair: here it keeps all";
    ProgressSnapshot: "", "status", "progress, next", "a member that lacks old entries is sent them, and no snapshot";
    Inflight: "inflight", "status", "next", "the window of a member is in entries, and fixed";
    CommittedSize: "max-committed-size-per-ready", "add-nodes", "max-committed-size-per-ready", "a commit is an index here, of no size";
    ReadOnly: "read-only", "add-nodes", "read-only", "no reads by lease here";
    Content: "content", "add-nodes", "content", "what was applied is the host's affair";
    Validation: "disable-conf-change-validation", "add-nodes", "disable-conf-change-validation", "a change is always checked here";
    Apply: "process-apply-thread", "process-apply-thread", "all", "Raft does not hear what was applied: a change of members is in force before";
    PreVote: "", "campaign", "pre-vote", "always on; where the script has none, the runner grants the round";
    VoteDurable: "async-storage-writes", "process-ready", "MsgVote", "a candidate asks for votes when its own is on its disk; the runner finishes that write at once";
    Lease: "", "deliver-msgs, stabilize", "vote", "leases are always on; where the script has none, votes are asked for as after a transfer";
    LeasePreVote: "prevote", "deliver-msgs, stabilize", "pre-vote", "where the script has no leases, the voter's lease ends before it is asked, and a leader is not asked";
    ForgetLeader: "forget-leader", "forget-leader, raft-state, stabilize", "leader", "a member follows the leader of its term; the runner ends its lease, which lets it vote as there";
    Forward: "MsgProp", "propose", "MsgProp", "a follower passes nothing on: its client does, and the runner is that";
    ChangeWaits: "", "propose-conf-change", "Pending", "a change waits for the first entry of its leader's term; the runner proposes it again then";
    ChangeRefused: "", "propose-conf-change", "last", "a change that is refused leaves no entry; there it leaves an empty one, which the runner proposes";
    SeveralChanges: "several changes of at most one voter", "propose-conf-change", "transition=auto", "several changes of which one is of a voter need no joint configuration; there they get one, which the runner asks for";
    ConfigurationAppended: "", "stabilize, raft-state", "configuration, voter", "in force when it is appended, not when it is applied";
    QuorumAppended: "", "stabilize", "commit", "entries from a configuration on are committed by the voters of that one, there by those of the one before";
    LeaveAppended: "", "stabilize", "last", "a joint configuration ends when it is committed, which another majority does";
    Removed: "", "stabilize, raft-state", "commit, last, configuration, voter", "who is removed is sent nothing from then on, there until it is applied: it may not hear of it";
    CatchUp: "", "stabilize, status", "commit, last, configuration, progress, match, next", "where a snapshot would do at once, a member is asked what it has and is sent that, which takes another round trip";
    LeaderLives: "", "deliver-msgs, stabilize", "MsgHeartbeat", "a leader tells a candidate at once that it lives; the runner loses its word";
    StepDown: "step-down-on-removal", "stabilize, raft-state", "role, leader, commit", "a leader that was removed leads until it has handed over, so that nobody waits for an election";
    HandsOver: "", "process-ready, stabilize", "MsgTimeoutNow", "a leader that was removed hands over; the runner loses its word, so that the rest can be compared";
}

#[derive(Debug, Default)]
pub struct Report {
    pub run: usize,
    pub skipped: usize,
    failures: Vec<String>,
    differences: BTreeMap<Difference, usize>,
    /// All directives and arguments that the scripts hold.
    asked: BTreeSet<String>,
}

impl Report {
    /// A case was run; `wrong` says what is wrong with its outcome.
    pub fn case(&mut self, case: &Case, wrong: Option<String>) {
        self.run += 1;
        self.asked.insert(case.directive.clone());
        self.asked.extend(case.arguments.iter().map(|argument| argument.key.clone()));
        if case.expected.contains("MsgProp") {
            self.asked.insert("MsgProp".to_owned());
        }
        self.failures.extend(wrong.map(|wrong| format!("{}: {}: {wrong}", case.place, case.directive)));
    }

    /// Something differs in the way that the row says.
    pub fn differs(&mut self, difference: Difference) {
        *self.differences.entry(difference).or_default() += 1;
    }

    /// Prints all, and says whether it is as it should be.
    pub fn conclude(&self) -> bool {
        println!("What differs on purpose, and how often it did:");
        let mut missing = Vec::new();
        for (difference, asks, [directive, field, why]) in TABLE {
            let count = self.differences.get(difference).copied().unwrap_or(0);
            let is_asked = asks.is_empty() || self.asked.contains(*asks);
            let times = if is_asked || count > 0 { count.to_string() } else { format!("no script with {asks}") };
            println!("  {directive} | {field} | {why} | {times}");
            if count == 0 && is_asked && self.run > 0 {
                missing.push(format!("the row \"{directive} | {field}\" never occurred"));
            }
        }
        for failure in self.failures.iter().chain(&missing) {
            println!("FAILED {failure}");
        }
        let differing = self.differences.values().sum::<usize>();
        let failed: BTreeSet<&str> =
            self.failures.iter().map(|failure| failure.split(": ").next().unwrap_or_default()).collect();
        println!(
            "conformance: {} cases run, {} passed, {} failed, {differing} differences by the table, {} cases skipped",
            self.run,
            self.run - failed.len(),
            failed.len(),
            self.skipped
        );
        self.failures.is_empty() && missing.is_empty()
    }
}
