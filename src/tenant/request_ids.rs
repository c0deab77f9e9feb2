//! What became of the changes to which callers gave an id. A change that is asked for again with the same id
//! is not made again: its caller gets the outcome of the first call.
//!
//! An id is free again where nothing was done and another attempt may help: if the request was not sent, was
//! refused for the moment, or was lost. The next call with it then makes the change.

pub(super) mod fuzzing;
mod record;
mod shared;
#[cfg(test)]
mod tests;
mod unended;

use std::{
    collections::{HashMap, VecDeque, hash_map},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

pub(super) use self::shared::SharedIds;
use self::shared::{SharedClaim, Told};
use super::Answer;
use crate::{
    call::{CallError, Deadline, Obstacle, Outcome, Stage},
    config,
    event::SentBy,
    gateway::{Command, Envelope, Interface, SIGN_IN, SignIn},
    id::{AgentId, RequestId},
    retcode::Kind,
    session::Session,
};

/// The ids of one tenant's changes.
#[derive(Debug)]
pub(super) struct RequestIds {
    limits: config::RequestIds,
    known: Arc<Mutex<Known>>,
    /// The ids of all replicas; `None` if there are none.
    shared: Option<SharedIds>,
}

#[derive(Debug, Default)]
struct Known {
    changes: HashMap<ChangeId, Entry>,
    /// Changes that have ended, oldest first, with the numbers of their entries.
    ended: VecDeque<(Instant, ChangeId, u64)>,
    /// Of how many of these another attempt with the same id has taken the place.
    replaced: usize,
    last: u64,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    asked: Asked,
    /// `None` while the change is under way.
    ended: Option<Ended>,
    /// Tells those who wait for its end; `None` as long as nobody does.
    waiting: Option<watch::Sender<Option<Ended>>>,
}

/// What identifies a change: the id that the caller gave, and for a batch also the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChangeId {
    /// The id.
    pub request: RequestId,
    /// The agent, for a change that is a part of a batch.
    pub of_batch: Option<AgentId>,
}

/// What was asked for.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    agent: AgentId,
    interface: &'static Interface,
    arguments: String,
}

/// A request that the gateway has accepted.
#[derive(Clone, Debug)]
pub struct Made {
    /// What was done.
    pub did: Did,
    /// The position in the tenant's events when it was sent. `None` where it is not known.
    pub after: Option<SentBy>,
}

/// What a request with an id has done.
#[derive(Clone, Debug)]
pub enum Did {
    /// It has changed the agent's state.
    Changed(Answer),
    /// It has signed the agent in. The session is `None` if another process has done it.
    SignedIn(Envelope, Option<Arc<Session>>, Option<Result<Envelope, CallError>>),
    /// It has signed the agent out.
    SignedOut(Envelope),
}

/// What a change came to. Shared, since several callers may be told.
pub type Ended = Arc<Result<Made, CallError>>;

/// What becomes of a call with an id.
#[derive(Debug)]
pub(super) enum Begun {
    /// It makes the change.
    First(Claim),
    /// The change has been made, or may have been.
    Before(Ended),
}

/// The right to make the change of an id. If it is dropped before [`Claim::under_way`], the id is free again.
#[derive(Debug)]
pub(super) struct Claim {
    /// `None` once it is closed.
    known: Option<Arc<Mutex<Known>>>,
    id: ChangeId,
    number: u64,
    is_under_way: bool,
    /// What an earlier attempt has come to, which has left the id free.
    earlier: Option<Ended>,
    /// The same right among replicas.
    shared: Option<SharedClaim>,
}

/// What is known of a change.
#[derive(Debug)]
pub struct KnownChange {
    /// The agent.
    pub agent: AgentId,
    /// What the gateway was asked for.
    pub interface: &'static Interface,
    /// What it came to; `None` while it is under way.
    pub ended: Option<Ended>,
}

/// What an id stands for, for the call that asks.
enum Looked {
    First(Claim),
    Before(Ended),
    UnderWay(watch::Receiver<Option<Ended>>),
    /// Another change.
    Reused,
}

// === impl RequestIds ===

impl RequestIds {
    pub(super) fn new(limits: &config::RequestIds, shared: Option<SharedIds>) -> Self {
        Self { limits: limits.clone(), known: Arc::default(), shared }
    }

    /// The same ids under other limits. `longest`: how long a change may take from now on after its caller has left.
    pub(super) fn changed(&self, limits: &config::RequestIds, longest: Duration) -> Self {
        let shared = self.shared.clone().map(|shared| SharedIds { longest, ..shared });
        Self { limits: limits.clone(), known: self.known.clone(), shared }
    }

