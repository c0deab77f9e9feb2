//! The command line.

mod codes;
mod tls;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Parser;

use self::tls::TlsFlags;
use super::StartError;
use crate::{Announce, AuthMode, Edition, IdOutside, Options, Polls};

/// Simulates Huawei CC-Gateways: their agent interface over HTTPS, one gateway per tenant.
///
/// Without options, any agent id from 1 to 59999 can sign in with the password "secret". What is
/// going on can be seen and disturbed on the control endpoint: GET / there lists how.
#[derive(Debug, Parser)]
#[command(name = "ccgateway-sim", version = env!("CCGATEWAY_SIM_VERSION"))]
// Independent switches of a command line.
#[expect(clippy::struct_excessive_bools)]
pub(super) struct Flags {
    /// A tenant; may be given several times, each gets a gateway of its own
    #[arg(long = "tenant", value_name = "NAME", default_value = "demo")]
    tenants: Vec<String>,
    /// Where the first gateway listens; the others take the ports after it
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8043")]
    listen: SocketAddr,
    /// Where the control endpoint listens, plain HTTP
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub(super) control: SocketAddr,
    /// Write the certificates that a client has to trust, as one PEM file
    #[arg(long, value_name = "PATH")]
    pub(super) write_ca: Option<PathBuf>,

    #[command(flatten)]
    pub(super) tls: TlsFlags,

    /// The password of agents without one of their own
    #[arg(long, default_value = "secret", help_heading = "Agents")]
    password: String,
    /// An agent with a password of its own; may be given several times
    #[arg(long = "agent", value_name = "ID=PASSWORD", help_heading = "Agents")]
    agents: Vec<String>,
    /// There are no agents but those of --agent
    #[arg(long, help_heading = "Agents")]
    only_listed_agents: bool,
    /// Which edition of the interface the gateways have
    #[arg(long, value_enum, default_value = "2023-09", help_heading = "Agents")]
    edition: Edition,
    /// A skill queue of every agent; may be given several times
    #[arg(long = "skill", value_name = "ID", default_values_t = [1], help_heading = "Agents")]
    skills: Vec<u32>,
    /// After a sign-in agents have no skills, and so no calls, until they are reset
    #[arg(long, help_heading = "Agents")]
    skills_need_reset: bool,
    /// An agent who may act on others as an inspector; may be given several times. Without any,
    /// everybody may
    #[arg(long = "inspector", value_name = "ID", help_heading = "Agents")]
    inspectors: Vec<u32>,
    /// What an agent id outside the range gets: HTTP 404 or retcode 000-002
    #[arg(long, value_enum, default_value = "not-found", help_heading = "Agents")]
    id_outside: IdOutside,

