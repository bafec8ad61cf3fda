//! Fuzzes certification paths to anchors of others, and their revocation lists.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: fuzz::seed(fuzz::path::check, fuzz::path::seeds),
    |data: &[u8]| {
        fuzz::path::check(data);
    }
);
