//! One request to a gateway.
use std::{fmt, ptr};

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method, Uri,
    header::{ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST},
    uri::InvalidUri,
};
use http_body_util::Full;

use super::{Command, FORCE_SIGN_IN, Interface, SIGN_IN, address::Address};
use crate::{call::Stage, id::AgentId, session::Session, telemetry::trace::Trace};

/// One request to a gateway.
pub struct Request<'a> {
    /// The interface and its arguments.
    pub command: &'a Command,
    /// The agent that the request is about.
    pub agent: AgentId,
    /// The session of the request. `None` if it is to create one.
    pub session: Option<&'a Session>,
    /// A JSON body. That of a sign-in has the password.
    pub body: Option<Bytes>,
    /// What a caller that leaves before the answer was waiting for.
    pub stage: Stage,
    /// The trace that the request belongs to.
    pub trace: Trace,
}

/// Documented as mandatory on every request, even without a body (API.md 1).
const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=UTF-8");
/// Says that the answer is not to be compressed.
const IDENTITY: HeaderValue = HeaderValue::from_static("identity");
const GUID: HeaderName = HeaderName::from_static("guid");

impl Request<'_> {
    pub(super) fn interface(&self) -> &'static Interface {
        self.command.interface
    }

    /// Whether the request signs an agent in, so that the answer brings the Guid of a new session.
    pub(super) fn makes_session(&self) -> bool {
        [&SIGN_IN, &FORCE_SIGN_IN].into_iter().any(|sign_in| ptr::eq(sign_in, self.interface()))
    }

    /// The HTTP request for this address.
    pub(super) fn to_http(
        &self,
        address: &Address,
    ) -> Result<http::Request<Full<Bytes>>, InvalidUri> {
        let body = Full::new(self.body.clone().unwrap_or_default());
        let mut request = http::Request::new(body);
        *request.method_mut() = self.interface().method.clone();
        *request.uri_mut() = Uri::from(address.target(self.command, self.agent)?);
        let headers = request.headers_mut();
        headers.insert(HOST, address.host().clone());
        headers.insert(CONTENT_TYPE, JSON);
        headers.insert(ACCEPT_ENCODING, IDENTITY);
        if let Some(session) = self.session {
            if !session.guid.is_absent() {
                headers.insert(GUID, session.guid.header().clone());
            }
            if let Some(cookies) = session.cookies.header() {
                headers.insert(COOKIE, cookies);
            }
        }
        self.trace.tell_gateway(headers);
        // hyper leaves it out for an empty body. Some load balancers answer a POST without it with
        // 411.
        if self.body.is_none() && self.interface().method == Method::POST {
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::{AGENT_STATUS, SAY_BUSY, SIGN_OUT};

    fn http(
        interface: &'static Interface,
        body: Option<&'static str>,
    ) -> http::Request<Full<Bytes>> {
        let (command, agent) = (Command::plain(interface), AgentId::lowest(&(1001..=1001)));
        let (session, body, stage) = (None, body.map(Bytes::from), Stage::Answer);
        let trace = Trace::default();
        let request = Request { command: &command, agent, session, body, stage, trace };
        let address = Address::new(&Uri::from_static("http://gateway.example:8043/x"));
        request.to_http(&address.expect("a host")).expect("a request")
    }

    /// A server may refuse a POST that has no length, and need not expect one of what has no body.
    #[test]
    fn only_a_post_without_a_body_says_that_there_is_none() {
        for (interface, body, length) in [
            (&SAY_BUSY, None, Some("0")),
            (&SAY_BUSY, Some("{}"), None),
            (&AGENT_STATUS, None, None),
            (&SIGN_OUT, None, None),
            (&SIGN_IN, Some("{}"), None),
        ] {
            let request = http(interface, body);
            assert_eq!(request.headers()[HOST], "gateway.example:8043");
            let found = request.headers().get(CONTENT_LENGTH);
            let found = found.map(|value| value.to_str().expect("text"));
            assert_eq!(found, length, "{} {body:?}", request.method());
        }
    }
}
