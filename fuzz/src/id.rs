use std::ops::RangeInclusive;

use ccgateway_bridge::id::{AgentId, DEFAULT_AGENT_IDS, InvalidAgentId, TenantId};

const RANGES: &[RangeInclusive<u32>] =
    &[DEFAULT_AGENT_IDS, 101..=999_999, 0..=u32::MAX, 7..=7, 1_000_000_000..=u32::MAX];

/// An agent id of a request: the first byte chooses the tenant's range.
pub fn agent_id(data: &[u8]) {
    let Some((choice, text)) = data.split_first() else { return };
    let Ok(text) = str::from_utf8(text) else { return };
    let range = &RANGES[usize::from(*choice) % RANGES.len()];

    // Of one to nine digits, only the shortest spelling of a number prints as it was.
    let number = text.parse::<u32>().ok().filter(|n| n.to_string() == text && text.len() <= 9);
    let expected = number.filter(|n| *n != 0 && range.contains(n));
    let parsed = AgentId::parse(text, range);
    assert_eq!(parsed.as_ref().ok().map(|id| id.get()), expected, "{text:?}");
    match parsed {
        Ok(id) => assert_eq!(id.to_string(), text, "it goes into the gateway's path"),
        Err(error) => {
            assert_eq!(matches!(error, InvalidAgentId::Missing(_)), text.is_empty());
            assert!(error.to_string().len() < 128, "whatever was sent");
        }
    }
}

/// A tenant id of a request.
pub fn tenant_id(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let Ok(id) = TenantId::parse(text) else { return };

    assert_eq!(id.as_str(), text);
    assert!((1..=63).contains(&text.len()));
    let label = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '-' | '_' | '.');
    assert!(text.chars().all(label) && !text.starts_with(['-', '_', '.']));
}
