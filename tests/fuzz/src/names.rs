//! Names in their written form, and text that others wrote. A name has one spelling; a code is taken however it is typed,
//! and no other; and nothing that a stranger says can move the cursor of whoever reads it.

use enroll_client::text;
use enroll_client::text::table::{self, Table};
use gateway::core::name::{choose, legal};
use pki::{GatewayName, Identity, KeyDigest, Name, Role, Serial, TrustDomain, waiting_code};
use policy::{parse_lifetime, show_lifetime};

use crate::Outcome;

/// Judges one input.
pub fn check(data: &[u8]) -> Outcome {
    let text = String::from_utf8_lossy(data);
    let taken = [name(&text), identity(&text), domain(&text), numbers(&text), lifetime(&text), code(&text)];
    shown(&text);
    Outcome::any(&taken)
}

fn name(text: &str) -> bool {
    let Ok(name) = Name::parse(text) else {
        assert!(legal(text).is_err());
        return false;
    };
    assert_eq!(name.to_string(), text);
    assert!(text.len() <= 63 && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
    let key = KeyDigest::from_spki_der(b"key");
    // A name that programs read as something else is one, and is given to nobody.
    assert_eq!(choose(Some(text), &[], Role::Machine, &key).ok(), Some(name).filter(|_| pki::misread(text).is_none()));
    assert!(choose(Some(text), &[format!("{text}-1")], Role::Machine, &key).is_err());
    true
}

fn identity(text: &str) -> bool {
    let Ok(identity) = Identity::parse(text) else { return false };
    assert_eq!(identity.to_string(), text, "a second spelling of one identity");
    assert!(GatewayName::parse(&identity.dns_name()).is_ok() || identity.dns_name().len() > 253);
    true
}

fn domain(text: &str) -> bool {
    let gateway = GatewayName::parse(text).is_ok();
    let Ok(domain) = TrustDomain::parse(text) else { return gateway };
    assert_eq!(domain.as_str(), text);
    assert_eq!(domain.uri(), format!("spiffe://{text}"));
    true
}

fn numbers(text: &str) -> bool {
    let role = Role::parse(text).is_ok_and(|role| role.as_str() == text);
    let serial = Serial::parse_hex(text).is_ok_and(|serial| {
        assert_eq!(serial.hex(), text.to_ascii_lowercase());
        true
    });
    let digest = KeyDigest::parse_hex(text).is_ok_and(|digest| {
        assert_eq!(digest.hex(), text.to_ascii_lowercase());
        true
    });
    role || serial || digest
}

fn lifetime(text: &str) -> bool {
    let Ok(length) = parse_lifetime(text) else { return false };
    assert_eq!(parse_lifetime(&show_lifetime(length)), Ok(length));
    true
}

fn code(text: &str) -> bool {
    let code = waiting_code(&KeyDigest::from_spki_der(b"key"), &KeyDigest::from_spki_der(b"root"), &[1; 16]);
    let shown = code.to_string();
    assert!(code.matches(&shown));
    let plain = |text: &str| -> String {
        let kept = text.chars().filter(|c| *c != '-' && !c.is_whitespace());
        let read = kept.map(|c| match c.to_ascii_uppercase() {
            'O' => '0',
            'I' | 'L' => '1',
            other => other,
        });
        read.collect()
    };
    let taken = code.matches(text);
    assert_eq!(taken, plain(text) == plain(&shown), "{text:?} for {shown}");
    taken
}

fn shown(raw: &str) {
    let plain = |text: &str| text.chars().all(|c| !c.is_control() && !('\u{202a}'..='\u{202e}').contains(&c));
    let safe = text::safe(raw);
    assert!(plain(&safe), "{safe:?}");
    assert_eq!(text::safe(&safe), safe);
    let columns = [table::key("A"), table::prose("B"), table::detail("C")];
    let rows = Table::new("none", &columns, [&raw, &"b"], |cell| vec![(*cell).to_owned(); 3]);
    for width in [None, Some(1), Some(40)] {
        let text = rows.render(width);
        assert!(text.lines().count() == 3 && text.lines().all(plain), "{text:?}");
    }
    let fields = text::fields("  ", &[(raw, raw.to_owned())]);
    assert!(fields.lines().count() == 1 && fields.lines().all(plain), "{fields:?}");
    let _ = text::fingerprint(raw, "  ");
}

/// Each kind of name, and what is nearly one.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let code = waiting_code(&KeyDigest::from_spki_der(b"key"), &KeyDigest::from_spki_der(b"root"), &[1; 16]);
    let texts = [
        "edge-07".to_owned(),
        "xn--80ak6aa92e".to_owned(),
        "\u{435}dge-07".to_owned(),
        "spiffe://lab.example/machine/edge-07".to_owned(),
        "spiffe://lab.example/person/alice/x".to_owned(),
        "lab.example".to_owned(),
        "*.gate.example".to_owned(),
        "[2001:db8::1]".to_owned(),
        "person".to_owned(),
        "2a".repeat(16),
        "0F".repeat(32),
        "12h".to_owned(),
        "90d".to_owned(),
        code.to_string(),
        code.to_string().to_lowercase().replace('-', " "),
        "a\u{1b}[31m\u{202e}b\r\n\u{200b}c".to_owned(),
    ];
    texts.into_iter().map(String::into_bytes).collect()
}
