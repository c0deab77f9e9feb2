//! The command line.

mod codes;
mod tls;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Parser;

use self::tls::TlsFlags;
use super::StartError;
use crate::{AgentStatus, Announce, AuthMode, Edition, IdOutside, Options, Polls, PushForm};

/// Simulates Huawei CC-Gateways: their agent interface over HTTPS, one gateway per tenant.
///
/// Without options, any agent id from 1 to 59999 can sign in with the password "secret". The control
/// endpoint shows what is happening and can make a gateway fail: GET / on it lists all requests.
#[derive(Debug, Parser)]
#[command(name = "ccgateway-sim", version = env!("CCGATEWAY_SIM_VERSION"))]
// Independent switches of a command line.
#[expect(clippy::struct_excessive_bools)]
pub(super) struct Flags {
    /// A tenant; may be given several times, and each gets its own gateway
    #[arg(long = "tenant", value_name = "NAME", default_value = "demo")]
    tenants: Vec<String>,
    /// The address of the first gateway; the others take the next ports
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8043")]
    listen: SocketAddr,
    /// The address of the control endpoint, plain HTTP
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub(super) control: SocketAddr,
    /// Write the certificates that a client has to trust, as one PEM file
    #[arg(long, value_name = "PATH")]
    pub(super) write_ca: Option<PathBuf>,

    #[command(flatten)]
    pub(super) tls: TlsFlags,

    /// The password of agents that are not given by --agent
    #[arg(long, default_value = "secret", help_heading = "Agents")]
    password: String,
    /// An agent with its own password; may be given several times
    #[arg(long = "agent", value_name = "ID=PASSWORD", help_heading = "Agents")]
    agents: Vec<String>,
    /// Have no agents but those given by --agent
    #[arg(long, help_heading = "Agents")]
    only_listed_agents: bool,
    /// The edition of the gateways' interface
    #[arg(long, value_enum, default_value = "2023-09", help_heading = "Agents")]
    edition: Edition,
    /// The answer to a rest whose time or cause is outside its range
    #[arg(long, value_enum, default_value = "refused", help_heading = "Agents")]
    rest_outside: IdOutside,
    /// A reason for a rest that all agents may give; may be given several times
    #[arg(long = "rest-reason", value_name = "NUMBER", default_values_t = [1], help_heading = "Agents")]
    rest_reasons: Vec<u8>,
    /// Whether there is an interface agentstatus, and the answer if there is none; by default as the
    /// edition has it
    #[arg(long, value_enum, help_heading = "Agents")]
    agent_status: Option<AgentStatus>,
    /// A skill queue of every agent; may be given several times
    #[arg(long = "skill", value_name = "ID", default_values_t = [1], help_heading = "Agents")]
    skills: Vec<u32>,
    /// After a sign-in an agent has no skills, and so gets no calls, until its skills are reset
    #[arg(long, help_heading = "Agents")]
    skills_need_reset: bool,
    /// An agent that may act on others as an inspector; may be given several times. If none is given,
    /// all agents may
    #[arg(long = "inspector", value_name = "ID", help_heading = "Agents")]
    inspectors: Vec<u32>,
    /// The answer to an agent id outside the range: HTTP 404 or retcode 000-002
    #[arg(long, value_enum, default_value = "not-found", help_heading = "Agents")]
    id_outside: IdOutside,

