//! The `demo` command: shows the bridge to somebody who has no gateway. Everything is real, gRPC on
//! one side and TLS on the other, except for the gateway, which is simulated.

mod bridge_process;
mod scenario;
mod screen;

use std::{
    error::Error,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    process::ExitCode,
};

use ccgateway_sim::{Control, Interface, Options, Simulator};
use http::Uri;
use tokio::time::Instant;

use self::{
    bridge_process::BridgeProcess,
    scenario::Scenario,
    screen::{NextSteps, error_text},
};
use super::{EXIT_FAILED, block_on, fail, output, say, settings::LogFlags, signals::StopSignals};
use crate::{
    client::{self, Channel},
    config::{Sources, load},
    rpc::proto::{
        SetBusyRequest, SignInRequest, agent_session_client::AgentSessionClient,
        agent_state_client::AgentStateClient,
    },
    server::{Bridge, Controls},
    telemetry::log::{self, Logging},
};

/// Where the demo's servers listen, and whether it shows a restart. If a port is in use, a free one
/// is taken instead.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct DemoArgs {
    /// The gRPC port.
    #[arg(long = "grpc-port", value_name = "PORT", default_value_t = 50051)]
    grpc: u16,
    /// The admin port (health, readiness, metrics).
    #[arg(long = "admin-port", value_name = "PORT", default_value_t = 9090)]
    admin: u16,
    /// The simulated gateway's port.
    #[arg(long = "gateway-port", value_name = "PORT", default_value_t = 8043)]
    gateway: u16,
    /// The simulator's control port, by which it can be made to fail.
    #[arg(long = "control-port", value_name = "PORT", default_value_t = 8044)]
    control: u16,
    /// Show a restart too: the bridge runs as a separate process with its sessions in a file in this
    /// folder; it is killed, started again, and goes on with the same sessions.
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
    /// Show what the bridge is for, and end: it takes some seconds.
    #[arg(long, value_name = "NAME", conflicts_with = "keep")]
    scenario: Option<Scenario>,
    #[command(flatten)]
    log: LogFlags,
}

type Failure = Box<dyn Error>;

/// The key of the address for callers.
const LISTEN: &str = "listeners.default.address";
/// The key of the address for health and readiness.
const ADMIN: &str = "admin.address";
const AGENTS: [u32; 3] = [1001, 1002, 1003];
/// An agent that the demo does not sign in; the user can.
const NOT_SIGNED_IN: u32 = 1004;
const PASSWORD: &str = "demo-password";
const TENANT: &str = "demo";
const REASON: i32 = 200;

struct Demo {
    gateway: Simulator,
    control: SocketAddr,
    bridge: DemoBridge,
    sessions: AgentSessionClient<Channel>,
    states: AgentStateClient<Channel>,
}

/// The bridge that the demo shows.
enum DemoBridge {
    /// It runs in this process.
    InProcess { bridge: Box<Bridge>, _logging: Logging },
    /// It runs as a child process, which can be killed.
    Child(BridgeProcess),
}

pub(super) fn run(args: &DemoArgs) -> ExitCode {
    let demo = async {
        // Before anything is printed: a user who reads "until Ctrl-C" may press it at once.
        let mut signals = StopSignals::listen()?;
        if let Some(scenario) = args.scenario {
            return Box::pin(scenario::run(scenario, args, &mut signals)).await;
        }
        let mut demo = Demo::start(args).await?;
        demo.show().await?;
        // Where nobody can read what it says, nobody knows how to stop it.
        if !output::is_lost() {
            demo.stay(&mut signals).await?;
            say("\nStopping.");
        }
        demo.bridge.stop().await;
        demo.gateway.stop().await;
        Ok::<_, Failure>(())
    };
    let done = block_on(None, demo).map_err(Into::into).and_then(|done| done);
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(EXIT_FAILED, format!("the demo failed: {error}")),
    }
}

