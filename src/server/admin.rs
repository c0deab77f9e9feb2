//! The admin port: plain HTTP, since Kubernetes' probes cannot present a client certificate.
//!
//! A client of this port may see the bridge's status and change what is logged, and nothing else.

mod html;
mod log;
mod page;

use std::{convert::Infallible, fmt::Display, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{
        ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, REFRESH,
        X_CONTENT_TYPE_OPTIONS,
    },
};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{listener::next, status::StatusSource};
use crate::{
    telemetry::{log::LogControl, metrics},
    tenant::PeerPlaces,
};

/// An answer's status, content type and body.
type Answer = (StatusCode, &'static str, String);

/// What can be requested.
enum Page<'a> {
    Status,
    StatusJson,
    Health,
    Readiness,
    Metrics,
    Log(&'a LogControl),
}

/// Probes come one at a time, so this is plenty. When there are more connections, a new one
/// replaces the oldest, so that hanging connections cannot keep probes out.
const MAX_CONNECTIONS: usize = 32;
/// How long the head of a request, or the filter of a PUT, may take.
const HEAD_LIMIT: Duration = Duration::from_secs(5);
/// How long a connection may last.
const CONNECTION_LIMIT: Duration = Duration::from_secs(60);

const HELP: &str = "\
/             the status of the bridge, for a browser; with ?refresh=5 it reloads every 5 s
/status.json  the same as JSON
/healthz      200 while the process runs; for liveness probes
/readyz       200 while calls are welcome, 503 while starting or draining; for readiness probes.
              Lists unsafe settings; with ?verbose also the state of connections, the store and
              the sessions
/metrics      counters and times, in the OpenMetrics format
/log          GET: the current filter; PUT: changes the filter to the request's body, for example
              debug or ccgateway_bridge=trace,info; with ?for=10m only for that time
";

const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";

/// Serves the admin port until the bridge closes.
pub(super) async fn serve(
    listener: TcpListener,
    source: Arc<StatusSource>,
    close: CancellationToken,
) {
    let places = PeerPlaces::new(MAX_CONNECTIONS);
    let accepting = async {
        loop {
            let Ok((stream, peer)) = next(&listener).await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let (source, close, place) = (source.clone(), close.clone(), places.enter(peer.ip()));
            tokio::spawn(async move {
                let serving = timeout(CONNECTION_LIMIT, serve_connection(stream, &source));
                tokio::select! {
                    _served = serving => {}
                    () = place.lost() => {}
                    () = close.cancelled() => {}
                }
            });
        }
    };
    let both = async { tokio::join!(accepting, source.rates.follow()) };
    close.run_until_cancelled(both).await;
}

async fn serve_connection(stream: TcpStream, source: &StatusSource) {
    let service = service_fn(async |request| Ok::<_, Infallible>(respond(request, source).await));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "an admin connection ended");
    }
}

async fn respond(request: Request<Incoming>, source: &StatusSource) -> Response<Full<Bytes>> {
    let Some(page) = Page::at(request.uri().path(), source) else {
        return response((StatusCode::NOT_FOUND, TEXT, HELP.to_owned()));
    };
    let allowed = page.allowed();
    if !allowed.split(", ").any(|method| method == request.method().as_str()) {
        let said = format!("the method is not allowed here; allowed are: {allowed}\n\n{HELP}");
        let mut refusal = response((StatusCode::METHOD_NOT_ALLOWED, TEXT, said));
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
        return refusal;
    }
    let refresh = refresh(&request);
    let mut response = response(page.answer(request, source).await);
    response.headers_mut().extend(refresh.map(|time| (REFRESH, time)));
    response
}

impl<'a> Page<'a> {
    fn at(path: &str, source: &'a StatusSource) -> Option<Self> {
        Some(match path {
            "/" => Self::Status,
            "/status.json" => Self::StatusJson,
            "/healthz" => Self::Health,
            "/readyz" => Self::Readiness,
            "/metrics" => Self::Metrics,
            // Not there in a process that does not log.
            "/log" => Self::Log(source.exposition.log.as_ref()?),
            _ => return None,
        })
    }

    /// The methods, as the `Allow` header lists them.
    fn allowed(&self) -> &'static str {
        match self {
            Self::Log(_) => "GET, HEAD, PUT",
            _ => "GET, HEAD",
        }
    }

    async fn answer(self, request: Request<Incoming>, source: &StatusSource) -> Answer {
        match self {
            Self::Status => (StatusCode::OK, HTML, page::page(&source.status())),
            Self::StatusJson => match serde_json::to_string_pretty(&source.status()) {
                Ok(text) => (StatusCode::OK, JSON, text + "\n"),
                Err(error) => failed(error),
            },
            Self::Health => (StatusCode::OK, TEXT, "ok\n".to_owned()),
            Self::Readiness => {
                let verbose = request.uri().query() == Some("verbose");
                let (status, text) = source.readiness.answer(verbose);
                (status, TEXT, text)
            }
            Self::Metrics => match source.exposition.text() {
                Ok(text) => (StatusCode::OK, metrics::CONTENT_TYPE, text),
                Err(error) => failed(error),
            },
            Self::Log(log) if request.method() == Method::PUT => log::change(log, request).await,
            Self::Log(log) => log::show(log),
        }
    }
}

fn failed(error: impl Display) -> Answer {
    (StatusCode::INTERNAL_SERVER_ERROR, TEXT, error.to_string())
}

/// How often the browser shall reload the page, if the query asks for it.
fn refresh(request: &Request<Incoming>) -> Option<HeaderValue> {
    let seconds: u16 = request.uri().query()?.strip_prefix("refresh=")?.parse().ok()?;
    (request.uri().path() == "/").then(|| seconds.max(1).into())
}

fn response((status, content_type, body): Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(page::POLICY));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
