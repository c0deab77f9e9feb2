//! A lenient reader for envelopes that are not valid JSON. Old servers write raw line breaks in strings,
//! single quotes, names without quotes, trailing commas, comments, unknown escapes and unescaped quotes.
//!
//! It never guesses a retcode. An envelope with two different retcodes has none, a retcode inside the value
//! of another member does not count, and an object that does not end is not read. Where quotes or brackets do
//! not match, nobody knows which member a retcode belongs to: then all that are written anywhere must agree.

use std::cell::Cell;

use serde_json::{Map, Value};

/// The members of an envelope.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Members {
    pub(super) retcode: Value,
    pub(super) message: Value,
    pub(super) result: Value,
    pub(super) event: Value,
}

/// Which quote ends a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quotes {
    /// The next one that is not escaped.
    Escaped,
    /// The next one that is followed by what can follow a string. The server escapes no quotes.
    Unescaped,
}

/// Where a string is, which decides what can follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Name,
    InEnvelope,
    InObject,
    InArray,
}

/// What comes next in an object.
enum Name {
    /// A member of this name.
    Of(String),
    /// The end of the object.
    End,
}

#[derive(Clone, Copy, Debug)]
struct Reader<'a> {
    rest: &'a str,
    quotes: Quotes,
    /// Whether all quotes and brackets matched so far.
    is_certain: bool,
    steps: &'a Steps,
}

/// The steps that the reader and all its copies that look ahead have taken for a body. Without a limit, their number
/// would grow with the square of the body's length, since nobody knows where a malformed value ends.
#[derive(Debug)]
struct Steps {
    taken: Cell<usize>,
    limit: usize,
}

/// How deep objects and arrays may be nested. A deeper value is returned as raw text.
const MAX_DEPTH: usize = 64;

/// How many steps reading may take for each byte. What servers write takes less than ten.
const STEPS_PER_BYTE: usize = 32;

/// Reads an envelope. `None` if it is not an object, does not end, has two different retcodes, or is so malformed
/// that reading it would take too long.
pub(super) fn members(text: &str) -> Option<Members> {
    read(text, &Steps::for_body(text))
}

fn read(text: &str, steps: &Steps) -> Option<Members> {
    let mut reader = Reader::new(text, steps);
    let members = reader.envelope()?;
    let is_clear = reader.is_certain || all_retcodes_are(&members.retcode, text, steps);
    (is_clear && !steps.are_too_many()).then_some(members)
}

/// Whether each retcode in the text has this value, in whatever value or string it is.
fn all_retcodes_are(expected: &Value, text: &str, steps: &Steps) -> bool {
    text.match_indices("retcode").all(|(at, name)| {
        if steps.take(name.len()).is_none() {
            return false;
        }
        let rest = text[at + name.len()..].trim_start_matches(['\\', '"', '\'']);
        let mut reader = Reader::new(rest, steps);
        reader.skip_blanks();
        reader.eat(':').is_none() || reader.value(Place::InEnvelope, 0).as_ref() == Some(expected)
    })
}

impl Steps {
    fn for_body(text: &str) -> Self {
        Self { taken: Cell::new(0), limit: text.len().saturating_mul(STEPS_PER_BYTE) }
    }

    /// Counts steps. `None` if there have been too many.
    fn take(&self, steps: usize) -> Option<()> {
        self.taken.set(self.taken.get().saturating_add(steps));
        (!self.are_too_many()).then_some(())
    }

    fn are_too_many(&self) -> bool {
        self.taken.get() > self.limit
    }
}

// Each method that goes through the text takes steps, for as many bytes as it looks at. Once there were too many, none
// goes on.
impl<'a> Reader<'a> {
    fn new(rest: &'a str, steps: &'a Steps) -> Self {
        Self { rest, quotes: Quotes::Escaped, is_certain: true, steps }
    }

    fn envelope(&mut self) -> Option<Members> {
        let mut members = Members::default();
        let mut has_retcode = false;
        self.eat('{')?;
        while let Name::Of(name) = self.name()? {
            let value = if name == "retcode" { self.retcode() } else { self.value_or_raw() }?;
            match name.as_str() {
                "retcode" if has_retcode && members.retcode != value => return None,
                "retcode" => (members.retcode, has_retcode) = (value, true),
                "message" => members.message = value,
                "result" => members.result = value,
                "event" => members.event = value,
                _ => {}
            }
        }
        self.is_at_end().then_some(members)
    }

    /// The next member's name and the colon after it, or the object's end.
    fn name(&mut self) -> Option<Name> {
        self.skip_blanks_and_commas();
        if self.eat('}').is_some() {
            return Some(Name::End);
        }
        let name = match self.rest.chars().next()? {
            quote @ ('"' | '\'') => self.text(quote, Place::Name)?,
            _ => self.word()?.to_owned(),
        };
        self.skip_blanks();
        self.eat(':')?;
        Some(Name::Of(name))
    }

