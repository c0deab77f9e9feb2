//! `AgentEvents.WatchEvents`: what happens to agents, as it happens.

use std::time::Duration;

use ccgateway_bridge::rpc::proto::{
    EventType, GatewayEvent, SessionState, WatchEventsRequest, WatchEventsResponse,
    watch_events_response::What,
};
use ccgateway_sim::{Fault, Interface, Misbehaviour, Options};
use ccgateway_test_support::{AGENT, Refusal, Setup, TestBridge, Watching, refused, within};
use prost_types::value::Kind;
use tokio::time::Instant;
use tonic::{Code, Request};

const PAUSES: &str = "keep.pause_min = \"1ms\"\nkeep.pause_max = \"2ms\"\n";

async fn keeping(tenant: &str) -> TestBridge {
    let tenant = format!("{PAUSES}{tenant}");
    TestBridge::with(Setup { tenant, keep: true, ..<_>::default() }).await
}

#[track_caller]
fn gateway_event(message: &WatchEventsResponse) -> &GatewayEvent {
    match &message.what {
        Some(What::GatewayEvent(event)) => event,
        _ => panic!("no event of the gateway's: {message:?}"),
    }
}

fn content(event: &GatewayEvent) -> Option<&Kind> {
    event.content.as_ref()?.kind.as_ref()
}

/// The next so many states of sessions.
async fn states(watching: &mut Watching, count: usize) -> Vec<SessionState> {
    let mut states = Vec::new();
    while states.len() < count {
        if let Some(What::SessionChange(change)) = watching.next().await.what {
            states.push(change.state());
        }
    }
    states
}

