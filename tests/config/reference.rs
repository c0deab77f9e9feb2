//! docs/running/reference.md is made from the example file, and from what the program says of wrong
//! values.

use std::{collections::BTreeMap, fs, path::Path};

use ccgateway_bridge::config;

use crate::{
    example::{EXAMPLE, EXAMPLES_ONLY},
    parts::{Entry, Part, parts},
    prose::{Keys, anchor, general, prose},
    support::{Folder, TENANT},
};

const PAGE: &str = "docs/running/reference.md";

const HEAD: &str = "\
# Every key

<!-- Made from docs/ccgateway-bridge.example.toml by UPDATE_REFERENCE=1 cargo test --test config reference.
Change the example, not this page. -->

What can be set, section by section, with its default, what it takes, and what it does. `NAME` stands for a
name of your choice, `CODE` for a retcode. All of it is in one file to start from,
[ccgateway-bridge.example.toml](../ccgateway-bridge.example.toml); [Configuration](configuration.md) says how
a file is checked.
";

/// Each key of the example with a value that is wrong for it: the program says what would be right.
fn all_wrong(part: &Part) -> String {
    let mut text = String::new();
    for entry in &part.entries {
        match entry {
            Entry::Section { header, .. } => text.extend([header.as_str(), "\n"]),
            Entry::Key { name, value, .. } => text.extend([name, " = ", wrong(value), "\n"]),
            Entry::Text(_) => {}
        }
    }
    text
}

fn wrong(value: &str) -> &'static str {
    let is_duration = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
    match value.as_bytes() {
        b"true" | b"false" => "0",
        [b'[', ..] => "[]",
        [b'"', inner @ ..] if is_duration(&String::from_utf8_lossy(inner)) => "\"999d\"",
        [b'"', ..] => "\"?\"",
        _ => "-1",
    }
}

/// The values that each key takes, from the error for a wrong value.
fn taken() -> BTreeMap<String, String> {
    // One part after the other, since a hundred mistakes are told at most.
    let mistakes = parts(EXAMPLE);
    let mistakes = mistakes.iter().flat_map(|part| Folder::new().mistakes(all_wrong(part)));
    let told = mistakes.filter_map(|line| {
        let (_, line) = line.split_once("  ")?;
        let (key, wrong) = line.split_once(": ")?;
        let (_, remedy) = wrong.split_once("; give ")?;
        // That a path leads to no file says nothing of the key.
        let is_of_value = !wrong.contains(" is for a Redis") && !remedy.starts_with("the path of");
        is_of_value.then(|| (key.replace("100-007", "\"100-007\""), takes(remedy)))
    });
    told.collect()
}

fn takes(remedy: &str) -> String {
    let remedy = remedy.trim_end_matches(" without quotation marks");
    let words = |list: &str| list.split(", ").map(|w| format!("`\"{w}\"`")).collect::<Vec<_>>();
    let entries = remedy.strip_prefix("1 to ").filter(|max| max.parse::<u32>().is_ok());
    if let Some(list) = remedy.strip_prefix("one of ") {
        format!("one of {}", words(list).join(", "))
    } else if let Some((_, range)) = remedy.rsplit_once(" from ") {
        format!("from {}", range.replace("1day", "24h"))
    } else if let Some(max) = entries {
        format!("a list of 1 to {max}")
    } else {
        remedy.replace('<', "&lt;")
    }
}

/// The page, as the example and the program have it.
fn page() -> String {
    let parts = parts(EXAMPLE);
    let keys = Keys::of(&parts);
    let taken = taken();
    let mut page = HEAD.to_owned();
    for Part { title, entries } in &parts {
        if let Some(title) = title {
            page.extend(["\n## ", title, "\n"]);
        }
        for entry in entries {
            page += &shown(entry, &keys, &taken);
        }
    }
    page
}

