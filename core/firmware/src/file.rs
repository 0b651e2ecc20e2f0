//! Flash that is a file of the machine that runs QEMU, by semihosting. It outlives QEMU, as flash does a reset.
//!
//! It has the manners of NOR flash: a page is erased before it is written, and a unit is written once. Whatever comes
//! between two units is visible to a reset, so that killing QEMU tears writes and erasures apart.
#![allow(unsafe_code, reason = "semihosting takes pointers")]

use crate::uart::Uart;
use core::cell::Cell;
use cortex_m_semihosting::{nr, syscall};
use embedded_io::Write;
use eventstream_core::producer::{Flash, WRITE_UNIT};

/// Bytes of a page: those of the LM3S6965.
pub const PAGE_LEN: usize = 1024;
/// Pages of the file.
pub const PAGES: usize = 16;

/// The name of the file, which has the length of the flash. A new one holds `0xFF` alone.
const NAME: &str = "flash.bin\0";
/// `r+b`
const READ_AND_WRITE: usize = 3;

/// The file could not be opened, read or written.
#[derive(Clone, Copy, Debug)]
pub struct FileError;

/// The flash.
pub struct FileFlash {
    handle: usize,
    /// Units that are still written before one is written half and the device panics; zero for never.
    tear_after: Cell<u32>,
}

impl FileFlash {
    /// Opens the file.
    ///
    /// # Errors
    ///
    /// If it is not there.
    pub fn open(tear_after: u32) -> Result<Self, FileError> {
        let arguments = [NAME.as_ptr() as usize, READ_AND_WRITE, NAME.len() - 1];
        // SAFETY: SYS_OPEN takes a name that ends with zero, a mode and the length of the name.
        let handle = unsafe { syscall(nr::OPEN, &arguments) };
        if handle == usize::MAX {
            return Err(FileError);
        }
        Ok(Self { handle, tear_after: Cell::new(tear_after) })
    }

    fn seek(&self, page: usize, at: usize) -> Result<(), FileError> {
        assert!(page < PAGES && at < PAGE_LEN, "within the flash");
        let arguments = [self.handle, page * PAGE_LEN + at];
        // SAFETY: SYS_SEEK takes a handle and a position.
        done(unsafe { syscall(nr::SEEK, &arguments) })
    }

    fn write_unit(&self, bytes: &[u8]) -> Result<(), FileError> {
        let left = self.tear_after.get();
        let is_torn = left == 1;
        self.tear_after.set(left.saturating_sub(1));
        let bytes = if is_torn { &bytes[..bytes.len() / 2] } else { bytes };
        let arguments = [self.handle, bytes.as_ptr() as usize, bytes.len()];
        // SAFETY: SYS_WRITE takes a handle and bytes, which it reads; the answer is how many were not written.
        done(unsafe { syscall(nr::WRITE, &arguments) })?;
        if is_torn {
            let mut log = Uart::LOG;
            let Ok(()) = log.write_all(b"torn: half a unit was written\n");
            panic!("the power fails");
        }
        Ok(())
    }
}

impl Flash for FileFlash {
    type Error = FileError;

    fn page_len(&self) -> usize {
        PAGE_LEN
    }

    fn pages(&self) -> usize {
        PAGES
    }

    fn read(&mut self, page: usize, at: usize, into: &mut [u8]) -> Result<(), FileError> {
        self.seek(page, at)?;
        let arguments = [self.handle, into.as_mut_ptr() as usize, into.len()];
        // SAFETY: SYS_READ takes a handle and room, which it fills; the answer is how many bytes were not read.
        done(unsafe { syscall(nr::READ, &arguments) })
    }

    fn write(&mut self, page: usize, at: usize, bytes: &[u8]) -> Result<(), FileError> {
        assert!(at.is_multiple_of(WRITE_UNIT) && bytes.len().is_multiple_of(WRITE_UNIT), "whole units are written");
        let mut before = [0; WRITE_UNIT];
        for at in (at..at + bytes.len()).step_by(WRITE_UNIT) {
            self.read(page, at, &mut before)?;
            assert!(before == [0xFF; WRITE_UNIT], "what is written was erased before");
        }
        self.seek(page, at)?;
        bytes.chunks(WRITE_UNIT).try_for_each(|unit| self.write_unit(unit))
    }

    fn erase(&mut self, page: usize) -> Result<(), FileError> {
        self.seek(page, 0)?;
        (0..PAGE_LEN / WRITE_UNIT).try_for_each(|_| self.write_unit(&[0xFF; WRITE_UNIT]))
    }
}

fn done(answer: usize) -> Result<(), FileError> {
    if answer == 0 { Ok(()) } else { Err(FileError) }
}
