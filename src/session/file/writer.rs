//! Writes what has changed, in the background, for as long as the file is in use.
//!
//! A change is noted by naming the agent, and what is written is what is known of the agent at that
//! moment: ten changes of one agent are one row, and a disk that is slow makes larger transactions
//! and no longer queue. After a failure the file is opened anew and everything is written, so what
//! was noted meanwhile need not be remembered.

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
    Inner, Slot,
    database::{Changes, Database, DatabaseError, Kind, Rest},
    found, rows,
};
use crate::id::AgentId;

/// What has changed: a tenant by its place among the slots, a kind of row, and an agent.
pub(super) type Item = (usize, Kind, AgentId);

/// How often rows that nobody needs any more are looked for.
const TIDY_EVERY: Duration = Duration::from_secs(60);
/// Until a file that failed is opened again; twice as long after each failure.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(10);
/// A disk that has answered to nothing for this time is taken to stand still, so that nobody waits for
/// it. It counts from the last answer and not from the beginning of what is done: making a large file
/// smaller may take a slow disk longer.
const STANDSTILL: Duration = Duration::from_secs(2);

/// Why the writer goes to work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Changes,
    Tidy,
    Closing,
}

/// The file as a start found it.
pub(super) enum Start {
    /// `None`: it could not be opened.
    Opened(Option<Database>),
    /// The disk has not answered yet.
    Opening(JoinHandle<found::Found>),
}

/// Goes on until the file is closed.
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

    /// Waits for work on the disk, and notices if that stands still.
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

    /// Waits until the disk has answered to a start that has gone on without the file, and closes
    /// what it opened: the file is read again, into what has become known since.
    async fn give_up(&self, opening: JoinHandle<found::Found>) {
        let closed = async {
            let opened = opening.await;
            // Closing a file waits for the disk.
            let _closed = spawn_blocking(move || drop(opened)).await;
        };
        self.closing.run_until_cancelled(closed).await;
    }

    /// What has changed since it was asked last, and the number of this batch.
    fn take(&self) -> (u64, HashSet<Item>) {
        let mut queue = self.queue();
        let number = queue.number;
        queue.number += 1;
        (number, std::mem::take(&mut queue.items))
    }

    /// Writes to the file; where there is none any more, opens it and writes everything.
    fn work(
        &self,
        database: Option<Database>,
        items: &HashSet<Item>,
        tidy: bool,
    ) -> Result<Database, DatabaseError> {
        let mut database = match database.filter(|database| database.is_at(self.path())) {
            None => {
                let is_unread = self.progress.borrow().is_unread;
                let database =
                    found::open_again(&self.volume, &self.slots, self.reading(), is_unread)?;
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

    /// Removes rows of which nothing is known any more: sessions whose time has passed.
    fn tidy(&self, database: &mut Database) -> Result<(), DatabaseError> {
        let mut known = 0;
        for slot in &self.slots {
            slot.local.tidy();
            slot.shelf.tidy();
            known += slot.local.sessions() + slot.shelf.all().len();
        }
        if database.rows()? != known as u64 {
            database.write(&self.everything(), Rest::Goes)?;
        }
        database.compact(self.path())
    }

    fn changes(&self, items: &HashSet<Item>) -> Changes {
        let mut changes = Changes::default();
        for &(place, kind, agent) in items {
            if let Some(slot) = self.slots.get(place) {
                changes
                    .rows
                    .push((slot.key(kind, agent), slot.row(kind, agent, self.keyring.as_deref())));
            }
        }
        let places: HashSet<_> = items.iter().map(|(place, ..)| *place).collect();
        let slots = places.into_iter().filter_map(|place| self.slots.get(place));
        changes.versions.extend(slots.map(Slot::version));
        changes
    }

    fn reading(&self) -> found::Reading<'_> {
        found::Reading { keyring: self.keyring.as_deref(), credentials: self.credentials }
    }

    fn everything(&self) -> Changes {
        rows::everything(&self.slots, self.keyring.as_deref())
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
            warn!(%file, %error, "the file of store.file cannot be written: sessions are kept in memory alone until it can, and a restart would lose them");
        } else {
            debug!(%file, %error, "the file of store.file cannot be written yet");
        }
    }

    /// The disk keeps somebody waiting.
    pub(super) fn stands_still(&self) {
        let file = self.path().display();
        if self.goes_down("the disk does not answer".to_owned()) {
            warn!(%file, "the disk with the file of store.file does not answer: sessions are kept in memory alone until it does, and a restart would lose what has changed since");
        } else {
            debug!(%file, "the disk with the file of store.file does not answer yet");
        }
    }

    /// Notes why nothing can be written now; tells whether that is news.
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
