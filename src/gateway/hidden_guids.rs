//! Takes Guids out of what a gateway says, since callers and logs get it.

use std::{borrow::Cow, ops::Range};

use crate::session::Guid;

/// The Guids of one exchange: that of the request, and the one that the answer brought.
#[derive(Clone, Copy)]
pub(super) struct Guids<'a>(pub(super) [Option<&'a Guid>; 2]);

/// Shorter ones are no secrets, and words of the gateway may contain them.
const LENGTH_MIN: usize = 8;
/// What follows the secret in the documented form (cec_05_4015). File names and ids of calls may be like the
/// secret itself.
const NODE: &str = ".agentgateway";
/// What comes before a Guid in the form of a cookie (cec_07_0005).
const COOKIE: &str = "jsessionid=";
/// The name of a Guid in JSON (cec_07_1225).
const MEMBER: &str = "guid";
const HIDDEN: &str = "…";

impl Guids<'_> {
    /// The text without the Guids of the exchange, and without others in a known form; `None` if it has none.
    pub(super) fn hidden_in(self, text: &str) -> Option<String> {
        let places = self.places(text);
        if places.is_empty() {
            return None;
        }
        let (mut hidden, mut end) = (String::new(), 0);
        for place in places {
            // One may be in several forms at once, such as the literal one in a cookie.
            if place.start >= end {
                hidden.push_str(text.get(end..place.start)?);
                hidden.push_str(HIDDEN);
            }
            end = end.max(place.end);
        }
        hidden.push_str(text.get(end..)?);
        Some(hidden)
    }

    /// Like [`Self::hidden_in`], for each string of a JSON text, however it is escaped. All else stays as it is.
    pub(super) fn hidden_in_json(self, json: &str) -> Option<String> {
        let (mut text, mut rest, mut name) = (String::new(), json, Cow::Borrowed(""));
        let mut is_hidden = false;
        while let Some((before, string, after)) = next_string(rest) {
            // Some strings cannot be read as text. A Guid has no need of such escapes.
            let plain = serde_json::from_str::<Text<'_>>(string);
            let plain = plain.map_or(Cow::Borrowed(string), |Text(plain)| plain);
            let is_name = after.trim_start().starts_with(':');
            let is_value = before.trim_end().ends_with(':');
            let found =
                if is_value && name.eq_ignore_ascii_case(MEMBER) && plain.len() >= LENGTH_MIN {
                    Some(HIDDEN.to_owned())
                } else {
                    self.hidden_in(&plain)
                };
            text.push_str(before);
            is_hidden |= found.is_some();
            match found {
                Some(found) => text.push_str(&serde_json::Value::String(found).to_string()),
                None => text.push_str(string),
            }
            name = if is_name { plain } else { Cow::Borrowed("") };
            rest = after;
        }
        text.push_str(rest);
        is_hidden.then_some(text)
    }

    /// Where the secret parts of Guids are, in their order. Looks at the text once for each form, since a
    /// gateway may send thousands of them.
    fn places(self, text: &str) -> Vec<Range<usize>> {
        if text.len() < LENGTH_MIN {
            return Vec::new();
        }
        let text = text.to_ascii_lowercase();
        let mut places = Vec::new();
        for secret in self.0.into_iter().flatten().filter_map(secret) {
            places.extend(text.match_indices(&secret).map(|(at, _)| at..at + secret.len()));
        }
        places.extend(text.match_indices(NODE).filter_map(|(end, _)| {
            let of_secret = |c: char| c.is_ascii_hexdigit() || c == '-';
            Some(text.get(..end)?.trim_end_matches(of_secret).len()..end)
        }));
        places.extend(text.match_indices(COOKIE).filter_map(|(at, _)| {
            let start = at + COOKIE.len();
            let value = text.get(start..)?;
            let of_guid = |c: char| c.is_ascii_graphic() && !"=;,\"'".contains(c);
            Some(start..start + value.find(|c| !of_guid(c)).unwrap_or(value.len()))
        }));
        places.retain(|place| place.len() >= LENGTH_MIN);
        places.sort_unstable_by_key(|place| place.start);
        places
    }
}

