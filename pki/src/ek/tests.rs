//! Certificates in the forms of makers, broken ones, and the CAs of real makers, which lie beside the repository.

use aws_lc_rs::rsa::KeySize;

use super::anchors::ANCHORS_MAX;
use super::testing::{
    COUNTRY, ECDSA_SHA256, FIRMWARE, MAKER, MODEL, MakerDraft, MakerKey, ORGANIZATION, RSA_SHA1, common_name, rdn,
};
use super::*;
use crate::der::{NULL, OID, SEQUENCE, tlv};
use crate::pem::{parse_pem, to_pem};
use crate::testing::NOW;

fn anchors(ders: &[&[u8]]) -> EkAnchors {
    let pem: String = ders.iter().map(|der| to_pem("CERTIFICATE", der)).collect();
    EkAnchors::from_pem(&pem).unwrap()
}

fn verify(given: &[&[u8]], ek: &[u8], anchors: &EkAnchors) -> Result<EkCertificate, EkError> {
    let given: Vec<Vec<u8>> = given.iter().map(|der| der.to_vec()).collect();
    verify_ek(&given, &|spki| spki == ek, anchors, NOW)
}

#[track_caller]
fn verified(given: &[&[u8]], ek: &[u8], roots: &[&[u8]], anchor: &str) -> EkDevice {
    let found = verify(given, ek, &anchors(roots)).unwrap();
    assert_eq!(found.chain, EkChain::Verified { anchor: format!("CN={anchor}") });
    found.device
}

fn device(maker: &str, model: &str, firmware: &str) -> EkDevice {
    let [maker, model, firmware] = [maker, model, firmware].map(|text| Some(text.to_owned()));
    EkDevice { maker, model, firmware }
}

/// The attributes in three relative names.
fn three(maker: &str, model: &str, firmware: &str) -> [Vec<u8>; 3] {
    [rdn(&[(MAKER, maker)]), rdn(&[(MODEL, model)]), rdn(&[(FIRMWARE, firmware)])]
}

fn plain() -> [Vec<u8>; 3] {
    three("id:49465800", "SLB9670", "id:0D55")
}

/// An RSA key under id-RSAES-OAEP with parameters, as in Infineon's older EK certificates.
fn as_oaep(spki: &[u8]) -> Vec<u8> {
    let algorithm = crate::der::tlv(OID, &[&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1]]);
    let at = spki.windows(algorithm.len()).position(|part| part == algorithm).unwrap();
    let key = &spki[at + algorithm.len() + 2..];
    let oaep = tlv(OID, &[&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 7]]);
    tlv(SEQUENCE, &[&tlv(SEQUENCE, &[&oaep, &tlv(SEQUENCE, &[])]), key])
}

#[test]
fn infineons_with_oaep_under_a_p521_root() {
    let (root, ca, ek) = (MakerKey::p521(), MakerKey::p384(), as_oaep(&MakerKey::rsa(KeySize::Rsa2048).spki()));
    let top = MakerDraft::ca("root", "root", &root).sign(&root);
    let middle = MakerDraft::ca("ca", "root", &ca).sign(&root);
    let leaf = MakerDraft::ek("ca", ek.clone(), &plain()).sign(&ca);
    for given in [[&leaf[..], &middle], [&middle[..], &leaf]] {
        assert_eq!(verified(&given, &ek, &[&top], "root"), device("IFX", "SLB9670", "0D55"));
    }
}

#[test]
fn nuvotons_with_one_relative_name_in_odd_order_and_a_padded_serial() {
    let (root, ek) = (MakerKey::rsa(KeySize::Rsa4096), MakerKey::p256().spki());
    let odd = tlv(SEQUENCE, &[&rdn(&[(&[0x55, 4, 3], "root"), (ORGANIZATION, "Nuvoton"), (COUNTRY, "TW")])]);
    let named = MakerDraft { subject: odd.clone(), issuer: odd, ..MakerDraft::ca("", "", &root) };
    let one = rdn(&[(FIRMWARE, "id:00070002"), (MAKER, "id:4E544300"), (MODEL, "NPCT75x")]);
    let leaf = MakerDraft { issuer: named.subject.clone(), ..MakerDraft::ek("", ek.clone(), &[one]) };
    let leaf = MakerDraft { serial: vec![0, 0, 0, 5], ..leaf };
    let found = verify(&[&leaf.sign(&root)], &ek, &anchors(&[&named.sign(&root)])).unwrap();
    assert_eq!(found.device, device("NTC", "NPCT75x", "00070002"));
    assert!(matches!(found.chain, EkChain::Verified { .. }));
}

