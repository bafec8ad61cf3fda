//! A gateway, a person with access to every service, and a machine that exposes services with `lychgate run`.

use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::person::connect;
use super::service::{Kind, Service};
use crate::bench::nginx::{Yard, yard};
use crate::cli::Lychgate;
use crate::gateway::{Gateway, Setup};
use crate::http::Face;
use crate::program::Program;
use crate::tls;

/// The machine's name.
pub const MACHINE: &str = "alpha";

/// See the module.
pub struct Stage {
    // Fields are dropped in this order.
    running: Program,
    /// Sends a byte at once.
    pub greeter: Service,
    /// Transfers bytes.
    pub carrier: Service,
    /// The person.
    pub alice: Lychgate,
    /// The proxy face.
    pub proxy: Face,
    /// The person's TLS configuration.
    pub config: Arc<ClientConfig>,
    /// The gateway.
    pub gateway: Gateway,
}

/// Whether a machine's output reports that its tunnel is up.
pub fn is_up(said: &str) -> Option<()> {
    said.contains("tunnel-up").then_some(())
}

impl Stage {
    /// Starts all of it.
    pub async fn set(setup: Setup) -> Self {
        Self::set_behind(setup, |_| ()).await.0
    }

    /// Starts all of it, with something in front of the gateway that is started before machine and person join.
    pub async fn set_behind<T>(setup: Setup, front: impl FnOnce(&Gateway) -> T) -> (Self, T) {
        let gateway = setup.no_limits().cheap_keys().start();
        let front = front(&gateway);
        let alice = gateway.first_person();
        let (greeter, carrier) = (Service::start(Kind::Greeter, None).await, Service::start(Kind::Carrier, None).await);
        let machine = joined(&gateway, &alice, MACHINE);
        let exposed = [format!("greeter={},raw", greeter.at()), format!("carrier={},raw", carrier.at())];
        let mut running = machine.start(&["run", "--expose", &exposed[0], "--expose", &exposed[1]]);
        running.expect_stdout("the tunnel is up", is_up);
        let (proxy, config) = (gateway.proxy(), tls::trusting(&gateway.roots(), Some(&alice.identity())));
        (Self { running, greeter, carrier, alice, proxy, config, gateway }, front)
    }

    /// The machine's process.
    #[must_use]
    pub fn machine_id(&self) -> u32 {
        self.running.id()
    }

    /// A connection to a service.
    pub async fn connect(&self, service: &str) -> TlsStream<TcpStream> {
        connect(&self.proxy, &self.config, service, MACHINE).await.unwrap()
    }

    /// The same service with TLS that requires the person's certificate.
    pub async fn direct(&self, kind: Kind) -> Direct {
        let issuers = tls::certificates(&std::fs::read(self.alice.file("chain.pem")).unwrap());
        let yard = yard();
        let mut trusted = self.gateway.roots();
        trusted.extend(issuers);
        let service = Service::start(kind, Some(server(&yard, &trusted))).await;
        let face = Face::named(service.at(), "localhost");
        Direct { face, config: tls::trusting(&yard.roots, Some(&self.alice.identity())), _service: service }
    }
}

/// A service that is reached without a gateway.
pub struct Direct {
    /// Its address.
    pub face: Face,
    /// The person's TLS configuration.
    pub config: Arc<ClientConfig>,
    _service: Service,
}

/// A machine that has joined.
pub fn joined(gateway: &Gateway, person: &Lychgate, name: &str) -> Lychgate {
    let token = person.json(&["tokens", "create"])["token"].as_str().unwrap().to_owned();
    let machine = gateway.client(name);
    machine.ok(&["join", &token, "--name", name]);
    machine
}

/// A TLS server configuration with the benchmark's certificate that accepts clients certified by `trusted`.
#[must_use]
pub fn server(yard: &Yard, trusted: &[rustls_pki_types::CertificateDer<'static>]) -> Arc<ServerConfig> {
    let mut roots = RootCertStore::empty();
    for root in trusted {
        roots.add(root.clone()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(yard.key.clone()));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(yard.chain.clone(), key)
        .unwrap();
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}
