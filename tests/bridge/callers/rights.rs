use ccgateway_bridge::access::Right;
use ccgateway_test_support::{Setup, TestBridge};

use super::{PERMISSION_DENIED, REFLECTION, list_services, peer::Peer, requests};

#[tokio::test]
async fn each_right_opens_its_own_methods() {
    for (name, right) in Right::ALL {
        // On this machine alone, callers need not show who they are.
        let settings = format!(
            "callers.all = {{ principals = [\"anonymous\"], tenants = [\"acme\"], rights = [\"{name}\"] }}"
        );
        let bridge = TestBridge::with(Setup { settings, ..<_>::default() }).await;
        let mut peer = Peer::connect(bridge.bridge.grpc_addr(), None).await.expect("connected");
        for (path, needed, message) in requests("acme") {
            let told = peer.call(&path, &message, &[]).await.expect("an answer");
            assert_eq!(
                told.code() == PERMISSION_DENIED,
                needed != right,
                "{name}: {path}: {told:?}"
            );
        }
        let states: Vec<_> =
            bridge.gateway.journal().iter().filter_map(|entry| entry.interface).collect();
        if right == Right::Watch {
            assert_eq!(states, [], "nothing is asked for those who may not");
        }
    }
}

#[tokio::test]
async fn reflection_is_served_where_a_listener_says_so() {
    let tenant = "[listeners.inner]\naddress = \"127.0.0.1:0\"\nreflection = false\n".to_owned();
    let bridge = TestBridge::with(Setup { tenant, ..<_>::default() }).await;
    for (name, expected) in [("default", "0"), ("inner", "12")] {
        let mut listeners = bridge.bridge.listeners().iter();
        let (_, addr) = listeners.find(|(listener, _)| listener.as_str() == name).expect("there");
        let mut peer = Peer::connect(*addr, None).await.expect("connected");
        let told = peer.call(REFLECTION, &list_services(), &[]).await.expect("an answer");
        assert_eq!(told.code(), expected, "{name}: {told:?}");
    }
}
