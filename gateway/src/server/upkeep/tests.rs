//! The gateway's own certificate while the clock is changed.

use pki::{GatewayName, Name, TrustDomain, UnixTime};
use policy::{Ruleset, Source};

use super::*;
use crate::{
    core::{
        keys,
        records::{Certificate, Seen},
    },
    flow::shell::Settings,
    ports::{
        clock::{Clock, FakeClock},
        entropy::Entropy,
    },
    signer::{Authority, CaBuilder, Passphrase},
    store::{Engine, open},
};

const DAY: Duration = Duration::from_hours(24);

fn settings() -> Settings {
    Settings {
        public_enroll: "gate.test:8443".into(),
        public_manage: "gate.test:8444".into(),
        public_proxy: None,
        dial_back_at: None,
        services_below: None,
        proxy_hosts: vec![],
        tunnel_hosts: vec![],
        public_crl: None,
        hosts: vec![],
        pending_ttl: DAY,
        pending_max: 1,
        pending_max_per_prefix: 1,
        audit_retention: DAY,
        certificates_per_life: 16,
        attestors: Arc::new(crate::attest::Attestors::standard().unwrap()),
    }
}

fn gateway_name(name: &str) -> Name {
    Name::parse(name).unwrap()
}

fn rules() -> Ruleset {
    let source = Source { name: "p", text: policy::DEFAULT_POLICY };
    Ruleset::load(&[source], &crate::attest::claims().collect::<Vec<_>>()).unwrap()
}

fn names() -> FaceNames {
    FaceNames { enroll: vec![GatewayName::Dns("gate.test".to_owned())], manage: vec![], proxy: vec![] }
}

async fn gateway(start: UnixTime) -> (Arc<Shell>, Arc<TlsSwap>, FakeClock) {
    let (clock, hand) = Clock::fake(start);
    let entropy = Entropy::os();
    // the CA is 600 days old, so that the clock can be set back within its validity
    hand.set(start.minus(DAY * 600));
    let ca = Authority::ephemeral(&TrustDomain::parse("td.example").unwrap(), &clock, &entropy).unwrap();
    hand.set(start);
    let store = open(Engine::Memory, std::path::Path::new(""), 1).unwrap();
    let shell = Shell::new(store, rules(), ca, settings(), gateway_name("a"), (clock, entropy));
    let tls = TlsSwap::new(table(&shell, &names()).await.unwrap());
    (shell, tls, hand)
}

/// After any change of the clock, while the gateway runs or is suspended, its certificate is valid a minute later.
#[tokio::test]
async fn a_minute_after_a_jump_its_certificate_is_good() {
    let start = UnixTime::new(1_800_000_000);
    let (shell, tls, hand) = gateway(start).await;
    tokio::time::pause();
    let task = tokio::spawn(own_leaf(Arc::clone(&shell), Arc::clone(&tls)));
    for (what, to) in [
        ("asleep for 4 days", start.plus(DAY * 4)),
        ("asleep for 8 more", start.plus(DAY * 12)),
        ("500 days ahead", start.plus(DAY * 500)),
        ("back to where it was", start.plus(DAY * 12)),
        ("8 days back", start.plus(DAY * 4)),
        ("500 days back", start.minus(DAY * 500)),
        ("set right", start),
    ] {
        let before = tls.load().leaf;
        hand.set(to);
        for _ in 0..1_000 {
            tokio::time::advance(CHECK_INTERVAL / 100).await;
            tokio::task::yield_now().await;
            // the key signs on another thread, which runs in real time
            std::thread::sleep(Duration::from_millis(1));
            if tls.load().leaf != before {
                break;
            }
        }
        let leaf = tls.load().leaf;
        assert!(leaf != before && leaf.holds(to), "{what}: {leaf:?}");
    }
    task.abort();
}

/// Each gateway over a store has a certificate and a lineage of its own, by its name.
#[tokio::test]
async fn two_gateways_over_one_store_each_keep_their_own_certificate() {
    let (clock, _hand) = Clock::fake(UnixTime::new(1_800_000_000));
    let (room, entropy) = (tempfile::tempdir().unwrap(), Entropy::os());
    let (domain, passphrase) = (TrustDomain::parse("td.example").unwrap(), Passphrase::generate(&entropy));
    let builder = CaBuilder { data_dir: room.path().to_owned(), domain, passphrase, clock, entropy };
    Authority::create(&builder).unwrap();
    let store = open(Engine::Memory, std::path::Path::new(""), 1).unwrap();
    let of = |name| {
        let ca = Authority::load(room.path(), &builder.domain, &builder.passphrase, &builder.clock).unwrap();
        let both = (builder.clock.clone(), Entropy::os());
        Shell::new(Arc::clone(&store), rules(), ca, settings(), gateway_name(name), both)
    };
    for shell in [of("a"), of("b"), of("a")] {
        table(&shell, &names()).await.unwrap();
    }
    let all: Vec<(String, Seen<Certificate>)> = of("a").scan(keys::CERTIFICATES, None, 10).await.unwrap();
    let mut found =
        all.iter().map(|(_, seen)| (seen.record.lineage.as_str(), seen.record.name.as_str())).collect::<Vec<_>>();
    found.sort_unstable();
    assert_eq!(found, [("gateway-a", "a"), ("gateway-a", "a"), ("gateway-b", "b")]);
    for (_, seen) in &all {
        let uri = format!("spiffe://td.example/gateway/{}", seen.record.name);
        assert!(seen.record.der.windows(uri.len()).any(|bytes| bytes == uri.as_bytes()), "{uri}");
    }
}
