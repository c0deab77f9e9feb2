//! The tree of values from the file, the environment and the flags. Each value knows its [`Place`].

use std::{collections::BTreeMap, sync::Arc};

use secrecy::zeroize::Zeroizing;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Place, Problem};

/// Named values. It is a `BTreeMap`, so that mistakes are always reported in the same order.
pub(super) type Table = BTreeMap<String, Node>;

/// A value and where it comes from. It has no `Debug`, since it may be a password.
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// A value whose key's type is not known yet.
pub(super) enum Value {
    /// Text from a file.
    Text(Zeroizing<String>),
    /// Text from the environment or a flag; it can be read as any type.
    Raw(Zeroizing<String>),
    Whole(i64),
    Fraction(f64),
    Truth(bool),
    List(Vec<Node>),
    Table(Table),
    /// A value of a type that no key has; it holds the name of the type.
    Unsupported(&'static str),
}

/// Turns byte offsets in a file into line numbers.
struct Lines<'a> {
    name: &'a Arc<str>,
    text: &'a str,
    ends: Vec<usize>,
}

/// Reads a TOML file.
///
/// A syntax error names line and column. It never quotes the text, which may contain passwords.
pub(super) fn parse(name: &Arc<str>, text: &str) -> Result<Table, ConfigError> {
    let lines = Lines::new(name, text);
    match DeTable::parse(text) {
        Ok(table) => Ok(lines.table(table.get_ref())),
        Err(error) => Err(lines.syntax_error(&error)),
    }
}

/// Puts a value from the environment or a flag into the tree, in place of what is there.
///
/// If a part of the path is already a value and not a table, nothing changes; the reader reports that.
pub(super) fn insert(table: &mut Table, path: &[String], node: Node) {
    let Some((name, rest)) = path.split_first() else {
        return;
    };
    if rest.is_empty() {
        table.insert(name.clone(), node);
        return;
    }
    let next = table
        .entry(name.clone())
        .or_insert_with(|| Node { place: node.place.clone(), value: Value::Table(Table::new()) });
    if let Value::Table(next) = &mut next.value {
        insert(next, rest, node);
    }
}

impl Value {
    /// The name of the value's type, for an error that says which type was expected.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) | Self::Raw(_) => "text",
            Self::Whole(_) => "a number",
            Self::Fraction(_) => "a number with a fraction",
            Self::Truth(_) => "true or false",
            Self::List(_) => "a list",
            Self::Table(_) => "a section",
            Self::Unsupported(kind) => kind,
        }
    }
}

impl<'a> Lines<'a> {
    fn new(name: &'a Arc<str>, text: &'a str) -> Self {
        let ends = text.match_indices('\n').map(|(at, _)| at).collect();
        Self { name, text, ends }
    }

    fn at(&self, offset: usize) -> Place {
        Place::File {
            name: self.name.clone(),
            line: Some(self.ends.partition_point(|&end| end < offset) + 1),
        }
    }

    fn table(&self, table: &DeTable<'_>) -> Table {
        let node = |(key, value): (&toml::Spanned<_>, &toml::Spanned<_>)| Node {
            place: self.at(toml::Spanned::<std::borrow::Cow<'_, str>>::span(key).start),
            value: self.value(value.get_ref()),
        };
        table.iter().map(|pair| (pair.0.get_ref().to_string(), node(pair))).collect()
    }

    fn value(&self, value: &DeValue<'_>) -> Value {
        match value {
            DeValue::String(text) => Value::Text(text.to_string().into()),
            DeValue::Integer(digits) => i64::from_str_radix(digits.as_str(), digits.radix())
                .map_or(Value::Unsupported("a number beyond 64 bits"), Value::Whole),
            DeValue::Boolean(truth) => Value::Truth(*truth),
            DeValue::Float(digits) => digits
                .as_str()
                .parse()
                .map_or(Value::Unsupported("a number with a fraction"), Value::Fraction),
            DeValue::Datetime(_) => Value::Unsupported("a date or time"),
            DeValue::Table(table) => Value::Table(self.table(table)),
            DeValue::Array(items) => Value::List(
                items
                    .iter()
                    .map(|item| Node {
                        place: self.at(item.span().start),
                        value: self.value(item.get_ref()),
                    })
                    .collect(),
            ),
        }
    }

    fn syntax_error(&self, error: &toml::de::Error) -> ConfigError {
        let offset = error.span().map_or(0, |span| span.start);
        let before = self.text.get(..offset).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        let wrong = Problem::new(
            format!("is not valid TOML from column {column} on ({})", error.message()),
            "correct this line first; other mistakes are reported after that",
        );
        ConfigError {
            place: self.at(offset),
            key: String::new(),
            problem: wrong.problem,
            remedy: wrong.remedy,
        }
    }
}