#[test]
fn stms_that_end_while_the_tpm_lives() {
    let (root, ca, ek) = (MakerKey::rsa(KeySize::Rsa2048), MakerKey::rsa(KeySize::Rsa2048), MakerKey::p256().spki());
    let top = MakerDraft::ca("root", "root", &root).sign(&root);
    let middle = MakerDraft::ca("ca", "root", &ca).sign(&root);
    let leaf = MakerDraft::ek("ca", ek.clone(), &three("id:53544D20", "ST33HTPHAHB4", "id:00010102"));
    let leaf = MakerDraft { not_after: "20280229000000Z", ..leaf }.sign(&ca);
    let found = verify(&[&leaf, &middle], &ek, &anchors(&[&top])).unwrap();
    assert_eq!(found.not_after, UnixTime::new(1_835_395_200));
    assert_eq!(found.device, device("STM", "ST33HTPHAHB4", "00010102"));
}

#[test]
fn intels_with_cas_on_the_die_under_a_root_with_null_parameters() {
    let keys: Vec<MakerKey> = (0..4).map(|_| MakerKey::p384()).collect();
    let names = ["root", "rom", "kernel", "ptt"];
    let mut given: Vec<Vec<u8>> =
        (1..4).map(|at| MakerDraft::ca(names[at], names[at - 1], &keys[at]).sign(&keys[at - 1])).collect();
    let null = [tlv(OID, &[&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3]]), tlv(NULL, &[])].concat();
    let top = MakerDraft { algorithm: Some(null), ..MakerDraft::ca("root", "root", &keys[0]) }.sign(&keys[0]);
    let ek = MakerKey::p384().spki();
    given.insert(1, MakerDraft::ek("ptt", ek.clone(), &three("id:494E5443", "ADL", "id:02580001")).sign(&keys[3]));
    let given: Vec<&[u8]> = given.iter().map(Vec::as_slice).collect();
    assert_eq!(verified(&given, &ek, &[&top], "root"), device("INTC", "ADL", "02580001"));
}

#[test]
fn amds_under_an_intermediate_that_is_the_anchor() {
    let (root, ca, ek) = (MakerKey::p384(), MakerKey::p256(), MakerKey::p256().spki());
    let middle = MakerDraft::ca("PRG-RPL", "root", &ca).sign(&root);
    let leaf = MakerDraft::ek("PRG-RPL", ek.clone(), &three("id:414D4400", "AMD", "id:00060024")).sign(&ca);
    assert_eq!(verified(&[&leaf], &ek, &[&middle], "PRG-RPL"), device("AMD", "AMD", "00060024"));
}

/// A root, a CA and an EK's certificate, to be bent.
struct Bench {
    root: MakerKey,
    ca: MakerKey,
    ek: Vec<u8>,
}

impl Bench {
    fn new() -> Self {
        Self { root: MakerKey::p256(), ca: MakerKey::p256(), ek: MakerKey::p256().spki() }
    }

    fn top(&self) -> Vec<u8> {
        MakerDraft::ca("root", "root", &self.root).sign(&self.root)
    }

    fn middle(&self) -> MakerDraft {
        MakerDraft::ca("ca", "root", &self.ca)
    }

    fn leaf(&self) -> MakerDraft {
        MakerDraft::ek("ca", self.ek.clone(), &plain())
    }

    fn verify(&self, leaf: &[u8], middle: &[u8]) -> Result<EkCertificate, EkError> {
        verify(&[leaf, middle], &self.ek, &anchors(&[&self.top()]))
    }

