//! What went wrong, decoded from the status and its `google.rpc` details.

use std::{collections::BTreeMap, error::Error as _, fmt, time::Duration};

use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::show::lines;
use crate::{reason, rpc::code_name};

/// A delay below this is no delay for a person.
const MOMENT: Duration = Duration::from_millis(10);

/// A failed call.
pub(super) struct Failure {
    code: Code,
    message: String,
    /// `ErrorInfo.reason`; empty where the answer is not the bridge's.
    pub(super) reason: String,
    metadata: BTreeMap<String, String>,
    /// What is wrong with which field, or not fulfilled by what.
    violations: Vec<(String, String)>,
    /// When another attempt may succeed.
    pub(super) retry_delay: Option<Duration>,
    /// What to do.
    advice: &'static str,
}

/// What a status of the bridge, or of the way to it, says.
pub(super) fn describe(status: &Status, addr: &str) -> Failure {
    let details = status.get_error_details();
    let Some(info) = details.error_info() else { return foreign(status, addr) };
    Failure {
        code: status.code(),
        message: status.message().to_owned(),
        reason: info.reason.clone(),
        metadata: info.metadata.clone().into_iter().collect(),
        violations: violations(&details),
        retry_delay: details.retry_info().and_then(|retry| retry.retry_delay),
        advice: advice(&info.reason),
    }
}

/// Nobody has answered.
pub(super) fn silent(addr: &str, deadline: Duration) -> Failure {
    let waited = humantime::format_duration(deadline);
    let message = format!("{addr} did not answer within {waited}");
    foreign(&Status::deadline_exceeded(message), addr)
}

/// No bridge says so: there is none, or something stands before it.
fn foreign(status: &Status, addr: &str) -> Failure {
    let mut causes = vec![status.message().to_owned()];
    let mut connecting = false;
    let mut next = status.source();
    while let Some(error) = next {
        let client = error.downcast_ref::<hyper_util::client::legacy::Error>();
        connecting |= client.is_some_and(hyper_util::client::legacy::Error::is_connect);
        let text = error.to_string();
        if causes.last() != Some(&text) {
            causes.push(text);
        }
        next = error.source();
    }
    Failure {
        // tonic has no better word for a connection that was never made.
        code: if connecting { Code::Unavailable } else { status.code() },
        message: format!("{addr}: {}", causes.join(": ")),
        reason: String::new(),
        metadata: BTreeMap::new(),
        violations: Vec::new(),
        retry_delay: None,
        advice: "see that a bridge listens at --addr, and whether it wants TLS (--ca) or none \
                 (--insecure-plaintext)",
    }
}

fn violations(details: &ErrorDetails) -> Vec<(String, String)> {
    let fields = details.bad_request().into_iter().flat_map(|bad| &bad.field_violations);
    let fields = fields.map(|field| (field.field.clone(), field.description.clone()));
    let quotas = details.quota_failure().into_iter().flat_map(|quota| &quota.violations);
    let quotas = quotas.map(|quota| (quota.subject.clone(), quota.description.clone()));
    fields.chain(quotas).collect()
}

/// What to do, for somebody with this program at hand; the message says the rest.
fn advice(reason: &str) -> &'static str {
    match reason {
        "INVALID_REQUEST" => "correct what is named above",
        "TENANT_UNKNOWN" => "give a tenant of the bridge's configuration as --tenant",
        "SESSION_MISSING" | "SESSION_NOT_FOUND" | "SESSION_EXPIRED" | "AGENT_NOT_SIGNED_IN" => {
            "sign the agent in: ccgateway-bridge call sign-in --agent ID --password-stdin"
        }
        "AGENT_STATE_REFUSED" => {
            "see what the agent is doing: ccgateway-bridge call get-state --agent ID; --prolong \
             replaces the reason of an agent who is busy, or the time of one who rests"
        }
        "AGENT_ALREADY_SIGNED_IN" => "--force takes the agent over from wherever it is signed in",
        "CREDENTIALS_MISSING" => "give --password-stdin or --password-file",
        "CREDENTIALS_REJECTED" => {
            "give the right password; platforms lock accounts after some wrong ones"
        }
        "ACCOUNT_LOCKED" => "have the account unlocked on the platform, and correct the password",
        "GATEWAY_UNREACHABLE"
        | "GATEWAY_BAD_REPLY"
        | "GATEWAY_HTTP_STATUS"
        | "GATEWAY_INTERFACE_MISSING"
        | "GATEWAY_PROXY_FAILED" => {
            "where the bridge runs, ccgateway-bridge doctor --config FILE finds the cause"
        }
        "DEADLINE" => "give more time by --deadline",
        other => reason::find(other).map_or("", |known| known.advice),
    }
}

/// What is known of the agent, in words.
fn outcome(outcome: &str) -> Option<&'static str> {
    Some(match outcome {
        "not_sent" => "the gateway was not asked; the agent is as it was",
        "refused" => "the gateway said no; the agent is as it was",
        "unknown" => "the agent may have changed: look before trying again",
        _ => return None,
    })
}

impl Failure {
    /// All of it, on one line.
    pub(super) fn json(&self) -> Value {
        let violation =
            |(on, description): &(String, String)| json!({ "on": on, "description": description });
        let retry = self.retry_delay.map(|delay| delay.as_secs_f64());
        json!({
            "error": {
                "code": code_name(self.code),
                "reason": self.reason,
                "message": self.message,
                "metadata": self.metadata,
                "violations": self.violations.iter().map(violation).collect::<Vec<_>>(),
                "retry_delay_seconds": retry,
            }
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(code_name(self.code))?;
        if !self.reason.is_empty() {
            write!(f, ": {}", self.reason)?;
        }
        lines(f, "message", &json!(self.message))?;
        for (on, description) in &self.violations {
            lines(f, on, &json!(description))?;
        }
        for (key, value) in &self.metadata {
            match outcome(value).filter(|_| key == "outcome") {
                Some(words) => lines(f, key, &json!(format!("{value}: {words}")))?,
                None => lines(f, key, &json!(value))?,
            }
        }
        lines(f, "what to do", &json!(self.advice))?;
        match self.retry_delay {
            None => Ok(()),
            Some(delay) if delay < MOMENT => lines(f, "try again", &json!("at once")),
            Some(delay) => {
                let delay = humantime::format_duration(delay);
                lines(f, "try again", &json!(format!("in {delay}")))
            }
        }
    }
}
