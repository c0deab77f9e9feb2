//! One connection to a gateway.
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, client::conn::http1};
use prometheus_client::metrics::gauge::Gauge;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::{
    address::Address,
    arriving::{Arriving, End},
    cause::root_cause,
    connector::Connector,
    reply::Reply,
};
use crate::call::Untouched;

/// A connection to a gateway. It carries one request at a time.
#[derive(Debug)]
pub(super) struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    /// The task that drives the connection. It ends when the connection has been closed.
    driver: JoinHandle<()>,
    /// Since when the connection has been idle.
    pub(super) idle_since: Instant,
    /// Whether it has carried a request. Only then a gateway may have closed it for being idle too
    /// long.
    pub(super) used: bool,
}

/// The result of sending a request.
pub(super) enum Sent {
    /// It was answered. The connection is given back if it can carry another request.
    Answered(Reply, Option<Connection>),
    /// Not a byte of it was written, since the connection was closed before.
    Unwritten(Untouched, String),
    /// It was written, at least in part, and there is no complete answer.
    Unanswered(String),
    /// As `Unanswered`, since the time limit passed. The connection is being closed.
    Late(String, Closing),
}

/// A connection that is being closed while the gateway may still work on its request.
#[derive(Debug)]
pub struct Closing(JoinHandle<()>);

/// How long to wait for a connection to close whose peer does not answer.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);
/// How long a gateway may take to notice that a connection was closed, and to stop its work.
const NOTICE: Duration = Duration::from_millis(100);

/// The most bytes in the headers of an answer. No gateway sends more.
const MAX_HEAD_BYTES: usize = 64 * 1024;

impl Connection {
    /// Opens a connection, within the connector's time limit. `open` counts it until it ends.
    pub(super) async fn open(
        connector: Connector,
        address: &Address,
        open: &Gauge,
    ) -> Result<Self, String> {
        let stream = connector.connect(address.uri().clone()).await?;
        let mut builder = http1::Builder::new();
        // The header is documented as "Guid", and clients of some gateways depend on its case.
        builder.title_case_headers(true).max_buf_size(MAX_HEAD_BYTES);
        let (sender, driver) = builder.handshake(stream).await.map_err(|e| root_cause(&e))?;
        // The driver ends when either side closes the connection. Dropping the sender closes it.
        let open = open.clone();
        open.inc();
        let driver = tokio::spawn(async move {
            if let Err(error) = driver.await {
                tracing::debug!(%error, "a connection to a gateway ended");
            }
            open.dec();
        });
        Ok(Self { sender, driver, idle_since: Instant::now(), used: false })
    }

    /// Waits until the previous answer has been handled. `None` if the connection was closed.
    pub(super) async fn ready(mut self) -> Option<Self> {
        self.sender.ready().await.is_ok().then_some(self)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Sends a request and reads the headers of its answer.
    pub(super) async fn request(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> hyper::Result<Response<Incoming>> {
        self.sender.send_request(request).await
    }

    /// Sends a request and reads its complete answer, all within `limit`.
    pub(super) async fn send(
        self,
        request: Request<Full<Bytes>>,
        limit: Duration,
        untouched: Untouched,
    ) -> Sent {
        let Self { mut sender, driver, .. } = self;
        let mut arriving = None;
        let answer = async {
            let response = match sender.try_send_request(request).await {
                Ok(response) => response,
                Err(mut failed) => {
                    let unwritten = failed.take_message().is_some();
                    let cause = root_cause(failed.error());
                    return Err(if unwritten {
                        Sent::Unwritten(untouched, cause)
                    } else {
                        Sent::Unanswered(cause)
                    });
                }
            };
            let (head, body) = response.into_parts();
            Ok(arriving.insert(Arriving::new(head)).read(body).await)
        };
        let end = match timeout(limit, answer).await {
            Ok(Ok(end)) => end,
            Ok(Err(sent)) => return sent,
            Err(_elapsed) => End::Late,
        };
        if let Some(reply) = arriving.and_then(|arriving| arriving.into_reply(&end)) {
            // The rest of an answer that was not read to its end would be taken for the next answer.
            let is_whole = reply.is_whole;
            let next = || Self { sender, driver, idle_since: Instant::now(), used: true };
            return Sent::Answered(reply, is_whole.then(next));
        }
        match end {
            // The sender is dropped here, so the driver closes the connection.
            End::Late => {
                let limit = humantime::format_duration(limit);
                Sent::Late(format!("nothing within {limit}"), Closing(driver))
            }
            end => Sent::Unanswered(end.cause()),
        }
    }
}

impl Closing {
    /// A closing connection whose end is that of a task, for tests.
    #[cfg(test)]
    pub(crate) fn of(driver: JoinHandle<()>) -> Self {
        Self(driver)
    }

    /// Waits until the connection is closed and the gateway has had time to notice.
    pub async fn noticed(self) {
        let _closed = timeout(CLOSE_LIMIT, self.0).await;
        sleep(NOTICE).await;
    }
}
