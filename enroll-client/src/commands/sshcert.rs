//! `lychgate ssh-cert`: certificates for people and for a machine's sshd, and the CAs for `ssh` and `sshd`.

use std::path::{Path, PathBuf};

use pki::UnixTime;
use serde_json::json;

use crate::core::ssh::{Cas, Pattern, text};
use crate::edge::keystore::Keystore;
use crate::edge::openssh;
use crate::edge::terminal::{self, Format};
use crate::flow::sshcert::cas;
use crate::flow::sshcert::host::{self, HostCertificate};
use crate::flow::sshcert::user::{UserCertRequest, ensure};
use crate::flow::upkeep;
use crate::text::report::{Complaint, Exit};

/// `lychgate ssh-cert known-hosts`.
///
/// # Errors
/// When there is no identity, or the gateway does not say.
pub async fn print_known_hosts(store: &Keystore, also: &[Pattern], format: Format) -> Result<(), Complaint> {
    print(store, format, |cas| cas.known_hosts(also)).await
}

/// `lychgate ssh-cert trusted-user-ca`.
///
/// # Errors
/// When there is no identity, or the gateway does not say.
pub async fn print_trusted_user_ca(store: &Keystore, format: Format) -> Result<(), Complaint> {
    print(store, format, Cas::trusted_user_ca).await
}

async fn print(store: &Keystore, format: Format, lines: impl FnOnce(&Cas) -> Vec<String>) -> Result<(), Complaint> {
    let credential = upkeep::load(store)?;
    let lines = lines(&cas(store, &credential).await?);
    let value = json!({ "trust_domain": credential.domain().as_str(), "lines": lines });
    terminal::result(format, &value, &text(&lines));
    Ok(())
}

/// Whether to add the key to the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agent {
    /// Do not.
    Leave,
    /// Add it with its certificate, until that expires.
    Add,
}

/// `lychgate ssh-cert user`.
///
/// # Errors
/// As [`ensure`], and when the agent does not take the key.
pub async fn user(store: &Keystore, request: &UserCertRequest, agent: Agent, format: Format) -> Result<(), Complaint> {
    let cert = ensure(store, request).await?;
    let now = upkeep::gateway_time(store, &upkeep::load(store)?);
    if agent == Agent::Add {
        openssh::add_to_agent(&cert.key, cert.valid_before.since(now)).await?;
    }
    let value = json!({
        "result": if cert.kept { "kept" } else { "issued" },
        "key": cert.key,
        "certificate": cert.certificate,
        "known_hosts": cert.known_hosts_file,
        "principals": cert.principals,
        "serial": cert.serial,
        "key_id": cert.key_id,
        "not_after": cert.valid_before.secs(),
        "agent": agent == Agent::Add,
    });
    let line = format!(
        "{}  as {} until {}{}",
        cert.certificate.display(),
        cert.principals.join(", "),
        cert.valid_before,
        if agent == Agent::Add { ", also in the agent" } else { "" }
    );
    terminal::result(format, &value, &line);
    Ok(())
}

/// Parameters of `ssh-cert host`.
#[derive(Clone, Debug)]
pub struct HostCertRequest {
    /// The private host key.
    pub key: PathBuf,
    /// The file of the certificate; beside the key by default.
    pub out: Option<PathBuf>,
    /// A shell command to run now and after each renewal.
    pub reload: Option<String>,
}

/// An absolute path in UTF-8: it is stored, and used by a service with another working directory.
fn named(path: &Path) -> Result<PathBuf, Complaint> {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    if absolute.to_str().is_some() {
        return Ok(absolute);
    }
    Err(Complaint::new(Exit::Usage, "usage", format!("the path `{}` is no text", path.display())))
}

/// `lychgate ssh-cert host`.
///
/// # Errors
/// When the identity is not a machine's, the gateway does not answer or refuses, or a file or program fails.
pub async fn host(store: &Keystore, request: &HostCertRequest, format: Format) -> Result<(), Complaint> {
    let credential = upkeep::load_valid(store)?;
    let key = openssh::private_path(&named(&request.key)?);
    let certificate = match &request.out {
        Some(out) => named(out)?,
        None => openssh::certificate_path(&key),
    };
    let reload = request.reload.clone();
    let wanted = HostCertificate { key, certificate, reload, by: String::new(), not_after: 0 };
    let (done, trouble) = host::keep(store, &credential, wanted).await?;
    if let Some(trouble) = trouble {
        terminal::say(&trouble);
    }
    let value = json!({
        "result": "issued",
        "key": done.key,
        "certificate": done.certificate,
        "not_after": done.not_after,
        "names": [credential.identity.name.as_str(), credential.identity.dns_name()],
    });
    let path = done.certificate.display();
    terminal::say(&format!("sshd shows it once its configuration has the line `HostCertificate {path}`"));
    let until = UnixTime::new(done.not_after);
    terminal::result(format, &value, &format!("{path}  until {until}, renewed with the machine's certificate"));
    Ok(())
}

/// `lychgate ssh-cert host --forget`: no longer renews the certificate of a host key. The file stays until it expires.
///
/// # Errors
/// When it was not renewed in the first place, or the folder cannot be written.
pub async fn forget(store: &Keystore, key: &Path, format: Format) -> Result<(), Complaint> {
    upkeep::load(store)?;
    let key = openssh::private_path(&named(key)?);
    if !host::forget(store, &key).await? {
        let what = format!("no certificate of `{}` is kept here", key.display());
        return Err(Complaint::new(Exit::Failure, "not-found", what));
    }
    let value = json!({ "result": "forgotten", "key": key });
    terminal::result(format, &value, &format!("the certificate of {} is no longer renewed", key.display()));
    Ok(())
}
