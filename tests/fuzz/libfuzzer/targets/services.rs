//! Fuzzes what a machine's owner exposes and reaches.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: fuzz::seed(fuzz::services::check, fuzz::services::seeds),
    |data: &[u8]| {
        fuzz::services::check(data);
    }
);
