//! haproxy and nginx in front of the gateway, with their usual configurations.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use socket2::{Domain, Socket, Type};
use tests::bench::nginx::which;
use tests::cli::Lychgate;
use tests::device::{self, Key, Outcome};
use tests::gateway::{Gateway, Setup};
use tests::http::Face;
use tests::port::Port;
use tests::program::{Program, run};
use tests::raw::Raw;
use tests::tls;
use tests::wait::{PATIENCE, eventually};

/// haproxy with a configuration; `None` if it is not installed.
fn haproxy(gateway: &Gateway, text: &str) -> Option<Program> {
    started("haproxy", gateway, text, &["-db", "-f"])
}

/// nginx with a configuration.
fn nginx(gateway: &Gateway, text: &str) -> Option<Program> {
    let room = gateway.room().display();
    let text =
        format!("daemon off; master_process off; pid {room}/nginx.pid; error_log stderr info;\nevents {{}}\n{text}");
    started("nginx", gateway, &text, &["-p", &gateway.room().to_string_lossy(), "-e", "stderr", "-c"])
}

fn started(name: &str, gateway: &Gateway, text: &str, options: &[&str]) -> Option<Program> {
    let Some(binary) = which(name) else {
        eprintln!("skipped: {name} is not installed");
        return None;
    };
    let path = gateway.room().join(format!("{name}.conf"));
    fs::write(&path, text).unwrap();
    Some(Program::start(Command::new(binary).args(options).arg(path), gateway.room()))
}

/// Status and body that `curl` gets without a client certificate.
fn curl(url: &str) -> (String, String) {
    let mut curl = Command::new("curl");
    let ended = run(curl.args(["--silent", "--max-time", "20", "--write-out", "\n%{http_code}", url]), PATIENCE);
    let (body, code) = ended.stdout.rsplit_once('\n').unwrap();
    (code.to_owned(), body.to_owned())
}

/// Waits for a text in a program's standard output or error.
#[track_caller]
fn says(program: &Program, what: &str) {
    eventually(what, PATIENCE, || {
        let said = program.stdout() + &program.stderr();
        said.contains(what).then_some(())
    });
}

#[test]
fn the_checks_of_haproxy_find_the_gateway_up() {
    let gateway = Setup::default().start();
    let port = Port::take();
    let rows = [
        ("http10", "option httpchk GET /readyz".to_owned()),
        ("head", "option httpchk HEAD /healthz".to_owned()),
        ("http11", "option httpchk\n  http-check send meth GET uri /readyz ver HTTP/1.1 hdr Host gate".to_owned()),
    ];
    let backends: String = rows
        .iter()
        .map(|(name, check)| {
            let at = gateway.enroll().address;
            format!("backend {name}\n  {check}\n  server gate {at} check inter 200ms check-ssl verify none\n")
        })
        .collect();
    let text = format!(
        "global\n  log stdout format raw local0\ndefaults\n  mode http\n  log global\n  option log-health-checks\n  \
         timeout connect 5s\n  timeout client 5s\n  timeout server 5s\n  timeout check 5s\n\
         frontend in\n  bind 127.0.0.1:{}\n  default_backend http10\n{backends}",
        port.number()
    );
    let Some(program) = haproxy(&gateway, &text) else { return };
    for (name, _) in rows {
        says(
            &program,
            &format!("Health check for server {name}/gate succeeded, reason: Layer7 check passed, code: 200"),
        );
    }
    let said = program.stdout() + &program.stderr();
    assert!(!said.contains("wrong status"), "{said}");
}

#[test]
fn nginx_is_told_what_it_lacks() {
    let gateway = Setup::default().start();
    let (plain, told) = (Port::take(), Port::take());
    let at = gateway.enroll().address;
    let text = format!(
        "http {{ access_log off; proxy_ssl_protocols TLSv1.3;\n\
         server {{ listen 127.0.0.1:{}; location / {{ proxy_pass https://{at}; proxy_http_version 1.0; }} }}\n\
         server {{ listen 127.0.0.1:{}; location / {{ proxy_pass https://{at}; proxy_http_version 1.1; }} }}\n}}",
        plain.number(),
        told.number()
    );
    let Some(program) = nginx(&gateway, &text) else { return };
    let url = |port: &Port, path: &str| format!("http://127.0.0.1:{}{path}", port.number());
    eventually("nginx", PATIENCE, || (curl(&url(&told, "/healthz")).0 == "200").then_some(()));
    assert_eq!(curl(&url(&plain, "/healthz")), ("200".to_owned(), "ok\n".to_owned()));
    assert_eq!(curl(&url(&plain, "/readyz")), ("200".to_owned(), "ready\n".to_owned()));
    let (code, body) = curl(&url(&plain, "/v1/gateway"));
    assert_eq!(code, "505", "{body}");
    assert!(body.contains("urn:lychgate:error:http-version") && body.contains("proxy_http_version 1.1"), "{body}");
    assert_eq!(curl(&url(&told, "/v1/gateway")).0, "200", "{}", program.stderr());
}

/// The balancer's source address, which no other client of the test uses.
const BALANCER: &str = "127.0.0.9";

