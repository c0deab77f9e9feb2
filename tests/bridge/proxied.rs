//! A gateway behind a proxy: the proxy's answer does not say what the gateway has done.

use ccgateway_sim::{Interface, Options};
use ccgateway_test_support::{
    AGENT, Refusal, Setup, TestBridge, gateway,
    lossy::{Hides, Loss, LossyProxy, Own},
    refused, until_asked,
};
use tonic::Code;

const REASON: &str = "GATEWAY_PROXY_FAILED";

/// A bridge whose gateway is behind a proxy, with these lines of the tenant's.
async fn behind_a_proxy(tenant: &str) -> (LossyProxy, TestBridge) {
    let options = Options { plaintext: true, ..<_>::default() };
    let gateway = gateway(options).await;
    let proxy = LossyProxy::to(gateway.addr()).await;
    let (tenant, base_url) = (tenant.to_owned(), Some(proxy.base_url()));
    let bridge = TestBridge::of(gateway, Setup { tenant, base_url, ..<_>::default() }).await;
    (proxy, bridge)
}

/// The same; agent 1001 is signed in.
async fn proxied() -> (LossyProxy, TestBridge) {
    let (proxy, bridge) = behind_a_proxy("read_back = false\n").await;
    bridge.sign_in(AGENT).await.expect("signed in");
    bridge.gateway.clear_journal();
    (proxy, bridge)
}

/// What comes of one `SetBusy` that is lost like this, and how often the gateway was asked.
async fn lost(loss: Loss, code: Code, reason: &str, outcome: &str) -> (Refusal, usize) {
    let (proxy, bridge) = proxied().await;
    proxy.lose("/saybusy", loss);
    let refusal = refused(bridge.set_busy(AGENT).await, code, reason, outcome);
    let asked = bridge.asked(Interface::SayBusy).len();
    bridge.set_busy(AGENT).await.expect("the bridge goes on serving");
    (refusal, asked)
}

#[tokio::test]
async fn a_proxy_that_loses_the_answer_leaves_the_outcome_unknown() {
    for status in [408, 502, 503, 504] {
        let own = Own { status, retry_after: None };
        for (loss, asked) in [(Loss::Instead(own), 1), (Loss::Unforwarded(own), 0)] {
            let (refusal, times) = lost(loss, Code::Unknown, REASON, "unknown").await;
            assert_eq!(times, asked);
            assert_eq!(refusal.metadata["http_status"], status.to_string());
            assert_eq!(refusal.pushback.as_deref(), Some("-1"));
            assert!(refusal.details.retry_info().is_none());
        }
    }
}

#[tokio::test]
async fn a_status_that_says_come_back_later_promises_that_nothing_was_done() {
    for (status, retry_after) in [(421, None), (425, None), (429, None), (503, Some(7))] {
        let loss = Loss::Unforwarded(Own { status, retry_after });
        let (refusal, _) = lost(loss, Code::Unavailable, "GATEWAY_BUSY", "refused").await;
        let delay = refusal.details.retry_info().and_then(|info| info.retry_delay);
        assert_eq!(
            delay.map(|delay| delay.as_secs()),
            retry_after.map_or(Some(1), |s| Some(s.into()))
        );
    }
}

/// A balancer that fails over without a word leaves all connections dead that were idle then.
#[tokio::test]
async fn a_connection_without_an_answer_takes_along_those_that_were_idle_then() {
    let times = "timeouts.request = \"3s\"\ntimeouts.idle = \"5m\"\n";
    let (proxy, bridge) = behind_a_proxy(&format!("read_back = false\n{times}")).await;
    for agent in [AGENT, AGENT + 1] {
        bridge.sign_in(agent).await.expect("signed in");
    }
    proxy.lose(format!("/{AGENT}/saybusy"), Loss::Paused);
    let meanwhile = async {
        proxy.paused().await;
        bridge.set_busy(AGENT + 1).await.expect("on another connection");
        proxy.go_on();
    };
    let (call, ()) = tokio::join!(bridge.set_busy(AGENT), meanwhile);
    call.expect("accepted");
    let name = "ccgw_gateway_connections{tenant=\"acme\"}";
    let open = async || bridge.scrape().await.get(name).copied();
    assert_eq!(open().await, Some(2.0));

    proxy.lose("/saybusy", Loss::Swallowed);
    refused(bridge.set_busy(AGENT).await, Code::Unknown, "GATEWAY_NO_ANSWER", "unknown");
    until_asked("no connection of that time", async || open().await == Some(0.0)).await;
    bridge.set_busy(AGENT).await.expect("on a new connection");
}

#[tokio::test]
async fn a_connection_that_the_proxy_cuts_leaves_the_outcome_unknown() {
    for (loss, asked) in [
        (Loss::InRequest, 0),
        (Loss::AfterRequest, 0),
        (Loss::BeforeAnswer, 1),
        (Loss::InAnswer, 1),
    ] {
        let (refusal, times) = lost(loss, Code::Unknown, "GATEWAY_NO_ANSWER", "unknown").await;
        assert_eq!(times, asked);
        assert_eq!(refusal.pushback.as_deref(), Some("-1"));
    }
}

#[tokio::test]
async fn a_sign_in_without_a_guid_is_undone_and_reported() {
    for (hides, undone, signed_in) in [
        (Hides::OffAndOn, "signed out again", false),
        // The gateway wants the Guid that the bridge does not have.
        (Hides::Off, "could not be signed out again", true),
    ] {
        let (proxy, bridge) = behind_a_proxy("").await;
        proxy.hide(Some(hides));
        let answer = bridge.sign_in(AGENT).await;
        let refusal = refused(answer, Code::Internal, "GATEWAY_BAD_REPLY", "unknown");
        assert!(refusal.message.contains(undone), "{}", refusal.message);
        assert_eq!(bridge.asked(Interface::SignOut).len(), 1);
        let agent = bridge.gateway.agent(AGENT).expect("known");
        assert_eq!(agent.signed_in, signed_in);
    }
}

#[tokio::test]
async fn a_gateway_without_guids_is_served_where_the_configuration_says_so() {
    let (proxy, bridge) = behind_a_proxy("auth_mode = \"none\"\n").await;
    proxy.hide(Some(Hides::OffAndOn));
    bridge.sign_in(AGENT).await.expect("signed in");
    bridge.set_busy(AGENT).await.expect("accepted");
    bridge.sign_out(AGENT).await.expect("signed out");
    let asked = [Interface::SignIn, Interface::SayBusy, Interface::SignOut].map(Some);
    let journal = bridge.gateway.journal();
    assert_eq!(journal.iter().map(|entry| entry.interface).collect::<Vec<_>>(), asked);
}
