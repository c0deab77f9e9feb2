//! Server reflection, as callers hear of its end.

use std::time::Duration;

use ccgateway_bridge::client;
use ccgateway_test_support::{TestBridge, origin, within};
use futures_util::stream;
use tonic::Code;
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest,
};
use tonic_types::StatusExt as _;

#[tokio::test]
async fn a_stream_that_asks_nothing_for_a_minute_is_told_why_it_ends() {
    let bridge = TestBridge::start().await;
    let request = ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..<_>::default()
    };
    // The second request never comes.
    let requests = stream::unfold(Some(request), |next| async {
        match next {
            Some(request) => Some((request, None)),
            None => std::future::pending().await,
        }
    });
    let addr = origin(bridge.bridge.grpc_addr());
    let mut client = ServerReflectionClient::with_origin(client::channel(), addr);
    let answers = client.server_reflection_info(requests).await.expect("served");
    let mut answers = answers.into_inner();
    assert!(answers.message().await.expect("readable").is_some());

    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(61)).await;
    tokio::time::resume();
    let status = within("the end", answers.message()).await.expect_err("ended for its pause");
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("{status:?}"));
    assert_eq!((&*info.reason, &*info.metadata["outcome"]), ("STREAM_IDLE", "not_sent"));
}
