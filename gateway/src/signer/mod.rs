//! The gateway's keys: the authority's, the one that signs join tokens, and the gateway's own TLS key.
//!
//! What signs is a [`pki::CaKey`]; each way of holding such keys is one file here, and this is the list:
//! [`file`](self::file).
//!
//! ```text
//! <data_dir>/ca/root.pem     the root's certificate, for everybody
//! <data_dir>/ca/root.key     the root's key; may be taken offline, the gateway runs without it
//! <data_dir>/ca/root.crl     the root's revocation list
//! <data_dir>/ca/<role>.pem   the issuing CA of machine, person and gateway
//! <data_dir>/ca/<role>.key
//! <data_dir>/ca/ssh-user.key signs SSH certificates of people
//! <data_dir>/ca/ssh-host.key signs SSH certificates of machines
//! <data_dir>/token.key       signs join tokens (ES256)
//! ```

mod door;
mod file;
mod leaf;
pub mod offline;
mod ssh;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use pki::{
    AnchorError, BadList, CaError, CaKey, IssueError, IssuingCa, KeyAlgorithm, KeyDigest, KeyError, LintError,
    ListInfo, PemError, Role, Root, Serial, SoftwareKey, SshCa, SshError, SshKey, SshKind, TrustAnchors, TrustDomain,
};
use thiserror::Error;
use zeroize::Zeroizing;

use self::offline::{ROOT_LIST, root_list};
pub use self::{
    door::{Committed, SignError, Signed, Signer},
    file::Passphrase,
    leaf::{GatewayLeaf, LeafKey},
    ssh::SshCas,
};
use crate::{
    core::{ca_end::CaEnds, own_leaf::Validity},
    ports::{
        clock::Clock,
        entropy::Entropy,
        files::{self, Access, Existing, FileError},
    },
};

/// Years a root lasts: longer than the machines it vouches for, and replaced in slots well before.
const ROOT_YEARS: u32 = 20;

/// The algorithm of the keys we make: a P-384 issuing key signs five times slower, and Ed25519 is unknown to too many
/// clients.
const ALGORITHM: KeyAlgorithm = KeyAlgorithm::P256;

const CERTIFICATE: &str = "CERTIFICATE";

/// The label of a revocation list (RFC 7468 7).
const LIST: &str = "X509 CRL";

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
    #[error("`{path}` does not exist, and `lychgate-gateway init` alone makes keys; restore it from a backup")]
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
}

/// The key that signs join tokens, as far as this layer knows it.
pub struct TokenSecret {
    /// PKCS#8.
    pub pkcs8: Zeroizing<Vec<u8>>,
    /// The uncompressed public point.
    pub public_point: Vec<u8>,
}

impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSecret(..)")
    }
}

/// The authority, ready to issue.
pub struct CaSet {
    domain: TrustDomain,
    root_der: Vec<u8>,
    pin: KeyDigest,
    machine: Issuing,
    person: Issuing,
    gateway: Issuing,
    anchors: Arc<TrustAnchors>,
    bundle_pem: String,
    root_list: Option<(Vec<u8>, ListInfo)>,
    ends: CaEnds,
    token: TokenSecret,
    ssh: SshCas,
}

struct Issuing {
    ca: IssuingCa,
    pem: String,
}

impl fmt::Debug for CaSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CaSet({} {})", self.domain, self.pin)
    }
}

impl CaSet {
    /// Makes a new authority that lies in no file and ends with the process; for trials and tests.
    ///
    /// # Errors
    /// [`SignerError`].
    pub fn ephemeral(domain: &TrustDomain, clock: &Clock, entropy: &Entropy) -> Result<Self, SignerError> {
        Self::ephemeral_behind(|key| Arc::new(key), domain, clock, entropy)
    }

    /// The same, with each key of a certificate authority behind what holds it.
    ///
    /// # Errors
    /// [`SignerError`].
    pub fn ephemeral_behind(
        hold: impl Fn(SoftwareKey) -> Arc<dyn CaKey>,
        domain: &TrustDomain,
        clock: &Clock,
        entropy: &Entropy,
    ) -> Result<Self, SignerError> {
        let made = Made::new(hold, domain, clock, entropy)?;
        let ssh = SshCas::ephemeral()?;
        Self::assemble(Path::new(""), domain, made.parts(ssh), clock)
    }

