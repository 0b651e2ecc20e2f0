//! The sum of what a node may hold in memory, made before it starts.

use core::fmt;

/// What holds memory, and how much at most. Printed at start; the sum is the limit that the node keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryPlan {
    holders: Vec<(String, usize)>,
    /// What the kernel holds for the process: no part of the sum.
    kernel: Vec<(String, usize)>,
}

impl MemoryPlan {
    /// Adds a holder of at most `bytes`.
    pub fn add(&mut self, holder: impl Into<String>, bytes: usize) {
        self.holders.push((holder.into(), bytes));
    }

    /// Adds something for which the kernel holds at most `bytes`, beside what the process does.
    pub fn add_kernel(&mut self, holder: impl Into<String>, bytes: usize) {
        self.kernel.push((holder.into(), bytes));
    }

    /// Adds all holders of another plan.
    pub fn extend(&mut self, other: Self) {
        self.holders.extend(other.holders);
        self.kernel.extend(other.kernel);
    }

    /// The sum in bytes, without what the kernel holds.
    #[must_use]
    pub fn total_bytes(&self) -> usize {
        self.holders.iter().map(|(_, bytes)| bytes).sum()
    }

    /// What the kernel holds, in bytes.
    #[must_use]
    pub fn kernel_bytes(&self) -> usize {
        self.kernel.iter().map(|(_, bytes)| bytes).sum()
    }

    /// Each holder with its bytes.
    pub fn holders(&self) -> impl Iterator<Item = (&str, usize)> {
        self.holders.iter().map(|(holder, bytes)| (holder.as_str(), *bytes))
    }
}

impl fmt::Display for MemoryPlan {
    /// A line for each holder and one for the sum, then those for what the kernel holds, in MiB.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |holder: &str, bytes: usize| {
            let hundredths = bytes.saturating_mul(100) / (1 << 20);
            writeln!(f, "{:>8}.{:02} MiB  {holder}", hundredths / 100, hundredths % 100)
        };
        self.holders().try_for_each(|(holder, bytes)| line(holder, bytes))?;
        line("in all", self.total_bytes())?;
        self.kernel.iter().try_for_each(|(holder, bytes)| line(&format!("beside it, in the kernel: {holder}"), *bytes))
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
        more.add_kernel("buffers", 2 << 20);
        plan.extend(more);
        assert_eq!((plan.total_bytes(), plan.kernel_bytes()), (9 << 19, 2 << 20));
        let lines = ["       3.00 MiB  pool", "       1.50 MiB  tables", "       4.50 MiB  in all"];
        let kernel = "       2.00 MiB  beside it, in the kernel: buffers";
        assert_eq!(plan.to_string(), format!("{}\n{kernel}\n", lines.join("\n")));
    }
}
