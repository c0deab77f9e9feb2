use ccgateway_bridge::event::read;
use serde_json::Value;

/// The `event` of a poll: what is read has a type that a plain reading finds, and no more bytes
/// than came.
pub fn event(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let events = read(text);
    if events.is_empty() {
        return;
    }
    // A content that is too deep for a plain reading is passed on unread.
    let Ok(json) = serde_json::from_str::<Value>(text) else { return };
    let items = json.as_array().map_or_else(|| vec![&json], |array| array.iter().collect());
    assert!(events.len() <= items.len());
    for event in &events {
        assert!((1..=128).contains(&event.kind.len()));
        assert!(!event.kind.contains(char::is_control), "it goes into logs");
        let known = |item: &&Value| match &item["eventType"] {
            Value::String(kind) => kind.trim() == &*event.kind,
            other => *event.kind == *other.to_string() || other.as_f64() == Some(0.0),
        };
        assert!(items.iter().any(known), "{text}");
    }
}
