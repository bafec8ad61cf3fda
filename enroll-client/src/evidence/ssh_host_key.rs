//! `ssh-host-key`: signs with a host key of this machine's sshd. Body: JSON of [`wire::evidence::SshHostKey`]. `ssh-keygen` signs: it
//! reads every kind of key, asks the agent for keys that are nowhere else, and no SSH private key is ever in our memory.
//!
//! A machine without OpenSSH, and a client that may not read a host key, have no such evidence.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use pki::{ForeignSshCertificate, SshKey, SshKind};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use wire::evidence::{SSH_HOST_KEY, SSH_HOST_KEY_NAMESPACE, SshHostKey as Body, ssh_host_key_message};

use super::{Binding, EvidenceError, Known, Prover, Proving};

/// Where sshd has its host keys, unless [`VARIABLE`] names another folder.
const FOLDER: &str = "/etc/ssh";

/// The environment variable that names the folder of the host keys.
const VARIABLE: &str = "LYCHGATE_HOST_KEYS";

/// The environment variable that names `ssh-keygen`, by an absolute path.
const KEYGEN_VARIABLE: &str = "LYCHGATE_SSH_KEYGEN";

/// Where `ssh-keygen` is, unless [`KEYGEN_VARIABLE`] names it. `PATH` is not searched: root's may lead through folders that others write,
/// and the program gets to see the host key.
const KEYGEN: [&str; 5] = [
    "/usr/bin/ssh-keygen",
    "/bin/ssh-keygen",
    "/usr/local/bin/ssh-keygen",
    "/run/current-system/sw/bin/ssh-keygen",
    r"C:\Windows\System32\OpenSSH\ssh-keygen.exe",
];

/// The files of the host keys, the preferred one first.
const KEYS: [&str; 3] = ["ssh_host_ed25519_key", "ssh_host_ecdsa_key", "ssh_host_rsa_key"];

/// Time limit of `ssh-keygen`: an agent that does not answer must not hold up a request.
const LIMIT: Duration = Duration::from_secs(10);

/// Largest file that is read: a certificate with many names has a few KiB.
const FILE_MAX: u64 = 64 * 1024;

/// What a machine without it is told.
pub const LACKS: &str = "its sshd has no host key that this user may use";

/// The prover, if there is a host key that can sign.
pub fn probe(_: Known<'_>) -> Option<Box<dyn Prover>> {
    let folder = std::env::var_os(VARIABLE).map_or_else(|| PathBuf::from(FOLDER), PathBuf::from);
    let agent = std::env::var_os("SSH_AUTH_SOCK").is_some();
    let keygen = keygen(std::env::var_os(KEYGEN_VARIABLE).map(PathBuf::from))?;
    let found = KEYS.iter().find_map(|name| HostKey::at(folder.join(name), agent, &keygen));
    found.map(|key| Box::new(key) as Box<dyn Prover>)
}

/// The `ssh-keygen` to be used: the one that is named, or the first that is there.
fn keygen(named: Option<PathBuf>) -> Option<PathBuf> {
    named.or_else(|| KEYGEN.iter().map(PathBuf::from).find(|path| path.is_file()))
}

/// A host key that may be used.
struct HostKey {
    /// `ssh-keygen`.
    keygen: PathBuf,
    /// What `ssh-keygen` is given: the private key, or the public one of a key in the agent.
    file: PathBuf,
    /// The line of the public key.
    public: String,
    /// The line of its certificate, if there is one.
    certificate: Option<String>,
}

impl HostKey {
    fn at(private: PathBuf, agent: bool, keygen: &Path) -> Option<Self> {
        let beside = |end: &str| {
            let mut name = private.as_os_str().to_owned();
            name.push(end);
            PathBuf::from(name)
        };
        let public = read(&beside(".pub"))?;
        let file = match File::open(&private) {
            Ok(_) => private.clone(),
            Err(_) if agent => beside(".pub"),
            Err(_) => return None,
        };
        Some(Self { keygen: keygen.to_owned(), file, public, certificate: read(&beside("-cert.pub")) })
    }

    /// What to show: the certificate, unless the gateway would only refuse it. It may have ended while sshd goes on without it.
    fn line(&self, now: pki::UnixTime) -> &str {
        let good = |line: &&String| {
            let key = SshKey::parse(&self.public).ok();
            ForeignSshCertificate::parse(line).is_ok_and(|read| {
                read.kind == SshKind::Host
                    && Some(&read.key) == key.as_ref()
                    && read.critical_options.is_empty()
                    && !read.principals.is_empty()
                    && (read.valid_after..read.valid_before).contains(&now)
            })
        };
        self.certificate.as_ref().filter(good).unwrap_or(&self.public)
    }

