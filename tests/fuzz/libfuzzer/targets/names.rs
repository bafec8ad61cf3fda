//! Fuzzes names, and text shown to people.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: fuzz::seed(fuzz::names::check, fuzz::names::seeds),
    |data: &[u8]| {
        fuzz::names::check(data);
    }
);
