//! The background task that writes changes to the file.
//!
//! A change is queued by the name of its agent, and the row is made from what is known of the agent
//! when it is written. So ten changes of one agent make one row, and a slow disk gets larger
//! transactions, but no longer queue. After a failure the file is opened again and everything is
//! written, so changes queued meanwhile need not be remembered.

use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    task::{JoinError, JoinHandle, spawn_blocking},
    time::{Instant, sleep, sleep_until, timeout},
};
use tracing::{debug, info, warn};

use super::{
    Inner,
    database::{Changes, Database, DatabaseError, Kind, Rest},
    found, rows,
};
use crate::id::AgentId;

/// A change: the index of the tenant's slot, the kind of row, and the agent.
pub(super) type Item = (usize, Kind, AgentId);

/// How often rows that nobody needs are removed.
const TIDY_EVERY: Duration = Duration::from_secs(60);
/// The pause before a file that failed is opened again. It doubles with each failure.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(10);
/// If the disk answers nothing for this time, it counts as stopped, and nobody waits for it. The
/// time counts from the last answer, not from the start of the work: compacting a large file on a
/// slow disk may take longer.
const STANDSTILL: Duration = Duration::from_secs(2);

/// Why the writer runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Changes,
    Tidy,
    Closing,
}

/// The state of the file after the start.
pub(super) enum Start {
    /// `None`: it could not be opened.
    Opened(Option<Database>),
    /// The disk has not answered yet.
    Opening(JoinHandle<found::Found>),
}

/// Writes changes until the file is closed.
pub(super) async fn run(inner: Arc<Inner>, start: Start) {
    let mut database = match start {
        Start::Opened(database) => database,
        Start::Opening(opening) => {
            inner.give_up(opening).await;
            None
        }
    };
    let mut tidy_at = Instant::now() + TIDY_EVERY;
    let mut retry = RETRY_FIRST;
    loop {
        let cause = match &database {
            Some(_) => inner.next_cause(tidy_at).await,
            None => inner.next_attempt(retry).await,
        };
        database = turn(&inner, database.take(), cause).await;
        retry = if database.is_some() { RETRY_FIRST } else { (retry * 2).min(RETRY_MAX) };
        if cause == Cause::Tidy {
            tidy_at = Instant::now() + TIDY_EVERY;
        }
        if cause == Cause::Closing {
            // Closing a file waits for the disk.
            let _closed = spawn_blocking(move || drop(database)).await;
            inner.progress.send_modify(|progress| progress.closed = true);
            return;
        }
    }
}

async fn turn(inner: &Arc<Inner>, database: Option<Database>, cause: Cause) -> Option<Database> {
    let (number, items) = inner.take();
    let own = inner.clone();
    let work = move || own.work(database, &items, cause == Cause::Tidy);
    let broken = |_| Err(DatabaseError::Broken("writing it failed".to_owned()));
    match inner.watched(spawn_blocking(work)).await.unwrap_or_else(broken) {
        Ok(database) => {
            inner.wrote(number);
            Some(database)
        }
        Err(error) => {
            inner.failed(&error);
            None
        }
    }
}

impl Inner {
    async fn next_cause(&self, tidy_at: Instant) -> Cause {
        tokio::select! {
            biased;
            () = self.closing.cancelled() => Cause::Closing,
            () = sleep_until(tidy_at) => Cause::Tidy,
            () = self.changed.notified() => Cause::Changes,
        }
    }

    async fn next_attempt(&self, retry: Duration) -> Cause {
        match self.closing.run_until_cancelled(sleep(retry)).await {
            Some(()) => Cause::Changes,
            None => Cause::Closing,
        }
    }

    /// Waits for work on the disk, and notices if the disk stops.
    async fn watched<T>(&self, mut work: JoinHandle<T>) -> Result<T, JoinError> {
        let mut answers = self.volume.answers();
        loop {
            if let Ok(done) = timeout(STANDSTILL, &mut work).await {
                return done;
            }
            let before = std::mem::replace(&mut answers, self.volume.answers());
            if answers == before {
                self.stands_still();
                return work.await;
            }
        }
    }

    /// Waits for an opening that was too slow for the start, and closes what it opened. The file is
    /// read again later, since more has become known meanwhile.
    async fn give_up(&self, opening: JoinHandle<found::Found>) {
        let closed = async {
            let opened = opening.await;
            // Closing a file waits for the disk.
            let _closed = spawn_blocking(move || drop(opened)).await;
        };
        self.closing.run_until_cancelled(closed).await;
    }

