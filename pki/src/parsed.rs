//! What the walks of [`crate::ek`] and [`crate::path`] read of certificates of others. What must not be in such a certificate is for the
//! walk to refuse.

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{ExtendedKeyUsage, ParsedExtension};

/// The number of CAs that may be below a CA that signs certificates (RFC 5280 4.2.1.3, 4.2.1.9), `usize::MAX` without a limit; `None`
/// for a certificate of anything else.
pub(crate) fn ca_limit(cert: &X509Certificate<'_>) -> Option<usize> {
    let (mut limit, mut signs) = (None, true);
    for extension in cert.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::BasicConstraints(basic) => {
                let most = basic.path_len_constraint.map_or(usize::MAX, |most| most.try_into().unwrap_or(usize::MAX));
                limit = basic.ca.then_some(most);
            }
            ParsedExtension::KeyUsage(usage) => signs = usage.key_cert_sign(),
            _ => {}
        }
    }
    limit.filter(|_| signs)
}

pub(crate) fn subject_key_id<'a>(cert: &'a X509Certificate<'_>) -> Option<&'a [u8]> {
    cert.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
        _ => None,
    })
}

pub(crate) fn authority_key_id<'a>(cert: &'a X509Certificate<'_>) -> Option<&'a [u8]> {
    cert.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.as_ref().map(|id| id.0),
        _ => None,
    })
}

pub(crate) fn extended_key_usage<'a, 'b>(cert: &'a X509Certificate<'b>) -> Option<&'a ExtendedKeyUsage<'b>> {
    cert.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::ExtendedKeyUsage(usage) => Some(usage),
        _ => None,
    })
}
