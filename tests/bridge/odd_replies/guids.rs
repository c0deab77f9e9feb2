//! Guids in what callers get of an answer, whatever their form.

use ccgateway_sim::Options;
use ccgateway_test_support::{AGENT, kept, raw_gateway::answer, refused};
use tonic::Code;

use super::{RawGateway, Step, signed_in_at};

/// Guids of odd forms; each has `canary` in it.
const ODD: [&str; 4] = [
    "279fe21d-2caa-4437-84c3-ab9e9canary0.AgentGateway1",
    "canary.session/7+a",
    "CANARY\\7f.Node-1",
    "q0canary",
];

/// The forms in which a gateway may write a Guid into a text of JSON.
fn written(guid: &str) -> [String; 3] {
    let escaped = guid.replace('\\', "\\\\");
    let first = format!("\\u{:04x}", u32::from(guid.as_bytes()[0]));
    let rest = guid[1..].replace('\\', "\\\\").replace('/', "\\/");
    [escaped.clone(), escaped.to_ascii_uppercase().replace("\\7F", "\\7f"), first + &rest]
}

#[tokio::test]
async fn no_guid_of_any_form_is_in_what_a_caller_gets_of_an_answer() {
    let gateway = RawGateway::plain().await;
    let bridge = signed_in_at(&gateway, "").await;
    for guid in ODD {
        for text in written(guid) {
            for retcode in ["0", "100-009"] {
                bridge.register(AGENT, guid).await.expect("registered");
                let body = format!(
                    r#"{{"message":"not {text}!","retcode":"{retcode}","result":{{"a":["{text}"],"{text}":1}}}}"#
                );
                gateway.script(vec![Step::Send(answer("", body))]);
                let told = format!("{:?}", bridge.set_busy(AGENT).await);
                assert!(told.contains("not …"), "{told}");
                assert!(!told.to_lowercase().contains("canary"), "{text}: {told}");
            }
            // It is longer than what is told of a retcode.
            bridge.register(AGENT, guid).await.expect("registered");
            let body = format!(r#"{{"message":"","retcode":"a retcode that is not {text}!"}}"#);
            gateway.script(vec![Step::Send(answer("", body))]);
            let refusal =
                refused(bridge.set_busy(AGENT).await, Code::Unknown, "UNLISTED_RETCODE", "refused");
            assert!(
                refusal.metadata["retcode"].starts_with("a retcode that is not …"),
                "{refusal:?}"
            );
            assert!(
                !format!("{refusal:?}").to_lowercase().contains("canary"),
                "{text}: {refusal:?}"
            );
        }
    }
}

#[tokio::test]
async fn no_guid_is_in_what_a_watcher_gets_of_an_event() {
    let bridge = kept(Options::default(), [AGENT]).await;
    let guid = bridge.gateway.agent(AGENT).and_then(|agent| agent.guid).expect("signed in");
    let secret = guid.split('.').next().expect("a secret").to_owned();
    let mut watching = bridge.watch(&[AGENT], None).await;
    for content in [format!("\"{guid}\""), format!(r#"{{ "a": [1e999, "JSESSIONID={guid}"] }}"#)] {
        assert!(bridge.gateway.tell(AGENT, "AgentEvent_Hold", Some(&content)));
        let told = format!("{:?}", watching.event("AgentEvent_Hold").await);
        assert!(told.contains('…') && !told.contains(&secret), "{told}");
    }
}
