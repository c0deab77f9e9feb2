//! A single event poll, and what its answer says about the session. How often to poll, and when a
//! session counts as lost, is in [`keeper`](super::keeper).

use std::{sync::Arc, time::SystemTime};

use tokio::time::Instant;

use super::{Tenant, agent_status::means_no_such_interface, guid_renewal::take_renewals};
use crate::{
    call::{CallError, CallerWait, Outcome, Stage, Untouched},
    event::{self, GatewayEvent, What},
    gateway::{Command, Envelope, Interface, NoSeat, POLL, Reply, Request, poll_all},
    id::AgentId,
    retcode::Kind,
    session::Session,
    telemetry::trace::Trace,
    time::millis_now,
};

/// What the answer to a poll says about the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// The session is good.
    Alive,
    /// The Guid was refused (000-003).
    GuidRefused,
    /// The agent is not signed in, or has to sign in again.
    SignedOut,
    /// An event says that somebody other than the bridge has signed the agent out.
    SignedOutByOthers,
    /// The agent is being moved to another site; its Guid stays good.
    Switchover,
    /// Another poll for the agent is open (000-007): one of another client, or of a replica that
    /// this one cannot reach.
    PolledElsewhere,
    /// The gateway allows no polls for one agent (000-001).
    PollsDisabled,
    /// The request was sent, and its answer was lost or cannot be read. It may have brought a new Guid.
    AnswerLost,
    /// Nothing was sent, or the gateway was too busy to look at it.
    Silent,
    /// A refusal that says nothing about the session.
    Other,
}

const SIGNED_OUT_BY_OTHERS: &str =
    "another client or the platform has signed the agent out (AgentOther_ShutdownService)";

impl Finding {
    /// What a failed request says about the session.
    pub(super) fn of(error: &CallError) -> Self {
        let Some(refusal) = error.refusal() else {
            return match error.outcome() {
                Outcome::Unknown => Self::AnswerLost,
                Outcome::NotSent => Self::Silent,
                _ if matches!(error, CallError::GatewayBusy { .. }) => Self::Silent,
                _ => Self::Other,
            };
        };
        match refusal.retcode.kind() {
            Kind::PollsDisabled => Self::PollsDisabled,
            Kind::OperationInProgress => Self::PolledElsewhere,
            Kind::SessionExpired => Self::GuidRefused,
            Kind::AgentNotSignedIn | Kind::AgentSignedOut | Kind::SessionMoved => Self::SignedOut,
            Kind::Switchover => Self::Switchover,
            _ => Self::Other,
        }
    }

    /// The cause that is published if the session becomes doubtful or lost.
    pub(super) fn cause(self) -> &'static str {
        match self {
            Self::Alive => "",
            Self::GuidRefused => "its Guid was refused (000-003)",
            Self::SignedOut => "the agent is not signed in",
            Self::SignedOutByOthers => SIGNED_OUT_BY_OTHERS,
            Self::Switchover => "the agent is being switched over",
            Self::PolledElsewhere => "another poll is open (000-007)",
            Self::PollsDisabled => "polls for one agent are not allowed (000-001)",
            Self::AnswerLost => "the answer to a poll was lost",
            Self::Silent => "no poll can be sent",
            Self::Other => "polls are refused",
        }
    }
}

/// The event that says that somebody other than the bridge has signed the agent out (cec_07_1402).
const SIGNED_OUT: &str = "AgentOther_ShutdownService";

impl Tenant {
    /// Polls for an agent's events once, and publishes them.
    ///
    /// A poll takes neither the agent's turn nor a place among the requests, since it is open most
    /// of the time. Each kept session has at most one, so the number of polls is bounded.
    pub(super) async fn poll(&self, agent: AgentId, session: &Session) -> Finding {
        match self.ask_unasked(&POLL, agent, session).await {
            Ok(mut reply) => {
                let renewed = take_renewals(session, &mut reply);
                let verdict = reply.into_verdict(session.guid.node());
                // The gateway gives events once. So they are published before the Guid is stored: this keeper may be stopped
                // while a slow store does that.
                let finding = self.publish_events(agent, verdict, Instant::now());
                if let Some(guid) = renewed {
                    self.renew_session(agent, session, guid).await;
                }
                if finding == Finding::Alive {
                    self.store_anew(agent, session).await;
                }
                finding
            }
            Err(error) => Finding::of(&error),
        }
    }

    /// Polls for the events of all agents of the node that has this session once, and publishes them. Returns what the
    /// answer says of the session, and the agents who were signed out by somebody else.
    pub(super) async fn poll_for_all(
        &self,
        carrier: AgentId,
        session: &Session,
    ) -> (Finding, Vec<AgentId>) {
        let mut reply = match self.send_unasked(&poll_all(millis_now()), carrier, session).await {
            Ok(reply) => reply,
            Err(error) => return (Finding::of(&error), Vec::new()),
        };
        let renewed = take_renewals(session, &mut reply);
        // As above, the events come first.
        let (finding, signed_out) = match reply.into_verdict(session.guid.node()) {
            Ok(envelope) => (Finding::Alive, self.publish_for_all(&envelope, Instant::now())),
            Err(error) if means_no_such_interface(&error) => {
                // A server that has not loaded the gateway yet has no interface at all. With the polls that would take the
                // place of this one, it says whether it has.
                let finding = match Box::pin(self.poll(carrier, session)).await {
                    Finding::Alive => Finding::PollsDisabled,
                    found => found,
                };
                (finding, Vec::new())
            }
            Err(error) => (Finding::of(&error), Vec::new()),
        };
        if let Some(guid) = renewed {
            self.renew_session(carrier, session, guid).await;
        }
        if finding == Finding::Alive {
            self.store_anew(carrier, session).await;
        }
        (finding, signed_out)
    }

