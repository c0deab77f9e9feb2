//! Parses the example file.

/// The lines below a title such as `# ---- Log ----`, or above the first title.
pub(crate) struct Part {
    pub(crate) title: Option<String>,
    pub(crate) entries: Vec<Entry>,
}

/// A comment, or what has one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A comment by itself.
    Text(Vec<String>),
    /// Such as `[log]`, with the comment above it.
    Section { header: String, path: String, text: Vec<String> },
    /// A key with what it is in, its value, and the comment above it, or above those before it.
    Key { section: String, name: String, value: String, text: Vec<String> },
}

/// Splits the example into its parts. A key behind a `#` counts as a key.
pub(crate) fn parts(example: &str) -> Vec<Part> {
    let mut parts = vec![Part { title: None, entries: Vec::new() }];
    let (mut section, mut comment, mut last) = (String::new(), Vec::new(), Vec::new());
    // An empty line at the end flushes the last comment.
    for line in example.lines().chain([""]) {
        let code = line.strip_prefix('#').unwrap_or(line);
        if let Some(title) = line.strip_prefix("# ---- ") {
            let title = Some(title.trim_end_matches('-').trim().to_owned());
            parts.push(Part { title, entries: Vec::new() });
            continue;
        }
        let entry = if let Some(path) = code.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            path.clone_into(&mut section);
            let text = std::mem::take(&mut comment);
            Entry::Section { header: code.to_owned(), path: path.to_owned(), text }
        } else if let Some((name, value)) = code.split_once(" = ").filter(|(n, _)| !n.contains(' '))
        {
            if !comment.is_empty() {
                last = std::mem::take(&mut comment);
            }
            let (section, text) = (section.clone(), last.clone());
            Entry::Key { section, name: name.to_owned(), value: value.to_owned(), text }
        } else if let Some(text) = line.strip_prefix('#') {
            comment.push(text.strip_prefix(' ').unwrap_or(text).to_owned());
            continue;
        } else if !comment.is_empty() {
            Entry::Text(std::mem::take(&mut comment))
        } else {
            continue;
        };
        if let Some(part) = parts.last_mut() {
            part.entries.push(entry);
        }
    }
    // Two paragraphs about the file itself are left out: its title, and how keys are switched on.
    if let Some(Entry::Text(head)) = parts[0].entries.first_mut() {
        let gaps = head.iter().enumerate().filter(|(_, line)| line.is_empty());
        let behind = gaps.map(|(number, _)| number).nth(1).expect("two paragraphs on the file");
        head.drain(..=behind);
    }
    parts
}

#[test]
fn the_example_is_parsed() {
    let text = "# Title\n#\n# on the file\n#\n# on keys\n\n# ---- Log -----\n\n# about\n[log]\n\
                # one\n# two\n#a = 1\n#b = 2\n\n#[store.tls]\n#c = [\"x\"]\n# end\n";
    let parts = parts(text);
    let lines = |lines: &[&str]| lines.iter().map(|&line| line.to_owned()).collect::<Vec<_>>();
    let key = |section: &str, name: &str, value: &str, text: &[&str]| Entry::Key {
        section: section.to_owned(),
        name: name.to_owned(),
        value: value.to_owned(),
        text: lines(text),
    };
    let section = |path: &str, text: &[&str]| Entry::Section {
        header: format!("[{path}]"),
        path: path.to_owned(),
        text: lines(text),
    };
    assert_eq!(parts[0].entries, [Entry::Text(lines(&["on keys"]))]);
    assert_eq!(parts[1].title.as_deref(), Some("Log"));
    let expected = [
        section("log", &["about"]),
        key("log", "a", "1", &["one", "two"]),
        key("log", "b", "2", &["one", "two"]),
        section("store.tls", &[]),
        key("store.tls", "c", "[\"x\"]", &["one", "two"]),
        Entry::Text(lines(&["end"])),
    ];
    assert_eq!(parts[1].entries, expected);
}
