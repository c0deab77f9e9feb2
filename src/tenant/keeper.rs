//! Keeps the sessions alive that the bridge made.
//!
//! One task for each such agent polls its events. The poll is the heartbeat without which the
//! gateway signs the agent out after two minutes (cec_07_1202), and the only call on which it
//! renews a dynamic Guid (cec_07_0005). A session that is lost is made anew by signing in, paced
//! over the tenant's agents and for a limited time.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rand::RngExt as _;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Tenant, poll::Finding};
use crate::{
    call::CallError,
    id::AgentId,
    session::{Origin, Session},
};

/// The tasks that keep a tenant's sessions, by agent.
#[derive(Debug, Default)]
pub(super) struct Keepers(Mutex<HashMap<AgentId, Running>>);

#[derive(Debug)]
struct Running {
    /// Tells a keeper that has just ended from the one that has taken its place.
    number: u64,
    stop: CancellationToken,
}

/// How a kept session is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It is polled, and the gateway answers.
    Kept,
    /// The gateway does not answer as it should, or has forgotten it.
    Doubtful,
    /// It is being made anew.
    Recovering,
}

/// Why a session is kept no longer.
#[derive(Clone, Copy, Debug)]
enum End {
    /// Signed out, or replaced by one that its owner keeps.
    NotOurs,
    /// The gateway hands events out in another way than by polls for one agent (000-001).
    PollsDisabled,
    /// The password was rejected, or there is none.
    NoCredentials,
    /// It could not be made anew in time.
    GaveUp,
}

struct Keeper {
    tenant: Arc<Tenant>,
    agent: AgentId,
    number: u64,
    state: State,
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
const BACKOFF_FIRST: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(30);

// === impl Keepers ===

impl Keepers {
    /// Keeps this agent's session from now on, unless that is being done.
    pub(super) fn start(&self, tenant: &Arc<Tenant>, agent: AgentId) {
        let mut keepers = self.keepers();
        if !tenant.config.keep.enabled || keepers.contains_key(&agent) {
            return;
        }
        let stop = tenant.work.keeping.child_token();
        let number = LAST_NUMBER.fetch_add(1, Ordering::Relaxed);
        keepers.insert(agent, Running { number, stop: stop.clone() });
        let keeper = Keeper {
            tenant: tenant.clone(),
            agent,
            number,
            state: State::Kept,
            refusals: 0,
            silence: None,
        };
        // Waited for when the bridge stops, so that none is cut in the middle of a line it writes.
        tenant.work.tasks.spawn(async move { stop.run_until_cancelled(keeper.run()).await });
    }

    /// Polls no more for this agent; a poll that is under way is dropped.
    pub(super) fn stop(&self, agent: AgentId) {
        if let Some(keeper) = self.keepers().remove(&agent) {
            keeper.stop.cancel();
        }
    }

    /// The agents whose sessions are kept, or were until the bridge began to stop.
    pub(super) fn agents(&self) -> Vec<AgentId> {
        self.keepers().keys().copied().collect()
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
        let end = loop {
            if let Err(end) = self.turn().await {
                break end;
            }
        };
        self.tenant.keepers.ended(self.agent, self.number);
        // A call may have made the session anew just before this keeper was off the list, and have
        // found it still on it.
        if matches!(end, End::NotOurs) && self.session().await.is_ok() {
            return self.tenant.keepers.start(&self.tenant, self.agent);
        }
        let (tenant, agent) = (&self.tenant.id, self.agent);
        if matches!(end, End::NotOurs) {
            info!(tenant.id = %tenant, agent.id = %agent, "session no longer kept: {end}");
        } else {
            warn!(tenant.id = %tenant, agent.id = %agent, "session no longer kept: {end}");
        }
    }

    /// One poll and what follows from it.
    async fn turn(&mut self) -> Result<(), End> {
        let session = self.session().await?;
        let finding = self.tenant.poll(self.agent, &session).await;
        let lost = match finding {
            Finding::Alive => {
                (self.refusals, self.silence) = (0, None);
                self.enter(State::Kept);
                false
            }
            Finding::PollsDisabled => return Err(End::PollsDisabled),
            Finding::SignedOut => true,
            Finding::GuidRefused => {
                // A call may have brought a newer Guid while this poll was on its way.
                if self.session().await?.version > session.version {
                    return Ok(());
                }
                self.refusals += 1;
                self.refusals >= self.tenant.config.keep.refusals
            }
            // The agent is being moved to another site, where its Guid stays good.
            Finding::Switchover => false,
            Finding::Silent => {
                let now = Instant::now();
                let silence = self.silence.get_or_insert(Silence { since: now, polls: 0 });
                silence.polls += 1;
                silence.since.elapsed() >= self.tenant.config.keep.silence
            }
        };
        if lost {
            return self.recover(&session).await;
        }
        if finding != Finding::Alive {
            self.enter(State::Doubtful);
        }
        self.pause().await;
        Ok(())
    }

    /// The session that is to be kept now.
    async fn session(&self) -> Result<Arc<Session>, End> {
        let session = self.tenant.session(self.agent).await.ok().flatten();
        session.filter(|session| session.origin == Origin::SignedIn).ok_or(End::NotOurs)
    }

    /// Signs in until there is a session, or it is of no use to go on.
    async fn recover(&mut self, lost: &Session) -> Result<(), End> {
        self.enter(State::Recovering);
        let started = Instant::now();
        let mut backoff = BACKOFF_FIRST;
        loop {
            match self.tenant.recover(self.agent, lost.version).await {
                Ok(_session) => {
                    (self.refusals, self.silence) = (0, None);
                    self.enter(State::Kept);
                    return Ok(());
                }
                Err(CallError::SessionMissing) => return Err(End::NoCredentials),
                Err(error) if error.is_credentials_rejected() => return Err(End::NoCredentials),
                Err(_) if started.elapsed() >= self.tenant.config.keep.recovery => {
                    return Err(End::GaveUp);
                }
                // Full jitter: agents that were lost together must not come back together.
                Err(_) => {
                    let share: f64 = rand::rng().random();
                    sleep(backoff.mul_f64(share)).await;
                }
            }
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// Longer and longer while the gateway is silent: all of its agents ask at this pace.
    async fn pause(&self) {
        let keep = &self.tenant.config.keep;
        let pause = rand::rng().random_range(keep.pause_min..=keep.pause_max);
        let doublings = self.silence.as_ref().map_or(0, |silence| silence.polls.min(DOUBLINGS_MAX));
        sleep(pause * 2_u32.pow(doublings)).await;
    }

    fn enter(&mut self, state: State) {
        let former = std::mem::replace(&mut self.state, state);
        if former == state {
            return;
        }
        let (tenant, agent) = (&self.tenant.id, self.agent);
        match state {
            State::Kept => info!(tenant.id = %tenant, agent.id = %agent, "session kept again"),
            State::Doubtful => warn!(tenant.id = %tenant, agent.id = %agent, "session in doubt"),
            State::Recovering => {
                warn!(tenant.id = %tenant, agent.id = %agent, "session lost; signing in anew");
            }
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotOurs => "signed out, or kept by its owner",
            Self::PollsDisabled => "the gateway allows no polls for one agent (000-001)",
            Self::NoCredentials => "there is no password that the gateway accepts",
            Self::GaveUp => "it could not be made anew in time",
        })
    }
}
