//! What the settings ask of a TPM, and what is said of the file of anchors.

use super::*;

/// What is told when the quote came with this log, or with none.
fn with_log(settings: &str, log: Option<&[u8]>, pcr: &[u8]) -> Result<[String; 2], String> {
    let story = Story::with(settings);
    let key = story.for_key();
    let told = story.told(&[], |body, challenge| {
        let mut quote = quote(&story.tpm, &extra(challenge, &key), 7, pcr);
        quote.log = log.map(|log| STANDARD.encode(log));
        body.answer.as_mut().unwrap().quote = Some(quote);
    });
    told.map(|claims| ["log", "secure_boot"].map(|name| text(&claims, name)))
}

#[test]
fn a_log_that_is_missing_is_told_or_refused() {
    let (log, pcr) = log(&secure_boot_is(1));
    let words = |log: &str, secure_boot: &str| Ok([log.to_owned(), secure_boot.to_owned()]);
    let missing = "tpm-log-missing: the event log of the boot is required and did not come with the quote".to_owned();
    for (settings, log, want) in [
        ("", None, words("", "unknown")),
        ("", Some(&log[..]), words("", "unknown")),
        ("log = 'wanted'", None, words("missing", "unknown")),
        ("log = 'wanted'", Some(&log), words("sent", "on")),
        ("log = 'required'", None, Err(missing)),
        ("log = 'required'", Some(&log), words("sent", "on")),
    ] {
        assert_eq!(with_log(settings, log, &pcr), want, "{settings} {}", log.is_some());
    }
    let other = with_log("log = 'required'", Some(&log), &PCR_7).unwrap_err();
    assert!(other.starts_with("tpm-log-mismatch"), "{other}");
}

#[test]
fn the_gateway_says_which_banks_count() {
    let asked = |settings: &str| {
        let story = Story::with(settings);
        let (challenge, _) = story.judge.ask(&evidence(&story.tpm, &[], true), story.for_key()).unwrap();
        challenge.banks.join(" ")
    };
    assert_eq!(asked(""), "sha256 sha384");
    assert_eq!(asked("banks = ['sha512', 'sha256']"), "sha512 sha256");
    let told = |settings: &str, bank: &str| {
        let story = Story::with(settings);
        let told = story.told(&[], |body, _| {
            body.answer.as_mut().unwrap().quote.as_mut().unwrap().bank = bank.to_owned();
        });
        told.map(drop)
    };
    assert_eq!(told("", "sha256"), Ok(()));
    let refused = |bank: &str, accepted: &str| {
        Err(format!(
            "tpm-quote-wrong: the TPM's quote does not hold: its bank is `{bank}`, and accepted are {accepted}"
        ))
    };
    assert_eq!(told("", "sha512"), refused("sha512", "`sha256`, `sha384`"));
    assert_eq!(told("", "sha1"), refused("sha1", "`sha256`, `sha384`"));
    assert_eq!(told("banks = ['sha384']", "sha256"), refused("sha256", "`sha384`"));
    assert_eq!(told("", "\u{202e}sha256"), refused("\\u{202e}sha256", "`sha256`, `sha384`"));
    // It counts, and the quote is of another one.
    let other = told("", "sha384").unwrap_err();
    assert!(other.starts_with("tpm-quote-wrong") && !other.contains("accepted"), "{other}");
}

/// A number times another, the byte of most weight first.
fn times(number: &[u8], by: u32) -> Vec<u8> {
    let (mut product, mut carry) = (Vec::new(), 0_u64);
    for byte in number.iter().rev() {
        carry += u64::from(*byte) * u64::from(by);
        product.push(u8::try_from(carry & 0xff).unwrap());
        carry >>= 8;
    }
    while carry > 0 {
        product.push(u8::try_from(carry & 0xff).unwrap());
        carry >>= 8;
    }
    product.into_iter().rev().collect()
}

/// A modulus of 2048 bits that is a power of 65537 modulo each odd prime up to 167. Nobody knows its factors.
fn roca_modulus() -> Vec<u8> {
    let is_prime = |number: &u32| !(2..*number).any(|by| number.is_multiple_of(by));
    let mut number = (2..=167).filter(is_prime).fold(vec![1], |product, prime| times(&product, prime));
    // An even number of bytes with the highest bit set; then 1 is added, and each factor adds two bytes.
    while !number.len().is_multiple_of(2) || number[0] < 0x80 {
        number = times(&number, 2);
    }
    *number.last_mut().unwrap() |= 1;
    while number.len() < 256 {
        number = times(&number, 65_537);
    }
    number
}

