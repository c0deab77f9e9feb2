//! Tests only: the project's documents, for tests that compare them with the program.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A document without its fenced code blocks, which have tests of their own.
pub(crate) struct Document {
    /// Its path from the root of the project.
    pub(crate) name: String,
    pub(crate) prose: String,
}

/// The README, the other documents at the root, and every page of the book. The changelog is left
/// out, since it names things that are gone.
pub(crate) fn all() -> Vec<Document> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let at_the_root = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"];
    let mut paths: Vec<_> = at_the_root.iter().map(|name| root.join(name)).collect();
    find(&root.join("docs"), &mut paths);
    assert!(paths.len() > at_the_root.len(), "docs/ has no pages");
    let named = |path: PathBuf| {
        let name = path.strip_prefix(root).expect("within").display().to_string();
        let text = fs::read_to_string(&path).expect(&name);
        Document { name, prose: prose(&text) }
    };
    paths.into_iter().map(named).collect()
}

fn find(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            find(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "md") {
            found.push(path);
        }
    }
}

fn prose(text: &str) -> String {
    let mut in_block = false;
    let outside = text.lines().filter(|line| {
        let is_fence = line.trim_start().starts_with("```");
        in_block ^= is_fence;
        !is_fence && !in_block
    });
    outside.flat_map(|line| [line, "\n"]).collect()
}

#[test]
fn blocks_are_no_prose() {
    assert_eq!(prose("a\n```sh\nb\n```\nc\n  ```\nd\n  ```\n"), "a\nc\n");
}
