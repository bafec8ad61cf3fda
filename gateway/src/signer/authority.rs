//! The loaded authority: every root and issuing CA that is not just prepared, and the keys of those that sign. It is immutable;
//! after a rotation step a new one replaces it.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use pki::{
    AnchorError, CaError, CaInfo, CaKey, IssuingCa, KeyDigest, KeyPlace, ListInfo, Role, SENT_MAX, SoftwareKey, SshCa,
    SshKey, SshKind, TrustAnchors, TrustDomain, UnixTime,
};

use super::{
    CERTIFICATE, CaBuilder, CaDir, Passphrase, SignerError, SshCas,
    create::{NewAuthority, OwnKey},
    file, load_certificate,
    parts::{AuthorityParts, IssuingParts, RootParts},
    roots::{crosses, list_of_root},
};
use crate::{
    core::{
        ca_end::{CaEnds, SigningCas},
        own_leaf::Validity,
        slots::{IssuingSlot, RootSlot, SlotState, Slots},
        ticket::TicketKey,
        token::TokenKey,
    },
    ports::{clock::Clock, entropy::Entropy, files},
};

/// The authority, ready to issue.
pub struct Authority {
    domain: TrustDomain,
    slots: Slots,
    roots: Vec<KnownRoot>,
    issuing: Vec<Issuing>,
    anchors: Arc<TrustAnchors>,
    bundle_pem: String,
    cross_pem: String,
    pin: KeyDigest,
    signing: SigningCas,
    token: TokenSigner,
    tickets: TicketKey,
    ssh: SshCas,
    keys_in: KeyPlace,
}

/// A root that is or was published.
struct KnownRoot {
    slot: RootSlot,
    der: Vec<u8>,
    info: CaInfo,
    list: Option<(Vec<u8>, ListInfo)>,
    /// Cross certificates issued by older roots that are still trusted, each with the key of its issuer.
    by_older: Vec<(KeyDigest, Vec<u8>)>,
    /// Cross certificates issued by newer roots, for clients that started with one of these.
    by_newer: Vec<Vec<u8>>,
}

impl KnownRoot {
    fn cross_certificates(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.by_older.iter().map(|(_, der)| der).chain(&self.by_newer)
    }
}

/// An issuing CA that is or was published.
struct Issuing {
    slot: IssuingSlot,
    der: Vec<u8>,
    info: CaInfo,
    /// The chain that follows a leaf: this CA, and the cross certificates from its root to older ones.
    chain: Vec<Vec<u8>>,
    /// `None` if it is retired and its key file was removed.
    ca: Option<IssuingCa>,
}

/// The key of join tokens.
struct TokenSigner {
    key: Arc<dyn CaKey>,
    check: TokenKey,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({} {} generation {})", self.domain, self.pin, self.slots.generation())
    }
}

impl Authority {
    /// Creates an authority in memory only, for `dev` and tests.
    pub fn ephemeral(domain: &TrustDomain, clock: &Clock, entropy: &Entropy) -> Result<Self, SignerError> {
        Self::ephemeral_with(|key| Arc::new(key), domain, clock, entropy)
    }

    /// As [`Authority::ephemeral`]; `wrap` turns each X.509 CA key and the token key into the key that signs.
    pub fn ephemeral_with(
        wrap: impl Fn(SoftwareKey) -> Arc<dyn CaKey>,
        domain: &TrustDomain,
        clock: &Clock,
        entropy: &Entropy,
    ) -> Result<Self, SignerError> {
        let parts = NewAuthority::new(domain, clock, entropy)?.parts(&wrap, SshCas::ephemeral()?)?;
        Self::assemble(&CaDir::of(Path::new("")), domain, parts, clock)
    }

    /// Creates an authority in files. Never overwrites one.
    ///
    /// # Errors
    /// [`SignerError::Exists`] if there is one already.
    pub fn create(builder: &CaBuilder) -> Result<Self, SignerError> {
        let CaBuilder { domain, clock, entropy, .. } = builder;
        let dir = builder.dir();
        if files::exists(dir.path()) {
            return Err(SignerError::Exists { path: dir.0 });
        }
        let made = NewAuthority::new(domain, clock, entropy)?;
        files::make_private_dir(dir.path())?;
        made.save(builder)?;
        let ssh = SshCas::create(builder)?;
        // last: if this file exists, all others do
        dir.save_slots(&made.slots())?;
        Self::assemble(&dir, domain, made.parts(&|key| Arc::new(key), ssh)?, clock)
    }

