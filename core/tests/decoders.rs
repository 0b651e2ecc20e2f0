//! The bodies of the fuzz targets as an ordinary test: over their seeds, over every end and every byte of them, and over
//! pieces of them that are put together and changed. The same inputs at every run.

#[path = "../fuzz/src/lib.rs"]
mod fuzz;

use fuzz::Decoder;
use std::fs;
use std::path::Path;

/// Inputs put together from pieces, for each decoder.
const PUT_TOGETHER: u64 = 4_000;

macro_rules! decoders {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            exercise(&fuzz::$name::DECODER);
        })*

        #[test]
        fn each_has_a_target_and_a_test() {
            let names = [$(stringify!($name)),*];
            assert!(fuzz::ALL.iter().map(|decoder| decoder.name).eq(names));
            let targets = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
            let targets = fs::read_dir(targets).expect("the targets").map(|entry| entry.expect("an entry").file_name());
            let mut targets: Vec<_> = targets.map(|name| name.into_string().expect("ASCII")).collect();
            targets.sort_unstable();
            assert!(targets.iter().map(|name| name.trim_end_matches(".rs")).eq(names));
        }
    };
}

decoders! { batch checkpoint entry flash frame log message producer }

fn exercise(decoder: &Decoder) {
    let seeds = (decoder.seeds)();
    assert!(!seeds.is_empty());
    for seed in &seeds {
        for len in 0..=seed.len() {
            (decoder.read)(&seed[..len]);
        }
        for at in 0..seed.len() {
            for value in [0x00, 0x01, 0x7F, 0x80, 0xFF, seed[at].wrapping_add(1), seed[at].wrapping_sub(1)] {
                let mut changed = seed.clone();
                changed[at] = value;
                (decoder.read)(&changed);
            }
        }
    }
    let mut random = Random(decoder.name.len() as u64);
    for _ in 0..PUT_TOGETHER {
        (decoder.read)(&put_together(&seeds, &mut random));
    }
}

/// One to five pieces of seeds, and up to five bytes of them changed.
fn put_together(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = Vec::new();
    for _ in 0..=random.below(5) {
        let seed = &seeds[random.below(seeds.len())];
        let from = random.below(seed.len() + 1);
        input.extend_from_slice(&seed[from..from + random.below(seed.len() - from + 1)]);
    }
    for _ in 0..random.below(6) {
        if !input.is_empty() {
            let at = random.below(input.len());
            input[at] = random.below(256) as u8;
        }
    }
    input
}

/// Steele, Lea and Flood's SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ mixed >> 31) % end as u64) as usize
    }
}
