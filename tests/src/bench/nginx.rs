//! nginx with client verification, for comparison in figure 4.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls_pki_types::CertificateDer;
use tempfile::TempDir;

use crate::http::{Connection, Face};
use crate::port::Port;
use crate::program::Program;
use crate::tls::{self, ClientIdentity};

/// A running nginx: one process, no session resumption, TLS 1.3, client chain of leaf and issuing CA verified.
pub struct Nginx {
    // Dropped before its directory.
    program: Program,
    _port: Port,
    _room: TempDir,
    face: Face,
    roots: Vec<CertificateDer<'static>>,
}

impl Nginx {
    /// Starts it; `None` with a note if it is not installed. `trusted` has the CAs of machines.
    #[must_use]
    pub fn start(trusted: &[CertificateDer<'static>]) -> Option<Self> {
        let binary = which("nginx")?;
        let room = tempfile::tempdir().unwrap();
        let port = Port::take();
        let roots = server_files(&room);
        let pem: String = trusted.iter().map(|der| pki::to_pem("CERTIFICATE", der)).collect();
        fs::write(room.path().join("clients.pem"), pem).unwrap();
        fs::write(room.path().join("nginx.conf"), configuration(port.number())).unwrap();
        let mut command = Command::new(binary);
        command.arg("-p").arg(room.path()).args(["-c", "nginx.conf", "-e", "error.log"]);
        let program = Program::start(&mut command, room.path());
        let face = Face::named(([127, 0, 0, 1], port.number()).into(), "localhost");
        Some(Self { program, _port: port, _room: room, face, roots })
    }

    /// Its process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.program.id()
    }

    /// Where it listens.
    #[must_use]
    pub fn face(&self) -> &Face {
        &self.face
    }

    /// A client that trusts it.
    #[must_use]
    pub fn config(&self, identity: &ClientIdentity) -> std::sync::Arc<rustls::ClientConfig> {
        tls::trusting(&self.roots, Some(identity))
    }

    /// Waits until it replies, and checks that it verifies: 200 with a certificate, 400 without.
    pub async fn check(&self, identity: &ClientIdentity) {
        let mut answered = false;
        for _ in 0..100 {
            if let Ok(mut connection) = Connection::open(&self.face, &self.config(identity)).await {
                let reply = connection.get("/").await.unwrap();
                assert_eq!(reply.status, 200, "nginx refuses the machine: {reply}");
                answered = true;
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(answered, "nginx does not answer: {}", self.program.stderr());
        let mut stranger = Connection::open(&self.face, &tls::trusting(&self.roots, None)).await.unwrap();
        assert_eq!(stranger.get("/").await.unwrap().status, 400, "nginx does not verify");
    }
}

/// A chain like the gateway's: P-256 root, intermediate and leaf, with the leaf's key.
fn chain(usages: &[ExtendedKeyUsagePurpose]) -> ([CertificateDer<'static>; 3], KeyPair) {
    let ca = |depth| {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(depth));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::CommonName, format!("bench CA {depth}"));
        params
    };
    let [root_key, int_key, leaf_key] = [(); 3].map(|()| KeyPair::generate().unwrap());
    let root_params = ca(1);
    let root = root_params.self_signed(&root_key).unwrap();
    let root_issuer = Issuer::new(root_params, root_key);
    let int_params = ca(0);
    let int = int_params.signed_by(&int_key, &root_issuer).unwrap();
    let int_issuer = Issuer::new(int_params, int_key);
    let mut leaf_params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    leaf_params.extended_key_usages = usages.to_vec();
    let leaf = leaf_params.signed_by(&leaf_key, &int_issuer).unwrap();
    ([leaf, int, root].map(|certificate| certificate.der().clone()), leaf_key)
}

/// Certificate, key and roots of the benchmark's own servers, for the name `localhost`.
pub struct Yard {
    /// Leaf and intermediate.
    pub chain: Vec<CertificateDer<'static>>,
    /// PKCS#8.
    pub key: Vec<u8>,
    /// The roots for its clients.
    pub roots: Vec<CertificateDer<'static>>,
}

/// Makes the certificate, which is valid for clients too.
#[must_use]
pub fn yard() -> Yard {
    let ([leaf, int, root], key) = chain(&[ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]);
    Yard { chain: vec![leaf, int], key: key.serialize_der(), roots: vec![root] }
}

/// Writes the server's files; returns the roots for its clients.
fn server_files(room: &TempDir) -> Vec<CertificateDer<'static>> {
    let (chain, key) = chain(&[ExtendedKeyUsagePurpose::ServerAuth]);
    let pem: String = chain.iter().map(|der| pki::to_pem("CERTIFICATE", der)).collect();
    fs::write(room.path().join("server.pem"), pem).unwrap();
    fs::write(room.path().join("server.key"), key.serialize_pem()).unwrap();
    vec![chain[2].clone()]
}

fn configuration(port: u16) -> String {
    format!(
        "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log error.log crit;\nevents {{ worker_connections 8192; }}\n\
         http {{\n  access_log off;\n  client_body_temp_path body;\n  proxy_temp_path proxy;\n  fastcgi_temp_path fastcgi;\n  \
         uwsgi_temp_path uwsgi;\n  scgi_temp_path scgi;\n  server {{\n    listen 127.0.0.1:{port} ssl backlog=4096;\n    \
         server_name localhost;\n    ssl_certificate server.pem;\n    ssl_certificate_key server.key;\n    \
         ssl_protocols TLSv1.3;\n    ssl_session_cache off;\n    ssl_session_tickets off;\n    \
         ssl_client_certificate clients.pem;\n    ssl_verify_client on;\n    ssl_verify_depth 3;\n    \
         location / {{ return 200; }}\n  }}\n}}\n"
    )
}

/// The path of a program, if it is installed.
pub fn which(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")])
        .map(|dir| dir.join(name))
        .find(|candidate| candidate.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::connections::handshakes;

    #[tokio::test]
    async fn the_yardstick_verifies_and_is_measured() {
        let ([leaf, int, root], key) = chain(&[ExtendedKeyUsagePurpose::ClientAuth]);
        let identity = ClientIdentity { chain: vec![leaf, int], key: key.serialize_der() };
        let Some(nginx) = Nginx::start(&[root]) else {
            eprintln!("skipped: no nginx here");
            return;
        };
        nginx.check(&identity).await;
        let cost = handshakes(nginx.id(), nginx.face(), &[nginx.config(&identity)], 100).await;
        assert!(cost.count >= 100 && cost.cpu > Duration::ZERO, "{cost:?}");
    }
}
