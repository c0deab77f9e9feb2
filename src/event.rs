//! Events: what the gateway tells of an agent, and what becomes of an agent's session.
//!
//! [`Events`] numbers them and keeps the latest ones of a tenant. A [`Watch`] reads on from any
//! number that is still there, so neither a slow reader nor many of them take memory.

mod log;
mod read;
mod relay;
mod watch;

use std::{borrow::Cow, time::SystemTime};

use tokio::time::Instant;

pub use self::{
    log::{Events, Missed, News},
    read::read,
    relay::{NoRelay, Relay},
    watch::{Agents, Batch, Watch},
};
use crate::{id::AgentId, session::SessionState};

/// Something that happened to an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Grows with every event of the tenant, also over a restart of the bridge: it begins with the
    /// time, see [`sequence`].
    pub sequence: u64,
    /// When the bridge learned of it.
    pub received_at: SystemTime,
    /// To whom.
    pub agent: AgentId,
    /// What.
    pub what: What,
    /// When the bridge fetched it.
    pub fetched: Fetched,
}

/// When an event was fetched from the gateway, by this process's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// This process fetched it then.
    Here(Instant),
    /// Another process fetched it then or earlier: how long the store took to take the event and to
    /// tell it is not known.
    ElsewhereBy(Instant),
    /// It may be an old one.
    Unknown,
}

/// A moment in a tenant's events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The number of the newest event that was known.
    pub newest: u64,
    /// When it was.
    pub at: Instant,
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
    pub cause: Cow<'static, str>,
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

impl Moment {
    /// Whether an event can only have been fetched after it. One that is told later may have been
    /// fetched before: it waits for the store.
    pub fn is_before(self, event: &Event) -> bool {
        matches!(event.fetched, Fetched::Here(_)) && self.may_be_before(event)
    }

    /// Whether an event may have been fetched after it, as far as this process can tell.
    pub fn may_be_before(self, event: &Event) -> bool {
        let (Fetched::Here(latest) | Fetched::ElsewhereBy(latest)) = event.fetched else {
            return false;
        };
        event.sequence > self.newest && latest >= self.at
    }
}

/// The number of the `nth` event of a millisecond since 1970; of a million of them in one.
pub fn sequence(millisecond: u64, nth: u64) -> u64 {
    millisecond << 20 | nth.min((1 << 20) - 1)
}

/// The millisecond and the place in it that a number stands for; undoes [`sequence`].
pub fn moment(sequence: u64) -> (u64, u64) {
    (sequence >> 20, sequence & ((1 << 20) - 1))
}
