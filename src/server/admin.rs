//! The admin port: plain HTTP, since Kubernetes' probes cannot present a client certificate.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// Whether calls should be sent here.
#[derive(Debug, Default)]
pub(super) struct Readiness(AtomicU8);

const READY: u8 = 1;
const DRAINING: u8 = 2;

/// Probes come one at a time; more is not a probe.
const MAX_CONNECTIONS: usize = 32;
const HEAD_LIMIT: Duration = Duration::from_secs(5);
const CONNECTION_LIMIT: Duration = Duration::from_secs(60);

const HELP: &str = "\
/healthz  200 while the process runs; for liveness probes
/readyz   200 while calls are welcome, 503 while starting or draining; for readiness probes
";

impl Readiness {
    pub(super) fn set_ready(&self) {
        self.0.store(READY, Ordering::Release);
    }

    pub(super) fn set_draining(&self) {
        self.0.store(DRAINING, Ordering::Release);
    }

    fn answer(&self) -> (StatusCode, &'static str) {
        match self.0.load(Ordering::Acquire) {
            READY => (StatusCode::OK, "ready\n"),
            DRAINING => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
            _ => (StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
        }
    }
}

/// Answers probes until the bridge closes.
pub(super) async fn serve(
    listener: TcpListener,
    readiness: Arc<Readiness>,
    close: CancellationToken,
) {
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
            let (readiness, close) = (readiness.clone(), close.clone());
            tokio::spawn(async move {
                let serving = timeout(CONNECTION_LIMIT, serve_connection(stream, &readiness));
                close.run_until_cancelled(serving).await;
                drop(place);
            });
        }
    };
    close.run_until_cancelled(accepting).await;
}

async fn serve_connection(stream: TcpStream, readiness: &Readiness) {
    let service = service_fn(async |request| Ok::<_, Infallible>(answer(&request, readiness)));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "an admin connection ended");
    }
}

fn answer(request: &Request<Incoming>, readiness: &Readiness) -> Response<Full<Bytes>> {
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/healthz") => (StatusCode::OK, "ok\n"),
        (&Method::GET | &Method::HEAD, "/readyz") => readiness.answer(),
        (&Method::GET | &Method::HEAD, "/") => (StatusCode::OK, HELP),
        (&Method::GET | &Method::HEAD, _) => (StatusCode::NOT_FOUND, HELP),
        _ => (StatusCode::METHOD_NOT_ALLOWED, HELP),
    };
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let text = http::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, text);
    response
}
