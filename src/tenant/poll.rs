//! One event poll, and what it says about the session.

use serde::Deserialize;

use super::Tenant;
use crate::{
    call::{CallError, Patience, Stage},
    gateway::{Command, Envelope, POLL, Request},
    id::AgentId,
    retcode::Kind,
    session::Session,
};

/// What a poll says about its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// The session is good.
    Alive,
    /// The Guid was refused (000-003).
    GuidRefused,
    /// The agent is not signed in, or has to sign in again.
    SignedOut,
    /// The agent is being moved to another site; its Guid stays good.
    Switchover,
    /// The gateway hands out events in another way (000-001).
    PollsDisabled,
    /// No usable answer.
    Silent,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "eventType", borrow)]
    kind: Option<std::borrow::Cow<'a, str>>,
}

/// The agent was signed out by somebody or something else (cec_07_1402).
const SIGNED_OUT: &str = "AgentOther_ShutdownService";

impl Tenant {
    /// Polls an agent's events once.
    ///
    /// A poll takes neither the agent's turn nor a place among the requests: it is open most of
    /// the time. There is one for each kept session, and their number is bounded.
    pub(super) async fn poll(&self, agent: AgentId, session: &Session) -> Finding {
        let command = Command { interface: &POLL, query: String::new() };
        let request = Request { command: &command, agent, session: Some(session), body: None };
        let mut patience = Patience::of_bridge(self.work.cutoff.clone());
        match self.gateway.exchange(&request, Stage::Answer, &mut patience).await {
            Ok(mut reply) => match self.absorb(agent, session, &mut reply).await {
                Ok(()) => finding(&reply.into_verdict(session.guid.node())),
                Err(_store_failed) => Finding::Silent,
            },
            Err(_) => Finding::Silent,
        }
    }
}

fn finding(verdict: &Result<Envelope, CallError>) -> Finding {
    let refusal = match verdict {
        Ok(envelope) if is_sign_out(envelope) => return Finding::SignedOut,
        Ok(_) => return Finding::Alive,
        Err(error) => error.refusal(),
    };
    let Some(retcode) = refusal.map(|refusal| &refusal.retcode) else { return Finding::Silent };
    match retcode.as_str() {
        "000-001" => Finding::PollsDisabled,
        // These tell the agent to sign in again (cec_07_0580).
        "105-005" | "105-006" | "105-007" => Finding::SignedOut,
        _ => match retcode.kind() {
            Kind::SessionExpired => Finding::GuidRefused,
            Kind::AgentNotSignedIn => Finding::SignedOut,
            Kind::Switchover => Finding::Switchover,
            _ => Finding::Silent,
        },
    }
}

fn is_sign_out(envelope: &Envelope) -> bool {
    let event = envelope.event.as_deref().and_then(|json| serde_json::from_str(json).ok());
    event.is_some_and(|Event { kind }| kind.as_deref() == Some(SIGNED_OUT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{call::Refusal, retcode::Retcode};

    #[track_caller]
    fn check(body: &str, expected: Finding) {
        let envelope = Envelope::read(body.as_bytes(), None);
        let verdict =
            envelope.map_err(|e| CallError::BadReply(e.to_string())).and_then(|envelope| {
                let Some(retcode) = Retcode::refusal(&envelope.retcode) else {
                    return Ok(envelope);
                };
                Err(CallError::Refused(Refusal { retcode, message: envelope.message, node: None }))
            });
        assert_eq!(finding(&verdict), expected, "{body}");
    }

    #[test]
    fn polls_are_read_for_what_they_say_about_the_session() {
        let event = |kind: &str| {
            format!(
                r#"{{"retcode":"0","event":{{"eventType":"{kind}","workNo":"1","content":null}}}}"#
            )
        };
        check(r#"{"message":"","retcode":"0"}"#, Finding::Alive);
        check(r#"{"retcode":"0","event":null}"#, Finding::Alive);
        check(r#"{"retcode":"0","event":[]}"#, Finding::Alive);
        check(&event("AgentState_Ready"), Finding::Alive);
        check(&event("AgentOther_ShutdownService"), Finding::SignedOut);
        check("<html>", Finding::Silent);
        for (retcode, expected) in [
            ("000-001", Finding::PollsDisabled),
            ("000-003", Finding::GuidRefused),
            ("000-004", Finding::Switchover),
            ("000-007", Finding::Silent),
            ("100-006", Finding::SignedOut),
            ("105-002", Finding::Switchover),
            ("105-006", Finding::SignedOut),
            ("999-999", Finding::Silent),
        ] {
            check(&format!(r#"{{"retcode":"{retcode}"}}"#), expected);
        }
    }
}
