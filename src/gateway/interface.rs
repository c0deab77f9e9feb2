//! The gateway's interfaces that the bridge uses, one description each.

use std::time::Duration;

use http::Method;

use crate::{
    config::{Edition, Timeouts},
    state::AgentState,
};

/// One interface of the gateway.
#[derive(Debug)]
pub struct Interface {
    /// The method's name in the gateway's own logs.
    pub log_name: &'static str,
    /// The HTTP method.
    pub method: Method,
    /// What comes before the agent's id in the path.
    pub family: &'static str,
    /// What follows it.
    pub tail: &'static str,
    /// How long the gateway may take.
    pub timeout_class: TimeoutClass,
    /// The first edition that has it.
    pub since: Edition,
    /// How its effect shows, if it changes what the agent is doing.
    pub effect: Option<Effect>,
}

/// How long the gateway may take to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeoutClass {
    /// `timeouts.request`.
    Request,
    /// `timeouts.sign_in`.
    SignIn,
    /// `timeouts.poll`.
    Poll,
}

/// How it shows that an agent's state has changed: the answer says only that the request was
/// accepted (cec_07_13482).
#[derive(Clone, Copy, Debug)]
pub struct Effect {
    /// Event types of which each tells of the change.
    pub events: &'static [&'static str],
    /// Whether an agent can be in this state after the change. One who is not has changed since,
    /// or the event was an older one.
    pub fits: fn(AgentState) -> bool,
    /// Whether the change waits for the end of this state instead of being refused in it.
    pub waits_out: fn(AgentState) -> bool,
}

/// Signs an agent in (cec_07_1202).
pub static SIGN_IN: Interface = signs_in("login", "");
/// Signs an agent in who is signed in elsewhere (cec_07_1203).
pub static FORCE_SIGN_IN: Interface = signs_in("forceLogin", "/forcelogin");
/// Signs an agent out, who must not be talking (cec_07_1219).
pub static SIGN_OUT: Interface = plain("logout", Method::DELETE, "/logout");
/// Signs an agent out and releases the call (cec_07_1220).
pub static FORCE_SIGN_OUT: Interface = plain("forceLogout", Method::DELETE, "/forcelogout");
/// Renews the Guid (cec_07_1225).
pub static UPDATE_GUID: Interface = plain("updateGuid", Method::PUT, "/updateGuid");
/// Gives the agent the skill queues that are configured for it (cec_07_1209).
pub static RESET_SKILL: Interface = plain("resetSkill", Method::POST, "/resetskill");
/// Asks what the agent is doing (cec_07_1222). The vendor's library of 2014 does not know it (client).
pub static AGENT_STATUS: Interface = Interface {
    log_name: "getAgentStatus",
    method: Method::GET,
    family: ONLINE_AGENT,
    tail: "/agentstatus",
    timeout_class: TimeoutClass::Request,
    since: Edition::V2023,
    effect: None,
};

/// Fetches the agent's next event, and keeps the session alive by that (cec_07_1274).
pub static POLL: Interface = Interface {
    log_name: "getAgentEvent",
    method: Method::GET,
    family: "agentevent",
    tail: "",
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
        fits: |state| state == AgentState::Busy,
        waits_out: call_or_work,
    },
);

/// Ends busy (cec_07_1212).
pub static CANCEL_BUSY: Interface = changes(
    "cancelBusy",
    "/cancelbusy",
    Effect {
        events: &["AgentState_CancelNotReady_Success"],
        fits: |state| state != AgentState::Busy,
        waits_out: |_| false,
    },
);
/// Makes an agent idle, from busy or after-call work (cec_07_1210). Whether it ends rest is not
/// documented; if it does, then with the event of that.
pub static SAY_FREE: Interface = changes(
    "sayFree",
    "/sayfree",
    Effect {
        events: &[
            "AgentState_CancelNotReady_Success",
            "AgentState_CancelWork_Success",
            "AgentState_CancelRest_Success",
        ],
        fits: |state| !matches!(state, AgentState::Busy | AgentState::AfterCallWork),
        waits_out: |state| state == AgentState::Talking,
    },
);
/// Takes an agent into after-call work (cec_07_1215).
pub static WORK: Interface = changes(
    "sayWork",
    "/work",
    Effect {
        events: &["AgentState_SetWork_Success"],
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
        fits: |state| state != AgentState::AfterCallWork,
        waits_out: |_| false,
    },
);
/// Lets an agent rest (cec_07_1213).
pub static REST: Interface = changes(
    "rest",
    "/rest",
    Effect {
        events: &["AgentState_SetRest_Success"],
        fits: |state| state == AgentState::Resting,
        // There is a state for it, "pre-rest"; its rules are not documented.
        waits_out: call_or_work,
    },
);
/// Ends rest (cec_07_1214).
pub static CANCEL_REST: Interface = changes(
    "cancelRest",
    "/cancelrest",
    Effect {
        events: &["AgentState_CancelRest_Success"],
        fits: |state| state != AgentState::Resting,
        waits_out: |_| false,
    },
);

/// All of them.
pub static INTERFACES: [&Interface; 15] = [
    &SIGN_IN,
    &FORCE_SIGN_IN,
    &SIGN_OUT,
    &FORCE_SIGN_OUT,
    &UPDATE_GUID,
    &RESET_SKILL,
    &AGENT_STATUS,
    &POLL,
    &SAY_BUSY,
    &CANCEL_BUSY,
    &SAY_FREE,
    &WORK,
    &CANCEL_WORK,
    &REST,
    &CANCEL_REST,
];

/// What a busy waits for (client).
fn call_or_work(state: AgentState) -> bool {
    matches!(state, AgentState::Talking | AgentState::AfterCallWork)
}

const ONLINE_AGENT: &str = "onlineagent";
const FIRST: Edition = Edition::V2014;

const fn signs_in(log_name: &'static str, tail: &'static str) -> Interface {
    let (family, timeout_class) = (ONLINE_AGENT, TimeoutClass::SignIn);
    Interface {
        log_name,
        method: Method::PUT,
        family,
        tail,
        timeout_class,
        since: FIRST,
        effect: None,
    }
}

const fn plain(log_name: &'static str, method: Method, tail: &'static str) -> Interface {
    let (family, timeout_class) = (ONLINE_AGENT, TimeoutClass::Request);
    Interface { log_name, method, family, tail, timeout_class, since: FIRST, effect: None }
}

const fn changes(log_name: &'static str, tail: &'static str, effect: Effect) -> Interface {
    let (family, timeout_class) = (ONLINE_AGENT, TimeoutClass::Request);
    let effect = Some(effect);
    Interface { log_name, method: Method::POST, family, tail, timeout_class, since: FIRST, effect }
}

impl Interface {
    /// Whether it changes nothing.
    pub fn only_reads(&self) -> bool {
        self.method == Method::GET
    }

    /// Whether a gateway of this edition has it.
    pub fn is_in(&self, edition: Edition) -> bool {
        self.since <= edition
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
