//! Name constraints (RFC 5280 4.2.1.10): DNS names, addresses, and permitted directory names. A constraint on another form, or one that
//! cannot be compared here, refuses every certificate that has a name of that form.

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, GeneralSubtree, ParsedExtension};
use x509_parser::x509::X509Name;

use crate::name::check_dns;
use crate::shown::shown;

use super::{PathError, elements, subject};

/// emailAddress, which may stand in a subject (RFC 5280 4.1.2.6).
const EMAIL_ADDRESS: &str = "1.2.840.113549.1.9.1";

/// Checks each certificate against the constraints of all CAs above it. `certs` begins with the leaf.
pub(super) fn check(certs: &[X509Certificate<'_>]) -> Result<(), PathError> {
    for (at, ca) in certs.iter().enumerate() {
        let constraints = ca.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::NameConstraints(constraints) => Some((extension.value, constraints)),
            _ => None,
        });
        let Some((der, constraints)) = constraints else { continue };
        let read = [&constraints.permitted_subtrees, &constraints.excluded_subtrees].into_iter().flatten().count();
        // RFC 5280 4.2.1.10: not empty.
        if read == 0 || elements(der) != Some(read) {
            return Err(PathError::Constraints { by: subject(ca) });
        }
        let permitted = constraints.permitted_subtrees.as_deref().unwrap_or_default();
        let excluded = constraints.excluded_subtrees.as_deref().unwrap_or_default();
        for (below, cert) in certs.iter().enumerate().take(at) {
            // RFC 5280 6.1.3 (b): a self-issued CA is exempt.
            if below > 0 && cert.subject().as_raw() == cert.issuer().as_raw() {
                continue;
            }
            for name in names(cert) {
                allowed(&name, permitted, excluded).map_err(|broken| {
                    let (by, name) = (subject(ca), text(&name));
                    match broken {
                        Broken::Barred => PathError::Constrained { by, name },
                        Broken::NotUnderstood => PathError::ConstraintForm { by, name },
                    }
                })?;
            }
        }
    }
    Ok(())
}

/// Why a name is refused.
enum Broken {
    /// It is not permitted, or excluded.
    Barred,
    /// Whether it is cannot be said here.
    NotUnderstood,
}

fn allowed(
    name: &GeneralName<'_>,
    permitted: &[GeneralSubtree<'_>],
    excluded: &[GeneralSubtree<'_>],
) -> Result<(), Broken> {
    let same_form = |subtree: &&GeneralSubtree<'_>| {
        std::mem::discriminant(&subtree.base) == std::mem::discriminant(name)
            || matches!(subtree.base, GeneralName::Invalid(..))
    };
    if matches!(name, GeneralName::Invalid(..)) {
        return Err(Broken::NotUnderstood);
    }
    let (mut limited, mut within) = (false, false);
    for subtree in permitted.iter().filter(same_form) {
        limited = true;
        within |= is_within(name, &subtree.base).ok_or(Broken::NotUnderstood)?;
    }
    if limited && !within {
        return Err(Broken::Barred);
    }
    for subtree in excluded.iter().filter(same_form) {
        // The same name may be written in several ways, and only one of them is compared.
        if matches!(name, GeneralName::DirectoryName(_))
            || is_within(name, &subtree.base).ok_or(Broken::NotUnderstood)?
        {
            let unsure = matches!(name, GeneralName::DirectoryName(_));
            return Err(if unsure { Broken::NotUnderstood } else { Broken::Barred });
        }
    }
    Ok(())
}

/// Whether a name lies within a base; `None` if that is not understood.
fn is_within(name: &GeneralName<'_>, base: &GeneralName<'_>) -> Option<bool> {
    match (name, base) {
        (GeneralName::DNSName(name), GeneralName::DNSName(base)) => {
            let (name, base) = (name.to_ascii_lowercase(), base.to_ascii_lowercase());
            // A wildcard stands for names inside and outside.
            if name.contains('*') || check_dns(&name).is_err() {
                return None;
            }
            let parent = base.strip_prefix('.');
            let below = name.strip_suffix(parent.unwrap_or(&base)).is_some_and(|rest| rest.ends_with('.'));
            Some(base.is_empty() || below || parent.is_none() && name == base)
        }
        (GeneralName::IPAddress(name), GeneralName::IPAddress(base)) => {
            let (address, mask) = match base.len() {
                8 | 32 => base.split_at(base.len() / 2),
                _ => return None,
            };
            let bits = name.iter().zip(address).zip(mask);
            Some(name.len() == address.len() && bits.into_iter().all(|((name, base), mask)| name & mask == base & mask))
        }
        (GeneralName::DirectoryName(name), GeneralName::DirectoryName(base)) => {
            let names: Vec<_> = name.iter_rdn().collect();
            let base: Vec<_> = base.iter_rdn().collect();
            Some(names.starts_with(&base))
        }
        _ => None,
    }
}

/// The names in a certificate: its subject, and its alternative names.
fn names<'c, 'a>(cert: &'c X509Certificate<'a>) -> Vec<GeneralName<'c>>
where
    'a: 'c,
{
    let mut names: Vec<GeneralName<'c>> = Vec::new();
    let subject: &X509Name<'c> = cert.subject();
    if subject.iter_rdn().next().is_some() {
        names.push(GeneralName::DirectoryName(subject.clone()));
    }
    let mail = subject.iter_attributes().find(|attribute| attribute.attr_type().to_id_string() == EMAIL_ADDRESS);
    names.extend(mail.map(|attribute| GeneralName::RFC822Name(attribute.as_str().unwrap_or_default())));
    for extension in cert.extensions() {
        if let ParsedExtension::SubjectAlternativeName(found) = extension.parsed_extension() {
            names.extend(found.general_names.iter().cloned());
        }
    }
    names
}

fn text(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::DirectoryName(name) => shown(&name.to_string()),
        GeneralName::DNSName(name) | GeneralName::RFC822Name(name) | GeneralName::URI(name) => shown(name),
        other => shown(&other.to_string()),
    }
}
