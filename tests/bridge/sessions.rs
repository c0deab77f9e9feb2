//! Which Guid is used, and what changes it.

use std::time::Duration;

use ccgateway_bridge::rpc::proto::{GetSessionRequest, RegisterSessionRequest, session::Origin};
use ccgateway_sim::{Entry, Fault, Interface, Misbehaviour, Options};
use ccgateway_test_support::{AGENT, Setup, TestBridge, refused, until, within};
use tonic::Code;

fn guid(entry: &Entry) -> &str {
    entry.header("guid").expect("every call has a Guid")
}

async fn session(bridge: &TestBridge) -> ccgateway_bridge::rpc::proto::Session {
    let request = GetSessionRequest { agent_id: AGENT.to_string(), ..<_>::default() };
    let answer = bridge.sessions.clone().get_session(request).await.expect("a session");
    answer.into_inner().session.expect("a session")
}

#[tokio::test]
async fn an_agent_without_a_session_is_not_asked_for() {
    let bridge = TestBridge::start().await;
    let result = bridge.set_busy(AGENT).await;
    let refusal = refused(result, Code::FailedPrecondition, "SESSION_MISSING", "not_sent");
    let failure = refusal.details.precondition_failure().expect("PreconditionFailure");
    assert_eq!(failure.violations[0].r#type, "SESSION");
    assert_eq!(failure.violations[0].subject, "tenants/acme/agents/1001");
    assert_eq!(bridge.gateway.journal().len(), 0);
}

#[tokio::test]
async fn a_registered_guid_is_used_until_another_is_registered() {
    let bridge = TestBridge::start().await;
    let guid_of_owner = bridge.gateway.sign_in(AGENT);
    let first = bridge.register(AGENT, &guid_of_owner).await.expect("registered");
    bridge.set_busy(AGENT).await.expect("accepted");
    assert_eq!(guid(&bridge.asked(Interface::SayBusy)[0]), guid_of_owner);

    let renewed = bridge.gateway.renew_guid(AGENT).expect("signed in");
    let second = bridge.register(AGENT, &format!("JSESSIONID={renewed}")).await;
    assert!(second.expect("registered") > first);
    bridge.set_busy(AGENT).await.expect("accepted");
    assert_eq!(guid(&bridge.asked(Interface::SayBusy)[1]), renewed);
}

#[tokio::test]
async fn a_session_is_shown_without_its_guid() {
    let bridge = TestBridge::start().await;
    bridge.register(AGENT, &bridge.gateway.sign_in(AGENT)).await.expect("registered");
    let session = session(&bridge).await;
    assert_eq!((session.tenant_id.as_str(), session.agent_id.as_str()), ("acme", "1001"));
    assert_eq!(session.origin(), Origin::Registered);
    assert_eq!(session.gateway_node, "AgentGateway0");
    let (renewed, expires) = (session.renew_time.expect("set"), session.expire_time.expect("set"));
    // The gateway's Guid life of two minutes, but for the time between two readings of the clock.
    assert!((119..=121).contains(&(expires.seconds - renewed.seconds)));
}

#[tokio::test]
async fn a_registration_ends_with_its_time_to_live() {
    let bridge = TestBridge::start().await;
    let request = |ttl: u64| RegisterSessionRequest {
        agent_id: AGENT.to_string(),
        guid: bridge.gateway.sign_in(AGENT),
        ttl: prost_types::Duration::try_from(Duration::from_millis(ttl)).ok(),
        ..<_>::default()
    };
    let mut sessions = bridge.sessions.clone();
    for bad in [0, 999, 86_400_001] {
        let result = sessions.register_session(request(bad)).await;
        let refusal = refused(result, Code::InvalidArgument, "INVALID_REQUEST", "not_sent");
        let violations = &refusal.details.bad_request().expect("BadRequest").field_violations;
        assert_eq!(violations[0].field, "ttl");
    }
    sessions.register_session(request(1000)).await.expect("registered");
    bridge.set_busy(AGENT).await.expect("accepted");
    let gone = async {
        while bridge.set_busy(AGENT).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    within("the session is forgotten", gone).await;
    let result = bridge.set_busy(AGENT).await;
    refused(result, Code::FailedPrecondition, "SESSION_MISSING", "not_sent");
}

#[tokio::test]
async fn a_session_that_does_not_exist_is_not_found() {
    let bridge = TestBridge::start().await;
    let request = GetSessionRequest { agent_id: AGENT.to_string(), ..<_>::default() };
    let answer = bridge.sessions.clone().get_session(request).await;
    let refusal = refused(answer, Code::NotFound, "SESSION_NOT_FOUND", "not_sent");
    let resource = refusal.details.resource_info().expect("ResourceInfo");
    assert_eq!(resource.resource_type, "session");
    assert_eq!(resource.resource_name, "tenants/acme/agents/1001");
}

#[tokio::test]
async fn an_invalid_guid_is_refused_without_quoting_it() {
    let bridge = TestBridge::start().await;
    let status = bridge.register(AGENT, "canary guid").await.expect_err("refused");
    assert!(!format!("{status:?}").contains("canary guid"), "{status:?}");
    refused::<u64>(Err(status), Code::InvalidArgument, "INVALID_REQUEST", "not_sent");
}

#[tokio::test]
async fn a_guid_renewed_by_a_reply_is_the_next_one_used() {
    let bridge = TestBridge::signed_in().await;
    let before = session(&bridge).await.guid_version;
    bridge.gateway.set_guid_on_next_reply(AGENT);
    bridge.set_busy(AGENT).await.expect("accepted");
    bridge.set_busy(AGENT).await.expect("accepted");

    let asked = bridge.asked(Interface::SayBusy);
    assert_ne!(guid(&asked[0]), guid(&asked[1]));
    assert_eq!(Some(guid(&asked[1])), bridge.gateway.agent(AGENT).expect("known").guid.as_deref());
    assert!(session(&bridge).await.guid_version > before);
}

#[tokio::test]
async fn a_reply_that_was_overtaken_does_not_bring_its_guid_back() {
    let bridge = TestBridge::signed_in().await;
    for _ in 0..20 {
        // The reply to a call with the present Guid names a stale one, and comes only after the
        // owner has registered a newer one.
        bridge.gateway.clear_journal();
        let stale = "00000000-dead-4437-84c3-ab9e9dae20f5.AgentGateway0".to_owned();
        let rule = |fault| Misbehaviour::once(fault).on(Interface::SayBusy);
        bridge.gateway.misbehave(rule(Fault::StaleSetGuid(stale)));
        bridge.gateway.freeze();
        let slow = bridge.set_busy(AGENT);
        let newer = async {
            until("a request", || !bridge.gateway.journal().is_empty()).await;
            let newer = bridge.gateway.renew_guid(AGENT).expect("signed in");
            bridge.register(AGENT, &newer).await.expect("registered");
            bridge.gateway.thaw();
            newer
        };
        let (answer, newer) = tokio::join!(slow, newer);
        answer.expect("accepted");
        bridge.set_busy(AGENT).await.expect("the newer Guid is in use");
        assert_eq!(guid(&bridge.asked(Interface::SayBusy)[1]), newer);
    }
}

#[tokio::test]
async fn a_registered_guid_that_the_gateway_refuses_is_forgotten() {
    let bridge = TestBridge::start().await;
    bridge.register(AGENT, &bridge.gateway.sign_in(AGENT)).await.expect("registered");
    bridge.gateway.expire_guids(AGENT);
    let result = bridge.set_busy(AGENT).await;
    let refusal = refused(result, Code::FailedPrecondition, "SESSION_EXPIRED", "refused");
    assert_eq!(refusal.metadata["retcode"], "000-003");
    assert_eq!(bridge.asked(Interface::SayBusy).len(), 1);

    let result = bridge.set_busy(AGENT).await;
    refused(result, Code::FailedPrecondition, "SESSION_MISSING", "not_sent");
}

#[tokio::test]
async fn a_refused_guid_is_replaced_by_one_that_was_registered_meanwhile() {
    let bridge = TestBridge::start().await;
    bridge.register(AGENT, &bridge.gateway.sign_in(AGENT)).await.expect("registered");
    bridge.gateway.freeze();
    let slow = bridge.set_busy(AGENT);
    let newer = async {
        until("a request", || !bridge.gateway.journal().is_empty()).await;
        bridge.gateway.expire_guids(AGENT);
        let newer = bridge.gateway.renew_guid(AGENT).expect("signed in");
        bridge.register(AGENT, &newer).await.expect("registered");
        bridge.gateway.thaw();
    };
    let (answer, ()) = tokio::join!(slow, newer);
    answer.expect("repeated once with the newer Guid");
    assert_eq!(bridge.asked(Interface::SayBusy).len(), 2);
}

#[tokio::test]
async fn the_balancers_cookies_are_sent_back_with_the_session() {
    let gateway = Options { balancer_cookie: true, nodes: 2, ..<_>::default() };
    let bridge = TestBridge::with(Setup { gateway, ..<_>::default() }).await;
    bridge.sign_in(AGENT).await.expect("signed in");
    bridge.set_busy(AGENT).await.expect("accepted");
    let cookie = bridge.asked(Interface::SayBusy)[0].header("cookie").map(str::to_owned);
    assert!(cookie.as_deref().is_some_and(|c| c.starts_with("loadbalance=")), "{cookie:?}");

    // A renewal stays on the node, so the cookie stays too.
    bridge.gateway.set_guid_on_next_reply(AGENT);
    bridge.set_busy(AGENT).await.expect("accepted");
    bridge.set_busy(AGENT).await.expect("accepted");
    assert_eq!(bridge.asked(Interface::SayBusy)[2].header("cookie").map(str::to_owned), cookie);
}

#[tokio::test]
async fn sessions_are_bounded_and_live_ones_are_kept() {
    let setup = Setup { tenant: "limits.sessions = 2\n".into(), ..<_>::default() };
    let bridge = TestBridge::with(setup).await;
    for agent in [1001, 1002] {
        bridge.sign_in(agent).await.expect("signed in");
    }
    let guid = bridge.gateway.sign_in(1003);
    let registered = bridge.register(1003, &guid).await;
    let refusal = refused(registered, Code::ResourceExhausted, "TENANT_LIMIT_REACHED", "not_sent");
    assert_eq!(
        refusal.details.quota_failure().expect("quota").violations[0].subject,
        "tenants/acme"
    );
    assert_eq!(refusal.metadata["share"], "sessions");
    assert_eq!(refusal.metadata["limit"], "2");
    assert!(refusal.details.retry_info().is_none(), "no place is free again by itself");
    assert_eq!(refusal.pushback, None);
    let signed_in = bridge.sign_in(1004).await;
    refused(signed_in, Code::ResourceExhausted, "TENANT_LIMIT_REACHED", "not_sent");
    assert!(bridge.gateway.agent(1004).is_none_or(|agent| !agent.signed_in));

    bridge.sign_out(1001).await.expect("signed out");
    bridge.register(1003, &guid).await.expect("there is room now");
    bridge.set_busy(1002).await.expect("kept");
}

/// Two at once for one place: the gateway must not sign an agent in whose Guid nobody keeps.
#[tokio::test]
async fn the_last_place_for_a_session_is_taken_before_the_gateway_is_asked() {
    let setup = Setup { tenant: "limits.sessions = 1\n".into(), ..<_>::default() };
    let bridge = TestBridge::with(setup).await;
    bridge.gateway.freeze();
    let first = bridge.sign_in(1001);
    let second = async {
        until("the first one's request", || !bridge.gateway.journal().is_empty()).await;
        let guid = bridge.gateway.sign_in(1003);
        let registered = bridge.register(1003, &guid).await;
        refused(registered, Code::ResourceExhausted, "TENANT_LIMIT_REACHED", "not_sent");
        let mut second = std::pin::pin!(bridge.sign_in(1002));
        let asked_twice = until("an answer or a request", || bridge.gateway.journal().len() > 1);
        let answer = tokio::select! {
            answer = &mut second => answer,
            () = asked_twice => panic!("the gateway is asked for a session that finds no place"),
        };
        refused(answer, Code::ResourceExhausted, "TENANT_LIMIT_REACHED", "not_sent");
        bridge.gateway.thaw();
    };
    let (answer, ()) = tokio::join!(first, second);
    answer.expect("signed in");
    bridge.set_busy(1001).await.expect("accepted");
    assert!(bridge.gateway.agent(1002).is_none_or(|agent| !agent.signed_in));
}
