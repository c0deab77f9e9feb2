//! A failed call, decoded from the gRPC status and its `google.rpc` details.

use std::{collections::BTreeMap, error::Error as _, fmt, time::Duration};

use prost::Message as _;
use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::pb;

use super::{attempt::Attempt, ending::Ending};
use crate::{
    call::Outcome,
    client::{Told, Violation},
    command::text::write_fields,
    reason::{self, Reason},
    rpc::{KEY_OUTCOME, code_name},
};

/// A shorter retry delay is shown as "at once".
const AT_ONCE: Duration = Duration::from_millis(10);

/// Reasons for which this program has better advice than the bridge gives to all callers.
static ADVICE: &[(&[&Reason], &str)] = &[
    (&[&reason::INVALID_REQUEST], "correct what is named above"),
    (&[&reason::TENANT_UNKNOWN], "give a tenant of the bridge's configuration as --tenant"),
    (
        &[
            &reason::SESSION_MISSING,
            &reason::SESSION_NOT_FOUND,
            &reason::SESSION_EXPIRED,
            &reason::AGENT_NOT_SIGNED_IN,
        ],
        "sign the agent in: ccgateway-bridge call sign-in --agent ID --password-stdin",
    ),
    (
        &[&reason::AGENT_STATE_REFUSED],
        "see what the agent is doing: ccgateway-bridge call get-state --agent ID; --prolong \
         replaces the reason of a busy agent, or the time of a resting one",
    ),
    (
        &[&reason::AGENT_ALREADY_SIGNED_IN],
        "--force takes the agent over from wherever it is signed in",
    ),
    (&[&reason::CREDENTIALS_MISSING], "give --password-stdin or --password-file"),
    (
        &[&reason::CREDENTIALS_REJECTED],
        "give the right password; platforms lock accounts after several wrong ones",
    ),
    (
        &[&reason::ACCOUNT_LOCKED],
        "have the account unlocked on the platform, and correct the password",
    ),
    (
        &[
            &reason::GATEWAY_UNREACHABLE,
            &reason::GATEWAY_BAD_REPLY,
            &reason::GATEWAY_HTTP_STATUS,
            &reason::GATEWAY_INTERFACE_MISSING,
            &reason::GATEWAY_PROXY_FAILED,
        ],
        "run ccgateway-bridge doctor --config FILE where the bridge runs, to find the cause",
    ),
    (&[&reason::DEADLINE], "give more time with --deadline"),
];

/// A failed call.
pub(super) struct Failure {
    code: Code,
    message: String,
    /// What is known about the agent afterwards.
    pub(super) ending: Ending,
    /// Whether the call was to change nothing.
    is_of_question: bool,
    /// `ErrorInfo.reason`; empty if the status does not come from a bridge.
    pub(super) reason: String,
    metadata: BTreeMap<String, String>,
    violations: Vec<Violation>,
    /// When another attempt may succeed.
    pub(super) retry_delay: Option<Duration>,
    /// What the user can do; may be empty.
    advice: &'static str,
}

/// Decodes a status that comes from a bridge, from a proxy before it, or from this client.
pub(super) fn describe(status: &Status, attempt: &Attempt, addr: &str) -> Failure {
    from_bridge(status).unwrap_or_else(|| from_network(status, attempt, addr))
}

/// Decodes a status that a bridge made; `None` if something else made it.
pub(super) fn from_bridge(status: &Status) -> Option<Failure> {
    let Told { reason, metadata, retry_delay, violations, .. } = Told::of(status)?;
    Some(Failure {
        code: status.code(),
        message: status.message().to_owned(),
        ending: Ending::of_outcome(metadata.get(KEY_OUTCOME).map(String::as_str)),
        is_of_question: false,
        advice: advice(&reason),
        reason,
        metadata,
        violations,
        retry_delay,
    })
}

/// What a status that is a part of an answer says.
pub(super) fn of_answer(error: &pb::Status) -> Failure {
    let details = error.encode_to_vec().into();
    let status = Status::with_details(Code::from(error.code), &*error.message, details);
    from_bridge(&status).unwrap_or_else(|| not_from_bridge(status.code(), &error.message))
}

/// The failure of a call that nobody has answered by its deadline.
pub(super) fn no_answer(attempt: &Attempt, addr: &str, deadline: Duration) -> Failure {
    let waited = humantime::format_duration(deadline);
    let message = format!("no answer within {waited}");
    from_network(&Status::deadline_exceeded(message), attempt, addr)
}

/// Decodes a status that no bridge made: the client made it because it reached no bridge, or a proxy
/// before the bridge did.
fn from_network(status: &Status, attempt: &Attempt, addr: &str) -> Failure {
    let mut causes = vec![status.message().to_owned()];
    let mut next = status.source();
    while let Some(error) = next {
        let text = error.to_string();
        if causes.last() != Some(&text) {
            causes.push(text);
        }
        next = error.source();
    }
    let ending = if attempt.had_connection() { Ending::Unknown } else { Ending::NoBridge };
    Failure {
        // tonic says UNKNOWN if it could not connect; UNAVAILABLE is gRPC's code for this.
        code: match (ending, status.code()) {
            (Ending::NoBridge, Code::Unknown) => Code::Unavailable,
            (_, code) => code,
        },
        message: format!("{addr}: {}", causes.join(": ")),
        ending,
        is_of_question: false,
        reason: String::new(),
        metadata: BTreeMap::new(),
        violations: Vec::new(),
        retry_delay: None,
        advice: "check that a bridge listens at --addr, whether it wants TLS (--ca) or no TLS \
                 (--insecure-plaintext), and which name its certificate is for (--server-name)",
    }
}

