//! Finds the keys that nobody asked for, and what was probably meant.

use strsim::levenshtein;

use super::{
    error::{Place, Problem},
    former::{self, Fate},
    reader::{Diagnostics, Known, join},
    value::{Table, Value},
};

/// How many keys are listed where none resembles the one given.
const LISTED_MAX: usize = 12;

/// Longer keys are no misspelling, and comparing them would take its time.
const LENGTH_MAX: usize = 200;

/// A section of the tree: its dotted key, as given and with `*` for chosen names.
#[derive(Clone, Copy)]
struct At<'a> {
    path: &'a str,
    pattern: &'a str,
}

/// Diagnostics every key of `tree` that was not asked for.
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
                // Each variable is a mistake of its own, and each key of a section that is no more;
                // any other section of a file is one.
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
        let now = |pattern| spelt(&meant(pattern, unknown.path, section), place);
        let wrong = match (former::fate(unknown.pattern), self.nearest(unknown.pattern)) {
            (Some(Fate::Renamed(pattern)), _) => {
                Problem::new("has another name now", format!("give it as {}", now(pattern)))
            }
            (Some(Fate::Gone), _) => Problem::new(
                "is a setting no more",
                "take it out; the bridge has a value that fits",
            ),
            (None, Some(pattern)) => {
                Problem::new("is not a known key", format!("did you mean {}?", now(pattern)))
            }
            (None, None) => Problem::new("is not a known key", self.listed(section)),
        };
        self.notes.error(place.clone(), unknown.path, wrong);
    }

    /// The known key that differs least, or the one of the same name elsewhere, not far if possible.
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

/// The known key `pattern`, with the names that the operator chose where they are the same.
fn meant(pattern: &str, path: &str, section: At<'_>) -> String {
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

/// As it is written where the mistake is.
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
