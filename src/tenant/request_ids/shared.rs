//! The ids of changes among replicas.

use std::{sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{Instant, sleep_until, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{
    Asked, ChangeId, Ended, KnownChange, is_final,
    record::Record,
    unended::{Attempt, Unended},
};
use crate::{
    call::{CallError, Deadline, Obstacle, Stage, Tasks, Wait},
    config,
    id::TenantId,
    session::{ChangeRecords, KnownRecord, StoreError},
    tenant::session_lookup::trouble,
    time::{millis, millis_now},
};

/// The ids of a tenant's changes, in the store that the replicas share.
#[derive(Clone, Debug)]
pub(in crate::tenant) struct SharedIds {
    pub(in crate::tenant) tenant: TenantId,
    pub(in crate::tenant) records: Arc<dyn ChangeRecords>,
    pub(in crate::tenant) tasks: Tasks,
    /// How long a change may take after its caller has left.
    pub(in crate::tenant) longest: Duration,
    /// Cancelled when the tenant begins to stop.
    pub(in crate::tenant) stopping: CancellationToken,
    pub(in crate::tenant) unended: Arc<Unended>,
}

/// What a change came to that another process has made.
pub(super) struct Told {
    pub(super) ended: Ended,
    /// Whether that process has told it itself.
    pub(super) is_certain: bool,
}

/// The right to make a change, among replicas. If it is dropped before [`SharedClaim::end`], the id is free again.
#[derive(Debug)]
pub(super) struct SharedClaim {
    /// `None` once it has ended.
    open: Option<Box<Open>>,
}

/// What a [`SharedClaim`] needs for its end.
#[derive(Clone, Debug)]
struct Open {
    ids: SharedIds,
    id: ChangeId,
    asked: Asked,
    kept: Duration,
    /// How many ends may wait for the store.
    most: usize,
    /// The record of the change under way.
    own: Attempt,
}

/// The pauses between two looks at what another replica is doing.
const PAUSE_FIRST: Duration = Duration::from_millis(25);
const PAUSE_MAX: Duration = Duration::from_millis(400);
/// How often an end takes the place of another record.
const REPLACED_MAX: usize = 8;
/// For how long ends that wait for the store are still tried when the tenant stops.
const STOP_WITHIN: Duration = Duration::from_secs(2);
/// The longest pause between two attempts to store an end.
const END_PAUSE_MAX: Duration = Duration::from_secs(5);

impl SharedIds {
    /// Begins a change, or waits for what it comes to at another replica. Where the store does not answer, the
    /// id is this replica's alone: a call-centre goes on without the store.
    pub(super) async fn begin(
        &self,
        (id, number): (ChangeId, u64),
        asked: &Asked,
        limits: &config::RequestIds,
        deadline: Deadline,
    ) -> Result<Result<Option<SharedClaim>, Told>, CallError> {
        let (kept, most) = (limits.kept, limits.most.get());
        let left = deadline.answer_by().saturating_duration_since(Instant::now());
        let until = millis_now().saturating_add(millis(left + self.longest));
        let own = Record::under_way(asked, until).encode();
        let own = match self.records.stored_form(&id.to_string(), &own) {
            Ok(stored) => Attempt { number, stored },
            Err(error) => {
                self.note(&error);
                return Ok(Ok(None));
            }
        };
        let open = Open { ids: self.clone(), id, asked: asked.clone(), kept, most, own };
        let time = left + self.longest + kept;
        let (mut instead_of, mut pause) = (Vec::new(), PAUSE_FIRST);
        loop {
            let begun = timeout_at(deadline.start_by(), open.begin(instead_of.clone(), time));
            let late = |_elapsed| CallError::unasked(Obstacle::Deadline(Wait::Store));
            let known = match begun.await.map_err(late)? {
                Ok(claim) => return Ok(Ok(claim)),
                Err(known) => known,
            };
            match Stored::of(&known, asked) {
                // An earlier attempt of this process, whose end is not in the store yet.
                Stored::UnderWay if self.unended.is_free(id, &known.stored) => {
                    instead_of = known.stored;
                }
                Stored::Other => return Err(CallError::unasked(Obstacle::RequestIdReused)),
                Stored::Ended(told) => return Ok(Err(told)),
                Stored::Free => instead_of = known.stored,
                Stored::UnderWay => {
                    let next = Instant::now() + pause;
                    if next >= deadline.start_by() {
                        return Err(CallError::Deadline(Stage::Answer));
                    }
                    sleep_until(next).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    pub(super) async fn find(&self, id: ChangeId) -> Result<Option<KnownChange>, Obstacle> {
        let found = self.records.find(&id.to_string()).await.map_err(|error| {
            self.note(&error);
            Obstacle::StoreUnavailable(trouble(&error))
        })?;
        // Of its own changes this process knows more than the store, until it has told it.
        let found = found.filter(|known| !self.unended.has(id, &known.stored));
        Ok(found.and_then(|known| {
            let record = Record::decode(&known.plain)?;
            let Asked { agent, interface, .. } = record.asked()?;
            let ended = told(&known, &record).map(|told| told.ended);
            Some(KnownChange { agent, interface, ended })
        }))
    }

    fn note(&self, error: &StoreError) {
        debug!(ccgw.tenant.id = %self.tenant, %error, "what became of changes cannot be shared with the other replicas");
    }
}

impl Open {
    /// Stores the record. Returns another one that is there.
    ///
    /// The store is asked in a task of its own: it may take the record after the caller has left, and somebody has to
    /// remove that record then.
    async fn begin(
        &self,
        instead_of: Vec<u8>,
        time: Duration,
    ) -> Result<Option<SharedClaim>, KnownRecord> {
        let (told, begun) = oneshot::channel();
        let open = self.clone();
        drop(self.ids.tasks.spawn(async move {
            let (name, agent) = (open.id.to_string(), open.asked.agent);
            let own = &open.own.stored;
            let stored = open.ids.records.begin((agent, &name), own, &instead_of, time).await;
            let begun = match stored {
                Ok(Some(known)) => Err(known),
                Ok(None) => {
                    open.ids.unended.forget_before(open.id, &open.own);
                    Ok(SharedClaim { open: Some(open.into()) })
                }
                Err(error) => {
                    open.ids.note(&error);
                    // The store may have taken the record all the same. Ends of earlier attempts must not free the id.
                    open.ids.unended.note(open.id, &open.own, false, open.most);
                    Ok(SharedClaim { open: Some(open.into()) })
                }
            };
            // A claim that nobody hears of is dropped here.
            drop(told.send(begun));
        }));
        // An error means that the task has failed. The id is then this replica's alone.
        begun.await.map_or(Ok(None), |begun| begun.map(Some))
    }

    /// Stores what the change came to, once the store takes it.
    async fn end(self, ended: Option<Ended>) {
        let Self { ids, id, kept, own, .. } = &self;
        let (mut until, mut pause, mut stops_at) = (Instant::now() + *kept, PAUSE_MAX, None);
        while let Err(error) = self.store_end(ended.as_ref()).await {
            ids.note(&error);
            let is_stopping = ids.stopping.is_cancelled();
            if is_stopping {
                let stops_at = *stops_at.get_or_insert(Instant::now() + STOP_WITHIN);
                (until, pause) = (until.min(stops_at), PAUSE_MAX);
            }
            let next = Instant::now() + pause;
            if next >= until {
                break;
            }
            if is_stopping {
                sleep_until(next).await;
            } else {
                let _stops = ids.stopping.run_until_cancelled(sleep_until(next)).await;
            }
            // A later attempt with the id takes over what this one may have left in the store.
            if !ids.unended.is_latest(*id, own) {
                break;
            }
            pause = (pause * 2).min(END_PAUSE_MAX);
        }
        ids.unended.forget(*id, own);
    }

    async fn store_end(&self, ended: Option<&Ended>) -> Result<(), StoreError> {
        let Self { ids, id, asked, kept, own, .. } = self;
        let (name, agent) = (id.to_string(), asked.agent);
        let Some(ended) = ended else { return self.remove_all().await };
        let Some(record) = Record::ended(asked, ended) else { return self.remove_all().await };
        let stored = ids.records.stored_form(&name, &record.encode())?;
        let mut instead_of = own.stored.clone();
        for _ in 0..REPLACED_MAX {
            let known = ids.records.begin((agent, &name), &stored, &instead_of, *kept).await?;
            let Some(known) = known else { break };
            let is_free = || matches!(Stored::of(&known, asked), Stored::Free);
            // Any other call's record stays.
            let earlier = ids.unended.up_to(*id, own);
            let gives_way = earlier.contains(&known.stored) || is_final(ended) && is_free();
            if !gives_way {
                break;
            }
            instead_of = known.stored;
        }
        Ok(())
    }

    /// Removes what this attempt and those before it may have left in the store.
    async fn remove_all(&self) -> Result<(), StoreError> {
        let Self { ids, id, asked, own, .. } = self;
        let name = id.to_string();
        for record in ids.unended.up_to(*id, own) {
            ids.records.remove(asked.agent, &name, &record).await?;
        }
        Ok(())
    }
}

impl SharedClaim {
    /// Tells the other replicas what the change came to. `None`: nothing was sent.
    pub(super) fn end(mut self, ended: Option<Ended>) {
        self.close(ended);
    }

    fn close(&mut self, ended: Option<Ended>) {
        let Some(open) = self.open.take() else { return };
        let is_free = ended.as_ref().is_none_or(|ended| !is_final(ended));
        open.ids.unended.note(open.id, &open.own, is_free, open.most);
        if Handle::try_current().is_ok() {
            // Detached: the caller does not wait for the store.
            drop(open.ids.tasks.clone().spawn(open.end(ended)));
        }
    }
}

impl Drop for SharedClaim {
    fn drop(&mut self) {
        self.close(None);
    }
}

/// What a record says to a call with its id.
enum Stored {
    /// The change has come to this for good.
    Ended(Told),
    UnderWay,
    /// Nothing was done, or the record is none.
    Free,
    /// It is of another change.
    Other,
}

impl Stored {
    fn of(known: &KnownRecord, asked: &Asked) -> Self {
        let record = Record::decode(&known.plain);
        let Some((record, its)) = record.and_then(|record| record.asked().map(|its| (record, its)))
        else {
            return Self::Free;
        };
        match told(known, &record) {
            _ if !its.is_same(asked) => Self::Other,
            None => Self::UnderWay,
            Some(told) if is_final(&told.ended) => Self::Ended(told),
            Some(_) => Self::Free,
        }
    }
}

/// What a recorded change came to; `None` while it is under way. A process that has ended, or is late, will usually never tell.
fn told(known: &KnownRecord, record: &Record) -> Option<Told> {
    if let Some(ended) = record.end() {
        return Some(Told { ended: ended.into(), is_certain: true });
    }
    let is_over = known.is_left || record.until() <= millis_now();
    let cause = "the bridge that made the change has not told what became of it";
    let lost = || Arc::new(Err(CallError::NoAnswer(cause.into())));
    is_over.then(|| Told { ended: lost(), is_certain: false })
}
