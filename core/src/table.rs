//! Rows of replicated state in lent memory: found by key, numbered in the order of their creation, hashed, and
//! drained where they changed.
//!
//! The memory is a slice of [`Slot`]s that the caller lends for the life of the table; nothing else is allocated. Row
//! number `n` lies in slot `n`, so a table holds exactly as many rows as it has slots. The slots serve as buckets of
//! the hash index as well: each heads a chain of the rows whose keys hash to it.

use crate::digest::Digest;
use core::fmt;
use core::ops::DerefMut;

/// What a row must be able to do.
pub(crate) trait Content: Copy + PartialEq + fmt::Debug + 'static {
    /// A row that was never used. All of its bytes are zero, so that static memory needs no image in flash.
    const EMPTY: Self;

    /// The hash of everything that decisions depend on.
    fn digest(&self) -> Digest;
}

/// Numbers of rows as the links hold them: zero is none, else one more than the number.
type Link = u32;

/// One row's place in lent memory. Only tables look inside; callers make arrays of [`Slot::EMPTY`].
#[derive(Clone, Debug, PartialEq)]
pub struct Slot<R> {
    /// The first row of the chain of this bucket. Belongs to the bucket, not to the row that lies here.
    bucket: Link,
    /// The next row of the chain that this row is in.
    chained: Link,
    /// The row that changed next after this one, while this one waits to be drained.
    changed_next: Link,
    /// Whether this row waits to be drained.
    is_changed: bool,
    /// What this row contributes to the table's hash.
    digest: u64,
    row: R,
}

#[expect(private_bounds, reason = "which rows there are is the crate's own affair")]
impl<R: Content> Slot<R> {
    /// A slot without a row; all zero.
    pub const EMPTY: Self =
        Self { bucket: 0, chained: 0, changed_next: 0, is_changed: false, digest: 0, row: R::EMPTY };
}

/// The rows. `M` is the lent memory: a `Box<[Slot<R>]>` on a host, a `&'static mut [Slot<R>]` on a microcontroller.
#[derive(Debug)]
pub(crate) struct Table<M> {
    slots: M,
    /// Rows in use: slots `0..len`.
    len: u32,
    /// Rows allowed, at most as many as there are slots: a cluster parameter.
    limit: u32,
    /// Makes this node's chains differ from those that somebody may have prepared keys for. No decision depends on it.
    seed: u64,
    /// The sum of the rows' digests: equal tables have equal sums, whatever the order in which they changed.
    sum: u64,
    /// Changed rows, in the order of their first change since they were drained.
    changed_first: Link,
    changed_last: Link,
}

impl<R: Content, M: DerefMut<Target = [Slot<R>]>> Table<M> {
    /// An empty table of at most `limit` rows; whatever the memory holds is forgotten.
    ///
    /// # Errors
    ///
    /// The number of slots lent, if they are fewer than `limit`.
    pub(crate) fn new(slots: M, limit: u32, seed: u64) -> Result<Self, usize> {
        if slots.len() < limit as usize {
            return Err(slots.len());
        }
        let mut table = Self { slots, len: 0, limit, seed, sum: 0, changed_first: 0, changed_last: 0 };
        table.clear();
        Ok(table)
    }

    /// Forgets all rows.
    pub(crate) fn clear(&mut self) {
        self.slots.fill(Slot::EMPTY);
        (self.len, self.sum, self.changed_first, self.changed_last) = (0, 0, 0, 0);
    }

    pub(crate) const fn len(&self) -> u32 {
        self.len
    }

    pub(crate) const fn is_full(&self) -> bool {
        self.len == self.limit
    }

    /// The hash of all rows.
    pub(crate) const fn sum(&self) -> u64 {
        self.sum
    }

    /// The rows, by number.
    pub(crate) fn rows(&self) -> impl ExactSizeIterator<Item = &R> {
        self.slots[..self.len as usize].iter().map(|slot| &slot.row)
    }

    /// The row of this number.
    ///
    /// # Panics
    ///
    /// If there is none: numbers come from this table.
    pub(crate) fn row(&self, number: u32) -> &R {
        assert!(number < self.len, "numbers of rows come from this table");
        &self.slots[number as usize].row
    }

    /// The number of the row with this key, for which `is_it` holds.
    pub(crate) fn find(&self, key: &[u8], is_it: impl Fn(&R) -> bool) -> Option<u32> {
        let mut link = self.slots.get(self.bucket(key))?.bucket;
        while let Some(number) = link.checked_sub(1) {
            let slot = &self.slots[number as usize];
            if is_it(&slot.row) {
                return Some(number);
            }
            link = slot.chained;
        }
        None
    }

    /// Adds a row under a key that is not there, and returns its number; `None` if the table is full.
    pub(crate) fn add(&mut self, key: &[u8], row: R) -> Option<u32> {
        let number = self.restore(key, row)?;
        self.mark(number);
        Some(number)
    }

    /// Like [`add`](Self::add), but the row is not to be drained: it came from where drained rows go.
    pub(crate) fn restore(&mut self, key: &[u8], row: R) -> Option<u32> {
        if self.is_full() {
            return None;
        }
        let (number, bucket) = (self.len, self.bucket(key));
        self.len += 1;
        let digest = row.digest().value();
        let chained = core::mem::replace(&mut self.slots[bucket].bucket, number + 1);
        let slot = &mut self.slots[number as usize];
        (slot.row, slot.digest, slot.chained) = (row, digest, chained);
        self.sum = self.sum.wrapping_add(digest);
        Some(number)
    }