    /// As told with the given certificates in good order.
    fn with(&self, leaf: &MakerDraft, middle: &MakerDraft) -> Result<EkCertificate, EkError> {
        self.verify(&leaf.sign(&self.ca), &middle.sign(&self.root))
    }
}

#[test]
fn whoever_is_missing_makes_the_chain_unknown() {
    let bench = Bench::new();
    let (leaf, middle) = (bench.leaf().sign(&bench.ca), bench.middle().sign(&bench.root));
    let unknown = |given: &[&[u8]], anchors: &EkAnchors| {
        verify(given, &bench.ek, anchors).map(|found| found.chain) == Ok(EkChain::UnknownIssuer)
    };
    assert!(unknown(&[&leaf], &anchors(&[&bench.top()])), "the intermediate is missing");
    assert!(unknown(&[&leaf, &middle], &EkAnchors::default()), "nobody is trusted");
    let other = Bench::new();
    let elsewhere = MakerDraft::ca("another", "another", &other.root).sign(&other.root);
    assert!(unknown(&[&leaf, &middle, &bench.top()], &anchors(&[&elsewhere])), "another maker's");
    let own = MakerDraft { issuer: common_name("x"), subject: common_name("x"), ..bench.leaf() }.sign(&bench.ca);
    assert!(unknown(&[&own], &anchors(&[&bench.top()])), "by itself");
}

/// A maker's CA that got a new key under the old name.
#[test]
fn a_ca_of_the_same_name_with_another_key_is_another_ca() {
    let (old, new, ek) = (MakerKey::p256(), MakerKey::p256(), MakerKey::p256().spki());
    let ca =
        |key: &MakerKey, id: u8| MakerDraft::ca("ca", "ca", key).and(&[0x55, 29, 14], false, &[4, 1, id]).sign(key);
    let leaf =
        MakerDraft::ek("ca", ek.clone(), &plain()).and(&[0x55, 29, 35], false, &[0x30, 3, 0x80, 1, 2]).sign(&new);
    let chain = |anchors: &EkAnchors| verify(&[&leaf], &ek, anchors).map(|found| found.chain);
    assert_eq!(chain(&anchors(&[&ca(&old, 1)])), Ok(EkChain::UnknownIssuer));
    assert!(matches!(chain(&anchors(&[&ca(&old, 1), &ca(&new, 2)])), Ok(EkChain::Verified { .. })));
    assert!(chain(&anchors(&[&ca(&old, 2)])).is_err());
}

#[test]
fn what_is_broken_is_named() {
    let bench = Bench::new();
    let (leaf, middle) = (bench.leaf(), bench.middle());
    assert!(bench.with(&leaf, &middle).is_ok());
    let named = |name: &str| name.to_owned();
    let sha1 = Some([tlv(OID, &[RSA_SHA1]), tlv(NULL, &[])].concat());
    let old = |draft: &MakerDraft| MakerDraft { algorithm: sha1.clone(), ..draft.clone() };
    assert_eq!(bench.with(&old(&leaf), &middle), Err(EkError::Sha1 { subject: named("the EK") }));
    assert_eq!(bench.with(&leaf, &old(&middle)), Err(EkError::Sha1 { subject: named("CN=ca") }));
    assert_eq!(
        bench.verify(&leaf.sign(&bench.root), &middle.sign(&bench.root)),
        Err(EkError::Signature { subject: named("the EK") })
    );
    assert_eq!(
        bench.verify(&leaf.sign(&bench.ca), &middle.sign(&bench.ca)),
        Err(EkError::Signature { subject: named("CN=ca") })
    );
    let not_ca = MakerDraft { extensions: bench.leaf().extensions, ..middle.clone() };
    assert_eq!(bench.with(&leaf, &not_ca), Err(EkError::NotCa { subject: named("CN=ca") }));
    let no_signer = MakerDraft { extensions: middle.extensions[..1].to_vec(), ..middle.clone() };
    let no_signer = no_signer.and(&[0x55, 29, 15], true, &[3, 2, 7, 0x80]);
    assert_eq!(bench.with(&leaf, &no_signer), Err(EkError::NotCa { subject: named("CN=ca") }));
    let odd = middle.clone().and(&[0x2a, 3], true, &[5, 0]);
    let unknown = EkError::UnknownCritical { subject: named("CN=ca"), oid: named("1.2.3") };
    assert_eq!(bench.with(&leaf, &odd), Err(unknown));
    assert!(bench.with(&leaf, &middle.clone().and(&[0x2a, 3], false, &[5, 0])).is_ok());
    let wrong = MakerDraft { algorithm: Some(tlv(OID, &[&[0x2a, 3]])), ..leaf.clone() };
    assert_eq!(bench.with(&wrong, &middle), Err(EkError::Algorithm { subject: named("the EK") }));
    let other_hash = MakerDraft { algorithm: Some(tlv(OID, &[ECDSA_SHA256])), ..leaf.clone() };
    assert!(bench.with(&other_hash, &middle).is_ok());
}

