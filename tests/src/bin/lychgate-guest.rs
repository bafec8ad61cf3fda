//! Boots an emulated machine with UEFI, Secure Boot and a TPM, which joins and renews by what it booted. `tests/guest/run` prepares the
//! guest and starts this.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a harness fails by panicking: the message is the report"
)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tests::boot::RULES;
use tests::cli::Lychgate;
use tests::gateway::{Gateway, Setup};
use tests::program::{Ended, Program, run};
use tests::swtpm::TpmMaker;
use tests::wait::eventually;
use toml::Table;
use tpm::HashAlgorithm;

/// Time limit of a boot: an emulated machine is some ten times slower than the host.
const PATIENCE: Duration = Duration::from_secs(300);

/// Debian's test keys for Secure Boot, which everybody has.
const SIGNING_KEY: &str = "/usr/share/ovmf/PkKek-1-snakeoil.key";
const SIGNER: &str = "/usr/share/ovmf/PkKek-1-snakeoil.pem";
/// The passphrase of that key, as the package documents it.
const PASSPHRASE: &str = "snakeoil";

const FIRMWARE: &str = "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd";
const VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd";
const STUB: &str = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub";

/// The command line that is allowed.
const GOOD: &str = "console=ttyS0 quiet panic=-1";
/// Another one.
const BAD: &str = "console=ttyS0 quiet panic=-1 audit=0";

/// Runs a program that must succeed.
#[track_caller]
fn ok(command: &mut Command) -> Ended {
    let ended = run(command, PATIENCE);
    assert_eq!(ended.code, 0, "{command:?}\n{}{}", ended.stdout, ended.stderr);
    ended
}

/// The emulated machine: what is kept between its boots.
struct Guest {
    room: TempDir,
    kernel: PathBuf,
    initrd: PathBuf,
    tpm: PathBuf,
    slowest: Duration,
}

impl Guest {
    fn file(&self, name: &str) -> PathBuf {
        self.room.path().join(name)
    }

    /// A disk to boot from, with a unified kernel image.
    fn uki(&self, command_line: &str) -> PathBuf {
        let [line, release, image] = ["cmdline", "osrel", "uki.efi"].map(|name| self.file(name));
        fs::write(&line, command_line).unwrap();
        fs::write(&release, "ID=guest\nNAME=Guest\n").unwrap();
        let mut objcopy = Command::new("objcopy");
        let sections = [
            (".osrel", &release, "0x20000"),
            (".cmdline", &line, "0x30000"),
            (".linux", &self.kernel, "0x2000000"),
            (".initrd", &self.initrd, "0x4000000"),
        ];
        for (name, content, address) in sections {
            objcopy.arg("--add-section").arg(format!("{name}={}", content.display()));
            objcopy.arg("--change-section-vma").arg(format!("{name}={address}"));
        }
        ok(objcopy.arg(STUB).arg(&image));
        let signed = self.file("signed.efi");
        ok(Command::new("sbsign")
            .arg("--key")
            .arg(self.file("signing.key"))
            .args(["--cert", SIGNER])
            .arg("--output")
            .arg(&signed)
            .arg(&image));
        let disk = self.file("boot.img");
        fs::remove_file(&disk).ok();
        File::create(&disk).unwrap().set_len(256 << 20).unwrap();
        ok(Command::new("mkfs.vfat").args(["-F", "32"]).arg(&disk));
        ok(Command::new("mmd").arg("-i").arg(&disk).args(["::/EFI", "::/EFI/BOOT"]));
        ok(Command::new("mcopy").arg("-i").arg(&disk).arg(&signed).arg("::/EFI/BOOT/BOOTX64.EFI"));
        disk
    }

    /// Boots with this command line, and runs `lychgate` there.
    fn run(&mut self, command_line: &str, args: &str) -> Ended {
        let began = Instant::now();
        let (boot, state) = (self.uki(command_line), self.file("state"));
        let folder = state.join("guest");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("task"), format!("exec /lychgate --dir /guest/machine {args}\n")).unwrap();
        let disk = self.file("state.img");
        ok(Command::new("tar").arg("-c").arg("-f").arg(&disk).arg("-C").arg(&state).arg("guest"));
        File::options().write(true).open(&disk).unwrap().set_len(16 << 20).unwrap();
        let socket = self.file("tpm.sock");
        fs::remove_file(&socket).ok();
        let at = |kind: &str, path: &Path| format!("{kind}={}", path.display());
        let mut swtpm = Command::new("swtpm");
        swtpm.args(["socket", "--tpm2", "--terminate", "--tpmstate"]).arg(at("dir", &self.tpm));
        let _tpm = Program::start(swtpm.arg("--ctrl").arg(at("type=unixio,path", &socket)), self.room.path());
        eventually("a TPM that listens", PATIENCE, || socket.exists().then_some(()));
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args([
            "-M",
            "q35,smm=on",
            "-accel",
            "tcg",
            "-cpu",
            "qemu64,+rdrand",
            "-smp",
            "1",
            "-m",
            "1024",
            "-nodefaults",
        ]);
        qemu.args(["-display", "none", "-no-reboot", "-serial", "stdio", "-device", "virtio-blk-pci,drive=state"]);
        qemu.args(["-global", "driver=cfi.pflash01,property=secure,value=on", "-device", "ide-hd,drive=boot"]);
        qemu.arg("-drive").arg(format!("if=pflash,format=raw,readonly=on,file={FIRMWARE}"));
        qemu.arg("-drive").arg(at("if=pflash,format=raw,file", &self.file("variables.fd")));
        qemu.arg("-drive").arg(at("id=boot,if=none,format=raw,file", &boot));
        qemu.arg("-drive").arg(at("id=state,if=none,format=raw,file", &disk));
        qemu.args(["-netdev", "user,id=net,ipv6=off", "-device", "virtio-net-pci,netdev=net,romfile="]);
        qemu.arg("-chardev").arg(at("socket,id=tpm,path", &socket));
        qemu.args(["-tpmdev", "emulator,id=tpm,chardev=tpm", "-device", "tpm-tis,tpmdev=tpm"]);
        let console = ok(&mut qemu);
        fs::remove_dir_all(&state).unwrap();
        fs::create_dir(&state).unwrap();
        ok(Command::new("tar").arg("-x").arg("-f").arg(&disk).arg("-C").arg(&state));
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_else(|_| panic!("{}", console.stdout));
        self.slowest = self.slowest.max(began.elapsed());
        Ended { code: read("code").trim().parse().unwrap(), stdout: read("stdout"), stderr: read("stderr") }
    }
}

