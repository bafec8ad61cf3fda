//! Fuzzes key sets of issuers.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: fuzz::seed(fuzz::key_set::check, fuzz::key_set::seeds),
    |data: &[u8]| {
        fuzz::key_set::check(data);
    }
);
