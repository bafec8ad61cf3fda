//! Trust domains, names, roles, and identities: `spiffe://<domain>/<role>/<name>`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use thiserror::Error;

/// Longest name, in bytes: a machine's name is used as a DNS label (RFC 1035 2.3.4).
const LABEL_MAX: usize = 63;
/// Longest trust domain, in bytes: with a name of 63, `<name>.machine.<domain>` must stay within the 253 bytes of a DNS name.
const DOMAIN_MAX: usize = 180;
/// Longest DNS name in text form, in bytes (RFC 1035 2.3.4, without the root's empty label).
const DNS_MAX: usize = 253;

/// The rule that a name breaks, and where.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the error texts say what the variants and fields mean")]
pub enum BadName {
    #[error("the name is empty; give at least one letter or digit")]
    Empty,
    /// Reported only for ASCII text, so bytes are characters.
    #[error("the name has {len} characters and at most {max} are allowed; shorten it")]
    TooLong { len: usize, max: usize },
    /// A character outside `a-z`, `0-9`, `-` (and `.` in a domain). The message contains its code point, because some letters look
    /// like ASCII ones.
    #[error("character {}, `{}` (U+{:04X}), is not allowed; use only a-z, 0-9 and hyphens", .at + 1, .found.escape_debug(), u32::from(*.found))]
    ForbiddenCharacter {
        /// Offset from zero, in characters and in bytes: the characters before it are ASCII.
        at: usize,
        found: char,
    },
    #[error("character {}, a hyphen, starts or ends a label; use a letter or digit there", .at + 1)]
    EdgeHyphen {
        /// Offset of the hyphen, from zero.
        at: usize,
    },
    /// `xn--`: an internationalised label may be displayed like another name.
    #[error("the name starts with `xn--`, which can be drawn to look like another name; choose a plain one")]
    Punycode,
    #[error("the label at character {} is empty; remove the extra dot", .at + 1)]
    EmptyLabel {
        /// Offset where the label should be, from zero.
        at: usize,
    },
    /// A domain such as `10.0.0.1`, which programs read as an address.
    #[error("the last label is a number, so the domain looks like an address; use a name")]
    NumericDomain,
    #[error("the identity does not start with `spiffe://`")]
    NotSpiffe,
    #[error("the identity is not of the form `spiffe://<trust domain>/<role>/<name>`")]
    NotThreeParts,
    #[error("the role is none of machine, person, gateway")]
    UnknownRole,
}

/// The trust domain: a lower-case DNS name such as `kernel.example`; every identity lies in exactly one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TrustDomain(String);

impl TrustDomain {
    /// Accepts `[a-z0-9-]` labels joined by dots: what both SPIFFE (SPIFFE-ID 2.1) and DNS allow.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        limit(text, DOMAIN_MAX)?;
        check_labels(text)?;
        check_not_an_address(text)?;
        Ok(Self(text.to_owned()))
    }

    /// The text, as in certificates.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `spiffe://<domain>`: the identity of the domain's CAs, which has no path (SPIFFE X509-SVID 3.1).
    #[must_use]
    pub fn uri(&self) -> String {
        format!("spiffe://{}", self.0)
    }

    /// The SPIFFE ID of a name that is on record, as text: [`Identity`] is for names that were checked.
    #[must_use]
    pub fn id_of(&self, role: Role, name: &str) -> String {
        format!("{}/{role}/{name}", self.uri())
    }
}

/// The name of a machine, person or gateway within its trust domain: one DNS label.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Name(String);

impl Name {
    /// Accepts `[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`, not starting `xn--`.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        limit(text, LABEL_MAX)?;
        check_label(text, 0)?;
        if text.starts_with("xn--") {
            return Err(BadName::Punycode);
        }
        Ok(Self(text.to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The kind of party that an identity names. Each has its own issuing CA.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Role {
    /// A managed machine.
    Machine,
    /// A human.
    Person,
    /// The gateway itself.
    Gateway,
}

impl Role {
    /// All three, in the order of the issuing CAs.
    pub const ALL: [Self; 3] = [Self::Machine, Self::Person, Self::Gateway];

    /// `machine`, `person` or `gateway`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Machine => "machine",
            Self::Person => "person",
            Self::Gateway => "gateway",
        }
    }

    /// The reverse of [`Role::as_str`].
    pub fn parse(text: &str) -> Result<Self, BadName> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or(BadName::UnknownRole)
    }

