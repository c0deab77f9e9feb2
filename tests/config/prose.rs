//! The example's comments as Markdown.

use crate::parts::{Entry, Part};

/// The keys that there are, for links to them.
pub(crate) struct Keys(Vec<String>);

impl Keys {
    pub(crate) fn of(parts: &[Part]) -> Self {
        let entries = parts.iter().flat_map(|part| &part.entries);
        let keys = entries.filter_map(|entry| match entry {
            Entry::Key { section, name, .. } => Some(format!("{section}.{name}")),
            _ => None,
        });
        Self(keys.collect())
    }

    /// The other key that a word means in the explanation of one, which may leave out what both have
    /// in common.
    fn meant(&self, word: &str, within: &str) -> Option<&str> {
        let is = |key: &&String| key.as_str() == word || key.ends_with(&format!(".{word}"));
        let meant: Vec<_> = self.0.iter().filter(|key| *key != within).filter(is).collect();
        let common =
            |key: &str| key.bytes().zip(within.bytes()).take_while(|(a, b)| a == b).count();
        let nearest = meant.iter().map(|key| common(key)).max()?;
        let mut nearest = meant.iter().filter(|key| common(key) == nearest);
        nearest.next().filter(|_| nearest.next().is_none()).map(|key| key.as_str())
    }
}

/// A dotted key with a word in place of the names that the example chose.
pub(crate) fn general(path: &str) -> String {
    replaced(path, "NAME", "CODE")
}

/// The anchor of a key or a section: without the chosen names, as in `tenants-limits-calls`.
pub(crate) fn anchor(path: &str) -> String {
    replaced(path, "", "").split('.').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
}

fn replaced(path: &str, name: &str, code: &str) -> String {
    let path = path.replace("tenants.acme", &format!("tenants.{name}"));
    let path = path.replace("listeners.default", &format!("listeners.{name}"));
    let path = path.replace("issuers.kubernetes", &format!("issuers.{name}"));
    let path = path.replace("callers.ivr", &format!("callers.{name}"));
    path.replace("\"100-007\"", code)
}

/// A comment as Markdown, in the explanation of this key or section.
pub(crate) fn prose(comment: &[String], within: &str, keys: &Keys) -> String {
    let mut text = String::new();
    let mut in_code = false;
    for line in comment {
        let indented = line.starts_with("  ");
        if indented != in_code {
            text += match (indented, line.trim_start().starts_with('[')) {
                (true, true) => "\n```toml,credentials\n",
                (true, false) => "\n```text\n",
                (false, _) => "```\n",
            };
            in_code = indented;
        }
        if indented {
            text.extend([line.trim_start(), "\n"]);
        } else {
            let words = line.split(' ').map(|word| marked(word, within, keys));
            text.extend([words.collect::<Vec<_>>().join(" ").as_str(), "\n"]);
        }
    }
    if in_code {
        text += "```\n";
    }
    text.replace("\n\n\n", "\n\n")
}

/// A word with its marks: keys and other names of programs as code, keys and documents as links.
fn marked(word: &str, within: &str, keys: &Keys) -> String {
    let outside = |c: char| ['(', ')', ',', '.', ';', ':', '"'].contains(&c);
    let core = word.trim_matches(outside);
    let Some((before, after)) = word.split_once(core).filter(|_| core.len() > 1) else {
        return escaped(word);
    };
    let document = core.strip_prefix("docs/").and_then(|name| name.strip_suffix(".md"));
    if let Some(document) = document {
        return format!("{before}[{core}](../{document}.md){after}");
    }
    // A word with a dot or an underscore is none of English.
    let is_name = core.contains(['_', '.']) && !core.contains(['/', '<']);
    match keys.meant(core, within) {
        Some(key) if is_name => {
            format!("{before}[`{core}`](#{}){after}", anchor(key))
        }
        _ if is_name && core.bytes().any(|b| b.is_ascii_alphabetic()) && !core.contains(' ') => {
            format!("{before}`{core}`{after}")
        }
        _ if core.starts_with('[') && core.ends_with(']') => format!("{before}`{core}`{after}"),
        _ => escaped(word),
    }
}

/// A word in which nothing is a mark of Markdown.
fn escaped(word: &str) -> String {
    word.replace('<', "&lt;").replace('*', "\\*")
}

#[test]
fn names_are_code_and_keys_and_documents_are_links() {
    let key = |section: &str, name: &str| Entry::Key {
        section: section.to_owned(),
        name: name.to_owned(),
        value: String::new(),
        text: Vec::new(),
    };
    let entries = vec![
        key("server.limits", "calls"),
        key("tenants.acme.limits", "calls"),
        key("tenants.acme", "agent_ids"),
        key("store.tls", "ca_file"),
        key("tenants.acme.tls", "ca_file"),
    ];
    let keys = Keys::of(&[Part { title: None, entries }]);
    for (word, expected) in [
        ("(limits.calls),", "([`limits.calls`](#tenants-limits-calls)),"),
        ("ca_file.", "[`ca_file`](#tenants-tls-ca_file)."),
        ("agent_ids", "`agent_ids`"),
        ("calls", "calls"),
        ("confirm_within", "`confirm_within`"),
        ("docs/calling/errors.md", "[docs/calling/errors.md](../calling/errors.md)"),
        ("\"<lowest>-<highest>\",", "\"&lt;lowest>-&lt;highest>\","),
        ("[store]", "`[store]`"),
        ("\"_\"", "\"_\""),
        ("\"*\",", "\"\\*\","),
        ("e.g", "`e.g`"),
        ("end.", "end."),
    ] {
        assert_eq!(marked(word, "tenants.acme.agent_ids", &keys), expected);
    }
    let text = ["See", "", "  A=1", "  B=2", "then"].map(str::to_owned);
    assert_eq!(prose(&text, "", &keys), "See\n\n```text\nA=1\nB=2\n```\nthen\n");
}
