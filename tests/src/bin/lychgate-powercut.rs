//! Runs the gateway in an emulated machine under load, cuts its power at random times, and checks the store after every boot.
//! `tests/powercut/run` prepares the guest and starts this.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a harness fails by panicking: the message is the report"
)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::gateway::{Gateway, Setup, parse_export};
use tests::http::Face;
use tests::load::{self, Dice, Load};
use tests::program::{Program, run};
use tests::wait::eventually;
use tests::{device, raw, tls};

/// Time limit of a boot: an emulated machine on a busy host is a hundred times slower than the host.
const PATIENCE: Duration = Duration::from_secs(300);

/// Certificates that must be issued after a boot before the power is cut, so that there is load.
const WARM: usize = 5;

/// One of this many boots is cut while the gateway starts.
const EARLY: u64 = 4;

/// Sizes of the disks in MiB: the gateway's file system, and the one for its export.
const DISKS: [u64; 2] = [512, 512];

/// The emulated machine, whose disks persist between boots.
struct Machine {
    gateway: Gateway,
    kernel: PathBuf,
    initrd: PathBuf,
    disk: PathBuf,
    export: PathBuf,
    worst_opening: Duration,
}

impl Machine {
    /// A machine whose disk contains a gateway made by `init`.
    fn make(kernel: PathBuf, initrd: PathBuf, engine: &str) -> Self {
        let gateway = Setup::default().no_limits().cheap_keys().engine(engine).init();
        let [enroll, manage] = gateway.ports();
        gateway.edit_config(|config| {
            for (section, host) in [("listen", "0.0.0.0"), ("public", "127.0.0.1")] {
                let table = config.entry(section).or_insert_with(|| toml::Table::new().into()).as_table_mut().unwrap();
                table.insert("enroll".to_owned(), format!("{host}:{enroll}").into());
                table.insert("manage".to_owned(), format!("{host}:{manage}").into());
            }
        });
        let room = gateway.room().to_owned();
        let [disk, export] = ["disk", "export"].map(|name| room.join(name));
        for (path, mib) in [(&disk, DISKS[0]), (&export, DISKS[1])] {
            File::create(path).unwrap().set_len(mib << 20).unwrap();
        }
        let content = room.join("content");
        std::fs::create_dir(&content).unwrap();
        std::fs::rename(gateway.dir(), content.join("gateway")).unwrap();
        // The first person's token is read from its original path.
        std::fs::create_dir(gateway.dir()).unwrap();
        std::fs::copy(content.join("gateway/first-person.token"), gateway.dir().join("first-person.token")).unwrap();
        let mut mkfs = Command::new("mkfs.ext4");
        mkfs.args(["-q", "-F", "-d"]).arg(&content).arg(&disk);
        let ended = run(&mut mkfs, PATIENCE);
        assert_eq!(ended.code, 0, "mkfs.ext4\n{}", ended.stderr);
        Self { gateway, kernel, initrd, disk, export, worst_opening: Duration::ZERO }
    }

    fn faces(&self) -> [Face; 2] {
        self.gateway.ports().map(|port| Face::named((Ipv4Addr::LOCALHOST, port).into(), "127.0.0.1"))
    }

    /// Boots it, and returns the export of its store.
    fn boot(&mut self) -> (Program, BTreeMap<String, Value>) {
        let [enroll, manage] = self.gateway.ports();
        let forward = |port: u16| format!("hostfwd=tcp:127.0.0.1:{port}-:{port}");
        let drive = |path: &Path| format!("if=virtio,format=raw,file={}", path.display());
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args([
            "-M",
            "q35",
            "-accel",
            "tcg",
            "-cpu",
            "qemu64,+rdrand,+aes,+ssse3,+sse4.1",
            "-smp",
            "1",
            "-m",
            "768",
        ]);
        qemu.args(["-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot"]);
        qemu.arg("-kernel").arg(&self.kernel).arg("-initrd").arg(&self.initrd);
        qemu.args(["-append", "console=ttyS0 quiet panic=-1"]);
        qemu.args(["-drive", &drive(&self.disk), "-drive", &drive(&self.export)]);
        qemu.args(["-netdev", &format!("user,id=n0,restrict=on,ipv6=off,{},{}", forward(enroll), forward(manage))]);
        qemu.args(["-device", "virtio-net-pci,netdev=n0,romfile="]);
        let mut guest = Program::start(&mut qemu, self.gateway.room());
        expect(&mut guest, "guest: opening");
        let began = Instant::now();
        let rest = expect(&mut guest, "guest: exported ");
        self.worst_opening = self.worst_opening.max(began.elapsed());
        let size: u64 = rest.split_whitespace().next().unwrap().parse().unwrap();
        let mut text = String::new();
        File::open(&self.export).unwrap().take(size).read_to_string(&mut text).unwrap();
        (guest, parse_export(&text))
    }

