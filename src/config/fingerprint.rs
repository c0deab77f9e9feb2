//! What a configuration was made of, to find out what has changed.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use aws_lc_rs::digest::{SHA256, digest};

use super::{
    files,
    reader::join,
    tenant,
    value::{Table, Value},
};

/// The digest of each value of a configuration, and of each file that it names.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Fingerprint(BTreeMap<String, [u8; 32]>);

/// The longest file that is compared, in bytes; no file that a configuration names may be longer.
const FILE_MAX: u64 = 64 * 1024 * 1024;

impl Fingerprint {
    /// The fingerprint of a tree, and of files, each with the key that names it.
    pub(super) fn of(tree: &Table, files: &[(String, PathBuf)]) -> Self {
        let mut all = BTreeMap::new();
        walk(tree, "", &mut all);
        for (key, path) in files {
            let content = match files::read(path, FILE_MAX) {
                Ok((content, _)) => content,
                Err(error) => error.to_string().into_bytes().into(),
            };
            all.insert(format!("{key} ({})", path.display()), of(&content));
        }
        Self(all)
    }

    /// This one, but for these keys, which are as in `newer`.
    pub(crate) fn with(&self, newer: &Self, keys: &[String]) -> Self {
        let mut all = self.0.clone();
        for key in keys {
            match newer.0.get(key) {
                Some(value) => drop(all.insert(key.clone(), *value)),
                None => drop(all.remove(key)),
            }
        }
        Self(all)
    }

    /// The keys whose values differ. A key that names a file is followed by the file's path if what is in
    /// the file differs.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let all = self.0.keys().chain(other.0.keys());
        let mut changed: Vec<_> =
            all.filter(|key| self.0.get(*key) != other.0.get(*key)).cloned().collect();
        changed.sort();
        changed.dedup();
        changed
    }
}

/// How the keys begin whose change a bridge takes without a restart, besides those of tenants.
const RELOADED: [&str; 11] = [
    "callers",
    "issuers",
    "listeners.*.tls",
    "listeners.*.issuers",
    "listeners.*.allow_anonymous",
    "store.username",
    "store.password_file",
    "store.sentinel.username",
    "store.sentinel.password_file",
    "store.tls",
    "store.encryption_key_files",
];

/// Whether a bridge takes a change of this key, as [`Fingerprint::differences`] writes it, without a
/// restart.
pub fn is_reloaded(key: &str) -> bool {
    let parts: Vec<_> = key.split(['.', ' ']).collect();
    let begins = |with: &str| {
        let mut parts = parts.iter();
        with.split('.').all(|part| parts.next().is_some_and(|own| part == "*" || *own == part))
    };
    let lasts = || tenant::LASTING.iter().any(|key| begins(&format!("tenants.*.{key}")));
    RELOADED.iter().any(|with| begins(with)) || (begins("tenants.*.*") && !lasts())
}

/// The kind and the name of the section that this key is in, if it is in a named one.
pub fn section_of_key(key: &str) -> Option<(&str, &str)> {
    let (kind, rest) = key.split_once('.')?;
    Some((kind, rest.split_once('.')?.0))
}

fn walk(table: &Table, path: &str, all: &mut BTreeMap<String, [u8; 32]>) {
    for (name, node) in table {
        let path = join(path, name);
        match &node.value {
            Value::Table(table) => walk(table, &path, all),
            value => drop(all.insert(path, of(text(value).as_bytes()))),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_without_a_restart_is_known_by_its_key() {
        for (key, expected) in [
            ("callers.ivr.rights", true),
            ("issuers.k8s.jwks_file (/etc/keys.json)", true),
            ("listeners.default.tls.certificate_file (/etc/tls.crt)", true),
            ("listeners.default.issuers", true),
            ("listeners.default.allow_anonymous", true),
            ("tenants.acme.callers", true),
            ("listeners.default.address", false),
            ("listeners.default.http2.keepalive_interval", false),
            ("tenants.acme.tls.ca_file (/etc/ca.pem)", true),
            ("tenants.acme.base_urls", true),
            ("tenants.acme.keep.enabled", false),
            ("tenants.acme.keep.recovery", true),
            ("tenants.acme.limits.sessions", false),
            ("tenants.acme.limits.calls", true),
            ("tenants.acme.events.kept", false),
            ("store.encryption_key_files (/etc/new.key)", true),
            ("store.password_file", true),
            ("store.sentinel.password_file (/etc/password)", true),
            ("store.sentinel.master", false),
            ("store.urls", false),
            ("log.filter", false),
        ] {
            assert_eq!(is_reloaded(key), expected, "{key}");
        }
    }
}