    /// Whether Guids change during a session
    #[arg(long, value_enum, default_value = "dynamic", help_heading = "Guids")]
    auth_mode: AuthMode,
    /// Time between two Guids of a session
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = time, help_heading = "Guids")]
    guid_interval: Duration,
    /// How long a Guid lives
    #[arg(long, value_name = "TIME", default_value = "120s", value_parser = time, help_heading = "Guids")]
    guid_timeout: Duration,
    /// A replaced Guid dies at once instead of at the end of its life
    #[arg(long, help_heading = "Guids")]
    old_guid_dies: bool,
    /// On how many polls a new Guid is sent
    #[arg(long, value_enum, default_value = "once", help_heading = "Guids")]
    announce: Announce,
    /// Updating a Guid also sends the Set-GUID header
    #[arg(long, help_heading = "Guids")]
    update_guid_sends_header: bool,
    /// Nodes of the cluster, which Guids name
    #[arg(long, default_value_t = 1, help_heading = "Guids")]
    nodes: u8,
    /// Set a balancer's cookie at sign-in
    #[arg(long, help_heading = "Guids")]
    balancer_cookie: bool,

    /// Run the gateway's clock this much faster than real time
    #[arg(long, value_name = "FACTOR", default_value_t = 1, help_heading = "Time")]
    time_scale: u32,
    /// Real time that every answer takes
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = time, help_heading = "Time")]
    latency: Duration,
    /// How long a poll waits for an event
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time, help_heading = "Time")]
    poll_wait: Duration,
    /// Sign out agents who show no sign of life for so long, by polls or heartbeats; 0s: never
    #[arg(long, value_name = "TIME", default_value = "120s", value_parser = time, help_heading = "Time")]
    idle_sign_out: Duration,

    /// Which kind of poll is switched on
    #[arg(long, value_enum, default_value = "agent", help_heading = "Rules")]
    polls: Polls,
    /// Refuse forcible sign-ins, and sign-ins of signed-in agents with 100-015
    #[arg(long, help_heading = "Rules")]
    no_force_sign_in: bool,
    /// Only record calls that overlap, instead of refusing them too
    #[arg(long, help_heading = "Rules")]
    allow_overlaps: bool,
    /// Events survive a forcible sign-in
    #[arg(long, help_heading = "Rules")]
    keep_events: bool,
    /// A forcible sign-in does not tell the previous session's poll of it
    #[arg(long, help_heading = "Rules")]
    no_take_over_event: bool,
    /// An agent's own sign-out brings the event that tells of sign-outs by others
    #[arg(long, help_heading = "Rules")]
    own_sign_out_event: bool,
    /// Sayfree ends rest
    #[arg(long, help_heading = "Rules")]
    say_free_ends_rest: bool,
    /// Rest waits for the end of a call or of after-call work, as busy does
    #[arg(long, help_heading = "Rules")]
    rest_waits: bool,
    /// Busy waits for the end of a rest
    #[arg(long, help_heading = "Rules")]
    busy_waits_for_rest: bool,
    /// Cancelwork and cancelrest drop the busy or rest that waits
    #[arg(long, help_heading = "Rules")]
    cancel_drops_pending: bool,
    /// True in a path counts as true
    #[arg(long, help_heading = "Rules")]
    any_case_true: bool,
    /// Events say when they happened, as in the newest texts
    #[arg(long, help_heading = "Rules")]
    event_gen_time: bool,
    /// Events kept for an agent who does not poll
    #[arg(long, value_name = "COUNT", default_value_t = 1000, help_heading = "Rules")]
    event_queue: usize,
    /// The Content-Type of answers
    #[arg(long, default_value = "application/json;charset=UTF-8", help_heading = "Rules")]
    content_type: String,
    /// Answer another retcode where the documentation leaves it open; may be given several times.
    /// CASE: guid-missing, guid-unknown, guid-expired, guid-taken-over, guid-foreign,
    /// not-signed-in, agent-unknown, busy-again, state-refused, free-while-idle (also 0: accepted),
    /// no-inspector, target-absent, target-state, sign-out-while-talking, repeated-call,
    /// repeated-sign-in
    #[arg(long = "code", value_name = "CASE=RETCODE", help_heading = "Rules")]
    codes: Vec<String>,
    /// Requests kept in the journal
    #[arg(long, value_name = "COUNT", default_value_t = 100_000, help_heading = "Rules")]
    journal: usize,
}

const NAME: &str = "write letters, digits, '-', '_' and '.', with a letter or digit in front";

// === impl Flags ===

impl Flags {
    /// The tenants' names, checked.
    pub(super) fn tenants(&self) -> Result<Vec<String>, StartError> {
        let mut seen: Vec<String> = Vec::new();
        for name in &self.tenants {
            if !is_name(name) {
                return Err(wrong("--tenant", name, NAME));
            }
            if name == "tenants" || seen.contains(name) {
                return Err(wrong("--tenant", name, "the name is taken"));
            }
            seen.push(name.clone());
        }
        Ok(seen)
    }

