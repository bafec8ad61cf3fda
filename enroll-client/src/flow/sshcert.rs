//! SSH certificates: of a person for logging in ([`user`]), of a machine for its sshd ([`host`]), and the SSH CAs.
//!
//! OpenSSH's programs make and use the keys. A certificate is checked before it replaces another: it must be for this key, of this
//! kind, and signed by the CA in the reply.

pub mod host;
pub mod user;

pub use user::{Freshness, UserCert, UserCertRequest, ensure as ensure_user};

use std::path::Path;

use pki::{Order, Role, SshKey, SshKind};
use wire::ssh::{HOST_NAMESPACE, SshCaReply, SshReply, SshRequest, USER_NAMESPACE, proof_message};

use crate::core::ssh::{Cas, check, text};
use crate::edge::clock;
use crate::edge::enroll::EnrollFace;
use crate::edge::keystore::{Credential, Keystore, SSH_CAS, read_text};
use crate::edge::manage::ManageFace;
use crate::edge::net::{CallError, NetError};
use crate::edge::openssh;
use crate::edge::terminal;
use crate::flow::upkeep;
use crate::platform::{self, Access};
use crate::text::report::{Complaint, Exit};

/// The last known SSH CAs, as a file for `UserKnownHostsFile`.
pub const KNOWN_HOSTS: &str = "known_hosts";

/// Fetches the SSH CAs and stores them in the folder, with a `known_hosts` for ssh.
async fn fetch_cas(store: &Keystore, credential: &Credential) -> Result<Cas, Complaint> {
    let roots = credential.expected();
    let mut face = EnrollFace::new(credential.gateway.clone(), roots, credential.pin)?;
    let reply: SshCaReply = face.get("/v1/ssh/ca").await?;
    let cas = Cas::read(
        &reply,
        credential.domain(),
        &credential.roots,
        credential.order,
        face.offset().gateway_time(clock::now()),
    )?;
    let folder = store.ssh_folder()?;
    let kept = serde_json::to_string(&reply).unwrap_or_default();
    store.replace_at(&folder.join(SSH_CAS), &kept, Access::Public)?;
    store.replace_at(&folder.join(KNOWN_HOSTS), &text(&cas.known_hosts(&[])), Access::Public)?;
    Ok(cas)
}

/// The stored SSH CAs, if there are any.
fn kept_cas(store: &Keystore, credential: &Credential) -> Option<Cas> {
    let kept = read_text(&store.ssh_file(SSH_CAS)).ok()??;
    // Its order was checked when it was received, and may be smaller than one accepted since.
    let (before, now) = (Order::default(), upkeep::gateway_time(store, credential));
    Cas::read(&serde_json::from_str(&kept).ok()?, credential.domain(), &credential.roots, before, now).ok()
}

/// The SSH CAs from the gateway, or the stored ones while it does not answer.
pub async fn cas(store: &Keystore, credential: &Credential) -> Result<Cas, Complaint> {
    match fetch_cas(store, credential).await {
        Err(complaint) if complaint.exit == Exit::Unreachable => {
            let kept = kept_cas(store, credential).ok_or_else(|| complaint.clone())?;
            terminal::say(&format!("{complaint}; these are the CAs of the last contact"));
            Ok(kept)
        }
        other => other,
    }
}

/// Checks that the identity has the role for a kind of certificate.
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

/// The public key of an SSH key: from the file beside it, or from the key itself.
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

/// Requests a certificate and checks it.
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
            // The gateway may have closed the connection while a passphrase was typed. Retry once, with a proof for a new
            // connection.
            Err(CallError::Net(NetError::Broken { .. })) if again => again = false,
            Err(error) => return Err(error.into()),
            Ok(reply) => return check(reply, kind, public),
        }
    }
}

/// Writes a certificate; creates its folder if needed.
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
