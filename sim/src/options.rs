//! The options of a simulated gateway. Where the documentation leaves something open, there is an
//! option.

mod codes;

use std::{collections::HashMap, net::SocketAddr, ops::RangeInclusive, time::Duration};

use super::identity::ServerIdentity;

pub use self::codes::Codes;

/// The options of one simulated gateway; [`Default`] has the documented defaults.
#[derive(Clone, Debug)]
// Independent switches; grouping them would only make the call sites longer.
#[expect(clippy::struct_excessive_bools)]
pub struct Options {
    /// The address to listen on; port 0 takes a free port. A real gateway has 8043 (`cec_07_1202`).
    pub listen: SocketAddr,
    /// Whether Guids change during a session. `AUTHMODE`; the gateway's default is dynamic
    /// (`cec_07_0005`).
    pub auth_mode: AuthMode,
    /// How many times faster than real time the gateway's clock runs: at 1000, one of its minutes
    /// takes 60 ms. It scales everything that is called gateway time below.
    pub time_scale: u32,
    /// How many nodes the cluster has; a session's Guid ends in the number of its node.
    pub nodes: u8,
    /// The password of every agent that is not in `agents`. `None`: there are no other agents.
    pub default_password: Option<String>,
    /// Agents with their own passwords.
    pub agents: HashMap<u32, String>,
    /// The skill queues configured for every agent.
    pub skills: Vec<u32>,
    /// Whether an agent has no skills after a sign-in, so that no call comes, until resetskill is
    /// called. Undocumented; the known clients call it after every sign-in (client).
    pub skills_need_reset: bool,
    /// Agents that may act on others as inspectors; empty: all agents may. The pages require only a
    /// sign-in (`cec_07_2405`).
    pub inspectors: Vec<u32>,
    /// The certificate and key; `None` generates a CA and a leaf for localhost.
    pub tls: Option<ServerIdentity>,
    /// The certificates, in PEM, of the authorities that may sign client certificates. `None`: clients
    /// are not asked for a certificate. Undocumented.
    pub client_ca: Option<String>,
    /// Plain HTTP without TLS, which older client comments mention (client).
    pub plaintext: bool,
    /// Whether there is an interface `agentstatus`, and the answer if there is none. The vendor's
    /// library of 2014 does not know it (client).
    pub agent_status: AgentStatus,
    /// The agent ids that the routes match. 1 to 59999 is in the vendor's client library (client);
    /// newer pages go up to 999999 (`cec_07_13461`).
    pub agent_ids: RangeInclusive<u32>,
    /// The answer to an id outside `agent_ids`; undocumented.
    pub id_outside: IdOutside,
    /// The answer to a rest whose time or cause is outside its range. In the library the ranges are
    /// those of the route's expressions (client), so that no route would match; undocumented.
    pub rest_outside: IdOutside,
    /// The reasons for a rest that are configured for all agents, by their numbers (client).
    pub rest_reasons: Vec<u8>,
    /// Gateway time between two Guids of a session. `GUIDINTERVAL` (`cec_07_0005`).
    pub guid_interval: Duration,
    /// Gateway time a Guid lives. `GUIDTIMEOUT` (`cec_07_0005`).
    pub guid_timeout: Duration,
    /// Whether a replaced Guid is accepted until its own timeout (inferred from the two settings
    /// above), or refused at once.
    pub old_guid_lives: bool,
    /// How often a renewed Guid is sent; the pages say only "when it has changed" (`cec_07_0005`).
    pub announce: Announce,
    /// Whether updateGuid also sends `Set-GUID`; undocumented.
    pub update_guid_sends_header: bool,
    /// Gateway time without a poll, in push mode without a heartbeat, after which an agent is
    /// signed out; `None` switches it off. Two minutes (`cec_07_1202`, `cec_07_1204`).
    pub idle_sign_out: Option<Duration>,
    /// Which kind of poll is switched on. `EVENT_METHOD`, `GET_EVENT_MODE` (client).
    pub polls: Polls,
    /// The body of an event in the older form of push mode; clients show two (client).
    pub push_form: PushForm,
    /// The certificates, in PEM, of the authorities that the certificate of an https `pushUrl` has to
    /// come from. `None`: any certificate is taken. What real gateways do is undocumented.
    pub push_ca: Option<String>,
    /// Gateway time a poll waits for an event: `AGENT_POLL_WAIT_TIMES` x
    /// `AGENT_POLL_WAIT_INTERVAL` (`cec_07_1274`). Zero is `AGENT_POLL_WAIT_FLAG` off.
    pub poll_wait: Duration,
    /// Whether a signed-in agent can be signed in by force. If not, the retcode is 100-015 instead of
    /// 100-002 (`cec_07_0580`).
    pub force_sign_in: bool,
    /// Whether a call that overlaps another one for the agent is refused with
    /// [`Codes::repeated_call`] besides being recorded as a violation (`cec_07_0580`).
    pub refuse_repeated: bool,
    /// Whether an overlapping call is refused before its Guid is looked at, so that a client whose
    /// session is over hears of the overlap. Undocumented; a page of the vendor never gives up on
    /// 000-007, so the Guid comes first (inferred).
    pub repeats_before_guid: bool,
    /// Whether events survive a forcible sign-in; undocumented.
    pub keep_events: bool,
    /// Whether, after a forcible sign-in, the previous session's poll gets `ShutdownService` before its
    /// Guids are refused. By the event's meaning it does (`cec_07_1402`).
    pub take_over_event: bool,
    /// Whether an agent's own sign-out causes `ShutdownService`. By the text of 2024 it may, by that of
    /// 2025 it does not (`cec_07_1220`, `cec_07_1219`).
    pub own_sign_out_event: bool,
    /// Whether sayfree ends rest; undocumented.
    pub say_free_ends_rest: bool,
    /// Whether a rest request waits for the end of a call or of after-call work, as a busy request
    /// does, instead of being refused. The state exists (`cec_07_1431`); its rules are undocumented.
    pub rest_waits: bool,
    /// Whether saybusy while resting waits for the end of the rest instead of being refused;
    /// undocumented.
    pub busy_waits_for_rest: bool,
    /// Whether cancelwork and cancelrest drop a waiting request, so that the agent becomes idle,
    /// instead of starting it. Clients rely on its being started (client).
    pub cancel_drops_pending: bool,
    /// Whether `True` in a path counts as `true`. A demo of the vendor writes it so (client);
    /// undocumented.
    pub any_case_true: bool,
    /// Whether events carry `eventGenTime`, as in the newest text (`cec_07_1346`).
    pub event_gen_time: bool,
    /// Whether a call causes its whole sequence of events, with contents (client), and not only those of
    /// the agent's state.
    pub call_events: bool,
    /// Whether inspectors are told of the agents whom they monitor, by `QC_AgentState_Notify` (client).
    /// Which of its subtypes tells which state is inferred; a current state is not told.
    pub monitor_events: bool,
    /// The most events that wait for an agent's poll; older ones are dropped. Undocumented.
    pub event_queue: usize,
    /// Real time that every answer takes.
    pub latency: Duration,
    /// Whether a sign-in sets a balancer's cookie, `loadbalance` (client).
    pub balancer_cookie: bool,
    /// The Content-Type of answers; undocumented, and not the same everywhere. The vendor's library of
    /// 2014 reads JSON only under this one, or where `JSON-Type` names it (client).
    pub content_type: String,
    /// The value of a header `JSON-Type`, which some versions send beside another Content-Type (client).
    pub json_type: Option<String>,
    /// The retcodes that the pages leave open.
    pub codes: Codes,
    /// The most requests in the journal; older ones are dropped.
    pub journal: usize,
}

