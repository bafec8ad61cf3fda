//! haproxy that terminates TLS and opens a new TLS connection, with client certificates on both, for comparison of throughput.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls_pki_types::CertificateDer;
use tempfile::TempDir;

use crate::bench::nginx::{Yard, which, yard};
use crate::http::{Face, handshake};
use crate::port::Port;
use crate::program::Program;
use crate::tls::{self, ClientIdentity};

/// Two processes in series: the first in place of the gateway, the second in place of a machine's client.
pub struct Haproxy {
    first: Program,
    second: Program,
    _ports: [Port; 2],
    room: TempDir,
    /// The address for people.
    pub face: Face,
    /// A person's TLS configuration.
    pub config: Arc<ClientConfig>,
}

impl Haproxy {
    /// Starts them in front of a service; `None` with a note if haproxy is not installed.
    pub async fn start(service: SocketAddr) -> Option<Self> {
        let binary = which("haproxy")?;
        let (room, yard, ports) = (tempfile::tempdir().unwrap(), yard(), [Port::take(), Port::take()]);
        let pem = |ders: &[CertificateDer<'_>]| -> String {
            ders.iter().map(|der| pki::to_pem("CERTIFICATE", der)).collect()
        };
        let Yard { chain, key, roots } = &yard;
        fs::write(room.path().join("all.pem"), pem(chain) + &pki::to_pem("PRIVATE KEY", key)).unwrap();
        fs::write(room.path().join("roots.pem"), pem(roots)).unwrap();
        let [one, two] = [ports[0].number(), ports[1].number()];
        let tls_out = "ssl crt all.pem ca-file roots.pem verify required";
        let start = |name: &str, listen: u16, target: String| {
            let path = room.path().join(name);
            fs::write(&path, configuration(listen, &target)).unwrap();
            let mut command = Command::new(&binary);
            command.current_dir(room.path()).arg("-db").arg("-f").arg(path);
            Program::start(&mut command, room.path())
        };
        let second = start("second.cfg", two, service.to_string());
        let first = start("first.cfg", one, format!("127.0.0.1:{two} {tls_out}"));
        let identity = ClientIdentity { chain: chain.clone(), key: key.clone() };
        let face = Face::named(([127, 0, 0, 1], one).into(), "localhost");
        let config = tls::trusting(roots, Some(&identity));
        let all = Self { first, second, _ports: ports, room, face, config };
        for _ in 0..100 {
            if handshake(&all.face, &all.config).await.is_ok() {
                return Some(all);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("haproxy does not answer: {}{}", all.first.stderr(), all.second.stderr());
    }

    /// A command with `openssl s_client` that relays between standard input and output and the service.
    #[must_use]
    pub fn command(&self) -> String {
        let file = |name: &str| self.room.path().join(name).display().to_string();
        let (roots, all) = (file("roots.pem"), file("all.pem"));
        format!(
            "openssl s_client -quiet -verify_quiet -verify_return_error -connect {} -servername localhost -CAfile {roots} \
             -cert {all} -cert_chain {all}",
            self.face.address
        )
    }

    /// The process of the first.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.first.id()
    }

    /// The process of the second.
    #[must_use]
    pub fn second_id(&self) -> u32 {
        self.second.id()
    }
}

fn configuration(listen: u16, target: &str) -> String {
    format!(
        "global\n  maxconn 1000\n  nbthread 2\n  ssl-default-bind-options ssl-min-ver TLSv1.3 no-tls-tickets\n  \
         ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256\n  \
         ssl-default-server-ciphersuites TLS_AES_128_GCM_SHA256\n\
         defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1m\n  timeout server 1m\n\
         frontend in\n  bind 127.0.0.1:{listen} ssl crt all.pem ca-file roots.pem verify required\n  default_backend out\n\
         backend out\n  server target {target}\n"
    )
}
