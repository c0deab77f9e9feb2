//! A bridge and the gateway behind it, and what tests ask of them.

use std::{collections::HashMap, fmt::Write as _, fs, net::SocketAddr, time::Duration};

use ccgateway_bridge::{
    client::{self, Channel},
    config::{Config, Sources, load},
    rpc::proto::{
        GetSessionRequest, RegisterSessionRequest, Session, SetBusyRequest, SetBusyResponse,
        SignInRequest, SignInResponse, SignOutRequest, WatchEventsRequest, WatchEventsResponse,
        agent_events_client::AgentEventsClient, agent_session_client::AgentSessionClient,
        agent_state_client::AgentStateClient, watch_events_response::What,
    },
    server::Bridge,
};
use ccgateway_sim::{Entry, Fault, Interface, Misbehaviour, Options, Simulator};
use http::Uri;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

pub(crate) const PASSWORD: &str = "canary-password";
pub(crate) const AGENT: u32 = 1001;

/// A bridge of one tenant, `acme`, with a simulated gateway behind it.
pub(crate) struct TestBridge {
    pub(crate) gateway: Simulator,
    pub(crate) bridge: Bridge,
    pub(crate) states: AgentStateClient<Channel>,
    pub(crate) sessions: AgentSessionClient<Channel>,
    pub(crate) events: AgentEventsClient<Channel>,
    _files: TempDir,
}

/// What a test's bridge differs in from the defaults.
#[derive(Default)]
pub(crate) struct Setup {
    pub(crate) gateway: Options,
    /// Lines of `[server]`.
    pub(crate) server: String,
    /// Lines of `[tenants.acme]` and of sections after it; the CA is trusted unless they begin
    /// with what is.
    pub(crate) tenant: String,
    /// Changes what no key of the file sets.
    pub(crate) adjust: Option<fn(&mut Config)>,
    /// Whether sessions are kept by polls, which then are in the journal too.
    pub(crate) keep: bool,
    /// Agents whose password the bridge holds.
    pub(crate) credentials: Vec<u32>,
    /// What the bridge believes their password to be.
    pub(crate) password: Option<&'static str>,
    /// An address that the bridge tries before the gateway's.
    pub(crate) first: Option<SocketAddr>,
    /// What the bridge is told in the place of the gateway's own address, such as a proxy's.
    pub(crate) base_url: Option<String>,
    /// An address that the bridge tries after that.
    pub(crate) standby: Option<String>,
}

impl TestBridge {
    pub(crate) async fn start() -> Self {
        Self::with(Setup::default()).await
    }

    pub(crate) async fn with(setup: Setup) -> Self {
        // In boxes, or they would be parts of every test's future.
        let gateway = Box::pin(Self::gateway(setup.gateway.clone())).await;
        Box::pin(Self::of(gateway, setup)).await
    }

    /// A gateway that knows every agent by [`PASSWORD`].
    pub(crate) async fn gateway(options: Options) -> Simulator {
        let options = Options { default_password: Some(PASSWORD.into()), ..options };
        Simulator::start(options).await.expect("the gateway starts")
    }

    /// A bridge in front of this gateway.
    pub(crate) async fn of(gateway: Simulator, setup: Setup) -> Self {
        let files = TempDir::new().expect("a folder");
        let mut config = config(&files, &gateway, &setup);
        if let Some(adjust) = setup.adjust {
            adjust(&mut config);
        }
        let bridge = Bridge::start(config).await.expect("the bridge starts");
        let origin: Uri = format!("http://{}", bridge.grpc_addr()).parse().expect("an origin");
        let channel = client::channel();
        let states = client::agent_state(channel.clone(), origin.clone());
        let sessions = client::agent_session(channel.clone(), origin.clone());
        let events = client::agent_events(channel, origin);
        Self { gateway, bridge, states, sessions, events, _files: files }
    }

    /// A bridge whose agent 1001 is signed in.
    pub(crate) async fn signed_in() -> Self {
        let bridge = Self::start().await;
        bridge.sign_in(AGENT).await.expect("signed in");
        bridge.gateway.clear_journal();
        bridge
    }

    pub(crate) async fn sign_in(&self, agent: u32) -> Result<SignInResponse, Status> {
        let password = Some(PASSWORD.into());
        let request = SignInRequest { agent_id: agent.to_string(), password, ..<_>::default() };
        self.sessions.clone().sign_in(request).await.map(tonic::Response::into_inner)
    }

    pub(crate) async fn sign_out(&self, agent: u32) -> Result<(), Status> {
        let request = SignOutRequest { agent_id: agent.to_string(), ..<_>::default() };
        self.sessions.clone().sign_out(request).await.map(|_| ())
    }

