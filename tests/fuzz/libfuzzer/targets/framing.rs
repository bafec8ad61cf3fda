//! Fuzzes HTTP request framing, against the HTTP library.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: fuzz::seed(fuzz::framing::check, fuzz::framing::seeds),
    |data: &[u8]| {
        fuzz::framing::check(data);
    }
);