#[test]
fn what_is_no_certificate_of_this_ek_is_named() {
    let bench = Bench::new();
    let (leaf, middle) = (bench.leaf().sign(&bench.ca), bench.middle().sign(&bench.root));
    let padded = [&leaf[..], &[0xff; 431]].concat();
    assert_eq!(bench.verify(&padded, &middle), Err(EkError::TrailingBytes { at: 1, bytes: 431 }));
    assert_eq!(bench.verify(&leaf, b"\x30\x03"), Err(EkError::Malformed { at: 2 }));
    assert_eq!(bench.verify(&[0x30; 9000], &middle), Err(EkError::TooLong { at: 1, len: 9000 }));
    let other = Bench::new().ek;
    assert_eq!(verify(&[&leaf, &middle], &other, &EkAnchors::default()), Err(EkError::OtherKey));
    assert_eq!(verify(&[&leaf[..]; 17], &bench.ek, &EkAnchors::default()), Err(EkError::TooMany { found: 17 }));
    let (with_purpose, others) = (bench.leaf().extensions, vec![0, 1, 3]);
    let without =
        MakerDraft { extensions: others.iter().map(|at| with_purpose[*at].clone()).collect(), ..bench.leaf() };
    assert!(bench.with(&without, &bench.middle()).is_ok(), "older ones have no purpose");
    let ak = tlv(SEQUENCE, &[&tlv(OID, &[&[0x67, 0x81, 5, 8, 3]])]);
    let of_ak = without.clone().and(&[0x55, 29, 37], false, &ak);
    assert_eq!(bench.with(&of_ak, &bench.middle()), Err(EkError::NotOfEk));
    for odd in [&tlv(SEQUENCE, &[])[..], &[], &[5, 0], &[0x30, 1]] {
        let empty = without.clone().and(&[0x55, 29, 37], false, odd);
        assert_eq!(bench.with(&empty, &bench.middle()), Err(EkError::NotOfEk), "{odd:?}");
    }
    let nameless = MakerDraft { extensions: without.extensions[1..].to_vec(), ..without };
    assert_eq!(bench.with(&nameless, &bench.middle()), Err(EkError::NotOfEk));
}

#[test]
fn keys_that_are_too_short_sign_nothing() {
    signs_nothing(tlv(SEQUENCE, &[&SMALL_RSA]));
}

/// The work of a signature grows with the exponent, and nobody needs a long one.
#[test]
fn keys_with_a_long_exponent_sign_nothing() {
    let mut spki = MakerKey::rsa(KeySize::Rsa2048).spki();
    let at = spki.windows(5).rposition(|part| part == [2, 3, 1, 0, 1]).unwrap();
    let modulus = spki[..at].windows(4).position(|part| part[..2] == [2, 0x82]).unwrap();
    let key = tlv(SEQUENCE, &[&spki[modulus..at], &tlv(2, &[&[0x7f; 255]])]);
    let algorithm = tlv(SEQUENCE, &[&tlv(OID, &[&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1]]), &tlv(NULL, &[])]);
    spki = tlv(SEQUENCE, &[&algorithm, &tlv(crate::der::BIT_STRING, &[&[0], &key])]);
    signs_nothing(spki);
}

