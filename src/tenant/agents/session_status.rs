//! What is being done for an agent's session, and how the session is doing.

use std::{mem, sync::Arc};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::session::SessionState;

/// The part of a record that says what the bridge does for an agent's session.
///
/// While an attempt is under way, the status is that of the attempt. What is found meanwhile counts when the
/// attempt is over. A sign-in for a session that is being made anew is not recorded as an attempt: those who
/// watch a recovery hear of its end, and not of each sign-in.
///
/// ```text
///            Begun           Done, Failed                Polled
///   status ────────▶ attempt ────────────▶ that of its health ──▶ another health
///   none   ◀───────────────────────────── SignedOut, Registered, Ended, Elsewhere …
/// ```
#[derive(Debug, Default)]
pub(super) struct SessionPart {
    attempt: Option<UnderWay>,
    keeping: Option<Box<Keeping>>,
}

/// An attempt, and what has been found since it began.
#[derive(Clone, Copy, Debug)]
struct UnderWay {
    attempt: Attempt,
    /// Whether a keeper has found something.
    is_found: bool,
    /// What the session has become meanwhile.
    ended: Option<(SessionState, &'static str)>,
}

/// A call that makes or ends a session. The agent's turn sees to it that there is one at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tenant) enum Attempt {
    SignIn,
    SignOut,
}

/// A session of the bridge's own.
#[derive(Debug)]
struct Keeping {
    keeper: KeeperState,
    health: Health,
    /// Why that is its health.
    cause: &'static str,
}

/// Who polls for a session.
#[derive(Debug)]
enum KeeperState {
    /// Nobody here.
    None,
    Running(Keeper),
    /// The keeper of this number has ended, and finds out what that means for the session.
    Left(u64),
}

/// How a session of the bridge's own is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tenant) enum Health {
    /// It is polled, and the gateway answers.
    Good,
    /// It is there, and not polled.
    Unpolled,
    /// The gateway does not answer as it should, or does not know the Guid.
    Doubtful,
    /// It is lost and being made anew.
    Recovering,
}

/// The handles of a keeper's task.
#[derive(Clone, Debug)]
pub(in crate::tenant) struct Keeper {
    /// A keeper that has ended may still speak; its number tells it from the one in its place.
    pub(in crate::tenant) number: u64,
    /// Ends it at once.
    pub(in crate::tenant) stop: CancellationToken,
    /// Ends it between two polls.
    pub(in crate::tenant) finish: CancellationToken,
    /// Ends its pause.
    pub(in crate::tenant) wake: Arc<Notify>,
}

/// Why a session that was signed in has no status here.
const ELSEWHERE: &str = "another replica keeps it";
/// Why a session is good that was not made here.
const OVERTAKEN: &str = "another replica has signed the agent in";

