//! `lychgate tpm fetch`: makers whose TPMs hold no certificate keep it on a server.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tpm::PublicKey;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{complaint, key_type, place};
use crate::cli::{FetchArgs, TpmMaker};
use crate::core::attestation::FetchedCertificate;
use crate::core::ek_server::{self, Maker};
use crate::edge::keystore::Keystore;
use crate::edge::terminal::{self, Format};
use crate::edge::web::{self, WebError};
use crate::evidence::tpm::{EkName, about, endorsement_keys};
use crate::text::report::{Complaint, Exit};

/// Largest file that is read: a certificate has about 1500 bytes.
const FILE_MAX: u64 = 64 * 1024;

/// What others can do, when the server does not answer us.
const BY_HAND: &str = "get the certificate by other means, such as curl on another machine, and give it with --file";

/// `lychgate tpm fetch`.
///
/// # Errors
/// When there is no TPM or it does not answer, its maker keeps no certificates on a server, or the server has none of this TPM.
pub async fn fetch(store: &Keystore, args: &FetchArgs, format: Format) -> Result<(), Complaint> {
    let place = place()?;
    let (about, _) = about(&place).await.map_err(complaint)?;
    let maker = args.maker.map(TpmMaker::maker).or_else(|| Maker::of_tpm(&about.maker));
    if maker.is_none() && args.files.is_empty() {
        let what =
            format!("it is not known that the maker of this TPM ({}) keeps certificates on a server", about.maker);
        return Err(Complaint::new(Exit::Failure, "no-server", what)
            .hint("`lychgate tpm info` shows what is in the TPM; --maker names a maker, --file gives a certificate"));
    }
    let held = |key: &EkName| about.certificates.iter().any(|one| one.index == key.template.certificate_index());
    let keys = endorsement_keys(&place).await.map_err(complaint)?;
    let keys: Vec<EkName> = keys.into_iter().filter(|key| !held(key)).collect();
    if keys.is_empty() {
        terminal::say("the TPM holds the certificates of its endorsement keys itself: there is nothing to get");
    }
    let got = match maker {
        Some(maker) if args.files.is_empty() => from_server(maker, args.from.as_deref(), &keys).await?,
        Some(_) | None => from_files(&args.files, &keys)?,
    };
    store.prepare()?;
    store.change_attestation(|attestation| {
        attestation.fetched.retain(|known| got.iter().all(|new| new.template != known.template));
        attestation.fetched.extend(got.iter().cloned());
    })?;
    let lines: Vec<String> = got.iter().map(|one| format!("stored the certificate from {}", one.from)).collect();
    let value = json!({
        "result": if got.is_empty() { "not-needed" } else { "fetched" },
        "certificates": got.iter().map(|one| json!({ "template": one.template, "from": one.from })).collect::<Vec<_>>(),
    });
    terminal::result(format, &value, &lines.join("\n"));
    Ok(())
}

/// Asks for the certificate of each key. A server may have only one of them.
async fn from_server(maker: Maker, from: Option<&str>, keys: &[EkName]) -> Result<Vec<FetchedCertificate>, Complaint> {
    let (mut got, mut absent) = (Vec::new(), None);
    for key in keys {
        let base = from.unwrap_or(maker.server()).trim_end_matches('/');
        let url = format!("{base}/{}", maker.name(&key.key));
        terminal::say(&format!("asking {url}"));
        let failed = |what: String| Complaint::new(Exit::Failure, "no-certificate", what).hint(BY_HAND);
        let answer = match web::get(&url).await {
            Ok(answer) => answer,
            Err(error) if error.is_absent() => {
                let kind = key_type(&key.key.spki_der());
                absent = Some(failed(format!("{url} has no certificate of the {kind} key of this TPM")));
                continue;
            }
            Err(error) => return Err(unreached(&url, &error)),
        };
        let certificate = maker.certificate(&answer).and_then(|der| of_key(&der, &key.key).map(|()| der));
        let der =
            certificate.map_err(|why| failed(format!("what {url} answers is no certificate of this TPM: {why}")))?;
        got.push(FetchedCertificate {
            template: key.template.name().to_owned(),
            certificate: STANDARD.encode(der),
            from: url,
        });
    }
    match absent {
        Some(absent) if got.is_empty() => Err(absent),
        Some(_) | None => Ok(got),
    }
}

fn unreached(url: &str, error: &WebError) -> Complaint {
    let what = format!("{url}: {error}");
    match error {
        WebError::Url(_) => {
            Complaint::new(Exit::Usage, "usage", what).hint("--from is a URL that begins with https://")
        }
        WebError::Reach { .. } | WebError::Slow => Complaint::new(Exit::Unreachable, "unreachable", what).hint(BY_HAND),
        WebError::NoCas(_)
        | WebError::Broken { .. }
        | WebError::Long
        | WebError::Astray(_)
        | WebError::Redirects
        | WebError::Status(_) => Complaint::new(Exit::Failure, "no-certificate", what).hint(BY_HAND),
    }
}

/// Certificates that a person got.
fn from_files(files: &[impl AsRef<Path>], keys: &[EkName]) -> Result<Vec<FetchedCertificate>, Complaint> {
    let one = |path: &Path| {
        let bad = |why: String| Complaint::new(Exit::Files, "files", format!("`{}`: {why}", path.display()));
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(|error| bad(error.to_string()))?;
        file.take(FILE_MAX).read_to_end(&mut bytes).map_err(|error| bad(error.to_string()))?;
        let der = ek_server::certificate(&bytes);
        let key = keys.iter().find(|key| of_key(&der, &key.key).is_ok());
        let key = key.ok_or_else(|| {
            bad("it is no certificate of an endorsement key for which this TPM holds none".to_owned())
        })?;
        Ok(FetchedCertificate {
            template: key.template.name().to_owned(),
            certificate: STANDARD.encode(der),
            from: path.display().to_string(),
        })
    };
    files.iter().map(|path| one(path.as_ref())).collect()
}

/// That it is a certificate of this key.
fn of_key(der: &[u8], key: &PublicKey) -> Result<(), String> {
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| "it is no certificate".to_owned())?;
    if !rest.is_empty() {
        return Err("something follows the certificate".to_owned());
    }
    match PublicKey::from_spki_der(certificate.public_key().raw) {
        Ok(found) if found == *key => Ok(()),
        Ok(_) | Err(_) => Err("it is of another key".to_owned()),
    }
}
