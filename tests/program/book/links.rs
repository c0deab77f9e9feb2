//! Every link within the project leads somewhere, and the book has every page.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use super::{blocks, documents, listed, slugs};

/// The paragraphs of what is in no block, each with its first line.
fn paragraphs(text: &str) -> Vec<(usize, String)> {
    let mut paragraphs: Vec<(usize, String)> = Vec::new();
    let mut goes_on = None;
    for (number, line) in blocks::parts(text).prose {
        match paragraphs.last_mut() {
            Some((_, paragraph)) if goes_on == Some(number) => paragraph.extend([line, "\n"]),
            _ => paragraphs.push((number, format!("{line}\n"))),
        }
        goes_on = (!line.trim().is_empty()).then_some(number + 1);
    }
    paragraphs
}

/// The links of a paragraph, images included, and the references of definitions such as `[a]: b`.
fn links(paragraph: &str) -> Vec<String> {
    let text = without_code(paragraph);
    let mut found: Vec<_> = text.split("](").skip(1).filter_map(target).collect();
    for attribute in ["href=\"", "src=\""] {
        let behind = text.split(attribute).skip(1);
        found.extend(behind.filter_map(|rest| rest.split('"').next()).map(str::to_owned));
    }
    let defined = text.lines().filter_map(|line| line.trim_start().strip_prefix('['));
    let defined = defined.filter_map(|rest| rest.split_once("]: "));
    found.extend(defined.filter_map(|(_, rest)| rest.split_whitespace().next()).map(str::to_owned));
    found
}

/// What stands behind `](`, without a title.
fn target(behind: &str) -> Option<String> {
    let inside = behind.split(')').next()?;
    let target = inside.split_whitespace().next().unwrap_or_default();
    Some(target.trim_matches(['<', '>']).to_owned())
}

/// The text with its code left out, in which nothing is a link.
fn without_code(text: &str) -> String {
    text.split('`').step_by(2).collect::<Vec<_>>().join("`")
}

/// The anchors that a browser finds in a page, or what is wrong with its headings.
fn anchors(text: &str) -> Result<Vec<String>, String> {
    let parts = blocks::parts(text);
    let headings = parts.prose.iter().filter_map(|(_, line)| {
        let text = line.trim_start_matches('#');
        let level = line.len() - text.len();
        ((1..=6).contains(&level) && text.starts_with(' ')).then_some(text)
    });
    let slugs = headings.map(slugs::slug).collect::<Result<Vec<_>, _>>()?;
    let mut anchors = slugs::numbered(slugs);
    for (_, line) in parts.prose {
        let ids = line.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next());
        anchors.extend(ids.map(str::to_owned));
    }
    Ok(anchors)
}

/// What can be linked to.
struct Known {
    files: BTreeSet<PathBuf>,
    /// The anchors of each document.
    anchors: BTreeMap<PathBuf, Vec<String>>,
}

impl Known {
    /// What is wrong with a link, if anything.
    fn mistake(&self, file: &Path, link: &str) -> Option<String> {
        // The last ones are a repository's own pages on GitHub, seen from a document at its root.
        let elsewhere =
            ["https://", "http://", "mailto:", "../../actions/", "../../issues", "../../security/"];
        if elsewhere.iter().any(|scheme| link.starts_with(scheme)) {
            return None;
        }
        let (path, anchor) = link.split_once('#').map_or((link, None), |(p, a)| (p, Some(a)));
        let to = if path.is_empty() { file.into() } else { documents::beside(file, path) };
        let is_folder = || self.files.iter().any(|file| file.starts_with(&to));
        if !self.files.contains(&to) && !is_folder() {
            return Some(format!("{link} leads to {}, which is not there", to.display()));
        }
        let anchor = anchor?;
        let there = self.anchors.get(&to).is_some_and(|all| all.iter().any(|one| one == anchor));
        (!there).then(|| format!("{link} leads to no heading or id of {}", to.display()))
    }
}

/// The documents whose links have to lead somewhere.
fn documents() -> Vec<PathBuf> {
    let at_the_root =
        documents::markdown_in("").into_iter().filter(|f| f.components().count() == 1);
    let within = ["docs", "examples"].into_iter().flat_map(documents::markdown_in);
    // The summary has a test of its own.
    at_the_root.chain(within).filter(|file| !file.ends_with("SUMMARY.md")).collect()
}

