//! Fuzzes policies and their cases.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: fuzz::seed(fuzz::policy::check, fuzz::policy::seeds),
    |data: &[u8]| {
        fuzz::policy::check(data);
    }
);
