//! The project's documents, and the files that they include.

use std::{
    fs,
    path::{Component, Path, PathBuf},
    process::Command,
};

pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files of the project: those that Git tracks, or would track.
pub(super) fn tracked() -> Vec<PathBuf> {
    let mut git = Command::new("git");
    // A clone may belong to another user than the one who tests.
    git.current_dir(root()).args(["-c", "safe.directory=*", "ls-files", "-z"]);
    let listed = git.args(["--cached", "--others", "--exclude-standard"]).output().expect("git");
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let names = String::from_utf8(listed.stdout).expect("UTF-8");
    let files = names.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from);
    // Removed, but not yet in a commit.
    files.filter(|file| root().join(file).exists()).collect()
}

/// The Markdown files in this folder, those in folders within it included.
pub(super) fn markdown_in(folder: &str) -> Vec<PathBuf> {
    let is = |file: &PathBuf| {
        file.starts_with(folder) && file.extension().is_some_and(|ending| ending == "md")
    };
    tracked().into_iter().filter(is).collect()
}

/// The README and the pages of the book.
pub(super) fn pages() -> Vec<PathBuf> {
    let is_page = |file: &PathBuf| file != Path::new("docs/SUMMARY.md");
    let book = markdown_in("docs").into_iter().filter(is_page);
    [PathBuf::from("README.md")].into_iter().chain(book).collect()
}

pub(super) fn read(file: &Path) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

/// Where a relative path leads from a file, as a path from the root.
pub(super) fn beside(file: &Path, relative: &str) -> PathBuf {
    let mut path = file.parent().unwrap_or(Path::new("")).to_path_buf();
    for part in Path::new(relative).components() {
        match part {
            Component::ParentDir if path.pop() => {}
            Component::CurDir => {}
            part => path.push(part),
        }
    }
    path
}

/// What `FILE` or `FILE:NAME` has: the whole file, or the lines between `ANCHOR: NAME` and
/// `ANCHOR_END: NAME`, without what all of them are indented by.
pub(super) fn piece(what: &str) -> Result<String, String> {
    let (path, anchor) = what.split_once(':').map_or((what, None), |(p, a)| (p, Some(a)));
    let text = fs::read_to_string(root().join(path)).map_err(|error| format!("{path}: {error}"))?;
    let Some(anchor) = anchor else { return Ok(text) };
    let is = |line: &str, word: &str| {
        line.split_once(word)
            .is_some_and(|(_, name)| name.split_whitespace().next() == Some(anchor))
    };
    let behind = text.lines().skip_while(|line| !is(line, "ANCHOR: ")).skip(1);
    let lines: Vec<_> = behind.take_while(|line| !is(line, "ANCHOR_END: ")).collect();
    let spaces = |line: &&str| line.len() - line.trim_start_matches(' ').len();
    let filled = lines.iter().filter(|line| !line.is_empty());
    let Some(indent) = filled.map(spaces).min() else {
        return Err(format!("{path} has no ANCHOR: {anchor} with lines behind it"));
    };
    let lines = lines.iter().map(|line| line.get(indent..).unwrap_or_default());
    Ok(lines.flat_map(|line| [line, "\n"]).collect())
}

#[test]
fn paths_lead_from_one_file_to_another() {
    for (file, relative, expected) in [
        ("README.md", "docs/a.md", "docs/a.md"),
        ("docs/running/a.md", "b.md", "docs/running/b.md"),
        ("docs/running/a.md", "../calling/b.md", "docs/calling/b.md"),
        ("docs/running/a.md", "../../deploy/./x", "deploy/x"),
    ] {
        assert_eq!(beside(Path::new(file), relative), PathBuf::from(expected), "{relative}");
    }
}

#[test]
fn a_piece_of_a_file_is_what_stands_between_its_anchors() {
    // ANCHOR: part
    let here = "tests/program/book/documents.rs";

    // ANCHOR_END: part
    let part = piece(&format!("{here}:part")).expect("there");
    assert_eq!(part, format!("let here = \"{here}\";\n\n"));
    assert!(piece(here).expect("there").starts_with("//! The project's documents"));
    for nothing in [&format!("{here}:neither"), "nowhere.rs", "nowhere.rs:part"] {
        assert!(piece(nothing).is_err(), "{nothing}");
    }
}
