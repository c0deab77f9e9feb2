use std::fmt;

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Uri,
    header::{CONTENT_TYPE, COOKIE},
    uri::{Authority, PathAndQuery, Scheme},
};
use http_body_util::Full;

use super::Interface;
use crate::{id::AgentId, session::Session};

/// What a request asks an interface to do, apart from the agent.
#[derive(Clone, Debug)]
pub struct Command {
    /// The interface.
    pub interface: &'static Interface,
    /// The query string without its question mark; empty: none is sent.
    pub query: String,
}

/// One request to a gateway.
pub struct Request<'a> {
    /// What is asked.
    pub command: &'a Command,
    /// Of whom.
    pub agent: AgentId,
    /// Under which session; `None` where one is to be made.
    pub session: Option<&'a Session>,
    /// A JSON body; a sign-in's holds the password.
    pub body: Option<Bytes>,
}

/// One address of a gateway.
#[derive(Debug)]
pub(super) struct Endpoint {
    scheme: Scheme,
    authority: Authority,
    /// The path before the interfaces' own, such as `/agentgateway/resource`.
    prefix: String,
}

/// Documented as mandatory on every call, also on those without a body (API.md 1).
const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=UTF-8");
const GUID: HeaderName = HeaderName::from_static("guid");

// === impl Request ===

impl Request<'_> {
    pub(super) fn interface(&self) -> &'static Interface {
        self.command.interface
    }

    pub(super) fn to_http(
        &self,
        endpoint: &Endpoint,
    ) -> Result<http::Request<Full<Bytes>>, String> {
        let body = Full::new(self.body.clone().unwrap_or_default());
        let mut request = http::Request::new(body);
        *request.method_mut() = self.interface().method.clone();
        *request.uri_mut() = endpoint.uri(self.command, self.agent).map_err(|e| e.to_string())?;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, JSON);
        if let Some(session) = self.session {
            headers.insert(GUID, session.guid.header().clone());
            if let Some(cookies) = session.cookies.header() {
                headers.insert(COOKIE, cookies);
            }
        }
        Ok(request)
    }
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("command", self.command)
            .field("agent", &self.agent)
            .finish_non_exhaustive()
    }
}

// === impl Endpoint ===

impl Endpoint {
    /// `None` for a URL without a host, which the configuration does not let through.
    pub(super) fn new(base_url: &Uri) -> Option<Self> {
        Some(Self {
            scheme: base_url.scheme()?.clone(),
            authority: base_url.authority()?.clone(),
            prefix: base_url.path().trim_end_matches('/').to_owned(),
        })
    }

    fn uri(&self, command: &Command, agent: AgentId) -> Result<Uri, http::Error> {
        let (prefix, tail, query) = (&self.prefix, command.interface.tail, &command.query);
        let mark = if query.is_empty() { "" } else { "?" };
        let path = format!("{prefix}/onlineagent/{agent}{tail}{mark}{query}");

        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(PathAndQuery::from_maybe_shared(Bytes::from(path))?);
        Ok(Uri::from_parts(parts)?)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.authority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        gateway::{FORCE_SIGN_OUT, SIGN_IN, say_busy},
        id::DEFAULT_AGENT_IDS,
    };

    #[track_caller]
    fn check(base_url: &'static str, command: &Command, expected: &str) {
        let endpoint = Endpoint::new(&Uri::from_static(base_url)).unwrap();
        let agent = AgentId::parse("1001", &DEFAULT_AGENT_IDS).unwrap();
        assert_eq!(endpoint.uri(command, agent).unwrap().to_string(), expected);
    }

    #[test]
    fn uris_are_as_the_gateway_documents_them() {
        const BASE: &str = "https://ccg:8043/agentgateway/resource";
        let agent = "https://ccg:8043/agentgateway/resource/onlineagent/1001";
        let plain = |interface| Command { interface, query: String::new() };

        check(BASE, &plain(&SIGN_IN), agent);
        check(BASE, &plain(&FORCE_SIGN_OUT), &format!("{agent}/forcelogout"));
        for (reason, prolong, query) in [
            (None, None, ""),
            (Some(200), None, "?reason=200"),
            (Some(0), None, "?reason=0"),
            (None, Some(false), "?prolong=false"),
            (Some(250), Some(true), "?reason=250&prolong=true"),
        ] {
            check(BASE, &say_busy(reason, prolong), &format!("{agent}/saybusy{query}"));
        }
        check(
            "http://127.0.0.1:80/deep/er/",
            &say_busy(None, None),
            "http://127.0.0.1:80/deep/er/onlineagent/1001/saybusy",
        );
    }
}
