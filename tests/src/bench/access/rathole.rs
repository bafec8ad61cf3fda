//! rathole, a simple reverse tunnel, for comparison: TLS without client certificates, no policy, no audit, one port of the server for
//! each service.

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

/// A server, and a client process with one service for each machine.
pub struct Rathole {
    clients: Vec<Program>,
    server: Program,
    before: u64,
    ports: Vec<Port>,
    _room: TempDir,
}

impl Rathole {
    /// Starts a server and `clients` clients; `None` with a note if rathole is not installed.
    pub async fn start(clients: usize, service: &Service) -> Option<Self> {
        let binary = which("rathole")?;
        let room = tempfile::tempdir().unwrap();
        let ports: Vec<Port> = (0..=clients).map(|_| Port::take()).collect();
        let settings = tls(room.path(), &which("openssl")?);
        fs::write(room.path().join("server.toml"), server(&ports, &settings[0])).unwrap();
        let start = |which: &str, file: &str| {
            let mut command = Command::new(&binary);
            command.env("RUST_LOG", "warn").arg(format!("--{which}")).arg(room.path().join(file));
            Program::start(&mut command, room.path())
        };
        let server = start("server", "server.toml");
        tokio::time::sleep(Duration::from_secs(2)).await;
        let before = settled_kib(server.id());
        let clients = (0..clients)
            .map(|number| {
                let file = format!("client-{number}.toml");
                fs::write(room.path().join(&file), client(number, ports[0].number(), &settings[1], service.at()))
                    .unwrap();
                start("client", &file)
            })
            .collect();
        let all = Self { clients, server, before, ports, _room: room };
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
        panic!("rathole does not answer:\n{}{}", self.server.stdout(), self.clients[0].stdout());
    }

    /// Memory of the server in KiB per client.
    #[must_use]
    pub fn each(&self) -> f64 {
        float(settled_kib(self.server.id()).saturating_sub(self.before)) / float(self.clients.len() as u64)
    }

    /// The address of the first service.
    #[must_use]
    pub fn at(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.ports[1].number()).into()
    }

    /// The processes of the server and of the first client.
    #[must_use]
    pub fn ids(&self) -> [u32; 2] {
        [self.server.id(), self.clients[0].id()]
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

fn client(number: usize, server: u16, tls: &str, target: SocketAddr) -> String {
    format!(
        "[client]\nremote_addr = \"127.0.0.1:{server}\"\ndefault_token = \"bench\"\n[client.transport]\ntype = \"tls\"\n\
         {tls}[client.services.s{number}]\nlocal_addr = \"{target}\"\n"
    )
}

/// TLS configuration of server (PKCS#12) and clients (roots), as TOML.
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
