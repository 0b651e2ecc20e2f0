//! What the fuzzer does with its bytes: one module for each decoder of the core that reads what a peer, a client, a disk
//! or a flash has sent. A body asks for more than no panic: what decodes has to encode, and to decode to the same again.
//!
//! The ordinary test `core/tests/decoders.rs` holds this file too, and does the same on a stable compiler.

#![allow(unreachable_pub, reason = "a library for the targets, a module of the test")]

pub mod batch;
pub mod checkpoint;
pub mod entry;
pub mod flash;
pub mod frame;
pub mod log;
pub mod message;
pub mod producer;

use eventstream_core::crc::Crc32;

/// A decoder under test.
pub struct Decoder {
    /// The name of its target.
    pub name: &'static str,
    /// Reads any bytes. A panic is a finding.
    pub read: fn(&[u8]),
    /// Bytes to begin with: what the decoder takes, or nearly takes.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Every one, by name.
pub const ALL: [&Decoder; 8] = [
    &batch::DECODER,
    &checkpoint::DECODER,
    &entry::DECODER,
    &flash::DECODER,
    &frame::DECODER,
    &log::DECODER,
    &message::DECODER,
    &producer::DECODER,
];

const CRC: Crc32 = Crc32::portable();

/// The fuzzer's bytes, from which a body takes what it needs.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (&array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(array)
    }

    /// A number of eight bytes.
    fn number(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// Bytes behind their length, which is two bytes; fewer where the script ends.
    fn piece(&mut self) -> Option<&'a [u8]> {
        let len = usize::from(u16::from_le_bytes(self.array()?));
        let (piece, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        Some(piece)
    }
}

/// A piece as [`Script::piece`] takes it.
fn piece(bytes: &[u8]) -> Vec<u8> {
    let len = u16::try_from(bytes.len()).expect("seeds are short");
    [&len.to_le_bytes(), bytes].concat()
}
