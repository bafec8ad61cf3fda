//! Fuzzes the JSON of requests and replies.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: fuzz::seed(fuzz::wire_enroll::check, fuzz::wire_enroll::seeds),
    |data: &[u8]| {
        fuzz::wire_enroll::check(data);
    }
);