impl Demo {
    async fn start(args: &DemoArgs) -> Result<Self, Failure> {
        let gateway = Simulator::start(Options {
            listen: free_or(args.gateway)?,
            default_password: Some(PASSWORD.into()),
            ..Options::default()
        })
        .await?;
        let control = tokio::net::TcpListener::bind(free_or(args.control)?).await?;
        let control_addr = control.local_addr()?;
        tokio::spawn(Control::new(vec![(TENANT.into(), gateway.clone())]).serve(control));
        let settings = flags(args, &gateway.base_url(), gateway.leaf_pin(), "warn")?;
        let bridge = match &args.keep {
            Some(folder) => DemoBridge::Child(BridgeProcess::start(folder, &settings).await?),
            None => DemoBridge::start_in_process(&settings).await?,
        };
        let origin: Uri = format!("http://{}", bridge.grpc_addr()).parse()?;
        let channel = client::channel();
        let sessions = client::agent_session(channel.clone(), origin.clone());
        let states = client::agent_state(channel, origin);
        Ok(Self { gateway, control: control_addr, bridge, sessions, states })
    }

    async fn show(&mut self) -> Result<(), Failure> {
        let (grpc, gateway) = (self.bridge.grpc_addr(), self.gateway.base_url());
        say(format_args!("bridge   gRPC on {grpc}"));
        if let Some(admin) = self.bridge.admin_addr() {
            say(format_args!("         page on http://{admin}/"));
        }
        say(format_args!("gateway  {gateway}"));
        say("         simulated, with TLS and a pinned certificate");
        say(format_args!("         control on http://{}/", self.control));
        self.sign_in().await?;
        self.set_busy().await?;
        self.set_busy_again().await?;
        self.kill_and_start_again().await?;
        say(NextSteps { grpc, control: self.control });
        Ok(())
    }

    async fn sign_in(&mut self) -> Result<(), Failure> {
        say("\n1. Agents sign in: AgentSession.SignIn");
        for agent in AGENTS {
            let request = SignInRequest {
                agent_id: agent.to_string(),
                password: Some(PASSWORD.into()),
                force: true,
                ..SignInRequest::default()
            };
            let signed_in = self.sessions.sign_in(request).await?.into_inner();
            let node = signed_in.session.unwrap_or_default().gateway_node;
            say(format_args!("   {agent}  signed in on {node}; the bridge keeps the Guid"));
        }
        Ok(())
    }

    async fn set_busy(&mut self) -> Result<(), Failure> {
        let [.., agent] = AGENTS;
        say("\n2. An agent is made busy: AgentState.SetBusy");
        say(format_args!("   state before  {}", self.state(agent)));
        say(format_args!("   request       {{\"agent_id\":\"{agent}\",\"reason\":{REASON}}}"));
        self.gateway.clear_journal();
        let started = Instant::now();
        let answer = self.states.set_busy(busy(agent)).await?.into_inner();
        let elapsed = started.elapsed();
        let mut journal = self.gateway.journal().into_iter();
        let gateway = journal.find(|entry| entry.interface == Some(Interface::SayBusy));
        let gateway = gateway.ok_or("the gateway was not asked")?;
        say(format_args!("   gateway       {} {}", gateway.method, gateway.target));
        let (retcode, message) = (answer.retcode, answer.message);
        say(format_args!(
            "   answer        OK, retcode {retcode}, \"{message}\", in {elapsed:.1?}"
        ));
        say(format_args!("   state after   {}", self.state(agent)));
        Ok(())
    }

    async fn set_busy_again(&mut self) -> Result<(), Failure> {
        let [.., agent] = AGENTS;
        say("\n3. The same again is refused: only prolong replaces a busy agent's reason");
        match self.states.set_busy(busy(agent)).await {
            Err(status) => say(format_args!("{}", error_text(&status))),
            Ok(_) => return Err("the second SetBusy was not refused".into()),
        }
        Ok(())
    }

    /// Kills the bridge and starts it again; does nothing if it runs in this process.
    async fn kill_and_start_again(&mut self) -> Result<(), Failure> {
        let (DemoBridge::Child(process), [_, agent, ..]) = (&mut self.bridge, AGENTS) else {
            return Ok(());
        };
        say("\n4. The bridge is killed (kill -9) and started again");
        self.gateway.clear_journal();
        let started = Instant::now();
        process.kill_and_start_again().await?;
        self.states.set_busy(busy(agent)).await?;
        let elapsed = started.elapsed();
        let journal = self.gateway.journal();
        let sign_ins = journal.iter().filter(|entry| entry.interface == Some(Interface::SignIn));
        let sign_ins = sign_ins.count();
        say(format_args!("   {agent}  is busy {elapsed:.1?} later, by the Guid from before"));
        say(format_args!("   gateway       was asked for {sign_ins} sign-ins"));
        say(format_args!("   try it        kill -9 {}", process.pid()));
        Ok(())
    }