    /// Changes a row, its digest and the table's, and marks it to be drained. The key stays the same.
    pub(crate) fn change<T>(&mut self, number: u32, change: impl FnOnce(&mut R) -> T) -> T {
        assert!(number < self.len, "numbers of rows come from this table");
        let slot = &mut self.slots[number as usize];
        let result = change(&mut slot.row);
        let digest = slot.row.digest().value();
        self.sum = self.sum.wrapping_sub(slot.digest).wrapping_add(digest);
        slot.digest = digest;
        self.mark(number);
        result
    }

    /// Takes the row that has waited longest to be drained.
    pub(crate) fn poll_changed(&mut self) -> Option<(u32, &R)> {
        let number = self.changed_first.checked_sub(1)?;
        let slot = &mut self.slots[number as usize];
        slot.is_changed = false;
        self.changed_first = core::mem::take(&mut slot.changed_next);
        if self.changed_first == 0 {
            self.changed_last = 0;
        }
        Some((number, &slot.row))
    }

    fn mark(&mut self, number: u32) {
        let slot = &mut self.slots[number as usize];
        if slot.is_changed {
            return;
        }
        slot.is_changed = true;
        match self.changed_last.checked_sub(1) {
            None => self.changed_first = number + 1,
            Some(last) => self.slots[last as usize].changed_next = number + 1,
        }
        self.changed_last = number + 1;
    }

    /// The bucket of a key. Of no use if there is no slot at all.
    fn bucket(&self, key: &[u8]) -> usize {
        let hash = Digest::new(self.seed).bytes(key).value();
        ((u128::from(hash) * self.slots.len() as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::boxed::Box;
    use std::vec;
    use std::vec::Vec;

    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Pair {
        key: u8,
        value: u64,
    }

    impl Content for Pair {
        const EMPTY: Self = Self { key: 0, value: 0 };

        fn digest(&self) -> Digest {
            Digest::new(0).number(self.key.into()).number(self.value)
        }
    }

    type Pairs = Table<Box<[Slot<Pair>]>>;

    fn table(slots: usize, limit: u32) -> Pairs {
        Pairs::new(vec![Slot::EMPTY; slots].into(), limit, 7).unwrap()
    }

    fn find(table: &Pairs, key: u8) -> Option<u32> {
        table.find(&[key], |row| row.key == key)
    }

    fn drain(table: &mut Pairs) -> Vec<u32> {
        core::iter::from_fn(|| table.poll_changed().map(|(number, _)| number)).collect()
    }

    #[test]
    fn rows_are_found_and_numbered_in_order_up_to_the_limit() {
        let mut table = table(200, 190);
        for key in 0..190 {
            assert_eq!(find(&table, key), None);
            assert_eq!(table.add(&[key], Pair { key, value: 0 }), Some(key.into()));
        }
        assert!(table.is_full());
        assert_eq!(table.add(&[200], Pair { key: 200, value: 0 }), None);
        for key in 0..190 {
            assert_eq!(find(&table, key), Some(key.into()));
        }
        assert_eq!(find(&table, 200), None);
    }

    #[test]
    fn memory_below_the_limit_is_refused_and_none_at_all_is_an_empty_table() {
        assert_eq!(Pairs::new(vec![Slot::EMPTY; 9].into(), 10, 0).unwrap_err(), 9);
        let mut none = table(0, 0);
        assert_eq!(find(&none, 1), None);
        assert_eq!(none.add(&[1], Pair { key: 1, value: 1 }), None);
    }

    #[test]
    fn each_changed_row_is_drained_once_in_the_order_of_its_change() {
        let mut table = table(4, 4);
        for key in 0..4 {
            table.add(&[key], Pair { key, value: 0 });
        }
        assert_eq!(drain(&mut table), [0, 1, 2, 3]);
        table.change(2, |row| row.value = 1);
        table.change(0, |row| row.value = 1);
        table.change(2, |row| row.value = 2);
        assert_eq!(table.poll_changed(), Some((2, &Pair { key: 2, value: 2 })));
        table.change(2, |row| row.value = 3);
        assert_eq!(drain(&mut table), [0, 2]);
        assert_eq!(drain(&mut table), []);
    }

    #[test]
    fn the_sum_tells_the_rows_and_nothing_of_how_they_came() {
        let (mut a, mut b) = (table(4, 4), table(4, 4));
        for key in [1, 2] {
            a.add(&[key], Pair { key, value: 9 });
        }
        for key in [2, 1] {
            b.add(&[key], Pair { key, value: 0 });
            assert_ne!(a.sum(), b.sum());
        }
        b.change(0, |row| row.value = 9);
        b.change(1, |row| row.value = 9);
        assert_eq!(a.sum(), b.sum());
        b.change(1, |row| row.value = 8);
        assert_ne!(a.sum(), b.sum());
    }

    #[test]
    fn a_restored_table_equals_the_original() {
        let (mut original, mut copy) = (table(8, 6), table(8, 6));
        for key in [5, 3, 1] {
            original.add(&[key], Pair { key, value: key.into() });
        }
        let rows: Vec<_> = original.rows().copied().collect();
        for row in rows {
            copy.restore(&[row.key], row);
        }
        assert_eq!(drain(&mut copy), []);
        drain(&mut original);
        assert_eq!(original.slots, copy.slots);
        assert_eq!(original.sum(), copy.sum());
    }
}
