//! Short texts with numbers in them: `core::fmt` would take a tenth of the firmware.

/// A text of at most 96 bytes; what does not fit is left out.
#[derive(Clone, Copy)]
pub struct Text {
    bytes: [u8; Self::MAX_LEN],
    len: usize,
}

impl Text {
    const MAX_LEN: usize = 96;

    /// This text.
    pub fn of(text: &str) -> Self {
        Self { bytes: [0; Self::MAX_LEN], len: 0 }.and(text)
    }

    /// The text, and this one after it.
    pub fn and(mut self, text: &str) -> Self {
        text.bytes().for_each(|byte| self.push(byte));
        self
    }

    /// The text, and this number after it.
    pub fn number(mut self, number: u64) -> Self {
        // What the test makes fits 32 bits, which a Cortex-M3 divides by itself.
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        let mut unit = 1_000_000_000;
        while unit > 0 {
            if number >= unit || unit == 1 {
                self.push(b'0' + (number / unit % 10) as u8);
            }
            unit /= 10;
        }
        self
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.len) {
            *place = byte;
            self.len += 1;
        }
    }
}
