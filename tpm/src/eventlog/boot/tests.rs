//! Boots: those of real logs, and logs made to deceive.

use super::super::tests::{
    SHA256, digest_event, event, known, off, on, quoted, separator, spec_id, variable, variable_of,
};
use super::*;
use crate::eventlog::Budget;
use crate::pcr::PcrValues;
use crate::testing;

const HASH: HashAlgorithm = HashAlgorithm::Sha256;

/// EV_IPL. No type is looked at.
const IPL: u32 = 0xd;

/// EFI_IMAGE_SECURITY_DATABASE_GUID.
const IMAGE_SECURITY: &str = "cbb219d73a3d9645a3bcdad00e67656f";

/// SHIM_LOCK_GUID.
const SHIM: &str = "50ab5d6046e00043abb63dd810dd8b23";

/// What a real log tells when the quote is of all PCRs in it. The authorities are Google's CA for its system, and
/// Microsoft's `UEFI CA 2011`, by the fingerprint that Microsoft publishes, with Debian's. The digests of programs stand
/// so in the output of tpm2_eventlog.
struct Real {
    file: &'static str,
    authorities: Result<&'static [&'static str], BootError>,
    programs: &'static [&'static str],
    db: &'static str,
}

const fn real() -> [Real; 5] {
    [
        Real {
            file: "arch-linux-workstation.bin",
            authorities: Err(BootError::NotSecure),
            programs: &[
                "d51e9d20c0e180d8fdded3e7d5e05b4ab8e87b2f30e6995632a14e399332103b",
                "7b50cf89806cefff619a2266ae37e1f7e7f4c14212da9445dd7e51046e90ca88",
            ],
            db: "447c2edc25b3316b60e3ef16bf75dd4a80f443feba18d7e6a2332e158cae67ab",
        },
        Real {
            file: "cos-93-amd-sev.bin",
            authorities: Ok(&["a7b8c851deb2acba7c7d0e6ec091c93440f942c65d776fdcb58016f8fd1674b0"]),
            programs: &[
                "27cce48e55b3bfb6eb6206a4cc2b53a497846496a6264495006ab28dffa5623e",
                "e3e226fb8c8e3b3fdb56c706a0fbfda080f34068aef5a1889c1bfa95f04c2e72",
                "dc0aca594caee03705bcfa817e7f666692d89b713815f4793b7abbc2a0e00b6c",
            ],
            db: "640ff6e96d1808b9a1ba9dc2f75f80b2d030103757595706aaf7d47f805f3ef9",
        },
        Real {
            file: "crypto_agile_eventlog.bin",
            authorities: Err(BootError::NotSecure),
            programs: &[
                "81da15d6acdfb7868ecea44d41c869c2295603af9a44a2d106d4c0e57d669087",
                "28710f04aacfa162ba595334efab0222868421073469a6a4cc215bd53c49d2cb",
            ],
            db: "88795f56a816676e4fd4944b28e70d0a1029d9d2eba97357dcc0172dbb5d7c39",
        },
        Real {
            file: "sb_cert_eventlog.bin",
            authorities: Ok(&[
                "48e99b991f57fc52f76149599bff0a58c47154229b9f8d603ac40d3500248507",
                "ed1fe72cb9ca31c9af5b757afcd733323d675825032e6ced7fe1ae9eb767998c",
            ]),
            programs: &[
                "007f4c95125713b112093e21663e2d23e3c1ae9ce4b5de0d58a297332336a2d8",
                "111086387ba16d1a659968831045f7c7489f9440f095407d6cd54ab246a933c5",
                "5df7ee46563159c628c26b57d623571bdd8d51d22bc7ac2935ba91b021ff175e",
            ],
            db: "85bbeed75abcb74305e39ed2672da3070a909e18c674bbf1001326bf864802ed",
        },
        Real {
            file: "ubuntu-2104-no-secure-boot.bin",
            authorities: Err(BootError::NotSecure),
            programs: &[
                "6265b732b005b3f330bcd1843374e5ec6ec5aef27cdb97a23daeb8580abbf526",
                "b0a836fec2faf4a9bea0e1a5f1945bc86ddc03ac98ce0ae172ed9b1e536d7595",
            ],
            db: "ec88486bc8b7198582974af388fa75823e53482c68872ac8a312e94874f3d33b",
        },
    ]
}

