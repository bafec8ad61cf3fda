//! Access of people to services on machines that accept no connection from the network, and the messages of refusals.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use tests::cli::Lychgate;
use tests::gateway::{Gateway, Setup};
use tests::program::run;
use tests::raw::Raw;
use tests::tls;
use tests::wait::{PATIENCE, eventually};

use crate::rig::{Connected, Echo, Running, connect, refused, sessions, web};
use crate::{assert_says, audit, items, joined};

#[test]
fn a_person_reaches_a_service_behind_the_gateway() {
    let echo = Echo::start();
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let _a = Running::start(joined(&gateway, &alice, "alpha"), &["--expose", &echo.exposed("echo", ",raw")]);
    let mut open = Connected::start(&alice, &["alpha", "echo"]);
    open.passes("hello\n");
    let listed = sessions(&alice);
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(listed[0]["machine"], "alpha");
    assert_eq!(listed[0]["service"], "echo");
    assert_eq!(listed[0]["rules"], serde_json::json!(["admins-connect"]));
    drop(open.child.stdin.take());
    let (code, said) = open.end();
    assert_eq!((code, said.as_str()), (0, ""));
    eventually("the session is closed", PATIENCE, || sessions(&alice).is_empty().then_some(()));
    let closed = eventually("the audit says so", PATIENCE, || audit(&alice, "session.closed").pop());
    assert_eq!(closed["detail"]["reason"], "peer");
    assert_eq!(closed["detail"]["to_machine"], "6");
    assert_eq!(closed["detail"]["from_machine"], "6");
    let opened = audit(&alice, "session.opened").pop().unwrap();
    assert_eq!(opened["actor"], "spiffe://test.example/person/alice");
    assert_eq!(opened["rules"], serde_json::json!(["admins-connect"]));
}

#[test]
fn every_refusal_says_what_and_why() {
    let (closed, slow) = (TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(), Slow::start());
    let nobody = closed.local_addr().unwrap();
    drop(closed);
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let bob = invited(&gateway, &alice, "bob");
    let alpha = joined(&gateway, &alice, "alpha");
    let _away = joined(&gateway, &alice, "away");
    let closed = format!("closed={nobody},raw");
    let mine = format!("mine={nobody},raw,allow=group/dba");
    let slow = format!("slow={},raw", slow.at());
    let _a = Running::start(alpha, &["--expose", &closed, "--expose", &mine, "--expose", &slow]);

    let answer = connect(&gateway, &alice, "ssh.away:22");
    refused(&answer, 503, "offline", "destination_unavailable");
    assert!(answer.1.contains("Retry-After: 30"), "{}", answer.1);
    assert_says(&alice.refused(&["connect", "away"]), 5, "the machine `away` is offline");

    refused(&connect(&gateway, &alice, "closed.alpha:1"), 502, "target-closed", "connection_refused");
    assert_says(&alice.refused(&["connect", "alpha", "closed"]), 5, "`closed` does not answer: connection refused");
    let answer = connect(&gateway, &alice, "slow.alpha:1");
    refused(&answer, 504, "target-slow", "connection_timeout");
    let words = "the service does not answer the machine `alpha`: `slow` did not answer within 10 s";
    assert_eq!(answer.2["detail"], words);

    let answer = connect(&gateway, &alice, "web.alpha:80");
    refused(&answer, 404, "not-exposed", "destination_not_found");
    let words = "the machine `alpha` does not expose `web`; it exposes `closed`, `mine`, `slow`";
    assert_eq!(answer.2["detail"], words);

    let answer = connect(&gateway, &alice, "mine.alpha:1");
    refused(&answer, 403, "refused-by-machine", "http_request_denied");
    let words = "its owner does not let spiffe://test.example/person/alice in to `mine`";
    assert!(answer.2["detail"].as_str().unwrap().contains(words), "{}", answer.2);

    // What one may not know of is not there, whether it is or not.
    let unseen = connect(&gateway, &bob, "closed.alpha:1");
    refused(&unseen, 404, "not-found", "destination_not_found");
    assert_eq!(connect(&gateway, &bob, "closed.nowhere:1").2["detail"], unseen.2["detail"]);
    // What one sees and may not reach is refused by name of the rule.
    alice.ok(&["machines", "lock", "away", "--reason", "stolen"]);
    let answer = connect(&gateway, &alice, "ssh.away:22");
    refused(&answer, 403, "denied", "http_request_denied");
    assert_eq!(answer.2["rules"], serde_json::json!(["locked-machine"]));

    let answer = connect(&gateway, &alice, "127.0.0.1:22");
    refused(&answer, 400, "malformed", "http_request_error");
    assert!(answer.2["detail"].as_str().unwrap().contains("`127.0.0.1:22` is an address"), "{}", answer.2);

    let machine = gateway.client("alpha");
    refused(&connect(&gateway, &machine, "closed.alpha:1"), 403, "wrong-caller", "http_request_denied");
    assert_says(&machine.refused(&["connect", "alpha", "closed"]), 3, "is no person");
    assert_eq!(audit(&alice, "session.opened").len(), 4, "what reached a machine, and nothing else");
}

