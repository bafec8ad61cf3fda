//! Other software that verifies our certificates with our revocation lists: nginx, haproxy, and `openssl verify` for the complete chain.
//! The configurations are those of the operator's guide.

use std::path::{Path, PathBuf};
use std::process::Command;

use tests::cli::Lychgate;
use tests::gateway::{Gateway, Setup};
use tests::port::Port;
use tests::program::{Ended, Program, run};
use tests::wait::{PATIENCE, eventually};

use crate::joined;

/// A gateway, a machine, a person, and the files for a server.
struct Stage {
    gateway: Gateway,
    alice: Lychgate,
    machine: Lychgate,
}

impl Stage {
    fn set() -> Self {
        let gateway = Setup::default().start();
        let alice = gateway.first_person();
        let machine = joined(&gateway, &alice, "m-1");
        // The first use makes the certificate current; until then it is pending, and as good.
        machine.ok(&["status"]);
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]);
        openssl.args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout"]);
        openssl.arg(gateway.room().join("server.key")).arg("-out").arg(gateway.room().join("server.crt"));
        let made = run(&mut openssl, PATIENCE);
        assert_eq!(made.code, 0, "{}", made.stderr);
        let both = ["server.crt", "server.key"].map(|name| std::fs::read(gateway.room().join(name)).unwrap()).concat();
        std::fs::write(gateway.room().join("server.pem"), both).unwrap();
        Self { gateway, alice, machine }
    }

    fn root(&self) -> PathBuf {
        self.machine.file("bundle.pem")
    }

    /// The lists of whole chains in one file, fetched as the guide says.
    fn lists(&self, names: &[&str]) -> PathBuf {
        let to = self.gateway.room().join("lists.pem");
        let text: String = names.iter().map(|name| self.fetch(name)).collect();
        std::fs::write(&to, text).unwrap();
        to
    }

    fn fetch(&self, name: &str) -> String {
        let mut curl = Command::new("curl");
        curl.args(["-sSf", "--max-time", "20", "--cacert"]).arg(self.root());
        curl.arg(self.gateway.enroll().url(&format!("/v1/crl/{name}")));
        let ended = run(&mut curl, PATIENCE);
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        ended.stdout
    }

    fn lock(&self) {
        self.alice.ok(&["locks", "add", "machine", "m-1", "--reason", "stolen"]);
    }
}

fn verify(stage: &Stage, lists: &Path, all: &str) -> Ended {
    let mut openssl = Command::new("openssl");
    openssl.args(["verify", all, "-x509_strict", "-CRLfile"]).arg(lists).arg("-CAfile").arg(stage.root());
    openssl.arg("-untrusted").arg(stage.machine.file("chain.pem")).arg(stage.machine.file("cert.pem"));
    run(&mut openssl, PATIENCE)
}

#[test]
fn openssl_checks_the_whole_chain() {
    let stage = Stage::set();
    let lists = stage.lists(&["machine.pem"]);
    let good = verify(&stage, &lists, "-crl_check_all");
    assert_eq!(good.code, 0, "{}{}", good.stdout, good.stderr);
    // Without the root's list nobody would be let in: that is why it is there.
    let alone = stage.gateway.room().join("alone.pem");
    let first = std::fs::read_to_string(&lists).unwrap();
    let end = first.find("-----END X509 CRL-----\n").unwrap() + "-----END X509 CRL-----\n".len();
    std::fs::write(&alone, &first[..end]).unwrap();
    let missing = verify(&stage, &alone, "-crl_check_all");
    assert!(missing.stderr.contains("unable to get certificate CRL"), "{}", missing.stderr);
    assert_eq!(verify(&stage, &alone, "-crl_check").code, 0);
    stage.lock();
    let revoked = verify(&stage, &stage.lists(&["machine.pem"]), "-crl_check_all");
    assert!(revoked.code != 0 && revoked.stderr.contains("certificate revoked"), "{}", revoked.stderr);
}

/// Revocation lists are cacheable, with validators for conditional requests.
#[test]
fn lists_are_not_sent_twice() {
    let stage = Stage::set();
    let root = pki::parse_pem("CERTIFICATE", &std::fs::read_to_string(stage.root()).unwrap()).unwrap();
    let path = format!("/v1/crl/{}", pki::root_pin(&root[0]).unwrap().hex());
    let asked = |more: &[&str]| {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--max-time", "20", "--include", "--output", "-", "--cacert"]).arg(stage.root()).args(more);
        let ended = run(curl.arg(stage.gateway.enroll().url(&path)), PATIENCE);
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        ended.stdout.to_ascii_lowercase()
    };
    let first = asked(&[]);
    assert!(first.contains("cache-control: public, max-age=60") && first.contains("last-modified: "), "{first}");
    let tag = first.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().trim().to_owned();
    let again = asked(&["--header", &format!("If-None-Match: {tag}")]);
    assert!(again.starts_with("http/1.1 304") && again.contains(&tag), "{again}");
}

/// A server that verifies clients.
struct Server {
    port: Port,
    program: Program,
}

#[derive(Copy, Clone, Debug)]
enum Kind {
    Nginx,
    Haproxy,
}

