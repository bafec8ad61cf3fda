//! A machine in a network namespace, behind a firewall that accepts no connection, whose link can be cut.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use tests::cli::Lychgate;
use tests::gateway::{Gateway, Setup};
use tests::program::{Program, run};
use tests::wait::PATIENCE;

const FACES: [&str; 3] = ["enroll", "manage", "proxy"];

/// A host of its own in a network of its own, joined to ours by one cable. Its firewall takes nothing that it did not ask
/// for.
pub struct Namespace {
    name: String,
    number: u32,
}

impl Namespace {
    #[track_caller]
    pub fn make() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = (std::process::id() + COUNT.fetch_add(1, Ordering::Relaxed)) % 60_000;
        let this = Self { name: format!("lg{number}"), number };
        let (host, inside) = this.addresses();
        let name = &this.name;
        for line in [
            format!("ip netns add {name}"),
            format!("ip link add v{name} type veth peer name eth0 netns {name}"),
            format!("ip addr add {host}/30 dev v{name}"),
            format!("ip link set v{name} up"),
            format!("ip -n {name} addr add {inside}/30 dev eth0"),
            format!("ip -n {name} link set eth0 up"),
            format!("ip -n {name} link set lo up"),
            format!("ip netns exec {name} nft add table inet filter"),
            format!(
                "ip netns exec {name} nft add chain inet filter input {{ type filter hook input priority 0 ; policy drop ; }}"
            ),
            format!("ip netns exec {name} nft add rule inet filter input iif lo accept"),
            format!("ip netns exec {name} nft add rule inet filter input ct state established accept"),
        ] {
            shell(&line);
        }
        this
    }

    fn addresses(&self) -> (String, String) {
        let (a, b) = (self.number / 64 % 256, self.number % 64 * 4);
        (format!("10.77.{a}.{}", b + 1), format!("10.77.{a}.{}", b + 2))
    }

    /// The address of the host in the namespace.
    pub fn inside(&self) -> String {
        self.addresses().1
    }

    /// The command prefix that runs a program in the namespace.
    pub fn within(&self) -> Vec<String> {
        ["ip", "netns", "exec", &self.name].map(str::to_owned).to_vec()
    }

    /// A command in the namespace.
    pub fn command(&self, words: &[&str]) -> Command {
        let within = self.within();
        let mut command = Command::new(&within[0]);
        command.args(&within[1..]).args(words);
        command
    }

    /// A gateway outside of the namespace, and its first person.
    #[track_caller]
    pub fn gateway(&self, mut setup: Setup) -> (Gateway, Lychgate) {
        let (outside, _) = self.addresses();
        for face in FACES {
            let names = vec![outside.clone().into(), "127.0.0.1".into()];
            setup = setup.config(&format!("names.{face}"), toml::Value::Array(names));
        }
        let mut gateway = setup.init();
        gateway.edit_config(|config| {
            for face in FACES {
                let listen = config["listen"].as_table_mut().unwrap();
                let port = listen[face].as_str().unwrap().rsplit_once(':').unwrap().1.to_owned();
                listen.insert(face.to_owned(), format!("0.0.0.0:{port}").into());
                let public = config.entry("public").or_insert_with(|| toml::Table::new().into());
                public.as_table_mut().unwrap().insert(face.to_owned(), format!("{outside}:{port}").into());
            }
        });
        let invited = gateway.command(&["invite"]);
        gateway.start();
        let alice = gateway.client("alice");
        alice.ok(&["join", invited.stdout.trim(), "--name", "alice"]);
        (gateway, alice)
    }

    /// A machine in the namespace that has joined.
    #[track_caller]
    pub fn machine(&self, gateway: &Gateway, alice: &Lychgate, name: &str) -> Lychgate {
        let machine = gateway.client(name).under(&self.within());
        machine.ok(&["join", &crate::token(alice, &[]), "--name", name]);
        machine
    }

    /// An echo service in the namespace on 127.0.0.1:7.
    #[track_caller]
    pub fn echo(&self, gateway: &Gateway) -> Program {
        let mut service = Program::start(&mut self.command(&["python3", "-u", "-c", ECHO]), gateway.room());
        service.expect_stdout("the service listens", |out| out.contains("listening").then_some(()));
        service
    }

    /// Drops all packets of the link without an error, so that neither end notices. Until the value is
    /// dropped.
    #[track_caller]
    pub fn black_hole(&self) -> BlackHole<'_> {
        for (prefix, table, device) in self.ends() {
            shell(&format!("{prefix} nft add table netdev {table}"));
            shell(&format!(
                "{prefix} nft add chain netdev {table} inwards {{ type filter hook ingress device {device} priority 0 ; }}"
            ));
            shell(&format!("{prefix} nft add rule netdev {table} inwards meta protocol ip drop"));
        }
        BlackHole(self)
    }

    /// Both ends of the link: command prefix, and names of nftables table and device.
    fn ends(&self) -> [(String, String, String); 2] {
        let name = &self.name;
        [
            (format!("ip netns exec {name}"), format!("hole{name}"), "eth0".to_owned()),
            (String::new(), format!("hole{name}"), format!("v{name}")),
        ]
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = run(Command::new("ip").args(["netns", "delete", &self.name]), PATIENCE);
        let _ = run(Command::new("ip").args(["link", "delete", &format!("v{}", self.name)]), PATIENCE);
    }
}

/// See [`Namespace::black_hole`].
pub struct BlackHole<'a>(&'a Namespace);

impl Drop for BlackHole<'_> {
    fn drop(&mut self) {
        for (prefix, table, _) in self.0.ends() {
            let line = format!("{prefix} nft delete table netdev {table}");
            let _ = run(Command::new("sh").args(["-c", &line]), PATIENCE);
        }
    }
}

#[track_caller]
fn shell(line: &str) {
    let quoted = line.replace('{', "'{'").replace('}', "'}'").replace(';', "';'");
    let ended = run(Command::new("sh").args(["-c", &quoted]), PATIENCE);
    assert_eq!(ended.code, 0, "{line}\n{}", ended.stderr);
}

const ECHO: &str = "
import socket, threading
s = socket.socket(); s.bind(('127.0.0.1', 7)); s.listen(); print('listening')
def echo(c):
    while True:
        d = c.recv(4096)
        if not d: break
        c.sendall(d)
while True:
    c, _ = s.accept(); threading.Thread(target=echo, args=(c,), daemon=True).start()
";
