//! Tells the linker where flash and RAM are.

use std::path::Path;

fn main() {
    let folder = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it");
    println!("cargo:rustc-link-search={}", Path::new(&folder).display());
    println!("cargo:rustc-link-arg-bins=-Tlink.x");
    println!("cargo:rerun-if-changed=memory.x");
}
