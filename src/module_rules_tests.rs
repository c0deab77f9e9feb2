//! Tests only: which top-level modules must not use which others. Checks the paths in their source
//! files.

mod circles;
mod replicas;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// What a module must not name.
enum Never {
    /// Any top-level module except these.
    ModulesBut(&'static [&'static str]),
    /// These top-level modules.
    Modules(&'static [&'static str]),
    /// These crates.
    Crates(&'static [&'static str]),
}
use Never::{Crates, Modules, ModulesBut};

/// The rules, by top-level module. A module may have several.
const RULES: [(&str, Never); 4] = [
    ("telemetry", ModulesBut(&["resolver", "time", "version"])),
    ("call", ModulesBut(&["retcode", "state"])),
    (
        "call",
        Crates(&[
            "h2",
            "http",
            "http_body_util",
            "hyper",
            "hyper_util",
            "opentelemetry",
            "opentelemetry_otlp",
            "opentelemetry_sdk",
            "prost",
            "prost_types",
            "tonic",
            "tonic_types",
        ]),
    ),
    ("server", Modules(&["doctor", "command"])),
];

#[test]
fn no_module_names_what_it_must_not_know() {
    for (module, never) in &RULES {
        let files = files_of(module);
        assert!(!files.is_empty(), "there is no module {module}");
        for file in files {
            let code = without_comments(&fs::read_to_string(&file).expect("readable"));
            let of_a_path = names(&code, depth(&file));
            let wrong: Vec<_> = match never {
                ModulesBut(modules) => of_a_path
                    .modules
                    .iter()
                    .filter(|name| *name != module && !modules.contains(&name.as_str()))
                    .collect(),
                Modules(modules) => of_a_path
                    .modules
                    .iter()
                    .filter(|name| modules.contains(&name.as_str()))
                    .collect(),
                Crates(crates) => {
                    of_a_path.first.iter().filter(|name| crates.contains(&name.as_str())).collect()
                }
            };
            assert!(wrong.is_empty(), "{} names {wrong:?}", file.display());
        }
    }
}

#[test]
fn every_way_to_name_a_module_is_found() {
    let code = without_comments(
        "use crate::{a::{self, b::c}, d, e::*}; // crate::comment\n\
         use crate::f::g; let x = crate::h::y(); fn z(_: &crate::i::J) {}\n\
         use super::super::{k, l::m}; use super::n; /// [`crate::documented`]\n\
         use http::Uri; let y = tonic::Code::Ok; use self::hyper::x; a.b::<C>();",
    );
    let found = names(&code, 2);
    let modules = found.modules.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
    assert_eq!(modules, "a d e f h i k l");
    assert!(found.first.contains("http") && found.first.contains("tonic"), "{:?}", found.first);
    assert!(!found.first.contains("hyper"), "it is a module of that name");
}

/// The first names of the paths in a file.
struct Names {
    /// Names after `crate::`, or after as many `super::` as lead to the root.
    modules: BTreeSet<String>,
    /// The first names of all paths.
    first: BTreeSet<String>,
}

fn files_of(module: &str) -> Vec<PathBuf> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let file = Some(src.join(module).with_extension("rs")).filter(|file| file.is_file());
    file.into_iter().chain(below(&src.join(module))).collect()
}

fn below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.expect("readable").path());
    let (folders, files): (Vec<_>, Vec<_>) = paths.partition(|path| path.is_dir());
    let files = files.into_iter().filter(|path| path.extension().is_some_and(|e| e == "rs"));
    files.chain(folders.iter().flat_map(|folder| below(folder))).collect()
}

/// How many `super::` lead from a file's module to the root.
fn depth(file: &Path) -> usize {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    file.strip_prefix(src).expect("below it").components().count()
}

/// Removes comments, since documentation may name any module.
fn without_comments(code: &str) -> String {
    let code = code.lines().map(|line| line.split("//").next().unwrap_or_default());
    code.collect::<Vec<_>>().join("\n")
}

fn names(code: &str, depth: usize) -> Names {
    let (mut modules, mut first) = (BTreeSet::new(), BTreeSet::new());
    let to_the_root = "super::".repeat(depth);
    for start in ["crate::", &to_the_root] {
        for (at, _) in code.match_indices(start) {
            modules.extend(heads(&code[at + start.len()..]));
        }
    }
    for (at, _) in code.match_indices("::") {
        let begin = code[..at].rfind(|c: char| !is_of_a_name(c)).map_or(0, |found| found + 1);
        if !code[..begin].ends_with("::") {
            first.insert(code[begin..at].to_owned());
        }
    }
    Names { modules, first }
}

/// The first names of the rest of a path: one name, or those in braces.
fn heads(path: &str) -> Vec<String> {
    let name = |text: &str| text.chars().take_while(|c| is_of_a_name(*c)).collect::<String>();
    let Some(group) = path.strip_prefix('{') else { return vec![name(path)] };
    let (mut depth, mut heads, mut begins) = (0_usize, Vec::new(), true);
    for (at, c) in group.char_indices() {
        match c {
            '}' if depth == 0 => break,
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => begins = true,
            _ if begins && is_of_a_name(c) => {
                heads.push(name(&group[at..]));
                begins = false;
            }
            _ => {}
        }
    }
    heads
}

fn is_of_a_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}
