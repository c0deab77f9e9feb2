//! What a test can see of an agent and do to it, as other people and the platform do.

use std::time::Duration;

use super::{AgentView, Recovery, Simulator};

// === impl Simulator ===

impl Simulator {
    /// An agent who has ever been named to the gateway.
    pub fn agent(&self, id: u32) -> Option<AgentView> {
        self.0.gateway.view(id)
    }

    /// Signs an agent in, as another client does, in place of any present session; gives the Guid.
    pub fn sign_in(&self, id: u32) -> String {
        self.0.gateway.sign_in(id)
    }

    /// Has another client sign a signed-in agent in by force; gives the new session's Guid. The
    /// previous session learns of it as [`Options`](super::Options) says. `None`: not signed in.
    pub fn take_over(&self, id: u32) -> Option<String> {
        self.0.gateway.take_over(id)
    }

    /// Has a signed-in agent switched over to another site, as in a disaster recovery: for `time`
    /// on the gateway's clock everything asked for the agent is refused with 000-004; `recovery`
    /// says what follows. Whether there is a session that this concerns.
    pub fn switch_over(&self, id: u32, time: Duration, recovery: Recovery) -> bool {
        self.0.gateway.switch_over(id, time, recovery)
    }

    /// Makes a new Guid now, which the next poll delivers; `None`: not signed in.
    pub fn renew_guid(&self, id: u32) -> Option<String> {
        self.0.gateway.renew_guid(id)
    }

    /// Has the next answer of any interface for the agent carry a new Guid, if the request's own
    /// Guid is accepted.
    pub fn set_guid_on_next_reply(&self, id: u32) {
        self.0.gateway.renew_on_next_reply(id);
    }

    /// Ends the life of all the agent's Guids. The agent stays signed in.
    pub fn expire_guids(&self, id: u32) {
        self.0.gateway.expire_guids(id);
    }

    /// Signs an agent out, as an inspector or a fault of the platform would.
    pub fn sign_out(&self, id: u32) {
        self.0.gateway.sign_out(id);
    }

    /// Makes an agent busy as an inspector does; whether the agent's state allows it.
    pub fn force_busy(&self, id: u32) -> bool {
        self.0.gateway.force_busy(id)
    }

    /// Makes an agent idle as an inspector does; whether the agent's state allows it.
    pub fn force_idle(&self, id: u32) -> bool {
        self.0.gateway.force_idle(id)
    }

    /// Puts a signed-in agent into a call; whether the call has reached the agent. It does not if
    /// there is one already, or if the agent has no skills or no right to calls.
    pub fn start_call(&self, id: u32) -> bool {
        self.0.gateway.start_call(id)
    }

    /// Ends the agent's call.
    pub fn end_call(&self, id: u32) {
        self.0.gateway.end_call(id);
    }
}
