//! The body of a sign-in. Its types are checked as loosely as the gateway does.

use serde_json::{Map, Value, json};

use super::{agent::Refused, interface::Interface, retcode::Retcode};

/// The fields of a sign-in that the simulator uses (`cec_07_1202`). The others are only checked.
#[derive(Debug)]
pub(super) struct SignIn {
    pub(super) password: String,
    /// The state to begin in: 3 busy, 4 idle, 5 after-call work.
    pub(super) status: u8,
    pub(super) auto_answer: bool,
    pub(super) auto_idle: bool,
    pub(super) push: bool,
    /// Where the events are sent to, in the older form of push mode (client).
    pub(super) push_url: Option<String>,
}

// === impl SignIn ===

impl SignIn {
    /// Reads and checks a body. The code for each wrong field is inferred from the codes' meanings.
    pub(super) fn read(body: &[u8], interface: Interface) -> Result<Self, Refused> {
        let fields = members(body)?;
        let password = text(&fields, "password", 32).ok_or_else(|| refused(Retcode::BadSignIn))?;
        // A sign-in to the platform alone needs no phone (cec_07_1224).
        let needs_phone = interface != Interface::SignInEx;
        let lacks_phone = needs_phone && text(&fields, "phonenum", 24).is_none();
        refuse_if(lacks_phone, Retcode::BadSignIn)?;
        for (field, limit, code) in [
            ("ip", 15, Retcode::BadIpAddress),
            ("vcPhoneNumber", 24, Retcode::BadSignInField),
            ("callBackUri", 200, Retcode::BadSignIn),
            ("serviceToken", 50, Retcode::BadSignIn),
            ("pushUrl", 512, Retcode::BadSignIn),
            ("phonenum", 24, Retcode::BadSignIn),
        ] {
            let wrong = given(&fields, field).is_some() && text(&fields, field, limit).is_none();
            refuse_if(wrong, code)?;
        }
        let token = text(&fields, "serviceToken", 50).unwrap_or_default();
        refuse_if(!is_service_token(&token), Retcode::BadSignIn)?;
        for field in ["releasephone", "phonelinkage", "checkInWebm", "checkInMailm", "listenStatus"]
        {
            flag(&fields, field)?;
        }
        refuse_if(
            !matches!(number(&fields, "agenttype"), Ok(None | Some(4 | 11))),
            Retcode::BadAgentType,
        )?;
        let status = number(&fields, "status")?.unwrap_or(4);
        refuse_if(!(3..=5).contains(&status), Retcode::BadSignInField)?;
        let push_url = text(&fields, "pushUrl", 512).filter(|url| !url.is_empty());
        Ok(Self {
            password,
            status,
            auto_answer: flag(&fields, "autoanswer")?.unwrap_or(true),
            auto_idle: flag(&fields, "autoenteridle")?.unwrap_or(true),
            push: push_url.is_some()
                || ["callBackUri", "serviceToken"]
                    .iter()
                    .all(|field| text(&fields, field, 200).is_some_and(|text| !text.is_empty())),
            push_url,
        })
    }

    /// The sign-in that a test makes in the name of another client: idle, not in push mode.
    pub(super) fn of_other_client() -> Self {
        let (password, push_url) = (String::new(), None);
        Self { password, status: 4, auto_answer: true, auto_idle: true, push: false, push_url }
    }
}

/// The agent of the account in a sign-in by account. Here an account has the agent's id as its name.
pub(super) fn agent_of_account(body: &[u8]) -> Result<u32, Refused> {
    let account = member(body, "account", 64)?;
    account.and_then(|name| name.parse().ok()).ok_or_else(|| refused(Retcode::BadAccount))
}

/// A member of a body: a string, or a number as its digits.
pub(super) fn member(body: &[u8], name: &str, limit: usize) -> Result<Option<String>, Refused> {
    Ok(text(&members(body)?, name, limit))
}

