//! Every target judges its seeds, and inputs that differ from one in a few bytes: so that what a fuzzer is to find is still looked for
//! after each change of the product, and the plainest of it is found at once.

use std::{collections::BTreeSet, fs, path::Path};

use fuzz::{Outcome, TARGETS};

/// Inputs made of each seed: in an unoptimised build all of them take some twenty seconds, most of them the policies.
const BENT: u32 = 8;

/// Numbers that repeat (Marsaglia's xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end.max(1) as u64).unwrap_or_default()
    }
}

/// The same with a few bytes changed, put in or taken out.
fn bent(seed: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(bytes.len());
        match numbers.below(4) {
            0 if !bytes.is_empty() => drop(bytes.remove(at)),
            1 => bytes.insert(at, u8::try_from(numbers.below(256)).unwrap_or_default()),
            2 => bytes.truncate(at),
            _ if !bytes.is_empty() => bytes[at] ^= 1 << numbers.below(8),
            _ => {}
        }
    }
    bytes
}

#[test]
fn every_target_takes_a_seed_and_keeps_its_promise_near_all_of_them() {
    for target in TARGETS {
        let seeds = (target.seeds)();
        let taken = seeds.iter().filter(|seed| (target.check)(seed) == Outcome::Taken).count();
        assert!(taken > 0, "{}: none of {} seeds is taken", target.name, seeds.len());
        let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
        for seed in &seeds {
            for _ in 0..BENT {
                let _ = (target.check)(&bent(seed, &mut numbers));
            }
        }
    }
}

#[test]
fn every_target_has_a_program() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("libfuzzer/targets");
    let stem = |entry: fs::DirEntry| entry.path().file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let programs: BTreeSet<String> = fs::read_dir(folder).into_iter().flatten().flatten().filter_map(stem).collect();
    assert_eq!(programs, TARGETS.iter().map(|target| target.name.to_owned()).collect());
}
