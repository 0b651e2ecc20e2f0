//! The side that any thread may have.

use super::Placed;
use super::slot::{IdSlot, Link, Shared};
use crate::digest::Digest;
use crate::id::EventId;
use crate::sync::fence;
use core::sync::atomic::Ordering::{Acquire, Relaxed};

/// Looks ids up from any thread, without locks. Copies are free.
#[derive(Clone, Copy, Debug)]
pub struct IdReader<'m> {
    /// As many as there may be rows, at least one.
    pub(super) slots: &'m [IdSlot],
    seed: u64,
}

impl<'m> IdReader<'m> {
    pub(super) const fn new(slots: &'m [IdSlot], seed: u64) -> Self {
        Self { slots, seed }
    }

    /// Where the event of this id lies, if the id is remembered.
    ///
    /// What is found was applied, and is this id's, whole. An id that was applied before the call, by what the caller knows,
    /// and is remembered until it returns, is found. One whose time is over may be found until its row is removed: it was
    /// applied all the same.
    ///
    /// Never waits: looks at no more rows than there are slots, as a rule at one or two.
    #[must_use]
    pub fn find(&self, id: EventId) -> Option<Placed> {
        // Acquire: pairs with the store of the link in `IdWriter::publish`. The row that it leads to, and all older ones of
        // the chain, are seen as they were written, or as what came over them later.
        let mut link = self.bucket(id).bucket.load(Acquire) as Link;
        loop {
            let slot = self.slot(link.checked_sub(1)?);
            let found = slot.is_of::<Shared>(id).then(|| slot.placed::<Shared>());
            let older = slot.older::<Shared>();
            // Acquire: pairs with the release fence in `IdWriter::publish`. If any word above was of a later row, the number
            // below is not that of this one any more.
            fence(Acquire);
            if slot.row.load(Relaxed) as Link != link {
                // Rows go in the order in which they came: with this one, all older ones of its chain are gone.
                return None;
            }
            if found.is_some() {
                return found;
            }
            link = older;
        }
    }

    /// The slot of the row of this number.
    pub(super) fn slot(&self, number: u32) -> &'m IdSlot {
        &self.slots[number as usize % self.slots.len()]
    }

    /// The slot that is the bucket of this id.
    pub(super) fn bucket(&self, id: EventId) -> &'m IdSlot {
        let hash = Digest::new(self.seed).bytes(&id.0).value();
        &self.slots[((u128::from(hash) * self.slots.len() as u128) >> 64) as usize]
    }
}