/// A CA with this key.
#[track_caller]
fn signs_nothing(spki: Vec<u8>) {
    let root = MakerKey::p256();
    let small = MakerDraft { spki, ..MakerDraft::ca("small", "root", &root) };
    let (top, ek) = (MakerDraft::ca("root", "root", &root).sign(&root), MakerKey::p256().spki());
    let leaf = MakerDraft::ek("small", ek.clone(), &plain()).sign(&root);
    let refused = verify(&[&leaf, &small.sign(&root)], &ek, &anchors(&[&top]));
    assert_eq!(refused, Err(EkError::IssuerKey { subject: "CN=small".to_owned() }));
}

/// The content of the SubjectPublicKeyInfo of an RSA key of 16 bits.
const SMALL_RSA: [u8; 29] = [
    0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0, 3, 12, 0, 0x30, 9, 2, 2, 0x60, 1, 2, 3, 1, 0, 1,
];

/// A chain of CAs, each with the next one's name as issuer.
fn tower(height: usize) -> (Vec<Vec<u8>>, Vec<u8>, Vec<u8>) {
    let key = MakerKey::p256();
    let name = |at: usize| format!("ca {at}");
    let mut given: Vec<Vec<u8>> =
        (1..height).map(|at| MakerDraft::ca(&name(at), &name(at + 1), &key).sign(&key)).collect();
    let top = MakerDraft::ca(&name(height), &name(height), &key).sign(&key);
    let ek = MakerKey::p256().spki();
    given.push(MakerDraft::ek(&name(1), ek.clone(), &plain()).sign(&key));
    (given, top, ek)
}

#[test]
fn paths_are_short() {
    let walk = |height| {
        let (given, top, ek) = tower(height);
        verify_ek(&given, &|spki| spki == ek, &anchors(&[&top]), NOW).map(|found| found.chain)
    };
    assert!(matches!(walk(1), Ok(EkChain::Verified { .. })));
    assert!(matches!(walk(DEPTH_MAX), Ok(EkChain::Verified { .. })));
    assert_eq!(walk(DEPTH_MAX + 1), Err(EkError::TooDeep));
}

#[test]
fn a_ca_may_limit_those_below_it() {
    let (root, ca, ek) = (MakerKey::p256(), MakerKey::p256(), MakerKey::p256().spki());
    let limited = MakerDraft::ca("root", "root", &root);
    let mut extensions = limited.extensions.clone();
    extensions.remove(0);
    let limited = MakerDraft { extensions, ..limited }.and(&[0x55, 29, 19], true, &[0x30, 6, 1, 1, 0xff, 2, 1, 0]);
    let top = limited.sign(&root);
    let middle = MakerDraft::ca("ca", "root", &ca).sign(&root);
    let below = MakerDraft::ek("ca", ek.clone(), &plain()).sign(&ca);
    let refused = verify(&[&below, &middle], &ek, &anchors(&[&top]));
    assert_eq!(refused, Err(EkError::NotCa { subject: "CN=root".to_owned() }));
    let direct = MakerDraft::ek("root", ek.clone(), &plain()).sign(&root);
    assert!(verify(&[&direct], &ek, &anchors(&[&top])).is_ok());
}

/// Many CAs of one name, and a circle of them: the work ends.
#[test]
fn signatures_are_counted() {
    let bench = Bench::new();
    let same: Vec<Vec<u8>> = (0..15)
        .map(|_| MakerDraft::ca("ca", "ca", &MakerKey::p256()).sign(&bench.ca))
        .chain([bench.leaf().sign(&bench.ca)])
        .collect();
    let parsed: Vec<X509Certificate<'_>> = same.iter().map(|der| read(der, 1).unwrap()).collect();
    let none = EkAnchors::default();
    let walk = Walk { given: &parsed, anchors: &none, now: NOW, signatures: Cell::new(0) };
    assert!(walk.up(&parsed[15], 0).is_err());
    assert_eq!(walk.signatures.get(), SIGNATURES_MAX);

    // All of one name and key: each signed every other.
    let circle: Vec<Vec<u8>> = (0..15_u8)
        .map(|serial| MakerDraft { serial: vec![serial], ..MakerDraft::ca("ca", "ca", &bench.ca) }.sign(&bench.ca))
        .chain([bench.leaf().sign(&bench.ca)])
        .collect();
    let parsed: Vec<X509Certificate<'_>> = circle.iter().map(|der| read(der, 1).unwrap()).collect();
    let walk = Walk { given: &parsed, anchors: &none, now: NOW, signatures: Cell::new(0) };
    assert!(walk.up(&parsed[15], 0).is_err());
    assert_eq!(walk.signatures.get(), SIGNATURES_MAX);
}

