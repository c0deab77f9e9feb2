//! As much of PromQL as tells which series an expression asks for, by which labels.
//!
//! promtool tells whether an expression is good PromQL (`scripts/check-deploy` asks it), but not what it
//! asks for, and parsers of all of PromQL bring dozens of crates.

use std::{iter::Peekable, vec};

/// A selector of an expression.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) metric: String,
    pub(super) matchers: Vec<Matcher>,
    /// Labels that the series are summed by or matched on.
    pub(super) grouped: Vec<String>,
}

/// Such as `code=~"Internal|Unknown"`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Matcher {
    pub(super) label: String,
    /// Whether `value` is a regular expression.
    pub(super) pattern: bool,
    pub(super) value: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// The name of a metric, a label or a function, or a keyword.
    Word(String),
    Text(String),
    Sign(String),
}

/// Reads one expression, in which what stands in parentheses is a level of its own.
struct Reader {
    tokens: Peekable<vec::IntoIter<Token>>,
}

/// The selectors of an expression. What is not understood is an error: it may name anything.
pub(super) fn asked(expression: &str) -> Result<Vec<Asked>, String> {
    let tokens = tokens(expression)?;
    let mut reader = Reader { tokens: tokens.into_iter().peekable() };
    let asked = reader.level()?;
    match reader.tokens.next() {
        None => Ok(asked),
        Some(token) => Err(format!("{token:?} is too much")),
    }
}

// === impl Reader ===

impl Reader {
    /// Up to the end or to the parenthesis that closes this level.
    fn level(&mut self) -> Result<Vec<Asked>, String> {
        let mut all: Vec<Asked> = Vec::new();
        let mut matched_on = Vec::new();
        while let Some(token) = self.tokens.next_if(|token| !token.is(")")) {
            let Token::Word(word) = token else {
                if token.is("(") {
                    all.append(&mut self.closed_level()?);
                }
                continue;
            };
            match word.as_str() {
                "and" | "or" | "unless" | "bool" | "offset" => {}
                "on" => matched_on.append(&mut self.labels()?),
                "by" | "without" | "ignoring" | "group_left" | "group_right" => {
                    return Err(format!("{word} is not understood here"));
                }
                _ if self.next_is("(") || self.next_is("by") => {
                    all.append(&mut self.function()?);
                }
                _ => all.push(self.selector(word)?),
            }
        }
        for asked in &mut all {
            asked.grouped.extend(matched_on.iter().cloned());
        }
        Ok(all)
    }

    /// What follows a function's name, with its grouping before what it is of, or none.
    fn function(&mut self) -> Result<Vec<Asked>, String> {
        let grouped = if self.take("by") { self.labels()? } else { Vec::new() };
        self.expect("(")?;
        let mut inner = self.closed_level()?;
        for asked in &mut inner {
            asked.grouped.extend(grouped.iter().cloned());
        }
        Ok(inner)
    }

    fn closed_level(&mut self) -> Result<Vec<Asked>, String> {
        let level = self.level()?;
        self.expect(")")?;
        Ok(level)
    }

    fn selector(&mut self, metric: String) -> Result<Asked, String> {
        let mut matchers = Vec::new();
        if self.take("{") {
            while !self.take("}") {
                matchers.push(self.matcher()?);
                self.take(",");
            }
        }
        Ok(Asked { metric, matchers, grouped: Vec::new() })
    }

    fn matcher(&mut self) -> Result<Matcher, String> {
        let parts = (self.tokens.next(), self.tokens.next(), self.tokens.next());
        match parts {
            (Some(Token::Word(label)), Some(Token::Sign(sign)), Some(Token::Text(value)))
                if ["=", "!=", "=~", "!~"].contains(&sign.as_str()) =>
            {
                Ok(Matcher { label, pattern: sign.ends_with('~'), value })
            }
            parts => Err(format!("{parts:?} is no matcher")),
        }
    }

    fn labels(&mut self) -> Result<Vec<String>, String> {
        self.expect("(")?;
        let mut labels = Vec::new();
        while let Some(Token::Word(label)) = self.tokens.next_if(|t| matches!(t, Token::Word(_))) {
            labels.push(label);
            self.take(",");
        }
        self.expect(")")?;
        Ok(labels)
    }

