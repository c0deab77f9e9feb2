//! The state machine of an agent's session: which attempt is under way, who polls, and its health.

use std::{mem, sync::Arc};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::nodes::Node;
use crate::session::SessionState;

/// The part of a record that says what the bridge does for an agent's session.
///
/// While an attempt is under way, the status is that of the attempt. What is found meanwhile counts
/// when the attempt is over. A sign-in during a recovery is not recorded as an attempt: watchers of
/// a recovery see its end, but not each sign-in.
///
/// ```text
///            Begun           Done, Failed                Polled
///   status ────────▶ attempt ────────────▶ that of its health ──▶ another health
///   none   ◀───────────────────────────── SignedOut, Registered, Ended, Elsewhere …
/// ```
#[derive(Debug, Default)]
pub(super) struct SessionPart {
    attempt: Option<Box<UnderWay>>,
    keeping: Option<Box<Keeping>>,
}

/// An attempt, and what has been found since it began.
#[derive(Debug)]
struct UnderWay {
    attempt: Attempt,
    /// Whether a keeper has found another health meanwhile.
    is_found: bool,
    /// How the session has ended meanwhile, and why.
    ended: Option<(SessionState, &'static str)>,
}

/// A call that makes or ends a session. The agent's turn ensures that there is at most one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tenant) enum Attempt {
    SignIn,
    SignOut,
}

/// A session that the bridge made.
#[derive(Debug)]
struct Keeping {
    keeper: KeeperState,
    health: Health,
    /// Why that is its health.
    cause: &'static str,
}

/// Whether a keeper of this process polls for a session.
#[derive(Debug)]
enum KeeperState {
    /// No keeper here.
    None,
    Running(Keeper),
    /// The poll of this node is for the session, so it needs no keeper of its own.
    Member(Node),
    /// The keeper with this number has stopped polling, and is still finding out what that means
    /// for the session.
    Left(u64),
}

/// The health of a session that the bridge made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tenant) enum Health {
    /// It is polled, and the gateway answers.
    Good,
    /// The session exists, but is not polled.
    Unpolled,
    /// The gateway gives no usable answer, or does not know the Guid.
    Doubtful,
    /// It is lost and being made anew.
    Recovering,
}

/// The handles of a keeper's task.
#[derive(Clone, Debug)]
pub(in crate::tenant) struct Keeper {
    /// Tells this keeper from a later one: events of a keeper that was replaced are ignored.
    pub(in crate::tenant) number: u64,
    /// Ends the task at once.
    pub(in crate::tenant) stop: CancellationToken,
    /// Ends the task between two polls.
    pub(in crate::tenant) finish: CancellationToken,
    /// Ends the task's pause.
    pub(in crate::tenant) wake: Arc<Notify>,
}

/// The cause if a session that was made here is kept by another replica.
const ELSEWHERE: &str = "another replica keeps it";
/// The cause if another replica made the session.
const OVERTAKEN: &str = "another replica has signed the agent in";

