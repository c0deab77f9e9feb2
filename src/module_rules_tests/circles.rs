//! Tests only: no two source files need each other, not even through others. A file and those of
//! the modules inside it may.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use super::{below, is_of_a_name, without_comments};

/// Modules that have a file of their own, each with those that it names.
type Needs = BTreeMap<String, BTreeSet<String>>;

/// The circles that there still are: the first module of each pair should not name the second.
const KNOWN: [(&str, &str); 1] = [("gateway::connection", "gateway::exchange")];

/// The code of every module that has a file of its own, without tests: that of `tenant::keeper` is in
/// `tenant/keeper.rs`.
fn modules() -> BTreeMap<String, String> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut modules = BTreeMap::new();
    for file in below(&src) {
        let place = file.strip_prefix(&src).expect("below it").with_extension("");
        let parts: Vec<_> = place.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        let is_of_tests = |part: &String| part == "tests" || part.ends_with("_tests");
        if !parts.iter().any(is_of_tests) && parts != ["lib"] && parts != ["main"] {
            let code = fs::read_to_string(&file).expect("readable");
            let code = code.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            modules.insert(parts.join("::"), without_comments(code));
        }
    }
    modules
}

/// The paths in a module's code that begin with `crate`, `super` or `self`, from the root on.
fn paths(code: &str, module: &str) -> Vec<Vec<String>> {
    let own: Vec<_> = module.split("::").map(str::to_owned).collect();
    let mut paths = Vec::new();
    for (begin, up) in [("crate::", own.len()), ("super::", 1), ("self::", 0)] {
        for (at, _) in code.match_indices(begin) {
            if !code[..at].ends_with(|c: char| is_of_a_name(c) || c == ':') {
                let base = own[..own.len() - up].to_vec();
                read_path(&code[at + begin.len()..], base, &mut paths);
            }
        }
    }
    paths
}

/// Reads the rest of a path, which may be several in braces. Returns how long it is.
fn read_path(rest: &str, mut base: Vec<String>, paths: &mut Vec<Vec<String>>) -> usize {
    let mut at = 0;
    loop {
        if rest[at..].starts_with('{') {
            return at + read_braces(&rest[at..], &base, paths);
        }
        let name: String = rest[at..].chars().take_while(|c| is_of_a_name(*c)).collect();
        at += name.len();
        if name == "super" {
            base.pop();
        } else if !name.is_empty() && name != "self" {
            base.push(name);
        }
        let next = rest[at..].strip_prefix("::").unwrap_or_default();
        if !next.starts_with(|c: char| is_of_a_name(c) || c == '{') {
            paths.push(base);
            return at;
        }
        at += "::".len();
    }
}

/// Reads paths in braces. Returns how long that is.
fn read_braces(rest: &str, base: &[String], paths: &mut Vec<Vec<String>>) -> usize {
    let mut at = 1;
    while let Some(next) = rest[at..].find(|c: char| !c.is_whitespace() && c != ',') {
        at += next;
        if rest[at..].starts_with('}') {
            return at + 1;
        }
        at += read_path(&rest[at..], base.to_vec(), paths);
        // What may follow is `as` with another name, or `::*`.
        at += rest[at..].find([',', '}']).unwrap_or(rest.len() - at);
    }
    rest.len()
}

fn needs(modules: &BTreeMap<String, String>) -> Needs {
    let file_of = |mut path: Vec<String>| {
        while !path.is_empty() && !modules.contains_key(&path.join("::")) {
            path.pop();
        }
        Some(path.join("::")).filter(|module| !module.is_empty())
    };
    let of = |(module, code): (&String, &String)| {
        let named = paths(code, module).into_iter().filter_map(file_of);
        let others = named.filter(|other| !is_inside(module, other) && !is_inside(other, module));
        (module.clone(), others.collect())
    };
    modules.iter().map(of).collect()
}

fn is_inside(inner: &str, outer: &str) -> bool {
    inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// What is left when modules that need none of the others, or that none of them needs, are taken away
/// again and again.
fn circles(mut needs: Needs) -> Needs {
    loop {
        let is_end = |(module, named): &(&String, &BTreeSet<String>)| {
            !named.iter().any(|other| needs.contains_key(other))
                || !needs.values().any(|named| named.contains(*module))
        };
        let ends: Vec<_> = needs.iter().filter(is_end).map(|(module, _)| module.clone()).collect();
        if ends.is_empty() {
            return needs;
        }
        needs.retain(|module, _| !ends.contains(module));
    }
}

#[test]
fn no_files_need_each_other() {
    let modules = modules();
    assert!(modules.len() > 400, "only {} modules were found", modules.len());
    let mut needs = needs(&modules);
    for (from, to) in KNOWN {
        if let Some(named) = needs.get_mut(from) {
            named.remove(to);
        }
    }
    let circles = circles(needs);
    assert!(circles.is_empty(), "among these modules, some need each other: {circles:#?}");
}

#[test]
fn circles_are_found_and_a_file_may_need_what_is_inside_it() {
    let modules = [
        ("a", "use crate::{b::{self, B}, d::D as E};"),
        ("b", "use super::c::*;"),
        ("c", "fn c() -> crate::a::inner::A {}"),
        ("d", "use self::inner::F; crate::e::new();"),
        ("d::inner", "use super::D; use super::super::e;"),
        ("e", "use std::fmt; use d::crate_names;"),
    ];
    let modules = modules.map(|(module, code)| (module.to_owned(), code.to_owned()));
    let needs = needs(&BTreeMap::from(modules));
    let of_inner = needs["d::inner"].iter().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(of_inner, ["e"]);
    assert_eq!(circles(needs).into_keys().collect::<Vec<_>>(), ["a", "b", "c"]);
}