fn hexes<'a>(all: impl IntoIterator<Item = impl AsRef<[u8]>> + 'a) -> Vec<String> {
    all.into_iter().map(hex::encode).collect()
}

/// What is told of the authorities.
fn fingerprints(boot: &Boot<'_>) -> Result<Vec<String>, BootError> {
    boot.authorities.clone().map(|all| hexes(all.iter().map(Authority::fingerprint)))
}

#[test]
fn real_boots_are_told() {
    for Real { file, authorities, programs, db } in real() {
        let Some(bytes) = testing::vector(&format!("eventlogs/{file}")) else { return };
        let log = EventLog::parse(&bytes, Budget::default()).unwrap();
        let mut values = log.replay(SHA256).unwrap().values().clone();
        for pcr in [11, 12] {
            values.entry(pcr).or_insert_with(|| vec![0; 32]);
        }
        let boot = log.boot(&quoted(HASH, &values)).unwrap();
        assert!(boot.is_complete(), "{file}");
        assert_eq!(fingerprints(&boot), authorities.map(hexes_of), "{file}");
        assert_eq!(boot.programs.map(hexes), Ok(hexes_of(programs)), "{file}");
        assert_eq!(hex::encode(HASH.digest(&[boot.db.unwrap()])), db, "{file}");
        assert!(boot.dbx.is_some_and(|dbx| dbx.len() > 3000), "{file}");
        assert_eq!((boot.sections, boot.command_lines), (Ok(vec![]), Ok(vec![])), "{file}: none was a UKI");

        // A PCR with another value says nothing, and the others go on.
        values.insert(4, vec![4; 32]);
        let boot = log.boot(&quoted(HASH, &values)).unwrap();
        assert_eq!((boot.differences, boot.programs), (PcrSet::of([4]).unwrap(), Err(BootError::Differs(4))), "{file}");
        assert!(boot.db.is_some() && !boot.differences.is_empty(), "{file}");
        values.insert(7, vec![7; 32]);
        values.remove(&4);
        let boot = log.boot(&quoted(HASH, &values)).unwrap();
        assert_eq!(boot.secure_boot, Err(SecureBootError::Differs), "{file}");
        assert_eq!((boot.db, boot.dbx, boot.programs), (None, None, Err(BootError::NotQuoted(4))), "{file}");
        assert_eq!(fingerprints(&log.boot(&quoted(HASH, &values)).unwrap()), Err(BootError::NotSecure), "{file}");
    }
}

fn hexes_of(all: &[&str]) -> Vec<String> {
    all.iter().map(|one| (*one).to_owned()).collect()
}

/// Every known log, with each of its events left out, swapped with the next, or given other data: never is more told than
/// by the whole log.
#[test]
fn no_change_of_a_real_log_tells_of_another_boot() {
    for (file, ..) in known() {
        let Some(bytes) = testing::vector(&format!("eventlogs/{file}")) else { return };
        let log = EventLog::parse(&bytes, Budget::default()).unwrap();
        let Ok(replayed) = log.replay(SHA256) else { continue };
        let quoted = quoted(HASH, replayed.values());
        let honest = log.boot(&quoted).unwrap();
        let silent_or = |told: Boot<'_>, at: usize| {
            assert!(told.secure_boot.is_err() || told.secure_boot == honest.secure_boot, "{file} {at}");
            assert!(told.authorities.is_err() || told.authorities == honest.authorities, "{file} {at}");
            assert!(told.programs.is_err() || told.programs == honest.programs, "{file} {at}");
            assert!(told.db.is_none() || told.db == honest.db, "{file} {at}");
        };
        for at in 0..log.events().len() {
            let mut bent = log.clone();
            bent.events.remove(at);
            silent_or(bent.boot(&quoted).unwrap(), at);
            let mut bent = log.clone();
            bent.events[at].data = b"something else";
            bent.events[at].kind = super::super::EventKind(IPL);
            if let Ok(told) = bent.boot(&quoted) {
                silent_or(told, at);
            }
            if at + 1 < log.events().len() {
                let mut bent = log.clone();
                bent.events.swap(at, at + 1);
                silent_or(bent.boot(&quoted).unwrap(), at);
            }
        }
    }
}