/// An edition of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Edition {
    /// The vendor's library of 2014: ids up to 19999, and no agentstatus (client).
    #[value(name = "2014", help = "Agent ids up to 19999, and no agentstatus")]
    V2014,
    /// Ids up to 59999 (`cec_07_1202`).
    #[value(name = "2023-09", help = "Agent ids up to 59999")]
    V2023,
    /// Ids up to 999999 (`cec_07_13461`).
    #[value(name = "2025-11", help = "Agent ids up to 999999")]
    V2025,
}

/// `AUTHMODE` (`cec_07_0005`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum AuthMode {
    /// 1: one Guid for the whole session.
    Static,
    /// 2: a new Guid at every interval.
    Dynamic,
    /// No Guids at all: an agent that is signed in is good, whoever asks (client). The gateway has to
    /// know its clients in another way, such as by their certificates.
    None,
}

/// The answer to a path with a number outside its range. Both answers are inferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum IdOutside {
    /// No route matches: HTTP 404 with the framework's HTML page.
    NotFound,
    /// Retcode 000-002.
    Refused,
}

/// Whether there is an interface `agentstatus`. The answer of a gateway without it is undocumented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum AgentStatus {
    /// There is one.
    Served,
    /// No route matches: HTTP 404.
    NotFound,
    /// No route matches this method: HTTP 405.
    WrongMethod,
    /// There is none, and an envelope with [`Codes::no_interface`] says so.
    Refused,
}

