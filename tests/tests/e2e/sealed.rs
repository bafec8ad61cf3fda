//! Sealed services. Their certificate works in an OpenSSL server, curl accepts it for the machine's name, and the gateway refuses it as
//! client certificate. The bytes of a session that cross the gateway are ciphertext.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rustls::{ClientConnection, Stream};
use rustls_pki_types::ServerName;
use serde_json::Value;
use tests::cli::Lychgate;
use tests::gateway::{Gateway, Setup};
use tests::port::Port;
use tests::program::{Ended, Program, run};
use tests::raw::Raw;
use tests::tls;
use tests::wait::{PATIENCE, eventually, unix_now};

use crate::rig::{Connected, Echo, Running, sessions};
use crate::{assert_says, audit, joined};

/// `curl` with a certificate and key, both in files.
fn curl(gateway: &Gateway, certificate: &Path, key: &Path, path: &str, more: &[&str]) -> Ended {
    let bundle = certificate.parent().unwrap().join("bundle.pem");
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--cert"]).arg(certificate).arg("--key").arg(key);
    command.arg("--cacert").arg(bundle).args(more).arg(gateway.manage().url(path));
    run(&mut command, PATIENCE)
}

#[track_caller]
fn openssl(dir: &Path, args: &[&str]) -> Ended {
    run(Command::new("openssl").args(args).current_dir(dir), PATIENCE)
}

