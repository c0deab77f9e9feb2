use std::fmt::Display;

use crate::id::{AgentId, TenantId};

/// The names of a tenant's keys and channels: `<prefix>{<tenant>}:…`.
///
/// A cluster hashes only the part in braces, the tenant. So all keys of a tenant share a slot, and
/// scripts and pipelines can use several of them.
#[derive(Clone, Debug)]
pub struct Keys(String);

impl Keys {
    /// The names for a tenant. The prefix must not contain braces.
    pub fn new(prefix: &str, tenant: &TenantId) -> Self {
        Self(format!("{prefix}{{{tenant}}}:"))
    }

    /// The key of an agent's session.
    pub fn session(&self, agent: AgentId) -> String {
        self.of("session", agent)
    }

    /// The key of an agent's shared credentials. It is deleted when the session ends.
    pub fn credentials(&self, agent: AgentId) -> String {
        self.of("credentials", agent)
    }

    /// The key of the set of agents whose sessions a replica has to keep.
    pub fn kept(&self) -> String {
        self.named("kept")
    }

    /// The channel on which changes of sessions are published.
    pub fn changed(&self) -> String {
        self.named("changed")
    }

    /// A key or channel of the tenant.
    pub fn named(&self, name: &str) -> String {
        format!("{}{name}", self.0)
    }

    /// A key of this kind for one agent or another id.
    pub fn of(&self, kind: &str, id: impl Display) -> String {
        format!("{}{kind}:{id}", self.0)
    }
}
