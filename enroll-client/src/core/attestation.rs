//! How a machine proves itself, and where its keys are: what its owner chose when it joined, and which of a TPM's keys was shown.

use serde::{Deserialize, Serialize};

use super::record::VERSION;

/// Which evidence of the machine itself is offered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Offer {
    /// What the machine has and the gateway accepts.
    #[default]
    Auto,
    /// None.
    Nothing,
    /// These kinds, each of which the machine must have and the gateway accept. Not empty.
    Kinds(Vec<String>),
}

impl Offer {
    /// From `auto`, `none`, or kinds with commas between them.
    ///
    /// # Errors
    /// When it is none of these. Which kinds there are is not known here.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "auto" => return Ok(Self::Auto),
            "none" => return Ok(Self::Nothing),
            _ => {}
        }
        let mut kinds: Vec<String> = Vec::new();
        for kind in text.split(',') {
            let plain =
                !kind.is_empty() && kind.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
            match kind {
                "auto" | "none" => return Err(format!("`{kind}` stands alone")),
                _ if !plain => return Err(format!("`{kind}` is no kind of evidence")),
                _ if kinds.iter().any(|known| known == kind) => return Err(format!("`{kind}` stands there twice")),
                _ => kinds.push(kind.to_owned()),
            }
        }
        Ok(Self::Kinds(kinds))
    }

    /// Whether evidence of this kind may be offered.
    #[must_use]
    pub fn allows(&self, kind: &str) -> bool {
        match self {
            Self::Auto => true,
            Self::Nothing => false,
            Self::Kinds(kinds) => kinds.iter().any(|named| named == kind),
        }
    }

    /// The kinds that were named.
    #[must_use]
    pub fn named(&self) -> &[String] {
        match self {
            Self::Auto | Self::Nothing => &[],
            Self::Kinds(kinds) => kinds,
        }
    }
}

impl std::fmt::Display for Offer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Nothing => f.write_str("none"),
            Self::Kinds(kinds) => f.write_str(&kinds.join(",")),
        }
    }
}

impl TryFrom<String> for Offer {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<Offer> for String {
    fn from(offer: Offer) -> Self {
        offer.to_string()
    }
}

/// Where a private key is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyPlace {
    /// In a file.
    #[default]
    File,
    /// In the TPM. The file holds what this TPM alone can use.
    Tpm,
}

impl KeyPlace {
    /// As it is written on the command line and in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Tpm => "tpm",
        }
    }
}

/// Where new keys are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyWish {
    /// There, or not at all.
    In(KeyPlace),
    /// In the TPM if it makes one, else in a file.
    Auto,
}

/// An endorsement key that was shown to the gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownEk {
    /// The standard template that makes it ([`tpm::Template::name`]).
    pub template: String,
    /// SHA-256 of its public key (SubjectPublicKeyInfo), hex: the gateway's claim `tpm_ek`.
    pub key: String,
}

/// A certificate of an endorsement key that its maker's server gave, as the TPM holds none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchedCertificate {
    /// The standard template that makes the key.
    pub template: String,
    /// DER, base64.
    pub certificate: String,
    /// From where.
    pub from: String,
}

/// `attestation.json`. Only `lychgate` writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attestation {
    /// [`VERSION`].
    pub version: u32,
    /// Which evidence is offered.
    #[serde(default)]
    pub attest: Offer,
    /// Where new keys are made.
    #[serde(default)]
    pub key: KeyPlace,
    /// The endorsement key that was shown last. A TPM can have several, and the gateway knows the machine by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ek: Option<KnownEk>,
    /// What `tpm fetch` stored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fetched: Vec<FetchedCertificate>,
}

impl Default for Attestation {
    fn default() -> Self {
        Self { version: VERSION, attest: Offer::default(), key: KeyPlace::default(), ek: None, fetched: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offers_are_read_as_they_are_written() {
        let kinds = |all: &[&str]| Offer::Kinds(all.iter().map(|kind| (*kind).to_owned()).collect());
        for (text, want) in [
            ("auto", Ok(Offer::Auto)),
            ("none", Ok(Offer::Nothing)),
            ("tpm", Ok(kinds(&["tpm"]))),
            ("tpm,ssh-host-key", Ok(kinds(&["tpm", "ssh-host-key"]))),
            ("", Err("`` is no kind of evidence")),
            ("tpm,", Err("`` is no kind of evidence")),
            ("TPM", Err("`TPM` is no kind of evidence")),
            ("tpm,none", Err("`none` stands alone")),
            ("auto,tpm", Err("`auto` stands alone")),
            ("tpm,tpm", Err("`tpm` stands there twice")),
        ] {
            let got = Offer::parse(text);
            assert_eq!(got, want.map_err(str::to_owned), "{text}");
            if let Ok(offer) = got {
                assert_eq!(offer.to_string(), text);
                assert_eq!(serde_json::to_value(&offer).unwrap(), text);
            }
        }
        assert!(Offer::Auto.allows("tpm") && !Offer::Nothing.allows("tpm"));
        assert!(kinds(&["tpm"]).allows("tpm") && !kinds(&["tpm"]).allows("ssh-host-key"));
    }

    #[test]
    fn a_record_of_an_earlier_version_means_the_defaults() {
        assert_eq!(serde_json::from_str::<Attestation>(r#"{"version":1}"#).unwrap(), Attestation::default());
        let text = r#"{"version":1,"attest":"tpm","key":"tpm","ek":{"template":"H-3","key":"ab"}}"#;
        let read: Attestation = serde_json::from_str(text).unwrap();
        assert_eq!((read.attest.named(), read.key), (&["tpm".to_owned()][..], KeyPlace::Tpm));
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
        assert!(serde_json::from_str::<Attestation>(r#"{"version":1,"attest":"tpm,auto"}"#).is_err());
    }
}
