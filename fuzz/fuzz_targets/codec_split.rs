//! Fuzz target: the frame splitter on arbitrary bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = martlet_codec::split(data, u32::MAX);
});