#[tokio::test]
async fn gateway_events_come_in_order_with_all_their_fields() {
    let gateway = Options { event_gen_time: true, ..<_>::default() };
    let tenant = PAUSES.to_owned();
    let bridge = TestBridge::with(Setup { gateway, tenant, keep: true, ..<_>::default() }).await;
    let mut watching = bridge.watch(&[], None).await;
    bridge.sign_in(AGENT).await.expect("signed in");
    bridge.set_busy(AGENT).await.expect("busy");

    let mut last = 0;
    for (name, kind) in [
        ("AgentOther_InService", EventType::AgentOtherInService),
        ("AgentState_Ready", EventType::AgentStateReady),
        ("AgentState_SetNotReady_Success", EventType::AgentStateSetNotReadySuccess),
    ] {
        let message = watching.event(name).await;
        let event = gateway_event(&message);
        assert_eq!((event.r#type(), event.work_no.as_str()), (kind, "1001"));
        assert_eq!(message.agent_id, "1001");
        assert!(message.sequence > last && message.receive_time.is_some());
        assert!(event.event_time.is_some());
        last = message.sequence;
        if kind == EventType::AgentStateSetNotReadySuccess {
            let Some(Kind::StructValue(content)) = content(event) else { panic!("an object") };
            let reason = &content.fields["reason"];
            assert_eq!(reason.kind, Some(Kind::StringValue("200".into())));
        }
    }
}

#[tokio::test]
async fn undocumented_event_types_come_with_their_name() {
    for (kind, sent, expected) in [
        ("AgentState_Brewing", "[\"tea\"]", "list"),
        // Public clients know it, with the call's id as its whole content.
        ("AgentEvent_Hold", "\"1478661212-6\"", "1478661212-6"),
    ] {
        let bridge = keeping("").await;
        let mut watching = bridge.watch(&[AGENT], None).await;
        let event = format!(r#"{{"eventType":"{kind}","workNo":"1001","content":{sent}}}"#);
        let body = format!(r#"{{"message":"","retcode":"0","event":{event}}}"#).into();
        let (content_type, headers) = ("application/json".into(), Vec::new());
        let fault = Fault::Raw { body, content_type, headers };
        let rule = Misbehaviour { times: Some(1), ..Misbehaviour::always(fault) };
        bridge.gateway.misbehave(rule.on(Interface::Poll));
        bridge.sign_in(AGENT).await.expect("signed in");
        let message = watching.event(kind).await;
        let event = gateway_event(&message);
        assert_eq!((event.r#type(), &*event.type_name), (EventType::Unspecified, kind));
        let told = match content(event) {
            Some(Kind::ListValue(_)) => "list".to_owned(),
            Some(Kind::StringValue(text)) => text.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!(told, expected);
    }
}

/// JSON that events can have as their content. A `Value` cannot hold all of it.
fn contents() -> Vec<Option<String>> {
    let deep = format!("{}7{}", "[".repeat(1_000), "]".repeat(1_000));
    let texts = [
        r#""1478661212-6""#,
        r#""""#,
        r#""\u0000 \ud83d\ude00 \ud800""#,
        "7",
        "-1.50",
        "14786612120000000000123",
        "1e999",
        "[]",
        r#"[ 1, {"b":2, "a":1, "a":3} ]"#,
        "true",
        "{}",
        "null",
        &deep,
    ];
    texts.map(|text| Some(text.to_owned())).into_iter().chain([None]).collect()
}

#[tokio::test]
async fn content_reaches_watchers_as_it_came_whatever_json_it_is() {
    let bridge = keeping("").await;
    bridge.sign_in(AGENT).await.expect("signed in");
    let mut watching = bridge.watch(&[AGENT], None).await;
    let mut told = Vec::new();
    for sent in contents() {
        assert!(bridge.gateway.tell(AGENT, "AgentEvent_Hold", sent.as_deref()));
        let message = watching.event("AgentEvent_Hold").await;
        let event = gateway_event(&message);
        assert_eq!(event.content_json, sent.clone().unwrap_or_default());
        assert_eq!(event.work_no, "1001");
        told.push(message);
    }
    let mut again = bridge.watch(&[AGENT], Some(told[0].sequence)).await;
    for message in &told[1..] {
        assert_eq!(&again.event("AgentEvent_Hold").await, message);
    }
}

#[tokio::test]
async fn content_is_a_value_where_a_value_can_hold_it() {
    let bridge = keeping("").await;
    bridge.sign_in(AGENT).await.expect("signed in");
    let mut watching = bridge.watch(&[AGENT], None).await;
    for (sent, expected) in [
        (Some(r#""1478661212-6""#), Some(Kind::StringValue("1478661212-6".into()))),
        (Some("7"), Some(Kind::NumberValue(7.0))),
        (Some("false"), Some(Kind::BoolValue(false))),
        (Some("[]"), Some(Kind::ListValue(prost_types::ListValue::default()))),
        (Some("{}"), Some(Kind::StructValue(prost_types::Struct::default()))),
        (Some("1e999"), None),
        (Some("null"), None),
        (None, None),
    ] {
        bridge.gateway.tell(AGENT, "AgentEvent_Call_Out_Fail", sent);
        let message = watching.event("AgentEvent_Call_Out_Fail").await;
        assert_eq!(content(gateway_event(&message)), expected.as_ref(), "{sent:?}");
    }
}

#[tokio::test]
async fn changes_of_the_session_are_events_too() {
    use SessionState::{Gone, Kept, Recovering, Registered, SigningIn, SigningOut};

    let bridge = keeping("").await;
    let mut watching = bridge.watch(&[AGENT], None).await;
    bridge.sign_in(AGENT).await.expect("signed in");
    assert_eq!(states(&mut watching, 2).await, [SigningIn, Kept]);
    bridge.gateway.sign_out(AGENT);
    assert_eq!(states(&mut watching, 2).await, [Recovering, Kept]);
    bridge.sign_out(AGENT).await.expect("signed out");
    assert_eq!(states(&mut watching, 2).await, [SigningOut, Gone]);
    bridge.sign_in(AGENT).await.expect("signed in");
    let guid = bridge.gateway.sign_in(AGENT);
    bridge.register(AGENT, &guid).await.expect("registered");
    assert_eq!(states(&mut watching, 3).await, [SigningIn, Kept, Registered]);
}

/// Whatever is told between the refusal and the end of it, the session is still its owner's.
#[tokio::test]
async fn a_sign_out_that_is_refused_leaves_a_registered_session_registered() {
    use SessionState::{Registered, SigningOut};

    let bridge = keeping("").await;
    let mut watching = bridge.watch(&[AGENT], None).await;
    let guid = bridge.gateway.sign_in(AGENT);
    bridge.register(AGENT, &guid).await.expect("registered");
    let refusal = Fault::Retcode { retcode: "100-009".into(), message: String::new() };
    bridge.gateway.misbehave(Misbehaviour::once(refusal).on(Interface::SignOut));
    bridge.sign_out(AGENT).await.expect_err("refused");
    assert_eq!(states(&mut watching, 2).await, [SigningOut, Registered]);
    bridge.set_busy(AGENT).await.expect("the session is good");
}

#[tokio::test]
async fn a_watch_gets_only_events_of_its_agents() {
    let bridge = keeping("").await;
    let mut one = bridge.watch(&[AGENT + 1], None).await;
    let mut all = bridge.watch(&[], None).await;
    for agent in [AGENT, AGENT + 1] {
        bridge.sign_in(agent).await.expect("signed in");
    }
    assert_eq!(one.next().await.agent_id, "1002");
    assert_eq!(all.next().await.agent_id, "1001");
}

#[tokio::test]
async fn a_watch_that_resumes_misses_no_event_that_is_kept() {
    let bridge = keeping("").await;
    let mut watching = bridge.watch(&[AGENT], None).await;
    bridge.sign_in(AGENT).await.expect("signed in");
    let seen = watching.event("AgentState_Ready").await.sequence;
    drop(watching);

    let mut whole = bridge.watch(&[AGENT], None).await;
    for reason in 200..230 {
        let agent_id = AGENT.to_string();
        let request = ccgateway_bridge::rpc::proto::SetBusyRequest {
            agent_id,
            reason: Some(reason),
            prolong: Some(true),
            ..<_>::default()
        };
        bridge.call(request).await.expect("busy");
    }
    let mut told = Vec::new();
    for _ in 0..30 {
        told.push(whole.event("AgentState_SetNotReady_Success").await);
    }
    let mut again = bridge.watch(&[AGENT], Some(seen)).await;
    for message in told {
        assert_eq!(again.next().await, message);
    }
}

#[tokio::test]
async fn events_dropped_before_a_watch_resumes_are_a_gap() {
    let bridge = keeping("events.kept = 2\n").await;
    let mut watching = bridge.watch(&[AGENT], None).await;
    let begun = {
        bridge.sign_in(AGENT).await.expect("signed in");
        let first = watching.next().await.sequence;
        watching.event("AgentState_Ready").await;
        first
    };
    let mut again = bridge.watch(&[AGENT], Some(begun)).await;
    let gap = again.next().await;
    // Kept and InService are gone, Ready and the change before it are there.
    let Some(What::Gap(missed)) = gap.what else { panic!("no gap: {gap:?}") };
    assert!(missed.missed.is_some_and(|missed| missed >= 1), "{missed:?}");
    assert!(gap.sequence > begun);
    again.event("AgentState_Ready").await;

    let mut lost = bridge.watch(&[AGENT], Some(7)).await;
    let gap = lost.next().await;
    let Some(What::Gap(missed)) = gap.what else { panic!("no gap: {gap:?}") };
    assert_eq!(missed.missed, None, "a number of another process");
}

/// What a watch of agent 1001 that goes on after this number tells until its deadline, while the
/// events of another agent fill the log over and over. `None`: they have not come in time for that.
async fn quiet_watch(
    bridge: &TestBridge,
    after: Option<u64>,
    deadline: Duration,
) -> Option<Vec<WatchEventsResponse>> {
    let agent_ids = vec![AGENT.to_string()];
    let mut request =
        Request::new(WatchEventsRequest { agent_ids, after_sequence: after, ..<_>::default() });
    request.set_timeout(deadline);
    let began = Instant::now();
    let mut stream = bridge.events.clone().watch_events(request).await.expect("watching");
    bridge.sign_in(AGENT + 1).await.expect("signed in");
    bridge.sign_out(AGENT + 1).await.expect("signed out");
    if began.elapsed() > deadline / 2 {
        return None;
    }
    let mut told = Vec::new();
    let end = loop {
        match stream.get_mut().message().await {
            Ok(message) => told.push(message.expect("no bare end")),
            Err(end) => break Refusal::from(end),
        }
    };
    assert_eq!(end.reason, "DEADLINE");
    Some(told)
}

#[tokio::test]
async fn a_watcher_of_a_quiet_agent_has_no_gap_after_ten_resumes_at_the_smallest_log() {
    // Without polls, a sign-in and a sign-out are four events, which are there with the answer.
    let setup = Setup { tenant: "events.kept = 1\n".into(), ..<_>::default() };
    let bridge = TestBridge::with(setup).await;
    let (mut after, mut deadline, mut resumes) = (None, Duration::from_millis(200), 0);
    while resumes <= 10 {
        let Some(told) = quiet_watch(&bridge, after, deadline).await else {
            // On a machine as slow as this the log has moved on without the watch.
            (after, deadline, resumes) = (None, deadline * 2, 0);
            continue;
        };
        let begin = &told[0];
        assert!(matches!(begin.what, Some(What::Begin(_))), "{begin:?}");
        let last = told.last().expect("one at least");
        assert!(last.sequence >= begin.sequence + 4, "{last:?}");
        for message in &told[1..] {
            assert!(matches!(message.what, Some(What::Progress(_))), "{message:?}");
        }
        after = Some(last.sequence);
        resumes += 1;
    }
}

/// A thousand events of 8 KiB are more than lies on the way to a consumer who reads none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stuck_watcher_stops_nobody_and_is_told_of_its_gap() {
    let gateway = Options { poll_wait: Duration::ZERO, ..<_>::default() };
    let tenant = format!("{PAUSES}events.kept = 64\n");
    let bridge = TestBridge::with(Setup { gateway, tenant, keep: true, ..<_>::default() }).await;
    let mut stuck = bridge.watch(&[AGENT], None).await;
    let mut reading = bridge.watch(&[AGENT], None).await;
    let filling = "x".repeat(8 * 1024);
    let body = format!(
        r#"{{"message":"","retcode":"0","event":{{"eventType":"AgentState_Ready","workNo":"1001","content":{{"filling":"{filling}"}}}}}}"#
    );
    let (content_type, headers) = ("application/json".into(), Vec::new());
    let fault = Fault::Raw { body: body.into(), content_type, headers };
    bridge.gateway.misbehave(Misbehaviour::always(fault).on(Interface::Poll));
    bridge.sign_in(AGENT).await.expect("signed in");
    for _ in 0..1_000 {
        reading.event("AgentState_Ready").await;
    }
    bridge.gateway.behave();
    bridge.set_busy(AGENT).await.expect("nobody waits for the one who does not read");

    let gap = async {
        loop {
            if let Some(What::Gap(gap)) = stuck.next().await.what {
                return gap;
            }
        }
    };
    assert!(gap.await.missed.is_some_and(|missed| missed > 100));
}

#[tokio::test]
async fn a_tenants_watchers_are_bounded() {
    let bridge = keeping("events.watches = 1\n").await;
    let watching = bridge.watch(&[], None).await;
    let second = bridge.events.clone().watch_events(WatchEventsRequest::default()).await;
    let refusal = Refusal::from(second.expect_err("one too many"));
    assert_eq!((refusal.code, &*refusal.reason), (Code::ResourceExhausted, "TENANT_LIMIT_REACHED"));
    drop(watching);
    let free = async {
        while bridge.events.clone().watch_events(WatchEventsRequest::default()).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    within("its place is free again", free).await;
}

#[tokio::test]
async fn a_stream_ends_with_its_deadline_and_with_the_bridge() {
    let bridge = keeping("").await;
    let mut request = Request::new(WatchEventsRequest::default());
    request.set_timeout(Duration::from_millis(100));
    let stream = bridge.events.clone().watch_events(request).await.expect("watching");
    let mut stream = stream.into_inner();
    let end = loop {
        if let Err(end) = stream.message().await {
            break end;
        }
    };
    assert_eq!(end.code(), Code::DeadlineExceeded);

    let mut watching = bridge.watch(&[], None).await;
    let TestBridge { bridge, gateway, .. } = bridge;
    let (end, drained) = tokio::join!(watching.told(), bridge.drain());
    let refusal = refused(end, Code::Unavailable, "SHUTTING_DOWN", "not_sent");
    assert_eq!(refusal.pushback.as_deref(), Some("1"));
    assert_eq!(drained, ccgateway_bridge::server::Drained::Clean);
    gateway.stop().await;
}

#[tokio::test]
async fn a_stream_ends_with_the_age_of_its_connection() {
    let server = "[server.connections]\nmax_age = \"1s\"\n";
    let bridge = TestBridge::with(Setup { tenant: server.into(), ..<_>::default() }).await;
    let mut watching = bridge.watch(&[], None).await;
    refused(watching.told().await, Code::Unavailable, "CONNECTION_AGED", "not_sent");
    bridge.watch(&[], None).await;
}

#[tokio::test]
async fn bad_fields_of_a_watch_are_named() {
    let bridge = TestBridge::start().await;
    let agent_ids = vec!["1001".into(), "7".into(), "x".into()];
    let request = WatchEventsRequest { agent_ids, ..<_>::default() };
    let result = bridge.events.clone().watch_events(request).await.map(|_| ());
    let refusal = refused(result, Code::InvalidArgument, "INVALID_REQUEST", "not_sent");
    let fields = &refusal.details.bad_request().expect("fields").field_violations;
    assert!(fields.iter().all(|violation| violation.field == "agent_ids"), "{fields:?}");

    let request = WatchEventsRequest { tenant_id: "nobody".into(), ..<_>::default() };
    let result = bridge.events.clone().watch_events(request).await.map(|_| ());
    refused(result, Code::NotFound, "TENANT_UNKNOWN", "not_sent");
}

#[tokio::test]
async fn a_session_shows_its_state() {
    let bridge = keeping("").await;
    let signed_in = bridge.sign_in(AGENT).await.expect("signed in");
    assert_eq!(signed_in.session.expect("a session").state(), SessionState::Kept);
}
