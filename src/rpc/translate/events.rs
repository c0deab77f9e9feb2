//! Messages of an event stream.
use prost_types::Timestamp;

use super::{json, proto, session_state};
use crate::event::{Batch, Event, GatewayEvent, Missed, What};
use proto::watch_events_response::What as Wire;

/// The first message of a stream.
pub(in crate::rpc) fn begin(position: u64) -> proto::WatchEventsResponse {
    message(position, Wire::Begin(proto::WatchBegin {}))
}

/// A message that says how far the stream has come.
pub(in crate::rpc) fn progress(position: u64) -> proto::WatchEventsResponse {
    message(position, Wire::Progress(proto::WatchProgress {}))
}

/// The messages for what a watch has returned.
pub(in crate::rpc) fn batch(batch: &Batch) -> impl Iterator<Item = proto::WatchEventsResponse> {
    let gap = |Missed { count, last }| message(last, Wire::Gap(proto::EventGap { missed: count }));
    batch.missed.map(gap).into_iter().chain(batch.events.iter().map(|event| event_message(event)))
}

fn message(sequence: u64, what: Wire) -> proto::WatchEventsResponse {
    proto::WatchEventsResponse { sequence, what: Some(what), ..<_>::default() }
}

fn event_message(event: &Event) -> proto::WatchEventsResponse {
    let what = match &event.what {
        What::Gateway(event) => Wire::GatewayEvent(gateway_event(event)),
        What::Session(change) => Wire::SessionChange(proto::SessionChange {
            state: session_state(change.state),
            description: change.cause.to_string(),
        }),
    };
    proto::WatchEventsResponse {
        receive_time: Some(Timestamp::from(event.received_at)),
        agent_id: event.agent.to_string(),
        ..message(event.sequence, what)
    }
}

fn gateway_event(event: &GatewayEvent) -> proto::GatewayEvent {
    proto::GatewayEvent {
        r#type: event_type(&event.kind).into(),
        type_name: event.kind.to_string(),
        work_no: event.work_no.to_string(),
        content: event.content.as_deref().filter(|content| *content != "null").and_then(json),
        content_json: event.content.as_deref().unwrap_or_default().to_owned(),
        event_time: event.generated_at.map(Timestamp::from),
    }
}

/// The contract's event type for the gateway's name. `AgentState_Ready` is
/// `EVENT_TYPE_AGENT_STATE_READY`, for example. Unknown names give the unspecified type.
fn event_type(kind: &str) -> proto::EventType {
    let mut name = String::from("EVENT_TYPE_");
    let mut after_lower = false;
    for c in kind.chars() {
        if after_lower && c.is_ascii_uppercase() {
            name.push('_');
        }
        after_lower = c.is_ascii_lowercase();
        name.push(c.to_ascii_uppercase());
    }
    proto::EventType::from_str_name(&name).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_types_are_found_by_the_gateways_names() {
        use proto::EventType as Type;
        for (kind, expected) in [
            ("AgentState_Ready", Type::AgentStateReady),
            ("AgentState_SetNotReady_Success", Type::AgentStateSetNotReadySuccess),
            ("AgentOther_ShutdownService", Type::AgentOtherShutdownService),
            ("AgentOther_All_Agent_Busy", Type::AgentOtherAllAgentBusy),
            ("AgentOther_PhoneAlerting", Type::AgentOtherPhoneAlerting),
            ("AgentEvent_linkagePhoneMute", Type::AgentEventLinkagePhoneMute),
            ("AgentEvent_Call_Out_Fail", Type::AgentEventCallOutFail),
            // These are known only from public client code.
            ("AgentState_Force_SetNotReady", Type::Unspecified),
            ("AgentEvent_Hold", Type::Unspecified),
            ("AgentState_Brewing", Type::Unspecified),
            ("Unspecified", Type::Unspecified),
            ("", Type::Unspecified),
        ] {
            assert_eq!(event_type(kind), expected, "{kind}");
        }
    }
}
