//! The gateway's answers, and how they are written.

use bytes::{BufMut, Bytes, BytesMut};
use http::StatusCode;
use serde_json::{Value, json};

use super::{
    agent::Event,
    options::{Options, PushForm},
    retcode::{self, Retcode},
    route::NoRoute,
    session::epoch_ms,
};

/// An answer before it is written. Header names keep their case, which clients rely on (client).
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) content_type: String,
    pub(super) body: Vec<u8>,
    /// The retcode in the body, for the journal.
    pub(super) retcode: Option<String>,
}

const HTML: &str = "text/html;charset=UTF-8";

// === impl Reply ===

impl Reply {
    /// The answer of most state changes (`cec_07_1211`).
    pub(super) fn accepted(options: &Options) -> Self {
        Self::success(options, &json!({}))
    }

    /// The answer of a forced sign-out, which has no result (`cec_07_1220`).
    pub(super) fn accepted_bare(options: &Options) -> Self {
        let body = r#"{"message":"success","retcode":"0"}"#;
        Self::envelope(options, body.into(), "0")
    }

    /// An answer with a result and an empty message (`cec_07_1202`, `cec_07_1222`).
    pub(super) fn result(options: &Options, result: &Value) -> Self {
        let body = format!(r#"{{"message":"","retcode":"0","result":{result}}}"#);
        Self::envelope(options, body, "0")
    }

    /// An answer with a result and the message "success" (`cec_07_1225`, `cec_07_1229`).
    pub(super) fn success(options: &Options, result: &Value) -> Self {
        let body = format!(r#"{{"result":{result},"message":"success","retcode":"0"}}"#);
        Self::envelope(options, body, "0")
    }

    /// The answer to a poll.
    pub(super) fn event(options: &Options, agent: u32, event: Option<&Event>) -> Self {
        let event = event.map(|event| event_text(options, agent, event));
        Self::polled(options, event)
    }

    /// The body of an event that is sent in the older form of push mode (client).
    pub(super) fn pushed(options: &Options, agent: u32, event: &Event) -> Vec<u8> {
        match options.push_form {
            PushForm::Poll => Self::event(options, agent, Some(event)).body,
            PushForm::EventContent => {
                let text = event_text(options, agent, event);
                json!({ "eventContent": text }).to_string().into_bytes()
            }
        }
    }

    /// The answer to a poll for all agents, with an array of events (client).
    pub(super) fn events(options: &Options, events: &[(u32, Event)]) -> Self {
        let texts: Vec<String> =
            events.iter().map(|(agent, event)| event_text(options, *agent, event)).collect();
        let array = (!texts.is_empty()).then(|| format!("[{}]", texts.join(",")));
        Self::polled(options, array)
    }

    /// The answer to a poll. A client of the vendor compares the empty one byte for byte (client), so
    /// its spelling matters.
    fn polled(options: &Options, event: Option<String>) -> Self {
        let event = event.map(|text| format!(r#","event":{text}"#)).unwrap_or_default();
        let body = format!(r#"{{"message":"","retcode":"0"{event}}}"#);
        Self::envelope(options, body, "0")
    }

    /// A refusal with its usual message.
    pub(super) fn refusal(options: &Options, code: &str) -> Self {
        Self::refusal_saying(options, code, retcode::message(code))
    }

    /// A refusal with the given message.
    pub(super) fn refusal_saying(options: &Options, code: &str, message: &str) -> Self {
        let (message, retcode) = (json!(message), json!(code));
        let body = format!(r#"{{"message":{message},"result":"","retcode":{retcode}}}"#);
        Self::envelope(options, body, code)
    }

    /// The answer if no interface matches. Its form is undocumented.
    pub(super) fn no_route(options: &Options, why: NoRoute) -> Self {
        match why {
            NoRoute::NotFound => Self::page(404, "No such resource"),
            NoRoute::WrongMethod => Self::page(405, "Method not allowed"),
            NoRoute::BadId => Self::refusal(options, Retcode::BadParameter.as_str()),
            NoRoute::NoInterface => Self::refusal(options, &options.codes.no_interface),
        }
    }

    /// An HTML page.
    pub(super) fn page(status: u16, title: &str) -> Self {
        let page = format!(
            "<!DOCTYPE html><html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>"
        );
        Self::other(status, HTML, page.into_bytes())
    }

    /// The login page that a balancer or a proxy may answer with instead of the gateway.
    pub(super) fn login_page() -> Self {
        let page = "<!DOCTYPE html><html><head><title>Login</title></head><body>\
            <form action=\"/login\" method=\"post\"><input name=\"user\"></form></body></html>";
        Self::other(200, HTML, page.into())
    }

    /// Any other answer.
    pub(super) fn other(status: u16, content_type: &str, body: Vec<u8>) -> Self {
        Self { status, headers: Vec::new(), content_type: content_type.into(), body, retcode: None }
    }

    /// Adds the new Guid with the header's exact spelling (`cec_07_0005`).
    pub(super) fn set_guid(&mut self, guid: &str) {
        self.headers.push(("Set-GUID".into(), format!("JSESSIONID={guid}")));
    }

    /// The bytes of head and body, and the length of the head.
    pub(super) fn to_bytes(&self, close: bool) -> (Bytes, usize) {
        let reason =
            StatusCode::from_u16(self.status).ok().and_then(|status| status.canonical_reason());
        let mut bytes = BytesMut::with_capacity(256 + self.body.len());
        bytes.put_slice(
            format!("HTTP/1.1 {} {}\r\n", self.status, reason.unwrap_or_default()).as_bytes(),
        );
        for (name, value) in &self.headers {
            put_header(&mut bytes, name, value);
        }
        if !self.content_type.is_empty() {
            put_header(&mut bytes, "Content-Type", &self.content_type);
        }
        if close {
            put_header(&mut bytes, "Connection", "close");
        }
        put_header(&mut bytes, "Content-Length", &self.body.len().to_string());
        bytes.put_slice(b"\r\n");
        let head = bytes.len();
        bytes.put_slice(&self.body);
        (bytes.freeze(), head)
    }

    fn envelope(options: &Options, body: String, retcode: &str) -> Self {
        let mut reply = Self::other(200, &options.content_type, body.into_bytes());
        reply.retcode = Some(retcode.into());
        reply.headers.extend(options.json_type.clone().map(|kind| ("JSON-Type".into(), kind)));
        reply
    }
}

fn event_text(options: &Options, agent: u32, event: &Event) -> String {
    let time = if options.event_gen_time {
        format!(r#","eventGenTime":{}"#, epoch_ms())
    } else {
        String::new()
    };
    let kind = json!(event.kind);
    let content = event.content.as_ref().map(|content| format!(r#","content":{content}"#));
    let content = content.unwrap_or_default();
    format!(r#"{{"eventType":{kind}{time},"workNo":"{agent}"{content}}}"#)
}

/// Writes a header without control characters, so that a rule's header cannot break the framing.
fn put_header(bytes: &mut BytesMut, name: &str, value: &str) {
    let visible = |text: &str| text.replace(|c: char| c.is_control(), "");
    bytes.put_slice(format!("{}: {}\r\n", visible(name), visible(value)).as_bytes());
}