    /// Reads the value of a retcode, which has to be well formed. One that is not may belong to a malformed
    /// result, and run on into the real one.
    fn retcode(&mut self) -> Option<Value> {
        self.value(Place::InEnvelope, 0).filter(|_| self.is_at_end_of_member())
    }

    /// Reads the value of a member of the envelope. Returns a malformed value as raw text, if its end can be
    /// found.
    fn value_or_raw(&mut self) -> Option<Value> {
        self.skip_blanks();
        for quotes in [Quotes::Escaped, Quotes::Unescaped] {
            let mut ahead = Self { quotes, ..*self };
            if let Some(value) = ahead.value(Place::InEnvelope, MAX_DEPTH)
                && ahead.is_at_end_of_member()
            {
                self.rest = ahead.rest;
                self.is_certain &= quotes == Quotes::Escaped;
                return Some(value);
            }
        }
        self.is_certain = false;
        let raw = self.skip_raw()?;
        Some(Value::String(raw.to_owned()))
    }

    fn value(&mut self, place: Place, depth: usize) -> Option<Value> {
        self.skip_blanks();
        match self.rest.chars().next()? {
            quote @ ('"' | '\'') => self.text(quote, place).map(Value::String),
            '{' => self.object(depth.checked_sub(1)?),
            '[' => self.array(depth.checked_sub(1)?),
            _ => self.word().map(bare),
        }
    }

    fn object(&mut self, depth: usize) -> Option<Value> {
        self.eat('{')?;
        let mut members = Map::new();
        while let Name::Of(name) = self.name()? {
            let value = self.value(Place::InObject, depth)?;
            members.insert(name, value);
            self.end_of_value('}')?;
        }
        Some(Value::Object(members))
    }

    fn array(&mut self, depth: usize) -> Option<Value> {
        self.eat('[')?;
        let mut values = Vec::new();
        loop {
            self.skip_blanks_and_commas();
            if self.eat(']').is_some() {
                return Some(Value::Array(values));
            }
            values.push(self.value(Place::InArray, depth)?);
            self.end_of_value(']')?;
        }
    }

    /// Reads a quoted string and decodes its escapes.
    fn text(&mut self, quote: char, place: Place) -> Option<String> {
        self.eat(quote)?;
        let mut text = String::new();
        loop {
            match self.next()? {
                c if c == quote && self.ends_text(place) => return Some(text),
                // A server that escapes no quotes escapes no backslashes either.
                '\\' if self.is_end_after_backslash(quote, place) => text.push('\\'),
                '\\' => text.push_str(&self.escaped()?),
                c => text.push(c),
            }
        }
    }

    /// Whether the quote that was just read ends its string.
    fn ends_text(mut self, place: Place) -> bool {
        if self.quotes == Quotes::Escaped {
            return true;
        }
        self.skip_blanks();
        match (place, self.rest.chars().next()) {
            (Place::Name, _) | (Place::InObject, Some('}')) | (Place::InArray, Some(',' | ']')) => {
                true
            }
            (Place::InEnvelope, Some('}')) => self.ends_envelope(),
            // A comma is part of the string, unless another name follows.
            (_, Some(',')) => self.name().is_some(),
            _ => false,
        }
    }

    fn is_end_after_backslash(mut self, quote: char, place: Place) -> bool {
        self.quotes == Quotes::Unescaped && self.eat(quote).is_some() && self.ends_text(place)
    }

