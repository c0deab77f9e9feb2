//! Everything the bridge is told from outside, checked before any port is opened.
//!
//! [`load`] turns a TOML file, the environment and flags into a [`Config`], or names every mistake
//! at once ([`ConfigErrors`]). The types here hold checked values only: a certificate is parsed, a
//! path has been read, a limit is not zero.

mod credentials;
mod division;
mod error;
mod files;
mod load;
mod reader;
mod retcodes;
mod scalar;
mod server;
mod store;
mod strays;
mod tenant;
mod traces;
mod trust;
mod value;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    net::SocketAddr,
    num::NonZeroUsize,
    ops::RangeInclusive,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use http::Uri;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::SecretString;

pub use self::{
    division::Division,
    error::{ConfigError, ConfigErrors, Place},
    load::{Sources, load},
    traces::Traces,
};
use crate::{
    id::{AgentId, TenantId},
    keyring::EncryptionKey,
    retcode::Overrides,
};

/// The whole configuration.
#[derive(Debug)]
pub struct Config {
    /// The gRPC side. `[server]`.
    pub server: Server,
    /// What is logged, and how. `[log]`.
    pub log: Log,
    /// Calls in flight to one gateway host, over all tenants. `gateway.host_in_flight`.
    pub host_in_flight: NonZeroUsize,
    /// Every tenant that is served; at least one. `[tenants.<id>]`.
    pub tenants: BTreeMap<TenantId, Tenant>,
    /// Where sessions outlive the process; `None`: nowhere. `[store]`.
    pub store: Option<Store>,
    /// Where traces of calls go; `None`: none are made. `[traces]`.
    pub traces: Option<Traces>,
    /// The operator's own reading of some retcodes. `[retcodes."NNN-NNN"]`.
    pub retcodes: Overrides,
    /// See [`Config::warnings`].
    warnings: Vec<String>,
}

impl Store {
    /// The file, if it is one.
    pub fn file(&self) -> Option<&FileStore> {
        match self {
            Self::File(file) => Some(file),
            Self::Redis(_) => None,
        }
    }

    /// Where replicas share sessions, if they do.
    pub fn redis(&self) -> Option<&RedisStore> {
        match self {
            Self::File(_) => None,
            Self::Redis(redis) => Some(redis),
        }
    }
}

impl Config {
    /// What is allowed, but hardly what a careful operator wants: one sentence each, with the key
    /// and what would be right.
    pub fn warnings(&self) -> Vec<String> {
        let exposed = self.server.tls.is_none() && !self.server.listen.ip().is_loopback();
        let plaintext = exposed.then(|| {
            format!(
                "server.listen is {} without [server.tls]: callers' requests, Guids and passwords \
                 in them go over the network in plain text; give server.tls.certificate and \
                 server.tls.key, or listen on 127.0.0.1",
                self.server.listen
            )
        });
        let shares = [self.calls_warning(), self.requests_warning()];
        plaintext
            .into_iter()
            .chain(shares.into_iter().flatten())
            .chain(self.warnings.clone())
            .collect()
    }

    /// How the server's places for calls are divided among the tenants.
    pub fn division(&self) -> Division {
        let wanted =
            self.tenants.iter().map(|(id, tenant)| (id.clone(), tenant.limits.calls.get()));
        Division::new(self.server.calls_max.get(), wanted)
    }

    /// Where tenants cannot have as many calls as they may.
    fn calls_warning(&self) -> Option<String> {
        let division = self.division();
        let (id, tenant) = self
            .tenants
            .iter()
            .find(|(id, tenant)| division.most(id) < tenant.limits.calls.get())?;
        let (places, most, limit) = (division.places, division.most(id), tenant.limits.calls);
        let all: usize = self.tenants.values().map(|tenant| tenant.limits.calls.get()).sum();
        Some(format!(
            "server.calls_max is {places}, and limits.calls of all tenants together {all}: each tenant \
             has an even part of the server's places, which for {id} are {most} calls at once and not \
             {limit}; raise server.calls_max to {all}, or lower limits.calls"
        ))
    }

    /// Where a tenant alone cannot have as many requests as it may.
    fn requests_warning(&self) -> Option<String> {
        let host = self.host_in_flight;
        let (id, tenant) =
            self.tenants.iter().find(|(_, tenant)| tenant.limits.in_flight > host)?;
        Some(format!(
            "tenants.{id}.limits.in_flight is {}, and gateway.host_in_flight only {host}, which holds for \
             each gateway host: raise it, or lower limits.in_flight",
            tenant.limits.in_flight
        ))
    }
}