    /// Loads the authority under `data_dir`. Does not read the roots' keys, so they may be kept offline. Creates no key.
    ///
    /// # Errors
    /// [`SignerError::NoKey`] if a key is missing, which only a backup can restore.
    pub fn load(
        data_dir: &Path,
        domain: &TrustDomain,
        passphrase: &Passphrase,
        clock: &Clock,
    ) -> Result<Self, SignerError> {
        let dir = CaDir::of(data_dir);
        let slots = dir.slots()?;
        let shown = |state: SlotState| state != SlotState::Prepared;
        let roots = slots.roots().iter().filter(|slot| shown(slot.state)).map(|slot| load_root(&dir, slot));
        let issuing = slots.issuing().iter().filter(|slot| shown(slot.state));
        let issuing = issuing.map(|slot| load_issuing(&dir, slot, passphrase));
        let (roots, issuing) = (roots.collect::<Result<_, _>>()?, issuing.collect::<Result<_, _>>()?);
        let token = software(&OwnKey::Tokens.file(data_dir), passphrase)?;
        let tickets = TicketKey::new(&file::load_own_key(&OwnKey::Tickets.file(data_dir), passphrase)?);
        let ssh = SshCas::load(dir.path(), passphrase)?;
        Self::assemble(&dir, domain, AuthorityParts { slots, roots, issuing, token, tickets, ssh }, clock)
    }

    fn assemble(dir: &CaDir, domain: &TrustDomain, parts: AuthorityParts, clock: &Clock) -> Result<Self, SignerError> {
        let keys_in = parts.keys_in();
        let AuthorityParts { slots, roots, issuing, token, tickets, ssh } = parts;
        let now = clock.now();
        let roots = known_roots(dir, domain, roots, now)?;
        let issuing: Vec<Issuing> =
            issuing.into_iter().map(|parts| known_issuing(dir, domain, &roots, parts)).collect::<Result<_, _>>()?;
        let anchors = anchors(dir, domain, &roots, &issuing, now)?;
        let given = |root: &&KnownRoot| matches!(root.slot.state, SlotState::Active | SlotState::Published);
        let pem = |ders: &mut dyn Iterator<Item = &Vec<u8>>| ders.map(|der| pki::to_pem(CERTIFICATE, der)).collect();
        let bundle_pem: String = pem(&mut roots.iter().filter(given).map(|root| &root.der));
        let cross_pem = pem(&mut roots.iter().filter(given).flat_map(KnownRoot::cross_certificates));
        let no_active = || SignerError::NoAuthority { path: dir.0.clone() };
        let root = roots.iter().find(|root| root.slot.state == SlotState::Active).ok_or_else(no_active)?;
        let active = |role| {
            let mut active = issuing.iter().filter(|one| one.slot.state == SlotState::Active);
            active.find(|one| one.slot.role == role).ok_or_else(no_active)
        };
        let (machine, person, gateway) = (active(Role::Machine)?, active(Role::Person)?, active(Role::Gateway)?);
        let signing = SigningCas {
            generation: slots.generation(),
            ends: CaEnds {
                root: root.info.not_after,
                root_list: root.list.as_ref().and_then(|(_, list)| list.next_update),
                machine: machine.info.not_after,
                person: person.info.not_after,
                gateway: gateway.info.not_after,
            },
            machine: machine.info.key,
            person: person.info.key,
            gateway: gateway.info.key,
        };
        let (pin, token) = (root.info.key, TokenSigner { check: TokenKey::new(token.public_key()), key: token });
        let (domain, anchors) = (domain.clone(), Arc::new(anchors));
        Ok(Self {
            domain,
            slots,
            roots,
            issuing,
            anchors,
            bundle_pem,
            cross_pem,
            pin,
            signing,
            token,
            tickets,
            ssh,
            keys_in,
        })
    }

    /// Where its keys are: in memory only if all of them are.
    pub(super) const fn keys_in(&self) -> KeyPlace {
        self.keys_in
    }

    /// Contents of `authority.toml`.
    #[must_use]
    pub const fn slots(&self) -> &Slots {
        &self.slots
    }

    /// The same for all its CAs.
    #[must_use]
    pub const fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// The active issuing CAs.
    #[must_use]
    pub const fn signing(&self) -> &SigningCas {
        &self.signing
    }