    /// The options of the tenant at `index`.
    pub(super) fn options(&self, index: usize) -> Result<Options, StartError> {
        let idle = self.idle_sign_out;
        Ok(Options {
            listen: self.address(index)?,
            auth_mode: self.auth_mode,
            time_scale: self.time_scale,
            nodes: self.nodes,
            default_password: (!self.only_listed_agents).then(|| self.password.clone()),
            agents: self.agents.iter().map(|text| agent(text)).collect::<Result<_, _>>()?,
            skills: self.skills.clone(),
            skills_need_reset: self.skills_need_reset,
            inspectors: self.inspectors.clone(),
            tls: Some(self.tls.identity()?),
            client_ca: self.tls.client_ca()?,
            plaintext: self.tls.plain_http,
            id_outside: self.id_outside,
            guid_interval: self.guid_interval,
            guid_timeout: self.guid_timeout,
            old_guid_lives: !self.old_guid_dies,
            announce: self.announce,
            update_guid_sends_header: self.update_guid_sends_header,
            idle_sign_out: Some(idle).filter(|idle| !idle.is_zero()),
            polls: self.polls,
            poll_wait: self.poll_wait,
            force_sign_in: !self.no_force_sign_in,
            refuse_repeated: !self.allow_overlaps,
            keep_events: self.keep_events,
            take_over_event: !self.no_take_over_event,
            own_sign_out_event: self.own_sign_out_event,
            say_free_ends_rest: self.say_free_ends_rest,
            rest_waits: self.rest_waits,
            busy_waits_for_rest: self.busy_waits_for_rest,
            cancel_drops_pending: self.cancel_drops_pending,
            any_case_true: self.any_case_true,
            event_gen_time: self.event_gen_time,
            event_queue: self.event_queue,
            latency: self.latency,
            balancer_cookie: self.balancer_cookie,
            content_type: self.content_type.clone(),
            codes: codes::read(&self.codes)?,
            journal: self.journal,
            ..Options::default().of(self.edition)
        })
    }

    fn address(&self, index: usize) -> Result<SocketAddr, StartError> {
        let mut addr = self.listen;
        if addr.port() != 0 {
            let port =
                u16::try_from(index)
                    .ok()
                    .and_then(|index| addr.port().checked_add(index))
                    .ok_or_else(|| wrong("--listen", addr, "there are more tenants than ports"))?;
            addr.set_port(port);
        }
        Ok(addr)
    }
}

/// Whether the control endpoint's paths can have it as they are.
fn is_name(text: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.bytes().all(known)
}

fn agent(text: &str) -> Result<(u32, String), StartError> {
    let pair = text.split_once('=');
    let agent = pair.and_then(|(id, password)| Some((id.parse().ok()?, password.to_owned())));
    // The text is not repeated: it may hold a password.
    agent.ok_or_else(|| StartError::Flag {
        flag: "--agent".into(),
        error: "write ID=PASSWORD, such as 1001=secret".into(),
    })
}

fn time(text: &str) -> Result<Duration, humantime::DurationError> {
    humantime::parse_duration(text)
}

fn wrong(
    flag: &str,
    value: impl std::fmt::Display,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> StartError {
    StartError::Flag { flag: format!("{flag} {value}"), error: error.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_the_library() {
        let flags = Flags::parse_from(["ccgateway-sim"]);
        let mut options = flags.options(0).unwrap();
        let expected = Options { listen: options.listen, ..Options::default() };
        options.tls = None;
        assert_eq!(format!("{options:?}"), format!("{expected:?}"));
        assert_eq!(flags.options(2).unwrap().listen.port(), 8045);
    }

    #[test]
    fn mistakes_name_their_flag() {
        for (args, expected) in [
            (["--code", "nothing=1"], "--code nothing=1: there is no such case"),
            (["--agent", "secret"], "--agent: write ID=PASSWORD"),
            (["--client-ca=/nowhere", "--nodes=1"], "--client-ca /nowhere: "),
            (["--client-ca=/dev/null", "--nodes=1"], "--client-ca /dev/null: "),
            (["--tls-cert=/nowhere", "--tls-key=/nowhere"], "--tls-cert /nowhere: "),
        ] {
            let flags = Flags::parse_from(["ccgateway-sim"].iter().chain(&args));
            let error = flags.options(0).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn tenants_have_names_of_their_own_that_fit_into_a_path() {
        let tenants = |names: &[&str]| {
            let flags = names.iter().map(|name| format!("--tenant={name}"));
            Flags::parse_from(["ccgateway-sim".to_owned()].into_iter().chain(flags)).tenants()
        };
        assert_eq!(tenants(&["acme", "b-2_x.y"]).unwrap(), ["acme", "b-2_x.y"]);
        for mistake in ["", "a/b", "a?", "a b", "..", "-a", "ä", "tenants"] {
            let error = tenants(&["acme", mistake]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("--tenant {mistake}: ")), "{error}");
        }
        assert!(tenants(&["a", "a"]).is_err());
    }
}
