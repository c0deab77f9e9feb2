//! What a call costs, and how much memory the bridge takes, as there are more sessions, more tenants, or more agents that
//! the bridge keeps signed in. `GROWTH_MOST` leaves out what is larger; `GROWTH_PLOT` names the file of the plot.

use std::{fs, time::Duration};

use ccgateway_bridge::rpc::proto::{RegisterSessionRequest, SetBusyRequest, SignInRequest};
use ccgateway_sim::{AuthMode, Options, Simulator};
use prost::Message;

use crate::{
    Failure,
    load::{Load, Target},
    measured::Figures,
    mebibytes,
    plot::{Point, Series, svg},
    process::{PROGRAM, Process},
    setting,
    site::{
        FIRST_AGENT, GUID, METHOD, QUIET, REGISTER, SETTINGS, Server, Site, TENANT, named,
        on_server_cpu,
    },
};

const SESSIONS: [u64; 4] = [1_000, 10_000, 100_000, 1_000_000];
const TENANTS: [u64; 5] = [1, 10, 100, 1_000, 10_000];
const KEPT: [u64; 3] = [100, 1_000, 10_000];
/// Of many tenants so many are called, and so many agents of all of them: the others are only there.
const CALLED_TENANTS: u64 = 100;
const CALLED_AGENTS: u64 = 1_000;
/// From one agent that is called to the next, so that what is next to it in memory is no help.
const STRIDE: u64 = 7919;
const PASSWORD: &str = "growth";
const ROUNDS: u64 = 5;
const LASTS: Duration = Duration::from_secs(1);

pub(crate) async fn run(site: &Site) -> Result<(), Failure> {
    let most = setting("GROWTH_MOST", u64::MAX);
    println!("what                 CPU µs a call   quiet      MiB");
    let mut all = [series("sessions"), series("tenants"), series("kept agents")];
    let [of_sessions, of_tenants, of_kept] = &mut all;
    let is_asked = |size: &u64| *size <= most;
    for size in SESSIONS.into_iter().filter(is_asked) {
        of_sessions.points.push(with_sessions(site, size).await?);
    }
    for size in TENANTS.into_iter().filter(is_asked) {
        of_tenants.points.push(with_tenants(site, size).await?);
    }
    for size in KEPT.into_iter().filter(is_asked) {
        of_kept.points.push(Box::pin(with_kept(site, size)).await?);
    }
    if let Some(file) = named("GROWTH_PLOT") {
        fs::write(&file, svg(&all))?;
        println!("{}", file.display());
    }
    Ok(())
}

fn series(name: &'static str) -> Series {
    Series { name, points: Vec::new() }
}

async fn with_sessions(site: &Site, count: u64) -> Result<Point, Failure> {
    let (tenant, last) = (site.tenant("bench"), FIRST_AGENT + count);
    let agents = format!("agent_ids = \"{FIRST_AGENT}-{last}\"\nlimits.sessions = {count}\n");
    let process = start(site, &(tenant + &agents))?;
    let agent = move |number: u64| (String::new(), far_away(number, count));
    prepare(&process, REGISTER, count, move |number| registration(agent(number))).await?;
    measure("sessions", count, process, agent).await
}

async fn with_tenants(site: &Site, count: u64) -> Result<Point, Failure> {
    let mut text = "server.limits.calls = 20000\n".to_owned();
    text.extend((0..count).map(|number| site.tenant(&format!("t{number}"))));
    let process = start(site, &text)?;
    let called = CALLED_TENANTS.min(count);
    let agent = move |number: u64| {
        let tenant = number % called * (count / called);
        (format!("t{tenant}"), (FIRST_AGENT + number % CALLED_AGENTS).to_string())
    };
    let register = move |number| registration(agent(number));
    prepare(&process, REGISTER, CALLED_AGENTS, register).await?;
    measure("tenants", count, process, agent).await
}

/// The gateway of these is the simulated one, which knows polls. It is a part of this program, so callers are slower.
async fn with_kept(site: &Site, count: u64) -> Result<Point, Failure> {
    let gateway = Simulator::start(Options {
        default_password: Some(PASSWORD.into()),
        auth_mode: AuthMode::Static,
        plaintext: true,
        journal: 0,
        ..<_>::default()
    })
    .await?;
    let url = gateway.base_url();
    let tenant =
        format!("[tenants.bench]\nbase_urls = \"{url}\"\nlimits.sessions = {count}{TENANT}");
    let process = start(site, &tenant)?;
    let agent = move |number: u64| (String::new(), far_away(number, count));
    let sign_in = move |number| {
        let ((tenant_id, agent_id), password) = (agent(number), Some(PASSWORD.into()));
        SignInRequest { tenant_id, agent_id, password, ..<_>::default() }
    };
    prepare(&process, "AgentSession/SignIn", count, sign_in).await?;
    let point = measure("kept agents", count, process, agent).await;
    gateway.stop().await;
    point
}

/// One of so many agents, far away from that of the number before.
fn far_away(number: u64, agents: u64) -> String {
    (FIRST_AGENT + number * STRIDE % agents).to_string()
}

fn registration((tenant_id, agent_id): (String, String)) -> RegisterSessionRequest {
    RegisterSessionRequest { tenant_id, agent_id, guid: GUID.to_owned(), ..<_>::default() }
}

fn start(site: &Site, text: &str) -> Result<Process, Failure> {
    let text = format!("admin.address = \"off\"\nlog.filter = \"{QUIET}\"{SETTINGS}{text}");
    let file = site.path().join("growth.toml");
    fs::write(&file, text)?;
    Process::by(on_server_cpu(PROGRAM), &file)
}

/// Makes so many calls before others are measured.
async fn prepare<M: Message>(
    process: &Process,
    method: &str,
    calls: u64,
    message: impl Fn(u64) -> M + Send + Sync + 'static,
) -> Result<(), Failure> {
    Load::all(Target::new(process.addr()?, method, message)?, calls).await
}

/// What calls cost that make these agents of these tenants busy.
async fn measure(
    name: &'static str,
    size: u64,
    process: Process,
    agent: impl Fn(u64) -> (String, String) + Send + Sync + 'static,
) -> Result<Point, Failure> {
    let call = move |number| {
        let ((tenant_id, agent_id), reason, prolong) = (agent(number), Some(200), Some(true));
        SetBusyRequest { tenant_id, agent_id, reason, prolong, ..<_>::default() }
    };
    let target = Target::new(process.addr()?, METHOD, call)?.into();
    let server = Server { name, running: process.running, target };
    let mut figures = Figures::default();
    for _ in 0..ROUNDS {
        figures.add(&server, (8, 8), LASTS).await?;
    }
    let (median, cpu) = (figures.cpu(), figures.quiet());
    let memory = mebibytes(server.running.resident()?);
    println!("{size:>9} {name:<12} {median:>12.1} {cpu:>7.1} {memory:>8.1}");
    Ok(Point { size, cpu, memory })
}
