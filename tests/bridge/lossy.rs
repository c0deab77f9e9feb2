//! A proxy between the bridge and a gateway that loses what it is told to. It speaks plain HTTP.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_util::task::AbortOnDropHandle;

/// Forwards requests to a gateway, unless it is told to lose one.
pub(crate) struct LossyProxy {
    pub(crate) addr: SocketAddr,
    losses: Losses,
    _accepting: AbortOnDropHandle<()>,
}

/// How a request or its answer is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// The connection is closed when the first line has been read.
    InRequest,
    /// The connection is closed when the request has been read; the gateway never hears of it.
    AfterRequest,
    /// The gateway never hears of the request; the proxy answers by itself.
    Unforwarded(Own),
    /// The gateway has answered, and the connection is closed without a byte of it.
    BeforeAnswer,
    /// The gateway has answered, and the connection is closed in the middle of it.
    InAnswer,
    /// The gateway has answered, and the proxy gives an answer of its own.
    Instead(Own),
    /// The connection is closed once the answer has been sent.
    AfterAnswer,
}

/// An answer of the proxy's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Own {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<u32>,
}

/// What is lost next, each with a part of its request's target.
type Losses = Arc<Mutex<VecDeque<(&'static str, Loss)>>>;

impl LossyProxy {
    pub(crate) async fn to(gateway: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let losses = Losses::default();
        let shared = losses.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let losses = shared.clone();
                tokio::spawn(async move {
                    // Ends when either side goes.
                    let _gone = serve(client, gateway, &losses).await;
                });
            }
        });
        Self { addr, losses, _accepting: AbortOnDropHandle::new(accepting) }
    }

    /// What the bridge is to be given as the gateway's address.
    pub(crate) fn base_url(&self) -> String {
        format!("http://{}/agentgateway/resource", self.addr)
    }

    /// Loses the next request whose target has this in it.
    pub(crate) fn lose(&self, target: &'static str, loss: Loss) {
        self.losses.lock().expect("no panic").push_back((target, loss));
    }
}

fn next(losses: &Losses, line: &[u8]) -> Option<Loss> {
    let line = String::from_utf8_lossy(line);
    let mut losses = losses.lock().expect("no panic");
    let found = losses.iter().position(|(target, _)| line.contains(target))?;
    losses.remove(found).map(|(_, loss)| loss)
}

async fn serve(mut client: TcpStream, gateway: SocketAddr, losses: &Losses) -> Option<()> {
    loop {
        let line = until(&mut client, Vec::new(), b"\r\n").await?;
        let loss = next(losses, &line);
        if loss == Some(Loss::InRequest) {
            return None;
        }
        let request = message(&mut client, line).await?;
        match &loss {
            Some(Loss::AfterRequest) => return None,
            Some(Loss::Unforwarded(own)) => {
                client.write_all(&own.bytes()).await.ok()?;
                continue;
            }
            _ => {}
        }
        let mut upstream = TcpStream::connect(gateway).await.ok()?;
        upstream.write_all(&request).await.ok()?;
        let answer = message(&mut upstream, Vec::new()).await?;
        match loss {
            Some(Loss::BeforeAnswer) => return None,
            Some(Loss::InAnswer) => {
                client.write_all(answer.split_last()?.1).await.ok()?;
                return None;
            }
            Some(Loss::Instead(own)) => client.write_all(&own.bytes()).await.ok()?,
            Some(Loss::AfterAnswer) => {
                client.write_all(&answer).await.ok()?;
                return None;
            }
            _ => client.write_all(&answer).await.ok()?,
        }
    }
}

impl Own {
    fn bytes(self) -> Vec<u8> {
        let Self { status, retry_after } = self;
        let wait = retry_after.map(|wait| format!("Retry-After: {wait}\r\n")).unwrap_or_default();
        let body = "upstream connect error or disconnect/reset before headers";
        let length = body.len();
        format!(
            "HTTP/1.1 {status} Own\r\n{wait}Content-Type: text/plain\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        )
        .into_bytes()
    }
}

/// Reads a whole message that begins with what was read.
async fn message(stream: &mut TcpStream, read: Vec<u8>) -> Option<Vec<u8>> {
    let mut message = until(stream, read, b"\r\n\r\n").await?;
    let head = String::from_utf8_lossy(&message).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length.map_or(Some(0), |length| length.trim().parse().ok())?;
    let head = message.len();
    message.resize(head + length, 0);
    stream.read_exact(message.get_mut(head..)?).await.ok()?;
    Some(message)
}

/// Reads on to these bytes and no further.
async fn until(stream: &mut TcpStream, mut read: Vec<u8>, end: &[u8]) -> Option<Vec<u8>> {
    while !read.ends_with(end) {
        read.push(stream.read_u8().await.ok()?);
    }
    Some(read)
}