    /// Makes a new authority under `data_dir`.
    ///
    /// # Errors
    /// [`SignerError`]; never overwrites a file.
    pub fn create(
        data_dir: &Path,
        domain: &TrustDomain,
        passphrase: &Passphrase,
        clock: &Clock,
        entropy: &Entropy,
    ) -> Result<Self, SignerError> {
        let dir = data_dir.join("ca");
        if files::exists(&dir) {
            return Err(SignerError::Exists { path: dir });
        }
        let made = Made::new(|key| Arc::new(key), domain, clock, entropy)?;
        files::make_private_dir(&dir)?;
        file::save_key(&dir.join("root.key"), &made.root_key, passphrase, entropy)?;
        for (ca, key) in made.issuing.iter().zip(&made.issuing_keys) {
            file::save_key(&dir.join(format!("{}.key", ca.role())), key, passphrase, entropy)?;
            save_certificate(&dir.join(format!("{}.pem", ca.role())), ca.cert_der())?;
        }
        file::save_key(&data_dir.join("token.key"), &made.token_key, passphrase, entropy)?;
        let ssh = SshCas::create(&dir, passphrase, entropy)?;
        save_list(&dir.join(ROOT_LIST), &made.root_list, Existing::Keep)?;
        // Last: where this file is, all the others are.
        save_certificate(&dir.join("root.pem"), &made.root_der)?;
        Self::assemble(data_dir, domain, made.parts(ssh), clock)
    }

    /// Loads the authority under `data_dir`. The root's key is not touched, so it may be elsewhere. Makes no
    /// key.
    ///
    /// # Errors
    /// [`SignerError`], naming the file and the cure.
    pub fn load(
        data_dir: &Path,
        domain: &TrustDomain,
        passphrase: &Passphrase,
        clock: &Clock,
    ) -> Result<Self, SignerError> {
        let dir = data_dir.join("ca");
        let root = dir.join("root.pem");
        if !files::exists(&root) {
            return Err(SignerError::NoAuthority { path: dir });
        }
        let root_der = load_certificate(&root)?;
        let issuing = |role| load_issuing(&dir, role, domain, passphrase);
        let issuing = [issuing(Role::Machine)?, issuing(Role::Person)?, issuing(Role::Gateway)?];
        let token_key = file::load_own_key(&data_dir.join("token.key"), passphrase)?;
        let ssh = SshCas::load(&dir, passphrase)?;
        let root_list = root_list(data_dir)?;
        Self::assemble(data_dir, domain, Parts { root_der, issuing, token_key, root_list, ssh }, clock)
    }

    fn assemble(data_dir: &Path, domain: &TrustDomain, parts: Parts, clock: &Clock) -> Result<Self, SignerError> {
        let Parts { root_der, issuing, token_key, root_list, ssh } = parts;
        let root_path = || data_dir.join("ca/root.pem");
        let bad_root = |source| SignerError::Root { path: root_path(), source };
        let root = pki::ca_info(&root_der).map_err(|fault| bad_root(AnchorError::Certificate { number: 1, fault }))?;
        let [machine, person, gateway] = issuing.map(|ca| Issuing { pem: pki::to_pem(CERTIFICATE, ca.cert_der()), ca });
        // A root that has ended is checked like any other: it leads nobody in, as each handshake looks at the time, and the
        // gateway must start to say so.
        let at = clock.now().max(root.not_before).min(root.not_after);
        let anchors = TrustAnchors::new(domain, &[&root_der], at).map_err(bad_root)?;
        // A CA certified anew has the key and name it had, so leaves of the older certificate lead to this one too.
        let ours = [machine.ca.cert_der(), person.ca.cert_der()];
        let anchors = anchors
            .with_issuers(&ours)
            .map_err(|source| SignerError::Ca { path: data_dir.join("ca"), source: source.into() })?;
        let pin = pki::root_pin(&root_der).map_err(bad_root)?;
        let token = SoftwareKey::from_pkcs8(&token_key)
            .map_err(|source| SignerError::Key { path: data_dir.join("token.key"), source })?;
        let ends = CaEnds {
            root: root.not_after,
            root_list: root_list.as_ref().and_then(|(_, list)| list.next_update),
            machine: machine.ca.not_after(),
            person: person.ca.not_after(),
            gateway: gateway.ca.not_after(),
        };
        Ok(Self {
            domain: domain.clone(),
            bundle_pem: pki::to_pem(CERTIFICATE, &root_der),
            root_der,
            pin,
            machine,
            person,
            gateway,
            anchors: Arc::new(anchors),
            root_list,
            ends,
            token: TokenSecret { public_point: token.public_key().to_vec(), pkcs8: token_key },
            ssh,
        })
    }

