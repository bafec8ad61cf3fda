//! Fuzzes what is asked for on the proxy face.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: fuzz::seed(fuzz::proxy::check, fuzz::proxy::seeds),
    |data: &[u8]| {
        fuzz::proxy::check(data);
    }
);
