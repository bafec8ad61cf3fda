//! Boots: what is claimed of them, how they are compared, and what that does to the assurance.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use pki::{Assurance, AssuranceOf};
use tpm::{HashAlgorithm, PcrSet, PcrValues};
use wire::evidence::TpmQuote;

use super::super::tests::{Story, extra, secure_boot_is, signed, text};
use super::*;
use crate::core::evidence::{Claims, DIFFERS};

const HASH: HashAlgorithm = HashAlgorithm::Sha256;

const HARDWARE: Assurance = Assurance::hardware(AssuranceOf::Key);
const MEASURED: Assurance = Assurance::measured(AssuranceOf::Key);

/// SHA-256 of the certificate in [`db_entry`].
fn signer() -> String {
    hex::encode(HASH.digest(&[&certificate()]))
}

/// What looks like a certificate.
fn certificate() -> Vec<u8> {
    [&[0x30, 0x82, 1, 0x2c][..], &[9; 300]].concat()
}

fn variable(guid: &str, name: &str, value: &[u8]) -> Vec<u8> {
    let name: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let lengths = [name.len() / 2, value.len()].map(|len| u64::try_from(len).unwrap().to_le_bytes()).concat();
    [&hex::decode(guid).unwrap()[..], &lengths, &name, value].concat()
}

const IMAGE_SECURITY: &str = "cbb219d73a3d9645a3bcdad00e67656f";

fn db_entry() -> Vec<u8> {
    variable(IMAGE_SECURITY, "db", &[&[0x77; 16][..], &certificate()].concat())
}

/// A log that is made as it is measured.
#[derive(Clone)]
struct Measuring {
    log: Vec<u8>,
    values: PcrValues,
}

impl Measuring {
    fn new() -> Self {
        let spec = [&b"Spec ID Event03\0"[..], &[0, 0, 0, 0, 0, 2, 0, 2], &[1, 0, 0, 0, 0x0b, 0, 32, 0], &[0]].concat();
        let log = [&[0, 0, 0, 0, 3, 0, 0, 0][..], &[0; 20], &length(&spec), &spec].concat();
        Self { log, values: PCRS.iter().map(|pcr| (*pcr, vec![0; 32])).collect() }
    }

    fn digest(mut self, pcr: u8, digest: &[u8], data: &[u8]) -> Self {
        let head = [pcr, 0, 0, 0, 0xd, 0, 0, 0, 1, 0, 0, 0, 0x0b, 0];
        self.log.extend([&head[..], digest, &length(data), data].concat());
        let value = self.values.get_mut(&pcr).unwrap();
        *value = HASH.digest(&[value, digest]);
        self
    }

    fn data(self, pcr: u8, data: &[u8]) -> Self {
        let digest = HASH.digest(&[data]);
        self.digest(pcr, &digest, data)
    }

    fn section(self, name: &str, content: &[u8]) -> Self {
        self.data(11, format!("{name}\0").as_bytes()).data(11, content)
    }
}

fn length(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).unwrap().to_le_bytes()
}

/// The PCRs of these tests.
const PCRS: [u8; 6] = [0, 2, 4, 7, 11, 12];

/// A machine with Secure Boot, which boots a UKI with this command line beside its own.
fn uki(command_line: &str) -> Measuring {
    let line: Vec<u8> = command_line.encode_utf16().flat_map(u16::to_le_bytes).chain([0, 0]).collect();
    Measuring::new()
        .data(0, b"firmware")
        .data(7, &secure_boot_is(1))
        .data(7, &variable(IMAGE_SECURITY, "db", b""))
        .data(7, &[0; 4])
        .data(4, &[0; 4])
        .data(7, &db_entry())
        .digest(4, &[0x44; 32], b"a path")
        .section(".linux", b"kernel")
        .section(".cmdline", b"ro")
        .data(12, &line)
}

/// What is claimed of a TPM that quotes this, by a gateway with these settings.
fn claims(settings: &str, measured: &Measuring) -> Result<Claims, String> {
    told(settings, measured, Some(&measured.log), true)
}

