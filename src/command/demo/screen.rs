//! What the demo shows, in lines that fit a terminal.

use std::{fmt, net::SocketAddr};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::{super::text::wrapped, AGENTS, NOT_SIGNED_IN, PASSWORD, REASON, TENANT};

/// The text of an error: its code, message and `google.rpc` details, a line for each part.
pub(super) fn error_text(status: &Status) -> String {
    let details = status.get_error_details();
    let mut lines = vec![
        format!("   code     {}", code(status.code())),
        aligned("   message  ", status.message()),
    ];
    lines.extend(error_info(&details));
    if let Some(failure) = details.precondition_failure() {
        for violation in &failure.violations {
            let (kind, subject) = (&violation.r#type, &violation.subject);
            lines.push(format!("   details  PreconditionFailure type={kind}"));
            lines.push(format!("              subject={subject}"));
        }
    }
    lines.join("\n")
}

fn error_info(details: &ErrorDetails) -> Vec<String> {
    let Some(info) = details.error_info() else { return Vec::new() };
    let mut metadata: Vec<_> = info.metadata.iter().collect();
    metadata.sort();
    let metadata =
        metadata.into_iter().map(|(key, value)| aligned(&format!("              {key}="), value));
    let head = format!("   details  ErrorInfo reason={} domain={}", info.reason, info.domain);
    std::iter::once(head).chain(metadata).collect()
}

fn code(code: Code) -> String {
    format!("{code:?} ({})", code as i32)
}

/// `head` and `text` in lines that fit a terminal; the later ones are indented to the width of `head`.
fn aligned(head: &str, text: &str) -> String {
    wrapped(head, text, head.chars().count())
}

/// What a user can try next. Each command works as it is printed.
pub(super) struct NextSteps {
    pub(super) grpc: SocketAddr,
    pub(super) control: SocketAddr,
}

impl NextSteps {
    fn call(
        &self,
        f: &mut fmt::Formatter<'_>,
        what: &str,
        body: &str,
        method: &str,
    ) -> fmt::Result {
        let Self { grpc, .. } = self;
        writeln!(f, "\n  {what}:")?;
        writeln!(f, "    grpcurl -plaintext -d '{body}' \\")?;
        writeln!(f, "      {grpc} ccgateway.agent.v1.{method}")
    }
}

impl fmt::Display for NextSteps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { grpc, control } = self;
        let [idle, ..] = AGENTS;
        let (id, set_busy) = (format!("\"agent_id\":\"{idle}\""), "AgentState/SetBusy");
        writeln!(f, "\nTry it; the demo runs until Ctrl-C. Every agent's password is {PASSWORD}.")?;
        self.call(f, "Make an agent busy", &format!("{{{id},\"reason\":{REASON}}}"), set_busy)?;
        self.call(f, "Ask for its state", &format!("{{{id}}}"), "AgentState/GetState")?;
        let credentials =
            format!("{{\"agent_id\":\"{NOT_SIGNED_IN}\",\"password\":\"{PASSWORD}\"}}");
        self.call(f, "Sign another agent in", &credentials, "AgentSession/SignIn")?;
        self.call(f, "Send a bad request", "{\"agent_id\":\"01\",\"reason\":7}", set_busy)?;
        writeln!(f, "\n  See all methods, and what the gateway was asked:")?;
        writeln!(f, "    grpcurl -plaintext {grpc} describe")?;
        writeln!(f, "    curl http://{control}/{TENANT}/journal")?;
        writeln!(
            f,
            "\n  Let the gateway answer once with a web page (the first lists more faults):"
        )?;
        writeln!(f, "    curl http://{control}/")?;
        writeln!(
            f,
            "    curl -d '{{\"interface\":\"say-busy\",\"times\":1,\"fault\":{{\"kind\":\"html\"}}}}' \\"
        )?;
        write!(f, "      http://{control}/{TENANT}/misbehave")
    }
}
