//! The span of one exchange with a gateway.

use super::{Envelope, Exchanged, address::Address, reply::Reply, request::Request};
use crate::{
    call::CallError,
    retcode::{ACCEPTED, Retcode},
    telemetry::trace::{Span, SpanKind},
};

/// Begins the span. What is sent from now on belongs to it.
pub(super) fn begin(request: &mut Request<'_>) -> Span {
    let interface = request.interface();
    let name = || format!("gateway {}", interface.log_name);
    let span = request.trace.child(name, SpanKind::Client);
    span.set("http.request.method", || interface.method.to_string());
    span.set("url.template", || format!("/{}/{{agentid}}{}", interface.family, interface.tail));
    request.trace = span.trace().clone();
    span
}

/// Adds the address that was asked.
pub(super) fn asked(span: &Span, address: &Address) {
    span.set("server.address", || address.uri().host().unwrap_or_default().to_owned());
    if let Some(port) = address.uri().port_u16() {
        span.set("server.port", || i64::from(port));
    }
}

/// Adds the result of the exchange. Leaves out the session's Guid and the gateway's text.
pub(super) fn end(span: &Span, verdict: &Result<Reply, CallError>, result: Exchanged) {
    if let Ok(reply) = verdict {
        span.set("http.response.status_code", || i64::from(reply.status.as_u16()));
        if let Ok(Envelope { refused, .. }) = &reply.envelope {
            let retcode = || refused.as_ref().map_or(ACCEPTED, Retcode::as_str).to_owned();
            span.set("ccgw.retcode", retcode);
        }
    }
    if result != Exchanged::Accepted {
        span.set("error.type", || result.as_str());
        span.fail(|| verdict.as_ref().err().map(ToString::to_string).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Mutex},
        time::Duration,
    };

    use http::{HeaderMap, Uri};
    use opentelemetry::{Context, trace::Status};
    use opentelemetry_sdk::{
        error::OTelSdkResult,
        trace::{SpanData, SpanProcessor},
    };
    use tokio::time::Instant;

    use super::*;
    use crate::{
        call::Stage,
        gateway::{Command, SAY_BUSY},
        id::AgentId,
        retcode::Kind,
        telemetry::trace::Tracer,
    };

    /// The spans that have ended.
    #[derive(Clone, Debug, Default)]
    struct Ended(Arc<Mutex<Vec<SpanData>>>);

    impl SpanProcessor for Ended {
        fn on_start(&self, _: &mut opentelemetry_sdk::trace::Span, _: &Context) {}

        fn on_end(&self, span: SpanData) {
            self.0.lock().expect("free").push(span);
        }

        fn force_flush(&self) -> OTelSdkResult {
            Ok(())
        }

        fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
            Ok(())
        }
    }

    /// The span of an exchange with this result.
    fn recorded(verdict: &Result<Reply, CallError>, result: Exchanged) -> SpanData {
        let ended = Ended::default();
        let call =
            Tracer::recording(ended.clone()).begin("a call", &HeaderMap::new(), Instant::now());
        let (command, agent) = (Command::plain(&SAY_BUSY), AgentId::lowest(&(1001..=1001)));
        let (session, body, stage) = (None, None, Stage::Answer);
        let trace = call.trace().clone();
        let mut request = Request { command: &command, agent, session, body, stage, trace };
        let span = begin(&mut request);
        let address = Address::new(&Uri::from_static("https://gateway.example:8043/x"));
        asked(&span, &address.expect("a host"));
        end(&span, verdict, result);
        drop(span);
        let mut ended = ended.0.lock().expect("free");
        ended.pop().expect("that of the exchange alone")
    }

    fn reply(body: &[u8]) -> Reply {
        Reply::of(200, &[], body)
    }

    #[test]
    fn an_exchange_is_told_with_its_address_and_what_came_of_it() {
        let cut = Err(CallError::NoAnswer("it was cut".into()));
        let refused = Exchanged::Refused(Kind::StateRefused);
        for (verdict, result, [status, retcode, error]) in [
            (Ok(reply(br#"{"retcode":"0"}"#)), Exchanged::Accepted, [Some("200"), Some("0"), None]),
            (
                Ok(reply(br#"{"retcode":"100-009"}"#)),
                refused,
                [Some("200"), Some("100-009"), Some("state_refused")],
            ),
            (Ok(reply(b"<html>")), Exchanged::BadReply, [Some("200"), None, Some("bad_reply")]),
            (cut, Exchanged::NoAnswer, [None, None, Some("no_answer")]),
        ] {
            let span = recorded(&verdict, result);
            assert_eq!(span.name, "gateway sayBusy");
            for (key, expected) in [
                ("http.request.method", Some("POST")),
                ("url.template", Some("/onlineagent/{agentid}/saybusy")),
                ("server.address", Some("gateway.example")),
                ("server.port", Some("8043")),
                ("http.response.status_code", status),
                ("ccgw.retcode", retcode),
                ("error.type", error),
            ] {
                let found = span.attributes.iter().find(|attribute| attribute.key.as_str() == key);
                let found = found.map(|attribute| attribute.value.as_str());
                assert_eq!(found.as_deref(), expected, "{key} {result:?}");
            }
            let has_failed = matches!(span.status, Status::Error { .. });
            assert_eq!(has_failed, error.is_some(), "{:?}", span.status);
        }
    }
}
