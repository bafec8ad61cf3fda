//! Evidence of kind `ssh-host-key`: a machine's sshd has a host key, and that key signs for the key to be certified.

use serde::{Deserialize, Serialize};

/// Evidence kind of a signature by an SSH host key.
pub const SSH_HOST_KEY: &str = "ssh-host-key";

/// The namespace of the signature (OpenSSH's PROTOCOL.sshsig).
pub const SSH_HOST_KEY_NAMESPACE: &str = "join@lychgate";

/// Body of the evidence of kind `ssh-host-key`, as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SshHostKey {
    /// The line of the host key's `.pub` file, or of the `-cert.pub` file with its certificate.
    pub public_key: String,
    /// What `ssh-keygen -Y sign` writes, in [`SSH_HOST_KEY_NAMESPACE`] over [`ssh_host_key_message`].
    pub signature: String,
}

/// What the host key signs: four lines that bind it to the gateway, to this connection and to the key to be certified.
#[must_use]
pub fn ssh_host_key_message(trust_domain: &str, exporter: &[u8; 32], new_key: &[u8; 32]) -> Vec<u8> {
    super::bound_lines(SSH_HOST_KEY, trust_domain, exporter, new_key)
}
