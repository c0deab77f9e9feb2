//! The gateway's interfaces that the bridge uses, with one description each.

use std::time::Duration;

use http::Method;

use crate::{
    config::{Edition, Timeouts},
    state::AgentState,
};

/// One interface of the gateway.
#[derive(Debug)]
pub struct Interface {
    /// The name of the interface's method in the gateway's own logs.
    pub log_name: &'static str,
    /// The HTTP method.
    pub method: Method,
    /// The path segment before the agent's id.
    pub family: &'static str,
    /// Whether the path has the agent's id.
    pub names_agent: bool,
    /// The path after the agent's id, or after the family.
    pub tail: &'static str,
    /// Which time limit applies to the answer.
    pub timeout_class: TimeoutClass,
    /// The first edition of the gateway that has the interface.
    pub since: Edition,
    /// How a change of the agent's state shows. `None` if the interface makes no such change.
    pub effect: Option<Effect>,
}

/// Which configured time limit applies to the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeoutClass {
    /// `timeouts.request`.
    Request,
    /// `timeouts.sign_in`.
    SignIn,
    /// `timeouts.poll`.
    Poll,
}

/// How a change of an agent's state shows. The answer says only that the request was accepted
/// (cec_07_13482).
#[derive(Clone, Copy, Debug)]
pub struct Effect {
    /// The event types that confirm the change. Each of them is enough.
    pub events: &'static [&'static str],
    /// What the agent does after the change.
    pub leads_to: AgentState,
    /// Whether an agent can be in this state after the change. If the agent is in another state, it
    /// has changed again, or the event was an older one.
    pub fits: fn(AgentState) -> bool,
    /// Whether the gateway delays the change until this state ends, instead of refusing it.
    pub waits_out: fn(AgentState) -> bool,
}

/// Signs an agent in (cec_07_1202).
pub static SIGN_IN: Interface = signs_in("login", "");
/// Signs an agent in who is signed in elsewhere (cec_07_1203).
pub static FORCE_SIGN_IN: Interface = signs_in("forceLogin", "/forcelogin");
/// Signs an agent out. The agent must not be talking (cec_07_1219).
pub static SIGN_OUT: Interface = plain("logout", Method::DELETE, "/logout");
/// Signs an agent out and releases the call (cec_07_1220).
pub static FORCE_SIGN_OUT: Interface = plain("forceLogout", Method::DELETE, "/forcelogout");
/// Renews the Guid (cec_07_1225).
pub static UPDATE_GUID: Interface = plain("updateGuid", Method::PUT, "/updateGuid");
/// Resets the agent's skill queues to those that are configured (cec_07_1209).
pub static RESET_SKILL: Interface = plain("resetSkill", Method::POST, "/resetskill");
/// Asks for the agent's state (cec_07_1222). The vendor's library of 2014 does not know it
/// (client).
pub static AGENT_STATUS: Interface = Interface {
    log_name: "getAgentStatus",
    method: Method::GET,
    family: ONLINE_AGENT,
    names_agent: true,
    tail: "/agentstatus",
    timeout_class: TimeoutClass::Request,
    since: Edition::V2023,
    effect: None,
};

/// Fetches the agent's next event, which also keeps the session alive (cec_07_1274).
pub static POLL: Interface = Interface {
    log_name: "getAgentEvent",
    method: Method::GET,
    family: AGENT_EVENT,
    names_agent: true,
    tail: "",
    timeout_class: TimeoutClass::Poll,
    since: FIRST,
    effect: None,
};

/// Fetches the next events of all agents of a node, and keeps their sessions alive, with the Guid of any of them, where the
/// gateway is configured so (client). Its name in the gateway's logs is not known.
pub static POLL_ALL: Interface = Interface {
    log_name: "getAllAgentEvent",
    method: Method::GET,
    family: AGENT_EVENT,
    names_agent: false,
    tail: "/allagentevent",
    timeout_class: TimeoutClass::Poll,
    since: FIRST,
    effect: None,
};

/// Makes an agent busy (cec_07_1211).
pub static SAY_BUSY: Interface = changes(
    "sayBusy",
    "/saybusy",
    Effect {
        events: &["AgentState_SetNotReady_Success"],
        leads_to: AgentState::Busy,
        fits: |state| state == AgentState::Busy,
        waits_out: call_or_work,
    },
);

