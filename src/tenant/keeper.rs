//! Keeps the sessions alive that the bridge made.
//!
//! One task for each such agent polls its events. The poll is the heartbeat without which the
//! gateway signs the agent out after two minutes (cec_07_1202), and the only call on which it
//! renews a dynamic Guid (cec_07_0005). A session that is lost is made anew by signing in, paced
//! over the tenant's agents and for a limited time.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rand::RngExt as _;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{Tenant, poll::Finding, sign_ins::Settled, take_overs::Permission};
use crate::{
    call::Obstacle,
    config::AuthMode,
    id::AgentId,
    session::{Origin, Session, SessionState},
};

/// The tasks that keep a tenant's sessions, by agent.
#[derive(Debug, Default)]
pub(super) struct Keepers(Mutex<HashMap<AgentId, Running>>);

#[derive(Debug)]
struct Running {
    /// Tells a keeper that has just ended from the one that has taken its place.
    number: u64,
    /// Ends it at once.
    stop: CancellationToken,
    /// Ends it between two polls.
    finish: CancellationToken,
    /// Ends its pause.
    wake: Arc<Notify>,
}

/// Why a session is kept no longer.
#[derive(Clone, Copy, Debug)]
enum End {
    /// Signed out, or forgotten.
    NotOurs,
    /// The gateway hands events out in another way than by polls for one agent (000-001), and its
    /// Guids stay the same.
    PollsDisabled,
    /// Replaced by one that its owner keeps.
    Registered,
    /// The password was rejected, or there is none.
    NoCredentials,
    /// It could not be made anew in time.
    GaveUp,
    /// It was lost again and again, mostly since another client signs the agent in.
    TakenOver,
    /// Another replica goes on.
    HandedOver,
    /// It was lost while the store could not be asked, so that another replica may have it.
    Unclear,
}

struct Keeper {
    tenant: Arc<Tenant>,
    agent: AgentId,
    number: u64,
    finish: CancellationToken,
    wake: Arc<Notify>,
    /// Before the first poll.
    delay: Duration,
    /// Whether another process polled before, which may have ended between the answer that brought a
    /// newer Guid and its store, or dropped that answer with its lease. The gateway need not send the
    /// Guid again, and takes the old one not for long.
    may_be_old: bool,
    /// The session that was seen last.
    last: Option<Arc<Session>>,
    /// Whether the gateway allows polls for one agent.
    polls: bool,
    refusals: u32,
    silence: Option<Silence>,
}

/// Polls without a usable answer, one after the other.
struct Silence {
    since: Instant,
    polls: u32,
}

static LAST_NUMBER: AtomicU64 = AtomicU64::new(0);

/// Of the pause between polls: to 16 s by default, far below the gateway's two minutes.
const DOUBLINGS_MAX: u32 = 5;
/// Polls in a row that are refused for the Guid before a session is lost. One may cross a renewal of
/// the Guid; public clients take five, while their agent gets no calls.
const REFUSALS_MAX: u32 = 3;
/// How long a gateway may give no usable answer before a session is lost: half of the two minutes after
/// which it signs an agent out who is not polled (cec_07_1202).
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// How long a poll may wait for a new Guid.
const RENEWAL_WAIT: Duration = Duration::from_secs(5);
const BACKOFF_FIRST: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(30);

// === impl Keepers ===

impl Keepers {
    /// Keeps this agent's session from now on. A keeper that is there already polls at once: it may
    /// be in a long pause, for a gateway that was silent, and a new session wants its first poll.
    pub(super) fn start(&self, tenant: &Arc<Tenant>, agent: AgentId) {
        self.begin(tenant, agent, Duration::ZERO, false);
    }

    /// The same for a session that another process has polled: the one before this one, or another
    /// replica. The first poll comes at some moment within `spread`.
    pub(super) fn take_over(&self, tenant: &Arc<Tenant>, agent: AgentId, spread: Duration) {
        self.begin(tenant, agent, spread, tenant.config.auth_mode == AuthMode::Dynamic);
    }

