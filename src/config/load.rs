//! From sources to a [`Config`].

use std::{ffi::OsString, path::Path, path::PathBuf, sync::Arc};

use super::{
    Config, ConfigErrors, Place,
    error::{ConfigError, Wrong},
    files, gateway, log,
    reader::{Notes, Section},
    retcodes, server, store, strays, tenant, traces,
    value::{self, Node, Table, Value},
};

/// What the names of the bridge's environment variables start with.
pub(super) const PREFIX: &str = "CCGW__";
/// What stands in them for the dot of a key.
pub(super) const SEPARATOR: &str = "__";

/// No key has more parts than four.
const DEPTH_MAX: usize = 8;

const SIZE_MAX: u64 = 4 * 1024 * 1024;

/// Where a configuration comes from. Flags go before the environment, that before the file, and
/// the file before the defaults.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    file: Option<PathBuf>,
    environment: Vec<(String, String)>,
    flags: Vec<Flag>,
}

#[derive(Clone, Debug)]
struct Flag {
    name: String,
    key: String,
    value: String,
}

impl Sources {
    /// Takes what starts with `CCGW__` from `environment`, which is `std::env::vars_os()` but in
    /// tests.
    pub fn from_environment<K, V>(environment: impl IntoIterator<Item = (K, V)>) -> Self
    where
        K: Into<OsString>,
        V: Into<OsString>,
    {
        let text = |os: OsString| os.to_string_lossy().into_owned();
        let mut environment: Vec<_> = environment
            .into_iter()
            .map(|(name, value)| (text(name.into()), value))
            .filter(|(name, _)| name.starts_with(PREFIX))
            .map(|(name, value)| (name, text(value.into())))
            .collect();
        environment.sort();
        Self { environment, ..Self::default() }
    }

    /// Takes a TOML file.
    #[must_use]
    pub fn with_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.file = Some(file.into());
        self
    }

    /// Takes a command-line flag: its `name` as typed (`--listen`), the dotted `key` that it sets
    /// (`server.listen`), and what it sets it to.
    #[must_use]
    pub fn with_flag(mut self, name: &str, key: &str, value: impl Into<String>) -> Self {
        self.flags.push(Flag { name: name.to_owned(), key: key.to_owned(), value: value.into() });
        self
    }
}

/// Reads and checks the whole configuration, and the files that it names; opens nothing else.
///
/// # Errors
///
/// [`ConfigErrors`] names every mistake, unless the file cannot be read as TOML at all, which
/// hides the others.
pub fn load(sources: &Sources) -> Result<Config, ConfigErrors> {
    let (tree, place) = gather(sources).map_err(|error| ConfigErrors::new(vec![error]))?;
    let notes = Notes::default();
    let mut config = config(&Section::root(&notes, &tree, place));
    strays::note(&notes, &tree);
    config.warnings.extend(notes.warnings());
    notes.finish(config)
}

fn config(root: &Section<'_>) -> Config {
    let config = Config {
        server: server::server(&root.section("server"), root.has("store")),
        log: log::log(&root.section("log")),
        host_in_flight: gateway::host_in_flight(&root.section("gateway")),
        tenants: tenant::tenants(&root.section("tenants")),
        store: store::store(root),
        traces: traces::traces(root),
        retcodes: retcodes::retcodes(&root.section("retcodes")),
        warnings: Vec::new(),
    };
    server::check_places(&root.section("server"), &config.server, config.tenants.len());
    config
}

fn gather(sources: &Sources) -> Result<(Table, Place), ConfigError> {
    let (mut tree, place) = match &sources.file {
        Some(path) => file(path)?,
        None => (Table::new(), Place::Nowhere),
    };
    for (name, text) in &sources.environment {
        let key = name.strip_prefix(PREFIX).unwrap_or(name).to_lowercase();
        let path: Vec<_> = key.splitn(DEPTH_MAX, SEPARATOR).map(str::to_owned).collect();
        let place = Place::Environment(name.as_str().into());
        value::insert(&mut tree, &path, raw(place, text));
    }
    for flag in &sources.flags {
        let path: Vec<_> = flag.key.splitn(DEPTH_MAX, '.').map(str::to_owned).collect();
        let place = Place::Flag(flag.name.as_str().into());
        value::insert(&mut tree, &path, raw(place, &flag.value));
    }
    Ok((tree, place))
}

/// Variables are often filled from files, whose last line ends.
fn raw(place: Place, text: &str) -> Node {
    Node { place, value: Value::Raw(text.trim().to_owned()) }
}

fn file(path: &Path) -> Result<(Table, Place), ConfigError> {
    let name: Arc<str> = path.to_string_lossy().into();
    let place = Place::File { name: name.clone(), line: None };
    let remedy = "give the path of the bridge's TOML file";
    let text = files::read(path, SIZE_MAX)
        .map_err(|error| files::unreadable(path, &error, remedy))
        .and_then(|(bytes, _)| {
            String::from_utf8(bytes).map_err(|_| Wrong::new("is not UTF-8 text", remedy))
        });
    match text {
        Ok(text) => value::parse(&name, &text).map(|tree| (tree, place)),
        Err(wrong) => Err(ConfigError {
            place,
            key: String::new(),
            problem: wrong.problem,
            remedy: wrong.remedy,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::reader::Known;

    const EXAMPLE: &str = include_str!("../../docs/ccgateway-bridge.example.toml");

    /// The dotted keys in the example, those behind a `#` included.
    fn shown() -> Vec<String> {
        let mut section = String::new();
        let mut keys = Vec::new();
        for line in EXAMPLE.lines() {
            let line = line.strip_prefix('#').unwrap_or(line);
            if let Some(header) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
                section = header.replace("acme", "*").replace("\"100-007\"", "*");
            } else if let Some((key, _)) = line.split_once(" = ")
                && !key.contains(' ')
            {
                keys.push(format!("{section}.{key}"));
            }
        }
        keys.sort();
        keys
    }

    #[test]
    fn the_example_names_every_key_once_and_no_other() {
        let text = "tenants.a.x = 1\nretcodes.100-007.x = 1";
        let tree = value::parse(&"".into(), text).map_err(|e| e.to_string()).expect("TOML");
        let notes = Notes::default();
        config(&Section::root(&notes, &tree, Place::Nowhere));
        let known = notes.known().into_iter();
        let keys: Vec<_> =
            known.filter_map(|(key, known)| (known == Known::Key).then_some(key)).collect();
        assert_eq!(shown(), keys);
    }
}