/// The side that callers connect to.
#[derive(Debug)]
pub struct Server {
    /// Where gRPC callers connect. `server.listen`.
    pub listen: SocketAddr,
    /// Where health and readiness are asked for, over plain HTTP; `None`: nowhere.
    /// `server.admin_listen`.
    pub admin_listen: Option<SocketAddr>,
    /// Runtime threads; `None`: one per core. `server.worker_threads`.
    pub worker_threads: Option<NonZeroUsize>,
    /// Whether reflection is served. `server.reflection`.
    pub reflection: bool,
    /// Calls in the bridge at once, waiting ones included. `server.calls_max`.
    pub calls_max: NonZeroUsize,
    /// The deadline of a call whose caller set none. `server.default_deadline`.
    pub default_deadline: Duration,
    /// The bridge's own certificate; `None`: plaintext. `[server.tls]`.
    pub tls: Option<Identity>,
    /// HTTP/2 limits. `[server.http2]`.
    pub http2: Http2,
    /// Connection limits and ages. `[server.connections]`.
    pub connections: Connections,
    /// How the bridge stops. `[server.drain]`.
    pub drain: Drain,
}

/// Limits of one HTTP/2 connection; each is set by name, none is left to a library's default.
#[derive(Clone, Debug)]
pub struct Http2 {
    /// Calls at once on one connection.
    pub max_concurrent_streams: u32,
    /// Bytes a caller may send on one stream before it has to wait.
    pub stream_window: u32,
    /// Bytes a caller may send on one connection before it has to wait.
    pub connection_window: u32,
    /// Bytes of one frame.
    pub max_frame_size: u32,
    /// Bytes of a request's headers, decoded.
    pub max_header_list_size: u32,
    /// Streams reset by the caller that have not been dealt with yet; more end the connection.
    pub max_pending_accept_reset_streams: usize,
    /// Streams reset for the caller's errors; more end the connection.
    pub max_local_error_reset_streams: usize,
    /// Bytes of one response that may wait to be written.
    pub max_send_buffer: usize,
    /// Bytes of one request message.
    pub max_message_size: usize,
    /// How often a connection is pinged.
    pub keepalive_interval: Duration,
    /// How long a ping may stay unanswered.
    pub keepalive_timeout: Duration,
}

/// How many connections there may be, and for how long.
#[derive(Clone, Debug)]
pub struct Connections {
    /// Connections that are served.
    pub max: NonZeroUsize,
    /// Those of one peer address among them.
    pub per_peer: NonZeroUsize,
    /// Handshakes under way, beside them.
    pub handshakes: NonZeroUsize,
    /// From accepting a connection to a place for it: TLS, HTTP/2's preface and the client's first
    /// settings.
    pub handshake_timeout: Duration,
    /// After this long, give or take a tenth, a connection is asked to end (GOAWAY).
    pub max_age: Duration,
    /// How long it takes new calls after that. Those that have begun are finished in any case.
    pub max_age_grace: Duration,
}

/// How the bridge stops.
#[derive(Clone, Debug)]
pub struct Drain {
    /// From "not ready" to GOAWAY: the time callers need to hear of it.
    pub spread: Duration,
    /// From GOAWAY to the hard end.
    pub limit: Duration,
    /// What becomes of the sessions that the bridge keeps.
    pub sessions: LeftSessions,
}

/// What becomes of kept sessions when the bridge stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftSessions {
    /// They are left as they are, for the next process; the gateway ends those that nobody polls
    /// within two minutes (cec_07_1202).
    Leave,
    /// Their agents are signed out, within the drain's limit.
    SignOut,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Filter directives, such as `info` or `ccgateway_bridge=debug,info`. `log.filter`.
    pub filter: String,
    /// `log.format`.
    pub format: LogFormat,
}

/// The shape of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Human where standard error is a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// One tenant and its gateway.
#[derive(Debug)]
pub struct Tenant {
    /// The gateway's addresses, in order of preference; at least one. Each has a scheme, an
    /// authority and the path prefix of the interfaces, without a final slash. `base_urls`.
    pub base_urls: Vec<Uri>,
    /// How the gateway's certificate is checked, and the bridge's own one. `tls`.
    pub tls: ClientTls,
    /// How the gateway treats Guids (AUTHMODE). `auth_mode`.
    pub auth_mode: AuthMode,
    /// The agent ids that the gateway knows. `agent_ids`.
    pub agent_ids: RangeInclusive<u32>,
    /// How long a registered Guid is good without being registered again. `registered_ttl`.
    pub registered_ttl: Duration,
    /// Times of the tenant's gateway. `timeouts`.
    pub timeouts: Timeouts,
    /// Bounds on what the tenant may take. `limits`.
    pub limits: Limits,
    /// How sessions that the bridge made are kept alive. `keep`.
    pub keep: Keep,
    /// How many events are kept for callers who come back for them. `events`.
    pub events: Events,
    /// Whether a sign-in is followed by a reset of the agent's skill queues, without which agents
    /// of some gateways get no calls (cec_07_1209). `reset_skills_after_sign_in`.
    pub reset_skills_after_sign_in: bool,
    /// Credentials of agents, for signing them in without asking. `credentials_file`.
    pub credentials: Option<Arc<Credentials>>,
}

