//! The configuration of a test's bridge.

use std::{fmt::Write as _, net::SocketAddr};

use ccgateway_bridge::config::Config;
use ccgateway_sim::{Options, Simulator};

use crate::PASSWORD;

/// What a test's bridge, and the gateway behind it, differ in from the defaults. The bridge has one
/// tenant, `acme`, and listens at ports that the kernel chooses.
#[derive(Debug)]
pub struct Setup {
    /// How the gateway is.
    pub gateway: Options,
    /// The address for callers.
    pub listen: Option<SocketAddr>,
    /// Lines in front of all sections, and sections.
    pub settings: String,
    /// Lines of `[server]`.
    pub server: String,
    /// Lines of `[server.drain]`; the bridge's own defaults where there are none.
    pub drain: String,
    /// Lines of `[store]` and of sections after it. There is a key in `store.key`.
    pub store: String,
    /// Lines of `[tenants.acme]` and of sections after it; the gateway's CA is trusted unless they
    /// begin with what is.
    pub tenant: String,
    /// Changes what no key of the file sets. Only for a bridge in the test's own process.
    pub adjust: Option<fn(&mut Config)>,
    /// Whether sessions are kept by polls, which then are in the journal too.
    pub keep: bool,
    /// Agents whose password the bridge holds.
    pub credentials: Vec<u32>,
    /// Those whom it takes over where they are signed in elsewhere.
    pub forced: Vec<u32>,
    /// What the bridge believes their password to be.
    pub password: Option<&'static str>,
    /// An address that the bridge tries before the gateway's.
    pub first: Option<SocketAddr>,
    /// What the bridge is told in the place of the gateway's own address, such as a proxy's.
    pub base_url: Option<String>,
    /// An address that the bridge tries after that.
    pub standby: Option<String>,
}

/// Lines of `[store]` by which sessions are in the Redis at this address, sealed with the key of the site.
pub fn in_redis(url: &str) -> String {
    format!("urls = \"{url}\"\nencryption_key_files = \"store.key\"\n")
}

/// Lines of `[store]` by which sessions are in a file of the site, sealed with its key.
pub fn in_file() -> String {
    "file = \"sessions.redb\"\nencryption_key_files = \"store.key\"\n".to_owned()
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            gateway: Options::default(),
            listen: None,
            settings: String::new(),
            server: String::new(),
            // Nobody has to be told that the bridge is going away.
            drain: "delay = \"0s\"\n".into(),
            store: String::new(),
            tenant: String::new(),
            adjust: None,
            keep: false,
            credentials: Vec::new(),
            forced: Vec::new(),
            password: None,
            first: None,
            base_url: None,
            standby: None,
        }
    }
}

impl Setup {
    /// The configuration file of a bridge in front of this gateway. It names files beside it: the CA of the
    /// gateway, `ca.pem`, and the credentials of agents, `agents.toml`.
    pub(crate) fn text(&self, gateway: &Simulator) -> String {
        let listen = self.listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)));
        let mut text = format!(
            "listeners.default.address = \"{listen}\"\nadmin.address = \"127.0.0.1:0\"\n{}\n",
            self.settings
        );
        let sections =
            [("server", &self.server), ("server.drain", &self.drain), ("store", &self.store)];
        for (name, lines) in sections.into_iter().filter(|(_, lines)| !lines.is_empty()) {
            let _written = writeln!(text, "[{name}]\n{lines}");
        }
        let _written = writeln!(text, "[tenants.acme]\nbase_urls = {:?}", self.base_urls(gateway));
        if !self.credentials.is_empty() {
            text.push_str("credentials_file = \"agents.toml\"\n");
        }
        let own_tls = ["[tenants.acme.tls]", "tls.", "# tls"];
        if !own_tls.iter().any(|own| self.tenant.starts_with(own)) {
            text.push_str("tls.ca_file = \"ca.pem\"\n");
        }
        if !self.keep {
            text.push_str("keep.enabled = false\n");
        }
        text + &self.tenant
    }

    fn base_urls(&self, gateway: &Simulator) -> Vec<String> {
        let first = self.first.map(|addr| format!("https://{addr}"));
        let own = self.base_url.clone().unwrap_or_else(|| gateway.base_url());
        first.into_iter().chain([own]).chain(self.standby.clone()).collect()
    }

    /// The file of the agents' credentials.
    pub(crate) fn credentials(&self) -> String {
        let password = self.password.unwrap_or(PASSWORD);
        self.credentials.iter().fold(String::new(), |mut text, agent| {
            let force = self.forced.contains(agent);
            let _written =
                writeln!(text, "[agents.{agent}]\npassword = \"{password}\"\nforce = {force}");
            text
        })
    }
}
