//! Certificate policies (RFC 5280 6.1), without the tree: mappings map nothing, and limits of the number of certificates count as zero.
//! So what is valid here is valid by RFC 5280.

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;

use super::PathError;

/// anyPolicy (RFC 5280 4.2.1.4).
const ANY_POLICY: &str = "2.5.29.32.0";

/// The policies that are valid for a path, from the leaf upwards with the anchor last. An anchor limits none.
pub(super) fn valid(certs: &[X509Certificate<'_>]) -> Result<Vec<String>, PathError> {
    let path = certs.split_last().map_or(certs, |(_, path)| path);
    let has = |wanted: fn(&ParsedExtension<'_>) -> bool| {
        path.iter().flat_map(|cert| cert.extensions()).any(|extension| wanted(extension.parsed_extension()))
    };
    let any_counts = !has(|extension| matches!(extension, ParsedExtension::InhibitAnyPolicy(_)));
    let mapped = has(|extension| matches!(extension, ParsedExtension::PolicyMappings(_)));
    let explicit = has(|extension| match extension {
        ParsedExtension::PolicyConstraints(constraints) => constraints.require_explicit_policy.is_some(),
        _ => false,
    });
    let mut all = path.iter().map(policies);
    let mut valid = all.next().unwrap_or_default();
    valid.retain(|policy| policy != ANY_POLICY);
    for above in all {
        let any = any_counts && above.iter().any(|policy| policy == ANY_POLICY);
        valid.retain(|policy| any || above.contains(policy));
    }
    if mapped {
        valid.clear();
    }
    if explicit && valid.is_empty() { Err(PathError::NoPolicy) } else { Ok(valid) }
}

/// The policies in one certificate.
fn policies(cert: &X509Certificate<'_>) -> Vec<String> {
    let found = cert.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::CertificatePolicies(policies) => Some(policies),
        _ => None,
    });
    found.into_iter().flatten().map(|policy| policy.policy_id.to_id_string()).collect()
}
