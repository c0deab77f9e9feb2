//! Every target over its seeds and over some thousand inputs made from them, always the same.
//!
//! `FUZZ_ROUNDS` says how many inputs, and `FUZZ_TARGET` for which target alone.

use std::{env, fs, panic, path::Path};

use ccgateway_bridge_fuzz::{TARGETS, Target};

const ROUNDS: usize = 4000;

/// Marsaglia's xorshift64: no outside crate can change what is replayed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides.max(1) as u64).unwrap()
    }
}

#[test]
fn every_target_holds_for_its_seeds_and_their_mutants() {
    let rounds = env::var("FUZZ_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let only = env::var("FUZZ_TARGET").ok();
    for (name, target) in TARGETS {
        if only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        let seeds = seeds(name);
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
        for seed in &seeds {
            run(name, *target, seed);
        }
        for _ in 0..rounds {
            run(name, *target, &mutant(&seeds, &mut dice));
        }
    }
}

#[test]
fn every_folder_of_seeds_is_a_target() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    let mut found: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    let names: Vec<_> = TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(found, names);
}

fn run(name: &str, target: Target, input: &[u8]) {
    if let Err(panic) = panic::catch_unwind(|| target(input)) {
        eprintln!("target {name}, input b\"{}\"", input.escape_ascii());
        panic::resume_unwind(panic);
    }
}

fn seeds(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(name);
    let mut paths: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{name} has no seeds");
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

fn mutant(seeds: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut input = seeds[dice.roll(seeds.len())].clone();
    for _ in 0..=dice.roll(4) {
        let at = dice.roll(input.len() + 1);
        let to = (at + dice.roll(8)).min(input.len());
        let other = &seeds[dice.roll(seeds.len())];
        let from = dice.roll(other.len() + 1);
        match dice.roll(6) {
            0 => input.truncate(at),
            1 => drop(input.drain(at..to)),
            2 => input.insert(at, b"\0\n \"\\{}[]=;.-0\xff\xef"[dice.roll(16)]),
            3 => drop(input.splice(at..to, other[from..].iter().copied())),
            4 => input.extend_from_within(at..to),
            _ => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << dice.roll(8);
                }
            }
        }
    }
    input
}
