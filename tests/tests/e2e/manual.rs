//! Checks the man pages of both programs with a strict parser.

use std::process::Command;

use tests::program::{built, run};
use tests::wait::PATIENCE;

#[test]
fn the_man_pages_are_what_a_strict_reader_takes() {
    if Command::new("mandoc").arg("-V").output().is_err() {
        eprintln!("skipped: there is no mandoc");
        return;
    }
    for (program, among) in [("lychgate", "lychgate-ssh-cert-user.1"), ("lychgate-gateway", "lychgate-gateway-init.1")]
    {
        let room = tempfile::tempdir().unwrap();
        let written = run(Command::new(built(program)).arg("man").arg(room.path()), PATIENCE);
        assert_eq!(written.code, 0, "{}", written.stderr);
        assert!(room.path().join(among).is_file(), "{among}");
        let pages = std::fs::read_dir(room.path()).unwrap().map(|entry| entry.unwrap().path());
        let mut lint = Command::new("mandoc");
        // Other programs' pages need not be installed where this runs.
        let read = run(lint.args(["-Tlint", "-Wstyle"]).args(pages), PATIENCE);
        let said: Vec<&str> =
            read.stdout.lines().filter(|line| !line.contains("referenced manual not found")).collect();
        assert!(said.is_empty(), "{program}: {said:#?}");
    }
}
