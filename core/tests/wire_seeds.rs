//! The fuzz target's body as an ordinary test: over its seeds, and over mutations of them.

#[path = "../fuzz/any_bytes.rs"]
mod any_bytes;

use proptest::prelude::*;
use std::fs;
use std::path::Path;

fn seeds() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    let mut paths: Vec<_> =
        fs::read_dir(folder).expect("the seeds").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    assert!(paths.len() >= 8, "the seeds are there");
    paths.into_iter().map(|path| fs::read(path).expect("a seed")).collect()
}

#[test]
fn every_seed_and_every_end_of_it() {
    for seed in seeds() {
        for len in 0..=seed.len() {
            any_bytes::read(&seed[..len]);
        }
    }
}

#[test]
fn every_byte_of_every_seed_changed() {
    for seed in seeds() {
        for at in 0..seed.len() {
            for value in [0x00, 0x01, 0x7F, 0x80, 0xFF, seed[at].wrapping_add(1), seed[at].wrapping_sub(1)] {
                let mut changed = seed.clone();
                changed[at] = value;
                any_bytes::read(&changed);
            }
        }
    }
}

proptest! {
    #[test]
    fn pieces_of_seeds_put_together(
        pieces in prop::collection::vec(any::<(prop::sample::Index, prop::sample::Index, prop::sample::Index)>(), 1..6),
        bytes in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 0..6),
    ) {
        let seeds = seeds();
        let mut input = Vec::new();
        for (seed, from, len) in pieces {
            let seed = seed.get(&seeds);
            let from = from.index(seed.len());
            input.extend_from_slice(&seed[from..=from + len.index(seed.len() - from)]);
        }
        for (at, value) in bytes {
            let at = at.index(input.len());
            input[at] = value;
        }
        any_bytes::read(&input);
    }
}
