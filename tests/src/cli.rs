//! Runs the `lychgate` program, with a directory for each identity.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::program::{Ended, Program, built, run};
use crate::tls::ClientIdentity;
use crate::wait::PATIENCE;

/// One identity: a machine or a person with its directory.
pub struct Lychgate {
    dir: PathBuf,
    wrapper: Vec<String>,
}

impl Lychgate {
    /// An identity in `dir`, which need not exist.
    #[must_use]
    pub fn at(dir: PathBuf) -> Self {
        Self { dir, wrapper: Vec::new() }
    }

    /// The same directory, with the program run under another program such as `faketime`.
    #[must_use]
    pub fn under(&self, wrapper: &[impl AsRef<str>]) -> Self {
        Self { dir: self.dir.clone(), wrapper: wrapper.iter().map(|word| word.as_ref().to_owned()).collect() }
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The folder in which it looks for SSH host keys.
    #[must_use]
    pub fn host_keys(&self) -> PathBuf {
        self.dir.with_extension("host-keys")
    }

    /// A file of the directory.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The command, not started.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        let mut words = self.wrapper.clone();
        words.push(built("lychgate").to_str().unwrap().to_owned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg("--dir").arg(&self.dir).args(args).env_remove("LYCHGATE_DIR");
        // What a test proves does not depend on the TPM of the machine where it runs, nor on its host keys: it puts its own here; nor
        // on the tokens that it may have, or on its cloud.
        command.env("LYCHGATE_TPM", "none").env("LYCHGATE_HOST_KEYS", self.host_keys()).env("LYCHGATE_JWT", "none");
        command.env_remove("LYCHGATE_X509_CERT").env_remove("LYCHGATE_X509_KEY").env_remove("LYCHGATE_TPM_LOG");
        command.env("LYCHGATE_CLOUD", "none");
        command
    }

    /// Runs it to its end.
    #[track_caller]
    #[must_use]
    pub fn run(&self, args: &[&str]) -> Ended {
        self.run_within(args, PATIENCE)
    }

    /// Runs it to its end, within a deadline of the test's own.
    #[track_caller]
    #[must_use]
    pub fn run_within(&self, args: &[&str], patience: Duration) -> Ended {
        run(&mut self.command(args), patience)
    }

    /// Runs it and expects success; returns standard output.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        let ended = self.run(args);
        assert_eq!(ended.code, 0, "lychgate {args:?}\nstdout:\n{}\nstderr:\n{}", ended.stdout, ended.stderr);
        ended.stdout
    }

    /// Runs it with `--json` and expects success; returns the JSON.
    #[track_caller]
    #[must_use]
    pub fn json(&self, args: &[&str]) -> Value {
        let mut all = vec!["--json"];
        all.extend(args);
        let stdout = self.ok(&all);
        serde_json::from_str(&stdout).unwrap_or_else(|e| panic!("lychgate {all:?}: {e} in:\n{stdout}"))
    }

    /// Runs it with `--json` and expects this exit code; returns the JSON.
    #[track_caller]
    #[must_use]
    pub fn json_of(&self, code: i32, args: &[&str]) -> Value {
        let mut all = vec!["--json"];
        all.extend(args);
        let ended = self.run(&all);
        assert_eq!(ended.code, code, "lychgate {all:?}\nstdout:\n{}\nstderr:\n{}", ended.stdout, ended.stderr);
        serde_json::from_str(&ended.stdout).unwrap_or_else(|e| panic!("lychgate {all:?}: {e} in:\n{}", ended.stdout))
    }

    /// Runs it and expects a failure; returns standard error.
    #[track_caller]
    pub fn refused(&self, args: &[&str]) -> Ended {
        let ended = self.run(args);
        assert_ne!(ended.code, 0, "lychgate {args:?} succeeded\nstdout:\n{}\nstderr:\n{}", ended.stdout, ended.stderr);
        let panicked = ended.stderr.contains("panicked") || ended.code >= 128;
        assert!(!panicked, "lychgate {args:?} crashed\n{}", ended.stderr);
        ended
    }

    /// Starts it and leaves it running.
    #[must_use]
    pub fn start(&self, args: &[&str]) -> Program {
        std::fs::create_dir_all(self.dir.parent().unwrap()).unwrap();
        Program::start(&mut self.command(args), self.dir.parent().unwrap())
    }

    /// Its certificate and key, for other programs and clients.
    #[must_use]
    pub fn identity(&self) -> ClientIdentity {
        ClientIdentity::in_dir(&self.dir)
    }
}

/// The waiting code in the output of `join`: two groups of four characters of Crockford's base32.
#[must_use]
pub fn waiting_code(screen: &str) -> Option<String> {
    let crockford = |b: u8| b.is_ascii_digit() || (b.is_ascii_uppercase() && !b"ILOU".contains(&b));
    screen
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
        .find(|word| {
            let bytes = word.as_bytes();
            bytes.len() == 9 && bytes[4] == b'-' && bytes.iter().enumerate().all(|(i, &b)| i == 4 || crockford(b))
        })
        .map(str::to_owned)
}
