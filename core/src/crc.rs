//! CRC-32 as zlib, Ethernet and gzip have it (catalogue name CRC-32/ISO-HDLC).
//!
//! Why this one: `docs/decisions.md`. The computation is handed in as a function, so that a host uses its processor's
//! instructions, a microcontroller its peripheral, and everybody else the table of [`Crc32::portable`].

/// The check value of the catalogue: the CRC of the nine bytes `123456789`.
pub const CHECK: u32 = 0xCBF4_3926;

/// The polynomial with the lowest power of x in the highest bit, as the register holds it.
const POLYNOMIAL: u32 = 0xEDB8_8320;

/// A way to compute CRC-32.
#[derive(Clone, Copy, Debug)]
pub struct Crc32(fn(u32, &[u8]) -> u32);

impl Crc32 {
    /// The computation with a table of 1 KiB.
    #[must_use]
    pub const fn portable() -> Self {
        Self(portable)
    }

    /// The computation by `extend`, which is given the CRC of the bytes so far (0 at the start) and the bytes that
    /// follow, and returns the CRC of all of them: `crc32fast::Hasher::new_with_initial` or zlib's `crc32`.
    #[must_use]
    pub const fn with(extend: fn(u32, &[u8]) -> u32) -> Self {
        Self(extend)
    }

    /// The CRC of `bytes`.
    #[must_use]
    pub fn of(self, bytes: &[u8]) -> u32 {
        (self.0)(0, bytes)
    }

    /// The CRC of what `crc` is the CRC of, followed by `bytes`.
    #[must_use]
    pub fn extend(self, crc: u32, bytes: &[u8]) -> u32 {
        (self.0)(crc, bytes)
    }
}

fn portable(crc: u32, bytes: &[u8]) -> u32 {
    static TABLE: crc::Crc<u32, crc::Table<1>> = crc::Crc::<u32, crc::Table<1>>::new(&crc::CRC_32_ISO_HDLC);
    // The digest wants the register's start as the catalogue writes it: not reflected, before the final complement.
    let mut digest = TABLE.digest_with_initial((!crc).reverse_bits());
    digest.update(bytes);
    digest.finalize()
}

/// The CRC of two pieces of data, one after the other, from the CRC of each: no byte is read again.
///
/// Appending `n` zero bytes multiplies the register by x^8n modulo the polynomial, and CRCs are linear (zlib,
/// `crc32_combine`). Takes a few hundred steps, whatever the length.
#[must_use]
pub const fn combine(first: u32, second: u32, second_len: usize) -> u32 {
    multiply(power_of_x8(second_len as u64), first) ^ second
}

/// x^(2^k) modulo the polynomial, for k from 0 to 63.
const POWERS: [u32; 64] = {
    let mut powers = [0; 64];
    powers[0] = 1 << 30;
    let mut k = 1;
    while k < powers.len() {
        powers[k] = multiply(powers[k - 1], powers[k - 1]);
        k += 1;
    }
    powers
};

/// x^(8n) modulo the polynomial.
const fn power_of_x8(n: u64) -> u32 {
    let mut product = 1 << 31;
    let mut bits = n;
    // x^8 = x^(2^3): the first bit of n stands for POWERS[3]. No length in memory has more than the 61 bits that follow.
    let mut k = 3;
    while bits != 0 && k < POWERS.len() {
        if bits & 1 == 1 {
            product = multiply(POWERS[k], product);
        }
        bits >>= 1;
        k += 1;
    }
    product
}

/// The product of two polynomials over GF(2), modulo the polynomial of the CRC.
const fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    let mut bit = 1 << 31;
    while bit != 0 {
        if a & bit != 0 {
            product ^= b;
        }
        b = if b & 1 == 1 { (b >> 1) ^ POLYNOMIAL } else { b >> 1 };
        bit >>= 1;
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    const CRC: Crc32 = Crc32::portable();

    /// The definition, bit by bit.
    fn by_definition(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0, |register, &byte| {
            (0..8).fold(register ^ u32::from(byte), |r, _| if r & 1 == 1 { (r >> 1) ^ POLYNOMIAL } else { r >> 1 })
        })
    }

    #[test]
    fn the_catalogue_agrees() {
        assert_eq!(CRC.of(b"123456789"), CHECK);
        assert_eq!(by_definition(b"123456789"), CHECK);
        assert_eq!(CRC.of(b""), 0);
        assert_eq!(CRC.of(&[0; 4]), 0x2144_DF1C);
    }

    #[test]
    fn pieces_make_the_whole() {
        let mut data = [0u8; 300];
        for (at, byte) in data.iter_mut().enumerate() {
            *byte = (at * 37 % 251) as u8;
        }
        let whole = by_definition(&data);
        for cut in 0..=data.len() {
            let (a, b) = data.split_at(cut);
            assert_eq!(CRC.extend(CRC.of(a), b), whole, "extended at {cut}");
            assert_eq!(combine(CRC.of(a), CRC.of(b), b.len()), whole, "combined at {cut}");
        }
    }
}