#[test]
fn every_link_leads_to_what_is_there() {
    let files: BTreeSet<_> = documents::tracked().into_iter().collect();
    let mut known = Known { files, anchors: BTreeMap::new() };
    let mut mistakes = Vec::new();
    let mut texts = Vec::new();
    for file in documents() {
        let text = documents::read(&file);
        match anchors(&text) {
            Ok(anchors) => drop(known.anchors.insert(file.clone(), anchors)),
            Err(why) => mistakes.push(format!("{}: {why}", file.display())),
        }
        texts.push((file, text));
    }
    let mut seen = 0;
    for (file, text) in &texts {
        for (number, paragraph) in paragraphs(text) {
            let links = links(&paragraph);
            seen += links.len();
            let wrong = links.iter().filter_map(|link| known.mistake(file, link));
            mistakes.extend(wrong.map(|wrong| format!("{}:{number}: {wrong}", file.display())));
        }
    }
    assert!(mistakes.is_empty(), "{}", listed(&mistakes));
    assert!(seen > 40, "only {seen} links were found");
}

#[test]
fn the_summary_has_every_page_and_no_other() {
    let summary = Path::new("docs/SUMMARY.md");
    let text = documents::read(summary);
    let entries: Vec<_> =
        text.lines().flat_map(links).map(|link| documents::beside(summary, &link)).collect();
    let pages: BTreeSet<_> =
        documents::pages().into_iter().filter(|page| page.starts_with("docs")).collect();
    let mut mistakes = Vec::new();
    for (number, entry) in entries.iter().enumerate() {
        if !pages.contains(entry) {
            mistakes.push(format!("docs/SUMMARY.md names {}, which is no page", entry.display()));
        }
        if entries[..number].contains(entry) {
            mistakes.push(format!("docs/SUMMARY.md names {} twice", entry.display()));
        }
    }
    let left_out = pages.iter().filter(|page| !entries.contains(page));
    mistakes.extend(left_out.map(|page| format!("docs/SUMMARY.md lacks {}", page.display())));
    assert!(mistakes.is_empty(), "{}", listed(&mistakes));
}

#[test]
fn links_are_found_wherever_they_stand() {
    for (line, expected) in [
        ("a [b](c.md) and [d](e.md#f \"title\")", vec!["c.md", "e.md#f"]),
        ("![picture](images/a.png)", vec!["images/a.png"]),
        ("[![picture](a.png)](b.md)", vec!["a.png", "b.md"]),
        ("[`code`](<a b>)", vec!["a"]),
        ("code: `[a](b.md)`, [c](d.md)", vec!["d.md"]),
        ("<img src=\"a.svg\"> <a href=\"b.md\">", vec!["b.md", "a.svg"]),
        ("[name]: ../x.md", vec!["../x.md"]),
        ("no [link] (here)", vec![]),
        ("code that `goes\non [a](b.md)` and [c\nd](e.md)", vec!["e.md"]),
    ] {
        assert_eq!(links(line), expected, "{line}");
    }
}

#[test]
fn a_link_that_leads_nowhere_is_told() {
    let page = "# One\n## Two\n```sh\n# Three\n```\n<a id=\"four\"></a>\n## Two\n";
    let known = Known {
        files: ["docs/a.md", "docs/running/b.md", "deploy/x"].map(PathBuf::from).into(),
        anchors: [(PathBuf::from("docs/a.md"), anchors(page).expect("anchors"))].into(),
    };
    let from = Path::new("docs/running/b.md");
    for good in [
        "../a.md",
        "../a.md#one",
        "../a.md#two-1",
        "../a.md#four",
        "../../deploy/x",
        "../../deploy",
        "https://a.example/#x",
    ] {
        assert_eq!(known.mistake(from, good), None, "{good}");
    }
    for bad in ["a.md", "../a.md#three", "../a.md#One", "#one", "../../deploy/x#a", "/docs/a.md"] {
        assert!(known.mistake(from, bad).is_some(), "{bad}");
    }
}
