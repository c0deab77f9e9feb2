//! What the source writes to logs and spans, token by token.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use super::tokens::{Token, tokens};

/// Each name, and the files that have it.
pub(super) type Found = BTreeMap<String, BTreeSet<String>>;

const LOG_MACROS: [&str; 6] = ["trace", "debug", "info", "warn", "error", "event"];

/// The names in the source of the bridge.
#[derive(Default)]
pub(super) struct Names {
    /// Fields of log lines.
    pub(super) fields: Found,
    /// Attributes of spans and of who sends them.
    pub(super) attributes: Found,
    /// Metrics as they are registered, where unit and `_total` are added to them.
    pub(super) metrics: Found,
    file: String,
}

impl Names {
    /// Of all files below `src`.
    pub(super) fn of_the_bridge() -> Self {
        let mut names = Self::default();
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        // Tests name series, such as the `…_count` of a histogram.
        for path in rust_files(&src) {
            names.file = path.strip_prefix(&src).expect("below it").display().to_string();
            if !names.file.contains("tests") {
                names.text(&fs::read_to_string(&path).expect("readable"));
            }
        }
        names
    }

    /// Of one file.
    pub(super) fn text(&mut self, text: &str) {
        let tokens = tokens(text);
        for (place, token) in tokens.iter().enumerate() {
            match token {
                Token::Mark('(') => self.call(&tokens[..place], &tokens[place + 1..]),
                Token::Text(name) if is_metric(name) => {
                    note(&mut self.metrics, Some(name.clone()), &self.file);
                }
                _ => {}
            }
        }
    }

    /// What stands between brackets, if the tokens before them make it a call of interest.
    fn call(&mut self, before: &[Token], inside: &[Token]) {
        let is = |back: usize, mark| before.iter().nth_back(back) == Some(&Token::Mark(mark));
        let Some(Token::Word(name)) = before.iter().nth_back(usize::from(is(0, '!'))) else {
            return;
        };
        // `$write!(…)` is a macro that a macro was given.
        if is(0, '!') && (is(2, '$') || LOG_MACROS.contains(&name.as_str())) {
            let is_message = |argument: &&[Token]| match argument {
                [Token::Text(_), behind @ ..] => behind.first() != Some(&Token::Mark('=')),
                _ => false,
            };
            for argument in arguments(inside).into_iter().take_while(|a| !is_message(a)) {
                note(&mut self.fields, field(argument), &self.file);
            }
        }
        let is_set = name == "set" && is(1, '.');
        let of = before.iter().nth_back(3);
        let is_new = name == "new" && of == Some(&Token::Word("KeyValue".into()));
        if let Some([Token::Text(name), ..]) = arguments(inside).first()
            && (is_set || is_new)
        {
            note(&mut self.attributes, Some(name.clone()), &self.file);
        }
    }
}

fn note(found: &mut Found, name: Option<String>, file: &str) {
    if let Some(name) = name {
        found.entry(name).or_default().insert(file.to_owned());
    }
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder");
    let paths = entries.map(|entry| entry.expect("readable").path());
    let (folders, files): (Vec<_>, Vec<_>) = paths.partition(|path| path.is_dir());
    let files = files.into_iter().filter(|path| path.extension().is_some_and(|e| e == "rs"));
    folders.iter().flat_map(|folder| rust_files(folder)).chain(files).collect()
}

/// The tokens between the commas, up to the bracket that closes them.
fn arguments(inside: &[Token]) -> Vec<&[Token]> {
    let (mut depth, mut begin, mut arguments) = (0, 0, Vec::new());
    for (place, token) in inside.iter().enumerate() {
        match token {
            Token::Mark('(' | '[' | '{') => depth += 1,
            Token::Mark(')' | ']' | '}') if depth == 0 => {
                arguments.push(&inside[begin..place]);
                return arguments;
            }
            Token::Mark(')' | ']' | '}') => depth -= 1,
            Token::Mark(',') if depth == 0 => {
                arguments.push(&inside[begin..place]);
                begin = place + 1;
            }
            _ => {}
        }
    }
    panic!("a bracket is not closed");
}

/// The field that an argument of a log macro writes: `name = …`, `%name`, `?name`, `name` or
/// `"name" = …`.
fn field(argument: &[Token]) -> Option<String> {
    let argument = match argument {
        [Token::Mark('%' | '?'), argument @ ..] => argument,
        _ => argument,
    };
    if let [Token::Text(name), Token::Mark('='), ..] = argument {
        return Some(name.clone());
    }
    let mut name = String::new();
    for token in argument {
        match token {
            Token::Word(word) => name.push_str(word),
            Token::Mark('.') => name.push('.'),
            Token::Mark('=') => break,
            _ => return None,
        }
    }
    Some(name).filter(|name| !name.is_empty())
}

fn is_metric(name: &str) -> bool {
    let beginning = ["ccgw_", "grpc_server_"].iter().any(|beginning| name.starts_with(beginning));
    beginning && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

#[test]
fn every_way_to_write_a_field_is_found() {
    let mut names = Names::default();
    names.text(
        r#"fn f() {
            info!(plain, %shown, ?debugged, a.b = 1, c.d = %x(y, z), "text {} {}", in_text, other);
            tracing::warn!(target: "t", in_path, "lit.eral" = 3, "{shown_too}");
            if a { match b { _ => debug!(deep) } }
            macro_rules! line { ($write:ident) => { $write!(by_macro, e = f(inner = 3), "x") }; }
            println!("{}", printed); other!(not_logged);
            span.set("of.a.span", || 1); cell.set(value); KeyValue::new("of.who", 1);
            String::new("plain"); registry.register("ccgw_calls", "Calls", calls);
        }"#,
    );
    let found = |found: &Found| found.keys().map(String::as_str).collect::<Vec<_>>().join(" ");
    assert_eq!(
        found(&names.fields),
        "a.b by_macro c.d debugged deep e in_path lit.eral plain shown"
    );
    assert_eq!(found(&names.attributes), "of.a.span of.who");
    assert_eq!(found(&names.metrics), "ccgw_calls");
}
