//! rathole, a reverse tunnel of the plain kind, beside ours: TLS from the clients, no certificates of theirs, no policy, no
//! audit, one port of the server for each service.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpStream;

use super::service::Service;
use crate::bench::meter::{float, settled_kib};
use crate::bench::nginx::{which, yard};
use crate::port::Port;
use crate::program::Program;

/// A server and one client process with its services.
pub struct Rathole {
    client: Program,
    server: Program,
    before: u64,
    services: usize,
    ports: Vec<Port>,
    _room: TempDir,
}

impl Rathole {
    /// Starts both with so many services, or says that there is none here. Each service is a client to the server.
    pub async fn start(services: usize, service: &Service) -> Option<Self> {
        let binary = which("rathole")?;
        let room = tempfile::tempdir().unwrap();
        let ports: Vec<Port> = (0..=services).map(|_| Port::take()).collect();
        let settings = tls(room.path(), &which("openssl")?);
        fs::write(room.path().join("server.toml"), server(&ports, &settings[0])).unwrap();
        fs::write(room.path().join("client.toml"), client(&ports, &settings[1], service.at())).unwrap();
        let start = |which: &str| {
            let mut command = Command::new(&binary);
            command.env("RUST_LOG", "warn").arg(format!("--{which}")).arg(room.path().join(format!("{which}.toml")));
            Program::start(&mut command, room.path())
        };
        let server = start("server");
        tokio::time::sleep(Duration::from_secs(2)).await;
        let before = settled_kib(server.id());
        let client = start("client");
        let all = Self { client, server, before, services, ports, _room: room };
        for port in &all.ports[1..] {
            all.answers(port.number()).await;
        }
        Some(all)
    }

    async fn answers(&self, port: u16) {
        for _ in 0..600 {
            if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("rathole does not answer:\n{}{}", self.server.stdout(), self.client.stdout());
    }

    /// KiB of the server for each service.
    #[must_use]
    pub fn each(&self) -> f64 {
        float(settled_kib(self.server.id()).saturating_sub(self.before)) / float(self.services as u64)
    }

    /// Where the first service is.
    #[must_use]
    pub fn at(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.ports[1].number()).into()
    }

    /// The processes of server and client.
    #[must_use]
    pub fn ids(&self) -> [u32; 2] {
        [self.server.id(), self.client.id()]
    }
}

fn server(ports: &[Port], tls: &str) -> String {
    let mut text = format!(
        "[server]\nbind_addr = \"127.0.0.1:{}\"\ndefault_token = \"bench\"\n[server.transport]\ntype = \"tls\"\n{tls}",
        ports[0].number()
    );
    for (i, port) in ports[1..].iter().enumerate() {
        text.push_str(&format!("[server.services.s{i}]\nbind_addr = \"127.0.0.1:{}\"\n", port.number()));
    }
    text
}

fn client(ports: &[Port], tls: &str, target: SocketAddr) -> String {
    let mut text = format!(
        "[client]\nremote_addr = \"127.0.0.1:{}\"\ndefault_token = \"bench\"\n[client.transport]\ntype = \"tls\"\n{tls}",
        ports[0].number()
    );
    for i in 0..ports.len() - 1 {
        text.push_str(&format!("[client.services.s{i}]\nlocal_addr = \"{target}\"\n"));
    }
    text
}

/// The server's PKCS#12 and what clients trust, as both sides want to be told.
fn tls(room: &Path, openssl: &Path) -> [String; 2] {
    let yard = yard();
    let write = |name: &str, text: String| {
        let path = room.join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let pem: String = yard.chain.iter().map(|der| pki::to_pem("CERTIFICATE", der)).collect();
    let all = write("server.pem", pem + &pki::to_pem("PRIVATE KEY", &yard.key));
    let roots = write("roots.pem", pki::to_pem("CERTIFICATE", &yard.roots[0]));
    let archive = room.join("server.pfx");
    let mut pack = Command::new(openssl);
    pack.args(["pkcs12", "-export", "-passout", "pass:bench", "-in"]).arg(all).arg("-out").arg(&archive);
    super::ssh::good(&mut pack);
    [
        format!("[server.transport.tls]\npkcs12 = \"{}\"\npkcs12_password = \"bench\"\n", archive.display()),
        format!("[client.transport.tls]\ntrusted_root = \"{}\"\nhostname = \"localhost\"\n", roots.display()),
    ]
}
