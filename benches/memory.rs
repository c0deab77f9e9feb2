//! How much memory a session takes: a registered one, which is known and not polled, and a kept one, which
//! has a connection to the gateway with a poll that waits.
//!
//! The bridge is a process of its own, and what it takes is the resident memory that the kernel tells.
//! `cargo bench --bench memory` takes three minutes; `MEMORY_REGISTERED=20000 MEMORY_KEPT=500` makes it
//! short. Linux only.

#![allow(clippy::print_stdout, reason = "the table is what a benchmark is for")]

mod process;

use std::{env, error::Error, fmt::Write as _, fs};

use ccgateway_bridge::{
    client,
    rpc::proto::{RegisterSessionRequest, SetBusyRequest},
};
use ccgateway_sim::{Options, Simulator};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;
use tonic::Status;

use self::process::Process;

type Failure = Box<dyn Error + Send + Sync>;

const FIRST_AGENT: u32 = 1001;
const PASSWORD: &str = "memory";
const CALLS_AT_ONCE: usize = 32;

/// A bridge with a tenant.
struct Bridge {
    process: Process,
    _folder: TempDir,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    // Each kept session is an open file here too, since its gateway is in this process.
    let files = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: files.maximum, ..files })?;
    let registered = count("MEMORY_REGISTERED", 1_000_000);
    let kept = count("MEMORY_KEPT", 2_000);
    println!("sessions              idle       with them   bytes a session");
    let bridge = Bridge::start("http://127.0.0.1:9", registered)?;
    bridge.measure("registered", registered, |agent| register(&bridge, agent)).await?;
    drop(bridge);
    let options = Options { default_password: Some(PASSWORD.into()), journal: 0, ..<_>::default() };
    let gateway = Simulator::start(options).await?;
    let bridge = Bridge::start(&gateway.base_url(), kept)?;
    bridge.measure("kept", kept, |agent| set_busy(&bridge, agent)).await?;
    drop(bridge);
    gateway.stop().await;
    Ok(())
}

fn count(name: &str, default: u32) -> u32 {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

async fn register(bridge: &Bridge, agent: u32) -> Result<(), Status> {
    let message = RegisterSessionRequest {
        agent_id: agent.to_string(),
        guid: format!("279fe21d-2caa-4437-84c3-{agent:012}.AgentGateway0"),
        ttl: Some(prost_types::Duration { seconds: 3600, nanos: 0 }),
        ..<_>::default()
    };
    let mut client =
        client::agent_session(bridge.process.channel.clone(), bridge.process.origin.clone());
    client.register_session(message).await.map(drop)
}

async fn set_busy(bridge: &Bridge, agent: u32) -> Result<(), Status> {
    let message = SetBusyRequest { agent_id: agent.to_string(), ..<_>::default() };
    let mut client =
        client::agent_state(bridge.process.channel.clone(), bridge.process.origin.clone());
    client.set_busy(message).await.map(drop)
}

impl Bridge {
    /// A bridge with a tenant of so many agents.
    fn start(gateway: &str, agents: u32) -> Result<Self, Failure> {
        let folder = TempDir::new()?;
        let last = FIRST_AGENT + agents;
        let mut text = format!(
            "listeners.default.address = \"127.0.0.1:0\"\nadmin.address = \"off\"\n\
             log.filter = \"warn,ccgateway_bridge::command=info\"\n\
             server.connections.requests_per_second = 1000000\n\
             [tenants.acme]\nbase_urls = \"{gateway}\"\nagent_ids = \"{FIRST_AGENT}-{last}\"\n\
             tls.insecure_skip_verify = true\nlimits.sessions = {agents}\n\
             keep.sign_ins_per_second = 200\n"
        );
        if agents <= 100_000 {
            let mut credentials = String::new();
            for agent in FIRST_AGENT..last {
                writeln!(credentials, "[agents.{agent}]\npassword = \"{PASSWORD}\"")?;
            }
            fs::write(folder.path().join("agents.toml"), credentials)?;
            text += "credentials_file = \"agents.toml\"\n";
        }
        let file = folder.path().join("bridge.toml");
        fs::write(&file, text)?;
        Ok(Self { process: Process::start(&file)?, _folder: folder })
    }

    /// Makes a session for each agent, and prints what the bridge takes before and after.
    async fn measure<F: Future<Output = Result<(), Status>>>(
        &self,
        name: &str,
        sessions: u32,
        make: impl Fn(u32) -> F,
    ) -> Result<(), Failure> {
        // What the first calls leave behind is no session's.
        let warm = sessions.min(200);
        let all = |agents| stream::iter(agents).map(&make).buffer_unordered(CALLS_AT_ONCE);
        all(FIRST_AGENT..FIRST_AGENT + warm).try_collect::<()>().await?;
        let before = self.process.running.resident()?;
        all(FIRST_AGENT + warm..FIRST_AGENT + sessions).try_collect::<()>().await?;
        let after = self.process.running.resident()?;
        let each = after.saturating_sub(before) / u64::from(sessions - warm).max(1);
        let mib = |bytes| bytes / (1024 * 1024);
        println!("{sessions:9} {name:10} {:4} MiB  {:8} MiB  {each:14}", mib(before), mib(after));
        Ok(())
    }
}
