//! Handshakes of sealed services between caller and machine: which callers and machines are accepted, with clocks that differ.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use tokio::time::timeout;

use super::*;
use crate::testing::Authority;

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
const SOON: Duration = Duration::from_secs(20);

/// The machine `alpha` with a sealed service, and its callers.
struct Scene {
    authority: Authority,
    /// By the gateway's clock.
    now: UnixTime,
    alpha: Identity,
    seal: Seal,
}

impl Scene {
    fn set() -> Self {
        Self::with(Offset::default(), Offset::default())
    }

    /// The gateway's clock is `true_offset` ahead, and the machine assumes `offset`.
    fn with(true_offset: Offset, offset: Offset) -> Self {
        let now = true_offset.gateway_time(clock::now());
        let authority = Authority::from(now.minus(3 * DAY));
        let machine = authority.credential("machine/alpha", now);
        let (chain, key) = authority.sealed(&machine.identity, now);
        let seal = Seal::new(&chain, &key, &machine, offset).unwrap();
        Self { authority, now, alpha: machine.identity, seal }
    }

    fn caller(&self, who: &str) -> Credential {
        self.authority.credential(who, self.now)
    }
}

fn named(caller: &Credential) -> Open {
    Open {
        session: "s".into(),
        service: "db".into(),
        caller: caller.identity.to_string(),
        dial_back: None,
        dial_back_at: None,
        labels: vec!["admins".into()],
    }
}

/// The results of a handshake at the machine, which echoes what it receives, and at the caller.
async fn meet(
    scene: &Scene,
    open: &Open,
    caller: &Credential,
    wanted: &Identity,
    offset: Offset,
) -> (Result<(), String>, Result<String, String>) {
    let (near, far) = duplex(64 * 1024);
    let machine = async {
        let mut tls = scene.seal.accept(far, open).await.map_err(|error| error.to_string())?;
        let mut heard = [0; 6];
        tls.read_exact(&mut heard).await.map_err(|error| error.to_string())?;
        tls.write_all(&heard).await.map_err(|error| error.to_string())?;
        tls.shutdown().await.map_err(|error| error.to_string())
    };
    let person = async {
        let words = |error: io::Error| error.to_string();
        let mut tls = super::open(near, caller, wanted, offset).await.map_err(words)?;
        tls.write_all(b"hello\n").await.map_err(words)?;
        let mut heard = String::new();
        tls.read_to_string(&mut heard).await.map_err(words)?;
        Ok(heard)
    };
    timeout(SOON, async { tokio::join!(machine, person) }).await.unwrap()
}

/// The handshake succeeds.
#[track_caller]
fn agreed(what: &str, met: &(Result<(), String>, Result<String, String>)) {
    assert_eq!(met, &(Ok(()), Ok("hello\n".to_owned())), "{what}");
}

/// The machine refuses with this message, and the caller gets no byte of the service.
#[track_caller]
fn refused(what: &str, met: &(Result<(), String>, Result<String, String>), says: &str) {
    let refused = met.0.as_ref().expect_err(what);
    assert!(refused.contains(says), "{what}: {refused}");
    assert!(met.1.as_ref().map_or(true, String::is_empty), "{what}: {:?}", met.1);
}

#[tokio::test]
async fn people_and_machines_come_in_under_the_name_that_the_gateway_said() {
    let scene = Scene::set();
    let (alice, bob) = (scene.caller("person/alice"), scene.caller("person/bob"));
    let machine = scene.caller("machine/alice");
    for caller in [&alice, &machine] {
        let met = meet(&scene, &named(caller), caller, &scene.alpha, Offset::default()).await;
        agreed(&caller.identity.to_string(), &met);
    }
    for (said, came) in [(&alice, &bob), (&alice, &machine), (&machine, &alice)] {
        let met = meet(&scene, &named(said), came, &scene.alpha, Offset::default()).await;
        refused("another name", &met, &format!("the gateway named {}, and {} is there", said.identity, came.identity));
    }
}

#[tokio::test]
async fn whoever_is_not_let_in() {
    let scene = Scene::set();
    let good = scene.caller("person/alice");
    let long_ago = scene.authority.credential("person/alice", scene.now.minus(2 * DAY));
    let early = scene.authority.credential("person/alice", scene.now.plus(HOUR));
    let stranger = Authority::from(scene.now.minus(3 * DAY)).credential("person/alice", scene.now);
    // The caller has the right roots, so only the machine can refuse.
    let stranger = Credential { roots: good.roots.clone(), ..stranger };
    // The role is taken from the issuing CA, which is part of the chain.
    let borrowed = Credential { chain: scene.caller("machine/alice").chain, ..scene.caller("person/alice") };
    // A server certificate is refused as client certificate.
    let gateway = scene.caller("gateway/alice");
    let (chain, key) = scene.authority.sealed(&scene.alpha, scene.now);
    let sealed = Credential { leaf: chain[0].clone(), key, ..scene.caller("machine/alpha") };
    for (what, caller) in [
        ("expired", long_ago),
        ("not valid yet", early),
        ("of another gateway", stranger),
        ("with the issuer of another role", borrowed),
        ("of the gateways", gateway),
        ("for sealed services", sealed),
    ] {
        let met = meet(&scene, &named(&caller), &caller, &scene.alpha, Offset::default()).await;
        refused(what, &met, "invalid peer certificate");
        let heard = met.1.unwrap_err();
        assert!(heard.contains("alert"), "{what}: {heard}");
    }
}

