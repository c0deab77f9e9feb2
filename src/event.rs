//! Events: what the gateway reports about agents, and changes of agents' sessions.
//!
//! [`Events`] numbers a tenant's events and keeps the latest ones. A [`Watch`] reads on from any number
//! that is still kept. It holds only its position, so slow readers and many readers take no memory. An
//! event wakes only the watches that want it.

mod interest;
mod log;
mod read;
mod relay;
mod watch;

use std::{borrow::Cow, time::SystemTime};

use tokio::time::Instant;

pub use self::{
    log::{Events, Missed, News, NotKept, Told},
    read::read,
    relay::{NoRelay, Relay},
    watch::{Agents, Batch, Watch},
};
use crate::{id::AgentId, session::SessionState, state::AgentState};

/// Something that happened to an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The event's number. It grows with every event of the tenant, also over a restart of the bridge,
    /// since numbers start from the time; see [`sequence`].
    pub sequence: u64,
    /// When the bridge received it.
    pub received_at: SystemTime,
    /// The agent that it is about.
    pub agent: AgentId,
    /// What happened.
    pub what: What,
    /// When it was fetched from the gateway, as far as this process knows.
    pub fetched: Fetched,
}

/// When an event was fetched from the gateway, by this process's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// This process fetched it at this time.
    Here(Instant),
    /// Another process fetched it at this time or earlier. How long the store took to write and to
    /// deliver the event is not known.
    ElsewhereBy(Instant),
    /// Not known; the event may be old.
    Unknown,
}

/// A position in a tenant's events: between those that were known at a time and those that came later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The number of the newest event at that time.
    pub newest: u64,
    /// The time.
    pub at: Instant,
}

/// Who sent a change, and when, among a tenant's events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SentBy {
    /// This process, at this moment.
    This(Moment),
    /// Another process, when this was the number of the newest event.
    Another(u64),
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The gateway reported an event.
    Gateway(GatewayEvent),
    /// The agent's session changed its state.
    Session(SessionChange),
}

/// An event as a poll brought it (cec_07_1274).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayEvent {
    /// `eventType`, as the gateway spelt it; 1 to 128 bytes.
    pub kind: Box<str>,
    /// `workNo`, as the gateway spelt it; empty if it sent none.
    pub work_no: Box<str>,
    /// `content` as JSON text, as it came: an object, a string with a call's id, or any other value,
    /// also null. `None` if the gateway sent none.
    pub content: Option<Box<str>>,
    /// `eventGenTime`; only the newest gateways send it (cec_07_1346).
    pub generated_at: Option<SystemTime>,
}

/// A change of a session's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionChange {
    /// The new state.
    pub state: SessionState,
    /// Why it changed, in a few words; empty if the state itself says enough.
    pub cause: Cow<'static, str>,
}

impl Event {
    /// When it happened: the gateway's time if it sent one, otherwise when the bridge received it.
    pub fn time(&self) -> SystemTime {
        match &self.what {
            What::Gateway(event) => event.generated_at.unwrap_or(self.received_at),
            What::Session(_) => self.received_at,
        }
    }

    /// The state of its agent that it tells of, if it tells of one.
    fn tells_of(&self) -> Option<AgentState> {
        match &self.what {
            What::Gateway(event) => AgentState::after(&event.kind),
            What::Session(_) => None,
        }
    }

    /// About how many bytes it takes in memory.
    fn weight(&self) -> usize {
        size_of::<Self>() + self.what.text_len()
    }
}

impl What {
    /// About how many bytes its text takes.
    pub(crate) fn text_len(&self) -> usize {
        match self {
            Self::Gateway(event) => {
                let content = event.content.as_ref().map_or(0, |content| content.len());
                event.kind.len() + event.work_no.len() + content
            }
            Self::Session(_) => 0,
        }
    }
}

impl Moment {
    /// Whether an event was certainly fetched after this moment. Only an event of this process can be:
    /// one of another process may have been fetched earlier, and delayed by the store.
    pub fn is_before(self, event: &Event) -> bool {
        matches!(event.fetched, Fetched::Here(_)) && self.may_be_before(event)
    }

    /// Whether an event may have been fetched after this moment, as far as this process knows.
    pub fn may_be_before(self, event: &Event) -> bool {
        let (Fetched::Here(latest) | Fetched::ElsewhereBy(latest)) = event.fetched else {
            return false;
        };
        event.sequence > self.newest && latest >= self.at
    }
}

impl SentBy {
    /// The number of the newest event then.
    pub fn newest(self) -> u64 {
        match self {
            Self::This(moment) => moment.newest,
            Self::Another(newest) => newest,
        }
    }

    /// Whether an event was certainly fetched after the change was sent.
    pub fn is_before(self, event: &Event) -> bool {
        matches!(self, Self::This(moment) if moment.is_before(event))
    }

    /// Whether an event may have been fetched after the change was sent, as far as this process knows.
    pub fn may_be_before(self, event: &Event) -> bool {
        match self {
            Self::This(moment) => moment.may_be_before(event),
            Self::Another(newest) => event.fetched != Fetched::Unknown && event.sequence > newest,
        }
    }
}

/// The number of the `nth` event in a millisecond since 1970. There is room for about a million events
/// in each millisecond. The highest number is never given, so that there is one after each.
pub fn sequence(millisecond: u64, nth: u64) -> u64 {
    let number = millisecond.min(u64::MAX >> 20) << 20 | nth.min((1 << 20) - 1);
    number.min(u64::MAX - 1)
}

/// Splits a number into the millisecond and the position in it; the inverse of [`sequence`].
pub fn moment(sequence: u64) -> (u64, u64) {
    (sequence >> 20, sequence & ((1 << 20) - 1))
}
