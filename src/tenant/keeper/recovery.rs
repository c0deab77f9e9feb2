//! How a keeper has a lost session made anew.

use std::{mem, time::Duration};

use rand::RngExt as _;
use tokio::time::Instant;

use super::{End, Keeping};
use crate::{
    call::Obstacle,
    tenant::{
        agents::{Health, Loss, Permission},
        automatic_sign_ins::Settled,
        ownership::Polls as _,
        session_lookup::settles_after,
        single_poll::Finding,
    },
};

/// What a keeper has heard of the store while it has its session made anew.
#[derive(Default)]
struct StoreAnswers {
    /// When the question was asked that it has answered last.
    last: Option<Instant>,
    /// Whether it has left a question unanswered since then.
    failed: bool,
}

/// How a recovery has gone so far.
struct Effort {
    store: StoreAnswers,
    /// How long it has tried, without its time in the queue of sign-ins.
    spent: Duration,
    /// The longest pause before the next attempt.
    backoff: Duration,
}

const BACKOFF_FIRST: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// The pause before a store that could not be asked is asked again.
const STORE_PAUSE: Duration = Duration::from_millis(500);

impl Keeping {
    /// Has the agent signed in until there is a session, or trying again makes no sense. The time
    /// in the queue of sign-ins does not count towards the time that a recovery may take.
    pub(super) async fn recover(&mut self, finding: Finding) -> Result<(), End> {
        self.found(Health::Recovering, finding.cause());
        let store = StoreAnswers::default();
        let mut effort = Effort { store, spent: Duration::ZERO, backoff: BACKOFF_FIRST };
        // How long this has waited for what others have to tell the store.
        let mut settled = Duration::ZERO;
        self.give_way().await?;
        // If the agent has been signed out, no session of the bridge's own is left.
        let is_out = matches!(finding, Finding::SignedOut | Finding::SignedOutByOthers);
        if mem::take(&mut self.newer_guid_may_be_lost) && !is_out {
            self.tenant.agents.lost(self.agent, Loss::Guid, Instant::now());
        }
        self.tenant.agents.lost(self.agent, Loss::Recovering, Instant::now());
        loop {
            self.tenant = self.tenant.newest();
            if !self.tenant.can_have(self.agent) {
                return Err(End::NotOfTenant);
            }
            // Before the queue is joined: its moments are for those who can use them.
            let asked = Instant::now();
            if self.is_store_silent().await {
                effort.store.failed = true;
                self.wait_for_store().await?;
                continue;
            }
            let limit = self.tenant.config.keep.recovery;
            // Also if the store was away before this began. What it refused to this keeper alone, such as for a right that
            // was missing, it may have refused to others too.
            let settles = effort.store.answered(asked).max(self.tenant.store_settles_in());
            if !settles.is_zero() && !self.is_replaced(self.version()).await? {
                // It goes away again and again.
                if settled >= limit {
                    return Err(End::StoreUnsteady);
                }
                // Whatever wakes this keeper ends its rest early.
                let begun = Instant::now();
                self.rest(settles).await?;
                settled += begun.elapsed();
                continue;
            }
            let begun = Instant::now();
            let made = self.tenant.make_anew(self.agent, self.version());
            let made = self.finish.run_until_cancelled(made).await;
            let Settled { result, queued } = made.ok_or(End::HandedOver)?;
            effort.spent += begun.elapsed().saturating_sub(queued);
            let Err(error) = result else {
                self.settle();
                return Ok(());
            };
            self.wait_after(&error, &mut effort, limit).await?;
        }
    }

