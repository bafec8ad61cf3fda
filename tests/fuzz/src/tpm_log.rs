//! Event logs of measured boot. What is read stays within its budget and within the bytes that came; what is claimed stands
//! in them and fits PCRs that were quoted.

use tpm::{Attested, Bank, Budget, EventKind, EventLog, HashAlgorithm, PcrSet, PcrValues, QuotedPcrs, SecureBoot};

use crate::{Outcome, tpm_attest};

/// Small enough that inputs reach its ends.
const SMALL: Budget = Budget { bytes: 4096, events: 16, digests: 3, event_bytes: 512 };

const SHA256: HashAlgorithm = HashAlgorithm::Sha256;

/// Judges one input.
pub fn check(data: &[u8]) -> Outcome {
    Outcome::any(&[log(data, SMALL), log(data, Budget::default())])
}

fn log(bytes: &[u8], budget: Budget) -> bool {
    let Ok(log) = EventLog::parse(bytes, budget) else { return false };
    assert!(bytes.len() <= budget.bytes && log.events().len() <= budget.events);
    assert!(log.banks().len() <= budget.digests);
    for event in log.events() {
        assert!(event.data.len() <= budget.event_bytes && event.digests.len() <= budget.digests);
        assert!(event.pcr < 24 || event.kind == EventKind::NO_ACTION);
    }
    // Heads, digests and data are cut out of the input, one after the other.
    let parts = log.events().iter().map(|event| {
        let digests: usize = event.digests.iter().map(|(_, digest)| digest.len()).sum();
        12 + digests + event.data.len()
    });
    assert!(parts.sum::<usize>() <= bytes.len(), "more than came");
    assert!(EventLog::parse(&bytes[..bytes.len() - 1], budget) != Ok(log.clone()), "a byte that means nothing");
    for bank in log.banks() {
        if let Ok(replayed) = log.replay(*bank) {
            assert!(replayed.values().keys().all(|pcr| *pcr < 24));
            if *bank == Bank::Believed(SHA256) {
                claims(bytes, &log, replayed.values());
            }
        }
    }
    true
}

fn claims(bytes: &[u8], log: &EventLog<'_>, values: &PcrValues) {
    let Some(quoted) = quoted(values) else { return };
    assert!(log.replay(Bank::Believed(SHA256)).expect("as before").differences(&quoted).is_empty());
    if let Ok(SecureBoot::On | SecureBoot::Off) = log.secure_boot(&quoted) {
        let name: Vec<u8> = "SecureBoot".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert!(bytes.windows(name.len()).any(|window| window == name), "a variable that was not measured");
        let other = PcrValues::from([(7, vec![0x77; 32])]);
        let other = self::quoted(&other).expect("a quote");
        assert!(log.secure_boot(&other).is_err(), "a log that does not fit the quote");
    }
}

/// A quote of these values.
fn quoted(values: &PcrValues) -> Option<QuotedPcrs> {
    let pcrs = PcrSet::of(values.keys().copied())?;
    let bits = pcrs.iter().fold(0_u32, |bits, pcr| bits | 1 << pcr).to_le_bytes();
    let parts: Vec<&[u8]> = values.values().map(Vec::as_slice).collect();
    let quote = [&[0, 0, 0, 1, 0, 0x0b, 3], &bits[..3], &[0, 32], &SHA256.digest(&parts)].concat();
    let said = tpm_attest::statement(&tpm_attest::about(tpm_attest::QUOTE, &quote))?;
    match said.attested {
        Attested::Quote(quote) => quote.check(pcrs, SHA256, values).ok(),
        Attested::Certify { .. } => None,
    }
}

/// An event with a digest of SHA-256 of its data.
fn event(pcr: u32, kind: u32, data: &[u8]) -> Vec<u8> {
    let head = [pcr.to_le_bytes(), kind.to_le_bytes(), 1_u32.to_le_bytes()].concat();
    [&head[..], &[0x0b, 0], &SHA256.digest(&[data]), &length(data), data].concat()
}

fn length(data: &[u8]) -> [u8; 4] {
    u32::try_from(data.len()).expect("seeds are short").to_le_bytes()
}

/// An event of the old format.
fn sha1_event(pcr: u32, kind: u32, data: &[u8]) -> Vec<u8> {
    [&pcr.to_le_bytes()[..], &kind.to_le_bytes(), &[0; 20], &length(data), data].concat()
}

/// The variable SecureBoot as firmware measures it.
fn variable(value: u8) -> Vec<u8> {
    let guid = [0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c];
    let name: Vec<u8> = "SecureBoot".encode_utf16().flat_map(u16::to_le_bytes).collect();
    [&guid[..], &10_u64.to_le_bytes(), &1_u64.to_le_bytes(), &name, &[value]].concat()
}

/// Logs of both formats, with Secure Boot on and off.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let spec = [&b"Spec ID Event03\0"[..], &[0, 0, 0, 0, 0, 2, 0, 2, 1, 0, 0, 0, 0x0b, 0, 32, 0, 0]].concat();
    let start = [sha1_event(0, 3, &spec), event(0, 3, b"StartupLocality\0\x03")].concat();
    let boot = |value| {
        let measured = [event(0, 8, b"firmware"), event(7, 0x8000_0001, &variable(value)), event(7, 4, &[0; 4])];
        [start.clone(), measured.concat()].concat()
    };
    vec![boot(0), boot(1), sha1_event(7, 4, &[0; 4]), [sha1_event(0, 8, b"old"), sha1_event(4, 5, b"boot")].concat()]
}
