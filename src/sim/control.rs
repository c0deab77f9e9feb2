//! The control endpoint of `ccgateway-sim`: plain HTTP and JSON, for people and scripts.

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

/// The gateways that are controlled, by their tenants' names.
#[derive(Clone, Debug)]
pub struct Control(Arc<[(String, Simulator)]>);

/// Why a request to the control endpoint came to nothing.
#[derive(Debug)]
struct Complaint {
    status: u16,
    what: String,
}

type Answered = Result<Value, Complaint>;

/// How long to wait when the process has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

const HELP: &str = r#"ccgateway-sim: control endpoint

GET    /tenants                        the gateways: address, pin, connections
GET    /TENANT/journal                 every request so far; Guids are shortened
DELETE /TENANT/journal                 empties the journal
GET    /TENANT/violations              calls that overlapped and must not
GET    /TENANT/agents/ID               what an agent is doing
POST   /TENANT/agents/ID/sign-in       signs the agent in; answers with the Guid in full
POST   /TENANT/agents/ID/sign-out      signs the agent out, as an inspector would
POST   /TENANT/agents/ID/start-call    puts the agent into a call
POST   /TENANT/agents/ID/end-call      ends the call
POST   /TENANT/agents/ID/expire-guids  ends the life of all Guids; the agent stays signed in
POST   /TENANT/agents/ID/renew-guid    makes a new Guid, answered in full; the next poll has it
POST   /TENANT/agents/ID/guid-on-next-reply
                                       has the next answer of any interface bring a new Guid
POST   /TENANT/misbehave               adds a rule; the latest one that matches wins
DELETE /TENANT/misbehave               drops all rules
POST   /TENANT/freeze                  reads requests and does nothing with them
POST   /TENANT/thaw                    goes on

A rule: {"agent": 1001, "interface": "say-busy", "times": 1, "fault": {"kind": "delay", "ms": 500}}
agent, interface and times may be left out: everybody, everything, until DELETE.

interface: sign-in force-sign-in sign-out force-sign-out say-busy cancel-busy say-free work
           cancel-work rest cancel-rest agent-status update-guid poll

fault:     delay {ms}                                carried out, answered late
           delay-before {ms}                         carried out late
           hang                                      carried out, never answered
           cut-before-answer, cut-mid-answer         carried out, connection cut
           close-after-answer                        carried out, closed without a word
           raw {body, content_type?, headers?}       carried out, another body
           stale-set-guid {guid}                     carried out, with one more Set-GUID
           status {status, body?, content_type?, headers?}   not carried out
           html                                      not carried out, a login page
           retcode {retcode, message?}               not carried out, refused
           tls-failure                               the next connections fail
"#;

// === impl Control ===

impl Control {
    /// An endpoint for these gateways, by their tenants' names.
    pub fn new(gateways: Vec<(String, Simulator)>) -> Self {
        Self(gateways.into())
    }

    /// Serves until it is dropped.
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
            Err(complaint) => (complaint.status, complaint.shown()),
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

    fn gateway(&self, tenant: &str) -> Result<&Simulator, Complaint> {
        let found = self.0.iter().find(|(name, _)| name == tenant);
        found.map(|(_, gateway)| gateway).ok_or_else(|| {
            let names: Vec<&str> = self.0.iter().map(|(name, _)| name.as_str()).collect();
            let names = names.join(", ");
            Complaint::new(404, format!("there is no tenant {tenant:?}, only {names}"))
        })
    }
}

fn of_tenant(gateway: &Simulator, request: &Request, rest: &[&str]) -> Answered {
    match (request.method.as_str(), rest) {
        ("GET", ["journal"]) => Ok(gateway.journal().iter().map(show::entry).collect()),
        ("GET", ["violations"]) => Ok(gateway.violations().into()),
        ("GET", ["agents", id]) => {
            let id = agent_id(id)?;
            let view = gateway.agent(id).ok_or_else(|| never_seen(id))?;
            Ok(show::agent(id, &view))
        }
        ("POST", ["agents", id, act]) => of_agent(gateway, agent_id(id)?, act),
        (_, [act]) => change(gateway, request, act),
        _ => Err(unknown(request)),
    }
}

fn change(gateway: &Simulator, request: &Request, act: &str) -> Answered {
    match (request.method.as_str(), act) {
        ("DELETE", "journal") => gateway.clear_journal(),
        ("POST", "misbehave") => {
            let rule = rule::read(&request.body)
                .map_err(|error| Complaint::new(400, format!("the rule is wrong: {error}")))?;
            gateway.misbehave(rule);
        }
        ("DELETE", "misbehave") => gateway.behave(),
        ("POST", "freeze") => gateway.freeze(),
        ("POST", "thaw") => gateway.thaw(),
        _ => return Err(unknown(request)),
    }
    Ok(done())
}

fn of_agent(gateway: &Simulator, id: u32, act: &str) -> Answered {
    if act == "sign-in" {
        return Ok(json!({ "guid": gateway.sign_in(id) }));
    }
    if !gateway.agent(id).is_some_and(|view| view.signed_in) {
        let why = format!("agent {id} is not signed in; POST …/agents/{id}/sign-in does that");
        return Err(Complaint::new(409, why));
    }
    match act {
        "sign-out" => gateway.sign_out(id),
        "start-call" => gateway.start_call(id),
        "end-call" => gateway.end_call(id),
        "expire-guids" => gateway.expire_guids(id),
        "guid-on-next-reply" => gateway.set_guid_on_next_reply(id),
        "renew-guid" => return Ok(json!({ "guid": gateway.renew_guid(id) })),
        _ => {
            let why = format!("nothing called {act:?} can be done to an agent");
            return Err(Complaint::new(404, why));
        }
    }
    Ok(done())
}

fn agent_id(text: &str) -> Result<u32, Complaint> {
    let why = || format!("{text:?} is no agent id; give a number such as 1001");
    let id: u32 = text.parse().map_err(|_| Complaint::new(400, why()))?;
    // No gateway is known to use longer ids than six digits (cec_07_1202).
    if (1..=999_999).contains(&id) { Ok(id) } else { Err(Complaint::new(400, why())) }
}

fn never_seen(id: u32) -> Complaint {
    let why = format!("agent {id} has not been seen yet; agents appear with their first request");
    Complaint::new(404, why)
}

fn unknown(request: &Request) -> Complaint {
    let why = format!("nothing answers to {} {}", request.method, request.target);
    Complaint::new(404, why)
}

fn done() -> Value {
    json!({ "done": true })
}

// === impl Complaint ===

impl Complaint {
    fn new(status: u16, what: String) -> Self {
        Self { status, what }
    }

    fn shown(&self) -> Value {
        json!({ "error": self.what, "help": "GET / lists what can be asked for" })
    }
}
