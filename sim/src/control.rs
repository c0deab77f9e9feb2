//! The control endpoint of `ccgateway-sim`: plain HTTP and JSON, for people and scripts.

mod agent;
mod rule;
mod show;

use std::{io, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use super::{
    Simulator,
    reply::Reply,
    wire::{Request, Wire},
};

pub(super) use self::show::hex;

/// The control endpoint, with the gateways that it controls and their tenants' names.
#[derive(Clone, Debug)]
pub struct Control(Arc<[(String, Simulator)]>);

/// Why a request to the control endpoint failed.
#[derive(Debug)]
struct ControlError {
    status: u16,
    what: String,
}

type Answered = Result<Value, ControlError>;

/// How long to wait after an error, such as when the process has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

const HELP: &str = include_str!("control/help.txt");

// === impl Control ===

impl Control {
    /// An endpoint for these gateways, each with its tenant's name.
    pub fn new(gateways: Vec<(String, Simulator)>) -> Self {
        Self(gateways.into())
    }

    /// Serves until the future is dropped.
    pub async fn serve(self, socket: TcpListener) {
        loop {
            let Ok((stream, _)) = socket.accept().await else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let control = self.clone();
            tokio::spawn(async move {
                if let Err(error) = control.connection(stream).await {
                    tracing::debug!(%error, "control connection ended early");
                }
            });
        }
    }

    async fn connection(self, stream: TcpStream) -> io::Result<()> {
        let mut wire = Wire::new(stream);
        while let Some(request) = wire.read_request().await? {
            let reply = self.answer(&request);
            wire.write(&reply.to_bytes(!request.keep_alive).0).await?;
            if !request.keep_alive {
                break;
            }
        }
        wire.close().await;
        Ok(())
    }

    fn answer(&self, request: &Request) -> Reply {
        let path = request.target.split('?').next().unwrap_or_default();
        let segments: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let answered = match (request.method.as_str(), segments.as_slice()) {
            ("GET", []) => {
                return Reply::other(200, "text/plain;charset=UTF-8", HELP.into());
            }
            ("GET", ["tenants"]) => Ok(self.tenants()),
            (_, [tenant, rest @ ..]) if !rest.is_empty() => {
                self.gateway(tenant).and_then(|gateway| of_tenant(gateway, request, rest))
            }
            _ => Err(unknown(request)),
        };
        let (status, body) = match answered {
            Ok(body) => (200, body),
            Err(error) => (error.status, error.shown()),
        };
        let body = format!("{body:#}\n");
        Reply::other(status, "application/json", body.into_bytes())
    }

    fn tenants(&self) -> Value {
        let shown = self.0.iter().map(|(name, gateway)| {
            json!({
                "tenant": name,
                "base_url": gateway.base_url(),
                "leaf_sha256": hex(&gateway.leaf_sha256()),
                "connections": gateway.connections(),
                "violations": gateway.violations().len(),
            })
        });
        shown.collect()
    }

    fn gateway(&self, tenant: &str) -> Result<&Simulator, ControlError> {
        let found = self.0.iter().find(|(name, _)| name == tenant);
        found.map(|(_, gateway)| gateway).ok_or_else(|| {
            let names: Vec<&str> = self.0.iter().map(|(name, _)| name.as_str()).collect();
            let names = names.join(", ");
            ControlError::new(404, format!("there is no tenant {tenant:?}, only {names}"))
        })
    }
}

fn of_tenant(gateway: &Simulator, request: &Request, rest: &[&str]) -> Answered {
    match (request.method.as_str(), rest) {
        ("GET", ["journal"]) => Ok(gateway.journal().iter().map(show::entry).collect()),
        ("GET", ["violations"]) => Ok(gateway.violations().into()),
        (_, ["agents", id, rest @ ..]) => agent::answer(gateway, request, (id, rest)),
        (_, [act]) => change(gateway, request, act),
        _ => Err(unknown(request)),
    }
}

fn change(gateway: &Simulator, request: &Request, act: &str) -> Answered {
    match (request.method.as_str(), act) {
        ("DELETE", "journal") => gateway.clear_journal(),
        ("POST", "misbehave") => {
            let rule = rule::read(&request.body)
                .map_err(|error| ControlError::new(400, format!("the rule is wrong: {error}")))?;
            gateway.misbehave(rule);
        }
        ("DELETE", "misbehave") => gateway.behave(),
        ("POST", "freeze") => gateway.freeze(),
        ("POST", "thaw") => gateway.thaw(),
        _ => return Err(unknown(request)),
    }
    Ok(done())
}

fn unknown(request: &Request) -> ControlError {
    let why = format!("there is no {} {}", request.method, request.target);
    ControlError::new(404, why)
}

fn done() -> Value {
    json!({ "done": true })
}

// === impl ControlError ===

impl ControlError {
    fn new(status: u16, what: String) -> Self {
        Self { status, what }
    }

    fn shown(&self) -> Value {
        json!({ "error": self.what, "help": "GET / lists all requests" })
    }
}