    fn begin(&self, tenant: &Arc<Tenant>, agent: AgentId, spread: Duration, may_be_old: bool) {
        let mut keepers = self.keepers();
        if !tenant.config.keep.enabled {
            return;
        }
        if let Some(running) = keepers.get(&agent) {
            running.wake.notify_one();
            return;
        }
        let stop = tenant.work.keeping.child_token();
        let finish = CancellationToken::new();
        let number = LAST_NUMBER.fetch_add(1, Ordering::Relaxed);
        let wake = Arc::new(Notify::new());
        let (own_stop, own_finish) = (stop.clone(), finish.clone());
        let running = Running { number, stop: own_stop, finish: own_finish, wake: wake.clone() };
        keepers.insert(agent, running);
        let keeper = Keeper {
            tenant: tenant.clone(),
            agent,
            number,
            finish,
            wake,
            delay: spread.mul_f64(rand::rng().random()),
            may_be_old,
            last: None,
            polls: true,
            refusals: 0,
            silence: None,
        };
        // Waited for when the bridge stops, so that none is cut in the middle of a line it writes.
        // In a box, or it would be there twice: as an argument, and where it is polled.
        let run = Box::pin(keeper.run());
        tenant.work.tasks.spawn(async move { stop.run_until_cancelled(run).await });
    }

    /// Polls no more for this agent; a poll that is under way is dropped.
    pub(super) fn stop(&self, agent: AgentId) {
        if let Some(keeper) = self.keepers().remove(&agent) {
            keeper.stop.cancel();
        }
    }

    /// Polls no more for this agent once the poll that is under way has been answered; tells
    /// whether it has.
    pub(super) fn finish(&self, agent: AgentId) -> bool {
        let keepers = self.keepers();
        let running = keepers.get(&agent);
        running.inspect(|running| running.finish.cancel()).is_none()
    }

    /// The agents whose sessions are kept, or were until the bridge began to stop.
    pub(super) fn agents(&self) -> Vec<AgentId> {
        self.keepers().keys().copied().collect()
    }

    /// Whether this agent's session is being kept.
    pub(super) fn is_keeping(&self, agent: AgentId) -> bool {
        self.keepers().contains_key(&agent)
    }

    fn ended(&self, agent: AgentId, number: u64) {
        let mut keepers = self.keepers();
        if keepers.get(&agent).is_some_and(|running| running.number == number) {
            keepers.remove(&agent);
        }
    }

    fn keepers(&self) -> MutexGuard<'_, HashMap<AgentId, Running>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Keeper ===

impl Keeper {
    async fn run(mut self) {
        tokio::select! {
            biased;
            () = self.wake.notified() => {}
            () = self.finish.cancelled() => {}
            () = sleep(self.delay) => {}
        }
        let end = loop {
            self.renew_old().await;
            if let Err(end) = self.turn().await {
                break end;
            }
        };
        let Self { tenant, agent, .. } = &self;
        tenant.keepers.ended(*agent, self.number);
        tenant.keeper_ended(*agent);
        match end {
            End::HandedOver => tenant.states.forget(*agent),
            End::NoCredentials | End::GaveUp | End::TakenOver => {
                tenant.enter(*agent, end.state(), end.cause());
                // Else every replica in turn would try in vain to keep it.
                let _unavailable = tenant.sessions.remove(*agent, self.version()).await;
            }
            // A call may have made the session anew just before this keeper was off the list, and
            // have found it still on it.
            End::NotOurs | End::Registered if matches!(self.session().await, Ok(Some(_))) => {
                tenant.keep_again(*agent);
            }
            End::NotOurs | End::Registered if tenant.keepers.is_keeping(*agent) => {}
            // It stays stored: whoever gets the lease when the store is back goes on with it.
            End::PollsDisabled | End::Registered | End::NotOurs | End::Unclear => {
                tenant.enter(*agent, end.state(), end.cause());
            }
        }
    }

    /// Asks for a new Guid where the known one may be old. Polls do not wait for it long: without them
    /// the gateway signs the agent out.
    async fn renew_old(&mut self) {
        if !self.may_be_old || self.finish.is_cancelled() {
            return;
        }
        let renewing = async {
            // All agents of another replica may come at once, and calls want places too.
            let _place = self.tenant.renewals.acquire().await;
            // If that fails, the next poll finds out why.
            let _finding = Box::pin(self.tenant.renew(self.agent)).await;
        };
        let renewed = self.finish.run_until_cancelled(timeout(RENEWAL_WAIT, renewing)).await;
        self.may_be_old = !matches!(renewed, Some(Ok(())));
    }

