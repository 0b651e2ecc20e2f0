//! Writes the seeds of the fuzz targets into DIR, a folder for each: `cargo run --example fuzz_seeds -- DIR`.

#[path = "../fuzz/src/lib.rs"]
mod fuzz;

use std::path::PathBuf;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let dir = env::args_os().nth(1).map(PathBuf::from).ok_or_else(|| io::Error::other("usage: fuzz_seeds DIR"))?;
    for decoder in fuzz::ALL {
        let folder = dir.join(decoder.name);
        fs::create_dir_all(&folder)?;
        for (number, seed) in (decoder.seeds)().iter().enumerate() {
            (decoder.read)(seed);
            fs::write(folder.join(format!("seed-{number}")), seed)?;
        }
    }
    Ok(())
}
