//! SSH certificates: a person's to log in with ([`user`]), a machine's for its sshd ([`host`]), and whom to believe.
//!
//! The key is OpenSSH's: it is made and used by its own programs. What the gateway answers is checked before it replaces
//! anything: it must be for this key, of this kind, and signed by the CA it came with.

pub mod host;
pub mod user;

pub use user::{Freshness, UserCert, Wish as UserWish, ensure as ensure_user};

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pki::{Order, Role, SshCertificate, SshKey, SshKind, TrustDomain, UnixTime};
use serde_json::json;
use wire::ssh::{
    HOST_NAMESPACE, SshCaReply, SshReply, SshRequest, USER_NAMESPACE, ca_statement, ordered_ca_statement, proof_message,
};

use crate::core::trust::anchors_of;
use crate::edge::clock;
use crate::edge::enroll::EnrollFace;
use crate::edge::keystore::{Credential, Keystore, SSH_CAS, read_text};
use crate::edge::manage::ManageFace;
use crate::edge::net::{CallError, NetError};
use crate::edge::openssh;
use crate::edge::terminal::{self, Format};
use crate::flow::upkeep;
use crate::platform::{self, Access};
use crate::text::report::{Complaint, Exit};

/// What the gateway last said of its SSH CAs as a file for `UserKnownHostsFile`.
pub const KNOWN_HOSTS: &str = "known_hosts";

/// The SSH CAs of a gateway, each line read as a key, so that nothing else can be in what is printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cas {
    domain: TrustDomain,
    user: Vec<SshKey>,
    host: Vec<SshKey>,
}

impl Cas {
    /// Reads what a gateway says, which must be about our trust domain, no older than what was heard `before`, and signed by its CA for
    /// gateways: the key for TLS alone names nobody to be believed.
    ///
    /// # Errors
    /// When it is about another, or names no CA, or one that is no key, or was not signed by whom we believe.
    fn read(reply: &SshCaReply, credential: &Credential, before: Order, now: UnixTime) -> Result<Self, Complaint> {
        let domain = credential.domain();
        let keys = |lines: &[String]| -> Result<Vec<SshKey>, Complaint> {
            let keys: Result<Vec<SshKey>, _> = lines.iter().map(|line| SshKey::parse(line)).collect();
            match keys {
                Ok(keys) if !keys.is_empty() => Ok(keys),
                Ok(_) => Err(bad_reply("it names no SSH CA")),
                Err(error) => Err(bad_reply(&format!("one of its SSH CAs cannot be used: {error}"))),
            }
        };
        if reply.trust_domain != domain.as_str() {
            return Err(bad_reply("it speaks of another trust domain"));
        }
        let cas = Self { domain: domain.clone(), user: keys(&reply.user)?, host: keys(&reply.host)? };
        vouched(reply, credential, before, now).map_err(|why| {
            let what = format!("the gateway names SSH CAs for which its own CA does not vouch now: {why}");
            Complaint::new(Exit::Untrusted, "bad-reply", what)
                .hint("nothing was taken from it; tell the gateway's operator")
        })?;
        Ok(cas)
    }

    /// Lines for `known_hosts`: every machine's certificate is believed under its DNS name, and under `also`.
    #[must_use]
    pub fn known_hosts(&self, also: &[Pattern]) -> Vec<String> {
        let all = format!("*.machine.{}", self.domain);
        let patterns: Vec<&str> = std::iter::once(all.as_str()).chain(also.iter().map(|one| one.0.as_str())).collect();
        let patterns = patterns.join(",");
        self.host.iter().map(|key| format!("@cert-authority {patterns} {}", key.line())).collect()
    }

    /// Lines for the file that sshd's `TrustedUserCAKeys` names.
    #[must_use]
    pub fn trusted_user_ca(&self) -> Vec<String> {
        self.user.iter().map(|key| format!("{} lychgate@{}", key.line(), self.domain)).collect()
    }
}

