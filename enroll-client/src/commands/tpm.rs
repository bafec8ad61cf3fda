//! `lychgate tpm`: what this machine's TPM can prove.

pub mod fetch;

use serde_json::{Value, json};
use tpm::{Bank, PublicKey};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::core::ek_server::Maker;
use crate::edge::keystore::Keystore;
use crate::edge::terminal::{self, Format};
use crate::evidence::tpm::{
    About, NO_TPM, NvCertificate, Place, TpmError, VARIABLE, about, certificate, event_log_file,
};
use crate::text;
use crate::text::report::{Complaint, Exit};

/// `lychgate tpm info`.
///
/// # Errors
/// When there is no TPM, or it cannot be opened, or it does not answer.
pub async fn info(store: &Keystore, format: Format) -> Result<(), Complaint> {
    let place = place()?;
    let (about, log) = about(&place).await.map_err(complaint)?;
    let mut certificates: Vec<Shown> = about.certificates.iter().map(Shown::of).collect();
    let fetched = store.attestation()?.fetched;
    certificates.extend(fetched.iter().filter_map(|one| Some(Shown::of_fetched(&certificate(one)?, &one.from))));
    let found = Found { place: &place, about: &about, has_log: log, certificates };
    terminal::result(format, &found.json(), &found.text());
    Ok(())
}

/// The machine's TPM.
fn place() -> Result<Place, Complaint> {
    Place::find().ok_or_else(|| {
        Complaint::new(Exit::Failure, "no-tpm", NO_TPM)
            .hint(format!("a TPM may be switched off in the firmware's setup; {VARIABLE} names another one"))
    })
}

fn complaint(error: TpmError) -> Complaint {
    let what = error.to_string();
    match error {
        TpmError::Open { why, .. } if why.kind() == std::io::ErrorKind::PermissionDenied => {
            Complaint::new(Exit::Files, "tpm", what)
                .hint("run it as root, or let your user into the group of the device (often `tss`)")
        }
        TpmError::Open { .. } => Complaint::new(Exit::Files, "tpm", what),
        TpmError::Io { .. }
        | TpmError::Response(_)
        | TpmError::Codec(_)
        | TpmError::Slow(_)
        | TpmError::EkGone { .. }
        | TpmError::Unusable(_) => Complaint::new(Exit::Failure, "tpm", what),
    }
}

/// What was found.
struct Found<'a> {
    place: &'a Place,
    about: &'a About,
    has_log: bool,
    certificates: Vec<Shown>,
}

/// A certificate as it is shown. What cannot be read is `unknown`.
struct Shown {
    index: u32,
    use_of: &'static str,
    key: String,
    subject: String,
    issuer: String,
    not_after: Option<u64>,
    /// Where it was got, if it is not in the TPM.
    from: Option<String>,
}

impl Shown {
    fn of_fetched(certificate: &NvCertificate, from: &str) -> Self {
        Self { from: Some(from.to_owned()), ..Self::of(certificate) }
    }

    fn of(certificate: &NvCertificate) -> Self {
        let parsed = X509Certificate::from_der(&certificate.der).ok().map(|(_, parsed)| parsed);
        let unknown = || "unknown".to_owned();
        let name = |name: String| if name.is_empty() { "(empty)".to_owned() } else { name };
        Self {
            index: certificate.index,
            use_of: if certificate.is_ca() { "ca" } else { "ek" },
            key: parsed.as_ref().map_or_else(unknown, |parsed| key_type(parsed.public_key().raw)),
            subject: parsed.as_ref().map_or_else(unknown, |parsed| name(pki::shown(&parsed.subject().to_string()))),
            issuer: parsed.as_ref().map_or_else(unknown, |parsed| name(pki::shown(&parsed.issuer().to_string()))),
            not_after: parsed.and_then(|parsed| u64::try_from(parsed.validity().not_after.timestamp()).ok()),
            from: None,
        }
    }

    fn line(&self) -> String {
        let Self { index, use_of, key, subject, issuer, not_after, from } = self;
        let end = not_after.map_or_else(|| "unknown".to_owned(), |end| pki::UnixTime::new(end).to_string());
        let from = from.as_ref().map_or_else(String::new, |from| format!(", from {from}"));
        format!("{use_of} {index:#x}: {key}, subject {subject}, issuer {issuer}, until {end}{from}")
    }
}

fn key_type(spki: &[u8]) -> String {
    match PublicKey::from_spki_der(spki) {
        Ok(PublicKey::Rsa { bits, .. }) => format!("RSA-{}", bits.bits()),
        Ok(PublicKey::Ecc { curve: tpm::Curve::P256, .. }) => "P-256".to_owned(),
        Ok(PublicKey::Ecc { curve: tpm::Curve::P384, .. }) => "P-384".to_owned(),
        Ok(PublicKey::Ecc { curve: tpm::Curve::P521, .. }) => "P-521".to_owned(),
        Err(_) => "unknown".to_owned(),
    }
}

fn bank(bank: Bank) -> String {
    match bank {
        Bank::Sha1 => "sha1".to_owned(),
        Bank::Believed(hash) => hash.as_str().to_owned(),
        Bank::Other(id) => format!("{id:#x}"),
    }
}

impl Found<'_> {
    fn banks(&self) -> Vec<String> {
        self.about.banks.iter().map(|on| bank(*on)).collect()
    }

    fn text(&self) -> String {
        let log = if self.has_log { "readable" } else { "not there, or not readable by this user" };
        let banks = self.banks();
        let mut pairs = vec![
            ("device", self.place.to_string()),
            ("maker", self.about.maker.clone()),
            ("model", self.about.model.clone()),
            ("firmware", self.about.firmware.clone()),
            ("banks", if banks.is_empty() { "none".to_owned() } else { banks.join(", ") }),
            ("event log", log.to_owned()),
        ];
        pairs.extend(self.certificates.iter().map(|certificate| ("certificate", certificate.line())));
        if self.certificates.is_empty() {
            let none = match Maker::of_tpm(&self.about.maker) {
                Some(_) => "none in it: `lychgate tpm fetch` asks the maker's server for them",
                None => "none: the maker left no certificate in it",
            };
            pairs.push(("certificate", none.to_owned()));
        }
        text::fields("", &pairs)
    }

    fn json(&self) -> Value {
        let certificates: Vec<Value> = self
            .certificates
            .iter()
            .map(|certificate| {
                json!({
                    "index": format!("{:#x}", certificate.index),
                    "use": certificate.use_of,
                    "key": certificate.key,
                    "subject": certificate.subject,
                    "issuer": certificate.issuer,
                    "not_after": certificate.not_after,
                    "from": certificate.from,
                })
            })
            .collect();
        json!({
            "device": self.place.to_string(),
            "maker": self.about.maker,
            "model": self.about.model,
            "firmware": self.about.firmware,
            "banks": self.banks(),
            "event_log": self.has_log.then(event_log_file),
            "certificates": certificates,
        })
    }
}
