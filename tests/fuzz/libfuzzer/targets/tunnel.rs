//! Fuzzes the frames of a tunnel.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: fuzz::seed(fuzz::tunnel::check, fuzz::tunnel::seeds),
    |data: &[u8]| {
        fuzz::tunnel::check(data);
    }
);