fn told(settings: &str, measured: &Measuring, log: Option<&[u8]>, certified: bool) -> Result<Claims, String> {
    let story = Story::with(&format!("log = 'wanted'\npcrs = {PCRS:?}\n{settings}"));
    let key = story.for_key();
    let certificates = if certified { vec![story.certificate()] } else { vec![] };
    story.told(&certificates, |body, challenge| {
        let values = &measured.values;
        body.answer.as_mut().unwrap().quote = Some(TpmQuote {
            signed: signed(story.tpm.quote_all(&extra(challenge, &key), values)),
            bank: "sha256".to_owned(),
            values: values.iter().map(|(pcr, value)| (*pcr, hex::encode(value))).collect(),
            log: log.map(|log| STANDARD.encode(log)),
        });
    })
}

#[test]
fn a_boot_that_is_known_is_measured_and_told() {
    let measured = uki("quiet");
    let told = claims("", &measured).unwrap();
    assert_eq!(told.assurance, MEASURED);
    let sha256 = |content: &[u8]| hex::encode(HASH.digest(&[content]));
    for (name, want) in [
        ("secure_boot", "on".to_owned()),
        ("boot_log", "complete".to_owned()),
        ("boot_uki_signer", signer()),
        ("boot_programs", "44".repeat(32)),
        ("boot_cmdline", "quiet".to_owned()),
        ("boot_uki_linux", sha256(b"kernel")),
        ("boot_uki_cmdline", sha256(b"ro")),
        ("boot_uki_initrd", String::new()),
        ("boot_db", sha256(b"")),
        ("boot_dbx", String::new()),
        ("boot_pcr_4", hex::encode(&measured.values[&4])),
        ("boot_pcr_2", "00".repeat(32)),
        ("boot_pcr_5", String::new()),
        ("boot", String::new()),
    ] {
        assert_eq!(text(&told, name), want, "{name}");
    }
    let declared = |name: &String| super::super::ROW.claims.iter().any(|(declared, _)| declared == name);
    assert!(told.values.keys().all(declared), "{:?}", told.values);
    let long = "x".repeat(COMMAND_LINE_MAX + 1);
    let told = text(&claims("", &uki(&long)).unwrap(), "boot_cmdline");
    assert_eq!(told, format!("sha256:{}", sha256(long.as_bytes())));
}

#[test]
fn a_boot_is_measured_only_if_all_of_it_is_known() {
    let assurance = |told: Result<Claims, String>| told.map(|claims| (claims.assurance, text(&claims, "boot_log")));
    let good = uki("quiet");
    let (hardware, software) = (HARDWARE, Assurance::SOFTWARE);
    assert_eq!(assurance(told("", &good, None, true)), Ok((hardware, String::new())));
    assert_eq!(assurance(told("", &good, Some(&good.log), false)), Ok((software, "complete".to_owned())));
    // The log leaves out what went into PCR 4, and the quote has it.
    let mut later = good.clone();
    later.values.insert(4, vec![4; 32]);
    let claimed = claims("", &later);
    assert_eq!(assurance(claimed.clone()), Ok((hardware, "partial".to_owned())));
    assert_eq!(text(&claimed.unwrap(), "boot_programs"), "");
    later.values.insert(7, vec![7; 32]);
    assert!(claims("", &later).unwrap_err().starts_with("tpm-log-mismatch"));
    let silent = Measuring::new();
    assert_eq!(assurance(claims("", &silent)), Ok((hardware, "complete".to_owned())), "no word of Secure Boot");
    // Nothing is known of the boot by PCR 7 alone.
    let story = Story::with("log = 'wanted'");
    let told = story.told(&[story.certificate()], |_, _| {}).unwrap();
    assert_eq!((told.assurance, text(&told, "boot_pcr_7")), (hardware, "07".repeat(32)));
}

/// A section with one boot that is allowed.
fn allowing(settings: &str) -> String {
    format!("[boot.uki-1]\n{settings}")
}

