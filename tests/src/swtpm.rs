//! Emulated TPMs: swtpm, with EK certificates by a maker's CA of the test's own.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::program::{Program, run};
use crate::wait::{PATIENCE, eventually};

/// A maker of TPMs, with its CA.
pub struct TpmMaker {
    dir: PathBuf,
}

impl TpmMaker {
    /// A maker whose files are in this folder. Its CA is made with its first TPM.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        let ca = dir.join("ca");
        fs::create_dir_all(&ca).unwrap();
        let at = |name: &str| ca.join(name).display().to_string();
        let config = format!(
            "statedir={}\nsigningkey={}\nissuercert={}\ncertserial={}\n",
            ca.display(),
            at("signkey.pem"),
            at("issuercert.pem"),
            at("certserial")
        );
        fs::write(dir.join("localca.conf"), config).unwrap();
        let options = "--platform-manufacturer Tests\n--platform-version 1\n--platform-model Tests\n";
        fs::write(dir.join("localca.options"), options).unwrap();
        let setup = format!(
            "create_certs_tool=swtpm_localca\ncreate_certs_tool_config={0}/localca.conf\n\
             create_certs_tool_options={0}/localca.options\nactive_pcr_banks=sha256\n",
            dir.display()
        );
        fs::write(dir.join("setup.conf"), setup).unwrap();
        Self { dir }
    }

    /// Makes a TPM and starts it.
    #[track_caller]
    #[must_use]
    pub fn tpm(&self, name: &str) -> Swtpm {
        self.state(name);
        Swtpm::start(self.dir.join(name))
    }

    /// Makes a TPM; gives the folder with its state.
    #[track_caller]
    pub fn state(&self, name: &str) -> PathBuf {
        let dir = self.dir.join(name);
        let state = dir.join("state");
        fs::create_dir_all(&state).unwrap();
        let mut setup = Command::new("swtpm_setup");
        setup
            .args(["--tpm2", "--create-ek-cert", "--lock-nvram", "--vmid", name])
            .arg("--config")
            .arg(self.dir.join("setup.conf"))
            .arg("--tpmstate")
            .arg(format!("dir://{}", state.display()))
            .arg("--write-ek-cert-files")
            .arg(&dir);
        if rustix::process::geteuid().is_root() {
            // It would become the user `tss`, who may not write here.
            setup.args(["--runas", "root"]);
        }
        let ended = run(&mut setup, PATIENCE);
        assert_eq!(ended.code, 0, "swtpm_setup: {}{}", ended.stdout, ended.stderr);
        state
    }

    /// The root and the CA below it, PEM.
    #[must_use]
    pub fn anchors(&self) -> PathBuf {
        let pem = |name: &str| fs::read_to_string(self.dir.join("ca").join(name)).unwrap();
        let path = self.dir.join("anchors.pem");
        fs::write(&path, pem("swtpm-localca-rootca-cert.pem") + &pem("issuercert.pem")).unwrap();
        path
    }
}

/// A TPM that runs, and ends with this value.
pub struct Swtpm {
    socket: PathBuf,
    program: Program,
}

impl Swtpm {
    #[track_caller]
    fn start(dir: PathBuf) -> Self {
        let socket = dir.join("socket");
        let program = Program::start(
            Command::new("swtpm")
                .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
                .arg("--tpmstate")
                .arg(format!("dir={}", dir.join("state").display()))
                .arg("--server")
                .arg(format!("type=unixio,path={}", socket.display())),
            &dir,
        );
        eventually("a TPM that listens", PATIENCE, || UnixStream::connect(&socket).ok());
        Self { socket, program }
    }

    /// The program before a command that makes it use this TPM.
    #[must_use]
    pub fn wrapper(&self) -> [String; 2] {
        ["env".to_owned(), format!("LYCHGATE_TPM=unix:{}", self.socket.display())]
    }

    /// Sends a command as it is, and gives the response.
    #[track_caller]
    fn command(&self, hex: &str) -> Vec<u8> {
        let mut socket = UnixStream::connect(&self.socket).unwrap();
        socket.write_all(&hex::decode(hex.replace(' ', "")).unwrap()).unwrap();
        let mut response = vec![0; 4096];
        let read = socket.read(&mut response).unwrap();
        response.truncate(read);
        response
    }

    /// Clears it, as the firmware's setup does (TPM2_Clear, by the platform): what was made below its storage key is gone.
    #[track_caller]
    pub fn clear(&self) {
        let response = self.command("8002 0000001b 00000126 4000000c 00000009 40000009 0000 00 0000");
        assert_eq!(response[6..10], [0; 4], "TPM2_Clear: {}", hex::encode(&response));
    }

    /// Extends a PCR of the bank for SHA-256 (TPM2_PCR_Extend).
    #[track_caller]
    pub fn extend(&self, pcr: u8, digest: &[u8]) {
        let digest = hex::encode(digest);
        let command = format!("8002 00000041 00000182 {pcr:08x} 00000009 40000009 0000 00 0000 00000001 000b {digest}");
        let response = self.command(&command);
        assert_eq!(response[6..10], [0; 4], "TPM2_PCR_Extend: {}", hex::encode(&response));
    }

    /// Ends it as a power cut does, and starts it again: its PCRs begin anew.
    #[track_caller]
    #[must_use]
    pub fn power_cycled(mut self) -> Self {
        self.program.kill();
        let dir = self.socket.parent().unwrap().to_owned();
        drop(self);
        fs::remove_file(dir.join("socket")).ok();
        Self::start(dir)
    }

    /// Removes an index of NV memory (TPM2_NV_UndefineSpace, by the platform).
    #[track_caller]
    pub fn undefine(&self, index: u32) {
        let command = format!("8002 0000001f 00000122 4000000c {index:08x} 00000009 40000009 0000 00 0000");
        let response = self.command(&command);
        assert_eq!(response[6..10], [0; 4], "TPM2_NV_UndefineSpace: {}", hex::encode(&response));
    }

    /// The certificate of its RSA key, DER.
    #[must_use]
    pub fn rsa_certificate(&self) -> Vec<u8> {
        fs::read(self.socket.with_file_name("ek-rsa2048.crt")).unwrap()
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}
