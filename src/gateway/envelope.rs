//! The JSON envelope of every answer (API.md 1.1). Accepts every form that real gateways write, but
//! never guesses what it means. Without a readable retcode there is no envelope.

mod lenient;

use std::{borrow::Cow, fmt};

use encoding_rs::{Encoding, UTF_8};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use self::lenient::Members;
use crate::{retcode::Retcode, session::without_guids};

/// The longest text of a gateway, in bytes, where many are kept or sent together.
pub const SHORT_MAX: usize = 2 * 1024;

/// The content of an answer.
#[derive(Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The retcode. `None` for "0", which means that the gateway has accepted the request.
    pub refused: Option<Retcode>,
    /// The gateway's text without Guids. Empty if it sent none.
    pub message: String,
    /// `result` as JSON text. `None` if the gateway sent none, or null.
    pub result: Option<Box<str>>,
    /// `event` as JSON text. Only answers to polls have one.
    pub event: Option<Box<str>>,
}

/// Why an answer has no readable envelope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Longer than any answer of a gateway.
    #[error("it is longer than {limit} bytes")]
    TooLong {
        /// The limit in bytes.
        limit: usize,
    },
    /// The answer is compressed in a way that the bridge cannot undo. It asks for no compression.
    #[error("it has a content encoding that cannot be undone")]
    Encoded,
    /// The body is empty.
    #[error("it is empty")]
    Empty,
    /// The body begins like a web page.
    #[error(
        "it is a web page, not JSON; a load balancer or login page may be in front of the gateway"
    )]
    WebPage,
    /// Not a JSON object, or one that is incomplete or followed by something else.
    #[error("it is not a JSON object (line {line}, column {column})")]
    NotAnObject {
        /// The line at which reading failed.
        line: usize,
        /// The column at which reading failed.
        column: usize,
    },
    /// No retcode, or one that is neither a text nor an integer.
    #[error("it has no readable retcode")]
    NoRetcode,
}

/// An envelope as nearly every gateway writes it, which is read in one go.
#[derive(Deserialize)]
struct Plain<'a> {
    #[serde(borrow)]
    retcode: Text<'a>,
    #[serde(borrow, default)]
    message: Option<Text<'a>>,
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
    #[serde(borrow, default)]
    event: Option<&'a RawValue>,
}

/// Any envelope that is valid JSON.
#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow, default)]
    retcode: Option<&'a RawValue>,
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
    #[serde(borrow, default)]
    event: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// `result` may have a Guid.
impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { refused, message, .. } = self;
        let mut envelope = f.debug_struct("Envelope");
        envelope.field("refused", refused).field("message", message).finish_non_exhaustive()
    }
}

impl Envelope {
    /// Reads an answer's body in the charset that its headers name. Uses UTF-8 if they name none,
    /// or an unknown one.
    pub fn read(body: &[u8], charset: Option<&str>) -> Result<Self, Unreadable> {
        let other = charset.filter(|name| !name.eq_ignore_ascii_case("utf-8"));
        let encoding = other.and_then(|name| Encoding::for_label(name.as_bytes()));
        // A byte order mark takes precedence over the headers. What cannot be decoded is replaced:
        // an unreadable message must not hide a readable retcode.
        let (text, _encoding, _replaced) = encoding.unwrap_or(UTF_8).decode(body);
        let text = text.trim_ascii();
        if text.is_empty() {
            return Err(Unreadable::Empty);
        }
        if text.starts_with('<') {
            return Err(Unreadable::WebPage);
        }
        if !text.starts_with('{') {
            return Err(Unreadable::NotAnObject { line: 1, column: 1 });
        }
        if let Ok(plain) = serde_json::from_str::<Plain<'_>>(text) {
            return plain.try_into();
        }
        match serde_json::from_str::<Wire<'_>>(text) {
            Ok(wire) => wire.try_into(),
            Err(error) => {
                let (line, column) = (error.line(), error.column());
                let members = lenient::members(text);
                members.ok_or(Unreadable::NotAnObject { line, column })?.try_into()
            }
        }
    }

    /// Cuts a message, and leaves out a result, of more than [`SHORT_MAX`]; leaves out the event.
    pub fn shorten(&mut self) {
        shorten(&mut self.message);
        self.result.take_if(|result| result.len() > SHORT_MAX);
        self.event = None;
    }
}

/// As much of a text as fits into [`SHORT_MAX`]. JSON has six bytes for a control character, so it counts as many:
/// stores take only records of a limited length, and a change whose record is left out could be made twice.
pub fn short(text: &str) -> &str {
    if text.len() <= SHORT_MAX / 6 {
        return text;
    }
    let mut length = 0;
    let is_too_much = |c: char| {
        length += if c.is_ascii_control() { 6 } else { c.len_utf8() };
        length > SHORT_MAX
    };
    text.split_once(is_too_much).map_or(text, |(short, _)| short)
}

/// Cuts a text to the part of it that [`short`] returns.
pub fn shorten(text: &mut String) {
    let short = short(text);
    if short.len() < text.len() {
        // Another one, since the memory of this one would stay as large as it is.
        *text = short.to_owned();
    }
}

