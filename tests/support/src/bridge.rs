//! A bridge in the test's own process.

use std::{collections::HashMap, ops::Deref};

use ccgateway_bridge::server::{Bridge, Reloaded, StartError};
use ccgateway_sim::{Entry, Interface, Options, Simulator};

use crate::{AGENT, Clients, Setup, Site, admin, asked};

/// A bridge with one tenant, `acme`, a simulated gateway, and clients.
#[derive(Debug)]
pub struct TestBridge {
    /// The tenant's gateway.
    pub gateway: Simulator,
    /// The bridge.
    pub bridge: Bridge,
    clients: Clients,
    /// Keeps the bridge's files for as long as the bridge runs.
    site: Site,
}

impl TestBridge {
    /// A bridge with the defaults, with its own gateway.
    pub async fn start() -> Self {
        Self::with(Setup::default()).await
    }

    /// A bridge with its own gateway.
    pub async fn with(setup: Setup) -> Self {
        // Boxed, so that every test's future does not become as large as these.
        let site = Box::pin(Site::new(setup.gateway.clone())).await;
        Box::pin(Self::at(&site, &setup)).await
    }

    /// A bridge for this gateway.
    pub async fn of(gateway: Simulator, setup: Setup) -> Self {
        Box::pin(Self::at(&Site::of(gateway), &setup)).await
    }

    /// One more bridge at this site.
    pub async fn at(site: &Site, setup: &Setup) -> Self {
        let bridge = Bridge::start(site.config(setup)).await.expect("the bridge starts");
        let clients = Clients::of(bridge.grpc_addr());
        Self { gateway: site.gateway.clone(), bridge, clients, site: site.clone() }
    }

    /// Changes the bridge's configuration.
    pub fn reload(&self, setup: &Setup) -> Reloaded {
        self.try_reload(setup).expect("no mistake")
    }

    /// The same, with a configuration that may not be taken.
    pub fn try_reload(&self, setup: &Setup) -> Result<Reloaded, StartError> {
        self.bridge.reload(self.site.config(setup))
    }

    /// Stops the bridge as SIGTERM stops a process.
    pub async fn stop(self) {
        let Self { bridge, clients, .. } = self;
        drop(clients);
        bridge.drain().await;
    }

    /// A bridge whose agent 1001 is signed in.
    pub async fn signed_in() -> Self {
        let bridge = Self::start().await;
        bridge.sign_in(AGENT).await.expect("signed in");
        bridge.gateway.clear_journal();
        bridge
    }

    /// Asks the admin port, such as `GET /metrics`. Returns head and body of the answer.
    pub async fn ask(&self, request: &str) -> (String, String) {
        admin::ask(self.bridge.admin_addr().expect("an admin port"), request, "").await
    }

    /// Every series of `/metrics` by name and labels, with its value.
    pub async fn scrape(&self) -> HashMap<String, f64> {
        admin::scrape(self.bridge.admin_addr().expect("an admin port")).await
    }

    /// The requests that the gateway got for this interface.
    pub fn asked(&self, interface: Interface) -> Vec<Entry> {
        asked(&self.gateway, interface)
    }
}

/// A bridge can be called like its clients.
impl Deref for TestBridge {
    type Target = Clients;

    fn deref(&self) -> &Clients {
        &self.clients
    }
}

/// A bridge whose agents are signed in and polled almost without pauses. Their first events have come.
pub async fn kept(gateway: Options, agents: impl IntoIterator<Item = u32>) -> TestBridge {
    let tenant = "limits.queue_wait = \"10s\"\n".into();
    Box::pin(keeping(Setup { gateway, tenant, ..<_>::default() }, agents)).await
}

/// Like [`kept`], with more settings.
pub async fn keeping(setup: Setup, agents: impl IntoIterator<Item = u32>) -> TestBridge {
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
