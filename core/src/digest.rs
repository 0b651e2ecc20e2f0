//! A running 64-bit hash, the same on every platform: what state hashes and hash tables are made of.
//!
//! Numbers and byte strings are folded in by a 64 x 64 -> 128 bit multiplication, after wyhash. It finds differences
//! that come from bugs and broken disks; it is no defence against somebody who looks for collisions.

const K0: u64 = 0x2d35_8dcc_aa6c_78a5;
const K1: u64 = 0x8bb8_4b93_962e_acc9;
const K2: u64 = 0x4b33_a62e_d433_d4a3;

/// A hash that more can be folded into. What is folded in, and in which order, decides its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Digest(u64);

impl Digest {
    /// The hash of nothing yet.
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed ^ K2)
    }

    /// The hash that had this value.
    pub(crate) const fn resume(value: u64) -> Self {
        Self(value)
    }

    /// Its value.
    pub(crate) const fn value(self) -> u64 {
        self.0
    }

    /// Folds in a number.
    #[must_use]
    pub(crate) const fn number(self, number: u64) -> Self {
        Self(fold(self.0 ^ number ^ K0, K1))
    }

    /// Folds in a byte string and its length, 16 bytes at a time.
    ///
    /// The string is hashed on its own first, so that no string, however chosen, can take out what was folded in
    /// before it.
    #[must_use]
    #[inline]
    pub(crate) fn bytes(self, bytes: &[u8]) -> Self {
        let (blocks, tail) = bytes.as_chunks::<16>();
        let mut own = bytes.len() as u64 ^ K2;
        for block in blocks {
            own = fold_block(own, block);
        }
        if !tail.is_empty() {
            let mut block = [0; 16];
            block[..tail.len()].copy_from_slice(tail);
            own = fold_block(own, &block);
        }
        self.number(own)
    }
}

#[inline]
fn fold_block(own: u64, block: &[u8; 16]) -> u64 {
    let number = u128::from_le_bytes(*block);
    fold(number as u64 ^ K0, (number >> 64) as u64 ^ own)
}

#[inline]
const fn fold(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(bytes: &[u8]) -> u64 {
        Digest::new(0).bytes(bytes).value()
    }

    /// State hashes are compared between nodes of different builds, and kept on disk.
    #[test]
    fn values_are_fixed() {
        assert_eq!(hash(b""), 0xca81_3bf4_c7ab_f0a9);
        assert_eq!(hash(b"the temperature of oven 3"), 0x0b78_0ac5_19c0_793e);
        assert_eq!(Digest::new(1).number(2).number(3).value(), 0x27a5_2e24_8c79_270e);
    }

    #[test]
    fn every_byte_and_the_length_count() {
        let bytes: [u8; 40] = core::array::from_fn(|at| at as u8);
        for len in 0..bytes.len() {
            assert_ne!(hash(&bytes[..len]), hash(&bytes[..len + 1]));
            let mut changed = bytes;
            changed[len] ^= 0x80;
            assert_ne!(hash(&bytes), hash(&changed), "byte {len}");
        }
        assert_ne!(hash(&[0; 15]), hash(&[0; 16]));
    }

    #[test]
    fn order_counts() {
        assert_ne!(Digest::new(0).number(1).number(2), Digest::new(0).number(2).number(1));
        assert_ne!(Digest::new(0).bytes(b"ab").bytes(b"c"), Digest::new(0).bytes(b"a").bytes(b"bc"));
    }
}
