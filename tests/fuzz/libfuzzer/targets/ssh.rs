//! Fuzzes SSH keys, signatures and certificates.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: fuzz::seed(fuzz::ssh::check, fuzz::ssh::seeds),
    |data: &[u8]| {
        fuzz::ssh::check(data);
    }
);