/// A log of these events, and the quote of all PCRs that are named here or have events.
fn with_boot<T>(events: &[Vec<u8>], zero: &[u8], look: impl FnOnce(Boot<'_>) -> T) -> T {
    let bytes = [spec_id(), events.concat()].concat();
    let log = EventLog::parse(&bytes, Budget::default()).unwrap();
    let mut values = log.replay(SHA256).unwrap().values().clone();
    for pcr in zero {
        values.entry(*pcr).or_insert_with(|| vec![0; 32]);
    }
    look(log.boot(&quoted(HASH, &values)).unwrap())
}

/// What looks like a certificate, with this content.
fn certificate(content: u8) -> Vec<u8> {
    [&[0x30, 0x82, 1, 0x2c][..], &[content; 300]].concat()
}

fn entry(name: &str, value: &[u8]) -> Vec<u8> {
    event(7, 0x8000_00e0, &variable_of(IMAGE_SECURITY, name, &[&[0x77; 16], value].concat()))
}

fn authorities(events: &[Vec<u8>]) -> Result<Vec<String>, BootError> {
    with_boot(events, &[], |boot| fingerprints(&boot))
}

#[test]
fn authorities_are_all_that_verified_a_program() {
    let fingerprint = |content| hex::encode(HASH.digest(&[&certificate(content)]));
    let db = entry("db", &certificate(1));
    let shim = event(7, IPL, &variable_of(SHIM, "Shim", &certificate(2)));
    let sbat = event(7, IPL, &variable_of(SHIM, "SbatLevel", b"sbat,1,2021030218\n"));
    let all = [on(), separator(), db.clone(), sbat, shim.clone(), db.clone()];
    assert_eq!(authorities(&all), Ok(vec![fingerprint(1), fingerprint(2)]), "each once");
    assert_eq!(authorities(&[on(), separator()]), Ok(vec![]));
    // Drivers may be verified before the separator, where the policy itself is measured too.
    let list = |len: u32| [&[0xa1; 16][..], &len.to_le_bytes(), &[0; 40]].concat();
    let policy = event(7, IPL, &variable_of(IMAGE_SECURITY, "db", &list(60)));
    assert_eq!(authorities(&[on(), policy.clone(), db.clone(), separator()]), Ok(vec![fingerprint(1)]));
    let debugger = event(7, IPL, b"UEFI Debug Mode");
    assert_eq!(authorities(&[debugger, on(), separator()]), Ok(vec![]));
    // The firmware measures a list that changes once more.
    assert_eq!(authorities(&[on(), separator(), policy, separator(), shim.clone()]), Ok(vec![fingerprint(2)]));
    let digest = entry("db", &[0xab; 32]);
    assert_eq!(authorities(&[on(), separator(), digest]), Ok(vec!["ab".repeat(32)]));
    // Shim up to 15.4: five bytes follow the value, and one more is logged than measured.
    let long = [variable_of(IMAGE_SECURITY, "db", &certificate(3)), vec![0; 5]].concat();
    let logged = [&long[..], &[0xaf]].concat();
    let old = digest_event(7, IPL, &HASH.digest(&[&long]), &logged);
    assert_eq!(authorities(&[on(), separator(), old]), Ok(vec![fingerprint(3)]));
}

#[test]
fn authorities_cannot_be_hidden_or_made_up() {
    let db = entry("db", &certificate(1));
    assert_eq!(
        authorities(&[off(), separator(), db.clone()]),
        Err(BootError::NotSecure),
        "whoever runs can measure it"
    );
    assert_eq!(authorities(&[on(), db.clone()]), Err(BootError::NotSecure), "no separator");
    let digest = |events: &[u8]| HASH.digest(&[events]);
    let hidden = digest_event(7, IPL, &digest(&variable_of(SHIM, "Shim", &certificate(2))), b"nothing to see");
    assert_eq!(authorities(&[on(), separator(), db.clone(), hidden]), Err(BootError::Data { event: 4 }));
    let form = Err(BootError::Form { event: 3 });
    for odd in [
        event(7, IPL, b"no variable"),
        event(7, IPL, &variable_of(SHIM, "Shim", b"no certificate")),
        event(7, IPL, &variable_of(SHIM, "Shim", &[&certificate(2)[..], &[0]].concat())),
        entry("db", &[0xab; 31]),
        event(7, IPL, &variable_of(SHIM, "db", &[&[0xa1; 16][..], &60_u32.to_le_bytes(), &[0; 40]].concat())),
    ] {
        assert_eq!(authorities(&[on(), separator(), odd]), form);
    }
    // Not measured at all.
    let claimed = event(7, 3, &variable_of(IMAGE_SECURITY, "db", &[&[0x77; 16][..], &certificate(9)].concat()));
    assert_eq!(authorities(&[on(), separator(), claimed]), Ok(vec![]));
    // A name that is longer than its data.
    let mut long = variable("SecureBoot", &[1]);
    long[16..24].copy_from_slice(&u64::MAX.to_le_bytes());
    assert_eq!(authorities(&[on(), separator(), event(7, IPL, &long)]), form);
}

#[test]
fn programs_are_all_but_known_actions() {
    let action = event(4, IPL, b"Calling EFI Application from Boot Option");
    let program = |content: u8| digest_event(4, IPL, &[content; 32], b"a device path");
    let separator = event(4, 4, &[0; 4]);
    let told = |events: &[Vec<u8>]| with_boot(events, &[4], |boot| boot.programs.map(hexes));
    let [one, two] = [1, 2].map(|content: u8| hex::encode([content; 32]));
    assert_eq!(told(&[action.clone(), separator.clone(), program(1), program(2)]), Ok(vec![one.clone(), two]));
    assert_eq!(told(&[action, separator]), Ok(vec![]));
    assert_eq!(told(&[]), Ok(vec![]));
    // A text that is no known action counts, though its digest is one of its data.
    let text = event(4, IPL, b"Calling EFI Application from Nowhere");
    assert_eq!(told(&[text, program(1)]).unwrap().len(), 2);
    // Named as a text, or as not measured.
    let disguised = digest_event(4, 0x8000_0007, &[1; 32], b"Calling EFI Application from Boot Option");
    assert_eq!(told(&[disguised]), Ok(vec![one]));
}

/// Two events for a section.
fn section(name: &str, content: &[u8]) -> Vec<u8> {
    let label: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).chain([0, 0]).collect();
    let name = HASH.digest(&[name.as_bytes(), &[0]]);
    [digest_event(11, IPL, &name, &label), digest_event(11, IPL, &HASH.digest(&[content]), &label)].concat()
}

