//! `cargo xtask`: everything that is done to this repository, in Rust.
fn main() {}
