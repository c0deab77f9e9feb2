use std::fmt::Display;

use crate::id::{AgentId, TenantId};

/// The names of a tenant's keys and channels: `<prefix>{<tenant>}:…`.
///
/// The tenant is the part that a cluster hashes, so that all keys of a tenant share a slot, and
/// scripts and pipelines can use several of them.
#[derive(Clone, Debug)]
pub struct Keys(String);

impl Keys {
    /// The names for a tenant. The prefix holds no braces.
    pub fn new(prefix: &str, tenant: &TenantId) -> Self {
        Self(format!("{prefix}{{{tenant}}}:"))
    }

    /// Where an agent's session is.
    pub fn session(&self, agent: AgentId) -> String {
        self.of("session", agent)
    }

    /// Where what an agent is signed in with may be; gone when the session has ended.
    pub fn credentials(&self, agent: AgentId) -> String {
        self.of("credentials", agent)
    }

    /// The agents whose sessions a replica has to keep.
    pub fn kept(&self) -> String {
        self.named("kept")
    }

    /// Where changes of sessions are published.
    pub fn changed(&self) -> String {
        self.named("changed")
    }

    /// A key or channel of the tenant's.
    pub fn named(&self, name: &str) -> String {
        format!("{}{name}", self.0)
    }

    /// A key of this kind for one of many.
    pub fn of(&self, kind: &str, id: impl Display) -> String {
        format!("{}{kind}:{id}", self.0)
    }
}
