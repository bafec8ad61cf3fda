//! Fuzzes the evidence of every attestor.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: fuzz::seed(fuzz::evidence::check, fuzz::evidence::seeds),
    |data: &[u8]| {
        fuzz::evidence::check(data);
    }
);
