//! The table of makers against the real certificates, and what an import makes of a file.

use pki::{PemError, UnixTime, to_pem};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair};

use super::*;

const NOW: UnixTime = UnixTime::new(1_790_000_000);

/// A file of the vectors. Without it the test is skipped, and says so.
#[expect(clippy::disallowed_methods, reason = "tests read vectors")]
fn vector(name: &str) -> Option<String> {
    let folder = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors/tpm");
    let found = std::fs::read_to_string(folder.join(name)).ok();
    if found.is_none() {
        println!("skipped: {name} is not there; put it into ../shared/vectors/tpm");
    }
    found
}

struct Maker {
    params: CertificateParams,
    key: KeyPair,
}

impl Maker {
    fn named(name: &[(DnType, &str)]) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        name.iter().for_each(|(kind, value)| params.distinguished_name.push(kind.clone(), *value));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { params, key: KeyPair::generate().unwrap() }
    }

    fn common_name(name: &str) -> Self {
        Self::named(&[(DnType::CommonName, name)])
    }

    fn root(&self) -> Vec<u8> {
        self.params.self_signed(&self.key).unwrap().der().to_vec()
    }

    fn signs(&self, below: &Self) -> Vec<u8> {
        let issuer = Issuer::from_params(&self.params, &self.key);
        below.params.signed_by(&below.key, &issuer).unwrap().der().to_vec()
    }
}

fn ca(der: &[u8]) -> ForeignCa {
    ForeignCa::read(der).unwrap()
}

fn pem(ders: &[Vec<u8>]) -> String {
    ders.iter().map(|der| to_pem("CERTIFICATE", der)).collect()
}

fn offered(ders: &[Vec<u8>]) -> Vec<(ForeignCa, String)> {
    ders.iter().map(|der| (ca(der), "https://maker.example/ca.crt".to_owned())).collect()
}

#[test]
fn the_table_has_the_roots_of_the_collection() {
    let Some(roots) = vector("tpm-ca-certificates.pem") else { return };
    let roots = certificates(roots.as_bytes()).unwrap();
    let found: BTreeSet<(String, &str)> = roots.iter().map(|ca| (fingerprint(ca), ca.subject())).collect();
    let table: BTreeSet<(String, &str)> = KNOWN.iter().map(|known| (known.sha256.to_owned(), known.subject)).collect();
    assert_eq!(found, table);
    assert_eq!(table.len(), KNOWN.len());
    let standings = standings(&roots.iter().collect::<Vec<_>>());
    assert!(standings.iter().all(|standing| matches!(standing, AnchorStanding::Known(_))));
}

#[test]
fn every_ca_of_the_collection_is_below_one_of_the_table() {
    let (Some(roots), Some(below)) =
        (vector("tpm-ca-certificates.pem"), vector("tpm-intermediate-ca-certificates.pem"))
    else {
        return;
    };
    let (roots, below) = (certificates(roots.as_bytes()).unwrap(), certificates(below.as_bytes()).unwrap());
    let everything: Vec<&ForeignCa> = below.iter().chain(&roots).collect();
    for (ca, standing) in everything.iter().zip(standings(&everything)).take(below.len()) {
        assert!(matches!(standing, AnchorStanding::Below(_)), "{}: {standing:?}", ca.subject());
    }
    // Without the roots, nothing is known of them, and none is taken for another.
    let alone = standings(&below.iter().collect::<Vec<_>>());
    assert!(alone.iter().all(|standing| *standing == AnchorStanding::Unknown));
    println!("{} roots, {} CAs below them", roots.len(), below.len());
}

#[test]
fn rows_of_the_table_are_well_formed() {
    let mut seen = BTreeSet::new();
    for known in KNOWN {
        let hex =
            known.sha256.len() == 64 && known.sha256.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        assert!(hex && seen.insert(known.sha256), "{known:?}");
        assert!(known.published.starts_with("https://") && known.subject.contains("CN="), "{known:?}");
    }
}

#[test]
fn another_certificate_with_a_known_name_is_seen() {
    let differs = |name: &[(DnType, &str)]| {
        let ca = ca(&Maker::named(name).root());
        matches!(standings(&[&ca])[..], [AnchorStanding::Differs(known)] if known.maker == "STM")
    };
    let (country, organization, common) = (DnType::CountryName, DnType::OrganizationName, DnType::CommonName);
    let st = "STMicroelectronics NV";
    for (name, want) in [
        (vec![(country.clone(), "CH"), (organization.clone(), st), (common.clone(), "STM TPM EK Root CA")], true),
        (vec![(common.clone(), "stm tpm ek root ca"), (organization.clone(), st), (country.clone(), "CH")], true),
        (vec![(country.clone(), "CH"), (organization.clone(), st), (common.clone(), "STM  TPM EK-Root CA")], true),
        (vec![(country, "CH"), (organization, st), (common.clone(), "STM TPM EK Root CA 2")], false),
        (vec![(common, "STM TPM EK Root CA")], false),
    ] {
        assert_eq!(differs(&name), want, "{name:?}");
    }
}

