//! Runs programs: every child is killed when its owner is dropped, every wait has a deadline, and panics contain the output of the
//! child.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

use crate::wait::PATIENCE;

/// A child whose output goes to files, so that it can be read at any time and never blocks the child.
pub struct Program {
    child: Child,
    name: String,
    stdout: PathBuf,
    stderr: PathBuf,
}

/// The result of a program.
#[derive(Debug)]
pub struct Ended {
    /// The exit code; a signal shows as 128 plus its number, as in a shell.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Program {
    /// Starts `command` with its output in files of `dir` and no standard input.
    pub fn start(command: &mut Command, dir: &Path) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = Path::new(command.get_program()).file_name().unwrap().to_string_lossy().into_owned();
        let stem = format!("{name}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let (stdout, stderr) = (dir.join(format!("{stem}.out")), dir.join(format!("{stem}.err")));
        let child = command
            .stdin(Stdio::null())
            .stdout(File::create(&stdout).unwrap())
            .stderr(File::create(&stderr).unwrap())
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
        Self { child, name, stdout, stderr }
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        read(&self.stdout)
    }

    /// Its standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        read(&self.stderr)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        // A child that has ended is a zombie until it is waited for, so its id cannot be another process's.
        let _ = kill_process(pid, signal);
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits until it exits.
    #[track_caller]
    pub fn end_within(mut self, patience: Duration) -> Ended {
        let status = self.wait(patience);
        Ended { code: code(status), stdout: self.stdout(), stderr: self.stderr() }
    }

    /// Sends SIGTERM and waits until it exits.
    #[track_caller]
    pub fn stop(self) -> Ended {
        self.signal(Signal::TERM);
        self.end_within(PATIENCE)
    }

    /// Sends SIGKILL and waits until it has ended.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    #[track_caller]
    fn wait(&mut self, patience: Duration) -> ExitStatus {
        let what = format!("end of `{}` (process {})", self.name, self.child.id());
        let began = std::time::Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            if began.elapsed() >= patience {
                self.kill();
                panic!("{what}: not within {patience:?}\nstdout:\n{}\nstderr:\n{}", self.stdout(), self.stderr());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until `find` returns a value for its standard error.
    #[track_caller]
    pub fn expect_stderr<T>(&mut self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        self.expect(what, PATIENCE, Self::stderr, find)
    }

    /// Waits until `find` returns a value for its standard output.
    #[track_caller]
    pub fn expect_stdout<T>(&mut self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        self.expect(what, PATIENCE, Self::stdout, find)
    }

    /// As above, with another deadline.
    #[track_caller]
    pub fn expect_stdout_within<T>(&mut self, what: &str, patience: Duration, find: impl Fn(&str) -> Option<T>) -> T {
        self.expect(what, patience, Self::stdout, find)
    }

    #[track_caller]
    fn expect<T>(
        &mut self,
        what: &str,
        patience: Duration,
        read: fn(&Self) -> String,
        find: impl Fn(&str) -> Option<T>,
    ) -> T {
        let began = std::time::Instant::now();
        loop {
            let running = self.runs();
            if let Some(found) = find(&read(self)) {
                return found;
            }
            if !running || began.elapsed() > patience {
                let how = if running { "did not print it" } else { "ended without it" };
                panic!("{what}: `{}` {how}\nstdout:\n{}\nstderr:\n{}", self.name, self.stdout(), self.stderr());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a command to its end, with a deadline.
#[track_caller]
pub fn run(command: &mut Command, patience: Duration) -> Ended {
    let dir = tempfile::tempdir().unwrap();
    Program::start(command, dir.path()).end_within(patience)
}

/// Raises the limit of file descriptors to the hard limit: thousands of connections need more than the default 1,024.
pub fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    setrlimit(Resource::Nofile, raised).expect("the limit on descriptors cannot be raised to its hard limit");
}

/// A program of the workspace, built by `cargo build --workspace` beside the running test.
#[must_use]
pub fn built(name: &str) -> PathBuf {
    let here = std::env::current_exe().unwrap();
    // target/debug/deps/e2e-<hash> for a test, target/debug/lychgate-bench for the benchmark.
    let found = here.ancestors().skip(1).take(2).map(|dir| dir.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("`{name}` is not built beside {}: run `cargo build --workspace`", here.display()))
}

/// The command prefix that shifts the wall clock of a program, such as by `+1h`; the monotonic clock is unchanged.
#[must_use]
pub fn shifted_clock(by: &str) -> Vec<String> {
    under_faketime(&[format!("FAKETIME={by}")])
}

/// A wall clock that can be set while programs use it. Their monotonic clock is unchanged.
pub struct Hands(PathBuf);

impl Hands {
    /// A clock that is right until it is set, with its file in `dir`.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let hands = Self(dir.join(format!("clock-{}", COUNT.fetch_add(1, Ordering::Relaxed))));
        hands.set("+0");
        hands
    }

    /// The command prefix for a program that uses it.
    #[must_use]
    pub fn prefix(&self) -> Vec<String> {
        under_faketime(&[format!("FAKETIME_TIMESTAMP_FILE={}", self.0.display()), "FAKETIME_NO_CACHE=1".to_owned()])
    }

    /// Sets its difference to the true time, such as `+1h`, for all programs that use it.
    pub fn set(&self, to: &str) {
        // Replaced atomically, because it is read at any time.
        let fresh = self.0.with_extension("new");
        std::fs::write(&fresh, to).unwrap();
        std::fs::rename(&fresh, &self.0).unwrap();
    }
}

fn under_faketime(settings: &[String]) -> Vec<String> {
    let library = std::fs::read_dir("/usr/lib")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("faketime/libfaketimeMT.so.1")))
        .find(|path| path.is_file())
        .expect("libfaketime is not installed: run `tests/run` once");
    let preload = format!("LD_PRELOAD={}", library.display());
    let mut words = ["env", &preload, "FAKETIME_DONT_FAKE_MONOTONIC=1", "NO_FAKE_STAT=1"].map(str::to_owned).to_vec();
    words.extend_from_slice(settings);
    words
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}
