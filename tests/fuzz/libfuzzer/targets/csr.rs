//! Fuzzes certification requests and the keys in them.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: fuzz::seed(fuzz::csr::check, fuzz::csr::seeds),
    |data: &[u8]| {
        fuzz::csr::check(data);
    }
);
