//! Requests as they go over the wire, for callers that do what no library of gRPC does.

use std::{io::Write as _, net::SocketAddr};

use bytes::Bytes;
use ccgateway_test_support::{Program, within};
use flate2::{Compression, write::GzEncoder};
use h2::client::SendRequest;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::net::TcpStream;
use tonic::Status;
use tonic_types::{ErrorInfo, StatusExt as _};

/// A call's HTTP request.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: http::Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) http: u16,
    /// With the trailers.
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

/// A connection to the program that lasts as long as the test.
pub(crate) async fn connect(program: &Program) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(program.grpc).await.expect("connected");
    let (client, connection) = h2::client::handshake(stream).await.expect("a handshake");
    tokio::spawn(connection);
    client
}

impl Request {
    /// A call as gRPC has it. `body` has its frames.
    pub(crate) fn grpc(path: &str, body: &[u8]) -> Self {
        let (method, path, body) = (http::Method::POST, path.to_owned(), body.to_vec());
        let request = Self { method, path, headers: HeaderMap::new(), body };
        request.with("content-type", "application/grpc").with("te", "trailers")
    }

    /// The same with this header in the place of its own.
    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        let value = HeaderValue::from_bytes(value.as_bytes()).expect("a value");
        self.headers.insert(HeaderName::from_static(name), value);
        self
    }

    /// Sends it on a connection of its own, and reads the answer to its end.
    pub(crate) async fn send(self, program: &Program) -> Answer {
        self.send_to(program.grpc).await
    }

    /// The same, for a task of its own.
    pub(crate) async fn send_to(self, bridge: SocketAddr) -> Answer {
        let stream = TcpStream::connect(bridge).await.expect("connected");
        let (client, connection) = h2::client::handshake(stream).await.expect("a handshake");
        let driving = tokio::spawn(connection);
        let mut request = http::Request::new(());
        *request.method_mut() = self.method;
        *request.uri_mut() = format!("http://localhost{}", self.path).parse().expect("a path");
        *request.headers_mut() = self.headers;
        let mut client = client.ready().await.expect("a free stream");
        let ends = self.body.is_empty();
        let (response, mut sending) = client.send_request(request, ends).expect("open");
        if !ends {
            // The bridge may have answered already, without it.
            let _answered = sending.send_data(Bytes::from(self.body), true);
        }
        let answer = within("an answer", async {
            let (head, mut stream) = response.await.expect("answered").into_parts();
            let (mut headers, mut body) = (head.headers, Vec::new());
            while let Some(data) = stream.data().await {
                let data = data.expect("read");
                let _known = stream.flow_control().release_capacity(data.len());
                body.extend_from_slice(&data);
            }
            headers.extend(stream.trailers().await.expect("read").unwrap_or_default());
            Answer { http: head.status.as_u16(), headers, body }
        });
        let answer = answer.await;
        driving.abort();
        answer
    }
}

impl Answer {
    pub(crate) fn status(&self) -> Status {
        Status::from_header_map(&self.headers).unwrap_or_else(|| panic!("no status: {self:?}"))
    }

    /// The details that every error of the bridge has.
    pub(crate) fn info(&self) -> ErrorInfo {
        let details = self.status().get_error_details();
        details.error_info().cloned().unwrap_or_else(|| panic!("no details: {self:?}"))
    }
}

/// A message in its frame.
pub(crate) fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("short").to_be_bytes();
    [&[flag][..], &length, message].concat()
}

/// A message as gzip has it.
pub(crate) fn gzip(message: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(message).expect("into memory");
    encoder.finish().expect("into memory")
}
