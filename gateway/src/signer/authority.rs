//! The authority as it was loaded: every root and issuing CA that is shown to anybody, and the keys of those that sign. It
//! never changes; after a step of a slot another takes its place.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use pki::{
    AnchorError, CaError, CaInfo, CaKey, IssuingCa, KeyDigest, ListInfo, Role, SENT_MAX, SoftwareKey, SshCa, SshKey,
    SshKind, TrustAnchors, TrustDomain, UnixTime,
};

use super::{
    CERTIFICATE, CaDir, Passphrase, SignerError, SshCas, file, load_certificate,
    made::{NewAuthority, OwnKey},
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
    ports::{
        clock::Clock,
        entropy::Entropy,
        files::{self, Existing},
    },
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
}

/// A root that was shown to somebody.
struct KnownRoot {
    slot: RootSlot,
    der: Vec<u8>,
    info: CaInfo,
    list: Option<(Vec<u8>, ListInfo)>,
    /// Certificates for its key, each with the root before it that made it: of those that are believed.
    cross: Vec<(KeyDigest, Vec<u8>)>,
    /// The same by roots that came after it: whoever began with one of these learns of it by them.
    back: Vec<Vec<u8>>,
}

impl KnownRoot {
    /// What vouches for it.
    fn vouched(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.cross.iter().map(|(_, der)| der).chain(&self.back)
    }
}