/// How a gateway treats Guids; its setting AUTHMODE (`cec_07_0005`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMode {
    /// AUTHMODE 1: one Guid for the whole session.
    Static,
    /// AUTHMODE 2, the gateway's default: a new Guid every minute.
    Dynamic,
    /// No Guids: the gateway, or a proxy before it, knows its clients in another way, such as by
    /// their certificates (client).
    None,
}

/// TLS towards a peer that the bridge connects to.
#[derive(Debug)]
pub struct ClientTls {
    /// What makes the peer's certificate good.
    pub trust: Trust,
    /// Shown to a peer that asks for a certificate.
    pub client: Option<Identity>,
}

/// What makes a peer's certificate good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// It chains to a root of the system and names the host.
    SystemRoots,
    /// It chains to one of these certificates and names the host. `tls.ca_file`.
    Roots(Vec<CertificateDer<'static>>),
    /// The SHA-256 of the leaf certificate is one of these. Neither name nor dates are checked.
    /// `tls.pinned_certificate`, `tls.pinned_sha256`.
    Pinned(Vec<[u8; 32]>),
    /// Any certificate will do. `tls.insecure_skip_verify`.
    Anything,
}

/// A certificate with its key.
pub struct Identity {
    /// The certificate, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its private key.
    pub key: PrivateKeyDer<'static>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("certificates", &self.chain.len()).finish_non_exhaustive()
    }
}

/// Times of a tenant's gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection: name, TCP and TLS together. `timeouts.connect`.
    pub connect: Duration,
    /// For an answer to a request, from sending it to its last byte. `timeouts.request`.
    pub request: Duration,
    /// The same for a sign-in. `timeouts.sign_in`.
    pub sign_in: Duration,
    /// For an answer to an event poll, which the gateway holds back for up to ten seconds
    /// (cec_07_1274). `timeouts.poll`.
    pub poll: Duration,
    /// How long an idle connection is kept; below the gateway's own keep-alive. `timeouts.idle`.
    pub idle: Duration,
}

/// How sessions that the bridge made are kept alive: by polling their events, without which the
/// gateway signs an agent out after two minutes (cec_07_1202).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Whether they are. `keep.enabled`.
    pub enabled: bool,
    /// The shortest pause between two polls; 200 ms as documented (cec_07_1274).
    /// `keep.pause_min`.
    pub pause_min: Duration,
    /// The longest; 500 ms as documented. `keep.pause_max`.
    pub pause_max: Duration,
    /// How often the Guid is renewed by updateGuid (cec_07_1225) where polls are not allowed and
    /// Guids change. `keep.guid_interval`.
    pub guid_interval: Duration,
    /// Refusals for the Guid in a row after which a session is lost; public clients take five.
    /// `keep.refusals`.
    pub refusals: u32,
    /// How long a gateway may give no usable answer before a session is lost. `keep.silence`.
    pub silence: Duration,
    /// How long a lost session is tried to be made anew. `keep.recovery`.
    pub recovery: Duration,
    /// Automatic sign-ins a second: those that no `SignIn` asked for. `keep.sign_ins_per_second`.
    pub sign_ins_per_second: u32,
    /// How often an agent is taken back from another client that signs it in, before the bridge
    /// gives it up until a caller asks for it. `keep.take_backs`.
    pub take_backs: u32,
    /// How long the bridge waits before it takes an agent back for the second time; then twice as
    /// long each time, up to twelve times this. `keep.take_back_pause`.
    pub take_back_pause: Duration,
    /// How long a rejected password is not tried again, since the platform locks accounts.
    /// `keep.rejected_for`.
    pub rejected_for: Duration,
}

/// How many events are kept for callers who come back for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Events {
    /// Events kept. `events.kept`.
    pub kept: NonZeroUsize,
    /// Bytes that they may take; fewer events are kept where they are large. `events.kept_bytes`.
    pub kept_bytes: NonZeroUsize,
    /// Callers who watch events at once. `events.watches`.
    pub watches: NonZeroUsize,
}

