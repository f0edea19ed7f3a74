//! `cargo xtask`: tidy, fuzz, interop, conformance.
fn main() {}