#[test]
fn sections_of_a_uki_are_told_by_digests_alone() {
    let told = |events: &[Vec<u8>]| {
        with_boot(events, &[11], |boot| {
            let sections = boot.sections?;
            Ok::<_, BootError>(sections.iter().map(|(section, digest)| (section.name(), hex::encode(digest))).collect())
        })
    };
    let content = |content: &[u8]| hex::encode(HASH.digest(&[content]));
    let uki = [section(".linux", b"kernel"), section(".cmdline", b"ro quiet"), section(".initrd", b"initrd")];
    let want =
        vec![(".linux", content(b"kernel")), (".cmdline", content(b"ro quiet")), (".initrd", content(b"initrd"))];
    assert_eq!(told(&uki), Ok(want));
    assert_eq!(told(&[]), Ok(vec![]));
    for section_of in Section::ALL {
        assert_eq!(told(&[section(section_of.name(), b"x")]), Ok(vec![(section_of.name(), content(b"x"))]));
    }
    // The label says another name than was measured.
    let mut label = section(".cmdline", b"evil");
    let at = label.windows(4).rposition(|bytes| bytes == b"c\0m\0").unwrap();
    label[at] = b'X';
    assert_eq!(told(&[label]), Ok(vec![(".cmdline", content(b"evil"))]));
    assert_eq!(told(&[section(".pcrsig", b"x")]), Err(BootError::Form { event: 1 }), "it is never measured");
    let half = digest_event(11, IPL, &HASH.digest(&[b".linux\0"]), b"");
    assert_eq!(told(&[uki.concat(), half]), Err(BootError::Form { event: 7 }));
}

