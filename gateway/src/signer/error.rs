//! Why the authority cannot be made, loaded or changed: each names the file, and what to do.

use std::path::PathBuf;

use pki::{
    AnchorError, BadList, CaError, CsrError, IssueError, KeyError, LintError, PemError, RequestError, Role, SshError,
    TrustDomain,
};
use thiserror::Error;

use crate::{core::slots::SlotError, ports::files::FileError};

/// Why the authority cannot be made or loaded.
#[derive(Debug, Error)]
pub enum SignerError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is an authority already.
    #[error(
        "`{path}` already contains an authority; to start again move it away, which ends every certificate that it issued"
    )]
    Exists {
        /// Its folder.
        path: PathBuf,
    },
    /// There is none.
    #[error("`{path}` holds no authority; run `lychgate-gateway init` first")]
    NoAuthority {
        /// The folder looked at.
        path: PathBuf,
    },
    /// A key that is not there. Starting makes none: another key would be another authority.
    #[error(
        "`{path}` does not exist, and only `lychgate-gateway init` and `ca prepare` make keys; restore it from a backup"
    )]
    NoKey {
        /// Where it should be.
        path: PathBuf,
    },
    /// A passphrase of nothing.
    #[error("the passphrase in `{path}` is empty")]
    EmptyPassphrase {
        /// The file.
        path: PathBuf,
    },
    /// The passphrase does not open the file.
    #[error("the passphrase does not decrypt `{path}`; is `[ca] passphrase_file` the one it was made with?")]
    WrongPassphrase {
        /// The key file.
        path: PathBuf,
    },
    /// The key lies open.
    #[error("`{path}` is not encrypted; run `openssl pkcs8 -topk8 -scrypt -in {path}` to encrypt it")]
    NotEncrypted {
        /// The key file.
        path: PathBuf,
    },
    /// It is something else, or damaged.
    #[error("`{path}` is not one encrypted PKCS#8 key in PEM; restore it from a backup")]
    NotAKey {
        /// The key file.
        path: PathBuf,
    },
    /// A key that cannot be encrypted.
    #[error("cannot encrypt the key for `{path}`")]
    Encrypt {
        /// The key file.
        path: PathBuf,
    },
    /// A certificate file that holds no certificate.
    #[error("`{path}` is not a certificate in PEM: {source}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: PemError,
    },
    /// A certificate file that holds several.
    #[error("`{path}` holds {found} certificates instead of one")]
    Count {
        /// The file.
        path: PathBuf,
        /// How many.
        found: usize,
    },
    /// A key of no kind we use.
    #[error("the key in `{path}` cannot be used: {source}")]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: KeyError,
    },
    /// A certificate and key that make no CA.
    #[error("`{path}` and its key make no issuing CA: {source}")]
    Ca {
        /// The certificate's file.
        path: PathBuf,
        /// What is wrong.
        source: CaError,
    },
    /// A key that makes no SSH CA.
    #[error("the key in `{path}` makes no SSH CA: {source}")]
    Ssh {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: SshError,
    },
    /// The CA of another role.
    #[error("`{path}` is the CA for {found} certificates instead of {wanted}; were files exchanged?")]
    Role {
        /// The file.
        path: PathBuf,
        /// Its role.
        found: Role,
        /// The one its name says.
        wanted: Role,
    },
    /// A CA of another trust domain.
    #[error("`{path}` belongs to trust domain `{found}` and the configuration says `{wanted}`")]
    Domain {
        /// The file.
        path: PathBuf,
        /// Its domain.
        found: TrustDomain,
        /// Ours.
        wanted: TrustDomain,
    },
    /// A list that is none, or another's.
    #[error("`{path}` is not the root's revocation list: {source}; make a new one with `lychgate-gateway ca crl`")]
    List {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: BadList,
    },
    /// A list with entries, which we never make.
    #[error(
        "`{path}` lists certificates, which another tool must have put there; renew it with that tool, here they would be lost"
    )]
    ListHasEntries {
        /// The file.
        path: PathBuf,
    },
    /// Something is missing from what was signed elsewhere.
    #[error("`{path}` contains no certificate that can replace `{wanted}`")]
    NotSigned {
        /// What came back.
        path: PathBuf,
        /// Whose successor is missing.
        wanted: PathBuf,
    },
    /// A root that nobody should trust.
    #[error("the root in `{path}` cannot be used: {source}")]
    Root {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: AnchorError,
    },
    /// Making a CA or the gateway's own certificate failed.
    #[error("cannot issue a certificate: {0}")]
    Issue(#[from] IssueError),
    /// The gateway's own certificate breaks a rule.
    #[error("the gateway's own certificate would break a rule: {0}")]
    Lint(#[from] LintError),
    /// The crypto library made no key.
    #[error("cannot make a key: {0}")]
    Generate(#[source] KeyError),
    /// Slots that do not fit each other, or a step that is not the next.
    #[error("`{path}`: {source}")]
    Slots {
        /// Their file.
        path: PathBuf,
        /// What is wrong.
        source: SlotError,
    },
    /// A certificate that is not the one its slot names.
    #[error("`{path}` is not of the key that its slot in `authority.toml` names; were files exchanged?")]
    OtherKey {
        /// The certificate's file.
        path: PathBuf,
    },
    /// A CA that another root signed than its slot says.
    #[error("`{path}` is not signed by the root `{root}`, below which `authority.toml` has it")]
    OtherRoot {
        /// The CA's file.
        path: PathBuf,
        /// The root.
        root: String,
    },
    /// A key that makes no request.
    #[error("the key in `{path}` makes no request: {source}")]
    Csr {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: RequestError,
    },
    /// A request for a new CA that the holder of the root's key has not said what to make of.
    #[error("`{path}` asks for a new issuing CA; say by --new for whom: machine, person or gateway")]
    NewCa {
        /// The request.
        path: PathBuf,
    },
    /// A request that is none.
    #[error("the request for a CA in `{path}` is not good: {source}")]
    BadCsr {
        /// The request.
        path: PathBuf,
        /// What is wrong.
        source: CsrError,
    },
    /// A root that no root before it vouches for: nobody who is away would come to believe it.
    #[error(
        "`{path}` holds no certificate by the active root for `{root}`: who believes that one alone would be stranded"
    )]
    NotVouched {
        /// Where it should be.
        path: PathBuf,
        /// The root.
        root: String,
    },
}