/// What happens to an agent's session.
#[derive(Clone, Debug)]
pub(in crate::tenant) enum Event {
    /// A sign-in or sign-out begins.
    Begun(Attempt),
    /// It has failed. `otherwise` is what the session is where the bridge does not keep it here.
    Failed { cause: &'static str, otherwise: SessionState },
    /// A sign-in is done, and what has come of it has been applied.
    Done,
    /// The same, but it was another replica that made the session.
    Overtaken,
    /// The gateway has signed the agent in, and the store has not taken the session.
    Unstored,
    /// The agent is signed out.
    SignedOut,
    /// The gateway does not know the session, and nobody makes it anew.
    Forgotten,
    /// An owner is handing a session in, whom the bridge must not disturb from now on.
    Registering,
    /// An owner has handed a session in, and polls for it.
    Registered,
    /// The owner's session was not stored.
    Unregistered,
    /// The session is good, and is to be kept here, by this keeper if there is none yet.
    Kept { keeper: Keeper, cause: &'static str },
    /// Nobody polls for the session, or it is not known who does.
    Unkept(&'static str),
    /// Another replica keeps it.
    Elsewhere,
    /// The same, and the keeper here has to end at once.
    Stopped,
    /// What this keeper has found.
    Polled { keeper: u64, health: Health, cause: &'static str },
    /// This keeper has ended by itself.
    KeeperLeft { keeper: u64 },
    /// What its end means for the session. `None`: another replica goes on with it.
    Ended { keeper: u64, state: Option<SessionState>, cause: &'static str },
    /// The keeper has to end between two polls.
    Finish,
}

/// What an event leads to.
#[derive(Debug, Default)]
#[must_use]
pub(super) struct Effects {
    /// To be told and logged.
    pub(super) change: Option<Change>,
    /// The status that the session has entered, told or not.
    pub(super) entered: Option<SessionState>,
    /// The keeper whose task has to be started.
    pub(super) start: Option<Keeper>,
    pub(super) signals: Signals,
}

/// Another status of an agent's session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) from: Option<SessionState>,
    pub(super) to: SessionState,
    pub(super) cause: &'static str,
}

/// What keepers' tasks are told once the lock is free.
#[derive(Debug, Default)]
pub(super) struct Signals {
    stop: Option<Keeper>,
    finish: Option<Keeper>,
    wake: Option<Keeper>,
}

/// What a transition has to say beside the state that it leaves.
#[derive(Debug, Default)]
struct Step {
    /// What the session has become if it has no status here any more. `None`: another replica says so.
    end: Option<SessionState>,
    /// Why there is another status, if it is the event that says so.
    cause: Option<&'static str>,
    start: Option<Keeper>,
    signals: Signals,
}

// === impl SessionPart ===

impl SessionPart {
    /// `None`: the bridge has nothing to do with the session, or there is none.
    pub(super) fn status(&self) -> Option<SessionState> {
        match self.attempt.map(|under_way| under_way.attempt) {
            Some(Attempt::SignOut) => Some(SessionState::SigningOut),
            Some(Attempt::SignIn) => Some(SessionState::SigningIn),
            None => self.health().map(Health::status),
        }
    }

    pub(super) fn is_kept(&self) -> bool {
        self.keeper().is_some()
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
        // What another replica keeps has its status there.
        let entered = to.filter(|to| now.is_some() || to.is_end());
        Effects { change, entered, start, signals }
    }

    /// Why the session has the status that its health gives it.
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
                self.attempt = Some(UnderWay { attempt, is_found: false, ended: None });
                Step::default()
            }
            Event::Failed { cause, otherwise } => self.end_attempt(Some(cause), otherwise, cause),
            Event::Done => self.end_attempt(None, SessionState::Kept, ELSEWHERE),
            Event::Overtaken => self.end_attempt(Some(OVERTAKEN), SessionState::Kept, OVERTAKEN),
            Event::Unstored => self.unstored(),
            Event::SignedOut => self.signed_out(),
            // The agent's keeper knows better than a call.
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
            Event::KeeperLeft { keeper } => self.keeper_left(keeper),
            Event::Ended { keeper, .. } if !self.has_left(keeper) => Step::default(),
            Event::Elsewhere | Event::Stopped | Event::Ended { state: None, .. } => self.leave(),
            Event::Ended { state: Some(SessionState::Unkept), cause, .. } => {
                self.set_health(Health::Unpolled, cause).keeper = KeeperState::None;
                Step::default()
            }
            Event::Ended { state: Some(state), cause, .. } => self.close(state, cause),
            Event::Finish => {
                let signals = Signals { finish: self.keeper().cloned(), ..Signals::default() };
                Step { signals, ..Step::default() }
            }
        }
    }

    /// Ends the attempt, if there is one. Where the session has no health then, it is what it has become
    /// meanwhile, else `otherwise`.
    fn end_attempt(
        &mut self,
        cause: Option<&'static str>,
        otherwise: SessionState,
        why: &'static str,
    ) -> Step {
        let Some(under_way) = self.attempt.take() else { return Step::default() };
        if self.keeping.is_some() {
            // What was found meanwhile has a cause of its own.
            let cause = cause.filter(|_| !under_way.is_found);
            return Step { cause, ..Step::default() };
        }
        let (end, cause) = under_way.ended.unwrap_or((otherwise, why));
        Step { end: Some(end), cause: Some(cause), ..Step::default() }
    }

    fn signed_out(&mut self) -> Step {
        let ended = self.attempt.take().and_then(|under_way| under_way.ended);
        // An owner may have handed in a newer session than the one that is signed out.
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
        // The keeper of the former session finds out that the gateway has replaced it.
        if self.health() != Some(Health::Recovering) {
            self.set_health(Health::Doubtful, CAUSE);
        }
        Step::default()
    }

    fn polled(&mut self, keeper: u64, health: Health, cause: &'static str) -> Step {
        if self.keeper().is_some_and(|known| known.number == keeper) {
            if let Some(under_way) = &mut self.attempt {
                under_way.is_found |= self.keeping.as_ref().is_some_and(|k| k.health != health);
            }
            self.set_health(health, cause);
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

    /// The bridge has nothing more to do with the session.
    fn close(&mut self, end: SessionState, cause: &'static str) -> Step {
        Step { end: Some(end), cause: Some(cause), ..self.leave() }
    }

    /// The same without a word.
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
            KeeperState::None | KeeperState::Left(_) => None,
        }
    }

    fn take_keeper(&mut self) -> Option<Keeper> {
        let keeper = &mut self.keeping.as_mut()?.keeper;
        match mem::replace(keeper, KeeperState::None) {
            KeeperState::Running(keeper) => Some(keeper),
            KeeperState::None | KeeperState::Left(_) => None,
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
    /// Tells the tasks.
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
