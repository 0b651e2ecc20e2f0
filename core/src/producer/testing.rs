//! Flash whose power can be cut after any byte.

extern crate std;

use super::flash::Flash;
use super::page::Stored;
use std::vec;
use std::vec::Vec;

/// The power is gone, or what was asked for is no way to treat flash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    PowerCut,
    BitSetByWrite,
    Unaligned,
}

#[derive(Clone, Debug)]
pub(super) struct TestFlash {
    pub(super) pages: Vec<Vec<u8>>,
    /// Bytes that are still written or erased before the power is cut.
    pub(super) bytes_left: Option<usize>,
    /// Bytes that were written or erased.
    pub(super) bytes_done: usize,
    /// Which bits of the byte at the cut change all the same.
    pub(super) torn_bits: u8,
    /// Erasures go from the last byte of a page to its first.
    pub(super) erases_backwards: bool,
}

impl TestFlash {
    pub(super) fn new(pages: usize, page_len: usize) -> Self {
        let pages = vec![vec![0xFF; page_len]; pages];
        Self { pages, bytes_left: None, bytes_done: 0, torn_bits: 0, erases_backwards: false }
    }

    pub(super) fn flip_bit(&mut self, page: usize, at: usize) {
        self.pages[page][at] ^= 1;
    }

    fn change(&mut self, page: usize, at: usize, to: u8) -> Result<(), Fault> {
        let byte = &mut self.pages[page][at];
        match &mut self.bytes_left {
            Some(0) => {
                *byte = *byte & !self.torn_bits | to & self.torn_bits;
                self.torn_bits = 0;
                return Err(Fault::PowerCut);
            }
            Some(left) => *left -= 1,
            None => {}
        }
        *byte = to;
        self.bytes_done += 1;
        Ok(())
    }
}

impl Flash for TestFlash {
    type Error = Fault;

    fn page_len(&self) -> usize {
        self.pages[0].len()
    }

    fn pages(&self) -> usize {
        self.pages.len()
    }

    fn read(&mut self, page: usize, at: usize, into: &mut [u8]) -> Result<(), Fault> {
        into.copy_from_slice(&self.pages[page][at..at + into.len()]);
        Ok(())
    }

    fn write(&mut self, page: usize, at: usize, bytes: &[u8]) -> Result<(), Fault> {
        if !at.is_multiple_of(8) || !bytes.len().is_multiple_of(8) {
            return Err(Fault::Unaligned);
        }
        // Stricter than a bit that is never set: nothing is written twice.
        if self.pages[page][at..at + bytes.len()].iter().any(|byte| *byte != 0xFF) {
            return Err(Fault::BitSetByWrite);
        }
        bytes.iter().zip(at..).try_for_each(|(byte, at)| self.change(page, at, *byte))
    }

    fn erase(&mut self, page: usize) -> Result<(), Fault> {
        let (len, backwards) = (self.page_len(), self.erases_backwards);
        let order = (0..len).map(|at| if backwards { len - 1 - at } else { at });
        { order }.try_for_each(|at| self.change(page, at, 0xFF))
    }
}

/// The payload of the event with this number: another one for each, and of many lengths.
pub(super) fn payload(number: u64) -> Vec<u8> {
    let len = 1 + (number * 7 % 23) as usize;
    number.to_le_bytes().into_iter().chain((0..len).map(|at| at as u8)).collect()
}

pub(super) fn stored(payload: &[u8]) -> Stored<'_> {
    Stored { topic: "oven", time_us: 5, key: b"k", payload }
}
