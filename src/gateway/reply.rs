//! A gateway's answer and its meaning.

use std::{borrow::Cow, collections::HashMap, fmt, time::Duration};

use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{CONTENT_TYPE, DATE, SET_COOKIE},
};
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::{
    Sample,
    content_coding::undo_codings,
    envelope::{Envelope, Unreadable},
    exchanged::Exchanged,
    hidden_guids::Guids,
    http_status::{is_of_time_limit, retry_after, status_alone},
    keep_alive::KeepAlive,
};
use crate::{
    call::{CallError, Refusal},
    retcode::Kind,
    session::{Cookies, Guid},
};

/// A gateway's complete answer.
pub struct Reply {
    /// The HTTP status.
    pub status: StatusCode,
    /// The headers that the bridge or its doctor uses. Some are secret.
    pub headers: HeaderMap,
    /// A Guid that replaces the one of the request. Comes from the `Set-GUID` header of a 2xx
    /// answer, or else from `Guid` (cec_07_0005, cec_07_1202).
    pub guid: Option<Guid>,
    /// Whether there is such a header without a valid Guid.
    pub is_guid_bad: bool,
    /// The value of `Retry-After`, up to five minutes.
    pub retry_after: Option<Duration>,
    /// The envelope, whatever the HTTP status.
    pub envelope: Result<Envelope, Unreadable>,
    /// The address that it came from, an index into `base_urls`, if it came from one of them.
    pub answered_by: Option<usize>,
    /// What the gateway says about the further use of the connection.
    pub(super) keep_alive: KeepAlive,
    /// Whether the answer was read to its end, so that the connection can be used again.
    pub(super) is_whole: bool,
    /// When the request began to be written, and when the answer was complete.
    pub(super) exchanged: Option<[Instant; 2]>,
}

const MAX_COOKIES: usize = 8;
const SET_GUID: HeaderName = HeaderName::from_static("set-guid");
const GUID: HeaderName = HeaderName::from_static("guid");
/// Some versions put the right content type here and a useless one into `Content-Type` (client).
const JSON_TYPE: HeaderName = HeaderName::from_static("json-type");

impl Reply {
    /// An answer with this head and body, which has so many bytes at most. `is_whole` tells whether the body was read to
    /// its end.
    pub(super) fn new(
        (status, headers): (StatusCode, HeaderMap),
        (body, limit): (Result<&[u8], Unreadable>, usize),
        is_whole: bool,
    ) -> Self {
        let guid = if status.is_success() { guid(&headers) } else { None };
        let has_header = || [SET_GUID, GUID].iter().any(|name| headers.contains_key(name));
        let is_guid_bad = guid.is_none() && status.is_success() && has_header();
        Self {
            status,
            guid,
            is_guid_bad,
            retry_after: retry_after(&headers),
            envelope: body.and_then(|body| envelope(&headers, body, limit)),
            answered_by: None,
            keep_alive: KeepAlive::read(&headers),
            is_whole,
            exchanged: None,
            headers,
        }
    }

    /// Whether the gateway has carried out what was asked for.
    pub fn is_accepted(&self) -> bool {
        self.amounts_to() == Exchanged::Accepted
    }

    /// What the answer tells of how much the gateway bears. A proxy that has waited too long for it says the same as a time
    /// limit that has passed here.
    pub(super) fn sample(&self) -> Option<Sample> {
        let status = self.status.as_u16();
        match (self.amounts_to(), self.exchanged) {
            (Exchanged::Accepted, Some([sent, answered])) => {
                Some(Sample::Answered { sent, answered })
            }
            (Exchanged::HttpStatus, _)
                if matches!(status, 429 | 500..) || is_of_time_limit(status) =>
            {
                Some(Sample::TooMuch)
            }
            _ => None,
        }
    }

    /// The meaning of the answer. `node` owns the session that was used.
    ///
    /// # Errors
    ///
    /// [`CallError::Refused`] for a retcode other than "0", whatever the HTTP status.
    /// [`CallError::GatewayBusy`] or [`CallError::HttpStatus`] if there is neither a 2xx status nor
    /// an envelope. [`CallError::BadReply`] if there is only one of the two.
    pub fn into_verdict(self, node: Option<&str>) -> Result<Envelope, CallError> {
        let Self { status, retry_after, envelope, .. } = self;
        let status_alone = status_alone(status, retry_after);
        match envelope {
            Ok(Envelope { refused: Some(retcode), message, .. }) => {
                let (node, http_status) = (node.map(Into::into), status.as_u16());
                Err(CallError::Refused(Refusal { retcode, message, node, http_status }))
            }
            Ok(envelope) if status.is_success() => Ok(envelope),
            // The gateway may have acted, whatever set the status.
            Ok(_) => Err(CallError::BadReply(format!(
                "it says that the request was carried out, under HTTP status {}",
                status.as_u16()
            ))),
            Err(unreadable) if status.is_success() => {
                Err(CallError::BadReply(unreadable.to_string()))
            }
            Err(_) => Err(status_alone),
        }
    }

