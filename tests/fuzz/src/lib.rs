//! What the fuzz targets check, one module each: bytes of a stranger go in, and whatever is taken must keep a promise.
//!
//! Random bytes never carry a good signature, so most targets can also be given the part that is signed, and sign it
//! themselves with the keys of [`world`]: what lies behind the signature check is reached, too. `run` beside this package
//! builds a fuzzer around each and runs them all; the tests of this package judge the seeds, and inputs close to them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a finding is a panic")]

use std::{env, fs, path::Path, process};

pub mod chain;
pub mod cloud;
pub mod cms;
pub mod csr;
pub mod evidence;
pub mod framing;
pub mod join_token;
pub mod jwt;
pub mod key_set;
pub mod names;
pub mod parts;
pub mod path;
pub mod policy;
pub mod proof;
pub mod proxied;
pub mod proxy;
pub mod services;
pub mod ssh;
pub mod ticket;
pub mod tpm_attest;
pub mod tpm_command;
pub mod tpm_log;
pub mod tunnel;
pub mod wire_enroll;
pub mod world;

/// What became of an input. Neither is a finding: a finding panics.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was accepted, and every promise was kept.
    Taken,
    /// It was refused.
    Refused,
}

impl Outcome {
    /// Taken when any of them was.
    #[must_use]
    pub fn any(outcomes: &[bool]) -> Self {
        if outcomes.contains(&true) { Self::Taken } else { Self::Refused }
    }
}

/// A target: what it judges, and what it starts from.
pub struct Target {
    /// The name of its module and of its program.
    pub name: &'static str,
    /// Judges one input.
    pub check: fn(&[u8]) -> Outcome,
    /// Inputs to start from.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

macro_rules! targets {
    ($($name:ident)*) => { &[$(Target { name: stringify!($name), check: $name::check, seeds: $name::seeds }),*] };
}

/// Every target.
pub const TARGETS: &[Target] = targets!(chain cloud cms csr evidence framing join_token jwt key_set names path policy proof proxied proxy services ssh ticket tpm_attest tpm_command tpm_log tunnel wire_enroll);

/// Where a target writes its seeds to, instead of fuzzing, when this is set.
const SEEDS_DIR: &str = "FUZZ_SEEDS";

/// Called before the first input. With [`SEEDS_DIR`] set, writes what the target starts from and ends the process.
pub fn seed(check: fn(&[u8]) -> Outcome, seeds: fn() -> Vec<Vec<u8>>) {
    let Some(dir) = env::var_os(SEEDS_DIR) else { return };
    let written = write(check, &seeds(), Path::new(&dir));
    if let Err(why) = &written {
        eprintln!("seeds: {why}");
    }
    process::exit(i32::from(written.is_err()));
}

/// A target that takes none of its seeds would only ever see refusals, so that is an error.
fn write(check: fn(&[u8]) -> Outcome, seeds: &[Vec<u8>], dir: &Path) -> Result<(), String> {
    fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let mut taken = 0;
    for (number, seed) in seeds.iter().enumerate() {
        taken += usize::from(check(seed) == Outcome::Taken);
        let path = dir.join(format!("seed-{number:02}"));
        fs::write(&path, seed).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    if taken > 0 { Ok(()) } else { Err(format!("none of {} is taken", seeds.len())) }
}
