//! What a test can see of an agent, and do to it in the name of other people or the platform.

use std::time::Duration;

use super::{AgentView, Recovery, Simulator};

// === impl Simulator ===

impl Simulator {
    /// An agent; `None` if no request has ever named it.
    pub fn agent(&self, id: u32) -> Option<AgentView> {
        self.0.gateway.view(id)
    }

    /// Signs an agent in as another client would, in place of any present session. Returns the Guid.
    pub fn sign_in(&self, id: u32) -> String {
        self.0.gateway.sign_in(id)
    }

    /// Signs a signed-in agent in by force, as another client would. Returns the new session's Guid, or
    /// `None` if the agent is not signed in. [`Options`](super::Options) decide whether the previous
    /// session gets an event.
    pub fn take_over(&self, id: u32) -> Option<String> {
        self.0.gateway.take_over(id)
    }

    /// Switches a signed-in agent over to another site, as in a disaster recovery. For `time` on the
    /// gateway's clock every request for the agent is refused with 000-004; `recovery` says what
    /// follows. Returns false if the agent is not signed in.
    pub fn switch_over(&self, id: u32, time: Duration, recovery: Recovery) -> bool {
        self.0.gateway.switch_over(id, time, recovery)
    }

    /// Makes a new Guid now; the next poll brings it. `None` if the agent is not signed in.
    pub fn renew_guid(&self, id: u32) -> Option<String> {
        self.0.gateway.renew_guid(id)
    }

    /// Makes the next answer for the agent, of any interface, bring a new Guid, if the request's own
    /// Guid is accepted.
    pub fn set_guid_on_next_reply(&self, id: u32) {
        self.0.gateway.renew_on_next_reply(id);
    }

    /// Makes all Guids of the agent invalid. The agent stays signed in.
    pub fn expire_guids(&self, id: u32) {
        self.0.gateway.expire_guids(id);
    }

    /// Gives the agent another password, which its next sign-in needs.
    pub fn set_password(&self, id: u32, password: &str) {
        self.0.gateway.set_password(id, password);
    }

    /// Signs an agent out, as an inspector or a fault of the platform would.
    pub fn sign_out(&self, id: u32) {
        self.0.gateway.sign_out(id);
    }

    /// Makes an agent busy as an inspector does. Returns false if the agent's state does not allow it.
    pub fn force_busy(&self, id: u32) -> bool {
        self.0.gateway.force_busy(id)
    }

    /// Makes an agent idle as an inspector does. Returns false if the agent's state does not allow it.
    pub fn force_idle(&self, id: u32) -> bool {
        self.0.gateway.force_idle(id)
    }

    /// Reports an event of this type, with this content as JSON text; `None`: without the member
    /// `content`. The text is sent as it is. Returns false if the agent is not signed in.
    pub fn tell(&self, id: u32, kind: &str, content: Option<&str>) -> bool {
        self.0.gateway.tell(id, kind, content)
    }

    /// Puts a signed-in agent into a call. Returns false if the call does not reach the agent: it is in
    /// a call already, has no skills, or takes no calls.
    pub fn start_call(&self, id: u32) -> bool {
        self.0.gateway.start_call(id)
    }

    /// Ends the agent's call.
    pub fn end_call(&self, id: u32) {
        self.0.gateway.end_call(id);
    }
}