    /// Sends a request that only reads and that no caller has asked for, outside the agent's turn.
    pub(super) async fn ask_unasked(
        &self,
        interface: &'static Interface,
        agent: AgentId,
        session: &Session,
    ) -> Result<Reply, CallError> {
        self.send_unasked(&Command::plain(interface), agent, session).await
    }

    async fn send_unasked(
        &self,
        command: &Command,
        agent: AgentId,
        session: &Session,
    ) -> Result<Reply, CallError> {
        let (stage, trace) = (Stage::Answer, Trace::default());
        let request = Request { command, agent, session: Some(session), body: None, stage, trace };
        let mut caller_wait = CallerWait::of_bridge(self.work.cutoff.clone());
        let (mut seat, untouched) = (NoSeat, Untouched::at_the_start());
        self.gateway.exchange(request, &mut caller_wait, &mut seat, untouched).await
    }

    /// Renews an agent's Guid once, for gateways where polls do not renew it.
    pub(super) async fn renew(self: &Arc<Self>, agent: AgentId) -> Finding {
        match self.update_guid(agent).await {
            Ok(()) => Finding::Alive,
            Err(error) => Finding::of(&error),
        }
    }

    fn publish_events(
        &self,
        agent: AgentId,
        verdict: Result<Envelope, CallError>,
        fetched: Instant,
    ) -> Finding {
        let json = match verdict {
            Ok(envelope) => envelope.event,
            Err(error) => return Finding::of(&error),
        };
        let mut finding = Finding::Alive;
        for event in json.as_deref().map(event::read).unwrap_or_default() {
            if &*event.kind == SIGNED_OUT {
                finding = Finding::SignedOutByOthers;
            }
            self.publish_event(agent, event, fetched);
        }
        finding
    }

    /// Publishes events of many agents. Returns those who were signed out. An event of an agent who has no session here is
    /// another client's: nobody asked for it, and there may be an agent of this number at another tenant.
    fn publish_for_all(&self, envelope: &Envelope, fetched: Instant) -> Vec<AgentId> {
        let mut signed_out = Vec::new();
        for event in envelope.event.as_deref().map(event::read).unwrap_or_default() {
            let agent = AgentId::parse(&event.work_no, &self.config.agent_ids).ok();
            let Some(agent) = agent.filter(|agent| self.has_session_of(*agent)) else {
                self.metrics.foreign_event();
                continue;
            };
            if &*event.kind == SIGNED_OUT {
                signed_out.push(agent);
            }
            self.publish_event(agent, event, fetched);
        }
        signed_out
    }

    /// Whether the agent has a session here, or is being signed in: the gateway may tell of that before it answers.
    fn has_session_of(&self, agent: AgentId) -> bool {
        self.agents.status(agent).is_some() || self.sessions.cached(agent).is_some()
    }

    fn publish_event(&self, agent: AgentId, event: GatewayEvent, fetched: Instant) {
        let generated = event.generated_at;
        let lag = generated.map(|at| SystemTime::now().duration_since(at).unwrap_or_default());
        self.metrics.event(lag);
        self.announcer.publish(agent, What::Gateway(event), fetched);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        call::{Obstacle, Refusal},
        retcode::Retcode,
    };

    #[test]
    fn refused_polls_are_read_for_what_they_say_about_the_session() {
        for (retcode, expected) in [
            ("000-001", Finding::PollsDisabled),
            ("000-003", Finding::GuidRefused),
            ("000-004", Finding::Switchover),
            ("000-007", Finding::PolledElsewhere),
            ("100-006", Finding::SignedOut),
            ("100-008", Finding::SignedOut),
            ("100-021", Finding::Other),
            ("105-002", Finding::Switchover),
            ("105-006", Finding::SignedOut),
            ("999-999", Finding::Other),
        ] {
            let retcode = Retcode::refusal(retcode).unwrap();
            let refusal = Refusal { retcode, message: String::new(), node: None, http_status: 200 };
            assert_eq!(Finding::of(&CallError::Refused(refusal)), expected);
        }
        assert_eq!(Finding::of(&CallError::BadReply(String::new())), Finding::AnswerLost);
        let unasked = CallError::unasked(Obstacle::ShuttingDown);
        assert_eq!(Finding::of(&unasked), Finding::Silent);
    }

    #[test]
    fn each_finding_has_a_cause_of_its_own_and_only_a_good_one_has_none() {
        let findings = [
            Finding::Alive,
            Finding::GuidRefused,
            Finding::SignedOut,
            Finding::SignedOutByOthers,
            Finding::Switchover,
            Finding::PolledElsewhere,
            Finding::PollsDisabled,
            Finding::AnswerLost,
            Finding::Silent,
            Finding::Other,
        ];
        let causes: std::collections::BTreeSet<_> =
            findings.iter().map(|finding| finding.cause()).collect();
        assert_eq!(causes.len(), findings.len());
        assert!(Finding::Alive.cause().is_empty());
    }
}
