//! Events: what the gateway says about an agent, and changes of an agent's session.
//!
//! [`Events`] numbers a tenant's events and keeps the latest ones. A [`Watch`] reads from any
//! number that is still there. So neither a slow reader nor many readers take memory.

mod log;
mod read;
mod relay;
mod watch;

use std::{borrow::Cow, time::SystemTime};

use tokio::time::Instant;

pub use self::{
    log::{Events, News},
    read::read,
    relay::{NoRelay, Relay},
    watch::{Agents, Batch, Missed, Watch},
};
use crate::{id::AgentId, session::SessionState};

/// Something that happened to an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Grows with every event of the tenant, also over a restart of the bridge, since it begins
    /// with the time: see [`sequence`].
    pub sequence: u64,
    /// When the bridge received it.
    pub received_at: SystemTime,
    /// The agent.
    pub agent: AgentId,
    /// What happened.
    pub what: What,
    /// When the bridge fetched it from the gateway.
    pub fetched: Fetched,
}

/// When an event was fetched from the gateway, by this process's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// This process fetched it at this time.
    Here(Instant),
    /// Another process fetched it at this time or earlier: it is not known how long the store took
    /// to accept and publish it.
    ElsewhereBy(Instant),
    /// Not known; it may be old.
    Unknown,
}

/// A position in a tenant's events, with its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The number of the newest event at that time.
    pub newest: u64,
    /// The time.
    pub at: Instant,
}

/// The content of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// An event of the gateway.
    Gateway(GatewayEvent),
    /// A change of the session's status.
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

/// A session's new status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionChange {
    /// The new status.
    pub state: SessionState,
    /// The cause, in a few words; empty if the status says it all.
    pub cause: Cow<'static, str>,
}

impl Event {
    /// When it happened, as well as is known.
    pub fn time(&self) -> SystemTime {
        match &self.what {
            What::Gateway(event) => event.generated_at.unwrap_or(self.received_at),
            What::Session(_) => self.received_at,
        }
    }

    /// Its approximate size in memory, in bytes.
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
    /// Whether the event was certainly fetched after this moment. An event that is published later
    /// may have been fetched before, since it waits for the store.
    pub fn is_before(self, event: &Event) -> bool {
        matches!(event.fetched, Fetched::Here(_)) && self.may_be_before(event)
    }

    /// Whether the event may have been fetched after this moment, as far as this process can tell.
    pub fn may_be_before(self, event: &Event) -> bool {
        let (Fetched::Here(latest) | Fetched::ElsewhereBy(latest)) = event.fetched else {
            return false;
        };
        event.sequence > self.newest && latest >= self.at
    }
}

/// The number of the `nth` event within a millisecond since 1970. About a million fit in one.
pub fn sequence(millisecond: u64, nth: u64) -> u64 {
    millisecond << 20 | nth.min((1 << 20) - 1)
}

/// The millisecond of a number, and which event within it; the inverse of [`sequence`].
pub fn moment(sequence: u64) -> (u64, u64) {
    (sequence >> 20, sequence & ((1 << 20) - 1))
}