/// Whether the CA for gateways signed it.
fn vouched(reply: &SshCaReply, credential: &Credential, before: Order, now: UnixTime) -> Result<(), String> {
    let anchors = anchors_of(credential.domain(), &credential.roots, now)?;
    let ca = pki::parse_pem("CERTIFICATE", &reply.ca).map_err(|error| error.to_string())?;
    let [ca] = ca.as_slice() else { return Err("it is not signed".to_owned()) };
    let order = Order::new(reply.order);
    // Before the signature: what came earlier is signed as well.
    order.check(before).map_err(|error| error.to_string())?;
    let (domain, user, host) = (&reply.trust_domain, &reply.user, &reply.host);
    let (statement, signature) = if order == Order::default() {
        (ca_statement(domain, user, host), &reply.signature)
    } else {
        (ordered_ca_statement(domain, reply.order, user, host), &reply.ordered_signature)
    };
    let signature = STANDARD.decode(signature).map_err(|error| error.to_string())?;
    pki::verify_statement(&statement, &signature, ca, Role::Gateway, &anchors, now).map_err(|error| error.to_string())
}

fn bad_reply(what: &str) -> Complaint {
    Complaint::new(Exit::Failure, "bad-reply", format!("the gateway's reply cannot be used: {what}"))
        .hint("this program may be older than the gateway")
}

