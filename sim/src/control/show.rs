//! The JSON that the control endpoint answers with. People paste it elsewhere, so Guids are shortened,
//! and passwords and service tokens are left out.

use serde_json::{Value, json};

use crate::{AgentView, Answer, Entry};

/// How many characters of a Guid are shown; enough to tell two Guids apart.
const SHOWN: usize = 8;

/// The longest body, in bytes, that is shown if it is not JSON.
const MAX_BODY: usize = 4096;

const NODE_NAME: &str = ".AgentGateway";

pub(super) fn entry(entry: &Entry) -> Value {
    let headers: Vec<String> = entry
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", header(name, value)))
        .collect();
    json!({
        "at_ms": millis(entry.at),
        "connection": entry.connection,
        "method": entry.method,
        "target": target(&entry.target),
        "headers": headers,
        "body": body(&entry.body),
        "interface": entry.interface,
        "agent": entry.agent,
        "answer": entry.answer.as_ref().map(answer),
    })
}

pub(super) fn agent(id: u32, view: &AgentView) -> Value {
    json!({
        "agent": id,
        "state": view.state.name(),
        "agent_state": view.state.code(),
        "pending_busy": view.pending_busy,
        "busy_reason": view.busy_reason,
        "signed_in": view.signed_in,
        "guid": view.guid.as_deref().map(shorten),
        "auto_answer": view.auto_answer,
        "auto_idle": view.auto_idle,
        "takes_calls": view.takes_calls,
        "custom_state": view.custom_state,
        "skills": view.skills,
        "events_waiting": view.events_waiting,
    })
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or('0');
    let pair = |byte: &u8| [digit(byte >> 4), digit(byte & 15)];
    bytes.iter().flat_map(pair).collect()
}

fn answer(answer: &Answer) -> Value {
    json!({
        "at_ms": millis(answer.at),
        "status": answer.status,
        "retcode": answer.retcode,
        "set_guid": answer.set_guid.as_deref().map(shorten),
        "fault": answer.fault,
    })
}

fn header(name: &str, value: &str) -> String {
    let shortened = shorten(value);
    if name.eq_ignore_ascii_case("service_token") {
        return "…".into();
    }
    // A text that does not look like a Guid may still be a real one in another form.
    if name.eq_ignore_ascii_case("guid") && shortened == value {
        return value.chars().take(SHOWN).collect::<String>() + "…";
    }
    shortened
}

fn body(body: &[u8]) -> Value {
    if body.is_empty() {
        return Value::Null;
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(mut fields)) => {
            for (_, secret) in fields.iter_mut().filter(|(name, _)| is_secret(name)) {
                *secret = "…".into();
            }
            Value::Object(fields)
        }
        Ok(other) => other,
        // It may still be a sign-in with a password, cut short or in another charset.
        Err(_) if body.len() > MAX_BODY || is_about_password(body) => {
            format!("{} bytes that are not JSON", body.len()).into()
        }
        Err(_) => shorten(&String::from_utf8_lossy(body)).into(),
    }
}

/// Whether a field or parameter with this name is not shown.
fn is_secret(name: &str) -> bool {
    is_about_password(name.as_bytes()) || name == "serviceToken"
}

fn is_about_password(text: &[u8]) -> bool {
    text.windows(8).any(|part| part.eq_ignore_ascii_case(b"password"))
}

fn target(target: &str) -> String {
    let Some((path, query)) = target.split_once('?') else {
        return shorten(target);
    };
    let parameters: Vec<String> = query
        .split('&')
        .map(|pair| match pair.split_once('=') {
            Some((name, _)) if is_secret(name) => format!("{name}=…"),
            _ => shorten(pair),
        })
        .collect();
    format!("{}?{}", shorten(path), parameters.join("&"))
}

/// Shortens every `<uuid>.AgentGateway<N>` in a text to its first characters and its node.
fn shorten(text: &str) -> String {
    let mut parts = text.split(NODE_NAME);
    let mut shown = String::from(parts.next().unwrap_or_default());
    for part in parts {
        let start = shown.len().checked_sub(36);
        let uuid = start.and_then(|start| shown.get(start..));
        let is_uuid = uuid
            .is_some_and(|uuid| uuid.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-'));
        if let Some(start) = start.filter(|_| is_uuid) {
            shown.truncate(start + SHOWN);
            shown.push('…');
        }
        shown.push_str(NODE_NAME);
        shown.push_str(part);
    }
    shown
}

fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guids_are_shortened_wherever_they_are() {
        let guid = "279fe21d-2caa-4437-84c3-ab9e9dae20f5.AgentGateway0";
        for (text, expected) in [
            (guid.to_owned(), "279fe21d….AgentGateway0"),
            (format!("a={guid}; b={guid}"), "a=279fe21d….AgentGateway0; b=279fe21d….AgentGateway0"),
            ("x.AgentGateway0".into(), "x.AgentGateway0"),
            ("…….AgentGateway".into(), "…….AgentGateway"),
        ] {
            assert_eq!(shorten(&text), expected);
        }
        assert_eq!(header("gUiD", "0123456789"), "01234567…");
    }

    #[test]
    fn passwords_and_service_tokens_are_left_out() {
        let shown = body(br#"{"password":"secret","serviceToken":"x","status":4}"#);
        assert_eq!(shown, json!({"password": "…", "serviceToken": "…", "status": 4}));
        assert_eq!(header("Service_Token", "x"), "…");
        let shown = body(br#"{"oldPassword":"secret","newPassword":"other"}"#);
        assert_eq!(shown, json!({"oldPassword": "…", "newPassword": "…"}));
        let changed = "/x/modifyaccountpwd?oldpassword=secret&x=1&repassword=other&newpassword";
        let shown = "/x/modifyaccountpwd?oldpassword=…&x=1&repassword=…&newpassword";
        assert_eq!(target(changed), shown);
        assert_eq!(target("/x?password=%20&serviceToken=x"), "/x?password=…&serviceToken=…");
        let shown = body(br#"{"password":"secret"#);
        assert_eq!(shown, json!("19 bytes that are not JSON"));
    }
}
