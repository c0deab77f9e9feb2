//! `tenants.<id>.base_urls`.

use std::collections::HashSet;

use http::Uri;
use rustls::pki_types::ServerName;

use crate::config::{
    error::{Problem, quote},
    reader::Section,
    scalar::without_user,
};

/// The gateway's port if none is given (`cec_07_1202`).
const DEFAULT_PORT: u16 = 8043;
/// The path prefix of the gateway's interfaces, if none is given (API.md, section 1).
const DEFAULT_PATH: &str = "/agentgateway/resource";
/// The most addresses of one gateway, standby sites included.
const BASE_URLS_MAX: usize = 16;

const BASE_URL_REMEDY: &str = "give https://<host>[:<port>][/<path>] without user name, query or \
                               fragment, such as \"https://gateway.example:8043\"";

pub(super) fn warn_of_plaintext(section: &Section<'_>, base_urls: &[Uri], name: &str) {
    for url in base_urls.iter().filter(|url| url.scheme_str() == Some("http")) {
        section.notes().warn(format!(
            "tenant {name}: {}.base_urls has {url}: Guids and passwords go over the network in \
             plain text; give an https:// address unless a proxy on this machine adds TLS",
            section.key()
        ));
    }
}

pub(super) fn base_urls(section: &Section<'_>) -> Vec<Uri> {
    let urls = section.list("base_urls", BASE_URLS_MAX, base_url);
    section.missing("base_urls", BASE_URL_REMEDY);
    let urls = urls.unwrap_or_default();
    let mut seen = HashSet::new();
    if let Some(twice) = urls.iter().find(|url| !seen.insert(*url)) {
        let problem = format!("names {twice} twice");
        let wrong = Problem::new(problem, "give each address once");
        section.contradiction(&["base_urls"], wrong);
    }
    urls
}

fn base_url(text: &str) -> Result<Uri, Problem> {
    without_user(text, BASE_URL_REMEDY)?;
    usable(text).ok_or_else(|| {
        let problem = format!("{} is not an address of a gateway", quote(text));
        Problem::new(problem, BASE_URL_REMEDY)
    })
}

fn usable(text: &str) -> Option<Uri> {
    let uri: Uri = text.parse().ok()?;
    let scheme = uri.scheme_str().filter(|s| matches!(*s, "http" | "https"))?;
    let authority = uri.authority()?;
    let host = authority.host().to_ascii_lowercase();
    ServerName::try_from(host.trim_matches(['[', ']'])).ok()?;
    let port = match authority.as_str().get(host.len()..) {
        Some("") => DEFAULT_PORT,
        _ => authority.port_u16().filter(|port| *port > 0)?,
    };
    if uri.query().is_some() || text.contains('#') {
        return None;
    }
    let path = match uri.path().trim_end_matches('/') {
        "" => DEFAULT_PATH,
        path => path,
    };
    format!("{scheme}://{host}:{port}{path}").parse().ok()
}