fn shown(entry: &Entry, keys: &Keys, taken: &BTreeMap<String, String>) -> String {
    match entry {
        Entry::Text(text) => format!("\n{}", prose(text, "", keys)),
        Entry::Section { path, text, .. } => {
            let (name, anchor) = (general(path), anchor(path));
            // The heading of a section such as `[log]` has this anchor by itself.
            let id =
                if anchor == name { String::new() } else { format!("<a id=\"{anchor}\"></a>") };
            let text = prose(text, path, keys);
            let gap = if text.is_empty() { "" } else { "\n" };
            format!("\n### {id}`[{name}]`\n{gap}{text}")
        }
        Entry::Key { section, name, value, text } => {
            let path = format!("{section}.{name}");
            let without = EXAMPLES_ONLY.contains(&name.as_str());
            let default = match name.as_str() {
                "base_urls" => format!("required, such as `{value}`"),
                _ if without => format!("no default; an example is `{value}`"),
                _ => format!("default `{value}`"),
            };
            let bounds = taken.get(&path).map(|rule| format!("; {rule}")).unwrap_or_default();
            let text: String = prose(text, &path, keys).lines().map(indented).collect();
            let (anchor, path) = (anchor(&path), general(&path));
            format!("\n- <a id=\"{anchor}\"></a>**`{path}`**: {default}{bounds}\n\n{text}")
        }
    }
}

fn indented(line: &str) -> String {
    if line.is_empty() { "\n".to_owned() } else { format!("  {line}\n") }
}

#[test]
fn the_reference_is_made_from_the_example_and_the_program() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let page = page();
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        fs::write(&file, &page).expect("written");
    }
    let there = fs::read_to_string(&file).unwrap_or_default();
    let differing = page.lines().zip(there.lines()).find(|(made, there)| made != there);
    assert!(
        page == there,
        "{PAGE} is not as the example and the program have it ({differing:?}); make it anew: \
         UPDATE_REFERENCE=1 cargo test --test config reference"
    );
}

#[test]
fn the_defaults_in_the_reference_are_the_programs() {
    let folder = Folder::new();
    folder.write("secrets/store.key", crate::support::KEY);
    let least = "urls = [\"rediss://redis.example:6379\"]\n\
                 encryption_key_files = [\"secrets/store.key\"]\n";
    for (section, least) in [("store", least), ("traces", "endpoint = \"http://a.example:4317\"\n")]
    {
        let mut spelt_out = format!("{TENANT}[{section}]\n{least}");
        let mut seen = 0;
        for entry in parts(EXAMPLE).iter().flat_map(|part| &part.entries) {
            let Entry::Key { section: of, name, value, .. } = entry else { continue };
            let within = of == section || of.starts_with(&format!("{section}."));
            if within && !EXAMPLES_ONLY.contains(&name.as_str()) {
                let inner = of[section.len()..].trim_start_matches('.');
                let dot = if inner.is_empty() { "" } else { "." };
                spelt_out.extend([inner, dot, name, " = ", value, "\n"]);
                seen += 1;
            }
        }
        assert!(seen > 2, "{section}");
        let load = |text: &str| config::load(&folder.sources(text)).expect("good");
        let defaults = load(&format!("{TENANT}[{section}]\n{least}"));
        assert_eq!(format!("{:?}", load(&spelt_out)), format!("{defaults:?}"), "{section}");
    }
}

#[test]
fn the_reference_says_what_a_key_takes_as_its_errors_do() {
    let taken = taken();
    for (key, expected) in [
        ("server.limits.message_size", "from 1024 to 4194304"),
        ("tenants.acme.limits.queue_wait", "from 1ms to 1m"),
        ("log.format", "one of `\"auto\"`, `\"human\"`, `\"json\"`"),
        ("tenants.acme.base_urls", "a list of 1 to 16"),
        ("server.reflection", "true or false"),
        ("traces.sample", "from 0 to 1"),
    ] {
        assert_eq!(taken.get(key).map(String::as_str), Some(expected), "{key}");
    }
    assert!(taken.len() > 55, "{}", taken.len());
}