    /// `notAfter` of the active root and issuing CAs, and `nextUpdate` of the root's CRL.
    #[must_use]
    pub const fn ends(&self) -> &CaEnds {
        &self.signing.ends
    }

    /// The pin for first contact: SHA-256 of the active root's public key.
    #[must_use]
    pub const fn pin(&self) -> KeyDigest {
        self.pin
    }

    /// Whether a client may have this pin: the root with this key is active or published.
    #[must_use]
    pub fn is_pin(&self, pin: &KeyDigest) -> bool {
        let given = |root: &KnownRoot| matches!(root.slot.state, SlotState::Active | SlotState::Published);
        self.roots.iter().any(|root| given(root) && root.info.key == *pin)
    }

    /// The CRL of the root with this key, DER and parsed; `None` if it has none.
    #[must_use]
    pub fn root_list(&self, root: &KeyDigest) -> Option<(&[u8], ListInfo)> {
        let root = self.roots.iter().find(|one| one.info.key == *root)?;
        root.list.as_ref().map(|(der, info)| (der.as_slice(), *info))
    }

    /// The CRLs of all roots that have one.
    pub fn root_lists(&self) -> impl Iterator<Item = (&[u8], ListInfo)> {
        self.roots.iter().filter_map(|root| root.list.as_ref()).map(|(der, info)| (der.as_slice(), *info))
    }

    /// The role of the issuing CA with this key, in any state but prepared.
    #[must_use]
    pub fn role_of(&self, issuer: &KeyDigest) -> Option<Role> {
        self.by_key(issuer).map(|one| one.slot.role)
    }

    /// The slot name of the issuing CA with this key.
    #[must_use]
    pub fn name_of(&self, issuer: &KeyDigest) -> Option<&str> {
        self.by_key(issuer).map(|one| &*one.slot.name)
    }

    /// Keys of all issuing CAs of a role that are or were published.
    pub fn issuers(&self, role: Role) -> impl Iterator<Item = KeyDigest> {
        self.issuing.iter().filter(move |one| one.slot.role == role).map(|one| one.info.key)
    }

    /// Those of [`Authority::issuers`] that can sign a CRL: not expired, and the key is loaded.
    pub fn list_issuers(&self, role: Role, now: UnixTime) -> impl Iterator<Item = KeyDigest> {
        let signs = move |one: &&Issuing| one.slot.role == role && one.ca.is_some() && one.info.not_after >= now;
        self.issuing.iter().filter(signs).map(|one| one.info.key)
    }

    /// The certificate of the active issuing CA of a role, DER.
    #[must_use]
    pub fn issuing_der(&self, role: Role) -> &[u8] {
        self.by_key(&self.signing.issuer(role)).map_or(&[], |one| &one.der)
    }

    /// Validity of the active issuing CA of a role.
    #[must_use]
    pub fn validity(&self, role: Role) -> Validity {
        let from = self.by_key(&self.signing.issuer(role)).map_or(UnixTime::new(0), |one| one.info.not_before);
        Validity { from, until: self.signing.ends.of(role) }
    }

    /// The chain that follows a leaf of the CA with this key, DER: that CA, and the cross certificates from its root to older ones.
    #[must_use]
    pub fn chain(&self, issuer: &KeyDigest) -> Option<&[Vec<u8>]> {
        self.by_key(issuer).map(|one| &*one.chain)
    }

    /// The published and active roots, PEM.
    #[must_use]
    pub fn bundle_pem(&self) -> &str {
        &self.bundle_pem
    }

    /// The cross certificates of the roots in the bundle, PEM.
    #[must_use]
    pub fn cross_pem(&self) -> &str {
        &self.cross_pem
    }

    /// The chain that follows the gateway's own leaf: its CA, then every root that may be a client's only trust anchor or pin, with
    /// the cross certificates that lead to it. At most [`SENT_MAX`] with the leaf.
    #[must_use]
    pub fn gateway_chain(&self) -> Vec<Vec<u8>> {
        let mut chain = vec![self.issuing_der(Role::Gateway).to_vec()];
        let known = |key: &KeyDigest| self.roots.iter().find(|root| root.info.key == *key);
        if let Some(active) = known(&self.pin) {
            chain.push(active.der.clone());
            for (by, cross) in active.by_older.iter().rev() {
                chain.push(cross.clone());
                chain.extend(known(by).map(|root| root.der.clone()));
            }
        }
        chain.truncate(SENT_MAX - 1);
        chain
    }

