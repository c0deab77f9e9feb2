//! What a call is about, as its caller has named it.

use std::fmt;

/// Which method, tenant and agent a call is about. The ids are the caller's, with a limited length
/// and nothing that changes how a line is read.
#[derive(Default)]
pub(super) struct About {
    pub(super) method: &'static str,
    pub(super) tenant_id: String,
    pub(super) agent_id: String,
}

/// A request that names a tenant and an agent. Its `Debug` shows no secret.
pub(super) trait Addressed: fmt::Debug {
    fn tenant_id(&self) -> &str;
    fn agent_id(&self) -> &str;
}

macro_rules! addressed {
    ($($request:ident),+) => {$(
        impl Addressed for super::proto::$request {
            fn tenant_id(&self) -> &str {
                &self.tenant_id
            }

            fn agent_id(&self) -> &str {
                &self.agent_id
            }
        }
    )+};
}

addressed!(
    GetStateChangeRequest,
    GetStateRequest,
    RegisterSessionRequest,
    SignInRequest,
    SignOutRequest,
    GetSessionRequest
);

impl Addressed for super::proto::WatchEventsRequest {
    fn tenant_id(&self) -> &str {
        &self.tenant_id
    }

    /// The agent's id if the request names just one.
    fn agent_id(&self) -> &str {
        if let [agent_id] = &*self.agent_ids { agent_id } else { "" }
    }
}

/// The longest id in logs and details, in bytes.
pub(super) const ID_MAX: usize = 64;

/// `text` cut to `max` bytes. Control characters are replaced, since they could forge log lines, and so are those
/// that begin a line or let what follows be read backwards.
pub(super) fn visible(text: &str, max: usize) -> String {
    // As nearly every id is.
    if text.len() <= max && text.bytes().all(|b| matches!(b, b' '..=b'~')) {
        return text.to_owned();
    }
    let mut visible = String::with_capacity(text.len().min(max));
    for c in text.chars() {
        let c = if c.is_control() || misleads(c) { char::REPLACEMENT_CHARACTER } else { c };
        if visible.len() + c.len_utf8() > max {
            break;
        }
        visible.push(c);
    }
    visible
}

/// Whether a character is not seen, and changes where others are seen: an end of a line or of a paragraph, or a mark for
/// the direction of writing (Unicode, annex 9).
fn misleads(c: char) -> bool {
    let marks = ['\u{61c}', '\u{200e}', '\u{200f}'];
    let ranges = ['\u{2028}'..='\u{202e}', '\u{2066}'..='\u{2069}'];
    marks.contains(&c) || ranges.iter().any(|range| range.contains(&c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_visible_text_is_short_and_is_read_as_it_is_written() {
        for (text, max, expected) in [
            ("", 0, ""),
            ("1001", 4, "1001"),
            ("10012", 4, "1001"),
            ("a b~", 9, "a b~"),
            ("a\n\u{7f}\u{85}", 10, "a\u{fffd}\u{fffd}\u{fffd}"),
            ("a\n", 3, "a"),
            ("a\u{2028}b", 9, "a\u{fffd}b"),
            ("\u{202e}1001\u{2066}", 10, "\u{fffd}1001\u{fffd}"),
            // Persian is not written without this one.
            ("\u{646}\u{6cc}\u{200c}\u{6a9}", 9, "\u{646}\u{6cc}\u{200c}\u{6a9}"),
            ("ää", 3, "ä"),
        ] {
            assert_eq!(visible(text, max), expected, "{text:?}");
        }
    }
}
