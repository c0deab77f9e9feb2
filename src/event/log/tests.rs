use std::num::NonZeroUsize;

use super::*;
use crate::{
    event::{GatewayEvent, SessionChange},
    id::DEFAULT_AGENT_IDS,
    session::SessionState,
};

fn agent(id: u32) -> AgentId {
    AgentId::parse(&id.to_string(), &DEFAULT_AGENT_IDS).unwrap()
}

fn events(kept: usize) -> Events {
    let kept = NonZeroUsize::new(kept).unwrap();
    Events::beginning(
        1,
        false,
        config::Events { kept, kept_bytes: NonZeroUsize::MAX, watches: kept },
    )
}

/// Returns the event's number.
fn tell(events: &Events, id: u32, kind: &str) -> u64 {
    let (kind, work_no) = (kind.into(), String::new().into());
    let event = GatewayEvent { kind, work_no, content: None, generated_at: None };
    events.publish(agent(id), What::Gateway(event), Instant::now());
    events.newest()
}

const BUSY: &str = "AgentState_SetNotReady_Success";
const IDLE: &str = "AgentState_CancelNotReady_Success";

fn last(events: &Events, after: u64, to: u64) -> Result<Option<AgentState>, NotKept> {
    let told = events.last_told(agent(101), after, to)?;
    Ok(told.map(|told| told.state))
}

#[test]
fn the_last_state_between_two_events_is_known_though_the_log_has_dropped_them() {
    use AgentState::{Busy, Idle, Resting};
    let events = events(2);
    let first = tell(&events, 101, BUSY);
    let second = tell(&events, 101, IDLE);
    for _ in 0..9 {
        tell(&events, 102, BUSY);
    }
    let third = tell(&events, 101, "AgentState_Unheard_Of");
    for (after, to, expected) in [
        (0, third, Ok(Some(Idle))),
        (0, first, Ok(Some(Busy))),
        (first, second, Ok(Some(Idle))),
        (second, third, Ok(None)),
        (first, first, Ok(None)),
    ] {
        assert_eq!(last(&events, after, to), expected, "{after} {to}");
    }
    let rest = tell(&events, 101, "AgentState_SetRest_Success");
    assert_eq!(last(&events, 0, first), Err(NotKept), "it is not kept");
    assert_eq!(last(&events, second, rest), Ok(Some(Resting)));
    let never = events.last_told(agent(103), 0, rest);
    assert_eq!(never.map(|told| told.is_none()), Ok(true), "nothing was ever told of it");
    events.tell_gap(rest + 5);
    assert_eq!(last(&events, second, rest), Err(NotKept), "some may be missing");
    assert_eq!(last(&events, rest + 5, rest + 6), Ok(None));
}

#[test]
fn what_was_told_before_a_session_ended_is_still_found() {
    let events = events(8);
    let first = tell(&events, 101, BUSY);
    let change = SessionChange { state: SessionState::Lost, cause: "".into() };
    events.publish(agent(101), What::Session(change), Instant::now());
    assert_eq!(events.state(agent(101)), None);
    assert_eq!(last(&events, 0, events.newest()), Ok(Some(AgentState::Busy)));
    assert_eq!(last(&events, first, events.newest()), Ok(None));
}

#[test]
fn the_last_events_come_newest_first_of_one_agent_or_of_all() {
    let events = events(4);
    for (id, kind) in [(101, "a"), (102, "b"), (101, "c"), (102, "d"), (101, "e")] {
        tell(&events, id, kind);
    }
    let kinds = |id: Option<u32>, most| {
        let latest = events.latest(id.map(agent), most).into_iter();
        let kinds = latest.filter_map(|event| match &event.what {
            What::Gateway(event) => Some(event.kind.to_string()),
            What::Session(_) => None,
        });
        kinds.collect::<Vec<_>>().concat()
    };
    assert_eq!(kinds(None, 9), "edcb", "the first one is not kept");
    assert_eq!(kinds(None, 2), "ed");
    assert_eq!(kinds(Some(101), 9), "ec");
    assert_eq!(kinds(Some(103), 9), "");
}