/// Every order of some certificates.
fn orders(of: &[Vec<u8>]) -> Vec<Vec<&[u8]>> {
    let Some((last, rest)) = of.split_last() else { return vec![vec![]] };
    orders(rest)
        .into_iter()
        .flat_map(|order| {
            (0..=order.len()).map(move |at| {
                let mut longer = order.clone();
                longer.insert(at, last.as_slice());
                longer
            })
        })
        .collect()
}

/// What each certificate of the EK comes to, and all of them in every order.
#[test]
fn each_certificate_of_the_ek_is_judged_by_itself_in_any_order() {
    let bench = Bench::new();
    let (trusted, middle) = (anchors(&[&bench.top()]), bench.middle().sign(&bench.root));
    let stranger = MakerKey::p256();
    let leaf = |change: fn(MakerDraft) -> MakerDraft| change(bench.leaf()).sign(&bench.ca);
    let good = leaf(|draft| draft);
    let longer = leaf(|draft| MakerDraft { serial: vec![1], not_after: "99991231235959Z", ..draft });
    let shorter = leaf(|draft| MakerDraft { serial: vec![2], not_after: "20280229000000Z", ..draft });
    let as_ca = leaf(|draft| {
        let mut extensions = draft.extensions.clone();
        extensions.pop();
        MakerDraft { extensions, ..draft }.and(&[0x55, 29, 19], true, &[0x30, 3, 1, 1, 0xff])
    });
    let early = leaf(|draft| MakerDraft { not_before: "20990101000000Z", ..draft });
    let forged = MakerDraft { serial: vec![3], ..bench.leaf() }.sign(&stranger);
    let unknown = MakerDraft { issuer: common_name("nobody"), ..bench.leaf() }.sign(&stranger);
    let other = MakerDraft::ek("ca", MakerKey::p256().spki(), &plain()).sign(&bench.ca);
    let not_yet = EkError::NotYetValid { subject: "the EK".to_owned(), from: UnixTime::new(4_070_908_800) };
    let wrong = EkError::Signature { subject: "the EK".to_owned() };
    let verified = Ok(EkChain::Verified { anchor: "CN=root".to_owned() });
    for (leaves, want) in [
        (vec![&good], verified.clone()),
        (vec![&as_ca], Err(EkError::LeafIsCa)),
        (vec![&early], Err(not_yet.clone())),
        (vec![&forged], Err(wrong)),
        (vec![&unknown], Ok(EkChain::UnknownIssuer)),
        (vec![&other], Err(EkError::OtherKey)),
        (vec![&good, &other], verified.clone()),
        (vec![&good, &as_ca, &early], verified.clone()),
        (vec![&good, &forged, &unknown], verified),
        (vec![&unknown, &as_ca, &other], Ok(EkChain::UnknownIssuer)),
        (vec![&other, &as_ca], Err(EkError::LeafIsCa)),
        (vec![&early, &other], Err(not_yet)),
    ] {
        let given: Vec<Vec<u8>> = leaves.iter().copied().chain([&middle]).cloned().collect();
        for order in orders(&given) {
            assert_eq!(verify(&order, &bench.ek, &trusted).map(|found| found.chain), want, "{} leaves", leaves.len());
        }
    }
    // Two that hold: the one that ends last counts, whichever came first.
    for order in orders(&[shorter, middle, longer]) {
        let found = verify(&order, &bench.ek, &trusted).unwrap();
        assert_eq!(found.not_after, UnixTime::new(2_524_607_999), "the CA ends in 2049");
    }
}

