//! Ways in which a gateway can be made to fail, and when.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{interface::Interface, route::Route};

/// A rule: which requests fail, how often and how. The latest rule that matches wins.
#[derive(Clone, Debug)]
pub struct Misbehaviour {
    /// Only this agent's requests; `None`: everybody's.
    pub agent: Option<u32>,
    /// Only this interface; `None`: every request, also those that match no interface.
    pub interface: Option<Interface>,
    /// How often; `None`: until [`Simulator::behave`](super::Simulator::behave).
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
    /// Waits this long in real time, and only then is it carried out and answered, even if the
    /// client has gone by then.
    DelayBefore(Duration),
    /// Carried out, never answered; the connection stays open until the client or
    /// [`Simulator::stop`](super::Simulator::stop) closes it.
    Hang,
    /// Carried out, then the connection is cut without a byte of the answer.
    CutBeforeAnswer,
    /// Carried out, then the connection is cut in the middle of the answer's body, which is
    /// shorter than its Content-Length says.
    CutMidAnswer,
    /// Not carried out; answered with this, as a balancer would.
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
    /// Carried out, and answered with its own status and headers (also `Set-GUID`) but this body:
    /// a numeric retcode, a null message, too many bytes.
    Raw {
        /// The body.
        body: Vec<u8>,
        /// The Content-Type; empty: none.
        content_type: String,
        /// More headers.
        headers: Vec<(String, String)>,
    },
    /// Carried out and answered, then the connection is closed without having said so.
    CloseAfterAnswer,
    /// The next connections fail in the TLS handshake; `agent` and `interface` do not apply.
    TlsFailure,
    /// Carried out and answered with this Guid in an additional `Set-GUID`, which the gateway does
    /// not know.
    StaleSetGuid(String),
}

/// The rules in force, oldest first.
#[derive(Debug, Default)]
pub(super) struct Rules(Mutex<Vec<Misbehaviour>>);

// === impl Misbehaviour ===

impl Misbehaviour {
    /// A rule for every request, until [`Simulator::behave`](super::Simulator::behave).
    pub fn always(fault: Fault) -> Self {
        Self { agent: None, interface: None, times: None, fault }
    }

    /// A rule for the next request alone.
    pub fn once(fault: Fault) -> Self {
        Self { times: Some(1), ..Self::always(fault) }
    }

    /// The rule for this interface alone.
    #[must_use]
    pub fn on(self, interface: Interface) -> Self {
        Self { interface: Some(interface), ..self }
    }

    /// The rule for this agent alone.
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
    /// A name for the journal; the control endpoint takes the same.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Delay(_) => "delay",
            Self::DelayBefore(_) => "delay-before",
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

    /// The fault for a request, counted.
    pub(super) fn for_request(&self, route: Option<&Route>) -> Option<Fault> {
        self.take(|rule| rule.concerns(route))
    }

    /// Whether a new connection is to fail, counted.
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