    pub(crate) async fn register(&self, agent: u32, guid: &str) -> Result<u64, Status> {
        let (agent_id, guid) = (agent.to_string(), guid.to_owned());
        let request = RegisterSessionRequest { agent_id, guid, ..<_>::default() };
        let registered = self.sessions.clone().register_session(request).await?.into_inner();
        Ok(registered.session.expect("a session").guid_version)
    }

    pub(crate) async fn session(&self, agent: u32) -> Session {
        let request = GetSessionRequest { agent_id: agent.to_string(), ..<_>::default() };
        let shown = self.sessions.clone().get_session(request).await.expect("a session");
        shown.into_inner().session.expect("a session")
    }

    pub(crate) async fn set_busy(&self, agent: u32) -> Result<SetBusyResponse, Status> {
        self.call(SetBusyRequest {
            agent_id: agent.to_string(),
            reason: Some(200),
            prolong: Some(true),
            ..<_>::default()
        })
        .await
    }

    pub(crate) async fn call(&self, request: SetBusyRequest) -> Result<SetBusyResponse, Status> {
        self.states.clone().set_busy(request).await.map(tonic::Response::into_inner)
    }

    /// Watches agents' events; begun when this returns.
    pub(crate) async fn watch(&self, agents: &[u32], after: Option<u64>) -> Watching {
        let agent_ids = agents.iter().map(u32::to_string).collect();
        let request = WatchEventsRequest { agent_ids, after_sequence: after, ..<_>::default() };
        let stream = self.events.clone().watch_events(request).await.expect("watching");
        let mut watching = Watching(stream.into_inner());
        let begin = watching.next().await;
        assert!(matches!(begin.what, Some(What::Begin(_))), "{begin:?}");
        watching
    }

    /// Asks the admin port, such as `GET /metrics`; gives head and body of its answer.
    pub(crate) async fn ask(&self, request: &str) -> (String, String) {
        let addr = self.bridge.admin_addr().expect("an admin port");
        let mut stream = TcpStream::connect(addr).await.expect("connected");
        let request = format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("written");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("read");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        (head.to_owned(), body.to_owned())
    }

    /// Every series of `/metrics` by name and labels, with its value.
    pub(crate) async fn scrape(&self) -> HashMap<String, f64> {
        let (head, body) = self.ask("GET /metrics").await;
        assert!(head.contains("application/openmetrics-text"), "{head}");
        assert!(body.ends_with("# EOF\n"), "{body}");
        let series = body.lines().filter(|line| !line.starts_with('#'));
        let pair = |line: &str| {
            let (name, value) = line.rsplit_once(' ').expect("a value");
            (name.to_owned(), value.parse().expect("a number"))
        };
        series.map(pair).collect()
    }

    /// What the gateway was asked through this interface.
    pub(crate) fn asked(&self, interface: Interface) -> Vec<Entry> {
        let mut journal = self.gateway.journal();
        journal.retain(|entry| entry.interface == Some(interface));
        journal
    }
}

/// A bridge whose agents are signed in and polled almost without pauses, and have told their first
/// events.
pub(crate) async fn kept(gateway: Options, agents: impl IntoIterator<Item = u32>) -> TestBridge {
    let tenant = "limits.queue_wait = \"10s\"\n".into();
    keeping(Setup { gateway, tenant, ..<_>::default() }, agents).await
}

/// The same with more of a set-up.
pub(crate) async fn keeping(setup: Setup, agents: impl IntoIterator<Item = u32>) -> TestBridge {
    let pauses = "keep.pause_min = \"5ms\"\nkeep.pause_max = \"10ms\"\n";
    let tenant = format!("{pauses}{}", setup.tenant);
    let with = TestBridge::with(Setup { tenant, keep: true, ..setup });
    let bridge = Box::pin(with).await;
    for agent in agents {
        let mut watching = bridge.watch(&[agent], None).await;
        bridge.sign_in(agent).await.expect("signed in");
        watching.event("AgentState_Ready").await;
    }
    bridge
}

