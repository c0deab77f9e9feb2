//! A tenant with a gateway of its own.

use std::{collections::HashMap, sync::Arc, time::Duration};

use ccgateway_sim::{Entry, Fault, Interface, Misbehaviour, Options, Simulator};
use tokio::time::{Instant, sleep, timeout};

use super::safekeeping::TestStores;
use crate::{
    call::Deadline,
    config::{Config, Credential, Credentials, Sources, load},
    gateway::SignIn,
    id::AgentId,
    session::{Guid, SessionState, Stores},
    telemetry::metrics::Metrics,
    tenant::{
        Accepted, Common, Context, DetachedWork, Hosts, Replicas, ServerCalls, SignInAnswer, Tenant,
    },
    tls::SystemRoots,
};

pub(super) const PASSWORD: &str = "secret";

/// What a test's tenant, and the gateway behind it, differ in from the defaults.
#[derive(Default)]
pub(super) struct Setup<'a> {
    pub(super) gateway: Options,
    /// Keys of the tenant's section, and what they are set to.
    pub(super) lines: &'a [(&'a str, &'a str)],
    /// Agents whose password the tenant knows, and whom it may take over.
    pub(super) credentials: &'a [u32],
    pub(super) replicas: Option<&'a dyn Replicas>,
    /// `None`: sessions are kept in the process.
    pub(super) stores: Option<TestStores>,
}

/// A tenant, and the gateway behind it.
pub(super) struct World {
    pub(super) gateway: Simulator,
    pub(super) tenant: Arc<Tenant>,
    pub(super) work: DetachedWork,
    pub(super) metrics: Metrics,
}

/// Polls as often as a test wants to wait for.
pub(super) const FAST: [(&str, &str); 4] = [
    ("keep.pause_min", "2ms"),
    ("keep.pause_max", "4ms"),
    ("keep.sign_ins_per_second", "1000"),
    ("keep.take_back_pause", "20ms"),
];
/// Does not poll.
pub(super) const UNPOLLED: [(&str, &str); 1] = [("keep.enabled", "false")];

pub(super) fn agent(id: u32) -> AgentId {
    AgentId::parse(&id.to_string(), &(1..=59_999)).expect("an id")
}

pub(super) fn context() -> Context {
    within(Duration::from_secs(20))
}

pub(super) fn within(timeout: Duration) -> Context {
    Context::of_bridge(Deadline::new(Instant::now(), timeout))
}

/// A sign-in with this password.
pub(super) fn password(password: &str) -> SignIn {
    SignIn::new(password.into(), String::new(), false)
}

/// Waits until it is so.
pub(super) async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(20), waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// A gateway whose polls are answered at once.
pub(super) fn prompt() -> Options {
    Options { poll_wait: Duration::ZERO, ..Options::default() }
}

/// A refusal with this retcode.
pub(super) fn refusal(retcode: &str) -> Fault {
    Fault::Retcode { retcode: retcode.into(), message: "because".into() }
}

impl World {
    pub(super) async fn polling(credentials: &[u32]) -> Self {
        Self::of(Setup { gateway: prompt(), lines: &FAST, credentials, ..Setup::default() }).await
    }

    pub(super) async fn unpolled(credentials: &[u32]) -> Self {
        Self::of(Setup { lines: &UNPOLLED, credentials, ..Setup::default() }).await
    }

    pub(super) async fn of(setup: Setup<'_>) -> Self {
        let gateway =
            Options { default_password: Some(PASSWORD.into()), plaintext: true, ..setup.gateway };
        let gateway = Simulator::start(gateway).await.expect("a gateway");
        let stores = match setup.stores {
            Some(stores) => Stores::Shared(Arc::new(stores)),
            None => Stores::Embedded,
        };
        Self::before(gateway, setup.lines, setup.credentials, (setup.replicas, &stores))
    }

