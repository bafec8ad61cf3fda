//! `x509`: signs with the key of a certificate that another CA gave this machine, such as its manufacturer's (IDevID, IEEE 802.1AR) or a
//! company's. Body: JSON of [`wire::evidence::X509Evidence`].
//!
//! Nothing is looked for: the files are named by [`CERTIFICATE`] and [`KEY`]. They are read for each request, since the certificate may
//! have been replaced meanwhile. A key in a device that is no file is not supported.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pki::UnixTime;
use rustls::SignatureScheme;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use wire::evidence::{X509, X509Evidence, x509_message};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;
use zeroize::Zeroizing;

use super::{Binding, EvidenceError, Known, Prover, Proving};

/// The environment variable that names the file of the certificate, PEM, followed by those of the CAs above it.
const CERTIFICATE: &str = "LYCHGATE_X509_CERT";

/// The environment variable that names the file of the certificate's key, PEM.
const KEY: &str = "LYCHGATE_X509_KEY";

/// Largest file that is read: the gateway takes eight certificates of 8 KiB.
const FILE_MAX: u64 = 96 * 1024;

/// The signatures that the gateway takes, one for each kind of key.
const SCHEMES: [SignatureScheme; 5] = [
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ECDSA_NISTP521_SHA512,
    SignatureScheme::ED25519,
    SignatureScheme::RSA_PKCS1_SHA256,
];

/// What a machine without it is told.
pub const LACKS: &str = "neither `LYCHGATE_X509_CERT` nor `LYCHGATE_X509_KEY` names a file";

/// The prover, if the files are named. With one of two names it fails each time and says so.
pub fn probe(_: Known<'_>) -> Option<Box<dyn Prover>> {
    let named = |variable| std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    let (certificate, key) = (named(CERTIFICATE), named(KEY));
    (certificate.is_some() || key.is_some()).then(|| Box::new(Certificate { certificate, key }) as Box<dyn Prover>)
}