/// A person without groups.
#[track_caller]
fn invited(gateway: &Gateway, alice: &Lychgate, name: &str) -> Lychgate {
    let person = gateway.client(name);
    let invitation = alice.json(&["people", "invite", "--name", name]);
    person.ok(&["join", invitation["token"].as_str().unwrap(), "--name", name]);
    person
}

/// A port that accepts no connection: its backlog is full.
struct Slow(socket2::Socket, Vec<socket2::Socket>);

impl Slow {
    fn start() -> Self {
        let socket = || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let listener = socket();
        listener.bind(&std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let at = listener.local_addr().unwrap();
        let fill = || {
            let one = socket();
            one.set_nonblocking(true).unwrap();
            let _ = one.connect(&at);
            one
        };
        let queued = (0..3).map(|_| fill()).collect();
        Self(listener, queued)
    }

    fn at(&self) -> std::net::SocketAddr {
        assert_eq!(self.1.len(), 3);
        self.0.local_addr().unwrap().as_socket().unwrap()
    }
}

#[test]
fn curl_reaches_a_web_service_by_connect() {
    let web = web("hello from alpha");
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let _a = Running::start(joined(&gateway, &alice, "alpha"), &["--expose", &format!("web={web},raw")]);
    let proxy = format!("https://{}", gateway.proxy().authority());
    let file = |name: &str| alice.file(name).display().to_string();
    let curl = |more: &[&str]| {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--noproxy", "", "--proxytunnel", "-x", &proxy, "--proxy-cacert", &file("bundle.pem")])
            .args(more);
        run(curl.arg(format!("http://{}/", "web.alpha")), PATIENCE)
    };
    let identified = ["--proxy-cert".to_owned(), file("cert.pem"), "--proxy-key".to_owned(), file("key.pem")];
    let identified: Vec<&str> = identified.iter().map(String::as_str).collect();
    let ended = curl(&identified);
    assert_eq!((ended.code, ended.stdout.as_str()), (0, "hello from alpha"), "{}", ended.stderr);
    let stranger = curl(&[]);
    assert_ne!(stranger.code, 0);
    assert!(stranger.stderr.contains("certificate required"), "{}", stranger.stderr);
}

#[test]
fn a_name_for_each_service_leads_to_its_bare_bytes() {
    let echo = Echo::start();
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let _a = Running::start(joined(&gateway, &alice, "alpha"), &["--expose", &echo.exposed("echo", ",raw")]);
    let face = gateway.proxy();
    let config = tls::trusting(&gateway.roots(), Some(&alice.identity()));
    let name = "echo--alpha.gateway.test.example";
    let mut raw = Raw::open(face.address, name, &config).unwrap();
    raw.send(b"bare bytes\n").unwrap();
    assert_eq!(raw.read_some(11).unwrap(), b"bare bytes\n");
    assert_eq!(sessions(&alice)[0]["door"], "raw");
    // Nothing is said where the service's protocol has no place for words.
    let mut nothing = Raw::open(face.address, "web--alpha.gateway.test.example", &config).unwrap();
    assert!(nothing.closed());
    // SSH has one.
    let mut ssh = Raw::open(face.address, "ssh--alpha.gateway.test.example", &config).unwrap();
    let words = String::from_utf8(ssh.read_to_end()).unwrap();
    assert!(words.starts_with("lychgate: the machine `alpha` does not expose `ssh`"), "{words}");
}

#[test]
fn all_doors_stand_on_one_port() {
    let echo = Echo::start();
    let gateway = Setup::default().shared().start();
    let alice = gateway.first_person();
    let _a = Running::start(joined(&gateway, &alice, "alpha"), &["--expose", &echo.exposed("echo", ",raw")]);
    let face = gateway.proxy();
    assert_eq!(face.address, gateway.manage().address);
    let mut open = Connected::start(&alice, &["alpha", "echo"]);
    open.passes("by the client\n");
    let config = tls::trusting(&gateway.roots(), Some(&alice.identity()));
    let mut raw = Raw::open(face.address, "echo--alpha.proxy.localhost", &config).unwrap();
    raw.send(b"by name\n").unwrap();
    assert_eq!(raw.read_some(8).unwrap(), b"by name\n");
    let answer = connect(&gateway, &alice, "echo.alpha:7");
    assert_eq!(answer.0, 200, "{}", answer.1);
    assert!(answer.1.contains("Lychgate-Session: ") && answer.1.contains("Lychgate-Mode: raw"), "{}", answer.1);
    assert!(Raw::open(face.address, "echo--alpha.manage.localhost", &config).is_err(), "not a name of the proxy face");
}

#[test]
fn what_does_not_encrypt_is_sealed_between_person_and_machine() {
    let echo = Echo::start();
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let _a = Running::start(joined(&gateway, &alice, "alpha"), &["--expose", &echo.exposed("echo", "")]);
    let mut open = Connected::start(&alice, &["alpha", "echo"]);
    open.passes("a secret that the gateway does not see\n");
    let session = sessions(&alice).pop().unwrap();
    assert_eq!(session["mode"], "sealed");
    assert!(session["to_machine"].as_u64().unwrap() > 1_000, "a handshake went through, not 39 bytes: {session}");
    // By a door without the client, whoever comes must seal by themselves: plain bytes get an alert and no echo.
    let face = gateway.proxy();
    let config = tls::trusting(&gateway.roots(), Some(&alice.identity()));
    let mut raw = Raw::open(face.address, "echo--alpha.gateway.test.example", &config).unwrap();
    raw.send(b"plain bytes\r\n\r\n").unwrap();
    let heard = raw.read_to_end();
    assert!(!String::from_utf8_lossy(&heard).contains("plain bytes"), "{heard:?}");
}

#[test]
fn one_helper_serves_many_and_a_forward_too() {
    let echo = Echo::start();
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let _a = Running::start(joined(&gateway, &alice, "alpha"), &["--expose", &echo.exposed("echo", ",raw")]);
    let mut helper = alice.start(&["helper"]);
    helper.expect_stderr("the helper listens", |said| said.contains("helping at").then_some(()));
    let mut open: Vec<Connected> = (0..8).map(|_| Connected::start(&alice, &["alpha", "echo", "--helper"])).collect();
    for (n, one) in open.iter_mut().enumerate() {
        one.passes(&format!("number {n}\n"));
    }
    let listed = sessions(&alice);
    assert_eq!(listed.len(), 8);
    assert!(listed.iter().all(|session| session["door"] == "helper"), "{listed:?}");
    // A refusal comes through it as it is.
    let refused = alice.refused(&["connect", "alpha", "web", "--helper"]);
    assert_says(&refused, 3, "the machine `alpha` does not expose `web`");
    assert!(refused.stderr.contains("hint:"), "{}", refused.stderr);
    drop(open);
    eventually("they are closed", PATIENCE, || sessions(&alice).is_empty().then_some(()));

    let mut forward = alice.start(&["forward", "--raw", "alpha", "echo"]);
    let at: std::net::SocketAddr = forward.expect_stderr("it listens", |said| {
        said.split_once("lychgate: ")?.1.split_once(" forwards to")?.0.parse().ok()
    });
    let mut program = TcpStream::connect(at).unwrap();
    program.set_read_timeout(Some(PATIENCE)).unwrap();
    program.write_all(b"forward\n").unwrap();
    let mut heard = [0; 8];
    program.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"forward\n");
}

