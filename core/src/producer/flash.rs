//! Memory that forgets nothing, with the manners of NOR flash.

/// Pages of flash that belong to a [`FlashLog`](super::FlashLog) alone.
///
/// A bit goes from 1 to 0 by a write and back to 1 by the erasure of its whole page; an erased byte is `0xFF`. A write or
/// an erasure may be cut short by a reset: any part of it may then have happened. What a call has returned from stays.
///
/// The log writes whole units of [`WRITE_UNIT`](super::WRITE_UNIT) bytes, at multiples of that, each at most once between
/// two erasures: flash with error correction over words needs no more.
pub trait Flash {
    /// Why the flash did not do what it was asked for.
    type Error;

    /// Bytes of a page: at least 64, a multiple of [`WRITE_UNIT`](super::WRITE_UNIT).
    fn page_len(&self) -> usize;

    /// Pages, at least 2.
    fn pages(&self) -> usize;

    /// Reads from a page, from the byte `at` of it on.
    ///
    /// # Errors
    ///
    /// Whatever keeps the device from reading.
    fn read(&mut self, page: usize, at: usize, into: &mut [u8]) -> Result<(), Self::Error>;

    /// Writes into a page that was erased there, from the byte `at` of it on. Returns when it is done.
    ///
    /// # Errors
    ///
    /// Whatever keeps the device from writing; part of it may have been written.
    fn write(&mut self, page: usize, at: usize, bytes: &[u8]) -> Result<(), Self::Error>;

    /// Sets every bit of a page. Returns when it is done.
    ///
    /// # Errors
    ///
    /// Whatever keeps the device from erasing; part of it may have been erased.
    fn erase(&mut self, page: usize) -> Result<(), Self::Error>;
}

impl<F: Flash> Flash for &mut F {
    type Error = F::Error;

    fn page_len(&self) -> usize {
        (**self).page_len()
    }

    fn pages(&self) -> usize {
        (**self).pages()
    }

    fn read(&mut self, page: usize, at: usize, into: &mut [u8]) -> Result<(), Self::Error> {
        (**self).read(page, at, into)
    }

    fn write(&mut self, page: usize, at: usize, bytes: &[u8]) -> Result<(), Self::Error> {
        (**self).write(page, at, bytes)
    }

    fn erase(&mut self, page: usize) -> Result<(), Self::Error> {
        (**self).erase(page)
    }
}
