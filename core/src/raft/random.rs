//! Numbers that differ between nodes and repeat with their seed.

use crate::time::Duration;

/// `SplitMix64` (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014).
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A span of at least `least` and less than `most`, or `least` where nothing lies between.
    pub(super) fn between(&mut self, least: Duration, most: Duration) -> Duration {
        let width = (most - least).as_micros().max(1);
        least + Duration::from_micros(self.next() % width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_numbers_come_out() {
        let mut random = Random::new(1_234_567);
        assert_eq!(random.next(), 6_457_827_717_110_365_317);
        assert_eq!(random.next(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn spans_stay_within_their_bounds() {
        let (least, most) = (Duration::from_micros(20), Duration::from_micros(24));
        let mut random = Random::new(7);
        let mut seen = [false; 4];
        for _ in 0..100 {
            seen[(random.between(least, most) - least).as_micros() as usize] = true;
        }
        assert_eq!(seen, [true; 4]);
        assert_eq!(random.between(least, least), least);
    }
}
