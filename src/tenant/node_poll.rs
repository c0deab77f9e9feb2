//! The poll for the events of all agents of a node of the gateway (`keep.poll = "all"`).
//!
//! The poll has one task for each node. It is sent with the Guid of one of its members, the carrier, and keeps the sessions
//! of all of them alive. What it brings is given to the agents that it is about. Members have no task and no connection; that
//! they are members is the status of their sessions ([`agents`](super::agents)). An agent parts from the poll when something
//! seems to be wrong with its session: a [keeper](super::keeper) of its own looks into that, makes the session anew where it
//! is lost, and joins the poll again.
//!
//! A good poll says nothing of the other members' sessions, and renews no Guid of theirs as far as is known. So each of them
//! is [looked at](look) from time to time.

mod look;
mod usable;

use std::{ops::Bound, sync::Arc, time::Duration};

use rand::RngExt as _;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

pub(super) use self::usable::NodePolls;
use super::{
    Tenant,
    agents::{AgentRecords, Event, Health, Node},
    handover::spread_of,
    keeper::{Parting, RENEWAL_WAIT, Silence},
    ownership::Polls as _,
    single_poll::Finding,
};
use crate::{
    config::{AuthMode, PollFor},
    id::AgentId,
    session::{Origin, Session},
};

/// The task that polls for all agents of a node.
struct NodePoll {
    tenant: Arc<Tenant>,
    node: Node,
}

/// What the polls so far leave for the next one.
#[derive(Debug, Default)]
struct Progress {
    /// The member with whose Guid was asked last.
    carrier: Option<AgentId>,
    /// Members who may be signed out, and who cannot be asked about. With their Guids is asked first, which shows it.
    suspects: Vec<AgentId>,
    silence: Option<Silence>,
}

/// What follows from a poll for all agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Follows {
    /// The gateway has answered.
    Good,
    /// It has refused the carrier. With another member's Guid it may answer.
    NextCarrier,
    /// It has given no usable answer.
    Silence,
    /// Another client gets the events now.
    Elsewhere,
    /// It has no such polls.
    PollsForEach,
}

/// The pause after a poll that was refused. When a gateway has lost all sessions, each carrier finds out about its own.
const REFUSED_PAUSE: Duration = Duration::from_millis(10);

// === impl Tenant ===

impl Tenant {
    /// Whether polls are for all agents of a node. Replicas go on with polls for each if a reload says otherwise together with
    /// a change of the store, which waits for a restart.
    pub(super) fn polls_for_all(&self) -> bool {
        let is_wanted = self.config.keep.poll == PollFor::All && !self.is_kept_by_replicas();
        is_wanted && self.node_polls.are_usable()
    }

    /// Leaves the session of the keeper with this number to the poll of its node.
    pub(super) fn join(self: &Arc<Self>, agent: AgentId, keeper: u64, session: &Session) {
        let node = Node::of(session);
        let joined = Event::Joined { keeper, node: node.clone() };
        if self.agents.apply(agent, joined).node_begins {
            let poll = NodePoll { tenant: self.clone(), node: node.clone() };
            let (keeping, run) = (self.work.keeping.clone(), Box::pin(poll.run()));
            self.work.tasks.spawn(async move { keeping.run_until_cancelled(run).await });
        }
        // A call may have made another session before the agent was a member, and woken the keeper in vain.
        let newest = self.sessions.cached(agent);
        if newest.is_some_and(|newest| Node::of(&newest) != node) {
            self.part(agent, Parting::default());
        }
    }

    /// A member's session, if it is still this node's to keep. A renewal may have moved it, and its owner may have handed
    /// another one in.
    async fn session_at(self: &Arc<Self>, node: &Node, agent: AgentId) -> Option<Arc<Session>> {
        let session = self.session(agent).await.ok().flatten()?;
        let is_here = session.origin == Origin::SignedIn && Node::of(&session) == *node;
        (is_here && self.can_have(agent)).then_some(session)
    }

    /// Says once that each agent is polled for from now on, and why. Members part from their nodes' polls.
    pub(super) fn say_polled_for_each(&self, cause: &'static str) {
        warn!(ccgw.tenant.id = %self.id, cause, "polls for all agents do not work here, so each agent is polled for; keep.poll is tried again when the tenant's configuration changes");
    }
}

// === impl NodePoll ===

impl NodePoll {
    async fn run(self) {
        let node = self.node.name();
        debug!(ccgw.tenant.id = %self.tenant.id, ccgw.gateway.node = node, "polls for all agents of a node begin");
        let ended = CancellationToken::new();
        let polls = async {
            self.poll_on().await;
            ended.cancel();
        };
        tokio::join!(polls, self.look_around(&ended));
        debug!(ccgw.tenant.id = %self.tenant.id, ccgw.gateway.node = node, "polls for all agents of a node have ended");
    }

    /// Polls for as long as there are members.
    async fn poll_on(&self) {
        let mut progress = Progress::default();
        loop {
            let tenant = self.tenant.newest();
            if !tenant.polls_for_all() {
                self.part_all(&tenant, Parting::default());
            }
            let Some(carrier) = progress.next_carrier(&tenant.agents, &self.node) else {
                if tenant.agents.end_node(&self.node) {
                    return;
                }
                continue;
            };
            let pause = self.poll_with(carrier, &tenant, &mut progress).await;
            sleep(pause).await;
        }
    }

