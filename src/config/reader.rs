//! Reads values from the tree. A wrong value is noted as a mistake, and its default is used, so that
//! one run finds all mistakes.
//!
//! Each key that a [`Section`] is asked for becomes a known key. After everything has been read, all
//! other keys in the tree are mistakes ([`super::unknown_keys`]).

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use super::{
    error::{ConfigError, ConfigErrors, Place, Problem},
    value::{Node, Table, Value},
};
use crate::id::TenantId;

/// The mistakes and warnings found so far, and the keys that were asked for.
#[derive(Default)]
pub(super) struct Diagnostics {
    errors: RefCell<Vec<ConfigError>>,
    /// The keys that were asked for, dotted, with `*` for a name that the operator chose.
    known: RefCell<BTreeMap<String, Known>>,
    warnings: RefCell<Vec<String>>,
    /// The files that the configuration names, each with its dotted key.
    files: RefCell<Vec<(String, PathBuf)>>,
}

/// What kind of key was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// One value.
    Key,
    /// One value that is the path of a file, or a list of paths.
    File,
    /// A section, which has keys of its own.
    Section,
}

/// One table of the tree. It may be absent; its keys then have their defaults.
pub(super) struct Section<'a> {
    notes: &'a Diagnostics,
    place: Place,
    path: String,
    pattern: String,
    entries: Option<&'a Table>,
    /// There is a value that is not a table where this section should be. That is the mistake; keys
    /// that are missing in it are not reported.
    broken: bool,
    /// The keys with a mistake.
    wrong: RefCell<BTreeSet<&'static str>>,
}

// === impl Diagnostics ===

impl Diagnostics {
    pub(super) fn error(&self, place: Place, key: &str, wrong: Problem) {
        self.errors.borrow_mut().push(ConfigError {
            place,
            key: key.to_owned(),
            problem: wrong.problem,
            remedy: wrong.remedy,
        });
    }

    /// Adds a mistake that already has its place and key.
    pub(super) fn push(&self, error: ConfigError) {
        self.errors.borrow_mut().push(error);
    }

    /// Adds a warning; see [`super::Config::warnings`].
    pub(super) fn warn(&self, warning: String) {
        self.warnings.borrow_mut().push(warning);
    }

    pub(super) fn warnings(&self) -> Vec<String> {
        self.warnings.borrow().clone()
    }

    pub(super) fn files(&self) -> Vec<(String, PathBuf)> {
        self.files.borrow().clone()
    }

    pub(super) fn known(&self) -> BTreeMap<String, Known> {
        self.known.borrow().clone()
    }

    /// Returns `read` if there are no mistakes.
    pub(super) fn finish<T>(self, read: T) -> Result<T, ConfigErrors> {
        let errors = self.errors.into_inner();
        if errors.is_empty() { Ok(read) } else { Err(ConfigErrors::new(errors)) }
    }
}

// === impl Section ===

impl<'a> Section<'a> {
    /// The tree as a whole.
    pub(super) fn root(notes: &'a Diagnostics, entries: &'a Table, place: Place) -> Self {
        Self {
            notes,
            place,
            path: String::new(),
            pattern: String::new(),
            entries: Some(entries),
            broken: false,
            wrong: RefCell::default(),
        }
    }

