//! A lenient reader for envelopes that are not valid JSON. Old servers write raw line breaks in strings,
//! single quotes, names without quotes, trailing commas, comments, unknown escapes and unescaped quotes.
//!
//! It never guesses a retcode. An envelope with two different retcodes has none, a retcode inside the value
//! of another member does not count, and an object that does not end is not read. Where quotes or brackets do
//! not match, nobody knows which member a retcode belongs to: then all that are written anywhere must agree.

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
}

/// How deep objects and arrays may be nested. A deeper value is returned as raw text.
const MAX_DEPTH: usize = 64;

// The reader looks ahead at each comma to find the end of a malformed value. These limits keep the time
// for a body proportional to its length; without them it would grow with the square.
/// Commas or comments in a row.
const MAX_RUN: usize = 8;
const MAX_COMMENT_BYTES: usize = 1024;
/// The length of a quoted name.
const MAX_NAME_BYTES: usize = 1024;

/// Reads an envelope. `None` if it is not an object, does not end, or has two different retcodes.
pub(super) fn members(text: &str) -> Option<Members> {
    let mut reader = Reader { rest: text, quotes: Quotes::Escaped, is_certain: true };
    let members = reader.envelope()?;
    (reader.is_certain || all_retcodes_are(&members.retcode, text)).then_some(members)
}

/// Whether each retcode in the text has this value, in whatever value or string it is.
fn all_retcodes_are(expected: &Value, text: &str) -> bool {
    text.match_indices("retcode").all(|(at, name)| {
        let rest = text[at + name.len()..].trim_start_matches(['\\', '"', '\'']);
        let mut reader = Reader { rest, quotes: Quotes::Escaped, is_certain: true };
        reader.skip_blanks();
        reader.eat(':').is_none() || reader.value(Place::InEnvelope, 0).as_ref() == Some(expected)
    })
}

impl Reader<'_> {
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
            if place == Place::Name && text.len() > MAX_NAME_BYTES {
                return None;
            }
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
        let (hex, rest) = self.rest.split_at_checked(digits)?;
        let is_hex = hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        let code = u32::from_str_radix(hex, 16).ok().filter(|_| is_hex)?;
        self.rest = rest;
        Some(code)
    }

    /// Reads a number, or a word or name without quotes.
    fn word(&mut self) -> Option<&str> {
        let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | '-' | '+' | '.');
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        (!word.is_empty()).then_some(word)
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
    fn is_at_end(self) -> bool {
        self.rest.trim_matches(|c| is_blank(c) || c == ';' || c == ')').is_empty()
    }

    /// Checks that a value is followed by a comma or by `close`, and consumes neither.
    fn end_of_value(&mut self, close: char) -> Option<()> {
        self.skip_blanks();
        let next = self.rest.chars().next()?;
        (next == ',' || next == close).then_some(())
    }

    fn skip_blanks_and_commas(&mut self) {
        self.skip_blanks();
        for _ in 0..MAX_RUN {
            if self.eat(',').is_some() {
                self.skip_blanks();
            }
        }
    }

    /// Skips white space and comments.
    fn skip_blanks(&mut self) {
        for _ in 0..MAX_RUN {
            self.rest = self.rest.trim_start_matches(is_blank);
            let end = match self.rest.as_bytes() {
                [b'/', b'/', ..] => "\n",
                [b'/', b'*', ..] => "*/",
                _ => return,
            };
            let mut ends = (0..=MAX_COMMENT_BYTES.min(self.rest.len())).rev();
            let near = ends.find(|at| self.rest.is_char_boundary(*at)).unwrap_or_default();
            let Some(at) = self.rest[..near].find(end) else { return };
            self.rest = &self.rest[at + end.len()..];
        }
    }

    fn eat(&mut self, expected: char) -> Option<()> {
        self.rest = self.rest.strip_prefix(expected)?;
        Some(())
    }

    fn next(&mut self) -> Option<char> {
        let next = self.rest.chars().next()?;
        self.rest = &self.rest[next.len_utf8()..];
        Some(next)
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