    /// Polls once with this member's Guid, and acts on the result. Returns the pause until the next poll.
    async fn poll_with(
        &self,
        carrier: AgentId,
        tenant: &Arc<Tenant>,
        progress: &mut Progress,
    ) -> Duration {
        let Some(session) = tenant.session_at(&self.node, carrier).await else {
            // Its keeper finds out what has become of the session.
            tenant.part(carrier, Parting::default());
            return Duration::ZERO;
        };
        let asked = Instant::now();
        let (finding, signed_out) = tenant.poll_for_all(carrier, &session).await;
        for agent in signed_out {
            if tenant.can_look() {
                let suspicion = Some(Finding::SignedOutByOthers);
                tenant.part(agent, Parting { suspicion, ..<_>::default() });
            } else {
                progress.suspects.push(agent);
            }
        }
        let is_dynamic = tenant.config.auth_mode == AuthMode::Dynamic;
        match follows(finding) {
            Follows::Good => {
                tenant.node_polls.answered();
                // Without a Guid, the poll has named no agent.
                if tenant.has_guids() {
                    tenant.was_good(carrier, asked, !is_dynamic);
                }
                self.end_silence(tenant, progress);
            }
            Follows::NextCarrier => {
                let blames_guid = matches!(finding, Finding::GuidRefused | Finding::SignedOut);
                let refused_version = blames_guid.then_some(session.version);
                let suspicion = Some(finding);
                tenant.part(carrier, Parting { suspicion, refused_version, ..<_>::default() });
                return REFUSED_PAUSE;
            }
            Follows::Silence => {
                self.forget_activities(tenant);
                if Silence::note(&mut progress.silence, Instant::now()) {
                    let (suspicion, silence) = (Some(finding), progress.silence.take());
                    self.part_all(tenant, Parting { suspicion, silence, ..<_>::default() });
                } else {
                    self.tell_all(tenant, Health::Doubtful, finding.cause());
                    if finding == Finding::AnswerLost && is_dynamic {
                        ask_for_newer_guid(carrier, tenant).await;
                    }
                }
            }
            Follows::Elsewhere => {
                self.forget_activities(tenant);
                self.end_silence(tenant, progress);
            }
            Follows::PollsForEach => {
                if tenant.node_polls.give_up() {
                    tenant.say_polled_for_each(
                        "the gateway is not configured for them (000-001), or does not know them",
                    );
                }
                return Duration::ZERO;
            }
        }
        let keep = &tenant.config.keep;
        let pause = rand::rng().random_range(keep.pause_min..=keep.pause_max);
        Silence::stretch(progress.silence.as_ref(), pause)
    }

    fn members(&self, tenant: &Tenant) -> Vec<AgentId> {
        tenant.agents.members(&self.node, Bound::Unbounded, usize::MAX)
    }

    /// Gives each member a keeper of its own. Their keepers begin one after the other.
    fn part_all(&self, tenant: &Arc<Tenant>, parting: Parting) {
        let members = self.members(tenant);
        let spread = spread_of(members.len());
        for agent in members {
            tenant.part(agent, Parting { spread, ..parting });
        }
    }

    /// The gateway has said something usable.
    fn end_silence(&self, tenant: &Tenant, progress: &mut Progress) {
        if progress.silence.take().is_some() {
            self.tell_all(tenant, Health::Good, "");
        }
    }

    fn tell_all(&self, tenant: &Tenant, health: Health, cause: &'static str) {
        for agent in self.members(tenant) {
            tenant.note(agent, Event::PolledTogether { health, cause });
        }
    }

    /// The events of a poll were for nobody, or for somebody else.
    fn forget_activities(&self, tenant: &Tenant) {
        for agent in self.members(tenant) {
            tenant.agents.forget_activity(agent);
        }
    }
}

// === impl Progress ===

impl Progress {
    /// The member with whose Guid is asked next: the same one for as long as it is a member, and the polls are answered. What
    /// is wrong with one carrier alone must not look like a silence of the whole node.
    fn next_carrier(&mut self, agents: &AgentRecords, node: &Node) -> Option<AgentId> {
        let first_from = |begin| agents.members(node, begin, 1).first().copied();
        let is_member = |agent: &AgentId| first_from(Bound::Included(*agent)) == Some(*agent);
        while let Some(suspect) = self.suspects.pop() {
            if is_member(&suspect) {
                self.carrier = Some(suspect);
                return self.carrier;
            }
        }
        let begin = match self.carrier {
            None => Bound::Unbounded,
            Some(carrier) if self.silence.is_some() => Bound::Excluded(carrier),
            Some(carrier) => Bound::Included(carrier),
        };
        self.carrier = first_from(begin);
        self.carrier
    }
}

/// The answer that was lost may have brought a newer Guid of the carrier's, which the gateway need not send again. Polls wait
/// only a short time for it.
async fn ask_for_newer_guid(carrier: AgentId, tenant: &Arc<Tenant>) {
    let (asked, renewed) = (Instant::now(), Box::pin(tenant.renew(carrier)));
    match timeout(RENEWAL_WAIT, renewed).await {
        Ok(Finding::Alive) => tenant.was_good(carrier, asked, true),
        // Its keeper asks once more, and notes that the Guid was lost.
        Ok(Finding::GuidRefused | Finding::SignedOut | Finding::Other) => {
            tenant.part(carrier, Parting { newer_guid_may_be_lost: true, ..<_>::default() });
        }
        // If the next poll is answered, the carrier has its turn like the others.
        _ => {}
    }
}

fn follows(finding: Finding) -> Follows {
    match finding {
        Finding::Alive => Follows::Good,
        Finding::GuidRefused
        | Finding::SignedOut
        | Finding::SignedOutByOthers
        | Finding::Switchover => Follows::NextCarrier,
        Finding::AnswerLost | Finding::Silent | Finding::Other => Follows::Silence,
        Finding::PolledElsewhere => Follows::Elsewhere,
        Finding::PollsDisabled => Follows::PollsForEach,
    }
}

#[cfg(test)]
mod tests;
