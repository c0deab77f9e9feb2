//! What is being done for an agent's session, and how the session is doing.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::session::SessionState;

/// The part of a record that says what the bridge does for an agent's session.
///
/// An attempt comes before what a keeper finds meanwhile: the status is that of the attempt, and what
/// was found counts when the attempt is over. A sign-in for a session that is being made anew is none:
/// those who watch a recovery hear of its end, not of each attempt.
///
/// ```text
///            Begun           Done, Failed                Polled
///   status ────────▶ attempt ────────────▶ that of its health ──▶ another health
///   none   ◀───────────────────────────── SignedOut, Registered, Ended, Elsewhere …
/// ```
#[derive(Debug, Default)]
pub(super) struct SessionPart {
    attempt: Option<Attempt>,
    /// Whether an owner has handed a session in since the attempt began.
    is_registered: bool,
    keeping: Option<Box<Keeping>>,
}

/// A call that makes or ends a session. The agent's turn sees to it that there is one at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tenant) enum Attempt {
    SignIn,
    SignOut,
}

/// A session of the bridge's own.
#[derive(Debug, Default)]
struct Keeping {
    keeper: Option<Keeper>,
    /// `None`: the keeper has found nothing yet, or there is no session any more.
    health: Option<(Health, &'static str)>,
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

/// What happens to an agent's session.
#[derive(Clone, Debug)]
pub(in crate::tenant) enum Event {
    /// A sign-in or sign-out begins.
    Begun(Attempt),
    /// It has failed. `otherwise` is what there is where the bridge keeps no session; `None`: somebody
    /// else says so.
    Failed { cause: &'static str, otherwise: Option<SessionState> },
    /// It is done, and what has come of it has been applied.
    Done,
    /// It is over because another replica was faster, which says what there is to say.
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
    /// The session is to be kept here, by this keeper if there is none yet. `cause` says why it is good;
    /// `None`: nothing new is known of it.
    Kept { keeper: Keeper, cause: Option<&'static str> },
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
    /// What that means, unless there is another keeper by now.
    Ended { state: SessionState, cause: &'static str },
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
    /// What the session has become if it has no status any more. `None`: somebody else says so.
    end: Option<SessionState>,
    /// Why there is another status, if it is the event that says so.
    cause: Option<&'static str>,
    /// Whether the status changes without a word.
    is_silent: bool,
    start: Option<Keeper>,
    signals: Signals,
}

// === impl SessionPart ===

impl SessionPart {
    /// `None`: the bridge has nothing to do with the session, or there is none.
    pub(super) fn status(&self) -> Option<SessionState> {
        match self.attempt {
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
        let Step { end, cause, is_silent, start, signals } = self.transition(event);
        if self.keeping.as_ref().is_some_and(|k| k.keeper.is_none() && k.health.is_none()) {
            self.keeping = None;
        }
        self.is_registered &= self.attempt.is_some();
        let now = self.status();
        let entered = now.or(end).filter(|entered| from != Some(*entered));
        let told = entered.filter(|_| from != now && !is_silent);
        let change = told.map(|to| Change { from, to, cause: cause.unwrap_or(self.cause()) });
        Effects { change, entered, start, signals }
    }

    /// Why the session has the status that its health gives it.
    fn cause(&self) -> &'static str {
        let health = self.keeping.as_ref().and_then(|keeping| keeping.health);
        health.filter(|_| self.attempt.is_none()).map_or("", |(_, cause)| cause)
    }

    fn transition(&mut self, event: Event) -> Step {
        match event {
            Event::Begun(Attempt::SignIn) if self.health() == Some(Health::Recovering) => {
                Step::default()
            }
            Event::Begun(attempt) => {
                self.attempt = Some(attempt);
                Step::default()
            }
            Event::Failed { cause, otherwise } => self.failed(cause, otherwise),
            Event::Done => {
                self.attempt = None;
                Step::default()
            }
            Event::Overtaken => {
                self.attempt = None;
                Step { is_silent: true, ..Step::default() }
            }
            Event::Unstored => self.unstored(),
            Event::SignedOut => {
                self.attempt = None;
                self.close(SessionState::Gone, "signed out")
            }
            // The agent's keeper knows better than a call, or than a keeper that has been overtaken.
            Event::Forgotten | Event::Elsewhere | Event::Ended { .. } if self.is_kept() => {
                Step::default()
            }
            Event::Forgotten => self.close(SessionState::Gone, "the gateway has forgotten it"),
            Event::Registering => Step::stop(self.take_keeper()),
            Event::Registered => {
                self.is_registered = self.attempt.is_some();
                self.close(SessionState::Registered, "handed in by its owner")
            }
            Event::Unregistered => {
                self.close(SessionState::Gone, "its owner's Guid was not stored")
            }
            Event::Kept { keeper, cause } => {
                if let Some(cause) = cause {
                    self.keeping().health = Some((Health::Good, cause));
                }
                self.keep(keeper)
            }
            Event::Unkept(cause) | Event::Ended { state: SessionState::Unkept, cause } => {
                self.keeping().health = Some((Health::Unpolled, cause));
                Step::default()
            }
            Event::Elsewhere | Event::Stopped => {
                let keeper = self.keeping.take().and_then(|keeping| keeping.keeper);
                Step { is_silent: true, ..Step::stop(keeper) }
            }
            Event::Polled { keeper, health, cause } => self.polled(keeper, health, cause),
            Event::KeeperLeft { keeper } if self.is_keeper(keeper) => {
                self.take_keeper();
                Step::default()
            }
            Event::KeeperLeft { .. } => Step::default(),
            Event::Ended { state, cause } => self.close(state, cause),
            Event::Finish => {
                let signals = Signals { finish: self.keeper().cloned(), ..Signals::default() };
                Step { signals, ..Step::default() }
            }
        }
    }

    fn failed(&mut self, cause: &'static str, otherwise: Option<SessionState>) -> Step {
        if self.attempt.take().is_none() {
            return Step::default();
        }
        let end = if self.is_registered { Some(SessionState::Registered) } else { otherwise };
        Step { end, cause: Some(cause), ..Step::default() }
    }

    fn unstored(&mut self) -> Step {
        const CAUSE: &str = "the session was not stored";
        self.attempt = None;
        if !self.is_kept() {
            return self.close(SessionState::Gone, CAUSE);
        }
        // The keeper of the former session finds out that the gateway has replaced it.
        if self.health() != Some(Health::Recovering) {
            self.keeping().health = Some((Health::Doubtful, CAUSE));
        }
        Step::default()
    }

    fn polled(&mut self, keeper: u64, health: Health, cause: &'static str) -> Step {
        if !self.is_keeper(keeper) {
            return Step::default();
        }
        self.keeping().health = Some((health, cause));
        Step::default()
    }

    fn keep(&mut self, keeper: Keeper) -> Step {
        if let Some(known) = self.keeper().cloned() {
            let signals = Signals { wake: Some(known), ..Signals::default() };
            return Step { signals, ..Step::default() };
        }
        self.keeping().keeper = Some(keeper.clone());
        Step { start: Some(keeper), ..Step::default() }
    }

    /// The bridge has nothing more to do with the session.
    fn close(&mut self, end: SessionState, cause: &'static str) -> Step {
        let keeper = self.keeping.take().and_then(|keeping| keeping.keeper);
        Step { end: Some(end), cause: Some(cause), ..Step::stop(keeper) }
    }

    fn health(&self) -> Option<Health> {
        self.keeping.as_ref()?.health.map(|(health, _)| health)
    }

    fn keeper(&self) -> Option<&Keeper> {
        self.keeping.as_ref()?.keeper.as_ref()
    }

    fn is_keeper(&self, number: u64) -> bool {
        self.keeper().is_some_and(|keeper| keeper.number == number)
    }

    fn take_keeper(&mut self) -> Option<Keeper> {
        self.keeping.as_mut()?.keeper.take()
    }

    fn keeping(&mut self) -> &mut Keeping {
        self.keeping.get_or_insert_default()
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