fn members(body: &[u8]) -> Result<Map<String, Value>, Refused> {
    serde_json::from_slice(body).map_err(|_| refused(Retcode::BadBody))
}

/// The result of a sign-in, with the fields and types of the page's sample (`cec_07_1202`).
pub(super) fn result(agent: u32, login_time: &str) -> Value {
    json!({
        "vdnid": 1,
        "workno": agent.to_string(),
        "mediatype": "TTF",
        "loginTime": login_time,
        "isForceChange": "false",
        "serverName": "AgentGateway",
        "timeRemaining": "",
    })
}

/// Whether a service token is valid: at most 50 characters, no special ones (`cec_07_1204`). The page
/// does not say which characters are special.
pub(super) fn is_service_token(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    text.chars().count() <= 50 && text.chars().all(plain)
}

fn given<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    fields.get(name).filter(|value| !value.is_null())
}

/// A string of at most `limit` characters; a number counts as its digits.
fn text(fields: &Map<String, Value>, name: &str, limit: usize) -> Option<String> {
    let text = match given(fields, name)? {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    (text.chars().count() <= limit).then_some(text)
}

/// A number, or a string that holds one: the official samples send strings.
fn number(fields: &Map<String, Value>, name: &str) -> Result<Option<u8>, Refused> {
    let Some(value) = given(fields, name) else {
        return Ok(None);
    };
    let read = match value {
        Value::String(text) if text.is_empty() => return Ok(None),
        Value::String(text) => text.parse().ok(),
        other => other.as_u64().and_then(|number| number.try_into().ok()),
    };
    read.map(Some).ok_or_else(|| refused(Retcode::BadSignInField))
}

/// A boolean, or a string that holds one.
fn flag(fields: &Map<String, Value>, name: &str) -> Result<Option<bool>, Refused> {
    match given(fields, name) {
        None => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(Value::String(text)) => match text.to_ascii_lowercase().as_str() {
            "" => Ok(None),
            "true" => Ok(Some(true)),
            "false" => Ok(Some(false)),
            _ => Err(refused(Retcode::BadSignInField)),
        },
        Some(_) => Err(refused(Retcode::BadSignInField)),
    }
}

fn refused(code: impl Into<String>) -> Refused {
    Refused(code.into())
}

fn refuse_if(wrong: bool, code: Retcode) -> Result<(), Refused> {
    if wrong { Err(refused(code)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &Value, expected: Result<u8, &str>) {
        let read = SignIn::read(body.to_string().as_bytes(), Interface::SignIn)
            .map(|sign_in| sign_in.status);
        assert_eq!(read, expected.map_err(refused), "{body}");
    }

    #[test]
    fn strings_pass_for_numbers_and_flags() {
        check(
            &json!({"password": "", "phonenum": 70001, "status": "5", "agenttype": "4",
                "releasephone": "true", "autoenteridle": "false"}),
            Ok(5),
        );
        check(&json!({"password": "x", "phonenum": "7"}), Ok(4));
    }

    #[test]
    fn wrong_fields_are_refused_by_their_meaning() {
        let wrong = |field: &str, value: Value| {
            let mut body = json!({"password": "x", "phonenum": "7"});
            body[field] = value;
            body
        };
        check(&json!([]), Err("000-006"));
        check(&json!({"phonenum": "7"}), Err("100-001"));
        check(&wrong("password", json!("x".repeat(33))), Err("100-001"));
        check(&wrong("agenttype", json!(5)), Err("100-012"));
        check(&wrong("status", json!("6")), Err("100-011"));
        check(&wrong("ip", json!("2001:db8::1234:5678")), Err("100-016"));
        check(&wrong("serviceToken", json!("a b")), Err("100-001"));
        check(&wrong("serviceToken", json!("a".repeat(51))), Err("100-001"));
        check(&wrong("listenStatus", json!("perhaps")), Err("100-011"));
    }
}
