//! `lychgate-gateway dev`: the commands that it prints are run unchanged.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;
use tests::cli::waiting_code;
use tests::program::{Ended, Program, built, run};
use tests::wait::{PATIENCE, eventually};

use crate::items;

/// Where the commands are pasted: the directory in which `dev` was started.
pub struct Terminal<'a> {
    pub room: &'a Path,
    // `dev` takes the ports that it likes best, and keeps them: one at a time, or two would look for them at once. The
    // system gives the lock back.
    _turn: File,
}

impl<'a> Terminal<'a> {
    #[track_caller]
    pub fn open(room: &'a Path) -> Self {
        let turn = File::create(std::env::temp_dir().join("lychgate-test-dev")).unwrap();
        eventually("the other test of `dev` ends", 3 * PATIENCE, || turn.try_lock().ok());
        Self { room, _turn: turn }
    }

    pub fn command(&self, line: &str) -> Command {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(line).current_dir(self.room).env_remove("LYCHGATE_DIR");
        shell
    }

    #[track_caller]
    pub fn paste(&self, line: &str) -> Ended {
        run(&mut self.command(line), PATIENCE)
    }

    #[track_caller]
    pub fn ok(&self, line: &str) -> String {
        let ended = self.paste(line);
        assert_eq!(ended.code, 0, "{line}\n{}\n{}", ended.stdout, ended.stderr);
        ended.stdout
    }

    #[track_caller]
    pub fn json(&self, line: &str) -> Value {
        let printed = self.ok(&format!("{line} --json"));
        serde_json::from_str(&printed).unwrap_or_else(|e| panic!("{line}: {e} in:\n{printed}"))
    }

    /// Starts `dev`; gives it and everything it says.
    #[track_caller]
    pub fn dev(&self) -> (Program, String) {
        let mut command = Command::new(built("lychgate-gateway"));
        // Started by cargo it would build the client, which is there.
        command.arg("dev").current_dir(self.room).env_remove("CARGO");
        let mut dev = Program::start(&mut command, self.room);
        let said = dev.expect_stderr("what to paste", |text| text.contains("stop  ").then(|| text.to_owned()));
        (dev, said)
    }
}

/// The command below a line that begins so.
#[track_caller]
pub fn below(said: &str, heading: &str) -> String {
    let mut lines = said.lines().skip_while(|line| !line.starts_with(heading)).skip(1);
    lines.next().unwrap_or_else(|| panic!("nothing below `{heading}` in:\n{said}")).trim().to_owned()
}

#[test]
fn what_dev_prints_can_be_pasted() {
    let room = tempfile::tempdir().unwrap();
    let terminal = Terminal::open(room.path());
    let (dev, said) = terminal.dev();

    let join = below(&said, "join a machine");
    let mut machine = Program::start(&mut terminal.command(&format!("exec {join}")), room.path());
    let code = machine.expect_stderr("a code on the machine's screen", waiting_code);
    let waiting = items(&terminal.json(&below(&said, "see who waits")));
    assert_eq!(waiting.len(), 1, "{waiting:?}");
    let id = waiting[0]["id"].as_str().unwrap();
    terminal.ok(&below(&said, "approve").replace("ID", id).replace("CODE", &code));
    assert_eq!(machine.end_within(PATIENCE).code, 0);

    let keep_fresh = below(&said, "keep its certificate renewed");
    let (client, _) = keep_fresh.rsplit_once(' ').unwrap();
    let status = terminal.json(&format!("{client} status"));
    assert_eq!(status["identity"], "spiffe://dev.lychgate.test/machine/machine-1", "{status}");
    let curl = format!("{} --silent --show-error --max-time 20 --fail", below(&said, "call the manage face"));
    assert!(terminal.ok(&curl).contains("spiffe://dev.lychgate.test/machine/machine-1"));
    // The same without the certificate and key, which are the first four words after `curl`.
    let words: Vec<&str> = curl.split(' ').collect();
    assert_ne!(terminal.paste(&[&words[..1], &words[5..]].concat().join(" ")).code, 0);
    terminal.ok(&below(&said, "join without waiting"));

    // Ctrl-C stops it cleanly; the next start finds everything again.
    dev.signal(Signal::INT);
    let ended = dev.end_within(PATIENCE);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let (dev, again) = terminal.dev();
    assert_eq!(below(&again, "join a machine"), join);
    terminal.ok(&format!("{client} run --once"));
    let me = below(&said, "see who waits").replace("requests list", "machines list");
    assert_eq!(items(&terminal.json(&me)).len(), 2);
    locked_and_unlocked(&terminal, &me, &curl);
    assert_eq!(dev.stop().code, 0);
}

/// The machine is locked and the next call refused; unlocked, it is served again.
fn locked_and_unlocked(terminal: &Terminal<'_>, me: &str, curl: &str) {
    terminal.ok(&me.replace("machines list", "machines lock machine-1 --reason lost"));
    assert_ne!(terminal.paste(curl).code, 0);
    terminal.ok(&me.replace("machines list", "machines unlock machine-1"));
    eventually("the machine is served again", PATIENCE, || (terminal.paste(curl).code == 0).then_some(()));
}
