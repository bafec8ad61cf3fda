//! Fuzzes proofs of possession.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: fuzz::seed(fuzz::proof::check, fuzz::proof::seeds),
    |data: &[u8]| {
        fuzz::proof::check(data);
    }
);