    /// Waits until the agent may be signed in again after this failure. An error: that makes no sense, or was tried
    /// for longer than `limit`.
    async fn wait_after(
        &self,
        error: &Obstacle,
        effort: &mut Effort,
        limit: Duration,
    ) -> Result<(), End> {
        match error {
            Obstacle::SessionMissing => {
                // The agent may have been signed out meanwhile. Then this ends with another cause.
                let still = self.session().await?;
                let is_signed_out = still.is_some_and(|session| {
                    self.tenant.agents.unclear_sign_out(self.agent, session.made).is_some()
                });
                Err(if is_signed_out { End::SignedOut } else { End::NoCredentials })
            }
            // A call has found meanwhile that the agent is signed in, or this attempt has.
            Obstacle::TakenOver { .. } | Obstacle::GuidLost { .. } => self.give_way().await,
            _ if error.is_credentials_rejected() && !self.may_have_another_password().await => {
                Err(End::NoCredentials)
            }
            _ if error.is_signed_in_elsewhere() && !self.is_permitted() => self.give_way().await,
            _ if is_of_store(error) && effort.spent >= limit => Err(End::Unclear),
            _ if is_of_store(error) => {
                effort.store.failed = true;
                self.wait_for_store().await?;
                effort.spent += STORE_PAUSE;
                Ok(())
            }
            _ if effort.spent >= limit => Err(End::GaveUp),
            // Full jitter, so that agents which were lost together are not signed in together.
            _ => {
                let pause = effort.backoff.mul_f64(rand::rng().random());
                self.rest(pause).await?;
                effort.spent += pause;
                effort.backoff = (effort.backoff * 2).min(BACKOFF_MAX);
                Ok(())
            }
        }
    }

    /// Whether there may be a password that the gateway has not rejected, such as a new one in the
    /// configuration after that of a caller.
    async fn may_have_another_password(&self) -> bool {
        match self.tenant.newest().usable_credentials(self.agent).await {
            Ok(found) => found.is_some(),
            Err(error) => !error.is_credentials_rejected(),
        }
    }

    /// Whether the store does not say what other replicas have done with the agent.
    async fn is_store_silent(&self) -> bool {
        self.tenant.sessions.load(self.agent).await.is_err()
    }

    /// Waits a moment for a store that cannot be asked. Another replica may have signed the agent out, or
    /// have its password. An error: this replica's lease has run out.
    async fn wait_for_store(&self) -> Result<(), End> {
        if self.tenant.is_sole_keeper(self.agent) {
            self.rest(STORE_PAUSE).await
        } else {
            Err(End::Unclear)
        }
    }

    fn is_permitted(&self) -> bool {
        self.tenant.agents.permission(self.agent, Instant::now()) == Permission::Now
    }

    /// Waits as long as the agent must be left to another client. An error: it is given up.
    async fn give_way(&self) -> Result<(), End> {
        loop {
            match self.tenant.agents.permission(self.agent, Instant::now()) {
                Permission::Now => return Ok(()),
                Permission::GivenUp => return Err(End::TakenOver),
                Permission::After(pause) => self.rest(pause).await?,
            }
            if self.is_replaced(self.version()).await? {
                return Ok(());
            }
        }
    }
}

impl StoreAnswers {
    /// The store has answered what it was asked at this time. Returns how long others may need to tell it what they did
    /// while it did not answer.
    fn answered(&mut self, asked: Instant) -> Duration {
        let before = self.last.replace(asked);
        if !mem::take(&mut self.failed) {
            return Duration::ZERO;
        }
        // Its silence began at some time after the answer before it, and nobody knows when.
        settles_after(before.map_or(Duration::MAX, |before| before.elapsed()))
    }
}

fn is_of_store(error: &Obstacle) -> bool {
    matches!(error.last(), Obstacle::StoreUnavailable(_))
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_silence_of_the_store_counts_from_its_last_answer_before() {
        let (mut store, second) = (StoreAnswers::default(), Duration::from_secs(1));
        let longest = settles_after(Duration::MAX);
        store.failed = true;
        assert_eq!(store.answered(Instant::now()), longest, "it may have been silent for long");
        advance(second).await;
        store.failed = true;
        advance(second / 2).await;
        let settles = store.answered(Instant::now());
        assert_eq!(settles, settles_after(second * 3 / 2));
        assert!(settles < longest);
        advance(second).await;
        assert_eq!(store.answered(Instant::now()), Duration::ZERO, "it has answered all the time");
    }
}
