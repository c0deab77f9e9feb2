/// Which method, tenant and agent a call is about. The ids are the caller's, with a limited length
/// and no control characters.
#[derive(Default)]
pub(super) struct About {
    pub(super) method: &'static str,
    pub(super) tenant_id: String,
    pub(super) agent_id: String,
}

/// `text` cut to `max` bytes. Control characters are replaced, since they could forge log lines.
pub(super) fn visible(text: &str, max: usize) -> String {
    // As nearly every id is.
    if text.len() <= max && text.bytes().all(|b| matches!(b, b' '..=b'~')) {
        return text.to_owned();
    }
    let mut visible = String::with_capacity(text.len().min(max));
    for c in text.chars() {
        let c = if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
        if visible.len() + c.len_utf8() > max {
            break;
        }
        visible.push(c);
    }
    visible
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_visible_text_is_short_and_has_no_control_characters() {
        for (text, max, expected) in [
            ("", 0, ""),
            ("1001", 4, "1001"),
            ("10012", 4, "1001"),
            ("a b~", 9, "a b~"),
            ("a\n\u{7f}\u{85}", 10, "a\u{fffd}\u{fffd}\u{fffd}"),
            ("a\n", 3, "a"),
            ("ää", 3, "ä"),
        ] {
            assert_eq!(visible(text, max), expected, "{text:?}");
        }
    }
}