/// Has an agent's status asked for with this result.
pub(crate) fn said(agent: u32, result: &str) -> Misbehaviour {
    let body = format!(r#"{{"message":"","retcode":"0","result":{result}}}"#).into();
    let fault = Fault::Raw { body, content_type: "application/json".into(), headers: Vec::new() };
    Misbehaviour::always(fault).on(Interface::AgentStatus).of(agent)
}

/// A stream of events.
pub(crate) struct Watching(tonic::Streaming<WatchEventsResponse>);

impl Watching {
    /// The next message.
    pub(crate) async fn next(&mut self) -> WatchEventsResponse {
        self.told().await.expect("the stream goes on")
    }

    /// The next message, or how the stream ended.
    pub(crate) async fn told(&mut self) -> Result<WatchEventsResponse, Status> {
        let told = tokio::time::timeout(Duration::from_secs(10), self.0.message()).await;
        told.expect("a message within ten seconds").map(|message| message.expect("no bare end"))
    }

    /// The next event of the gateway's of this type.
    pub(crate) async fn event(&mut self, type_name: &str) -> WatchEventsResponse {
        loop {
            let message = self.next().await;
            if let Some(What::GatewayEvent(event)) = &message.what
                && event.type_name == type_name
            {
                return message;
            }
        }
    }
}

/// The configuration of a bridge in front of `gateway`.
pub(crate) fn config(files: &TempDir, gateway: &Simulator, setup: &Setup) -> Config {
    let file = write_config(files, gateway, setup);
    load(&Sources::default().with_file(file)).unwrap_or_else(|errors| panic!("{errors}"))
}

/// The same as a file.
pub(crate) fn write_config(
    files: &TempDir,
    gateway: &Simulator,
    setup: &Setup,
) -> std::path::PathBuf {
    let ca = files.path().join("ca.pem");
    fs::write(&ca, gateway.certificate_pem()).expect("written");
    let mut text = format!(
        "listeners.default.address = \"127.0.0.1:0\"\nadmin.address = \"127.0.0.1:0\"\n\
         [server]\n{}[server.drain]\ndelay = \"0s\"\n\
         [tenants.acme]\nbase_urls = [{}\"{}\"{}]\n",
        setup.server,
        setup.first.map(|addr| format!("\"https://{addr}\", ")).unwrap_or_default(),
        setup.base_url.clone().unwrap_or_else(|| gateway.base_url()),
        setup.standby.as_ref().map(|url| format!(", \"{url}\"")).unwrap_or_default(),
    );
    if !setup.credentials.is_empty() {
        text.push_str("credentials_file = \"agents.toml\"\n");
        fs::write(files.path().join("agents.toml"), credentials(setup)).expect("written");
    }
    let own_tls = ["[tenants.acme.tls]", "tls.", "# tls"];
    if !own_tls.iter().any(|own| setup.tenant.starts_with(own)) {
        text.push_str("tls.ca_file = \"ca.pem\"\n");
    }
    if !setup.keep {
        text.push_str("keep.enabled = false\n");
    }
    text.push_str(&setup.tenant);
    let file = files.path().join("bridge.toml");
    fs::write(&file, text).expect("written");
    file
}

fn credentials(setup: &Setup) -> String {
    let password = setup.password.unwrap_or(PASSWORD);
    setup.credentials.iter().fold(String::new(), |mut text, agent| {
        let _written = writeln!(text, "[agents.{agent}]\npassword = \"{password}\"");
        text
    })
}

/// A status taken apart.
pub(crate) struct Refusal {
    pub(crate) code: Code,
    pub(crate) reason: String,
    pub(crate) metadata: HashMap<String, String>,
    pub(crate) details: ErrorDetails,
    pub(crate) message: String,
    pub(crate) pushback: Option<String>,
}

impl From<Status> for Refusal {
    #[track_caller]
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info().unwrap_or_else(|| panic!("no ErrorInfo: {status:?}"));
        let pushback = status.metadata().get("grpc-retry-pushback-ms");
        Self {
            code: status.code(),
            reason: info.reason.clone(),
            metadata: info.metadata.clone(),
            message: status.message().to_owned(),
            pushback: pushback.map(|value| value.to_str().expect("text").to_owned()),
            details,
        }
    }
}

/// The call failed with this code, reason and outcome.
#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug>(
    result: Result<T, Status>,
    code: Code,
    reason: &str,
    outcome: &str,
) -> Refusal {
    let refusal = Refusal::from(result.expect_err("the call should have failed"));
    let seen = (refusal.code, refusal.reason.as_str(), refusal.metadata["outcome"].as_str());
    assert_eq!(seen, (code, reason, outcome), "{}", refusal.message);
    refusal
}

/// Waits until something has happened; fails if it does not within ten seconds.
pub(crate) async fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let waiting = async {
        while !happened() {
            // Looking all the time would take a core from what is waited for.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(10), waiting).await;
    waited.unwrap_or_else(|_| panic!("not within ten seconds: {what}"));
}
