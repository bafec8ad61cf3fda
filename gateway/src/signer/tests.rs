//! An authority in files: created once, and then each way in which it can be damaged.

use std::{fs, os::unix::fs::PermissionsExt as _};

use pki::{GatewayName, Name, Role, SshKind, TrustDomain};

use crate::{
    ports::{clock::Clock, entropy::Entropy},
    signer::*,
};

#[expect(clippy::disallowed_methods, reason = "the test damages files by hand")]
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.join("ca")).unwrap();
    for entry in from.read_dir().unwrap().chain(from.join("ca").read_dir().unwrap()) {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, to.join(path.strip_prefix(from).unwrap())).unwrap();
        }
    }
}

fn domain() -> TrustDomain {
    TrustDomain::parse("td.example").unwrap()
}

fn builder(data_dir: &Path, seed: u64) -> CaBuilder {
    let (clock, entropy) = (Clock::system(), Entropy::seeded(seed));
    let passphrase = Passphrase::generate(&entropy);
    CaBuilder { data_dir: data_dir.to_owned(), domain: domain(), passphrase, clock, entropy }
}

/// One row: damages a copy of the authority and compares the error (`@` is replaced by the folder).
#[track_caller]
fn check(good: &Path, passphrase: &Passphrase, damage: impl FnOnce(&Path), want: &str) {
    let dir = tempfile::tempdir().unwrap();
    copy(good, dir.path());
    damage(dir.path());
    let error = Authority::load(dir.path(), &domain(), passphrase, &Clock::system()).unwrap_err().to_string();
    assert_eq!(error.replace(&dir.path().display().to_string(), "@"), want);
}

fn swap(a: &Path, b: &Path) {
    let (from_a, from_b) = (fs_read(a), fs_read(b));
    fs_write(a, &from_b);
    fs_write(b, &from_a);
}

#[expect(clippy::disallowed_methods, reason = "the test damages files by hand")]
fn fs_read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap()
}

#[expect(clippy::disallowed_methods, reason = "the test damages files by hand")]
fn fs_write(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
}

#[expect(clippy::disallowed_methods, reason = "the test damages files by hand")]
fn fs_remove(path: &Path) {
    fs::remove_file(path).unwrap();
}

#[expect(clippy::disallowed_methods, reason = "the test damages files by hand")]
fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn no_key(file: &str) -> String {
    format!(
        "`@/{file}` does not exist, and only `lychgate-gateway init` and `ca prepare` make keys; restore it from a backup"
    )
}

/// It cannot be created twice, has one trust domain, and is the same when loaded, also without the root's key.
fn loaded_again(builder: &CaBuilder, made: &Authority) {
    let exists = Authority::create(builder).unwrap_err();
    assert!(matches!(exists, SignerError::Exists { .. }), "{exists}");
    let CaBuilder { data_dir: good, passphrase, clock, .. } = builder;
    let foreign = TrustDomain::parse("other.example").unwrap();
    let foreign = Authority::load(good, &foreign, passphrase, clock).unwrap_err();
    assert!(foreign.to_string().contains("belongs to trust domain `td.example`"), "{foreign}");

    // the root's key may be offline
    fs_remove(&good.join("ca/root.key"));
    let loaded = Authority::load(good, &domain(), passphrase, clock).unwrap();
    assert_eq!((loaded.pin(), loaded.root_der()), (made.pin(), made.root_der()));
    assert_eq!(loaded.bundle_pem(), String::from_utf8(fs_read(&good.join("ca/root.pem"))).unwrap());
    for role in Role::ALL {
        assert_eq!(loaded.signing().issuer(role), made.signing().issuer(role));
        assert!(loaded.chain(&made.signing().issuer(role)).is_some());
    }
    assert_eq!(loaded.token_point(), made.token_point());
}

