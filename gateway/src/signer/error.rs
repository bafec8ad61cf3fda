//! Why the authority cannot be created, loaded or changed. Each text names the file and, where there is one, the remedy.

use std::path::PathBuf;

use pki::{
    AnchorError, BadList, CaError, CsrError, IssueError, KeyError, LintError, PemError, RequestError, Role, SshError,
    TrustDomain,
};
use thiserror::Error;

use crate::{core::slots::SlotError, ports::files::FileError};

/// Why the authority cannot be created, loaded or changed.
#[derive(Debug, Error)]
pub enum SignerError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is an authority already.
    #[error(
        "`{path}` already contains an authority; to start again move it away, which ends every certificate that it issued"
    )]
    Exists {
        /// Folder of the authority.
        path: PathBuf,
    },
    /// There is no `authority.toml`.
    #[error("`{path}` holds no authority; run `lychgate-gateway init` first")]
    NoAuthority {
        /// Folder of the authority.
        path: PathBuf,
    },
    /// A key file does not exist. The gateway does not create keys at start: with another key it would be another authority.
    #[error(
        "`{path}` does not exist, and only `lychgate-gateway init` and `ca prepare` make keys; restore it from a backup"
    )]
    NoKey {
        /// The key file.
        path: PathBuf,
    },
    /// The passphrase file is empty.
    #[error("the passphrase in `{path}` is empty")]
    EmptyPassphrase {
        /// The passphrase file.
        path: PathBuf,
    },
    /// The passphrase does not decrypt the key.
    #[error("the passphrase does not decrypt `{path}`; is `[ca] passphrase_file` the one it was made with?")]
    WrongPassphrase {
        /// The key file.
        path: PathBuf,
    },
    /// The key is stored in plain text.
    #[error("`{path}` is not encrypted; run `openssl pkcs8 -topk8 -scrypt -in {path}` to encrypt it")]
    NotEncrypted {
        /// The key file.
        path: PathBuf,
    },
    /// The file is damaged or not a key.
    #[error("`{path}` is not one encrypted PKCS#8 key in PEM; restore it from a backup")]
    NotAKey {
        /// The key file.
        path: PathBuf,
    },
    /// Encrypting a new key failed.
    #[error("cannot encrypt the key for `{path}`")]
    Encrypt {
        /// The key file.
        path: PathBuf,
    },
    /// A certificate file has no PEM block of the expected label.
    #[error("`{path}` is not a certificate in PEM: {source}")]
    Pem {
        /// The certificate file.
        path: PathBuf,
        /// Why it does not parse.
        source: PemError,
    },
    /// A certificate file must have exactly one certificate.
    #[error("`{path}` holds {found} certificates instead of one")]
    Count {
        /// The certificate file.
        path: PathBuf,
        /// Number of certificates in it.
        found: usize,
    },
    /// The key's algorithm is not supported, or its encoding is invalid.
    #[error("the key in `{path}` cannot be used: {source}")]
    Key {
        /// The key file.
        path: PathBuf,
        /// Why not.
        source: KeyError,
    },
    /// The certificate is not a CA's, or does not match its key.
    #[error("`{path}` and its key cannot be used as a CA: {source}")]
    Ca {
        /// The certificate file.
        path: PathBuf,
        /// Why not.
        source: CaError,
    },
    /// The key's algorithm is not one for SSH certificates.
    #[error("the key in `{path}` cannot be used as an SSH CA: {source}")]
    Ssh {
        /// The key file.
        path: PathBuf,
        /// Why not.
        source: SshError,
    },
    /// The CA issues for another role.
    #[error("`{path}` is the CA for {found} certificates instead of {wanted}; were files exchanged?")]
    Role {
        /// The certificate file.
        path: PathBuf,
        /// Role in the certificate.
        found: Role,
        /// Role of the slot.
        wanted: Role,
    },
    /// The CA belongs to another trust domain.
    #[error("`{path}` belongs to trust domain `{found}` and the configuration says `{wanted}`")]
    Domain {
        /// The certificate file.
        path: PathBuf,
        /// Trust domain in the certificate.
        found: TrustDomain,
        /// Trust domain in the configuration.
        wanted: TrustDomain,
    },
    /// The CRL does not parse, or another CA issued it.
    #[error("`{path}` is not the root's revocation list: {source}; make a new one with `lychgate-gateway ca crl`")]
    List {
        /// The CRL file.
        path: PathBuf,
        /// Why not.
        source: BadList,
    },
    /// The root's CRL has entries. The gateway writes it without any, so another tool did.
    #[error(
        "`{path}` lists revoked certificates, which only another tool can have added; renew it with that tool, this one would remove them"
    )]
    ListHasEntries {
        /// The CRL file.
        path: PathBuf,
    },
    /// A certificate is missing from an import.
    #[error("`{path}` contains no certificate that can replace `{wanted}`")]
    NotSigned {
        /// The imported file.
        path: PathBuf,
        /// Certificate file of the issuing CA, or key file of a new one.
        wanted: PathBuf,
    },
    /// The root's certificate is not a valid trust anchor.
    #[error("the root in `{path}` cannot be used: {source}")]
    Root {
        /// The certificate file.
        path: PathBuf,
        /// Why not.
        source: AnchorError,
    },
    /// Signing a CA's or the gateway's own certificate failed.
    #[error("cannot issue a certificate: {0}")]
    Issue(#[from] IssueError),
    /// The gateway's own certificate fails the lint.
    #[error("the gateway's own certificate would break a rule: {0}")]
    Lint(#[from] LintError),
    /// The crypto library failed to generate a key.
    #[error("cannot make a key: {0}")]
    Generate(#[source] KeyError),
    /// `authority.toml` is inconsistent, or the step is not the slot's next one.
    #[error("`{path}`: {source}")]
    Slots {
        /// Path of `authority.toml`.
        path: PathBuf,
        /// Which rule.
        source: SlotError,
    },
    /// The certificate's key is not the one in `authority.toml`.
    #[error("`{path}` is not of the key that its slot in `authority.toml` names; were files exchanged?")]
    OtherKey {
        /// The certificate file.
        path: PathBuf,
    },
    /// Another root signed the CA than `authority.toml` says.
    #[error("`{path}` is not signed by the root `{root}`, which `authority.toml` names for it")]
    OtherRoot {
        /// The CA's certificate file.
        path: PathBuf,
        /// Name of the root in `authority.toml`.
        root: String,
    },
    /// Signing a CSR failed.
    #[error("cannot make a request with the key in `{path}`: {source}")]
    Csr {
        /// The key file.
        path: PathBuf,
        /// Why not.
        source: RequestError,
    },
    /// The request has a CSR for a new CA, whose role the holder of the root's key must name.
    #[error("`{path}` asks for a new issuing CA; give its role with --new: machine, person or gateway")]
    NewCa {
        /// The request file.
        path: PathBuf,
    },
    /// The CSR does not parse, or its signature is wrong.
    #[error("the request for a CA in `{path}` is invalid: {source}")]
    BadCsr {
        /// The request file.
        path: PathBuf,
        /// Why.
        source: CsrError,
    },
    /// There is no cross certificate from the active root to the new one. Clients that trust only the active root could not verify the
    /// new one.
    #[error(
        "`{path}` has no certificate for `{root}` signed by the active root: clients that trust only the active root would be stranded"
    )]
    NotVouched {
        /// Path of `<root>.cross.pem`.
        path: PathBuf,
        /// Name of the new root.
        root: String,
    },
}
