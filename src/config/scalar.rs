//! Reads values of each type. An error about a wrong type does not quote the value; an error about a
//! value of the right type does.

use std::{
    fmt::Display,
    net::IpAddr,
    num::NonZeroUsize,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    error::{Place, Problem, quote},
    reader::Section,
    value::{Node, Value},
};

/// Refuses an address with a user name or password.
pub(super) fn without_user(address: &str, remedy: &str) -> Result<(), Problem> {
    // The text before an '@' may be a password, so it is not quoted.
    if address.contains('@') {
        return Err(Problem::new("has an address with a user name or password", remedy));
    }
    Ok(())
}

pub(super) const MILLISECOND: Duration = Duration::from_millis(1);
pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const HOUR: Duration = Duration::from_secs(60 * 60);

impl<'a> Section<'a> {
    /// A text, unchanged.
    pub(super) fn text(&self, key: &'static str) -> Option<&'a str> {
        self.read(key, text)
    }

    /// A whole number within `range`.
    pub(super) fn whole<T>(&self, key: &'static str, default: T, range: RangeInclusive<T>) -> T
    where
        T: Copy + PartialOrd + Display + TryFrom<i64>,
    {
        let parse = |node| {
            let number = whole(node)?;
            let fitting = T::try_from(number).ok().filter(|n| range.contains(n));
            let (from, to) = (range.start(), range.end());
            fitting.ok_or_else(|| {
                Problem::new(
                    format!("{number} is out of range"),
                    format!("give a whole number from {from} to {to}"),
                )
            })
        };
        self.read(key, parse).unwrap_or(default)
    }

    /// A count from 1 to `max`.
    pub(super) fn count(&self, key: &'static str, default: usize, max: usize) -> NonZeroUsize {
        NonZeroUsize::new(self.whole(key, default, 1..=max)).unwrap_or(NonZeroUsize::MIN)
    }

    /// A number from 0 to 1.
    pub(super) fn ratio(&self, key: &'static str, default: f64) -> f64 {
        let parse = |node| {
            let ratio = fraction(node)?;
            (0.0..=1.0).contains(&ratio).then_some(ratio).ok_or_else(|| {
                Problem::new(format!("{ratio} is out of range"), "give a number from 0 to 1")
            })
        };
        self.read(key, parse).unwrap_or(default)
    }

    /// True or false.
    pub(super) fn truth(&self, key: &'static str, default: bool) -> bool {
        self.read(key, truth).unwrap_or(default)
    }

    /// A duration with its unit, within `range`.
    pub(super) fn duration(
        &self,
        key: &'static str,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        self.optional_duration(key, range).unwrap_or(default)
    }

    /// Like [`Section::duration`], but without a default.
    pub(super) fn optional_duration(
        &self,
        key: &'static str,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        self.read(key, |node| duration(node, &range))
    }

    /// 1 to `max` texts, each read by `parse`. A text that `parse` rejects is noted as a mistake and
    /// left out.
    pub(super) fn list<T>(
        &self,
        key: &'static str,
        max: usize,
        parse: impl Fn(&str) -> Result<T, Problem>,
    ) -> Option<Vec<T>> {
        self.placed(key, max, |_, text| parse(text))
    }

    /// A path, relative to the folder of the file that it is given in.
    pub(super) fn path(&self, key: &'static str) -> Option<PathBuf> {
        let path = self.unwatched_path(key)?;
        self.note_file(key, &path);
        Some(path)
    }

    /// Like [`Section::path`], of a file whose content is no part of the configuration: the bridge writes
    /// it, or reads it each time that it needs it.
    pub(super) fn unwatched_path(&self, key: &'static str) -> Option<PathBuf> {
        self.know_file(key);
        self.read(key, |node| Ok(seen_from(&node.place, checked_path(text(node)?)?)))
    }

    /// 1 to `max` paths, each relative like [`Section::path`], and read by `parse`.
    pub(super) fn paths<T>(
        &self,
        key: &'static str,
        max: usize,
        parse: impl Fn(&Path) -> Result<T, Problem>,
    ) -> Option<Vec<T>> {
        self.know_file(key);
        self.placed(key, max, |place, text| {
            let path = seen_from(place, checked_path(text)?);
            self.note_file(key, &path);
            parse(&path)
        })
    }

    fn placed<T>(
        &self,
        key: &'static str,
        max: usize,
        parse: impl Fn(&Place, &str) -> Result<T, Problem>,
    ) -> Option<Vec<T>> {
        let items = self.read(key, |node| {
            let items = items(node)?;
            if (1..=max).contains(&items.len()) {
                return Ok(items);
            }
            let problem = format!("has {} entries", items.len());
            Err(Problem::new(problem, format!("give 1 to {max}")))
        })?;
        let parsed = items.into_iter().filter_map(|(place, text)| {
            let noted = |wrong| self.error_in(key, place.clone(), wrong);
            parse(place, text).map_err(noted).ok()
        });
        Some(parsed.collect())
    }

    /// One of the given words; its meaning is returned.
    pub(super) fn choice<T: Copy>(&self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        self.read(key, |node| {
            let given = text(node)?;
            let found = words.iter().find(|(word, _)| *word == given);
            found.map(|(_, meaning)| *meaning).ok_or_else(|| {
                let all: Vec<_> = words.iter().map(|(word, _)| *word).collect();
                let problem = format!("{} is not one of the allowed words", quote(given));
                Problem::new(problem, format!("give one of {}", all.join(", ")))
            })
        })
    }
}

/// Reads a text.
pub(super) fn text(node: &Node) -> Result<&str, Problem> {
    match &node.value {
        Value::Text(text) | Value::Raw(text) => Ok(text),
        other => Err(mistyped(other, "text", "give text in quotation marks")),
    }
}

/// Checks that a text is a path, and not the content of the file, which could be a private key. The
/// errors therefore do not quote it.
fn checked_path(path: &str) -> Result<&str, Problem> {
    if path.is_empty() {
        let remedy = "give the path of a file, or leave the key out";
        return Err(Problem::new("is empty", remedy));
    }
    if path.contains("-----BEGIN") || path.contains(['\n', '\0']) {
        let remedy = "put that into a file and give the file's path";
        return Err(Problem::new("holds the content of a file", remedy));
    }
    Ok(path)
}

/// A path, relative to the folder of the file that it is given in.
fn seen_from(place: &Place, path: &str) -> PathBuf {
    let folder = match place {
        Place::File { name, .. } => Path::new(&**name).parent(),
        _ => None,
    };
    folder.map_or_else(|| PathBuf::from(path), |folder| folder.join(path))
}

/// A list of texts with their places. A single text is a list of one; a text from the environment or
/// a flag is split at its commas.
pub(super) fn items(node: &Node) -> Result<Vec<(&Place, &str)>, Problem> {
    match &node.value {
        Value::Text(text) => Ok(vec![(&node.place, text)]),
        Value::Raw(texts) => Ok(texts.split(',').map(|text| (&node.place, text.trim())).collect()),
        Value::List(items) => items.iter().map(|item| Ok((&item.place, text(item)?))).collect(),
        other => {
            let remedy = "give texts in square brackets, such as [\"one\", \"two\"]";
            Err(mistyped(other, "a list of texts", remedy))
        }
    }
}

fn whole(node: &Node) -> Result<i64, Problem> {
    let remedy = "give a whole number without quotation marks";
    match &node.value {
        Value::Whole(number) => Ok(*number),
        Value::Raw(text) => text.replace('_', "").parse().map_err(|_| {
            let problem = format!("{} is not a whole number", quote(text));
            Problem::new(problem, "give a whole number in digits")
        }),
        other => Err(mistyped(other, "a whole number", remedy)),
    }
}

fn fraction(node: &Node) -> Result<f64, Problem> {
    let remedy = "give a number from 0 to 1 without quotation marks";
    match &node.value {
        Value::Fraction(number) => Ok(*number),
        Value::Whole(0) => Ok(0.0),
        Value::Whole(1) => Ok(1.0),
        Value::Whole(number) => Err(Problem::new(format!("{number} is out of range"), remedy)),
        Value::Raw(text) => text.parse().map_err(|_| {
            Problem::new(format!("{} is not a number", quote(text)), "give a number from 0 to 1")
        }),
        other => Err(mistyped(other, "a number", remedy)),
    }
}

fn truth(node: &Node) -> Result<bool, Problem> {
    match &node.value {
        Value::Truth(truth) => Ok(*truth),
        Value::Raw(text) => text.parse().map_err(|_| {
            let problem = format!("{} is neither true nor false", quote(text));
            Problem::new(problem, "give true or false")
        }),
        other => {
            let remedy = "give true or false without quotation marks";
            Err(mistyped(other, "true or false", remedy))
        }
    }
}

pub(super) fn duration(node: &Node, range: &RangeInclusive<Duration>) -> Result<Duration, Problem> {
    let show = |time: &Duration| humantime::format_duration(*time).to_string();
    let (from, to) = (show(range.start()), show(range.end()));
    let remedy =
        format!("give a number with its unit, such as \"500ms\" or \"2m\", from {from} to {to}");
    let given = match &node.value {
        Value::Text(text) | Value::Raw(text) => text,
        other => return Err(mistyped(other, "a duration", &remedy)),
    };
    match humantime::parse_duration(given) {
        Ok(time) if range.contains(&time) => Ok(time),
        Ok(_) => Err(Problem::new(format!("{} is out of range", quote(given)), remedy)),
        Err(_) => Err(Problem::new(format!("{} is not a duration", quote(given)), remedy)),
    }
}

fn mistyped(value: &Value, wanted: &str, remedy: &str) -> Problem {
    Problem::new(format!("is {}, not {wanted}", value.kind()), remedy)
}

/// Whether a host in a URL is this machine, so that nobody can read on the network what goes there.
pub(crate) fn is_this_machine(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}
