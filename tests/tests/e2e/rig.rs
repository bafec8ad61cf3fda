//! Shared by the tests of access: a service, a running machine, and a connection whose two ends the test controls.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tests::cli::Lychgate;
use tests::gateway::Gateway;
use tests::http::Face;
use tests::program::Program;
use tests::raw::Raw;
use tests::tls;
use tests::wait::{PATIENCE, eventually};

use crate::items;

/// A line echo service on loopback, which ends with the test.
pub struct Echo(pub SocketAddr);

impl Echo {
    pub fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let at = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                std::thread::spawn(move || {
                    let mut from = stream.try_clone().unwrap();
                    let _ = std::io::copy(&mut from, &mut stream);
                });
            }
        });
        Self(at)
    }

    pub fn exposed(&self, name: &str, how: &str) -> String {
        format!("{name}={}{how}", self.0)
    }
}

/// A web server with one page.
pub fn web(page: &'static str) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.read(&mut [0; 4096]);
            let length = page.len();
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{page}");
        }
    });
    at
}

/// A running machine with exposed services, whose tunnel is up.
pub struct Running {
    pub machine: Lychgate,
    pub run: Program,
}

impl Running {
    #[track_caller]
    pub fn start(machine: Lychgate, flags: &[&str]) -> Self {
        let mut run = machine.start(&[&["run"], flags].concat());
        run.expect_stdout("the tunnel is up", |out| out.contains("tunnel-up").then_some(()));
        Self { machine, run }
    }
}

/// `lychgate connect`, whose standard input and output the test controls.
pub struct Connected {
    pub child: Child,
}

impl Connected {
    pub fn start(person: &Lychgate, args: &[&str]) -> Self {
        let child = person
            .command(&[&["connect", "--raw"], args].concat())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self { child }
    }

    #[track_caller]
    pub fn say(&mut self, line: &str) {
        self.child.stdin.as_mut().unwrap().write_all(line.as_bytes()).unwrap();
    }

    #[track_caller]
    pub fn hear(&mut self, want: &str) {
        let mut heard = vec![0; want.len()];
        if let Err(error) = self.child.stdout.as_mut().unwrap().read_exact(&mut heard) {
            let mut said = String::new();
            self.child.stderr.as_mut().unwrap().read_to_string(&mut said).unwrap();
            panic!("it ended instead: {error}\n{said}");
        }
        assert_eq!(String::from_utf8_lossy(&heard), want);
    }

    /// Sends a line and expects its echo.
    #[track_caller]
    pub fn passes(&mut self, line: &str) {
        self.say(line);
        self.hear(line);
    }

    /// Its standard error and exit code.
    #[track_caller]
    pub fn end(mut self) -> (i32, String) {
        let status = eventually("the end of `connect`", PATIENCE, || self.child.try_wait().unwrap());
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (status.code().unwrap_or(-1), said)
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
pub fn sessions(person: &Lychgate) -> Vec<Value> {
    items(&person.json(&["sessions", "list"]))
}

/// `CONNECT` by an independent client; returns status, head and body.
#[track_caller]
pub fn connect(gateway: &Gateway, who: &Lychgate, target: &str) -> (u16, String, Value) {
    connect_at(&gateway.proxy(), gateway, who, target)
}

/// As [`connect`], to another address or server name of the proxy face.
#[track_caller]
pub fn connect_at(face: &Face, gateway: &Gateway, who: &Lychgate, target: &str) -> (u16, String, Value) {
    let config = tls::trusting(&gateway.roots(), Some(&who.identity()));
    let mut raw = Raw::open(face.address, &face.name, &config).unwrap();
    raw.send(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes()).unwrap();
    let (status, head, body) = raw.full_response().unwrap();
    (status, head, serde_json::from_str(&body).unwrap_or_default())
}

/// Checks a refusal.
#[track_caller]
pub fn refused(answer: &(u16, String, Value), status: u16, code: &str, cause: &str) {
    let (found, head, body) = answer;
    assert_eq!(*found, status, "{head}\n{body}");
    assert_eq!(body["type"], format!("urn:lychgate:error:{code}"), "{body}");
    let proxy_status = format!("Proxy-Status: lychgate; error={cause}; details=\"{code}\"");
    assert!(head.contains(&proxy_status), "no `{proxy_status}` in\n{head}");
    assert!(head.contains("Connection: close"), "{head}");
}

/// The value of a line of the gateway's metrics.
#[track_caller]
pub fn metric(gateway: &Gateway, who: &Lychgate, name: &str) -> u64 {
    let face = gateway.manage();
    let config = tls::trusting(&gateway.roots(), Some(&who.identity()));
    let (status, text) = tests::raw::get(face.address, &face.name, &config, "/metrics").unwrap();
    assert_eq!(status, 200, "{text}");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no `{name}` in\n{text}")).parse().unwrap()
}

/// The helpers of the identity in a folder, which would survive the test: stopped when dropped.
pub struct Helpers(PathBuf);

impl Helpers {
    pub fn of(dir: &Path) -> Self {
        Self(dir.to_owned())
    }

    /// The process ids of those that run.
    pub fn ids(&self) -> Vec<i32> {
        let dir = format!("--dir\0{}\0helper\0", self.0.display());
        let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let id: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let line = std::fs::read(format!("/proc/{id}/cmdline")).ok()?;
            String::from_utf8_lossy(&line).contains(&dir).then_some(id)
        });
        processes.collect()
    }
}

impl Drop for Helpers {
    fn drop(&mut self) {
        for id in self.ids() {
            let _ = kill_process(Pid::from_raw(id).unwrap(), Signal::TERM);
        }
    }
}
