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
