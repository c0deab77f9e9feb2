//! Makes an agent busy through ccgateway-bridge, and takes an error apart; or watches its events.
//!
//! Exit code: 0 for an answer, 1 for an error, 2 for a wrong command line.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is a program for people")]

use std::{error::Error, fs, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use ccgateway_bridge::{
    client::{self, ChangeError, NextStep, SecureChannel, Told},
    rpc::proto::{
        self, SetBusyRequest, WatchEventsRequest, agent_events_client::AgentEventsClient,
        agent_state_client::AgentStateClient, watch_events_response::What,
    },
};
use clap::Parser as _;
use http::Uri;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use tokio::time::sleep;
use tonic::{Request, Status};

/// Makes an agent busy through ccgateway-bridge.
#[derive(clap::Parser)]
#[command(args_override_self = true)]
struct Args {
    /// The agent's id on the gateway.
    agent: String,
    /// The bridge's address.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:50051")]
    addr: String,
    /// Use TLS, and trust this PEM file.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// May be left out where there is one only.
    #[arg(long, default_value = "", hide_default_value = true)]
    tenant: String,
    /// 200 to 250, or 0 for none.
    #[arg(long)]
    reason: Option<i32>,
    /// Replace the reason of a busy agent.
    #[arg(long)]
    prolong: bool,
    /// Wait so long for the event that says so.
    #[arg(long, value_name = "SECONDS")]
    confirm_within: Option<i64>,
    /// How long each attempt may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    deadline: u64,
    /// How often the request is sent at most.
    #[arg(long, default_value_t = 3)]
    attempts: u32,
    /// Change nothing, but watch the agent's events until one of this type comes.
    #[arg(long, value_name = "TYPE")]
    until: Option<String>,
}

/// The shortest pause between two attempts.
const PAUSE: Duration = Duration::from_millis(250);

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let args = Args::parse();
    let (channel, origin) = connect(&args)?;
    let done = if let Some(until) = &args.until {
        watch(&mut AgentEventsClient::with_origin(channel, origin), &args, until).await
    } else {
        let states = AgentStateClient::with_origin(channel, origin);
        set_busy(&states, &args).await.map(|answer| println!("accepted: {}", shown(&answer)))
    };
    if let Err(error) = done {
        println!("{}", describe(&error).join("\n"));
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

// ANCHOR: connect
/// One channel for all calls. It asks a peer that is silent whether it is still there.
fn connect(args: &Args) -> Result<(SecureChannel, Uri), Box<dyn Error>> {
    let mut roots = RootCertStore::empty();
    if let Some(file) = &args.ca {
        for certificate in CertificateDer::pem_slice_iter(&fs::read(file)?) {
            roots.add(certificate?)?;
        }
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let tls =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let tls = tls.with_root_certificates(roots).with_no_client_auth();
    let scheme = if args.ca.is_some() { "https" } else { "http" };
    let origin = format!("{scheme}://{}", args.addr).parse()?;
    Ok((client::secure_channel(tls), origin))
}
// ANCHOR_END: connect

// ANCHOR: change
async fn set_busy(
    states: &AgentStateClient<SecureChannel>,
    args: &Args,
) -> Result<proto::SetBusyResponse, ChangeError> {
    let request = SetBusyRequest {
        agent_id: args.agent.clone(),
        tenant_id: args.tenant.clone(),
        // What is left out is not sent, which is not the same as 0 or false.
        reason: args.reason,
        prolong: args.prolong.then_some(true),
        confirm_within: args.confirm_within.map(seconds),
        // However often the request is sent with this id, the change is made once.
        request_id: uuid::Builder::from_random_bytes(rand::random()).into_uuid().to_string(),
    };
    let deadline = Duration::from_secs(args.deadline);
    let mut attempt = 1;
    loop {
        let mut states = states.clone();
        let send = async |request: Request<SetBusyRequest>| states.set_busy(request).await;
        let answer = client::change(request.clone(), deadline, send).await;
        let again = answer.as_ref().err().and_then(again_after);
        let Some(pause) = again.filter(|_| attempt < args.attempts) else { return answer };
        sleep(pause).await;
        attempt += 1;
    }
}

/// After how long the request may be sent again with the same id; `None` where that is of no use.
fn again_after(error: &ChangeError) -> Option<Duration> {
    match error.next_step() {
        NextStep::SendAgain(pause) => Some(pause),
        NextStep::LearnOutcome => Some(PAUSE),
        _ => None,
    }
}
// ANCHOR_END: change

fn seconds(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}

fn shown(answer: &proto::SetBusyResponse) -> String {
    let Some(confirmation) = &answer.confirmation else { return answer.message.clone() };
    let (status, reason) = (confirmation.status(), confirmation.reason());
    format!("{}, {}", status.as_str_name(), reason.as_str_name())
}

// ANCHOR: describe
fn describe(error: &ChangeError) -> Vec<String> {
    let failed = error.failed();
    let mut lines = vec![format!("{}: {}", failed.code_name(), failed.status().message())];
    let outcome = match error {
        ChangeError::NotSent(_) => "not_sent, the gateway was not asked; trying again is safe",
        ChangeError::Refused(_) => {
            "refused, the gateway said no; trying again is safe, but may not help"
        }
        ChangeError::NotApplied(_) => {
            "not_applied, the request was lost, and the agent is as it was; trying again is safe"
        }
        ChangeError::Unknown(_) => "unknown, the agent may have changed; look before trying again",
    };
    lines.push(format!("  outcome: {outcome}"));
    // `None`: a proxy says so, or the connection was cut. This is so whatever the code is.
    let Some(told) = error.told() else { return lines };
    lines.push(format!("  reason: {}", told.reason));
    lines.extend(told.retcode().map(|retcode| format!("  retcode: {retcode}")));
    let delay = told.retry_delay.map(|delay| delay.as_secs_f64());
    lines.extend(delay.map(|delay| format!("  try again in: {delay} s")));
    lines.extend(told.violations.iter().map(|of| format!("  {}: {}", of.on, of.description)));
    lines.extend(told.unmet.iter().map(|unmet| format!("  {} of {}", unmet.kind, unmet.subject)));
    lines
}
// ANCHOR_END: describe

// ANCHOR: watch
/// Follows the agent's events over as many streams as it takes: each one ends with its connection.
async fn watch(
    events: &mut AgentEventsClient<SecureChannel>,
    args: &Args,
    until: &str,
) -> Result<(), ChangeError> {
    let (agent_ids, tenant_id) = (vec![args.agent.clone()], args.tenant.clone());
    let mut request = WatchEventsRequest { agent_ids, tenant_id, after_sequence: None };
    loop {
        let pause = match follow(events, &mut request, until).await {
            Ok(true) => return Ok(()),
            Ok(false) => PAUSE,
            Err(status) => {
                eprintln!("{}", status.message());
                // Where the bridge refuses, it says when another attempt may help, if ever.
                let pause = Told::of(&status).map_or(Some(PAUSE), |told| told.retry_delay);
                let Some(pause) = pause else { return Err(status.into()) };
                pause.max(PAUSE)
            }
        };
        sleep(pause).await;
    }
}

/// Follows one stream. Returns whether the event has come.
async fn follow(
    events: &mut AgentEventsClient<SecureChannel>,
    request: &mut WatchEventsRequest,
    until: &str,
) -> Result<bool, Status> {
    let mut stream = events.watch_events(request.clone()).await?.into_inner();
    while let Some(message) = stream.message().await? {
        // Whatever kind of message it is, the next stream has to begin after it.
        let before = request.after_sequence.replace(message.sequence);
        match message.what {
            Some(What::Begin(_)) if before.is_none() => println!("watching"),
            Some(What::Gap(_)) => println!("events are missing: ask GetState"),
            Some(What::GatewayEvent(event)) => {
                println!("event: {}", event.type_name);
                if event.type_name == until {
                    return Ok(true);
                }
            }
            _ => {}
        }
    }
    Ok(false)
}
// ANCHOR_END: watch
