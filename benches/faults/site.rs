//! A bridge before a simulated gateway, and calls at a fixed rate.

use std::{env, error::Error, ops::Range, time::Duration};

use ccgateway_bridge::{
    client::{self, Channel},
    config::{Sources, load},
    rpc::proto::{
        RegisterSessionRequest, SetBusyRequest, SignInRequest,
        agent_session_client::AgentSessionClient, agent_state_client::AgentStateClient,
    },
    server::Bridge,
};
use ccgateway_sim::{Options, Simulator};
use http::Uri;
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// How often calls are begun.
const TICK: Duration = Duration::from_millis(5);

/// A bridge with the tenant `bench`, before a gateway of its own.
pub(crate) struct Site {
    pub(crate) gateway: Simulator,
    pub(crate) bridge: Bridge,
    pub(crate) caller: Caller,
}

/// Makes calls for a number of agents.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) states: AgentStateClient<Channel>,
    sessions: AgentSessionClient<Channel>,
    agents: Range<u32>,
    /// The tenant, where the bridge has several.
    tenant: Option<&'static str>,
}

/// One call: when it came, how long it took, and how it ended.
pub(crate) struct Ended {
    pub(crate) came: Duration,
    pub(crate) took: Duration,
    pub(crate) code: Code,
    /// The reason of an error; empty for others and for success.
    pub(crate) reason: String,
}

/// What a simulated gateway is like, where nothing else is said.
pub(crate) fn plain() -> Options {
    Options { plaintext: true, idle_sign_out: None, journal: 1, ..<_>::default() }
}

/// Whether it is to be measured. Otherwise it was `cargo test`, which only asks whether everything still works.
pub(crate) fn is_measured() -> bool {
    env::args().any(|flag| flag == "--bench")
}

/// So long, or a hundredth of it where nothing is measured.
pub(crate) fn lasting(seconds: f64) -> Duration {
    Duration::from_secs_f64(if is_measured() { seconds } else { seconds / 100.0 })
}

/// So many, or a hundredth of it where nothing is measured.
pub(crate) fn many(count: u32) -> u32 {
    if is_measured() { count } else { (count / 100).max(1) }
}

/// Starts a bridge with these settings, named as in the environment, after `CCGW__`.
pub(crate) async fn bridge(settings: &[(&str, &str)]) -> Result<Bridge, Failure> {
    let always = [
        ("LISTENERS__DEFAULT__ADDRESS", "127.0.0.1:0"),
        ("LISTENERS__DEFAULT__HTTP2__MAX_CONCURRENT_STREAMS", "10000"),
        ("SERVER__CONNECTIONS__RESETS_PER_SECOND", "1000000"),
        ("SERVER__CONNECTIONS__REQUESTS_PER_SECOND", "1000000"),
        ("ADMIN__ADDRESS", "127.0.0.1:0"),
    ];
    let settings = always.iter().chain(settings);
    let settings = settings.map(|(key, value)| (format!("CCGW__{key}"), (*value).to_owned()));
    let config = load(&Sources::from_environment(settings));
    Ok(Bridge::start(config.map_err(|errors| errors.to_string())?).await?)
}

impl Site {
    pub(crate) async fn start(
        options: Options,
        agents: Range<u32>,
        settings: &[(&str, &str)],
    ) -> Result<Self, Failure> {
        let gateway = Simulator::start(options).await?;
        let url = gateway.base_url();
        let tenant =
            [("TENANTS__BENCH__BASE_URLS", &*url), ("TENANTS__BENCH__KEEP__ENABLED", "false")];
        let settings: Vec<_> = tenant.iter().chain(settings).copied().collect();
        let bridge = bridge(&settings).await?;
        let caller = Caller::of(&bridge, agents, None)?;
        caller.register(&gateway).await?;
        Ok(Self { gateway, bridge, caller })
    }

    pub(crate) async fn end(self) {
        self.gateway.stop().await;
        drop(self.bridge);
    }
}

impl Caller {
    pub(crate) fn of(
        bridge: &Bridge,
        agents: Range<u32>,
        tenant: Option<&'static str>,
    ) -> Result<Self, Failure> {
        let origin = format!("http://{}", bridge.grpc_addr()).parse()?;
        Ok(Self::at(origin, client::channel(), agents, tenant))
    }