    /// `machines`, `people` or `gateways`: the issuing CA's name.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Machine => "machines",
            Self::Person => "people",
            Self::Gateway => "gateways",
        }
    }
}

/// The identity in a certificate: its SPIFFE ID.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Identity {
    /// The trust domain.
    pub domain: TrustDomain,
    /// Machine, person or gateway.
    pub role: Role,
    /// The name within domain and role.
    pub name: Name,
}

impl Identity {
    /// Reads `spiffe://<domain>/<role>/<name>`. Each identity has one spelling, so identities may be compared as text (SPIFFE-ID
    /// 2).
    pub fn parse(uri: &str) -> Result<Self, BadName> {
        let rest = uri.strip_prefix("spiffe://").ok_or(BadName::NotSpiffe)?;
        let mut parts = rest.split('/');
        let (Some(domain), Some(role), Some(name), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(BadName::NotThreeParts);
        };
        Ok(Self { domain: TrustDomain::parse(domain)?, role: Role::parse(role)?, name: Name::parse(name)? })
    }

    /// `<name>.<role>.<domain>`, such as `build-7.machine.kernel.example`.
    #[must_use]
    pub fn dns_name(&self) -> String {
        format!("{}.{}.{}", self.name, self.role, self.domain)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/{}/{}", self.domain, self.role, self.name)
    }
}

/// A name or address by which clients reach a gateway.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum GatewayName {
    /// A DNS name, lower case; the leftmost label may be `*`.
    Dns(String),
    /// An address.
    Ip(IpAddr),
}

impl GatewayName {
    /// Reads an address (brackets around IPv6 allowed) or a DNS name.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Ok(Self::Ip(address));
        }
        let lower = text.to_ascii_lowercase();
        check_dns(&lower)?;
        Ok(Self::Dns(lower))
    }
}

/// Checks a DNS name for a certificate: lower-case labels, of which the first may be `*` if another follows (RFC 9525 6.3).
pub(crate) fn check_dns(text: &str) -> Result<(), BadName> {
    limit(text, DNS_MAX)?;
    let rest = text.strip_prefix("*.").unwrap_or(text);
    limit(rest, DNS_MAX)?;
    check_labels(rest)?;
    check_not_an_address(rest)
}

/// Programs read a name whose last label is a number, decimal or hexadecimal, as an IPv4 address: `inet_aton`, and with it
/// OpenSSH, and every browser ("ends in a number" in the URL standard).
fn check_not_an_address(text: &str) -> Result<(), BadName> {
    let last = text.rsplit('.').next().unwrap_or(text);
    let decimal = last.bytes().all(|b| b.is_ascii_digit());
    let hexadecimal = last.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_hexdigit()));
    if decimal || hexadecimal { Err(BadName::NumericDomain) } else { Ok(()) }
}

fn limit(text: &str, max: usize) -> Result<(), BadName> {
    match text.len() {
        0 => Err(BadName::Empty),
        // Text that is not ASCII is refused for its character, with the code point.
        len if len > max && text.is_ascii() => Err(BadName::TooLong { len, max }),
        _ => Ok(()),
    }
}

fn check_labels(text: &str) -> Result<(), BadName> {
    let mut at = 0;
    for label in text.split('.') {
        check_label(label, at)?;
        at += label.len() + 1;
    }
    Ok(())
}

/// Checks one DNS label (RFC 1123 2.1, lower case only) that starts at byte `base` of the text.
fn check_label(label: &str, base: usize) -> Result<(), BadName> {
    let ours = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if let Some((at, found)) = label.char_indices().find(|(_, c)| !ours(*c)) {
        return Err(BadName::ForbiddenCharacter { at: base + at, found });
    }
    match label.len() {
        0 => return Err(BadName::EmptyLabel { at: base }),
        len if len > LABEL_MAX => return Err(BadName::TooLong { len, max: LABEL_MAX }),
        _ => {}
    }
    if label.starts_with('-') {
        return Err(BadName::EdgeHyphen { at: base });
    }
    if label.ends_with('-') {
        return Err(BadName::EdgeHyphen { at: base + label.len() - 1 });
    }
    Ok(())
}

