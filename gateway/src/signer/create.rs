//! A new root with its issuing CAs, created in memory and then written to files.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use pki::{CaKey, IssuingCa, KeyAlgorithm, Role, Root, Serial, SoftwareKey, TrustDomain, UnixTime};
use zeroize::Zeroizing;

use super::{
    CaBuilder, SignerError, SshCas,
    parts::{AuthorityParts, IssuingParts, RootParts},
    roots::make_root_list,
    save_certificates, save_list,
};
use crate::{
    core::{slots::Slots, ticket::TicketKey},
    ports::{clock::Clock, entropy::Entropy, files::Existing},
};

/// Lifetime of a root in years: longer than that of most machines; a root is replaced by rotation well before.
const ROOT_YEARS: u32 = 20;

/// The algorithm of new CA keys: a P-384 key signs five times slower, and too many clients do not support Ed25519.
const ALGORITHM: KeyAlgorithm = KeyAlgorithm::P256;

/// A private key as PKCS#8.
pub(super) type Pkcs8 = Zeroizing<Vec<u8>>;

pub(super) fn generate() -> Result<(Arc<SoftwareKey>, Pkcs8), SignerError> {
    let (key, pkcs8) = SoftwareKey::generate(ALGORITHM).map_err(SignerError::Generate)?;
    Ok((Arc::new(key), pkcs8))
}

/// Signs a root certificate for this key.
pub(super) fn new_root(
    domain: &TrustDomain,
    key: Arc<dyn CaKey>,
    serial: Serial,
    now: UnixTime,
) -> Result<Root, SignerError> {
    Ok(Root::create(domain, key, serial, now, ROOT_YEARS)?)
}

/// A root with its issuing CAs.
pub(super) struct NewRoot {
    pub root: Root,
    pub root_key: Pkcs8,
    pub list: Vec<u8>,
    /// In the order of [`Role::ALL`].
    pub issuing: [(IssuingCa, Pkcs8); 3],
}

impl NewRoot {
    pub fn new(domain: &TrustDomain, clock: &Clock, entropy: &Entropy) -> Result<Self, SignerError> {
        let now = clock.now();
        let (key, root_key) = generate()?;
        let root = new_root(domain, key, Serial::from_entropy(entropy.bytes()), now)?;
        let issue = |role| issue(&root, role, now, entropy);
        let issuing = [issue(Role::Machine)?, issue(Role::Person)?, issue(Role::Gateway)?];
        let list = make_root_list(&root, None, clock.now_ms())?;
        Ok(Self { root, root_key, list, issuing })
    }

    /// Writes keys, certificates and the CRL under these slot names. Existing files are not replaced.
    pub fn save(&self, builder: &CaBuilder, root: &str, issuing: &[String]) -> Result<(), SignerError> {
        let dir = builder.dir();
        builder.save_key(&dir.key(root), &self.root_key, Existing::Keep)?;
        for ((ca, key), name) in self.issuing.iter().zip(issuing) {
            builder.save_key(&dir.key(name), key, Existing::Keep)?;
            save_certificates(&dir.certificate(name), &[ca.cert_der().to_vec()], Existing::Keep)?;
        }
        save_list(&dir.list(root), &self.list, Existing::Keep)?;
        save_certificates(&dir.certificate(root), &[self.root.cert_der().to_vec()], Existing::Keep)
    }
}

/// Creates an issuing CA below a root.
pub(super) fn issue(
    root: &Root,
    role: Role,
    now: UnixTime,
    entropy: &Entropy,
) -> Result<(IssuingCa, Pkcs8), SignerError> {
    let (key, pkcs8) = generate()?;
    Ok((root.issue_ca(role, key, Serial::from_entropy(entropy.bytes()), now)?, pkcs8))
}

/// A key that is not a CA's: there is one of each, without slots.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum OwnKey {
    /// Signs join tokens.
    Tokens,
    /// Encrypts tickets.
    Tickets,
}

impl OwnKey {
    /// Name of its file; also its name in the audit.
    #[must_use]
    pub const fn file_name(self) -> &'static str {
        match self {
            Self::Tokens => "token.key",
            Self::Tickets => "ticket.key",
        }
    }

    pub(super) fn file(self, data_dir: &Path) -> PathBuf {
        data_dir.join(self.file_name())
    }
}

/// A new authority, not yet written.
pub(super) struct NewAuthority {
    first: NewRoot,
    token_key: Pkcs8,
    ticket_key: Pkcs8,
}

impl NewAuthority {
    pub fn new(domain: &TrustDomain, clock: &Clock, entropy: &Entropy) -> Result<Self, SignerError> {
        let first = NewRoot::new(domain, clock, entropy)?;
        let ((_, token_key), (_, ticket_key)) = (generate()?, generate()?);
        Ok(Self { first, token_key, ticket_key })
    }

    pub fn slots(&self) -> Slots {
        Slots::first(self.first.root.pin(), self.first.issuing.each_ref().map(|(ca, _)| (ca.role(), ca.key_digest())))
    }

    pub fn save(&self, builder: &CaBuilder) -> Result<(), SignerError> {
        self.first.save(builder, "root", &Role::ALL.map(|role| role.to_string()))?;
        builder.save_key(&OwnKey::Tokens.file(&builder.data_dir), &self.token_key, Existing::Keep)?;
        builder.save_key(&OwnKey::Tickets.file(&builder.data_dir), &self.ticket_key, Existing::Keep)
    }

    /// `wrap` turns each software key into the key that signs.
    pub fn parts(
        self,
        wrap: &dyn Fn(SoftwareKey) -> Arc<dyn CaKey>,
        ssh: SshCas,
    ) -> Result<AuthorityParts, SignerError> {
        let slots = self.slots();
        let Self { first: NewRoot { root, list, issuing, .. }, token_key, ticket_key } = self;
        let key = |pkcs8: &Pkcs8| SoftwareKey::from_pkcs8(pkcs8).map(wrap).map_err(SignerError::Generate);
        let list = pki::read_crl(&list, root.cert_der()).ok().map(|info| (list, info));
        let roots = slots.roots().iter().cloned();
        let roots =
            roots.map(|slot| RootParts { slot, der: root.cert_der().to_vec(), list: list.clone(), cross: vec![] });
        let with_slot = slots.issuing().iter().cloned().zip(&issuing);
        let issuing = with_slot.map(|(slot, (ca, pkcs8))| {
            Ok::<_, SignerError>(IssuingParts { slot, der: ca.cert_der().to_vec(), key: Some(key(pkcs8)?) })
        });
        let (roots, issuing) = (roots.collect(), issuing.collect::<Result<_, _>>()?);
        Ok(AuthorityParts { roots, issuing, token: key(&token_key)?, tickets: TicketKey::new(&ticket_key), ssh, slots })
    }
}