#[test]
fn an_authority_in_files() {
    let dir = tempfile::tempdir().unwrap();
    let good = dir.path().join("data");
    let builder = builder(&good, 1);
    let made = Authority::create(&builder).unwrap();

    for name in ["ca/root", "ca/machine", "ca/person", "ca/gateway", "ca/ssh-user", "ca/ssh-host", "token", "ticket"] {
        let key = good.join(format!("{name}.key"));
        assert_eq!(key.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{name}");
        let text = String::from_utf8(fs_read(&key)).unwrap();
        assert!(text.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"), "{name}");
    }

    let other = Passphrase::generate(&builder.entropy);
    check(
        &good,
        &other,
        |_| (),
        "the passphrase does not decrypt `@/ca/machine.key`; is `[ca] passphrase_file` the one it was made with?",
    );
    let check = |damage: &dyn Fn(&Path), want: &str| check(&good, &builder.passphrase, damage, want);
    for key in ["ca/person.key", "token.key", "ticket.key", "ca/ssh-host.key"] {
        check(&|d| fs_remove(&d.join(key)), &no_key(key));
    }
    check(&|d| fs_remove(&d.join("ca/authority.toml")), "`@/ca` holds no authority; run `lychgate-gateway init` first");
    check(&|d| fs_remove(&d.join("ca/root.pem")), "`@/ca/root.pem` does not exist");
    check(
        &|d| chmod(&d.join("ca/gateway.key"), 0o644),
        "`@/ca/gateway.key` can be read by every user of this machine (mode 644); run `chmod 600 @/ca/gateway.key`",
    );
    check(
        &|d| fs_write(&d.join("ca/machine.key"), b"-----BEGIN PRIVATE KEY-----\n"),
        "`@/ca/machine.key` is not encrypted; run `openssl pkcs8 -topk8 -scrypt -in @/ca/machine.key` to encrypt it",
    );
    check(
        &|d| fs_write(&d.join("ca/machine.key"), b"what is this"),
        "`@/ca/machine.key` is not one encrypted PKCS#8 key in PEM; restore it from a backup",
    );
    check(
        &|d| swap(&d.join("ca/machine.pem"), &d.join("ca/person.pem")),
        "`@/ca/machine.pem` is not of the key that its slot in `authority.toml` names; were files exchanged?",
    );
    check(
        &|d| {
            swap(&d.join("ca/machine.pem"), &d.join("ca/person.pem"));
            swap(&d.join("ca/machine.key"), &d.join("ca/person.key"));
        },
        "`@/ca/machine.pem` is not of the key that its slot in `authority.toml` names; were files exchanged?",
    );
    check(
        &|d| {
            let pem = fs_read(&d.join("ca/root.pem"));
            fs_write(&d.join("ca/root.pem"), &pem.repeat(2));
        },
        "`@/ca/root.pem` holds 2 certificates instead of one",
    );

    loaded_again(&builder, &made);
    assert_eq!(format!("{:?}", builder.passphrase), "Passphrase(..)");
}

#[test]
fn the_ssh_cas_are_made_with_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let good = dir.path().join("data");
    let builder = builder(&good, 4);
    let lines = |set: &Authority| SshKind::ALL.map(|kind| set.ssh(kind).line());
    let load = || Authority::load(&good, &domain(), &builder.passphrase, &builder.clock).unwrap();
    let [user, host] = lines(&Authority::create(&builder).unwrap());
    assert_ne!(user, host);
    assert!(user.starts_with("ssh-ed25519 "));
    assert_eq!(lines(&load()), [user.clone(), host]);

    let check = |damage: &dyn Fn(&Path), want: &str| check(&good, &builder.passphrase, damage, want);
    check(
        &|d| fs_write(&d.join("ca/ssh-user.key"), b"what is this"),
        "`@/ca/ssh-user.key` is not one encrypted PKCS#8 key in PEM; restore it from a backup",
    );
}

#[test]
fn passphrases() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca-passphrase");
    let passphrase = Passphrase::generate(&Entropy::seeded(2));
    passphrase.save(&path).unwrap();
    assert!(passphrase.save(&path).is_err(), "never replaced");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    Passphrase::load(&path).unwrap();
    chmod(&path, 0o604);
    let error = Passphrase::load(&path).unwrap_err().to_string();
    assert!(error.contains("can be read by every user") && error.contains("chmod 600"), "{error}");
    chmod(&path, 0o440);
    Passphrase::load(&path).unwrap();
    chmod(&path, 0o600);
    fs_write(&path, b"\r\n\n");
    let error = Passphrase::load(&path).unwrap_err().to_string();
    assert_eq!(error, format!("the passphrase in `{}` is empty", path.display()));
    fs_remove(&path);
    assert_eq!(Passphrase::load(&path).unwrap_err().to_string(), format!("`{}` does not exist", path.display()));
}

#[test]
fn the_gateways_own_certificate() {
    let (clock, entropy) = (Clock::system(), Entropy::seeded(3));
    let set = Authority::ephemeral(&domain(), &clock, &entropy).unwrap();
    let names = vec![GatewayName::Dns("join.td.example".into()), GatewayName::Ip([127, 0, 0, 1].into())];
    let leaf = GatewayLeaf::unrecorded(&set, &Name::parse("gate").unwrap(), names, &clock, &entropy).unwrap();
    let chain = leaf.chain();
    let [first, rest @ ..] = chain.as_slice() else { panic!("a chain") };
    let rest: Vec<&[u8]> = rest.iter().map(AsRef::as_ref).collect();
    assert_eq!(rest.last(), Some(&set.root_der()), "a client that knows the pin alone finds the root there");
    for host in ["join.td.example", "127.0.0.1"] {
        let peer = pki::verify_gateway(first, &rest, set.anchors(), host, clock.now()).unwrap();
        assert_eq!(peer.identity.to_string(), "spiffe://td.example/gateway/gate");
    }
    assert!(pki::verify_gateway(first, &rest, set.anchors(), "other.example", clock.now()).is_err());
    let life = leaf.validity().until.since(clock.now());
    assert!(life <= crate::limits::GATEWAY_LEAF_LIFE && leaf.validity().holds(clock.now()), "{life:?}");
}
