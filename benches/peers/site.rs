//! The gateway, and the servers that stand in front of it, each a process of its own on loopback.
//!
//! The environment names the programs, as scripts/bench sets it: `NGINX`, and where they are there `ENVOY` with
//! `ENVOY_DESCRIPTORS`, `VALGRIND`, and `SERVER_CPU`, the processor that servers have for themselves.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs, io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ccgateway_bridge::rpc::proto::{RegisterSessionRequest, SetBusyRequest};
use http::HeaderValue;
use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep},
};

use crate::{
    Failure, envoy,
    load::{Answers, Load, Target},
    nginx::Nginx,
    process::{PROGRAM, Process, Running},
};

/// A gateway, and a folder for the files of what stands in front of it.
pub(crate) struct Site {
    folder: TempDir,
    gateway: u16,
    _running: Running,
}

/// Something that is called, and the process that answers.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) running: Running,
    pub(crate) target: Arc<Target>,
}

/// A bridge that does more or less with each call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doing {
    /// It logs no calls.
    Bare,
    /// It writes a log line.
    Logging,
    /// Also, callers show tokens, rules say what they may do, each call has a request id, and there is an admin port.
    All,
}

pub(crate) const GUID: &str = "279fe21d-2caa-4437-84c3-ab9e9dae20f5.AgentGateway1";
pub(crate) const METHOD: &str = "AgentState/SetBusy";
pub(crate) const REGISTER: &str = "AgentSession/RegisterSession";
/// More than there are calls at once, so that none waits for its agent's turn.
pub(crate) const AGENTS: u64 = 2000;
pub(crate) const FIRST_AGENT: u64 = 1001;
/// Shows where the bridge serves, and no calls.
pub(crate) const QUIET: &str = "warn,ccgateway_bridge::command=info";
/// What all bridges here have. The generator has few connections, and makes no pause.
pub(crate) const SETTINGS: &str = r#"
listeners.default.address = "127.0.0.1:0"
listeners.default.http2.max_concurrent_streams = 2000
server.worker_threads = 1
server.connections.requests_per_second = 1000000
server.drain = { delay = "0s", timeout = "2s" }
gateway.host_requests = 4096
"#;
/// Those of all tenants.
pub(crate) const TENANT: &str = r#"
auth_mode = "static"
limits.calls = 4096
limits.requests = 1024
limits.queue_wait = "5s"
"#;
/// An issuer of tokens, as `dev-certs` makes it, and what its callers may do.
const TOKENS: &str = r#"
[issuers.dev]
issuer = "https://dev.example"
audiences = ["ccgateway-bridge"]
jwks_file = "dev/jwks.json"

[callers.dev]
principals = ["jwt:dev:dev"]
tenants = ["*"]
rights = ["*"]
"#;
/// Under callgrind programs start slowly.
const STARTS_WITHIN: Duration = Duration::from_secs(60);

/// A program that the environment names.
pub(crate) fn named(variable: &str) -> Option<OsString> {
    env::var_os(variable).filter(|name| !name.is_empty())
}

/// A command that runs a program on the processor of servers.
pub(crate) fn on_server_cpu(program: impl AsRef<OsStr>) -> Command {
    let Some(cpu) = named("SERVER_CPU") else { return Command::new(program) };
    let mut command = Command::new("taskset");
    command.arg("--cpu-list").arg(cpu).arg(program);
    command
}

