//! A disk that is too small: a tmpfs in a mount namespace, in which programs are run.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::program::Program;

/// A small disk mounted on a directory, for programs that run under [`SmallDisk::wrapper`] only.
pub struct SmallDisk {
    // Keeps the namespace, and so the disk, while other programs start and end.
    holder: Program,
    dir: PathBuf,
}

impl SmallDisk {
    /// Mounts one of `kib` KiB on `dir`, which is made. The holder's output goes to `room`.
    #[track_caller]
    #[must_use]
    pub fn mount(dir: &Path, kib: u32, room: &Path) -> Self {
        fs::create_dir_all(dir).unwrap();
        let script =
            format!("mount -t tmpfs -o size={kib}k,mode=0700 none \"$1\" && echo mounted >&2 && exec sleep 600");
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script, "sh"]).arg(dir);
        let mut holder = Program::start(&mut command, room);
        holder.expect_stderr("a small disk", |text| text.contains("mounted").then_some(()));
        Self { holder, dir: dir.to_owned() }
    }

    /// The command prefix that runs a program in the namespace.
    #[must_use]
    pub fn wrapper(&self) -> Vec<String> {
        let target = format!("--target={}", self.holder.id());
        ["nsenter", &target, "--user", "--preserve-credentials", "--mount"].map(str::to_owned).to_vec()
    }

    /// A path on the disk, for processes outside the namespace.
    #[must_use]
    pub fn outside(&self, path: &Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        root.join(path.strip_prefix("/").unwrap())
    }

    /// Fills it to the last byte.
    pub fn fill(&self) {
        let mut filler = fs::File::create(self.filler()).unwrap();
        for size in [1 << 20, 1 << 12, 1] {
            while filler.write(&vec![0; size]).is_ok_and(|written| written > 0) {}
        }
    }

    /// Frees the space again.
    pub fn free(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.outside(&self.dir.join("filler"))
    }
}
