use ccgateway_bridge::rpc::proto::SetBusyRequest;
use ccgateway_sim::{Entry, Interface};
use ccgateway_test_support::{AGENT, Setup, TestBridge, changes::no_fields, refused};
use tonic::Code;

fn request(reason: Option<i32>, prolong: Option<bool>) -> SetBusyRequest {
    SetBusyRequest { agent_id: AGENT.to_string(), reason, prolong, ..<_>::default() }
}

async fn sent(request: SetBusyRequest) -> Entry {
    let bridge = TestBridge::signed_in().await;
    let answer = bridge.call(request).await.expect("accepted");
    assert_eq!((answer.retcode.as_str(), answer.message.as_str()), ("0", "success"));
    assert_eq!(answer.result, Some(no_fields()));
    let mut journal = bridge.gateway.journal();
    assert_eq!(journal.len(), 1, "{journal:?}");
    journal.remove(0)
}

#[tokio::test]
async fn the_gateway_is_asked_exactly_as_documented() {
    let entry = sent(request(Some(200), None)).await;
    assert_eq!(entry.method, "POST");
    assert_eq!(entry.target, "/agentgateway/resource/onlineagent/1001/saybusy?reason=200");
    assert_eq!(entry.body, b"");

    let header = |name: &str| entry.headers.iter().find(|(key, _)| key == name);
    let content_type = header("Content-Type").map(|(_, value)| value.as_str());
    assert_eq!(content_type, Some("application/json; charset=UTF-8"));
    assert!(header("Guid").is_some_and(|(_, guid)| guid.ends_with(".AgentGateway0")));
    let mut names: Vec<_> = entry.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["Accept-Encoding", "Content-Length", "Content-Type", "Guid", "Host"]);
}

#[tokio::test]
async fn fields_that_the_caller_leaves_out_are_not_in_the_query() {
    for (reason, prolong, query) in [
        (None, None, ""),
        (Some(0), None, "?reason=0"),
        (None, Some(false), "?prolong=false"),
        (Some(250), Some(true), "?reason=250&prolong=true"),
    ] {
        let entry = sent(request(reason, prolong)).await;
        let path = "/agentgateway/resource/onlineagent/1001/saybusy";
        assert_eq!(entry.target, format!("{path}{query}"));
    }
}

#[tokio::test]
async fn every_bad_field_is_named_and_nothing_is_sent() {
    let bridge = TestBridge::signed_in().await;
    let bad_agents = ["100", "60000", "01001", "1001/../x", "", "１００１", "-1", "1001 "];
    let bad_reasons = [199, 251, -1, 1, i32::MAX, i32::MIN];
    let mut cases: Vec<_> = bad_agents.map(|agent| (agent, 200, vec!["agent_id"])).into();
    cases.extend(bad_reasons.map(|reason| ("1001", reason, vec!["reason"])));
    for agent in bad_agents {
        cases.extend(bad_reasons.map(|reason| (agent, reason, vec!["agent_id", "reason"])));
    }
    for (agent, reason, fields) in cases {
        let reason = Some(reason);
        let request = SetBusyRequest { agent_id: agent.into(), reason, ..<_>::default() };
        let result = bridge.call(request).await;
        let refusal = refused(result, Code::InvalidArgument, "INVALID_REQUEST", "not_sent");
        let violations = &refusal.details.bad_request().expect("BadRequest").field_violations;
        let named: Vec<_> = violations.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(named, fields, "{agent:?} {reason:?}");
    }
    assert_eq!(bridge.gateway.journal().len(), 0);
}

#[tokio::test]
async fn prolong_without_a_reason_is_refused() {
    let bridge = TestBridge::signed_in().await;
    let result = bridge.call(request(None, Some(true))).await;
    let refusal = refused(result, Code::InvalidArgument, "INVALID_REQUEST", "not_sent");
    let violations = &refusal.details.bad_request().expect("BadRequest").field_violations;
    assert_eq!(violations[0].field, "reason");
    assert_eq!(bridge.gateway.journal().len(), 0);
}

#[tokio::test]
async fn the_tenants_range_decides_which_agents_there_are() {
    let tenant = "agent_ids = \"500000-999999\"\n";
    let bridge = TestBridge::with(Setup { tenant: tenant.into(), ..<_>::default() }).await;
    let refusal =
        refused(bridge.set_busy(AGENT).await, Code::InvalidArgument, "INVALID_REQUEST", "not_sent");
    let violations = &refusal.details.bad_request().expect("BadRequest").field_violations;
    assert!(violations[0].description.contains("500000 to 999999"), "{violations:?}");
    let missing = bridge.set_busy(700_000).await;
    refused(missing, Code::FailedPrecondition, "SESSION_MISSING", "not_sent");
}

#[tokio::test]
async fn a_caller_may_name_the_tenant_and_must_where_there_are_several() {
    let bridge = TestBridge::signed_in().await;
    let named = |tenant: &str| SetBusyRequest { tenant_id: tenant.into(), ..request(None, None) };
    bridge.call(named("acme")).await.expect("accepted");
    let unknown = bridge.call(named("nobody")).await;
    let refusal = refused(unknown, Code::NotFound, "TENANT_UNKNOWN", "not_sent");
    let resource = refusal.details.resource_info().expect("ResourceInfo");
    assert_eq!(resource.resource_name, "nobody");

    let tenant = "[tenants.other]\nbase_urls = \"https://127.0.0.1:1\"\n";
    let several = TestBridge::with(Setup { tenant: tenant.into(), ..<_>::default() }).await;
    let refusal = refused(
        several.call(request(None, None)).await,
        Code::InvalidArgument,
        "INVALID_REQUEST",
        "not_sent",
    );
    let violations = &refusal.details.bad_request().expect("BadRequest").field_violations;
    assert_eq!(violations[0].field, "tenant_id");
}

#[tokio::test]
async fn a_busy_agents_reason_is_replaced_by_prolong_only() {
    let bridge = TestBridge::signed_in().await;
    bridge.call(request(Some(200), None)).await.expect("accepted");
    let again = bridge.call(request(Some(201), None)).await;
    refused(again, Code::FailedPrecondition, "AGENT_STATE_REFUSED", "refused");
    bridge.call(request(Some(202), Some(true))).await.expect("accepted");
    assert_eq!(bridge.gateway.agent(AGENT).expect("known").busy_reason, Some(202));
    assert_eq!(bridge.asked(Interface::SayBusy).len(), 3);
}
