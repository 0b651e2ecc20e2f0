//! Reading and writing the few shapes that a batch is made of: postcard's varints, lengths and bytes.
//!
//! Postcard itself would do (the tests hold the two against each other). This is what it cannot give: an error for
//! each way to be wrong, lengths that mean the same on 32 and 64 bits, and the speed of the hot path.

/// Why bytes could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadError {
    /// They end too early.
    Truncated,
    /// A varint is longer or larger than its type.
    BadVarint,
}

/// A place in bytes that are read from the front.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What was not read yet.
    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, ReadError> {
        let (&byte, rest) = self.rest.split_first().ok_or(ReadError::Truncated)?;
        self.rest = rest;
        Ok(byte)
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Result<u16, ReadError> {
        self.varint(u16::BITS).map(|value| value as u16)
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Result<u32, ReadError> {
        self.varint(u32::BITS).map(|value| value as u32)
    }

    #[inline]
    pub(crate) fn u64(&mut self) -> Result<u64, ReadError> {
        self.varint(u64::BITS)
    }

    /// A signed number, zigzag: 0, -1, 1, -2 are 0, 1, 2, 3.
    #[inline]
    pub(crate) fn i64(&mut self) -> Result<i64, ReadError> {
        self.u64().map(|value| (value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// The next `len` bytes.
    #[inline]
    pub(crate) fn bytes(&mut self, len: usize) -> Result<&'a [u8], ReadError> {
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(ReadError::Truncated)?;
        self.rest = rest;
        Ok(bytes)
    }

    /// The next `N` bytes.
    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], ReadError> {
        let (array, rest) = self.rest.split_first_chunk().ok_or(ReadError::Truncated)?;
        self.rest = rest;
        Ok(*array)
    }

    /// A varint of at most `bits` bits: seven to a byte, the lowest first, the high bit set on all but the last. Zeros
    /// at the end (a form longer than need be) are allowed as far as the type has bits.
    #[inline]
    fn varint(&mut self, bits: u32) -> Result<u64, ReadError> {
        match self.rest.split_first() {
            Some((&byte, rest)) if byte < 0x80 => {
                self.rest = rest;
                Ok(u64::from(byte))
            }
            _ => self.long_varint(bits),
        }
    }

    fn long_varint(&mut self, bits: u32) -> Result<u64, ReadError> {
        let mut value = 0;
        let mut shift = 0;
        for (at, &byte) in self.rest.iter().enumerate() {
            let part = u64::from(byte & 0x7F);
            let room = bits - shift;
            let is_last = byte < 0x80;
            if (room < 7 && part >> room != 0) || (room <= 7 && !is_last) {
                return Err(ReadError::BadVarint);
            }
            value |= part << shift;
            if is_last {
                self.rest = &self.rest[at + 1..];
                return Ok(value);
            }
            shift += 7;
        }
        Err(ReadError::Truncated)
    }
}

/// Bytes that the shortest varint of `value` has.
pub(crate) const fn varint_len(value: u64) -> usize {
    let bits = u64::BITS - (value | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

/// The zigzag form of a signed number.
pub(crate) const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Writes at a place in a buffer whose room the caller has made sure of.
#[derive(Debug)]
pub(crate) struct Writer<'b> {
    buffer: &'b mut [u8],
    at: usize,
}

impl<'b> Writer<'b> {
    pub(crate) const fn new(buffer: &'b mut [u8], at: usize) -> Self {
        Self { buffer, at }
    }

    /// Where the next byte goes.
    pub(crate) const fn at(&self) -> usize {
        self.at
    }

    #[inline]
    pub(crate) fn u8(&mut self, byte: u8) {
        self.buffer[self.at] = byte;
        self.at += 1;
    }

    #[inline]
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.buffer[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    /// The shortest varint.
    #[inline]
    pub(crate) fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.u8(value as u8);
    }

    /// A varint of exactly three bytes: room for a number that is known later.
    #[inline]
    pub(crate) fn varint3(&mut self, value: u32) {
        debug_assert!(value < 1 << 21);
        self.bytes(&[value as u8 | 0x80, (value >> 7) as u8 | 0x80, (value >> 14) as u8 & 0x7F]);
    }

    /// A length and the bytes.
    #[inline]
    pub(crate) fn prefixed(&mut self, bytes: &[u8]) {
        self.varint(bytes.len() as u64);
        self.bytes(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_u16(bytes: &[u8]) -> Result<u16, ReadError> {
        Cursor::new(bytes).u16()
    }

    #[test]
    fn a_varint_may_be_padded_but_not_beyond_its_type() {
        assert_eq!(read_u16(&[0x05]), Ok(5));
        assert_eq!(read_u16(&[0x85, 0x00]), Ok(5));
        assert_eq!(read_u16(&[0x85, 0x80, 0x00]), Ok(5));
        assert_eq!(read_u16(&[0x85, 0x80, 0x80, 0x00]), Err(ReadError::BadVarint));
        assert_eq!(read_u16(&[0xFF, 0xFF, 0x03]), Ok(u16::MAX));
        assert_eq!(read_u16(&[0xFF, 0xFF, 0x04]), Err(ReadError::BadVarint));
        assert_eq!(read_u16(&[0xFF, 0xFF]), Err(ReadError::Truncated));
        assert_eq!(read_u16(&[]), Err(ReadError::Truncated));
    }

    #[test]
    fn every_width_holds_its_largest_number_and_no_larger() {
        let mut bytes = [0xFF; 10];
        bytes[9] = 0x01;
        assert_eq!(Cursor::new(&bytes).u64(), Ok(u64::MAX));
        bytes[9] = 0x02;
        assert_eq!(Cursor::new(&bytes).u64(), Err(ReadError::BadVarint));
        assert_eq!(Cursor::new(&[0xFF, 0xFF, 0xFF, 0xFF, 0x0F]).u32(), Ok(u32::MAX));
        assert_eq!(Cursor::new(&[0xFF, 0xFF, 0xFF, 0xFF, 0x10]).u32(), Err(ReadError::BadVarint));
    }

    #[test]
    fn what_is_written_is_read() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), i64::MAX as u64, u64::MAX] {
            let mut buffer = [0; 10];
            let mut writer = Writer::new(&mut buffer, 0);
            writer.varint(value);
            assert_eq!(writer.at(), varint_len(value));
            assert_eq!(Cursor::new(&buffer).u64(), Ok(value));
        }
        for value in [0, -1, 1, i64::MIN, i64::MAX] {
            let mut buffer = [0; 10];
            Writer::new(&mut buffer, 0).varint(zigzag(value));
            assert_eq!(Cursor::new(&buffer).i64(), Ok(value));
        }
        for value in [0, 5, 128, 32_768] {
            let mut buffer = [0; 3];
            Writer::new(&mut buffer, 0).varint3(value);
            assert_eq!(Cursor::new(&buffer).u32(), Ok(value));
        }
    }
}
