//! Walks the tree, notes every mistake and lets a default stand in.
//!
//! What a [`Section`] is asked for becomes a known key; whatever else is in the tree is a mistake,
//! found once all has been read ([`super::unknown_keys`]).

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use super::{
    error::{ConfigError, ConfigErrors, Place, Problem},
    value::{Node, Table, Value},
};
use crate::id::TenantId;

/// The mistakes found so far, and the keys asked for.
#[derive(Default)]
pub(super) struct Diagnostics {
    errors: RefCell<Vec<ConfigError>>,
    /// By dotted key, with `*` for a name that the operator chose.
    known: RefCell<BTreeMap<String, Known>>,
    warnings: RefCell<Vec<String>>,
}

/// What a key was asked for as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// One value.
    Key,
    /// One value, the path of a file or several.
    File,
    /// More keys.
    Section,
}

/// One table of the tree; also one that is absent, for its defaults.
pub(super) struct Section<'a> {
    notes: &'a Diagnostics,
    place: Place,
    path: String,
    pattern: String,
    entries: Option<&'a Table>,
    /// No table where one should be: that is the mistake, not what is missing in it.
    broken: bool,
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

    /// A mistake that has its place and key already.
    pub(super) fn push(&self, error: ConfigError) {
        self.errors.borrow_mut().push(error);
    }

    /// Something that is allowed, but hardly what a careful operator wants.
    pub(super) fn warn(&self, warning: String) {
        self.warnings.borrow_mut().push(warning);
    }

    pub(super) fn warnings(&self) -> Vec<String> {
        self.warnings.borrow().clone()
    }

    pub(super) fn known(&self) -> BTreeMap<String, Known> {
        self.known.borrow().clone()
    }

    /// `read`, unless there is a mistake.
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

    /// The section `name` in this one.
    pub(super) fn section(&self, name: &str) -> Section<'a> {
        self.inner(name, name)
    }

    /// The sections in this one whose names the operator chose.
    pub(super) fn named(&self) -> impl Iterator<Item = (&'a str, Section<'a>)> {
        let names = self.entries.into_iter().flat_map(Table::keys);
        names.map(|name| (name.as_str(), self.inner(name, "*")))
    }

    /// A section in this one whose name the operator could choose, also one that is absent.
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
        // Whoever reads a file asks for the key again.
        let known_before = *self.notes.known.borrow_mut().entry(pattern.clone()).or_insert(known);
        if known_before == Known::Key {
            self.notes.known.borrow_mut().insert(pattern, known);
        }
    }

    /// Diagnostics that `key` names files.
    pub(super) fn know_file(&self, key: &str) {
        self.know(join(&self.pattern, key), Known::File);
    }

    /// The value of `key` as `parse` takes it; `None` if it is absent or wrong.
    pub(super) fn read<T>(
        &self,
        key: &'static str,
        parse: impl FnOnce(&'a Node) -> Result<T, Problem>,
    ) -> Option<T> {
        self.know(join(&self.pattern, key), Known::Key);
        let node = self.entries?.get(key)?;
        parse(node).map_err(|wrong| self.error_in(key, node.place.clone(), wrong)).ok()
    }

    /// Diagnostics a mistake in one value of `key`.
    pub(super) fn error_in(&self, key: &'static str, place: Place, wrong: Problem) {
        self.wrong.borrow_mut().insert(key);
        self.notes.error(place, &join(&self.path, key), wrong);
    }

    /// Diagnostics a mistake in this section as a whole.
    pub(super) fn error(&self, wrong: Problem) {
        self.notes.error(self.place.clone(), &self.path, wrong);
    }

    /// Diagnostics that this section should have named sections in it and has none.
    pub(super) fn none_named(&self, wrong: Problem) {
        if !self.broken {
            self.notes.error(self.place.whole(), &self.path, wrong);
        }
    }

    /// Diagnostics that `key` is absent and should not be; nothing if it is there and wrong.
    pub(super) fn missing(&self, key: &'static str, remedy: &str) {
        if !self.broken && !self.has(key) {
            let wrong = Problem::new("is missing", remedy);
            self.error_in(key, self.place.whole(), wrong);
        }
    }

    /// Diagnostics that the values of `keys` cannot all be meant. The first one present is blamed.
    /// Where one of them is wrong by itself, that has been said and is enough.
    pub(super) fn contradiction(&self, keys: &[&'static str], wrong: Problem) {
        let known_wrong = keys.iter().any(|key| self.is_wrong(key));
        let blamed = keys.iter().find_map(|&key| Some((key, self.place_of(key)?)));
        if let (Some((key, place)), false) = (blamed, known_wrong) {
            self.error_in(key, place, wrong);
        }
    }

    /// Whether something was noted about `key`.
    pub(super) fn is_wrong(&self, key: &str) -> bool {
        self.wrong.borrow().contains(key)
    }

    /// Whether `key` is there, right or wrong.
    pub(super) fn has(&self, key: &str) -> bool {
        self.place_of(key).is_some()
    }

    fn place_of(&self, key: &str) -> Option<Place> {
        Some(self.entries?.get(key)?.place.clone())
    }

    /// The section's dotted key.
    pub(super) fn key(&self) -> &str {
        &self.path
    }

    pub(super) fn notes(&self) -> &'a Diagnostics {
        self.notes
    }
}

/// A tenant's section, as a configuration spells it.
pub(crate) fn section_of(tenant: &TenantId) -> String {
    join("tenants", tenant.as_str())
}

/// `name` in the section `path`, quoted where TOML would want it quoted.
pub(super) fn join(path: &str, name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '*');
    let name = if !name.is_empty() && name.chars().all(bare) {
        name.to_owned()
    } else {
        super::error::quote(name)
    };
    if path.is_empty() { name } else { format!("{path}.{name}") }
}
