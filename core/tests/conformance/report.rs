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
            let times = if is_asked { count.to_string() } else { format!("no script with {asks}") };
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
