//! Checks requests field by field, so that the caller learns of every mistake at once.

use std::{collections::HashSet, sync::Arc, time::Duration};

use super::{
    about::{Addressed, visible},
    proto::{AgentType, RegisterSessionRequest, SetBusyRequest, SetRestingRequest, SignInRequest},
};
use crate::{
    call::{CallError, FieldViolation, Obstacle},
    config::Credential,
    event::Agents,
    gateway::{Command, InitialState, SignIn, rest, say_busy},
    id::{AgentId, RequestId},
    session::Guid,
    tenant::Tenant,
};

/// The tenant and agent of a call.
pub(super) struct Subject<'a> {
    pub(super) tenant: &'a Arc<Tenant>,
    pub(super) agent: AgentId,
}

/// Collects the mistakes of a request.
#[derive(Default)]
pub(super) struct Checker(Vec<FieldViolation>);

/// Reasons whose meaning the caller defines (cec_07_1211).
const REASONS: std::ops::RangeInclusive<i32> = 200..=250;
/// Limits of a rest (cec_07_1213).
const REST_SECONDS: std::ops::RangeInclusive<u32> = 1..=86_399;
const REST_REASONS: std::ops::RangeInclusive<i32> = 0..=255;
/// The most agents in a batch: a supervisor's team, not a whole call centre.
pub(super) const BATCH_MAX: usize = 500;
const CONFIRM_WITHIN: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(600);
/// The most agents that one stream may name. A caller with more can watch all agents.
const WATCHED_MAX: usize = 1000;
const TTL_MIN: Duration = Duration::from_secs(1);
const TTL_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Longest fields of a sign-in, in characters (cec_07_1202).
const PASSWORD_MAX: usize = 32;
const PHONE_NUMBER_MAX: usize = 24;

// === impl Checker ===

impl Checker {
    /// Notes a mistake in a field.
    pub(super) fn note(&mut self, field: &'static str, description: impl Into<String>) {
        self.0.push(FieldViolation { field, description: description.into() });
    }

    /// Ends the check. A check that returned `None` has noted why.
    pub(super) fn done<T>(self, checked: Option<T>) -> Result<T, CallError> {
        match checked {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(CallError::unasked(Obstacle::Invalid(self.0))),
        }
    }

