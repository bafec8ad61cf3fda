//! Fuzzes join tokens and what else is given to `lychgate join`.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: fuzz::seed(fuzz::join_token::check, fuzz::join_token::seeds),
    |data: &[u8]| {
        fuzz::join_token::check(data);
    }
);
