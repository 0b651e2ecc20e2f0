//! What the test tells the device: words of the form `name=number` on QEMU's command line.
#![allow(unsafe_code, reason = "semihosting takes pointers")]

use cortex_m_semihosting::{nr, syscall};

const MAX_LEN: usize = 128;

/// The device's orders.
#[derive(Clone, Copy, Debug)]
pub struct Arguments {
    /// Events that there will have been in the life of the flash.
    pub events: u64,
    /// The device makes no new event while it keeps so many for the cluster.
    pub hold: u64,
    /// The power fails in the middle of this write, counted from 1; zero for never.
    pub tear: u32,
    /// The last byte of the producer's id, if the flash is formatted.
    pub id: u8,
}

impl Arguments {
    /// Reads them.
    ///
    /// # Panics
    ///
    /// If there is none, or one that is not known.
    pub fn read() -> Self {
        let mut line = [0u8; MAX_LEN];
        let arguments = [line.as_mut_ptr() as usize, line.len()];
        // SAFETY: SYS_GET_CMDLINE takes room, which it fills with a text that ends with zero, and writes its length.
        let answer = unsafe { syscall(nr::GET_CMDLINE, &arguments) };
        assert!(answer == 0, "the command line is short");
        let len = line.iter().position(|byte| *byte == 0).unwrap_or(MAX_LEN);
        let line = core::str::from_utf8(&line[..len]).expect("a command line is text");
        let mut read = Self { events: 0, hold: 100, tear: 0, id: 1 };
        for word in line.split_ascii_whitespace() {
            let Some((name, value)) = word.split_once('=') else { continue };
            let value: u32 = value.parse().expect("a number");
            match name {
                "events" => read.events = value.into(),
                "hold" => read.hold = value.into(),
                "tear" => read.tear = value,
                "id" => read.id = value as u8,
                _ => panic!("no such argument"),
            }
        }
        read
    }
}