    /// The tenant that was found for the `id` of a request. `None` if a mistake was noted.
    pub(super) fn tenant<'a>(
        &mut self,
        found: Option<&'a Arc<Tenant>>,
        id: &str,
    ) -> Result<Option<&'a Arc<Tenant>>, CallError> {
        match (found, id) {
            (Some(tenant), _) => Ok(Some(tenant)),
            (None, "") => {
                self.note(
                    "tenant_id",
                    "is missing; it is required if several tenants are configured",
                );
                Ok(None)
            }
            (None, _) => Err(CallError::unasked(Obstacle::TenantUnknown)),
        }
    }

    /// The tenant and the agent. `None` if a mistake was noted. An unknown tenant ends the check at
    /// once, since the range of agent ids depends on the tenant.
    pub(super) fn subject<'a>(
        &mut self,
        found: Option<&'a Arc<Tenant>>,
        request: &impl Addressed,
    ) -> Result<Option<Subject<'a>>, CallError> {
        let tenant = self.tenant(found, request.tenant_id())?;
        let agent = self.agent("agent_id", tenant, request.agent_id());
        Ok(tenant.zip(agent).map(|(tenant, agent)| Subject { tenant, agent }))
    }

    /// The agent with this id; `None` if a mistake was noted.
    pub(super) fn agent(
        &mut self,
        field: &'static str,
        tenant: Option<&Arc<Tenant>>,
        id: &str,
    ) -> Option<AgentId> {
        let any = 1..=u32::MAX;
        let range = tenant.map_or(&any, |tenant| &tenant.config().agent_ids);
        AgentId::parse(id, range).map_err(|invalid| self.note(field, invalid.to_string())).ok()
    }

    /// The agents to watch: those that are named, or all.
    pub(super) fn agents(
        &mut self,
        tenant: Option<&Arc<Tenant>>,
        ids: &[String],
    ) -> Option<Agents> {
        if ids.is_empty() {
            return Some(Agents::All);
        }
        if ids.len() > WATCHED_MAX {
            self.note(
                "agent_ids",
                format!("must be {WATCHED_MAX} at most; leave it empty to watch all agents"),
            );
            return None;
        }
        ids.iter()
            .map(|id| self.agent("agent_ids", tenant, id))
            .collect::<Option<_>>()
            .map(Agents::These)
    }

    /// The id of a change, for which its caller wants it made once. `None`: it has none, or a mistake was noted.
    pub(super) fn request_id(&mut self, id: &str) -> Option<RequestId> {
        if id.is_empty() {
            return None;
        }
        RequestId::parse(id).map_err(|invalid| self.note("request_id", invalid.to_string())).ok()
    }

    /// How long to wait for an event that confirms a change.
    pub(super) fn confirm_within(
        &mut self,
        within: Option<prost_types::Duration>,
    ) -> Option<Duration> {
        let within = Duration::try_from(within?).ok();
        let within = within.filter(|within| CONFIRM_WITHIN.contains(within));
        if within.is_none() {
            self.note("confirm_within", "must be from 1 ms to 10 min (600 s)");
        }
        within
    }

    /// Checks the list of a batch. Each id in it is checked later, by itself.
    pub(super) fn batch(&mut self, ids: &[String]) {
        let mut seen = HashSet::new();
        if ids.is_empty() || ids.len() > BATCH_MAX {
            self.note("agent_ids", format!("must be 1 to {BATCH_MAX} agents"));
        } else if let Some(twice) = ids.iter().find(|id| !seen.insert(*id)) {
            self.note("agent_ids", format!("contains {} twice", visible(twice, 16)));
        }
    }

    /// Checks a whole `SetBusy`.
    pub(super) fn say_busy(&mut self, request: &SetBusyRequest) -> Command {
        self.busy(request.reason, request.prolong)
    }

    /// Checks the reason for which an agent is to be busy.
    pub(super) fn busy(&mut self, reason: Option<i32>, prolong: Option<bool>) -> Command {
        match reason {
            Some(reason) if reason != 0 && !REASONS.contains(&reason) => {
                self.note("reason", "must be from 200 to 250, or 0 for none");
            }
            // The gateway needs both if the agent is busy already (cec_07_1211).
            None if prolong == Some(true) => {
                self.note("reason", "is missing: prolong replaces the reason of a busy agent");
            }
            _ => {}
        }
        say_busy(reason, prolong)
    }

    /// Checks a whole `SetResting`.
    pub(super) fn rest(&mut self, request: &SetRestingRequest) -> Command {
        let whole = request.duration.filter(|time| time.nanos == 0).map(|time| time.seconds);
        let seconds = whole.and_then(|seconds| u32::try_from(seconds).ok());
        let seconds = seconds.filter(|seconds| REST_SECONDS.contains(seconds));
        if seconds.is_none() {
            self.note("duration", "must be from 1 s to 86399 s, in whole seconds");
        }
        if !REST_REASONS.contains(&request.reason) {
            self.note("reason", "must be from 1 to 255, or 0 for none");
        }
        rest(seconds.unwrap_or_default(), request.reason, request.prolong)
    }

    /// The Guid and its lifetime in a `RegisterSession`. `None` if a mistake was noted.
    pub(super) fn registration(
        &mut self,
        request: &RegisterSessionRequest,
        has_guids: bool,
    ) -> Option<(Guid, Option<Duration>)> {
        let guid = if has_guids {
            Guid::parse(&request.guid).map_err(|e| self.note("guid", e.to_string())).ok()
        } else {
            self.no_guid(&request.guid)
        };
        let ttl = request.ttl.map(|ttl| {
            let ttl = Duration::try_from(ttl).ok();
            ttl.filter(|ttl| (TTL_MIN..=TTL_MAX).contains(ttl))
        });
        if ttl == Some(None) {
            self.note("ttl", "must be from 1 s to 24 h (86400 s)");
        }
        guid.map(|guid| (guid, ttl.flatten()))
    }

    /// The Guid of a gateway that has none.
    fn no_guid(&mut self, guid: &str) -> Option<Guid> {
        if guid.is_empty() {
            return Some(Guid::absent());
        }
        self.note(
            "guid",
            "must be left out: the tenant's gateway has no Guids (auth_mode = \"none\")",
        );
        None
    }

    /// The sign-in that a `SignIn` asks for. `configured` supplies what the request leaves out.
    /// `None` if there is no password.
    pub(super) fn sign_in(
        &mut self,
        request: &SignInRequest,
        configured: Option<&Credential>,
    ) -> Option<SignIn> {
        self.text("password", request.password.as_deref(), PASSWORD_MAX);
        self.text("phone_number", request.phone_number.as_deref(), PHONE_NUMBER_MAX);
        let agent_type = self.agent_type(request.agent_type);
        if request.ip.as_deref().is_some_and(|ip| ip.parse::<std::net::Ipv4Addr>().is_err()) {
            self.note("ip", "must be an IPv4 address such as 10.0.0.7");
        }
        let initial_state = self.initial_state(request);

        let password = || configured.map(|known| known.password.clone());
        let phone_number = configured.map(|known| &known.phone_number);
        Some(SignIn {
            password: request.password.as_deref().map(Into::into).or_else(password)?,
            phone_number: request
                .phone_number
                .as_ref()
                .or(phone_number)
                .cloned()
                .unwrap_or_default(),
            auto_answer: request.auto_answer,
            auto_enter_idle: request.auto_enter_idle,
            release_phone: request.release_phone,
            agent_type,
            initial_state,
            ip: request.ip.clone(),
            check_in_web_media: request.check_in_web_media,
            check_in_mail_media: request.check_in_mail_media,
            force: request.force,
        })
    }

    fn initial_state(&mut self, request: &SignInRequest) -> Option<InitialState> {
        use super::proto::sign_in_request::InitialState as Wire;
        match request.initial_state() {
            Wire::Busy => Some(InitialState::Busy),
            Wire::Idle => Some(InitialState::Idle),
            Wire::AfterCallWork => Some(InitialState::AfterCallWork),
            Wire::Unspecified if request.initial_state == 0 => None,
            Wire::Unspecified => {
                self.note("initial_state", "must be a state of SignInRequest.InitialState");
                None
            }
        }
    }

    /// The number is the same in the contract and at the gateway.
    fn agent_type(&mut self, number: i32) -> Option<i32> {
        match AgentType::try_from(number) {
            Ok(AgentType::Unspecified) => None,
            Ok(AgentType::Phone | AgentType::VideoPhone) => Some(number),
            Err(_) => {
                self.note("agent_type", "must be an AgentType");
                None
            }
        }
    }

    fn text(&mut self, field: &'static str, value: Option<&str>, max: usize) {
        if value.is_some_and(|value| value.chars().count() > max) {
            self.note(field, format!("must have {max} characters at most"));
        }
    }
}