/// An agent's error in a batch that is not one of the bridge's, so that nothing is known about the
/// agent.
pub(super) fn not_from_bridge(code: Code, message: &str) -> Failure {
    Failure {
        code,
        message: message.to_owned(),
        ending: Ending::Unknown,
        is_of_question: false,
        reason: String::new(),
        metadata: BTreeMap::new(),
        violations: Vec::new(),
        retry_delay: None,
        advice: "",
    }
}

/// What to do about an error of this reason, for a user of this program.
fn advice(reason: &str) -> &'static str {
    let is_for = |(reasons, _): &&(&[&Reason], _)| reasons.iter().any(|known| known.name == reason);
    match ADVICE.iter().find(is_for) {
        Some((_, advice)) => advice,
        None => reason::find(reason).map_or("", |known| known.advice),
    }
}

impl Failure {
    /// The failure of a call that changes nothing, so that there is nothing to look after.
    pub(super) fn of_question(mut self) -> Self {
        self.is_of_question = true;
        if self.ending == Ending::Unknown {
            self.ending = Ending::NotDone;
        }
        self
    }

    /// Whether the same watch may go on after a while: a bridge says when, or all places are taken, which come free again, and
    /// whatever else failed was on the way to one.
    pub(super) fn may_pass(&self) -> bool {
        if !self.reason.is_empty() {
            return self.retry_delay.is_some() || self.reason == reason::TENANT_LIMIT_REACHED.name;
        }
        matches!(
            self.code,
            Code::Unavailable
                | Code::Unknown
                | Code::Internal
                | Code::Cancelled
                | Code::Aborted
                | Code::DeadlineExceeded
                | Code::ResourceExhausted
        )
    }

    /// The failure in one line.
    pub(super) fn in_short(&self) -> String {
        format!("{}: {}", self.headline(), self.message)
    }

    /// What is known about the agent, as the bridge spells it.
    fn outcome(&self) -> Outcome {
        let said = self.metadata.get(KEY_OUTCOME).and_then(|said| Outcome::find(said));
        match self.ending {
            Ending::NotDone if self.is_of_question => said.unwrap_or(Outcome::Unknown),
            Ending::NotDone => said.unwrap_or(Outcome::NotSent),
            Ending::NoBridge => Outcome::NotSent,
            Ending::Done | Ending::Unconfirmed | Ending::Unknown => Outcome::Unknown,
        }
    }

    /// What is known about the agent, as a sentence.
    fn outcome_in_words(&self) -> String {
        let spelled = self.outcome().as_str();
        match (self.outcome(), self.metadata.get(KEY_OUTCOME)) {
            (Outcome::Unknown, _) if self.is_of_question => {
                format!("{spelled}: there is no answer; this call changes nothing")
            }
            (Outcome::NotSent, _) => {
                format!("{spelled}: the gateway was not asked; the agent is as it was")
            }
            (Outcome::Refused, _) => {
                format!("{spelled}: the gateway refused; the agent is as it was")
            }
            (Outcome::NotApplied, _) => format!(
                "{spelled}: the request was lost; the gateway says that the agent is as it was"
            ),
            (Outcome::Unknown, Some(said)) if said != spelled => format!(
                "{said}, which this program does not know: the agent may have changed; look before \
                 trying again"
            ),
            (Outcome::Unknown, _) => {
                format!("{spelled}: the agent may have changed; look before trying again")
            }
        }
    }

    /// The code and the reason.
    pub(super) fn headline(&self) -> String {
        let code = code_name(self.code);
        if self.reason.is_empty() { code.to_owned() } else { format!("{code}: {}", self.reason) }
    }

    /// The failure as the JSON that `--json` prints.
    pub(super) fn json(&self) -> Value {
        json!({ "error": self.fields() })
    }

    /// The failure's fields as JSON, without the object around them.
    pub(super) fn fields(&self) -> Value {
        let violation = |of: &Violation| json!({ "on": of.on, "description": of.description });
        json!({
            "code": code_name(self.code),
            "reason": self.reason,
            "outcome": self.outcome().as_str(),
            "message": self.message,
            "metadata": self.metadata,
            "violations": self.violations.iter().map(violation).collect::<Vec<_>>(),
            "retry_delay_seconds": self.retry_delay.map(|delay| delay.as_secs_f64()),
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.headline())?;
        write_fields(f, "message", &json!(self.message))?;
        for Violation { on, description } in &self.violations {
            write_fields(f, on, &json!(description))?;
        }
        for (key, value) in self.metadata.iter().filter(|(key, _)| *key != KEY_OUTCOME) {
            write_fields(f, key, &json!(value))?;
        }
        write_fields(f, KEY_OUTCOME, &json!(self.outcome_in_words()))?;
        write_fields(f, "what to do", &json!(self.advice))?;
        match self.retry_delay {
            None => Ok(()),
            Some(delay) if delay < AT_ONCE => write_fields(f, "try again", &json!("at once")),
            Some(delay) => {
                let delay = humantime::format_duration(delay);
                write_fields(f, "try again", &json!(format!("in {delay}")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::{ErrorDetails, StatusExt as _};

    use super::*;
    use crate::rpc::ERROR_DOMAIN;

    #[test]
    fn a_watch_goes_on_where_a_place_comes_free_and_not_where_it_is_refused() {
        for (reason, may_pass) in [
            (&reason::TENANT_LIMIT_REACHED, true),
            (&reason::CALLER_NOT_ALLOWED, false),
            (&reason::INVALID_REQUEST, false),
        ] {
            let metadata = HashMap::<String, String>::new();
            let details = ErrorDetails::with_error_info(reason.name, ERROR_DOMAIN, metadata);
            let status = Status::with_error_details(reason.code, "refused", details);
            let failure = from_bridge(&status).expect("of a bridge");
            assert_eq!(failure.may_pass(), may_pass, "{}", reason.name);
        }
    }
}
