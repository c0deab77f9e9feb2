//! A caller that shows every header and trailer of its answers.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

pub(super) struct Peer(SendRequest<Full<Bytes>>);

/// All that a caller is told without a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told(Vec<(String, Vec<u8>)>);

impl Peer {
    /// Connects with this TLS, or without any. The error says that TLS or HTTP/2 failed.
    pub(super) async fn connect(
        addr: SocketAddr,
        tls: Option<ClientConfig>,
    ) -> Result<Self, String> {
        let tcp = TcpStream::connect(addr).await.expect("connected");
        match tls {
            None => Self::over(tcp).await,
            Some(mut tls) => {
                tls.alpn_protocols = vec![b"h2".to_vec()];
                let name = ServerName::try_from("localhost").expect("a name");
                let stream = Box::pin(TlsConnector::from(Arc::new(tls)).connect(name, tcp)).await;
                Self::over(Box::new(stream.map_err(|error| error.to_string())?)).await
            }
        }
    }

    async fn over<S>(stream: S) -> Result<Self, String>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let shaken = Box::pin(handshake(TokioExecutor::new(), TokioIo::new(stream))).await;
        let (sender, connection) = shaken.map_err(|error| error.to_string())?;
        tokio::spawn(async move { drop(connection.await) });
        Ok(Self(sender))
    }

    /// Calls a method. The error says that there was no answer.
    pub(super) async fn call(
        &mut self,
        path: &str,
        message: &[u8],
        headers: &[(&str, &str)],
    ) -> Result<Told, String> {
        // A stream of events ends by that.
        let timeout = if path.ends_with("WatchEvents") { "300m" } else { "20S" };
        self.call_within(timeout, path, message, headers).await
    }

    /// Watches events for a minute, unless the bridge ends it sooner.
    pub(super) async fn watch(
        &mut self,
        path: &str,
        message: &[u8],
        headers: &[(&str, &str)],
    ) -> Result<Told, String> {
        self.call_within("60S", path, message, headers).await
    }

    async fn call_within(
        &mut self,
        timeout: &str,
        path: &str,
        message: &[u8],
        headers: &[(&str, &str)],
    ) -> Result<Told, String> {
        let length = u32::try_from(message.len()).expect("short").to_be_bytes();
        let frame = [&[0][..], &length, message].concat();
        let mut request = Request::post(format!("http://localhost{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("grpc-timeout", timeout);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::from(frame)).expect("a request");
        self.0.ready().await.map_err(|error| error.to_string())?;
        let answer = self.0.send_request(request).await.map_err(|error| error.to_string())?;
        let (head, body) = answer.into_parts();
        let body = body.collect().await.map_err(|error| error.to_string())?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        Ok(Told::all_of(&[head.headers, trailers]))
    }
}

impl Told {
    fn all_of(headers: &[HeaderMap; 2]) -> Self {
        let mut all: Vec<_> = headers
            .iter()
            .flat_map(HeaderMap::iter)
            .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
            .collect();
        all.sort();
        Self(all)
    }

    /// The value of `grpc-status`.
    pub(super) fn code(&self) -> &str {
        self.text("grpc-status")
    }

    /// The value of a header or trailer; empty if there is none.
    pub(super) fn text(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| str::from_utf8(value).expect("text"))
    }
}