    fn wait_healthy(&self, guest: &mut Program) {
        expect(guest, "listening");
        let [enroll, _] = self.faces();
        let config = tls::trusting_anybody(None);
        eventually("health", PATIENCE, || {
            let answer = raw::get(enroll.address, &enroll.name, &config, "/healthz");
            assert!(guest.runs(), "{}", guest.stdout());
            answer.filter(|(status, _)| *status == 200)
        });
    }
}

/// Waits until the guest's console prints `word`; returns the rest of the line.
fn expect(guest: &mut Program, word: &str) -> String {
    let began = Instant::now();
    loop {
        let running = guest.runs();
        let console = guest.stdout();
        // Only complete lines.
        if let Some((_, rest)) = console.split_once(word)
            && let Some((rest, _)) = rest.split_once('\n')
        {
            return rest.to_owned();
        }
        assert!(running && !console.contains("guest: failed"), "before `{word}`:\n{console}\n{}", guest.stderr());
        assert!(began.elapsed() < PATIENCE, "no `{word}` within {PATIENCE:?}:\n{console}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let usage = "usage: lychgate-powercut KERNEL INITRD CUTS (see tests/powercut/run)";
    let [kernel, initrd] = [(); 2].map(|()| PathBuf::from(args.next().expect(usage)));
    let cuts: u64 = args.next().expect(usage).parse().expect(usage);
    let engine = std::env::var("LYCHGATE_ENGINE").unwrap_or_else(|_| "sled".to_owned());
    let seed = std::env::var("LYCHGATE_SEED").ok().and_then(|text| text.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| u64::from_be_bytes(device::random()[..8].try_into().unwrap()));
    eprintln!("LYCHGATE_SEED={seed} LYCHGATE_ENGINE={engine}, {cuts} cuts");
    let began = Instant::now();

    let mut machine = Machine::make(kernel, initrd, &engine);
    let (mut guest, _) = machine.boot();
    machine.wait_healthy(&mut guest);
    let [enroll, manage] = machine.faces();
    let roots = roots(&enroll);
    let alice = machine.gateway.first_person();
    let tokens = load::tokens(&manage, &roots, &alice.identity(), 20 + 4 * cuts).await;
    let load = Load::on(enroll, manage, &roots, tokens);
    let machines = load.start();

    let mut dice = Dice::new(seed);
    let mut early = 0;
    for cut in 1..=cuts {
        let (next, was_early) = tokio::task::block_in_place(|| cut_once(&mut machine, guest, &load, &mut dice, cut));
        guest = next;
        early += u64::from(was_early);
    }
    machine.wait_healthy(&mut guest);
    load.set_away(false);
    load.stop();
    let finished = tokio::time::timeout(PATIENCE, machines.join_all()).await;
    let held: Vec<device::Held> = finished.expect("the load does not come to an end").into_iter().flatten().collect();
    load.assert_everybody_gets_on(&held).await;
    // A last cut right after the last issued certificate.
    guest.kill();
    let (mut guest, store) = machine.boot();
    load.ledger.assert_recorded(&store);
    guest.kill();
    println!(
        "powercut: {} cuts, {early} of them while the gateway started; {engine} opened after each (export within {:.1?}); \
         {} certificates were acknowledged ({} renewals) and all are recorded; no serial twice, no token for two keys; \
         {} machines went on without help; {:.0?} in all, LYCHGATE_SEED={seed}",
        cuts + 1,
        machine.worst_opening,
        load.ledger.len(),
        load.renewed(),
        held.len(),
        began.elapsed(),
    );
}

/// Cuts the power at a random time, boots again and checks the store. Also returns whether that was during the gateway's start.
fn cut_once(machine: &mut Machine, mut guest: Program, load: &Arc<Load>, dice: &mut Dice, cut: u64) -> (Program, bool) {
    let early = cut > 1 && dice.below(EARLY) == 0;
    if early {
        std::thread::sleep(dice.millis(0, 4_000));
    } else {
        machine.wait_healthy(&mut guest);
        load.set_away(false);
        let before = load.ledger.len();
        eventually("load after a boot", PATIENCE, || {
            assert!(guest.runs(), "{}", guest.stdout());
            (load.ledger.len() >= before + WARM).then_some(())
        });
        std::thread::sleep(dice.millis(300, 6_000));
    }
    assert!(!guest.stdout().contains("guest: failed"), "{}", guest.stdout());
    guest.kill();
    load.set_away(true);
    let (guest, store) = machine.boot();
    load.ledger.assert_recorded(&store);
    let moment = if early { " during the start" } else { "" };
    eprintln!("cut {cut}{moment}: {} certificates acknowledged so far, all recorded", load.ledger.len());
    (guest, early)
}

fn roots(enroll: &Face) -> Vec<rustls_pki_types::CertificateDer<'static>> {
    let answer = raw::get(enroll.address, &enroll.name, &tls::trusting_anybody(None), "/v1/bundle");
    tls::certificates(answer.expect("no answer from the enroll face").1.as_bytes())
}
