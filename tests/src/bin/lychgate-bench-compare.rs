//! Runs the benchmark programs of two revisions alternately and compares their figures: prints a table, writes JSON to the path given,
//! and exits with 1 when a figure of this tree is worse than tolerated.
//!
//! `tests/bench/run --against REV` builds both and calls it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark that cannot be run fails by panicking"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use serde::Serialize;
use tests::bench::compare::{Compared, PAIRS, Run, Verdict, WORSE_MAX, compare};
use tests::bench::report::machine;

/// Figures measured by one run, few so that the two runs of a pair are close in time. Figures 1 and 5 of the access benchmark share
/// their machines.
const CERTIFICATES: &[&str] = &["1234567"];
const ACCESS: &[&str] = &["15", "2", "3", "4", "6", "8", "7"];

const USAGE: &str =
    "usage: lychgate-bench-compare [--quick] [--pairs N] [--only FIGURES] REV OTHER-PROGRAM PROGRAM [FILE]";

/// The parsed command line.
struct Asked {
    quick: bool,
    pairs: usize,
    only: Option<String>,
    revision: String,
    /// The benchmark programs: the other revision's, this tree's.
    programs: [PathBuf; 2],
    file: Option<PathBuf>,
}

/// The JSON output.
#[derive(Serialize)]
struct Comparison<'a> {
    machine: String,
    against: &'a str,
    quick: bool,
    pairs: usize,
    worse_max: f64,
    figures: &'a [Compared],
}

fn main() -> ExitCode {
    let asked = read(std::env::args().skip(1));
    let groups = if asked.programs[1].ends_with("lychgate-bench-access") { ACCESS } else { CERTIFICATES };
    let mut figures = Vec::new();
    for group in groups {
        let only: String =
            group.chars().filter(|figure| asked.only.as_ref().is_none_or(|only| only.contains(*figure))).collect();
        if only.is_empty() {
            continue;
        }
        let mut pairs = Vec::new();
        for pair in 1..=asked.pairs {
            eprintln!("figures {only}, pair {pair} of {}", asked.pairs);
            let [before, now] = &asked.programs;
            pairs.push((run(before, &only, asked.quick), run(now, &only, asked.quick)));
        }
        for compared in compare(&pairs) {
            eprintln!("{}", compared.line());
            figures.push(compared);
        }
    }
    finish(&asked, &figures)
}

fn read(mut args: impl Iterator<Item = String>) -> Asked {
    let (mut quick, mut pairs, mut only, mut rest) = (false, PAIRS, None, Vec::new());
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--quick" => quick = true,
            "--pairs" => {
                let count = args.next().and_then(|text| text.parse().ok()).filter(|count| *count > 0);
                pairs = count.unwrap_or_else(|| panic!("--pairs takes a number from 1; {USAGE}"));
            }
            "--only" => only = Some(args.next().expect("--only takes the numbers of figures, such as 23")),
            other if other.starts_with('-') => panic!("unknown argument `{other}`; {USAGE}"),
            other => rest.push(other.to_owned()),
        }
    }
    let mut rest = rest.into_iter();
    let mut next = || rest.next().unwrap_or_else(|| panic!("{USAGE}"));
    let revision = next();
    let programs = [next().into(), next().into()];
    Asked { quick, pairs, only, revision, programs, file: rest.next().map(PathBuf::from) }
}

/// One run of a benchmark program.
fn run(program: &Path, only: &str, quick: bool) -> Run {
    let room = tempfile::tempdir().unwrap();
    let path = room.path().join("result.json");
    let mut command = Command::new(program);
    command.args(quick.then_some("--quick")).arg("--only").arg(only).arg(&path);
    // The table is discarded; the figures come from the JSON file.
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
    let status = status.unwrap_or_else(|e| panic!("cannot start {}: {e}", program.display()));
    assert!(status.success(), "{} --only {only} ended with {status}", program.display());
    let text = std::fs::read(&path).unwrap_or_else(|e| panic!("{} wrote no figures: {e}", program.display()));
    serde_json::from_slice(&text).unwrap_or_else(|e| panic!("{} wrote other figures: {e}", program.display()))
}

fn finish(asked: &Asked, figures: &[Compared]) -> ExitCode {
    let (quick, pairs) = (asked.quick, asked.pairs);
    let small = if quick { ", quick" } else { "" };
    println!("{}, release build{small}: {} and this tree, medians of {pairs} pairs", machine(), asked.revision);
    println!("{:<3} {:<62} {:>10} {:>10} {:<4} {:>7} better", "", "", asked.revision, "now", "", "ratio");
    for figure in figures {
        println!("{}", figure.line().trim_end());
    }
    if let Some(file) = &asked.file {
        let comparison =
            Comparison { machine: machine(), against: &asked.revision, quick, pairs, worse_max: WORSE_MAX, figures };
        std::fs::write(file, serde_json::to_string_pretty(&comparison).unwrap() + "\n")
            .unwrap_or_else(|e| panic!("cannot write {}: {e}", file.display()));
    }
    let failed = figures.iter().filter(|figure| figure.verdict.fails()).count();
    let compared = figures.iter().filter(|figure| figure.verdict != Verdict::New).count();
    if compared == 0 {
        println!("nothing was compared");
        return ExitCode::FAILURE;
    }
    if failed > 0 {
        println!("{failed} of {compared} figures are worse by more than {:.0} %, or gone", WORSE_MAX * 100.0);
        return ExitCode::FAILURE;
    }
    println!("no figure is worse by more than {:.0} %", WORSE_MAX * 100.0);
    ExitCode::SUCCESS
}
