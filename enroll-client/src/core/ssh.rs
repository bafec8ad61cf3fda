//! Checks of the gateway's replies about SSH: its SSH CAs, and a certificate for our key.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pki::{Order, Role, SshCertificate, SshKey, SshKind, TrustDomain, UnixTime};
use wire::ssh::{SshCaReply, SshReply, ca_statement, ordered_ca_statement};

use crate::core::trust::anchors_of;
use crate::text::report::{Complaint, Exit};

/// The Ed25519 host key, which every current OpenSSH has.
pub const HOST_KEY: &str = "/etc/ssh/ssh_host_ed25519_key";

/// The SSH CAs of a gateway. Each line was parsed as a key, so that no other text can be printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cas {
    domain: TrustDomain,
    user: Vec<SshKey>,
    host: Vec<SshKey>,
}

impl Cas {
    /// Checks a reply: it must be about our trust `domain`, its order at least `before`, and signed by a CA for gateways under one of
    /// our `roots`. The gateway's TLS key alone cannot sign it.
    ///
    /// # Errors
    /// When a check fails, no CA is named, or a CA is not a key.
    pub fn read(
        reply: &SshCaReply,
        domain: &TrustDomain,
        roots: &[Vec<u8>],
        before: Order,
        now: UnixTime,
    ) -> Result<Self, Complaint> {
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
        vouched(reply, domain, roots, before, now).map_err(|why| {
            let what = format!("the gateway names SSH CAs for which its own CA does not vouch now: {why}");
            Complaint::new(Exit::Untrusted, "bad-reply", what)
                .hint("nothing was taken from it; tell the gateway's operator")
        })?;
        Ok(cas)
    }

    /// Lines for `known_hosts` that accept every machine's certificate under its DNS name and under the patterns `also`.
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

/// Checks order and signature.
fn vouched(
    reply: &SshCaReply,
    domain: &TrustDomain,
    roots: &[Vec<u8>],
    before: Order,
    now: UnixTime,
) -> Result<(), String> {
    let anchors = anchors_of(domain, roots, now)?;
    let ca = pki::parse_pem("CERTIFICATE", &reply.ca).map_err(|error| error.to_string())?;
    let [ca] = ca.as_slice() else { return Err("it is not signed".to_owned()) };
    let order = Order::new(reply.order);
    // A replayed older reply has a valid signature, so the order is checked too.
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

/// The lines, each with a newline.
#[must_use]
pub fn text(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// A pattern of `known_hosts` that can be an element of a comma-separated list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// Refuses characters that end the list or have another meaning in it.
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

/// Checks the certificate in a reply: it must be for the key `public`, of this kind, and signed by the CA in the reply.
pub fn check(reply: SshReply, kind: SshKind, public: &SshKey) -> Result<SshReply, Complaint> {
    let cert = SshCertificate::parse(&reply.certificate).map_err(|error| bad_reply(&error.to_string()))?;
    let ca = SshKey::parse(&reply.ca).map_err(|error| bad_reply(&error.to_string()))?;
    cert.check_signed_by(&ca).map_err(|error| bad_reply(&error.to_string()))?;
    if cert.kind() != kind || !cert.certifies(public) {
        return Err(bad_reply("the certificate is for another key, or of another kind"));
    }
    // The fields come from the certificate, not from the reply.
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

#[cfg(test)]
#[path = "ssh_tests.rs"]
mod tests;