    /// The signature; `None` if `ssh-keygen` is not there or cannot make one.
    async fn sign(&self, message: &[u8]) -> Option<String> {
        let mut child = Command::new(&self.keygen)
            .args(["-q", "-Y", "sign", "-n", SSH_HOST_KEY_NAMESPACE, "-f"])
            .arg(&self.file)
            // A key with a passphrase is not asked for on the terminal.
            .env("SSH_ASKPASS_REQUIRE", "force")
            .env("SSH_ASKPASS", "false")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .ok()?;
        let work = async {
            // If the program has ended already, its status says so.
            let _ = child.stdin.take()?.write_all(message).await;
            child.wait_with_output().await.ok()
        };
        let output = tokio::time::timeout(LIMIT, work).await.ok().flatten()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// The text of a file, if it may be read.
fn read(path: &Path) -> Option<String> {
    let mut text = String::new();
    std::io::Read::read_to_string(&mut std::io::Read::take(File::open(path).ok()?, FILE_MAX), &mut text).ok()?;
    Some(text.trim().to_owned())
}

impl Prover for HostKey {
    fn kind(&self) -> &'static str {
        SSH_HOST_KEY
    }

    fn body<'a>(&'a self, binding: Binding<'a>, _: Option<&'a str>) -> Proving<'a> {
        Box::pin(async move {
            let Binding { exporter, new_key, domain, now, inside: _ } = binding;
            if !self.keygen.is_absolute() {
                let why = format!("`{}` in `{KEYGEN_VARIABLE}` is no absolute path", self.keygen.display());
                return Err(EvidenceError::Machine(why));
            }
            let message = ssh_host_key_message(domain.as_str(), exporter, new_key.as_bytes());
            let signature = self.sign(&message).await;
            let signature =
                signature.ok_or_else(|| EvidenceError::Machine(format!("{} does not sign", self.file.display())))?;
            let body = Body { public_key: self.line(now).to_owned(), signature };
            serde_json::to_string(&body).map_err(|error| EvidenceError::Machine(error.to_string()))
        })
    }
}

#[cfg(test)]
mod tests {
    use pki::{TrustDomain, UnixTime};

    use super::*;

    fn run_keygen(folder: &Path, args: &[&str]) {
        let done = std::process::Command::new("ssh-keygen").args(args).current_dir(folder).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    /// The body that the key in a folder makes at this time.
    async fn body(folder: &Path, now: u64) -> Option<Body> {
        let key = HostKey::at(folder.join(KEYS[0]), false, &keygen(None)?)?;
        let (digest, domain) = (pki::KeyDigest::from_spki_der(b"key"), TrustDomain::parse("td.example").unwrap());
        let binding =
            Binding { exporter: &[9; 32], new_key: &digest, inside: None, domain: &domain, now: UnixTime::new(now) };
        let text = key.body(binding, None).await.ok()?;
        Some(serde_json::from_str(&text).unwrap())
    }

    #[tokio::test]
    async fn it_signs_with_the_host_key() {
        let room = tempfile::tempdir().unwrap();
        assert!(body(room.path(), 0).await.is_none(), "there is no sshd");
        run_keygen(room.path(), &["-q", "-t", "ed25519", "-N", "", "-f", KEYS[0]]);
        let made = body(room.path(), 0).await.unwrap();
        let key = SshKey::parse(&made.public_key).unwrap();
        let digest = hex::encode(pki::KeyDigest::from_spki_der(b"key").as_bytes());
        let exporter = "09".repeat(32);
        let signed =
            format!("lychgate ssh-host-key v1\ntrust-domain td.example\nconnection {exporter}\nkey {digest}\n");
        assert_eq!(key.verify("join@lychgate", signed.as_bytes(), &made.signature), Ok(()));
    }

    #[tokio::test]
    async fn a_certificate_is_shown_while_it_is_good() {
        let room = tempfile::tempdir().unwrap();
        run_keygen(room.path(), &["-q", "-t", "ed25519", "-N", "", "-f", KEYS[0]]);
        run_keygen(room.path(), &["-q", "-t", "ed25519", "-N", "", "-f", "ca"]);
        let public = format!("{}.pub", KEYS[0]);
        let sign = async |more: &[&str], now| {
            run_keygen(room.path(), &[&["-q", "-s", "ca", "-I", "id"], more, &[public.as_str()]].concat());
            ForeignSshCertificate::is_line(&body(room.path(), now).await.unwrap().public_key)
        };
        let within = ["-h", "-n", "web1", "-V", "20260301120000Z:20260301130000Z"];
        assert!(sign(&within, 1_772_366_400).await);
        assert!(!sign(&within, 1_772_366_399).await, "not valid yet");
        assert!(!sign(&within, 1_772_370_000).await, "ended");
        assert!(sign(&["-h", "-n", "web1"], 0).await);
        assert!(!sign(&["-n", "web1"], 0).await, "a user's");
        assert!(!sign(&["-h"], 0).await, "for every host");
        assert!(!sign(&["-h", "-n", "web1", "-O", "critical:odd@example.com=1"], 0).await);
    }

    #[tokio::test]
    async fn a_key_with_a_passphrase_is_no_evidence() {
        let room = tempfile::tempdir().unwrap();
        run_keygen(room.path(), &["-q", "-t", "ed25519", "-N", "a passphrase", "-f", KEYS[0]]);
        assert!(body(room.path(), 0).await.is_none());
    }

    /// A program of that name in a folder of `PATH` is not run.
    #[tokio::test]
    async fn ssh_keygen_is_named_by_its_path() {
        assert!(keygen(None).is_some_and(|found| found.is_absolute()), "it is installed here");
        let room = tempfile::tempdir().unwrap();
        run_keygen(room.path(), &["-q", "-t", "ed25519", "-N", "", "-f", KEYS[0]]);
        let (digest, domain) = (pki::KeyDigest::from_spki_der(b"key"), TrustDomain::parse("td.example").unwrap());
        let prove = async |named: &str| {
            let keygen = keygen(Some(PathBuf::from(named))).unwrap();
            let key = HostKey::at(room.path().join(KEYS[0]), false, &keygen).unwrap();
            let now = UnixTime::new(0);
            let binding = Binding { exporter: &[9; 32], new_key: &digest, inside: None, domain: &domain, now };
            key.body(binding, None).await.unwrap_err().to_string()
        };
        let relative = prove("ssh-keygen").await;
        assert!(relative.contains("`ssh-keygen` in `LYCHGATE_SSH_KEYGEN` is no absolute path"), "{relative}");
        let missing = prove("/nowhere/ssh-keygen").await;
        assert!(missing.contains("does not sign"), "{missing}");
    }
}
