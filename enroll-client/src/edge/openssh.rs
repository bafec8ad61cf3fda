//! Runs OpenSSH's programs: `ssh-keygen` makes keys and signs with them, `ssh-add` adds them to the agent. They handle passphrases,
//! agents and hardware keys, and no SSH private key is ever in our memory.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::platform;
use crate::text::report::{Complaint, Exit};

/// Time limit of a program: long enough to type a passphrase.
const LIMIT: Duration = Duration::from_secs(60);

/// Most bytes of output that are kept.
const OUTPUT_MAX: usize = 64 * 1024;

/// Why one of the programs failed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the error texts say what the variants and fields mean")]
pub enum OpensshError {
    #[error("cannot run `{program}`: {cause}")]
    Start { program: &'static str, cause: io::Error },
    /// Also when no passphrase was typed.
    #[error("`{program}` took longer than {} s", LIMIT.as_secs())]
    Slow { program: &'static str },
    #[error("`{program}` failed: {said}")]
    Failed { program: &'static str, said: String },
}

impl From<OpensshError> for Complaint {
    fn from(error: OpensshError) -> Self {
        let what = error.to_string();
        let complaint = Self::new(Exit::Failure, "openssh", what);
        match error {
            OpensshError::Start { .. } => complaint.hint("install OpenSSH's client programs (8.1 or later)"),
            OpensshError::Slow { .. } => complaint.hint(
                "if the key has a passphrase, type it when asked, or hand the key to ssh-agent and name its .pub file",
            ),
            OpensshError::Failed { program: "ssh-add", .. } => {
                complaint.hint("is an ssh-agent running? `eval $(ssh-agent)` starts one")
            }
            OpensshError::Failed { .. } => complaint,
        }
    }
}

/// Makes an Ed25519 key without passphrase at `key`, with the public key in `<key>.pub`, owned by the owner of the folder.
pub async fn make_key(key: &Path, comment: &str) -> Result<(), OpensshError> {
    const PROGRAM: &str = "ssh-keygen";
    let start = |cause| OpensshError::Start { program: PROGRAM, cause };
    let key = std::path::absolute(key).map_err(start)?;
    let folder = key.parent().unwrap_or(Path::new("/"));
    let mut command = std::process::Command::new(PROGRAM);
    command.args(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"]).arg(&key);
    // The folder's owner may not have access to our working directory.
    platform::as_owner(command.current_dir(folder), folder).map_err(start)?;
    finish(PROGRAM, Command::from(command), b"").await.map(drop)
}

/// The public half of a private key.
pub async fn public_half(key: &Path) -> Result<String, OpensshError> {
    run("ssh-keygen", [OsStr::new("-y"), OsStr::new("-f"), key.as_os_str()], b"").await
}

/// Signs a message for a purpose. `key` is a private key, or a public one whose private half is in the agent.
pub async fn sign(key: &Path, namespace: &str, message: &[u8]) -> Result<String, OpensshError> {
    let fixed = ["-q", "-Y", "sign", "-n", namespace, "-f"].map(OsStr::new);
    run("ssh-keygen", fixed.into_iter().chain([key.as_os_str()]), message).await
}

/// Adds a key, and the certificate beside it, to the agent for `life`.
pub async fn add_to_agent(key: &Path, life: Duration) -> Result<(), OpensshError> {
    let life = life.as_secs().max(1).to_string();
    run("ssh-add", [OsStr::new("-q"), OsStr::new("-t"), OsStr::new(&life), key.as_os_str()], b"").await.map(drop)
}

/// `<key>.pub`.
#[must_use]
pub fn public_path(key: &Path) -> PathBuf {
    with_end(key, ".pub")
}

/// Where OpenSSH looks for the certificate of a key: `<key>-cert.pub`.
#[must_use]
pub fn certificate_path(key: &Path) -> PathBuf {
    with_end(&private_path(key), "-cert.pub")
}

/// The private key's path, if the public one was named.
#[must_use]
pub fn private_path(key: &Path) -> PathBuf {
    match (key.extension(), key.file_stem()) {
        (Some(end), Some(stem)) if end == "pub" => key.with_file_name(stem),
        _ => key.to_owned(),
    }
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

async fn run<'a>(
    program: &'static str,
    args: impl IntoIterator<Item = &'a OsStr>,
    input: &[u8],
) -> Result<String, OpensshError> {
    let mut command = Command::new(program);
    command.args(args);
    finish(program, command, input).await
}

async fn finish(program: &'static str, mut command: Command, input: &[u8]) -> Result<String, OpensshError> {
    let start = |cause| OpensshError::Start { program, cause };
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(start)?;
    let work = async {
        if let Some(mut stdin) = child.stdin.take() {
            // If the program has ended already, its standard error says why.
            let _ = stdin.write_all(input).await;
        }
        child.wait_with_output().await
    };
    let output = tokio::time::timeout(LIMIT, work).await.map_err(|_| OpensshError::Slow { program })?.map_err(start)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(OUTPUT_MAX)]).trim().to_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    let said =
        text(&output.stderr).lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
    let said = if said.is_empty() { output.status.to_string() } else { said };
    Err(OpensshError::Failed { program, said })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_openssh_looks() {
        for (key, certificate, private) in [
            ("/a/id_ed25519", "/a/id_ed25519-cert.pub", "/a/id_ed25519"),
            ("/a/id_ed25519.pub", "/a/id_ed25519-cert.pub", "/a/id_ed25519"),
            ("/a.pub/key", "/a.pub/key-cert.pub", "/a.pub/key"),
            ("my.key", "my.key-cert.pub", "my.key"),
        ] {
            assert_eq!(certificate_path(Path::new(key)), Path::new(certificate));
            assert_eq!(private_path(Path::new(key)), Path::new(private));
        }
        assert_eq!(public_path(Path::new("/a/k")), Path::new("/a/k.pub"));
    }

    #[tokio::test]
    async fn keys_are_made_and_sign() {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("-id");
        make_key(&key, "a comment").await.unwrap();
        let line = std::fs::read_to_string(public_path(&key)).unwrap();
        assert!(line.ends_with(" a comment\n"), "{line}");
        assert!(line.starts_with(&public_half(&key).await.unwrap().replace(" a comment", "")));
        let public = pki::SshKey::parse(&line).unwrap();
        let signature = sign(&key, "a@v1", b"m").await.unwrap();
        assert_eq!(public.verify("a@v1", b"m", &signature), Ok(()));
    }

    #[tokio::test]
    async fn what_went_wrong_is_said_in_its_own_words() {
        let dir = tempfile::tempdir().unwrap();
        let error = sign(&dir.path().join("nothing"), "a@v1", b"m").await.unwrap_err();
        let complaint = Complaint::from(error);
        assert_eq!((complaint.exit, complaint.code.as_str()), (Exit::Failure, "openssh"));
        assert!(complaint.what.starts_with("`ssh-keygen` failed: "), "{complaint}");
        assert!(complaint.what.contains("No such file"), "{complaint}");
    }
}