    /// Begins a change at once, if no other process can know the id, and no other call has it.
    pub(super) fn begin_at_once(&self, id: ChangeId, asked: &Asked) -> Option<Claim> {
        if self.shared.is_some() {
            return None;
        }
        match self.look(id, asked) {
            Looked::First(claim) => Some(claim),
            Looked::Before(_) | Looked::UnderWay(_) | Looked::Reused => None,
        }
    }

    /// Begins a change, or waits for what it comes to if another call is making it.
    ///
    /// # Errors
    ///
    /// [`Obstacle::RequestIdReused`] if the id belongs to another change, and [`CallError::Deadline`] if the
    /// other call is not done by the deadline.
    pub(super) async fn begin(
        &self,
        id: ChangeId,
        asked: &Asked,
        deadline: Deadline,
    ) -> Result<Begun, CallError> {
        loop {
            let mut ended = match self.look(id, asked) {
                Looked::First(claim) => return self.begin_shared(claim, asked, deadline).await,
                Looked::Reused => return Err(CallError::unasked(Obstacle::RequestIdReused)),
                Looked::Before(ended) => return Ok(Begun::Before(ended)),
                Looked::UnderWay(ended) => ended,
            };
            let waiting = ended.wait_for(Option::is_some);
            let late = |_elapsed| CallError::Deadline(Stage::Answer);
            // An error means that the other call has sent nothing.
            let ended = timeout_at(deadline.answer_by(), waiting).await.map_err(late)?;
            let ended = ended.ok().and_then(|ended| ended.clone());
            if let Some(ended) = ended.filter(|ended| is_final(ended)) {
                return Ok(Begun::Before(ended));
            }
        }
    }

    /// What is known of a change.
    ///
    /// # Errors
    ///
    /// [`Obstacle::StoreUnavailable`] if other replicas may know it, and their store does not say.
    pub(super) async fn find(&self, id: ChangeId) -> Result<Option<KnownChange>, Obstacle> {
        let here = self.find_here(id);
        let is_free = here.as_ref().is_none_or(KnownChange::leaves_the_id_free);
        let Some(shared) = self.shared.as_ref().filter(|_| is_free) else { return Ok(here) };
        // Another replica may have made the change since, or be making it.
        Ok(shared.find(id).await?.or(here))
    }

    fn find_here(&self, id: ChangeId) -> Option<KnownChange> {
        let mut known = self.known();
        known.forget(&self.limits);
        let Entry { asked, ended, .. } = known.changes.get(&id)?;
        let (agent, interface) = (asked.agent, asked.interface);
        Some(KnownChange { agent, interface, ended: ended.clone() })
    }

    /// Begins a change among all replicas, if there are any.
    async fn begin_shared(
        &self,
        mut claim: Claim,
        asked: &Asked,
        deadline: Deadline,
    ) -> Result<Begun, CallError> {
        let Some(shared) = &self.shared else { return Ok(Begun::First(claim)) };
        match shared.begin((claim.id, claim.number), asked, &self.limits, deadline).await? {
            Ok(own) => {
                claim.shared = own;
                Ok(Begun::First(claim))
            }
            Err(Told { ended, is_certain }) => {
                // Its replica may still tell more.
                claim.close(Some(ended.clone()).filter(|_| is_certain));
                Ok(Begun::Before(ended))
            }
        }
    }

