//! Finds keys that the bridge does not know, and suggests the key that was probably meant.

use strsim::levenshtein;

use super::{
    error::{Place, Problem},
    former::{self, Fate},
    reader::{Diagnostics, Known, join},
    value::{Table, Value},
};

/// The most keys that an error lists if no known key resembles the given one.
const LISTED_MAX: usize = 12;

/// Longer keys are not compared with the known ones: they are no misspellings, and it would take long.
const LENGTH_MAX: usize = 200;

/// The place of a key or section in the tree: its dotted key as given (`path`), and with `*` for names
/// that the operator chose (`pattern`).
#[derive(Clone, Copy)]
struct At<'a> {
    path: &'a str,
    pattern: &'a str,
}

/// Notes a mistake for every key of `tree` that was not asked for.
pub(super) fn note(notes: &Diagnostics, tree: &Table) {
    let all: Vec<_> = notes.known().into_iter().collect();
    let root = At { path: "", pattern: "" };
    Search { notes, all: &all }.walk(tree, root);
}

struct Search<'a> {
    notes: &'a Diagnostics,
    all: &'a [(String, Known)],
}

impl Search<'_> {
    fn walk(&self, table: &Table, at: At<'_>) {
        for (name, node) in table {
            let path = join(at.path, name);
            let exact = join(at.pattern, name);
            let found = self.find(&exact).or_else(|| self.find(&join(at.pattern, "*")));
            let (pattern, known) = match found {
                Some((pattern, known)) => (pattern.as_str(), Some(*known)),
                None => (exact.as_str(), None),
            };
            let inner = At { path: &path, pattern };
            match (&node.value, known) {
                (Value::Table(table), Some(Known::Section)) => self.walk(table, inner),
                (_, Some(_)) => {}
                // An unknown section of a file is one mistake. Two kinds of sections are reported key
                // by key: those from variables, and those that an earlier version had.
                (Value::Table(table), None)
                    if !matches!(node.place, Place::File { .. })
                        || former::was_section(pattern) && !table.is_empty() =>
                {
                    self.walk(table, inner);
                }
                (_, None) => self.note(inner, at, &node.place),
            }
        }
    }

    fn find(&self, pattern: &str) -> Option<&(String, Known)> {
        let found = self.all.binary_search_by(|(key, _)| key.as_str().cmp(pattern));
        self.all.get(found.ok()?)
    }

    fn note(&self, unknown: At<'_>, section: At<'_>, place: &Place) {
        let now = |pattern| spelt(&suggested(pattern, unknown.path, section), place);
        let wrong = match (former::fate(unknown.pattern), self.nearest(unknown.pattern)) {
            (Some(Fate::Renamed(pattern)), _) => {
                Problem::new("has been renamed", format!("give it as {}", now(pattern)))
            }
            (Some(Fate::Gone), _) => Problem::new(
                "is no longer a setting",
                "remove it; the bridge chooses the value itself",
            ),
            (None, Some(pattern)) => {
                Problem::new("is not a known key", format!("did you mean {}?", now(pattern)))
            }
            (None, None) => Problem::new("is not a known key", self.listed(section)),
        };
        self.notes.error(place.clone(), unknown.path, wrong);
    }

    /// The known key with the smallest edit distance, if that is small. Otherwise a known key with the
    /// same last part, in the section that has most parts in common.
    fn nearest(&self, pattern: &str) -> Option<&str> {
        if pattern.len() > LENGTH_MAX {
            return None;
        }
        let keys = || self.all.iter().map(|(key, _)| key.as_str());
        let allowed = 1 + last(pattern).chars().count() / 4;
        let near = keys()
            .map(|key| (levenshtein(key, pattern), key))
            .filter(|(distance, key)| *distance <= allowed && last(key) != "*")
            .min();
        let same_name = keys().rev().filter(|key| last(key) == last(pattern));
        let closest = |key: &&str| key.split('.').zip(pattern.split('.')).take_while(same).count();
        near.map(|(_, key)| key).or_else(|| same_name.max_by_key(closest))
    }

    fn listed(&self, section: At<'_>) -> String {
        let prefix = match section.pattern {
            "" => String::new(),
            pattern => format!("{pattern}."),
        };
        let keys = self.all.iter().filter_map(|(key, _)| key.strip_prefix(&*prefix));
        let here: Vec<_> = keys.filter(|key| !key.contains(['.', '*'])).collect();
        if here.is_empty() || here.len() > LISTED_MAX {
            return "the example file names every key".to_owned();
        }
        format!("known here: {}", here.join(", "))
    }
}

/// The known key `pattern`, with the operator's chosen name in place of `*` if it can be told from
/// the unknown key, and with `<id>` otherwise.
fn suggested(pattern: &str, path: &str, section: At<'_>) -> String {
    match pattern.strip_prefix(section.pattern) {
        Some(name) if !name.trim_start_matches('.').contains('.') => {
            format!("{}{name}", section.path)
        }
        _ if pattern.contains('*') => {
            // Names are in second place in every pattern: listeners.*, tenants.*, retcodes.*, agents.*.
            let parts: Vec<_> = path.split('.').collect();
            let chosen = match parts.as_slice() {
                [of, chosen, _, ..] if pattern.starts_with(of) && !path.contains('"') => chosen,
                _ => "<id>",
            };
            pattern.replace('*', chosen)
        }
        _ => pattern.to_owned(),
    }
}

/// The key as it is spelt in the source that has the mistake: as a variable, or dotted.
fn spelt(key: &str, place: &Place) -> String {
    match place {
        Place::Environment(_) => {
            let name = key.to_uppercase().replace('.', super::variables::SEPARATOR);
            format!("{}{name}", super::variables::PREFIX)
        }
        _ => key.to_owned(),
    }
}

fn same(pair: &(&str, &str)) -> bool {
    pair.0 == pair.1
}

fn last(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}
