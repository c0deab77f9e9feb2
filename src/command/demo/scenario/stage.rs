use std::{
    env,
    fmt::{Display, Write as _},
    fs::{self, OpenOptions},
    io::{self, Write as _},
    ops::RangeInclusive,
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
};

use ccgateway_sim::{CertificateKind, Entry, Interface, Options, ServerIdentity, Simulator};
use http::Uri;
use tokio::time::Instant;
use tonic::Status;
use tonic_types::StatusExt as _;

use super::{
    super::{DemoArgs, DemoBridge, Failure, Flag, PASSWORD, REASON, TENANT, flags, free_or, say},
    Scenario,
};
use crate::{
    client::{self, Channel},
    command::text::wrapped,
    rpc::proto::{
        SetBusyRequest, agent_events_client::AgentEventsClient,
        agent_session_client::AgentSessionClient, agent_state_client::AgentStateClient,
    },
};

/// A bridge with what a scenario needs around it.
pub(super) struct Stage {
    /// The sites of its gateway.
    pub(super) sites: Vec<Simulator>,
    /// The agents whom it can sign in.
    pub(super) agents: RangeInclusive<u32>,
    bridge: DemoBridge,
    channel: Channel,
    origin: Uri,
    begun: Instant,
    _credentials: CredentialsFile,
}

/// A file with the agents' passwords, which goes with this.
struct CredentialsFile(PathBuf);

impl Stage {
    pub(super) async fn set(scenario: Scenario, args: &DemoArgs) -> Result<Self, Failure> {
        let agents = scenario.agents();
        let sites = sites(scenario.sites(), args).await?;
        let credentials = CredentialsFile::write(agents.clone())?;
        let urls: Vec<_> = sites.iter().map(Simulator::base_url).collect();
        // They all have the same one.
        let pin = sites.first().map(Simulator::leaf_pin).unwrap_or_default();
        // What goes wrong here is told by the story.
        let mut settings = flags(args, &urls.join(","), pin, "error")?;
        let mut add = |key: &str, value: String| {
            settings.push(Flag { name: "demo", key: format!("tenants.{TENANT}.{key}"), value });
        };
        add("credentials_file", credentials.0.display().to_string());
        for (key, value) in scenario.keys() {
            add(key, (*value).to_owned());
        }
        let bridge = DemoBridge::start_in_process(&settings).await?;
        if let Some(admin) = bridge.admin_addr() {
            say(format_args!("\nIts page is on http://{admin}/\n"));
        }
        let origin = format!("http://{}", bridge.grpc_addr()).parse()?;
        let (channel, begun) = (client::channel(), Instant::now());
        Ok(Self { sites, agents, bridge, channel, origin, begun, _credentials: credentials })
    }

    pub(super) fn states(&self) -> AgentStateClient<Channel> {
        client::agent_state(self.channel.clone(), self.origin.clone())
    }

    pub(super) fn sessions(&self) -> AgentSessionClient<Channel> {
        client::agent_session(self.channel.clone(), self.origin.clone())
    }

    pub(super) fn events(&self) -> AgentEventsClient<Channel> {
        client::agent_events(self.channel.clone(), self.origin.clone())
    }

    /// Prints what has happened, with the time since the beginning.
    pub(super) fn tell(&self, what: impl Display) {
        let head = format!("{:5.1} s  ", self.begun.elapsed().as_secs_f64());
        say(wrapped(&head, &what.to_string(), head.len()));
    }

    pub(super) async fn clear(self) {
        self.bridge.stop().await;
        for site in self.sites {
            site.stop().await;
        }
    }
}

/// Starts the sites, all with one certificate; the first at the gateway's port.
async fn sites(count: usize, args: &DemoArgs) -> Result<Vec<Simulator>, Failure> {
    let identity = ServerIdentity::generate(CertificateKind::Signed)?;
    let mut sites = Vec::new();
    for number in 0..count {
        let port = if number == 0 { args.gateway } else { 0 };
        let options = Options {
            listen: free_or(port)?,
            default_password: Some(PASSWORD.into()),
            tls: Some(identity.clone()),
            ..Options::default()
        };
        sites.push(Simulator::start(options).await?);
    }
    Ok(sites)
}

impl CredentialsFile {
    fn write(agents: RangeInclusive<u32>) -> io::Result<Self> {
        let name = format!("ccgateway-bridge-demo-{:016x}.toml", rand::random::<u64>());
        let path = env::temp_dir().join(name);
        let mut text = String::new();
        for agent in agents {
            // Writing to a String cannot fail.
            let _written =
                writeln!(text, "[agents.{agent}]\npassword = \"{PASSWORD}\"\nforce = true");
        }
        // A new file: others may write to this folder, also links to elsewhere.
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        // Whatever fails from here on, the file goes.
        let credentials = Self(path);
        file.write_all(text.as_bytes())?;
        Ok(credentials)
    }
}

impl Drop for CredentialsFile {
    fn drop(&mut self) {
        let _gone = fs::remove_file(&self.0);
    }
}

/// The request that makes an agent busy, also one who is busy.
pub(super) fn busy(agent: u32) -> SetBusyRequest {
    SetBusyRequest {
        agent_id: agent.to_string(),
        reason: Some(REASON),
        prolong: Some(true),
        ..SetBusyRequest::default()
    }
}

/// The reason of a refusal, or the code of one that has none.
pub(super) fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| info.reason.clone());
    reason.unwrap_or_else(|| format!("{:?}", status.code()))
}

/// Whether the gateway was asked to sign an agent in.
pub(super) fn is_sign_in(entry: &Entry) -> bool {
    matches!(entry.interface, Some(Interface::SignIn | Interface::ForceSignIn))
}

/// Whether the gateway has done what it was asked for.
pub(super) fn is_accepted(entry: &Entry) -> bool {
    let code = entry.answer.as_ref().and_then(|answer| answer.retcode.as_deref());
    code == Some("0")
}