    /// Waits for a signal. If somebody kills the bridge in the meantime, it is started again.
    async fn stay(&mut self, signals: &mut StopSignals) -> Result<(), Failure> {
        loop {
            tokio::select! {
                _signal = signals.next() => return Ok(()),
                () = self.bridge.ended() => {}
            }
            if let DemoBridge::Child(process) = &mut self.bridge {
                say("\nThe bridge has ended, and is started again.");
                process.start_again().await?;
                say(format_args!(
                    "It goes on with the Guids from before; kill -9 {}",
                    process.pid()
                ));
            }
        }
    }

    fn state(&self, agent: u32) -> String {
        let Some(view) = self.gateway.agent(agent) else { return "unknown".into() };
        let reason = view.busy_reason.map(|reason| format!(", reason {reason}"));
        format!("{}{}", view.state.name(), reason.unwrap_or_default())
    }
}

fn busy(agent: u32) -> SetBusyRequest {
    SetBusyRequest {
        agent_id: agent.to_string(),
        reason: Some(REASON),
        ..SetBusyRequest::default()
    }
}

impl DemoBridge {
    async fn start_in_process(settings: &[Flag]) -> Result<Self, Failure> {
        let sources = settings.iter().fold(Sources::default(), |sources, flag| {
            sources.with_flag(flag.name, &flag.key, flag.value.as_str())
        });
        let config = load(&sources)?;
        let logging = log::start(&config.log.filter, config.log.format)?;
        let controls = Controls { log: Some(logging.control().clone()), reload: None };
        let bridge = Bridge::start_with(config, controls).await?;
        Ok(Self::InProcess { bridge: Box::new(bridge), _logging: logging })
    }

    fn grpc_addr(&self) -> SocketAddr {
        match self {
            Self::InProcess { bridge, .. } => bridge.grpc_addr(),
            Self::Child(process) => process.grpc_addr(),
        }
    }

    fn admin_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::InProcess { bridge, .. } => bridge.admin_addr(),
            Self::Child(process) => process.admin_addr(),
        }
    }

    /// Waits until the bridge ends by itself; never returns if it runs in this process.
    async fn ended(&mut self) {
        match self {
            Self::InProcess { .. } => std::future::pending().await,
            Self::Child(process) => process.ended().await,
        }
    }

    async fn stop(self) {
        match self {
            Self::InProcess { bridge, .. } => drop(bridge.drain().await),
            // Dropping it kills the process.
            Self::Child(process) => drop(process),
        }
    }
}

/// One setting of the demo's bridge.
struct Flag {
    name: &'static str,
    key: String,
    value: String,
}

/// The settings of a bridge whose gateway has these addresses, and this certificate.
fn flags(
    args: &DemoArgs,
    base_urls: &str,
    pin: String,
    log_filter: &str,
) -> Result<Vec<Flag>, Failure> {
    let listen = free_or(args.grpc)?.to_string();
    let admin_listen = free_or(args.admin)?.to_string();
    let log_filter = args.log.log_filter.clone().unwrap_or_else(|| log_filter.to_owned());
    let log_format = args.log.log_format.clone().unwrap_or_else(|| "human".to_owned());
    let flag = |name, key: &str, value| Flag { name, key: key.to_owned(), value };
    Ok(vec![
        flag("--listen", LISTEN, listen),
        flag("--admin-listen", ADMIN, admin_listen),
        flag("--log-filter", "log.filter", log_filter),
        flag("--log-format", "log.format", log_format),
        // No load balancer has to notice that a demo ends.
        flag("demo", "server.drain.delay", "0s".to_owned()),
        flag("demo", &format!("tenants.{TENANT}.base_urls"), base_urls.to_owned()),
        flag("demo", &format!("tenants.{TENANT}.tls.pinned_sha256"), pin),
    ])
}

/// This port on loopback, or port 0, which stands for any free one, if it is in use.
fn free_or(port: u16) -> io::Result<SocketAddr> {
    let wanted = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    match TcpListener::bind(wanted) {
        Ok(_free) => Ok(wanted),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            say(format_args!("port {port} is taken; using a free one"));
            Ok(SocketAddr::new(wanted.ip(), 0))
        }
        Err(error) => Err(error),
    }
}