/// A gateway that accepts the PROXY header from [`BALANCER`], with a low limit of handshakes per network.
fn behind_a_balancer() -> Gateway {
    Setup::default()
        .config("listen.proxy_protocol_from", vec![BALANCER])
        .config("limits.handshakes_per_prefix", 2)
        .start()
}

/// Enrolls through the balancer at `port` from `source`; returns the network in the request.
async fn seen_from(gateway: &Gateway, alice: &Lychgate, port: &Port, source: [u8; 4]) -> String {
    let config = tls::trusting(&gateway.roots(), None);
    let address = ([127, 0, 0, 1], port.number()).into();
    let face = Face { address, ..gateway.enroll() }.from(source);
    let key = Key::generate();
    // The name in the proof is the gateway's, the port the balancer's.
    let outcome = device::enroll(&face, &config, &key, &device::request(&key, None, None)).await.unwrap();
    let Outcome::Waiting(waiting) = outcome else { panic!("not waiting: {outcome:?}") };
    let shown = alice.json(&["requests", "show", &waiting.id]);
    shown["source"].as_str().unwrap_or_default().to_owned()
}

async fn clients_keep_their_addresses(gateway: &Gateway, port: &Port) {
    let alice = gateway.first_person();
    assert_eq!(seen_from(gateway, &alice, port, [127, 0, 3, 7]).await, "127.0.3.0/24");
    // One who opens connections and says nothing fills his own share, and nobody's beside it.
    let to = SocketAddr::from(([127, 0, 0, 1], port.number()));
    let silent: Vec<TcpStream> = (0..8).map(|_| from(to, [127, 0, 3, 8])).collect();
    assert_eq!(seen_from(gateway, &alice, port, [127, 0, 4, 1]).await, "127.0.4.0/24");
    drop(silent);
}

fn from(to: SocketAddr, source: [u8; 4]) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.into()
}

#[tokio::test]
async fn haproxy_says_whom_it_speaks_for() {
    let (gateway, port) = (behind_a_balancer(), Port::take());
    let text = format!(
        "global\n  log stdout format raw local0\ndefaults\n  mode tcp\n  log global\n  option log-health-checks\n  \
         timeout connect 5s\n  timeout client 1m\n  timeout server 1m\n  timeout check 5s\n\
         listen in\n  bind 127.0.0.1:{}\n  option httpchk GET /readyz\n  source {BALANCER}\n  \
         server gate {} send-proxy-v2 check inter 200ms check-ssl check-send-proxy verify none\n",
        port.number(),
        gateway.enroll().address
    );
    let Some(program) = haproxy(&gateway, &text) else { return };
    says(&program, "Health check for server in/gate succeeded, reason: Layer7 check passed, code: 200");
    clients_keep_their_addresses(&gateway, &port).await;
}

#[tokio::test]
async fn nginx_says_whom_it_speaks_for() {
    let (gateway, port) = (behind_a_balancer(), Port::take());
    // Debian has the module in a file of its own.
    let module = ["/usr/lib/nginx/modules", "/usr/lib64/nginx/modules"]
        .map(|folder| format!("{folder}/ngx_stream_module.so"))
        .into_iter()
        .find(|path| std::path::Path::new(path).exists())
        .map_or_else(String::new, |path| format!("load_module {path};\n"));
    let room = gateway.room().display();
    let text = format!(
        "{module}daemon off; master_process off; pid {room}/nginx.pid; error_log stderr info;\nevents {{}}\n\
         stream {{ server {{ listen 127.0.0.1:{}; proxy_pass {}; proxy_bind {BALANCER}; proxy_protocol on; }} }}\n",
        port.number(),
        gateway.enroll().address
    );
    let Some(mut program) = started("nginx", &gateway, &text, &["-p", &room.to_string(), "-e", "stderr", "-c"]) else {
        return;
    };
    let to = SocketAddr::from(([127, 0, 0, 1], port.number()));
    let up = eventually("nginx", PATIENCE, || {
        if !program.runs() {
            return Some(false);
        }
        TcpStream::connect(to).is_ok().then_some(true)
    });
    if !up {
        assert!(program.stderr().contains("unknown directive \"stream\""), "{}", program.stderr());
        eprintln!("skipped: this nginx has no stream module");
        return;
    }
    clients_keep_their_addresses(&gateway, &port).await;
}

/// A connection from the balancer's address without PROXY header is refused, and one with it from another address.
#[test]
fn the_header_is_wanted_from_balancers_and_from_nobody_else() {
    let gateway = behind_a_balancer();
    let anybody = tls::trusting_anybody(None);
    let balancer = gateway.enroll().from([127, 0, 0, 9]);
    assert!(Raw::to(&balancer, &anybody).is_err());
    eventually("the log says so", PATIENCE, || {
        let log = gateway.log();
        (log.contains("there is no PROXY protocol header") && log.contains(BALANCER)).then_some(())
    });
    let mut stranger = from(gateway.enroll().address, [127, 0, 3, 9]);
    stranger.write_all(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n").unwrap();
    stranger.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = Vec::new();
    // An alert, or a reset: whichever, no handshake.
    let _ = stranger.read_to_end(&mut answer);
    assert!(answer.is_empty() || answer[0] == 21, "{answer:?}");
    assert!(Raw::to(&gateway.enroll(), &anybody).is_ok());
}