/// `Display`, `FromStr` and `AsRef<str>` by the plain text.
macro_rules! as_text {
    ($($ty:ty),*) => {$(
        impl fmt::Display for $ty {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl FromStr for $ty {
            type Err = BadName;
            fn from_str(text: &str) -> Result<Self, BadName> {
                Self::parse(text)
            }
        }
        impl AsRef<str> for $ty {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }
    )*};
}
as_text!(TrustDomain, Name, Role);

impl FromStr for Identity {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        Self::parse(text)
    }
}

impl FromStr for GatewayName {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        Self::parse(text)
    }
}

impl fmt::Display for GatewayName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    #[track_caller]
    fn check_name(text: &str, want: Result<(), BadName>) {
        assert_eq!(Name::parse(text).map(|name| assert_eq!(name.as_str(), text)), want, "{text:?}");
    }

    #[test]
    fn names() {
        check_name("a", Ok(()));
        check_name("7", Ok(()));
        check_name("build-7", Ok(()));
        check_name("a--b", Ok(()));
        check_name(&"x".repeat(63), Ok(()));
        check_name(&"x".repeat(64), Err(BadName::TooLong { len: 64, max: 63 }));
        check_name("", Err(BadName::Empty));
        check_name("A", Err(BadName::ForbiddenCharacter { at: 0, found: 'A' }));
        check_name("a_b", Err(BadName::ForbiddenCharacter { at: 1, found: '_' }));
        check_name("a.b", Err(BadName::ForbiddenCharacter { at: 1, found: '.' }));
        check_name("a b", Err(BadName::ForbiddenCharacter { at: 1, found: ' ' }));
        check_name("a\0", Err(BadName::ForbiddenCharacter { at: 1, found: '\0' }));
        check_name("\u{430}", Err(BadName::ForbiddenCharacter { at: 0, found: '\u{430}' }));
        check_name("-a", Err(BadName::EdgeHyphen { at: 0 }));
        check_name("a-", Err(BadName::EdgeHyphen { at: 1 }));
        check_name("xn--80ak6aa92e", Err(BadName::Punycode));
    }

    #[track_caller]
    fn check_domain(text: &str, want: Result<(), BadName>) {
        assert_eq!(TrustDomain::parse(text).map(|_| ()), want, "{text:?}");
    }

    #[test]
    fn domains() {
        check_domain("kernel.example", Ok(()));
        check_domain("lab", Ok(()));
        check_domain("a.1b", Ok(()));
        check_domain("", Err(BadName::Empty));
        check_domain("kernel..example", Err(BadName::EmptyLabel { at: 7 }));
        check_domain(".example", Err(BadName::EmptyLabel { at: 0 }));
        check_domain("example.", Err(BadName::EmptyLabel { at: 8 }));
        check_domain("Kernel.example", Err(BadName::ForbiddenCharacter { at: 0, found: 'K' }));
        check_domain("a.b_c", Err(BadName::ForbiddenCharacter { at: 3, found: '_' }));
        check_domain("a.-b", Err(BadName::EdgeHyphen { at: 2 }));
        check_domain("a:443", Err(BadName::ForbiddenCharacter { at: 1, found: ':' }));
        for address in ["10.0.0.1", "1234", "lab.0x10", "0xff", "0x"] {
            check_domain(address, Err(BadName::NumericDomain));
        }
        check_domain("lab.0x1g", Ok(()));
        check_domain(&format!("{}.example", "x".repeat(64)), Err(BadName::TooLong { len: 64, max: 63 }));
        check_domain(&["abc"; 46].join("."), Err(BadName::TooLong { len: 183, max: 180 }));
    }

    #[track_caller]
    fn check_identity(uri: &str, want: Result<(&str, Role, &str), BadName>) {
        let got = Identity::parse(uri);
        if let Ok(identity) = &got {
            assert_eq!(identity.to_string(), uri, "one spelling only");
        }
        let got = got.map(|id| (id.domain.to_string(), id.role, id.name.to_string()));
        assert_eq!(got, want.map(|(d, r, n)| (d.to_owned(), r, n.to_owned())), "{uri:?}");
    }

    #[test]
    fn identities() {
        check_identity("spiffe://kernel.example/machine/build-7", Ok(("kernel.example", Role::Machine, "build-7")));
        check_identity("spiffe://lab/person/ada", Ok(("lab", Role::Person, "ada")));
        check_identity("spiffe://lab/gateway/g", Ok(("lab", Role::Gateway, "g")));
        check_identity("https://lab/person/ada", Err(BadName::NotSpiffe));
        check_identity("SPIFFE://lab/person/ada", Err(BadName::NotSpiffe));
        check_identity("spiffe://lab", Err(BadName::NotThreeParts));
        check_identity("spiffe://lab/person", Err(BadName::NotThreeParts));
        check_identity("spiffe://lab/person/ada/", Err(BadName::NotThreeParts));
        check_identity("spiffe://lab/person/ada/x", Err(BadName::NotThreeParts));
        check_identity("spiffe://lab/person/", Err(BadName::Empty));
        check_identity("spiffe:///person/ada", Err(BadName::Empty));
        check_identity("spiffe://lab//ada", Err(BadName::UnknownRole));
        check_identity("spiffe://lab/admin/ada", Err(BadName::UnknownRole));
        check_identity("spiffe://lab/Person/ada", Err(BadName::UnknownRole));
        check_identity("spiffe://lab/person/ada?x", Err(BadName::ForbiddenCharacter { at: 3, found: '?' }));
        check_identity("spiffe://lab/person/ada#x", Err(BadName::ForbiddenCharacter { at: 3, found: '#' }));
        check_identity("spiffe://lab/person/%61da", Err(BadName::ForbiddenCharacter { at: 0, found: '%' }));
        check_identity("spiffe://lab/person/..", Err(BadName::ForbiddenCharacter { at: 0, found: '.' }));
        check_identity("spiffe://u@lab/person/ada", Err(BadName::ForbiddenCharacter { at: 1, found: '@' }));
        check_identity("spiffe://lab:1/person/ada", Err(BadName::ForbiddenCharacter { at: 3, found: ':' }));
    }

    #[test]
    fn dns_name_of_a_machine() {
        let id = Identity::parse("spiffe://kernel.example/machine/build-7").unwrap();
        assert_eq!(id.dns_name(), "build-7.machine.kernel.example");
    }

    #[track_caller]
    fn check_gateway_name(text: &str, want: Result<&str, BadName>) {
        assert_eq!(GatewayName::parse(text).map(|n| n.to_string()), want.map(str::to_owned), "{text:?}");
    }

    #[test]
    fn gateway_names() {
        check_gateway_name("gate.kernel.example", Ok("gate.kernel.example"));
        check_gateway_name("GATE.example", Ok("gate.example"));
        check_gateway_name("localhost", Ok("localhost"));
        check_gateway_name("*.gate.example", Ok("*.gate.example"));
        check_gateway_name("192.0.2.1", Ok("192.0.2.1"));
        check_gateway_name("[2001:db8::1]", Ok("2001:db8::1"));
        check_gateway_name("2001:db8::1", Ok("2001:db8::1"));
        check_gateway_name("*", Err(BadName::ForbiddenCharacter { at: 0, found: '*' }));
        check_gateway_name("*.", Err(BadName::Empty));
        check_gateway_name("a.*.example", Err(BadName::ForbiddenCharacter { at: 2, found: '*' }));
        check_gateway_name("192.0.2.300", Err(BadName::NumericDomain));
        check_gateway_name("gate.0x1f", Err(BadName::NumericDomain));
        check_gateway_name("gate.example:443", Err(BadName::ForbiddenCharacter { at: 12, found: ':' }));
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_round_trips(text in any::<String>()) {
            if let Ok(name) = Name::parse(&text) { assert_eq!(name.as_str(), text); }
            if let Ok(domain) = TrustDomain::parse(&text) { assert_eq!(domain.as_str(), text); }
            if let Ok(id) = Identity::parse(&text) { assert_eq!(id.to_string(), text); }
            let _ = GatewayName::parse(&text);
        }

        #[test]
        fn identities_of_the_right_shape_round_trip(
            domain in "[a-z0-9.-]{0,20}", role in "machine|person|gateway|x", name in "[a-z0-9-]{0,70}",
        ) {
            let uri = format!("spiffe://{domain}/{role}/{name}");
            if let Ok(id) = Identity::parse(&uri) { assert_eq!(id.to_string(), uri); }
        }
    }
}
