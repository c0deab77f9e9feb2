use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, client::conn::http1};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::{connector::Connector, endpoint::Endpoint, failure::words, reply::Reply};
use crate::call::Untouched;

/// A connection to a gateway, which carries one request at a time.
#[derive(Debug)]
pub(super) struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    /// Ends when the connection has been closed.
    driver: JoinHandle<()>,
    /// Since when it has had nothing to do.
    pub(super) idle_since: Instant,
    /// Whether it has carried a request; only such a connection can have been closed by a gateway
    /// that found it idle for too long.
    pub(super) used: bool,
}

/// What became of a request.
pub(super) enum Sent {
    /// It was answered; the connection can carry the next one, if it is there.
    Answered(Reply, Option<Connection>),
    /// It went nowhere: the connection was closed before a byte of it was written.
    Unwritten(Untouched, String),
    /// It went out, or a part of it, and there is no whole answer.
    Unanswered(String),
    /// The same: its time is over, and the connection is being closed.
    Late(String, Closing),
}

/// A connection that is being closed while the gateway may still be at work for it.
#[derive(Debug)]
pub struct Closing(JoinHandle<()>);

/// For closing a connection whose peer does not answer.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);
/// For a gateway to notice that a connection has been closed, and to give up what it was doing.
const NOTICE: Duration = Duration::from_millis(100);

/// An answer's head may take this many bytes; more is no answer of a gateway.
const MAX_HEAD_BYTES: usize = 64 * 1024;

impl Connection {
    /// Opens a connection; the time for that is the connector's.
    pub(super) async fn open(connector: Connector, endpoint: &Endpoint) -> Result<Self, String> {
        let stream = connector.connect(endpoint.uri().clone()).await?;
        let mut builder = http1::Builder::new();
        // "Guid" is how the header is documented, and clients of some gateways go by case.
        builder.title_case_headers(true).max_buf_size(MAX_HEAD_BYTES);
        let (sender, driver) = builder.handshake(stream).await.map_err(|e| words(&e))?;
        // Ends with the connection, whichever side closes it; dropping the sender closes it.
        let open = endpoint.open().clone();
        open.inc();
        let driver = tokio::spawn(async move {
            if let Err(error) = driver.await {
                tracing::debug!(%error, "a connection to a gateway ended");
            }
            open.dec();
        });
        Ok(Self { sender, driver, idle_since: Instant::now(), used: false })
    }

    /// Waits until the answer before has been dealt with; `None` if the connection was closed.
    pub(super) async fn ready(mut self) -> Option<Self> {
        self.sender.ready().await.is_ok().then_some(self)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Sends a request and reads the head of its answer.
    pub(super) async fn request(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> hyper::Result<Response<Incoming>> {
        self.sender.send_request(request).await
    }

    /// Sends a request and reads its answer to the last byte, all within `limit`.
    pub(super) async fn send(
        self,
        request: Request<Full<Bytes>>,
        limit: Duration,
        untouched: Untouched,
    ) -> Sent {
        let Self { mut sender, driver, .. } = self;
        let answer = async move {
            let response = match sender.try_send_request(request).await {
                Ok(response) => response,
                Err(mut failed) => {
                    let unwritten = failed.take_message().is_some();
                    let cause = words(failed.error());
                    return Err(if unwritten {
                        Sent::Unwritten(untouched, cause)
                    } else {
                        Sent::Unanswered(cause)
                    });
                }
            };
            let reply = Reply::read(response).await.map_err(Sent::Unanswered)?;
            Ok((reply, sender))
        };
        match timeout(limit, answer).await {
            Ok(Ok((reply, sender))) => {
                // What was not read to its end would be read as the next answer.
                let whole = reply.is_whole();
                let next = || Self { sender, driver, idle_since: Instant::now(), used: true };
                Sent::Answered(reply, whole.then(next))
            }
            Ok(Err(sent)) => sent,
            // With the sender gone, the driver closes the connection.
            Err(_elapsed) => {
                let limit = humantime::format_duration(limit);
                Sent::Late(format!("nothing within {limit}"), Closing(driver))
            }
        }
    }
}

impl Closing {
    /// What ends with a task.
    #[cfg(test)]
    pub(crate) fn of(driver: JoinHandle<()>) -> Self {
        Self(driver)
    }

    /// Waits until the gateway has had the time to notice.
    pub async fn noticed(self) {
        let _closed = timeout(CLOSE_LIMIT, self.0).await;
        sleep(NOTICE).await;
    }
}
