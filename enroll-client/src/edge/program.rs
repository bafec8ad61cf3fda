//! The path of this program for configuration files. It must not contain a versioned folder, which the next upgrade removes.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Under this name the program acts as `lychgate ssh`, for programs that call ssh by a single word.
pub const AS_SSH: &str = "lychgate-ssh";

/// The name of this program.
const NAME: &str = "lychgate";

/// The arguments of the command line; called as [`AS_SSH`], with the subcommand `ssh` inserted.
pub fn arguments(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = arguments.collect();
    let name = arguments.first().and_then(|called| Path::new(called).file_name());
    if name == Some(OsStr::new(AS_SSH)) {
        arguments.insert(1, "ssh".into());
    }
    arguments
}

/// The path by which the program was called, if that is this executable, else the path of the executable.
#[must_use]
pub fn own() -> PathBuf {
    let called = std::env::args_os().next().unwrap_or_default();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let exe = std::env::current_exe().ok();
    called_as(&called, &path, exe.as_deref()).or(exe).unwrap_or_else(|| PathBuf::from(NAME))
}

/// Resolves the name by which the program was called; `None` if that is not `exe`.
fn called_as(called: &OsStr, path: &OsStr, exe: Option<&Path>) -> Option<PathBuf> {
    // If the executable was replaced while running, its path does not resolve, and the file now at that path is used.
    let real = exe.and_then(|exe| exe.canonicalize().ok());
    let is_us = |found: &PathBuf| match (&real, found.canonicalize()) {
        (Some(real), Ok(found)) => *real == found,
        (None, Ok(found)) => found.is_file(),
        (_, Err(_)) => false,
    };
    // Under the name `lychgate-ssh` the program would take all arguments for those of ssh.
    let plain = |found: PathBuf| match found.file_name() {
        Some(name) if name == AS_SSH => found.with_file_name(NAME),
        _ => found,
    };
    let direct = || std::path::absolute(called).ok();
    let searched = || std::env::split_paths(path).filter_map(|folder| std::path::absolute(folder.join(called)).ok());
    let is_path = Path::new(called).components().count() > 1;
    let found: Box<dyn Iterator<Item = PathBuf>> =
        if is_path { Box::new(direct().into_iter()) } else { Box::new(searched()) };
    found.map(plain).find(is_us)
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn under_its_other_name_it_is_ssh() {
        let arguments = |called: &str| arguments([called, "-v", "m"].map(OsString::from).into_iter());
        assert_eq!(arguments("/x/lychgate-ssh"), ["/x/lychgate-ssh", "ssh", "-v", "m"]);
        assert_eq!(arguments("lychgate"), ["lychgate", "-v", "m"]);
    }

    #[test]
    fn the_path_that_outlives_an_upgrade() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let (bin, versioned, other) = (root.join("bin"), root.join("lychgate-1.0"), root.join("other"));
        for folder in [&bin, &versioned, &other] {
            std::fs::create_dir(folder).unwrap();
        }
        let exe = versioned.join(NAME);
        std::fs::write(&exe, "us").unwrap();
        std::fs::write(other.join(NAME), "somebody else").unwrap();
        symlink(&exe, bin.join(NAME)).unwrap();
        symlink(NAME, bin.join(AS_SSH)).unwrap();
        let path = std::env::join_paths([&other, &bin]).unwrap();
        let check = |called: &OsStr, exe: Option<&Path>, want: Option<PathBuf>| {
            assert_eq!(called_as(called, &path, exe), want, "{}", called.display());
        };
        check(OsStr::new(NAME), Some(&exe), Some(bin.join(NAME)));
        check(bin.join(NAME).as_os_str(), Some(&exe), Some(bin.join(NAME)));
        check(exe.as_os_str(), Some(&exe), Some(exe.clone()));
        check(OsStr::new(AS_SSH), Some(&exe), Some(bin.join(NAME)));
        // Another program of that name, and a missing file.
        check(other.join(NAME).as_os_str(), Some(&exe), None);
        check(OsStr::new("else"), Some(&exe), None);
        check(OsStr::new(""), Some(&exe), None);
        // The program was replaced while it ran.
        check(bin.join(NAME).as_os_str(), Some(&root.join("gone")), Some(bin.join(NAME)));
    }
}
