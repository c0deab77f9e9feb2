//! Tests that the documentation and the program agree on the configuration's keys.

use std::{fs, path::Path};

use super::{
    Place,
    former::{self, Fate},
    load::config,
    reader::{Diagnostics, Known, Section},
    value,
};
use crate::{
    call::Share,
    documents_for_tests::{self, Document},
};

const EXAMPLE: &str = include_str!("../../docs/ccgateway-bridge.example.toml");

/// The dotted keys in the example file, including those that are commented out.
fn shown() -> Vec<String> {
    let mut section = String::new();
    let mut keys = Vec::new();
    for line in EXAMPLE.lines() {
        let line = line.strip_prefix('#').unwrap_or(line);
        if let Some(header) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            section = header
                .replace("listeners.default", "listeners.*")
                .replace("issuers.kubernetes", "issuers.*")
                .replace("callers.ivr", "callers.*")
                .replace("acme", "*")
                .replace("\"100-007\"", "*");
        } else if let Some((key, _)) = line.split_once(" = ")
            && !key.contains(' ')
        {
            keys.push(format!("{section}.{key}"));
        }
    }
    keys.sort();
    keys
}

/// Every key that the program reads, with its kind. Sections are left out.
fn known() -> Vec<(String, Known)> {
    let text = "tenants.a.x = 1\nretcodes.100-007.x = 1\nissuers.a.x = 1\ncallers.a.x = 1";
    let tree = value::parse(&"".into(), text).map_err(|e| e.to_string()).expect("TOML");
    let notes = Diagnostics::default();
    config(&Section::root(&notes, &tree, Place::Nowhere));
    let known = notes.known().into_iter();
    known.filter(|(_, known)| *known != Known::Section).collect()
}

#[test]
fn the_example_names_every_key_once_and_no_other() {
    let keys: Vec<_> = known().into_iter().map(|(key, _)| key).collect();
    assert_eq!(shown(), keys);
}

/// The methods of `Section` that read a key.
const READERS: [&str; 18] = [
    "certificates",
    "choice",
    "count",
    "duration",
    "identity",
    "list",
    "optional_duration",
    "path",
    "paths",
    "ratio",
    "read",
    "roots",
    "secret",
    "section",
    "text",
    "truth",
    "unwatched_path",
    "whole",
];

/// The keys that a source file reads, also those that it reads only under some condition.
fn read_by(source: &str) -> Vec<String> {
    let program = source.split("#[cfg(test)]").next().unwrap_or_default();
    let dense: String = program.chars().filter(|c| !c.is_whitespace()).collect();
    let quoted = |text: &str| text.split('"').next().unwrap_or_default().to_owned();
    let mut keys = Vec::new();
    for reader in READERS {
        for call in dense.split(&format!(".{reader}(\"")).skip(1) {
            keys.push(quoted(call));
            if reader == "identity" {
                keys.extend(call.split('"').nth(2).map(str::to_owned));
            }
        }
    }
    keys
}

fn sources(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|is| is == "rs") {
            found.push(fs::read_to_string(path).expect("a source"));
        }
    }
}

/// The test above does not see keys that are read only under some condition, so this one searches the
/// source.
#[test]
fn the_example_names_every_key_that_the_program_reads_in_any_case() {
    let mut all = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config"), &mut all);
    let keys: Vec<_> = all.iter().flat_map(|source| read_by(source)).collect();
    let shown = |key: &str| {
        EXAMPLE.lines().any(|line| {
            let line = line.trim_start_matches(['#', ' ']);
            let header = line.strip_prefix('[').and_then(|line| line.split(']').next());
            line.split(" = ").next() == Some(key)
                || header.is_some_and(|header| header.split('.').any(|part| part == key))
        })
    };
    for key in &keys {
        assert!(shown(key), "the example does not show {key}");
    }
    assert!(keys.len() > 80, "only {} keys were found", keys.len());
    let source = "if never { section.truth(\n    \"hidden\",\n false) }";
    assert_eq!(read_by(source), ["hidden"]);
}

