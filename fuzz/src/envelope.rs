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

    let expected = only_retcode(&text);
    match Envelope::read(body, charset) {
        Ok(envelope) => {
            // What is no success is taken as `Retcode` takes it.
            let expected = expected.expect("a retcode");
            assert_eq!(envelope.refused, Retcode::refusal(&expected), "{text}");
            let result = envelope.result.as_deref().map(serde_json::from_str::<&RawValue>);
            assert!(result.is_none_or(|json| json.is_ok_and(|json| json.get() != "null")));
        }
        Err(unreadable) => {
            assert_eq!(expected, None, "{unreadable}: {text}");
            let blank = text.bytes().all(|b| b.is_ascii_whitespace());
            assert_eq!(unreadable == Unreadable::Empty, blank, "{text}");
            let sentence = unreadable.to_string();
            assert!(sentence.len() < 512, "a status message is cut there: {sentence}");
        }
    }
}

/// The retcode of a JSON object that has exactly one, and none of the known keys twice.
fn only_retcode(text: &str) -> Option<Box<str>> {
    let mut json = serde_json::Deserializer::from_str(text.trim_ascii());
    let pairs = json.deserialize_map(Pairs).ok()?;
    json.end().ok()?;
    let once = |key| pairs.iter().filter(|(name, _)| name == key).count() <= 1;
    if !["retcode", "message", "result", "event"].into_iter().all(once) {
        return None;
    }
    let (_, raw) = pairs.iter().find(|(name, _)| name == "retcode")?;
    match serde_json::from_str(raw.get()).ok()? {
        Value::String(text) => Some(text.trim().into()).filter(|text: &Box<str>| !text.is_empty()),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => Some(whole.to_string().into()),
            // JSON has a negative zero, which is a float to serde_json.
            None => (raw.get() == "-0").then(|| "0".into()),
        },
        _ => None,
    }
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
