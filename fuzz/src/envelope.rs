use std::fmt;

use ccgateway_bridge::{
    gateway::{Envelope, Unreadable},
    retcode::Retcode,
};
use encoding_rs::{Encoding, UTF_8};
use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::{Value, value::RawValue};

/// What heads have named, and some that decode in odd ways.
const CHARSETS: &[Option<&str>] = &[
    None,
    Some("utf-8"),
    Some("GBK"),
    Some("gb18030"),
    Some("big5"),
    Some("iso-8859-1"),
    Some("shift_jis"),
    Some("iso-2022-jp"),
    Some("utf-16le"),
    Some("utf-16be"),
    Some("iso-2022-kr"),
    Some("klingon"),
];

/// A gateway's answer: the first byte names the charset, the others are the body.
///
/// A second reading, made for this, decides what the envelope must say: above all, "0" only where
/// the body's one retcode is the text "0" or the number 0.
pub fn envelope(data: &[u8]) {
    let Some((choice, body)) = data.split_first() else { return };
    let charset = CHARSETS[usize::from(*choice) % CHARSETS.len()];
    let encoding = charset.and_then(|name| Encoding::for_label(name.as_bytes()));
    let (text, ..) = encoding.unwrap_or(UTF_8).decode(body);

    let expected = json_retcode(&text);
    match Envelope::read(body, charset) {
        Ok(envelope) => {
            // What is no success is taken as `Retcode` takes it.
            match expected {
                Expected::Read(retcode) => {
                    assert_eq!(envelope.refused, Retcode::refusal(&retcode), "{text}");
                }
                Expected::Unreadable => panic!("{:?} is read from {text}", envelope.refused),
                // Servers write such things. The name may be written with escapes.
                Expected::NotJson => {
                    assert!(text.contains("retcode") || text.contains('\\'), "{text}");
                }
            }
            for json in [&envelope.result, &envelope.event].into_iter().flatten() {
                let raw = serde_json::from_str::<&RawValue>(json);
                assert!(raw.is_ok_and(|raw| raw.get() != "null"), "{json}");
            }
        }
        Err(unreadable) => {
            assert!(!matches!(expected, Expected::Read(_)), "{unreadable}: {text}");
            let blank = text.bytes().all(|b| b.is_ascii_whitespace());
            assert_eq!(unreadable == Unreadable::Empty, blank, "{text}");
            let sentence = unreadable.to_string();
            assert!(sentence.len() < 512, "a status message is cut there: {sentence}");
        }
    }
}

/// What an envelope must be read as.
enum Expected {
    /// This retcode.
    Read(Box<str>),
    /// It is a JSON object without a retcode, or with two different ones.
    Unreadable,
    /// It may be what a lenient reader takes.
    NotJson,
}

fn json_retcode(text: &str) -> Expected {
    let mut json = serde_json::Deserializer::from_str(text.trim_ascii());
    let Ok(pairs) = json.deserialize_map(Pairs) else { return Expected::NotJson };
    if json.end().is_err() {
        return Expected::NotJson;
    }
    let retcodes = pairs.iter().filter(|(name, _)| name == "retcode").map(|(_, raw)| raw.get());
    let mut retcodes = retcodes.map(retcode);
    match retcodes.next() {
        Some(Some(first)) if retcodes.all(|other| other.as_ref() == Some(&first)) => {
            Expected::Read(first.1)
        }
        _ => Expected::Unreadable,
    }
}

/// A retcode, and the value that it is written as.
fn retcode(raw: &str) -> Option<(Value, Box<str>)> {
    let value = serde_json::from_str(raw).ok()?;
    let retcode = match &value {
        Value::String(text) => Some(text.trim()).filter(|text| !text.is_empty()).map(Into::into),
        // JSON has a negative zero, which is a float to serde_json.
        Value::Number(_) if raw == "-0" => return Some((0.into(), "0".into())),
        Value::Number(number) => number.as_i64().map(|whole| whole.to_string().into()),
        _ => None,
    };
    Some((value, retcode?))
}

struct Pairs;

impl<'de> Visitor<'de> for Pairs {
    type Value = Vec<(String, Box<RawValue>)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(pairs)
    }
}
