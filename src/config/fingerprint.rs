//! What a configuration was made of, to find out what has changed.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    path::PathBuf,
};

use aws_lc_rs::digest::{SHA256, digest};

use super::{
    files,
    setting::Setting,
    value::{Table, Value},
};

/// The digest of each value of a configuration, and of each file that it names.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Fingerprint(BTreeMap<Setting, [u8; 32]>);

/// The longest file that is compared, in bytes; no file that a configuration names may be longer.
const FILE_MAX: u64 = 64 * 1024 * 1024;

impl Fingerprint {
    /// The fingerprint of a tree, and of files, each with the key that names it.
    pub(super) fn of(tree: &Table, files: &[(String, PathBuf)]) -> Self {
        let mut all = BTreeMap::new();
        walk(tree, &[], &mut all);
        let by_key: HashMap<_, _> =
            all.keys().map(|setting| (setting.to_string(), setting.path.clone())).collect();
        for (key, file) in files {
            let content = match files::read(file, FILE_MAX) {
                Ok((content, _)) => content,
                Err(error) => error.to_string().into_bytes().into(),
            };
            // A default is not in the tree, and has no name in quotes.
            let path = by_key.get(key).cloned();
            let path = path.unwrap_or_else(|| key.split('.').map(str::to_owned).collect());
            all.insert(Setting { path, file: Some(file.clone()) }, of(&content));
        }
        Self(all)
    }

    /// This one, but for these settings, which are as in `newer`.
    pub(crate) fn with(&self, newer: &Self, settings: &[Setting]) -> Self {
        let mut all = self.0.clone();
        for setting in settings {
            match newer.0.get(setting) {
                Some(value) => drop(all.insert(setting.clone(), *value)),
                None => drop(all.remove(setting)),
            }
        }
        Self(all)
    }

    /// The settings that differ: values, and what is in files.
    pub fn differences(&self, other: &Self) -> Vec<Setting> {
        let all = self.0.keys().chain(other.0.keys());
        let mut changed: Vec<_> =
            all.filter(|key| self.0.get(*key) != other.0.get(*key)).cloned().collect();
        changed.sort();
        changed.dedup();
        changed
    }
}

fn walk(table: &Table, path: &[String], all: &mut BTreeMap<Setting, [u8; 32]>) {
    for (name, node) in table {
        let path = [path, std::slice::from_ref(name)].concat();
        match &node.value {
            Value::Table(table) => walk(table, &path, all),
            value => drop(all.insert(Setting { path, file: None }, of(text(value).as_bytes()))),
        }
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Text(text) | Value::Raw(text) => text.as_str().to_owned(),
        Value::Whole(number) => number.to_string(),
        Value::Fraction(number) => number.to_string(),
        Value::Truth(truth) => truth.to_string(),
        Value::List(items) => {
            let items: Vec<_> = items.iter().map(|item| text(&item.value)).collect();
            items.join("\0")
        }
        Value::Table(_) => "a section".to_owned(),
        Value::Unsupported(kind) => (*kind).to_owned(),
    }
}

fn of(content: &[u8]) -> [u8; 32] {
    digest(&SHA256, content).as_ref().first_chunk().copied().unwrap_or_default()
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint")
    }
}
