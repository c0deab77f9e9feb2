//! Where a configuration comes from. All sources are merged into one tree.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Place,
    error::{ConfigError, Problem},
    files, listeners,
    otel::Otel,
    reader::Diagnostics,
    scalar, traces,
    value::{self, Node, Table, Value},
    variables::{PREFIX, SEPARATOR},
};

/// The key that `--listen` sets; the `*` is resolved by [`Flag::path`].
pub(crate) const LISTEN_KEY: &str = "listeners.*.address";

/// How many parts a key from the environment is split into; real keys have at most four.
const DEPTH_MAX: usize = 8;

const SIZE_MAX: u64 = 4 * 1024 * 1024;

/// Where a configuration comes from. Flags override the environment, which overrides the file, which
/// overrides OpenTelemetry's own variables, which override the defaults.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    file: Option<PathBuf>,
    environment: Vec<(String, String)>,
    otel: Otel,
    flags: Vec<Flag>,
}

#[derive(Clone, Debug)]
struct Flag {
    name: String,
    key: String,
    value: String,
}

impl Sources {
    /// Takes the variables of `environment` that start with `CCGW__`, and OpenTelemetry's variables
    /// that say where traces are sent. Except in tests, `environment` is `std::env::vars_os()`.
    pub fn from_environment<K, V>(environment: impl IntoIterator<Item = (K, V)>) -> Self
    where
        K: Into<OsString>,
        V: Into<OsString>,
    {
        let text = |os: OsString| os.to_string_lossy().into_owned();
        let mut variables: Vec<_> = environment
            .into_iter()
            .map(|(name, value)| (text(name.into()), value))
            .filter(|(name, _)| name.starts_with(PREFIX) || Otel::has(name))
            .map(|(name, value)| (name, text(value.into())))
            .collect();
        variables.sort();
        let (environment, otel) =
            variables.into_iter().partition(|(name, _)| name.starts_with(PREFIX));
        let otel: Vec<_> = otel;
        Self { environment, otel: Otel::new(otel), ..Self::default() }
    }

    /// Adds a TOML file.
    #[must_use]
    pub fn with_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.file = Some(file.into());
        self
    }

    /// Adds a command-line flag: its `name` as typed (`--log-filter`), the dotted `key` that it sets
    /// (`log.filter`), and the value. In `listeners.*.address` the `*` stands for the only listener, or
    /// for the one named `default` if there are several or none.
    #[must_use]
    pub fn with_flag(mut self, name: &str, key: &str, value: impl Into<String>) -> Self {
        self.flags.push(Flag { name: name.to_owned(), key: key.to_owned(), value: value.into() });
        self
    }

    /// Merges all sources. Returns the tree, and the place to report for a missing key: the file, if
    /// there is one. A flag that cannot be used is noted as a mistake.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or is not valid TOML.
    pub(super) fn gather(&self, notes: &Diagnostics) -> Result<(Table, Place), ConfigError> {
        let (mut tree, place) = match &self.file {
            Some(path) => file(path)?,
            None => (Table::new(), Place::Nowhere),
        };
        for (name, text) in &self.environment {
            let key = name.strip_prefix(PREFIX).unwrap_or(name).to_lowercase();
            let path: Vec<_> = key.splitn(DEPTH_MAX, SEPARATOR).map(str::to_owned).collect();
            let place = Place::Environment(name.as_str().into());
            value::insert(&mut tree, &path, raw(place, text));
        }
        for flag in &self.flags {
            let place = Place::Flag(flag.name.as_str().into());
            match flag.path(&tree) {
                Ok(path) => value::insert(&mut tree, &path, raw(place, &flag.value)),
                Err(wrong) => notes.error(place, "listeners", wrong),
            }
        }
        self.add_otel(&mut tree, notes);
        self.warn_of_headers(&tree, notes);
        Ok((tree, place))
    }

    /// Sets `traces.endpoint` from OpenTelemetry's variables, unless another source sets it.
    fn add_otel(&self, tree: &mut Table, notes: &Diagnostics) {
        let given = match tree.get("traces").map(|node| &node.value) {
            None => false,
            Some(Value::Table(traces)) => traces.contains_key("endpoint"),
            // It is not a section; the reader reports that.
            Some(_) => true,
        };
        if given {
            return;
        }
        if let Some((name, endpoint)) = self.otel.endpoint(notes) {
            let node = raw(Place::Environment(name.into()), endpoint);
            value::insert(tree, &["traces", "endpoint"].map(str::to_owned), node);
        }
    }
}

impl Sources {
    /// Warns of headers in OpenTelemetry's variables that go over the network as they are.
    fn warn_of_headers(&self, tree: &Table, notes: &Diagnostics) {
        let Some(name) = self.otel.headers() else { return };
        let Some(Value::Table(section)) = tree.get("traces").map(|node| &node.value) else {
            return;
        };
        let endpoint = section.get("endpoint").and_then(|node| scalar::text(node).ok());
        let endpoint = endpoint.and_then(|endpoint| endpoint.parse().ok());
        if let Some(warning) = traces::plaintext(endpoint.as_ref(), name) {
            notes.warn(warning);
        }
    }
}

impl Flag {
    /// The path in the tree of the key that the flag sets.
    fn path(&self, tree: &Table) -> Result<Vec<String>, Problem> {
        if self.key == LISTEN_KEY {
            let name = listener(tree)?;
            return Ok(["listeners", name, "address"].map(str::to_owned).into());
        }
        Ok(self.key.splitn(DEPTH_MAX, '.').map(str::to_owned).collect())
    }
}

/// The name of the listener that `--listen` means: the only one, or `default`.
fn listener(tree: &Table) -> Result<&str, Problem> {
    let names: Vec<&str> = match tree.get("listeners").map(|node| &node.value) {
        Some(Value::Table(listeners)) => listeners.keys().map(String::as_str).collect(),
        _ => Vec::new(),
    };
    match names.as_slice() {
        [only] => Ok(only),
        several if several.is_empty() || several.contains(&listeners::DEFAULT_NAME) => {
            Ok(listeners::DEFAULT_NAME)
        }
        several => Err(Problem::new(
            format!("there are several, and none is named default: {}", several.join(", ")),
            "give each listener's address in its section, or as CCGW__LISTENERS__<NAME>__ADDRESS",
        )),
    }
}

/// A value from the environment or a flag, trimmed: variables are often filled from files, which end
/// with a line break.
fn raw(place: Place, text: &str) -> Node {
    Node { place, value: Value::Raw(text.trim().to_owned().into()) }
}

fn file(path: &Path) -> Result<(Table, Place), ConfigError> {
    let name: Arc<str> = path.to_string_lossy().into();
    let place = Place::File { name: name.clone(), line: None };
    let remedy = "give the path of the bridge's TOML file";
    let wrong = |wrong: Problem| ConfigError {
        place: place.clone(),
        key: String::new(),
        problem: wrong.problem,
        remedy: wrong.remedy,
    };
    let (bytes, _) = files::read_once(path, SIZE_MAX)
        .map_err(|error| wrong(files::unreadable(path, &error, remedy)))?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| wrong(Problem::new("is not UTF-8 text", remedy)))?;
    value::parse(&name, text).map(|tree| (tree, place.clone()))
}
