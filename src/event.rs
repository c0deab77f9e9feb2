//! Events: what the gateway tells of an agent, and what becomes of an agent's session.
//!
//! [`Events`] numbers them and keeps the latest ones of a tenant. A [`Watch`] reads on from any
//! number that is still there, so neither a slow reader nor many of them take memory.

mod log;
mod read;
mod watch;

use std::time::SystemTime;

pub use self::{
    log::Events,
    read::read,
    watch::{Agents, Batch, Missed, Watch},
};
use crate::{id::AgentId, session::SessionState};

/// Something that happened to an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Grows by one with every event of the tenant. Begins with the time at which the bridge
    /// started, in microseconds since 1970, so that it grows over a restart too.
    pub sequence: u64,
    /// When the bridge learned of it.
    pub received_at: SystemTime,
    /// To whom.
    pub agent: AgentId,
    /// What.
    pub what: What,
}

/// What an event tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Something of the gateway's.
    Gateway(GatewayEvent),
    /// What becomes of the session that the bridge keeps.
    Session(SessionChange),
}

/// An event as a poll brought it (cec_07_1274).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayEvent {
    /// `eventType`, as the gateway spelt it; 1 to 128 bytes.
    pub kind: Box<str>,
    /// `workNo`, as the gateway spelt it; empty where it sent none.
    pub work_no: Box<str>,
    /// `content` as JSON text; `None` where the gateway sent none, or null.
    pub content: Option<Box<str>>,
    /// `eventGenTime`; only the newest gateways send it (cec_07_1346).
    pub generated_at: Option<SystemTime>,
}

/// A session in another state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionChange {
    /// The state now.
    pub state: SessionState,
    /// Why, in a few words; empty where the state says it all.
    pub cause: &'static str,
}

impl Event {
    /// When it happened, as well as that is known.
    pub fn time(&self) -> SystemTime {
        match &self.what {
            What::Gateway(event) => event.generated_at.unwrap_or(self.received_at),
            What::Session(_) => self.received_at,
        }
    }

    /// The bytes it takes in memory, roughly.
    fn weight(&self) -> usize {
        let text = match &self.what {
            What::Gateway(event) => {
                let content = event.content.as_ref().map_or(0, |content| content.len());
                event.kind.len() + event.work_no.len() + content
            }
            What::Session(_) => 0,
        };
        size_of::<Self>() + text
    }
}
