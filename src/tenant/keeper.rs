//! Keeps the sessions alive that the bridge made: how often it polls, and when a session counts as
//! lost.
//!
//! For each such agent, one task polls for events. The poll is the heartbeat without which the
//! gateway signs the agent out after two minutes (cec_07_1202). It is also the only call on which
//! the gateway renews a dynamic Guid (cec_07_0005). A lost session is made anew by signing in, at a
//! limited rate for all agents of the tenant, and for a limited time.
//!
//! With `keep.poll = "all"` a keeper leaves a good session to the [poll of its node](super::node_poll), and ends. The agent
//! gets another one when something seems to be wrong with the session.

mod end;
mod parting;
mod recovery;
mod silence;
mod with_all;

use std::{sync::Arc, time::Duration};

use rand::RngExt as _;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use self::end::End;
pub(super) use self::{parting::Parting, silence::Silence};
use super::{
    Tenant,
    agents::{Event, GUIDLESS_MAX, Health, Keeper, Loss},
    contested_poll::ContestedPolls,
    ownership::Polls as _,
    single_poll::Finding,
};
use crate::{
    call::Obstacle,
    config::AuthMode,
    id::AgentId,
    session::{EndOf, Origin, Session},
};

/// When a keeper polls for the first time.
#[derive(Clone, Copy, Debug)]
pub(super) enum FirstPoll {
    AtOnce,
    /// At a random time within this duration. Another process has polled before: the one before
    /// this one, or another replica.
    OfAnother(Duration),
}

/// The task that keeps an agent's session.
struct Keeping {
    tenant: Arc<Tenant>,
    agent: AgentId,
    number: u64,
    finish: CancellationToken,
    wake: Arc<Notify>,
    /// The pause before the first poll.
    delay: Duration,
    /// The answer to a poll that brought a newer Guid may have been lost on its way, or with the process
    /// that polled before, which may have ended, or lost its lease, before it stored that Guid. The
    /// gateway need not send the new Guid again, and soon refuses the old one.
    newer_guid_may_be_lost: bool,
    /// The session that was seen last.
    last: Option<Arc<Session>>,
    /// Whether the gateway allows polls for one agent.
    polls: bool,
    /// What the poll of its node has found that needs looking into, and of which version of the session.
    suspicion: Option<(Finding, u64)>,
    /// See [`Parting::refused_version`].
    refused_version: Option<u64>,
    refusals: u32,
    contested: ContestedPolls,
    silence: Option<Silence>,
}

/// How many polls in a row are refused for the Guid before a session counts as lost. One refused
/// poll may have crossed a renewal of the Guid. Public clients allow five, but their agents get no
/// calls meanwhile.
const REFUSALS_MAX: u32 = 3;
/// How long the next poll may wait for a new Guid.
pub(super) const RENEWAL_WAIT: Duration = Duration::from_secs(5);

// === impl Tenant ===

impl Tenant {
    /// Applies an event that starts no keeper.
    pub(super) fn note(&self, agent: AgentId, event: Event) {
        let applied = self.agents.apply(agent, event);
        debug_assert!(applied.start.is_none(), "a keeper without a task");
    }

    /// Keeps this agent's session from now on. If there is a keeper already, it polls at once: it
    /// may be in a long pause because the gateway was silent, and a new session needs its first
    /// poll. `cause` says why the session is good.
    pub(super) fn keep(
        self: &Arc<Self>,
        agent: AgentId,
        cause: &'static str,
        first_poll: FirstPoll,
    ) {
        if !self.config.keep.enabled {
            return;
        }
        let keeper = self.agents.new_keeper(&self.work.keeping);
        let applied = self.agents.apply(agent, Event::Kept { keeper, cause });
        let Some(keeper) = applied.start else { return };
        let (spread, newer_guid_may_be_lost) = match first_poll {
            FirstPoll::AtOnce => (Duration::ZERO, false),
            FirstPoll::OfAnother(spread) => (spread, self.config.auth_mode == AuthMode::Dynamic),
        };
        self.start_keeper(
            agent,
            keeper,
            Parting { newer_guid_may_be_lost, spread, ..<_>::default() },
        );
    }

    /// Gives the agent a keeper of its own, if the poll of its node has kept the session until now.
    pub(super) fn part(self: &Arc<Self>, agent: AgentId, parting: Parting) {
        let keeper = self.agents.new_keeper(&self.work.keeping);
        if let Some(keeper) = self.agents.apply(agent, Event::Parted(keeper)).start {
            self.start_keeper(agent, keeper, parting);
        }
    }

