//! Which rooms of the source know nothing of which others, held by what their files import.

mod replicas;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// What a room must not name.
enum Never {
    /// Any room but these.
    RoomsBut(&'static [&'static str]),
    /// These rooms.
    Rooms(&'static [&'static str]),
    /// These crates.
    Crates(&'static [&'static str]),
}
use Never::{Crates, Rooms, RoomsBut};

/// A room is a module of the crate's root.
const RULES: [(&str, Never); 4] = [
    ("telemetry", RoomsBut(&["time", "version"])),
    ("call", RoomsBut(&["retcode"])),
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
    ("server", Rooms(&["doctor", "command"])),
];

#[test]
fn no_room_names_what_it_must_not_know() {
    for (room, never) in &RULES {
        let files = files_of(room);
        assert!(!files.is_empty(), "there is no room {room}");
        for file in files {
            let code = without_comments(&fs::read_to_string(&file).expect("readable"));
            let of_a_path = names(&code, depth(&file));
            let wrong: Vec<_> = match never {
                RoomsBut(rooms) => of_a_path
                    .rooms
                    .iter()
                    .filter(|name| *name != room && !rooms.contains(&name.as_str()))
                    .collect(),
                Rooms(rooms) => {
                    of_a_path.rooms.iter().filter(|name| rooms.contains(&name.as_str())).collect()
                }
                Crates(crates) => {
                    of_a_path.first.iter().filter(|name| crates.contains(&name.as_str())).collect()
                }
            };
            assert!(wrong.is_empty(), "{} names {wrong:?}", file.display());
        }
    }
}

#[test]
fn every_way_to_name_a_room_is_found() {
    let code = without_comments(
        "use crate::{a::{self, b::c}, d, e::*}; // crate::comment\n\
         use crate::f::g; let x = crate::h::y(); fn z(_: &crate::i::J) {}\n\
         use super::super::{k, l::m}; use super::n; /// [`crate::documented`]\n\
         use http::Uri; let y = tonic::Code::Ok; use self::hyper::x; a.b::<C>();",
    );
    let found = names(&code, 2);
    let rooms = found.rooms.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
    assert_eq!(rooms, "a d e f h i k l");
    assert!(found.first.contains("http") && found.first.contains("tonic"), "{:?}", found.first);
    assert!(!found.first.contains("hyper"), "it is a module of that name");
}

/// What the paths in a file begin with.
struct Names {
    /// After `crate::`, or after as many `super::` as lead there.
    rooms: BTreeSet<String>,
    /// The first parts of all paths.
    first: BTreeSet<String>,
}

fn files_of(room: &str) -> Vec<PathBuf> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let file = Some(src.join(room).with_extension("rs")).filter(|file| file.is_file());
    file.into_iter().chain(below(&src.join(room))).collect()
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

/// Documentation may name whatever explains the code.
fn without_comments(code: &str) -> String {
    let code = code.lines().map(|line| line.split("//").next().unwrap_or_default());
    code.collect::<Vec<_>>().join("\n")
}

fn names(code: &str, depth: usize) -> Names {
    let (mut rooms, mut first) = (BTreeSet::new(), BTreeSet::new());
    let to_the_root = "super::".repeat(depth);
    for start in ["crate::", &to_the_root] {
        for (at, _) in code.match_indices(start) {
            rooms.extend(heads(&code[at + start.len()..]));
        }
    }
    for (at, _) in code.match_indices("::") {
        let begin = code[..at].rfind(|c: char| !is_of_a_name(c)).map_or(0, |found| found + 1);
        if !code[..begin].ends_with("::") {
            first.insert(code[begin..at].to_owned());
        }
    }
    Names { rooms, first }
}

/// The first names of what follows in a path: one, or some in braces.
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
