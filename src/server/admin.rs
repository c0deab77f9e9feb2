//! The admin port: plain HTTP, since Kubernetes' probes cannot present a client certificate.
//!
//! A client of this port may see the bridge's status, change what is logged, and have the configuration read
//! again, and nothing else.

mod connection;
mod hosts;
mod html;
mod log;
mod page;
mod query;
mod reload;
mod reports;
mod sites;
mod token;

use std::{fmt::Display, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri,
    header::{
        ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY,
        REFRESH, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
    },
};
use http_body_util::Full;
use hyper::body::Incoming;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::{
    connection::{Connection, Connections},
    hosts::Hosts,
    reports::Reports,
    token::Token,
};
use super::{
    Controls, ReloadControl,
    status::{NotFound, StatusSource},
};
use crate::{
    config::{self, Book},
    telemetry::{log::LogControl, metrics::Format},
};

/// An answer's status, content type and body.
type Answer = (StatusCode, &'static str, String);

/// What can be requested.
enum Page<'a> {
    Report(Report),
    Health,
    /// For probes, which wait for no other request.
    Readiness,
    Log(&'a LogControl),
    Reload(&'a ReloadControl),
}

/// What grows with the number of tenants.
#[derive(Clone, Copy)]
enum Report {
    Status,
    StatusJson,
    Agent,
    AgentJson,
    Readiness,
    Metrics,
}

/// How a report was asked for.
struct Asked {
    /// The format of metrics that the client accepts.
    format: Format,
    query: Option<String>,
    /// Where the book is that the page links to.
    book: Option<Arc<Book>>,
}

/// How long the head of a request, or the filter of a PUT, may take.
const HEAD_LIMIT: Duration = Duration::from_secs(5);

const HELP: &str = "\
/             the status of the bridge, for a browser; with ?refresh=5 it reloads every 5 s, with ?tenant=ID
              it shows one tenant
/status.json  the same as JSON, with ?tenant=ID of one tenant
/agent        ?tenant=ID&agent=ID: what is known of one agent
/agent.json   the same as JSON
/healthz      200 while the process runs; for liveness probes
/readyz       200 while calls are welcome, 503 while starting or draining; for readiness probes.
              Lists unsafe settings; with ?verbose also the state of connections, the store and
              the sessions. Probes ask for /readyz: /readyz?verbose waits for its turn, like /metrics
/metrics      counters and times, in the OpenMetrics format, or in that of Prometheus (0.0.4) for whoever
              accepts text/plain rather than that
/log          GET: the current filter; PUT: changes the filter to the request's body, for example
              debug or ccgateway_bridge=trace,info; with ?for=10m only for that time
/reload       GET: reads the configuration, and says what would change; POST: puts it into force
";

/// The answer to a request with another name for the port.
const STRANGER: &str = "\
the Host of this request is no name of this port: ask by its IP address or as localhost, or add the name
to admin.hosts in the bridge's configuration
";

/// Keeps pages of other sites from loading an answer into their process, as an image for example.
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";

/// What the service of each connection needs.
struct Pages {
    source: Arc<StatusSource>,
    hosts: Hosts,
    token: Token,
    reports: Reports,
    book: Option<Arc<Book>>,
}

/// Serves the admin port until the bridge closes.
pub(super) async fn serve(
    listener: TcpListener,
    config: config::Admin,
    source: Arc<StatusSource>,
    close: CancellationToken,
) {
    let pages = Arc::new(Pages {
        source: source.clone(),
        hosts: Hosts::new(config.hosts),
        token: Token::new(config.token),
        reports: Reports::default(),
        book: config.book.map(Arc::new),
    });
    let connections = Connections::new();
    let ending = close.clone();
    let accepting = connections.accept(listener, ending, move |request, connection| {
        let pages = pages.clone();
        async move { pages.respond(request, &connection).await }
    });
    let both = async { tokio::join!(accepting, source.history.clone().follow()) };
    close.run_until_cancelled(both).await;
}

impl Pages {
    async fn respond(
        &self,
        request: Request<Incoming>,
        connection: &Connection,
    ) -> Response<Full<Bytes>> {
        // Before anything else, so that a preflight of another site learns nothing either. No probe comes
        // from a page.
        if let Some(why) = sites::refusal(&request) {
            return response((StatusCode::FORBIDDEN, TEXT, why.to_owned()));
        }
        let source = &*self.source;
        let Some(page) = Page::at(request.uri(), &source.exposition.controls) else {
            return response((StatusCode::NOT_FOUND, TEXT, HELP.to_owned()));
        };
        let allowed = page.allowed();
        if !allowed.split(", ").any(|method| method == request.method().as_str()) {
            let said = format!("the method is not allowed here; allowed are: {allowed}\n\n{HELP}");
            let mut refusal = response((StatusCode::METHOD_NOT_ALLOWED, TEXT, said));
            refusal.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
            return refusal;
        }
        if !self.hosts.allow(&request) {
            return response(page.refused(StatusCode::MISDIRECTED_REQUEST, STRANGER, source));
        }
        if !self.token.allows(request.headers()) {
            let refusal = page.refused(StatusCode::UNAUTHORIZED, token::WANTED, source);
            let mut refusal = response(refusal);
            refusal.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            return refusal;
        }
        let refresh = refresh(&request);
        let mut response = response(self.answer(page, request, connection).await);
        response.headers_mut().extend(refresh.map(|time| (REFRESH, time)));
        response
    }

    async fn answer(
        &self,
        page: Page<'_>,
        request: Request<Incoming>,
        connection: &Connection,
    ) -> Answer {
        match page {
            Page::Report(report) => {
                connection.answers_at_length();
                let source = self.source.clone();
                let query = request.uri().query().map(str::to_owned);
                let asked = Asked { format: format(&request), query, book: self.book.clone() };
                let make = move || report.of(&source, &asked);
                self.reports.make(request.uri().path(), make).await.unwrap_or_else(failed)
            }
            Page::Health => (StatusCode::OK, TEXT, "ok\n".to_owned()),
            Page::Readiness => {
                let (status, text) = self.source.readiness.answer();
                (status, TEXT, text)
            }
            Page::Log(log) if request.method() == Method::PUT => log::change(log, request).await,
            Page::Log(log) => log::show(log),
            Page::Reload(reload) => reload::answer(reload, &request).await,
        }
    }
}

impl<'a> Page<'a> {
    fn at(uri: &Uri, controls: &'a Controls) -> Option<Self> {
        Some(match uri.path() {
            "/" => Self::Report(Report::Status),
            "/status.json" => Self::Report(Report::StatusJson),
            "/agent" => Self::Report(Report::Agent),
            "/agent.json" => Self::Report(Report::AgentJson),
            "/healthz" => Self::Health,
            "/readyz" if uri.query() == Some("verbose") => Self::Report(Report::Readiness),
            "/readyz" => Self::Readiness,
            "/metrics" => Self::Report(Report::Metrics),
            // Not there in a process that does not log.
            "/log" => Self::Log(controls.log.as_ref()?),
            "/reload" => Self::Reload(controls.reload.as_ref()?),
            _ => return None,
        })
    }

    /// The methods, as the `Allow` header lists them.
    fn allowed(&self) -> &'static str {
        match self {
            Self::Log(_) => "GET, HEAD, PUT",
            Self::Reload(_) => "GET, HEAD, POST",
            _ => "GET, HEAD",
        }
    }

    /// The answer to a request that may be a web page's ([`Hosts`]), or has not brought the [`Token`].
    /// Probes get their status all the same: it says nothing that a page could want.
    fn refused(self, status: StatusCode, why: &str, source: &StatusSource) -> Answer {
        let status = match self {
            Self::Health => StatusCode::OK,
            Self::Readiness | Self::Report(Report::Readiness) => source.readiness.answer().0,
            _ => status,
        };
        (status, TEXT, why.to_owned())
    }
}

impl Report {
    /// Reads everything from its sources.
    fn of(self, source: &StatusSource, asked: &Asked) -> Answer {
        let value = |name| query::value(asked.query.as_deref(), name);
        let status = || source.status(value("tenant")).ok_or(NotFound::Tenant);
        let agent = || {
            let (tenant, agent) = (value("tenant"), value("agent"));
            source.agent(tenant.unwrap_or_default(), agent.unwrap_or_default())
        };
        let book = asked.book.as_deref();
        let made = match self {
            Self::Status => {
                status().map(|found| as_html(page::page(&found, value("tenant").is_some(), book)))
            }
            Self::StatusJson => status().map(|status| as_json(&status)),
            Self::Agent => agent().map(|agent| as_html(page::agent(&agent, book))),
            Self::AgentJson => agent().map(|agent| as_json(&agent)),
            Self::Readiness => {
                let (status, text) = source.readiness.verbose();
                Ok((status, TEXT, text))
            }
            Self::Metrics => Ok(match source.exposition.text(asked.format) {
                Ok(text) => (StatusCode::OK, asked.format.content_type(), text),
                Err(error) => failed(error),
            }),
        };
        made.unwrap_or_else(|error| not_found(&error))
    }
}

fn as_html(page: String) -> Answer {
    (StatusCode::OK, HTML, page)
}

fn as_json(value: &impl Serialize) -> Answer {
    match serde_json::to_string_pretty(value) {
        Ok(text) => (StatusCode::OK, JSON, text + "\n"),
        Err(error) => failed(error),
    }
}

fn not_found(error: &NotFound) -> Answer {
    let status = match error {
        NotFound::Tenant => StatusCode::NOT_FOUND,
        NotFound::Agent(_) => StatusCode::BAD_REQUEST,
    };
    (status, TEXT, format!("{error}\n\n{HELP}"))
}

/// The format of metrics that the client accepts.
fn format(request: &Request<Incoming>) -> Format {
    let accept = request.headers().get_all(ACCEPT).iter();
    let accept: Vec<_> = accept.filter_map(|accept| accept.to_str().ok()).collect();
    Format::accepted(&accept)
}

fn failed(error: impl Display) -> Answer {
    (StatusCode::INTERNAL_SERVER_ERROR, TEXT, error.to_string())
}

/// How often the browser shall reload the page, if the query asks for it.
fn refresh(request: &Request<Incoming>) -> Option<HeaderValue> {
    let seconds: u16 = query::value(request.uri().query(), "refresh")?.parse().ok()?;
    matches!(request.uri().path(), "/" | "/agent").then(|| seconds.max(1).into())
}

fn response((status, content_type, body): Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(page::POLICY));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where there are many tenants it takes long, and a thread that serves callers must not be kept busy for that.
    #[test]
    fn what_grows_with_the_number_of_tenants_is_a_report_and_what_probes_ask_for_is_none() {
        let controls = Controls::default();
        for (uri, is_report) in [
            ("/", true),
            ("/?refresh=5", true),
            ("/status.json", true),
            ("/agent?tenant=acme&agent=1001", true),
            ("/agent.json?tenant=acme&agent=1001", true),
            ("/metrics", true),
            ("/readyz?verbose", true),
            ("/readyz", false),
            ("/healthz", false),
        ] {
            let page = Page::at(&uri.parse().expect("a URI"), &controls).expect("a page");
            assert_eq!(matches!(page, Page::Report(_)), is_report, "{uri}");
        }
    }
}
