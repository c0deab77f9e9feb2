//! A request whose message is sent later than its head.

use bytes::Bytes;
use ccgateway_test_support::{TestBridge, until_asked};
use h2::{RecvStream, SendStream, client::ResponseFuture};
use http::{HeaderMap, Request};
use tokio::net::TcpStream;
use tonic::Status;

pub(super) struct Half {
    answer: ResponseFuture,
    rest: SendStream<Bytes>,
    message: Bytes,
}

impl Half {
    /// Sends the head of a request, and waits until the bridge waits for the message.
    pub(super) async fn begin(
        bridge: &TestBridge,
        path: &str,
        message: &[u8],
        token: &str,
    ) -> Self {
        let stream = TcpStream::connect(bridge.bridge.grpc_addr()).await.expect("connected");
        let (client, connection) = h2::client::handshake(stream).await.expect("a handshake");
        tokio::spawn(connection);
        let request = Request::post(format!("http://localhost{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("authorization", token)
            .body(())
            .expect("a request");
        let mut client = client.ready().await.expect("a free stream");
        let (answer, rest) = client.send_request(request, false).expect("open");
        let waiting = "ccgw_server_places_in_use{share=\"unfinished_requests\"}";
        until_asked("the request to be waited for", async || {
            bridge.scrape().await.get(waiting) == Some(&1.0)
        })
        .await;
        let length = u32::try_from(message.len()).expect("short").to_be_bytes();
        let message = [&[0][..], &length, message].concat().into();
        Self { answer, rest, message }
    }

    /// Sends the message. Returns what the caller is told.
    pub(super) async fn end(mut self) -> Status {
        self.rest.send_data(self.message, true).expect("taken");
        let answer = self.answer.await.expect("an answer");
        let (head, mut body) = answer.into_parts();
        let trailers = trailers(&mut body).await;
        let told = |headers: &HeaderMap| Status::from_header_map(headers);
        told(&head.headers).or_else(|| told(&trailers)).expect("a status")
    }
}

async fn trailers(body: &mut RecvStream) -> HeaderMap {
    while let Some(data) = body.data().await {
        drop(data.expect("data"));
    }
    body.trailers().await.expect("trailers").unwrap_or_default()
}