    /// The result that the answer has by itself.
    pub fn amounts_to(&self) -> Exchanged {
        match (&self.envelope, self.status.is_success()) {
            (Ok(Envelope { refused: Some(retcode), .. }), _) => Exchanged::Refused(retcode.kind()),
            (Ok(_), true) => Exchanged::Accepted,
            (Ok(_), false) | (Err(_), true) => Exchanged::BadReply,
            (Err(_), false) => Exchanged::HttpStatus,
        }
    }

    /// Whether it comes from a server or proxy that could not do its work: without an envelope, and with an HTTP status of
    /// 500 or more, or 408. One that counts as busy for callers is not broken.
    pub(super) fn is_of_broken_server(&self) -> bool {
        let is_busy =
            matches!(status_alone(self.status, self.retry_after), CallError::GatewayBusy { .. });
        // An old Envoy before a gateway that is silent says 408.
        let is_broken = self.status.is_server_error() || is_of_time_limit(self.status.as_u16());
        self.amounts_to() == Exchanged::HttpStatus && is_broken && !is_busy
    }

    /// The refusal, if the answer is one. `node` owns the session that was used.
    pub fn refusal(&self, node: Option<&str>) -> Option<Refusal> {
        let Envelope { refused, message, .. } = self.envelope.as_ref().ok()?;
        let retcode = refused.clone()?;
        let (message, node) = (message.clone(), node.map(Into::into));
        Some(Refusal { retcode, message, node, http_status: self.status.as_u16() })
    }

    /// Takes the Guids out of what callers and logs get of the answer. If it `brings_guid`, the one in its result
    /// is the new one, unless a header has one.
    pub(super) fn take_guids(&mut self, own: Option<&Guid>, brings_guid: bool) {
        let is_accepted = self.is_accepted();
        let Self { guid, envelope: Ok(envelope), .. } = self else { return };
        if brings_guid && is_accepted && guid.is_none() {
            *guid = envelope.result.as_deref().and_then(updated_guid);
        }
        let guids = Guids([own, guid.as_ref()]);
        let Envelope { refused, message, result, event } = envelope;
        if let Some(retcode) = refused {
            retcode.hide(|whole| guids.hidden_in(whole));
        }
        if let Some(hidden) = guids.hidden_in(message) {
            *message = hidden;
        }
        for json in [result, event].into_iter().flatten() {
            if let Some(hidden) = guids.hidden_in_json(json) {
                *json = hidden.into();
            }
        }
    }

    /// Whether another call for the agent was open, so that the gateway did nothing.
    pub fn is_overlap(&self) -> bool {
        self.amounts_to() == Exchanged::Refused(Kind::OperationInProgress)
    }

    /// Stores the cookies that the answer sets.
    pub fn set_cookies(&self, jar: &Cookies) {
        for cookie in self.headers.get_all(SET_COOKIE).iter().take(MAX_COOKIES) {
            jar.set(cookie, self.headers.get(DATE));
        }
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, envelope, is_whole, .. } = self;
        f.debug_struct("Reply")
            .field("status", status)
            .field("envelope", envelope)
            .field("is_whole", is_whole)
            .finish_non_exhaustive()
    }
}

fn guid(headers: &HeaderMap) -> Option<Guid> {
    [SET_GUID, GUID]
        .iter()
        .filter_map(|name| headers.get(name)?.to_str().ok())
        .find_map(|value| Guid::parse(value).ok())
}

/// The Guid in the `result` of updateGuid (cec_07_1225).
fn updated_guid(result: &str) -> Option<Guid> {
    let fields: HashMap<Cow<'_, str>, &RawValue> = serde_json::from_str(result).ok()?;
    let guid: Cow<'_, str> = serde_json::from_str(fields.get("guid")?.get()).ok()?;
    Guid::parse(&guid).ok()
}

fn envelope(headers: &HeaderMap, body: &[u8], limit: usize) -> Result<Envelope, Unreadable> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let charset = [CONTENT_TYPE, JSON_TYPE].into_iter().filter_map(text).find_map(charset);
    // A coding that the headers name matters only if the body cannot be read as it is.
    Envelope::read(body, charset).or_else(|unreadable| match undo_codings(headers, body, limit)? {
        Some(plain) => Envelope::read(&plain, charset),
        None => Err(unreadable),
    })
}

/// The charset in a content type.
fn charset(content_type: &str) -> Option<&str> {
    content_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let named = name.trim().eq_ignore_ascii_case("charset");
        named.then(|| value.trim().trim_matches('"'))
    })
}

#[cfg(test)]
mod tests;
