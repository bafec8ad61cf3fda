//! Fuzzes event logs of measured boot.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: fuzz::seed(fuzz::tpm_log::check, fuzz::tpm_log::seeds),
    |data: &[u8]| {
        fuzz::tpm_log::check(data);
    }
);
