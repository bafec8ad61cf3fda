//! An SSH key and its signatures (OpenSSH's PROTOCOL.sshsig), written out by hand so that a mistake made at both ends is
//! still seen. The end-to-end tests have OpenSSH make them.

use aws_lc_rs::digest::{SHA512, digest};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use pki::{CaKey as _, KeyAlgorithm, SoftwareKey};

/// An Ed25519 key.
pub struct SshHolder(SoftwareKey);

fn string(bytes: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    out.extend_from_slice(bytes);
    out
}

impl SshHolder {
    /// A new one.
    pub fn new() -> Self {
        Self(SoftwareKey::generate(KeyAlgorithm::Ed25519).unwrap().0)
    }

    fn blob(&self) -> Vec<u8> {
        [string(b"ssh-ed25519"), string(self.0.public_key())].concat()
    }

    /// The line of its `.pub` file.
    pub fn line(&self) -> String {
        format!("ssh-ed25519 {} somebody@somewhere", STANDARD.encode(self.blob()))
    }

    /// A signature over a message in a namespace.
    pub fn sign(&self, namespace: &str, message: &[u8]) -> String {
        let hash = digest(&SHA512, message);
        let about = [string(namespace.as_bytes()), string(b""), string(b"sha512")].concat();
        let signed = [b"SSHSIG", about.as_slice(), &string(hash.as_ref())].concat();
        let signature = [string(b"ssh-ed25519"), string(&self.0.sign(&signed).unwrap())].concat();
        let whole = [b"SSHSIG\0\0\0\x01".as_slice(), &string(&self.blob()), &about, &string(&signature)].concat();
        let text = STANDARD.encode(whole);
        let lines: Vec<&str> = text.as_bytes().chunks(70).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN SSH SIGNATURE-----\n{}\n-----END SSH SIGNATURE-----\n", lines.join("\n"))
    }

    /// The proof that goes with a request on a connection.
    pub fn proof(&self, namespace: &str, exporter: [u8; 32]) -> String {
        self.sign(namespace, format!("lychgate ssh key\0{}", hex::encode(exporter)).as_bytes())
    }
}
