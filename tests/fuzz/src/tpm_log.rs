//! Event logs of measured boot. What is read stays within its budget and within the bytes that came; what is claimed stands
//! in them and fits PCRs that were quoted.

use tpm::{
    Attested, Authority, Bank, Boot, Budget, EventKind, EventLog, HashAlgorithm, PcrSet, PcrValues, QuotedPcrs,
    SecureBoot,
};

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
    let boot = log.boot(&quoted).expect("it was replayed");
    assert!(boot.is_complete());
    told(bytes, log, &boot);
    let others = values.keys().map(|pcr| (*pcr, vec![0x77; 32])).collect();
    let other = self::quoted(&others).expect("a quote");
    let boot = log.boot(&other).expect("it was replayed");
    assert!(boot.secure_boot.is_err() && boot.authorities.is_err() && boot.db.is_none() && boot.dbx.is_none());
    assert!(boot.programs.is_err() && boot.sections.is_err() && boot.command_lines.is_err());
}

/// Whatever is told stands in the bytes, and was measured into the PCR that it is told of.
fn told(bytes: &[u8], log: &EventLog<'_>, boot: &Boot<'_>) {
    let digests = |pcr: u32| {
        let measured = log.events().iter().filter(move |event| event.pcr == pcr && event.kind != EventKind::NO_ACTION);
        measured.filter_map(|event| event.digest(Bank::Believed(SHA256)))
    };
    let within = |part: &[u8]| bytes.as_ptr_range().contains(&part.as_ptr()) && part.len() <= bytes.len();
    if let Ok(programs) = &boot.programs {
        assert!(programs.iter().all(|program| digests(4).any(|digest| digest == *program)));
    }
    if let Ok(sections) = &boot.sections {
        assert_eq!(digests(11).count(), sections.len() * 2, "two events each, and no other");
        assert!(sections.iter().all(|(_, content)| digests(11).any(|digest| digest == *content)));
    }
    if let Ok(lines) = &boot.command_lines {
        assert_eq!(digests(12).count(), lines.len(), "each is told");
        for (line, digest) in lines.iter().zip(digests(12)) {
            let wide: Vec<u8> = line.encode_utf16().flat_map(u16::to_le_bytes).collect();
            let measured = [SHA256.digest(&[&wide]), SHA256.digest(&[&wide, &[0, 0]])];
            assert!(measured.iter().any(|one| one == digest), "a command line that was not measured");
        }
    }
    if let Ok(authorities) = &boot.authorities {
        assert_eq!(boot.secure_boot, Ok(SecureBoot::On));
        for authority in authorities {
            let (Authority::Certificate(part) | Authority::Program(part)) = authority;
            assert!(within(part) && authorities.iter().filter(|one| *one == authority).count() == 1);
        }
    }
    assert!([boot.db, boot.dbx].into_iter().flatten().all(|list| list.is_empty() || within(list)));
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

/// What a UKI measures: the digest of a section's name, that of its content, and a command line.
fn uki() -> Vec<u8> {
    let line: Vec<u8> = "ro\0".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let name = event(11, 0xd, b".linux\0");
    [name, event(11, 0xd, b"kernel"), event(12, 0xd, &line)].concat()
}

/// An authority: db with one certificate.
fn authority() -> Vec<u8> {
    let guid = [0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f];
    let name: Vec<u8> = "db".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let value = [&[0x77; 16][..], &[0x30, 0x82, 0, 2, 5, 0]].concat();
    let length = u64::try_from(value.len()).expect("seeds are short");
    event(7, 0x8000_00e0, &[&guid[..], &2_u64.to_le_bytes(), &length.to_le_bytes(), &name, &value].concat())
}

/// Logs of both formats, with Secure Boot on and off, and of a UKI.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let spec = [&b"Spec ID Event03\0"[..], &[0, 0, 0, 0, 0, 2, 0, 2, 1, 0, 0, 0, 0x0b, 0, 32, 0, 0]].concat();
    let start = [sha1_event(0, 3, &spec), event(0, 3, b"StartupLocality\0\x03")].concat();
    let boot = |value| {
        let measured = [event(0, 8, b"firmware"), event(7, 0x8000_0001, &variable(value)), event(7, 4, &[0; 4])];
        [start.clone(), measured.concat()].concat()
    };
    let unified = [boot(1), authority(), event(4, 4, &[0; 4]), event(4, 0x8000_0003, b"program"), uki()].concat();
    vec![
        boot(0),
        boot(1),
        unified,
        sha1_event(7, 4, &[0; 4]),
        [sha1_event(0, 8, b"old"), sha1_event(4, 5, b"boot")].concat(),
    ]
}
