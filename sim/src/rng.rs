//! The only source of chance: a schedule is a function of its seed.

/// SplitMix64 (Steele, Lea, Flood 2014): one addition and one mix per number, and any seed is as good as another.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number in `0..bound`; zero if `bound` is zero.
    pub(crate) const fn below(&mut self, bound: u64) -> u64 {
        ((self.next() as u128 * bound as u128) >> 64) as u64
    }

    /// A place in something of `len` items.
    pub(crate) const fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// A number in `low..=high`.
    pub(crate) const fn range(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// A number in `low..=high` whose order of magnitude is chosen first: short spans come as often as long ones.
    /// `low` is at least 1.
    pub(crate) fn magnitude(&mut self, low: u64, high: u64) -> u64 {
        let doublings = (high / low).ilog2();
        let floor = low << self.range(0, doublings.into());
        self.range(floor, (floor * 2).min(high))
    }

    /// True in `per_mille` of a thousand cases.
    pub(crate) const fn chance(&mut self, per_mille: u32) -> bool {
        per_mille != 0 && self.below(1_000) < per_mille as u64
    }

    pub(crate) const fn coin(&mut self) -> bool {
        self.next() >> 63 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_and_their_ends_are_reached() {
        let mut rng = Rng::new(1);
        let mut seen = [false; 4];
        for _ in 0..1_000 {
            seen[(rng.range(3, 6) - 3) as usize] = true;
            assert!((5..=1_000).contains(&rng.magnitude(5, 1_000)));
        }
        assert_eq!(seen, [true; 4]);
        assert_eq!(rng.magnitude(7, 7), 7);
    }

    #[test]
    fn chance_is_about_what_it_says() {
        let mut rng = Rng::new(2);
        let hits = (0..100_000).filter(|_| rng.chance(250)).count();
        assert!((24_000..26_000).contains(&hits), "{hits}");
        assert!(!(0..1_000).any(|_| rng.chance(0)));
    }
}
