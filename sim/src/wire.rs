//! HTTP/1.1 without a library. Header names keep their case in both directions, and answers can be cut,
//! held back or ended in ways that a server library rightly prevents.

use std::io;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// A connection, with the bytes that have been read from it but not parsed yet.
#[derive(Debug)]
pub(super) struct Wire<S> {
    stream: S,
    unread: BytesMut,
}

/// A complete request, with the header names as they came.
#[derive(Clone, Debug, Default)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    pub(super) keep_alive: bool,
}

/// The most bytes of a request's head, and of bytes that come before the last request was answered.
const MAX_HEAD: usize = 64 * 1024;
/// The most bytes of a request's body.
const MAX_BODY: usize = 1024 * 1024;

// === impl Wire ===

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, unread: BytesMut::new() }
    }

    /// Reads the next request; `None` if the peer has closed the connection.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidData`] if it is not an HTTP/1.1 request, or too long.
    pub(super) async fn read_request(&mut self) -> io::Result<Option<Request>> {
        let Some(head) = self.read_head().await? else {
            return Ok(None);
        };
        let mut request =
            Request::parse(&head).ok_or_else(|| invalid("not an HTTP/1.1 request"))?;
        let expects = request.header("expect").is_some();
        let chunked = request.header("transfer-encoding").is_some();
        let length = match request.header("content-length") {
            Some(text) => text.parse().map_err(|_| invalid("bad Content-Length"))?,
            None => 0,
        };
        if expects && (chunked || length > 0) {
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        request.body = if chunked { self.read_chunks().await? } else { self.take(length).await? };
        Ok(Some(request))
    }

    /// Waits until the peer closes the connection. Bytes of the next request are kept.
    pub(super) async fn closed(&mut self) {
        while self.unread.len() < MAX_HEAD {
            if !matches!(self.stream.read_buf(&mut self.unread).await, Ok(1..)) {
                return;
            }
        }
        // The buffer is full, so nothing more is read, and the close is not seen here. Writing the
        // answer will fail instead.
        std::future::pending::<()>().await;
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Closes the connection properly; with TLS, by a close_notify alert.
    pub(super) async fn close(&mut self) {
        // The peer may be gone already.
        let _ = self.stream.shutdown().await;
    }

    async fn read_head(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(at) = self.unread.windows(4).position(|w| w == b"\r\n\r\n") {
                let head = self.unread.split_to(at).to_vec();
                self.unread.advance(4);
                return Ok(Some(head));
            }
            if self.unread.len() > MAX_HEAD {
                return Err(invalid("head too long"));
            }
            if self.stream.read_buf(&mut self.unread).await? == 0 {
                return Ok(None);
            }
        }
    }

    async fn read_chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.read_line().await?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).map_err(|_| invalid("bad chunk"))?;
            if size == 0 {
                while !self.read_line().await?.is_empty() {}
                return Ok(body);
            }
            if body.len().saturating_add(size) > MAX_BODY {
                return Err(invalid("body too long"));
            }
            body.extend(self.take(size).await?);
            self.read_line().await?;
        }
    }

    async fn read_line(&mut self) -> io::Result<String> {
        loop {
            if let Some(at) = self.unread.windows(2).position(|w| w == b"\r\n") {
                let line = self.unread.split_to(at);
                self.unread.advance(2);
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            if self.unread.len() > MAX_HEAD {
                return Err(invalid("line too long"));
            }
            self.fill().await?;
        }
    }

    async fn take(&mut self, length: usize) -> io::Result<Vec<u8>> {
        if length > MAX_BODY {
            return Err(invalid("body too long"));
        }
        while self.unread.len() < length {
            self.fill().await?;
        }
        Ok(self.unread.split_to(length).to_vec())
    }

    async fn fill(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.unread).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

// === impl Request ===

impl Request {
    /// A header's value, whatever the case of its name.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    fn parse(head: &[u8]) -> Option<Self> {
        let head = String::from_utf8_lossy(head);
        let mut lines = head.split("\r\n");
        let mut first = lines.next()?.split(' ');
        let (method, target, version) = (first.next()?, first.next()?, first.next()?);
        let headers: Option<Vec<_>> = lines
            .map(|line| {
                let (name, value) = line.split_once(':')?;
                Some((name.to_owned(), value.trim().to_owned()))
            })
            .collect();
        let mut request = Self {
            method: method.into(),
            target: target.into(),
            headers: headers?,
            ..Self::default()
        };
        let close = request
            .header("connection")
            .is_some_and(|value| value.to_ascii_lowercase().contains("close"));
        request.keep_alive = version == "HTTP/1.1" && !close;
        version.starts_with("HTTP/1.").then_some(request)
    }
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &str) -> io::Result<Option<Request>> {
        let (mut client, server) = tokio::io::duplex(64);
        let sent = bytes.to_owned();
        let writer = tokio::spawn(async move {
            let _ = client.write_all(sent.as_bytes()).await;
        });
        let request = Wire::new(server).read_request().await;
        writer.abort();
        request
    }

    #[tokio::test]
    async fn requests_keep_their_spelling() {
        let request = read("PUT /a?b=%20 HTTP/1.1\r\nGuId: x.y\r\nContent-Length: 3\r\n\r\n{ }")
            .await
            .unwrap()
            .unwrap();
        assert_eq!(request.target, "/a?b=%20");
        assert_eq!(request.headers[0], ("GuId".into(), "x.y".into()));
        assert_eq!(request.header("guid"), Some("x.y"));
        assert_eq!(request.body, b"{ }");
        assert!(request.keep_alive);
    }

    #[tokio::test]
    async fn chunked_bodies_are_read_whole() {
        let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        let request = read(&format!("{head}3;x=y\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")).await;
        assert_eq!(request.unwrap().unwrap().body, b"abcde");
    }

    #[tokio::test]
    async fn invalid_and_too_long_requests_are_errors() {
        for bytes in [
            "hello\r\n\r\n",
            "GET / HTTP/1.1\r\nno colon\r\n\r\n",
            "GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
            "GET / HTTP/1.1\r\nContent-Length: 1048577\r\n\r\n",
            "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        ] {
            assert!(read(bytes).await.is_err(), "{bytes:?}");
        }
    }
}