    fn look(&self, id: ChangeId, asked: &Asked) -> Looked {
        let mut known = self.known();
        known.forget(&self.limits);
        let Known { changes, last, replaced, .. } = &mut *known;
        let (mut place, mut earlier) = (changes.entry(id), None);
        if let hash_map::Entry::Occupied(known) = &mut place {
            let Entry { asked: before, ended, waiting, .. } = known.get_mut();
            if !before.is_same(asked) {
                return Looked::Reused;
            }
            match &*ended {
                None => return Looked::UnderWay(waiting.get_or_insert_default().subscribe()),
                Some(ended) if is_final(ended) => return Looked::Before(ended.clone()),
                Some(ended) => {
                    *replaced += 1;
                    earlier = Some(ended.clone());
                }
            }
        }
        *last += 1;
        let number = *last;
        place.insert_entry(Entry { number, asked: asked.clone(), ended: None, waiting: None });
        let (known, is_under_way) = (Some(self.known.clone()), false);
        Looked::First(Claim { known, id, number, is_under_way, earlier, shared: None })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl KnownChange ===

impl KnownChange {
    fn leaves_the_id_free(&self) -> bool {
        self.ended.as_ref().is_some_and(|ended| !is_final(ended))
    }
}

// === impl Known ===

impl Known {
    /// Forgets changes that ended long ago, and the oldest ones if there are too many. However often one was tried, it is one
    /// of them: while a gateway refuses all for the moment, they are tried again and again.
    fn forget(&mut self, limits: &config::RequestIds) {
        let most = limits.most.get();
        if self.replaced > most {
            let Self { changes, ended, replaced, .. } = &mut *self;
            ended.retain(|(_, id, number)| {
                changes.get(id).is_some_and(|entry| entry.number == *number)
            });
            *replaced = 0;
        }
        while let Some((at, id, number)) = self.ended.front().copied() {
            let is_old = at.elapsed() >= limits.kept;
            if !is_old && self.ended.len().saturating_sub(self.replaced) <= most {
                return;
            }
            self.ended.pop_front();
            if !self.remove(id, number) {
                self.replaced = self.replaced.saturating_sub(1);
            }
        }
    }

    fn end(&mut self, id: ChangeId, number: u64, ended: Ended) {
        if let Some(entry) = self.changes.get_mut(&id).filter(|entry| entry.number == number) {
            self.ended.push_back((Instant::now(), id, number));
            if let Some(waiting) = entry.waiting.take() {
                waiting.send_replace(Some(ended.clone()));
            }
            entry.ended = Some(ended);
        }
    }

    /// Returns whether this was the last attempt with the id.
    fn remove(&mut self, id: ChangeId, number: u64) -> bool {
        let is_last = self.changes.get(&id).is_some_and(|entry| entry.number == number);
        if is_last {
            self.changes.remove(&id);
        }
        is_last
    }
}

// === impl Claim ===

impl Claim {
    /// The id.
    pub(super) fn id(&self) -> ChangeId {
        self.id
    }

    /// From now on the request may be sent.
    pub(super) fn under_way(mut self) -> Self {
        self.is_under_way = true;
        self
    }

    /// Says what the change came to.
    pub(super) fn end(mut self, ended: Result<Made, CallError>) {
        let is_unsent = matches!(ended, Err(CallError::NotSent(_)));
        self.close(Some(record::bounded(ended).into()).filter(|_| !is_unsent));
    }

    /// `None`: nothing was sent, so that what became of the attempt before it is still what is known.
    fn close(&mut self, ended: Option<Ended>) {
        let Some(known) = self.known.take() else { return };
        let ended = ended.or_else(|| self.earlier.take());
        if let Some(shared) = self.shared.take() {
            shared.end(ended.clone());
        }
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        match ended {
            None => {
                known.remove(self.id, self.number);
            }
            Some(ended) => known.end(self.id, self.number, ended),
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Only work that panics drops it while it is under way.
        self.close(self.is_under_way.then(|| Arc::new(Err(CallError::Internal))));
    }
}

// === impl ChangeId ===

impl ChangeId {
    /// The id of a change that is not a part of a batch.
    pub fn alone(request: RequestId) -> Self {
        Self { request, of_batch: None }
    }
}

impl fmt::Display for ChangeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.of_batch {
            Some(agent) => write!(f, "{}:{agent}", self.request),
            None => self.request.fmt(f),
        }
    }
}

// === impl Asked ===

impl Asked {
    /// What a sign-in asks for. The password does not belong to it, since it must not be remembered.
    pub(super) fn sign_in(agent: AgentId, sign_in: &SignIn) -> Self {
        Self { agent, interface: &SIGN_IN, arguments: sign_in.digest() }
    }

    /// What a sign-out asks for.
    pub(super) fn sign_out(agent: AgentId, interface: &'static Interface) -> Self {
        Self { agent, interface, arguments: String::new() }
    }

    pub(super) fn new(agent: AgentId, command: &Command) -> Self {
        let Command { interface, arguments } = command;
        Self { agent, interface, arguments: arguments.to_string() }
    }

    fn is_same(&self, other: &Self) -> bool {
        self.agent == other.agent
            && std::ptr::eq(self.interface, other.interface)
            && self.arguments == other.arguments
    }
}

/// Whether every later call with the id gets this outcome: the change was made, may have been, or was refused
/// for good.
fn is_final(ended: &Result<Made, CallError>) -> bool {
    match ended {
        Ok(_) => true,
        Err(CallError::Refused(refusal)) => {
            let kind = refusal.retcode.kind();
            let passes = matches!(kind, Kind::Switchover | Kind::PlatformUnavailable);
            let is_for_now = passes || kind.is_in_progress() || kind.is_without_session();
            // The password may be another one, or the agent be signed out elsewhere, before it is sent again.
            let ends_sign_in = kind.is_signed_in_elsewhere()
                || matches!(kind, Kind::CredentialsRejected | Kind::AccountLocked);
            !is_for_now && !ends_sign_in
        }
        Err(CallError::GatewayBusy { .. } | CallError::AfterRefusal(..)) => false,
        Err(error) => !matches!(error.outcome(), Outcome::NotSent | Outcome::NotApplied),
    }
}