    /// The root's revocation list, DER, and what it says of itself; there is none in a folder older than this.
    #[must_use]
    pub fn root_list(&self) -> Option<(&[u8], ListInfo)> {
        self.root_list.as_ref().map(|(der, info)| (der.as_slice(), *info))
    }

    /// When the root, its list and the issuing CAs end.
    #[must_use]
    pub const fn ends(&self) -> &CaEnds {
        &self.ends
    }

    /// The trust domain.
    #[must_use]
    pub const fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// The CA that signs the leaves of a role, for the [`Signer`] alone.
    const fn issuing(&self, role: Role) -> &IssuingCa {
        &self.of(role).ca
    }

    /// The same for tests that need a certificate no store knows.
    #[cfg(test)]
    #[must_use]
    pub const fn issuing_in_test(&self, role: Role) -> &IssuingCa {
        self.issuing(role)
    }

    /// The certificate of the CA of a role.
    #[must_use]
    pub fn issuing_der(&self, role: Role) -> &[u8] {
        self.issuing(role).cert_der()
    }

    /// When the CA of a role is valid.
    #[must_use]
    pub fn validity(&self, role: Role) -> Validity {
        let ca = self.issuing(role);
        Validity { from: ca.not_before(), until: ca.not_after() }
    }

    /// The certificate, as PEM, of the CA with this key: what a holder sends along with a leaf that it signed.
    #[must_use]
    pub fn chain_pem(&self, issuer: &KeyDigest) -> Option<&str> {
        Role::ALL.map(|role| self.of(role)).into_iter().find(|one| one.ca.key_digest() == *issuer).map(|one| &*one.pem)
    }

    /// The trusted roots as PEM.
    #[must_use]
    pub fn bundle_pem(&self) -> &str {
        &self.bundle_pem
    }

    /// The root's certificate.
    #[must_use]
    pub fn root_der(&self) -> &[u8] {
        &self.root_der
    }

    /// What clients pin: the digest of the root's key.
    #[must_use]
    pub const fn pin(&self) -> KeyDigest {
        self.pin
    }

    /// What a peer's chain must lead to.
    #[must_use]
    pub const fn anchors(&self) -> &Arc<TrustAnchors> {
        &self.anchors
    }

    /// The key of join tokens.
    #[must_use]
    pub const fn token(&self) -> &TokenSecret {
        &self.token
    }

    /// The public key of the CA that signs SSH certificates of a kind.
    #[must_use]
    pub fn ssh(&self, kind: SshKind) -> &SshKey {
        self.ssh.of(kind).public()
    }

    /// The CA that signs SSH certificates of a kind, for the [`Signer`] alone.
    const fn ssh_ca(&self, kind: SshKind) -> &SshCa {
        self.ssh.of(kind)
    }

    const fn of(&self, role: Role) -> &Issuing {
        match role {
            Role::Machine => &self.machine,
            Role::Person => &self.person,
            Role::Gateway => &self.gateway,
        }
    }
}

/// The parts of an authority; `issuing` is for machines, people and gateways.
struct Parts {
    root_der: Vec<u8>,
    issuing: [IssuingCa; 3],
    token_key: Zeroizing<Vec<u8>>,
    root_list: Option<(Vec<u8>, ListInfo)>,
    ssh: SshCas,
}