    /// A caller of the bridge at this origin.
    pub(crate) fn at(
        origin: Uri,
        channel: Channel,
        agents: Range<u32>,
        tenant: Option<&'static str>,
    ) -> Self {
        let sessions = client::agent_session(channel.clone(), origin.clone());
        Self { states: client::agent_state(channel, origin), sessions, agents, tenant }
    }

    /// Registers the sessions of all agents.
    pub(crate) async fn register(&self, gateway: &Simulator) -> Result<(), Failure> {
        let mut sessions = self.sessions.clone();
        for agent in self.agents.clone() {
            let (agent_id, guid) = (agent.to_string(), gateway.sign_in(agent));
            let message = RegisterSessionRequest {
                tenant_id: self.tenant.unwrap_or_default().into(),
                agent_id,
                guid,
                ..<_>::default()
            };
            sessions.register_session(message).await?;
        }
        Ok(())
    }

    /// Signs all agents in.
    pub(crate) async fn sign_in(&self, password: &str) -> Result<(), Failure> {
        let mut sessions = self.sessions.clone();
        for agent in self.agents.clone() {
            let (agent_id, password) = (agent.to_string(), Some(password.into()));
            let tenant_id = self.tenant.unwrap_or_default().into();
            let message = SignInRequest { tenant_id, agent_id, password, ..<_>::default() };
            sessions.sign_in(message).await?;
        }
        Ok(())
    }

    /// A request that makes the agent of this number busy.
    pub(crate) fn busy(&self, number: u32, deadline: Duration) -> Request<SetBusyRequest> {
        let count = u32::try_from(self.agents.len()).unwrap_or(u32::MAX);
        let agent_id = (self.agents.start + number % count).to_string();
        let tenant_id = self.tenant.unwrap_or_default().into();
        let (reason, prolong) = (Some(200), Some(true));
        let message = SetBusyRequest { tenant_id, agent_id, reason, prolong, ..<_>::default() };
        let mut request = Request::new(message);
        request.set_timeout(deadline);
        request
    }

    /// Calls at this rate for as long, each for the next agent, whatever becomes of earlier ones.
    pub(crate) async fn call(&self, rate: f64, lasts: Duration, deadline: Duration) -> Vec<Ended> {
        let (begun, mut calls, mut made) = (Instant::now(), JoinSet::new(), 0);
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        while begun.elapsed() < lasts {
            ticks.tick().await;
            let due = (begun.elapsed().as_secs_f64() * rate) as u32;
            for number in made..due {
                let (mut states, request) = (self.states.clone(), self.busy(number, deadline));
                calls.spawn(async move {
                    let came = begun.elapsed();
                    let answer = states.set_busy(request).await;
                    let took = begun.elapsed().saturating_sub(came);
                    let (code, reason) = match answer {
                        Ok(_) => (Code::Ok, String::new()),
                        Err(error) => (error.code(), reason(&error)),
                    };
                    Ended { came, took, code, reason }
                });
            }
            made = made.max(due);
        }
        calls.join_all().await
    }
}

fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    details.error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

/// The median and the time that 99 % are below, in milliseconds.
pub(crate) fn percentiles<'a>(ended: impl IntoIterator<Item = &'a Ended>) -> [f64; 2] {
    let mut took: Vec<_> = ended.into_iter().map(|one| one.took).collect();
    took.sort_unstable();
    let at = |percent: usize| took.get(took.len() * percent / 100);
    [50, 99].map(|percent| at(percent).map_or(f64::NAN, |took| took.as_secs_f64() * 1e3))
}

/// How many did not succeed.
pub(crate) fn failed(ended: &[Ended]) -> usize {
    ended.iter().filter(|one| one.code != Code::Ok).count()
}

/// The value of a metric of this bridge.
pub(crate) async fn metric(bridge: &Bridge, name: &str) -> Result<f64, Failure> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let addr = bridge.admin_addr().ok_or("no admin port")?;
    let mut admin = tokio::net::TcpStream::connect(addr).await?;
    let asked = b"GET /metrics HTTP/1.0\r\nHost: localhost\r\nAccept: text/plain\r\n\r\n";
    admin.write_all(asked).await?;
    let mut text = String::new();
    admin.read_to_string(&mut text).await?;
    let line = text.lines().find(|line| line.starts_with(name));
    let value = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
    Ok(value.unwrap_or_default())
}
