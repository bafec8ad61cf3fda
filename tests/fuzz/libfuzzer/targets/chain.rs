//! Fuzzes certificate chains of peers.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: fuzz::seed(fuzz::chain::check, fuzz::chain::seeds),
    |data: &[u8]| {
        fuzz::chain::check(data);
    }
);