/// A port that is free, as far as one can know.
pub(crate) fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Waits until somebody listens at this port.
pub(crate) async fn serving(running: &mut Running, port: u16) -> Result<(), Failure> {
    let begun = Instant::now();
    while TcpStream::connect(local(port)).await.is_err() {
        if running.has_ended() || begun.elapsed() > STARTS_WITHIN {
            return Err("it did not start".into());
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// A call for one agent after another.
pub(crate) fn set_busy(number: u64) -> SetBusyRequest {
    let agent_id = (FIRST_AGENT + number % AGENTS).to_string();
    let (reason, prolong) = (Some(200), Some(true));
    SetBusyRequest { agent_id, reason, prolong, ..<_>::default() }
}

impl Site {
    pub(crate) async fn start(nginx: &OsStr) -> Result<Self, Failure> {
        let folder = TempDir::new()?;
        let key = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        fs::write(folder.path().join("cert.pem"), key.cert.pem())?;
        fs::write(folder.path().join("key.pem"), key.signing_key.serialize_pem())?;
        // On the processor that is this program's, not the servers'.
        let Nginx { running, port } = Nginx::gateway(Command::new(nginx), folder.path()).await?;
        Ok(Self { folder, gateway: port, _running: running })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A plain proxy, by this command.
    pub(crate) async fn nginx(&self, command: Command) -> Result<Server, Failure> {
        let Nginx { running, port } = Nginx::proxy(command, self.path(), self.gateway).await?;
        let target = Target::new(local(port), METHOD, set_busy)?.answers(Answers::Gateway);
        Ok(Server { name: "nginx", running, target: target.into() })
    }

    /// Envoy, where it is there.
    pub(crate) async fn envoy(&self) -> Result<Option<Server>, Failure> {
        let programs = named("ENVOY").zip(named("ENVOY_DESCRIPTORS"));
        let Some((program, descriptors)) = programs else { return Ok(None) };
        let command = on_server_cpu(program);
        let (running, port) =
            envoy::start(command, &descriptors, self.path(), self.gateway).await?;
        let target = Target::new(local(port), METHOD, set_busy)?;
        Ok(Some(Server { name: "envoy", running, target: target.into() }))
    }

    /// A bridge that knows the sessions of all agents, by a command that ends with its program.
    pub(crate) async fn bridge(&self, doing: Doing, command: Command) -> Result<Server, Failure> {
        let token = Some(doing).filter(|doing| *doing == Doing::All).map(|_| self.token());
        let token = token.transpose()?;
        let process = Process::by(command, &self.write_config(doing)?)?;
        let addr = process.addr()?;
        let target = match doing {
            Doing::All => Target::new(addr, METHOD, with_request_ids())?,
            Doing::Bare | Doing::Logging => Target::new(addr, METHOD, set_busy)?,
        };
        let register = Target::new(addr, REGISTER, |number| RegisterSessionRequest {
            agent_id: (FIRST_AGENT + number % AGENTS).to_string(),
            guid: GUID.to_owned(),
            ..<_>::default()
        })?;
        Load::all(register.authorized(token.clone()), AGENTS).await?;
        let target = target.authorized(token).into();
        Ok(Server { name: doing.name(), running: process.running, target })
    }

    fn write_config(&self, doing: Doing) -> Result<PathBuf, Failure> {
        let (admin, filter, callers) = match doing {
            Doing::Bare => ("off", QUIET, ""),
            Doing::Logging => ("off", "info", ""),
            Doing::All => ("127.0.0.1:0", "info", TOKENS),
        };
        let text = format!(
            "admin.address = \"{admin}\"\nlog.filter = \"{filter}\"{SETTINGS}{callers}{}",
            self.tenant("bench")
        );
        let file = self.path().join(format!("{}.toml", doing.name().replace(' ', "-")));
        fs::write(&file, text)?;
        Ok(file)
    }

    /// The section of a tenant of the gateway, to which lines can be added.
    pub(crate) fn tenant(&self, name: &str) -> String {
        format!(
            "[tenants.{name}]\nbase_urls = \"https://localhost:{}\"\n\
             tls.pinned_certificate_file = \"cert.pem\"\nkeep.enabled = false{TENANT}",
            self.gateway
        )
    }

    /// A token that a bridge of this site takes.
    fn token(&self) -> Result<HeaderValue, Failure> {
        let folder = self.path().join("dev");
        let mut command = Command::new(PROGRAM);
        command.args(["dev-certs", "--force"]).arg(&folder).stdout(Stdio::null());
        if !command.status()?.success() {
            return Err("dev-certs has failed".into());
        }
        let token = fs::read_to_string(folder.join("token.jwt"))?;
        Ok(format!("Bearer {}", token.trim()).parse()?)
    }
}

/// The same calls, each with an id that no other has.
fn with_request_ids() -> impl Fn(u64) -> SetBusyRequest + Send + Sync {
    let ids = AtomicU64::new(0);
    move |number| {
        let id = ids.fetch_add(1, Ordering::Relaxed);
        let request_id = format!("5e551035-0000-4000-8000-{id:012x}");
        SetBusyRequest { request_id, ..set_busy(number) }
    }
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

impl Doing {
    pub(crate) const ALL: [Self; 3] = [Self::Bare, Self::Logging, Self::All];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bare => "bridge",
            Self::Logging => "with log",
            Self::All => "all on",
        }
    }
}