/// A new authority, before it is written anywhere.
struct Made {
    root_der: Vec<u8>,
    root_list: Vec<u8>,
    root_key: Zeroizing<Vec<u8>>,
    issuing: [IssuingCa; 3],
    issuing_keys: [Zeroizing<Vec<u8>>; 3],
    token_key: Zeroizing<Vec<u8>>,
}

impl Made {
    fn new(
        hold: impl Fn(SoftwareKey) -> Arc<dyn CaKey>,
        domain: &TrustDomain,
        clock: &Clock,
        entropy: &Entropy,
    ) -> Result<Self, SignerError> {
        let now = clock.now();
        let serial = || Serial::from_entropy(entropy.bytes());
        let generate = || SoftwareKey::generate(ALGORITHM).map_err(SignerError::Generate);
        let (key, root_key) = generate()?;
        let root = Root::create(domain, Arc::new(key), serial(), now, ROOT_YEARS)?;
        let issue = |role| {
            let (key, pkcs8) = generate()?;
            Ok::<_, SignerError>((root.issue_ca(role, hold(key), serial(), now)?, pkcs8))
        };
        let (machine, machine_key) = issue(Role::Machine)?;
        let (person, person_key) = issue(Role::Person)?;
        let (gateway, gateway_key) = issue(Role::Gateway)?;
        let (_, token_key) = generate()?;
        Ok(Self {
            root_der: root.cert_der().to_vec(),
            root_list: offline::make_root_list(&root, None, clock.now_ms())?,
            root_key,
            issuing: [machine, person, gateway],
            issuing_keys: [machine_key, person_key, gateway_key],
            token_key,
        })
    }
}

impl Made {
    fn parts(self, ssh: SshCas) -> Parts {
        let list = pki::read_crl(&self.root_list, &self.root_der).ok();
        let root_list = list.map(|info| (self.root_list, info));
        Parts { root_der: self.root_der, issuing: self.issuing, token_key: self.token_key, root_list, ssh }
    }
}

fn load_issuing(
    dir: &Path,
    role: Role,
    domain: &TrustDomain,
    passphrase: &Passphrase,
) -> Result<IssuingCa, SignerError> {
    let path = dir.join(format!("{role}.pem"));
    let key_path = dir.join(format!("{role}.key"));
    let der = load_certificate(&path)?;
    let pkcs8 = file::load_own_key(&key_path, passphrase)?;
    let key = SoftwareKey::from_pkcs8(&pkcs8).map_err(|source| SignerError::Key { path: key_path, source })?;
    let ca =
        IssuingCa::from_parts(&der, Arc::new(key)).map_err(|source| SignerError::Ca { path: path.clone(), source })?;
    if ca.role() != role {
        return Err(SignerError::Role { path, found: ca.role(), wanted: role });
    }
    if ca.domain() != domain {
        return Err(SignerError::Domain { path, found: ca.domain().clone(), wanted: domain.clone() });
    }
    Ok(ca)
}

fn save_certificate(path: &Path, der: &[u8]) -> Result<(), SignerError> {
    let text = pki::to_pem(CERTIFICATE, der);
    Ok(files::write_atomic(path, text.as_bytes(), Access::Public, Existing::Keep)?)
}

fn save_list(path: &Path, der: &[u8], existing: Existing) -> Result<(), SignerError> {
    let text = pki::to_pem(LIST, der);
    Ok(files::write_atomic(path, text.as_bytes(), Access::Public, existing)?)
}

fn load_certificate(path: &Path) -> Result<Vec<u8>, SignerError> {
    pem_of(CERTIFICATE, path)
}

/// The one thing of that label in a file.
fn pem_of(label: &'static str, path: &Path) -> Result<Vec<u8>, SignerError> {
    let text = files::read_text(path)?;
    let found = pki::parse_pem(label, &text).map_err(|source| SignerError::Pem { path: path.to_owned(), source })?;
    <[Vec<u8>; 1]>::try_from(found)
        .map(|[der]| der)
        .map_err(|found| SignerError::Count { path: path.to_owned(), found: found.len() })
}