/// Which agents' events a poll brings. The other kind of poll is refused with 000-001
/// (`cec_07_0580`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Polls {
    /// Each agent polls its own events, one event in each answer.
    #[value(help = "Each agent polls its own events")]
    Agent,
    /// A poll with any agent's Guid brings all events of all agents of its node (client).
    #[value(help = "One poll brings the events of all agents of a node")]
    All,
}

/// The body of an event that is sent to a `pushUrl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum PushForm {
    /// The answer of a poll with this event (client).
    #[value(help = "As the answer of a poll")]
    Poll,
    /// A member `eventContent`, whose value is the event as JSON text (client). That it is alone in a
    /// JSON object is inferred.
    #[value(help = "A member eventContent with the event as JSON text")]
    EventContent,
}

/// How often a renewed Guid is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Announce {
    /// In the answer to one poll. If that answer is lost, so is the Guid.
    Once,
    /// In the answer to every poll that still has an older Guid.
    UntilUsed,
}

// === impl Options ===

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            auth_mode: AuthMode::Dynamic,
            time_scale: 1,
            nodes: 1,
            default_password: Some("secret".into()),
            agents: HashMap::new(),
            skills: vec![1],
            skills_need_reset: false,
            inspectors: Vec::new(),
            tls: None,
            client_ca: None,
            plaintext: false,
            agent_status: AgentStatus::Served,
            agent_ids: 1..=59_999,
            id_outside: IdOutside::NotFound,
            rest_outside: IdOutside::Refused,
            rest_reasons: vec![1],
            guid_interval: Duration::from_secs(60),
            guid_timeout: Duration::from_secs(120),
            old_guid_lives: true,
            announce: Announce::Once,
            update_guid_sends_header: false,
            idle_sign_out: Some(Duration::from_secs(120)),
            polls: Polls::Agent,
            push_form: PushForm::Poll,
            push_ca: None,
            poll_wait: Duration::from_secs(10),
            force_sign_in: true,
            refuse_repeated: true,
            repeats_before_guid: false,
            keep_events: false,
            take_over_event: true,
            own_sign_out_event: false,
            say_free_ends_rest: false,
            rest_waits: false,
            busy_waits_for_rest: false,
            cancel_drops_pending: false,
            any_case_true: false,
            event_gen_time: false,
            call_events: false,
            monitor_events: false,
            event_queue: 1_000,
            latency: Duration::ZERO,
            balancer_cookie: false,
            content_type: "application/json".into(),
            json_type: None,
            codes: Codes::default(),
            journal: 100_000,
        }
    }
}

impl Options {
    /// Sets the agent ids and interfaces of an edition.
    #[must_use]
    pub fn of(self, edition: Edition) -> Self {
        let (last, agent_status) = match edition {
            Edition::V2014 => (19_999, AgentStatus::NotFound),
            Edition::V2023 => (59_999, AgentStatus::Served),
            Edition::V2025 => (999_999, AgentStatus::Served),
        };
        Self { agent_ids: 1..=last, agent_status, ..self }
    }

    /// Whether an agent may act on others as an inspector.
    pub(super) fn is_inspector(&self, agent: u32) -> bool {
        self.inspectors.is_empty() || self.inspectors.contains(&agent)
    }

    /// Converts gateway time to real time.
    pub(super) fn real(&self, gateway_time: Duration) -> Duration {
        gateway_time / self.time_scale.max(1)
    }

    /// Whether the gateway has this agent.
    pub(super) fn has_agent(&self, agent: u32) -> bool {
        self.agent_ids.contains(&agent) && self.password(agent).is_some()
    }

    /// The password of an agent; `None` if the gateway does not have this agent.
    pub(super) fn password(&self, agent: u32) -> Option<&str> {
        self.agents.get(&agent).or(self.default_password.as_ref()).map(String::as_str)
    }
}