impl TryFrom<Plain<'_>> for Envelope {
    type Error = Unreadable;

    fn try_from(plain: Plain<'_>) -> Result<Self, Unreadable> {
        let message = plain.message.map(|text| text.0.into_owned());
        Ok(Self {
            refused: named(&plain.retcode.0)?,
            message: message.map(redacted).unwrap_or_default(),
            result: plain.result.and_then(present),
            event: plain.event.and_then(present),
        })
    }
}

impl TryFrom<Wire<'_>> for Envelope {
    type Error = Unreadable;

    fn try_from(wire: Wire<'_>) -> Result<Self, Unreadable> {
        Ok(Self {
            refused: wire.retcode.ok_or(Unreadable::NoRetcode).and_then(refused)?,
            message: wire.message.and_then(message).map(redacted).unwrap_or_default(),
            result: wire.result.and_then(present),
            event: wire.event.and_then(present),
        })
    }
}

impl TryFrom<Members> for Envelope {
    type Error = Unreadable;

    fn try_from(Members { retcode, message, result, event }: Members) -> Result<Self, Unreadable> {
        let present = |value: Value| (!value.is_null()).then(|| value.to_string().into());
        let message = match message {
            Value::String(text) => text,
            Value::Null => String::new(),
            other => other.to_string(),
        };
        Ok(Self {
            refused: match &retcode {
                Value::String(text) => named(text),
                Value::Number(number) => number.as_i64().ok_or(Unreadable::NoRetcode).map(numbered),
                _ => Err(Unreadable::NoRetcode),
            }?,
            message: redacted(message),
            result: present(result),
            event: present(event),
        })
    }
}

/// Reads a retcode that is a text (documented) or an integer (some clients expect one). Rejects
/// `false`, `null` and objects, since guessing could turn a failure into a success. `None` stands
/// for "0".
fn refused(raw: &RawValue) -> Result<Option<Retcode>, Unreadable> {
    let raw = raw.get();
    if raw.starts_with('"') {
        let text = serde_json::from_str::<Text<'_>>(raw).map_err(|_| Unreadable::NoRetcode)?;
        return named(&text.0);
    }
    raw.parse::<i64>().map(numbered).map_err(|_| Unreadable::NoRetcode)
}

fn named(text: &str) -> Result<Option<Retcode>, Unreadable> {
    if text.trim().is_empty() { Err(Unreadable::NoRetcode) } else { Ok(Retcode::refusal(text)) }
}

fn numbered(number: i64) -> Option<Retcode> {
    if number == 0 { None } else { Retcode::refusal(&number.to_string()) }
}

fn message(raw: &RawValue) -> Option<String> {
    match raw.get() {
        "null" => None,
        text if text.starts_with('"') => {
            serde_json::from_str::<Text<'_>>(text).ok().map(|text| text.0.into_owned())
        }
        other => Some(other.to_owned()),
    }
}

/// Removes Guids, since callers and logs get the text.
fn redacted(message: String) -> String {
    match without_guids(&message) {
        Cow::Borrowed(_) => message,
        Cow::Owned(redacted) => redacted,
    }
}