/// Lines as text that ends with a line end.
fn text(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// The SSH CAs as the gateway names them now; kept in the folder, with a `known_hosts` for ssh.
async fn fetch_cas(store: &Keystore, credential: &Credential) -> Result<Cas, Complaint> {
    let roots = upkeep::roots_of(credential);
    let mut face = EnrollFace::new(credential.gateway.clone(), roots, credential.pin)?;
    let reply: SshCaReply = face.get("/v1/ssh/ca").await?;
    let cas = Cas::read(&reply, credential, credential.order, face.offset().gateway_time(clock::now()))?;
    let folder = store.ssh_folder()?;
    let kept = serde_json::to_string(&reply).unwrap_or_default();
    store.replace_at(&folder.join(SSH_CAS), &kept, Access::Public)?;
    store.replace_at(&folder.join(KNOWN_HOSTS), &text(&cas.known_hosts(&[])), Access::Public)?;
    Ok(cas)
}

/// The SSH CAs as last heard, if they were.
fn kept_cas(store: &Keystore, credential: &Credential) -> Option<Cas> {
    let kept = read_text(&store.ssh_file(SSH_CAS)).ok()??;
    // It was taken when it came, however much was heard since.
    let (before, now) = (Order::default(), upkeep::gateway_time(store, credential));
    Cas::read(&serde_json::from_str(&kept).ok()?, credential, before, now).ok()
}

/// The SSH CAs: of the gateway, or as last heard while it does not answer.
async fn cas(store: &Keystore, credential: &Credential) -> Result<Cas, Complaint> {
    match fetch_cas(store, credential).await {
        Err(complaint) if complaint.exit == Exit::Unreachable => {
            let kept = kept_cas(store, credential).ok_or_else(|| complaint.clone())?;
            terminal::say(&format!("{complaint}; these are the CAs as last heard"));
            Ok(kept)
        }
        other => other,
    }
}

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

/// A pattern of `known_hosts` that can stand in a list of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// The pattern.
    ///
    /// # Errors
    /// When it would end the list, or mean something else.
    pub fn parse(text: &str) -> Result<Self, String> {
        let ours = |byte: u8| byte.is_ascii_alphanumeric() || b"*?.-_:[]".contains(&byte);
        if !text.is_empty() && text.bytes().all(ours) {
            Ok(Self(text.to_owned()))
        } else {
            Err("write a host name, with `*` and `?` for what may be anything".to_owned())
        }
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who the holder must be for a kind of certificate.
fn require(credential: &Credential, kind: SshKind) -> Result<(), Complaint> {
    let (role, hint) = match kind {
        SshKind::User => (Role::Person, "`lychgate ssh-cert host` is for machines"),
        SshKind::Host => (Role::Machine, "`lychgate ssh-cert user` is for people"),
    };
    if credential.identity.role == role {
        return Ok(());
    }
    let (identity, theirs) = (&credential.facts.identity, role.plural());
    let what = format!("`{identity}` is a {}; SSH {kind} certificates are for {theirs}", credential.identity.role);
    Err(Complaint::new(Exit::Refused, "wrong-caller", what).hint(hint))
}

/// The public half of an SSH key: from the file beside it, or from the key itself.
async fn public_key(key: &Path) -> Result<SshKey, Complaint> {
    let beside = openssh::public_path(&openssh::private_path(key));
    let line = match read_text(&beside)? {
        Some(line) => line,
        None => openssh::public_half(key).await?,
    };
    SshKey::parse(&line).map_err(|error| {
        Complaint::new(
            Exit::Failure,
            "bad-ssh-key",
            format!("the key `{}` cannot be certified: {error}", key.display()),
        )
        .hint("make one with `ssh-keygen -t ed25519`")
    })
}

/// Asks for a certificate, and checks the one that comes.
async fn obtain(credential: &Credential, kind: SshKind, key: &Path, public: &SshKey) -> Result<SshReply, Complaint> {
    let (path, namespace) = match kind {
        SshKind::User => ("/v1/ssh/user", USER_NAMESPACE),
        SshKind::Host => ("/v1/ssh/host", HOST_NAMESPACE),
    };
    let mut face = ManageFace::new(credential)?;
    let mut again = true;
    loop {
        let exporter = face.exporter().await?;
        let signature = openssh::sign(key, namespace, &proof_message(&exporter)).await?;
        let reply = face.post(path, &SshRequest { public_key: public.line(), signature }).await;
        match reply {
            // The gateway may have hung up while somebody typed a passphrase; the next proof is for the next connection.
            Err(CallError::Net(NetError::Broken { .. })) if again => again = false,
            Err(error) => return Err(error.into()),
            Ok(reply) => return check(reply, kind, public),
        }
    }
}

fn check(reply: SshReply, kind: SshKind, public: &SshKey) -> Result<SshReply, Complaint> {
    let cert = SshCertificate::parse(&reply.certificate).map_err(|error| bad_reply(&error.to_string()))?;
    let ca = SshKey::parse(&reply.ca).map_err(|error| bad_reply(&error.to_string()))?;
    cert.check_signed_by(&ca).map_err(|error| bad_reply(&error.to_string()))?;
    if cert.kind() != kind || !cert.certifies(public) {
        return Err(bad_reply("the certificate is for another key, or of another kind"));
    }
    // What is written down of it is what stands in it.
    Ok(SshReply {
        certificate: cert.line(),
        serial: cert.serial().to_string(),
        key_id: cert.key_id().to_owned(),
        principals: cert.principals().to_vec(),
        not_before: cert.valid_after().secs(),
        not_after: cert.valid_before().secs(),
        ..reply
    })
}

/// Writes a certificate where it belongs, in a folder that is made if it is not there.
fn write_certificate(store: &Keystore, path: &Path, reply: &SshReply) -> Result<(), Complaint> {
    if let Some(folder) = path.parent().filter(|folder| !folder.is_dir()) {
        platform::make_folder(folder).map_err(|error| {
            Complaint::new(Exit::Files, "files", format!("cannot make the folder `{}`: {error}", folder.display()))
                .hint("name another place with --out")
        })?;
    }
    store
        .replace_at(path, &format!("{}\n", reply.certificate), Access::Public)
        .map_err(|error| Complaint { hint: Some("name another place with --out".to_owned()), ..Complaint::from(error) })
}

#[cfg(test)]
#[path = "sshcert_tests.rs"]
mod tests;