    /// Whether Guids change during a session
    #[arg(long, value_enum, default_value = "dynamic", help_heading = "Guids")]
    auth_mode: AuthMode,
    /// Time between two Guids of a session
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = time, help_heading = "Guids")]
    guid_interval: Duration,
    /// How long a Guid is valid
    #[arg(long, value_name = "TIME", default_value = "120s", value_parser = time, help_heading = "Guids")]
    guid_timeout: Duration,
    /// A replaced Guid is refused at once instead of after its timeout
    #[arg(long, help_heading = "Guids")]
    old_guid_dies: bool,
    /// How often a new Guid is sent
    #[arg(long, value_enum, default_value = "once", help_heading = "Guids")]
    announce: Announce,
    /// The answer of updateGuid also has the Set-GUID header
    #[arg(long, help_heading = "Guids")]
    update_guid_sends_header: bool,
    /// How many nodes the cluster has; Guids name their node
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
    /// Sign out agents that have sent no poll or heartbeat for this long; 0s: never
    #[arg(long, value_name = "TIME", default_value = "120s", value_parser = time, help_heading = "Time")]
    idle_sign_out: Duration,

    /// Which kind of poll is switched on
    #[arg(long, value_enum, default_value = "agent", help_heading = "Rules")]
    polls: Polls,
    /// The body of an event that is sent to a pushUrl
    #[arg(long, value_enum, default_value = "poll", help_heading = "Rules")]
    push_form: PushForm,
    /// Refuse forcible sign-ins, and sign-ins of signed-in agents with 100-015
    #[arg(long, help_heading = "Rules")]
    no_force_sign_in: bool,
    /// Only record overlapping calls, and do not refuse them
    #[arg(long, help_heading = "Rules")]
    allow_overlaps: bool,
    /// Refuse an overlapping call before its Guid is looked at
    #[arg(long, help_heading = "Rules")]
    repeats_before_guid: bool,
    /// Events survive a forcible sign-in
    #[arg(long, help_heading = "Rules")]
    keep_events: bool,
    /// A forcible sign-in sends no event to the previous session's poll
    #[arg(long, help_heading = "Rules")]
    no_take_over_event: bool,
    /// An agent's own sign-out causes the same event as a sign-out by others
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
    /// Cancelwork and cancelrest drop a waiting busy or rest request
    #[arg(long, help_heading = "Rules")]
    cancel_drops_pending: bool,
    /// True in a path counts as true
    #[arg(long, help_heading = "Rules")]
    any_case_true: bool,
    /// Events have their time, as in the newest documentation
    #[arg(long, help_heading = "Rules")]
    event_gen_time: bool,
    /// A call causes its whole sequence of events, with contents
    #[arg(long, help_heading = "Rules")]
    call_events: bool,
    /// Inspectors are told of the agents whom they monitor
    #[arg(long, help_heading = "Rules")]
    monitor_events: bool,
    /// The most events that wait for an agent's poll
    #[arg(long, value_name = "COUNT", default_value_t = 1000, help_heading = "Rules")]
    event_queue: usize,
    /// The Content-Type of answers
    #[arg(long, default_value = "application/json", help_heading = "Rules")]
    content_type: String,
    /// Send a header JSON-Type with this value, as some versions do beside another Content-Type
    #[arg(long, value_name = "TYPE", help_heading = "Rules")]
    json_type: Option<String>,
    /// A retcode for a case that the documentation leaves open; may be given several times.
    /// CASE: guid-missing, guid-unknown, guid-expired, guid-taken-over, guid-foreign,
    /// not-signed-in, agent-unknown, busy-again, state-refused, free-while-idle (also 0: accepted),
    /// no-inspector, target-absent, target-state, target-unknown, sign-out-while-talking,
    /// repeated-call, repeated-sign-in, no-interface
    #[arg(long = "code", value_name = "CASE=RETCODE", help_heading = "Rules")]
    codes: Vec<String>,
    /// The most requests in the journal
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
        let edition = Options::default().of(self.edition);
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
            rest_outside: self.rest_outside,
            rest_reasons: self.rest_reasons.clone(),
            guid_interval: self.guid_interval,
            guid_timeout: self.guid_timeout,
            old_guid_lives: !self.old_guid_dies,
            announce: self.announce,
            update_guid_sends_header: self.update_guid_sends_header,
            idle_sign_out: Some(idle).filter(|idle| !idle.is_zero()),
            polls: self.polls,
            push_form: self.push_form,
            push_ca: self.tls.push_ca()?,
            poll_wait: self.poll_wait,
            force_sign_in: !self.no_force_sign_in,
            refuse_repeated: !self.allow_overlaps,
            repeats_before_guid: self.repeats_before_guid,
            keep_events: self.keep_events,
            take_over_event: !self.no_take_over_event,
            own_sign_out_event: self.own_sign_out_event,
            say_free_ends_rest: self.say_free_ends_rest,
            rest_waits: self.rest_waits,
            busy_waits_for_rest: self.busy_waits_for_rest,
            cancel_drops_pending: self.cancel_drops_pending,
            any_case_true: self.any_case_true,
            event_gen_time: self.event_gen_time,
            call_events: self.call_events,
            monitor_events: self.monitor_events,
            event_queue: self.event_queue,
            latency: self.latency,
            balancer_cookie: self.balancer_cookie,
            content_type: self.content_type.clone(),
            json_type: self.json_type.clone(),
            codes: codes::read(&self.codes)?,
            journal: self.journal,
            agent_status: self.agent_status.unwrap_or(edition.agent_status),
            ..edition
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

/// Whether a name can be used in the control endpoint's paths without escaping.
fn is_name(text: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.bytes().all(known)
}

fn agent(text: &str) -> Result<(u32, String), StartError> {
    let pair = text.split_once('=');
    let agent = pair.and_then(|(id, password)| Some((id.parse().ok()?, password.to_owned())));
    // The error does not quote the text, since it may contain a password.
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
    fn defaults_are_the_same_as_the_librarys() {
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
            (["--push-ca=/dev/null", "--nodes=1"], "--push-ca /dev/null: "),
            (["--tls-cert=/nowhere", "--tls-key=/nowhere"], "--tls-cert /nowhere: "),
        ] {
            let flags = Flags::parse_from(["ccgateway-sim"].iter().chain(&args));
            let error = flags.options(0).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn tenants_have_different_names_that_fit_into_a_path() {
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
