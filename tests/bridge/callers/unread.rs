//! What a caller is told of events that it has not read when it loses its right.

use bytes::Bytes;
use ccgateway_bridge::rpc::proto::{
    RegisterSessionRequest, WatchEventsRequest, WatchEventsResponse, watch_events_response::What,
};
use ccgateway_test_support::{AGENT, Setup, Site, TestBridge, until_asked, within};
use h2::{
    RecvStream,
    client::{Builder, SendRequest},
};
use http::Request;
use prost::Message as _;
use tokio::{net::TcpStream, sync::oneshot};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

fn settings(rights: &str) -> String {
    format!(
        "callers.acme = {{ principals = [\"anonymous\"], tenants = [\"acme\"], rights = {rights} }}\n\
         callers.other = {{ principals = [\"anonymous\"], tenants = [\"other\"], rights = [\"*\"] }}\n\
         tenants.other.base_urls = [\"https://gateway.other.example\"]"
    )
}

/// Begins to watch the events of a tenant.
async fn watch(client: &SendRequest<Bytes>, tenant: &str) -> RecvStream {
    let message =
        WatchEventsRequest { tenant_id: tenant.to_owned(), ..<_>::default() }.encode_to_vec();
    let length = u32::try_from(message.len()).expect("short").to_be_bytes();
    let frame = [&[0][..], &length, &message].concat();
    let request = Request::post("http://localhost/ccgateway.agent.v1.AgentEvents/WatchEvents")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", "1H")
        .body(());
    let mut client = client.clone().ready().await.expect("open");
    let request = request.expect("a request");
    let (response, mut body) = client.send_request(request, false).expect("sent");
    body.send_data(frame.into(), true).expect("sent");
    response.await.expect("served").into_body()
}

/// The caller's connection is kept for it meanwhile, since another stream on it goes on.
#[tokio::test]
async fn a_watcher_that_does_not_read_is_told_nothing_after_it_has_lost_its_right() {
    let site = Site::new(<_>::default()).await;
    let setup = |rights: &str| Setup { settings: settings(rights), ..<_>::default() };
    let bridge = TestBridge::at(&site, &setup("[\"*\"]")).await;
    let stream = TcpStream::connect(bridge.bridge.grpc_addr()).await.expect("connected");
    let mut builder = Builder::new();
    builder.initial_window_size(0);
    let (client, mut connection) = builder.handshake(stream).await.expect("a handshake");
    let (open, opened) = oneshot::channel();
    let _reading = tokio::spawn(async move {
        tokio::select! {
            ended = &mut connection => panic!("cut: {ended:?}"),
            opened = opened => opened.expect("the window to be opened"),
        }
        connection.set_initial_window_size(65_535).expect("a window");
        connection.await
    });
    let [mut lost, mut other] = [watch(&client, "acme").await, watch(&client, "other").await];
    let taken = "ccgw_tenant_places_in_use{tenant=\"acme\",share=\"watches\"}";
    let places = async |count: f64| bridge.scrape().await.get(taken) == Some(&count);
    assert!(places(1.0).await);

    let changed = bridge.reload(&setup("[\"session\"]"));
    assert_eq!(changed.taken, ["callers.acme.rights"]);
    let guid = bridge.gateway.sign_in(AGENT);
    let (tenant_id, agent_id) = ("acme".to_owned(), AGENT.to_string());
    let request = RegisterSessionRequest { tenant_id, agent_id, guid, ..<_>::default() };
    bridge.sessions.clone().register_session(request).await.expect("registered");
    until_asked("the place to be free", async || places(0.0).await).await;

    open.send(()).expect("still connected");
    // Where the watch began was on its way before.
    let begun = within("a message", lost.data()).await.expect("told").expect("not cut");
    let begun = WatchEventsResponse::decode(begun.get(5..).expect("a frame")).expect("a message");
    assert!(matches!(begun.what, Some(What::Begin(_))), "{begun:?}");
    let told = within("the end", lost.data()).await;
    assert!(told.is_none(), "it is told nothing more: {told:?}");
    let trailers = within("the end", lost.trailers()).await.expect("not cut").expect("trailers");
    let status = Status::from_header_map(&trailers).expect("a status");
    assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("{status:?}"));
    assert_eq!(info.reason, "CALLER_NOT_ALLOWED");
    within("a message", other.data()).await.expect("goes on").expect("not cut");
}