/// Ends the busy state (cec_07_1212).
pub static CANCEL_BUSY: Interface = changes(
    "cancelBusy",
    "/cancelbusy",
    Effect {
        events: &["AgentState_CancelNotReady_Success"],
        leads_to: AgentState::Idle,
        fits: |state| state != AgentState::Busy,
        waits_out: |_| false,
    },
);
/// Makes an agent idle, from busy or after-call work (cec_07_1210). It is not documented whether
/// this ends a rest. If it does, the event is that of the end of a rest.
pub static SAY_FREE: Interface = changes(
    "sayFree",
    "/sayfree",
    Effect {
        events: &[
            "AgentState_CancelNotReady_Success",
            "AgentState_CancelWork_Success",
            "AgentState_CancelRest_Success",
        ],
        leads_to: AgentState::Idle,
        fits: |state| !matches!(state, AgentState::Busy | AgentState::AfterCallWork),
        waits_out: |state| state == AgentState::Talking,
    },
);
/// Puts an agent into after-call work (cec_07_1215).
pub static WORK: Interface = changes(
    "sayWork",
    "/work",
    Effect {
        events: &["AgentState_SetWork_Success"],
        leads_to: AgentState::AfterCallWork,
        fits: |state| state == AgentState::AfterCallWork,
        waits_out: |_| false,
    },
);
/// Ends after-call work (cec_07_1216).
pub static CANCEL_WORK: Interface = changes(
    "cancelWork",
    "/cancelwork",
    Effect {
        events: &["AgentState_CancelWork_Success"],
        leads_to: AgentState::Idle,
        fits: |state| state != AgentState::AfterCallWork,
        waits_out: |_| false,
    },
);
/// Puts an agent into rest (cec_07_1213).
pub static REST: Interface = changes(
    "rest",
    "/rest",
    Effect {
        events: &["AgentState_SetRest_Success"],
        leads_to: AgentState::Resting,
        fits: |state| state == AgentState::Resting,
        // The state "pre-rest" exists for this. Its rules are not documented.
        waits_out: call_or_work,
    },
);
/// Ends a rest (cec_07_1214).
pub static CANCEL_REST: Interface = changes(
    "cancelRest",
    "/cancelrest",
    Effect {
        events: &["AgentState_CancelRest_Success"],
        leads_to: AgentState::Idle,
        fits: |state| state != AgentState::Resting,
        waits_out: |_| false,
    },
);

/// All interfaces.
pub static INTERFACES: [&Interface; 16] = [
    &SIGN_IN,
    &FORCE_SIGN_IN,
    &SIGN_OUT,
    &FORCE_SIGN_OUT,
    &UPDATE_GUID,
    &RESET_SKILL,
    &AGENT_STATUS,
    &POLL,
    &POLL_ALL,
    &SAY_BUSY,
    &CANCEL_BUSY,
    &SAY_FREE,
    &WORK,
    &CANCEL_WORK,
    &REST,
    &CANCEL_REST,
];

/// The states that "say busy" waits for (client).
fn call_or_work(state: AgentState) -> bool {
    matches!(state, AgentState::Talking | AgentState::AfterCallWork)
}

const ONLINE_AGENT: &str = "onlineagent";
const AGENT_EVENT: &str = "agentevent";
const FIRST: Edition = Edition::V2014;

/// The longest body of an answer about one agent.
pub(super) const BODY_LIMIT: usize = 64 * 1024;
/// The longest body with the events of all agents of a node, of a few hundred bytes each. After a pause, thousands of agents
/// may have several.
const BODY_LIMIT_OF_ALL: usize = 4 * 1024 * 1024;

const fn signs_in(log_name: &'static str, tail: &'static str) -> Interface {
    let (family, timeout_class) = (ONLINE_AGENT, TimeoutClass::SignIn);
    Interface {
        log_name,
        method: Method::PUT,
        family,
        names_agent: true,
        tail,
        timeout_class,
        since: FIRST,
        effect: None,
    }
}

const fn plain(log_name: &'static str, method: Method, tail: &'static str) -> Interface {
    let (family, timeout_class) = (ONLINE_AGENT, TimeoutClass::Request);
    Interface {
        log_name,
        method,
        family,
        names_agent: true,
        tail,
        timeout_class,
        since: FIRST,
        effect: None,
    }
}

const fn changes(log_name: &'static str, tail: &'static str, effect: Effect) -> Interface {
    let (family, timeout_class) = (ONLINE_AGENT, TimeoutClass::Request);
    let effect = Some(effect);
    Interface {
        log_name,
        method: Method::POST,
        family,
        names_agent: true,
        tail,
        timeout_class,
        since: FIRST,
        effect,
    }
}

impl Interface {
    /// Whether it changes nothing at the gateway.
    pub fn only_reads(&self) -> bool {
        self.method == Method::GET
    }

    /// Whether a gateway of this edition has the interface.
    pub fn is_in(&self, edition: Edition) -> bool {
        self.since <= edition
    }

    /// The longest body of an answer in bytes. All but one have less than a tenth of it.
    pub fn body_limit(&self) -> usize {
        if self.names_agent { BODY_LIMIT } else { BODY_LIMIT_OF_ALL }
    }

    /// How long the gateway may take to answer.
    pub fn time_limit(&self, timeouts: &Timeouts) -> Duration {
        match self.timeout_class {
            TimeoutClass::Request => timeouts.request,
            TimeoutClass::SignIn => timeouts.sign_in,
            TimeoutClass::Poll => timeouts.poll,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_to_be_busy_or_to_rest_first_ends_the_call_and_the_work_after_it() {
        let (talking, working) = (AgentState::Talking, AgentState::AfterCallWork);
        for (interface, waited_for) in [
            (&SAY_BUSY, &[working, talking][..]),
            (&REST, &[working, talking]),
            (&SAY_FREE, &[talking]),
            (&WORK, &[]),
        ] {
            let effect = interface.effect.expect("a change");
            let states = (0..=9).map(AgentState::from_code);
            let found: Vec<_> = states.filter(|state| (effect.waits_out)(*state)).collect();
            assert_eq!(found, waited_for, "{}", interface.log_name);
        }
    }
}
