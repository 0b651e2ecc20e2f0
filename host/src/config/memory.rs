//! The sum of what a node may hold in memory, made before it starts.

use core::fmt;

/// What holds memory, and how much at most. Printed at start; the sum is the limit that the node keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryPlan {
    holders: Vec<(String, usize)>,
}

impl MemoryPlan {
    /// Adds a holder of at most `bytes`.
    pub fn add(&mut self, holder: impl Into<String>, bytes: usize) {
        self.holders.push((holder.into(), bytes));
    }

    /// Adds all holders of another plan.
    pub fn extend(&mut self, other: Self) {
        self.holders.extend(other.holders);
    }

    /// The sum in bytes.
    #[must_use]
    pub fn total_bytes(&self) -> usize {
        self.holders.iter().map(|(_, bytes)| bytes).sum()
    }

    /// Each holder with its bytes.
    pub fn holders(&self) -> impl Iterator<Item = (&str, usize)> {
        self.holders.iter().map(|(holder, bytes)| (holder.as_str(), *bytes))
    }
}

impl fmt::Display for MemoryPlan {
    /// A line for each holder and one for the sum, in MiB.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |holder: &str, bytes: usize| {
            let hundredths = bytes.saturating_mul(100) / (1 << 20);
            writeln!(f, "{:>8}.{:02} MiB  {holder}", hundredths / 100, hundredths % 100)
        };
        self.holders().try_for_each(|(holder, bytes)| line(holder, bytes))?;
        line("in all", self.total_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_adds_up_and_prints_each_holder() {
        let mut plan = MemoryPlan::default();
        plan.add("pool", 3 << 20);
        let mut more = MemoryPlan::default();
        more.add("tables", (1 << 20) + (1 << 19));
        plan.extend(more);
        assert_eq!(plan.total_bytes(), 9 << 19);
        assert_eq!(plan.to_string(), "       3.00 MiB  pool\n       1.50 MiB  tables\n       4.50 MiB  in all\n");
    }
}
