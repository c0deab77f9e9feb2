//! A gateway's answer and its meaning.

use std::{borrow::Cow, collections::HashMap, fmt, time::Duration};

use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{CONTENT_TYPE, DATE, SET_COOKIE},
    response::Parts,
};
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::{
    Sample,
    bounded_reply::MAX_BODY_BYTES,
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
    /// All headers. Some are secret.
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
    /// An answer with this head and body. `is_whole` tells whether the body was read to its end.
    pub(super) fn new(head: Parts, body: Result<&[u8], Unreadable>, is_whole: bool) -> Self {
        let Parts { status, headers, .. } = head;
        let guid = if status.is_success() { guid(&headers) } else { None };
        let has_header = || [SET_GUID, GUID].iter().any(|name| headers.contains_key(name));
        let is_guid_bad = guid.is_none() && status.is_success() && has_header();
        Self {
            status,
            guid,
            is_guid_bad,
            retry_after: retry_after(&headers),
            envelope: body.and_then(|body| envelope(&headers, body)),
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

    /// What the answer tells of how much the gateway bears.
    pub(super) fn sample(&self) -> Option<Sample> {
        match (self.amounts_to(), self.exchanged) {
            (Exchanged::Accepted, Some([sent, answered])) => {
                Some(Sample::Answered { sent, answered })
            }
            (Exchanged::HttpStatus, _) if matches!(self.status.as_u16(), 429 | 500..) => {
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

fn envelope(headers: &HeaderMap, body: &[u8]) -> Result<Envelope, Unreadable> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let charset = [CONTENT_TYPE, JSON_TYPE].into_iter().filter_map(text).find_map(charset);
    // A coding that the headers name matters only if the body cannot be read as it is.
    Envelope::read(body, charset).or_else(|unreadable| {
        match undo_codings(headers, body, MAX_BODY_BYTES)? {
            Some(plain) => Envelope::read(&plain, charset),
            None => Err(unreadable),
        }
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
mod tests {
    use http::header::RETRY_AFTER;

    use super::*;

    #[track_caller]
    fn check_guid(pairs: &[(&'static str, &str)], expected: Option<&str>) {
        let headers = pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect();
        let found = guid(&headers);
        let found = found.as_ref().map(|guid| guid.header().to_str().unwrap());
        assert_eq!(found, expected, "{pairs:?}");
    }

    #[test]
    fn success_under_a_status_that_says_otherwise_leaves_the_outcome_unknown() {
        for status in [404, 405, 408, 421, 425, 429, 502, 503] {
            let error = reply(status, b"{\"retcode\":\"0\"}").into_verdict(None);
            let error = error.expect_err("no success");
            assert_eq!(error.outcome(), crate::call::Outcome::Unknown, "{error}");
        }
    }

    #[test]
    fn success_without_an_envelope_is_a_bad_answer() {
        let error = reply(200, b"<html>").into_verdict(None).expect_err("no envelope");
        assert!(matches!(error, CallError::BadReply(_)), "{error}");
    }

    #[test]
    fn a_refusal_says_what_the_gateway_says_and_whose_session_it_was() {
        let reply_of = |status, body: &str| reply(status, body.as_bytes());
        let refused = reply_of(500, r#"{"retcode":"100-006","message":"not login"}"#);
        let refusal = refused.refusal(Some("N1")).expect("it is one");
        let Refusal { retcode, message, node, http_status } = &refusal;
        assert_eq!((retcode.as_str(), message.as_str()), ("100-006", "not login"));
        assert_eq!((node.as_deref(), *http_status), (Some("N1"), 500));
        let error = refused.into_verdict(Some("N1")).expect_err("it is refused");
        assert_eq!(error.refusal(), Some(&refusal), "{error}");
        for none in [r#"{"retcode":"0"}"#, "<html>", ""] {
            assert_eq!(reply_of(200, none).refusal(None), None, "{none}");
        }
    }

    #[test]
    fn only_a_call_that_was_open_makes_an_overlap() {
        for (code, expected) in [("000-007", true), ("100-021", false), ("0", false)] {
            let body = format!("{{\"retcode\":\"{code}\"}}");
            assert_eq!(reply(200, body.as_bytes()).is_overlap(), expected, "{code}");
        }
    }

    fn reply(status: u16, body: &[u8]) -> Reply {
        let head = http::Response::builder().status(status).header(RETRY_AFTER, "1").body(());
        let mut reply = Reply::new(head.expect("a head").into_parts().0, Ok(body), true);
        let now = Instant::now();
        reply.exchanged = Some([now, now + Duration::from_secs(1)]);
        reply
    }

    #[test]
    fn what_was_carried_out_tells_how_long_it_took_and_a_broken_or_busy_gateway_that_it_was_too_much()
     {
        let (done, refused) = (b"{\"retcode\":\"0\"}", b"{\"retcode\":\"100-006\"}");
        for (status, body, expected) in [
            (200, &done[..], Some("answered")),
            (200, &refused[..], None),
            (503, refused, None),
            (502, done, None),
            (503, b"", Some("too much")),
            (429, b"", Some("too much")),
            (500, b"<html>", Some("too much")),
            (404, b"", None),
            (302, b"", None),
            (200, b"<html>", None),
        ] {
            let reply = reply(status, body);
            assert_eq!(reply.is_accepted(), expected == Some("answered"), "{status}");
            let found = reply.sample().map(|sample| match sample {
                Sample::Answered { sent, answered } => {
                    assert_eq!(answered - sent, Duration::from_secs(1));
                    "answered"
                }
                Sample::TooMuch => "too much",
            });
            assert_eq!(found, expected, "{status} {}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn a_server_is_broken_for_its_address_where_callers_are_not_told_that_it_is_busy() {
        let statuses = [500, 502, 503, 504]
            .map(|status| [None, Some("soon"), Some("7")].map(|wait| (status, wait)));
        for (status, wait) in statuses.into_iter().flatten() {
            let mut head = http::Response::builder().status(status);
            if let Some(wait) = wait {
                head = head.header(RETRY_AFTER, wait);
            }
            let head = head.body(()).expect("a head").into_parts().0;
            let reply = Reply::new(head, Ok(b""), true);
            let is_broken = (status, wait) != (503, Some("7"));
            assert_eq!(reply.is_of_broken_server(), is_broken, "{status} {wait:?}");
            let is_told = matches!(reply.into_verdict(None), Err(CallError::HttpStatus { .. }));
            assert_eq!(is_told, is_broken, "callers are told the same: {status} {wait:?}");
        }
    }

    #[test]
    fn a_server_is_broken_only_where_an_error_of_its_own_comes_without_an_envelope() {
        for (status, body, is_broken) in [
            (200, "{\"retcode\":\"0\"}", false),
            (502, "{\"retcode\":\"0\"}", false),
            (500, "{\"retcode\":\"100-006\"}", false),
            (200, "<html>", false),
            (404, "<html>", false),
            (429, "<html>", false),
            (408, "<html>", true),
            (524, "<html>", true),
        ] {
            let reply = reply(status, body.as_bytes());
            assert_eq!(reply.is_of_broken_server(), is_broken, "{status} {body}");
        }
    }

    /// An answer with one more header.
    fn reply_with(status: u16, (name, value): (HeaderName, &str), body: &str) -> Reply {
        let head = http::Response::builder().status(status).header(name, value).body(());
        Reply::new(head.expect("a head").into_parts().0, Ok(body.as_bytes()), true)
    }

    #[test]
    fn a_guid_is_bad_where_a_header_for_it_has_none() {
        for (status, name, value, expected) in [
            (200, SET_GUID, "a.N1", (true, false)),
            (200, GUID, "JSESSIONID=", (false, true)),
            (200, DATE, "a.N1", (false, false)),
            (500, GUID, "a.N1", (false, false)),
            (500, SET_GUID, "", (false, false)),
        ] {
            let reply = reply_with(status, (name, value), "");
            assert_eq!((reply.guid.is_some(), reply.is_guid_bad), expected, "{status} {value}");
        }
    }

    #[test]
    fn guids_are_taken_out_of_an_answer_and_a_new_one_is_kept() {
        let own = Guid::parse("canary-session.N1").expect("a Guid");
        for (header, code, brings_guid, kept) in [
            (DATE, "0", true, Some("new-session.N2")),
            (DATE, "0", false, None),
            (DATE, "100-006", true, None),
            (SET_GUID, "0", true, Some("header.N3")),
        ] {
            let body = format!(
                r#"{{"retcode":"{code}","message":"canary-session moves","result":{{"guid":"new-session.N2"}},"event":["canary-session"]}}"#
            );
            let mut reply = reply_with(200, (header, "header.N3"), &body);
            reply.take_guids(Some(&own), brings_guid);
            let found = reply.guid.as_ref().map(|guid| guid.header().to_str().expect("a text"));
            assert_eq!(found, kept, "{code} {brings_guid}");
            let Envelope { message, result, event, .. } = reply.envelope.expect("an envelope");
            assert_eq!(message, "… moves");
            assert_eq!(result.as_deref(), Some(r#"{"guid":"…"}"#));
            assert_eq!(event.as_deref(), Some(r#"["…"]"#));
        }
    }

    #[test]
    fn a_guid_that_a_gateway_gives_as_its_retcode_is_hidden() {
        let own = Guid::parse("canary-session.N1").expect("a Guid");
        let mut reply = reply(200, br#"{"retcode":"no canary-session"}"#);
        reply.take_guids(Some(&own), false);
        let refusal = reply.refusal(None).expect("it is one");
        assert_eq!(refusal.retcode.as_str(), "no …");
    }

    #[test]
    fn all_cookies_of_an_answer_are_kept() {
        let head = http::Response::builder().header(SET_COOKIE, "a=1").header(SET_COOKIE, "b=2");
        let head = head.body(()).expect("a head").into_parts().0;
        let cookies = Cookies::default();
        Reply::new(head, Ok(b""), true).set_cookies(&cookies);
        assert_eq!(cookies.header(), Some(HeaderValue::from_static("a=1; b=2")));
    }

    #[test]
    fn a_renewed_guid_is_found_in_either_header() {
        check_guid(&[], None);
        check_guid(&[("set-guid", "JSESSIONID=a.N1")], Some("a.N1"));
        check_guid(&[("guid", "b.N1")], Some("b.N1"));
        check_guid(&[("guid", "b.N1"), ("set-guid", "JSESSIONID=a.N1")], Some("a.N1"));
        check_guid(&[("guid", "b.N1"), ("set-guid", "JSESSIONID=")], Some("b.N1"));
    }

    #[test]
    fn an_updated_guid_is_found_in_the_body() {
        let found = |result| updated_guid(result).map(|guid| guid.node().map(str::to_owned));
        assert_eq!(found(r#"{"guid":"a.AgentGateway1"}"#), Some(Some("AgentGateway1".into())));
        for none in ["{}", "\"\"", "[]", r#"{"guid":null}"#, r#"{"guid":""}"#, r#"{"guid":7}"#] {
            assert_eq!(found(none), None, "{none}");
        }
    }

    #[test]
    fn charsets_are_read_from_content_types() {
        for (content_type, expected) in [
            ("application/json", None),
            ("application/json; charset=GBK", Some("GBK")),
            ("application/json;charset=\"utf-8\"", Some("utf-8")),
            ("text/plain; x=1; CHARSET = gb18030 ", Some("gb18030")),
            (";;==;charset", None),
        ] {
            assert_eq!(charset(content_type), expected, "{content_type}");
        }
    }
}
