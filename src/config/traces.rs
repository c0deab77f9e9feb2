//! `[traces]`.

use std::{num::NonZeroUsize, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Uri, uri::Scheme};

use super::{
    ClientTls, Trust,
    error::{Problem, quote},
    files,
    reader::Section,
    scalar::{self, is_this_machine},
};
use crate::{secret, telemetry::trace::Collector};

/// Where traces of calls are sent, and which calls are recorded. `[traces]`.
#[derive(Debug)]
pub struct Traces {
    /// The collector that takes them, and what is sent to it.
    pub collector: Collector,
    /// TLS towards the collector, if the endpoint is `https`. `traces.tls`.
    pub tls: ClientTls,
}

/// A span takes about a kilobyte, so the queue takes about four megabytes. A recorded call has four
/// spans. A healthy collector takes spans faster than the queue fills.
const QUEUE: NonZeroUsize = NonZeroUsize::new(4096).unwrap();
/// The default of OpenTelemetry's own libraries.
const INTERVAL: Duration = Duration::from_secs(5);
/// The default of OpenTelemetry's own libraries.
const TIMEOUT: Duration = Duration::from_secs(10);
const HEADERS_MAX: u64 = 16 * 1024;

const ENDPOINT_REMEDY: &str =
    "give http://<host>:<port>, or https:// for TLS, of a collector's OTLP/gRPC port, often 4317";
const HEADERS_REMEDY: &str =
    "give the path of a file with one header in each line, such as \"authorization: Bearer …\"";

pub(super) fn traces(root: &Section<'_>) -> Option<Traces> {
    let section = root.section("traces");
    let endpoint = section.read("endpoint", |node| endpoint(scalar::text(node)?));
    let tls = tls(&section.section("tls"), endpoint.as_ref());
    let headers = headers(&section);
    let sample = section.ratio("sample", 0.01);
    let follow_callers = section.truth("follow_callers", true);
    let to_gateway = section.truth("to_gateway", true);
    let tracestate_to_gateway = section.truth("tracestate_to_gateway", false);
    if tracestate_to_gateway && !to_gateway {
        let wrong =
            Problem::new("has no effect without to_gateway", "give to_gateway too, or neither");
        section.contradiction(&["tracestate_to_gateway", "to_gateway"], wrong);
    }
    if !headers.is_empty()
        && let Some(warning) = plaintext(endpoint.as_ref(), "traces.headers_file")
    {
        section.notes().warn(warning);
    }
    if root.has("traces") {
        section.missing("endpoint", ENDPOINT_REMEDY);
    }
    let collector = Collector {
        endpoint: endpoint?,
        headers,
        sample,
        follow_callers,
        to_gateway,
        tracestate_to_gateway,
        queue: QUEUE,
        interval: INTERVAL,
        timeout: TIMEOUT,
    };
    Some(Traces { collector, tls })
}

/// The warning if headers, which are there for a token, go over the network as they are. `from`: where they are given.
pub(super) fn plaintext(endpoint: Option<&Uri>, from: &str) -> Option<String> {
    let plain = endpoint.filter(|endpoint| endpoint.scheme() == Some(&Scheme::HTTP));
    let host = plain.and_then(Uri::host).filter(|host| !is_this_machine(host))?;
    Some(format!(
        "traces.endpoint is http://{host}: the headers of {from}, such as a token, go over the network in plain \
         text; give https://"
    ))
}

fn endpoint(text: &str) -> Result<Uri, Problem> {
    scalar::without_user(text, "give the token by headers_file")?;
    let usable = |uri: &Uri| {
        let http = [Some(&Scheme::HTTP), Some(&Scheme::HTTPS)].contains(&uri.scheme());
        http && uri.host().is_some_and(|host| !host.is_empty()) && matches!(uri.path(), "" | "/")
    };
    text.parse().ok().filter(usable).ok_or_else(|| {
        let problem = format!("{} is not an address of a collector", quote(text));
        Problem::new(problem, ENDPOINT_REMEDY)
    })
}

fn tls(section: &Section<'_>, endpoint: Option<&Uri>) -> ClientTls {
    let roots = section.roots("ca_file", "the collector's CA certificate");
    let client = section.identity("client_certificate_file", "client_key_file");
    if endpoint.is_some_and(|endpoint| endpoint.scheme() == Some(&Scheme::HTTP)) {
        let wrong = Problem::new("has no effect without TLS", "give https:// in traces.endpoint");
        section.contradiction(&["ca_file", "client_certificate_file"], wrong);
    }
    ClientTls { trust: roots.map_or(Trust::SystemRoots, Trust::Roots), client }
}

fn headers(section: &Section<'_>) -> HeaderMap {
    let Some(path) = section.path("headers_file") else { return HeaderMap::new() };
    let headers = section.read("headers_file", |_| {
        let (bytes, metadata) = files::read(&path, HEADERS_MAX)
            .map_err(|error| files::unreadable(&path, &error, HEADERS_REMEDY))?;
        files::warn_of_readers(section, "headers_file", &path, &metadata);
        let text = std::str::from_utf8(&bytes).unwrap_or_default();
        let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
        let headers: HeaderMap = lines.map(header).collect::<Result<_, _>>()?;
        let none = Problem::new("names a file without headers", HEADERS_REMEDY);
        if headers.is_empty() { Err(none) } else { Ok(headers) }
    });
    headers.unwrap_or_default()
}

/// Reads one line of the file. The line is a secret, so errors do not quote it.
fn header((number, line): (usize, &str)) -> Result<(HeaderName, HeaderValue), Problem> {
    let parsed = line.split_once(':').and_then(|(name, value)| {
        let name = name.trim().to_lowercase().parse().ok()?;
        let value = Some(value.trim()).filter(|value| value.is_ascii())?;
        Some((name, secret::header(value.as_bytes())?))
    });
    parsed.ok_or_else(|| {
        Problem::new(format!("names a file whose line {number} is not a header"), HEADERS_REMEDY)
    })
}
