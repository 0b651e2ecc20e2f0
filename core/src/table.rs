//! Rows of replicated state in lent memory: found by key, numbered, hashed, and drained where they changed.
//!
//! The memory is a slice of [`Slot`]s that the caller lends for the life of the table; nothing else is allocated. Row
//! number `n` lies in slot `n`, so a table holds exactly as many rows as it has slots. The slots serve as buckets of
//! the hash index as well: each heads a chain of the rows whose keys hash to it.
//!
//! A new row gets the lowest number that is free. Which numbers are free follows from which rows were added and removed,
//! and from nothing else: a table that was put back from its rows, the removed ones among them, numbers as the original
//! does.

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
    /// Whether there is a row. Where there is none any more, `chained` leads to the next free number.
    is_used: bool,
    /// What this row contributes to the table's hash.
    digest: u64,
    row: R,
}

#[expect(private_bounds, reason = "which rows there are is the crate's own affair")]
impl<R: Content> Slot<R> {
    /// A slot without a row; all zero.
    pub const EMPTY: Self =
        Self { bucket: 0, chained: 0, changed_next: 0, is_changed: false, is_used: false, digest: 0, row: R::EMPTY };
}

/// The rows. `M` is the lent memory: a `Box<[Slot<R>]>` on a host, a `&'static mut [Slot<R>]` on a microcontroller.
#[derive(Debug)]
pub(crate) struct Table<M> {
    slots: M,
    /// Numbers that were ever given out: `0..len`.
    len: u32,
    /// Those of them that have a row.
    used: u32,
    /// The lowest of the others, which leads to the next.
    free: Link,
    /// The highest of them, while rows are put back.
    last_free: Link,
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
        let mut table = Self {
            slots,
            len: 0,
            used: 0,
            free: 0,
            last_free: 0,
            limit,
            seed,
            sum: 0,
            changed_first: 0,
            changed_last: 0,
        };
        table.clear();
        Ok(table)
    }

    /// Forgets all rows.
    pub(crate) fn clear(&mut self) {
        self.slots.fill(Slot::EMPTY);
        (self.len, self.used, self.sum) = (0, 0, 0);
        (self.free, self.last_free, self.changed_first, self.changed_last) = (0, 0, 0, 0);
    }

    /// Numbers that were ever given out: the next that is new.
    pub(crate) const fn len(&self) -> u32 {
        self.len
    }

    /// Rows.
    pub(crate) const fn used(&self) -> u32 {
        self.used
    }

    /// Rows that may be added.
    pub(crate) const fn room(&self) -> u32 {
        self.limit - self.used
    }

    /// The hash of all rows.
    pub(crate) const fn sum(&self) -> u64 {
        self.sum
    }

    /// The rows, by number.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &R> {
        self.slots[..self.len as usize].iter().filter(|slot| slot.is_used).map(|slot| &slot.row)
    }

    /// The row of this number, if there is one.
    pub(crate) fn get(&self, number: u32) -> Option<&R> {
        self.slots.get(number as usize).filter(|slot| slot.is_used).map(|slot| &slot.row)
    }

    /// The row of this number.
    ///
    /// # Panics
    ///
    /// If there is none: numbers come from this table.
    pub(crate) fn row(&self, number: u32) -> &R {
        self.get(number).expect("numbers of rows come from this table")
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
        if self.room() == 0 {
            return None;
        }
        let number = match self.free.checked_sub(1) {
            Some(number) => {
                self.free = self.slots[number as usize].chained;
                number
            }
            None => self.new_number(),
        };
        self.put(number, key, row);
        self.mark(number);
        Some(number)
    }

    /// Puts back the row with the next number. It is not to be drained: it came from where drained rows go. `None` if the
    /// table is full.
    pub(crate) fn restore(&mut self, key: &[u8], row: R) -> Option<u32> {
        if self.len == self.limit {
            return None;
        }
        let number = self.new_number();
        self.put(number, key, row);
        Some(number)
    }

    /// Puts back that there is no row with the next number any more. `None` if the table is full.
    pub(crate) fn restore_removed(&mut self) -> Option<u32> {
        if self.len == self.limit {
            return None;
        }
        let number = self.new_number();
        match self.last_free.checked_sub(1) {
            None => self.free = number + 1,
            Some(last) => self.slots[last as usize].chained = number + 1,
        }
        self.last_free = number + 1;
        Some(number)
    }

    fn new_number(&mut self) -> u32 {
        self.len += 1;
        self.len - 1
    }

    fn put(&mut self, number: u32, key: &[u8], row: R) {
        let (bucket, digest) = (self.bucket(key), row.digest().value());
        let chained = core::mem::replace(&mut self.slots[bucket].bucket, number + 1);
        let slot = &mut self.slots[number as usize];
        (slot.row, slot.digest, slot.chained, slot.is_used) = (row, digest, chained, true);
        self.sum = self.sum.wrapping_add(digest);
        self.used += 1;
    }

    /// Changes a row, its digest and the table's, and marks it to be drained. The key stays the same.
    pub(crate) fn change<T>(&mut self, number: u32, change: impl FnOnce(&mut R) -> T) -> T {
        let slot = &mut self.slots[number as usize];
        assert!(slot.is_used, "numbers of rows come from this table");
        let result = change(&mut slot.row);
        let digest = slot.row.digest().value();
        self.sum = self.sum.wrapping_sub(slot.digest).wrapping_add(digest);
        slot.digest = digest;
        self.mark(number);
        result
    }

    /// Removes the rows for which `is_it` holds, given their keys by `key`, and marks them to be drained. Looks at all rows;
    /// returns how many were removed.
    pub(crate) fn remove_where(
        &mut self,
        key: impl for<'a> Fn(&'a R) -> &'a [u8],
        mut is_it: impl FnMut(&R) -> bool,
    ) -> u32 {
        let before = self.used;
        self.free = 0;
        for number in (0..self.len).rev() {
            if self.slots[number as usize].is_used && is_it(&self.slots[number as usize].row) {
                let bucket = self.bucket(key(&self.slots[number as usize].row));
                self.unlink(bucket, number);
                self.mark(number);
                let slot = &mut self.slots[number as usize];
                self.sum = self.sum.wrapping_sub(slot.digest);
                (slot.row, slot.digest, slot.is_used) = (R::EMPTY, 0, false);
                self.used -= 1;
            }
            let slot = &mut self.slots[number as usize];
            if !slot.is_used {
                slot.chained = core::mem::replace(&mut self.free, number + 1);
            }
        }
        before - self.used
    }

    /// Takes a row out of the chain of its bucket.
    fn unlink(&mut self, bucket: usize, number: u32) {
        let next = self.slots[number as usize].chained;
        let mut link = &mut self.slots[bucket].bucket;
        while *link != number + 1 {
            let at = *link as usize - 1;
            link = &mut self.slots[at].chained;
        }
        *link = next;
    }

    /// Takes the row that has waited longest to be drained; one that was removed is `None`.
    pub(crate) fn poll_changed(&mut self) -> Option<(u32, Option<&R>)> {
        let number = self.changed_first.checked_sub(1)?;
        let slot = &mut self.slots[number as usize];
        slot.is_changed = false;
        self.changed_first = core::mem::take(&mut slot.changed_next);
        if self.changed_first == 0 {
            self.changed_last = 0;
        }
        Some((number, slot.is_used.then_some(&slot.row)))
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
        assert_eq!((table.used(), table.room()), (190, 0));
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
        assert_eq!(table.poll_changed(), Some((2, Some(&Pair { key: 2, value: 2 }))));
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

    fn remove(table: &mut Pairs, keys: &[u8]) -> u32 {
        table.remove_where(|row| core::slice::from_ref(&row.key), |row| keys.contains(&row.key))
    }

    #[test]
    fn what_is_removed_is_gone_and_its_numbers_are_given_out_again_the_lowest_first() {
        // Few buckets, so that chains are long.
        let mut table = table(6, 6);
        for key in 0..6 {
            table.add(&[key], Pair { key, value: 0 });
        }
        let mut of_two = super::tests::table(6, 6);
        for key in [1, 4] {
            of_two.add(&[key], Pair { key, value: 0 });
        }
        assert_eq!(remove(&mut table, &[5, 0, 3, 2]), 4);
        assert_eq!((table.used(), table.room(), table.len(), table.sum()), (2, 4, 6, of_two.sum()));
        for key in 0..6 {
            assert_eq!(find(&table, key), [1, 4].contains(&key).then_some(key.into()));
        }
        assert!(table.rows().map(|row| row.key).eq([1, 4]));
        let added = |table: &mut Pairs, key| table.add(&[key], Pair { key, value: 0 });
        assert_eq!((added(&mut table, 10), added(&mut table, 11)), (Some(0), Some(2)));
        // Removing more puts all that is free in order again.
        assert_eq!(remove(&mut table, &[1]), 1);
        assert_eq!([12, 13, 14].map(|key| added(&mut table, key)), [Some(1), Some(3), Some(5)]);
        assert_eq!(added(&mut table, 15), None);
        assert_eq!([10, 12, 11, 13, 4, 14].map(|key| find(&table, key).unwrap()), [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_removed_row_is_drained_as_none_and_as_its_successor_if_there_is_one() {
        let mut table = table(4, 4);
        for key in 0..4 {
            table.add(&[key], Pair { key, value: 0 });
        }
        drain(&mut table);
        remove(&mut table, &[1, 2]);
        table.add(&[9], Pair { key: 9, value: 0 });
        assert_eq!(table.poll_changed(), Some((2, None)));
        assert_eq!(table.poll_changed(), Some((1, Some(&Pair { key: 9, value: 0 }))));
        assert_eq!(table.poll_changed(), None);
    }

    #[test]
    fn a_table_with_removed_rows_is_restored_and_goes_on_as_the_original() {
        let (mut original, mut copy) = (table(8, 7), table(8, 7));
        for key in 0..6 {
            original.add(&[key], Pair { key, value: 0 });
        }
        remove(&mut original, &[5, 2, 1]);
        for number in 0..original.len() {
            match original.slots[number as usize].is_used {
                true => copy.restore(&[number as u8], *original.row(number)),
                false => copy.restore_removed(),
            };
        }
        drain(&mut original);
        assert_eq!((original.sum(), original.used(), original.len()), (copy.sum(), copy.used(), copy.len()));
        for table in [&mut original, &mut copy] {
            let numbers = [20, 21, 22, 23, 24].map(|key| table.add(&[key], Pair { key, value: 0 }));
            assert_eq!(numbers, [Some(1), Some(2), Some(5), Some(6), None]);
        }
    }
}
