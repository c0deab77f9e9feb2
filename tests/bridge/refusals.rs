use ccgateway_sim::{Fault, Interface, Misbehaviour};
use ccgateway_test_support::{AGENT, Setup, TestBridge, refused};
use tonic::Code;

async fn refusal_of(retcode: &str) -> (TestBridge, ccgateway_test_support::Refusal) {
    let bridge = TestBridge::signed_in().await;
    let (retcode, message) = (retcode.to_owned(), "no right to invite resouce".to_owned());
    let fault = Fault::Retcode { retcode, message };
    bridge.gateway.misbehave(Misbehaviour::always(fault).on(Interface::SayBusy));
    let status = bridge.set_busy(AGENT).await.expect_err("refused");
    (bridge, status.into())
}

#[tokio::test]
async fn each_retcode_has_its_status_and_shows_itself() {
    for (retcode, code, reason) in [
        ("000-002", Code::InvalidArgument, "GATEWAY_REJECTED_PARAMETER"),
        ("100-007", Code::Internal, "GATEWAY_OPERATION_FAILED"),
        ("100-009", Code::FailedPrecondition, "AGENT_STATE_REFUSED"),
        ("000-004", Code::Unavailable, "AGENT_SWITCHOVER"),
        ("105-002", Code::Unavailable, "AGENT_SWITCHOVER"),
        ("999-999", Code::Unknown, "UNLISTED_RETCODE"),
        ("nonsense", Code::Unknown, "UNLISTED_RETCODE"),
    ] {
        let (bridge, refusal) = refusal_of(retcode).await;
        assert_eq!((refusal.code, refusal.reason.as_str()), (code, reason), "{retcode}");
        assert_eq!(refusal.metadata["outcome"], "refused");
        assert_eq!(refusal.metadata["retcode"], retcode);
        assert_eq!(refusal.metadata["gateway_message"], "no right to invite resouce");
        assert_eq!(refusal.metadata["gateway_node"], "AgentGateway0");
        assert_eq!(refusal.metadata["tenant_id"], "acme");
        assert_eq!(refusal.metadata["agent_id"], "1001");
        assert_eq!(refusal.metadata["method"], "ccgateway.agent.v1.AgentState/SetBusy");
        assert_eq!(bridge.asked(Interface::SayBusy).len(), 1, "{retcode} must not be repeated");
    }
}

#[tokio::test]
async fn errors_that_may_be_retried_say_when_in_both_ways() {
    let (_, refusal) = refusal_of("000-004").await;
    let delay = refusal.details.retry_info().and_then(|info| info.retry_delay);
    assert_eq!(delay.expect("a delay").as_millis().to_string(), "5000");
    assert_eq!(refusal.pushback.as_deref(), Some("5000"));
}

#[tokio::test]
async fn the_operator_can_override_a_retcode() {
    let tenant = "[retcodes.\"999-999\"]\ncode = \"RESOURCE_EXHAUSTED\"\nreason = \"LICENCES\"\n\
                  retry_after = \"3s\"\n";
    let bridge = TestBridge::with(Setup { tenant: tenant.into(), ..<_>::default() }).await;
    bridge.sign_in(AGENT).await.expect("signed in");
    let fault = Fault::Retcode { retcode: "999-999".into(), message: String::new() };
    bridge.gateway.misbehave(Misbehaviour::always(fault).on(Interface::SayBusy));

    let result = bridge.set_busy(AGENT).await;
    let refusal = refused(result, Code::ResourceExhausted, "LICENCES", "refused");
    assert_eq!(refusal.pushback.as_deref(), Some("3000"));
    assert_eq!(refusal.metadata["retcode"], "999-999");
}

#[tokio::test]
async fn a_refusal_with_another_http_status_than_200_is_still_a_refusal() {
    let bridge = TestBridge::signed_in().await;
    let fault = Fault::Status {
        status: 500,
        headers: Vec::new(),
        body: br#"{"message":"","retcode":"100-009"}"#.to_vec(),
        content_type: "application/json".into(),
    };
    bridge.gateway.misbehave(Misbehaviour::once(fault).on(Interface::SayBusy));
    let result = bridge.set_busy(AGENT).await;
    refused(result, Code::FailedPrecondition, "AGENT_STATE_REFUSED", "refused");
}
