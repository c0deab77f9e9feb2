/// Whom a call is about, in the caller's words: bounded, and harmless in a log.
pub(super) struct About {
    pub(super) method: &'static str,
    pub(super) tenant_id: String,
    pub(super) agent_id: String,
}

/// `text` without control characters, which could forge log lines, and cut to `max` bytes.
pub(super) fn visible(text: &str, max: usize) -> String {
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
