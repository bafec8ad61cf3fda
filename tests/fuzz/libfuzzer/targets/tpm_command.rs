//! Fuzzes responses of TPMs.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: fuzz::seed(fuzz::tpm_command::check, fuzz::tpm_command::seeds),
    |data: &[u8]| {
        fuzz::tpm_command::check(data);
    }
);
