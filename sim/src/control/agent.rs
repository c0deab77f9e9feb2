//! The control endpoint's requests about one agent.

use std::time::Duration;

use serde::{Deserialize, Deserializer};
use serde_json::{json, value::RawValue};

use super::{Answered, ControlError, done, show, unknown};
use crate::{Recovery, Simulator, wire::Request};

/// The body of a switch-over request.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SwitchOver {
    /// Milliseconds of gateway time.
    ms: u64,
    #[serde(default)]
    recovery: Recovery,
}

/// The body of a request that reports an event.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Told<'a> {
    #[serde(rename = "type")]
    kind: String,
    /// Null is not the same as left out.
    #[serde(borrow, default, deserialize_with = "given")]
    content: Option<&'a RawValue>,
}

/// Answers a request to `agents/ID` and what follows it.
pub(super) fn answer(
    gateway: &Simulator,
    request: &Request,
    (id, rest): (&str, &[&str]),
) -> Answered {
    let id = agent_id(id)?;
    match (request.method.as_str(), rest) {
        ("GET", []) => {
            let view = gateway.agent(id).ok_or_else(|| never_seen(id))?;
            Ok(show::agent(id, &view))
        }
        ("POST", ["sign-in"]) => Ok(json!({ "guid": gateway.sign_in(id) })),
        ("POST", [act]) => act_on(gateway, id, (act, &request.body)),
        _ => Err(unknown(request)),
    }
}

/// Carries out a request that needs a signed-in agent.
fn act_on(gateway: &Simulator, id: u32, (act, body): (&str, &[u8])) -> Answered {
    if !gateway.agent(id).is_some_and(|view| view.signed_in) {
        let why = format!("agent {id} is not signed in; POST …/agents/{id}/sign-in does that");
        return Err(ControlError::new(409, why));
    }
    match act {
        "sign-out" => gateway.sign_out(id),
        "start-call" => {
            if !gateway.start_call(id) {
                return Err(no_call(gateway, id));
            }
        }
        "force-busy" if !gateway.force_busy(id) => return Err(not_now(gateway, id)),
        "force-idle" if !gateway.force_idle(id) => return Err(not_now(gateway, id)),
        "force-busy" | "force-idle" => {}
        "end-call" => gateway.end_call(id),
        "expire-guids" => gateway.expire_guids(id),
        "guid-on-next-reply" => gateway.set_guid_on_next_reply(id),
        "switch-over" => {
            let over = SwitchOver::read(body)?;
            gateway.switch_over(id, Duration::from_millis(over.ms), over.recovery);
        }
        "event" => {
            let Told { kind, content } = Told::read(body)?;
            gateway.tell(id, &kind, content.map(RawValue::get));
        }
        "take-over" => return Ok(json!({ "guid": gateway.take_over(id) })),
        "renew-guid" => return Ok(json!({ "guid": gateway.renew_guid(id) })),
        _ => {
            let why = format!("there is no action {act:?} for an agent");
            return Err(ControlError::new(404, why));
        }
    }
    Ok(done())
}

// === impl SwitchOver ===

impl SwitchOver {
    fn read(body: &[u8]) -> Result<Self, ControlError> {
        serde_json::from_slice(body).map_err(|error| {
            let why = format!(r#"the body is wrong, write such as {{"ms": 5000}}: {error}"#);
            ControlError::new(400, why)
        })
    }
}

// === impl Told ===

impl<'a> Told<'a> {
    fn read(body: &'a [u8]) -> Result<Self, ControlError> {
        serde_json::from_slice(body).map_err(|error| {
            let why = format!(
                r#"the body is wrong, write such as {{"type": "AgentEvent_Hold", "content": "7-1"}}: {error}"#
            );
            ControlError::new(400, why)
        })
    }
}

fn given<'de: 'a, 'a, D>(member: D) -> Result<Option<&'a RawValue>, D::Error>
where
    D: Deserializer<'de>,
{
    <&RawValue>::deserialize(member).map(Some)
}

/// Why a call has not reached a signed-in agent.
fn no_call(gateway: &Simulator, id: u32) -> ControlError {
    let why = match gateway.agent(id) {
        Some(view) if view.skills.is_empty() => {
            format!("agent {id} has no skills, so no call comes; POST …/resetskill/true gives some")
        }
        Some(view) if !view.takes_calls => {
            format!("agent {id} takes no calls; POST …/settalkright?flag=1 changes that")
        }
        _ => format!("agent {id} is in a call already"),
    };
    ControlError::new(409, why)
}

/// The error for an inspector's operation that the agent's state does not allow.
fn not_now(gateway: &Simulator, id: u32) -> ControlError {
    let state = gateway.agent(id).map_or("gone", |view| view.state.name());
    ControlError::new(409, format!("agent {id} is {state}, which does not allow it"))
}

fn agent_id(text: &str) -> Result<u32, ControlError> {
    let why = || format!("{text:?} is not an agent id; give a number such as 1001");
    let id: u32 = text.parse().map_err(|_| ControlError::new(400, why()))?;
    // No gateway is known to use ids of more than six digits (cec_07_1202).
    if (1..=999_999).contains(&id) { Ok(id) } else { Err(ControlError::new(400, why())) }
}

fn never_seen(id: u32) -> ControlError {
    let why = format!("agent {id} has not been seen yet; agents appear with their first request");
    ControlError::new(404, why)
}