/// An issuing CA that was shown to somebody.
struct Issuing {
    slot: IssuingSlot,
    der: Vec<u8>,
    info: CaInfo,
    /// What a holder sends along with a leaf: this CA, and what leads from its root to older ones.
    chain: Vec<Vec<u8>>,
    /// Nothing when it is retired and its key was taken away.
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
        let parts = NewAuthority::new(domain, clock, entropy)?.parts(&hold, SshCas::ephemeral()?)?;
        Self::assemble(&CaDir::of(Path::new("")), domain, parts, clock)
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
        let dir = CaDir::of(data_dir);
        if files::exists(dir.path()) {
            return Err(SignerError::Exists { path: dir.0 });
        }
        let made = NewAuthority::new(domain, clock, entropy)?;
        files::make_private_dir(dir.path())?;
        made.save(&dir, passphrase, entropy)?;
        for (key, pkcs8) in [(OwnKey::Tokens, &made.token_key), (OwnKey::Tickets, &made.ticket_key)] {
            file::save_key(&key.file(data_dir), pkcs8, passphrase, entropy, Existing::Keep)?;
        }
        let ssh = SshCas::create(dir.path(), passphrase, entropy)?;
        // Last: where this file is, all the others are.
        dir.save_slots(&made.slots())?;
        Self::assemble(&dir, domain, made.parts(&|key| Arc::new(key), ssh)?, clock)
    }

    /// Loads the authority under `data_dir`. No root's key is touched, so they may be elsewhere. Makes no key.
    ///
    /// # Errors
    /// [`SignerError`], naming the file and the cure.
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
        let AuthorityParts { slots, roots, issuing, token, tickets, ssh } = parts;
        let now = clock.now();
        let roots = known_roots(dir, domain, roots, now)?;
        let issuing: Vec<Issuing> =
            issuing.into_iter().map(|parts| known_issuing(dir, domain, &roots, parts)).collect::<Result<_, _>>()?;
        let anchors = anchors(dir, domain, &roots, &issuing, now)?;
        let given = |root: &&KnownRoot| matches!(root.slot.state, SlotState::Active | SlotState::Published);
        let pem = |ders: &mut dyn Iterator<Item = &Vec<u8>>| ders.map(|der| pki::to_pem(CERTIFICATE, der)).collect();
        let bundle_pem: String = pem(&mut roots.iter().filter(given).map(|root| &root.der));
        let cross_pem = pem(&mut roots.iter().filter(given).flat_map(KnownRoot::vouched));
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
        Ok(Self { domain, slots, roots, issuing, anchors, bundle_pem, cross_pem, pin, signing, token, tickets, ssh })
    }

    /// The slots.
    #[must_use]
    pub const fn slots(&self) -> &Slots {
        &self.slots
    }

    /// The trust domain.
    #[must_use]
    pub const fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// The CAs that sign now.
    #[must_use]
    pub const fn signing(&self) -> &SigningCas {
        &self.signing
    }

    /// When the active root, its list and the active issuing CAs end.
    #[must_use]
    pub const fn ends(&self) -> &CaEnds {
        &self.signing.ends
    }

    /// What newcomers pin: the digest of the active root's key.
    #[must_use]
    pub const fn pin(&self) -> KeyDigest {
        self.pin
    }

    /// Whether somebody may have been told to expect the root with this key: it is active or published.
    #[must_use]
    pub fn is_pin(&self, pin: &KeyDigest) -> bool {
        let given = |root: &KnownRoot| matches!(root.slot.state, SlotState::Active | SlotState::Published);
        self.roots.iter().any(|root| given(root) && root.info.key == *pin)
    }

    /// The revocation list of the root with this key, DER, and what it says of itself; a root may have none.
    #[must_use]
    pub fn root_list(&self, root: &KeyDigest) -> Option<(&[u8], ListInfo)> {
        let root = self.roots.iter().find(|one| one.info.key == *root)?;
        root.list.as_ref().map(|(der, info)| (der.as_slice(), *info))
    }

    /// The lists of all roots that have one.
    pub fn root_lists(&self) -> impl Iterator<Item = (&[u8], ListInfo)> {
        self.roots.iter().filter_map(|root| root.list.as_ref()).map(|(der, info)| (der.as_slice(), *info))
    }

    /// The role of the issuing CA with this key, whether it still signs or not.
    #[must_use]
    pub fn role_of(&self, issuer: &KeyDigest) -> Option<Role> {
        self.by_key(issuer).map(|one| one.slot.role)
    }

    /// The name of the issuing CA with this key.
    #[must_use]
    pub fn name_of(&self, issuer: &KeyDigest) -> Option<&str> {
        self.by_key(issuer).map(|one| &*one.slot.name)
    }

    /// Every issuing CA of a role that was shown to anybody, by its key.
    pub fn issuers(&self, role: Role) -> impl Iterator<Item = KeyDigest> {
        self.issuing.iter().filter(move |one| one.slot.role == role).map(|one| one.info.key)
    }

    /// Those of them that sign revocation lists: they have not ended, and their keys are here.
    pub fn list_issuers(&self, role: Role, now: UnixTime) -> impl Iterator<Item = KeyDigest> {
        let signs = move |one: &&Issuing| one.slot.role == role && one.ca.is_some() && one.info.not_after >= now;
        self.issuing.iter().filter(signs).map(|one| one.info.key)
    }

    /// The certificate of the CA that signs for a role.
    #[must_use]
    pub fn issuing_der(&self, role: Role) -> &[u8] {
        self.by_key(&self.signing.issuer(role)).map_or(&[], |one| &one.der)
    }

    /// When the CA that signs for a role is valid.
    #[must_use]
    pub fn validity(&self, role: Role) -> Validity {
        let from = self.by_key(&self.signing.issuer(role)).map_or(UnixTime::new(0), |one| one.info.not_before);
        Validity { from, until: self.signing.ends.of(role) }
    }

    /// What a holder sends along with a leaf that the CA with this key signed, DER: that CA, and what leads from its root to older
    /// ones.
    #[must_use]
    pub fn chain(&self, issuer: &KeyDigest) -> Option<&[Vec<u8>]> {
        self.by_key(issuer).map(|one| &*one.chain)
    }

    /// The roots to trust, as PEM.
    #[must_use]
    pub fn bundle_pem(&self) -> &str {
        &self.bundle_pem
    }

    /// What the roots of the bundle vouch for each other by, as PEM.
    #[must_use]
    pub fn cross_pem(&self) -> &str {
        &self.cross_pem
    }

    /// What the gateway shows after its own leaf: its CA, and every root that somebody may believe alone or know by its pin, with
    /// what leads there.
    #[must_use]
    pub fn gateway_chain(&self) -> Vec<Vec<u8>> {
        let mut chain = vec![self.issuing_der(Role::Gateway).to_vec()];
        let known = |key: &KeyDigest| self.roots.iter().find(|root| root.info.key == *key);
        if let Some(active) = known(&self.pin) {
            chain.push(active.der.clone());
            for (by, cross) in active.cross.iter().rev() {
                chain.push(cross.clone());
                chain.extend(known(by).map(|root| root.der.clone()));
            }
        }
        chain.truncate(SENT_MAX - 1);
        chain
    }

    /// The active root's certificate.
    #[must_use]
    pub fn root_der(&self) -> &[u8] {
        self.roots.iter().find(|root| root.info.key == self.pin).map_or(&[], |root| &root.der)
    }

    /// What a peer's chain must lead to.
    #[must_use]
    pub const fn anchors(&self) -> &Arc<TrustAnchors> {
        &self.anchors
    }

    /// What seals what attestors keep between two rounds.
    #[must_use]
    pub const fn ticket_key(&self) -> &TicketKey {
        &self.tickets
    }

    /// What checks join tokens.
    #[must_use]
    pub const fn token_key(&self) -> &TokenKey {
        &self.token.check
    }

    /// The public key of join tokens: an uncompressed point on P-256.
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