    /// One poll and what follows from it.
    async fn turn(&mut self) -> Result<(), End> {
        if self.finish.is_cancelled() || !self.tenant.may_poll(self.agent) {
            return Err(End::HandedOver);
        }
        let Some(session) = self.session().await? else {
            // The store does not say; it may the next time.
            return self.rest(self.pause()).await;
        };
        self.last = Some(session.clone());
        let finding = if self.polls {
            self.tenant.poll(self.agent, &session).await
        } else {
            Box::pin(self.tenant.renew(self.agent)).await
        };
        if self.is_lost(finding, &session).await? {
            // Without a lease, the session may be lost here because another replica renews it. To
            // sign in would take the agent from there.
            if !self.tenant.is_sole_keeper(self.agent) {
                return Err(End::Unclear);
            }
            return Box::pin(self.recover(finding)).await;
        }
        self.rest(self.pause()).await
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
                // This may be about a session that a call has replaced meanwhile.
                if self.is_replaced(session.version).await? {
                    return Ok(false);
                }
                if finding == Finding::SignedOutByOthers {
                    self.tenant.take_overs.signed_out(self.agent, Instant::now());
                }
                true
            }
            Finding::GuidRefused => {
                // A call may have brought a newer Guid while this poll was on its way.
                if self.is_replaced(session.version).await? {
                    return Ok(false);
                }
                self.refusals += 1;
                self.refusals >= REFUSALS_MAX
            }
            // The session is good, and whoever polls for it gets its events.
            Finding::PolledElsewhere => return Ok(false),
            // The agent is being moved to another site, where its Guid stays good.
            Finding::Switchover => false,
            Finding::Silent => {
                let now = Instant::now();
                let silence = self.silence.get_or_insert(Silence { since: now, polls: 0 });
                silence.polls += 1;
                silence.since.elapsed() >= SILENCE_MAX
            }
        };
        if !lost {
            self.enter(SessionState::Doubtful, finding.cause());
        }
        Ok(lost)
    }

    /// The session that is to be kept now; `None`: it is not known.
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

    /// Has the agent signed in until there is a session, or it is of no use to go on. What the
    /// agent waits for its moment does not count towards the time that a recovery may take.
    async fn recover(&mut self, finding: Finding) -> Result<(), End> {
        self.enter(SessionState::Recovering, finding.cause());
        let limit = self.tenant.config.keep.recovery;
        let (mut spent, mut backoff) = (Duration::ZERO, BACKOFF_FIRST);
        self.give_way().await?;
        self.tenant.take_overs.recovering(self.agent, Instant::now());
        loop {
            let begun = Instant::now();
            let made = self.tenant.make_anew(self.agent, self.version());
            let made = self.finish.run_until_cancelled(made).await;
            let Settled { result, queued } = made.ok_or(End::HandedOver)?;
            spent += begun.elapsed().saturating_sub(queued);
            match result {
                Ok(()) => {
                    self.settle();
                    return Ok(());
                }
                Err(Obstacle::SessionMissing) => return Err(End::NoCredentials),
                // A call has found the agent with another client meanwhile.
                Err(Obstacle::TakenOver { .. }) => self.give_way().await?,
                Err(error) if error.is_credentials_rejected() => return Err(End::NoCredentials),
                Err(error) if error.is_signed_in_elsewhere() => self.give_way().await?,
                Err(_) if spent >= limit => return Err(End::GaveUp),
                // Full jitter: agents that were lost together must not come back together.
                Err(_) => {
                    let pause = backoff.mul_f64(rand::rng().random());
                    self.rest(pause).await?;
                    spent += pause;
                    backoff = (backoff * 2).min(BACKOFF_MAX);
                }
            }
        }
    }

    /// Leaves the agent to another client that signs it in, for a while or for good.
    async fn give_way(&self) -> Result<(), End> {
        loop {
            match self.tenant.take_overs.permission(self.agent, Instant::now()) {
                Permission::Now => return Ok(()),
                Permission::GivenUp => return Err(End::TakenOver),
                Permission::After(pause) => self.rest(pause).await?,
            }
            if self.is_replaced(self.version()).await? {
                return Ok(());
            }
        }
    }

    /// Ends early if there may be a new session, or if another replica is to go on.
    async fn rest(&self, pause: Duration) -> Result<(), End> {
        let rest = async {
            tokio::select! {
                () = sleep(pause) => {}
                () = self.wake.notified() => {}
            }
        };
        self.finish.run_until_cancelled(rest).await.ok_or(End::HandedOver)
    }

    /// Until the next poll: longer and longer while the gateway is silent, since all of its agents
    /// ask at this pace.
    fn pause(&self) -> Duration {
        let keep = &self.tenant.config.keep;
        let pause = if self.polls {
            rand::rng().random_range(keep.pause_min..=keep.pause_max)
        } else {
            keep.guid_interval
        };
        let doublings = self.silence.as_ref().map_or(0, |silence| silence.polls.min(DOUBLINGS_MAX));
        pause * 2_u32.pow(doublings)
    }

    /// The session is as it should be.
    fn settle(&mut self) {
        (self.refusals, self.silence) = (0, None);
        if self.polls {
            self.enter(SessionState::Kept, "");
        } else {
            self.enter(SessionState::Unkept, End::PollsDisabled.cause());
        }
    }

    /// A call may be about to sign the agent in or out; that says more than what a poll finds.
    fn enter(&self, state: SessionState, cause: &'static str) {
        let now = self.tenant.session_state(self.agent);
        if !matches!(now, None | Some(SessionState::SigningIn | SessionState::SigningOut)) {
            self.tenant.enter(self.agent, state, cause);
        }
    }
}

