//! Sets the private cfg `eventstream_loom` for this package, and for no other: see core/src/sync.rs.

fn main() {
    println!("cargo:rustc-cfg=eventstream_loom");
    println!("cargo:rerun-if-changed=build.rs");
}