    /// Notes that the gateway has taken an agent's session for good when it was asked at this time, and, with its newest
    /// Guid, that no other was lost.
    pub(super) fn was_good(&self, agent: AgentId, asked: Instant, with_newest_guid: bool) {
        // The gateway may go on with an earlier request for this long.
        if let Some(settled) = asked.checked_sub(self.config.timeouts.settle) {
            self.agents.was_good(agent, settled);
        }
        if with_newest_guid {
            self.agents.guid_known(agent, asked);
        }
    }

    fn start_keeper(self: &Arc<Self>, agent: AgentId, keeper: Keeper, parting: Parting) {
        let Keeper { number, stop, finish, wake } = keeper;
        let Parting { suspicion, refused_version, newer_guid_may_be_lost, silence, spread } =
            parting;
        let known = || self.sessions.cached(agent).map(|session| session.version);
        let version = refused_version.or_else(known).unwrap_or_default();
        let keeping = Keeping {
            tenant: self.clone(),
            agent,
            number,
            finish,
            wake,
            delay: spread.mul_f64(rand::rng().random()),
            newer_guid_may_be_lost,
            last: None,
            polls: true,
            suspicion: suspicion.map(|found| (found, version)),
            refused_version,
            refusals: 0,
            contested: ContestedPolls::default(),
            silence,
        };
        // Tracked, so that the bridge waits for it when it stops, and no log line is cut off.
        // Boxed, because otherwise the task would contain the future twice: as an argument, and
        // where it is polled.
        let run = Box::pin(keeping.run());
        self.work.tasks.spawn(async move { stop.run_until_cancelled(run).await });
    }
}

// === impl Keeping ===

impl Keeping {
    async fn run(mut self) {
        tokio::select! {
            biased;
            () = self.wake.notified() => {}
            () = self.finish.cancelled() => {}
            () = sleep(self.delay) => {}
        }
        let end = loop {
            if let Err(end) = self.turn().await {
                break end;
            }
        };
        if matches!(end, End::Joined) {
            return;
        }
        let Self { tenant, agent, .. } = &self;
        // No other replica goes on with an agent who is not the tenant's.
        let is_over = matches!(end, End::HandedOver) && !tenant.can_have(*agent);
        let end = if is_over { End::NotOfTenant } else { end };
        if matches!(end, End::PollsDisabled) {
            tenant.agents.allows_no_polls(*agent, self.version());
        }
        tenant.note(*agent, Event::KeeperLeft { keeper: self.number });
        tenant.keeper_ended(*agent);
        let ended = Event::Ended { keeper: self.number, state: end.state(), cause: end.cause() };
        match end {
            End::NoCredentials | End::GaveUp | End::TakenOver => {
                tenant.note(*agent, ended);
                // If it stayed stored, each replica in turn would try to keep it, and fail.
                let _unavailable = tenant.sessions.remove(*agent, self.version()).await;
            }
            // After `KeeperLeft`: the end of a session stops the agent's keeper, which would be this task.
            End::SignedOut => {
                if let Some(session) = &self.last {
                    // If there is another Guid, a poll with it shows whether the agent is signed out.
                    tenant.forget_signed_out(*agent, session, EndOf::Version).await;
                }
                if self.has_another().await {
                    tenant.keep_again(*agent);
                }
            }
            // A call may have made a new session while this keeper was still registered. It then
            // started no keeper of its own.
            End::NotOurs | End::Registered if self.has_another().await => {
                // Another replica may have got the lease meanwhile.
                if !tenant.keep_again(*agent) {
                    tenant
                        .note(*agent, Event::Ended { keeper: self.number, state: None, cause: "" });
                }
            }
            // It has returned.
            End::Joined => {}
            // The session stays stored, and nobody is signed out: an agent who is not of the tenant may be another
            // bridge's now, or its agent ids a slip. If it was unclear, the replica that gets the lease when the
            // store answers again keeps it.
            End::HandedOver
            | End::NotOfTenant
            | End::PollsDisabled
            | End::Registered
            | End::NotOurs
            | End::Unclear
            | End::StoreUnsteady => tenant.note(*agent, ended),
        }
    }

    async fn has_another(&self) -> bool {
        matches!(self.session().await, Ok(Some(_)))
    }

