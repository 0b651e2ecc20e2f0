//! CRC-32 as this machine computes it fastest.

use eventstream_core::crc::Crc32;

/// For everything in the host that wants a checksum: uses the processor's instructions where it has them.
pub const CRC: Crc32 = Crc32::with(extend);

fn extend(crc: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(crc);
    hasher.update(bytes);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_computes_what_the_portable_one_does() {
        let bytes: Vec<u8> = (0..1_000_u32).map(|n| (n * 7) as u8).collect();
        for (first, second) in [bytes.split_at(0), bytes.split_at(1), bytes.split_at(513)] {
            assert_eq!(CRC.extend(CRC.of(first), second), Crc32::portable().of(&bytes));
        }
    }
}
