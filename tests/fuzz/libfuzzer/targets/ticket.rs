//! Fuzzes the tickets in which attestors keep what they want back in the second round.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: fuzz::seed(fuzz::ticket::check, fuzz::ticket::seeds),
    |data: &[u8]| {
        fuzz::ticket::check(data);
    }
);
