//! Sign-ins and sign-outs, explicit and automatic.

use std::time::Duration;

use ccgateway_bridge::rpc::proto::{
    AgentType, SetBusyRequest, SignInRequest, SignOutRequest, sign_in_request::InitialState,
};
use ccgateway_sim::{AgentState, Fault, Interface, Misbehaviour, Options, Recovery};
use ccgateway_test_support::{AGENT, PASSWORD, Setup, TestBridge, refused, until};
use futures_util::future::join_all;
use prost_types::value::Kind;
use tokio::time::timeout;
use tonic::{Code, Request};

/// A bridge that holds agent 1001's password, or what it believes to be that.
async fn holding(password: Option<&'static str>) -> TestBridge {
    TestBridge::with(Setup { credentials: vec![AGENT], password, ..<_>::default() }).await
}

fn request() -> SignInRequest {
    let password = Some(PASSWORD.into());
    SignInRequest { agent_id: AGENT.to_string(), password, ..<_>::default() }
}

#[tokio::test]
async fn five_hundred_first_calls_need_one_sign_in() {
    let bridge = holding(None).await;
    let calls: Vec<_> = (0..500).map(|_| bridge.set_busy(AGENT)).collect();
    for answer in join_all(calls).await {
        answer.expect("accepted");
    }
    assert_eq!(bridge.asked(Interface::SignIn).len(), 1);
    assert_eq!(bridge.asked(Interface::SayBusy).len(), 500);
    assert_eq!(bridge.gateway.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn a_wrong_password_is_tried_once_for_all_who_wait() {
    let bridge = holding(Some("wrong")).await;
    bridge.gateway.freeze();
    let thaw = async {
        until("a request", || !bridge.gateway.journal().is_empty()).await;
        bridge.gateway.thaw();
    };
    let calls: Vec<_> = (0..100).map(|_| bridge.set_busy(AGENT)).collect();
    let (answers, ()) = tokio::join!(join_all(calls), thaw);
    for answer in answers {
        refused(answer, Code::FailedPrecondition, "CREDENTIALS_REJECTED", "refused");
    }
    assert_eq!(bridge.asked(Interface::SignIn).len(), 1);
}

#[tokio::test]
async fn a_locked_account_is_held_back_like_a_rejected_password() {
    for retcode in ["110-016", "110-021"] {
        let bridge = holding(None).await;
        let locked = Fault::Retcode { retcode: retcode.into(), message: String::new() };
        bridge.gateway.misbehave(Misbehaviour::always(locked).on(Interface::SignIn));
        for _ in 0..3 {
            let answer = bridge.set_busy(AGENT).await;
            let refusal = refused(answer, Code::FailedPrecondition, "ACCOUNT_LOCKED", "refused");
            assert_eq!(refusal.metadata["retcode"], retcode);
        }
        assert_eq!(bridge.asked(Interface::SignIn).len(), 1);
    }
}

#[tokio::test]
async fn a_locked_account_does_not_cost_the_bridge_the_password_that_a_caller_gave() {
    let bridge = TestBridge::signed_in().await;
    let locked = Fault::Retcode { retcode: "110-016".into(), message: String::new() };
    bridge.gateway.misbehave(Misbehaviour::once(locked).on(Interface::SignIn));
    bridge.gateway.sign_out(AGENT);
    for _ in 0..2 {
        let answer = bridge.set_busy(AGENT).await;
        refused(answer, Code::FailedPrecondition, "ACCOUNT_LOCKED", "refused");
    }
}

#[tokio::test]
async fn another_password_that_is_wrong_does_not_cost_the_bridge_the_right_one() {
    let bridge = TestBridge::signed_in().await;
    let wrong = Fault::Retcode { retcode: "100-004".into(), message: String::new() };
    bridge.gateway.misbehave(Misbehaviour::once(wrong).on(Interface::SignIn));
    let request = SignInRequest { password: Some("mistyped".into()), ..request() };
    let answer = bridge.sessions.clone().sign_in(request).await;
    refused(answer, Code::FailedPrecondition, "CREDENTIALS_REJECTED", "refused");
    bridge.gateway.sign_out(AGENT);
    bridge.set_busy(AGENT).await.expect("signed in with the password that it has");
}

async fn is_rejected(bridge: &TestBridge, password: &str) {
    let request = SignInRequest { password: Some(password.into()), ..request() };
    let answer = bridge.sessions.clone().sign_in(request).await;
    refused(answer, Code::FailedPrecondition, "CREDENTIALS_REJECTED", "refused");
}

/// Platforms count wrong passwords, however they come.
#[tokio::test]
async fn wrong_passwords_that_come_in_turns_reach_the_gateway_once_each() {
    let bridge = TestBridge::start().await;
    for _ in 0..3 {
        for password in ["wrong", "wrong too", "neither"] {
            is_rejected(&bridge, password).await;
        }
    }
    assert_eq!(bridge.asked(Interface::SignIn).len(), 3);
}

#[tokio::test]
async fn a_wrong_password_stays_rejected_after_the_right_one() {
    let bridge = TestBridge::start().await;
    is_rejected(&bridge, "wrong").await;
    bridge.sign_in(AGENT).await.expect("signed in");
    is_rejected(&bridge, "wrong").await;
    assert_eq!(bridge.asked(Interface::SignIn).len(), 2);
}

#[tokio::test]
async fn a_password_that_is_known_to_be_wrong_is_refused_before_anything_is_waited_for() {
    let bridge = TestBridge::start().await;
    is_rejected(&bridge, "wrong").await;
    bridge.sign_in(AGENT).await.expect("signed in");
    bridge.gateway.freeze();
    let states = bridge.states.clone();
    let hanging =
        tokio::spawn(async move { ccgateway_test_support::set_busy(&states, AGENT).await });
    until("the call hangs", || !bridge.asked(Interface::SayBusy).is_empty()).await;
    // The call has the agent's turn, and will not end.
    timeout(Duration::from_secs(10), is_rejected(&bridge, "wrong")).await.expect("at once");
    bridge.gateway.thaw();
    hanging.await.expect("no panic").expect("accepted");
}

#[tokio::test]
async fn an_expired_session_is_renewed_once_and_the_call_repeated() {
    let bridge = TestBridge::signed_in().await;
    bridge.gateway.sign_out(AGENT);
    bridge.set_busy(AGENT).await.expect("signed in anew with the held credentials");
    let interfaces: Vec<_> = bridge.gateway.journal().iter().map(|entry| entry.interface).collect();
    let expected = [Interface::SayBusy, Interface::SignIn, Interface::SayBusy].map(Some);
    assert_eq!(interfaces, expected);
}

/// The gateway has moved to another site, and the agent's session has not come along.
#[tokio::test]
async fn a_session_lost_in_a_switch_over_is_made_again_and_the_call_repeated() {
    for (recovery, retcode) in [
        (Recovery::TimedOut, "105-005"),
        (Recovery::GuidMismatch, "105-006"),
        (Recovery::SwitchedOff, "105-007"),
    ] {
        let bridge = TestBridge::signed_in().await;
        assert!(bridge.gateway.switch_over(AGENT, Duration::ZERO, recovery));
        bridge.set_busy(AGENT).await.expect("signed in anew with the held credentials");
        let answers = bridge.gateway.journal().into_iter();
        let answers = answers.filter_map(|entry| Some((entry.interface?, entry.answer?.retcode?)));
        let expected =
            [(Interface::SayBusy, retcode), (Interface::SignIn, "0"), (Interface::SayBusy, "0")];
        let answers: Vec<_> = answers.collect();
        let answers: Vec<_> = answers.iter().map(|(of, retcode)| (*of, &**retcode)).collect();
        assert_eq!(answers, expected);

        // Whom the bridge cannot sign in has to be signed in by somebody else.
        let other = AGENT + 1;
        bridge.register(other, &bridge.gateway.sign_in(other)).await.expect("registered");
        assert!(bridge.gateway.switch_over(other, Duration::ZERO, recovery));
        let result = bridge.set_busy(other).await;
        let refusal = refused(result, Code::FailedPrecondition, "SESSION_EXPIRED", "refused");
        assert_eq!(refusal.metadata["retcode"], retcode);

        // Nor is an owner's agent taken over, though the bridge knows a password from before.
        bridge.register(AGENT, &bridge.gateway.sign_in(AGENT)).await.expect("registered");
        let sign_ins = bridge.asked(Interface::SignIn).len();
        assert!(bridge.gateway.switch_over(AGENT, Duration::ZERO, recovery));
        let result = bridge.set_busy(AGENT).await;
        refused(result, Code::FailedPrecondition, "SESSION_EXPIRED", "refused");
        assert_eq!(bridge.asked(Interface::SignIn).len(), sign_ins);
    }
}

#[tokio::test]
async fn a_renewal_that_does_not_help_is_not_repeated() {
    let bridge = TestBridge::signed_in().await;
    let message = String::new();
    let expired = Fault::Retcode { retcode: "000-003".into(), message };
    bridge.gateway.misbehave(Misbehaviour::always(expired).on(Interface::SayBusy));
    bridge.gateway.sign_out(AGENT);
    let result = bridge.set_busy(AGENT).await;
    refused(result, Code::FailedPrecondition, "SESSION_EXPIRED", "refused");
    assert_eq!(bridge.asked(Interface::SayBusy).len(), 2);
    assert_eq!(bridge.asked(Interface::SignIn).len(), 1);
}

#[tokio::test]
async fn a_sign_in_says_what_the_gateway_says() {
    let bridge = TestBridge::start().await;
    let initial_state = InitialState::Busy.into();
    let request = SignInRequest { initial_state, agent_type: AgentType::Phone.into(), ..request() };
    let answer = bridge.sessions.clone().sign_in(request).await.expect("signed in").into_inner();
    assert_eq!(answer.retcode, "0");
    let Some(Kind::StructValue(result)) = answer.result.expect("a result").kind else {
        panic!("an object");
    };
    assert!(result.fields.contains_key("workno"));
    assert_eq!(answer.session.expect("a session").gateway_node, "AgentGateway0");
    assert_eq!(bridge.gateway.agent(AGENT).expect("known").state, AgentState::Busy);

    let entry = &bridge.asked(Interface::SignIn)[0];
    assert_eq!((entry.method.as_str(), entry.header("guid")), ("PUT", None));
    let body: serde_json::Value = serde_json::from_slice(&entry.body).expect("JSON");
    let expected = serde_json::json!({
        "password": PASSWORD, "phonenum": "", "status": 3, "agenttype": 4,
    });
    assert_eq!(body, expected);
}

#[tokio::test]
async fn an_agent_is_taken_over_only_if_the_caller_asks_for_it() {
    let bridge = TestBridge::start().await;
    bridge.gateway.sign_in(AGENT);
    let result = bridge.sessions.clone().sign_in(request()).await;
    let refusal = refused(result, Code::AlreadyExists, "AGENT_ALREADY_SIGNED_IN", "refused");
    assert_eq!(refusal.metadata["retcode"], "100-002");
    assert_eq!(bridge.asked(Interface::ForceSignIn).len(), 0);

    let request = SignInRequest { force: true, ..request() };
    bridge.sessions.clone().sign_in(request).await.expect("taken over");
    assert_eq!(bridge.asked(Interface::ForceSignIn).len(), 1);
    bridge.set_busy(AGENT).await.expect("accepted");
}

#[tokio::test]
async fn a_gateway_that_allows_no_force_is_not_forced() {
    let gateway = Options { force_sign_in: false, ..<_>::default() };
    let bridge = TestBridge::with(Setup { gateway, ..<_>::default() }).await;
    bridge.gateway.sign_in(AGENT);
    let request = SignInRequest { force: true, ..request() };
    let result = bridge.sessions.clone().sign_in(request).await;
    let refusal = refused(result, Code::FailedPrecondition, "FORCE_NOT_ALLOWED", "refused");
    assert_eq!(refusal.metadata["retcode"], "100-015");
    assert_eq!(bridge.asked(Interface::ForceSignIn).len(), 0);
}

#[tokio::test]
async fn passwords_come_from_the_call_or_the_file() {
    let bridge = TestBridge::start().await;
    let unsaid = SignInRequest { password: None, ..request() };
    let result = bridge.sessions.clone().sign_in(unsaid.clone()).await;
    refused(result, Code::FailedPrecondition, "CREDENTIALS_MISSING", "not_sent");
    let wrong = SignInRequest { password: Some("wrong".into()), ..request() };
    let result = bridge.sessions.clone().sign_in(wrong).await;
    refused(result, Code::FailedPrecondition, "CREDENTIALS_REJECTED", "refused");

    let holding = holding(None).await;
    holding.sessions.clone().sign_in(unsaid).await.expect("signed in with the configured one");
}

#[tokio::test]
async fn bad_fields_of_a_sign_in_are_all_named() {
    let bridge = TestBridge::start().await;
    let request = SignInRequest {
        agent_id: "1".into(),
        password: Some("x".repeat(33)),
        phone_number: Some("7".repeat(25)),
        agent_type: 5,
        ip: Some("::1".into()),
        initial_state: 9,
        ..SignInRequest::default()
    };
    let result = bridge.sessions.clone().sign_in(request).await;
    let refusal = refused(result, Code::InvalidArgument, "INVALID_REQUEST", "not_sent");
    let violations = &refusal.details.bad_request().expect("BadRequest").field_violations;
    let fields: Vec<_> = violations.iter().map(|violation| violation.field.as_str()).collect();
    let expected = ["agent_id", "password", "phone_number", "agent_type", "ip", "initial_state"];
    assert_eq!(fields, expected);
}

#[tokio::test]
async fn an_accepted_sign_in_without_a_guid_is_a_bad_reply() {
    let bridge = TestBridge::start().await;
    let fault = Fault::Status {
        status: 200,
        headers: Vec::new(),
        body: br#"{"message":"","retcode":"0","result":{}}"#.to_vec(),
        content_type: "application/json".into(),
    };
    bridge.gateway.misbehave(Misbehaviour::once(fault).on(Interface::SignIn));
    refused(bridge.sign_in(AGENT).await, Code::Internal, "GATEWAY_BAD_REPLY", "unknown");
}

#[tokio::test]
async fn a_sign_out_ends_the_session_and_forgets_the_credentials() {
    let bridge = TestBridge::signed_in().await;
    bridge.sign_out(AGENT).await.expect("signed out");
    assert!(!bridge.gateway.agent(AGENT).expect("known").signed_in);
    let result = bridge.set_busy(AGENT).await;
    refused(result, Code::FailedPrecondition, "SESSION_MISSING", "not_sent");
    let result = bridge.sign_out(AGENT).await;
    refused(result, Code::FailedPrecondition, "SESSION_MISSING", "not_sent");
}

#[tokio::test]
async fn a_talking_agent_is_signed_out_by_force_only() {
    let bridge = TestBridge::signed_in().await;
    bridge.gateway.start_call(AGENT);
    let result = bridge.sign_out(AGENT).await;
    refused(result, Code::FailedPrecondition, "AGENT_STATE_REFUSED", "refused");
    bridge.set_busy(AGENT).await.expect("still signed in");

    let forced = SignOutRequest { agent_id: AGENT.to_string(), force: true, ..<_>::default() };
    bridge.sessions.clone().sign_out(forced).await.expect("signed out");
    assert_eq!(bridge.asked(Interface::ForceSignOut).len(), 1);
}

#[tokio::test]
async fn a_sign_out_that_comes_too_late_ends_the_session_too() {
    let bridge = TestBridge::signed_in().await;
    bridge.gateway.sign_out(AGENT);
    let result = bridge.sign_out(AGENT).await;
    refused(result, Code::FailedPrecondition, "AGENT_NOT_SIGNED_IN", "refused");
    assert_eq!(bridge.asked(Interface::SignIn).len(), 0, "nobody signs in to sign out");
    let result = bridge.set_busy(AGENT).await;
    refused(result, Code::FailedPrecondition, "SESSION_MISSING", "not_sent");
}

#[tokio::test]
async fn calls_for_one_agent_never_overlap_at_the_gateway() {
    let bridge = TestBridge::start().await;
    bridge.sign_in(AGENT).await.expect("signed in");
    let mut callers = tokio::task::JoinSet::new();
    let bridge = std::sync::Arc::new(bridge);
    for caller in 0..50 {
        let bridge = bridge.clone();
        callers.spawn(async move {
            for turn in 0..20 {
                // Most of these are refused, since the others change the state as well.
                let _refused = match (caller + turn) % 3 {
                    0 => bridge.set_busy(AGENT).await.map(|_| ()),
                    1 => bridge.sign_in(AGENT).await.map(|_| ()),
                    _ => bridge.sign_out(AGENT).await,
                };
            }
        });
    }
    callers.join_all().await;
    assert_eq!(bridge.gateway.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn skill_queues_are_reset_after_every_sign_in_where_that_is_wanted() {
    let gateway = Options { skills_need_reset: true, skills: vec![7, 9], ..<_>::default() };
    let tenant = "reset_skills_after_sign_in = true\n".into();
    let credentials = vec![AGENT + 1];
    let bridge = TestBridge::with(Setup { gateway, tenant, credentials, ..<_>::default() }).await;
    let answer = bridge.sign_in(AGENT).await.expect("signed in");
    let reset = answer.skill_reset.expect("asked for");
    assert_eq!((reset.retcode.as_str(), reset.error.as_str()), ("0", ""));
    bridge.set_busy(AGENT + 1).await.expect("signed in by itself");
    for agent in [AGENT, AGENT + 1] {
        let view = bridge.gateway.agent(agent).expect("known");
        assert_eq!(view.skills, [7, 9]);
    }
    let target = &bridge.asked(Interface::ResetSkill)[0].target;
    assert!(target.ends_with("/onlineagent/1001/resetskill/true"), "{target}");
}

#[tokio::test]
async fn a_reset_of_skill_queues_that_fails_leaves_the_agent_signed_in() {
    let tenant = "reset_skills_after_sign_in = true\n".into();
    let bridge = TestBridge::with(Setup { tenant, ..<_>::default() }).await;
    let fault = Fault::Retcode { retcode: "100-007".into(), message: String::new() };
    bridge.gateway.misbehave(Misbehaviour::always(fault).on(Interface::ResetSkill));
    let answer = bridge.sign_in(AGENT).await.expect("signed in");
    let reset = answer.skill_reset.expect("asked for");
    assert_eq!(reset.retcode, "100-007");
    assert!(reset.error.contains("100-007"), "{}", reset.error);
    bridge.set_busy(AGENT).await.expect("there is a session");
}

#[tokio::test]
async fn a_deadline_that_passes_during_the_reset_has_the_outcome_of_the_sign_in() {
    let tenant = "reset_skills_after_sign_in = true\n".into();
    let credentials = vec![AGENT];
    let bridge = TestBridge::with(Setup { tenant, credentials, ..<_>::default() }).await;
    bridge.gateway.misbehave(Misbehaviour::always(Fault::Hang).on(Interface::ResetSkill));
    let (agent_id, reason) = (AGENT.to_string(), Some(200));
    let mut request = Request::new(SetBusyRequest { agent_id, reason, ..<_>::default() });
    request.set_timeout(Duration::from_secs(1));
    let answer = bridge.states.clone().set_busy(request).await;
    let refusal = refused(answer, Code::DeadlineExceeded, "DEADLINE", "unknown");
    assert!(refusal.message.contains("was signing the agent in"), "{}", refusal.message);
    assert_eq!(bridge.asked(Interface::SayBusy).len(), 0);
}
