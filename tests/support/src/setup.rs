//! The configuration of a test's bridge.

use std::{fmt::Write as _, net::SocketAddr};

use ccgateway_bridge::config::Config;
use ccgateway_sim::{Options, Simulator};

use crate::PASSWORD;

/// The settings of a test's bridge, and of its gateway, that differ from the defaults. The bridge has one
/// tenant, `acme`, and listens on ports that the kernel chooses.
#[derive(Debug)]
pub struct Setup {
    /// The gateway's options.
    pub gateway: Options,
    /// The address for callers.
    pub listen: Option<SocketAddr>,
    /// Lines before all other sections; they may have sections of their own.
    pub settings: String,
    /// Lines of `[server]`.
    pub server: String,
    /// Lines of `[server.drain]`; if empty, the bridge has its own defaults.
    pub drain: String,
    /// Lines of `[store]` and of sections after it. The file `store.key` holds a key.
    pub store: String,
    /// Lines of `[tenants.acme]` and of sections after it. The gateway's CA is trusted unless they begin
    /// with TLS settings.
    pub tenant: String,
    /// Changes settings that have no key. Only for a bridge in the test's own process.
    pub adjust: Option<fn(&mut Config)>,
    /// Whether sessions are kept alive by polls; the polls are then in the gateway's journal too.
    pub keep: bool,
    /// Agents in the bridge's credentials file.
    pub credentials: Vec<u32>,
    /// Those of them that the bridge takes over if they are signed in elsewhere.
    pub forced: Vec<u32>,
    /// The password in the credentials file; `None`: the right one.
    pub password: Option<&'static str>,
    /// An address that the bridge tries before the gateway's.
    pub first: Option<SocketAddr>,
    /// An address that the bridge gets in place of the gateway's, such as a proxy's.
    pub base_url: Option<String>,
    /// An address that the bridge tries after the gateway's.
    pub standby: Option<String>,
}

/// Lines of `[store]` for sessions in the Redis at this address, encrypted with the site's key.
pub fn in_redis(url: &str) -> String {
    format!("urls = \"{url}\"\nencryption_key_files = \"store.key\"\n")
}

/// Lines of `[store]` for sessions in a file of the site, encrypted with the site's key.
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
            // No balancer has to notice that the bridge stops.
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
    /// The text of the configuration of a bridge for this gateway. It names two files in the same folder:
    /// `ca.pem`, with the gateway's CA, and `agents.toml`, with the credentials.
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

    /// The text of the credentials file.
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
