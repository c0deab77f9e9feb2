//! Tests only: the code and the files that ARCHITECTURE.md names exist.

use std::{collections::BTreeSet, fs, path::Path};

use crate::documents_for_tests;

/// A source file, with what a path can name in it.
struct Source {
    /// Its modules, outermost first, without `crate`.
    modules: Vec<String>,
    /// Items, variants, fields, and the types that have methods here.
    names: BTreeSet<String>,
}

/// Where code is that the document may name.
const FOLDERS: [&str; 6] = ["src", "tests", "sim", "fuzz", "benches", "proto"];
/// What introduces the name of an item, also in `proto/`.
const KEYWORDS: [&str; 14] = [
    "fn", "struct", "enum", "trait", "type", "mod", "const", "static", "impl", "for", "message",
    "rpc", "service", "feature",
];
/// Names in code font that are of other projects or protocols.
const OF_OTHERS: [&str; 5] =
    ["ClientHello", "Debug", "PERMISSION_DENIED", "UNAUTHENTICATED", "tracing"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<Source> {
    let mut folders: Vec<_> = FOLDERS.iter().map(|folder| root().join(folder)).collect();
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs" || e == "proto") {
                let place = path.strip_prefix(root()).expect("within").with_extension("");
                let parts = place.iter().skip(1).map(|part| part.to_string_lossy().into_owned());
                let text = fs::read_to_string(&path).expect("text");
                sources.push(Source { modules: parts.collect(), names: names(&text) });
            }
        }
    }
    sources
}

fn is_of_a_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn names(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for line in text.lines().map(str::trim_start).filter(|line| !line.starts_with("//")) {
        let words: Vec<_> =
            line.split(|c| !is_of_a_name(c)).filter(|word| !word.is_empty()).collect();
        let after_keyword = words.windows(2).filter(|pair| KEYWORDS.contains(&pair[0]));
        names.extend(after_keyword.map(|pair| pair[1].to_owned()));
        // A variant or a field.
        let line = line.strip_prefix("pub ").unwrap_or(line);
        let line = line.strip_prefix("pub(").and_then(|l| l.split_once(") ")).map_or(line, |l| l.1);
        let end = line.find(|c| !is_of_a_name(c)).unwrap_or(line.len());
        let (name, rest) = line.split_at(end);
        if !name.is_empty() && (rest.is_empty() || rest.starts_with([',', '(', ':', ' '])) {
            names.insert(name.to_owned());
        }
    }
    names
}

/// Whether a path such as `module::Name` names something in one of the files. A last part that ends
/// with `…` is the beginning of a name.
fn exists(path: &str, sources: &[Source]) -> bool {
    let mut parts: Vec<_> = path.split("::").collect();
    let last = parts.pop().unwrap_or_default();
    let is_last = |name: &String| match last.strip_suffix('…') {
        Some(beginning) => name.starts_with(beginning),
        None => name == last,
    };
    sources.iter().any(|Source { modules, names }| {
        let is_within = |part: &&str| modules.iter().chain(names).any(|name| name == part);
        names.iter().chain(modules).any(is_last) && parts.iter().all(is_within)
    })
}

/// What stands between backticks, over line ends.
fn spans(prose: &str) -> impl Iterator<Item = &str> {
    prose.split('`').skip(1).step_by(2)
}

fn is_path_of_code(span: &str) -> bool {
    let span = span.strip_suffix('…').unwrap_or(span);
    span.split("::").all(|part| {
        part.starts_with(|c: char| c.is_alphabetic() || c == '_') && part.chars().all(is_of_a_name)
    })
}

fn is_path_of_file(span: &str) -> bool {
    let is_good = |c: char| is_of_a_name(c) || matches!(c, '/' | '.' | '-');
    span.contains('/') && !span.starts_with(['/', '-']) && span.chars().all(is_good)
}

#[test]
fn the_code_and_the_files_that_architecture_names_exist() {
    let documents = documents_for_tests::all();
    let document = documents.iter().find(|document| document.name == "ARCHITECTURE.md");
    let prose = &document.expect("the document").prose;
    let sources = sources();
    let mut seen = 0;
    let mut missing = BTreeSet::new();
    for span in spans(prose) {
        let is_there = if is_path_of_code(span) {
            OF_OTHERS.contains(&span) || exists(span, &sources)
        } else if is_path_of_file(span) {
            let places = [root().join(span), root().join("src").join(span)];
            places.iter().any(|place| place.exists() || place.with_extension("rs").exists())
        } else {
            continue;
        };
        seen += 1;
        if !is_there {
            missing.insert(span);
        }
    }
    assert!(missing.is_empty(), "ARCHITECTURE.md names what there is not: {missing:#?}");
    assert!(seen > 200, "only {seen} names were found");
}

#[test]
fn names_are_found_where_they_are_defined() {
    let text = "pub(super) struct Callers {\n    pub(super) tls: Tls,\n}\nenum Sent {\n    Unwritten,\n}\n\
                // struct Comment\nimpl Held {\n    pub fn refused(&self) {}\n}";
    let modules = ["server", "callers"].map(str::to_owned).into();
    let sources = [Source { modules, names: names(text) }];
    for path in
        ["callers::Callers", "Sent::Unwritten", "Callers::tls", "server::callers", "Held::ref…"]
    {
        assert!(is_path_of_code(path) && exists(path, &sources), "{path}");
    }
    for path in ["listener::Callers", "Comment", "Held::ref", "client::Held", "Gone"] {
        assert!(is_path_of_code(path) && !exists(path, &sources), "{path}");
    }
    assert!(!is_path_of_code("a b") && !is_path_of_code("Set-GUID") && !is_path_of_code("a.b"));
    assert!(is_path_of_file("tests/bridge") && !is_path_of_file("/status.json"));
}