    /// Asks for a new Guid if one may have been lost. Polls wait only a short time for it: without
    /// polls the gateway signs the agent out.
    async fn ask_for_newer_guid(&mut self) -> Result<(), End> {
        // Where polls are not allowed, each turn asks for one. Without a lease, the new Guid might be
        // unknown to the replica that polls.
        let is_due = self.newer_guid_may_be_lost && self.polls;
        if !is_due || !self.tenant.is_sole_keeper(self.agent) {
            return Ok(());
        }
        // Ends here if an owner has handed another session in: its Guid is not the bridge's to replace.
        let version = self.session().await?.map_or(0, |session| session.version);
        let asked = timeout(RENEWAL_WAIT, Box::pin(self.tenant.renew(self.agent)));
        match self.finish.run_until_cancelled(asked).await {
            None => return Err(End::HandedOver),
            // Nothing was done, as far as is known.
            Some(
                Err(_)
                | Ok(
                    Finding::AnswerLost
                    | Finding::Silent
                    | Finding::PolledElsewhere
                    | Finding::Switchover,
                ),
            ) => {}
            // The Guid that a newer one has replaced has ended, or there is no way to get the newer one.
            Some(Ok(found @ (Finding::GuidRefused | Finding::Other))) => {
                self.tenant.agents.lost(self.agent, Loss::Guid, Instant::now());
                (self.newer_guid_may_be_lost, self.suspicion) = (false, Some((found, version)));
            }
            Some(Ok(Finding::Alive)) => self.newer_guid_may_be_lost = false,
            // Where it cannot be had, the next poll shows why.
            Some(Ok(found)) => {
                (self.newer_guid_may_be_lost, self.suspicion) = (false, Some((found, version)));
            }
        }
        Ok(())
    }

    /// Polls once, and acts on the result.
    async fn turn(&mut self) -> Result<(), End> {
        self.tenant = self.tenant.newest();
        if !self.tenant.can_have(self.agent) {
            return Err(End::NotOfTenant);
        }
        if self.finish.is_cancelled() || !self.tenant.may_poll(self.agent) {
            return Err(End::HandedOver);
        }
        self.ask_for_newer_guid().await?;
        let Some(session) = self.session().await? else {
            // The store does not answer now; it may next time.
            return self.rest(self.pause()).await;
        };
        self.last = Some(session.clone());
        let asked = Instant::now();
        let with_all = self.tenant.polls_for_all();
        let finding = if with_all {
            Box::pin(self.join_or_look(&session)).await?
        } else if self.polls {
            self.tenant.poll(self.agent, &session).await
        } else {
            let renewed = Box::pin(self.tenant.renew(self.agent));
            self.finish.run_until_cancelled(renewed).await.ok_or(End::HandedOver)?
        };
        let is_dynamic = self.tenant.config.auth_mode == AuthMode::Dynamic;
        // With polls for all, a session may also be trusted where the gateway cannot be asked.
        if finding == Finding::Alive && !with_all {
            self.was_good(asked, !is_dynamic || !self.polls);
        }
        let finding = match finding {
            Finding::PolledElsewhere => self.contested(&session).await,
            finding => finding,
        };
        self.newer_guid_may_be_lost |= finding == Finding::AnswerLost && is_dynamic;
        if matches!(finding, Finding::AnswerLost | Finding::PolledElsewhere) {
            // The events of that poll were for nobody, or for somebody else.
            self.tenant.agents.forget_activity(self.agent);
        }
        if self.is_lost(finding, &session).await? {
            // Without a lease, another replica may have renewed the Guid, so that it is refused
            // here. A sign-in would take the agent away from that replica.
            if !self.tenant.is_sole_keeper(self.agent) {
                return Err(End::Unclear);
            }
            let asked = Box::pin(self.tenant.unclear_sign_out(self.agent, session.made)).await;
            // Where the store does not say, the recovery waits for it, and this is asked again before a sign-in.
            if let Ok(Some(asked)) = asked {
                return self.end_unless_silent(finding, asked).await;
            }
            return Box::pin(self.recover(finding)).await;
        }
        self.rest(self.pause()).await
    }

    /// The gateway has taken the session for good.
    fn was_good(&mut self, asked: Instant, with_newest_guid: bool) {
        self.newer_guid_may_be_lost &= !with_newest_guid;
        self.tenant.was_good(self.agent, asked, with_newest_guid);
    }

    /// What follows for a lost session that a sign-out has probably ended whose answer was lost. Nobody signs the agent in by
    /// itself. While the gateway says nothing, the agent may still be signed in, but no longer than a session lasts that
    /// nobody uses.
    async fn end_unless_silent(&self, finding: Finding, asked: Instant) -> Result<(), End> {
        let is_silent = matches!(finding, Finding::AnswerLost | Finding::Silent | Finding::Other);
        if is_silent && asked.elapsed() < GUIDLESS_MAX {
            return self.rest(self.pause()).await;
        }
        Err(End::SignedOut)
    }