    /// The section `name` in this one; it may be absent.
    pub(super) fn section(&self, name: &str) -> Section<'a> {
        self.inner(name, name)
    }

    /// The sections in this one whose names the operator chose.
    pub(super) fn named(&self) -> impl Iterator<Item = (&'a str, Section<'a>)> {
        let names = self.entries.into_iter().flat_map(Table::keys);
        names.map(|name| (name.as_str(), self.inner(name, "*")))
    }

    /// The section `name` in this one, where `name` is the operator's choice; it may be absent.
    pub(super) fn chosen(&self, name: &str) -> Section<'a> {
        self.inner(name, "*")
    }

    fn inner(&self, name: &str, pattern: &str) -> Section<'a> {
        let pattern = join(&self.pattern, pattern);
        self.know(pattern.clone(), Known::Section);
        let node = self.entries.and_then(|entries| entries.get(name));
        let mut section = Section {
            notes: self.notes,
            place: node.map_or(&self.place, |node| &node.place).clone(),
            path: join(&self.path, name),
            pattern,
            entries: None,
            broken: self.broken,
            wrong: RefCell::default(),
        };
        match node.map(|node| &node.value) {
            None => {}
            Some(Value::Table(entries)) => section.entries = Some(entries),
            Some(other) => {
                section.broken = true;
                section.error(Problem::new(
                    format!("is {}, not a section", other.kind()),
                    "give its keys one by one, as the example file does",
                ));
            }
        }
        section
    }

    fn know(&self, pattern: String, known: Known) {
        // The path of a file is read as a plain value too; `File` must win.
        let known_before = *self.notes.known.borrow_mut().entry(pattern.clone()).or_insert(known);
        if known_before == Known::Key {
            self.notes.known.borrow_mut().insert(pattern, known);
        }
    }

    /// Records that the value of `key` is the path of a file, or several.
    pub(super) fn know_file(&self, key: &str) {
        self.know(join(&self.pattern, key), Known::File);
    }

    /// Notes that the value of `key` names this file.
    pub(super) fn note_file(&self, key: &str, path: &Path) {
        let key = join(&self.path, key);
        self.notes.files.borrow_mut().push((key, path.to_owned()));
    }

    /// Reads the value of `key` by `parse`; `None` if it is absent or wrong.
    pub(super) fn read<T>(
        &self,
        key: &'static str,
        parse: impl FnOnce(&'a Node) -> Result<T, Problem>,
    ) -> Option<T> {
        self.know(join(&self.pattern, key), Known::Key);
        let node = self.entries?.get(key)?;
        parse(node).map_err(|wrong| self.error_in(key, node.place.clone(), wrong)).ok()
    }

    /// Notes a mistake at `place` in the value of `key`.
    pub(super) fn error_in(&self, key: &'static str, place: Place, wrong: Problem) {
        self.wrong.borrow_mut().insert(key);
        self.notes.error(place, &join(&self.path, key), wrong);
    }

    /// Notes a mistake in this section as a whole.
    pub(super) fn error(&self, wrong: Problem) {
        self.notes.error(self.place.clone(), &self.path, wrong);
    }

    /// Notes that this section has no named sections, although it needs at least one.
    pub(super) fn none_named(&self, wrong: Problem) {
        if !self.broken {
            self.notes.error(self.place.whole(), &self.path, wrong);
        }
    }

    /// Notes a mistake if `key` is absent. A wrong value is not absent.
    pub(super) fn missing(&self, key: &'static str, remedy: &str) {
        if !self.broken && !self.has(key) {
            let wrong = Problem::new("is missing", remedy);
            self.error_in(key, self.place.whole(), wrong);
        }
    }

    /// Notes that the values of `keys` contradict each other. The mistake is noted for the first key
    /// that is present. Nothing is noted if one of the keys already has a mistake.
    pub(super) fn contradiction(&self, keys: &[&'static str], wrong: Problem) {
        let known_wrong = keys.iter().any(|key| self.is_wrong(key));
        let blamed = keys.iter().find_map(|&key| Some((key, self.place_of(key)?)));
        if let (Some((key, place)), false) = (blamed, known_wrong) {
            self.error_in(key, place, wrong);
        }
    }

    /// Whether `key` has a mistake.
    pub(super) fn is_wrong(&self, key: &str) -> bool {
        self.wrong.borrow().contains(key)
    }

    /// Whether `key` is present, with a right or a wrong value.
    pub(super) fn has(&self, key: &str) -> bool {
        self.place_of(key).is_some()
    }

    fn place_of(&self, key: &str) -> Option<Place> {
        Some(self.entries?.get(key)?.place.clone())
    }

    /// The section's own dotted key.
    pub(super) fn key(&self) -> &str {
        &self.path
    }

    pub(super) fn notes(&self) -> &'a Diagnostics {
        self.notes
    }
}

/// The dotted key of a tenant's section, such as `tenants.acme`.
pub(crate) fn section_of(tenant: &TenantId) -> String {
    join("tenants", tenant.as_str())
}

/// The dotted key of `name` in the section `path`; the name is quoted if TOML needs it quoted.
pub(super) fn join(path: &str, name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '*');
    let name = if !name.is_empty() && name.chars().all(bare) {
        name.to_owned()
    } else {
        super::error::quote(name)
    };
    if path.is_empty() { name } else { format!("{path}.{name}") }
}
