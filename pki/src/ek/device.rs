//! What an EK certificate says of its TPM (TCG EK Credential Profile 3.1.2): maker, model and firmware, attributes of a directory name
//! among the alternative names.

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};

use crate::shown::shown_within;

/// tcg-at-tpmManufacturer.
const MAKER: &str = "2.23.133.2.1";
/// tcg-at-tpmModel.
const MODEL: &str = "2.23.133.2.2";
/// tcg-at-tpmVersion.
const FIRMWARE: &str = "2.23.133.2.3";

/// Longest value kept, in characters: models have up to twenty.
const VALUE_MAX: usize = 64;

/// A TPM in the words of a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EkDevice {
    /// Who made it, by the TCG's registry of vendors, such as `IFX`, `STM` or `INTC`.
    pub maker: Option<String>,
    /// The maker's name for it.
    pub model: Option<String>,
    /// The version of its firmware, as its maker counts.
    pub firmware: Option<String>,
}

impl EkDevice {
    /// The attributes may stand in one relative name or in three; the first of each counts.
    pub(super) fn of(cert: &X509Certificate<'_>) -> Self {
        let mut device = Self::default();
        for extension in cert.extensions() {
            let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() else { continue };
            for name in &names.general_names {
                let GeneralName::DirectoryName(name) = name else { continue };
                for attribute in name.iter_attributes() {
                    let Some(value) = attribute.as_str().ok().and_then(text) else { continue };
                    let (place, value) = match attribute.attr_type().to_id_string().as_str() {
                        MAKER => (&mut device.maker, maker(&value)),
                        MODEL => (&mut device.model, value),
                        FIRMWARE => (&mut device.firmware, number(&value).to_owned()),
                        _ => continue,
                    };
                    place.get_or_insert(value);
                }
            }
        }
        device
    }
}

/// A value, as people read it.
fn text(value: &str) -> Option<String> {
    let text = shown_within(value.trim(), VALUE_MAX);
    (!text.is_empty()).then_some(text)
}

/// Without the `id:` before a number.
fn number(value: &str) -> &str {
    value.strip_prefix("id:").unwrap_or(value)
}

/// A vendor's id, four bytes in hex, is its short name in ASCII, filled up with zeros or blanks. swtpm has the number that IBM has
/// among the vendors of PCI.
fn maker(value: &str) -> String {
    let hex = number(value);
    if hex == "00001014" {
        return "IBM".to_owned();
    }
    let id = u32::from_str_radix(hex, 16).ok().filter(|_| hex.len() == 8).map(u32::to_be_bytes);
    let name = id.and_then(|bytes| String::from_utf8(bytes.to_vec()).ok());
    let name = name.map(|name| name.trim_end_matches(['\0', ' ']).to_owned());
    let name = name.filter(|name| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    name.unwrap_or_else(|| hex.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makers_have_their_short_names() {
        for (value, name) in [
            ("id:49465800", "IFX"),
            ("id:53544D20", "STM"),
            ("id:494E5443", "INTC"),
            ("id:4e544300", "NTC"),
            ("id:414D4400", "AMD"),
            ("id:4D534654", "MSFT"),
            ("id:49424D00", "IBM"),
            ("id:00001014", "IBM"),
            ("id:FFFFF1D0", "FFFFF1D0"),
            ("id:00000000", "00000000"),
            ("id:4946", "4946"),
            ("Infineon", "Infineon"),
            ("id:+1465800", "+1465800"),
        ] {
            assert_eq!(maker(value), name, "{value}");
        }
    }
}