    fn next_is(&mut self, what: &str) -> bool {
        self.tokens.peek().is_some_and(|token| token.is(what))
    }

    fn take(&mut self, what: &str) -> bool {
        self.tokens.next_if(|token| token.is(what)).is_some()
    }

    fn expect(&mut self, what: &str) -> Result<(), String> {
        if self.take(what) {
            return Ok(());
        }
        Err(format!("{what} is missing before {:?}", self.tokens.peek()))
    }
}

// === impl Token ===

impl Token {
    fn is(&self, what: &str) -> bool {
        matches!(self, Self::Word(text) | Self::Sign(text) if text == what)
    }
}

/// Without spaces, comments, numbers and ranges.
fn tokens(expression: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = expression;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '#' => rest.find('\n').unwrap_or(rest.len()),
            '[' => 1 + rest.find(']').ok_or("a range does not end")?,
            '"' => 2 + rest[1..].find('"').ok_or("a text does not end")?,
            _ if in_word(first) => rest.find(|c| !in_word(c)).unwrap_or(rest.len()),
            '=' | '!' | '<' | '>' => 1 + usize::from(rest[1..].starts_with(['=', '~'])),
            _ => first.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        rest = after;
        match first {
            '#' | '[' => {}
            '"' if token.contains('\\') => return Err(format!("{token} is not understood here")),
            '"' => tokens.push(Token::Text(token.trim_matches('"').to_owned())),
            _ if first.is_whitespace() || first.is_ascii_digit() => {}
            _ if in_word(first) => tokens.push(Token::Word(token.to_owned())),
            '=' | '!' | '<' | '>' | '(' | ')' | '{' | '}' | ',' | '+' | '-' | '*' | '/' => {
                tokens.push(Token::Sign(token.to_owned()));
            }
            _ => return Err(format!("{token} is not understood here")),
        }
    }
    Ok(tokens)
}

/// Of names, and of numbers and durations, which begin with a digit.
fn in_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '.')
}

#[test]
fn expressions_are_taken_apart() {
    // Each selector as its metric, its matchers, and the labels that it is grouped by.
    let said = |asked: &Asked| {
        let matchers = asked.matchers.iter().map(|matcher| {
            let sign = if matcher.pattern { '~' } else { '=' };
            format!("{}{sign}{}", matcher.label, matcher.value)
        });
        let matchers: Vec<_> = matchers.collect();
        format!("{} [{}] ({})", asked.metric, matchers.join(" "), asked.grouped.join(" "))
    };
    for (expression, expected) in [
        ("up", vec!["up [] ()"]),
        ("1 - vector(0)", vec![]),
        ("a:b:rate5m > 14.4 * 0.001", vec!["a:b:rate5m [] ()"]),
        (r#"up{job="x",pod!~"a|b.*",}"#, vec!["up [job=x pod~a|b.*] ()"]),
        ("rate(a_total[5m] offset 1h) # of b", vec!["a_total [] ()"]),
        ("sum by (x, y) (rate(a[$__range])) / b", vec!["a [] (x y)", "b [] ()"]),
        ("sum(max by (x) (a) + b)", vec!["a [] (x)", "b [] ()"]),
        ("sum by (x) (max by (y) (a))", vec!["a [] (y x)"]),
        ("histogram_quantile(0.5, sum by (le) (a_bucket))", vec!["a_bucket [] (le)"]),
        ("a unless on (x) b{y=\"\"}", vec!["a [] (x)", "b [y=] (x)"]),
        ("(a and on (x) b) or c", vec!["a [] (x)", "b [] (x)", "c [] ()"]),
    ] {
        let asked = asked(expression).expect(expression);
        assert_eq!(asked.iter().map(said).collect::<Vec<_>>(), expected, "{expression}");
    }
    for expression in [
        "sum(a) by (x)",
        "sum without (x) (a)",
        "a * ignoring (x) b",
        "a * on (x) group_left (y) b",
        "sum(a",
        "a)",
        "a{x}",
        "a{x>\"1\"}",
        r#"a{x="\"}"#,
        "a{x='1'}",
        "a[5m",
        "a{x=\"1",
        "a ^ b",
    ] {
        assert!(asked(expression).is_err(), "{expression}");
    }
}