#[test]
fn a_boot_is_compared_with_those_that_are_allowed() {
    let good = uki("quiet");
    let (pcr, zeros) = (hex::encode(&good.values[&4]), "00".repeat(32));
    let kernel = hex::encode(HASH.digest(&[b"kernel"])).to_uppercase();
    for (settings, differs) in [
        ("secure_boot = true".to_owned(), None),
        (format!("uki_signers = ['{zeros}', '{}']", signer()), None),
        ("command_lines = ['quiet', 'debug']".to_owned(), None),
        (format!("pcrs = {{ 4 = ['{pcr}'], 2 = ['{zeros}'] }}"), None),
        (format!("sections = {{ linux = ['{kernel}'] }}"), None),
        (
            format!("uki_signers = ['{zeros}']"),
            Some(format!(
                "`uki-1`: signers of what was booted: expected 0000000000000000..., measured {}...",
                &signer()[..16]
            )),
        ),
        (
            "command_lines = ['debug', 'ro']".to_owned(),
            Some("`uki-1`: kernel command line: expected `debug` or 1 others, measured `quiet`".to_owned()),
        ),
        (
            format!("pcrs = {{ 4 = ['{zeros}'] }}\ncommand_lines = ['']"),
            Some(format!(
                "`uki-1`: kernel command line: expected ``, measured `quiet`; PCR 4: expected 0000000000000000..., measured {}...",
                &pcr[..16]
            )),
        ),
        (
            format!("sections = {{ initrd = ['{zeros}'] }}"),
            Some("`uki-1`: section .initrd: expected 0000000000000000..., measured none".to_owned()),
        ),
    ] {
        let told = claims(&allowing(&settings), &good).unwrap();
        let found = text(&told, "boot_differs");
        assert_eq!(found, differs.clone().unwrap_or_default(), "{settings}");
        let (boot, assurance) = match differs {
            None => ("uki-1", MEASURED),
            Some(_) => ("differs", HARDWARE),
        };
        assert_eq!((text(&told, "boot").as_str(), told.assurance), (boot, assurance), "{settings}");
    }
    assert!("tpm_boot_differs".ends_with(DIFFERS));
    // A program can say the same of itself.
    let told = told(&allowing("secure_boot = true"), &good, Some(&good.log), false).unwrap();
    assert_eq!((text(&told, "boot"), told.assurance), (String::new(), Assurance::SOFTWARE));
}

#[test]
fn what_is_not_known_differs_from_everything() {
    let bare = Measuring::new();
    let hidden = uki("quiet").digest(7, &[1; 32], b"?").digest(12, &[1; 32], b"?");
    let zeros = "00".repeat(32);
    let signers = format!("uki_signers = ['{zeros}']");
    for (settings, measured, says) in [
        ("secure_boot = true", &bare, "Secure Boot: expected on, measured unknown"),
        (&signers, &bare, "expected 0000000000000000..., measured what the log does not tell"),
        (&signers, &hidden, "expected 0000000000000000..., measured what the log does not tell"),
        ("command_lines = ['quiet']", &hidden, "expected `quiet`, measured what the log does not tell"),
        ("command_lines = ['quiet']", &bare, "expected `quiet`, measured ``"),
    ] {
        let told = claims(&allowing(settings), measured).unwrap();
        assert!(text(&told, "boot_differs").ends_with(says), "{settings}: {}", text(&told, "boot_differs"));
    }
    let off = Measuring::new().data(7, &secure_boot_is(0)).data(7, &[0; 4]);
    let told = claims(&allowing("secure_boot = true"), &off).unwrap();
    assert_eq!(text(&told, "boot_differs"), "`uki-1`: Secure Boot: expected on, measured off");
    let told = told_without_log(&allowing("secure_boot = true"));
    assert_eq!(text(&told, "boot_differs"), "`uki-1`: Secure Boot: expected on, measured unknown");
}

fn told_without_log(settings: &str) -> Claims {
    told(settings, &uki("quiet"), None, true).unwrap()
}