#[test]
fn command_lines_are_told_if_every_one_is_covered() {
    let wide = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let line = |text: &str| event(12, IPL, &[wide(text), vec![0, 0]].concat());
    let bare = |text: &str| digest_event(12, IPL, &HASH.digest(&[&wide(text)]), &[wide(text), vec![0, 0]].concat());
    let told = |events: &[Vec<u8>]| with_boot(events, &[12], |boot| boot.command_lines);
    assert_eq!(told(&[]), Ok(vec![]));
    assert_eq!(told(&[line("ro quiet"), bare("init=/bin/sh")]), Ok(hexes_of(&["ro quiet", "init=/bin/sh"])));
    assert_eq!(told(&[event(12, IPL, &wide("\u{e4}"))]), Ok(hexes_of(&["\u{e4}"])));
    let credentials = digest_event(12, IPL, &[9; 32], &wide("Credentials initrd"));
    assert_eq!(told(&[line("ro quiet"), credentials]), Err(BootError::Data { event: 2 }));
    let changed = digest_event(12, IPL, &HASH.digest(&[&wide("init=/bin/sh")]), &wide("ro quiet"));
    assert_eq!(told(&[changed]), Err(BootError::Data { event: 1 }));
    for odd in [&[0x20][..], &[0, 0xd8], &wide("a\nb")] {
        assert_eq!(told(&[event(12, IPL, odd)]), Err(BootError::Form { event: 1 }));
    }
    with_boot(&[on()], &[], |boot| assert_eq!(boot.command_lines, Err(BootError::NotQuoted(12))));
}

#[test]
fn what_is_measured_after_the_log_is_known() {
    let complete = |events: &[Vec<u8>], pcr: u8, after: &[&str]| {
        let bytes = [spec_id(), events.concat()].concat();
        let log = EventLog::parse(&bytes, Budget::default()).unwrap();
        let mut value = log.replay(SHA256).unwrap().value(pcr, 32);
        for text in after {
            value = HASH.digest(&[&value, &HASH.digest(&[text.as_bytes()])]);
        }
        let boot = log.boot(&quoted(HASH, &PcrValues::from([(pcr, value)]))).unwrap();
        let differences = boot.differences;
        assert_eq!(boot.is_complete(), differences.is_empty());
        assert_eq!(boot.sections.is_ok(), pcr == 11 && differences.is_empty());
        differences.is_empty()
    };
    let uki = [section(".linux", b"kernel")];
    assert!(complete(&uki, 11, &[]));
    assert!(complete(&uki, 11, &["enter-initrd"]));
    assert!(complete(&uki, 11, &["enter-initrd", "leave-initrd", "sysinit", "ready"]));
    assert!(complete(&uki, 11, &["sysinit", "ready"]), "without an initrd");
    for odd in [&["ready"][..], &["leave-initrd"], &["enter-initrd", "enter-initrd"], &["sysinit", "other"]] {
        assert!(!complete(&uki, 11, odd), "{odd:?}");
    }
    let exit = ["Exit Boot Services Invocation", "Exit Boot Services Returned with Success"];
    assert!(complete(&[event(5, 4, &[0; 4])], 5, &exit));
    assert!(!complete(&[event(5, 4, &[0; 4])], 5, &["ready"]));
    assert!(!complete(&[event(4, 4, &[0; 4])], 4, &exit), "only where it is measured");
}

/// 300 KiB that are no log, or a log of nothing but junk, are refused or read within the budget, and tell nothing.
#[test]
fn junk_tells_nothing() {
    const LEN: usize = 300 * 1024;
    let noise = (0..LEN).scan(1_u32, |state, _| {
        *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_le_bytes().last().copied()
    });
    let noise: Vec<u8> = noise.collect();
    let padded = |one: Vec<u8>, count: usize| [spec_id(), one.repeat(count)].concat();
    let big = digest_event(7, IPL, &[7; 32], &vec![0; 100 * 1024]);
    let small = digest_event(12, IPL, &[7; 32], b"");
    for (junk, read) in [
        (vec![0; LEN], false),
        (vec![0xff; LEN], false),
        (noise.clone(), false),
        ([spec_id(), noise].concat(), false),
        (padded(small.clone(), LEN / small.len()), false),
        (padded(small, 4000), true),
        (padded(big, 3), true),
        (padded(separator(), 4000), true),
    ] {
        let parsed = EventLog::parse(&junk, Budget::default());
        assert_eq!(parsed.is_ok(), read);
        let Ok(log) = parsed else { continue };
        let values = PcrValues::from([(4, vec![4; 32]), (7, vec![7; 32]), (11, vec![0; 32]), (12, vec![12; 32])]);
        let boot = log.boot(&quoted(HASH, &values)).unwrap();
        assert!(!boot.is_complete() && boot.secure_boot.is_err() && boot.authorities.is_err());
        // What the log says of its own values: separators alone.
        let own = log.boot(&quoted(HASH, log.replay(SHA256).unwrap().values())).unwrap();
        assert!(own.secure_boot.is_err() && own.authorities.is_err() && own.command_lines.is_err());
    }
}