    /// The active root's certificate, DER.
    #[must_use]
    pub fn root_der(&self) -> &[u8] {
        self.roots.iter().find(|root| root.info.key == self.pin).map_or(&[], |root| &root.der)
    }

    /// Trust anchors for the certificates of peers.
    #[must_use]
    pub const fn anchors(&self) -> &Arc<TrustAnchors> {
        &self.anchors
    }

    /// Encrypts the tickets that carry an attestor's state between two rounds.
    #[must_use]
    pub const fn ticket_key(&self) -> &TicketKey {
        &self.tickets
    }

    /// Verifies join tokens.
    #[must_use]
    pub const fn token_key(&self) -> &TokenKey {
        &self.token.check
    }

    /// The public key of join tokens: an uncompressed point on P-256 (SEC 1 2.3.3).
    #[must_use]
    pub fn token_point(&self) -> &[u8] {
        self.token.key.public_key()
    }

    /// The public key of the CA that signs SSH certificates of a kind.
    #[must_use]
    pub fn ssh(&self, kind: SshKind) -> &SshKey {
        self.ssh.of(kind).public()
    }

    /// The CA that signs the leaves of a role, for the [`Signer`](super::Signer) alone.
    pub(super) fn active(&self, role: Role) -> Option<&IssuingCa> {
        self.issuing_ca(&self.signing.issuer(role))
    }

    /// The issuing CA with this key, for the [`Signer`](super::Signer) alone.
    pub(super) fn issuing_ca(&self, issuer: &KeyDigest) -> Option<&IssuingCa> {
        self.by_key(issuer)?.ca.as_ref()
    }

    /// The CA that signs SSH certificates of a kind, for the [`Signer`](super::Signer) alone.
    pub(super) const fn ssh_ca(&self, kind: SshKind) -> &SshCa {
        self.ssh.of(kind)
    }

    /// The key of join tokens, for the [`Signer`](super::Signer) alone.
    pub(super) fn token(&self) -> &dyn CaKey {
        &*self.token.key
    }

    /// The active CA of a role for tests that need a certificate no store knows.
    #[cfg(test)]
    #[must_use]
    pub fn issuing_in_test(&self, role: Role) -> &IssuingCa {
        self.active(role).unwrap()
    }

    fn by_key(&self, issuer: &KeyDigest) -> Option<&Issuing> {
        self.issuing.iter().find(|one| one.info.key == *issuer)
    }
}

/// Checks the roots and sorts their cross certificates by issuer.
fn known_roots(
    dir: &CaDir,
    domain: &TrustDomain,
    parts: Vec<RootParts>,
    now: UnixTime,
) -> Result<Vec<KnownRoot>, SignerError> {
    let mut roots: Vec<KnownRoot> = Vec::with_capacity(parts.len());
    let mut offered = Vec::with_capacity(parts.len());
    for RootParts { slot, der, list, cross } in parts {
        let info = info(&dir.certificate(&slot.name), &der)?;
        if info.key != slot.key {
            return Err(SignerError::OtherKey { path: dir.certificate(&slot.name) });
        }
        offered.push(cross);
        roots.push(KnownRoot { slot, der, info, list, by_older: Vec::new(), by_newer: Vec::new() });
    }
    let anchor = |root: &KnownRoot| {
        // checked at a time within its validity: the gateway must start with an expired root and report it; handshakes check the time
        let at = now.max(root.info.not_before).min(root.info.not_after);
        let bad = |source| SignerError::Root { path: dir.certificate(&root.slot.name), source };
        TrustAnchors::new(domain, &[&root.der], at)
            .map(|anchors| (root.info.key, root.slot.state, anchors))
            .map_err(bad)
    };
    let anchors: Vec<_> = roots.iter().map(anchor).collect::<Result<_, _>>()?;
    for (at, (root, offered)) in roots.iter_mut().zip(offered).enumerate() {
        for cross in offered {
            // a retired root's cross certificate is of no use: clients do not trust that root
            let by = anchors.iter().position(|(key, state, anchors)| {
                *key != root.info.key
                    && *state != SlotState::Retired
                    && pki::verify_cross(&root.der, &cross, anchors, now).is_ok()
            });
            match by.and_then(|by| Some((by, anchors.get(by)?))) {
                Some((by, (key, ..))) if by < at => root.by_older.push((*key, cross)),
                Some(_) => root.by_newer.push(cross),
                None => {}
            }
        }
    }
    Ok(roots)
}

