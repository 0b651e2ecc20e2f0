//! Counters: how often something happened.

use super::Cell;

/// The writer's side of a set of counters. There is one for a set, since it is neither copied nor cloned.
#[derive(Debug)]
pub struct Counters<'m> {
    cells: &'m [Cell],
}

/// Reads counters from any thread. Copies are free.
#[derive(Clone, Copy, Debug)]
pub struct CounterReader<'m> {
    cells: &'m [Cell],
}

impl<'m> Counters<'m> {
    /// As many counters as cells are lent, all zero, and a reader of them.
    pub fn share(memory: &'m mut [Cell]) -> (Self, CounterReader<'m>) {
        memory.fill_with(Cell::new);
        let cells = &*memory;
        (Self { cells }, CounterReader { cells })
    }

    /// Adds to a counter.
    ///
    /// # Panics
    ///
    /// If there is no counter of this number.
    pub fn add(&mut self, counter: usize, count: usize) {
        let cell = &self.cells[counter];
        // Pairs with `CounterReader::read`: who sees this sees what was counted before.
        cell.publish(cell.own().saturating_add(count));
    }
}

impl CounterReader<'_> {
    /// A counter at this moment. It never falls from one call to the next of a thread, and whatever was counted before
    /// the count that is seen is seen by the reads that follow: of *begun* and *ended*, who reads *ended* first never sees
    /// more ends than beginnings.
    ///
    /// # Panics
    ///
    /// If there is no counter of this number.
    #[must_use]
    pub fn read(&self, counter: usize) -> usize {
        self.cells[counter].read()
    }
}
