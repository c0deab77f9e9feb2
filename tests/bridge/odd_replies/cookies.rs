//! Cookies that a gateway takes back.

use ccgateway_test_support::{
    AGENT,
    raw_gateway::{RawGateway, Step, accepting},
};

use super::signed_in_at;

/// The cookies that a bridge sends after answers with these `Set-Cookie` headers, one after the other.
async fn sent(headers: &[&str]) -> Option<String> {
    let gateway = RawGateway::plain().await;
    let bridge = signed_in_at(&gateway, "").await;
    for header in headers {
        gateway.script([Step::Send(accepting(&format!("Set-Cookie: {header}\r\n")))]);
        bridge.set_busy(AGENT).await.expect("accepted");
    }
    bridge.set_busy(AGENT).await.expect("accepted");
    let head = gateway.got().pop().expect("a request").head;
    head.lines().find_map(|line| line.strip_prefix("Cookie: ").map(str::to_owned))
}

#[tokio::test]
async fn a_cookie_that_has_expired_is_not_sent() {
    for (headers, expected) in [
        (&["lb=1"][..], Some("lb=1")),
        (&["lb=1; Max-Age=60; Path=/"], Some("lb=1")),
        (&["lb=1; Max-Age=0"], None),
        (&["lb=1; max-age = -1 ; Secure"], None),
        (&["lb=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT"], None),
        (&["lb=1; expires=Thu, 01-Jan-1970 00:00:10 GMT"], None),
        (&["lb=1; Expires=Fri, 31 Dec 9999 23:59:59 GMT"], Some("lb=1")),
        (&["lb=1; Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:00 GMT"], Some("lb=1")),
        (&["lb=1; Expires=Fri, 31 Dec 9999 23:59:59 GMT; Max-Age=0"], None),
        (&["lb=1", "lb=; Max-Age=0"], None),
        (&["lb=1", "x=2", "lb=deleted; Expires=Thu, 01 Jan 1970 00:00:00 GMT"], Some("x=2")),
        (&["lb=1", "lb=2; Max-Age=0", "lb=3"], Some("lb=3")),
        (&["lb=1; Max-Age=soon; Expires=never"], Some("lb=1")),
        // By the gateway's clock, which stands still.
        (
            &["lb=1; Expires=Thu, 01 Jan 1970 01:00:00 GMT\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT"],
            Some("lb=1"),
        ),
        (
            &["lb=1; Expires=Fri, 30 Dec 9999 00:00:00 GMT\r\nDate: Fri, 31 Dec 9999 00:00:00 GMT"],
            None,
        ),
    ] {
        assert_eq!(sent(headers).await.as_deref(), expected, "{headers:?}");
    }
}
