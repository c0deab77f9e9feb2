//! Rust's tokens, as far as telling names, texts and brackets apart needs them.

use std::{iter::Peekable, str::Chars};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Word(String),
    /// A text between quotes, with its escapes.
    Text(String),
    Number,
    Mark(char),
}

/// Reads on in a file.
struct Reader<'a>(Peekable<Chars<'a>>);

/// All of a file, without comments.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    let mut reader = Reader(text.chars().peekable());
    let mut tokens = Vec::new();
    while let Some(first) = reader.0.next() {
        tokens.extend(reader.token(first));
    }
    tokens
}

impl Reader<'_> {
    /// The token that begins so; none for a space, a comment, or the quote of a lifetime.
    fn token(&mut self, first: char) -> Option<Token> {
        match first {
            '/' if self.0.peek() == Some(&'/') => {
                self.skip_to('\n');
                None
            }
            '"' => Some(self.text()),
            '\'' => self.quote(),
            _ if first.is_whitespace() => None,
            _ if first.is_ascii_digit() => {
                self.word(first);
                Some(Token::Number)
            }
            _ if first.is_alphanumeric() || first == '_' => Some(self.word_or_text(first)),
            _ => Some(Token::Mark(first)),
        }
    }

    fn skip_to(&mut self, end: char) {
        for one in self.0.by_ref() {
            if one == end {
                break;
            }
        }
    }

    fn word(&mut self, first: char) -> String {
        let mut word = String::from(first);
        while let Some(next) = self.0.next_if(|next| next.is_alphanumeric() || *next == '_') {
            word.push(next);
        }
        word
    }

    /// `r` and its like before a quote are a part of the text.
    fn word_or_text(&mut self, first: char) -> Token {
        let word = self.word(first);
        match (word.as_str(), self.0.peek()) {
            ("b" | "c", Some('"')) => {
                self.0.next();
                self.text()
            }
            ("b", Some('\'')) => {
                self.0.next();
                self.quote();
                Token::Number
            }
            ("r" | "br" | "cr", Some('"' | '#')) => self.raw_text(),
            _ => Token::Word(word),
        }
    }

    fn text(&mut self) -> Token {
        let mut text = String::new();
        while let Some(one) = self.0.next() {
            match one {
                '"' => break,
                '\\' => text.extend([one].into_iter().chain(self.0.next())),
                _ => text.push(one),
            }
        }
        Token::Text(text)
    }

    /// From the first `#` or quote behind an `r`.
    fn raw_text(&mut self) -> Token {
        let mut end = String::from('"');
        while self.0.next_if_eq(&'#').is_some() {
            end.push('#');
        }
        if self.0.next_if_eq(&'"').is_none() {
            // `r#type` is a word.
            return Token::Word(String::new());
        }
        let mut text = String::new();
        while !text.ends_with(&end) {
            let Some(next) = self.0.next() else { break };
            text.push(next);
        }
        Token::Text(text.trim_end_matches(&end).to_owned())
    }

    /// A character between quotes is a value; a quote before a lifetime is nothing to look at.
    fn quote(&mut self) -> Option<Token> {
        if self.0.next_if_eq(&'\\').is_some() {
            self.0.next();
            self.skip_to('\'');
            return Some(Token::Number);
        }
        let mut ahead = self.0.clone();
        if ahead.nth(1) == Some('\'') {
            self.0 = ahead;
            return Some(Token::Number);
        }
        None
    }
}

#[test]
fn tokens_are_told_apart() {
    let words = |text: &str| -> Vec<String> {
        let word = |token| match token {
            Token::Word(word) => Some(word),
            Token::Text(text) => Some(format!("\"{text}\"")),
            _ => None,
        };
        tokens(text).into_iter().filter_map(word).collect()
    };
    for (text, expected) in [
        ("a.b = c // d \"e\n f", vec!["a", "b", "c", "f"]),
        (r#""a, \" b" c"#, vec![r#""a, \" b""#, "c"]),
        ("r\"a\" b\"c\" br#\"d\"e\"# f", vec!["\"a\"", "\"c\"", "\"d\"e\"", "f"]),
        (r"'\'' a '\u{1b}' b '(' c b'\\' d", vec!["a", "b", "c", "d"]),
        (
            "fn a<'b>(c: &'static d) { 1_000u64 0x1f 1.5e3 }",
            vec!["fn", "a", "b", "c", "static", "d"],
        ),
    ] {
        assert_eq!(words(text), expected, "{text}");
    }
    assert_eq!(tokens("('(')"), [Token::Mark('('), Token::Number, Token::Mark(')')]);
}
