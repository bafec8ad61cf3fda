//! haproxy and nginx in front of the gateway, as they are set up by those who read their manuals and not ours.

use std::fs;
use std::process::Command;

use tests::bench::nginx::which;
use tests::gateway::{Gateway, Setup};
use tests::port::Port;
use tests::program::{Program, run};
use tests::wait::{PATIENCE, eventually};

/// haproxy with a configuration; nothing when it is not installed here.
pub fn haproxy(gateway: &Gateway, text: &str) -> Option<Program> {
    started("haproxy", gateway, text, &["-db", "-f"])
}

/// nginx with what stands in its main context.
pub fn nginx(gateway: &Gateway, text: &str) -> Option<Program> {
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

/// What `curl` gets without a certificate of its own: the status and the body.
fn curl(url: &str) -> (String, String) {
    let mut curl = Command::new("curl");
    let ended = run(curl.args(["--silent", "--max-time", "20", "--write-out", "\n%{http_code}", url]), PATIENCE);
    let (body, code) = ended.stdout.rsplit_once('\n').unwrap();
    (code.to_owned(), body.to_owned())
}

/// A line that must come in what a program says on either stream.
#[track_caller]
pub fn says(program: &Program, what: &str) {
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
        "http {{ access_log off;\n\
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