/// Bounds on what a tenant may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Calls at once, waiting ones included. `limits.calls`.
    pub calls: NonZeroUsize,
    /// Requests to the gateway at once; polls are not counted. `limits.in_flight`.
    pub in_flight: NonZeroUsize,
    /// How long a call may wait to be one of those. `limits.queue_wait`.
    pub queue_wait: Duration,
    /// Calls that may wait for one agent. `limits.agent_queue`.
    pub agent_queue: NonZeroUsize,
    /// Sessions kept. `limits.sessions`.
    pub sessions: NonZeroUsize,
}

/// What the bridge needs to sign agents in by itself.
#[derive(Debug, Default)]
pub struct Credentials {
    /// By agent.
    pub agents: HashMap<AgentId, Credential>,
}

/// What the bridge needs to sign one agent in.
#[derive(Clone, Debug)]
pub struct Credential {
    /// The agent's CTI password, up to 32 characters (`cec_07_1202`).
    pub password: SecretString,
    /// The agent's phone number, up to 24 characters (`cec_07_1202`); may be empty.
    pub phone_number: String,
    /// Take the agent over where it is signed in elsewhere.
    pub force: bool,
}

/// Where sessions outlive the process.
#[derive(Clone, Debug)]
pub enum Store {
    /// In a file of this process's own.
    File(FileStore),
    /// Where replicas share them.
    Redis(Box<RedisStore>),
}

/// A file in which one process finds its sessions again after a restart.
#[derive(Clone, Debug)]
pub struct FileStore {
    /// The file; its folder exists. `store.file`.
    pub path: PathBuf,
    /// What sessions are encrypted with, the key that encrypts first; without any they are stored
    /// as they are. `store.encryption_keys`.
    pub encryption_keys: Vec<EncryptionKey>,
    /// Whether the passwords that callers give are stored too; only with keys.
    /// `store.credentials`.
    pub credentials: bool,
}

/// Where replicas share sessions.
#[derive(Clone, Debug)]
pub struct RedisStore {
    /// The Redis or Valkey.
    pub redis: Redis,
    /// What the names of all keys and channels start with. `store.key_prefix`.
    pub key_prefix: String,
    /// How long a replica that is gone keeps its agents from the others. `store.lease`.
    pub lease: Duration,
    /// What becomes of the polls of a replica that cannot renew its leases. `store.when_away`.
    pub when_away: WhenAway,
    /// What sessions are encrypted with, the key that encrypts first; at least one.
    /// `store.encryption_keys`.
    pub encryption_keys: Vec<EncryptionKey>,
    /// Whether the passwords that callers give are shared too. `store.credentials`.
    pub credentials: bool,
}

/// What a replica does whose leases end while the store cannot be asked for new ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenAway {
    /// It polls on until the store answers again, and then stops polling for those agents whose
    /// leases another replica has.
    Keep,
    /// It stops polling, so that there are never two replicas that poll for an agent.
    Stop,
}

/// How a Redis or Valkey is reached.
#[derive(Clone, Debug)]
pub struct Redis {
    /// What the addresses are those of. `store.topology`.
    pub topology: Topology,
    /// The server, the sentinels, or nodes of the cluster; at least one. `store.urls`.
    pub nodes: Vec<RedisNode>,
    /// `None`: plaintext. `rediss://` in `store.urls`.
    pub tls: Option<RedisTls>,
    /// The user of Redis' access control list; `None`: its default user. `store.username`.
    pub username: Option<String>,
    /// That user's password. `store.password_file`.
    pub password: Option<SecretString>,
    /// `store.timeouts`.
    pub timeouts: RedisTimeouts,
}

/// What the addresses of a Redis are those of.
#[derive(Clone, Debug)]
pub enum Topology {
    /// One server.
    Standalone,
    /// Sentinels, which know where the master is.
    Sentinel(Sentinel),
    /// Some nodes of a cluster, which know the others.
    Cluster,
}

/// What sentinels are asked for, and how.
#[derive(Clone, Debug)]
pub struct Sentinel {
    /// The name under which they watch the master. `store.sentinel.master`.
    pub master: String,
    /// A user of theirs; `None`: the default user. `store.sentinel.username`.
    pub username: Option<String>,
    /// That user's password. `store.sentinel.password_file`.
    pub password: Option<SecretString>,
}

/// One address of a Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisNode {
    /// A name or an IP address.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// TLS towards a Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisTls {
    /// The CA certificates, in PEM, that its certificate chains to; `None`: those of the system.
    /// `store.tls.ca_file`.
    pub ca_pem: Option<Vec<u8>>,
}

/// Times of a Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisTimeouts {
    /// For a connection: name, TCP, TLS and signing in together. `store.timeouts.connect`.
    pub connect: Duration,
    /// For the answer to a command. `store.timeouts.command`.
    pub command: Duration,
    /// How often a connection that only listens is asked whether it is still there.
    /// `store.timeouts.heartbeat`.
    pub heartbeat: Duration,
}
