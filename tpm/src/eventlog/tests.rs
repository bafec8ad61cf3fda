//! Event logs: real ones, which lie beside the repository, and those made here to deceive.

use proptest::prelude::*;

use super::*;
use crate::algorithm::HashAlgorithm;
use crate::codec::Writer;
use crate::pcr::{PcrSet, PcrValues, QuotedPcrs};
use crate::testing;

pub(super) const SHA256: Bank = Bank::Believed(HashAlgorithm::Sha256);
const SHA384: Bank = Bank::Believed(HashAlgorithm::Sha384);

/// Values as if a quote were of them.
pub(super) fn quoted(bank: HashAlgorithm, values: &PcrValues) -> QuotedPcrs {
    let pcrs = PcrSet::of(values.keys().copied()).unwrap();
    let mut quote = Writer::default();
    let bits = pcrs.iter().fold(0_u32, |bits, pcr| bits | 1 << pcr).to_le_bytes();
    quote.u32(1).u16(bank.id()).bytes(&[3]).bytes(&bits[..3]);
    let parts: Vec<&[u8]> = values.values().map(Vec::as_slice).collect();
    quote.sized("pcrDigest", &bank.digest(&parts)).unwrap();
    let quote = quote.finish();
    let quote = crate::pcr::Quote::read(&mut crate::codec::Reader::new(&quote), bank).unwrap();
    quote.check(pcrs, bank, values).unwrap()
}