#[test]
fn keys_that_name_files_say_so_and_no_others_do() {
    for (key, known) in known() {
        let last = key.rsplit('.').next().unwrap_or_default();
        let says_so = last == "file" || last.ends_with("_file") || last.ends_with("_files");
        assert_eq!(says_so, known == Known::File, "{key}");
    }
}

#[test]
fn renamed_keys_name_keys_that_exist() {
    let known: Vec<_> = known().into_iter().map(|(key, _)| key).collect();
    for (former, fate) in former::all() {
        assert!(!known.iter().any(|key| key == former), "{former} is a key");
        if let Fate::Renamed(now) = fate {
            let now = now.replace("listeners.default", "listeners.*");
            assert!(known.contains(&now), "{former} became {now}, which is no key");
        }
    }
}

#[test]
fn every_share_names_a_key_that_exists_and_matches_it() {
    let known: Vec<_> = known().into_iter().map(|(key, _)| key).collect();
    for share in Share::ALL {
        let Some(key) = share.key() else { continue };
        let (section, word) = key.rsplit_once('.').expect("a dotted key");
        let whole =
            [key.to_owned(), format!("tenants.*.{key}")].into_iter().find(|k| known.contains(k));
        assert!(whole.is_some(), "{key} is no key");
        let word = match section {
            "server.connections" => format!("connection_{word}"),
            "server.limits" => format!("server_{word}"),
            _ => word.to_owned(),
        };
        assert_eq!(share.as_str(), word, "{key}");
        assert!(share.unit().contains(key.rsplit(['.', '_']).next().unwrap()), "{key}");
    }
}

/// The keys that a document mentions: text in backticks that begins with the name of a section and has
/// only characters that a key can have.
fn mentioned(prose: &str) -> impl Iterator<Item = &str> {
    const SECTIONS: [&str; 16] = [
        "listeners",
        "issuers",
        "callers",
        "admin",
        "server",
        "log",
        "gateway",
        "tenants",
        "store",
        "traces",
        "retcodes",
        "tls",
        "timeouts",
        "keep",
        "events",
        "limits",
    ];
    /// Extensions of files: `tls.key` is the name of a file and not a key.
    const ENDINGS: [&str; 8] = ["crt", "json", "key", "md", "pem", "rs", "toml", "yaml"];
    /// Fields of the log and attributes of spans that look like keys.
    const FIELDS: [&str; 3] = ["admin.addr", "server.address", "server.port"];
    let quoted = prose.split('`').skip(1).step_by(2);
    let keys = quoted.filter_map(|quoted| quoted.split(" = ").next());
    keys.filter(|key| {
        let part = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b.is_ascii_digit())
        };
        key.split_once('.').is_some_and(|(section, _)| SECTIONS.contains(&section))
            && key.split('.').all(part)
            && !ENDINGS.contains(&key.rsplit('.').next().unwrap_or_default())
            && !FIELDS.contains(key)
    })
}

#[test]
fn keys_are_found_where_a_document_names_them() {
    let text = "Set `server.limits.calls`, `keep.take_backs = 3` or `[store]`; not `tls.key`,\n\
                `server.address`, `a.b`, `log` or `tenants.NAME.limits`.";
    let found: Vec<_> = mentioned(text).collect();
    assert_eq!(found, ["server.limits.calls", "keep.take_backs"]);
}

#[test]
fn the_documentation_names_only_keys_that_exist() {
    let known = known();
    let is_key = |name: &str| {
        let name = name.replace("listeners.default", "listeners.*");
        known.iter().any(|(key, _)| {
            let key = format!(".{key}.");
            key.contains(&format!(".{name}."))
        })
    };
    let mut documents = documents_for_tests::all();
    // Some values of the chart look like keys.
    documents.retain(|document| !document.name.starts_with("docs/running/helm"));
    let mut seen = 0;
    let mut strange = Vec::new();
    for Document { name, prose } in documents {
        for key in mentioned(&prose) {
            seen += 1;
            if !is_key(key) {
                strange.push(format!("{name} names {key}"));
            }
        }
    }
    assert!(strange.is_empty(), "{strange:#?}");
    assert!(seen > 20, "only {seen} keys were found");
}