fn present(raw: &RawValue) -> Option<Box<str>> {
    (raw.get() != "null").then(|| raw.get().into())
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;
    use crate::retcode::ACCEPTED;

    /// The retcode as the gateway spelled it.
    fn retcode(envelope: &Envelope) -> &str {
        envelope.refused.as_ref().map_or(ACCEPTED, Retcode::as_str)
    }

    #[track_caller]
    fn check(body: &str, expected: &Result<(&str, &str, Option<&str>), Unreadable>) {
        let read = Envelope::read(body.as_bytes(), None);
        let read = read.as_ref().map(|e| (retcode(e), e.message.as_str(), e.result.as_deref()));
        assert_eq!(read, expected.as_ref().map(|triple| *triple), "{body}");
    }

    #[test]
    fn envelopes_are_read_in_every_form_seen() {
        let empty = Some("{}");
        check(r#"{"result":{},"message":"success","retcode":"0"}"#, &Ok(("0", "success", empty)));
        check(r#"{"message":"","retcode":"0"}"#, &Ok(("0", "", None)));
        check(r#"{"retcode":0,"message":null,"result":null}"#, &Ok(("0", "", None)));
        check(r#"{"retcode":"0","result":""}"#, &Ok(("0", "", Some("\"\""))));
        check(r#"{"retcode":"0","result":[]}"#, &Ok(("0", "", Some("[]"))));
        check(r#" {"retcode":" 100-006 ","x":[{}]} "#, &Ok(("100-006", "", None)));
        check("\u{feff}{\"retcode\":\"0\"}", &Ok(("0", "", None)));
        check(r#"{"retcode":-3,"message":7}"#, &Ok(("-3", "7", None)));
        check(r#"{"retcode":"\u0030"}"#, &Ok(("0", "", None)));
    }

    #[test]
    fn what_has_no_readable_retcode_is_no_envelope() {
        use Unreadable::{Empty, NoRetcode, NotAnObject, WebPage};
        for retcode in ["null", "false", "true", "{}", "[\"0\"]", "0.0", "\"\"", "\" \"", "1e0"] {
            check(&format!(r#"{{"retcode":{retcode}}}"#), &Err(NoRetcode));
        }
        check("{}", &Err(NoRetcode));
        check("", &Err(Empty));
        check(" \r\n", &Err(Empty));
        check("<html>0</html>", &Err(WebPage));
        check("OK", &Err(NotAnObject { line: 1, column: 1 }));
        check("[1,2]", &Err(NotAnObject { line: 1, column: 1 }));
        check(r#"{"retcode":"0"#, &Err(NotAnObject { line: 1, column: 13 }));
        check(r#"{"retcode":"0"} x"#, &Err(NotAnObject { line: 1, column: 17 }));
        check(r#"{"retcode":"1","retcode":"0"}"#, &Err(NotAnObject { line: 1, column: 24 }));
    }

    #[test]
    fn an_ordinary_answer_is_read_in_one_go() {
        for ordinary in [
            r#"{"message":"success","retcode":"0"}"#,
            r#"{ "retcode" : "100-006", "message" : null, "result" : {} }"#,
            r#"{"event":{"a":[1]},"x":1,"retcode":"\u0030"}"#,
        ] {
            assert!(serde_json::from_str::<Plain<'_>>(ordinary).is_ok(), "{ordinary}");
        }
    }

    #[test]
    fn other_charsets_are_read_where_the_head_names_them() {
        let (gbk, _, _) = encoding_rs::GBK.encode(r#"{"retcode":"100-009","message":"坐席忙"}"#);
        let read = |charset| Envelope::read(&gbk, charset).unwrap();
        assert_eq!(read(Some("GBK")).message, "坐席忙");
        for unnamed in [None, Some("utf-8"), Some("klingon")] {
            let envelope = read(unnamed);
            assert_eq!(retcode(&envelope), "100-009");
            assert!(envelope.message.contains('\u{fffd}'), "{}", envelope.message);
        }
    }

    #[test]
    fn a_new_guid_in_an_answer_is_not_printed() {
        let body = r#"{"retcode":"0","message":"ok","result":{"guid":"canary.AgentGateway1"}}"#;
        let envelope = Envelope::read(body.as_bytes(), None).unwrap();
        let shown = format!("{envelope:?}");
        assert!(shown.contains("ok") && !shown.contains("canary"), "{shown}");
    }

    #[test]
    fn what_is_kept_of_many_answers_is_short() {
        for (length, is_kept) in [(SHORT_MAX, true), (SHORT_MAX + 1, false)] {
            let mut envelope = Envelope {
                refused: None,
                message: "m".repeat(length),
                result: Some("r".repeat(length).into()),
                event: Some("{}".into()),
            };
            envelope.shorten();
            assert_eq!(envelope.message, "m".repeat(SHORT_MAX));
            assert_eq!(envelope.message.capacity(), SHORT_MAX);
            assert_eq!(envelope.result.is_some(), is_kept, "{length}");
            assert_eq!(envelope.event, None);
        }
        for (character, bytes) in [("\n", 6), ("ä", 2), ("\u{1f600}", 4)] {
            let most = SHORT_MAX / bytes;
            for (length, kept) in [(most - 1, most - 1), (most, most), (most + 1, most)] {
                let text = character.repeat(length);
                assert_eq!(short(&text), character.repeat(kept), "{length}");
            }
        }
    }

    fn member() -> impl Strategy<Value = String> {
        let names = select(vec!["retcode", "retcode", "message", "result", "event", "x"]);
        let values = select(vec![
            r#""0""#,
            r#"" 1""#,
            r#""""#,
            r#""\u0030\n\ud800""#,
            r#""\u00e4 ä""#,
            "null",
            "0",
            "-0",
            "false",
            "{}",
            r#"[null, {"retcode":"1"}]"#,
        ]);
        (names, values).prop_map(|(name, value)| format!(r#""{name}":{value}"#))
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(body: Vec<u8>, charset in "[a-zA-Z0-9-]{0,12}") {
            let _read = Envelope::read(&body, None);
            let _read = Envelope::read(&body, Some(&charset));
        }

        #[test]
        fn what_is_read_in_one_go_is_no_other_envelope(members in vec(member(), 0..5)) {
            let body = format!("{{{}}}", members.join(","));
            let wire = || serde_json::from_str::<Wire<'_>>(&body).unwrap();
            if let Ok(plain) = serde_json::from_str::<Plain<'_>>(&body) {
                prop_assert_eq!(Envelope::try_from(plain), Envelope::try_from(wire()));
            }
        }

        #[test]
        fn success_is_never_read_into_another_retcode(code in "\\PC{1,12}") {
            let body = serde_json::json!({ "retcode": code, "message": "0", "result": "0" });
            if let Ok(envelope) = Envelope::read(body.to_string().as_bytes(), None) {
                prop_assert_eq!(retcode(&envelope), code.trim());
            }
        }
    }
}