/// The session that is to be kept. Where the store cannot be asked, it is the one that was seen
/// last, unless this replica knows that it `has_ended`: an agent who was signed out must not be
/// signed in again.
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

// === impl End ===

impl End {
    fn state(self) -> SessionState {
        match self {
            Self::NotOurs | Self::HandedOver => SessionState::Gone,
            Self::PollsDisabled => SessionState::Unkept,
            Self::Registered => SessionState::Registered,
            Self::NoCredentials | Self::GaveUp | Self::TakenOver | Self::Unclear => {
                SessionState::Lost
            }
        }
    }

    fn cause(self) -> &'static str {
        match self {
            Self::NotOurs => "signed out",
            Self::Registered => "handed in by its owner",
            Self::PollsDisabled => "the gateway allows no polls for one agent (000-001)",
            Self::NoCredentials => "there is no password that the gateway accepts",
            Self::TakenOver => "it was lost again and again, mostly to another client",
            Self::GaveUp => "it could not be made anew in time",
            Self::HandedOver => "another replica goes on",
            Self::Unclear => {
                "it was lost while the store cannot be asked, so another replica may have it; it is \
                 made anew when the store answers, or by the agent's next call"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::{
        call::StoreTrouble,
        session::{Cookies, Guid},
    };

    fn session(origin: Origin) -> Arc<Session> {
        let (guid, cookies) = (Guid::parse("a").unwrap(), Arc::new(Cookies::default()));
        let renewed_at = SystemTime::now();
        Arc::new(Session { guid, origin, version: 1, renewed_at, expires_at: None, cookies })
    }

    #[test]
    fn a_store_that_cannot_be_asked_does_not_say_that_the_agent_was_signed_out() {
        let unavailable = || Err(Obstacle::StoreUnavailable(StoreTrouble::Silent));
        let last = session(Origin::SignedIn);
        let kept = to_be_kept(unavailable(), Some(&last), false).unwrap();
        assert_eq!(kept.map(|session| session.version), Some(last.version));
        assert!(to_be_kept(unavailable(), None, false).unwrap().is_none(), "it is asked again");
        let end = to_be_kept(Ok(None), Some(&last), false);
        assert!(matches!(end, Err(End::NotOurs)), "{end:?}");
        let end = to_be_kept(Ok(Some(session(Origin::Registered))), Some(&last), false);
        assert!(matches!(end, Err(End::Registered)), "{end:?}");
        let end = to_be_kept(unavailable(), Some(&last), true);
        assert!(matches!(end, Err(End::NotOurs)), "this replica knows it: {end:?}");
        assert!(to_be_kept(Ok(Some(last)), None, true).unwrap().is_some(), "signed in elsewhere");
    }
}