    /// Takes the queued changes, and the number of their batch.
    fn take(&self) -> (u64, HashSet<Item>) {
        let mut queue = self.queue();
        let number = queue.number;
        queue.number += 1;
        (number, std::mem::take(&mut queue.items))
    }

    /// Writes changes to the file. If it failed or was replaced, opens it again and writes
    /// everything.
    fn work(
        &self,
        database: Option<Database>,
        items: &HashSet<Item>,
        tidy: bool,
    ) -> Result<Database, DatabaseError> {
        // What was sealed before it is read is sealed with the new key.
        let is_outdated = self.is_outdated.swap(false, Ordering::Acquire);
        let is_usable = |database: &Database| !is_outdated && database.is_at(self.path());
        let mut database = match database.filter(is_usable) {
            None => {
                let is_unread = self.progress.borrow().is_unread;
                let database =
                    found::open_again(&self.volume, &self.slots(), self.reading(), is_unread)?;
                self.progress.send_modify(|progress| progress.is_unread = false);
                database
            }
            Some(database) => {
                if !items.is_empty() {
                    database.write(&self.changes(items), Rest::Stays)?;
                }
                database
            }
        };
        if tidy {
            self.tidy(&mut database)?;
        }
        self.measure();
        Ok(database)
    }

    /// Removes rows of expired sessions and values.
    fn tidy(&self, database: &mut Database) -> Result<(), DatabaseError> {
        let mut known = 0;
        for slot in self.slots() {
            slot.local.tidy();
            slot.sealed.tidy();
            known += slot.local.sessions() + slot.sealed.all().len();
        }
        if database.rows()? != known as u64 {
            database.write(&self.everything(), Rest::Goes)?;
        }
        database.compact(self.path())
    }

    fn changes(&self, items: &HashSet<Item>) -> Changes {
        let (mut changes, all) = (Changes::default(), self.slots());
        for &(index, kind, agent) in items {
            if let Some(slot) = all.get(index) {
                changes
                    .rows
                    .push((slot.key(kind, agent), slot.row(kind, agent, self.keyring.as_deref())));
            }
        }
        let indexes: HashSet<_> = items.iter().map(|(index, ..)| *index).collect();
        let slots = indexes.into_iter().filter_map(|index| all.get(index));
        changes.versions.extend(slots.map(|slot| slot.version()));
        changes
    }

    fn reading(&self) -> found::Reading<'_> {
        found::Reading { keyring: self.keyring.as_deref(), credentials: self.credentials }
    }

    fn everything(&self) -> Changes {
        rows::everything(&self.slots(), self.keyring.as_deref())
    }

    pub(super) fn measure(&self) {
        let length = std::fs::metadata(self.path()).map_or(0, |metadata| metadata.len());
        self.bytes.store(length, Ordering::Relaxed);
    }

    fn wrote(&self, number: u64) {
        let mut was_down = false;
        self.progress.send_modify(|progress| {
            progress.written = number;
            was_down = progress.down.take().is_some();
        });
        let file = self.path().display();
        if was_down {
            info!(%file, "the file of store.file can be written again, and has every session");
        }
        debug!(%file, number, "sessions are stored");
    }

    pub(super) fn failed(&self, error: &DatabaseError) {
        let file = self.path().display();
        if self.goes_down(error.to_string()) {
            warn!(%file, %error, "the file of store.file cannot be written: until it can, sessions are kept in memory only, and a restart would lose them");
        } else {
            debug!(%file, %error, "the file of store.file cannot be written yet");
        }
    }

    /// Notes that the disk does not answer.
    pub(super) fn stands_still(&self) {
        let file = self.path().display();
        if self.goes_down("the disk does not answer".to_owned()) {
            warn!(%file, "the disk with the file of store.file does not answer: until it does, sessions are kept in memory only, and a restart would lose what has changed since");
        } else {
            debug!(%file, "the disk with the file of store.file does not answer yet");
        }
    }

    /// Notes why nothing can be written now. Returns whether it could be written before.
    fn goes_down(&self, problem: String) -> bool {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let mut was_up = false;
        self.progress.send_modify(|progress| {
            was_up = progress.down.is_none();
            progress.down = Some(problem.into());
        });
        was_up
    }
}