/// A root that can be used, and what other roots vouch for it by.
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
        roots.push(KnownRoot { slot, der, info, list, cross: Vec::new(), back: Vec::new() });
    }
    let anchor = |root: &KnownRoot| {
        // A root that has ended is checked like any other: each handshake looks at the time, and the gateway must start to say so.
        let at = now.max(root.info.not_before).min(root.info.not_after);
        let bad = |source| SignerError::Root { path: dir.certificate(&root.slot.name), source };
        TrustAnchors::new(domain, &[&root.der], at)
            .map(|anchors| (root.info.key, root.slot.state, anchors))
            .map_err(bad)
    };
    let anchors: Vec<_> = roots.iter().map(anchor).collect::<Result<_, _>>()?;
    for (at, (root, offered)) in roots.iter_mut().zip(offered).enumerate() {
        for cross in offered {
            // One by a root that is retired leads nobody anywhere any more.
            let by = anchors.iter().position(|(key, state, anchors)| {
                *key != root.info.key
                    && *state != SlotState::Retired
                    && pki::verify_cross(&root.der, &cross, anchors, now).is_ok()
            });
            match by.and_then(|by| Some((by, anchors.get(by)?))) {
                Some((by, (key, ..))) if by < at => root.cross.push((*key, cross)),
                Some(_) => root.back.push(cross),
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
    let chain = std::iter::once(&der).chain(root.cross.iter().map(|(_, cross)| cross)).cloned().collect();
    Ok(Issuing { slot, der, info, chain, ca })
}

/// Every root that is believed: those that are retired as well, until they end. The CAs of machines and people are known, so
/// that a peer may send its leaf alone.
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
    let holds = |root: &&KnownRoot| {
        root.slot.state == SlotState::Active || (root.info.not_before <= at && at <= root.info.not_after)
    };
    let ders: Vec<&[u8]> = roots.iter().filter(holds).map(|root| root.der.as_slice()).collect();
    let anchors = TrustAnchors::new(domain, &ders, at).map_err(bad)?;
    let peers = issuing.iter().filter(|one| matches!(one.slot.role, Role::Machine | Role::Person));
    // A CA certified anew has the key and name it had, so leaves of the older certificate lead to this one too.
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
    let away = slot.state == SlotState::Retired && !files::exists(&path);
    let key = if away { None } else { Some(software(&path, passphrase)?) };
    Ok(IssuingParts { slot: slot.clone(), der, key })
}

/// The key in a file.
fn software(path: &Path, passphrase: &Passphrase) -> Result<Arc<dyn CaKey>, SignerError> {
    let pkcs8 = file::load_own_key(path, passphrase)?;
    let key = SoftwareKey::from_pkcs8(&pkcs8).map_err(|source| SignerError::Key { path: path.to_owned(), source })?;
    Ok(Arc::new(key))
}