#[test]
fn a_machine_reaches_a_service_elsewhere_when_a_rule_says_so() {
    let echo = Echo::start();
    let rule = "@id(\"agents-reach\") permit(principal is Lychgate::Machine, action == Lychgate::Action::\"reach\", \
                resource) when { resource.name == \"master\" };";
    let gateway = Setup::default().policy(rule).start();
    let alice = gateway.first_person();
    let exposed = [echo.exposed("master", ",raw,allow=machine"), echo.exposed("other", ",raw,allow=machine")];
    let _infra = Running::start(joined(&gateway, &alice, "infra"), &["--expose", &exposed[0], "--expose", &exposed[1]]);
    let ports = [tests::port::Port::take(), tests::port::Port::take()];
    let reach =
        [format!("m=master.infra:{},raw", ports[0].number()), format!("o=other.infra:{},raw", ports[1].number())];
    let mut edge = Running::start(joined(&gateway, &alice, "edge"), &["--reach", &reach[0], "--reach", &reach[1]]);
    let mut program = TcpStream::connect((Ipv4Addr::LOCALHOST, ports[0].number())).unwrap();
    program.set_read_timeout(Some(PATIENCE)).unwrap();
    program.write_all(b"agent\n").unwrap();
    let mut heard = [0; 6];
    program.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"agent\n");
    let session = sessions(&alice).pop().unwrap();
    assert_eq!(session["caller"], "spiffe://test.example/machine/edge");
    assert_eq!((&session["door"], &session["rules"]), (&"tunnel".into(), &serde_json::json!(["agents-reach"])));
    // `--person` means people, and not a machine of that name.
    for (filter, want) in [(["--person", "edge"], 0), (["--person", "alice"], 0), (["--machine", "infra"], 1)] {
        let listed = alice.json(&[&["sessions", "list"][..], &filter].concat());
        assert_eq!(items(&listed).len(), want, "{filter:?}: {listed}");
    }
    let mut denied = TcpStream::connect((Ipv4Addr::LOCALHOST, ports[1].number())).unwrap();
    denied.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(denied.read(&mut heard).unwrap_or(0), 0, "no rule, no way");
    edge.run.expect_stdout("the log says why", |out| {
        out.contains("no way to `other` on infra: no such machine").then_some(())
    });
    assert!(edge.machine.dir().exists());
}