fn known_issuing(
    dir: &CaDir,
    domain: &TrustDomain,
    roots: &[KnownRoot],
    parts: IssuingParts,
) -> Result<Issuing, SignerError> {
    let IssuingParts { slot, der, key } = parts;
    let path = dir.certificate(&slot.name);
    let info = info(&path, &der)?;
    if info.key != slot.key {
        return Err(SignerError::OtherKey { path });
    }
    let Some(root) = roots.iter().find(|root| root.slot.name == slot.root) else {
        return Err(SignerError::OtherRoot { path, root: slot.root });
    };
    let found = pki::check_issuing(&root.der, &der).map_err(|source| match source {
        CaError::OtherRoot => SignerError::OtherRoot { path: path.clone(), root: slot.root.clone() },
        source => SignerError::Ca { path: path.clone(), source },
    })?;
    if found.0 != slot.role {
        return Err(SignerError::Role { path, found: found.0, wanted: slot.role });
    }
    if found.1 != *domain {
        return Err(SignerError::Domain { path, found: found.1, wanted: domain.clone() });
    }
    let ca = key.map(|key| IssuingCa::from_parts(&der, key)).transpose();
    let ca = ca.map_err(|source| SignerError::Ca { path, source })?;
    let chain = std::iter::once(&der).chain(root.by_older.iter().map(|(_, cross)| cross)).cloned().collect();
    Ok(Issuing { slot, der, info, chain, ca })
}

/// Trust anchors: the active root, and every other root until it expires, retired ones too. The issuing CAs of machines and people
/// are added, so that a peer may send its leaf alone.
fn anchors(
    dir: &CaDir,
    domain: &TrustDomain,
    roots: &[KnownRoot],
    issuing: &[Issuing],
    now: UnixTime,
) -> Result<TrustAnchors, SignerError> {
    let bad = |source: AnchorError| SignerError::Root { path: dir.0.clone(), source };
    let active = roots.iter().filter(|root| root.slot.state == SlotState::Active);
    let at = active.fold(now, |now, root| now.max(root.info.not_before).min(root.info.not_after));
    let trusted = |root: &&KnownRoot| {
        root.slot.state == SlotState::Active || (root.info.not_before <= at && at <= root.info.not_after)
    };
    let ders: Vec<&[u8]> = roots.iter().filter(trusted).map(|root| root.der.as_slice()).collect();
    let anchors = TrustAnchors::new(domain, &ders, at).map_err(bad)?;
    let peers = issuing.iter().filter(|one| matches!(one.slot.role, Role::Machine | Role::Person));
    // a renewed CA keeps key and name, so leaves issued under its older certificate verify with the newer one
    let peers: Vec<&[u8]> = peers.map(|one| one.der.as_slice()).collect();
    anchors.with_issuers(&peers).map_err(|source| SignerError::Ca { path: dir.0.clone(), source: source.into() })
}

fn info(path: &Path, der: &[u8]) -> Result<CaInfo, SignerError> {
    pki::ca_info(der).map_err(|source| SignerError::Ca { path: path.to_owned(), source: source.into() })
}

fn load_root(dir: &CaDir, slot: &RootSlot) -> Result<RootParts, SignerError> {
    let der = load_certificate(&dir.certificate(&slot.name))?;
    let list = list_of_root(dir, &slot.name)?;
    Ok(RootParts { slot: slot.clone(), der, list, cross: crosses(dir, &slot.name)? })
}

fn load_issuing(dir: &CaDir, slot: &IssuingSlot, passphrase: &Passphrase) -> Result<IssuingParts, SignerError> {
    let der = load_certificate(&dir.certificate(&slot.name))?;
    let path: PathBuf = dir.key(&slot.name);
    let removed = slot.state == SlotState::Retired && !files::exists(&path);
    let key = if removed { None } else { Some(software(&path, passphrase)?) };
    Ok(IssuingParts { slot: slot.clone(), der, key })
}

fn software(path: &Path, passphrase: &Passphrase) -> Result<Arc<dyn CaKey>, SignerError> {
    let pkcs8 = file::load_own_key(path, passphrase)?;
    let key = SoftwareKey::from_pkcs8(&pkcs8).map_err(|source| SignerError::Key { path: path.to_owned(), source })?;
    Ok(Arc::new(key))
}
