//! The admin port: plain HTTP, since Kubernetes' probes cannot present a client certificate.

use std::{
    convert::Infallible,
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::metrics::Exposition;
use crate::{
    metrics,
    redis::{Link, LinkState},
    tenant::{StateCount, Tenants},
};

/// What the admin port shows.
#[derive(Debug)]
pub(super) struct Pages {
    pub(super) readiness: Arc<Readiness>,
    pub(super) exposition: Exposition,
}

/// Whether calls should be sent here.
#[derive(Debug)]
pub(super) struct Readiness {
    state: AtomicU8,
    tenants: Tenants,
    /// To what replicas share, if they do. Calls are welcome without it too.
    store: Option<Link>,
    /// Shown with every answer; a line each.
    warnings: String,
}

const READY: u8 = 1;
const DRAINING: u8 = 2;

/// Probes come one at a time; more is not a probe.
const MAX_CONNECTIONS: usize = 32;
const HEAD_LIMIT: Duration = Duration::from_secs(5);
const CONNECTION_LIMIT: Duration = Duration::from_secs(60);

const HELP: &str = "\
/healthz  200 while the process runs; for liveness probes
/readyz   200 while calls are welcome, 503 while starting or draining; for readiness probes.
          Names what is unsafe in the configuration; with ?verbose also how the store and the
          sessions are doing
/metrics  counters and times, in the OpenMetrics format
";

impl Readiness {
    /// Not ready yet, with what a careful operator would want to hear of the configuration.
    pub(super) fn new(tenants: Tenants, warnings: &[String], store: Option<Link>) -> Self {
        Self { state: AtomicU8::default(), tenants, store, warnings: warnings.join("\n") }
    }

    pub(super) fn set_ready(&self) {
        self.state.store(READY, Ordering::Release);
    }

    pub(super) fn set_draining(&self) {
        self.state.store(DRAINING, Ordering::Release);
    }

    fn answer(&self, verbose: bool) -> (StatusCode, String) {
        let (status, state) = match self.state.load(Ordering::Acquire) {
            READY => (StatusCode::OK, "ready\n"),
            DRAINING => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
            _ => (StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
        };
        let end = if self.warnings.is_empty() { "" } else { "\n" };
        let more = if verbose { self.store() + &self.sessions() } else { String::new() };
        (status, format!("{state}{}{end}{more}", self.warnings))
    }

    /// A line on the store that replicas share.
    fn store(&self) -> String {
        match self.store.as_ref().map(Link::state) {
            None => String::new(),
            Some(LinkState::Unused) => "store: not asked yet\n".to_owned(),
            Some(LinkState::Up) => "store: up\n".to_owned(),
            Some(LinkState::Down(error)) => format!("store: down, {error}\n"),
        }
    }

    /// A line for each tenant and state of its own sessions.
    fn sessions(&self) -> String {
        let mut lines = String::new();
        for tenant in self.tenants.all() {
            for StateCount { state, now, entered } in tenant.session_states() {
                let id = tenant.id();
                // Writing to a String cannot fail.
                let _written =
                    writeln!(lines, "tenant {id}: sessions {state} {now}, entered {entered} times");
            }
        }
        lines
    }
}

/// Answers probes until the bridge closes.
pub(super) async fn serve(listener: TcpListener, pages: Arc<Pages>, close: CancellationToken) {
    let open = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let accepting = async {
        loop {
            let Ok(place) = open.clone().acquire_owned().await else {
                return;
            };
            let Ok((stream, _peer)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let (pages, close) = (pages.clone(), close.clone());
            tokio::spawn(async move {
                let serving = timeout(CONNECTION_LIMIT, serve_connection(stream, &pages));
                close.run_until_cancelled(serving).await;
                drop(place);
            });
        }
    };
    close.run_until_cancelled(accepting).await;
}

async fn serve_connection(stream: TcpStream, pages: &Pages) {
    let service = service_fn(async |request| Ok::<_, Infallible>(answer(&request, pages)));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "an admin connection ended");
    }
}

fn answer(request: &Request<Incoming>, pages: &Pages) -> Response<Full<Bytes>> {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let mut content_type = "text/plain; charset=utf-8";
    let (status, body) = match request.uri().path() {
        _ if !reads => (StatusCode::METHOD_NOT_ALLOWED, HELP.to_owned()),
        "/healthz" => (StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => pages.readiness.answer(request.uri().query() == Some("verbose")),
        "/metrics" => {
            content_type = metrics::CONTENT_TYPE;
            match pages.exposition.text() {
                Ok(text) => (StatusCode::OK, text),
                Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
            }
        }
        "/" => (StatusCode::OK, HELP.to_owned()),
        _ => (StatusCode::NOT_FOUND, HELP.to_owned()),
    };
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