#[test]
fn an_import_is_read_back_with_what_is_known_of_it() {
    let (maker, other) = (Maker::common_name("Example Root"), Maker::common_name("Example EK CA"));
    let ders = [maker.root(), maker.signs(&other)];
    let first = import("", offered(&ders[..1]), &[], NOW).unwrap();
    assert!(first.text.starts_with("# Subject: CN=Example Root\n# SHA-256: "), "{}", first.text);
    let sha = fingerprint(&ca(&ders[0]));
    let lines = format!("# SHA-256: {sha}\n# Source: https://maker.example/ca.crt\n# Date: 2026-09-21\n-----BEGIN");
    assert!(first.text.contains(&lines), "{}", first.text);
    let second = import(&first.text, offered(&[&ders[..], &ders[..]].concat()), &[], NOW).unwrap();
    assert!(second.text.starts_with(&first.text), "what was there stays byte for byte");
    assert_eq!((second.added.len(), second.there.len()), (1, 3));
    let read = configured(&second.text).unwrap();
    assert_eq!(read.iter().map(|anchor| anchor.ca.der()).collect::<Vec<_>>(), [&ders[0][..], &ders[1][..]]);
    for anchor in &read {
        assert_eq!(anchor.source.as_deref(), Some("https://maker.example/ca.crt"));
        assert_eq!(anchor.date.as_deref(), Some("2026-09-21"));
    }
    let third = import(&second.text, offered(&ders), &[], NOW).unwrap();
    assert_eq!((third.text, third.added), (second.text, vec![]));
}

#[test]
fn a_file_that_somebody_wrote_by_hand_is_added_to() {
    let (old, new) = (Maker::common_name("Old").root(), Maker::common_name("New").root());
    // without a line break at its end, and with comments of another kind
    let text = format!("# Owner: somebody\n{}", pem(std::slice::from_ref(&old))).trim_end().to_owned();
    let done = import(&text, offered(std::slice::from_ref(&new)), &[], NOW).unwrap();
    let read = configured(&done.text).unwrap();
    assert_eq!(read.iter().map(|anchor| anchor.ca.der()).collect::<Vec<_>>(), [&old[..], &new[..]]);
    assert_eq!((read[0].source.as_deref(), read[1].date.as_deref()), (None, Some("2026-09-21")));
    assert_eq!(configured("# nothing yet\n"), Ok(vec![]));
}

#[test]
fn a_known_name_on_another_certificate_is_added_on_its_fingerprint_alone() {
    let name = [
        (DnType::CountryName, "CH"),
        (DnType::OrganizationName, "STMicroelectronics NV"),
        (DnType::CommonName, "STM TPM EK Root CA"),
    ];
    let der = Maker::named(&name).root();
    let (sha, honest) = (fingerprint(&ca(&der)), Maker::common_name("Honest").root());
    let refused = import("", offered(&[der.clone(), honest]), &["00".repeat(32)], NOW).unwrap();
    assert_eq!(refused.refused.len(), 1);
    assert_eq!((refused.refused[0].0.der(), refused.refused[0].1.maker), (&der[..], "STM"));
    let accepted = import("", offered(&[der]), &[sha], NOW).unwrap();
    assert!(accepted.refused.is_empty());
    assert!(matches!(accepted.added[..], [(_, AnchorStanding::Differs(_))]));
}

/// Neither a name nor a source can end the comment, or begin a block.
#[test]
fn what_others_wrote_stays_a_comment() {
    let hidden = pem(&[Maker::common_name("Hidden").root()]);
    let maker = Maker::common_name(&format!("X\n{hidden}"));
    let source = format!("here\n{hidden}# Date: 1970-01-01");
    let der = maker.root();
    let done = import("", vec![(ca(&der), source)], &[], NOW).unwrap();
    let read = configured(&done.text).unwrap();
    assert_eq!((read.len(), read[0].ca.der(), read[0].date.as_deref()), (1, &der[..], Some("2026-09-21")));
}

#[test]
fn files_with_anything_else_are_refused() {
    let maker = Maker::common_name("Example");
    let mut leaf = Maker::common_name("EK");
    leaf.params.is_ca = IsCa::NoCa;
    let (root, leaf) = (maker.root(), maker.signs(&leaf));
    assert_eq!(certificates(&root).map(|cas| cas.len()), Ok(1));
    assert_eq!(certificates(pem(&[root.clone(), root.clone()]).as_bytes()).map(|cas| cas.len()), Ok(2));
    let not_ca = |at| {
        let says =
            format!("certificate {at}: the certificate of `CN=EK` is not one of a CA that may sign certificates");
        Err(says)
    };
    let said = |bytes: &[u8]| certificates(bytes).map(|cas| cas.len()).map_err(|error| error.to_string());
    assert_eq!(said(pem(&[root.clone(), leaf.clone()]).as_bytes()), not_ca(2));
    assert_eq!(said(&leaf), not_ca(1));
    assert_eq!(said(&[&root[..], &[0]].concat()), Err("certificate 1: 1 bytes follow the certificate".to_owned()));
    assert_eq!(said(&[0x30, 0x82, 0xff]), Err("certificate 1: it is not an X.509 certificate".to_owned()));
    assert_eq!(certificates(b"\xff\xfe"), Err(AnchorFileError::NotText));
    assert!(matches!(certificates(b"0 no certificates"), Err(AnchorFileError::Pem(PemError::Missing { .. }))));
    assert!(
        import(&pem(&[leaf]), offered(&[root]), &[], NOW).is_err(),
        "a file that the gateway refuses is not added to"
    );
}

#[test]
fn no_more_is_added_than_the_gateway_reads() {
    let maker = Maker::common_name("Example");
    let many: Vec<Vec<u8>> =
        (0..513).map(|n| maker.signs(&Maker { params: named(n), key: KeyPair::generate().unwrap() })).collect();
    let offer = |count: usize| import("", offered(&many[..count]), &[], NOW);
    assert_eq!(offer(512).map(|done| done.added.len()), Ok(512));
    assert!(matches!(offer(513), Err(AnchorFileError::Unreadable(_))));
}

fn named(number: u32) -> CertificateParams {
    Maker::common_name(&number.to_string()).params
}
