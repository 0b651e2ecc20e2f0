//! The PL011, as LM3S6965 and QEMU have it.
#![allow(unsafe_code, reason = "registers are memory")]

use core::convert::Infallible;
use embedded_io::{ErrorType, Read, ReadReady, Write};

/// The receive FIFO is empty.
const RX_EMPTY: u32 = 1 << 4;
/// The transmit FIFO is full.
const TX_FULL: u32 = 1 << 5;
/// Eight bits to a byte, and FIFOs of 16 bytes.
const LINE: u32 = 3 << 5 | 1 << 4;
/// UART, transmitter and receiver are on.
const ENABLED: u32 = 1 | 1 << 8 | 1 << 9;

/// The registers that are used, by their offsets.
#[derive(Clone, Copy)]
enum Register {
    Data = 0x000,
    Flags = 0x018,
    LineControl = 0x02C,
    Control = 0x030,
}

/// One UART. Several handles to one may mix their bytes up, and nothing worse.
pub struct Uart {
    base: usize,
}

impl Uart {
    /// The first one: for people.
    pub const LOG: Self = Self { base: 0x4000_C000 };
    /// The second one: to the node.
    pub const NODE: Self = Self { base: 0x4000_D000 };

    /// Switches it on.
    pub fn enable(&mut self) {
        self.set(Register::LineControl, LINE);
        self.set(Register::Control, ENABLED);
    }

    fn has(&self, flag: u32) -> bool {
        self.get(Register::Flags) & flag != 0
    }

    fn get(&self, register: Register) -> u32 {
        // SAFETY: `base` is one of the two above, where the memory map of the LM3S6965 has a UART with this register.
        unsafe { ((self.base + register as usize) as *const u32).read_volatile() }
    }

    fn set(&mut self, register: Register, value: u32) {
        // SAFETY: as in `get`; no UART here reaches memory by itself.
        unsafe { ((self.base + register as usize) as *mut u32).write_volatile(value) }
    }
}

impl ErrorType for Uart {
    type Error = Infallible;
}

impl ReadReady for Uart {
    fn read_ready(&mut self) -> Result<bool, Infallible> {
        Ok(!self.has(RX_EMPTY))
    }
}

impl Read for Uart {
    /// Waits for the first byte and takes what has come with it.
    fn read(&mut self, into: &mut [u8]) -> Result<usize, Infallible> {
        let mut read = 0;
        while read < into.len() && (read == 0 || !self.has(RX_EMPTY)) {
            while self.has(RX_EMPTY) {}
            into[read] = self.get(Register::Data) as u8;
            read += 1;
        }
        Ok(read)
    }
}

impl Write for Uart {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        for byte in bytes {
            while self.has(TX_FULL) {}
            self.set(Register::Data, u32::from(*byte));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}