#[test]
fn a_service_may_be_a_unix_socket() {
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let path = gateway.room().join("service.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut from = stream.try_clone().unwrap();
            let _ = std::io::copy(&mut from, &mut stream);
        }
    });
    let expose = format!("local=unix:{}", path.display());
    let _a = Running::start(joined(&gateway, &alice, "alpha"), &["--expose", &expose]);
    let mut open = Connected::start(&alice, &["alpha", "local"]);
    open.passes("through the socket\n");
    assert_eq!(sessions(&alice)[0]["mode"], "sealed");
}

#[test]
fn a_file_says_what_is_exposed_and_nothing_else_is() {
    let echo = Echo::start();
    let gateway = Setup::default().start();
    let alice = gateway.first_person();
    let alpha = joined(&gateway, &alice, "alpha");
    std::fs::write(alpha.file("services.toml"), "[expose.echo]\ntarget = \"nowhere\"\n").unwrap();
    assert_says(&alpha.refused(&["run", "--once"]), 2, "services.toml: `nowhere` is no place for the service `echo`");
    let file = format!("[expose.echo]\ntarget = \"{}\"\nmode = \"raw\"\nallow = [\"person/alice\"]\n", echo.0);
    std::fs::write(alpha.file("services.toml"), file).unwrap();
    let running = Running::start(alpha, &[]);
    let shown = alice.json(&["machines", "show", "alpha"]);
    assert_eq!(shown["tunnel"]["services"], serde_json::json!(["echo"]));
    let mut open = Connected::start(&alice, &["alpha", "echo"]);
    open.passes("by the file\n");
    drop((open, running));
    let gone = eventually("the tunnel is gone", PATIENCE, || {
        let shown = alice.json(&["machines", "show", "alpha"]);
        shown["tunnel"].is_null().then_some(shown)
    });
    assert_eq!(gone["state"], "active", "only its tunnel is gone");
    assert!(PATIENCE > Duration::from_secs(1));
}