/// A real log: its file, how many events it has, what it says of Secure Boot, and for each bank the SHA-256 of the
/// values of its PCRs, the lowest first, as tpm2_eventlog of tpm2-tools 5.4 replays them.
pub(super) type Known = (&'static str, usize, Result<SecureBoot, SecureBootError>, &'static [(Bank, &'static str)]);

pub(super) fn known() -> [Known; 7] {
    let without_sha256 = || Err(ReplayError::Bank(SHA256).into());
    [
        (
            "arch-linux-workstation.bin",
            25,
            Ok(SecureBoot::Off),
            &[
                (Bank::Sha1, "9420d124ce7d06ad670f2ffc66f6b7b9d2f1a2b6e17acc51f672032a1c0ba122"),
                (SHA256, "99770dc6dbf821067f28b2392046e746c1467330e3ecfa8d19ed8c1ca9083e77"),
            ],
        ),
        (
            "cos-93-amd-sev.bin",
            46,
            Ok(SecureBoot::On),
            &[
                (Bank::Sha1, "c966b94e74bda5e861edc5ece85db803aa768e38aa8e9f20bec2233033a0d7a2"),
                (SHA256, "dfa4c484aeea79121d505c61273bc38a231f998f9a3a7514ba8ac3103d0197e3"),
                (SHA384, "cb57b5bd9343637784ba629594e18efbebc7999a467e7ffb0e9b9d9aa1761a48"),
            ],
        ),
        (
            "crypto_agile_eventlog.bin",
            27,
            Ok(SecureBoot::Off),
            &[(SHA256, "d83e144f54ec5e301daeb60d56887b435626472aa40c44c44f0e0ada1532d2fc")],
        ),
        (
            "debian-10.bin",
            25,
            without_sha256(),
            &[(Bank::Sha1, "0caed7aa7c2918ae874061dd307cb9330f04f22f87c9cc67006a20f58010aff4")],
        ),
        (
            "ebs_event_missing_eventlog.bin",
            38,
            without_sha256(),
            &[(Bank::Sha1, "2ce439bf6e71b589af622e0afdbde644378a06144754b301ad6fc0ff9db1bf61")],
        ),
        (
            "sb_cert_eventlog.bin",
            15,
            Ok(SecureBoot::On),
            &[
                (Bank::Sha1, "33710d7b9b2ad77d6231516f667bd627378d57d499d82564310fcd9375af01be"),
                (SHA256, "7ed6f3b3d91a216f930ff3468bfa848505804fe393c6a3e742cba44891c0e6f4"),
                (SHA384, "230b09d61c490b1b1da842ec913fc56eb668a9956f4c1f236af6caed10ae456f"),
            ],
        ),
        (
            "ubuntu-2104-no-secure-boot.bin",
            106,
            Ok(SecureBoot::Off),
            &[
                (Bank::Sha1, "ae15b364ae7e8be7d7647648ebc9c5a9b0bd96163f4aa2d1415b7fb3d01a2cb4"),
                (SHA256, "36d791d94cca7cb4033a6334a0c9c900c5930f0e24b64662c0abd0cf9fd21929"),
                (SHA384, "8a8f86ef4e6141598d8c29c233a31b69187fd0151944cfebf14a5a8a0ff9f7db"),
            ],
        ),
    ]
}

#[test]
fn real_logs_are_read_and_replayed_as_others_do() {
    for (file, events, secure_boot, banks) in known() {
        let Some(bytes) = testing::vector(&format!("eventlogs/{file}")) else { return };
        let log = EventLog::parse(&bytes, Budget::default()).unwrap();
        assert_eq!(log.events().len(), events, "{file}");
        assert_eq!(log.banks(), banks.iter().map(|(bank, _)| *bank).collect::<Vec<Bank>>(), "{file}");
        for (bank, want) in banks {
            let replayed = log.replay(*bank).unwrap();
            let values: Vec<&[u8]> = replayed.values().values().map(Vec::as_slice).collect();
            assert_eq!(hex::encode(HashAlgorithm::Sha256.digest(&values)), *want, "{file} {bank:?}");
        }
        let got = log.replay(SHA256).map_err(SecureBootError::from).and_then(|replayed| {
            let quoted = quoted(HashAlgorithm::Sha256, replayed.values());
            assert!(replayed.differences(&quoted).is_empty());
            log.secure_boot(&quoted)
        });
        assert_eq!(got, secure_boot, "{file}");
    }
}

#[test]
fn real_logs_that_are_cut_are_refused_or_shorter() {
    for (file, events, _, _) in known() {
        let Some(bytes) = testing::vector(&format!("eventlogs/{file}")) else { return };
        for len in (0..bytes.len()).step_by(7) {
            if let Ok(log) = EventLog::parse(&bytes[..len], Budget::default()) {
                assert!(log.events().len() < events, "{file} {len}");
            }
        }
    }
}

/// Bytes of a log: the head of the new format, with SHA-256 alone.
pub(super) fn spec_id() -> Vec<u8> {
    let spec = [SPEC_ID, &[0, 0, 0, 0, 0, 2, 0, 2, 1, 0, 0, 0, 0x0b, 0, 32, 0, 0]].concat();
    sha1_event(0, EventKind::NO_ACTION.0, &spec)
}

const SPEC_ID: &[u8] = b"Spec ID Event03\0";

fn size(data: &[u8]) -> [u8; 4] {
    u32::try_from(data.len()).unwrap().to_le_bytes()
}

fn sha1_event(pcr: u32, kind: u32, data: &[u8]) -> Vec<u8> {
    [&pcr.to_le_bytes()[..], &kind.to_le_bytes(), &[0; 20], &size(data), data].concat()
}

/// An event with this digest.
pub(super) fn digest_event(pcr: u32, kind: u32, digest: &[u8], data: &[u8]) -> Vec<u8> {
    let head = [pcr.to_le_bytes(), kind.to_le_bytes(), 1_u32.to_le_bytes()].concat();
    [&head[..], &[0x0b, 0], digest, &size(data), data].concat()
}

/// An event with the digest of its data.
pub(super) fn event(pcr: u32, kind: u32, data: &[u8]) -> Vec<u8> {
    digest_event(pcr, kind, &HashAlgorithm::Sha256.digest(&[data]), data)
}

/// EV_EFI_VARIABLE_DRIVER_CONFIG.
pub(super) const VARIABLE: u32 = 0x8000_0001;
/// EV_SEPARATOR.
const SEPARATOR: u32 = 4;

pub(super) fn variable(name: &str, value: &[u8]) -> Vec<u8> {
    variable_of("61dfe48bca93d211aa0d00e098032b8c", name, value)
}

/// A variable with this GUID.
pub(super) fn variable_of(guid: &str, name: &str, value: &[u8]) -> Vec<u8> {
    let guid = hex::decode(guid).unwrap();
    let name: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let lengths = [u64::try_from(name.len() / 2).unwrap(), u64::try_from(value.len()).unwrap()];
    [&guid[..], &lengths[0].to_le_bytes(), &lengths[1].to_le_bytes(), &name, value].concat()
}

/// What the log of these events says when the quote fits it.
fn secure_boot(events: &[Vec<u8>]) -> Result<SecureBoot, SecureBootError> {
    let bytes = [spec_id(), events.concat()].concat();
    let log = EventLog::parse(&bytes, Budget::default()).unwrap();
    let replayed = log.replay(SHA256).unwrap();
    log.secure_boot(&quoted(HashAlgorithm::Sha256, replayed.values()))
}

pub(super) fn on() -> Vec<u8> {
    event(7, VARIABLE, &variable("SecureBoot", &[1]))
}

pub(super) fn off() -> Vec<u8> {
    event(7, VARIABLE, &variable("SecureBoot", &[0]))
}

pub(super) fn separator() -> Vec<u8> {
    event(7, SEPARATOR, &[0; 4])
}

#[test]
fn what_the_firmware_measured_is_believed() {
    let key = event(7, VARIABLE, &variable("PK", &[5; 40]));
    assert_eq!(secure_boot(&[on(), key.clone(), separator()]), Ok(SecureBoot::On));
    assert_eq!(secure_boot(&[off(), key.clone(), separator()]), Ok(SecureBoot::Off));
    let elsewhere = event(1, VARIABLE, &variable("SecureBoot", &[1]));
    assert_eq!(secure_boot(&[elsewhere, key, separator()]), Err(SecureBootError::Absent));
}

#[test]
fn what_was_booted_cannot_speak_for_the_firmware() {
    // Measured by the system, which can extend PCR 7 with what it likes.
    assert_eq!(secure_boot(&[off(), separator(), on()]), Ok(SecureBoot::Off));
    assert_eq!(secure_boot(&[separator(), on(), separator()]), Err(SecureBootError::Absent));
    // The separator called something else, its data replaced: its digest still ends the firmware's part.
    let zeros = HashAlgorithm::Sha256.digest(&[&[0; 4]]);
    let hidden = digest_event(7, 0xd, &zeros, b"nothing to see");
    assert_eq!(secure_boot(&[hidden, on(), separator()]), Err(SecureBootError::Absent));
    // The firmware's variable hidden behind other data, and one of ours after it.
    let digest = HashAlgorithm::Sha256.digest(&[&variable("SecureBoot", &[0])]);
    let hidden = digest_event(7, 0xd, &digest, b"nothing to see");
    assert_eq!(secure_boot(&[hidden, on(), separator()]), Err(SecureBootError::Data { event: 1 }));
    // Called another type, it is still the variable.
    let renamed = event(7, 0xd, &variable("SecureBoot", &[0]));
    assert_eq!(secure_boot(&[renamed, on(), separator()]), Err(SecureBootError::Variable));
    let claimed = digest_event(7, VARIABLE, &digest, &variable("SecureBoot", &[1]));
    assert_eq!(secure_boot(&[claimed, separator()]), Err(SecureBootError::Data { event: 1 }));
    assert_eq!(secure_boot(&[on()]), Err(SecureBootError::NoSeparator));
    assert_eq!(secure_boot(&[event(7, VARIABLE, &variable("SecureBoot", &[])), separator()]), Ok(SecureBoot::Off));
    let two = event(7, VARIABLE, &variable("SecureBoot", &[2]));
    assert_eq!(secure_boot(&[two, separator()]), Err(SecureBootError::Variable));
}

#[test]
fn a_log_that_does_not_fit_the_quote_says_nothing() {
    let bytes = [spec_id(), on(), separator()].concat();
    let log = EventLog::parse(&bytes, Budget::default()).unwrap();
    let mut values = log.replay(SHA256).unwrap().values().clone();
    let hash = HashAlgorithm::Sha256;
    assert_eq!(log.secure_boot(&quoted(hash, &values)), Ok(SecureBoot::On));
    values.insert(7, vec![7; 32]);
    assert_eq!(log.secure_boot(&quoted(hash, &values)), Err(SecureBootError::Differs));
    values.remove(&7);
    values.insert(0, vec![0; 32]);
    assert_eq!(log.secure_boot(&quoted(hash, &values)), Err(SecureBootError::NotQuoted));
    let other = PcrValues::from([(7, vec![7; 48])]);
    let other = quoted(HashAlgorithm::Sha384, &other);
    assert_eq!(log.secure_boot(&other), Err(ReplayError::Bank(SHA384).into()));
    // Hidden from the replay as an event that is not measured.
    let bytes =
        [spec_id(), event(7, EventKind::NO_ACTION.0, &variable("SecureBoot", &[0])), on(), separator()].concat();
    let hiding = EventLog::parse(&bytes, Budget::default()).unwrap();
    let honest = [spec_id(), off(), on(), separator()].concat();
    let honest = EventLog::parse(&honest, Budget::default()).unwrap().replay(SHA256).unwrap().values().clone();
    assert_eq!(hiding.secure_boot(&quoted(hash, &honest)), Err(SecureBootError::Differs));
}

#[test]
fn differences_name_each_pcr() {
    let bytes = [spec_id(), event(0, 8, b"a"), event(4, 8, b"b")].concat();
    let replayed = EventLog::parse(&bytes, Budget::default()).unwrap().replay(SHA256).unwrap();
    let mut values = replayed.values().clone();
    values.insert(16, vec![0; 32]);
    values.insert(17, vec![0xff; 32]);
    assert!(replayed.differences(&quoted(HashAlgorithm::Sha256, &values)).is_empty());
    values.insert(4, vec![4; 32]);
    values.insert(11, vec![11; 32]);
    assert_eq!(replayed.differences(&quoted(HashAlgorithm::Sha256, &values)), PcrSet::of([4, 11]).unwrap());
    let other = PcrValues::from([(23, vec![0; 48])]);
    assert_eq!(replayed.differences(&quoted(HashAlgorithm::Sha384, &other)), PcrSet::of([23]).unwrap());
}

#[test]
fn the_locality_of_the_start_is_in_pcr_0_once_and_first() {
    let locality = |at| event(0, EventKind::NO_ACTION.0, &[b"StartupLocality\0", &[at][..]].concat());
    let replay = |events: &[Vec<u8>]| {
        let bytes = [spec_id(), events.concat()].concat();
        EventLog::parse(&bytes, Budget::default()).unwrap().replay(SHA256).map(|replayed| replayed.values().clone())
    };
    let start = [&[0; 31][..], &[3]].concat();
    let hash = HashAlgorithm::Sha256;
    let measured = hash.digest(&[&start, &hash.digest(&[b"a"])]);
    assert_eq!(replay(&[locality(3), event(0, 8, b"a")]), Ok(PcrValues::from([(0, measured)])));
    let late = Err(ReplayError::StartupLocality { event: 2 });
    assert_eq!(replay(&[event(0, 8, b"a"), locality(3)]), late);
    assert_eq!(replay(&[locality(3), locality(3)]), late);
    assert_eq!(replay(&[locality(1)]), Err(ReplayError::StartupLocality { event: 1 }));
}

#[test]
fn budgets_hold() {
    let bytes = [spec_id(), event(0, 8, &[1; 100]), event(0, 8, &[2; 100])].concat();
    let parse = |change: fn(&mut Budget)| {
        let mut budget = Budget { bytes: bytes.len(), events: 3, digests: 1, event_bytes: 100 };
        change(&mut budget);
        EventLog::parse(&bytes, budget).map(|log| log.events().len())
    };
    assert_eq!(parse(|_| {}), Ok(3));
    let (found, most) = (bytes.len(), bytes.len() - 1);
    assert_eq!(parse(|budget| budget.bytes -= 1), Err(LogError::TooLong { found, most }));
    assert_eq!(parse(|budget| budget.events = 2), Err(LogError::TooManyEvents(2)));
    let why = CodecError::Unsupported { field: "numberOfAlgorithms", found: 1 };
    assert_eq!(parse(|budget| budget.digests = 0), Err(LogError::Event { event: 0, why }));
    let why = CodecError::TooLong { field: "event", found: 100, most: 99 };
    assert_eq!(parse(|budget| budget.event_bytes = 99), Err(LogError::Event { event: 1, why }));
}

#[test]
fn malformed_logs_are_refused_with_the_event_and_the_field() {
    let refused = |bytes: &[u8]| EventLog::parse(bytes, Budget::default()).unwrap_err();
    let at = |event, why| LogError::Event { event, why };
    assert_eq!(refused(&[]), LogError::Empty);
    assert_eq!(refused(&[0; 3]), at(0, CodecError::Short { field: "pcrIndex" }));
    let good = [spec_id(), event(0, 8, b"abc")].concat();
    let short = refused(&good[..good.len() - 1]);
    assert_eq!(short, at(1, CodecError::Short { field: "event" }));
    let pcr = [spec_id(), event(24, 8, b"abc")].concat();
    assert_eq!(refused(&pcr), at(1, CodecError::Unsupported { field: "pcrIndex", found: 24 }));
    let mut bank = good.clone();
    let id = spec_id().len() + 12;
    bank[id] = 0x0c;
    assert_eq!(refused(&bank), at(1, CodecError::Unsupported { field: "digest algorithm", found: 0x0c }));
    let mut count = good.clone();
    count[id - 4] = 2;
    assert_eq!(refused(&count), at(1, CodecError::Unsupported { field: "digest count", found: 2 }));
    let mut size = good.clone();
    let digest_size = 32 + SPEC_ID.len() + 8 + 4 + 2;
    size[digest_size] = 20;
    assert_eq!(refused(&size), at(0, CodecError::Value { field: "digestSize" }));
    // An event without a digest can be read, and not replayed.
    let none = [&spec_id()[..], &[0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
    let log = EventLog::parse(&none, Budget::default()).unwrap();
    assert_eq!(log.replay(SHA256), Err(ReplayError::NoDigest { event: 1 }));
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_stay_within_the_budget(
        several in any::<bool>(),
        tail in prop::collection::vec(prop_oneof![3 => Just(0_u8), 1 => any::<u8>()], 0..600),
    ) {
        let budget = Budget { bytes: 512, events: 5, digests: 2, event_bytes: 64 };
        let bytes = if several { [spec_id(), tail].concat() } else { tail };
        if let Ok(log) = EventLog::parse(&bytes, budget) {
            prop_assert!(bytes.len() <= budget.bytes && log.events().len() <= budget.events);
            for event in log.events() {
                prop_assert!(event.data.len() <= budget.event_bytes && event.digests.len() <= budget.digests);
            }
            for bank in log.banks() {
                let _ = log.replay(*bank);
            }
        }
    }
}