/// SHA-256 of the certificate by which the firmware verifies the images.
fn signer() -> String {
    let der = ok(Command::new("openssl").args(["x509", "-noout", "-fingerprint", "-sha256", "-in", SIGNER])).stdout;
    der.split_once('=').unwrap().1.trim().replace(':', "").to_lowercase()
}

fn gateway(maker: &TpmMaker) -> Gateway {
    let section = format!(
        "anchors = '{}'\nlog = 'required'\npcrs = [0, 2, 4, 7, 11, 12]\n\
         [boot.uki-1]\nsecure_boot = true\nuki_signers = ['{}']\ncommand_lines = ['']\nsections = {{ cmdline = ['{}'] }}",
        maker.anchors().display(),
        signer(),
        hex::encode(HashAlgorithm::Sha256.digest(&[GOOD.as_bytes()]))
    );
    let mut gateway = Setup::default().config("attest.tpm", section.parse::<Table>().unwrap()).policy(RULES).init();
    // By this name the guest reaches the host's loopback interface.
    let [enroll, manage] = gateway.ports();
    gateway.edit_config(|config| {
        let mut table =
            |name: &str| config.entry(name).or_insert_with(|| Table::new().into()).as_table_mut().unwrap().clone();
        let (mut names, mut public) = (table("names"), table("public"));
        names.insert("enroll".to_owned(), vec!["localhost", "127.0.0.1"].into());
        public.insert("enroll".to_owned(), format!("localhost:{enroll}").into());
        public.insert("manage".to_owned(), format!("localhost:{manage}").into());
        config.insert("names".to_owned(), names.into());
        config.insert("public".to_owned(), public.into());
    });
    gateway.start();
    gateway
}

fn main() {
    let mut args = std::env::args().skip(1);
    let usage = "usage: lychgate-guest KERNEL INITRD (see tests/guest/run)";
    let [kernel, initrd] = [(); 2].map(|()| PathBuf::from(args.next().expect(usage)));
    let began = Instant::now();
    let room = tempfile::tempdir().unwrap();
    let maker = TpmMaker::new(room.path().join("maker"));
    let tpm = maker.state("guest");
    fs::copy(VARIABLES, room.path().join("variables.fd")).unwrap();
    let mut openssl = Command::new("openssl");
    openssl.args(["rsa", "-in", SIGNING_KEY, "-passin", &format!("pass:{PASSPHRASE}"), "-out"]);
    ok(openssl.arg(room.path().join("signing.key")));
    let gateway = gateway(&maker);
    let alice = gateway.first_person();
    let mut guest = Guest { room, kernel, initrd, tpm, slowest: Duration::ZERO };

    let ([enroll, _], pin) = (gateway.ports(), gateway.info().pin);
    let join = format!("join https://localhost:{enroll} --pin {pin} --name guest");
    let joined = guest.run(GOOD, &join);
    assert_eq!(joined.code, 0, "{}", joined.stderr);
    let machine = shown(&alice);
    let claims = &machine["verified"];
    assert_eq!((&machine["assurance"], &claims["tpm_boot"]), (&"measured".into(), &"uki-1".into()), "{machine}");
    println!("joined: {}", serde_json::to_string_pretty(claims).unwrap());

    let refused = guest.run(BAD, "renew --force");
    let says = "section .cmdline: expected ";
    assert!(refused.code != 0 && refused.stderr.contains(says), "{}", refused.stderr);
    println!("with another command line: {}", refused.stderr.trim());
    assert_eq!(shown(&alice)["verified"]["tpm_boot"], "differs");

    let renewed = guest.run(GOOD, "renew --force");
    assert_eq!(renewed.code, 0, "{}", renewed.stderr);
    let machine = shown(&alice);
    assert_eq!(
        (&machine["assurance"], &machine["verified"]["tpm_boot"]),
        (&"measured".into(), &"uki-1".into()),
        "{machine}"
    );
    println!(
        "guest: joined by what it booted, refused with another command line, renewed after booting as before; the slowest boot took \
         {:.0?}, {:.0?} in all",
        guest.slowest,
        began.elapsed()
    );
}

fn shown(alice: &Lychgate) -> Value {
    alice.json(&["machines", "show", "guest"])
}
