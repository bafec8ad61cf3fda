//! Fuzzes messages that others signed.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: fuzz::seed(fuzz::cms::check, fuzz::cms::seeds),
    |data: &[u8]| {
        fuzz::cms::check(data);
    }
);
