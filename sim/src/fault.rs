//! Faults of a gateway that tests can switch on, and the rules that say when.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{interface::Interface, route::Route};

/// A rule: which requests fail, how often, and how. If several rules match, the latest wins.
#[derive(Clone, Debug)]
pub struct Misbehaviour {
    /// Only requests for this agent; `None`: for all agents.
    pub agent: Option<u32>,
    /// Only requests to this interface; `None`: all requests, also those that match no interface.
    pub interface: Option<Interface>,
    /// How many requests fail; `None`: all, until [`Simulator::behave`](super::Simulator::behave).
    pub times: Option<u32>,
    /// What happens.
    pub fault: Fault,
}

/// What goes wrong. "Carried out" means that the agent's state has changed and its events can be
/// polled, as if the request had been answered.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Fault {
    /// Carried out at once, answered after this long in real time.
    Delay(Duration),
    /// Carried out and answered only after this long in real time, even if the client has disconnected
    /// by then.
    DelayBefore(Duration),
    /// Carried out, and answered after `time` in real time, or later if this and other rules of the kind have more than
    /// `bears` requests waiting for their answers: then later in the ratio of the two, to the power of `strain`. With 1
    /// the gateway answers as many in a second as before, with 2 the fewer the more it has to do.
    Load {
        /// What an answer takes if there are few.
        time: Duration,
        /// How many there may be at once before it takes longer.
        bears: u32,
        /// The power.
        strain: u32,
    },
    /// Carried out, never answered; the connection stays open until the client or
    /// [`Simulator::stop`](super::Simulator::stop) closes it.
    Hang,
    /// Carried out; the connection is closed without a byte of the answer.
    CutBeforeAnswer,
    /// Carried out; the connection is closed in the middle of the answer's body, which is then shorter
    /// than its Content-Length.
    CutMidAnswer,
    /// Not carried out; answered with this HTTP status, as a balancer would.
    Status {
        /// The HTTP status.
        status: u16,
        /// More headers.
        headers: Vec<(String, String)>,
        /// The body.
        body: Vec<u8>,
        /// The Content-Type; empty: none.
        content_type: String,
    },
    /// Not carried out; answered with HTTP 200 and a login page.
    Html,
    /// Not carried out; refused with this retcode and message.
    Retcode {
        /// The retcode, normally `NNN-NNN`.
        retcode: String,
        /// The message.
        message: String,
    },
    /// Carried out, and answered with the usual status and headers (also `Set-GUID`) but with this
    /// body, such as one with a numeric retcode, a null message, or too many bytes.
    Raw {
        /// The body.
        body: Vec<u8>,
        /// The Content-Type; empty: none.
        content_type: String,
        /// More headers.
        headers: Vec<(String, String)>,
    },
    /// Carried out and answered; then the connection is closed without a `Connection: close`.
    CloseAfterAnswer,
    /// The next connections fail in the TLS handshake; `agent` and `interface` do not apply.
    TlsFailure,
    /// Carried out and answered with an additional `Set-GUID`, whose Guid the gateway does not know.
    StaleSetGuid(String),
}

/// The active rules, oldest first.
#[derive(Debug, Default)]
pub(super) struct Rules(Mutex<Vec<Misbehaviour>>);

// === impl Misbehaviour ===

impl Misbehaviour {
    /// A rule for every request, until [`Simulator::behave`](super::Simulator::behave).
    pub fn always(fault: Fault) -> Self {
        Self { agent: None, interface: None, times: None, fault }
    }

    /// A rule for the next request only.
    pub fn once(fault: Fault) -> Self {
        Self { times: Some(1), ..Self::always(fault) }
    }

    /// Restricts the rule to this interface.
    #[must_use]
    pub fn on(self, interface: Interface) -> Self {
        Self { interface: Some(interface), ..self }
    }

    /// Restricts the rule to this agent.
    #[must_use]
    pub fn of(self, agent: u32) -> Self {
        Self { agent: Some(agent), ..self }
    }

    fn concerns(&self, route: Option<&Route>) -> bool {
        let agent = route.and_then(|route| route.agent);
        let interface = route.map(|route| route.interface);
        !matches!(self.fault, Fault::TlsFailure)
            && (self.agent.is_none() || self.agent == agent)
            && (self.interface.is_none() || self.interface == interface)
    }
}

// === impl Fault ===

impl Fault {
    /// The fault's name in the journal and on the control endpoint.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Delay(_) => "delay",
            Self::DelayBefore(_) => "delay-before",
            Self::Load { .. } => "load",
            Self::Hang => "hang",
            Self::CutBeforeAnswer => "cut-before-answer",
            Self::CutMidAnswer => "cut-mid-answer",
            Self::Status { .. } => "status",
            Self::Html => "html",
            Self::Retcode { .. } => "retcode",
            Self::Raw { .. } => "raw",
            Self::CloseAfterAnswer => "close-after-answer",
            Self::TlsFailure => "tls-failure",
            Self::StaleSetGuid(_) => "stale-set-guid",
        }
    }
}

// === impl Rules ===

impl Rules {
    pub(super) fn add(&self, rule: Misbehaviour) {
        self.lock().push(rule);
    }

    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    /// The fault for a request, if a rule matches; counts the rule's use.
    pub(super) fn for_request(&self, route: Option<&Route>) -> Option<Fault> {
        self.take(|rule| rule.concerns(route))
    }

    /// Whether a new connection's handshake is to fail; counts the rule's use.
    pub(super) fn breaks_handshake(&self) -> bool {
        self.take(|rule| matches!(rule.fault, Fault::TlsFailure)).is_some()
    }

    fn take(&self, matches: impl Fn(&Misbehaviour) -> bool) -> Option<Fault> {
        let mut rules = self.lock();
        rules.retain(|rule| rule.times != Some(0));
        let rule = rules.iter_mut().rev().find(|rule| matches(rule))?;
        rule.times = rule.times.map(|times| times - 1);
        Some(rule.fault.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Misbehaviour>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_rule_wins_until_it_is_used_up() {
        let rules = Rules::default();
        rules.add(Misbehaviour::always(Fault::Html));
        rules.add(Misbehaviour::once(Fault::Hang));
        rules.add(Misbehaviour::once(Fault::TlsFailure));
        rules.add(Misbehaviour::always(Fault::CutMidAnswer).of(7));
        let taken = || rules.for_request(None).map(|fault| fault.name());
        assert_eq!(taken(), Some("hang"));
        assert_eq!(taken(), Some("html"));
        assert_eq!(taken(), Some("html"));
        assert!(rules.breaks_handshake());
        assert!(!rules.breaks_handshake());
        rules.clear();
        assert_eq!(taken(), None);
    }
}