    /// Decodes an escape, after its backslash.
    fn escaped(&mut self) -> Option<String> {
        let escaped = self.next()?;
        let plain = match escaped {
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'b' => '\u{8}',
            'f' => '\u{c}',
            '"' | '\'' | '\\' | '/' => escaped,
            'x' => match self.hex(2) {
                Some(code) => char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER),
                None => return Some("\\x".to_owned()),
            },
            'u' => match self.utf16() {
                Some(c) => c,
                None => return Some("\\u".to_owned()),
            },
            // An unescaped backslash, as in a Windows path.
            other => return Some(format!("\\{other}")),
        };
        Some(plain.into())
    }

    /// Decodes one UTF-16 unit, or a surrogate pair, after the first `\u`.
    fn utf16(&mut self) -> Option<char> {
        let first = self.hex(4)?;
        let mut ahead = *self;
        if (0xd800..0xdc00).contains(&first)
            && ahead.eat('\\').and_then(|()| ahead.eat('u')).is_some()
            && let Some(second @ 0xdc00..0xe000) = ahead.hex(4)
        {
            *self = ahead;
            return char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00));
        }
        Some(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn hex(&mut self, digits: usize) -> Option<u32> {
        let hex = self.rest.get(..digits)?;
        let is_hex = hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        let code = u32::from_str_radix(hex, 16).ok().filter(|_| is_hex)?;
        self.skip(digits).map(|_| code)
    }

    /// Reads a number, or a word or name without quotes.
    fn word(&mut self) -> Option<&str> {
        let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | '-' | '+' | '.');
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        self.skip(end).filter(|word| !word.is_empty())
    }

    /// Skips a malformed value, up to the comma before the next name or up to the end of the envelope. A
    /// closing bracket closes every bracket that was opened inside it.
    fn skip_raw(&mut self) -> Option<&str> {
        let value = self.rest;
        let mut open = Vec::new();
        let mut has_texts = true;
        while let Some(next) = self.rest.chars().next() {
            match next {
                ',' | '}' if open.is_empty() && self.is_at_end_of_member() => {
                    let raw = value.get(..value.len() - self.rest.len())?;
                    return Some(raw.trim_end());
                }
                '"' if has_texts => {
                    let mut ahead = *self;
                    // After a string that does not end there can be no other.
                    has_texts = ahead.text('"', Place::InObject).is_some();
                    if has_texts {
                        *self = ahead;
                        continue;
                    }
                }
                '{' => open.push('}'),
                '[' => open.push(']'),
                '}' | ']' => {
                    let opened = open.iter().rposition(|close| *close == next);
                    self.steps.take(open.len() - opened.unwrap_or_default())?;
                    open.truncate(opened.unwrap_or(open.len()));
                }
                _ => {}
            }
            self.next()?;
        }
        None
    }

    /// Whether a member of the envelope ends here. A malformed value may contain commas and brackets.
    fn is_at_end_of_member(mut self) -> bool {
        self.skip_blanks();
        match self.rest.chars().next() {
            Some(',') => self.name().is_some(),
            Some('}') => self.ends_envelope(),
            _ => false,
        }
    }

    fn ends_envelope(mut self) -> bool {
        self.eat('}').is_some() && self.is_at_end()
    }

    /// Whether only white space and the end of a script call are left.
    fn is_at_end(mut self) -> bool {
        self.skip_all(|c| is_blank(c) || c == ';' || c == ')');
        self.rest.is_empty()
    }

    /// Checks that a value is followed by a comma or by `close`, and consumes neither.
    fn end_of_value(&mut self, close: char) -> Option<()> {
        self.skip_blanks();
        let next = self.rest.chars().next()?;
        (next == ',' || next == close).then_some(())
    }

    fn skip_blanks_and_commas(&mut self) {
        self.skip_blanks();
        while self.eat(',').is_some() {
            self.skip_blanks();
        }
    }

    /// Skips white space and comments.
    fn skip_blanks(&mut self) {
        loop {
            self.skip_all(is_blank);
            let end = match self.rest.as_bytes() {
                [b'/', b'/', ..] => "\n",
                [b'/', b'*', ..] => "*/",
                _ => return,
            };
            let Some(at) = self.rest.find(end) else {
                let _looked_at = self.steps.take(self.rest.len());
                return;
            };
            if self.skip(at + end.len()).is_none() {
                return;
            }
        }
    }

    fn skip_all(&mut self, is_skipped: impl Fn(char) -> bool) {
        let end = self.rest.find(|c| !is_skipped(c)).unwrap_or(self.rest.len());
        let _skipped = self.skip(end);
    }

    fn eat(&mut self, expected: char) -> Option<()> {
        self.rest.starts_with(expected).then(|| self.next())?.map(drop)
    }

    fn next(&mut self) -> Option<char> {
        let next = self.rest.chars().next()?;
        self.skip(next.len_utf8())?;
        Some(next)
    }

    /// Skips this many bytes, and returns them. `None` if there were too many steps.
    fn skip(&mut self, bytes: usize) -> Option<&'a str> {
        let (skipped, rest) = self.rest.split_at(bytes);
        self.steps.take(bytes)?;
        self.rest = rest;
        Some(skipped)
    }
}

/// White space, and the NUL bytes and byte order marks that pad a body.
fn is_blank(c: char) -> bool {
    c.is_whitespace() || c == '\0' || c == '\u{feff}'
}

/// The value of a word without quotes. Digits and dashes may be a retcode, or a number that JSON does not
/// allow. Any other word, such as `undefined`, counts as null.
fn bare(word: &str) -> Value {
    let is_code = || word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    match serde_json::from_str(word) {
        // A float to serde_json.
        Ok(_) if word == "-0" => 0.into(),
        Ok(value) => value,
        Err(_) if is_code() => Value::String(word.to_owned()),
        Err(_) => Value::Null,
    }
}

#[cfg(test)]
mod tests;