/// The gateway connects the caller to another machine, or one of another trust domain: the caller sends no byte.
#[tokio::test]
async fn another_machine_answers() {
    let scene = Scene::set();
    let alice = scene.caller("person/alice");
    let beta = scene.caller("machine/beta").identity;
    let met = meet(&scene, &named(&alice), &alice, &beta, Offset::default()).await;
    assert!(met.1.as_ref().unwrap_err().contains("invalid peer certificate"), "{met:?}");
    assert!(met.0.is_err(), "{met:?}");
    // The same name under another root.
    let other = Authority::from(scene.now.minus(3 * DAY)).credential("machine/alpha", scene.now);
    let distrustful = Credential { roots: other.roots, ..alice };
    let met = meet(&scene, &named(&distrustful), &distrustful, &scene.alpha, Offset::default()).await;
    assert!(met.1.as_ref().unwrap_err().contains("invalid peer certificate"), "{met:?}");
    // The certificate of its tunnel is a client certificate.
    let machine = scene.caller("machine/alpha");
    let chain: Vec<Vec<u8>> = std::iter::once(machine.leaf.clone()).chain(machine.chain.clone()).collect();
    let seal = Seal::new(&chain, &machine.key, &machine, Offset::default()).unwrap();
    let scene = Scene { seal, ..scene };
    let alice = scene.caller("person/alice");
    let met = meet(&scene, &named(&alice), &alice, &scene.alpha, Offset::default()).await;
    assert!(met.1.as_ref().unwrap_err().contains("invalid peer certificate"), "{met:?}");
}

/// All certificates are valid for one day of the gateway's clock, which differs from the clocks of both ends.
#[tokio::test]
async fn the_gateways_clock_counts() {
    for by in [3_600, -3_600, 10 * 86_400, -10 * 86_400] {
        let (right, wrong) = (Offset::from_secs(by), Offset::default());
        let scene = Scene::with(right, right);
        let alice = scene.caller("person/alice");
        agreed("both know", &meet(&scene, &named(&alice), &alice, &scene.alpha, right).await);
        if by == -3_600 {
            // With a difference of an hour, a certificate of a day is valid by both clocks.
            continue;
        }
        let met = meet(&scene, &named(&alice), &alice, &scene.alpha, wrong).await;
        assert!(met.1.is_err(), "the caller does not know: {met:?}");
        scene.seal.set_offset(wrong);
        let met = meet(&scene, &named(&alice), &alice, &scene.alpha, right).await;
        refused("the machine does not know", &met, "invalid peer certificate");
        scene.seal.set_offset(right);
        agreed("the machine has heard", &meet(&scene, &named(&alice), &alice, &scene.alpha, right).await);
    }
}

/// A machine whose clock is before the start of the root's validity.
#[tokio::test]
async fn a_clock_behind_the_root() {
    let right = Offset::from_secs(3_600);
    let now = right.gateway_time(clock::now());
    let authority = Authority::from(now);
    let (machine, alice) = (authority.credential("machine/alpha", now), authority.credential("person/alice", now));
    let (chain, key) = authority.sealed(&machine.identity, now);
    let seal = Seal::new(&chain, &key, &machine, right).unwrap();
    let scene = Scene { authority, now, alpha: machine.identity, seal };
    agreed("by the gateway's", &meet(&scene, &named(&alice), &alice, &scene.alpha, right).await);
}

/// A caller without TLS or without a certificate gets an alert, a browser an HTTP error, and neither a byte of the service.
#[tokio::test]
async fn plain_bytes_and_nobody() {
    let scene = Scene::set();
    let alice = scene.caller("person/alice");
    for said in [&b"GET / HTTP/1.1\r\nHost: db\r\n\r\n"[..], b"SSH-2.0-OpenSSH_9.2\r\n"] {
        let (mut near, far) = duplex(64 * 1024);
        near.write_all(said).await.unwrap();
        let error = timeout(SOON, scene.seal.accept(far, &named(&alice))).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
        let mut heard = Vec::new();
        timeout(SOON, near.read_to_end(&mut heard)).await.unwrap().unwrap();
        // RFC 8446 5.1: the record type of an alert.
        let alert = heard.first().is_none_or(|byte| *byte == 21);
        assert!(alert || (said.starts_with(b"GET") && heard.starts_with(b"HTTP/1.1 400 ")), "{heard:?}");
    }

    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from(alice.roots[0].clone())).unwrap();
    let nobody = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let (near, far) = duplex(64 * 1024);
    let name = ServerName::try_from(scene.alpha.dns_name()).unwrap();
    let connector = TlsConnector::from(Arc::new(nobody));
    let open = named(&alice);
    let met = async { tokio::join!(scene.seal.accept(far, &open), connector.connect(name, near)) };
    let (refused, _) = timeout(SOON, met).await.unwrap();
    assert!(refused.unwrap_err().to_string().contains("peer sent no certificates"));
}