/// Requests the certificate with a CSR that contains another name.
#[track_caller]
fn ask(gateway: &Gateway, who: &Lychgate) -> Value {
    let room = who.dir();
    let made = openssl(room, &["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "sealed.key"]);
    assert_eq!(made.code, 0, "{}", made.stderr);
    let subject = ["-subj", "/CN=gateway", "-addext", "subjectAltName=DNS:127.0.0.1"];
    let args = [&["req", "-new", "-key", "sealed.key", "-out", "sealed.csr"], &subject[..]].concat();
    assert_eq!(openssl(room, &args).code, 0);
    let csr = std::fs::read_to_string(room.join("sealed.csr")).unwrap();
    let base64: String = csr.lines().filter(|line| !line.starts_with('-')).collect();
    let body = serde_json::json!({ "csr": base64 }).to_string();
    let ended = curl(gateway, &who.file("cert.pem"), &who.file("key.pem"), "/v1/sealed", &["--json", &body]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    serde_json::from_str(&ended.stdout).unwrap()
}

#[test]
fn a_machine_serves_with_it_and_can_do_nothing_else() {
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let edge = joined(&gateway, &alice, "edge-1");
    let reply = ask(&gateway, &edge);
    assert_eq!(reply["identity"], "spiffe://test.example/machine/edge-1");
    assert_eq!(reply["not_after"], edge.json(&["status"])["not_after"]);
    let text = |name: &str| reply[name].as_str().unwrap().to_owned();
    let sealed = edge.file("sealed.pem");
    std::fs::write(&sealed, text("certificate") + &text("chain")).unwrap();
    for (purpose, good) in [("sslserver", true), ("sslclient", false)] {
        let args = ["verify", "-purpose", purpose, "-CAfile", "bundle.pem", "-untrusted", "chain.pem", "sealed.pem"];
        let ended = openssl(edge.dir(), &args);
        assert_eq!(ended.code == 0, good, "{purpose}: {} {}", ended.stdout, ended.stderr);
    }

    // The gateway's listeners do not take it, and the machine is none the worse for the attempt.
    let refused = curl(&gateway, &sealed, &edge.file("sealed.key"), "/v1/self", &[]);
    assert_ne!(refused.code, 0, "served: {}", refused.stdout);
    assert!(refused.stderr.contains("alert"), "{}", refused.stderr);
    edge.ok(&["renew", "--force"]);
    assert_eq!(audit(&alice, "certificate.sealed").len(), 1);
    assert_eq!(audit(&alice, "lineage.forked").len(), 0);
    let person = ask(&gateway, &alice);
    assert_eq!(person["type"], "urn:lychgate:error:wrong-caller");

    // Whoever trusts the roots believes it under the machine's name and no other.
    let port = Port::take();
    let address = port.number().to_string();
    let mut server = Command::new("openssl");
    server.args(["s_server", "-quiet", "-www", "-port", &address, "-cert", "sealed.pem", "-key", "sealed.key"]);
    server.args(["-cert_chain", "chain.pem"]).current_dir(edge.dir());
    let _server = Program::start(&mut server, gateway.room());
    let get = |name: &str| {
        let mut command = Command::new("curl");
        let resolve = format!("{name}:{address}:127.0.0.1");
        command.args(["--silent", "--show-error", "--retry", "20", "--retry-connrefused", "--retry-delay", "1"]);
        command.args(["--resolve", &resolve, "--cacert"]).arg(edge.file("bundle.pem"));
        run(command.arg(format!("https://{name}:{address}/")), PATIENCE)
    };
    let believed = get("edge-1.machine.test.example");
    assert_eq!(believed.code, 0, "{}", believed.stderr);
    // CURLE_PEER_FAILED_VERIFICATION
    assert_eq!(get("edge-2.machine.test.example").code, 60);
}

/// Everything that passes between a caller and the gateway once the connection is open, as the gateway has it in its hands:
/// without the TLS that the two speak with each other.
struct Passing {
    raw: Raw,
    /// Received and not read yet.
    unread: Vec<u8>,
    sent: Vec<u8>,
    heard: Vec<u8>,
}

impl Passing {
    /// `CONNECT` to a service, answered with 200.
    fn open(gateway: &Gateway, who: &Lychgate, target: &str) -> Self {
        let face = gateway.proxy();
        let mut raw =
            Raw::open(face.address, &face.name, &tls::trusting(&gateway.roots(), Some(&who.identity()))).unwrap();
        raw.send(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes()).unwrap();
        let (status, head, body) = raw.full_response().unwrap();
        assert_eq!(status, 200, "{head}\n{body}");
        assert!(head.contains("Lychgate-Mode: sealed"), "{head}");
        Self { raw, unread: vec![], sent: vec![], heard: vec![] }
    }
}

impl Read for Passing {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        if self.unread.is_empty() {
            self.unread = self.raw.receive()?;
            self.heard.extend_from_slice(&self.unread);
        }
        let count = space.len().min(self.unread.len());
        space[..count].copy_from_slice(&self.unread[..count]);
        self.unread.drain(..count);
        Ok(count)
    }
}

impl Write for Passing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.raw.send(bytes)?;
        self.sent.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// RFC 8446 5.1: the outermost record types in a stream of TLS, to its end.
fn record_types(mut bytes: &[u8]) -> Vec<u8> {
    let mut types = Vec::new();
    while let [kind, _, _, high, low, rest @ ..] = bytes {
        types.push(*kind);
        let length = usize::from(*high) << 8 | usize::from(*low);
        bytes = &rest[length.min(rest.len())..];
    }
    types
}

const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;

#[test]
fn what_crosses_the_gateway_is_ciphertext_to_the_machine_itself() {
    const MARKER: &[u8] = b"a secret that the gateway does not see\n";
    let echo = Echo::start();
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let mut alpha = Running::start(joined(&gateway, &alice, "alpha"), &["--expose", &echo.exposed("echo", "")]);
    let roots = gateway.roots();
    let mut passing = Passing::open(&gateway, &alice, "echo.alpha:7");
    let config = tls::trusting(&roots, Some(&alice.identity()));
    let name = ServerName::try_from("alpha.machine.test.example").unwrap();
    let mut inner = ClientConnection::new(Arc::clone(&config), name.clone()).unwrap();
    let mut heard = vec![0; MARKER.len()];
    let mut tls = Stream::new(&mut inner, &mut passing);
    tls.write_all(MARKER).unwrap();
    tls.read_exact(&mut heard).unwrap();
    assert_eq!(heard, MARKER, "it went to the service and back");

    // Whoever shook hands is the machine, with a key that it alone has.
    let shown: Vec<Vec<u8>> = inner.peer_certificates().unwrap().iter().map(|der| der.to_vec()).collect();
    let roots: Vec<&[u8]> = roots.iter().map(AsRef::as_ref).collect();
    let (domain, now) = (pki::TrustDomain::parse("test.example").unwrap(), pki::UnixTime::new(unix_now()));
    let anchors = pki::TrustAnchors::new(&domain, &roots, now).unwrap();
    let issuers: Vec<&[u8]> = shown[1..].iter().map(Vec::as_slice).collect();
    let peer = pki::verify_sealed(&shown[0], &issuers, &anchors, &pki::Name::parse("alpha").unwrap(), now).unwrap();
    assert_eq!(peer.identity.to_string(), "spiffe://test.example/machine/alpha");
    let of_the_gateway = passing.raw.peer_chain();
    assert!(!of_the_gateway.contains(&shown[0]), "that is the gateway's own");

    // And what passed, each way, holds nothing of it: the records of a handshake, and ciphertext.
    for (way, bytes) in [("there", &passing.sent), ("back", &passing.heard)] {
        assert!(!bytes.windows(MARKER.len()).any(|window| window == MARKER), "{way}: {bytes:?}");
        let types = record_types(bytes);
        assert!(types.contains(&HANDSHAKE) && types.contains(&APPLICATION_DATA), "{way}: {types:?}");
        let known = [HANDSHAKE, CHANGE_CIPHER_SPEC, APPLICATION_DATA];
        assert!(types.iter().all(|kind| known.contains(kind)), "{way}: {types:?}");
    }
    // By the gateway's own count that was all: no byte besides those that we have in our hands.
    let counted = eventually("all of it is counted", PATIENCE, || {
        let session = sessions(&alice).pop()?;
        let both = [&session["to_machine"], &session["from_machine"]].map(|count| count.as_u64().unwrap());
        (both == [passing.sent.len(), passing.heard.len()].map(|length| length as u64)).then_some(session)
    });
    assert_eq!(counted["mode"], "sealed");

    // A caller without TLS is told so by the machine, in an alert, and never gets to the service.
    let mut plain = Passing::open(&gateway, &alice, "echo.alpha:7");
    plain.write_all(MARKER).unwrap();
    let _ = plain.read_to_end(&mut Vec::new());
    assert_eq!(record_types(&plain.heard), [ALERT], "{:?}", plain.heard);
    // One who speaks plain HTTP is told so in HTTP.
    let mut plain = Passing::open(&gateway, &alice, "echo.alpha:7");
    plain.write_all(b"GET / HTTP/1.1\r\nHost: echo.alpha\r\n\r\n").unwrap();
    let mut answer = String::new();
    let _ = plain.read_to_string(&mut answer);
    assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
    assert!(answer.contains("the service `echo` is sealed"), "{answer}");
    // One who is somebody else than the gateway let in is refused by the machine as well.
    let bob = gateway.client("bob");
    let invitation = alice.json(&["people", "invite", "--name", "bob", "--group", "admins"]);
    bob.ok(&["join", invitation["token"].as_str().unwrap(), "--name", "bob"]);
    let mut lent = Passing::open(&gateway, &alice, "echo.alpha:7");
    let mut inner = ClientConnection::new(tls::trusting(&gateway.roots(), Some(&bob.identity())), name).unwrap();
    let mut tls = Stream::new(&mut inner, &mut lent);
    // The machine judges after our last word of the handshake.
    let _ = tls.write_all(MARKER);
    assert!(matches!(tls.read(&mut heard), Ok(0) | Err(_)));
    let says = "the gateway named spiffe://test.example/person/alice, and spiffe://test.example/person/bob is there";
    alpha.run.expect_stdout("the machine says why", |out| out.contains(says).then_some(()));
}

/// `connect`, `forward` and `--reach` of our client seal by themselves.
#[test]
fn the_client_seals_at_every_door() {
    let echo = Echo::start();
    let rule = "@id(\"agents-reach\") permit(principal is Lychgate::Machine, action == Lychgate::Action::\"reach\", \
                resource);";
    let gateway = Setup::default().policy(rule).start();
    let alice = gateway.first_person();
    let exposed = echo.exposed("echo", ",allow=person,allow=machine");
    let _a = Running::start(joined(&gateway, &alice, "alpha"), &["--expose", &exposed]);
    let mut helper = alice.start(&["helper"]);
    helper.expect_stderr("the helper listens", |said| said.contains("helping at").then_some(()));
    let mut by_helper = Connected::start(&alice, &["alpha", "echo", "--helper"]);
    by_helper.passes("by the helper\n");

    let mut forward = alice.start(&["forward", "alpha", "echo"]);
    let at: SocketAddr = forward.expect_stderr("it listens", |said| {
        said.split_once("lychgate: ")?.1.split_once(" forwards to")?.0.parse().ok()
    });
    let _by_forward = passes(at, b"by a forward\n");

    let port = Port::take();
    let reach = format!("e=echo.alpha:{}", port.number());
    let _edge = Running::start(joined(&gateway, &alice, "edge"), &["--reach", &reach]);
    let _by_reach = passes((Ipv4Addr::LOCALHOST, port.number()).into(), b"by a machine\n");

    let open = sessions(&alice);
    assert_eq!(open.len(), 3, "{open:?}");
    for session in &open {
        assert_eq!(session["mode"], "sealed", "{session}");
        assert!(session["to_machine"].as_u64().unwrap() > 1_000, "a handshake went through: {session}");
    }
    let mut doors: Vec<&str> = open.iter().map(|session| session["door"].as_str().unwrap()).collect();
    doors.sort_unstable();
    assert_eq!(doors, ["helper", "helper", "tunnel"]);
}

/// Whether it is sealed is for the caller to say: what the gateway calls raw is taken only from who asked for that, and from who did
/// not, no byte leaves.
#[test]
fn what_is_not_sealed_is_refused_unless_it_was_asked_for() {
    let echo = Echo::start();
    let rule = "@id(\"agents-reach\") permit(principal is Lychgate::Machine, action == Lychgate::Action::\"reach\", \
                resource);";
    let gateway = Setup::default().policy(rule).start();
    let alice = gateway.first_person();
    let exposed = echo.exposed("echo", ",raw,allow=person,allow=machine");
    let alpha = joined(&gateway, &alice, "alpha");
    let _alpha = Running::start(alpha, &["--expose", &exposed, "--expose", &echo.exposed("ssh", "")]);
    let words =
        "`echo` on `alpha` is not sealed, by what the gateway says: it could read what passes; nothing was sent";
    for more in [&[][..], &["--helper"]] {
        let said = alice.refused(&[&["connect", "alpha", "echo"], more].concat());
        assert_says(&said, 3, words);
        assert!(said.stderr.contains("say so with `--raw`"), "{}", said.stderr);
        Connected::start(&alice, &[&["alpha", "echo"], more].concat()).passes("as was asked for\n");
    }
    let port = Port::take();
    let reach = format!("e=echo.alpha:{}", port.number());
    let mut edge = Running::start(joined(&gateway, &alice, "edge"), &["--reach", &reach]);
    let mut program = TcpStream::connect((Ipv4Addr::LOCALHOST, port.number())).unwrap();
    program.set_read_timeout(Some(PATIENCE)).unwrap();
    let _ = program.write_all(b"password=hunter2\n");
    assert!(matches!(program.read(&mut [0; 16]), Ok(0) | Err(_)));
    edge.run.expect_stdout("the log says why", |out| out.contains(words).then_some(()));
    eventually("nothing is open", PATIENCE, || sessions(&alice).is_empty().then_some(()));
    for closed in audit(&alice, "session.closed") {
        let (service, bytes) = (&closed["detail"]["service"], &closed["detail"]["to_machine"]);
        assert!(service != "echo" || bytes == "0" || bytes == "17", "{closed}");
    }
    // What encrypts by itself needs no word.
    alice.ok(&["connect", "alpha", "ssh"]);
}

/// Sends a line to a local port and expects its echo.
#[track_caller]
fn passes(at: SocketAddr, words: &[u8]) -> TcpStream {
    let mut program = TcpStream::connect(at).unwrap();
    program.set_read_timeout(Some(PATIENCE)).unwrap();
    program.write_all(words).unwrap();
    let mut heard = vec![0; words.len()];
    program.read_exact(&mut heard).unwrap();
    assert_eq!(heard, words);
    program
}