struct Certificate {
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl Certificate {
    fn prove(&self, message: &[u8], now: UnixTime) -> Result<String, String> {
        let certificates = read(self.certificate.as_deref(), CERTIFICATE)?;
        let certificates = String::from_utf8_lossy(&certificates).into_owned();
        // The gateway would only refuse it, and the machine may go on without it.
        check(&certificates, now).map_err(|why| {
            format!("{} {why}", self.certificate.as_deref().unwrap_or(Path::new(CERTIFICATE)).display())
        })?;
        let text = read(self.key.as_deref(), KEY)?;
        let path = self.key.as_deref().unwrap_or(Path::new(KEY)).display();
        let key = PrivateKeyDer::from_pem_slice(&text)
            .map_err(|_| format!("{path} holds no private key in PEM without a passphrase"))?;
        let key = any_supported_type(&key).map_err(|_| format!("{path} is a key of a kind that cannot be used"))?;
        let signer =
            key.choose_scheme(&SCHEMES).ok_or_else(|| format!("{path} is a key of a kind that cannot be used"))?;
        let signature = signer.sign(message).map_err(|error| format!("{path} does not sign: {error}"))?;
        let body = X509Evidence { certificates, signature: STANDARD.encode(signature) };
        serde_json::to_string(&body).map_err(|error| error.to_string())
    }
}

/// Whether there is a certificate that is valid now.
fn check(certificates: &str, now: UnixTime) -> Result<(), String> {
    let ders = pki::parse_pem("CERTIFICATE", certificates).map_err(|_| "holds no certificate in PEM".to_owned())?;
    let first = ders.first().and_then(|der| X509Certificate::from_der(der).ok());
    let (_, first) = first.ok_or_else(|| "holds no certificate in PEM".to_owned())?;
    let now = i64::try_from(now.secs()).unwrap_or(i64::MAX);
    let validity = first.validity();
    if now < validity.not_before.timestamp() {
        return Err(format!("is not valid before {}", validity.not_before));
    }
    if now > validity.not_after.timestamp() {
        return Err(format!("ended at {}", validity.not_after));
    }
    Ok(())
}

fn read(path: Option<&Path>, variable: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    let path = path.ok_or_else(|| format!("{variable} is not set"))?;
    let failed = |error: std::io::Error| format!("{} of {variable}: {error}", path.display());
    let mut bytes = Zeroizing::new(Vec::new());
    let read = File::open(path).and_then(|file| file.take(FILE_MAX + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if u64::try_from(read).unwrap_or(u64::MAX) > FILE_MAX {
        return Err(format!("{} of {variable} is larger than {FILE_MAX} bytes", path.display()));
    }
    Ok(bytes)
}

impl Prover for Certificate {
    fn kind(&self) -> &'static str {
        X509
    }

    fn body<'a>(&'a self, binding: Binding<'a>, _: Option<&'a str>) -> Proving<'a> {
        let Binding { exporter, new_key, domain, now, inside: _ } = binding;
        let message = x509_message(domain.as_str(), exporter, new_key.as_bytes());
        Box::pin(std::future::ready(self.prove(&message, now).map_err(EvidenceError::Machine)))
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use pki::{KeyDigest, TrustDomain, UnprovenLeaf};

    use super::*;

    fn openssl(folder: &Path, line: &str) {
        let done = Command::new("openssl").args(line.split(' ')).current_dir(folder).output().unwrap();
        assert!(done.status.success(), "{line}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// Today, by `date`: `openssl` makes certificates that begin now.
    fn now() -> UnixTime {
        let told = Command::new("date").arg("+%s").output().unwrap().stdout;
        UnixTime::new(String::from_utf8_lossy(&told).trim().parse().unwrap())
    }

    async fn body(folder: &Path) -> Result<X509Evidence, EvidenceError> {
        body_at(folder, now()).await
    }

    async fn body_at(folder: &Path, now: UnixTime) -> Result<X509Evidence, EvidenceError> {
        let prover = Certificate { certificate: Some(folder.join("cert.pem")), key: Some(folder.join("key.pem")) };
        let (digest, domain) = (KeyDigest::from_spki_der(b"key"), TrustDomain::parse("td.example").unwrap());
        let binding = Binding { exporter: &[9; 32], new_key: &digest, inside: None, domain: &domain, now };
        let text = prover.body(binding, None).await?;
        Ok(serde_json::from_str(&text).unwrap())
    }

    /// In each form in which `openssl` writes keys.
    #[tokio::test]
    async fn every_kind_of_key_signs_as_the_gateway_checks_it() {
        let room = tempfile::tempdir().unwrap();
        let (folder, digest) = (room.path(), hex::encode(KeyDigest::from_spki_der(b"key").as_bytes()));
        let signed =
            format!("lychgate x509 v1\ntrust-domain td.example\nconnection {}\nkey {digest}\n", "09".repeat(32));
        for make in [
            "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem",
            "ecparam -name secp384r1 -genkey -noout -out key.pem",
            "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-521 -out key.pem",
            "genpkey -algorithm ed25519 -out key.pem",
            "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out key.pem",
            "genrsa -traditional -out key.pem 2048",
        ] {
            openssl(folder, make);
            openssl(
                folder,
                "req -x509 -new -key key.pem -subj /CN=web1 -addext basicConstraints=CA:FALSE -out cert.pem",
            );
            let made = body(folder).await.unwrap();
            let ders = pki::parse_pem("CERTIFICATE", &made.certificates).unwrap();
            let signature = STANDARD.decode(&made.signature).unwrap();
            assert_eq!(UnprovenLeaf::first(&ders).unwrap().signed(signed.as_bytes(), &signature), Ok(()), "{make}");
        }
    }

    #[tokio::test]
    async fn what_is_missing_is_named() {
        let room = tempfile::tempdir().unwrap();
        let why = async || body(room.path()).await.unwrap_err().to_string();
        assert!(why().await.contains("cert.pem of LYCHGATE_X509_CERT: "), "{}", why().await);
        openssl(room.path(), "genpkey -algorithm ed25519 -aes256 -pass pass:secret -out key.pem");
        openssl(room.path(), "genpkey -algorithm ed25519 -out cert.pem");
        assert!(why().await.ends_with("cert.pem holds no certificate in PEM"), "{}", why().await);
        openssl(room.path(), "req -x509 -newkey ed25519 -noenc -keyout other.pem -days 1 -subj /CN=a -out cert.pem");
        assert!(why().await.ends_with("key.pem holds no private key in PEM without a passphrase"), "{}", why().await);
        openssl(room.path(), "genpkey -algorithm X25519 -out key.pem");
        assert!(why().await.ends_with("is a key of a kind that cannot be used"), "{}", why().await);
        let half = Certificate { certificate: Some(room.path().join("cert.pem")), key: None };
        assert_eq!(half.prove(b"", now()).unwrap_err(), "LYCHGATE_X509_KEY is not set");
    }

    #[tokio::test]
    async fn a_certificate_that_has_ended_is_not_shown() {
        let room = tempfile::tempdir().unwrap();
        openssl(room.path(), "req -x509 -newkey ed25519 -noenc -keyout key.pem -days 1 -subj /CN=web1 -out cert.pem");
        assert!(body(room.path()).await.is_ok());
        let why = async |now| body_at(room.path(), now).await.unwrap_err().to_string();
        let days = std::time::Duration::from_secs(2 * 86_400);
        assert!(why(now().plus(days)).await.contains("cert.pem ended at "));
        assert!(why(now().minus(days)).await.contains("cert.pem is not valid before "));
    }
}
