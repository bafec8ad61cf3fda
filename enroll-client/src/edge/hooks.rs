//! Runs hooks after a new certificate was installed: commands given with `--hook`, then the executable files in `hooks.d`, sorted by
//! name.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::platform;

/// The folder within the identity folder.
pub const FOLDER: &str = "hooks.d";

/// Time limit of a hook: reloading a server takes a second or two, and a hook that hangs must not prevent the next renewal.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Most hooks that are run.
pub const COUNT_MOST: usize = 64;

/// The environment of a hook, beside `LYCHGATE_DIR`.
#[derive(Clone, Debug)]
pub struct HookContext<'a> {
    /// `joined`, `renewed`, `rejoined` or `ssh-host-certificate`, as `LYCHGATE_EVENT`.
    pub event: &'a str,
    /// The new serial number in hex, as `LYCHGATE_SERIAL`.
    pub serial: &'a str,
    /// The SPIFFE ID, as `LYCHGATE_IDENTITY`.
    pub identity: &'a str,
}

/// The result of one hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// The file's name.
    pub name: String,
    /// The error, if it failed.
    pub trouble: Option<String>,
}

/// Runs all hooks, one after the other: `commands` by the shell, then the files. After a failure the others still run.
pub async fn run(dir: &Path, commands: &[String], occasion: &HookContext<'_>) -> Vec<Ran> {
    let mut results = Vec::new();
    for text in commands {
        let trouble = run_one(platform::shell(text), dir, occasion).await.err();
        results.push(Ran { name: text.clone(), trouble });
    }
    let folder = dir.join(FOLDER);
    // Checked each time: the folder may have changed since the process started.
    if let Ok(Some(why)) = platform::distrust(&folder, None) {
        results.push(Ran { name: FOLDER.to_owned(), trouble: Some(format!("not looked into: {why}")) });
        return results;
    }
    for path in list(&folder) {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let trouble = match platform::may_run(&path) {
            Ok(()) => run_one(Command::new(&path), dir, occasion).await.err(),
            Err(why) => Some(format!("not run: {why}")),
        };
        results.push(Ran { name, trouble });
    }
    results
}

/// Runs one command by the shell, as [`run`] does; returns the error.
pub async fn run_command(dir: &Path, command: &str, occasion: &HookContext<'_>) -> Option<String> {
    run_one(platform::shell(command), dir, occasion).await.err()
}

/// The files of the folder by name, without hidden ones and backup files of editors and package managers.
fn list(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let is_hook = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let left_over = [".bak", ".orig", ".rpmsave", ".rpmnew", ".dpkg-old", ".dpkg-new", ".swp"];
        !name.starts_with('.') && !name.ends_with('~') && !left_over.iter().any(|end| name.ends_with(end))
    };
    let mut found: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_hook).collect();
    found.sort();
    found.truncate(COUNT_MOST);
    found
}

async fn run_one(mut command: Command, dir: &Path, occasion: &HookContext<'_>) -> Result<(), String> {
    command
        .env("LYCHGATE_DIR", dir)
        .env("LYCHGATE_EVENT", occasion.event)
        .env("LYCHGATE_SERIAL", occasion.serial)
        .env("LYCHGATE_IDENTITY", occasion.identity)
        .stdin(Stdio::null())
        // Standard output carries our events, one per line, so a hook's output goes to standard error.
        .stdout(Stdio::from(std::io::stderr()))
        .kill_on_drop(true);
    platform::own_group(&mut command);
    let mut child = command.spawn().map_err(|e| format!("cannot start: {e}"))?;
    match tokio::time::timeout(LIMIT, child.wait()).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(status.to_string()),
        Ok(Err(e)) => Err(e.to_string()),
        Err(_) => {
            if let Some(leader) = child.id() {
                platform::end_group(leader);
            }
            // Reaps the killed process.
            let _ = child.wait().await;
            Err(format!("took longer than {} s and was ended", LIMIT.as_secs()))
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    fn hook(dir: &Path, name: &str, mode: u32, script: &str) {
        let path = dir.join(FOLDER).join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[tokio::test]
    async fn hooks_run_in_order_and_failures_do_not_stop_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(FOLDER)).unwrap();
        let log = r#"echo "$0 $LYCHGATE_EVENT $LYCHGATE_SERIAL" | sed 's,.*/,,' >> "$LYCHGATE_DIR/log""#;
        hook(dir.path(), "20-second", 0o755, log);
        hook(dir.path(), "10-first", 0o700, &format!("{log}\nexit 3"));
        hook(dir.path(), "30-not-executable", 0o644, log);
        hook(dir.path(), "40-anybody-writes", 0o777, log);
        hook(dir.path(), ".hidden", 0o755, log);
        hook(dir.path(), "20-second~", 0o755, log);

        let occasion = HookContext { event: "renewed", serial: "0a", identity: "spiffe://td/machine/a" };
        let ran =
            run(dir.path(), &[r#"echo "command $LYCHGATE_EVENT" >> "$LYCHGATE_DIR/log""#.into()], &occasion).await;

        assert_eq!(ran[0].trouble, None);
        let want = [
            ("10-first", Some("exit status: 3")),
            ("20-second", None),
            ("30-not-executable", Some("not run: it is not executable")),
            ("40-anybody-writes", Some("not run: others may write to it")),
        ];
        let got: Vec<(&str, Option<&str>)> =
            ran[1..].iter().map(|hook| (hook.name.as_str(), hook.trouble.as_deref())).collect();
        assert_eq!(got, want);
        let log = fs::read_to_string(dir.path().join("log")).unwrap();
        assert_eq!(log, "command renewed\n10-first renewed 0a\n20-second renewed 0a\n");
    }

    #[tokio::test]
    async fn no_folder_means_no_hooks() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(run(dir.path(), &[], &HookContext { event: "x", serial: "", identity: "" }).await, []);
    }
}
