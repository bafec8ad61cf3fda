//! Fuzzes documents of clouds.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: fuzz::seed(fuzz::cloud::check, fuzz::cloud::seeds),
    |data: &[u8]| {
        fuzz::cloud::check(data);
    }
);
