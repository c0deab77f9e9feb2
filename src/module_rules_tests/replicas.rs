//! Tests only: no module outside `cluster` depends on other replicas, so one process works without
//! it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The files that may name it: the module itself, the configuration, and the place where the store
/// is built from the configuration.
const MAY_NAME_IT: [&str; 6] =
    ["cluster.rs", "cluster/", "config.rs", "config/", "lib.rs", "server/stores.rs"];
/// The files that leave the module out of a build.
const LEAVE_IT_OUT: [&str; 2] = ["lib.rs", "server/stores.rs"];

/// Every source file except these tests, with its path from `src/`.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut folders, mut sources) = (vec![root.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(folder).expect("a folder");
        let paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
        for path in paths {
            let name = path.strip_prefix(&root).expect("within").display().to_string();
            if path.is_dir() {
                folders.push(path);
            } else if !name.starts_with("module_rules_tests") {
                sources.push((name, fs::read_to_string(&path).expect("text")));
            }
        }
    }
    sources
}

/// Lines that contain one of `words`, in files that are not in `may`. Each has its file's name
/// before it.
fn found(words: &[&str], may: &[&str]) -> BTreeSet<String> {
    let is_free = |name: &str| {
        may.iter().any(|may| name == *may || (may.ends_with('/') && name.starts_with(may)))
    };
    let mut found = BTreeSet::new();
    for (name, text) in sources().iter().filter(|(name, _)| !is_free(name)) {
        let says = |line: &&str| words.iter().any(|word| line.contains(word));
        let lines = text.lines().filter(says).map(str::trim);
        found.extend(lines.map(|line| format!("{name}: {line}")));
    }
    found
}

#[test]
fn no_other_module_names_what_replicas_share() {
    let words = ["cluster", "Cluster", "redis", "Redis"];
    assert_eq!(found(&words, &MAY_NAME_IT), BTreeSet::new(), "they have traits for it");
    // The search does find what is there.
    let everywhere = found(&words, &[]);
    for name in MAY_NAME_IT {
        assert!(everywhere.iter().any(|line| line.starts_with(name)), "{name} does not name it");
    }
}

#[test]
fn what_replicas_share_is_left_out_of_a_build_in_two_files() {
    let features = ["feature = \"cluster\""];
    assert_eq!(found(&features, &LEAVE_IT_OUT), BTreeSet::new());
    let lines = found(&features, &[]);
    assert!(!lines.is_empty(), "it cannot be left out");
}
