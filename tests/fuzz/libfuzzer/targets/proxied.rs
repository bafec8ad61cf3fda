//! Fuzzes the PROXY protocol header.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: fuzz::seed(fuzz::proxied::check, fuzz::proxied::seeds),
    |data: &[u8]| {
        fuzz::proxied::check(data);
    }
);
