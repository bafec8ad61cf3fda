//! Fuzzes public areas, statements and signatures of TPMs.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: fuzz::seed(fuzz::tpm_attest::check, fuzz::tpm_attest::seeds),
    |data: &[u8]| {
        fuzz::tpm_attest::check(data);
    }
);