/// What happens to an agent's session.
#[derive(Clone, Debug)]
pub(in crate::tenant) enum Event {
    /// A sign-in or sign-out begins.
    Begun(Attempt),
    /// The attempt has failed. `otherwise` is the status of the session if the bridge does not keep
    /// it here.
    Failed { cause: &'static str, otherwise: SessionState },
    /// A sign-in is done, and its result has been applied.
    Done,
    /// A sign-in is done, but another replica made the session.
    Overtaken,
    /// The gateway has signed the agent in, and the store has not taken the session.
    Unstored,
    /// The agent is signed out.
    SignedOut,
    /// The gateway does not know the session, and the bridge does not make it anew.
    Forgotten,
    /// An owner is registering a session. From now on the bridge must not poll for the agent.
    Registering,
    /// An owner has registered a session, and polls for it.
    Registered,
    /// The owner's session was not stored.
    Unregistered,
    /// The session is good and is to be kept here: by this keeper, unless there is one already.
    Kept { keeper: Keeper, cause: &'static str },
    /// Nobody polls for the session, or it is not known who does.
    Unkept(&'static str),
    /// Another replica keeps it.
    Elsewhere,
    /// Another replica keeps it, and the keeper here has to end at once.
    Stopped,
    /// What a keeper has found by polling.
    Polled { keeper: u64, health: Health, cause: &'static str },
    /// A keeper leaves the session to the poll of its node.
    Joined { keeper: u64, node: Node },
    /// The poll of its node leaves the session to a keeper of its own.
    Parted(Keeper),
    /// What the poll of its node has found.
    PolledTogether { health: Health, cause: &'static str },
    /// A keeper has stopped polling by itself.
    KeeperLeft { keeper: u64 },
    /// What the end of a keeper means for the session. `None`: another replica keeps it from now
    /// on.
    Ended { keeper: u64, state: Option<SessionState>, cause: &'static str },
    /// The keeper has to end between two polls.
    Finish,
}

impl Event {
    /// Whether the session of before is over, and what was known of the agent in it.
    pub(super) fn is_of_another_session(&self) -> bool {
        matches!(
            self,
            Self::Begun(_)
                | Self::Overtaken
                | Self::SignedOut
                | Self::Forgotten
                | Self::Registering
                | Self::Elsewhere
        )
    }
}

/// The effects of an event.
#[derive(Debug, Default)]
#[must_use]
pub(super) struct Effects {
    /// To be published and logged.
    pub(super) change: Option<Change>,
    /// The status that the session has entered, published or not.
    pub(super) entered: Option<SessionState>,
    /// A new keeper whose task has to be started.
    pub(super) start: Option<Keeper>,
    pub(super) signals: Signals,
}

/// A change of status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) from: Option<SessionState>,
    pub(super) to: SessionState,
    pub(super) cause: &'static str,
}

/// Signals to keepers' tasks, sent after the lock is released.
#[derive(Debug, Default)]
pub(super) struct Signals {
    stop: Option<Keeper>,
    finish: Option<Keeper>,
    wake: Option<Keeper>,
}

/// What a transition returns beside the changed state.
#[derive(Debug, Default)]
struct Step {
    /// The last status of a session that has none here after the event. `None`: another replica
    /// publishes its status.
    end: Option<SessionState>,
    /// The cause of the new status, if the event has one.
    cause: Option<&'static str>,
    start: Option<Keeper>,
    signals: Signals,
}

// === impl SessionPart ===

impl SessionPart {
    /// `None` if the bridge does not keep the session here and no call is changing it.
    pub(super) fn status(&self) -> Option<SessionState> {
        match self.attempt.as_ref().map(|under_way| under_way.attempt) {
            Some(Attempt::SignOut) => Some(SessionState::SigningOut),
            Some(Attempt::SignIn) => Some(SessionState::SigningIn),
            None => self.health().map(Health::status),
        }
    }

    pub(super) fn is_kept(&self) -> bool {
        self.keeper().is_some() || self.node().is_some()
    }

    /// The node whose poll keeps the session.
    pub(super) fn node(&self) -> Option<&Node> {
        match &self.keeping.as_ref()?.keeper {
            KeeperState::Member(node) => Some(node),
            KeeperState::None | KeeperState::Running(_) | KeeperState::Left(_) => None,
        }
    }

    pub(super) fn is_unused(&self) -> bool {
        self.attempt.is_none() && self.keeping.is_none()
    }

    pub(super) fn on(&mut self, event: Event) -> Effects {
        let from = self.status();
        let Step { end, cause, start, signals } = self.transition(event);
        let now = self.status();
        if let (Some(under_way), Some(end)) = (&mut self.attempt, end) {
            under_way.ended = Some((end, cause.unwrap_or_default()));
        }
        let to = now.or(end).filter(|to| from != Some(*to));
        let told = to.filter(|_| from != now);
        let change = told.map(|to| Change { from, to, cause: cause.unwrap_or(self.cause()) });
        // The replica that keeps a session counts its status.
        let entered = to.filter(|to| now.is_some() || to.is_end());
        Effects { change, entered, start, signals }
    }

    /// The cause of the session's health, unless an attempt hides the health.
    fn cause(&self) -> &'static str {
        let keeping = self.keeping.as_ref().filter(|_| self.attempt.is_none());
        keeping.map_or("", |keeping| keeping.cause)
    }

    fn transition(&mut self, event: Event) -> Step {
        match event {
            Event::Begun(Attempt::SignIn) if self.health() == Some(Health::Recovering) => {
                Step::default()
            }
            Event::Begun(attempt) => {
                let under_way = UnderWay { attempt, is_found: false, ended: None };
                self.attempt = Some(under_way.into());
                Step::default()
            }
            Event::Failed { cause, otherwise } => self.end_attempt(Some(cause), otherwise, cause),
            Event::Done => self.end_attempt(None, SessionState::Kept, ELSEWHERE),
            Event::Overtaken => self.end_attempt(Some(OVERTAKEN), SessionState::Kept, OVERTAKEN),
            Event::Unstored => self.unstored(),
            Event::SignedOut => self.signed_out(),
            // The agent's keeper polls, so it knows more than a call.
            Event::Forgotten | Event::Elsewhere if self.is_kept() => Step::default(),
            Event::Forgotten => self.close(SessionState::Gone, "the gateway has forgotten it"),
            Event::Registering => Step::stop(self.take_keeper()),
            Event::Registered => self.close(SessionState::Registered, "handed in by its owner"),
            Event::Unregistered => {
                self.close(SessionState::Gone, "its owner's Guid was not stored")
            }
            Event::Kept { keeper, cause } => self.keep(keeper, cause),
            Event::Unkept(cause) => {
                self.set_health(Health::Unpolled, cause);
                Step::default()
            }
            Event::Polled { keeper, health, cause } => self.polled(keeper, health, cause),
            Event::Joined { keeper, node } => self.join(keeper, node),
            Event::Parted(keeper) => self.part(keeper),
            Event::PolledTogether { health, cause } => self.polled_together(health, cause),
            Event::KeeperLeft { keeper } => self.keeper_left(keeper),
            Event::Ended { keeper, .. } if !self.has_left(keeper) => Step::default(),
            Event::Elsewhere | Event::Stopped | Event::Ended { state: None, .. } => self.leave(),
            Event::Ended { state: Some(SessionState::Unkept), cause, .. } => {
                self.set_health(Health::Unpolled, cause).keeper = KeeperState::None;
                Step::default()
            }
            Event::Ended { state: Some(state), cause, .. } => self.close(state, cause),
            // There is nothing to wait for.
            Event::Finish if self.node().is_some() => self.leave(),
            Event::Finish => {
                let signals = Signals { finish: self.keeper().cloned(), ..Signals::default() };
                Step { signals, ..Step::default() }
            }
        }
    }

    /// Ends the attempt, if there is one. If the bridge does not keep the session, its status is
    /// what it became meanwhile, or else `otherwise`.
    fn end_attempt(
        &mut self,
        cause: Option<&'static str>,
        otherwise: SessionState,
        why: &'static str,
    ) -> Step {
        let Some(under_way) = self.attempt.take() else { return Step::default() };
        if self.keeping.is_some() {
            // What a keeper found meanwhile has its own cause.
            let cause = cause.filter(|_| !under_way.is_found);
            return Step { cause, ..Step::default() };
        }
        let (end, cause) = under_way.ended.unwrap_or((otherwise, why));
        Step { end: Some(end), cause: Some(cause), ..Step::default() }
    }

    fn signed_out(&mut self) -> Step {
        let ended = self.attempt.take().and_then(|under_way| under_way.ended);
        // An owner may have registered a newer session than the one that is signed out.
        let registered = ended.filter(|(end, _)| *end == SessionState::Registered);
        let (end, cause) = registered.unwrap_or((SessionState::Gone, "signed out"));
        self.close(end, cause)
    }

    fn unstored(&mut self) -> Step {
        const CAUSE: &str = "the session was not stored";
        self.attempt = None;
        if !self.is_kept() {
            return self.close(SessionState::Gone, CAUSE);
        }
        // The keeper still polls with the former session, and will find that the gateway has
        // replaced it.
        if self.health() != Some(Health::Recovering) {
            self.set_health(Health::Doubtful, CAUSE);
        }
        Step::default()
    }

    fn polled(&mut self, keeper: u64, health: Health, cause: &'static str) -> Step {
        if self.keeper().is_some_and(|known| known.number == keeper) {
            self.found(health, cause);
        }
        Step::default()
    }

    fn polled_together(&mut self, health: Health, cause: &'static str) -> Step {
        if self.node().is_some() {
            self.found(health, cause);
        }
        Step::default()
    }

    fn found(&mut self, health: Health, cause: &'static str) {
        if let Some(under_way) = &mut self.attempt {
            under_way.is_found |= self.keeping.as_ref().is_some_and(|k| k.health != health);
        }
        self.set_health(health, cause);
    }

    /// Nothing is known against the session of a keeper that leaves it to the poll of its node.
    fn join(&mut self, keeper: u64, node: Node) -> Step {
        if self.keeper().is_none_or(|known| known.number != keeper) {
            return Step::default();
        }
        if self.health() != Some(Health::Good) {
            self.found(Health::Good, "");
        }
        if let Some(keeping) = &mut self.keeping {
            keeping.keeper = KeeperState::Member(node);
        }
        Step::default()
    }

    fn part(&mut self, keeper: Keeper) -> Step {
        if let Some(keeping) = &mut self.keeping
            && matches!(keeping.keeper, KeeperState::Member(_))
        {
            keeping.keeper = KeeperState::Running(keeper.clone());
            return Step { start: Some(keeper), ..Step::default() };
        }
        Step::default()
    }

    fn keeper_left(&mut self, keeper: u64) -> Step {
        if let Some(keeping) = &mut self.keeping
            && matches!(&keeping.keeper, KeeperState::Running(known) if known.number == keeper)
        {
            keeping.keeper = KeeperState::Left(keeper);
        }
        Step::default()
    }

    fn has_left(&self, keeper: u64) -> bool {
        let keeping = self.keeping.as_ref();
        keeping.is_some_and(
            |keeping| matches!(keeping.keeper, KeeperState::Left(left) if left == keeper),
        )
    }

    fn keep(&mut self, keeper: Keeper, cause: &'static str) -> Step {
        let keeping = self.set_health(Health::Good, cause);
        if let KeeperState::Running(known) = &keeping.keeper {
            let signals = Signals { wake: Some(known.clone()), ..Signals::default() };
            return Step { signals, ..Step::default() };
        }
        keeping.keeper = KeeperState::Running(keeper.clone());
        Step { start: Some(keeper), ..Step::default() }
    }

    /// Stops keeping the session, and publishes `end` as its last status.
    fn close(&mut self, end: SessionState, cause: &'static str) -> Step {
        Step { end: Some(end), cause: Some(cause), ..self.leave() }
    }

    /// Stops keeping the session, and publishes nothing.
    fn leave(&mut self) -> Step {
        let keeper = self.take_keeper();
        self.keeping = None;
        Step::stop(keeper)
    }

    fn health(&self) -> Option<Health> {
        self.keeping.as_ref().map(|keeping| keeping.health)
    }

    fn set_health(&mut self, health: Health, cause: &'static str) -> &mut Keeping {
        let new = || Box::new(Keeping { keeper: KeeperState::None, health, cause });
        let keeping = self.keeping.get_or_insert_with(new);
        (keeping.health, keeping.cause) = (health, cause);
        keeping
    }

    fn keeper(&self) -> Option<&Keeper> {
        match &self.keeping.as_ref()?.keeper {
            KeeperState::Running(keeper) => Some(keeper),
            KeeperState::None | KeeperState::Member(_) | KeeperState::Left(_) => None,
        }
    }

    fn take_keeper(&mut self) -> Option<Keeper> {
        let keeper = &mut self.keeping.as_mut()?.keeper;
        match mem::replace(keeper, KeeperState::None) {
            KeeperState::Running(keeper) => Some(keeper),
            KeeperState::None | KeeperState::Member(_) | KeeperState::Left(_) => None,
        }
    }
}

// === impl Health ===

impl Health {
    fn status(self) -> SessionState {
        match self {
            Self::Good => SessionState::Kept,
            Self::Unpolled => SessionState::Unkept,
            Self::Doubtful => SessionState::Doubtful,
            Self::Recovering => SessionState::Recovering,
        }
    }
}

// === impl Step ===

impl Step {
    fn stop(keeper: Option<Keeper>) -> Self {
        let signals = Signals { stop: keeper, ..Signals::default() };
        Self { signals, ..Self::default() }
    }
}

// === impl Signals ===

impl Signals {
    /// Signals the tasks.
    pub(super) fn send(self) {
        if let Some(keeper) = self.stop {
            keeper.stop.cancel();
        }
        if let Some(keeper) = self.finish {
            keeper.finish.cancel();
        }
        if let Some(keeper) = self.wake {
            keeper.wake.notify_one();
        }
    }
}

#[cfg(test)]
mod tests;
