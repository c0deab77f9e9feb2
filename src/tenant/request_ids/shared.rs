//! The ids of changes among replicas.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{Instant, sleep_until, timeout_at},
};
use tracing::debug;

use super::{Asked, ChangeId, Ended, KnownChange, is_final, record::Record};
use crate::{
    call::{CallError, Deadline, Obstacle, Stage, Tasks, Wait},
    id::TenantId,
    session::{ChangeRecords, KnownRecord, StoreError},
    tenant::session_lookup::trouble,
};

/// The ids of a tenant's changes, in the store that the replicas share.
#[derive(Clone, Debug)]
pub(in crate::tenant) struct SharedIds {
    pub(in crate::tenant) tenant: TenantId,
    pub(in crate::tenant) records: Arc<dyn ChangeRecords>,
    pub(in crate::tenant) tasks: Tasks,
    /// How long a change may take after its caller has left.
    pub(in crate::tenant) longest: Duration,
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
    /// The record of the change under way, as the store has it.
    own: Vec<u8>,
}

/// The pauses between two looks at what another replica is doing.
const PAUSE_FIRST: Duration = Duration::from_millis(25);
const PAUSE_MAX: Duration = Duration::from_millis(400);

impl SharedIds {
    /// Begins a change, or waits for what it comes to at another replica. Where the store does not answer, the
    /// id is this replica's alone: a call-centre goes on without the store.
    pub(super) async fn begin(
        &self,
        id: ChangeId,
        asked: &Asked,
        kept: Duration,
        deadline: Deadline,
    ) -> Result<Result<Option<SharedClaim>, Ended>, CallError> {
        let left = deadline.answer_by().saturating_duration_since(Instant::now());
        let until = millis_now().saturating_add(millis(left + self.longest));
        let own = Record::under_way(asked, until).encode();
        let own = match self.records.stored_form(&id.to_string(), &own) {
            Ok(own) => own,
            Err(error) => {
                self.note(&error);
                return Ok(Ok(None));
            }
        };
        let open = Open { ids: self.clone(), id, asked: asked.clone(), kept, own };
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
                Stored::Other => return Err(CallError::unasked(Obstacle::RequestIdReused)),
                Stored::Ended(ended) => return Ok(Err(ended)),
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
        Ok(found.and_then(|known| {
            let record = Record::decode(&known.plain)?;
            let Asked { agent, interface, .. } = record.asked()?;
            Some(KnownChange { agent, interface, ended: ended(&known, &record) })
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
            let stored = open.ids.records.begin((agent, &name), &open.own, &instead_of, time).await;
            let begun = match stored {
                Ok(Some(known)) => Err(known),
                Ok(None) => Ok(SharedClaim { open: Some(open.into()) }),
                Err(error) => {
                    open.ids.note(&error);
                    // The store may have taken the record all the same.
                    Ok(SharedClaim { open: Some(open.into()) })
                }
            };
            // A claim that nobody hears of is dropped here.
            drop(told.send(begun));
        }));
        // An error means that the task has failed. The id is then this replica's alone.
        begun.await.map_or(Ok(None), |begun| begun.map(Some))
    }

    async fn end(self, ended: Option<Ended>) {
        let Self { ids, id, asked, kept, own } = self;
        let name = id.to_string();
        let record = ended.and_then(|ended| Record::ended(&asked, &ended));
        let told = match record.map(|record| ids.records.stored_form(&name, &record.encode())) {
            // Where another call's record is by now, that one stays.
            Some(Ok(ended)) => {
                let put = ids.records.begin((asked.agent, &name), &ended, &own, kept);
                put.await.map(drop)
            }
            Some(Err(error)) => Err(error),
            None => ids.records.remove(asked.agent, &name, &own).await,
        };
        if let Err(error) = told {
            ids.note(&error);
        }
    }
}

impl SharedClaim {
    /// Tells the other replicas what the change came to. `None`: nothing was sent.
    pub(super) fn end(mut self, ended: Option<Ended>) {
        self.close(ended);
    }

    fn close(&mut self, ended: Option<Ended>) {
        let Some(open) = self.open.take() else { return };
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
    Ended(Ended),
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
        match ended(known, &record) {
            _ if !its.is_same(asked) => Self::Other,
            None => Self::UnderWay,
            Some(ended) if is_final(&ended) => Self::Ended(ended),
            Some(_) => Self::Free,
        }
    }
}

/// What a recorded change came to; `None` while it is under way. Whoever has ended, or has not told it in time,
/// tells it no more.
fn ended(known: &KnownRecord, record: &Record) -> Option<Ended> {
    let lost = || {
        let is_over = known.is_left || record.until() <= millis_now();
        let cause = "the bridge ended before it told what became of the change";
        is_over.then(|| Err(CallError::NoAnswer(cause.into())))
    };
    record.end().or_else(lost).map(Ended::from)
}

fn millis_now() -> u64 {
    millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