    fn before(
        gateway: Simulator,
        lines: &[(&str, &str)],
        credentials: &[u32],
        (replicas, stores): (Option<&dyn Replicas>, &Stores),
    ) -> Self {
        let url = [("base_urls", gateway.base_url())];
        let lines = lines.iter().map(|(key, value)| (*key, (*value).to_owned()));
        let sources = url.into_iter().chain(lines).fold(Sources::default(), |sources, line| {
            sources.with_flag("--test", &format!("tenants.acme.{}", line.0), line.1)
        });
        let config = load(&sources).unwrap_or_else(|errors| panic!("{errors}"));
        let division = config.division();
        let Config { mut tenants, host_limit, .. } = config;
        let (id, mut config) = tenants.pop_first().expect("a tenant");
        let credentials: Vec<_> = credentials.iter().map(|id| (*id, PASSWORD)).collect();
        config.credentials = Some(Arc::new(known(&credentials)));
        let (work, metrics) = (DetachedWork::default(), Metrics::new(&[], &[]));
        let common = Common {
            calls: &ServerCalls::new(division),
            hosts: &Hosts::new(host_limit),
            stores,
            replicas,
            metrics: &metrics,
            system_roots: SystemRoots::default(),
        };
        let tenant = Tenant::new(id, config, &common, work.clone()).expect("a tenant");
        Self { gateway, tenant, work, metrics }
    }

    /// A version of the tenant whose configuration has these lines more, which replace those of before.
    pub(super) fn changed(&self, lines: &[(&str, &str)]) -> Arc<Tenant> {
        self.changed_to(lines, &[])
    }

    /// The same, with these agents' passwords.
    pub(super) fn changed_to(
        &self,
        lines: &[(&str, &str)],
        credentials: &[(u32, &str)],
    ) -> Arc<Tenant> {
        let url = self.gateway.base_url();
        let lines = [&FAST[..], &[("base_urls", &url)], lines].concat();
        let lines: HashMap<_, _> = lines.into_iter().collect();
        let sources = lines.into_iter().fold(Sources::default(), |sources, (key, value)| {
            sources.with_flag("--test", &format!("tenants.acme.{key}"), value)
        });
        let config = load(&sources).unwrap_or_else(|errors| panic!("{errors}"));
        let calls = ServerCalls::new(config.division());
        let Config { mut tenants, host_limit, .. } = config;
        let (_, mut config) = tenants.pop_first().expect("a tenant");
        config.credentials = Some(Arc::new(known(credentials)));
        let common = Common {
            calls: &calls,
            hosts: &Hosts::new(host_limit),
            stores: &Stores::Embedded,
            replicas: None,
            metrics: &self.metrics,
            system_roots: SystemRoots::default(),
        };
        self.tenant.changed(config, false, &common).expect("a version")
    }

    pub(super) async fn sign_in(&self, id: u32) -> SignInAnswer {
        let signed_in = self.tenant.sign_in(agent(id), password(PASSWORD), &context(), None).await;
        signed_in.expect("signed in")
    }

    /// Hands a session in that its owner has made.
    pub(super) async fn register(&self, id: u32) {
        let guid = Guid::parse(&self.gateway.sign_in(id)).expect("a Guid");
        let registered = self.tenant.register(agent(id), guid, None, context().deadline).await;
        registered.expect("registered");
    }

    pub(super) async fn busy(&self, id: u32) -> Result<Accepted, crate::call::CallError> {
        let command = crate::gateway::say_busy(None, None);
        self.tenant.command(agent(id), command, &context(), None).await
    }

    /// What the gateway was asked through this interface.
    pub(super) fn asked(&self, interface: Interface) -> Vec<Entry> {
        let mut journal = self.gateway.journal();
        journal.retain(|entry| entry.interface == Some(interface));
        journal
    }

    /// Has the gateway refuse the next request through this interface.
    pub(super) fn refuse(&self, interface: Interface, retcode: &str) {
        self.gateway.misbehave(Misbehaviour::once(refusal(retcode)).on(interface));
    }

    pub(super) async fn until_state(&self, id: u32, state: Option<SessionState>) {
        until(&format!("{state:?}"), || self.tenant.session_state(agent(id)) == state).await;
    }

    /// How often sessions have entered this state.
    pub(super) fn entered(&self, state: SessionState) -> u64 {
        let states = self.tenant.session_states();
        states.iter().find(|count| count.state == state).expect("counted").entered
    }

    /// The value of the metric of this name whose labels contain `labels`; 0: there is none.
    pub(super) fn counted(&self, name: &str, labels: &str) -> u64 {
        let text =
            self.metrics.text(crate::telemetry::metrics::Format::OpenMetrics).expect("metrics");
        let line = text.lines().find(|line| line.starts_with(name) && line.contains(labels));
        let value = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
        value.unwrap_or_default()
    }
}

fn known(agents: &[(u32, &str)]) -> Credentials {
    let with = |password: &str| Credential {
        password: password.into(),
        phone_number: String::new(),
        force: true,
    };
    let agents = agents.iter().map(|(id, password)| (agent(*id), with(password))).collect();
    Credentials { agents }
}