    /// What follows from another poll that was open. It may be one of a client that has taken the agent
    /// over, which polls nearly all the time, so that no poll of this keeper gets as far as its Guid.
    async fn contested(&mut self, session: &Session) -> Finding {
        if !self.contested.note(Instant::now()) {
            return Finding::PolledElsewhere;
        }
        let found = Box::pin(self.tenant.check_session(self.agent, session)).await;
        self.contested.checked(found, Instant::now());
        match found {
            Some(lost @ (Finding::GuidRefused | Finding::SignedOut)) => {
                // The check itself has made sure.
                self.refusals = self.refusals.max(REFUSALS_MAX - 1);
                lost
            }
            _ => Finding::PolledElsewhere,
        }
    }

    async fn is_lost(&mut self, finding: Finding, session: &Session) -> Result<bool, End> {
        let lost = match finding {
            Finding::Alive => {
                self.settle();
                return Ok(false);
            }
            Finding::PollsDisabled => {
                if self.tenant.config.auth_mode != AuthMode::Dynamic {
                    return Err(End::PollsDisabled);
                }
                self.polls = false;
                self.settle();
                return Ok(false);
            }
            Finding::SignedOut | Finding::SignedOutByOthers => {
                // The answer may be about a session that a call has replaced meanwhile.
                if self.is_replaced(session.version).await? {
                    return Ok(false);
                }
                if finding == Finding::SignedOutByOthers {
                    self.tenant.agents.lost(self.agent, Loss::SignedOut, Instant::now());
                }
                true
            }
            Finding::GuidRefused => {
                // A call may have brought a newer Guid while this poll was under way.
                if self.is_replaced(session.version).await? {
                    return Ok(false);
                }
                self.refusals += 1;
                self.refusals >= REFUSALS_MAX
            }
            // The session is good, and the other poller gets its events.
            Finding::PolledElsewhere => return Ok(false),
            // The agent is being moved to another site, where its Guid stays good.
            Finding::Switchover => false,
            Finding::AnswerLost | Finding::Silent | Finding::Other => {
                Silence::note(&mut self.silence, Instant::now())
            }
        };
        if !lost {
            self.found(Health::Doubtful, finding.cause());
        }
        Ok(lost)
    }

    /// The session that is to be kept now; `None` if it is not known.
    async fn session(&self) -> Result<Option<Arc<Session>>, End> {
        let found = self.tenant.session(self.agent).await;
        let has_ended = self.tenant.sessions.has_ended(self.agent);
        to_be_kept(found, self.last.as_ref(), has_ended)
    }

    /// Whether there is a newer session than this version.
    async fn is_replaced(&self, version: u64) -> Result<bool, End> {
        Ok(self.session().await?.is_some_and(|session| session.version > version))
    }

    fn version(&self) -> u64 {
        self.last.as_ref().map_or(0, |session| session.version)
    }

    /// Pauses. Ends early if there may be a new session, or if the agent is handed over.
    async fn rest(&self, pause: Duration) -> Result<(), End> {
        let rest = async {
            tokio::select! {
                () = sleep(pause) => {}
                () = self.wake.notified() => {}
            }
        };
        self.finish.run_until_cancelled(rest).await.ok_or(End::HandedOver)
    }

    /// The pause until the next poll. It grows while the gateway is silent.
    fn pause(&self) -> Duration {
        let keep = &self.tenant.config.keep;
        // A renewal without an answer is tried again soon: the Guid ends before the next one is due.
        let with_all = self.tenant.polls_for_all();
        let pause = if self.polls || self.silence.is_some() || with_all {
            rand::rng().random_range(keep.pause_min..=keep.pause_max)
        } else {
            keep.guid_interval
        };
        Silence::stretch(self.silence.as_ref(), pause)
    }

    /// Notes that the session is good.
    fn settle(&mut self) {
        (self.suspicion, self.refusals, self.silence) = (None, 0, None);
        self.contested = ContestedPolls::default();
        if self.polls || self.tenant.polls_for_all() {
            self.found(Health::Good, "");
        } else {
            self.found(Health::Unpolled, End::PollsDisabled.cause());
        }
    }

    fn found(&self, health: Health, cause: &'static str) {
        self.tenant.note(self.agent, Event::Polled { keeper: self.number, health, cause });
    }
}

/// The session that is to be kept. If the store does not answer, it is the one seen last, unless
/// this replica knows that it `has_ended`: an agent who was signed out must not be signed in again.
fn to_be_kept(
    found: Result<Option<Arc<Session>>, Obstacle>,
    last: Option<&Arc<Session>>,
    has_ended: bool,
) -> Result<Option<Arc<Session>>, End> {
    match found {
        Ok(Some(session)) if session.origin == Origin::SignedIn => Ok(Some(session)),
        Ok(Some(_)) => Err(End::Registered),
        Ok(None) => Err(End::NotOurs),
        Err(_unavailable) if has_ended => Err(End::NotOurs),
        Err(_unavailable) => Ok(last.cloned()),
    }
}

#[cfg(test)]
mod tests;
