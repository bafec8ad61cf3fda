//! Fuzzes tokens of other issuers.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: fuzz::seed(fuzz::jwt::check, fuzz::jwt::seeds),
    |data: &[u8]| {
        fuzz::jwt::check(data);
    }
);