#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The part of a Guid that nobody may know, in lower case: what is before the name of its node.
fn secret(guid: &Guid) -> Option<String> {
    let whole = guid.header().to_str().ok()?;
    let node = guid.node().map_or(0, |node| node.len() + 1);
    whole.get(..whole.len() - node).map(str::to_ascii_lowercase)
}

/// What comes before the next string of a JSON text, the string with its quotes, and what follows it.
fn next_string(json: &str) -> Option<(&str, &str, &str)> {
    let start = json.find('"')?;
    let mut is_escaped = false;
    let length = json.get(start + 1..)?.bytes().position(|byte| {
        let is_end = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_end
    })?;
    let end = start + length + 2;
    Some((json.get(..start)?, json.get(start..end)?, json.get(end..)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SAMPLE: &str = "279fe21d-2caa-4437-84c3-ab9e9dae20f5";

    fn guid(text: &str) -> Guid {
        Guid::parse(text).expect("a Guid")
    }

    #[test]
    fn the_guids_of_an_exchange_are_hidden_whatever_their_form() {
        let new = guid("another-canary");
        for odd in ["Q0FOQVJZ/+a", "canary.session.7", "12345678", SAMPLE] {
            let own = guid(&format!("{odd}.N1"));
            let guids = Guids([Some(&own), Some(&new)]);
            for text in [format!("no {odd}!"), format!("no {}.N1", odd.to_uppercase())] {
                let hidden = guids.hidden_in(&text).expect("it has one");
                assert!(hidden.starts_with("no …"), "{hidden}");
            }
            for all in [odd, "another-canary"] {
                assert_eq!(guids.hidden_in(all).as_deref(), Some("…"), "{all}");
            }
        }
        let short = guid("canary.N1");
        assert_eq!(Guids([Some(&short), None]).hidden_in("no canary.N1"), None);
    }

    #[test]
    fn others_are_hidden_by_their_known_forms_and_nothing_else_is() {
        let guids = Guids([None, None]);
        for (text, expected) in [
            (format!("{SAMPLE}.AgentGateway1 is bad"), Some("….AgentGateway1 is bad")),
            (format!("a JSESSIONID={SAMPLE}; b"), Some("a JSESSIONID=…; b")),
            (
                format!("JSESSIONID={SAMPLE}.AgentGateway1 {SAMPLE}.AgentGateway2"),
                Some("JSESSIONID=… ….AgentGateway2"),
            ),
            (format!("{SAMPLE}.wav"), None),
            ("20240101120000-1478661212-000123".into(), None),
            ("JSESSIONID=; Path=/".into(), None),
            ("ä".repeat(20), None),
        ] {
            assert_eq!(guids.hidden_in(&text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn json_stays_as_it_is_except_for_strings_with_guids() {
        let own = guid("canary/session\\7.N1");
        let guids = Guids([Some(&own), None]);
        let json = r#"{ "a" : [1e999, "x\u0041", "c\u0061nary\/session\\7.N1"],"b":"\ud800","n":12345678901234567890123 }"#;
        let hidden = guids.hidden_in_json(json).expect("it has one");
        let expected =
            r#"{ "a" : [1e999, "x\u0041", "….N1"],"b":"\ud800","n":12345678901234567890123 }"#;
        assert_eq!(hidden, expected);
        assert_eq!(guids.hidden_in_json(&hidden), None);
        let named = r#"{"Guid" : "any-secret", "x": "any-secret", "guid": 7}"#;
        let expected = r#"{"Guid" : "…", "x": "any-secret", "guid": 7}"#;
        assert_eq!(guids.hidden_in_json(named).as_deref(), Some(expected));
        let two = r#"["c:\\", "say \"canary/session\\7\" twice", "canary/session\\7"]"#;
        let expected = r#"["c:\\", "say \"…\" twice", "…"]"#;
        assert_eq!(guids.hidden_in_json(two).as_deref(), Some(expected));
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "\\PC*", json in "[\\\\\"a-f:{}. -]{0,60}") {
            let own = guid("canary-session");
            let guids = Guids([Some(&own), Some(&own)]);
            let hidden = guids.hidden_in(&format!("{text}CANARY-session{text}")).expect("it has one");
            prop_assert!(!hidden.to_lowercase().contains("canary-session"));
            let _hidden = guids.hidden_in_json(&json);
        }
    }
}