impl Kind {
    fn configuration(self, stage: &Stage, port: u16, lists: &Path, for_machines_only: &str) -> String {
        let room = stage.gateway.room().display();
        let (root, lists) = (stage.root().display().to_string(), lists.display().to_string());
        match self {
            Self::Nginx => {
                let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                    .map(|what| format!("{what}_temp_path {room}/nginx-{what};\n"))
                    .concat();
                format!(
                    "daemon off; master_process off; pid {room}/nginx.pid; error_log {room}/nginx.log info;\n\
                     events {{}}\n\
                     http {{\n{temporary}access_log off;\n\
                     map $ssl_client_i_dn $is_machine {{ default 0; \"CN=test.example machines CA\" 1; }}\n\
                     server {{\n\
                     listen 127.0.0.1:{port} ssl; server_name localhost;\n\
                     ssl_certificate {room}/server.crt; ssl_certificate_key {room}/server.key;\n\
                     ssl_client_certificate {root};\nssl_crl {lists};\nssl_verify_client on;\n\
                     {for_machines_only}\
                     location / {{ return 200 \"$ssl_client_s_dn\"; }}\n}}\n}}\n"
                )
            }
            Self::Haproxy => format!(
                "global\n maxconn 20\ndefaults\n mode http\n timeout connect 5s\n timeout client 10s\n timeout server 10s\n\
                 frontend f\n bind 127.0.0.1:{port} ssl crt {room}/server.pem ca-file {root} crl-file {lists} verify required\n\
                 {for_machines_only} \
                 http-request return status 200 content-type text/plain lf-string \"CN=%[ssl_c_s_dn(cn)]\"\n"
            ),
        }
    }

    /// The line of the guide that refuses clients other than machines.
    fn machines_only(self) -> &'static str {
        match self {
            Self::Nginx => "if ($is_machine = 0) { return 403; }\n",
            Self::Haproxy => " http-request deny unless { ssl_c_i_dn(cn) -m str \"test.example machines CA\" }\n",
        }
    }

    fn start(self, stage: &Stage, lists: &Path, for_machines_only: &str) -> Server {
        let port = Port::take();
        let room = stage.gateway.room();
        let file = room.join(format!("{self:?}.conf"));
        std::fs::write(&file, self.configuration(stage, port.number(), lists, for_machines_only)).unwrap();
        let mut command = match self {
            Self::Nginx => Command::new("nginx"),
            Self::Haproxy => Command::new("haproxy"),
        };
        match self {
            Self::Nginx => command.arg("-p").arg(room).arg("-e").arg(room.join("nginx.log")).arg("-c").arg(&file),
            Self::Haproxy => command.arg("-db").arg("-f").arg(&file),
        };
        let mut program = Program::start(&mut command, room);
        eventually("the server listens", PATIENCE, || {
            assert!(program.runs(), "{self:?} ended\n{}{}", program.stdout(), program.stderr());
            std::net::TcpStream::connect(("127.0.0.1", port.number())).ok()
        });
        Server { port, program }
    }
}

impl Server {
    /// The status of an answer and its body; `000` when the handshake failed.
    fn answers(&self, stage: &Stage, holder: &Lychgate) -> String {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--max-time", "20", "--write-out", " %{http_code}", "--cacert"]);
        curl.arg(stage.gateway.room().join("server.crt"));
        curl.arg("--cert").arg(holder.file("cert.pem")).arg("--key").arg(holder.file("key.pem"));
        let ended = run(curl.arg(format!("https://localhost:{}/", self.port.number())), PATIENCE);
        ended.stdout
    }

    fn stop(self) {
        let _ = self.program.stop();
    }
}

#[test]
fn nginx_and_haproxy_with_our_lists() {
    let stage = Stage::set();
    for kind in [Kind::Nginx, Kind::Haproxy] {
        let server = kind.start(&stage, &stage.lists(&["machine.pem"]), "");
        let good = server.answers(&stage, &stage.machine);
        assert_eq!(good, "CN=m-1 200", "{kind:?}");
        let person = server.answers(&stage, &stage.alice);
        assert!(!person.ends_with(" 200"), "{kind:?}, without the list of her CA: {person}");
        server.stop();

        // Given the root and every list it lets in people as well; the issuer tells them apart.
        let lists = stage.lists(&["machine.pem", "person.pem"]);
        let server = kind.start(&stage, &lists, "");
        assert!(server.answers(&stage, &stage.alice).ends_with(" 200"), "{kind:?}");
        server.stop();
        let server = kind.start(&stage, &lists, kind.machines_only());
        assert_eq!(server.answers(&stage, &stage.machine), "CN=m-1 200", "{kind:?}");
        assert!(server.answers(&stage, &stage.alice).ends_with(" 403"), "{kind:?}");
        server.stop();
    }
    stage.lock();
    for kind in [Kind::Nginx, Kind::Haproxy] {
        let server = kind.start(&stage, &stage.lists(&["machine.pem"]), "");
        let revoked = server.answers(&stage, &stage.machine);
        assert!(revoked.ends_with(" 400") || revoked.ends_with(" 000"), "{kind:?}: {revoked}");
        server.stop();
    }
}
