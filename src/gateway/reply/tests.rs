use http::header::RETRY_AFTER;

use super::*;

impl Reply {
    /// A whole answer.
    pub(in crate::gateway) fn of(status: u16, headers: &[(HeaderName, &str)], body: &[u8]) -> Self {
        let status = StatusCode::from_u16(status).expect("a status");
        let headers = headers.iter();
        let headers =
            headers.map(|(name, value)| (name.clone(), value.parse().expect("a value"))).collect();
        Self::new((status, headers), (Ok(body), crate::gateway::interface::BODY_LIMIT), true)
    }
}

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
    let mut reply = Reply::of(status, &[(RETRY_AFTER, "1")], body);
    let now = Instant::now();
    reply.exchanged = Some([now, now + Duration::from_secs(1)]);
    reply
}

#[test]
fn what_was_carried_out_tells_how_long_it_took_and_a_broken_or_busy_gateway_that_it_was_too_much() {
    let (done, refused) = (b"{\"retcode\":\"0\"}", b"{\"retcode\":\"100-006\"}");
    for (status, body, expected) in [
        (200, &done[..], Some("answered")),
        (200, &refused[..], None),
        (503, refused, None),
        (502, done, None),
        (503, b"", Some("too much")),
        (429, b"", Some("too much")),
        (408, b"", Some("too much")),
        (408, refused, None),
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
        let headers: Vec<_> = wait.into_iter().map(|wait| (RETRY_AFTER, wait)).collect();
        let reply = Reply::of(status, &headers, b"");
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
fn reply_with(status: u16, header: (HeaderName, &str), body: &str) -> Reply {
    Reply::of(status, &[header], body.as_bytes())
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
    let cookies = Cookies::default();
    Reply::of(200, &[(SET_COOKIE, "a=1"), (SET_COOKIE, "b=2")], b"").set_cookies(&cookies);
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