#[test]
fn the_nearest_boot_is_told() {
    let settings = "[boot.a]\nsecure_boot = true\ncommand_lines = ['a']\npcrs = { 2 = ['ZZ'] }\n\
                    [boot.b]\ncommand_lines = ['b']\n[boot.c]\ncommand_lines = ['c']";
    let settings = settings.replace("ZZ", &"11".repeat(32));
    let differs = |line: &str| text(&claims(&settings, &uki(line)).unwrap(), "boot_differs");
    assert_eq!(differs("x"), "`b`: kernel command line: expected `b`, measured `x`");
    assert_eq!((differs("c"), text(&claims(&settings, &uki("c")).unwrap(), "boot")), (String::new(), "c".to_owned()));
    assert_eq!(differs("y\u{e9}").chars().last(), Some('`'));
    let long = differs(&"z".repeat(100));
    assert_eq!(long, format!("`b`: kernel command line: expected `b`, measured `{}...`", "z".repeat(48)));
    // All of four differ, and three are told.
    let zeros = "00".repeat(32);
    let all = format!(
        "[boot.a]\nsecure_boot = true\ncommand_lines = ['a']\npcrs = {{ 2 = ['{0}'], 4 = ['{zeros}'] }}",
        "11".repeat(32)
    );
    let off = Measuring::new().data(4, b"x");
    assert!(text(&claims(&all, &off).unwrap(), "boot_differs").ends_with("; and 1 more"));
}

#[test]
fn what_is_allowed_must_be_asked_for_and_make_sense() {
    let refused = |text: &str| {
        let settings: BTreeMap<String, AllowedSettings> = toml::from_str(text).map_err(|error| error.to_string())?;
        let pcrs = PcrSet::of([4, 7]).unwrap();
        AllowedBoots::build(settings, pcrs, text.contains("# log")).map(|_| ()).map_err(|bad| bad.to_string())
    };
    let digest = "00".repeat(32);
    assert_eq!(refused(&format!("[a]\nsecure_boot = true # log\npcrs = {{ 4 = ['{digest}'] }}")), Ok(()));
    assert_eq!(refused(&format!("[a]\npcrs = {{ 4 = ['{digest}'] }}")), Ok(()), "without a log");
    for (text, says) in [
        ("[a]", "`boot.a`: it asks for nothing"),
        ("[a]\nsecure_boot = false", "`boot.a`: it asks for nothing"),
        ("[a]\ncommand_lines = [] # log", "`boot.a`: it asks for nothing"),
        ("[a]\nsecure_boot = true", "`boot.a`: `secure_boot` needs `log = \"wanted\"`"),
        ("[a]\ncommand_lines = ['x'] # log", "`boot.a`: `command_lines` needs PCR 12 in `pcrs`"),
        ("[differs]\nsecure_boot = true # log", "`boot.differs`: its name"),
        ("[A]\nsecure_boot = true # log", "`boot.A`: its name"),
        ("[a]\nuki_signers = ['aa'] # log", "`boot.a`: a value of `uki_signers` is no SHA-256"),
        ("[a]\npcrs = { 4 = [] }", "`boot.a`: `pcrs.4` must be one or more digests"),
        ("[a]\npcrs = { 4 = ['aa'] }", "`boot.a`: `pcrs.4` must be one or more digests"),
        ("[a]\npcrs = { 04 = ['aa'] }", "`boot.a`: `04` in `pcrs` is no number"),
        ("[a]\nsections = { text = ['aa'] }", "`boot.a`: `text` in `sections` is no section"),
    ] {
        let error = refused(text).unwrap_err();
        assert!(error.starts_with(says), "{text}: {error}");
    }
    assert!(refused("[a]\nsecureboot = true").unwrap_err().contains("unknown field `secureboot`"));
    let many = (0..=64).map(|at| format!("[a{at}]\npcrs = {{ 4 = ['{digest}'] }}\n")).collect::<String>();
    assert_eq!(refused(&many), Err("`boot` has more than 64 names".to_owned()));
    let values = vec![format!("'{digest}'"); 257].join(",");
    assert_eq!(
        refused(&format!("[a]\npcrs = {{ 4 = [{values}] }}")),
        Err("`boot.a`: `pcrs` has more than 256 values".into())
    );
}