#[test]
fn an_ek_or_ak_of_infineons_faulty_library_is_refused_by_name() {
    let story = Story::new();
    let modulus = roca_modulus();
    assert!(modulus.len() == 256 && modulus[0] >= 0x80);
    // RSA, SHA-256, attributes; AES-128 in CFB mode or none; no scheme or RSASSA with SHA-256; 2048 bits, the exponent 65537.
    let area = |head: &str| {
        let head = hex::decode(head.replace(' ', "")).unwrap();
        STANDARD.encode([&head[..], &[1, 0], &modulus].concat())
    };
    let ek = area("0001 000b 000300f2 0000 0006 0080 0043 0010 0800 00000000");
    let ak = area("0001 000b 00050072 0000 0010 0014 000b 0800 00000000");
    let good = evidence(&story.tpm, &[], true);
    for (body, code) in
        [(TpmEvidence { ek, ..good.clone() }, "tpm-ek-unsound"), (TpmEvidence { ak, ..good }, "tpm-ak-unsound")]
    {
        let error = story.judge.ask(&body, story.for_key()).unwrap_err();
        assert!(error.starts_with(code) && error.contains("ROCA, CVE-2017-15361"), "{error}");
    }
}

#[test]
fn the_operator_is_told_what_in_the_file_of_anchors_cannot_be_used() {
    let maker = Maker::named("Maker CA");
    let judge = Judge::new("", &maker);
    let sources = judge.attestor.documents();
    assert_eq!(sources, [DocumentSource::File("/etc/lychgate/anchors.pem".into())]);
    let told = |text: &str| judge.attestor.complaints(&sources[0], text.as_bytes(), None, NOW);
    assert_eq!(told(&maker.pem()), Vec::<String>::new());
    let leaf = pki::to_pem("CERTIFICATE", &maker.certify(&SoftTpm::new(), 2050));
    let broken = "-----BEGIN CERTIFICATE-----\n???\n-----END CERTIFICATE-----\n";
    let all = told(&format!("{leaf}{broken}{}", maker.pem()));
    let starts = ["certificate 1, of `the EK`, is not of a CA", "certificate 2 cannot be read"];
    assert!(all.len() == 2 && all.iter().zip(starts).all(|(says, start)| says.starts_with(start)), "{all:#?}");
    for (text, says) in [
        (
            leaf.as_str(),
            "none of the 1 certificates can be used; the first: certificate 1, of `the EK`, is not of a CA",
        ),
        ("nothing", "the text holds no `-----BEGIN CERTIFICATE-----` block; machines with a TPM cannot join"),
    ] {
        let all = told(text);
        assert!(all.len() == 1 && all[0].starts_with(says), "{all:#?}");
    }
    assert!(build(None).unwrap().unwrap().documents().is_empty());
}

/// One that cannot be used takes nothing from the others.
#[test]
fn a_file_with_one_anchor_that_cannot_be_used_still_counts() {
    let mut story = Story::new();
    let leaf = pki::to_pem("CERTIFICATE", &story.certificate());
    story.judge.anchors.insert_str(0, &leaf);
    assert_eq!(text(&story.told(&[story.certificate()], |_, _| {}).unwrap(), "chain"), "verified");
}

/// Certificates come in any order, and of each EK; each is judged by itself.
#[test]
fn one_certificate_that_holds_is_enough() {
    let story = Story::new();
    let good = story.certificate();
    let other = story.maker.certify(&SoftTpm::new(), 2050);
    let mut forged = story.maker.certify(&story.tpm, 2060);
    *forged.last_mut().unwrap() ^= 1;
    let stranger = Maker::named("Another CA").certify(&story.tpm, 2050);
    let chain = |certificates: &[&Vec<u8>]| {
        let certificates: Vec<Vec<u8>> = certificates.iter().map(|der| der.to_vec()).collect();
        story.told(&certificates, |_, _| {}).map(|claims| text(&claims, "chain"))
    };
    for given in [[&good, &other, &forged, &stranger], [&forged, &stranger, &other, &good]] {
        assert_eq!(chain(&given), Ok("verified".to_owned()));
    }
    assert_eq!(chain(&[&forged, &stranger]), Ok("unknown-issuer".to_owned()));
    assert!(chain(&[&forged, &other]).unwrap_err().starts_with("tpm-ek-certificate"));
    assert!(chain(&[&other]).unwrap_err().contains("none of the certificates is of this EK"));
}