/// A clock of a maker that is a little ahead is no reason to refuse, and neither CA may be from the future.
#[test]
fn what_is_not_valid_yet_is_refused_wherever_it_stands() {
    let bench = Bench::new();
    let at = |not_before, leaf: MakerDraft, middle: MakerDraft| {
        let trusted = anchors(&[&bench.top()]);
        let given = [leaf.sign(&bench.ca), middle.sign(&bench.root)];
        verify_ek(&given, &|spki| spki == bench.ek, &trusted, UnixTime::new(not_before)).map(|found| found.chain)
    };
    let from = 1_577_836_800; // 2020-01-01
    assert!(at(from, bench.leaf(), bench.middle()).is_ok());
    assert!(at(from - 300, bench.leaf(), bench.middle()).is_ok());
    let refused = at(from - 301, bench.leaf(), bench.middle());
    let not_yet = |subject: &str, from| EkError::NotYetValid { subject: subject.to_owned(), from: UnixTime::new(from) };
    assert_eq!(refused, Err(not_yet("the EK", from)));
    let late = MakerDraft { not_before: "20210101000000Z", ..bench.middle() };
    assert_eq!(at(from, bench.leaf(), late), Err(not_yet("CN=ca", 1_609_459_200)));
}

/// What a certificate says is text of a stranger.
#[test]
fn names_that_deceive_are_written_out() {
    let bench = Bench::new();
    let leaf = MakerDraft::ek("ca", bench.ek.clone(), &three("id:49465800\u{202e}", "SLB\u{1b}[2J", "1\u{200b}2"));
    let found = bench.with(&leaf, &bench.middle()).unwrap();
    assert_eq!(found.device, device("49465800\\u{202e}", "SLB\\u{1b}[2J", "1\\u{200b}2"));
    let middle = MakerDraft::ca("ca\u{202e}", "root", &bench.ca);
    let leaf = MakerDraft::ek("ca\u{202e}", bench.ek.clone(), &plain()).sign(&bench.root);
    let refused = bench.verify(&leaf, &middle.sign(&bench.root));
    assert_eq!(refused, Err(EkError::Signature { subject: "the EK".to_owned() }));
    let old = MakerDraft { algorithm: Some([tlv(OID, &[RSA_SHA1]), tlv(NULL, &[])].concat()), ..middle };
    let leaf = MakerDraft::ek("ca\u{202e}", bench.ek.clone(), &plain());
    assert_eq!(bench.with(&leaf, &old), Err(EkError::Sha1 { subject: "CN=ca\\u{202e}".to_owned() }));
    let long = MakerDraft::ek("ca", bench.ek.clone(), &three("id:49465800", &"m".repeat(500), "1"));
    assert_eq!(bench.with(&long, &bench.middle()).unwrap().device.model.unwrap().len(), 64);
}

