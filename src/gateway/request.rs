//! One request to a gateway.
use std::{fmt, io::Write as _, ptr};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Version};

use super::{Command, FORCE_SIGN_IN, Interface, SIGN_IN, address::Address, outgoing::Outgoing};
use crate::{
    call::Stage,
    id::AgentId,
    session::{Guid, Session},
    telemetry::trace::Trace,
};

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

/// The content type is documented as mandatory on every request, even without a body (API.md 1). The answer is not to be
/// compressed.
const ALWAYS: &[u8] =
    b"\r\nContent-Type: application/json; charset=UTF-8\r\nAccept-Encoding: identity\r\n";
/// Most heads are shorter.
const ROOM: usize = 512;
/// The names of the headers with secrets, and what comes after them, are shorter.
const AROUND_SECRETS: usize = 96;

impl Request<'_> {
    pub(super) fn interface(&self) -> &'static Interface {
        self.command.interface
    }

    /// Whether the request signs an agent in, so that the answer brings the Guid of a new session.
    pub(super) fn makes_session(&self) -> bool {
        [&SIGN_IN, &FORCE_SIGN_IN].into_iter().any(|sign_in| ptr::eq(sign_in, self.interface()))
    }

    /// The HTTP request for this address, over a connection of this version. A gateway of HTTP/1.0 keeps the connection
    /// only if it is asked to.
    ///
    /// Names of headers are in title case: that of the Guid is documented so, and clients of some gateways depend on it.
    /// Their values cannot end a line, and have been checked for that already.
    pub(super) fn to_http(&self, address: &Address, version: Version) -> Outgoing {
        let interface = self.interface();
        let mut head = Vec::with_capacity(ROOM);
        head.extend_from_slice(interface.method.as_str().as_bytes());
        head.push(b' ');
        address.write_target(self.command, self.agent, &mut head);
        let is_old = version == Version::HTTP_10;
        head.extend_from_slice(if is_old {
            b" HTTP/1.0\r\nHost: "
        } else {
            b" HTTP/1.1\r\nHost: "
        });
        head.extend_from_slice(address.host().as_bytes());
        head.extend_from_slice(ALWAYS);
        let mut of_trace = HeaderMap::new();
        self.trace.tell_gateway(&mut of_trace);
        for (name, value) in &of_trace {
            write_line(&mut head, name.as_str(), value.as_bytes());
        }
        let guid = self.session.map(|session| &session.guid).filter(|guid| !guid.is_absent());
        let guid = guid.map(Guid::header);
        let cookies = self.session.and_then(|session| session.cookies.header());
        // A vector that grows leaves behind what it had.
        let secrets = [guid, cookies.as_ref()].into_iter().flatten();
        head.reserve(AROUND_SECRETS + secrets.map(HeaderValue::len).sum::<usize>());
        if let Some(guid) = guid {
            write_line(&mut head, "guid", guid.as_bytes());
        }
        if let Some(cookies) = &cookies {
            write_line(&mut head, "cookie", cookies.as_bytes());
        }
        // Some load balancers answer a POST or PUT without a length with 411, even if it has no body.
        let has_length = matches!(interface.method, Method::POST | Method::PUT);
        if self.body.is_some() || has_length {
            let length = self.body.as_ref().map_or(0, Bytes::len);
            // Writing into memory cannot fail.
            let _written = write!(head, "Content-Length: {length}\r\n");
        }
        if is_old {
            write_line(&mut head, "connection", b"keep-alive");
        }
        head.extend_from_slice(b"\r\n");
        let outgoing = Outgoing::new(head, self.body.clone().unwrap_or_default());
        outgoing.answered_within(interface.body_limit())
    }
}

/// Writes a header line, with the name in title case.
fn write_line(head: &mut Vec<u8>, name: &str, value: &[u8]) {
    let start = head.len();
    head.extend_from_slice(name.as_bytes());
    let first = head.get_mut(start..=start).unwrap_or_default();
    first.make_ascii_uppercase();
    head.extend_from_slice(b": ");
    head.extend_from_slice(value);
    head.extend_from_slice(b"\r\n");
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
mod tests;