/// Each anchor of a file is judged by itself, and each that cannot be used is named.
#[test]
fn what_cannot_be_used_of_a_file_of_anchors_is_named() {
    let bench = Bench::new();
    let pem = |der: &[u8]| to_pem("CERTIFICATE", der);
    let (top, leaf) = (bench.top(), bench.leaf().sign(&bench.ca));
    let sha1 = MakerDraft { algorithm: Some([tlv(OID, &[RSA_SHA1]), tlv(NULL, &[])].concat()), ..bench.middle() };
    let expired = MakerDraft { not_after: "20240101000000Z", ..MakerDraft::ca("old", "old", &bench.root) };
    let (sha1, expired) = (sha1.sign(&bench.root), expired.sign(&bench.root));
    let broken = "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n";
    let text = [pem(&leaf), broken.to_owned(), pem(&top), pem(&[0x30, 3]), pem(&sha1), pem(&expired)].concat();
    let read = EkAnchorText::read(&text, NOW).unwrap();
    let says: Vec<String> = read.faults.iter().map(ToString::to_string).collect();
    let starts = [
        "certificate 1, of `the EK`, is not of a CA that may sign certificates",
        "certificate 2 cannot be read: the text is not PEM",
        "certificate 4 is not an X.509 certificate",
        "certificate 5, of `CN=ca`, is signed with SHA-1",
        "certificate 6, of `CN=old`, expired at 2024-01-01T00:00:00Z, and so have the certificates of its TPMs",
    ];
    assert_eq!(says.len(), starts.len(), "{says:#?}");
    for (says, start) in says.iter().zip(starts) {
        assert!(says.starts_with(start), "{says}");
    }
    assert_eq!((read.anchors.len(), EkAnchors::from_pem(&text)), (2, Ok(read.anchors)));
    let none = EkAnchorText::read(&pem(&leaf), NOW).unwrap_err();
    assert!(matches!(none, EkAnchorError::NothingUsable { found: 1, .. }), "{none:?}");
    assert!(none.to_string().starts_with("none of the 1 certificates can be used; the first: certificate 1"), "{none}");
    assert!(matches!(EkAnchors::from_pem("nothing"), Err(EkAnchorError::Pem(_))));
    let many = pem(&top).repeat(ANCHORS_MAX + 1);
    assert_eq!(EkAnchors::from_pem(&many), Err(EkAnchorError::TooMany { found: ANCHORS_MAX + 1 }));
}

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

/// All intermediate CAs of the makers, among each other.
#[test]
fn the_makers_own_cas_lead_to_their_anchors() {
    let (Some(roots), Some(cas)) = (vector("tpm-ca-certificates.pem"), vector("tpm-intermediate-ca-certificates.pem"))
    else {
        return;
    };
    let anchors = EkAnchors::from_pem(&roots).unwrap();
    let ders = parse_pem("CERTIFICATE", &cas).unwrap();
    let parsed: Vec<X509Certificate<'_>> = ders.iter().zip(1..).map(|(der, at)| read(der, at).unwrap()).collect();
    let (mut most, mut failed) = (0, Vec::new());
    for cert in &parsed {
        let walk = Walk { given: &parsed, anchors: &anchors, now: NOW, signatures: Cell::new(0) };
        match walk.up(cert, 0).map(|found| found.chain) {
            Ok(EkChain::Verified { .. }) => most = most.max(walk.signatures.get()),
            other => failed.push(format!("{}: {other:?}", subject(cert))),
        }
    }
    println!("{} anchors, {} intermediates, at most {most} signatures", anchors.len(), parsed.len());
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(parsed.len() >= 143 && most < SIGNATURES_MAX);
}

/// The walk with all anchors and intermediates of the makers as anchors, and an EK's certificate under one of them by each way in
/// which such a CA can be found: the time that one takes is printed. The bound is for a build that is optimized:
/// `cargo test --release -p pki the_walk_is_short -- --nocapture`.
#[test]
#[allow(clippy::disallowed_methods, clippy::disallowed_types)]
fn the_walk_is_short_with_all_anchors_of_the_makers() {
    let (Some(roots), Some(cas)) = (vector("tpm-ca-certificates.pem"), vector("tpm-intermediate-ca-certificates.pem"))
    else {
        return;
    };
    let (bench, rounds) = (Bench::new(), 200);
    let own = to_pem("CERTIFICATE", &bench.top());
    let trusted = EkAnchors::from_pem(&format!("{roots}\n{cas}\n{own}")).unwrap();
    let given = [bench.leaf().sign(&bench.ca), bench.middle().sign(&bench.root)];
    let began = std::time::Instant::now();
    for _ in 0..rounds {
        let found = verify_ek(&given, &|spki| spki == bench.ek, &trusted, NOW).unwrap();
        assert!(matches!(found.chain, EkChain::Verified { .. }));
    }
    let took = began.elapsed() / rounds;
    println!("a walk of two signatures with {} anchors: {took:?}", trusted.len());
    let most = if cfg!(debug_assertions) { 20 } else { 1 };
    assert!(took <= std::time::Duration::from_millis(most), "{took:?}");
}
